"""One slice that is off, smooth or noisy is told, and what bodies do from slice to slice is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from ctenhance.core.one_slice import doubt_of_one_slice
from ctenhance.core.volume import CTVolume


def stack(count: int = 10, seed: int = 0) -> np.ndarray:
    """HU [z, y, x] of a body that grows along z, with noise."""
    y, x = np.mgrid[:96, :96] - 47.5
    planes = [np.where(np.hypot(x / (30 + z), y / (24 + z)) < 1, 45.0, -1000.0) for z in range(count)]
    return np.stack(planes) + np.random.default_rng(seed).normal(0, 15, (count, 96, 96))


def smooth(plane: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(plane, 1.5)


def noisy(plane: np.ndarray) -> np.ndarray:
    return plane + np.random.default_rng(9).normal(0, 45, plane.shape)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda plane: plane + 60, "slice 6 of 10 (counted as they are stored) lies +60 HU from both"),
        (lambda plane: plane - 25, "lies -25 HU from both"),
        (smooth, "slice 6 of 10 (counted as they are stored) is much smoother"),
        (noisy, "slice 6 of 10 (counted as they are stored) is much noisier"),
        (lambda plane: plane, ""),
        (lambda plane: np.where(plane > -500, plane + 60, plane), ""),  # a body alone: contrast agent
    ],
)
def test_one_slice_unlike_the_others_is_told(change: Callable, said: str) -> None:
    array = stack()
    array[5] = change(array[5])
    found = doubt_of_one_slice(array.astype(np.float32))
    assert said in found and bool(found) == bool(said)


def test_steps_and_modulated_noise_are_not() -> None:
    array = stack(16)
    array[8:] += 60  # two blocks of slices: told by others
    assert not doubt_of_one_slice(array.astype(np.float32))
    waves = stack(16) + np.random.default_rng(1).normal(0, 1, (16, 96, 96)) * (
        10 + 8 * np.sin(np.arange(16))[:, None, None]
    )
    assert not doubt_of_one_slice(waves.astype(np.float32))
    assert not doubt_of_one_slice(stack(4).astype(np.float32))


def test_reading_notes_it(tmp_path: Path) -> None:
    array = stack()
    array[3] = smooth(array[3])
    CTVolume(array.astype(np.float32), (0.8, 0.8, 3.0), (-30, -20, 5)).write(tmp_path / "a.nrrd")
    notes = CTVolume.read(tmp_path / "a.nrrd").meta["notes"]
    assert any("slice 4 of 10" in note and "smoother" in note for note in notes)
