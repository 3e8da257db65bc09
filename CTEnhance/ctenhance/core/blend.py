"""Strength, how much of an enhancement's effect a result has: one formula for worker and panel."""

from __future__ import annotations

import numpy as np


def blend(before: np.ndarray, full: np.ndarray, strength: float) -> np.ndarray:
    """Return `before` with this part (0..1) of the change to `full`; the precision is that of the arrays."""
    blended: np.ndarray = before + strength * (full - before)
    return blended
