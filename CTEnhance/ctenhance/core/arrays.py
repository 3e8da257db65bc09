"""Readings too many for main memory: arrays that stay in a file and are walked through in blocks."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np

from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import space_left

#: Values that one block of a walk through an array holds (64 MB of float32).
BLOCK_VALUES = 1 << 24
#: New arrays beyond this many bytes are kept in a temporary file.
LARGEST_IN_MEMORY = 1 << 30


def scratch(shape: Sequence[int]) -> np.ndarray:
    """Return float32 zeros: in memory, or beyond `LARGEST_IN_MEMORY` in a file that goes with the array."""
    size = 4 * math.prod(shape)
    if size <= LARGEST_IN_MEMORY:
        return np.zeros(tuple(shape), dtype=np.float32)
    folder = tempfile.gettempdir()
    # A mapped file that finds the disk full while it is written ends the process: ask before.
    if space_left(folder) < size:
        raise InputError(
            f"The projections need {size >> 20} MB in the temporary folder '{folder}', which has less; free "
            "some, or set TMPDIR to another folder."
        )
    try:
        # An unnamed, sparse file: the system removes it with the last reference, and it reads as zeros where
        # nothing was written.
        file = tempfile.TemporaryFile(prefix="ctenhance-")  # noqa: SIM115 (it lives as long as the array)
        return np.memmap(file, dtype=np.float32, mode="w+", shape=tuple(shape))
    except OSError as error:
        raise InputError(
            f"No file can be made in the temporary folder '{folder}' ({error.strerror or error}); set TMPDIR "
            "to another folder."
        ) from error


def blocks(shape: Sequence[int]) -> Iterator[slice]:
    """Slices that together cover the first axis, each of at most `BLOCK_VALUES` values (but one index)."""
    length = shape[0]
    each = max(1, BLOCK_VALUES * length // max(1, math.prod(shape)))
    for start in range(0, length, each):
        yield slice(start, min(start + each, length))
