"""What texts of a header say in passing: turned and changed images, maps, and a tilt that is nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from synthetic_dicom import hounsfield, write_series

from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom.archive import Archive
from ctenhance.files.dicom.choice import Conditions
from ctenhance.runtime.errors import NotCTError

POSITIVE = np.abs(hounsfield(4)) % 70 + 3 * (hounsfield(4, seed=1) > 0)  # a map: nothing below zero
WITHOUT_AIR = hounsfield(4) // 8 + 20  # fat, and no air


def notes(folder: Path) -> list[str]:
    return list(CTVolume.read(folder).meta["notes"])


@pytest.mark.parametrize(
    "said, word",
    [
        ("flipped horizontally", "flipped"), ("mirrored left/right", "mirrored"),
        ("Rotated by 90 deg", "rotated"),
        ("FlipLR", "flip"), ("Bild gespiegelt", "gespiegelt"), ("image en miroir", "miroir"),
        ("imagen volteada", "volteada"), ("左右反転", "flipped"),
        ("left and right swapped", "left and right"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["DerivationDescription", "ImageComments"])
def test_a_turned_image_is_noted(tmp_path: Path, said: str, word: str, place: str) -> None:
    write_series(tmp_path, SpecificCharacterSet="ISO_IR 192", **{place: said})  # type: ignore[arg-type]
    (note,) = notes(tmp_path)
    assert f"it was turned ({word}" in note and "left and right" in note


@pytest.mark.parametrize(
    "said", ["clipped to [-160, 240]", "Windowed for AI", "histogram equalized", "8-bit"]
)
def test_changed_values_are_noted(tmp_path: Path, said: str) -> None:
    write_series(tmp_path, DerivationDescription=said)
    (note,) = notes(tmp_path)
    assert "values were changed" in note


@pytest.mark.parametrize("said", ["not flipped", "rotation time 0.5 s", "Denoised by CTEnhance", "MPR 3 mm"])
def test_other_remarks_are_not_noted(tmp_path: Path, said: str) -> None:
    write_series(tmp_path, DerivationDescription=said, ImageComments=said, StudyDescription="CT perfusion")
    assert not notes(tmp_path)


PLACES: list[dict[str, Any]] = [
    {"StudyDescription": "Iodine map"},
    {"SoftwareVersions": ["VB20", "IodineMap 2.1"]},
    {"FilterMaterial": "Iode(Eau)"},
    {"ProtocolName": "Neuro CBF"},
    {"AcquisitionDeviceProcessingDescription": "Electron density"},
    {"ManufacturerModelName": "QCT BMD"},
    {"RequestedProcedureDescription": "碘(水)"},
]


@pytest.mark.parametrize("place", PLACES)
def test_a_map_that_any_text_names(tmp_path: Path, place: dict[str, Any]) -> None:
    place = {**place, "SpecificCharacterSet": "ISO_IR 192"}
    write_series(tmp_path / "positive", values=POSITIVE, RescaleIntercept=0, **place)
    write_series(tmp_path / "fat", values=WITHOUT_AIR, **place)
    write_series(tmp_path / "scan", **place)
    (keyword,) = set(place) - {"SpecificCharacterSet"}
    with pytest.raises(NotCTError, match="tells of "):
        CTVolume.read(tmp_path / "positive")
    assert any(f"({keyword}) tells of" in note for note in notes(tmp_path / "fat"))
    # Of electron density air shows nothing, but where the text is of the whole examination.
    like_hu = "Electron density" in place.values()
    assert any("tells of" in note for note in notes(tmp_path / "scan")) == like_hu


def test_a_map_that_a_sequence_or_a_private_text_names(tmp_path: Path) -> None:
    item = Dataset()
    item.CodeMeaning = "Perfusion map of the brain"
    write_series(tmp_path / "code", values=WITHOUT_AIR, ProcedureCodeSequence=Sequence([item]))
    assert any("(CodeMeaning) tells of" in note for note in notes(tmp_path / "code"))


def test_a_piece_without_air_that_nothing_names_stays(tmp_path: Path) -> None:
    write_series(tmp_path, values=WITHOUT_AIR, StudyDescription="CT lumbar spine", ProtocolName="L-spine")
    assert not notes(tmp_path)


@pytest.mark.parametrize("tilt, noted", [("15", True), ("-12.5", True), ("0", False), ("0.1", False)])
def test_a_tilt_that_positions_do_not_show_is_noted(tmp_path: Path, tilt: str, noted: bool) -> None:
    write_series(tmp_path / "acquired", GantryDetectorTilt=tilt)
    write_series(tmp_path / "reformat", GantryDetectorTilt=tilt, ImageType=["DERIVED", "SECONDARY", "MPR"])
    assert any("gantry tilt of" in note for note in notes(tmp_path / "acquired")) == noted
    assert not notes(tmp_path / "reformat")


def test_one_name_with_and_without_its_empty_parts(tmp_path: Path) -> None:
    write_series(tmp_path, PatientName="MUELLER^A")
    more = hounsfield(2, seed=5)
    write_series(tmp_path, (10.0, 12.5), prefix="more", values=more, PatientName="Mueller^A^^^")
    assert not notes(tmp_path)


@pytest.mark.parametrize(
    ("said", "noted"),
    [
        ("Lunge MIP 10/3", True), ("MIP Ax", True), ("Thorax MinIP 10/3", True), ("Ave IP 5mm", True),
        ("AIP 0-90%", True), ("Mittelwert 10mm Ave", True), ("Thorax 5 mm average", True),
        ("Average dose 80 mA", False), ("Mean 70 bpm", False),
        ("COR MIPS", True), ("Thorax 1.0 fuer MIP", False), ("thin for MIP", False), ("Chest", False),
    ],
)  # fmt: skip
def test_a_projection_that_only_its_description_tells_is_noted(
    tmp_path: Path, said: str, noted: bool
) -> None:
    write_series(tmp_path, SeriesDescription=said, ImageType=["DERIVED", "SECONDARY", "AXIAL"])
    assert any("projection through several slices" in one for one in notes(tmp_path)) == noted
    (listed,) = Archive(tmp_path, Conditions.of({}))
    assert any("projection through several slices" in one for one in listed.notes) == noted


@pytest.mark.parametrize(
    ("thickness", "kind", "noted"),
    [(10.0, "DERIVED", True), (10.0, "ORIGINAL", False), (5.0, "DERIVED", False), (2.5, "DERIVED", False)],
)
def test_derived_slabs_that_overlap_are_noted(
    tmp_path: Path, thickness: float, kind: str, noted: bool
) -> None:
    write_series(tmp_path, SliceThickness=thickness, ImageType=[kind, "SECONDARY", "AXIAL"])
    assert any("mm apart, as slabs are" in one for one in notes(tmp_path)) == noted


@pytest.mark.parametrize(
    ("name", "beside", "noted"),
    [
        ("chest", {"SeriesDescription": "Thx Ax MIP 10/5"}, True),
        ("chest", {"ImageType": ["DERIVED", "SECONDARY", "MINIP"]}, True),
        ("chest_MIP", {}, True),
        ("chest", {"SeriesDescription": "thin for MIP", "ImageType": ["ORIGINAL", "PRIMARY"]}, False),
    ],
)
def test_a_projection_as_nifti_is_noted(
    tmp_path: Path, name: str, beside: dict[str, Any], noted: bool
) -> None:
    CTVolume(hounsfield(8).astype(np.float32), (0.7, 0.7, 5.0)).write(tmp_path / f"{name}.nii.gz")
    (tmp_path / f"{name}.json").write_text(json.dumps(beside))
    said = CTVolume.read(tmp_path / f"{name}.nii.gz").meta.get("notes", [])
    assert any("projection through several slices" in one for one in said) == noted


def test_a_scan_with_mip_in_its_name_is_no_projection(tmp_path: Path) -> None:
    write_series(tmp_path, SeriesDescription="Lunge MIP", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
    assert notes(tmp_path) == []


@pytest.mark.parametrize(
    ("maker", "location", "centre", "noted"),
    [
        ("GE MEDICAL SYSTEMS", -1, 0, True), ("GE MEDICAL SYSTEMS", 1, 0, False),
        ("Philips", -1, 0, False), ("TOSHIBA", -1, 1, False),
        ("SIEMENS", -1, -1, True), ("SIEMENS", 1, -1, False),
    ],
)  # fmt: skip
def test_z_against_all_else_that_says_where_slices_lie_is_noted(
    tmp_path: Path, maker: str, location: int, centre: int, noted: bool
) -> None:
    """Slice Location alone is turned in sound images of some scanners."""
    for index, z in enumerate((-50.0, -47.5, -45.0, -42.5)):
        more = {"ReconstructionTargetCenterPatient": [0.0, 12.0, centre * z]} if centre else {}
        write_series(
            tmp_path,
            (z,),
            prefix=f"s{index}",
            values=hounsfield(4)[index : index + 1],
            ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
            Manufacturer=maker,
            SliceLocation=location * z + 10.0,
            **more,
        )
    assert any("head and feet" in one for one in notes(tmp_path)) == noted
