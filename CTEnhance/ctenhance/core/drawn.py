"""Was an image drawn, as a page of text is, or drawn on, or measured?

Scanners file dose reports and exam summaries as CT images, and not all of them say so. A page is one
background, mostly, and strokes of a few pixels with sharp edges; noise is nowhere in it.
"""

from __future__ import annotations

import numpy as np

_LEAST_GROUND = 0.5  # of all pixels
_RUN_PIXELS, _SHORT = 6, 0.6  # strokes, and which part of all runs they are
_FEWEST_RUNS, _RUNS_A_ROW = 40, 0.25
# Of the steps between neighbours those that are no more than noise would make, of the page's own range.
_SMALL_STEP, _MOST_SMALL = 0.04, 0.25
_MOST_CHANGING, _EVERY_ROW = 0.5, 4  # of all pixels, from one to the next; rows that are asked first
# Either few values are most of the strokes, or they blend into the background; what a threshold cut out of a
# scan does neither.
_INKS, _LEAST_INK, _WIDEST_GAP = 2, 0.5, 0.2
# Or they would blend if the background were not so far below all of them, as where a picture of 8 bits was
# put onto air; then more has to be between the lines and in strokes.
_MORE_BETWEEN, _MORE_SHORT = 0.5, 0.8
# And, however much they blend, what is furthest from the background is some of them; of noise it is a tail.
_NEAR_FURTHEST, _LEAST_FURTHEST = 0.1, 0.1
# Between lines of text are rows with hardly anything; in a map of the body within one background are none.
_LITTLE, _LEAST_BETWEEN = 0.03, 0.1
# Marks: slices that are compared, steps between neighbours, pixels' and marks' HU.
_FEWEST_SLICES, _SLICES_ASKED, _FEWEST_STEPS, _STEPS_A_PIXEL = 3, 8, 30, 0.4
_LEAST_STEP_HU, _LEAST_MARK_HU = 400.0, 0.0
# Letters in a single slice: short runs along its rows of one value, far above what is on either side. 919
# real slices have at most 7 of one value; three short lines of text, 360. Without noise all of it is drawn.
_LONGEST_STROKE, _FEWEST_STROKES, _OF_ALL_STROKES, _STEP_HU, _MOST_EQUAL = 6, 40, 0.3, 300.0, 0.5
_ABOVE_AIR_HU = -900.0


def is_page(plane: np.ndarray) -> bool:
    """Say whether a slice [y, x] is a page of text, or a picture of lines, rather than measured."""
    some = plane[::_EVERY_ROW]
    if np.count_nonzero(some[:, 1:] != some[:, :-1]) > _MOST_CHANGING * some.size:
        return False
    steps = np.abs(np.diff(plane.astype(np.float32), axis=1))
    changes = steps > 0
    if not changes.any() or changes.mean() > _MOST_CHANGING:
        return False
    values, counts = np.unique(plane, return_counts=True)
    ground = values[counts.argmax()]
    if counts.max() < _LEAST_GROUND * plane.size:
        return False
    scale = float(values[-1] - values[0])
    others = values != ground
    ink = np.sort(counts[others])[-_INKS:].sum()
    away, count = np.abs(values[others].astype(np.float64) - ground), counts[others]
    blended = away.min() <= _WIDEST_GAP * scale
    soft = not blended and ink < _LEAST_INK * count.sum()
    if soft:
        away -= away.min()
        scale = float(away.max())
    if count[away >= (1 - _NEAR_FURTHEST) * away.max()].sum() < _LEAST_FURTHEST * count.sum():
        return False
    if np.mean(steps[changes] <= _SMALL_STEP * scale) > _MOST_SMALL:
        return False
    # Runs of what is not the background, along the rows, but for those that go on outside: a page has
    # margins, and what surrounds a phantom without noise is no stroke.
    drawn = np.zeros((plane.shape[0], plane.shape[1] + 2), np.int8)
    drawn[:, 1:-1] = plane != ground
    inked = drawn.mean(axis=1) > _LITTLE
    written = np.flatnonzero(inked)
    if not written.size:
        return False
    between, short = (_MORE_BETWEEN, _MORE_SHORT) if soft else (_LEAST_BETWEEN, _SHORT)
    if np.mean(~inked[written[0] : written[-1] + 1]) < between:
        return False
    edges = np.diff(drawn, axis=1)
    starts, ends = np.nonzero(edges > 0)[1], np.nonzero(edges < 0)[1]
    lengths = (ends - starts)[(starts > 0) & (ends < plane.shape[1])]
    enough = max(_FEWEST_RUNS, _RUNS_A_ROW * len(plane))
    return bool(lengths.size >= enough and np.mean(lengths <= _RUN_PIXELS) >= short)


