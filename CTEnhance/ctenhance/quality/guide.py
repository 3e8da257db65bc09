"""The smoothed copy in which tissues, flat regions and edges are looked for.

What is measured must not choose where it is measured: a threshold on noisy voxels picks those whose noise
happens to lie on the right side of it. So every mask, region and edge comes from one smoothed copy, of the
reference if there is one, else of the average of before and after, and is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

Array = np.ndarray

SMOOTHING_MM = 2.0  # SD of the Gaussian in the slice
SMOOTHING_Z_MM = 1.5  # and across slices
HU_LIMITS = (-1024.0, 3071.0)  # metal and padding must not bleed into their surroundings


def smoothed_guide(
    volumes: Mapping[str, Array], spacing: tuple[float, float, float], name: str | None = None
) -> Array:
    """Return the smoothed copy, float32 HU [z, y, x], of `volumes[name]` or of the average of all.

    `spacing` is x, y, z in mm. Unless named, a volume called 'reference' is taken when there is one.
    """
    if name is None and "reference" in volumes:
        name = "reference"
    sources = [volumes[name]] if name is not None else list(volumes.values())
    sigma = (SMOOTHING_MM / spacing[1], SMOOTHING_MM / spacing[0])
    guide = np.empty(sources[0].shape, np.float32)
    for k in range(len(guide)):
        mean = sum(np.clip(source[k], *HU_LIMITS) for source in sources) / np.float32(len(sources))
        ndimage.gaussian_filter(mean, sigma, output=guide[k], truncate=3.0)
    if len(guide) > 1:
        ndimage.gaussian_filter1d(guide, SMOOTHING_Z_MM / spacing[2], axis=0, output=guide, truncate=3.0)
    return guide


def slope(plane: Array, spacing: tuple[float, float, float]) -> Array:
    """Magnitude of the gradient in the slice, HU/mm."""
    along_y, along_x = gradient(plane, spacing)
    return np.sqrt(along_x * along_x + along_y * along_y)


def gradient(plane: Array, spacing: tuple[float, float, float]) -> tuple[Array, Array]:
    """Derivatives of a slice along y and x, HU/mm; one along an axis of a single pixel is zero."""
    parts = [
        np.gradient(plane, spacing[axis], axis=1 - axis)
        if plane.shape[1 - axis] > 1
        else np.zeros_like(plane)
        for axis in (1, 0)
    ]
    return parts[0], parts[1]
