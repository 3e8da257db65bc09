"""The smoothed copy in which tissues, flat regions and edges are looked for.

What is measured must not choose where it is measured: a threshold on noisy voxels picks those whose noise
happens to lie on the right side of it. So every mask, region and edge comes from one smoothed copy, of the
reference if there is one, else of the average of before and after, and is the same for all of them.

What was never measured has no noise and no HU: where one of the volumes is filled with a constant (outside
the field of view, behind a mask), the smoothed copy holds `FILLED_HU`, which is no tissue.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from ctenhance.runtime.progress import Cancellable, check

Array = np.ndarray

SMOOTHING_MM = 2.0  # SD of the Gaussian in the slice
SMOOTHING_Z_MM = 1.5  # and across slices
HU_LIMITS = (-1024.0, 3071.0)  # metal and padding must not bleed into their surroundings
FILLED_HU = -2000.0
# Fill is below the air of a noiseless phantom, and the same in squares of this side: air that a scanner cuts
# off at the end of its scale has single voxels and small groups of one value.
HIGHEST_FILL_HU = -1010.0
FILLED_MM = 5.0


def smoothed_guide(
    volumes: Mapping[str, Array],
    spacing: tuple[float, float, float],
    name: str | None = None,
    cancel: Cancellable | None = None,
) -> Array:
    """Return the smoothed copy, float32 HU [z, y, x], of `volumes[name]` or of the average of all.

    `spacing` is x, y, z in mm. Unless named, a volume called 'reference' is taken when there is one. What is
    filled in any of the volumes is `FILLED_HU`. Raises Cancelled.
    """
    if name is None and "reference" in volumes:
        name = "reference"
    sources = [volumes[name]] if name is not None else list(volumes.values())
    sigma = (SMOOTHING_MM / spacing[1], SMOOTHING_MM / spacing[0])
    guide = np.empty(sources[0].shape, np.float32)
    for k in range(len(guide)):
        check(cancel)
        mean = sum(np.clip(source[k], *HU_LIMITS) for source in sources) / np.float32(len(sources))
        ndimage.gaussian_filter(mean, sigma, output=guide[k], truncate=3.0)
    if len(guide) > 1:
        for y in range(sources[0].shape[1]):
            check(cancel)
            along_z = guide[:, y]
            ndimage.gaussian_filter1d(
                along_z, SMOOTHING_Z_MM / spacing[2], axis=0, output=along_z, truncate=3.0
            )
    for volume in volumes.values():
        for k, plane in enumerate(volume):
            check(cancel)
            if plane.min() < HIGHEST_FILL_HU:
                guide[k][_filled(plane, spacing)] = FILLED_HU
    return guide


def _filled(plane: Array, spacing: tuple[float, float, float]) -> Array:
    """Return a mask of what is connected to squares of one value lower than air, with a rim of two pixels."""
    side = [2 * round(FILLED_MM / 2 / spacing[axis]) + 1 for axis in (1, 0)]
    highest = ndimage.maximum_filter(plane, side)
    squares = (highest < HIGHEST_FILL_HU) & (highest == ndimage.minimum_filter(plane, side))
    of_their_value = np.isin(plane, np.unique(plane[squares]))
    # Two pixels, because a resampled image has values between fill and air there.
    return ndimage.binary_dilation(ndimage.binary_propagation(squares, mask=of_their_value), iterations=2)


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
