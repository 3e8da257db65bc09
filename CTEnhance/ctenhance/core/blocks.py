"""Means of blocks of pixels, by which slices are compared."""

from __future__ import annotations

import numpy as np

BLOCK, _SMALL_BLOCK, _WIDE_PIXELS = 8, 4, 256


def block_of(array: np.ndarray) -> int:
    """Return the side, pixels, of blocks that suit slices [z, y, x]: small ones where these are small."""
    return BLOCK if min(array.shape[1:]) >= _WIDE_PIXELS else _SMALL_BLOCK


def block_means(plane: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """Return the means of a slice's blocks of `block` x `block` pixels [y, x]."""
    rows, columns = (length // block for length in plane.shape)
    inside = plane[: rows * block, : columns * block]
    # Rows first, which stand one after the other in memory.
    over_rows = np.add.reduce(inside.reshape(rows, block, columns * block), axis=1, dtype=np.float32)
    share = np.full(block, 1.0 / block**2, np.float32)  # of each of a block's sums over rows
    means: np.ndarray = over_rows.reshape(rows, columns, block) @ share
    return means


def changes(means: np.ndarray, apart: int = 1) -> np.ndarray:
    """Return by how much block means [z, y, x] change to so many slices further, root of mean square."""
    found: np.ndarray = np.sqrt(np.mean((means[apart:] - means[:-apart]) ** 2, axis=(1, 2)))
    return found
