"""Is this volume in Hounsfield units? The rule that a file must pass before anything is computed from it.

Air is -1000 HU and water 0 HU on every calibrated scanner; everything else follows from that. The rule has to
let pass what a user may rightly have: a whole scan with or without padding outside the field of view (-2000,
-3024, ...), a crop of lung only, of soft tissue only (no air in it), a water phantom, metal up to 30000 HU on
an extended scale. It has to stop what looks like CT in a viewer but is not in HU: values normalised to 0..1,
-1..1 or to unit variance, 8-bit pictures, label maps, MR, PET, stored CT values whose rescale intercept got
lost (0..4095), unsigned values read as signed ones. Four facts distinguish them:

1. *Noise.* A CT image varies by more than 1.5 HU (SD over all voxels): quieter scanners do not exist. Values
   normalised to an interval or to unit variance, binary masks and constant volumes vary less.
2. *Range.* Nine voxels in ten lie between -1500 HU (air is -1000, and noise and overshoot around sharp edges
   take some of it lower) and 4000 HU (enamel 3000, cortical bone 2000; metal is higher but small). Padding
   (see `padding.Padding`) does not count.
3. *Below zero.* Air, lung and fat are negative, and noise takes water and blood below zero. Only a crop
   inside dense tissue has nothing below zero, and then its values lie together far from zero (liver 60..160).
   A volume without negative values (and without padding, which is one) whose darkest per cent is under 3 %
   of its brightest (so: which starts at zero), or whose median exceeds 500, is something else.
4. *Tissue.* Nor may it stand near 1024, with no air: then the intercept is missing, though noise or padding
   are below zero. And where padding is, there is something denser than lung beside it, or air alone:
   otherwise the intercept was taken off twice, and what seems to be padding is air. (On 49,000 crops of 46
   real scans of at least 64 x 64 pixels or as many voxels the first half refused none; with 1024 added it
   found all 46 scans and four crops in five, most of the others being small.) The same holds where air is
   near -2000, and lung, fat and edges between it and -1000, where padding has no values: then it is no
   padding. With tissue near -1000 the intercept is off; with nothing there the slope is doubled, of which
   `doubt_of_scale` tells.

What it cannot detect: a small crop of lung or air alone to which 1024 was added looks like one of tissue, and
so may one of an 8-bit picture or of MR without background; of these `doubt_without_air` says so. A noise-free
digital phantom of pure water, or with water as its lowest value, is refused although it is in HU.
For volumes that are not in HU by purpose (uncertainty, material densities) do not ask (`check_hu=False`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ctenhance.core.ends import ends_of
from ctenhance.core.halves import by_halves
from ctenhance.core.padding import LOWEST_HU, find_padding
from ctenhance.core.scale import Levels, levels_of
from ctenhance.runtime.errors import InputError, NotCTError

_LEAST_SD_HU = 1.5
_HIGHEST_HU = 4000.0
_LEAST_SHARE_INSIDE = 0.9
_NEGATIVE_SHARE = 1e-4
_LARGEST_DARK_TO_BRIGHT = 0.03
_HIGHEST_MEDIAN_WITHOUT_NEGATIVES = 500.0
_SAMPLE_SIZE = 500_000
# Water and organs (-15 to 106 HU) with 1000 or 1024 added, as wide a range below, and what only bone reaches.
_SHIFTED_TISSUE, _BELOW_SHIFTED_TISSUE, _SHIFTED_BONE = (985.0, 1130.0), (700.0, 845.0), 1174.0
_LEAST_SHIFTED_TISSUE = 0.03
_LARGEST_AIR_SHARE_SHIFTED = 0.005
_LEAST_TISSUE_SHARE = 0.02
# Air of a doubled slope or intercept, what is between it and -1000 HU (none in a CT; in 11 real scans, so
# changed, at least 3.8 %), and tissue with 1024 taken off. And where most of what is denser than lung is.
_AIR_TWICE, _LEAST_AIR_TWICE = (-2150.0, -1900.0), 0.05
_BELOW_AIR, _LEAST_BELOW_AIR = (-1900.0, -1200.0), 0.02
_LARGEST_SHARE_ONE_VALUE = 0.5
_AIR, _LARGEST_AIR_SHARE_DOUBLED = (-1150.0, -850.0), 0.03
_TISSUE_BELOW, _LEAST_TISSUE_BELOW = (-1040.0, -900.0), 0.05
_AROUND_WATER, _LEAST_DENSE, _LEAST_AROUND_WATER = (-200.0, 200.0), 0.05, 0.1
_AIR_WITHIN, _LEAST_AIR_SHARE = 100.0, 0.005
_LEAST_SPAN = 30.0
_HIGH_AROUND, _MOST_AROUND, _LARGEST_SHARE_FILLED = 600.0, 0.8, 0.9
_CORNER_PIXELS, _CORNER_SHARE, _LEVEL_HU = 4, 16, 25.0
_OF_LEVEL_HU, _MOST_OF_LEVEL = 60.0, 0.85  # of a piece of one tissue or of water
#: What is higher is no air, and no padding that stands for it.
HIGHEST_AIR_HU = -850.0
_LEAST_BLANKED, _SOFT_TISSUE, _LEAST_SOFT_SHARE = 0.05, (1.0, 150.0), 0.5


def not_finite(count: int, z: int, y: int, x: int) -> str:
    """Return the sentence on `count` values that are NaN or infinite, the first at [z, y, x]."""
    return (
        f"{count} of the values {'is' if count == 1 else 'are'} NaN or infinite, the first in slice {z}, row "
        f"{y}, column {x} (counted from 0); replace by -1024 (air) or export the volume again."
    )


def require_hounsfield(array: np.ndarray, ends: np.ndarray | None = None) -> None:
    """Raise InputError, saying what the values look like, if the finite array [z, y, x] is not in HU.

    `ends`: those of its slices (`ends_of`), where they are known.
    """
    ends = ends_of(array) if ends is None else ends
    lowest, highest = float(ends[:, 0].min()), float(ends[:, 1].max())
    span = f"{lowest:g} to {highest:g}"
    if lowest == highest:
        raise InputError(
            f"every voxel has the same value ({lowest:g}), so there is no image in it; give the original CT."
        )
    step = _step(array)
    some = sampled(array)
    sample = some.values
    if float(sample.std(dtype=np.float64)) < _LEAST_SD_HU:
        raise InputError(
            f"its values, {span}, vary less than the noise of any CT, as those of normalised images, masks "
            "and maps of something else (SUV, iodine in mg/ml, electron density, attenuation in 1/cm) do; "
            "give the CT in Hounsfield units (a normalised one can be converted back: air -1000, water 0)."
        )
    require_air_in_place(array, some)
    padding = find_padding(array, lowest)
    inside = sample
    if padding is not None:
        inside = np.concatenate([plane[~padding.mask(plane)][::step] for plane in array])
    share = _share(inside, LOWEST_HU, _HIGHEST_HU)
    if share < _LEAST_SHARE_INSIDE:
        raise InputError(
            f"its values run from {span}, and {1 - share:.0%} of them lie outside the {LOWEST_HU:g} to "
            f"{_HIGHEST_HU:g} HU that a CT has; convert them to Hounsfield units (air -1000, water 0)."
        )
    if padding is None and float(np.mean(inside < 0)) < _NEGATIVE_SHARE:
        dark, median, bright = np.percentile(inside, (1, 50, 99))
        starts_at_zero = dark < _LARGEST_DARK_TO_BRIGHT * bright
        if starts_at_zero or median > _HIGHEST_MEDIAN_WITHOUT_NEGATIVES:
            if _is_blanked(inside):
                raise InputError(
                    f"its values run from {span}, and 0 stands where air and fat are below it in Hounsfield "
                    "units, as in a map of something else (iodine, perfusion, labels), or where an image was "
                    "masked or cut off at 0; give the original CT (or, if only what surrounds the patient "
                    "was masked, set that to -1024)."
                )
            raise InputError(
                f"its values run from {span} with nothing below zero, where air and fat are in Hounsfield "
                "units, so it looks like MR, PET, an 8-bit picture, a label map, a map of attenuation or "
                "density, or CT without its rescale intercept, or is a piece of bone alone; give the CT in "
                "Hounsfield units (from stored CT values with air near 0 subtract 1024)."
            )
    if _tissue_is_at_1024(inside):
        raise InputError(
            f"its values run from {span} with tissue near 1024 and nothing where air and lung are in "
            "Hounsfield units, so it looks like CT without its rescale intercept, or like a map of density "
            "(water in mg/ml, electron density x 1000); of a CT subtract the intercept (often 1024), instead "
            "of a map give the CT."
        )
    if padding is not None and _tissue_is_below(inside):
        raise InputError(_taken_off_twice(span))
    _require_no_inversion(array)
    require_air_around(array)


def _require_no_inversion(array: np.ndarray) -> None:
    """Raise InputError where measured values, and no filling, are high all around the slices [z, y, x]."""
    around = np.concatenate([array[:, 0], array[:, -1], array[:, :, 0], array[:, :, -1]], axis=1).ravel()
    high = around[around > _HIGH_AROUND]
    if high.size < _MOST_AROUND * around.size:
        return
    if np.unique(high, return_counts=True)[1].max() > _LARGEST_SHARE_FILLED * high.size:
        return
    raise InputError(
        f"what surrounds the body in its slices is near {float(np.median(high)):.0f} HU, where air (-1000) "
        "is in a CT, as in an inverted image; give the original CT."
    )


def require_air_around(array: np.ndarray, outside: float | None = None) -> None:
    """Raise NotCTError where one value that is no air surrounds what is in the slices [z, y, x], without air.

    So do maps, of which nothing is measured outside the organ, and no scan or piece of one. `outside`: the
    value that stood where padding has been set to air.
    """
    if outside is None:
        if _is_too_small(array):
            return
        corners = _corners(array)
        filled = (corners == corners[:, :1]).all(axis=1) & (corners[:, 0] > HIGHEST_AIR_HU)
        if filled.mean() < _MOST_AROUND:
            return
        outside = float(np.median(corners[filled, 0]))
        # At the lowest value of all, below water, a window cut off what was there.
        if outside <= float(array.min()) < -1.0:
            return
    if any(has_air(plane[None], varying=True) for plane in array):
        return
    raise NotCTError(
        f"one value, {outside:g}, surrounds what is in its slices, where air (-1000 HU) is in a CT, and no "
        "air is in it anywhere: so it looks like a map of something else, such as ventilation, perfusion or "
        "a material; give the original CT (or, if it is one whose surroundings were masked, set these to "
        "-1024)."
    )


class Sample(NamedTuple):
    """About half a million of a volume's values, and the levels of air and tissue in it."""

    values: np.ndarray
    levels: Levels


