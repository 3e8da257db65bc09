"""What a header declares as padding, the value outside of the field of view, becomes air.

Below -1024 HU, and above the scale of any scanner, no measurement is, so all of it is padding. A value that
tissue, bone or metal has, too (0 HU, +3071 HU), counts only where it fills corners of the slice without
noise: the header may be wrong.
"""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from ctenhance.core.limits import BEYOND_SCANNERS_HU
from ctenhance.core.padding import outside_field, set_to_air

AIR_HU = -1024.0
_BLURRED_SHARE = 0.01
_FEWEST_PIXELS, _LEAST_SHARE = 9, 0.001  # that noise never gives one value to
# What lossy compression leaves of a value: within 100 HU or above dense bone, half of it within 20, a rim of
# 3 pixels mixed.
_BLURRED_HU, _FLAT_HU, _RIM_PIXELS = 100.0, 20.0, 3
_TISSUE_HU, _BONE_HU = 300.0, 500.0


def declared_padding(header: Dataset, slope: float, intercept: float) -> tuple[float, float] | None:
    """Return lowest and highest HU that the header declares as padding, None where it declares none."""
    value, limit = header.get("PixelPaddingValue"), header.get("PixelPaddingRangeLimit")
    if value is None:
        return None
    stored = [_as_stored(int(end), header) for end in (value, value if limit is None else limit)]
    low, high = sorted(float(np.float32(end * slope + intercept)) for end in stored)
    return low, high


def _as_stored(value: int, header: Dataset) -> int:
    """Return a padding value as the pixels have it: some writers give it unsigned where pixels are signed."""
    allocated = int(header.get("BitsAllocated") or 16)
    value %= 1 << allocated
    if header.get("PixelRepresentation"):
        for bits in (allocated, int(header.get("BitsStored") or allocated)):
            if value >= 1 << (bits - 1):
                value -= 1 << bits
    return value


def fill_padding(values: np.ndarray, declared: tuple[float, float] | None) -> bool:
    """Set what is declared as padding of a slice [y, x] to air, in place, and return whether there was any.

    Where lossy compression has blurred it, it is what no scanner measures and reaches the slice's edge.
    """
    if declared is None or declared == (AIR_HU, AIR_HU):
        return False
    if declared[0] >= AIR_HU:
        if declared[0] >= BEYOND_SCANNERS_HU:  # as of a negative number that lost its sign
            outside = (values >= declared[0]) & (values <= declared[1])
        else:
            outside = _in_corners(values, declared)
        values[outside] = AIR_HU
        return bool(outside.any())
    sharp = (values >= declared[0]) & (values <= declared[1]) & (values < AIR_HU)
    around = outside_field(values, sum(declared) / 2)
    # A pixel or two beside a sharp value are undershoot.
    blurred = int(np.count_nonzero(around & ~sharp)) > _BLURRED_SHARE * int(np.count_nonzero(around))
    outside = sharp | around if blurred else sharp
    set_to_air(values, outside, AIR_HU, blurred)
    return bool(outside.any())


def _in_corners(values: np.ndarray, declared: tuple[float, float]) -> np.ndarray:
    """Return the mask of what fills corners of a slice [y, x] with a declared value, blurred or not."""
    from scipy import ndimage

    low, high = declared
    corners = (np.array([0, 0, -1, -1]), np.array([0, -1, 0, -1]))
    filled = np.zeros(values.shape, dtype=bool)
    exact = values == low
    if low == high and exact[corners].any():
        for region in _regions_with(exact, corners):
            if region.sum() >= max(_FEWEST_PIXELS, _LEAST_SHARE * values.size):
                filled |= region
    level = (low + high) / 2
    near = np.abs(values - level) <= max(_BLURRED_HU, (level - _BONE_HU) / 2)
    # At the level of tissue what is near it may be some.
    if high - low > _FLAT_HU or abs(level) < _TISSUE_HU or not near[corners].all():
        return filled
    blurred = np.logical_or.reduce(_regions_with(near, corners))
    more = np.count_nonzero(blurred & ~filled)
    spread = float(np.subtract(*np.percentile(values[blurred], (75, 25))))
    if more > _BLURRED_SHARE * np.count_nonzero(blurred) and spread <= _FLAT_HU:
        filled = ndimage.binary_dilation(blurred, iterations=_RIM_PIXELS)
    return filled


def _regions_with(mask: np.ndarray, places: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
    """Return the 4-connected regions of a mask [y, x] that hold one of the places."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask)
    return [labels == label for label in np.unique(labels[places]) if label]
