"""The lowest and the highest value of each slice, which several checks ask for."""

from __future__ import annotations

import numpy as np

from ctenhance.core.halves import by_halves


def ends_of(array: np.ndarray) -> np.ndarray:
    """Return the lowest and the highest of finite values of each slice [z, y, x], as [z, 2]."""
    ends = np.empty((len(array), 2), array.dtype)

    def look(part: slice) -> None:
        for found, plane in zip(ends[part], array[part], strict=True):
            found[:] = plane.min(), plane.max()

    by_halves(len(array), look)
    return ends
