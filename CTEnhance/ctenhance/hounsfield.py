"""Is this volume in Hounsfield units? The rule that a file must pass before anything is computed from it.

Air is -1000 HU and water 0 HU on every calibrated scanner; everything else follows from that. The rule has to
let pass what a user may rightly have: a whole scan with or without padding outside the field of view (-2000,
-3024, ...), a crop of lung only, of soft tissue only (no air in it), a water phantom, metal up to 30000 HU on
an extended scale. It has to stop what looks like CT in a viewer but is not in HU: values normalised to 0..1,
-1..1 or to unit variance, 8-bit pictures, label maps, MR, PET, stored CT values whose rescale intercept got
lost (0..4095), unsigned values read as signed ones. Three facts tell them apart:

1. *Noise.* A CT image varies by more than 1.5 HU (SD over all voxels): quieter scanners do not exist. Values
   normalised to an interval or to unit variance, binary masks and constant volumes vary less.
2. *Range.* Nine voxels in ten lie between -1500 HU (air is -1000, and noise and overshoot around sharp edges
   take some of it lower) and 4000 HU (enamel 3000, cortical bone 2000; metal is higher but small). One value
   repeated at the bottom of the range is padding and does not count.
3. *Below zero.* Air, lung and fat are negative, and noise takes water and blood below zero. Only a crop
   inside dense tissue has nothing below zero, and then its values lie together far from zero (liver 60..160).
   A volume without negative values (and without padding, which is one) whose darkest per cent is under 3 %
   of its brightest (so: which starts at zero), or whose median exceeds 500, is something else.

What it cannot tell: a crop of an 8-bit picture or of MR without background may look like a tissue crop, and a
noise-free digital phantom of pure water, or with water as its lowest value, is refused although it is in HU.
For volumes that are not in HU by purpose (uncertainty, material densities) do not ask (`check_hu=False`).
"""

from __future__ import annotations

import numpy as np

from ctenhance.runtime.errors import InputError

_LEAST_SD_HU = 1.5
_LOWEST_HU, _HIGHEST_HU = -1500.0, 4000.0
_LEAST_SHARE_INSIDE = 0.9
_PADDING_SHARE = 0.01
_NEGATIVE_SHARE = 1e-4
_LARGEST_DARK_TO_BRIGHT = 0.03
_HIGHEST_MEDIAN_WITHOUT_NEGATIVES = 500.0
_SAMPLE_SIZE = 1_000_000


def padding_value(array: np.ndarray) -> float | None:
    """Return the value that fills the outside of the field of view, or None.

    Padding is the lowest value of the volume, below anything a scanner measures (under -1500 HU), repeated in
    at least one voxel in a hundred. No measurement repeats one impossible value so often.
    """
    lowest = float(array.min())
    if lowest >= _LOWEST_HU:
        return None
    # Slice by slice: a mask of the whole volume would cost a quarter of its memory again.
    repeated = sum(int(np.count_nonzero(plane == lowest)) for plane in array)
    return lowest if repeated >= _PADDING_SHARE * array.size else None


def padding_to_air(array: np.ndarray, air: float) -> float | None:
    """Set the padding of HU [z, y, x] to `air` in place, and return what it was; None where there is none."""
    padding = padding_value(array)
    for plane in array if padding is not None else ():
        plane[plane == padding] = air
    return padding


def not_finite(count: int, z: int, y: int, x: int) -> str:
    """Return the sentence on `count` values that are NaN or infinite, the first at [z, y, x]."""
    return (
        f"{count} of the values {'is' if count == 1 else 'are'} NaN or infinite, the first in slice {z}, row "
        f"{y}, column {x} (counted from 0); replace by -1024 (air) or export the volume again."
    )


def require_hounsfield(array: np.ndarray) -> None:
    """Raise InputError, saying what the values look like, if the finite array [z, y, x] is not in HU."""
    lowest, highest = float(array.min()), float(array.max())
    span = f"{lowest:g} to {highest:g}"
    if lowest == highest:
        raise InputError(
            f"every voxel has the same value ({lowest:g}), so there is no image in it; give the original CT."
        )
    # An odd step walks through all columns of the usual even matrices instead of sampling a few of them.
    flat = array.reshape(-1)
    sample = flat[:: (flat.size // _SAMPLE_SIZE) | 1]
    if float(sample.std(dtype=np.float64)) < _LEAST_SD_HU:
        raise InputError(
            f"its values, {span}, vary less than the noise of any CT, as normalised images and masks do; "
            "convert them back to Hounsfield units (air -1000, water 0)."
        )
    padding = padding_value(array)
    inside = sample if padding is None else sample[sample != padding]
    share = float(np.mean((inside >= _LOWEST_HU) & (inside <= _HIGHEST_HU))) if inside.size else 0.0
    if share < _LEAST_SHARE_INSIDE:
        raise InputError(
            f"its values run from {span}, and {1 - share:.0%} of them lie outside the {_LOWEST_HU:g} to "
            f"{_HIGHEST_HU:g} HU that a CT has; convert them to Hounsfield units (air -1000, water 0)."
        )
    if padding is None and float(np.mean(inside < 0)) < _NEGATIVE_SHARE:
        dark, median, bright = np.percentile(inside, (1, 50, 99))
        starts_at_zero = dark < _LARGEST_DARK_TO_BRIGHT * bright
        if starts_at_zero or median > _HIGHEST_MEDIAN_WITHOUT_NEGATIVES:
            raise InputError(
                f"its values run from {span} with nothing below zero, where air and fat are in Hounsfield "
                "units, so it looks like MR, PET, an 8-bit picture, a label map or CT without its rescale "
                "intercept; convert it to Hounsfield units (often: subtract 1024)."
            )
