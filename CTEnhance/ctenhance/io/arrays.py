"""Readings too many for main memory: arrays that stay in a file and are walked through in blocks."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctenhance.runtime.errors import InputError

#: Values that one block of a walk through an array holds (64 MB of float32).
BLOCK_VALUES = 1 << 24
#: New arrays beyond this many bytes are kept in a temporary file.
LARGEST_IN_MEMORY = 1 << 30


class FileArray:
    """A dataset of an HDF5 file as an array: read-only, each slice is read when it is asked for.

    `shape`, `dtype`, `ndim` and slicing along any axis as in numpy (no fancy indices).  The file is closed
    between two accesses, so that it can be moved or replaced.  Raises InputError where it no longer can be
    read.
    """

    def __init__(self, path: Path, name: str, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
        self.path, self.name, self.shape, self.dtype = path, name, tuple(shape), dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __getitem__(self, key: Any) -> np.ndarray:
        import h5py

        try:
            with h5py.File(self.path, "r") as stored:
                return np.asarray(stored[self.name][key])
        except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
            raise InputError(
                f"'{self.path.name}' can no longer be read at '/{self.name}'; it is damaged or has changed."
            ) from error

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[...] if dtype is None else self[...].astype(dtype)


#: Readings `[view, row, column]` or `[view, row, column, bin]`: in memory, mapped, or in a file.
Readings = np.ndarray | FileArray


def scratch(shape: Sequence[int]) -> np.ndarray:
    """Return float32 zeros: in memory, or beyond `LARGEST_IN_MEMORY` in a file that goes with the array."""
    size = 4 * math.prod(shape)
    if size <= LARGEST_IN_MEMORY:
        return np.zeros(tuple(shape), dtype=np.float32)
    try:
        # A file that nobody else sees and that the system removes with the last reference to it; it is made
        # sparse, and reads as zeros where nothing was written.
        file = tempfile.TemporaryFile(prefix="ctenhance-")  # noqa: SIM115 (it lives as long as the array)
        return np.memmap(file, dtype=np.float32, mode="w+", shape=tuple(shape))
    except OSError as error:
        raise InputError(
            f"There is no room for {size >> 20} MB in the temporary folder '{tempfile.gettempdir()}' "
            f"({error.strerror or error}); free some, or set TMPDIR to another folder."
        ) from error


def blocks(shape: Sequence[int], axis: int = 0) -> Iterator[slice]:
    """Slices along `axis` that together cover it, each of at most `BLOCK_VALUES` values (but one index)."""
    length = shape[axis]
    each = max(1, BLOCK_VALUES * length // max(1, math.prod(shape)))
    for start in range(0, length, each):
        yield slice(start, min(start + each, length))
