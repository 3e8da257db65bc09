"""Slices of one scan of which some lost their rescale slope or intercept, so that their HU are others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ctenhance.files.dicom.slices import Slice
from ctenhance.runtime.errors import InputError

_LEAST_DIFFERENCE_HU = 150.0
_AIR_HU, _NEAR_AIR_HU, _FEWEST_OF_AIR, _LEAST_OF_AIR_HU = -1000.0, 120.0, 100, 9.0
_PERCENTILES = (1, 10, 25, 50, 75, 90, 99)
_LEAST_JUMP_SHARE = 0.3  # of what the two rescalings make different


def require_like_rescaling(slices: Sequence[Slice], array: np.ndarray) -> None:
    """Raise InputError where the HU [z, y, x] of neighbours jump by the difference of their rescalings.

    Those that rightly differ, as of signed beside unsigned slices or of each slice its own slope, lead to
    like HU.
    """
    counts = Counter(_rescaling(one) for one in slices)
    if len(counts) == 1:
        return
    levels = np.stack([np.percentile(plane, _PERCENTILES) for plane in array])
    air = _levels_of_air(array)
    for index in range(1, len(slices)):
        pair = slices[index - 1], slices[index]
        if not _air_jumps(air, index, *pair) and not _jump(
            levels[index - 1], levels[index], *map(_rescaling, pair)
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


def _levels_of_air(array: np.ndarray) -> np.ndarray:
    """Return where air lies in each slice [z, y, x], HU; NaN where there is hardly any."""
    found = [plane[np.abs(plane - _AIR_HU) < _NEAR_AIR_HU] for plane in array]
    return np.array([np.median(one) if one.size >= _FEWEST_OF_AIR else np.nan for one in found])


def _air_jumps(air: np.ndarray, index: int, one: Slice, other: Slice) -> bool:
    """Say whether air jumps from the slice before to this one by what their rescalings make different."""
    if _rescaling(one) == _rescaling(other):
        return False
    stored = (air[index] - other.intercept) / other.slope
    difference = air[index] - (stored * one.slope + one.intercept)
    jump = air[index] - air[index - 1]
    before, behind = np.diff(air[max(0, index - 4) : index]), np.diff(air[index : index + 4])
    steady = max(np.abs(np.concatenate([before, behind])).max(initial=0), _LEAST_OF_AIR_HU / 3)
    return bool(
        abs(difference) >= _LEAST_OF_AIR_HU
        and abs(jump - difference) <= _LEAST_JUMP_SHARE * abs(difference)
        and abs(jump) > 2 * steady
    )


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