def sampled(array: np.ndarray) -> Sample:
    """Return what several questions on the same values [z, y, x] are answered by."""
    # One after the other in memory for all that looks at them.
    some = array.reshape(-1)[:: _step(array)]
    values = np.empty_like(some)
    by_halves(len(some), lambda part: np.copyto(values[part], some[part]))
    return Sample(values, levels_of(array))


def require_air_in_place(array: np.ndarray, some: Sample | None = None) -> None:
    """Raise InputError if air [z, y, x] is so low as no scanner measures it, and tissue stands above it.

    To be asked before padding is set to air, for which such air might be taken. `some`: of the values
    (`sampled`), where it is known.
    """
    sample, levels = sampled(array) if some is None else some
    if _is_tenfold(sample):
        raise InputError(
            f"its values run from {float(array.min()):g} to {float(array.max()):g}, with what looks like air "
            "near -10000, as if they were ten times Hounsfield units (a rescale slope of 0.1 that was lost); "
            "correct its rescale slope, or export it again."
        )
    tissue = _share(sample, *_TISSUE_BELOW)
    if (
        _air_is_twice_as_low(sample)
        and tissue > _LEAST_TISSUE_BELOW
        and _share(sample, -_SOFT_TISSUE[1], _SOFT_TISSUE[1]) < _LEAST_AROUND_WATER * tissue
        and not _is_air_alone(sample[sample > _AIR_TWICE[1]])
    ):
        raise InputError(_taken_off_twice(f"{float(array.min()):g} to {float(array.max()):g}"))
    if levels.refuted:
        raise InputError(
            f"its values run from {float(array.min()):g} to {float(array.max()):g}, and {levels}; correct "
            "its rescale slope and intercept, or export it again."
        )


