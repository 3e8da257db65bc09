"""Scans mixed in one series whose headers differ in unusual places, and single scans that only look so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from synthetic_dicom import dataset, enhanced, hounsfield, save

from ctenhance import CTVolume
from ctenhance.files.dicom.writing import Derivation, write_series
from ctenhance.runtime.errors import InputError

SLICES = 12


def _series(folder: Path, said: Mapping[str, Sequence[Any]], depths: Sequence[float] = ()) -> np.ndarray:
    """Write one image for each value of the attributes, in space 1.5 mm apart, all alike."""
    count = len(next(iter(said.values())))
    values = np.repeat(hounsfield(1), count, axis=0)
    for index, depth in enumerate(depths or 1.5 * np.arange(count)):
        own: dict[str, Any] = {"InstanceNumber": index + 1}
        own |= {keyword: several[index] for keyword, several in said.items()}
        save(dataset(values[index], (0, 0, depth), **own), folder / f"{index:03d}")
    return values


@pytest.mark.parametrize(
    ("keyword", "one", "other"),
    [
        ("PatientAge", "061Y", "044Y"),
        ("PatientSex", "M", "F"),
        ("StudyDate", "20200101", "20210505"),
        ("PatientWeight", "79", "60"),
        ("ImageComments", "Mono+ 40 keV", "Mono+ 70 keV"),
        ("DerivationDescription", "strength 0 %", "strength 50 %"),
        ("WindowCenter", "40", "-600"),
        ("ContentTime", "101500", "112200"),
    ],
)
def test_scans_that_alternate_in_an_attribute_are_told(
    tmp_path: Path, keyword: str, one: str, other: str
) -> None:
    values = _series(tmp_path, {keyword: [one, other] * (SLICES // 2)})

    with pytest.raises(InputError, match=rf"mixes 2 scans .*{keyword} .*--where {keyword}=") as refusal:
        CTVolume.read(tmp_path)
    if keyword.startswith("Patient"):
        assert f"{keyword} {one}" not in str(refusal.value) and f"{keyword}={one}" not in str(refusal.value)
    chosen = CTVolume.read(tmp_path, where={keyword: "#1" if keyword.startswith("Patient") else one})
    np.testing.assert_array_equal(chosen.array, values[::2])
    assert chosen.spacing[2] == pytest.approx(3.0)


def test_comments_and_windows_of_each_slice_are_no_scans(tmp_path: Path) -> None:
    said = {
        "ImageComments": [f"slice {index}" for index in range(SLICES)],
        "WindowCenter": [str(40 + 7 * (index % 5)) for index in range(SLICES)],
        "ContentTime": [f"1015{index:02d}" for index in range(SLICES)],
    }

    values = _series(tmp_path, said)

    np.testing.assert_array_equal(CTVolume.read(tmp_path).array, values)


@pytest.mark.parametrize(
    ("keyword", "of_rotations"),
    [("FocalSpots", ["0.7", "1.2", "0.7"]), ("NominalPercentageOfCardiacPhase", [75.0, 74.0, 75.0])],
)
def test_what_a_rotation_sets_anew_may_go_to_and_fro(
    tmp_path: Path, keyword: str, of_rotations: list[Any]
) -> None:
    values = _series(tmp_path, {keyword: np.repeat(of_rotations, SLICES // 3).tolist()})

    volume = CTVolume.read(tmp_path)

    np.testing.assert_array_equal(volume.array, values)
    assert volume.meta["notes"] == [f"taken as one scan, though {keyword} changes along the stack"]


def test_but_not_from_slice_to_slice(tmp_path: Path) -> None:
    _series(tmp_path, {"FocalSpots": ["0.7", "1.2"] * (SLICES // 2)})

    with pytest.raises(InputError, match=r"mixes 2 scans.*FocalSpots"):
        CTVolume.read(tmp_path)


def test_an_attribute_lost_in_some_slices_parts_no_scan(tmp_path: Path) -> None:
    kvp = [None if index in (4, 5, 9) else 120 for index in range(SLICES)]
    values = _series(tmp_path, {"KVP": kvp})

    volume = CTVolume.read(tmp_path)

    np.testing.assert_array_equal(volume.array, values)
    assert volume.meta["notes"] == ["KVP does not stand in all slices"]


def test_one_that_stands_in_every_second_slice_does(tmp_path: Path) -> None:
    _series(tmp_path, {"KVP": [None, 120] * (SLICES // 2)})

    with pytest.raises(InputError, match=r"mixes 2 scans.*KVP"):
        CTVolume.read(tmp_path)


def test_letters_in_another_case_part_no_scan(tmp_path: Path) -> None:
    said = {"Manufacturer": ["ACME", "Acme", "ACME"] * 4, "ConvolutionKernel": ["B30f", "B30F", "b30f"] * 4}
    values = _series(tmp_path, said)

    volume = CTVolume.read(tmp_path)

    np.testing.assert_array_equal(volume.array, values)
    assert "notes" not in volume.meta or not volume.meta["notes"]


@pytest.mark.parametrize("keyword", ["InstanceNumber", "AcquisitionTime"])
def test_scans_that_overlap_in_part_are_told_as_such(tmp_path: Path, keyword: str) -> None:
    first = 3.0 * np.arange(SLICES)
    if keyword == "InstanceNumber":
        said: dict[str, list[Any]] = {keyword: [*range(1, 13), *range(101, 113)]}
    else:
        times = [f"1015{index:02d}" for index in range(12)] + [f"1017{index:02d}" for index in range(12)]
        said = {keyword: times, "InstanceNumber": [1] * 24}
    _series(tmp_path, said, [*first, *(first + 19.5)])

    with pytest.raises(InputError, match=f"several scans that overlap.*{keyword} .*--where {keyword}="):
        CTVolume.read(tmp_path)
    low, high = said[keyword][0], said[keyword][11]
    assert CTVolume.read(tmp_path, where={keyword: f"{low}..{high}"}).array.shape[0] == SLICES


def test_an_even_series_with_a_step_in_it_is_no_overlap(tmp_path: Path) -> None:
    depths = [*(3.0 * np.arange(6)), *(20 + 3.0 * np.arange(6))]
    _series(tmp_path, {"InstanceNumber": list(range(12))}, depths)

    with pytest.raises(InputError, match="unevenly spaced"):
        CTVolume.read(tmp_path)


def _of_two_tubes(folder: Path, values: np.ndarray) -> Path:
    made = enhanced(values, 2.0 * np.arange(len(values)), [1.0] * len(values))
    shared = made.SharedFunctionalGroupsSequence[0]
    tubes = []
    for kvp in (80.0, 140.0):
        tube = Dataset()
        tube.KVP = kvp
        tubes.append(tube)
    shared.CTXRayDetailsSequence = tubes
    return save(made, folder / "dual.dcm")


def test_a_scan_of_two_tubes_has_no_single_kvp(tmp_path: Path) -> None:
    values = hounsfield(4)
    path = _of_two_tubes(tmp_path / "scan", values)

    volume = CTVolume.read(path)

    np.testing.assert_array_equal(volume.array, values)
    assert "kvp" not in volume.meta
    write_series(volume, tmp_path / "out", Derivation(like=path))
    derived = CTVolume.read(tmp_path / "out")
    assert "kvp" not in derived.meta


@pytest.mark.parametrize("apart", [0.0, 1.0])
def test_files_of_several_frames_are_told_apart_by_what_the_files_say(tmp_path: Path, apart: float) -> None:
    values = hounsfield(6)
    for phase in (1, 2):
        made = enhanced(values + 10 * phase, 2.0 * np.arange(6) + apart * (phase - 1), [1.0] * 6)
        made.AcquisitionNumber = phase
        for frame in made.PerFrameFunctionalGroupsSequence:
            item = Dataset()
            item.FrameAcquisitionNumber = 1  # each file counts its own
            frame.FrameContentSequence = [item]
        save(made, tmp_path / f"phase{phase}.dcm")

    with pytest.raises(InputError, match=r"AcquisitionNumber 1 .* and 2 .*; put the files of each"):
        CTVolume.read(tmp_path)


def test_slices_of_two_thicknesses_are_told_with_their_numbers(tmp_path: Path) -> None:
    said = {"SliceThickness": [3] * 6 + [5] * 6}
    values = _series(tmp_path, said, [*(3.0 * np.arange(6)), *(19 + 5.0 * np.arange(6))])

    with pytest.raises(
        InputError, match=r"unevenly spaced: SliceThickness 3 \(6 slices\) and 5 .*--where SliceThickness=3"
    ):
        CTVolume.read(tmp_path)
    thick = CTVolume.read(tmp_path, where={"SliceThickness": 5})
    np.testing.assert_array_equal(thick.array, values[6:])
    assert thick.spacing[2] == pytest.approx(5.0)


def test_a_lossy_copy_beside_each_slice_is_told(tmp_path: Path) -> None:
    values = _series(tmp_path / "lossless", {"SeriesNumber": [2] * 4})
    for index, plane in enumerate(values):
        made = dataset(plane + 1, (0, 0, 1.5 * index), LossyImageCompression="01")
        save(made, tmp_path / f"copy{index}")

    with pytest.raises(InputError, match=r"LossyImageCompression none .* and 01"):
        CTVolume.read(tmp_path)
    original = CTVolume.read(tmp_path, where={"LossyImageCompression": ""})
    np.testing.assert_array_equal(original.array, values)
