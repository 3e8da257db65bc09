"""Do the images of a stack stand in the order in which they lie in the patient, and the rows in theirs?

Neighbouring slices are more alike than those three apart; of slices in no order they are not. Rows are like
their neighbours, unless a header exchanges how many rows and columns there are.
"""

from __future__ import annotations

import numpy as np

from ctenhance.core.blocks import BLOCK, block_means, changes
from ctenhance.core.ends import ends_of
from ctenhance.runtime.errors import InputError

_FEWEST, _MOST, _APART = 12, 60, 3  # slices
_WIDEST_MM = 10.0  # beyond this neighbours may have little in common
# The change of block means to the next slice is 0.36 to 0.53 of that to the third, in 21 real scans at 1 to
# 10 mm, and 0.78 or more when they are shuffled. Less than the least change is noise, as in even phantoms.
_MOST_OF_FAR, _LEAST_FAR_HU = 0.7, 15.0
# Of real slices the change on either side is at most 0.96 of that across (1.7 in a phantom, by 21 HU).
_FEWEST_FOR_ODD, _LEAST_ODD_HU, _TIMES_ACROSS, _BODY_HU, _LEAST_BODY = 6, 30.0, 1.5, -300.0, 0.15
# Of a slice that was made up all that varies between its neighbours is their mean, but for rounding.
_ROWS_APART, _ROWS_FIRST, _VARYING_HU, _LEAST_VARYING = 4, 16, 4.0, 0.02
_ROUNDED_HU, _NEARLY_ALL, _MOST_MADE_UP = 1.01, 0.99, 0.3
_COLUMNS_APART, _COLUMNS_FIRST, _FEWEST_ROWS, _LEAST_STEPS = 8, 16, 12, 0.3
_ROWS_UNLIKE, _ROUGH_HU = 2.0, 30.0  # times as unlike as the other way round; least mean step to the next


