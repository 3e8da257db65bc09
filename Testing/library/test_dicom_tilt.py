"""A tilted gantry: refused as ever, and laid straight where it is asked for, each voxel at its true place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy import ndimage
from synthetic_dicom import dataset, save, write_series
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError

ROWS, COLUMNS, SPACING = 64, 56, (0.8, 0.7)
START = np.array([-20.0, -25.0, -40.0])
STRAIGHT = {"GantryDetectorTilt": "resample"}


def phantom(points: np.ndarray) -> np.ndarray:
    """HU at places (mm, LPS) [..., 3]: smooth tissue that differs along all axes, and air behind a plane."""
    x, y, z = np.moveaxis(points, -1, 0)
    tissue = 60 * np.sin(x / 7) + 50 * np.cos(y / 6) + 40 * np.sin((z + y) / 9)
    return np.where(y > 12.0, -1000.0, tissue)


def orientation(angle: float, about: str) -> np.ndarray:
    turn = np.radians(angle)
    if about == "x":  # the gantry leans back or forth: columns run down at an angle
        return np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)]])
    return np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0]])  # as a swivelled table's


def plane_points(first: np.ndarray, axes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = np.indices(size)
    return first + columns[..., None] * SPACING[1] * axes[0] + rows[..., None] * SPACING[0] * axes[1]


def write_tilted(folder: Path, angle: float, about: str = "x", step: float = 3.0, count: int = 9) -> None:
    axes = orientation(angle, about)
    for index in range(count):
        position = START + index * step * np.array([0, 0, 1.0])
        values = np.rint(phantom(plane_points(position, axes, (ROWS, COLUMNS))))
        made = dataset(
            values, position, ImageOrientationPatient=axes.ravel().tolist(), PixelSpacing=list(SPACING),
            SliceThickness=3, InstanceNumber=index + 1, GantryDetectorTilt=angle,
        )  # fmt: skip
        save(made, folder / f"{index}.dcm")


@pytest.mark.parametrize("about", ["x", "y"])
@pytest.mark.parametrize("angle", [-25.0, -6.3, 6.3, 25.0])
def test_each_voxel_shows_what_is_at_its_place(tmp_path: Path, angle: float, about: str):
    write_tilted(tmp_path, angle, about)
    with pytest.raises(InputError, match=r"\(gantry tilt\).*with --resample-tilt"):
        CTVolume.read(tmp_path)
    volume = CTVolume.read(tmp_path, where=STRAIGHT)
    assert len(volume.array) == 9
    assert volume.spacing == pytest.approx((SPACING[1], SPACING[0], 3 * np.cos(np.radians(angle))), abs=1e-5)
    z, y, x = np.indices(volume.array.shape)
    places = np.stack([x, y, z], -1) * volume.spacing @ volume.direction.T + volume.origin
    true, shown = phantom(places), volume.array != -1024
    # Away from the edge of the air, where any interpolation is off.
    near = np.abs(places[..., 1] - 12.0) > 3.0
    inside = shown.copy()
    inside[:, 2:-2, 2:-2] &= (
        shown[:, 4:, 2:-2] & shown[:, :-4, 2:-2] & shown[:, 2:-2, 4:] & shown[:, 2:-2, :-4]
    )
    inside[:, :2], inside[:, -2:], inside[:, :, :2], inside[:, :, -2:] = False, False, False, False
    assert (inside & near).sum() > 0.6 * 9 * ROWS * COLUMNS
    assert np.abs(volume.array - true)[inside & near].max() < 2.5
    # The plane itself, per slice: where the mean of air and tissue is crossed.
    assert np.abs(np.abs(volume.array - true) > 100)[inside].mean() < 0.08
    note = next(one for one in volume.meta["notes"] if "gantry tilt" in one)
    assert f"tilt of {abs(angle):.1f} degrees" in note and "cubic B-spline" in note


def test_opposite_tilts_of_one_object_give_one_object(tmp_path: Path):
    """The sign is right both ways: a mirrored scan gives the mirrored volume."""
    write_tilted(tmp_path / "a", 15.0)
    write_tilted(tmp_path / "b", -15.0)
    one, other = (CTVolume.read(tmp_path / name, where=STRAIGHT) for name in "ab")
    z = START[2] + 12.0

    def at(volume: CTVolume, point: tuple[float, float, float]) -> float:
        index = (np.array(point) - volume.origin) @ volume.direction / volume.spacing
        x, y, k = np.rint(index).astype(int)
        return float(volume.array[k, y, x])

    for x, y in ((-5.0, -10.0), (3.0, 0.0), (8.0, 5.0)):
        assert at(one, (x, y, z)) == pytest.approx(at(other, (x, y, z)), abs=15)


def test_slices_that_move_by_whole_pixels_keep_their_values(tmp_path: Path):
    values = write_series(tmp_path, sideways=2 * 0.7)
    volume = CTVolume.read(tmp_path, where=STRAIGHT)
    for index, plane in enumerate(values):
        np.testing.assert_array_equal(volume.array[index, :, 2 * index : 2 * index + plane.shape[1]], plane)
    assert (volume.array[1, :, :2] == -1024).all() and volume.array.shape[2] == values.shape[2] + 6


def test_other_faults_stay_refused_and_straight_stacks_as_they_are(tmp_path: Path):
    write_series(tmp_path / "gap", depths=(0, 2.5, 5, 10, 12.5), sideways=1.0)
    with pytest.raises(InputError, match="missing") as caught:
        CTVolume.read(tmp_path / "gap", where=STRAIGHT)
    assert "--resample-tilt" not in str(caught.value)
    values = write_series(tmp_path / "straight")
    volume = CTVolume.read(tmp_path / "straight", where=STRAIGHT)
    np.testing.assert_array_equal(volume.array, values)
    assert volume.meta["notes"] == []
    write_series(tmp_path / "wild", depths=(0, 1, 2, 3), sideways=40.0)
    with pytest.raises(InputError, match="too far for a tilted gantry"):
        CTVolume.read(tmp_path / "wild", where=STRAIGHT)


def test_the_command_says_it_in_the_report(tmp_path: Path):
    write_tilted(tmp_path / "ct", 18.0)
    told = ["--samples", "1", "--strength", "0", "--report", str(tmp_path / "r.json")]
    given = ["enhance", str(tmp_path / "ct"), str(tmp_path / "o.nrrd")]
    assert CliRunner().invoke(app, [*given, *told]).exit_code == 2
    done = CliRunner().invoke(app, [*given, *told, "--resample-tilt"])
    assert done.exit_code == 0, done.output
    notes = json.loads((tmp_path / "r.json").read_text())["input"]["notes"]
    assert any("gantry tilt of 18.0 degrees" in note for note in notes)
    twice = CliRunner().invoke(app, [*given, "--resample-tilt", "--where", "GantryDetectorTilt=18"])
    assert twice.exit_code == 2 and "asked for twice" in twice.output


@pytest.mark.parametrize(("angle", "about"), [(-17.5, "x"), (12.0, "x"), (9.0, "y")])
def test_another_interpolator_gives_the_same(tmp_path: Path, angle: float, about: str):
    """Cubic splines by SciPy at the places in the patient, from the slices as they were scanned."""
    write_tilted(tmp_path, angle, about)
    draw = np.random.default_rng(4)
    scanned = []
    for path in sorted(tmp_path.iterdir()):
        image = pydicom.dcmread(path)
        noisy = image.pixel_array + draw.normal(0, 12, (ROWS, COLUMNS))
        image.PixelData = np.rint(np.clip(noisy, 0, None)).astype("<u2").tobytes()
        image.save_as(path)
        scanned.append(image)
    volume = CTVolume.read(tmp_path, where=STRAIGHT)
    axes = orientation(angle, about)
    widest = 0.0
    for index, (image, plane) in enumerate(zip(scanned, volume.array, strict=True)):
        rows, columns = np.indices(plane.shape)
        pixels = np.stack([columns, rows, np.full(plane.shape, index)], -1)
        places = pixels * volume.spacing @ volume.direction.T + volume.origin
        beside = places - np.array(image.ImagePositionPatient, float)
        assert np.abs(beside @ np.cross(axes[0], axes[1])).max() < 1e-3
        at = [beside @ axes[1] / SPACING[0], beside @ axes[0] / SPACING[1]]
        values = image.pixel_array - 1024.0
        other = ndimage.map_coordinates(values, at, order=3, mode="mirror")
        other = np.clip(other, min(values.min(), -1024), values.max())
        inside = (
            (at[0] > 2) & (at[0] < ROWS - 3) & (at[1] > 2) & (at[1] < COLUMNS - 3)
        )  # beyond, each fills up in its own way
        assert inside.mean() > 0.5
        widest = max(widest, float(np.abs(plane - other)[inside].max()))
    assert widest < 0.5
