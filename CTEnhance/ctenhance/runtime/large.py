"""Arrays as large as a scan, in a file that the system maps into memory instead of in memory itself.

What was looked at or filled can be let go: it then stands in the file (and in the system's cache as long as
nobody else needs the memory), and a command's own memory does not grow with the number of slices.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Iterator

import numpy as np

#: Smaller arrays are worth no file.
LEAST_BYTES = 1 << 28
#: How much of an array is looked at before it is let go.
SLAB_BYTES = 1 << 25


def empty(shape: tuple[int, ...]) -> np.ndarray:
    """Return a float32 array of any content: mapped where it is large and a temporary file has the room."""
    bytes_needed = 4 * int(np.prod(shape))
    if bytes_needed < LEAST_BYTES or not hasattr(os, "posix_fallocate"):
        return np.empty(shape, np.float32)
    try:
        with tempfile.TemporaryFile(prefix="ctenhance-") as file:
            # Without the room for all of it, writing into the map would end the process.
            os.posix_fallocate(file.fileno(), 0, bytes_needed)
            mapped = mmap.mmap(file.fileno(), bytes_needed)
    except OSError:  # no room, or a file system that cannot
        return np.empty(shape, np.float32)
    return np.frombuffer(mapped, np.float32).reshape(shape)


def let_go(array: np.ndarray) -> None:
    """Say that a mapped array is not needed in memory for now; nothing happens to others."""
    owner = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        with contextlib.suppress(OSError):
            owner.madvise(mmap.MADV_DONTNEED)


def slabs(array: np.ndarray) -> Iterator[slice]:
    """Yield the slices of an array `[z, y, x]` some at a time, and let each slab go when it has been used."""
    step = max(1, SLAB_BYTES // max(1, array[0].nbytes))
    for start in range(0, len(array), step):
        yield slice(start, start + step)
        let_go(array)
