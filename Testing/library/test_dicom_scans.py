"""Several scans in one series: never one volume, whatever tells them apart, and how to choose."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_refusal import refusal
from pydicom.datadict import tag_for_keyword
from pydicom.uid import generate_uid
from synthetic_dicom import dataset, hounsfield, save, write_series

from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom.marks import ATTRIBUTES

# What two scans in one series may differ in, and how a condition names the second.
ANYWHERE: dict[str, tuple[Any, Any, str]] = {
    "KVP": (80, 140, "140"),
    "ConvolutionKernel": ("B30f", ["Br59f", "3"], "Br59f/3"),
    "Manufacturer": ("ACME", "Other", "Other"),
    "ManufacturerModelName": ("Scan 1", "Scan 2", "Scan 2"),
    "DeviceSerialNumber": ("7", "8", "#2"),
    "FrameOfReferenceUID": ("1.2.5", "1.2.6", "#2"),
    "PatientID": ("SECRET-7", "SECRET-8", "#2"),
    "PatientName": ("Nobody^Known", "Nobody^Other", "#2"),
    "PatientBirthDate": ("19500101", "19700101", "#2"),
    "PatientSex": ("F", "M", "#2"),
    "PatientAge": ("064Y", "065Y", "#2"),
    "StudyInstanceUID": ("1.2.3", "1.2.4", "#2"),
    "StudyDate": ("20240305", "20250305", "#2"),
}


NOT_MIXED: dict[str, tuple[Any, Any, str]] = {
    "AcquisitionNumber": (1, 2, "2"),
    "TemporalPositionIdentifier": (1, 2, "2"),
    "NominalPercentageOfCardiacPhase": (40.0, 75.0, "75"),
    "NominalCardiacTriggerDelayTime": (300.0, 600.0, "600"),
    "RespiratoryCyclePosition": ("START_RESPIR", "END_RESPIR", "START_RESPIR"),
    "ContrastBolusAgent": (None, "iodine", "iodine"),
    "ContrastBolusStartTime": ("101500", "101700", "101700"),
    "ImageType": (["ORIGINAL", "PRIMARY", "AXIAL", "E1"], ["ORIGINAL", "PRIMARY", "AXIAL", "E2"], "E2"),
    "SliceThickness": (1.25, 2.5, "2.5"),
    "ReconstructionDiameter": (350, 500, "500"),
    "FilterType": ("WEDGE", "FLAT", "WEDGE"),
    "FocalSpots": (0.7, 1.2, "1.2"),
    "ConvolutionKernelGroup": ("SOFT", "BONE", "BONE"),
    "ScanOptions": ("AXIAL MODE", "HELICAL MODE", "HELICAL MODE"),
    "RevolutionTime": (0.5, 1.0, "1"),
    "SpiralPitchFactor": (0.6, 1.2, "1.2"),
    "RotationDirection": ("CW", "CC", "CW"),
    "PatientPosition": ("HFS", "FFS", "HFS"),
    "SeriesDescription": ("arterial of Nobody", "venous of Nobody", "#2"),
    "ProtocolName": ("Thorax", "Thorax late", "#2"),
    "IrradiationEventUID": ("1.2.3", "1.2.4", "#2"),
    "AcquisitionDate": ("20200101", "20200102", "#2"),
}  # fmt: skip


APART = [*ANYWHERE.items(), *NOT_MIXED.items()]


STEPS = np.arange(4) * 2.0


def two_scans(folder: Path, keyword: str, first: Any, second: Any, depths: np.ndarray) -> list[np.ndarray]:
    """Write two scans that differ in the attribute, the first at STEPS, the second one at these depths."""
    one = write_series(folder, depths=STEPS, prefix="first", **{keyword: first})
    other = hounsfield(len(depths), seed=1)
    write_series(folder, depths=depths, prefix="second", values=other, **{keyword: second})
    return [one, other]


@pytest.mark.parametrize(("keyword", "values"), APART, ids=[one[0] for one in APART])
@pytest.mark.parametrize("offset", [1.0, 0.6, 0.0])
def test_two_interleaved_scans_are_refused_and_either_is_chosen(
    tmp_path: Path, keyword: str, values: tuple[Any, Any, str], offset: float
):
    """Half a spacing apart they make an even stack; less than that none; at the same places none either."""
    first, second, named = values
    scans = two_scans(tmp_path, keyword, first, second, STEPS + offset)
    sentence = refusal(tmp_path)
    assert ("it mixes 2 scans in one series" if offset else "two different images lie at") in sentence
    assert keyword in sentence and f"{named} (4 slices)" in sentence and "choose one" in sentence
    option = re.search(r"--acquisition (\S+)|--where (?:\"([^\"]+)\"|(\S+))", sentence)
    assert option is not None
    condition = f"AcquisitionNumber={option[1]}" if option[1] else option[2] or option[3]
    chosen = CTVolume.read(tmp_path, where=dict([condition.split("=", 1)]))
    assert any(np.array_equal(chosen.array, scan) for scan in scans)
    np.testing.assert_array_equal(CTVolume.read(tmp_path, where={keyword: named}).array.shape, (4, 12, 16))


@pytest.mark.parametrize(("keyword", "values"), ANYWHERE.items(), ids=list(ANYWHERE))
def test_what_is_one_for_a_scan_does_not_change_along_it_either(
    tmp_path: Path, keyword: str, values: tuple[Any, Any, str]
):
    two_scans(tmp_path, keyword, *values[:2], STEPS + 8)
    assert "it mixes 2 scans" in refusal(tmp_path) and keyword in refusal(tmp_path)


@pytest.mark.parametrize(("keyword", "values"), NOT_MIXED.items(), ids=list(NOT_MIXED))
def test_blocks_that_make_one_even_stack_are_one_scan_with_a_note(
    tmp_path: Path, keyword: str, values: tuple[Any, Any, str]
):
    scans = two_scans(tmp_path, keyword, *values[:2], STEPS + 8)
    volume = CTVolume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, np.concatenate(scans))
    assert volume.meta["notes"] == [f"taken as one scan, though {keyword} changes along the stack"]


@pytest.mark.parametrize("keyword", ["ImageComments", "DerivationDescription", "SeriesDescription"])
def test_images_at_two_energies_that_texts_name_are_no_one_scan(tmp_path: Path, keyword: str):
    scans = two_scans(tmp_path / "two", keyword, "Monoenergetic 40 keV", "Mono_70keV", STEPS + 8)
    sentence = refusal(tmp_path / "two")
    assert f"told apart by {keyword} with 40 keV (4 slices) and 70 keV (4 slices); choose one" in sentence
    chosen = CTVolume.read(tmp_path / "two", where={keyword: "#2"})
    assert any(np.array_equal(chosen.array, scan) for scan in scans)
    assert len(CTVolume.read(tmp_path / "two", where={keyword: "any"}).array) == 8
    for number, said in enumerate([("Mono 40 keV", "at 40 keV"), ("40 keV", "window 50"), ("lung", "bone")]):
        two_scans(tmp_path / f"{number}", keyword, *said, STEPS + 8)
        assert len(CTVolume.read(tmp_path / f"{number}").array) == 8


def test_the_example_is_the_scan_of_most_slices(tmp_path: Path):
    write_series(tmp_path, depths=np.arange(7) * 2.0, prefix="a", KVP=140)
    write_series(tmp_path, depths=[14.0], prefix="b", values=hounsfield(1, seed=2), KVP=80)
    assert "KVP 80 (1 slice) and 140 (7 slices); choose one, for instance with --where KVP=140" in refusal(
        tmp_path
    )


@pytest.mark.parametrize("keyword", ["AcquisitionDate", "SeriesDate"])
def test_a_date_may_turn_at_midnight_but_no_further(tmp_path: Path, keyword: str):
    two_scans(tmp_path / "night", keyword, "20231231", "20240101", STEPS + 8)
    assert CTVolume.read(tmp_path / "night").array.shape[0] == 8
    two_scans(tmp_path / "year", keyword, "20231231", "20250101", STEPS + 8)
    assert "it mixes 2 scans" in refusal(tmp_path / "year")
    assert CTVolume.read(tmp_path / "year", where={keyword: "20250101"}).array.shape[0] == 4
    assert CTVolume.read(tmp_path / "year", where={keyword: "any"}).array.shape[0] == 8


def test_step_and_shoot(tmp_path: Path):
    """One acquisition number, and one time, per position of the couch."""
    values = hounsfield(12)
    for index, plane in enumerate(values):
        made = dataset(
            plane, (0, 0, 2.5 * index), AcquisitionNumber=1 + index // 4,
            AcquisitionTime=f"1015{10 * (index // 4):02d}.5",
        )  # fmt: skip
        save(made, tmp_path / f"{index}.dcm")
    volume = CTVolume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, values)
    assert volume.meta["notes"] == ["taken as one scan, though AcquisitionNumber changes along the stack"]


def test_what_differs_from_slice_to_slice_of_one_scan_is_no_matter(tmp_path: Path):
    """An acquisition for each slice, a modulated tube current, times, windows, comments, UIDs."""
    values = hounsfield(12)
    draw = np.random.default_rng(5)
    for index, plane in enumerate(values):
        current = int(200 + 100 * np.sin(index) + draw.integers(-9, 9))
        made = dataset(
            plane, (0, 0, 2.5 * index), AcquisitionNumber=index + 1, InstanceNumber=index + 1,
            XRayTubeCurrent=current, Exposure=current // 2, ExposureTime=500 + index % 2,
            AcquisitionTime=f"1015{2 * index:02d}.25", ContentTime=f"10{draw.integers(10, 59)}00",
            WindowCenter=int(draw.integers(20, 60)), TableHeight=150 + index % 2 / 10,
            IrradiationEventUID=generate_uid(), ImageComments=f"mA {current // 50}", SliceLocation=index,
            SliceThickness="1.2500001" if index % 2 else "1.25", SOPInstanceUID=generate_uid(),
        )  # fmt: skip
        save(made, tmp_path / f"{index}.dcm")
    volume = CTVolume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, values)
    assert volume.meta["notes"] == []


def test_anonymisers_that_make_up_a_frame_of_reference_for_each_file(tmp_path: Path):
    values = hounsfield(5)
    for index, plane in enumerate(values):
        made = dataset(
            plane, (0, 0, index), FrameOfReferenceUID=generate_uid(), StudyInstanceUID=generate_uid()
        )
        save(made, tmp_path / f"{index}.dcm")
    volume = CTVolume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, values)
    assert "FrameOfReferenceUID differs in all slices" in volume.meta["notes"][0]


def test_many_phases_are_listed_shortly(tmp_path: Path):
    for phase in range(12):
        write_series(tmp_path, prefix=f"p{phase}_", values=hounsfield(4, seed=phase), TriggerTime=phase,
                     TemporalPositionIdentifier=phase + 1)  # fmt: skip
    sentence = refusal(tmp_path)
    assert "TemporalPositionIdentifier 1 (4 slices), 2 (4 slices)" in sentence and "and 5 more" in sentence
    expected = hounsfield(4, seed=6)
    found = CTVolume.read(tmp_path, where={"TemporalPositionIdentifier": 7})
    np.testing.assert_array_equal(found.array, expected)


def test_the_finest_difference_is_the_one_to_choose_by(tmp_path: Path):
    for number in range(4):
        write_series(
            tmp_path, prefix=f"n{number}_", depths=STEPS + number / 2, values=hounsfield(4, seed=number),
            AcquisitionNumber=number + 1, ContrastBolusAgent="iodine" if number > 1 else None,
        )  # fmt: skip
    sentence = refusal(tmp_path)
    assert (
        "it mixes 4 scans" in sentence
        and "with --acquisition 1" in sentence
        and "ContrastBolusAgent" in sentence
    )


def test_what_the_user_calls_one_scan_is_one_with_a_note_and_unsure_facts_left_out(tmp_path: Path):
    two_scans(tmp_path, "KVP", 80, 140, STEPS + 1)
    assert "or take them as one scan with --where KVP=any." in refusal(tmp_path)
    volume = CTVolume.read(tmp_path, where={"KVP": "any"})
    assert volume.array.shape[0] == 8 and "kvp" not in volume.meta
    assert volume.meta["notes"] == ["slices chosen by KVP=any"]


def test_different_matrices_pixels_and_directions_are_chosen_by(tmp_path: Path):
    kept = write_series(tmp_path)
    save(dataset(hounsfield(1, 8, 8)[0], (0, 0, 0)), tmp_path / "small.dcm")
    assert "16 x 12 and 8 x 8 pixels" in refusal(tmp_path) and "--where Rows=" in refusal(tmp_path)
    np.testing.assert_array_equal(CTVolume.read(tmp_path, where={"Rows": 12}).array, kept)
    (tmp_path / "small.dcm").unlink()
    coronal = {"orientation": (1, 0, 0, 0, 0, -1), "prefix": "coronal"}
    write_series(tmp_path, **coronal)
    assert "--where ImageOrientationPatient=#1" in refusal(tmp_path)
    np.testing.assert_array_equal(
        CTVolume.read(tmp_path, where={"ImageOrientationPatient": "#2"}).array, kept
    )


def test_a_gap_where_the_acquisition_changes_is_told_with_it(tmp_path: Path):
    two_scans(tmp_path, "AcquisitionNumber", 1, 2, STEPS + 20)
    sentence = refusal(tmp_path)
    assert "where AcquisitionNumber changes from 1 to 2" in sentence
    assert "the part on one side of it" in sentence


def test_all_attributes_are_dicoms():
    for keyword in ATTRIBUTES:
        assert tag_for_keyword(keyword) is not None, keyword
