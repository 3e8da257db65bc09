"""Projection files that HDF5's library would not come back from: heaps of texts without an end.

No file here is such a one: heaps are looked at that no HDF5 file holds, and what opening does is replaced.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from projection_cases import fan, saved

from ctenhance import read_projections
from ctenhance.files import heaps
from ctenhance.runtime.errors import InputError


def _heap(*objects: tuple[int, int], room: int = 96) -> bytes:
    """A heap of objects by index and size, as far as there is room for what they say."""
    held = b"".join(struct.pack("<HHIQ", index, 1, 0, size) + bytes(16) for index, size in objects)
    return (b"GCOL\1\0\0\0" + struct.pack("<Q", 16 + room) + held).ljust(16 + room, b"\0")


def _no_child(*arguments: object, **keywords: object) -> None:
    raise AssertionError("a child was started")


def _judged(tmp_path: Path, heap: bytes) -> bool:
    """Whether the heap is doubted, in a file that has an HDF5 file's first bytes and nothing else of one."""
    path = tmp_path / "heap.ctproj.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(5) + b"\x08\x08\0" + bytes(100) + heap)
    try:
        heaps.require_open(path)
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize(
    ("heap", "doubted"),
    [
        (_heap((1, 16), (2, 16), (0, 32)), False),
        (_heap((1, 16), (2, 16), (3, 16)), False),
        (_heap((1, 13), (2, 9), (0, 32)), False),
        (_heap((1, 16), (0, 0), (0, 32)), True),
        (_heap((1, 16), (0, 8), (0, 32)), True),
        (_heap((1, 16), (2, 2**64 - 16), (0, 32)), True),
        (_heap((1, 16), (2, 2**64 - 1), (0, 32)), True),
        (_heap((1, 64), (2, 16), (0, 32)), True),
        (_heap((1, 16), (2, 16), (0, 32))[:-1], True),
        (b"GCOL\1\0\0\0\1", True),
        (b"GCOL\2", False),
        (_heap((1, 16), (2, 16), (0, 32)) + _heap((0, 0)), True),
        (_heap((1, 16), (2, 16), (0, 32)).replace(b"\1\0\0\0", b"\1abc", 1), False),
    ],
)
def test_a_heap_without_an_end_is_doubted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heap: bytes, doubted: bool
) -> None:
    monkeypatch.setattr(subprocess, "run", _no_child)
    assert _judged(tmp_path, heap) is doubted


def test_sound_files_start_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", _no_child)
    path = tmp_path / "scan.ctproj.h5"
    saved(path, fan())
    with h5py.File(path, "r+") as file:
        for number in range(300):  # heaps that fill up, and one with a hole in it
            file.attrs[f"said {number}"] = "x" * (number * 7 % 400)
        del file.attrs["said 30"]
    heaps.require_open(path)
    assert read_projections(path).shape == fan().shape


def test_readings_that_look_like_a_heap_are_read(tmp_path: Path) -> None:
    """The child opens them in time, and nobody hears of it."""
    scan = fan()
    like = np.frombuffer(b"GCOL\1\0\0\x46", "<f4")
    scan.counts[0, 0, :2] = like
    path = tmp_path / "scan.ctproj.h5"
    saved(path, scan)
    assert b"GCOL\1" in path.read_bytes()
    np.testing.assert_array_equal(read_projections(path).counts[0, 0, :2], like)


@pytest.mark.parametrize("lengths", [4, 200])
def test_what_does_not_end_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lengths: int
) -> None:
    path = tmp_path / "scan.ctproj.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(5) + bytes([8, lengths]) + bytes(100))
    monkeypatch.setattr(heaps, "_WAIT", 0.5)
    monkeypatch.setattr(heaps, "_OPENING", "while True: pass")
    with pytest.raises(InputError, match=r"^Cannot read .* opening it does not end; copy it again"):
        read_projections(path)


def test_what_ends_a_process_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "heap.h5"
    path.write_bytes(_heap((0, 0)))
    monkeypatch.setattr(heaps, "_OPENING", "import os; os.abort()")
    with pytest.raises(InputError, match="opening it does not end"):
        heaps.require_open(path)
    monkeypatch.setattr(heaps, "_OPENING", "raise OSError('no HDF5 file')")
    heaps.require_open(path)  # whoever opens it meets that again, and says what it is
