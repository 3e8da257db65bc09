"""Files as exports, converters and copies leave them: thin padding, packed discs, damaged headers."""

from __future__ import annotations

import errno
import gzip
import io
import itertools
import os
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 (its customary name)
from batch_folders import write_index
from scipy import ndimage
from synthetic_dicom import dataset, hounsfield, save, write_series

from ctenhance import CTVolume
from ctenhance.files import text_header
from ctenhance.files.dicom.writing import Derivation
from ctenhance.files.dicom.writing import write_series as write_derived
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.memory import says_out_of_memory


def _corners(
    values: np.ndarray, size: int, filling: float, blur: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return HU [z, y, x] with the corners of each slice filled, and the mask [y, x] of what is filled."""
    rows, columns = np.indices(values.shape[1:])
    far_rows, far_columns = rows[::-1, ::-1], columns[::-1, ::-1]
    mask = np.minimum(rows, far_rows) + np.minimum(columns, far_columns) < size
    filled = np.where(mask, filling, values)
    if blur:
        filled = np.stack([ndimage.gaussian_filter(plane.astype(np.float64), blur) for plane in filled])
    return np.rint(filled).astype(np.int16), mask


@pytest.mark.parametrize("blur", [0.0, 0.7])
def test_padding_in_the_corners_alone_becomes_air(tmp_path: Path, blur: float) -> None:
    values, mask = _corners(hounsfield(4, 128, 128), 7, -3024, blur)
    assert mask.mean() < 0.01
    write_series(tmp_path, values=values, PixelRepresentation=1, RescaleIntercept=0)

    volume = CTVolume.read(tmp_path)

    assert volume.array.min() >= (-1024 if not blur else -1500)
    assert (volume.array[:, mask] >= -1024).mean() > 0.9
    far = ndimage.binary_erosion(~mask, iterations=6, border_value=1)
    np.testing.assert_array_equal(volume.array[:, far], values[:, far])


def test_streaks_of_metal_inside_keep_their_values(tmp_path: Path) -> None:
    values = hounsfield(4, 128, 128)
    values[:, 60:64, 60:64] = -1800
    write_series(tmp_path, values=values, PixelRepresentation=1, RescaleIntercept=0)

    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, values)


@pytest.mark.parametrize(
    ("name", "start"), [("disc.iso", b"\0" * 0x8001 + b"CD001"), ("a.zst", b"\x28\xb5\x2f\xfd")]
)
def test_packed_discs_are_to_be_unpacked(tmp_path: Path, name: str, start: bytes) -> None:
    (tmp_path / name).write_bytes(start + bytes(100))

    for path in (tmp_path, tmp_path / name):
        with pytest.raises(InputError, match=r"archive.*; unpack it first"):
            CTVolume.read(path)


def test_an_index_without_its_images_is_told_as_such(tmp_path: Path) -> None:
    write_index(tmp_path / "INDEX")

    with pytest.raises(InputError, match="DICOMDIR, which only lists images; copy the whole disc"):
        CTVolume.read(tmp_path)


def _nifti(path: Path, qform_code: int, sform_code: int) -> np.ndarray:
    """Write a NIfTI file whose qform is no rotation."""
    values = hounsfield(4, 32, 32)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.7, 0.7, 3.0))
    sitk.WriteImage(image, str(path))
    header = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<2h", header, 252, qform_code, sform_code)
    struct.pack_into("<3f", header, 256, 0.8, 0.8, 0.8)
    path.write_bytes(gzip.compress(bytes(header)))
    return values


def test_a_qform_that_is_no_rotation_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "ct.nii.gz"
    _nifti(path, 1, 0)
    with pytest.raises(InputError, match="its qform is no rotation"):
        CTVolume.read(path)

    values = _nifti(path, 1, 2)
    volume = CTVolume.read(path)
    np.testing.assert_array_equal(volume.array, values)
    np.testing.assert_allclose(volume.direction, np.eye(3), atol=1e-6)


@pytest.mark.parametrize(
    "said", [{"LossyImageCompressionRatio": "12"}, {"LossyImageCompressionMethod": "ISO_10918_1"}]
)
def test_loss_told_without_its_flag_is_not_forgotten(tmp_path: Path, said: dict[str, str]) -> None:
    write_series(tmp_path / "source", **said)
    volume = CTVolume.read(tmp_path / "source")

    write_derived(volume, tmp_path / "out", Derivation(like=tmp_path / "source"))

    assert pydicom.dcmread(next((tmp_path / "out").glob("*.dcm"))).LossyImageCompression == "01"


@pytest.mark.parametrize(("outside", "inside", "noise"), [(0, 3, 2), (0, 50, 12), (0, 7, 2)])
def test_maps_in_files_without_a_unit_are_told_by_their_missing_air(
    tmp_path: Path, outside: int, inside: int, noise: float
) -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(0, noise, (4, 64, 64)) + np.where(np.arange(64) < 20, outside, inside)
    image = sitk.GetImageFromArray(values.astype(np.float32))
    sitk.WriteImage(image, str(tmp_path / "map.nrrd"))

    volume = CTVolume.read(tmp_path / "map.nrrd")

    assert any("no air (-1000 HU)" in note for note in volume.meta["notes"])
    assert "notes" not in CTVolume.read(tmp_path / "map.nrrd", check_hu=False).meta


def test_a_ct_in_such_a_file_needs_no_note(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(hounsfield(4)), str(tmp_path / "ct.nrrd"))

    assert not CTVolume.read(tmp_path / "ct.nrrd").meta.get("notes")


def test_a_library_that_finds_no_memory_to_load_is_told() -> None:
    assert says_out_of_memory(ImportError("libtorch_cpu.so: failed to map segment from shared object"))
    assert says_out_of_memory(OSError(12, "Cannot allocate memory"))
    assert not says_out_of_memory(ImportError("No module named 'torch'"))


@pytest.mark.parametrize(
    ("slope", "offset", "said"),
    [
        (0.0, -1024.0, r"contradicts itself: by scl_slope 0 .* scl_inter -1024"),
        (float("nan"), 5.0, "contradicts itself"),
        (1.0, float("nan"), "no usable scaling"),
        (float("inf"), 0.0, "no usable scaling"),
    ],
)
def test_a_nifti_scaling_of_which_programs_make_different_values_is_refused(
    tmp_path: Path, slope: float, offset: float, said: str
) -> None:
    path = tmp_path / "ct.nii"
    values = hounsfield(4, 32, 32)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    header = bytearray(path.read_bytes())
    struct.pack_into("<2f", header, 112, slope, offset)
    path.write_bytes(bytes(header))
    with pytest.raises(InputError, match=said):
        CTVolume.read(path)

    struct.pack_into("<2f", header, 112, 0.0, 0.0)
    path.write_bytes(bytes(header))
    np.testing.assert_array_equal(CTVolume.read(path).array, values)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ct.mgz", "is a FreeSurfer volume, which is not read"),
        ("ct.img", "is half of a NIfTI or Analyze pair"),
        ("ct.npy", "is an array without voxel size"),
        ("ct.png", "is a picture without HU"),
        ("scan.ctproj.h5", "of projections 'ctenhance reconstruct' makes a CT"),
    ],
)
def test_other_formats_are_called_by_their_names(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(bytes(400)))

    for path in (tmp_path, tmp_path / name):
        with pytest.raises(InputError, match=said):
            CTVolume.read(path)


def test_a_folder_with_a_volume_file_says_to_give_the_file(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(hounsfield(4)), str(tmp_path / "ct.nii.gz"))

    with pytest.raises(InputError, match=r"the volume 'ct.nii.gz'; give that file itself"):
        CTVolume.read(tmp_path)


@pytest.mark.parametrize(("keyword", "kind"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_floating_point_pixels_are_not_called_cut_off(tmp_path: Path, keyword: str, kind: str) -> None:
    plane = hounsfield()[0]
    made = dataset(plane, (0, 0, 0), PixelData=None, RescaleSlope=None, RescaleIntercept=None)
    setattr(made, keyword, plane.astype(kind).tobytes())
    save(made, tmp_path / "map.dcm")

    with pytest.raises(InputError, match="holds its pixels as floating-point numbers"):
        CTVolume.read(tmp_path)


@pytest.mark.parametrize("filling", [-1024, -1000])
def test_a_filling_of_air_around_a_map_in_a_file_is_no_air(tmp_path: Path, filling: int) -> None:
    values = np.random.default_rng(0).normal(20, 8, (4, 64, 64))
    values[:, :, :20] = filling
    values[:, :, 20:24] = -1000
    sitk.WriteImage(sitk.GetImageFromArray(values.astype(np.float32)), str(tmp_path / "map.nrrd"))

    notes = CTVolume.read(tmp_path / "map.nrrd").meta["notes"]
    assert any("hardly varies" in note and "there is little or no air beside" in note for note in notes)


@pytest.mark.parametrize(("lung", "said"), [(-820, "nothing below 0"), (-1000, "no air")])
def test_lung_or_air_without_its_intercept_in_a_file_is_noted(tmp_path: Path, lung: int, said: str) -> None:
    values = np.random.default_rng(0).normal(lung, 18, (4, 48, 48)).round() + 1024
    sitk.WriteImage(sitk.GetImageFromArray(values.astype(np.int16)), str(tmp_path / "lung.nii.gz"))

    assert any(said in note for note in CTVolume.read(tmp_path / "lung.nii.gz").meta["notes"])


@pytest.mark.parametrize("slope", [0, -1])
def test_a_slope_that_is_not_above_0_is_refused(tmp_path: Path, slope: int) -> None:
    write_series(tmp_path)
    for path in tmp_path.iterdir():
        read = pydicom.dcmread(path)
        read.RescaleSlope = slope
        read.save_as(path)

    with pytest.raises(InputError, match=f"has a slope of {slope} from stored values"):
        CTVolume.read(tmp_path)


def test_positions_rounded_so_coarsely_that_slices_meet_are_told_as_such(tmp_path: Path) -> None:
    for index, plane in enumerate(hounsfield(8)):
        place = (-100, -90, round(0.625 * index))
        save(dataset(plane, place, InstanceNumber=index + 1), tmp_path / f"{index}.dcm")

    with pytest.raises(InputError, match="positions look rounded to whole millimetres, too coarsely"):
        CTVolume.read(tmp_path)


@pytest.mark.parametrize("spacing", [0.4, 0.625, 0.9])
@pytest.mark.parametrize("lost", [[], [7]])
def test_what_goes_with_each_slice_is_no_way_to_choose_among_rounded_ones(
    tmp_path: Path, spacing: float, lost: list[int]
) -> None:
    for index in sorted({*range(20)} - {*lost}):
        place = (-100, -90, round(100.03 + spacing * index))
        centre = [-100, -90, 100.03 + spacing * index]
        made = dataset(hounsfield(1, seed=index)[0], place, ReconstructionTargetCenterPatient=centre)
        made.InstanceNumber, made.SliceThickness = index + 1, spacing
        save(made, tmp_path / f"{index}.dcm")

    with pytest.raises(InputError) as refusal:
        CTVolume.read(tmp_path)
    assert f"too coarsely for slices about {spacing:g} mm apart" in str(refusal.value)
    assert "exact positions" in str(refusal.value) and "--where" not in str(refusal.value)


def test_two_phases_in_whole_millimetres_stay_two_phases(tmp_path: Path) -> None:
    for index, plane in enumerate(hounsfield(16)):
        made = dataset(plane, (-100, -90, index // 2), InstanceNumber=index + 1, SliceThickness=1)
        made.ConvolutionKernel = ("B30f", "B60f")[index % 2]
        save(made, tmp_path / f"{index}.dcm")

    with pytest.raises(InputError, match=r"ConvolutionKernel B30f \(8 slices\) and B60f"):
        CTVolume.read(tmp_path)


@pytest.mark.parametrize(("name", "line"), [("a.nrrd", b"space directions"), ("a.mha", b"ElementSpacing")])
def test_a_header_without_voxel_size_is_noted(tmp_path: Path, name: str, line: bytes) -> None:
    path = tmp_path / name
    sitk.WriteImage(sitk.GetImageFromArray(hounsfield(4)), str(path), useCompression=False)
    assert "notes" not in CTVolume.read(path).meta
    content = path.read_bytes()
    start = content.index(line)
    path.write_bytes(content[:start] + content[content.index(b"\n", start) + 1 :])

    assert "its header gives no voxel size; taken as 1 mm" in CTVolume.read(path).meta["notes"]


_DIRECTIONS = "space: left-posterior-superior\nspace directions: (0.08,0,0) (0,0.08,0) "
_SLOPE, _OFFSET = "ElementToIntensityFunctionSlope = ", "ElementToIntensityFunctionOffset = "


def _raw(path: Path, said: str) -> Path:
    """Write a NRRD or MetaImage file with these lines in its header."""
    values = hounsfield(4)
    size = " ".join(str(length) for length in values.shape[::-1])
    if path.suffix == ".nrrd":
        start = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {size}\nencoding: raw\nendian: little\n"
        header = f"{start}{said}\n\n"
    else:
        start = f"ObjectType = Image\nNDims = 3\nDimSize = {size}\nBinaryData = True\n"
        header = (
            f"{start}ElementSpacing = 0.8 0.8 2\n{said}\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
        )
    path.write_bytes(header.encode() + values.astype("<i2").tobytes())
    return path


@pytest.mark.parametrize(
    ("name", "said", "words"),
    [
        ("a.nrrd", _DIRECTIONS + '(0,0,0.2)\nspace units: "cm" "cm" "cm"', "lengths in 'cm' .space units"),
        ("a.nrrd", 'spacings: 0.08 0.08 0.2\nunits: "cm" "cm" "cm"', "lengths in 'cm' .units"),
        ("a.mha", "DistanceUnits = cm", "lengths in 'cm' .DistanceUnits"),
        ("a.nrrd", _DIRECTIONS + "none\nkinds: domain domain list", "third axis .* .kinds: 'list'"),
        ("a.nrrd", _DIRECTIONS + "none", "third axis .* .space directions: none"),
        ("a.nrrd", "spacings: 0.8 0.8 0.5\nkinds: space space time", "third axis .* .kinds: 'time'"),
        ("a.mha", _SLOPE + "2", "a scaling of the values .*Slope 2.*Offset 0.*convert"),
        ("a.mha", _OFFSET + "-1024", "a scaling of the values .*Slope 1.*Offset -1024"),
        # ITK takes ':' for '=', and a CR alone for the end of a line.
        ("a.mha", (_SLOPE + "2").replace(" =", ":"), "a scaling of the values .*Slope 2.*Offset 0.*convert"),
        ("a.nrrd", 'spacings: 0.08 0.08 0.2\n# mm\runits: "cm" "cm" "cm"', "is damaged"),
    ],
)
def test_what_a_header_says_and_the_reader_cannot_heed_is_refused(
    tmp_path: Path, name: str, said: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        CTVolume.read(_raw(tmp_path / name, said))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.nrrd", 'spacings: 0.8 0.8 2\nunits: "mm" "mm" "mm"\nkinds: domain domain domain\nunits:=cm'),
        ("a.nrrd", 'spacings: 0.8 0.8 2\nunits: "" "" ""\nkinds: space space space'),
        ("a.mha", f"DistanceUnits = mm\n{_SLOPE}1.0\n{_OFFSET}0"),
        ("a.mha", "Comment: at 12:30 = noon\nDistanceUnits : mm"),
    ],
)
def test_a_header_in_mm_and_as_stored_is_read(tmp_path: Path, name: str, said: str) -> None:
    volume = CTVolume.read(_raw(tmp_path / name, said))

    assert volume.spacing == pytest.approx((0.8, 0.8, 2))
    np.testing.assert_array_equal(volume.array, hounsfield(4))


def test_gzip_is_read_however_it_was_packed(tmp_path: Path) -> None:
    """In several parts, as parallel packers do it, and with zeros behind them."""
    values = np.random.default_rng(0).normal(0, 100, (60, 120, 170)).astype(np.float64)  # 9.8 MB
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "ct.nii"))
    plain = (tmp_path / "ct.nii").read_bytes()
    cuts = [0, 3, 100_001, 5_000_003, len(plain)]
    parts = [gzip.compress(plain[a:b], 1) for a, b in itertools.pairwise(cuts)]

    def read(name: str, data: bytes) -> CTVolume:
        (tmp_path / name).write_bytes(data)
        return CTVolume.read(tmp_path / name)

    assert np.array_equal(read("one.nii.gz", gzip.compress(plain)).array, values.astype(np.float32))
    for name, data in (("parts", b"".join(parts)), ("zeros", b"".join(parts) + bytes(5000))):
        assert np.array_equal(read(f"{name}.nii.gz", data).array, values.astype(np.float32)), name
    for name, data in (("rest", b"".join(parts) + b"rest"), ("cut", b"".join(parts)[:-9])):
        with pytest.raises(InputError, match="damaged, cut off"):
            read(f"{name}.nii.gz", data)
    values[50, 7, 160] = np.nan  # in the last of several pieces, at an odd place of it
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "ct.nii"))
    with pytest.raises(InputError, match="slice 50, row 7, column 160"):
        read("hole.nii.gz", gzip.compress((tmp_path / "ct.nii").read_bytes()))


def test_a_full_temporary_folder_does_not_keep_a_packed_file_from_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CTVolume(hounsfield(4)).write(tmp_path / "ct.nii.gz")

    class Full(io.FileIO):
        def write(self, _data: object) -> int:
            tried.append(True)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    opened, tried = Path.open, []
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, mode="r", *more, **named: (
            Full(self, "xb")
            if self.name == "plain.nii" and "x" in mode
            else opened(self, mode, *more, **named)
        ),
    )
    assert np.array_equal(CTVolume.read(tmp_path / "ct.nii.gz").array, hounsfield(4))
    assert tried == [True]


def test_a_volume_file_of_no_header_at_all_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_header, "_LONGEST_HEADER", 1 << 16)
    for name in ("ct.nrrd", "ct.mha"):
        (tmp_path / name).write_bytes(b"any value\n" * 20_000)
        with pytest.raises(InputError, match="the file is damaged, cut off or not what its name says"):
            CTVolume.read(tmp_path / name)


def test_a_value_that_is_no_number_in_a_nifti_file_of_no_axes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ct.nii"
    CTVolume(hounsfield(4, 32, 32) + np.float32(0.5), (0.7, 0.7, 3.0)).write(path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<8h", content, 40, *[0] * 8)
    struct.pack_into("<f", content, 352, np.nan)
    path.write_bytes(content)
    with pytest.raises(InputError, match="Cannot read"):
        CTVolume.read(path)
