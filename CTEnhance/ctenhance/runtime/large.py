"""Arrays as large as a scan, in a file that the system maps into memory instead of in memory itself.

What was looked at or filled can be let go: it then stands in the file (and in the system's cache as long as
nobody else needs the memory), and a command's own memory does not grow with the number of slices.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import sys
import tempfile
import threading
from collections.abc import Iterator

import numpy as np

#: Smaller arrays are worth no file.
LEAST_BYTES = 1 << 28
#: How much of an array is looked at before it is let go.
SLAB_BYTES = 1 << 25


class _OfFile(mmap.mmap):
    """A map whose content stays in a file when its pages are let go."""


def in_memory(shape: tuple[int, ...]) -> np.ndarray:
    """Return a float32 array of any content in memory of its own.

    Where it is large and the system is Linux it is mapped page by page: numpy asks for huge pages, for which
    a machine whose memory is full of files' contents first moves those about, for seconds a gigabyte.
    """
    bytes_needed = 4 * math.prod(shape)
    if bytes_needed < LEAST_BYTES or sys.platform != "linux":
        return np.empty(shape, np.float32)
    try:
        mapped = mmap.mmap(-1, bytes_needed, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"{bytes_needed} bytes") from error
    return np.frombuffer(mapped, np.float32).reshape(shape)


class Ahead:
    """An array in memory that another thread goes through page by page, while headers are read.

    The system clears a page when it is first touched: for a gigabyte that takes as long as to fill it. Use
    it as a context: at its end the thread has ended.
    """

    def __init__(self, values: int) -> None:
        self._enough = threading.Event()
        self._array: np.ndarray | None = None
        self._thread: threading.Thread | None = None
        # What is small takes no time, and what there is no memory for is told when it is asked for.
        if 4 * values >= LEAST_BYTES:
            with contextlib.suppress(MemoryError):
                self._array = in_memory((values,))
                self._thread = threading.Thread(target=self._touch, args=(self._array,), daemon=True)
                self._thread.start()

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._array = None

    def _touch(self, array: np.ndarray) -> None:
        step = SLAB_BYTES // 4
        for start in range(0, len(array), step):
            if self._enough.is_set():
                return
            array[start : start + step : mmap.PAGESIZE // 4] = 0

    def _end(self) -> None:
        self._enough.set()
        if self._thread is not None:
            self._thread.join()

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return a float32 array of any content, once: this one where it has so many values."""
        self._end()
        found, self._array = self._array, None
        return in_memory(shape) if found is None or found.size != math.prod(shape) else found.reshape(shape)


def empty(shape: tuple[int, ...]) -> np.ndarray:
    """Return a float32 array of any content: in a mapped file where it is large and there is room for one."""
    bytes_needed = 4 * int(np.prod(shape))
    if bytes_needed < LEAST_BYTES or not hasattr(os, "posix_fallocate"):
        return np.empty(shape, np.float32)
    try:
        with tempfile.TemporaryFile(prefix="ctenhance-") as file:
            # Without the room for all of it, writing into the map would end the process.
            os.posix_fallocate(file.fileno(), 0, bytes_needed)
            mapped = _OfFile(file.fileno(), bytes_needed)
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
    if isinstance(owner, _OfFile) and hasattr(mmap, "MADV_DONTNEED"):
        with contextlib.suppress(OSError):
            owner.madvise(mmap.MADV_DONTNEED)


def slabs(array: np.ndarray) -> Iterator[slice]:
    """Yield the slices of an array `[z, y, x]` some at a time, and let each slab go when it has been used."""
    step = max(1, SLAB_BYTES // max(1, array[0].nbytes))
    for start in range(0, len(array), step):
        yield slice(start, start + step)
        let_go(array)
