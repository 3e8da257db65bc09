"""Do the images of a stack alternate, as those of two interleaved scans whose headers are stripped do?"""

from __future__ import annotations

import numpy as np

_FEWEST, _BLOCK, _TIMES_UNLIKE, _LEAST_UNLIKE_HU, _MOSTLY = 3, 8, 1.3, 2.0, 0.8


def images_alternate(array: np.ndarray) -> bool:
    """Say whether every second slice of HU [z, y, x] is unlike its neighbours but like the next but one.

    In one scan slices two apart differ more than neighbours do. Of two interleaved ones this trace remains
    where the headers are stripped of all that differs between scans.
    """
    count, rows, columns = array.shape
    if count < 2 * _FEWEST or min(rows, columns) < _BLOCK:
        return False
    # Means over blocks, since noise differs from slice to slice anyway.
    inside = array[:, : rows - rows % _BLOCK, : columns - columns % _BLOCK]
    shape = (rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK)
    means = np.stack([plane.reshape(shape).mean(axis=(1, 3)) for plane in inside])
    near, next_but_one = (np.sqrt(np.mean((means[s:] - means[:-s]) ** 2, axis=(1, 2))) for s in (1, 2))
    alike = np.maximum(next_but_one[:-1], next_but_one[1:])
    unlike = near[1:-1] > np.maximum(_TIMES_UNLIKE * alike, _LEAST_UNLIKE_HU)
    return bool(unlike.mean() > _MOSTLY)
