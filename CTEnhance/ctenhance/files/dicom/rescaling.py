"""Slices of one scan of which some lost their rescale slope or intercept, so that their HU are others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from ctenhance.files.dicom.slices import Slice
from ctenhance.runtime.errors import InputError

_LEAST_DIFFERENCE_HU = 150.0
_AIR_HU, _NEAR_AIR_HU, _FEWEST_OF_AIR, _LEAST_OF_AIR_HU = -1000.0, 120.0, 100, 9.0
_NEAR_AIR = np.array([_AIR_HU - _NEAR_AIR_HU, _AIR_HU + _NEAR_AIR_HU])
_PERCENTILES = (1, 10, 25, 50, 75, 90, 99)
_LEAST_JUMP_SHARE = 0.3  # of what the two rescalings make different


def require_like_rescaling(slices: Sequence[Slice], array: np.ndarray, ends: np.ndarray) -> None:
    """Raise InputError where the HU [z, y, x] of neighbours jump by the difference of their rescalings.

    Those that rightly differ, as of signed beside unsigned slices or of each slice its own slope, lead to
    like HU. `ends`: the lowest and the highest HU of each (`ends_of`).
    """
    counts = Counter(_rescaling(one) for one in slices)
    if len(counts) == 1:
        return

    @lru_cache(maxsize=16)
    def levels(index: int) -> np.ndarray:
        return np.percentile(array[index], _PERCENTILES)

    air = lru_cache(maxsize=16)(lambda index: _level_of_air(array[index]))
    for index in range(1, len(slices)):
        pair = slices[index - 1], slices[index]
        # Most of what differs makes too little of a difference anywhere: then the voxels need no look.
        in_air = _difference(_NEAR_AIR, *pair) >= _LEAST_OF_AIR_HU
        anywhere = _difference(ends[index], *pair) >= _LEAST_DIFFERENCE_HU
        if not (in_air and _air_jumps(air, index, len(slices), *pair)) and not (
            anywhere and _jump(levels(index - 1), levels(index), *map(_rescaling, pair))
        ):
            continue
        # The rarer one is wrong; of two as frequent what stands for a missing one: 1, and the higher: 0.
        wrong, right = sorted(
            pair, key=lambda one: (counts[_rescaling(one)], one.slope != 1.0, -one.intercept)
        )
        place = f"frame {wrong.frame + 1} of " if len(wrong.file.frames) > 1 else ""
        names = [name for name in ("slope", "intercept") if getattr(wrong, name) != getattr(right, name)]
        found, correct = (" and ".join(f"{getattr(one, name):g}" for name in names) for one in (wrong, right))
        raise InputError(
            f"{place}'{wrong.name}' has a rescale {' and '.join(names)} of {found}, or none, where its "
            f"neighbour has {correct}, and its values are off by that; export the series again from its "
            f"source, or correct its {' and '.join(f'Rescale{name.capitalize()}' for name in names)}."
        )


def _difference(values: np.ndarray, one: Slice, other: Slice) -> float:
    """Return by how much the rescaling of `one` changes these HU of `other`, and all between, at most."""
    return float(np.abs((values - other.intercept) / other.slope * one.slope + one.intercept - values).max())


def _level_of_air(plane: np.ndarray) -> float:
    """Return where air lies in a slice [y, x], HU; NaN where there is hardly any."""
    near = plane[np.abs(plane - _AIR_HU) < _NEAR_AIR_HU]
    return float(np.median(near)) if near.size >= _FEWEST_OF_AIR else np.nan


def _air_jumps(air: Callable[[int], float], index: int, count: int, one: Slice, other: Slice) -> bool:
    """Say whether air jumps from the slice before to this one by what their rescalings make different."""
    stored = (air(index) - other.intercept) / other.slope
    difference = air(index) - (stored * one.slope + one.intercept)
    if not abs(difference) >= _LEAST_OF_AIR_HU:  # or there is no air
        return False
    jump = air(index) - air(index - 1)
    before = np.diff([air(at) for at in range(max(0, index - 4), index)])
    behind = np.diff([air(at) for at in range(index, min(count, index + 4))])
    steady = max(np.abs(np.concatenate([before, behind])).max(initial=0), _LEAST_OF_AIR_HU / 3)
    return bool(abs(jump - difference) <= _LEAST_JUMP_SHARE * abs(difference) and abs(jump) > 2 * steady)


def _rescaling(one: Slice) -> tuple[float, float]:
    return one.slope, one.intercept


def _jump(one: np.ndarray, other: np.ndarray, own: tuple[float, float], another: tuple[float, float]) -> bool:
    """Say whether percentiles of neighbouring slices, HU, are alike only where both are rescaled alike."""
    as_neighbour = (other - another[1]) / another[0] * own[0] + own[1]
    difference = float(np.abs(other - as_neighbour).mean())
    as_read, corrected = float(np.abs(other - one).mean()), float(np.abs(as_neighbour - one).mean())
    return (
        difference >= _LEAST_DIFFERENCE_HU
        and as_read > _LEAST_JUMP_SHARE * difference
        and corrected < 0.5 * as_read
    )
