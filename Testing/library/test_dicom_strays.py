"""Scouts and pages that scanners put into a study, or among the slices of a series, under unusual names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_folders import find_cases
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import generate_uid
from synthetic_dicom import dataset, enhanced, hounsfield, save, write_series

from ctenhance import CTVolume
from ctenhance.files.dicom.archive import Archive, ListedSeries
from ctenhance.files.dicom.choice import Conditions
from ctenhance.runtime.errors import InputError

CORONAL, SAGITTAL = [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]
OTHER = "1.2.826.0.1.3680043.8.498.77"


def _beside(path: Path, rows: int = 30, **said: Any) -> None:
    """Write an image that is no slice of the series."""
    made = dataset(hounsfield(1, rows=rows)[0], (-100, -90, -400), **said)
    save(made, path)


def _reads(folder: Path, values: np.ndarray) -> list[str]:
    volume = CTVolume.read(folder)
    np.testing.assert_array_equal(volume.array, values)
    return volume.meta["notes"]


@pytest.mark.parametrize("sides", [[CORONAL], [CORONAL, SAGITTAL], [SAGITTAL, SAGITTAL]])
def test_scouts_in_the_slices_own_series_are_left_out(tmp_path: Path, sides: list[list[int]]) -> None:
    values = write_series(tmp_path)
    for index, side in enumerate(sides):
        _beside(tmp_path / f"scout{index}", ImageOrientationPatient=side)

    notes = _reads(tmp_path, values)

    assert any("left out" in note for note in notes)


def test_as_many_slices_from_another_side_are_no_scouts(tmp_path: Path) -> None:
    write_series(tmp_path)
    write_series(tmp_path, orientation=CORONAL, prefix="coronal")

    with pytest.raises(InputError, match="different orientations"):
        CTVolume.read(tmp_path)


def test_a_slice_across_beside_reformats_is_their_reference(tmp_path: Path) -> None:
    values = write_series(tmp_path, orientation=CORONAL)
    _beside(tmp_path / "reference")

    assert _reads(tmp_path, values)


def test_three_scouts_from_two_sides_are_no_series_to_choose(tmp_path: Path) -> None:
    values = write_series(tmp_path)
    for index, side in enumerate([CORONAL, SAGITTAL, CORONAL]):
        said = {"ImageOrientationPatient": side, "SeriesInstanceUID": OTHER, "SeriesNumber": 1}
        _beside(tmp_path / f"scout{index}", **said)

    assert _reads(tmp_path, values)


@pytest.mark.parametrize(
    "description",
    [
        "Topogramm 0.6 T20f",
        "SCANOGRAMA",
        "Localizador",
        "Lokalizátor",
        "Rapport de dose",
        "Dosisbericht",
        "Patientenprotokoll",
    ],
)
def test_their_names_in_other_languages_are_known(tmp_path: Path, description: str) -> None:
    values = write_series(tmp_path)
    said = {"SeriesInstanceUID": OTHER, "SeriesNumber": 9, "SpecificCharacterSet": "ISO_IR 192"}
    _beside(tmp_path / "page", SeriesDescription=description, **said)

    assert _reads(tmp_path, values)


@pytest.mark.parametrize(
    "said",
    [
        {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "SeriesInstanceUID": OTHER, "SeriesNumber": 9},
        {"ImagePositionPatient": None, "ImageOrientationPatient": None},
        {
            "ImagePositionPatient": None,
            "ImageOrientationPatient": None,
            "ImageType": ["DERIVED", "SECONDARY"],
            "rows": 12,
        },
    ],
)
def test_pages_stored_as_ct_images_are_left_out(tmp_path: Path, said: dict[str, Any]) -> None:
    values = write_series(tmp_path)
    _beside(tmp_path / "page", **said)

    assert any("left out" in note for note in _reads(tmp_path, values))


def _page(folder: Path, place: float = 0.0, rows: int = 0, **said: Any) -> None:
    page = np.zeros((rows, 9) if rows else hounsfield()[0].shape)
    page[2:4, 3:7] = 255
    at = (-100.0, -90.0, -400.0 + place)
    save(dataset(page, at, **{"ImageType": ["DERIVED", "SECONDARY"], **said}), folder / "0page.dcm")


@pytest.mark.parametrize("rows", [0, 12, 20])
@pytest.mark.parametrize("place", [0.0, 2.5, 7.5])
@pytest.mark.parametrize("own", [{}, {"ImageType": ["DERIVED", "PRIMARY", "AXIAL"]}], ids=str)
def test_a_page_with_the_header_of_a_slice_is_no_second_phase(
    tmp_path: Path, rows: int, place: float, own: dict[str, Any]
) -> None:
    """A CT image by its class, of the series, at the place of a slice: only its Image Type tells."""
    values = write_series(tmp_path, **own)
    _page(tmp_path, place, rows)

    notes = _reads(tmp_path, values)

    assert notes[-1] == "left out, as no slices of this CT: 1 CT object (1 derived image, as a dose page is)"


def test_derived_slices_at_places_of_their_own_are_kept(tmp_path: Path) -> None:
    values = hounsfield(5)
    write_series(tmp_path, (0, 5, 7.5, 10), values=values[[0, 2, 3, 4]])
    at = (-100.0, -90.0, -397.5)
    save(dataset(values[1], at, ImageType=["DERIVED", "SECONDARY", "AXIAL"]), tmp_path / "second.dcm")

    with pytest.raises(InputError, match="take them as one scan with --where ImageType=any"):
        CTVolume.read(tmp_path)
    np.testing.assert_array_equal(CTVolume.read(tmp_path, where={"ImageType": "any"}).array, values)


def test_as_many_derived_as_original_slices_are_two_scans(tmp_path: Path) -> None:
    write_series(tmp_path)
    write_series(tmp_path, prefix="b", values=hounsfield(4, seed=1), ImageType=["DERIVED", "SECONDARY"])

    with pytest.raises(InputError, match=r"ImageType .*choose one, for instance with --where ImageType"):
        CTVolume.read(tmp_path)


def test_a_page_that_nothing_tells_from_a_slice_is_thought_of(tmp_path: Path) -> None:
    write_series(tmp_path, [2.5 * z for z in range(9)])
    _page(tmp_path, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])

    with pytest.raises(InputError, match=r"at -400\.00 mm .* what is no slice, such as a dose page"):
        CTVolume.read(tmp_path)


@pytest.mark.parametrize("index", [0, 2])
def test_a_slice_that_lost_its_position_is_not_left_out(tmp_path: Path, index: int) -> None:
    for number, plane in enumerate(hounsfield(4)):
        lost = {"ImagePositionPatient": None, "ImageOrientationPatient": None} if number == index else {}
        made = dataset(plane, (0, 0, 2.0 * number), SOPInstanceUID=generate_uid(), **lost)
        save(made, tmp_path / f"{number}")

    with pytest.raises(InputError, match=f"'{index}' does not say where it lies"):
        CTVolume.read(tmp_path)


def _bolus(folder: Path, images: int = 5) -> None:
    for index, plane in enumerate(hounsfield(images, seed=7)):
        uids = {"SeriesInstanceUID": "1.2.3", "SeriesNumber": 1, "InstanceNumber": index + 1}
        save(dataset(plane, (-100, -90, 30), **uids), folder / f"bolus{index}.dcm")


def test_bolus_tracking_beside_a_scan_needs_no_choice(tmp_path: Path) -> None:
    _bolus(tmp_path)
    values = write_series(tmp_path)

    volume = CTVolume.read(tmp_path)

    np.testing.assert_array_equal(volume.array, values)
    what = "5 CT objects (5 images at one place, as of bolus tracking)"
    assert f"left out, as no slices of this CT: {what}" in volume.meta["notes"]


def test_the_image_before_bolus_tracking_is_left_out_with_it(tmp_path: Path) -> None:
    """As 'PreMonitoring' is, a series of one image; without tracking nothing tells that it is not meant."""
    before = dataset(hounsfield(1, seed=3)[0], (-100, -90, 30), SeriesInstanceUID="1.2.4", SeriesNumber=2)
    save(before, tmp_path / "before.dcm")
    values = write_series(tmp_path, SeriesNumber=5)
    with pytest.raises(InputError, match="it holds 2 CT series"):
        CTVolume.read(tmp_path)
    _bolus(tmp_path)
    volume = CTVolume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, values)
    (note,) = [one for one in volume.meta["notes"] if "left out" in one]
    assert "6 CT objects (5 images at one place, as of bolus tracking" in note
    assert CTVolume.read(tmp_path / "before.dcm").array.shape[0] == 1


def test_bolus_tracking_alone_is_called_so(tmp_path: Path) -> None:
    _bolus(tmp_path)

    with pytest.raises(InputError, match=r"its 5 images all lie at one place .30.00 mm., as those of bolus"):
        CTVolume.read(tmp_path)
    assert CTVolume.read(tmp_path, where={"InstanceNumber": 3}).array.shape[0] == 1


def _with_localizer(at: int, said: bool, sagittal: bool) -> FileDataset:
    made = enhanced(hounsfield(6), [50.0 if index == at else 2.5 * index for index in range(6)], [1.0] * 6)
    for index, frame in enumerate(made.PerFrameFunctionalGroupsSequence):
        kind, plane = Dataset(), Dataset()
        scout = index == at
        kind.FrameType = ["ORIGINAL", "PRIMARY", "LOCALIZER" if scout and said else "VOLUME", "NONE"]
        plane.ImageOrientationPatient = [0, 1, 0, 0, 0, -1] if scout and sagittal else [1, 0, 0, 0, 1, 0]
        frame.CTImageFrameTypeSequence, frame.PlaneOrientationSequence = [kind], [plane]
    return made


@pytest.mark.parametrize("at", [0, 5])
@pytest.mark.parametrize("said, sagittal", [(True, True), (True, False), (False, True)])
def test_a_localizer_among_the_frames_is_left_out(
    tmp_path: Path, at: int, said: bool, sagittal: bool
) -> None:
    save(_with_localizer(at, said, sagittal), tmp_path / "a.dcm")
    volume = CTVolume.read(tmp_path)
    slices = [index for index in range(6) if index != at]
    np.testing.assert_array_equal(volume.array, hounsfield(6)[slices])
    assert "1 frame left out, as localizers (scouts)" in volume.meta["notes"]


def test_garbage_behind_the_mark_of_dicom(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM" + np.random.default_rng(0).bytes(4000))
    with pytest.raises(
        InputError, match=r"'a.dcm' (has the mark of a DICOM file, but says neither|is damaged)"
    ):
        CTVolume.read(tmp_path)


def test_an_unfinished_download_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz.crdownload").write_bytes(b"\x1f\x8b" + bytes(100))
    with pytest.raises(InputError, match="download that was not finished"):
        CTVolume.read(tmp_path / "scan.nii.gz.crdownload")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("slices", "name", "content", "said"),
    [
        ("a{}.dcm", "a4.dcm", LFS, "pointer of Git LFS"),
        ("a{}.dcm", "z.DCM", b"<!DOCTYPE html><html>", "web page"),
        ("a{}.dcm", "a4.dcm", bytes(5000), "zeros alone"),
        ("a{}.dcm", "a4.dcm", b"", "is empty"),
        ("a{}.dcm", "a4.dcm", b"\0\x08\0\5" + bytes(99), "in big endian without the header"),
        ("a{}.dcm", "a4.dcm.part", b"", "not finished"),
        ("a{}.dcm", ".a4.dcm.icloud", b"bplist00", "only a placeholder"),
        ("IM{}", "IM4", b"", "named like the slices beside it, is empty"),
        ("IM{}", "IM4", LFS, "pointer of Git LFS"),
        ("IM{}", ".IM4.icloud", b"bplist00", "only a placeholder"),
        ("IM{}", "VERSION1", b"", ""),
        ("IM{}", "read.me", LFS, ""),
        ("a{}.dcm", "._a1.dcm", b"\0\5\x16\7", ""),
        ("a{}.dcm", "a4.txt", b"a report", ""),
    ],
)
def test_what_stands_in_the_place_of_a_slice_is_refused(
    tmp_path: Path, slices: str, name: str, content: bytes, said: str
) -> None:
    """As clouds, downloads and failed copies leave it: without a word the scan would end there."""
    folder = tmp_path / "in" / "p"
    write_series(folder)
    for number, file in enumerate(sorted(folder.iterdir())):
        file.rename(folder / slices.format(number))
    (folder / name).write_bytes(content)
    (one,) = [found for found in Archive(folder, Conditions.of(None)) if isinstance(found, ListedSeries)]
    cases = find_cases(tmp_path / "in", tmp_path / "out").cases
    if said:
        with pytest.raises(InputError, match=said) as refused:
            CTVolume.read(folder)
        assert not one.uses and one.why_not in str(refused.value)
        assert said in cases[0].problem
    else:
        assert CTVolume.read(folder).array.shape[0] == 4 and "enhance" in one.uses
        assert not cases[0].problem
