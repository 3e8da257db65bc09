"""Slices of one scan of which one lost its rescale intercept, so that it is 1024 HU off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ctenhance.files.dicom.slices import Slice
from ctenhance.runtime.errors import InputError

_LEAST_DIFFERENCE_HU = 900.0
_PERCENTILES = (1, 10, 25, 50, 75, 90, 99)
_LEAST_JUMP_SHARE = 0.3  # of the difference of the intercepts


def require_like_intercepts(slices: Sequence[Slice], array: np.ndarray) -> None:
    """Raise InputError where the HU [z, y, x] of neighbours jump by the difference of their intercepts.

    Intercepts that rightly differ, as of signed beside unsigned slices, lead to like HU.
    """
    counts = Counter(one.intercept for one in slices)
    for index in range(1, len(slices)):
        pair = slices[index - 1], slices[index]
        step = pair[1].intercept - pair[0].intercept
        if abs(step) < _LEAST_DIFFERENCE_HU or not _jump(array[index - 1], array[index], step):
            continue
        # The rarer one is wrong; of two as frequent the higher, as 0 is what stands for a missing one.
        wrong, right = sorted(pair, key=lambda one: (counts[one.intercept], -one.intercept))
        place = f"frame {wrong.frame + 1} of " if len(wrong.file.frames) > 1 else ""
        raise InputError(
            f"{place}'{wrong.name}' has a rescale intercept of {wrong.intercept:g}, or none, where its "
            f"neighbour has {right.intercept:g}, and its values are off by that; export the series again "
            "from its source, or correct its RescaleIntercept."
        )


def _jump(one: np.ndarray, other: np.ndarray, step: float) -> bool:
    change = np.percentile(other, _PERCENTILES) - np.percentile(one, _PERCENTILES)
    as_read, corrected = float(np.abs(change).mean()), float(np.abs(change - step).mean())
    return as_read > _LEAST_JUMP_SHARE * abs(step) and corrected < 0.5 * as_read
