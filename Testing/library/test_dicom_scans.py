"""Several scans in one series: never one volume, whatever tells them apart, and how to choose."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid
from synthetic_dicom import dataset, enhanced, hounsfield, save, write_series

from ctenhance.core.volume import CTVolume
from ctenhance.files.dicom.marks import ATTRIBUTES
from ctenhance.runtime.errors import InputError

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


def refusal(path: Path, **where: Any) -> str:
    with pytest.raises(InputError) as caught:
        CTVolume.read(path, where=where)
    sentence = str(caught.value)
    assert sentence.endswith(".") and not re.search(r"\. [A-Z]", sentence), "one sentence"
    assert "SECRET" not in sentence and "Nobody" not in sentence and "1.2." not in sentence
    return sentence


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


ALTERNATING: dict[str, Any] = {
    "InstanceNumber": lambda scan, index: 1 + index + 5 * scan,
    "AcquisitionTime": lambda scan, index: f"10{15 + scan}{index:02d}.5",
    "AcquisitionDateTime": lambda scan, index: f"202001011{scan}0000.{index}",
    "XRayTubeCurrent": lambda scan, index: 100 + 200 * scan + index,
    "Exposure": lambda scan, index: 100 - 50 * scan,
    "AcquisitionNumber": lambda scan, index: 1 + index + 5 * scan,
    "TableHeight": lambda scan, index: 150 + 5 * scan,
}


@pytest.mark.parametrize("keyword", ALTERNATING)
@pytest.mark.parametrize("scans", [2, 3])
def test_scans_that_differ_only_in_what_differs_anyway_are_seen_by_how_it_alternates(
    tmp_path: Path, keyword: str, scans: int
):
    value = ALTERNATING[keyword]
    volumes = [hounsfield(5, seed=scan) for scan in range(scans)]
    for scan, volume in enumerate(volumes):
        for index, plane in enumerate(volume):
            attributes = {"InstanceNumber": None, keyword: value(scan, index)}
            made = dataset(plane, (0, 0, 3 * index + 3 * scan / scans), **attributes)
            save(made, tmp_path / f"{scan}_{index}.dcm")
    sentence = refusal(tmp_path)
    assert f"it mixes {scans} scans in one series, told apart by {keyword}" in sentence
    if keyword == "AcquisitionDateTime":  # dates are not shown
        assert "folder of their own" in sentence and "2020" not in sentence
        return
    condition = re.search(r"where=\{'\w+': '?([^'}]+)", sentence)
    assert condition is not None
    np.testing.assert_array_equal(CTVolume.read(tmp_path, where={keyword: condition[1]}).array, volumes[0])


def test_two_times_in_one_file_are_told_apart_by_their_rank(tmp_path: Path):
    values = hounsfield(8)
    made = enhanced(values, np.arange(8) * 2.0, [1] * 8)
    for index, frame in enumerate(made.PerFrameFunctionalGroupsSequence):
        content = Dataset()
        content.FrameAcquisitionDateTime = f"20200101101{5 * (index % 2)}00"
        frame.FrameContentSequence = Sequence([content])
    save(made, tmp_path / "both.dcm")
    sentence = refusal(tmp_path)
    assert "in one file" in sentence and "folder" not in sentence and "2020" not in sentence
    assert "where={'AcquisitionDateTime': '#1'}" in sentence
    chosen = CTVolume.read(tmp_path, where={"AcquisitionDateTime": "#1"})
    np.testing.assert_array_equal(chosen.array, values[::2])
    # Where each frame has a time of its own, nothing picks one scan.
    for index, frame in enumerate(made.PerFrameFunctionalGroupsSequence):
        frame.FrameContentSequence[0].FrameAcquisitionDateTime = f"20200101101{5 * (index % 2)}0{index}"
    save(made, tmp_path / "both.dcm")
    sentence = refusal(tmp_path)
    assert "export each as a series of its own" in sentence and "folder" not in sentence


@pytest.mark.parametrize("apart", [0, 2, 150])
def test_two_scans_whose_headers_tell_nothing_are_pointed_out_by_their_images(tmp_path: Path, apart: int):
    values = hounsfield(12, rows=64, columns=64) + 15 * np.arange(12)[:, None, None] // 2
    values[1::2] += apart
    write_series(tmp_path, depths=np.arange(12) * 1.0, values=values)
    notes = CTVolume.read(tmp_path).meta["notes"]
    assert any("as if scans were mixed" in note for note in notes) == (apart == 150)


@pytest.mark.parametrize("scans", [2, 3])
def test_interleaved_scans_that_are_numbered_alike(tmp_path: Path, scans: int):
    for index, plane in enumerate(hounsfield(4 * scans)):
        made = dataset(plane, (0, 0, index), InstanceNumber=1 + index // scans)
        save(made, tmp_path / f"{index}.dcm")
    assert f"InstanceNumber, of which each stands {scans} times; put the files of each" in refusal(tmp_path)
    assert CTVolume.read(tmp_path, where={"InstanceNumber": "any"}).array.shape[0] == 4 * scans


@pytest.mark.parametrize("number", [lambda index: 1, lambda index: 1 + index % 6, lambda index: 12 - index])
def test_numbers_that_say_nothing_against_one_scan(tmp_path: Path, number: Callable[[int], int]):
    for index, plane in enumerate(hounsfield(12)):
        save(dataset(plane, (0, 0, index), InstanceNumber=number(index)), tmp_path / f"{index}.dcm")
    volume = CTVolume.read(tmp_path)
    assert volume.array.shape[0] == 12 and volume.meta["notes"] == []


def test_scans_at_the_same_places_that_only_came_one_after_the_other(tmp_path: Path):
    first, second = hounsfield(4), hounsfield(4, seed=1)
    for index in range(4):
        for scan, volume in enumerate((first, second)):
            made = dataset(volume[index], (0, 0, index), InstanceNumber=1 + index + 4 * scan)
            save(made, tmp_path / f"{scan}_{index}.dcm")
    assert "InstanceNumber 1..4 (4 slices) and 5..8 (4 slices); choose one" in refusal(tmp_path)
    np.testing.assert_array_equal(CTVolume.read(tmp_path, where={"InstanceNumber": "5..8"}).array, second)


def test_images_at_one_place_that_nothing_tells_apart(tmp_path: Path):
    for name, seed in (("a", 0), ("b", 1)):
        save(dataset(hounsfield(1, seed=seed)[0], (0, 0, 0)), tmp_path / f"{name}.dcm")
    assert "nothing in their headers tells them apart; put the files of one into a folder" in refusal(
        tmp_path
    )


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("{2}.dcm", "'0.dcm' to '11.dcm' and '12.dcm' to '23.dcm'"),
        ("p{0}/{1}.dcm", "'p0/0.dcm' to 'p0/11.dcm' and 'p1/0.dcm' to 'p1/11.dcm'"),
    ],
)
def test_phases_numbered_alike_are_told_by_their_files(tmp_path: Path, name: str, parts: str):
    for index, plane in enumerate(hounsfield(24)):
        made = dataset(plane, (0, 0, 3.5 * (index % 12)), InstanceNumber=1 + index % 12)
        save(made, tmp_path / name.format(*divmod(index, 12), index))
    sentence = refusal(tmp_path)
    assert f"nothing in their headers tells them apart, only the names of the files: {parts}" in sentence


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


def frames_with(made: pydicom.Dataset, sequence: str, keyword: str, values: list[Any]) -> None:
    for frame, value in zip(made.PerFrameFunctionalGroupsSequence, values, strict=True):
        item = Dataset()
        setattr(item, keyword, value)
        setattr(frame, sequence, Sequence([item]))


OF_FRAMES = {
    "MonoenergeticEnergyEquivalent": ("MultienergyCTCharacteristicsSequence", 40.0, 70.0, "40", "70"),
    "TemporalPositionIdentifier": ("FrameContentSequence", 1, 2, "1", "2"),
    "AcquisitionNumber": ("FrameContentSequence", 1, 2, "1", "2"),
    "StackID": ("FrameContentSequence", "1", "2", "1", "2"),
    "NominalPercentageOfCardiacPhase": ("CardiacSynchronizationSequence", 40.0, 75.0, "40", "75"),
    "ImageType": (
        "CTImageFrameTypeSequence",
        ["DERIVED", "PRIMARY", "VOLUME", "VMI"], ["DERIVED", "PRIMARY", "VOLUME", "VNC"], "VMI", "VNC",
    ),
    "KVP": ("CTXRayDetailsSequence", 80.0, 140.0, "80", "140"),
    "ConvolutionKernel": ("CTReconstructionSequence", "Br40", "Br60", "Br40", "Br60"),
    "ContrastBolusAgentPhase": ("ContrastBolusUsageSequence", "PRE_CONTRAST", "STEADY_STATE",
                                "PRE_CONTRAST", "STEADY_STATE"),
}  # fmt: skip
IN_FRAMES = {
    "TemporalPositionIdentifier": "TemporalPositionIndex",
    "AcquisitionNumber": "FrameAcquisitionNumber",
    "ImageType": "FrameType",
}


@pytest.mark.parametrize("keyword", OF_FRAMES)
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_one_file_of_several_scans_names_them_and_lets_one_be_chosen(
    tmp_path: Path, keyword: str, offset: float
):
    sequence, first, second, one, other = OF_FRAMES[keyword]
    values = hounsfield(8)
    made = enhanced(values, depths=[*STEPS, *(STEPS + offset)], slopes=(1,) * 8)
    frames_with(made, sequence, IN_FRAMES.get(keyword, keyword), [first] * 4 + [second] * 4)
    path = save(made, tmp_path / "both.dcm")
    sentence = refusal(path)
    start = "it mixes 2 scans in one file" if offset else "(frames 1 and 5 of 'both.dcm')"
    assert start in sentence and f"{keyword} {one} (4 slices) and {other} (4 slices); choose one" in sentence
    for name, expected in ((one, values[:4]), (other, values[4:])):
        volume = CTVolume.read(path, where={keyword: name})
        np.testing.assert_array_equal(volume.array, expected)
        assert len(volume.meta["source_files"]) == 4
    if keyword == "KVP":
        assert CTVolume.read(path, where={"KVP": 140}).meta["kvp"] == 140


def test_two_energies_in_the_two_orders_of_frames_each_with_its_own_rescaling(tmp_path: Path):
    values = hounsfield(8)
    for name, order in (("by energy", range(8)), ("by place", [0, 4, 1, 5, 2, 6, 3, 7])):
        indices = list(order)
        depths = [2.0 * (index % 4) for index in indices]
        slopes = [1 if index < 4 else 0.5 for index in indices]
        made = enhanced(values[indices], depths=depths, slopes=slopes)
        frames_with(
            made, "MultienergyCTCharacteristicsSequence", "MonoenergeticEnergyEquivalent",
            [40.0 if index < 4 else 70.0 for index in indices],
        )  # fmt: skip
        path = save(made, tmp_path / f"{name}.dcm")
        for energy, expected in ((40, values[:4]), (70, values[4:])):
            found = CTVolume.read(path, where={"MonoenergeticEnergyEquivalent": energy})
            np.testing.assert_array_equal(found.array, expected)


def test_a_dimension_that_the_file_itself_declares_is_looked_at(tmp_path: Path):
    """An attribute that no list of ours has, but the Dimension Index Sequence of the file."""
    made = enhanced(hounsfield(4), depths=(0, 2, 0, 2), slopes=(1,) * 4)
    frames_with(made, "IrradiationEventIdentificationSequence", "DateOfSecondaryCapture", [None] * 4)
    frames_with(made, "CTTableDynamicsSequence", "TableSpeed", [1.0, 1.0, 2.0, 2.0])
    dimension = Dataset()
    dimension.DimensionIndexPointer = tag_for_keyword("TableSpeed")
    made.DimensionIndexSequence = Sequence([dimension])
    sentence = refusal(save(made, tmp_path / "both.dcm"))
    assert (
        "TableSpeed 1 (2 slices) and 2 (2 slices); choose one, for instance with --where TableSpeed=1"
        in sentence
    )


def test_all_attributes_are_dicoms():
    for keyword in ATTRIBUTES:
        assert tag_for_keyword(keyword) is not None, keyword


def _write_cine(folder: Path, places: int, times: int, leave_out: int = -1) -> np.ndarray:
    """Write a scan that takes all times at one place before it goes on, as cine perfusion scans do."""
    values = hounsfield(places * times)
    for index, plane in enumerate(values):
        if index != leave_out:
            place = (-100, -90, 5.0 * (index // times))
            # Two rows of the detector at once, so that times alone do not tell.
            second = 30 * (index // times // 2) + index % times
            made = dataset(plane, place, InstanceNumber=index + 1, AcquisitionTime=f"1200{second:02d}")
            save(made, folder / f"{index:03d}.dcm")
    return values


def test_one_moment_of_a_cine_scan_can_be_chosen(tmp_path: Path) -> None:
    values = _write_cine(tmp_path, places=4, times=5)
    with pytest.raises(InputError, match=r"5 were taken at each place.*cine.*InstanceNumber=1\.\.20/5"):
        CTVolume.read(tmp_path)

    for first in (1, 3):
        volume = CTVolume.read(tmp_path, where={"InstanceNumber": f"{first}..20/5"})
        np.testing.assert_array_equal(volume.array, values[first - 1 :: 5])


def test_a_cine_scan_with_an_image_less_is_told_as_one(tmp_path: Path) -> None:
    _write_cine(tmp_path, places=4, times=5, leave_out=19)
    with pytest.raises(InputError, match=r"several were taken at each place.*put one image of each place"):
        CTVolume.read(tmp_path)
