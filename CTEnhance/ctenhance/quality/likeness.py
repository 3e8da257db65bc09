"""Do a volume before and one after show the same body in the same place? Files are exchanged, and flipped."""

from __future__ import annotations

import numpy as np

from ctenhance.core.likeness import ONE_BODY, alike, shift_between, small_picture
from ctenhance.core.volume import CTVolume

#: Slices that are looked at; they agree on how far they are apart within a pixel, so many of them.
_MOST_SLICES, _AGREE, _OFTEN, _SHIFTED_PIXELS = 5, 1.0, 0.6, 1.5
_ANATOMY_HU = (-1000.0, 300.0)
_TURNED = {"left to right": 2, "front to back": 1, "head to foot": 0}


def doubts_of_pair(before: CTVolume, after: CTVolume) -> list[str]:
    """Return a warning where `after`, on the grid of `before`, shows another body, or does not lie on it,
    or is the same image."""
    if all(np.array_equal(*planes) for planes in zip(before.array, after.array, strict=True)):
        return ["The two volumes are the same, voxel for voxel: was one file given, or copied, twice?"]
    one = small_picture(before.array)
    rows, columns = _apart(before.array, after.array)
    if np.hypot(rows, columns) >= _SHIFTED_PIXELS:
        back = np.roll(after.array, (-round(rows), -round(columns)), (1, 2))
        if alike(one, small_picture(back)) >= ONE_BODY:
            x, y = before.spacing[:2]
            return [
                "The volumes do not lie on each other: one is "
                f"{np.hypot(rows * y, columns * x):.2g} mm aside ({round(rows):+d} rows, "
                f"{round(columns):+d} columns), though their headers say the same: differences and "
                "edges mean nothing."
            ]
    other = small_picture(after.array)
    found = alike(one, other)
    if found >= ONE_BODY:
        return []
    turned = {name: alike(one, np.flip(other, axis)) for name, axis in _TURNED.items()}
    best = max(turned, key=lambda name: turned[name])
    if turned[best] >= ONE_BODY:
        return [
            f"The volumes are alike once one is turned {best}: what is measured between them means nothing."
        ]
    return [
        f"The volumes hardly look like one body (their parts correlate by {found:.2f}, those of one scan by "
        "0.98 and more): what is measured between them means nothing."
    ]


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
