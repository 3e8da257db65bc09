"""Where slices lie: rounded positions are an even stack, gaps and tilts are none, and each has its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_refusal import refusal
from synthetic_dicom import AXIAL, dataset, hounsfield, save, write_series

from ctenhance.core.volume import CTVolume

OBLIQUE = (0.96, 0.28, 0.0, -0.224, 0.768, 0.6)


def write_at(folder: Path, positions: np.ndarray, orientation: tuple[float, ...] = AXIAL) -> np.ndarray:
    values = hounsfield(len(positions))
    for index, (plane, position) in enumerate(zip(values, positions, strict=True)):
        made = dataset(plane, position, ImageOrientationPatient=list(orientation))
        save(made, folder / f"{index}.dcm")
    return values


@pytest.mark.parametrize(
    "spacing", [0.25, 0.28, 0.3, 0.33, 0.4, 0.45, 0.5, 0.6, 0.625, 0.67, 0.75, 0.8, 1.25]
)
@pytest.mark.parametrize("count", [5, 60])
@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_positions_rounded_to_a_tenth_lie_on_a_line(
    tmp_path: Path, spacing: float, count: int, orientation: tuple[float, ...]
):
    normal = np.cross(orientation[:3], orientation[3:])
    true = np.array([-100.03, -90.07, -400.04]) + spacing * np.arange(count)[:, None] * normal
    values = write_at(tmp_path, true.round(1), orientation)
    volume = CTVolume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, values)
    # The end slices alone would be off by up to a tenth of a millimetre.
    assert abs(volume.spacing[2] - spacing) * (count - 1) < 0.15
    for index in (0, count // 2, count - 1):
        place = np.array(volume.origin) + index * volume.spacing[2] * volume.direction[:, 2]
        assert np.abs(place - true[index]).max() < 0.12


def test_the_line_goes_through_all_slices_and_not_through_the_two_at_the_ends(tmp_path: Path):
    depths = np.arange(41) * 0.3
    depths[-1] += 0.025
    write_at(tmp_path, np.outer(depths, (0, 0, 1)))
    assert CTVolume.read(tmp_path).spacing[2] == pytest.approx(0.3, abs=3e-4)  # by the ends: 0.300625


@pytest.mark.parametrize("spacing", [0.25, 0.3, 0.4, 0.5, 0.625, 0.8, 1.0])
@pytest.mark.parametrize("place", [1, 2, 7, 13])
@pytest.mark.parametrize("digits", [1, 2, 6])
def test_a_missing_slice_is_seen_among_rounded_positions(
    tmp_path: Path, spacing: float, place: int, digits: int
):
    depths = np.delete(np.arange(15) * spacing, place).round(digits)
    write_at(tmp_path, np.outer(depths, (0, 0, 1)))
    assert "missing" in refusal(tmp_path) or "unevenly spaced" in refusal(tmp_path)


@pytest.mark.parametrize("spacing", [0.3, 0.5, 0.8])
def test_two_distances_are_seen_among_rounded_positions(tmp_path: Path, spacing: float):
    steps = np.cumsum([spacing] * 10 + [1.5 * spacing] * 10).round(1)
    write_at(tmp_path, np.outer(steps, (0, 0, 1)))
    assert "unevenly spaced" in refusal(tmp_path)


def test_exact_positions_give_the_exact_grid(tmp_path: Path):
    write_series(tmp_path, depths=np.arange(7) * 0.625)
    volume = CTVolume.read(tmp_path)
    assert volume.spacing[2] == 0.625 and volume.origin == (-100.0, -90.0, -400.0)


def tilted(angle: float, places: list[float]) -> tuple[np.ndarray, tuple[float, ...]]:
    """Return positions along the table and the orientation of slices behind a tilted gantry."""
    turn = np.radians(angle)
    return np.outer(places, (0, 0, 1)), (1, 0, 0, 0, float(np.cos(turn)), float(-np.sin(turn)))


@pytest.mark.parametrize("angle", [-25.0, 5.0, 18.5])
@pytest.mark.parametrize(
    ("places", "also", "file"),
    [
        ([0, 4, 8, 12, 16, 20], "", "_Tilt"),
        ([0, 4, 8, 12, 19, 26], ", and unevenly spaced: between", "_Tilt_Eq"),
        ([0, 4, 8, 12, 20, 24], ", and a slice is missing between", "_Tilt"),
        ([0, 7, 14, 18, 22, 26, 30], ", and unevenly spaced: between", "_Tilt_Eq"),
    ],
)
def test_a_tilt_is_called_a_tilt_however_the_slices_are_spaced(
    tmp_path: Path, angle: float, places: list[float], also: str, file: str
):
    write_at(tmp_path, *tilted(angle, places))
    sentence = refusal(tmp_path)
    assert f"its slices are sheared by {abs(angle):.1f} degrees (gantry tilt){also}" in sentence
    assert f"take the one with {file} in its name" in sentence
    assert "one centre" not in sentence
    assert "export the complete series" in sentence or "a slice is missing" not in sentence


def test_a_sideways_shift_beside_uneven_spacing_names_both(tmp_path: Path):
    write_at(tmp_path, np.array([(0, 0, 0), (0, 0, 2), (3, 0, 4), (3, 0, 7), (0, 0, 9.5)]))
    sentence = refusal(tmp_path)
    assert "shifted sideways against each other" in sentence and "unevenly spaced" in sentence
    assert "one centre" in sentence


def test_uneven_slices_and_which_file_of_dcm2niix_is_meant(tmp_path: Path):
    write_at(tmp_path, np.outer([0, 2, 4, 7, 10, 13], (0, 0, 1)))
    assert "take the one with _Eq in its name" in refusal(tmp_path)


def test_the_thickness_that_changes_at_a_gap_is_named(tmp_path: Path):
    write_series(tmp_path, depths=(0, 2.5, 5, 7.5), prefix="a", SliceThickness=2.5)
    write_series(tmp_path, depths=(12.5, 17.5, 22.5), prefix="b", SliceThickness=5)
    assert "where SliceThickness changes from 2.5 to 5" in refusal(tmp_path)


def write_rounded(folder: Path, depths: np.ndarray, numbers: list[int], **changes: object) -> None:
    for index, depth in enumerate(depths):
        place = (-124.63, -101.5, float(depth))
        save(
            dataset(hounsfield(1, seed=index)[0], place, InstanceNumber=numbers[index], **changes),
            folder / f"{index}.dcm",
        )


@pytest.mark.parametrize("spacing", [1.25, 1.5, 1.75, 2.5, 3.3])
@pytest.mark.parametrize("told", [{}, {"SliceThickness": None}, {"SpacingBetweenSlices": 0.0}])
def test_positions_rounded_to_whole_millimetres(tmp_path: Path, spacing: float, told: dict[str, object]):
    true = -311.6 + spacing * np.arange(24)
    changes = {"SliceThickness": spacing, **{name: value or spacing for name, value in told.items()}}
    if told.get("SliceThickness", 1) is None:
        changes = {"SliceThickness": None}
    write_rounded(tmp_path, true.round(), list(range(1, 25)), **changes)
    volume = CTVolume.read(tmp_path)
    # The thickness tells the distance exactly; without it there is a line through all.
    near = 1e-6 if "SliceThickness" not in told else 0.03
    assert volume.spacing[2] == pytest.approx(spacing, abs=near)
    places = volume.origin[2] + volume.spacing[2] * np.arange(24)
    assert np.abs(places - true).max() < 0.6
    assert any("rounded to whole millimetres" in note for note in volume.meta["notes"])


def test_a_missing_slice_is_seen_among_positions_in_whole_millimetres(tmp_path: Path):
    """0, 1, 2, 4, 5, 6 are slices of 1.25 mm, or of 1 mm of which one is missing."""
    numbers = [1, 2, 3, 5, 6, 7]
    depths = np.array([0, 1, 2, 4, 5, 6])
    write_rounded(tmp_path / "missing", depths, numbers, SliceThickness=1)
    assert "a slice is missing between 2.00 and 4.00 mm" in refusal(tmp_path / "missing")
    write_rounded(tmp_path / "unsaid", depths, [1] * 6, SliceThickness=None)
    assert "a slice is missing" in refusal(tmp_path / "unsaid")
    write_rounded(tmp_path / "renumbered", depths, list(range(1, 7)), SliceThickness=1)
    assert "a slice is missing" in refusal(tmp_path / "renumbered")
    write_rounded(tmp_path / "rounded", depths, list(range(1, 7)), SliceThickness=1.25)
    assert CTVolume.read(tmp_path / "rounded").spacing[2] == 1.25


@pytest.mark.parametrize("spacing", [1.25, 1.5, 2.0, 2.5])
@pytest.mark.parametrize("place", [2, 7, 13])
def test_one_slice_of_many_in_whole_millimetres_is_missed(tmp_path: Path, spacing: float, place: int):
    depths = np.delete((np.arange(16) * spacing).round(), place)
    numbers = np.delete(np.arange(1, 17), place).tolist()
    write_rounded(tmp_path / "numbered", depths, numbers, SliceThickness=spacing)
    write_rounded(tmp_path / "alike", depths, [1] * 15, SliceThickness=spacing)
    for folder in ("numbered", "alike"):
        sentence = refusal(tmp_path / folder)
        assert "missing" in sentence or "unevenly spaced" in sentence


@pytest.mark.parametrize(
    ("spacing", "lost", "count"), [(1.25, [9], "a slice is"), (2.5, [3, 9], "2 slices are")]
)
@pytest.mark.parametrize("told", ["numbers", "numbers from 0", "thickness"])
def test_lost_slices_are_counted_though_positions_are_rounded(
    tmp_path: Path, spacing: float, lost: list[int], count: str, told: str
):
    kept = np.delete(np.arange(20), lost)
    depths = (0.03 + spacing * kept).round()
    counted = {"numbers": kept + 1, "numbers from 0": kept, "thickness": np.ones_like(kept)}
    numbers = counted[told].tolist()
    write_rounded(tmp_path, depths, numbers, SliceThickness=spacing if told == "thickness" else 5)
    sentence = refusal(tmp_path)
    place = f"between {depths[lost[0] - 1]:.2f} and {depths[lost[0]]:.2f} mm"
    assert f"{count} missing" in sentence and place in sentence
    assert "mm apart, their positions rounded" in sentence and "exact positions" in sentence


def test_how_many_slices_are_lost_is_left_open_where_rounding_hides_it(tmp_path: Path):
    kept = np.delete(np.arange(20), 9)
    write_rounded(tmp_path / "rounded", (1.25 * kept).round(), [1] * 19, SliceThickness=2.5)
    sentence = refusal(tmp_path / "rounded")
    assert "look rounded to whole millimetres" in sentence and "cannot be told how many" in sentence
    # The numbers say that these are 1 mm apart.
    kept = np.delete(np.arange(20), [2, 6, 10, 11, 15])
    write_rounded(tmp_path / "whole", kept, (kept + 1).tolist(), SliceThickness=2.5)
    assert "5 slices are missing, 2 of them between 9.00 and 12.00 mm" in refusal(tmp_path / "whole")


def test_whole_millimetres_are_no_shift_beside_the_axis(tmp_path: Path):
    write_at(tmp_path, np.array([(0, 0, 0), (0, 0, 5), (1, 0, 10), (1, 0, 15)]))
    assert "shifted sideways" in refusal(tmp_path)