def _is_tenfold(sample: np.ndarray) -> bool:
    """Say whether measured values, and no filling, are where air is times ten, and hardly any at air."""
    low = sample[(sample > 10 * _AIR[0]) & (sample < 10 * _AIR[1])]
    if low.size < _LEAST_AIR_TWICE * sample.size or _share(sample, *_AIR) > _LARGEST_AIR_SHARE_DOUBLED:
        return False
    return bool(np.unique(low, return_counts=True)[1].max() < _LARGEST_SHARE_ONE_VALUE * low.size)


def doubt_of_scale(array: np.ndarray, some: Sample | None = None) -> str:
    """Return the note on values [z, y, x] that a wrong slope or intercept has moved; '' for all others.

    To be asked, too, before padding is set to air. `some`: of the values (`sampled`), where it is known.
    """
    sample, levels = sampled(array) if some is None else some
    air = _share(sample, *_AIR)
    if _air_is_twice_as_low(sample) and air < _LARGEST_AIR_SHARE_DOUBLED:
        return (
            "what looks like air is near -2000 HU, with lung or fat above it and next to nothing at -1000, "
            "as if its rescale slope were doubled: make sure that its values are Hounsfield units"
        )
    dense = _share(sample, -500.0, np.inf)
    around_water = _share(sample, *_AROUND_WATER)
    if (
        air >= _LEAST_AIR_SHARE
        and dense >= _LEAST_DENSE
        and around_water < _LEAST_AROUND_WATER * dense
        and float(sample.max()) > _AROUND_WATER[1]
    ):
        return (
            "hardly anything in it lies between -200 and 200 HU, where water and soft tissue are in a CT: "
            "make sure that its rescale slope and intercept are right"
        )
    return f"{levels}: make sure that its rescale slope and intercept are right" if levels.wrong else ""


