"""The CT that trainings are tried on: soft tissue with some structure in air, and noise with a kernel."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ctenhance.core.volume import CTVolume


def body(slices: int, noise: float, seed: int) -> CTVolume:
    """Soft tissue with some structure in air, and noise with a kernel."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:180, :200]
    array = np.full((slices, 180, 200), -1000.0, np.float32)
    inside = ((x - 100) / 85) ** 2 + ((y - 90) / 70) ** 2 < 1
    array[:, inside] = 45
    array[:, (x - 60) ** 2 + (y - 80) ** 2 < 400] = -850
    white = ndimage.gaussian_filter(rng.normal(size=array.shape), (0, 0.8, 0.8))
    array[:, inside] += (white / white.std() * noise)[:, inside]
    return CTVolume(array.round(), (0.8, 0.8, 2.0))
