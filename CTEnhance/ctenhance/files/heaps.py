"""HDF5 files whose library would not come back: looked at before they are opened.

Texts of any length stand in global heaps. Reading one in which an object has no length, or one beyond the
heap, the library (1.14) goes round without an end, in C, where nothing within the process can stop it.
A file with such a heap is opened by a child first, which can be stopped.
"""

from __future__ import annotations

import mmap
import struct
import subprocess
import sys
from pathlib import Path

from ctenhance.runtime.errors import InputError

# Before the three bytes that the library does not look at.
_HEAP, _HEAP_HEADER, _OBJECT_HEADER, _ALIGNED = b"GCOL\x01", 16, 16, 8
_SIGNATURE, _LENGTHS_AT, _OF_EIGHT_BYTES = b"\x89HDF\r\n\x1a\n", {0: 14, 1: 14, 2: 10, 3: 10}, 8
#: Seconds of processor time that opening may take, and seconds that are waited for it beside other work.
_LONGEST, _WAIT = 2, 9
_OPENING = f"""
import sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, ({_LONGEST}, {_LONGEST}))
except ImportError:
    pass
import h5py
with h5py.File(sys.argv[1], "r") as file:
    list(file.items())
    dict(file.attrs)
"""


def require_open(path: Path) -> None:
    """Raise InputError, with the reason alone, for a file that HDF5's library does not come back from.

    What is no HDF5 file at all is left to the library.
    """
    with path.open("rb") as stream:
        start = stream.read(16)
        if not start:
            return
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as file:
            if _has_plain_lengths(start) and _heaps_are_sound(file):
                return
    try:
        ended = subprocess.run(
            [sys.executable, "-I", "-c", _OPENING, path], capture_output=True, timeout=_WAIT, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        ended = -1
    if ended < 0:  # by a signal; an exception is met again by whoever opens the file
        raise InputError("the file is damaged, and opening it does not end; copy it again from its source.")


def _has_plain_lengths(start: bytes) -> bool:
    at = _LENGTHS_AT.get(start[8]) if len(start) == 16 else None
    return start[:8] == _SIGNATURE and at is not None and start[at] == _OF_EIGHT_BYTES


def _heaps_are_sound(file: mmap.mmap) -> bool:
    """Say whether in all that looks like a heap each object ends where the next one begins."""
    at = file.find(_HEAP)
    while at >= 0:
        head = file[at : at + _HEAP_HEADER]
        end = at + (struct.unpack("<Q", head[8:])[0] if len(head) == _HEAP_HEADER else 0)
        if not at + _HEAP_HEADER <= end <= len(file):
            return False
        here = at + _HEAP_HEADER
        while here + _OBJECT_HEADER <= end:
            index, _, _, size = struct.unpack("<HHIQ", file[here : here + _OBJECT_HEADER])
            step = _OBJECT_HEADER + -(-size // _ALIGNED) * _ALIGNED if index else size
            if not _OBJECT_HEADER <= step <= end - here:
                return False
            here += step
        at = file.find(_HEAP, at + len(_HEAP))
    return True
