"""What makes a note of a series: images listed in vain, copies among the slices, MR images as the source."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np
import pydicom

from ctenhance.files.dicom.header import DAMAGE, DicomFile, text
from ctenhance.files.dicom.slices import Slice

_MR_STORAGE = "1.2.840.10008.5.1.4.1.1.4"  # and its multi-frame kinds, .1, .3 and .4
_CT = r"(CT|TC|TDM|TAC)"
_FROM_MR = re.compile(
    rf"\b((PSEUDO|SUBSTITUTE|SYNTH\w*|SINT\w*) ?{_CT}|{_CT} (SYNTH\w*|SINTETIC\w*)"
    rf"|(CT|SCT) (FROM|OF|AUS|VON|DE|DA) (AN? )?(MR|MRI|MRT|IRM|RM)|MR ?(TO|2) ?CT|MRCAT"
    rf"|(MR|MRI|MRT|IRM|RM) ?(BASED|BASIERT\w*|DERIVED|GENERATED) (S?{_CT}|SYNTH\w*|PSEUDO\w*))\b"
)
_EVERY_ROW = 16  # is asked first, whether two slices may be one


def note_of_missing(index: Path, found: Container[str], series: str) -> str:
    """Return the note on images of a series that a DICOMDIR lists and that are neither among those `found`
    (SOPInstanceUIDs) nor where it says."""
    listed = missing = 0
    with contextlib.suppress(*DAMAGE):  # an index that cannot be read is not needed
        current = ""
        for item in pydicom.dcmread(index).get("DirectoryRecordSequence") or ():
            # The records of a series' images follow its own.
            current = text(item.get("SeriesInstanceUID") or current)
            value = item.get("ReferencedFileID")
            if current != series or not value:
                continue
            parts = [value] if isinstance(value, str) else [str(one) for one in value]
            uid = text(item.get("ReferencedSOPInstanceUIDInFile"))
            listed += 1
            missing += uid not in found and not index.parent.joinpath(*parts).exists()
    if not missing:
        return ""
    verb = "is" if missing == 1 else "are"
    return (
        f"the DICOMDIR lists {listed} images of this series, of which {missing} {verb} not there: copy the "
        "whole disc, unless you mean these alone"
    )


def notes_of_copies(array: np.ndarray, slices: Sequence[Slice]) -> list[str]:
    """Return the note on slices [z, y, x] that equal another one bit for bit, as no two of a scan do.

    Slices that are all one value, and volumes of mostly equal slices, as computed ones, are passed over.
    """
    known: dict[bytes, list[int]] = {}
    pairs = []
    for index, plane in enumerate(array):
        if plane[0, 0] == plane[-1, -1] and plane.min() == plane.max():
            continue
        alike = known.setdefault(plane[::_EVERY_ROW].tobytes(), [])
        first = next((one for one in alike if np.array_equal(array[one], plane)), None)
        if first is None:
            alike.append(index)
        else:
            pairs.append((first, index))
            if 2 * len(pairs) > len(array):
                return []
    if not pairs:
        return []
    one, other = pairs[0]
    further = f" (and {len(pairs) - 1} more)" if len(pairs) > 1 else ""
    return [
        f"the images at {slices[one].depth:.2f} and {slices[other].depth:.2f} mm{further} are exact copies, "
        "as no two of a scan are: a slice may have been lost"
    ]


def notes_of_derivation(file: DicomFile) -> list[str]:
    """Return the note on an image that was derived of MR images, by its sources or its description."""
    said = " ".join(text(file.value(keyword)) for keyword in ("DerivationDescription", "SeriesDescription"))
    named = _FROM_MR.search(re.sub(r"[^A-Z0-9]+", " ", said.upper()))
    derived = "DERIVED" in text(file.value("ImageType")).upper()
    if named or (derived and _has_mr_source(file)):
        return ["it is a synthetic CT, made of MR images and not measured with X-rays: its HU are estimates"]
    return []


def _has_mr_source(file: DicomFile) -> bool:
    # Asked of one file alone: each slice of a reformat may name hundreds of sources.
    with contextlib.suppress(*DAMAGE):
        header = pydicom.dcmread(
            file.path, stop_before_pixels=True, force=True, specific_tags=["SourceImageSequence"]
        )
        for item in header.get("SourceImageSequence") or file.value("SourceImageSequence") or ():
            kind = text(item.get("ReferencedSOPClassUID"))
            if kind == _MR_STORAGE or kind.startswith(f"{_MR_STORAGE}."):
                return True
    return False
