"""Do the pixels of an image stand where they belong?

Pixels that begin too early or too late in a file, halves that were exchanged, several images in one, fields
of an interlaced picture, doubled columns: each value is right, and none of it is where the grid says.
"""

from __future__ import annotations

import numpy as np

from ctenhance.core.blocks import Blocks, asked_rows, count_along

_SLICES = 24  # that are looked at
_AIR_HU, _BODY_HU, _LEAST_PIXELS = -1000.0, -500.0, 64
# Of a body that goes on across an image's ends: rows of it there (and part of all), its share in the lines of
# a gap (a table may cross it), how far that lies from the ends, and how much rougher the seam is than others.
_FEWEST_ROWS, _ROWS, _IN_GAP, _WIDTH, _FROM_END, _ROUGHER = 12, 0.08, 0.04, 0.02, 0.05, 1.3
_TURNS = (-1, 0, 1)  # rows by which what goes on is lower, as a row's end goes on in the next row
# How alike the two halves of all images are (their blocks' correlation): 0.57 at most in 21 real scans;
# blocks that a half has at least, as small pieces are alike by chance.
_ALIKE, _LEAST_HALF, _HIGHEST_HU, _LEAST_SD_HU = 0.92, 8, 300.0, 100.0
# By how much a slice is off its neighbours in most of its blocks, HU, or in the logarithm of its noise, and
# how many times what the others are.
_FEWEST, _OFF_HU, _NEARLY_EVERYWHERE, _FEWEST_BLOCKS, _OFF_NOISE, _TIMES = 8, 15.0, 0.75, 12, 0.6, 3.0

_LEAST_BESIDE, _MOST_BESIDE = 0.25, 0.75


def doubts_of_layout(array: np.ndarray, blocks: Blocks) -> list[str]:
    """Return the notes on pixels of a volume in HU [z, y, x] that do not stand where its grid says.

    `blocks`: those of the volume (`blocks_of`).
    """
    if min(array.shape[1:]) < _LEAST_PIXELS:
        return []
    step = max(1, len(array) // _SLICES)
    some, means = array[::step], blocks.means[::step]
    return [*filter(None, (_wrapped(some), _in_parts(means), _doubled(some)))]


def _wrapped(array: np.ndarray) -> str:
    for axis, ends in ((2, "left and right"), (1, "upper and lower")):
        lines = array if axis == 2 else array.transpose(0, 2, 1)
        body = lines > _BODY_HU
        length = lines.shape[2]
        share = body.mean(axis=(0, 1))
        away = max(2, round(_FROM_END * length))
        gap = np.flatnonzero(share[away:-away] <= _IN_GAP)
        if len(gap) < max(2, _WIDTH * length):
            continue
        first, second, last_but_one, last = (
            np.maximum(lines[..., at].astype(np.float64), _AIR_HU) for at in (0, 1, -2, -1)
        )
        within = _rough(np.stack([first, last_but_one]), np.stack([second, last]))
        for turn in _TURNS if axis == 2 else (0,):
            one, other = first[:, 1 + turn : first.shape[1] - 1 + turn], last[:, 1:-1]
            rows = np.count_nonzero((one > _BODY_HU) & (other > _BODY_HU), axis=1)
            enough = np.median(rows) >= max(_FEWEST_ROWS, _ROWS * lines.shape[1])
            if enough and _rough(one, other) <= _ROUGHER * within:
                return (
                    f"the body goes on from one side of its images to the other ({ends}), with air between, "
                    "as if their pixels began too early or too late in the file, or halves were exchanged: "
                    "look at the images, and export the series again"
                )
    return ""


def _rough(one: np.ndarray, other: np.ndarray) -> float:
    """Return the root of the mean square step from one to the other, where either is body."""
    there = (one > _BODY_HU) | (other > _BODY_HU)
    return float(np.sqrt(np.mean(np.square((one - other)[there])))) if there.any() else 0.0


def _in_parts(means: np.ndarray) -> str:
    """`means`: of blocks of 8 x 8 pixels [z, y, x]."""
    half = means.shape[1] // 2
    if half < _LEAST_HALF:
        return ""
    upper, lower = (np.clip(one, None, _HIGHEST_HU) for one in (means[:, :half], means[:, -half:]))
    if min(upper.std(), lower.std()) < _LEAST_SD_HU:
        return ""
    if np.corrcoef(upper.ravel(), lower.ravel())[0, 1] < _ALIKE:
        return ""
    return (
        "the upper and the lower half of its images are nearly alike, as where one image holds several or "
        "its rows were torn apart: look at the images before you use the result"
    )


def _doubled(array: np.ndarray) -> str:
    for axis, what in ((2, "columns"), (1, "rows")):
        lines = np.moveaxis(array, axis, -1)
        even = lines.shape[-1] // 2 * 2
        one, other = lines[..., 0:even:2], lines[..., 1:even:2]
        if all(np.array_equal(a, b) for a, b in zip(one, other, strict=True)) and array.min() < array.max():
            return (
                f"each second one of its {what} is a copy of the one before: the images have half of the "
                "resolution that their pixels' size says, and measures of noise do not hold"
            )
    return ""


def doubt_of_one_off(blocks: Blocks) -> str:
    """Return the note on one slice whose HU or whose noise is off as a whole; or ''."""
    means = blocks.means
    if len(means) < _FEWEST or means[0].size < _FEWEST_BLOCKS:
        return ""
    # Some rows of them are enough for a median.
    some = means[:, :: asked_rows(means.shape[1])]
    off = some[1:-1] - (some[:-2] + some[2:]) / 2
    levels = np.median(off, axis=(1, 2))
    at = _one_of_all(levels, _OFF_HU)
    by = float(levels[at - 1]) if at else 0.0
    # The last slice of a phantom is lower and higher than its neighbours.
    if at and np.mean(np.abs(off[at - 1] - by) < abs(by) / 2) >= _NEARLY_EVERYWHERE:
        return (
            f"slice {at + 1} of {len(means)} (counted as they are stored) lies {abs(by):.0f} HU "
            f"{'above' if by > 0 else 'below'} its neighbours nearly everywhere, as with a rescale intercept "
            "of its own: look at it before you use the result"
        )
    body = count_along(means > _BODY_HU) == len(means)
    asked = body[:: asked_rows(len(body))]
    if asked.sum() < _FEWEST_BLOCKS:
        return ""
    noise = np.median(blocks.noise[0][:, asked], axis=1).astype(np.float64)
    less = noise[1:-1] - (noise[:-2] + noise[2:]) / 2
    if (at := _one_of_all(less, _OFF_NOISE)) and less[at - 1] < 0:
        return (
            f"slice {at + 1} of {len(means)} (counted as they are stored) has {np.exp(less[at - 1]):.2g} "
            "times the noise of its neighbours, as if it alone were smoothed or interpolated: look at it "
            "before you use the result"
        )
    return ""


def _one_of_all(off: np.ndarray, least: float) -> int:
    """Return which one of the slices between the ends is off, when no other is; 0 for none."""
    at = int(np.abs(off).argmax())
    beside = [one for one in (at - 1, at + 1) if 0 <= one < len(off)]
    # Its neighbours are half as far off to the other side, those of a step that stays on one side are not.
    if any(not _LEAST_BESIDE <= -off[one] / (off[at] or 1.0) <= _MOST_BESIDE for one in beside):
        return 0
    of_others = float(np.abs(np.delete(off, [at, *beside])).max(initial=0.0))
    return at + 1 if abs(off[at]) >= max(least, _TIMES * of_others) else 0