def require_rows(array: np.ndarray) -> None:
    """Raise InputError where the middle slice [z, y, x] is one only with rows and columns exchanged."""
    plane = array[len(array) // 2].astype(np.float32, copy=False)
    rows, columns = plane.shape
    if rows == columns or min(rows, columns) < 2 * BLOCK:
        return
    exchanged = plane.reshape(columns, rows)
    unlike, other = (float(np.abs(np.diff(one, axis=0)).mean()) for one in (plane, exchanged))
    if unlike > max(_ROUGH_HU, _ROWS_UNLIKE * other):
        raise InputError(
            f"its rows fit together as {columns} rows of {rows} pixels and not as {rows} of {columns}, as if "
            "its header exchanged the two; correct Rows and Columns (or the sizes), or export it again."
        )


def blank_slices(array: np.ndarray, ends: np.ndarray | None = None) -> list[int]:
    """Return which slices [z, y, x] hold one value only, with others before and behind them.

    `ends`: those of the slices (`ends_of`), where they are known.
    """
    ends = ends_of(array) if ends is None else ends
    blank = ends[:, 0] == ends[:, 1]
    filled = np.flatnonzero(~blank)
    return [int(one) for one in np.flatnonzero(blank) if filled.size and filled[0] < one < filled[-1]]


def doubt_of_blanks(blanks: list[int], count: int) -> str:
    """Return the note on `blanks` among so many slices; '' where there are none."""
    if not blanks:
        return ""
    several = len(blanks) > 1
    named = ", ".join(str(one + 1) for one in blanks[:4]) + (", ..." if len(blanks) > 4 else "")
    return (
        f"slice{'s' if several else ''} {named} of {count} (counted as they are stored) "
        f"hold{'' if several else 's'} one value only, as where images were lost: export it again, or "
        "give the part without"
    )


def doubt_of_odd_slice(array: np.ndarray, means: np.ndarray | None = None) -> str:
    """Return the note on one slice of HU [z, y, x] that is unlike both neighbours, which are alike; or ''.

    `means`: those of blocks of 8 x 8 pixels [z, y, x], where they are known.
    """
    if len(array) < _FEWEST_FOR_ODD or min(array.shape[1:]) < BLOCK:
        return ""
    if means is None:
        means = np.stack([block_means(plane) for plane in array])
    change, across = changes(means), changes(means, 2)
    both = np.minimum(change[1:], change[:-1])
    # A table's top is one slice of a coronal stack, with air on either side.
    body = np.mean(means > _BODY_HU, axis=(1, 2))
    inside = np.minimum(body[2:], body[:-2]) >= _LEAST_BODY
    odd = np.flatnonzero((both >= _LEAST_ODD_HU) & (both >= _TIMES_ACROSS * across) & inside)
    if len(odd) != 1 or np.median(change) > _MOST_OF_FAR * np.median(changes(means, _APART)):
        return ""  # of slices in no order there are more
    return (
        f"slice {odd[0] + 2} of {len(array)} (counted as they are stored) is unlike the one before and the "
        "one behind it, which are alike, as if it were of another scan or a picture of the screen: look at "
        "it before you use the result"
    )


def doubt_of_made_up_slice(array: np.ndarray) -> str:
    """Return the note on single slices [z, y, x] that are the mean of their neighbours; '' for others.

    So does who fills the place of a lost one. Of many, as of a volume resampled along z, nothing is said.
    """
    some = array[:, ::_ROWS_APART]
    if len(array) < _FEWEST_FOR_ODD:
        return ""
    found = []
    for index in range(1, len(some) - 1):
        three = some[index - 1 : index + 2]
        # So many in few rows are too many in all, and few are enough in nearly every slice.
        if _off_the_mean(three[:, ::_ROWS_FIRST])[1] >= (1 - _NEARLY_ALL) * three[0].size:
            continue
        varying, off = _off_the_mean(three)
        if varying >= _LEAST_VARYING * three[0].size and off < (1 - _NEARLY_ALL) * varying:
            found.append(index)
    if not found or len(found) > _MOST_MADE_UP * len(array):
        return ""
    named = ", ".join(str(one + 1) for one in found[:4]) + (", ..." if len(found) > 4 else "")
    return (
        f"slice{'s' if len(found) > 1 else ''} {named} of {len(array)} (counted as they are stored) "
        f"{'are' if len(found) > 1 else 'is'} the mean of the neighbours, as where a lost slice was made up: "
        "nothing was measured there"
    )


def _off_the_mean(three: np.ndarray) -> tuple[int, int]:
    """Return how many pixels of three slices [z, y, x] change from the first to the last, and how many of
    them are not their mean in the middle one."""
    before, plane, behind = three.astype(np.float32, copy=False)
    varying = np.abs(behind - before) > _VARYING_HU
    off = varying & (np.abs(plane - (before + behind) / 2) > _ROUNDED_HU)
    return int(np.count_nonzero(varying)), int(np.count_nonzero(off))


def doubt_of_repeated_rows(array: np.ndarray) -> str:
    """Return the note on slices [z, y, x] of which a part equals the same part of the one before; or ''.

    Whole slices that are equal are left to others; rows of one value say nothing.
    """
    for index in range(1, len(array)):
        before, plane = array[index - 1], array[index]
        # Every third row: of each second one, too, it meets half.
        few = slice(None, None, 3), slice(None, None, _COLUMNS_APART * _COLUMNS_FIRST)
        if 3 * np.count_nonzero((plane[few] == before[few]).all(axis=1)) < _FEWEST_ROWS // 2:
            continue
        some = plane[:, ::_COLUMNS_APART]
        equal = (some == before[:, ::_COLUMNS_APART]).all(axis=1)
        rows = np.flatnonzero(equal)
        if len(rows) < _FEWEST_ROWS:
            continue
        steps = np.mean(plane[rows, 1:] != plane[rows, :-1], axis=1)
        rows = rows[(steps >= _LEAST_STEPS) & (plane[rows] == before[rows]).all(axis=1)]
        if len(rows) >= _FEWEST_ROWS and not np.array_equal(plane, before):
            return (
                f"{len(rows)} rows of slice {index + 1} (counted as it is stored) are those of the slice "
                "before, as no two of a scan are: a part of it was lost; copy it again from its source"
            )
    return ""


def doubt_of_order(array: np.ndarray, pitch: float) -> str:
    """Return the note on a volume of HU [z, y, x] whose slices, `pitch` mm apart, are in no order; or ''."""
    count, rows, columns = array.shape
    if count < _FEWEST or min(rows, columns) < BLOCK or pitch > _WIDEST_MM:
        return ""
    first = max(0, (count - _MOST) // 2)
    means = np.stack([block_means(plane) for plane in array[first : first + _MOST]])
    near, far = (float(np.abs(means[step:] - means[:-step]).mean()) for step in (1, _APART))
    if far < _LEAST_FAR_HU or near < _MOST_OF_FAR * far:
        return ""
    return (
        "neighbouring slices are as unlike as those further apart, as if the images were in no order: look "
        "at them before you use the result"
    )
