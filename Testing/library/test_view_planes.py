"""The planes of a volume, however its axes lie, and how volumes are shared."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError
from ctenhance.view.planes import PLANES, Plane
from ctenhance.view.shared import SharedVolume, require_same_grid, share


def shared(array: np.ndarray, path: Path, **grid: object) -> SharedVolume:
    return share(CTVolume(array.astype(np.float32), **grid), path)  # type: ignore[arg-type]


def test_whole_numbers_take_two_bytes_and_others_four(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    whole, other = random.integers(-1024, 3000, (3, 4, 5)), random.normal(0, 1, (3, 4, 5)).astype(np.float32)
    first, second = shared(whole, tmp_path / "a"), shared(other, tmp_path / "b")
    assert (first.kind, second.kind) == ("<i2", "<f4")
    assert np.array_equal(first.array(), whole) and np.array_equal(second.array(), other)
    assert first.nbytes == (tmp_path / "a").stat().st_size
    again = SharedVolume.of_json(first.to_json())
    assert again == first and not again.array().flags.writeable


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (1, -1, 1)])
def test_letters_and_slices_follow_the_patient(
    order: tuple[int, ...], signs: tuple[int, ...], tmp_path: Path
) -> None:
    direction = np.eye(3)[:, list(order)] * np.array(signs)
    volume = shared(np.zeros((4, 5, 6)), tmp_path / "a", spacing=(1.0, 2.0, 3.0), direction=direction)
    letters = {name: Plane.of(volume, name).letters() for name in PLANES}
    assert letters["axial"] == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    assert letters["coronal"] == {"left": "R", "right": "L", "top": "S", "bottom": "I"}
    assert letters["sagittal"] == {"left": "A", "right": "P", "top": "S", "bottom": "I"}
    matrix = volume.ijk_to_ras()
    for name in PLANES:
        plane = Plane.of(volume, name)
        assert plane.count == volume.shape[plane.axis]
        voxel = [(length - 1) / 2 for length in volume.shape]  # [z, y, x]
        for index in (0, plane.count - 1):
            voxel[plane.axis] = index
            assert np.allclose(plane.centre(index), (matrix @ [*voxel[::-1], 1])[:3])
            assert plane.index_of(plane.centre(index)) == index
        assert plane.index_of(plane.centre(0) - 100 * plane.step) == 0


def test_a_tilted_volume_keeps_its_own_planes(tmp_path: Path) -> None:
    angle = np.deg2rad(20)
    direction = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    volume = shared(np.zeros((4, 5, 6)), tmp_path / "a", direction=direction)
    axes = sorted(Plane.of(volume, name).axis for name in PLANES)
    assert axes == [0, 1, 2]
    plane = Plane.of(volume, "coronal")
    assert abs(float(plane.right @ plane.up)) < 1e-9 and abs(float(plane.right @ plane.normal)) < 1e-9


def test_other_grids_are_refused_in_one_sentence(tmp_path: Path) -> None:
    first = shared(np.zeros((3, 4, 5)), tmp_path / "a")
    require_same_grid(
        first, shared(np.zeros((3, 4, 5)), tmp_path / "b", origin=(0.01, 0, 0)), "second volume"
    )
    with pytest.raises(InputError, match="5 x 4 x 3 against 5 x 4 x 2 voxels"):
        require_same_grid(first, shared(np.zeros((2, 4, 5)), tmp_path / "c"), "second volume")
    with pytest.raises(InputError, match="up to 1 mm apart"):
        require_same_grid(
            first, shared(np.zeros((3, 4, 5)), tmp_path / "d", origin=(0, 1, 0)), "second volume"
        )