def has_air(array: np.ndarray, varying: bool = False) -> bool:
    """Say whether air (-1000 HU) is in the volume [z, y, x]: what no other unit has there.

    `varying`: neither its lowest nor its most frequent value counts, which may be a filling.
    """
    lowest = float(array.min()) if varying else -np.inf
    count = 0
    for plane in array:
        near = plane[(np.abs(plane + 1000.0) < _AIR_WITHIN) & (plane != lowest)]
        count += near.size
        if varying and near.size:
            count -= int(np.unique(near, return_counts=True)[1].max())
    return count >= _LEAST_AIR_SHARE * array.size


def doubt_without_air(array: np.ndarray) -> str:
    """Return the note on values [z, y, x] whose unit nothing else tells; '' where air shows that it is HU.

    A slice is enough: in many a volume air is in a few only.
    """
    if any(has_air(plane[None], varying=True) for plane in array):
        return ""
    if has_air(array):
        return (
            "what is at -1000 HU in it hardly varies, as what fills a place that was not measured, and there "
            "is little or no air beside: make sure that its values are Hounsfield units and no map of "
            "something else"
        )
    below = sum(int(np.count_nonzero(plane < 0)) for plane in array)
    if below < _NEGATIVE_SHARE * array.size:
        return (
            "there is no air (-1000 HU) in it and nothing below 0: make sure that its values are Hounsfield "
            "units, no map of something else, and no lung or air without its rescale intercept (often -1024)"
        )
    return (
        "there is no air (-1000 HU) in it, as in nearly every CT: make sure that its values are Hounsfield "
        "units and no map of something else"
    )


