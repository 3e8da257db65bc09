"""Were values cut off at a limit, or did they begin again from below beyond one?

A window that was applied, a format of few values, and a look-up table cut values off: many voxels are exactly
the highest (or lowest) of all, where a scan has a few. Scanners do so above 2000 HU, in metal, and below air.
Where a word had too few bits, values beyond the largest go on from the smallest: dense bone becomes as low as
nothing else in the body, and the neighbours across its edge differ by a power of two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctenhance.core.ends import ends_of
from ctenhance.runtime.errors import InputError

# No real scan has so many there: most have one voxel or a few.
_LEAST_VOXELS, _LEAST_SHARE, _TIMES_BESIDE, _BESIDE_HU = 30, 1e-5, 5.0, 20.0
_AT_HU = 0.499  # slopes of 0.5 are in use
_LOWEST_CEILING, _HIGHEST_CEILING, _LOWEST_FLOOR = 20.0, 2000.0, -930.0
_SHARE_OF_LOW_CEILING = 0.02
# A scanner's values are a unit or less apart; those that went through 8 bits, several.
_LEAST_APART_HU, _FEWEST_VALUES, _LEAST_RANGE_HU, _MOST_ASKED = 4.0, 20, 200.0, 300_000
# Of words of 11 and 12 bits, with the least share of the edges of what is low (of air, too) across which the
# neighbour is at the top. 46 real scans have one such place in 12,000; reformatted and thinned, a bone kernel
# in a head phantom has one in 5. So what wraps above 511 HU is told in half of the scans, and at 1023 never.
_SPANS = {2048.0: 0.3, 4096.0: 0.3}
#: Above what any scanner's scale holds; extended ones end at 30710 HU.
BEYOND_SCANNERS_HU = 32768.0
# Negative numbers of 16 bits without their sign are as high. The highest of them alone, here as HU with the
# usual intercepts, is what was drawn in.
_WORD, _LOWEST_WRAPPED_HU, _HIGHEST_OF_WORDS = 65536.0, -8192.0, (-1.0, -1001.0, -1025.0, -8193.0)
_NEARLY, _OF_SPAN, _TOP, _LEAST_JUMP, _FEWEST_JUMPS, _MOSTLY = 0.9, 0.25, 0.12, 0.75, 8, 0.5


@dataclass(frozen=True)
class Limits:
    """HU at which values were cut off below and above; None where they were not."""

    floor: float | None
    ceiling: float | None

    def __str__(self) -> str:
        """Return the note on them; '' where there is no limit."""
        if self.floor is not None and self.ceiling is not None:
            return (
                f"its values are cut off at {self.floor:.4g} and at {self.ceiling:.4g} HU, as where a window "
                "was applied: what lies beyond, such as air, lung or bone, is lost; use the original CT"
            )
        if self.ceiling is not None:
            return (
                f"its values are cut off at {self.ceiling:.4g} HU, where many voxels stand and nothing "
                "above: bone, contrast agent or metal beyond it are lost; use the original CT"
            )
        if self.floor is None:
            return ""
        return (
            f"its values are cut off at {self.floor:.4g} HU, where many voxels stand and nothing "
            "below, though air is -1000 in a CT: it is no CT in HU, was cut off by a window, or has a wrong "
            "rescale slope or intercept; use the original CT"
        )


def limits_of(array: np.ndarray, ends: np.ndarray | None = None) -> Limits:
    """Return the limits at which HU [z, y, x] were cut off, but for those of scanners.

    `ends`: those of its slices (`ends_of`), where they are known.
    """
    ends = ends_of(array) if ends is None else ends
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    # Of air and lung alone, too, the highest value is low, but few have it.
    least = 0.0 if high > _LOWEST_CEILING else _SHARE_OF_LOW_CEILING
    floor = low if low > _LOWEST_FLOOR and _is_limit(array, low, 1, ends) else None
    ceiling = high if low < high < _HIGHEST_CEILING and _is_limit(array, high, -1, ends, least) else None
    return Limits(floor, ceiling)


def require_whole_words(array: np.ndarray, ends: np.ndarray | None = None) -> None:
    """Raise InputError where values [z, y, x] beyond the largest of their words went on from the smallest,
    or lost their signs.

    `ends`: those of its slices (`ends_of`), where they are known.
    """
    ends = ends_of(array) if ends is None else ends
    _require_signs(array, ends)
    if _begin_again(array, ends):
        raise InputError(
            "beside its highest values stand its lowest ones, as where dense bone or metal did not fit into "
            "the bits of a value and began again from below; export it again, with more bits."
        )


def _require_signs(array: np.ndarray, ends: np.ndarray) -> None:
    beyond = np.flatnonzero(ends[:, 1] >= BEYOND_SCANNERS_HU)
    if not len(beyond):
        return
    high = np.unique(np.concatenate([plane[plane >= BEYOND_SCANNERS_HU] for plane in array[beyond]]))
    signed = high.astype(np.float64) - _WORD
    if signed[0] < _LOWEST_WRAPPED_HU or (len(signed) == 1 and signed[0] in _HIGHEST_OF_WORDS):
        return
    if len(signed) == 1:
        some, meant = f"{high[0]:.0f} HU", f"{signed[0]:.0f}"
    else:
        some, meant = f"{high[0]:.0f} to {high[-1]:.0f} HU", f"{signed[0]:.0f} to {signed[-1]:.0f}"
    raise InputError(
        f"some of its values are {some}, which no scanner gives, as where negative numbers ({meant} HU) lost "
        "their sign: they are stored signed, and the header calls them unsigned (in DICOM: Pixel "
        "Representation 0 in place of 1); correct that, or export it again from its source."
    )


def _begin_again(array: np.ndarray, ends: np.ndarray) -> bool:
    jumps = {span: [0, 0] for span in _SPANS}
    for plane, (low, high) in zip(array, ends.tolist(), strict=True):
        for span in _SPANS:
            if not _NEARLY * span <= high - low < span:
                continue
            below, top = plane <= low + _OF_SPAN * span, plane >= high - _TOP * span
            border = np.concatenate([top[0], top[-1], top[:, 0], top[:, -1]])
            if border.mean() > _MOSTLY:  # air is at the top: the image is inverted
                continue
            for axis in (0, 1):
                one, other = _neighbours(plane, axis)
                lows, tops = _neighbours(below, axis), _neighbours(top, axis)
                # Metal that was cut off beside its shadow, and what was filled in, is at the very limits.
                inside = (np.minimum(one, other) > low) & (np.maximum(one, other) < high)
                across = ((lows[0] & tops[1]) | (lows[1] & tops[0])) & inside
                across &= np.abs(other - one) >= _LEAST_JUMP * span
                jumps[span][0] += int(np.count_nonzero(across))
                jumps[span][1] += int(np.count_nonzero(lows[0] ^ lows[1]))
    return any(across >= max(_FEWEST_JUMPS, _SPANS[span] * edges) for span, (across, edges) in jumps.items())


def _neighbours(plane: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    return (plane[:-1], plane[1:]) if axis == 0 else (plane[:, :-1], plane[:, 1:])


def doubt_of_steps(array: np.ndarray) -> str:
    """Return the note on HU [z, y, x] that are far apart, as of few bits; '' for others."""
    some = array.reshape(-1)[:: (array.size // _MOST_ASKED) | 1]
    values = np.unique(some).astype(np.float64)  # differences of int16 may be beyond it
    if len(values) < _FEWEST_VALUES or values[-1] - values[0] < _LEAST_RANGE_HU:
        return ""
    apart = float(np.diff(values).min())
    if apart < _LEAST_APART_HU:
        return ""
    return (
        f"its values are {apart:.3g} HU apart, as where they went through a format of 8 bits or the like: "
        "what is finer, noise too, is lost; use the original CT"
    )


def _is_limit(array: np.ndarray, limit: float, inward: int, ends: np.ndarray, least: float = 0.0) -> bool:
    """Say whether many more voxels, and this share at least, are exactly at this end of all values than just
    within."""
    # Most slices of a patient do not come near the highest value of all.
    away = inward * (ends[:, 0 if inward > 0 else 1] - limit)

    def count(within: float) -> int:
        far = limit + inward * within
        planes = (array[z] for z in np.flatnonzero(away <= within))
        return sum(int(np.count_nonzero(one <= far if inward > 0 else one >= far)) for one in planes)

    at = count(_AT_HU)
    if at < max(_LEAST_VOXELS, _LEAST_SHARE * array.size):
        return False
    return at > _TIMES_BESIDE * (count(_BESIDE_HU) - at) / _BESIDE_HU
