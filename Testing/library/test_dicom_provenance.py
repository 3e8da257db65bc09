"""What makes a note: images that a DICOMDIR lists in vain, copies among the slices, MR as the source, sizes
that contradict the field of view, times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from batch_folders import StandIn, batch, verb
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, MRImageStorage, generate_uid
from synthetic_dicom import dataset, enhanced, hounsfield, save, write_series

from ctenhance.core.volume import CTVolume

__all__ = ["verb"]


def notes(folder: Path, **options: Any) -> list[str]:
    return list(CTVolume.read(folder, **options).meta["notes"])


def disc(folder: Path) -> list[Path]:
    """Write a disc with two series and its DICOMDIR; return the files of series 2 from one end."""
    write_series(folder.with_name("one"))
    write_series(folder.with_name("other"), SeriesInstanceUID=generate_uid(), SeriesNumber=5)
    index = FileSet()
    for path in sorted(folder.parent.glob("o*/*.dcm")):
        made = pydicom.dcmread(path)
        made.StudyDate, made.StudyTime, made.StudyID = "20200101", "101500", "1"
        index.add(made)
    index.write(folder)
    images = {path: pydicom.dcmread(path) for path in folder.rglob("*") if path.is_file()}
    found = {path: image for path, image in images.items() if image.get("SeriesNumber") == 2}
    return sorted(found, key=lambda path: float(found[path].ImagePositionPatient[2]))


@pytest.mark.parametrize("lost", [1, 2])
def test_images_that_a_dicomdir_lists_and_are_not_there_are_noted_of_their_series_alone(
    tmp_path: Path, lost: int
):
    slices = disc(tmp_path / "disc")
    assert not notes(tmp_path / "disc", series=2)
    for path in slices[len(slices) - lost :]:
        path.unlink()
    (note,) = notes(tmp_path / "disc", series=2)
    assert f"lists 4 images of this series, of which {lost} " in note and "copy the whole disc" in note
    assert not notes(tmp_path / "disc", series=5)


@pytest.mark.parametrize("name", ["DICOMDIR", "INDEX.DIR"])
def test_a_batch_notes_them_as_well(tmp_path: Path, name: str, verb: StandIn):
    slices = disc(tmp_path / "discs")
    (tmp_path / "discs" / "DICOMDIR").rename(tmp_path / "discs" / name)
    slices[-1].unlink()
    told = batch(tmp_path / "discs", tmp_path / "out").stderr
    assert told.count("the DICOMDIR lists 4 images of this series, of which 1 is not there") == 1, told
    reports = [path.read_text(encoding="utf-8") for path in (tmp_path / "out").rglob("*.report.json")]
    assert len(reports) == 2 and sum("of which 1 is not there" in one for one in reports) == 1
    assert "2 finished before" in batch(tmp_path / "discs", tmp_path / "out").stdout


def test_images_that_were_moved_on_the_disc_are_there(tmp_path: Path):
    slices = disc(tmp_path / "disc")
    slices[-1].rename(tmp_path / "disc" / "moved")
    assert not notes(tmp_path / "disc", series=2)


@pytest.mark.parametrize("copied", [1, 3])
def test_slices_that_are_exact_copies_of_others_are_noted(tmp_path: Path, copied: int):
    values = hounsfield(5)
    values[4] = -1000
    values[0] = -1000  # slices of one value are none
    write_series(tmp_path / "as scanned", range(5), values=values)
    assert not notes(tmp_path / "as scanned")
    values[copied] = values[2]
    write_series(tmp_path / "copied", range(5), values=values)
    low, high = sorted((copied, 2))
    (note,) = notes(tmp_path / "copied")
    assert f"images at {low - 400:.2f} and {high - 400:.2f} mm are exact copies" in note


def test_slices_with_equal_rows_at_places_are_compared_whole(tmp_path: Path):
    """Of 32 rows every second one is looked at first, and these are the same in half of the slices."""
    values = hounsfield(12, rows=32, seed=3)
    values[::2, 1::2] = values[0, 1::2]
    write_series(tmp_path / "as scanned", range(12), values=values)
    assert not notes(tmp_path / "as scanned")
    values[8], values[10] = values[4], values[4]
    write_series(tmp_path / "copied", range(12), values=values)
    (note,) = notes(tmp_path / "copied")
    assert "images at -396.00 and -392.00 mm (and 1 more) are exact copies" in note


def test_computed_slices_that_are_all_the_same_are_not_noted(tmp_path: Path):
    write_series(tmp_path, range(4), values=np.repeat(hounsfield(1), 4, axis=0))
    assert not notes(tmp_path)


def source(kind: str) -> Sequence:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = kind, "1.2.3"
    return Sequence([item])


DERIVED = ["DERIVED", "SECONDARY", "AXIAL"]


@pytest.mark.parametrize(
    ("attributes", "noted"),
    [
        ({"SourceImageSequence": source(MRImageStorage), "ImageType": DERIVED}, True),
        ({"SourceImageSequence": source(EnhancedMRImageStorage), "ImageType": DERIVED}, True),
        ({"DerivationDescription": "Synthetic CT from MR"}, True),
        ({"SeriesDescription": "sCT from MRI, pelvis"}, True),
        ({"SeriesDescription": "MR-based synthetic"}, True),
        ({"SeriesDescription": "MRT-basiertes CT Becken"}, True),
        ({"SeriesDescription": "TC sintetica"}, True),
        ({"SourceImageSequence": source(CTImageStorage), "ImageType": DERIVED}, False),
        ({"SeriesDescription": "CT for MR planning", "ImageType": DERIVED}, False),
        ({"DerivationDescription": "Registered to MR"}, False),
    ],
)
def test_a_synthetic_ct_made_of_mr_is_noted(tmp_path: Path, attributes: dict[str, Any], noted: bool):
    write_series(tmp_path, **attributes)
    assert any("synthetic CT" in note for note in notes(tmp_path)) == noted


@pytest.mark.parametrize(("there", "total", "said"), [
    ([1, 2], 2, None), ([2], 2, "number 1 is not there"), ([1], 2, "number 2 is not there"),
    ([3], None, "number 1, 2 are not there"), ([1], None, None),
])  # fmt: skip
def test_files_of_one_image_that_are_not_there_are_told(
    tmp_path: Path, there: list[int], total: int | None, said: str | None
):
    uid = generate_uid()
    for part in there:
        made = enhanced(hounsfield(4, seed=part), 2.5 * np.arange(4 * part, 4 * part + 4), [1.0] * 4)
        made.ConcatenationUID, made.InConcatenationNumber = uid, part
        if total is not None:
            made.InConcatenationTotalNumber = total
        save(made, tmp_path / f"{part}.dcm")
    found = [one for one in notes(tmp_path) if "split into" in one]
    assert not found if said is None else said in found[0]


def field(shape: tuple[int, int], circle: bool) -> np.ndarray:
    """HU [z, y, x] of a body in air, and padding around a circle that touches the sides."""
    y, x = (np.arange(length) - (length - 1) / 2 for length in shape)
    away = np.hypot(*np.meshgrid(y, x, indexing="ij"))
    plane = np.where(away < 0.3 * min(shape), 40.0, -1000.0)
    values = plane + np.random.default_rng(0).normal(0, 12, (4, *shape))
    if circle:
        values[:, away > min(shape) / 2] = -2000
    return np.rint(values).astype(np.int16)


@pytest.mark.parametrize(
    ("shape", "circle", "diameter", "said"),
    [
        ((64, 64), True, 51.2, None),
        (
            (64, 64),
            True,
            204.8,
            "they were shrunk and the pixel spacing left as it was, and all lengths are 4",
        ),
        ((64, 64), True, 80.0, "mm: they were shrunk"),  # no piece that was cut out holds a whole circle
        ((64, 64), False, 102.4, "a piece was cut out of them, or they were shrunk"),
        (
            (64, 64),
            False,
            25.6,
            "they were enlarged and the pixel spacing left as it was, and all lengths are 2",
        ),
        ((64, 64), False, 80.0, None),  # a piece
        ((48, 64), False, 102.4, None),
        ((64, 64), False, None, None),
    ],
)
def test_a_size_that_contradicts_the_field_of_view_is_told(
    tmp_path: Path, shape: tuple[int, int], circle: bool, diameter: float | None, said: str | None
):
    for index, plane in enumerate(field(shape, circle)):
        changes = {"PixelRepresentation": 1, "RescaleIntercept": 0, "PixelSpacing": [0.8, 0.8]}
        made = dataset(plane, (0, 0, 2.5 * index), ReconstructionDiameter=diameter, **changes)
        save(made, tmp_path / f"{index}.dcm")
    found = [one for one in notes(tmp_path) if "field of view in the header" in one]
    assert not found if said is None else said in found[0]


@pytest.mark.parametrize(
    ("shape", "spacing", "diameter", "noted"),
    [
        ((64, 32), [1.6, 0.8], 51.2, True),
        ((64, 32), [0.8, 1.6], 51.2, False),
        ((64, 32), [1.6, 0.8], None, False),
        ((64, 32), [0.8, 0.8], 51.2, False),  # a piece
        ((64, 64), [0.8, 0.8], 51.2, False),
    ],
)
def test_exchanged_pixel_spacings_are_told_by_the_field_of_view(
    tmp_path: Path, shape: tuple[int, int], spacing: list[float], diameter: float | None, noted: bool
):
    for index, plane in enumerate(field(shape, circle=False)):
        changes = {"PixelRepresentation": 1, "RescaleIntercept": 0, "PixelSpacing": spacing}
        made = dataset(plane, (0, 0, 2.5 * index), ReconstructionDiameter=diameter, **changes)
        save(made, tmp_path / f"{index}.dcm")
    found = [one for one in notes(tmp_path) if "PixelSpacing (of rows, of columns) exchanged" in one]
    assert len(found) == noted
    assert all("25.6 x 102.4 mm by their pixels, but the field of view" in one for one in found)


@pytest.mark.parametrize(
    ("shape", "spacing", "circle", "noted"),
    [
        ((64, 64), [0.8, 1.2], True, True),
        ((64, 64), [0.8, 1.2], False, False),
        ((64, 64), [0.8, 0.8], True, False),
        ((64, 48), [0.8, 0.8], True, False),  # a piece of the field
    ],
)
def test_a_round_field_of_view_that_would_be_oval_is_told(
    tmp_path: Path, shape: tuple[int, int], spacing: list[float], circle: bool, noted: bool
):
    for index, plane in enumerate(field(shape, circle)):
        changes = {"PixelRepresentation": 1, "RescaleIntercept": 0, "PixelSpacing": spacing}
        save(dataset(plane, (0, 0, 2.5 * index), **changes), tmp_path / f"{index}.dcm")
    found = [one for one in notes(tmp_path) if "76.8 mm wide and 51.2 mm high" in one]
    assert len(found) == noted == any("a scanner's is round" in one for one in notes(tmp_path))


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (
            [0] * 6 + [38] * 6,
            "from -387.50 to -385.00 mm the time at which its slices were taken jumps by 38 s",
        ),
        ([38.4, 38.3, 38.2, 38.1, 38, 37.9, 0.5, 0.4, 0.3, 0.2, 0.1, 0], "jumps by 37 s"),
        ([0] * 4 + [30] * 4 + [65] * 4, "mm, and 1 more times, the time"),
        ([-20] * 6 + [18] * 6, "jumps by 38 s"),  # across midnight
        ([0] * 12, None),
        ([0.4 * index for index in range(12)], None),  # a table that moves on
        ([2.5 * (index // 4) for index in range(12)], None),  # steps
        ([15.0 * (index // 4) for index in range(12)], None),
        ([25.0 * index for index in range(12)], None),
        ([0] * 6 + [4] * 6, None),
        ([None] * 12, None),
    ],
)
def test_parts_that_were_taken_at_other_times_are_told(
    tmp_path: Path, times: list[float | None], said: str | None
):
    write_series(tmp_path, 2.5 * np.arange(12), values=hounsfield(12))
    for path, time in zip(sorted(tmp_path.iterdir(), reverse=True), times, strict=True):
        made = pydicom.dcmread(path)
        if time is not None:
            clock = time % 86400
            made.AcquisitionTime = f"{clock // 3600:02.0f}{clock // 60 % 60:02.0f}{clock % 60:09.6f}"
        made.save_as(path)
    found = [one for one in notes(tmp_path) if "the time at which its slices were taken" in one]
    assert not found if said is None else said in found[0]
    assert not any("jumps by" in one for one in notes(tmp_path, where={"AcquisitionTime": "any"}))


@pytest.mark.parametrize(
    ("times", "headers", "noted"),
    [
        ((38, 0), {"ContrastBolusAgent": "Iomeprol"}, True),
        ((38, 0), {"ContrastBolusStartTime": "101430"}, True),
        ((5, 0), {"ContrastBolusAgent": "Iomeprol"}, False),
        ((38, 0), {}, False),  # a computer's pause
        ((38, 0), {"ContrastBolusAgent": "Iomeprol", "AcquisitionTime": "101500"}, False),
    ],
)
def test_the_time_of_the_images_counts_where_none_of_the_scan_is_known(
    tmp_path: Path, times: tuple[int, int], headers: dict, noted: bool
):
    values = hounsfield(12)
    for first, time in zip((0, 6), times, strict=True):
        write_series(
            tmp_path, 2.5 * np.arange(first, first + 6), prefix=f"part{first}", values=values[first:],
            ContentTime=f"1015{time:02}", **headers,
        )  # fmt: skip
    found = [one for one in notes(tmp_path) if "jumps by 38 s (ContentTime)" in one]
    assert len(found) == noted


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"ImagesInAcquisition": 24}, "tell of 24 images (ImagesInAcquisition), of which 4 are there"),
        ({"NumberOfSeriesRelatedInstances": 9}, "tell of 9 images (NumberOfSeriesRelatedInstances), of"),
        ({"ImagesInAcquisition": 4}, None),
        ({"ImagesInAcquisition": 3}, None),  # of one of several reconstructions
        ({}, None),
    ],
)  # fmt: skip
def test_fewer_images_than_the_headers_say_are_told(tmp_path: Path, headers: dict, said: str | None):
    write_series(tmp_path, **headers)
    found = [one for one in notes(tmp_path) if "headers tell of" in one]
    assert not found if said is None else said in found[0]
    assert not [one for one in notes(tmp_path, where={"InstanceNumber": "1..3"}) if "headers tell of" in one]
