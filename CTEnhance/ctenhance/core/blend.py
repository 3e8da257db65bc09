"""How much of an enhancement's effect a result has: one formula for worker and panel."""

from __future__ import annotations

import numpy as np

#: Blur (SD in the slice, mm) that parts what was taken away: the coarse part holds what faint lesions of 4 mm
#: and more lose, and little noise, whose power lies at higher frequencies.
COARSE_MM = 1.5


def blend(before: np.ndarray, full: np.ndarray, strength: float) -> np.ndarray:
    """Return `before` with this part (0..1) of the change to `full`; the precision is that of the arrays."""
    blended: np.ndarray = before + strength * (full - before)
    return blended


def with_faint_kept(change: np.ndarray, share: float, spacing: tuple[float, float, float]) -> np.ndarray:
    """The change `[z, y, x]` less this share (0..1) of its coarse part: that stays as it was in the input.

    Where nothing was changed at all (metal, what was never scanned) nothing is. `spacing` x, y, z in mm."""
    from scipy import ndimage

    sigma = (0, COARSE_MM / spacing[1], COARSE_MM / spacing[0])
    coarse = ndimage.gaussian_filter(change, sigma, output=np.float32, truncate=3.0)
    kept: np.ndarray = change - np.float32(share) * coarse * (change != 0)
    return kept
