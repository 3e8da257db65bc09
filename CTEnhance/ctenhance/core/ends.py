"""The lowest and the highest value of each slice, which several checks ask for."""

from __future__ import annotations

import numpy as np

from ctenhance.core.halves import by_halves

_AT_ONCE = 4  # slices, as the other thread waits for what Python does between two of them


def ends_of(array: np.ndarray) -> np.ndarray:
    """Return the lowest and the highest of finite values of each slice [z, y, x], as [z, 2]."""
    ends = np.empty((len(array), 2), array.dtype)

    def look(part: slice) -> None:
        for z in range(part.start, part.stop, _AT_ONCE):
            planes = array[z : min(z + _AT_ONCE, part.stop)]
            ends[z : z + len(planes)] = ends_of_some(planes)

    by_halves(len(array), look)
    return ends


def ends_of_some(planes: np.ndarray) -> np.ndarray:
    """The same of a few slices, in the thread that asks."""
    return np.stack([planes.min(axis=(1, 2)), planes.max(axis=(1, 2))], axis=1)
