"""Do a volume before and one after show the same body in the same place? Files are exchanged, and flipped."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ctenhance.core.likeness import ONE_BODY, alike, shift_between, small_picture
from ctenhance.core.volume import CTVolume
from ctenhance.runtime.words import counted

#: Slices that are looked at; they agree on how far they are apart within a pixel, so many of them.
_MOST_SLICES, _AGREE, _OFTEN, _SHIFTED_PIXELS = 5, 1.0, 0.6, 1.5
_ANATOMY_HU = (-1000.0, 300.0)
_AXES = {"left to right": 2, "front to back": 1, "head to foot": 0}
#: How many slices aside are looked for; what is left of the unlikeness where a volume is turned, or so many
#: slices aside, and how much of it there has to be.
_MOST_ASIDE, _LEFT, _LEAST_UNLIKE = 3, 0.5, 1e-4


def doubts_of_pair(before: CTVolume, after: CTVolume, reference: CTVolume | None = None) -> list[str]:
    """Return warnings where `after`, on the grid of `before`, shows another body, does not lie on it, or is
    the same image, and where the reference shows another body than `before`, or does not lie on it."""
    same = all(np.array_equal(*planes) for planes in zip(before.array, after.array, strict=True))
    found = ["The two volumes are the same, voxel for voxel: was one file given, or copied, twice?"]
    if not same:
        found = _doubts(before, after, "The volumes")
    return found if reference is None else found + _doubts(before, reference, "The reference and BEFORE")


def _doubts(one: CTVolume, other: CTVolume, who: str) -> list[str]:
    if displaced := how_displaced(one.array, other.array, one.spacing):
        return [f"{who} {displaced}: what is measured between them means nothing."]
    found = alike(small_picture(one.array), small_picture(other.array))
    if found >= ONE_BODY:
        return []
    return [
        f"{who} hardly look like one body (their parts correlate by {found:.2f}, those of one scan by 0.98 "
        "and more): what is measured between them means nothing."
    ]


def how_displaced(before: np.ndarray, after: np.ndarray, spacing: Sequence[float]) -> str:
    """Return how images [z, y, x] of one grid, `spacing` (x, y, z) in mm, do not lie on each other.

    Such as 'do not lie on each other: one is 2.4 mm aside (+0 rows, +3 columns), …'; '' where they do, or
    show two bodies."""
    one = small_picture(before)
    found = alike(one, small_picture(after))
    likely: dict[str, float] = {}
    for count in range(1, len(_AXES) + 1):
        for names in itertools.combinations(_AXES, count):
            turned = np.flip(after, tuple(_AXES[name] for name in names))
            likely[f"are alike once one is turned {' and '.join(names)}"] = alike(one, small_picture(turned))
    for by in range(1, min(_MOST_ASIDE, len(before) // 3) + 1):
        for sign, (first, second) in (("+", (before[:-by], after[by:])), ("-", (before[by:], after[:-by]))):
            aside = f"{by * spacing[2]:.2g} mm aside ({sign}{counted(by, 'slice')})"
            likely[_aside(aside)] = alike(small_picture(first), small_picture(second))
    best = max(likely, key=lambda how: likely[how])
    if 1 - found < _LEAST_UNLIKE or 1 - likely[best] > _LEFT * (1 - found) or likely[best] < ONE_BODY:
        best = ""
    rows, columns = _apart(before, after)
    if np.hypot(rows, columns) >= _SHIFTED_PIXELS:
        back = np.roll(after, (-round(rows), -round(columns)), (1, 2))
        if alike(one, small_picture(back)) >= max(ONE_BODY, likely.get(best, 0.0)):
            length = np.hypot(rows * spacing[1], columns * spacing[0])
            return _aside(f"{length:.2g} mm aside ({round(rows):+d} rows, {round(columns):+d} columns)")
    return best


def _aside(how: str) -> str:
    return f"do not lie on each other: one is {how}, though their headers say the same"


def _apart(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return by how many rows and columns `other` [z, y, x] is displaced; 0, 0 where slices do not agree."""
    planes = np.unique(np.linspace(0, len(one) - 1, _MOST_SLICES).astype(int))
    moved = [shift_between(*(np.clip(some[z], *_ANATOMY_HU) for some in (one, other))) for z in planes]
    known = np.array([found for found in moved if found is not None])
    if not len(known):
        return 0.0, 0.0
    middle = np.median(known, axis=0)
    if np.mean(np.hypot(*(known - middle).T) < _AGREE) < _OFTEN:
        return 0.0, 0.0
    return float(middle[0]), float(middle[1])
