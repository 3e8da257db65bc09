"""Several scans in the frames of one file: never one volume, and how to choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_refusal import refusal
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from synthetic_dicom import enhanced, hounsfield, save

from ctenhance.core.volume import CTVolume

PLACES = np.arange(4) * 2.0


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
    made = enhanced(values, depths=[*PLACES, *(PLACES + offset)], slopes=(1,) * 8)
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
