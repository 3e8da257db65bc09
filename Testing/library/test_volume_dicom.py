"""Reading CT from DICOM: what must come out right."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 (its customary name)
from pydicom.data import get_testdata_file
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from scipy import ndimage
from synthetic_dicom import dataset, enhanced, hounsfield, save, write_series

from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom.header import uncompressed_values
from ctenhance.runtime import large
from ctenhance.runtime.errors import InputError

REAL_SERIES = (
    "lidc_idri_0001_ge_2.5mm_uncompressed",
    "lidc_idri_0002_ge_1.25mm_uncompressed",
    "totalseg_siemens_3mm_j2k_lossless",
)


@pytest.fixture(params=REAL_SERIES)
def real_folder(request: pytest.FixtureRequest, shared_data: Path) -> Path:
    folder = shared_data / "dicom" / request.param
    if not folder.is_dir():
        pytest.skip(f"the real DICOM series {request.param} is not on this machine")
    return folder


def test_real_series_agree_with_simpleitks_reader(real_folder: Path):
    volume = CTVolume.read(real_folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(real_folder)))
    peer = reader.Execute()

    values = sitk.GetArrayFromImage(peer)
    padding = values < -1500  # what GDCM leaves there, -2048 or -3024, is outside the field of view
    np.testing.assert_array_equal(volume.array[~padding], values[~padding])
    assert set(np.unique(volume.array[padding])) <= {-1024.0}
    assert bool(padding.any()) == bool(volume.meta["notes"])
    np.testing.assert_allclose(volume.spacing, peer.GetSpacing(), rtol=1e-12)
    np.testing.assert_allclose(volume.origin, peer.GetOrigin(), rtol=1e-12)
    np.testing.assert_allclose(volume.direction.ravel(), peer.GetDirection(), atol=1e-12)


def test_real_series_from_a_shuffled_list_and_from_one_file(real_folder: Path):
    files = sorted(real_folder.glob("*.dcm"))
    volume = CTVolume.read(real_folder)
    shuffled = CTVolume.read(files[1::2] + files[::2][::-1])
    assert shuffled.identity() == volume.identity()

    single = CTVolume.read(files[3])
    z = volume.meta["source_files"].index(str(files[3]))
    np.testing.assert_array_equal(single.array[0], volume.array[z])
    assert single.origin[2] == pytest.approx(volume.origin[2] + z * volume.spacing[2])
    assert single.spacing[2] == volume.meta["slice_thickness_mm"]


def test_real_series_through_every_file_format(real_folder: Path, tmp_path: Path):
    volume = CTVolume.read(real_folder)
    for suffix in (".nii.gz", ".nrrd", ".mha"):
        volume.write(tmp_path / f"copy{suffix}")
        copy = CTVolume.read(tmp_path / f"copy{suffix}")
        assert copy.identity()["sha256"] == volume.identity()["sha256"]
        np.testing.assert_allclose(copy.spacing, volume.spacing, rtol=1e-7)
        np.testing.assert_allclose(copy.origin, volume.origin, rtol=1e-7)


def test_values_grid_and_meta(tmp_path: Path):
    values = write_series(tmp_path)
    volume = CTVolume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, values)
    assert volume.array.dtype == np.float32
    assert volume.spacing == (0.7, 0.8, 2.5)  # along columns, along rows, and between positions: not the 5 mm
    assert volume.origin == (-100.0, -90.0, -400.0)
    np.testing.assert_array_equal(volume.direction, np.eye(3))
    expected = {
        "kvp": 120.0, "kernel": "B30f", "manufacturer": "ACME", "model": "Scan 1", "slice_thickness_mm": 5.0,
        "tube_current_ma": 200.0, "exposure_mas": 100.0, "notes": [],
    }  # fmt: skip
    assert {key: volume.meta[key] for key in expected} == expected
    assert volume.meta["source_files"][0].endswith("image0004.dcm")
    assert len(set(volume.meta["sop_instance_uids"])) == 4


def test_identity_and_repr_hold_nothing_of_the_patient(tmp_path: Path):
    write_series(tmp_path)
    volume = CTVolume.read(tmp_path)
    told = f"{volume!r} {volume.identity()}"
    assert set(volume.identity()) == {"shape", "spacing", "sha256"}
    for secret in ("SECRET", "Nobody", volume.meta["series_instance_uid"], str(tmp_path)):
        assert secret not in told
    assert "SECRET" not in str(volume.meta)


def test_oblique_slices_in_descending_order(tmp_path: Path):
    turned = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    right, down = turned[:, 0], turned[:, 1]
    values = write_series(tmp_path, depths=(9, 6, 3, 0), orientation=[*right.round(6), *down.round(6)])
    volume = CTVolume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, values[::-1])
    np.testing.assert_allclose(volume.origin, (-100, -90, -400), atol=1e-5)
    np.testing.assert_allclose(volume.direction, np.stack([right, down, np.cross(right, down)], 1), atol=2e-6)
    np.testing.assert_allclose(volume.direction.T @ volume.direction, np.eye(3), atol=1e-14)
    assert volume.spacing[2] == pytest.approx(3.0, abs=1e-5)


def test_positions_rounded_to_a_tenth_are_an_even_stack(tmp_path: Path):
    write_series(tmp_path, depths=np.round(np.arange(9) * 0.625, 1))
    assert CTVolume.read(tmp_path).spacing[2] == pytest.approx(0.625, abs=0.01)


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("slope", [1, 0.5, 2])
def test_rescaling_is_taken_from_each_slice(tmp_path: Path, signed: int, slope: float):
    first, second = hounsfield(2) // 2 * 2
    save(dataset(first, (0, 0, 0), PixelRepresentation=signed), tmp_path / "a.dcm")
    changes = {"RescaleSlope": slope, "RescaleIntercept": -1000, "PixelRepresentation": signed}
    second = np.maximum(second, -1000) if not signed else second
    save(dataset(second, (0, 0, 3), **changes), tmp_path / "b.dcm")
    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, [first, second])


@pytest.mark.parametrize("declared", [-2000, 63536, None])
@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
def test_padding_becomes_air(tmp_path: Path, declared: int | None, syntax: str):
    values = hounsfield(2).astype(np.int32)
    values[:, :2, :2] = -3024
    changes = {"transfer_syntax": ImplicitVRLittleEndian} if syntax == "implicit" else {}
    for index, plane in enumerate(values):
        made = dataset(plane, (0, 0, 3 * index), PixelRepresentation=1, **changes)
        if declared is not None:
            made.add_new("PixelPaddingValue", "US" if declared > 0 else "SS", declared)
        save(made, tmp_path / f"{index}.dcm")
    volume = CTVolume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, np.where(values == -3024, -1024, values))
    assert volume.meta["notes"] == ["padding outside the field of view set to -1024 HU"]


@pytest.mark.parametrize(("declared", "share"), [(-2000, 0.05), (-2000, 0.004), (None, 0.05)])
def test_padding_that_lossy_compression_blurred_becomes_air(
    tmp_path: Path, declared: int | None, share: float
):
    values = hounsfield(3, rows=64, columns=64).astype(np.int32)
    outside = np.zeros((64, 64), bool)
    outside.ravel()[: int(share * outside.size)] = True
    values[:, outside] = np.rint(np.random.default_rng(1).normal(-3024, 6, values[:, outside].shape))
    write_series(tmp_path, values=values, depths=(0, 2, 4), PixelRepresentation=1, PixelPaddingValue=declared)
    volume = CTVolume.read(tmp_path)
    np.testing.assert_array_equal(volume.array[:, outside], -1024)
    far = ndimage.distance_transform_cdt(~outside, "taxicab") > 4
    np.testing.assert_array_equal(volume.array[:, far], values[:, far])
    assert volume.meta["notes"] == ["padding outside the field of view set to -1024 HU"]


def test_a_real_lossy_ct_with_padding():
    """JPEG 2000 at 339:1: its padding of -3024 HU runs from -3995 to -1500."""
    path = get_testdata_file("693_J2KI.dcm", download=False)
    if path is None:
        pytest.skip("pydicom's test files are not installed")
    stored = pydicom.dcmread(path).pixel_array - 1024.0
    volume = CTVolume.read(path)
    padding = stored < -2000
    assert 0.2 < padding.mean() < 0.22
    np.testing.assert_array_equal(volume.array[0][padding], -1024)
    tissue = stored > -500
    np.testing.assert_array_equal(volume.array[0][tissue], stored[tissue])


@pytest.mark.parametrize("declared", [-2000, 63536, 2096])
def test_padding_declared_in_the_bits_of_the_pixels(tmp_path: Path, declared: int):
    """-2000 in 12 bits is 2096 without its sign."""
    values = hounsfield(2).astype(np.int32)
    values[:, 3:5, 3:5] = -2000  # not at the edge, nor one in a hundred
    for index, plane in enumerate(values):
        made = dataset(
            plane, (0, 0, 3 * index), PixelRepresentation=1, BitsStored=12, HighBit=11, RescaleIntercept=0
        )
        made.add_new("PixelPaddingValue", "US" if declared > 0 else "SS", declared)
        save(made, tmp_path / f"{index}.dcm")
    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, np.where(values == -2000, -1024, values))


def test_a_range_of_padding_becomes_air(tmp_path: Path):
    values = hounsfield(4).astype(np.int32)
    values[2, 5, 5:8] = (-2048, -2000, -1900)
    expected = np.where(values < -1950, -1024, values)
    write_series(
        tmp_path, values=values, PixelRepresentation=1, PixelPaddingValue=-1024, PixelPaddingRangeLimit=-976
    )
    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, expected)


def test_a_wrongly_declared_padding_value_changes_no_tissue(tmp_path: Path):
    values = write_series(tmp_path, PixelPaddingValue=1024 + 50)  # 50 HU
    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, values)


def test_extended_scale_and_single_low_values_stay(tmp_path: Path):
    values = hounsfield(4).astype(np.int32)
    values[1, 3:5, 8] = 30000
    values[2, 3, 8] = -1600  # an undershoot beside metal, no padding
    write_series(tmp_path, values=values, PixelRepresentation=1)
    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, values)


def test_copies_of_a_slice_are_left_out(tmp_path: Path):
    values = write_series(tmp_path)
    shutil.copy(tmp_path / "image0002.dcm", tmp_path / "again.dcm")
    volume = CTVolume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, values)
    assert volume.meta["notes"] == ["repeated slices left out: 1"]
    assert volume.input_report() == {**volume.identity(), "notes": volume.meta["notes"]}
    assert CTVolume(volume.array).input_report() == CTVolume(volume.array).identity()


def test_a_folder_as_it_comes_from_an_archive(tmp_path: Path):
    """Nested, without suffixes, with an index, notes, a localizer, a dose picture, a report, other images."""
    values = write_series(tmp_path / "a" / "b")
    for path in (tmp_path / "a" / "b").glob("image000[12].dcm"):
        path.rename(tmp_path / "a" / path.stem)
    (tmp_path / "readme.txt").write_text("no image")
    (tmp_path / "empty").touch()
    (tmp_path / "random.bin").write_bytes(b"\x08\x00\x16\x00" + bytes(range(256)) * 4)
    index = dataset(values[0], (0, 0, 0), SOPClassUID="1.2.840.10008.1.3.10", Modality=None)
    save(index, tmp_path / "DICOMDIR")
    other = {"SeriesInstanceUID": generate_uid(), "SeriesNumber": 9}
    localizer = dataset(values[0], (0, 0, 0), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    save(localizer, tmp_path / "scout.dcm")
    dose = dataset(
        values[0], (0, 0, 0), SOPClassUID=SecondaryCaptureImageStorage, ImagePositionPatient=None, **other
    )
    save(dose, tmp_path / "dose.dcm")
    save(dataset(values[0], (0, 0, 0), Modality="PT", **other), tmp_path / "pet.dcm")
    volume = CTVolume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, values)
    what = "2 CT and 1 PT objects (1 page or picture of the screen, 1 scout)"
    assert volume.meta["notes"] == [f"left out, as no slices of this CT: {what}"]


def test_emptied_modality_and_missing_file_header(tmp_path: Path):
    values = write_series(tmp_path, Modality="")
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        path.write_bytes(content[content.index(b"\x08\x00\x08\x00CS") :])  # from the first element on
    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, values)


def test_a_series_is_chosen_by_number_or_uid(tmp_path: Path):
    uid = generate_uid()
    write_series(tmp_path / "soft")
    sharp = write_series(
        tmp_path / "sharp", values=hounsfield(4, seed=1), SeriesNumber=3, SeriesInstanceUID=uid
    )
    for series in (3, "3", uid):
        np.testing.assert_array_equal(CTVolume.read(tmp_path, series=series).array, sharp)
    assert CTVolume.read(tmp_path, series=2).meta["series_instance_uid"] != uid


def test_series_without_distinct_numbers_are_counted(tmp_path: Path):
    for name in ("1.2.3", "1.2.4"):
        write_series(tmp_path / name, SeriesInstanceUID=name)
    # Both are series 2 of their studies: neither is taken for it, nor may another be.
    with pytest.raises(InputError, match=r"no CT series 2, as 2 of its .*series 3: .*4: "):
        CTVolume.read(tmp_path, series=2)
    assert CTVolume.read(tmp_path, series=4).meta["series_instance_uid"] == "1.2.4"
    write_series(tmp_path / "other", SeriesInstanceUID="1.2.1", SeriesNumber=5)
    assert CTVolume.read(tmp_path, series=5).meta["series_instance_uid"] == "1.2.1"
    assert CTVolume.read(tmp_path, series=7).meta["series_instance_uid"] == "1.2.4"


def test_series_of_one_number_are_told_apart_by_study_and_file(tmp_path: Path):
    for index in (1, 2):
        own = {"StudyInstanceUID": f"1.2.{5 - index}", "StudyDate": f"202{index}0101"}
        write_series(tmp_path / f"st{index}", SeriesInstanceUID=f"1.3.{index}", **own)
    with pytest.raises(InputError) as refusal:
        CTVolume.read(tmp_path)
    assert "of the 1st study, number 2 in its header, with 'st1/image0001.dcm'" in str(refusal.value)
    assert "of the 2nd study, number 2 in its header, with 'st2/image0001.dcm'" in str(refusal.value)
    assert "2021" not in str(refusal.value)


@pytest.mark.parametrize("least", (1, 1 << 28))
def test_frames_are_the_same_whether_memory_was_made_ready_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: int
):
    """It is for the one file there is, and for all of its frames: other choices need other memory."""
    monkeypatch.setattr(large, "LEAST_BYTES", least)
    values = hounsfield(6, 20, 24)
    made = enhanced(values, depths=(0, 2, 4, 0, 2, 4), slopes=(1,) * 6)
    for index, frame in enumerate(made.PerFrameFunctionalGroupsSequence):
        frame.CTExposureSequence[0].XRayTubeCurrentInmA = 100.0 if index < 3 else 300.0
    path = save(made, tmp_path / "both.dcm")
    assert uncompressed_values(path) == values.size
    for given in (path, tmp_path, [path]):
        half = CTVolume.read(given, where={"XRayTubeCurrent": 300})
        np.testing.assert_array_equal(half.array, values[3:])
    save(enhanced(values, np.arange(6) * 2.0, (1,) * 6), path)
    np.testing.assert_array_equal(CTVolume.read(path).array, values)
    write_series(tmp_path / "another", values=hounsfield(4), SeriesInstanceUID="1.2.3.4.5")
    with pytest.raises(InputError, match="it holds 2 CT series"):
        CTVolume.read(tmp_path)


def test_memory_is_made_ready_for_what_a_file_can_hold_only(tmp_path: Path):
    made = enhanced(hounsfield(3), (0, 2, 4), (1,) * 3)
    made.NumberOfFrames = 60000  # a file that says so without the pixels
    assert uncompressed_values(save(made, tmp_path / "a.dcm")) == 0
    (tmp_path / "b.dcm").write_bytes((tmp_path / "a.dcm").read_bytes()[:150])
    (tmp_path / "c.dcm").write_bytes(b"no DICOM" * 100)
    assert [uncompressed_values(tmp_path / name) for name in ("b.dcm", "c.dcm", "none.dcm")] == [0, 0, 0]


def test_enhanced_multi_frame_ct(tmp_path: Path):
    values = hounsfield(5)
    values = values - values % 2  # whole for a slope of 2
    order = [3, 0, 4, 1, 2]
    made = enhanced(values[order], depths=np.array(order) * 1.5, slopes=[1, 2, 1, 2, 1])
    volume = CTVolume.read(save(made, tmp_path / "multi.dcm"))
    np.testing.assert_array_equal(volume.array, values)
    assert volume.spacing == (0.7, 0.8, 1.5)
    assert volume.origin == (-100.0, -90.0, 0.0)
    expected = {"kernel": "Br40", "kvp": 100.0, "tube_current_ma": 150.0, "slice_thickness_mm": 5.0}
    assert {key: volume.meta[key] for key in expected} == expected


@pytest.mark.parametrize(("compressor", "syntax"), [("JPEG", "4.70"), ("JPEG2000", "4.90")])
@pytest.mark.parametrize("signed", [False, True])
def test_compressed_files(tmp_path: Path, compressor: str, syntax: str, signed: bool):
    """JPEG lossless, and JPEG 2000 of signed and unsigned values, as GDCM writes them."""
    values = hounsfield(3, rows=64, columns=64)
    for z, plane in enumerate(values):
        stored = (plane if signed else plane.astype(np.int32) + 1024).astype(
            np.int16 if signed else np.uint16
        )
        image = sitk.GetImageFromArray(stored[None])
        image.SetOrigin((-10, -20, 4 * z))
        for tag, value in {
            "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL", "0008|0060": "CT", "0008|0016": CTImageStorage,
            "0020|000e": "1.2.3", "0028|1052": "0", "0028|1053": "1",
            "0020|0032": f"-10\\-20\\{4 * z}", "0020|0037": "1\\0\\0\\0\\1\\0",
        }.items():  # fmt: skip
            image.SetMetaData(tag, value)
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(tmp_path / f"{z}.dcm"))
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
        writer.KeepOriginalImageUIDOn()
        writer.Execute(image)
        if (
            not signed
        ):  # GDCM's writer takes what it gets as rescaled already, so set the intercept afterwards
            made = pydicom.dcmread(tmp_path / f"{z}.dcm")
            made.RescaleIntercept = -1024
            made.save_as(tmp_path / f"{z}.dcm")
    assert syntax.encode() in (tmp_path / "0.dcm").read_bytes()[:1000]
    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, values)


def test_a_folder_needs_little_more_memory_than_its_volume(tmp_path: Path):
    values = hounsfield(60, rows=192, columns=192)
    write_series(tmp_path, depths=np.arange(60) * 1.0, values=values)
    CTVolume.read(tmp_path / "image0001.dcm")  # imports and caches
    tracemalloc.start()
    volume = CTVolume.read(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.8 * volume.array.nbytes
