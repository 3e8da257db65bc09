"""Values that were cut off or began again from below, slices that are blank, rows and columns exchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 (its customary name)
from synthetic_dicom import write_series

from ctenhance import CTVolume
from ctenhance.core.drawn import doubt_of_marks
from ctenhance.core.limits import doubt_of_steps, limits_of, require_whole_words
from ctenhance.core.order import blank_slices, doubt_of_odd_slice, require_rows
from ctenhance.runtime.errors import InputError

Y, X = np.mgrid[:96, :96] - 48.0
R = np.hypot(X, Y * 1.2)


def body(slices: int = 4, metal: float = 0.0) -> np.ndarray:
    """Air, muscle, fat and a spine that is denser inside, HU [z, y, x]."""
    draw = np.random.default_rng(3)
    plane = np.select([R < 30, R < 38], [40.0, -100.0], -1000.0)
    plane += np.clip(1600 - 150 * np.hypot(X, Y - 14), 0, 1200)
    plane += metal * (np.hypot(X - 15, Y) < 4)
    return np.rint(plane + draw.normal(0, 10, (slices, 96, 96))).clip(-1024, 3071)


BODY = body()


def notes(folder: Path, values: np.ndarray) -> list[str]:
    write_series(
        folder, 2.5 * np.arange(len(values)), values=values, PixelRepresentation=1, RescaleIntercept=0
    )
    return list(CTVolume.read(folder).meta["notes"])


@pytest.mark.parametrize("ceiling", [120, 300, 1000])
def test_a_ceiling_is_told(tmp_path: Path, ceiling: int) -> None:
    (note,) = notes(tmp_path, BODY.clip(None, ceiling))
    assert f"cut off at {ceiling} HU" in note and "nothing above" in note


@pytest.mark.parametrize("floor", [-200, -500])
def test_a_floor_is_told_and_not_as_odd_corners(tmp_path: Path, floor: int) -> None:
    (note,) = [one for one in notes(tmp_path, BODY.clip(floor, None)) if "no air" not in one]
    assert f"cut off at {floor} HU" in note and "nothing below" in note


def test_a_window_is_told_of_eight_bits_too(tmp_path: Path) -> None:
    for name, step in (("exact", 1.0), ("eight bits", 400 / 255)):
        values = np.rint(np.rint((BODY.clip(-160, 240) + 160) / step) * step - 160)
        (note,) = [one for one in notes(tmp_path / name, values) if "no air" not in one]
        assert "cut off at -160 and at 240 HU, as where a window was applied" in note


@pytest.mark.parametrize("least", [-1024, -1000])  # air as measured, and as cut off by the scanner
def test_a_slope_that_is_ten_times_too_small_is_told_as_such(tmp_path: Path, least: int) -> None:
    write_series(tmp_path, values=BODY.clip(least, None))
    for path in tmp_path.iterdir():
        made = pydicom.dcmread(path)
        made.RescaleSlope, made.RescaleIntercept = "0.1", "-102.4"
        made.save_as(path)
    assert any("rescale slope" in note for note in CTVolume.read(tmp_path).meta["notes"])


def test_scanners_limits_are_none() -> None:
    for values in (BODY, body(metal=5000), BODY.clip(-1000, None), BODY[:, 30:66, 30:66]):
        assert not str(limits_of(values))
        require_whole_words(values)


@pytest.mark.parametrize(
    "largest, span", [(250, 2048), (400, 2048), (900, 4096)], ids=["soft", "bone", "twelve bits"]
)
def test_values_that_begin_again_are_refused(tmp_path: Path, largest: int, span: int) -> None:
    wrapped = np.where(largest < BODY, BODY - span, BODY)
    with pytest.raises(InputError, match="did not fit into the bits of a value"):
        notes(tmp_path, wrapped)
    image = sitk.GetImageFromArray(wrapped.astype(np.int16))
    sitk.WriteImage(image, str(tmp_path / "wrapped.nii"))
    with pytest.raises(InputError, match="did not fit into the bits of a value"):
        CTVolume.read(tmp_path / "wrapped.nii")


def test_what_was_drawn_at_the_highest_value_and_metal_have_not_lost_their_signs() -> None:
    for intercept in (0, -1000, -1024, -8192):
        require_whole_words(np.where(BODY > 300, 65535.0 + intercept, BODY))
    require_whole_words(body(metal=30000))
    for lost in (BODY - 200 + 65536 * (BODY < -824), np.where(BODY > 300, 65536.0 - 3024, BODY)):
        with pytest.raises(InputError, match="lost their sign"):
            require_whole_words(lost)


def test_blank_slices_are_told_and_not_as_no_order(tmp_path: Path) -> None:
    values = np.concatenate([BODY, body(10) + 1, body(4)[::-1]])
    values = values + np.arange(len(values))[:, None, None] * 2
    values[6] = -1024
    (note,) = notes(tmp_path, values)
    assert "slice 7 of 18" in note and "holds one value only" in note
    assert blank_slices(values) == [6]
    values[[0, 1, -1]] = -1024  # as added around a volume
    assert blank_slices(values) == [6]


def test_one_slice_of_another_scan(tmp_path: Path) -> None:
    values = body(8)
    for index in range(8):
        values[index] = np.where(20 + 2 * index > R, 40, values[index])
    values[5] = np.where(np.roll(R, 20, axis=1) < 20, 60, -1000) + BODY[0] % 9
    (note,) = notes(tmp_path, values)
    assert "slice 6 " in note and "unlike the one before and the one behind it" in note


def test_marks_that_were_drawn_into_the_images(tmp_path: Path) -> None:
    values = body(6)
    assert not doubt_of_marks(values) and not doubt_of_marks(body(6, metal=6000))
    values[:, 4:12, 5:40:3] = 1500
    (note,) = notes(tmp_path, values)
    assert "the same marks stand in all slices (the first in row 4, column 4," in note


@pytest.mark.parametrize("pitch, thickness, noted", [(0.1, 5, True), (1.0, 5, False), (0.25, 0.25, False)])
def test_images_of_one_place_at_several_times(
    tmp_path: Path, pitch: float, thickness: float, noted: bool
) -> None:
    write_series(tmp_path, pitch * np.arange(6), values=body(6), SliceThickness=thickness)
    found = [
        note for note in CTVolume.read(tmp_path).meta["notes"] if "of one place at several times" in note
    ]
    assert len(found) == noted


def test_exchanged_rows_and_columns_are_refused() -> None:
    part = BODY[:, :80]
    require_rows(part)
    for values in (part, BODY[:, :, 8:70]):
        rows, columns = values.shape[1:]
        with pytest.raises(InputError, match=f"as {rows} rows of {columns} pixels .* exchanged the two"):
            require_rows(np.ascontiguousarray(values).reshape(-1, columns, rows))


def test_no_real_scan_has_any_of_it(shared_data: Path) -> None:
    for path in sorted(shared_data.glob("ct/*.nii.gz")) + sorted(shared_data.glob("singles/*.nii.gz")):
        array = np.atleast_3d(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))).astype(np.float32)[::3]
        part = slice(array.shape[1] // 4, -array.shape[1] // 4)
        for piece in (array, array[:, part, part], array[:1], array[:, part]):
            assert not str(limits_of(piece)) and not blank_slices(piece), path.name
            assert not doubt_of_marks(piece), path.name
            require_whole_words(piece)
            require_rows(piece)
        require_whole_words(np.ascontiguousarray(array.transpose(1, 0, 2)[::2]))
        assert not doubt_of_odd_slice(np.ascontiguousarray(array.transpose(1, 0, 2)))
        if not path.name.startswith("phantom"):
            assert limits_of(array.clip(None, 300)).ceiling == 300
            with pytest.raises(InputError):
                require_whole_words(np.where(array > 200, array.clip(None, 1000) - 2048, array))


def test_soft_tissue_that_was_cut_off_at_water_is_noted(tmp_path: Path) -> None:
    assert limits_of(BODY).ceiling is None
    for ceiling in (0, -50):
        assert limits_of(BODY.clip(None, ceiling)).ceiling == ceiling
    lung = np.random.default_rng(1).normal(-850, 40, (4, 64, 64)).clip(-1024, -600)
    assert limits_of(lung).ceiling is None


@pytest.mark.parametrize("step", [8, 16, 64])
def test_values_that_went_through_few_bits_are_noted(tmp_path: Path, step: int) -> None:
    coarse = np.round(BODY / step) * step
    assert f"its values are {step} HU apart" in doubt_of_steps(coarse)
    assert any("HU apart" in note for note in notes(tmp_path, coarse))
    wide = np.where(coarse > coarse.max() - 1, 32000, coarse - 31000 * (coarse < -900)).astype(np.int16)
    assert "HU apart" in doubt_of_steps(wide)  # from end to end more than int16 can hold
    assert doubt_of_steps(BODY) == doubt_of_steps(BODY / 3) == doubt_of_steps(np.round(BODY / 2) * 2) == ""


@pytest.mark.parametrize("columns", range(1, 9))
def test_slices_of_a_few_columns_hold_no_text(columns: int) -> None:
    noise = np.random.default_rng(0).normal(0, 12, (3, 4, columns)).astype(np.float32)
    assert doubt_of_marks(noise) == ""
