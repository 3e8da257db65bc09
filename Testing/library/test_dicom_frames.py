"""What thousands of frames say is taken from their header however it is written, as pydicom reads it."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from synthetic_dicom import enhanced, hounsfield

from ctenhance.files.dicom.header import frames_of, read_file

WRITINGS = {
    "defined lengths": (ExplicitVRLittleEndian, False),
    "undefined lengths": (ExplicitVRLittleEndian, True),
    "implicit": (ImplicitVRLittleEndian, False),
    "big endian": (ExplicitVRBigEndian, False),
}


def item(**attributes: Any) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def described() -> Dataset:
    """An image of three frames with all that a functional group may hold."""
    image = enhanced(hounsfield(3, 16, 16), 0.5 * np.arange(3), np.ones(3))
    image.SpecificCharacterSet = "ISO_IR 100"
    for index, group in enumerate(image.PerFrameFunctionalGroupsSequence):
        group.CTXRayDetailsSequence = Sequence([item(KVP=80.0 + index), item(KVP=140.0)])
        group.FrameContentSequence = Sequence([item(FrameComments=f"Prüfung {index}", StackID="")])
        unit = item(CodeValue="[hnsf'U]", CodingSchemeDesignator="UCUM", CodeMeaning="Hounsfield Unit")
        mapping = item(MeasurementUnitsCodeSequence=Sequence([unit]), RealWorldValueSlope=1.0)
        group.RealWorldValueMappingSequence = Sequence([mapping])
        source = item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID="1.2.3")
        group.DerivationImageSequence = Sequence([item(SourceImageSequence=Sequence([source]))])
        group.CTExposureSequence = Sequence([])
        private = group.private_block(0x0019, "MAKER", create=True)
        private.add_new(1, "SQ", Sequence([item(KVP=1.0)]))
    return image


def written(image: Dataset, syntax: str, undefined: bool) -> Dataset:
    image.file_meta.TransferSyntaxUID = syntax
    if undefined:
        for group in image.PerFrameFunctionalGroupsSequence:
            group.is_undefined_length_sequence_item = True
            for element in group:
                element.is_undefined_length = element.VR == "SQ"
        image["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
    stream = BytesIO()
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    pydicom.dcmwrite(stream, image, implicit_vr=implicit, little_endian=little)
    stream.seek(0)
    return pydicom.dcmread(stream, force=True)


def plain(values: Any) -> dict[str, Any]:
    """Those that are no sequences."""
    return {keyword: value for keyword, value in values.items() if not isinstance(value, Sequence)}


@pytest.mark.parametrize("how", WRITINGS)
def test_frames_say_the_same_however_their_groups_are_written(how: str) -> None:
    image = described()
    first = frames_of(written(image, *WRITINGS["defined lengths"]))
    frames = frames_of(written(image, *WRITINGS[how]))
    assert len(frames) == 3
    for index, frame in enumerate(frames):
        assert list(frame["KVP"]) == [80.0 + index, 140.0]
        assert frame["FrameComments"] == f"Prüfung {index}"
        assert "StackID" not in frame  # it is empty
        assert "CTExposureSequence" not in frame
        assert frame["ImagePositionPatient"][2] == pytest.approx(0.5 * index)
        (mapping,) = frame["RealWorldValueMappingSequence"]
        assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "[hnsf'U]"
        (source,) = frame["SourceImageSequence"]
        assert source.ReferencedSOPInstanceUID == "1.2.3"
    assert [plain(frame) for frame in frames] == [plain(frame) for frame in first]


def test_items_that_a_program_wrote_without_vr_are_read(tmp_path: Path) -> None:
    """Some change to implicit VR within a sequence."""
    image = described()
    groups = []
    for group in image.PerFrameFunctionalGroupsSequence:
        stream = BytesIO()
        pydicom.dcmwrite(stream, group, implicit_vr=True, little_endian=True)
        groups.append(b"\xfe\xff\x00\xe0" + len(stream.getvalue()).to_bytes(4, "little") + stream.getvalue())
    explicit = written(image, *WRITINGS["defined lengths"])
    raw = explicit.get_item("PerFrameFunctionalGroupsSequence")
    explicit._dict[raw.tag] = raw._replace(value=b"".join(groups), length=sum(map(len, groups)))
    assert [frame["KVP"][0] for frame in frames_of(explicit)] == [80.0, 81.0, 82.0]


def test_the_count_of_described_frames(tmp_path: Path) -> None:
    path = tmp_path / "enhanced.dcm"
    described().save_as(path, enforce_file_format=True)
    file = read_file(path)
    assert file is not None and file.described == len(file.frames) == 3
    image = described()
    image.PerFrameFunctionalGroupsSequence = Sequence([])
    image.save_as(path, enforce_file_format=True)
    file = read_file(path)
    assert file is not None and (file.described, len(file.frames)) == (0, 1)