def doubt_of_marks(array: np.ndarray) -> str:
    """Return the note on slices [z, y, x] into which the same text or lines were drawn; '' for others.

    Such pixels are the same in all slices, as noise lets none be, and far above what is beside them; metal
    that was cut off at the highest value has fewer edges.
    """
    return _in_all(array) or _in_one(array)


def _in_all(array: np.ndarray) -> str:
    if len(array) < _FEWEST_SLICES:
        return ""
    some = array[:: max(1, len(array) // _SLICES_ASKED)]
    same = some[0] >= _LEAST_MARK_HU
    for plane in some[1:]:
        same &= plane == some[0]
    if np.count_nonzero(same) < _FEWEST_STEPS:
        return ""
    left, right = (same[:, 1:], same[:, :-1])
    for plane in some:
        step = np.diff(plane.astype(np.float32, copy=False), axis=1)
        left, right = left & (step >= _LEAST_STEP_HU), right & (step <= -_LEAST_STEP_HU)
    steps = left | right
    if np.count_nonzero(steps) < max(_FEWEST_STEPS, _STEPS_A_PIXEL * np.count_nonzero(same)):
        return ""
    row, column = (int(one) for one in np.argwhere(steps)[0])
    return (
        f"the same marks stand in all slices (the first in row {row}, column {column}, counted from 0), as "
        "text or lines that were drawn into the images: what is below them is lost; use the original CT"
    )


def _in_one(array: np.ndarray) -> str:
    for index in sorted({0, len(array) // 2, len(array) - 1}):
        row, column = _first_letter(array[index].astype(np.float32, copy=False))
        if row >= 0:
            return (
                f"text or lines seem to be drawn into slice {index + 1} of {len(array)} (the first in row "
                f"{row}, column {column}, counted from 0): what is below them is lost; use the original CT"
            )
    return ""


def _first_letter(plane: np.ndarray) -> tuple[int, int]:
    """Return row and column of the first stroke of a text in a slice [y, x]; -1, -1 where there is none."""
    if plane.shape[1] <= _LONGEST_STROKE + 2:
        return -1, -1
    steps = np.diff(plane, axis=1)
    up, down, same = steps >= _STEP_HU, steps <= -_STEP_HU, steps == 0
    tissue = plane[:, 1:] > _ABOVE_AIR_HU
    if not tissue.any() or same[tissue].mean() > _MOST_EQUAL:
        return -1, -1
    places = []
    for length in range(1, _LONGEST_STROKE + 1):
        width = steps.shape[1] - length
        stroke = up[:, :width] & down[:, length:]
        for inside in range(1, length):
            stroke &= same[:, inside : inside + width]
        places.append(np.argwhere(stroke) + np.array([0, 1]))
    found = np.concatenate(places)
    values = plane[found[:, 0], found[:, 1]]
    if not values.size:
        return -1, -1
    levels, counts = np.unique(values, return_counts=True)
    most = counts.max()
    if most < _FEWEST_STROKES or most < _OF_ALL_STROKES * values.size:
        return -1, -1
    letters = found[values == levels[counts.argmax()]]
    row, column = letters[np.lexsort(letters.T[::-1])][0].tolist()
    return row, column
