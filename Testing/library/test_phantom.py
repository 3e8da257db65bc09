"""The chest phantom: tissues at their HU, no noise, partial volume, fine vessels, true lengths."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ctenhance.core.volume import CTVolume
from ctenhance.physics.phantom import chest_phantom
from ctenhance.physics.vessel_tree import draw, grow
from ctenhance.runtime.errors import InputError


@pytest.fixture(scope="module")
def middle() -> CTVolume:
    """Two fine slices in the middle of the chest."""
    return chest_phantom(slices=2)


@pytest.fixture(scope="module")
def coarse() -> CTVolume:
    """The whole default range in few voxels."""
    return chest_phantom(rows=128, columns=128, slices=12, pixel_mm=2.8, spacing_mm=5.0)


def at(volume: CTVolume, x: float, y: float, z: float, radius: int = 2) -> np.ndarray:
    """The values about a place given in mm."""
    index = [round((p - o) / s) for p, o, s in zip((x, y, z), volume.origin, volume.spacing, strict=True)]
    return volume.array[
        index[2], index[1] - radius : index[1] + radius + 1, index[0] - radius : index[0] + radius + 1
    ]


def test_tissues_have_their_hounsfield_units(middle: CTVolume) -> None:
    for place, hu, tolerance in (
        ((25, 37, 0), 112, 1),  # descending aorta
        ((2, 3, 0), 112, 1),  # left atrium
        ((0, 60, 0), 38, 3),  # spinal cord
        ((-120, 0, 0), -862, 30),  # lung
        ((0, -130, 0), -1000, 0),  # air in front
    ):
        assert at(middle, *place).mean() == pytest.approx(hu, abs=tolerance), place


def test_the_volume_is_a_chest_without_noise(middle: CTVolume) -> None:
    values = middle.array
    assert values.dtype == np.float32
    assert values.min() == -1000
    assert 700 < values.max() < 1000
    assert at(middle, 25, 37, 0, radius=8).std() < 0.5
    body = values[0] > -500
    # Lung, bone and fat each take a believable part of the slice.
    area = 0.7 * 0.7 / 100
    filled = ndimage.binary_fill_holes(body)
    assert 450 < filled.sum() * area < 750
    assert 200 < ((values[0] < -700) & filled).sum() * area < 420
    assert 10 < (values[0] > 300).sum() * area < 60
    assert 40 < ((values[0] > -130) & (values[0] < -70)).sum() * area < 250


def test_the_lungs_hold_hundreds_of_vessels_and_edges_have_partial_volume(middle: CTVolume) -> None:
    slice_ = middle.array[0]
    lung = ndimage.binary_fill_holes(slice_ < -700) & ndimage.binary_fill_holes(slice_ > -500)
    vessels, count = ndimage.label((slice_ > -650) & lung)
    sizes = ndimage.sum_labels(np.ones_like(slice_), vessels, np.arange(1, count + 1))
    assert count > 200
    assert np.median(sizes) * 0.49 < 4  # most are a few mm² or less
    skin = np.abs(np.diff(slice_[256, :40]))
    assert (skin > 0).sum() >= 2  # not from air to skin in one step


def test_the_same_seed_gives_the_same_voxels_and_another_one_another_chest() -> None:
    arguments = {"rows": 64, "columns": 64, "slices": 1, "pixel_mm": 5.6}
    first = chest_phantom(**arguments, seed=4)
    assert np.array_equal(first.array, chest_phantom(**arguments, seed=4).array)
    assert not np.array_equal(first.array, chest_phantom(**arguments, seed=5).array)


def test_lengths_are_true_on_any_grid(middle: CTVolume, coarse: CTVolume) -> None:
    widths = []
    for volume in (middle, coarse):
        row = volume.array[volume.array.shape[0] // 2, volume.array.shape[1] // 2]
        widths.append(np.ptp(np.flatnonzero(row > -500)) * volume.spacing[0])
    assert widths[0] == pytest.approx(widths[1], abs=2 * 2.8)
    assert middle.origin[0] == pytest.approx(-0.7 * 255.5)
    assert coarse.origin[2] == pytest.approx(-27.5)


def test_the_range_goes_from_the_trachea_to_the_liver(coarse: CTVolume) -> None:
    assert at(coarse, -1, 5, 27.5, radius=0).max() < -800  # trachea
    assert at(coarse, -62, -6, -27.5, radius=1).mean() == pytest.approx(94, abs=8)  # liver
    assert at(coarse, -62, -6, 27.5, radius=1).mean() < -600  # lung above it


def test_nodules_are_there() -> None:
    volume = chest_phantom(rows=100, columns=100, slices=23, pixel_mm=2.0, spacing_mm=1.0)
    assert at(volume, -86, 20, 11, radius=0) == pytest.approx(38, abs=8)
    assert at(volume, 79, -34, 8, radius=1).mean() == pytest.approx(-610, abs=80)


@pytest.mark.parametrize(
    "wrong", [{"rows": 0}, {"slices": 0}, {"pixel_mm": 0.0}, {"spacing_mm": -1.0}, {"pixel_mm": float("nan")}]
)
def test_sizes_that_are_no_sizes_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="phantom"):
        chest_phantom(**{"rows": 8, "columns": 8, "slices": 1, **wrong})


@pytest.mark.parametrize("radius", [0.25, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("direction", [(1, 0, 0), (0, 0, 1), (0.6, 0.5, 0.62)])
def test_a_drawn_tube_fills_its_volume(radius: float, direction: tuple[float, float, float]) -> None:
    weight = np.zeros((40, 48, 48), np.float32)
    voxel = np.array([0.7, 0.7, 0.9])
    corner = -voxel * (np.array(weight.shape[::-1]) - 1) / 2 + 0.13
    way = np.array(direction) / np.linalg.norm(direction)
    draw(weight, np.array([[*(-10 * way), *(10 * way), radius, radius]]), corner, voxel)
    expected = np.pi * radius**2 * 20 + 4 / 3 * np.pi * radius**3
    # A tube along an axis may lie on voxel centres or between them: that cannot be exact below a voxel.
    tolerance = 0.04 if radius > 0.7 else 0.25
    assert weight.sum() * voxel.prod() == pytest.approx(expected, rel=tolerance)
    assert weight.max() <= 1


def test_a_tree_serves_every_point_and_keeps_murrays_law() -> None:
    points = np.random.default_rng(0).uniform(-20, 20, (200, 3))
    pieces = grow(np.array([-40.0, 0, 0]), np.array([1.0, 0, 0]), points, 0.3, murray_exponent=3.0)
    ends = pieces[:, 3:6]
    distance = np.linalg.norm(ends[None] - points[:, None], axis=2).min(1)
    assert distance.max() < 1e-9
    assert pieces[:, 6].max() == pytest.approx(0.3 * 200 ** (1 / 3))
    assert (pieces[:, 7] <= pieces[:, 6] + 1e-12).all()
    assert grow(np.zeros(3), np.array([1.0, 0, 0]), points[:3], 0.3, stop_below=5).shape == (0, 8)
