"""Slices in short: lowest and highest value of each, and mean and noise of blocks of its pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ctenhance.core.ends import ends_of_some
from ctenhance.core.halves import by_halves

BLOCK, _SMALL_BLOCK, _WIDE_PIXELS = 8, 4, 256
_ROWS_ASKED = 20
_APART = (1, 3)  # pixels, of fine and of coarse noise
_SHARES = np.full(BLOCK, 1.0 / BLOCK**2, np.float32)  # of one of BLOCK sums of BLOCK pixels, in their mean
_QUIETEST_HU = 0.5
_AT_ONCE, _AT_A_TIME, _MANY = 4, 32, 500  # slices


class Blocks(NamedTuple):
    """Of every slice the lowest and the highest value [z, 2], of every block of 8 x 8 pixels in it the mean
    [z, y, x], HU, and of the blocks in every `asked_rows`-th row the logarithm of the noise, fine and coarse.
    """

    ends: np.ndarray
    means: np.ndarray
    noise: tuple[np.ndarray, ...]

    def without(self, slices: list[int]) -> Blocks:
        """Return those of a volume that lacks some of the slices."""
        ends, means, *noise = (np.delete(one, slices, axis=0) for one in (self.ends, self.means, *self.noise))
        return Blocks(ends, means, tuple(noise))


def blocks_of(array: np.ndarray, ends: np.ndarray | None = None) -> Blocks:
    """Return a volume [z, y, x] in short, looking at each slice once.

    `ends`: the lowest and the highest value of each slice (`ends_of`), where they are known.
    """
    count, rows, columns = len(array), *(length // BLOCK for length in array.shape[1:])
    lows_and_highs = np.empty((count, 2), array.dtype) if ends is None else ends
    means = np.empty((count, rows, columns), np.float32)
    asked = len(range(0, rows, asked_rows(rows)))
    noise = tuple(np.empty((count, asked, columns), np.float32) for _ in _APART)

    def look(part: slice) -> None:
        new = lows_and_highs[part] if ends is None else None
        _look(array[part], new, means[part], [one[part] for one in noise])

    by_halves(count, look)
    return Blocks(lows_and_highs, means, noise)


def asked_rows(rows: int) -> int:
    """Every how many rows of blocks the noise is looked at: a median of hundreds is sure enough."""
    return max(1, rows // _ROWS_ASKED)


def _look(array: np.ndarray, ends: np.ndarray | None, means: np.ndarray, noise: list[np.ndarray]) -> None:
    rows, columns = means.shape[1:]
    asked, width = noise[0].shape[1], columns * BLOCK
    # Some slices at once, as the other thread waits for what Python does between two sums; and the same
    # memory for all: to get it anew takes longer than the sums.
    rough = np.empty((_AT_ONCE, asked, width), np.float32)
    down = [np.empty((_AT_ONCE, asked, BLOCK - apart, width), np.float32) for apart in _APART]
    across = [
        np.empty((_AT_ONCE, asked, BLOCK - apart, max(0, width - apart)), np.float32) for apart in _APART
    ]
    for z in range(0, len(array), _AT_ONCE):
        here, planes = slice(z, z + _AT_ONCE), array[z : z + _AT_ONCE]
        count = len(planes)
        if ends is not None:
            ends[here] = ends_of_some(planes)
        planes = planes.astype(np.float32, copy=False)  # differences of int16 may be beyond it
        means[here] = block_means(planes)
        inside = planes[:, : rows * BLOCK, :width].reshape(count, rows, BLOCK, width)[:, :: asked_rows(rows)]
        for apart, found, one, other in zip(_APART, noise, down, across, strict=True):
            one, other, sums = one[:count], other[:count], rough[:count]
            # What a slope in either direction leaves out: noise, and edges that are the same next door.
            np.subtract(inside[:, :, apart:], inside[:, :, :-apart], out=one)
            np.subtract(one[..., apart:], one[..., :-apart], out=other)
            sums[..., -apart:] = 0
            np.add.reduce(np.abs(other, out=other), axis=2, out=sums[..., :-apart])
            share = _SHARES * (BLOCK / (BLOCK - apart))
            np.matmul(sums.reshape(count, asked, columns, BLOCK), share, out=found[here])
    for found in noise:
        np.log(np.maximum(found, _QUIETEST_HU, out=found), out=found)


def block_of(array: np.ndarray) -> int:
    """Return the side, pixels, of blocks that suit slices [z, y, x]: small ones where these are small."""
    return BLOCK if min(array.shape[1:]) >= _WIDE_PIXELS else _SMALL_BLOCK


def block_means(planes: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """Return the means of the blocks of `block` x `block` pixels of a slice, or of several [..., y, x]."""
    *several, rows, columns = planes.shape
    rows, columns = rows // block, columns // block
    inside = planes[..., : rows * block, : columns * block]
    # Rows first, which stand one after the other in memory.
    over_rows = np.add.reduce(
        inside.reshape(*several, rows, block, columns * block), axis=-2, dtype=np.float32
    )
    share = np.full(block, 1.0 / block**2, np.float32)  # of each of a block's sums over rows
    means: np.ndarray = over_rows.reshape(*several, rows, columns, block) @ share
    return means


def sums_over_slices(weights: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Return the sums over slices of block means [z, y, x] with each row of weights [n, z], as [n, y, x].

    Row by row: larger products BLAS shares among threads, which takes longer than these products.
    """
    sums = np.empty((len(means[0]), len(weights), means.shape[2]), np.float32)
    np.matmul(weights, means.transpose(1, 0, 2), out=sums)
    return np.ascontiguousarray(sums.transpose(1, 0, 2))


def count_along(mask: np.ndarray) -> np.ndarray:
    """Return in how many slices [z, y, x] each block is set, as [y, x]; counted as bytes, many at a time."""
    small = np.uint8 if len(mask) < 256 else np.int64
    counts: np.ndarray = np.add.reduce(mask.view(np.uint8), axis=0, dtype=small)
    return counts


def window_step(count: int, length: int) -> int:
    """Return how far windows of so many slices are apart: they overlap by half, but in a stack of many,
    where scans that are mixed are longer than two of them, they stand side by side."""
    return length if count > _MANY else length // 2


def changes(means: np.ndarray, apart: int = 1) -> np.ndarray:
    """Return by how much block means [z, y, x] change to so many slices further, root of mean square."""
    found = np.empty(max(0, len(means) - apart), np.float32)
    # A few at a time: the system takes longer to give memory for all than the sums take.
    for start in range(0, len(found), _AT_A_TIME):
        part = means[start : start + _AT_A_TIME + apart]
        found[start : start + _AT_A_TIME] = np.sqrt(np.mean((part[apart:] - part[:-apart]) ** 2, axis=(1, 2)))
    return found
