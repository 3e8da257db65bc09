"""Large arrays lie in a mapped file: the same values, and no memory once they are let go."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import pytest

import ctenhance
from ctenhance.core.volume import CTVolume
from ctenhance.runtime import large

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="files are not mapped here")


def resident_bytes() -> int:
    """What of this process's mapped files is in its memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))


def mapped(array: np.ndarray) -> bool:
    owner: object = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    return isinstance(getattr(owner, "obj", owner), mmap.mmap)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory is told by Linux only")
def test_what_is_let_go_is_kept_but_not_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "LEAST_BYTES", 1 << 20)
    array = large.empty((64, 512, 512))
    assert mapped(array) and not mapped(np.empty(3))
    before = resident_bytes()
    array[...] = np.arange(64, dtype=np.float32)[:, None, None]
    assert resident_bytes() - before > 0.9 * array.nbytes
    large.let_go(array[3:5])  # a view is of the same file
    assert resident_bytes() - before < 0.1 * array.nbytes
    assert array[17, 100, 200] == 17 and array[63].min() == 63
    large.let_go(np.zeros(3))  # nothing happens


def test_slabs_are_all_slices_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "SLAB_BYTES", 3 * 4 * 25)
    array = np.zeros((8, 5, 5), np.float32)
    assert [array[slab].shape[0] for slab in large.slabs(array)] == [3, 3, 2]


def test_a_full_disk_means_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(large, "LEAST_BYTES", 1)
    monkeypatch.setattr(os, "posix_fallocate", full)
    array = large.empty((2, 3, 4))
    assert array.shape == (2, 3, 4) and not mapped(array)


@pytest.mark.parametrize("suffix", [".mha", ".nii.gz", ".nrrd"])
def test_a_large_volume_goes_through_files_and_enhancement_alike(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    array = rng.normal(0, 30, (5, 70, 64)).astype(np.float32)
    array[:, :10] = -1000
    volume = CTVolume(array, (0.7, 0.8, 2.0), (1.0, 2.0, 3.0))
    volume.write(tmp_path / f"small{suffix}")
    expected = ctenhance.enhance(volume, device="cpu").volumes["enhanced"].array
    monkeypatch.setattr(large, "LEAST_BYTES", 1)
    monkeypatch.setattr(large, "SLAB_BYTES", 2 * array[0].nbytes)
    read = ctenhance.read(tmp_path / f"small{suffix}")
    assert mapped(read.array)
    np.testing.assert_array_equal(read.array, array)
    assert read.identity()["sha256"] == volume.identity()["sha256"]
    found = ctenhance.enhance(read, device="cpu").volumes["enhanced"]
    assert mapped(found.array)
    np.testing.assert_array_equal(found.array, expected)
    read.write(tmp_path / f"large{suffix}")
    again = ctenhance.read(tmp_path / f"large{suffix}")
    np.testing.assert_array_equal(again.array, array)
    assert (again.spacing, again.origin) == (read.spacing, read.origin)
    whole = read.with_array(np.rint(read.array))
    whole.write(tmp_path / f"whole{suffix}")
    np.testing.assert_array_equal(ctenhance.read(tmp_path / f"whole{suffix}").array, np.rint(array))


@pytest.mark.parametrize("values", (24, 5, 0))
def test_memory_made_ready_ahead_is_nobody_elses(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "LEAST_BYTES", 1)
    with large.Ahead(values) as memory:
        array, another = memory.array((2, 3, 4)), memory.array((2, 3, 4))
        array[...], another[...] = 1, 2
    # Whatever was prepared, nothing goes through it any more, and it lives on.
    assert array.shape == (2, 3, 4) and array.dtype == np.float32 and array.min() == array.max() == 1
    assert another.min() == another.max() == 2


def test_memory_ahead_stops_when_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "LEAST_BYTES", 1)
    monkeypatch.setattr(large, "SLAB_BYTES", 4096)
    with large.Ahead(1 << 24) as memory:
        array = memory.array((1 << 24,))
        array.fill(7)
    assert array.min() == 7
    with large.Ahead(1 << 24):
        pass  # nobody wants it


def test_no_memory_ahead_is_told_by_whoever_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with large.Ahead(1 << 50) as memory, pytest.raises(MemoryError):
        memory.array((1 << 20, 1 << 15, 1 << 15))
