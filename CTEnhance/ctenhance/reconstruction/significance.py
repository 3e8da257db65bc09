"""What the projection network took away although it was no noise, put back.

Line integrals p lead one to expect E = L exp(-p) quanta on each ray. What was read beyond them, I - E, has
the variance E + s2 if only noise was taken away, so that

    z = (I - E) / sqrt(E + s2)

is then white and of unit variance. Where the network blurred something (the edges of a table, of a cable) z
is larger. On each scale of an à trous transform, what a neighbourhood's energy has beyond the noise's is
signal, and by Wiener's rule the share 1 - noise / energy is put back: the significant residual of Starck,
Murtagh and Bijaoui (Graph Models Image Process 57:420, 1995). Noise that is larger than counts tell, or not
white, shows everywhere: the noise's energy on a scale is never taken for less than the usual one there.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from ctenhance.reconstruction.smoothing import along, mean_nearby

#: Scales of detail, beside the smooth rest.
SCALES = 3
#: Views and columns of a neighbourhood on the two finest scales; it doubles with each coarser one.
NEIGHBOURHOOD = 9
#: The energy of noise alone scatters by a tenth from one neighbourhood to the next.
_CERTAIN = 1.2
_TAPS = (0.0625, 0.25, 0.375, 0.25, 0.0625)


@lru_cache(maxsize=1)
def noise_energies() -> tuple[float, ...]:
    """Mean square of white noise of unit variance on each scale of detail, then in the smooth rest."""
    energies = []
    before = np.zeros(8 * 2**SCALES + 1)
    before[len(before) // 2] = 1
    for scale in range(SCALES):
        taps = np.zeros(4 * 2**scale + 1)
        taps[:: 2**scale] = _TAPS
        after = np.convolve(before, taps, "same")
        # smoothing is the same along both axes, so that the sums over the plane are squares
        energies.append(float((before @ before) ** 2 - 2 * (before @ after) ** 2 + (after @ after) ** 2))
        before = after
    return (*energies, float((before @ before) ** 2))


def _smooth(x: torch.Tensor, scale: int) -> torch.Tensor:
    return along(along(x, _TAPS, -2, 2**scale), _TAPS, -1, 2**scale)


def significant(z: torch.Tensor) -> torch.Tensor:
    """What of `z` `[batch, view, column]` is more than noise of unit variance, of the same shape."""
    rest = z[:, None]
    found = torch.zeros_like(rest)
    for scale, white in enumerate(noise_energies()):
        smooth = _smooth(rest, scale) if scale < SCALES else torch.zeros_like(rest)
        detail, rest = rest - smooth, smooth
        side = (NEIGHBOURHOOD << max(0, scale - 1)) | 1
        energy = mean_nearby(detail.square(), side) / white
        typical = energy[..., ::4, ::4].flatten(1).median(1).values.clamp(min=1)[:, None, None, None]
        found += detail * (1 - _CERTAIN * typical / energy.clamp(min=1e-9)).clamp(min=0)
    return found[:, 0]


def put_back(
    integrals: torch.Tensor, detected: torch.Tensor, air: torch.Tensor, electronic: torch.Tensor
) -> torch.Tensor:
    """Line integrals `[batch, view, column]` with what of the readings was more than noise.

    `detected` counts of the same shape; quanta in `air` and the `electronic` variance are broadcastable to
    it. Nothing more than doubles or halves what a ray is expected to read.
    """
    expected = air * torch.exp(-integrals)
    sd = (expected + electronic).clamp(min=1e-6).sqrt()
    change = significant((detected - expected) / sd) * sd / expected.clamp(min=1e-6)
    return integrals - change.clamp(-0.5, 1).log1p()
