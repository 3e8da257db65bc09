"""What makes a note: images that a DICOMDIR lists in vain, copies among the slices, MR as the source."""

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
from synthetic_dicom import hounsfield, write_series

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
