"""Declared padding at HU that tissue or metal may have, and one value that fills all corners."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy import ndimage
from synthetic_dicom import hounsfield, write_series

from ctenhance import CTVolume
from ctenhance.core.ends import ends_of
from ctenhance.core.padding import doubt_of_padding, padding_to_air
from ctenhance.files.dicom.reading import read_dicom
from ctenhance.runtime.errors import InputError

NOTE = "padding outside the field of view set to -1024 HU"
SIDE = 64
Y, X = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
CORNERS = np.hypot(X, Y) > SIDE / 2


def _padded(value: int) -> np.ndarray:
    values = hounsfield(3, SIDE, SIDE).astype(np.int32)
    values[:, CORNERS] = value
    return values


def _as_unsigned(folder: Path) -> None:
    for path in folder.iterdir():
        made = pydicom.dcmread(path)
        made.PixelRepresentation = 0
        made.save_as(path)


@pytest.mark.parametrize("inside", [-1030, -1500, 40])
def test_negative_numbers_that_the_header_calls_unsigned(tmp_path: Path, inside: int) -> None:
    values = _padded(-3024)
    values[1, 30:33, 40:42] = inside
    signed = {"PixelRepresentation": 1, "PixelPaddingValue": -2000}
    write_series(tmp_path, values=values, depths=(0, 2, 4), **signed)
    assert NOTE in CTVolume.read(tmp_path).meta["notes"]
    _as_unsigned(tmp_path)
    if inside > -1024:  # padding is all that is negative
        volume = CTVolume.read(tmp_path)
        assert (volume.array[:, CORNERS] == -1024).all() and volume.array.max() < 200
        return
    with pytest.raises(InputError, match=rf"negative numbers \({inside} HU\) lost their sign.* unsigned"):
        CTVolume.read(tmp_path)


def test_negative_numbers_without_their_sign_and_without_padding_declared(tmp_path: Path) -> None:
    for name, values in (("padded", _padded(-3024)), ("air", hounsfield(3, SIDE, SIDE) - 60)):
        write_series(tmp_path / name, values=values, depths=(0, 2, 4), PixelRepresentation=1)
        assert CTVolume.read(tmp_path / name).array.max() < 200
        _as_unsigned(tmp_path / name)
        with pytest.raises(InputError, match="Pixel Representation 0 in place of 1"):
            CTVolume.read(tmp_path / name)


@pytest.mark.parametrize("value", [3071, 0, 40, -900, -1000, 1000, 32767 - 1024])
def test_declared_padding_of_any_value_becomes_air_in_the_corners(tmp_path: Path, value: int) -> None:
    values = _padded(value)
    values[1, 30:32, 40:44] = value  # as high inside: metal, water, tissue
    write_series(tmp_path, values=values, depths=(0, 2, 4), PixelPaddingValue=value + 1024)

    volume = CTVolume.read(tmp_path)

    assert (volume.array[:, CORNERS] == -1024).all() and (volume.array[1, 30:32, 40:44] == value).all()
    # A single pixel of that value beside it cannot be told from it.
    tissue = ~CORNERS & (values != value)
    np.testing.assert_array_equal(volume.array[tissue], values[tissue])
    assert volume.meta["notes"] == [NOTE]


def test_padding_that_is_air_as_it_is_needs_no_note(tmp_path: Path) -> None:
    write_series(tmp_path, values=_padded(-1024), depths=(0, 2, 4), PixelPaddingValue=0)
    assert CTVolume.read(tmp_path).meta["notes"] == []


@pytest.mark.parametrize(
    ("value", "declared", "known"), [(-1024, True, True), (500, True, True), (-2000, False, False)]
)
def test_the_ends_of_slices_are_those_of_the_values_as_they_are_given(
    tmp_path: Path, value: int, declared: bool, known: bool
) -> None:
    """They save another look at all voxels, and must not be those from before padding became air."""
    changes = {"PixelPaddingValue": value + 1024} if declared else {"PixelRepresentation": 1}
    write_series(tmp_path, values=_padded(value), depths=(0, 2, 4), **changes)
    volume, ends = read_dicom([tmp_path], None, None)
    assert (volume.array[:, CORNERS] == -1024).all()
    assert (ends is not None) is known
    if ends is not None:
        np.testing.assert_array_equal(ends, ends_of(volume.array))


def test_padding_in_some_of_the_corners(tmp_path: Path) -> None:
    """As where the image lies at the rim of the field of view."""
    values = hounsfield(3, SIDE, SIDE).astype(np.int32)
    outside = np.hypot(X + 20, Y + 20) > SIDE * 0.8
    values[:, outside] = 0
    write_series(tmp_path, values=values, depths=(0, 2, 4), PixelPaddingValue=1024)

    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, np.where(outside, -1024, values))


@pytest.mark.parametrize("seed", range(4))
def test_tissue_of_the_declared_value_stays(tmp_path: Path, seed: int) -> None:
    values = np.random.default_rng(seed).normal(50, 1.5, (3, SIDE, SIDE)).round().astype(np.int32)
    values[:, 20:40, 20:40] = -950 + values[:, 20:40, 20:40]  # lung, away from the edge
    values[:, 10:16, 10:16] = 50  # all alike, but no corner
    write_series(tmp_path, values=values, depths=(0, 2, 4), PixelPaddingValue=1024 + 50)

    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, values)


def test_a_range_that_covers_tissue_changes_none(tmp_path: Path) -> None:
    values = hounsfield(3, SIDE, SIDE)
    write_series(tmp_path, values=values, depths=(0, 2, 4), PixelPaddingValue=0, PixelPaddingRangeLimit=4095)

    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, values)


def test_high_padding_that_lossy_compression_blurred(tmp_path: Path) -> None:
    values = np.stack([ndimage.gaussian_filter(plane.astype(float), 0.6) for plane in _padded(3071)])
    values[:, CORNERS] += np.random.default_rng(0).integers(-3, 4, (3, CORNERS.sum()))
    write_series(tmp_path, values=values.round(), depths=(0, 2, 4), PixelPaddingValue=4095)

    volume = CTVolume.read(tmp_path)

    # At the edges' middles it is so thin that nothing is left of its value.
    thick = ndimage.binary_opening(CORNERS, np.ones((3, 3)))
    assert (volume.array[:, thick] == -1024).all() and volume.array.max() < 2000
    far = ndimage.distance_transform_cdt(~CORNERS, "taxicab") > 4
    np.testing.assert_array_equal(volume.array[:, far], values.round()[:, far])


@pytest.mark.parametrize("suffix", ["", ".nrrd"])
@pytest.mark.parametrize("value", [3071, 0])
def test_one_value_in_all_corners_is_noted(tmp_path: Path, value: int, suffix: str) -> None:
    values = _padded(value)
    write_series(tmp_path / "dicom", values=values, depths=(0, 2, 4))
    path = tmp_path / "dicom"
    if suffix:
        path = tmp_path / f"image{suffix}"
        CTVolume(values.astype(np.float32)).write(path)

    volume = CTVolume.read(path)

    np.testing.assert_array_equal(volume.array, values)
    assert any(f"one value, {value} HU, fills the corners" in note for note in volume.meta["notes"])


def test_one_value_in_the_corners_of_some_slices_is_noted(tmp_path: Path) -> None:
    values = _padded(-3024).astype(np.float32)
    values[1] = _padded(0)[1]
    CTVolume(values).write(tmp_path / "image.nii.gz")
    notes = CTVolume.read(tmp_path / "image.nii.gz").meta["notes"]
    assert any(f"one value, 0 HU, fills the corners of 1 of {len(values)} slices" in note for note in notes)


def test_padding_that_no_scanner_measures_needs_no_note_in_files(tmp_path: Path) -> None:
    CTVolume(_padded(-3024).astype(np.float32)).write(tmp_path / "image.nii.gz")
    assert CTVolume.read(tmp_path / "image.nii.gz").meta.get("notes", []) == []


def _round_field(filling: int, blur: float) -> np.ndarray:
    """Return slices of a body in a round field of view that touches the edges, blurred where that ends."""
    side = 256
    distance = np.hypot(*(np.mgrid[:side, :side] - side / 2))
    body = np.where(distance < 90, 40, -1000) + np.random.default_rng(1).normal(0, 15, (3, side, side))
    outside = distance > side / 2 - 1
    blurred = ndimage.gaussian_filter(np.where(outside, filling, body), (0, blur, blur))
    return np.where(ndimage.binary_dilation(outside, iterations=4), blurred, body).round()


FAR_INSIDE = np.hypot(*(np.mgrid[:256, :256] - 128)) < 108


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize(("filling", "blur"), [(-2000, 1.5), (-1524, 1.0), (-1600, 1.0), (-3024, 1.0)])
def test_blurred_padding_becomes_air_where_a_round_field_touches_the_edge(
    tmp_path: Path, filling: int, blur: float, declared: bool
) -> None:
    values = _round_field(filling, blur)
    header = {"PixelPaddingValue": filling} if declared else {}
    write_series(
        tmp_path, values=values, depths=(0, 2, 4), PixelRepresentation=1, RescaleIntercept=0, **header
    )

    volume = CTVolume.read(tmp_path)

    assert volume.meta["notes"] == [NOTE]
    assert (values < -1100).any() and not (volume.array < -1100).any()
    np.testing.assert_array_equal(volume.array[:, FAR_INSIDE], values[:, FAR_INSIDE])


def test_noise_of_air_beside_blurred_padding_stays() -> None:
    """Though much of it is as low as what the padding is mixed with."""
    values = _round_field(-3024, 1.0)
    values[:, FAR_INSIDE] += np.random.default_rng(2).normal(0, 150, (3, FAR_INSIDE.sum()))
    filled = values.copy()

    assert padding_to_air(filled, -1024) is not None

    np.testing.assert_array_equal(filled[:, FAR_INSIDE], values[:, FAR_INSIDE])


@pytest.mark.parametrize(("filling", "blur"), [(-2000, 1.0), (-1524, 1.0), (-3024, 0.7)])
def test_blurred_padding_is_noted_in_files(tmp_path: Path, filling: int, blur: float) -> None:
    values = _round_field(filling, blur).astype(np.float32)
    CTVolume(values).write(tmp_path / "image.nii.gz")

    volume = CTVolume.read(tmp_path / "image.nii.gz")

    np.testing.assert_array_equal(volume.array, values)
    (note,) = volume.meta["notes"]
    assert note.startswith(f"what lies outside its field of view, down to {filling} HU, is not of one value")


def test_sharp_padding_of_real_scans_is_not_said_to_be_blurred(shared_data: Path) -> None:
    folders = sorted((shared_data / "dicom").glob("lidc*"))
    if not folders:
        pytest.skip("the real DICOM series are not on this machine")
    for folder in folders:
        slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())[::8]]
        array = np.stack([pydicom.pixels.apply_rescale(one.pixel_array, one) for one in slices])
        assert array.min() < -1500
        assert doubt_of_padding(array, float(array.min())) == "", folder.name
