"""Headers that give lengths in other units, no place in the patient, or another unit of the values."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its customary name)
from synthetic_dicom import hounsfield, write_series

from ctenhance import CTVolume
from ctenhance.runtime.errors import InputError, NotCTError

UNPLACED = "its header does not say where the volume lies: left and right and the position may be wrong"
DIRECTIONS = "space directions: (0.8,0,0) (0,0.8,0) (0,0,2)"


def _nrrd(path: Path, said: str) -> Path:
    values = hounsfield(4)
    size = " ".join(str(length) for length in values.shape[::-1])
    start = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {size}\nencoding: raw\nendian: little\n"
    path.write_bytes(f"{start}{said}\n\n".encode() + values.astype("<i2").tobytes())
    return path


def _mha(path: Path, said: str) -> Path:
    values = hounsfield(4)
    size = " ".join(str(length) for length in values.shape[::-1])
    start = (
        f"ObjectType = Image\nNDims = 3\nDimSize = {size}\nBinaryData = True\nElementSpacing = 0.8 0.8 2\n"
    )
    end = "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    path.write_bytes(f"{start}{said}\n{end}".encode() + values.astype("<i2").tobytes())
    return path


def _notes(path: Path) -> list[str]:
    return CTVolume.read(path).meta.get("notes", [])


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_a_patient_in_metres_is_refused(tmp_path: Path, name: str) -> None:
    image = sitk.GetImageFromArray(hounsfield(4, 64, 64))
    image.SetSpacing((0.0008, 0.0008, 0.002))
    sitk.WriteImage(image, str(tmp_path / name))

    with pytest.raises(InputError, match=r"would be 0.0008 x 0.0008 x 0.002 mm, and its slices 0.05"):
        CTVolume.read(tmp_path / name)


def test_a_nifti_file_that_names_no_unit(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(hounsfield(4, 64, 64))
    image.SetSpacing((0.0008, 0.0008, 0.002))
    path = tmp_path / "a.nii"
    sitk.WriteImage(image, str(path))
    content = bytearray(path.read_bytes())
    content[123] = 0  # xyzt_units
    path.write_bytes(content)

    with pytest.raises(InputError, match="as if its header gave lengths in another unit"):
        CTVolume.read(path)
    struct.pack_into("<B", content, 123, 1)  # metres
    path.write_bytes(content)
    np.testing.assert_allclose(CTVolume.read(path).spacing, (0.8, 0.8, 2.0), rtol=1e-5)


@pytest.mark.parametrize(
    "pixel, words", [(0.0008, "0.0128 x 0.0096 mm wide .* metres"), (800, "voxels would be 800 x 800 x ")]
)
def test_a_dicom_series_in_another_unit(tmp_path: Path, pixel: float, words: str) -> None:
    write_series(tmp_path, depths=(0, 2.5 * pixel, 5 * pixel), values=hounsfield(3), PixelSpacing=[pixel] * 2)
    with pytest.raises(InputError, match=words):
        CTVolume.read(tmp_path)


@pytest.mark.parametrize("pixel", [35.0, 9.77])
def test_lengths_in_micrometres_or_tenths_are_refused(tmp_path: Path, pixel: float) -> None:
    values = hounsfield(4, 64, 256)
    write_series(tmp_path, depths=pixel * np.arange(4), values=values, PixelSpacing=[pixel] * 2)
    with pytest.raises(InputError, match=rf"and it {256 * pixel:.4g} mm wide, as if its header gave lengths"):
        CTVolume.read(tmp_path)


@pytest.mark.parametrize("pixel, noted", [(5.0, True), (3.5, False)])
def test_a_field_wider_than_any_scanners_is_noted(tmp_path: Path, pixel: float, noted: bool) -> None:
    write_series(tmp_path, depths=range(4), values=hounsfield(4, 64, 256), PixelSpacing=[pixel] * 2)
    assert any("more than any scanner's field" in note for note in _notes(tmp_path)) == noted


def test_a_coronal_image_of_a_whole_body_may_be_two_metres_long(tmp_path: Path) -> None:
    values = hounsfield(4, 210, 64)
    write_series(
        tmp_path, values=values, orientation=(1, 0, 0, 0, 0, -1), PixelSpacing=[10, 8], depths=range(4)
    )
    assert not any("wide" in note for note in _notes(tmp_path))


def test_pixels_smaller_than_of_any_patient_are_noted(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(hounsfield(4, 64, 64))
    image.SetSpacing((0.08, 0.08, 0.2))
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    assert any("its pixels are 0.08 mm wide" in note for note in _notes(tmp_path / "a.nrrd"))


@pytest.mark.parametrize(
    "said, noted",
    [
        ("spacings: 0.8 0.8 2", True),
        (f"space: scanner-xyz\n{DIRECTIONS}", True),
        (f"space: left-posterior-superior\n{DIRECTIONS}", False),
        (f"space: RAS\n{DIRECTIONS}", False),
    ],
)
def test_a_nrrd_file_that_does_not_say_where_it_lies(tmp_path: Path, said: str, noted: bool) -> None:
    assert (UNPLACED in _notes(_nrrd(tmp_path / "a.nrrd", said))) == noted


@pytest.mark.parametrize(
    "said, noted",
    [("", True), ("Offset = 1 2 3", False), ("TransformMatrix = 1 0 0 0 1 0 0 0 1", False)],
)
def test_a_meta_image_that_does_not_say_where_it_lies(tmp_path: Path, said: str, noted: bool) -> None:
    assert (UNPLACED in _notes(_mha(tmp_path / "a.mha", said))) == noted


@pytest.mark.parametrize(
    "size, contradicts", [("1.684 1.684 5", True), ("0.8 0.8 5", False), ("0.8 0.8 2", False), ("x", False)]
)
def test_pixels_that_are_larger_than_they_are_apart_are_noted(
    tmp_path: Path, size: str, contradicts: bool
) -> None:
    notes = _notes(_mha(tmp_path / "a.mha", f"Offset = 1 2 3\nElementSize = {size}"))
    assert any(f"ElementSize {size}, but ElementSpacing 0.8 0.8 2" in one for one in notes) == contradicts


@pytest.mark.parametrize(
    "code, contradicts", [("RAI", False), ("LPS", False), ("???", False), ("LPI", True), ("RAS", True)]
)
def test_an_orientation_that_contradicts_the_matrix_is_noted(
    tmp_path: Path, code: str, contradicts: bool
) -> None:
    said = f"TransformMatrix = 1 0 0 0 1 0 0 0 1\nAnatomicalOrientation = {code}"
    notes = _notes(_mha(tmp_path / "a.mha", said))
    assert any(f"AnatomicalOrientation {code}" in note for note in notes) == contradicts


@pytest.mark.parametrize(
    "said, contradicts",
    [
        ("Offset = 1 2 3\nPosition = 1 2 28", True),
        ("Position = 1 2 28\nOffset = 1 2 3", True),
        ("Offset = 1 2 3\nOffset = 1 2 28", True),
        ("ElementSpacing = 0.8 0.8 2.5\nOffset = 1 2 3", True),
        ("TransformMatrix = 1 0 0 0 1 0 0 0 1\nOrientation = -1 0 0 0 -1 0 0 0 1", True),
        ("Offset = 1 2 3\nOrigin = 1.0 2.0 3.0\nPosition = 1 2 3.0000001", False),
        ("Comment = one\nComment = other\nOffset = 1 2 3", False),
    ],
)
def test_a_meta_image_that_says_one_thing_otherwise_is_refused(
    tmp_path: Path, said: str, contradicts: bool
) -> None:
    path = _mha(tmp_path / "a.mha", said)
    if not contradicts:
        assert _notes(path) == []
        return
    with pytest.raises(InputError, match=r"its header contradicts itself: '.* = .*' and '.* = .*'; delete"):
        CTVolume.read(path)


@pytest.mark.parametrize(
    "axes",
    [
        (1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, 1), (0, 0, 1, 1, 0, 0, 0, 1, 0),
        (1, 0, 0, 0, 0.8, -0.6, 0, 0.6, 0.8),
    ],
)  # fmt: skip
def test_what_itk_writes_contradicts_nothing(tmp_path: Path, axes: tuple[float, ...]) -> None:
    image = sitk.GetImageFromArray(hounsfield(4))
    image.SetDirection(axes)
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    assert _notes(tmp_path / "a.mha") == []


def test_units_of_values_in_a_header_are_believed(tmp_path: Path) -> None:
    said = f"space: left-posterior-superior\n{DIRECTIONS}\nsample units: "
    assert _notes(_nrrd(tmp_path / "a.nrrd", said + '"HU"')) == []
    with pytest.raises(NotCTError, match=r"in mg/ml, not Hounsfield units .sample units"):
        CTVolume.read(_nrrd(tmp_path / "b.nrrd", said + '"mg/ml"'))
    with pytest.raises(NotCTError, match="calls it MR"):
        CTVolume.read(_mha(tmp_path / "c.mha", "Modality = MET_MOD_MR"))