def doubt_of_surroundings(array: np.ndarray) -> str:
    """Return the note on slices [z, y, x] without air whose corners are all at one level; '' for others.

    So do maps that have noise around the patient, too, and hardly a piece of one.
    """
    side = max(_CORNER_PIXELS, min(array.shape[1:]) // _CORNER_SHARE)
    if min(array.shape[1:]) < 2 * side:
        return ""
    ends = (slice(None, side), slice(-side, None))
    means = np.stack([array[:, rows, columns].mean(axis=(1, 2)) for rows in ends for columns in ends])
    level = float(np.median(means))
    even = np.count_nonzero(np.abs(array - level) <= _OF_LEVEL_HU) > _MOST_OF_LEVEL * array.size
    if even or np.median(np.ptp(means, axis=0)) > _LEVEL_HU or level <= HIGHEST_AIR_HU:
        return ""
    return (
        f"all corners of its slices are near {level:.0f} HU, and there is no air (-1000 HU) in it: make sure "
        "that it is a piece of a CT and no map of something else"
    )


def doubt_of_span(array: np.ndarray) -> str:
    """Return the note on a volume [z, y, x] that spans fewer HU than any patient; '' for all others.

    A map whose header calls it HU looks like that, and so does a piece of a quiet water phantom.
    """
    lowest, highest = (float(value) for value in (array.min(), array.max()))
    if highest - lowest >= _LEAST_SPAN or lowest == highest:
        return ""
    return (
        f"its values span {lowest:.4g} to {highest:.4g} HU only, less than any patient: make sure that it is "
        "a CT and no map of something else"
    )


def doubt_of_corners(array: np.ndarray) -> str:
    """Return the note on a volume [z, y, x] with slices of which one value that is no air fills the corners.

    So look an unknown padding, and images of which all but the patient was blanked.
    """
    if _is_too_small(array):
        return ""
    corners = _corners(array)
    value = corners[:, 0]
    # What is lower no scanner measures, and is known as padding.
    odd = (corners == value[:, None]).all(axis=1) & (value >= LOWEST_HU)
    odd &= np.abs(value + 1000.0) > _AIR_WITHIN
    count = int(odd.sum())
    if not count:
        return ""
    where = "all slices" if count == len(array) else f"{count} of {len(array)} slices"
    return (
        f"one value, {float(value[odd][0]):g} HU, fills the corners of {where}, where air (-1000) is in a "
        "CT; results near it mean nothing: set what lies outside the field of view or was blanked to -1024 "
        "first"
    )


def _is_too_small(array: np.ndarray) -> bool:
    return bool(min(array.shape[1:]) < 2 * _CORNER_PIXELS)


def _corners(array: np.ndarray) -> np.ndarray:
    """Return the pixels in the corners of each slice [z, y, x], as [z, n]."""
    ends = (slice(None, _CORNER_PIXELS), slice(-_CORNER_PIXELS, None))
    return np.concatenate(
        [array[:, rows, columns].reshape(len(array), -1) for rows in ends for columns in ends], axis=1
    )


def _share(values: np.ndarray, low: float, high: float) -> float:
    return float(np.mean((values >= low) & (values <= high))) if values.size else 0.0


def _is_blanked(inside: np.ndarray) -> bool:
    """Say whether values without negative ones hold tissue as in HU, and 0 where all else is."""
    rest = inside[inside > 0]
    return (
        _share(inside, 0.0, 0.0) > _LEAST_BLANKED
        and _share(rest, *_SOFT_TISSUE) > _LEAST_SOFT_SHARE
        and _share(rest, *_SHIFTED_TISSUE) < 1 - _LEAST_SOFT_SHARE
    )


def _tissue_is_at_1024(inside: np.ndarray) -> bool:
    """Say whether soft tissue stands where an intercept of -1000 or -1024 was forgotten.

    Bone is there, too, but it rises to there from below and goes on above, and has air or fat somewhere.
    """
    tissue = _share(inside, *_SHIFTED_TISSUE)
    return (
        _share(inside, -np.inf, -200.0) < _LARGEST_AIR_SHARE_SHIFTED
        and tissue > _LEAST_SHIFTED_TISSUE
        and tissue > _share(inside, *_BELOW_SHIFTED_TISSUE)
        and tissue > 0.5 * _share(inside, _SHIFTED_BONE, np.inf)
    )


def _tissue_is_below(inside: np.ndarray) -> bool:
    """Say whether what is inside the padding has no tissue, though it is not air alone."""
    return _share(inside, -500.0, np.inf) < _LEAST_TISSUE_SHARE and not _is_air_alone(inside)


def _is_air_alone(inside: np.ndarray) -> bool:
    median, bright = np.percentile(inside, (50, 99))
    return bool(abs(median + 1000) <= 50 and bright <= -850)


def _air_is_twice_as_low(sample: np.ndarray) -> bool:
    """Say whether what is near -2000 HU is air, as values go on from there; padding stands alone."""
    return _share(sample, *_AIR_TWICE) >= _LEAST_AIR_TWICE and _share(sample, *_BELOW_AIR) >= _LEAST_BELOW_AIR


def _taken_off_twice(span: str) -> str:
    return (
        f"its values run from {span} with nothing where tissue is in Hounsfield units, so it looks like "
        "CT whose rescale intercept was taken off twice; export it again (air -1000, water 0)."
    )


def _step(array: np.ndarray) -> int:
    # An odd step walks through all columns of the usual even matrices instead of sampling a few of them.
    return (array.size // _SAMPLE_SIZE) | 1
