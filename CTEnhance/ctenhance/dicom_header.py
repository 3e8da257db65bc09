"""The headers of DICOM files, as far as a CT needs them.

pydicom reads them: it gives every attribute, the nested ones of multi-frame images, too.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import UID

from ctenhance.runtime.errors import InputError

# What pydicom raises on damaged files.
DAMAGE = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    OSError,
)
# Only these are kept of each header: 600 whole ones would fill memory with private elements and patient data.
_KEYWORDS = (
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "SliceThickness",
    "KVP",
    "SpacingBetweenSlices",
    "XRayTubeCurrent",
    "Exposure",
    "ConvolutionKernel",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "FrameOfReferenceUID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "PixelRepresentation",
    "BitsAllocated",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


@dataclass(frozen=True)
class DicomFile:
    """A file and its header without the pixels."""

    path: Path
    header: Dataset


def read_header(path: Path) -> Dataset | None:
    """Return the header, None for a file that is not DICOM; raises InputError when it is, but damaged."""
    try:
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError as error:
        raise InputError(
            f"'{path.name}' cannot be opened ({error.strerror}); check its permissions."
        ) from error
    if not start and path.suffix.lower() == ".dcm":
        raise InputError(f"'{path.name}' is empty; copy it again from its source.")
    marked = start[128:] == b"DICM"
    # Old and stripped files lack the mark and begin with their first element, always of group 2 or 8.
    if not marked and not (start[:2] in (b"\x02\x00", b"\x08\x00") and start[3:4] == b"\x00"):
        return None
    try:
        header = pydicom.dcmread(
            path, stop_before_pixels=True, force=not marked, specific_tags=list(_KEYWORDS)
        )
        # pydicom converts a value when it is first asked for: ask for all here, where damage can be told.
        for _ in header.iterall():
            pass
        stored = header.file_meta.get("MediaStorageSOPClassUID")
        header.SOPClassUID = UID(text(header.get("SOPClassUID") or stored))
        header.Modality = text(header.get("Modality"))[:16]  # no valid one is longer
    except DAMAGE as error:
        if not marked:
            return None
        raise InputError(f"'{path.name}' is damaged or cut off; copy it again from its source.") from error
    # What merely begins like an element has no such identifier.
    return header if marked or header.SOPClassUID.startswith("1.2.840.10008.") else None


def attribute(header: Dataset, *keywords: str, frame: int = 0) -> Any:
    """Return the first of the attributes that is there and not empty, or None.

    In a multi-frame image it may stand in the functional groups of the frame or of all frames.
    """
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or ()
    groups = [*per_frame[frame : frame + 1], *(header.get("SharedFunctionalGroupsSequence") or ())]
    macros = [
        element.value[0] for group in groups for element in group if element.VR == "SQ" and element.value
    ]
    for place in (*macros, header):
        for keyword in keywords:
            value = place.get(keyword)
            if value is not None and value != "":
                return value
    return None


def text(value: Any) -> str:
    """Return an attribute as text; of several values (kernel and iterative strength) all; '' if absent."""
    if value is None:
        return ""
    return " ".join(str(one) for one in value) if isinstance(value, MultiValue) else str(value)


def number(value: Any) -> float | None:
    """Return an attribute as a finite number, or None."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
