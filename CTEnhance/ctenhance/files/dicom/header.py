"""The headers of DICOM files, as far as a CT needs them.

pydicom reads them: it gives every attribute, the nested ones of multi-frame images, too.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
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
_FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
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
    "BitsStored",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "RealWorldValueMappingSequence",
    "SeriesDescription",
    "ModalityLUTSequence",
    "MultienergyCTCharacteristicsSequence",
    *_FUNCTIONAL_GROUPS,
)


@dataclass(frozen=True, eq=False)
class DicomFile:
    """A file, its header without the pixels, and of each frame what stands in it, by keyword.

    A frame of a multi-frame image has its own attributes, those of all frames and those of the file; empty
    ones are left out.
    """

    path: Path
    header: Dataset
    frames: tuple[Mapping[str, Any], ...]

    def value(self, *keywords: str, frame: int = 0) -> Any:
        """Return the first of the attributes that is there and not empty, or None."""
        values = self.frames[frame]
        for keyword in keywords:
            if keyword in values:
                return values[keyword]
        return None


def read_file(path: Path, also: Iterable[str] = ()) -> DicomFile | None:
    """Return the file without its pixels, with the attributes that a CT needs and those in `also`.

    None for a file that is not DICOM; raises InputError when it is, but damaged.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError as error:
        if path.is_symlink() and not os.path.exists(path):
            raise InputError(
                f"'{path.name}' is a link to a file that is not there; get the file, or remove the link."
            ) from error
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
            path, stop_before_pixels=True, force=not marked, specific_tags=[*_KEYWORDS, *also]
        )
        # pydicom converts a value when it is first asked for: this asks for all, here, where damage can be
        # told.
        frames = frames_of(header)
        stored = header.file_meta.get("MediaStorageSOPClassUID")
        header.SOPClassUID = UID(text(header.get("SOPClassUID") or stored))
        header.Modality = text(header.get("Modality"))[:16]  # no valid one is longer
    except DAMAGE as error:
        if not marked:
            return None
        raise InputError(f"'{path.name}' is damaged or cut off; copy it again from its source.") from error
    # What merely begins like an element has no such identifier.
    if not marked and not header.SOPClassUID.startswith("1.2.840.10008."):
        return None
    return DicomFile(path, header, frames)


def frames_of(header: Dataset) -> tuple[Mapping[str, Any], ...]:
    """Return the attributes of each frame; one mapping for an image of a single frame."""
    top = _of_macros([header]) | _filled(header)
    shared, per_frame = (header.get(keyword) or () for keyword in _FUNCTIONAL_GROUPS)
    of_all, groups = _of_macros(shared), per_frame or [None]
    return tuple(top | of_all | _of_macros([group]) for group in groups)


def _of_macros(groups: Iterable[Dataset | None] | None) -> dict[str, Any]:
    """Return the attributes within the functional groups: each is a sequence with one item."""
    found: dict[str, Any] = {}
    for group in groups or ():
        for keyword, value in _filled(group).items():
            found[keyword] = value
            if isinstance(value, Sequence) and keyword not in _FUNCTIONAL_GROUPS:
                found |= _of_items(value)
    return found


def _of_items(items: Sequence) -> dict[str, Any]:
    """Return what the items of a macro say: of a single value that differs, as of two tubes' kV, all."""
    first, *further = (_filled(item) for item in items)
    for keyword, value in first.items():
        values = [value, *(item[keyword] for item in further if keyword in item)]
        if all(isinstance(one, str | int | float) for one in values) and len(set(values)) > 1:
            first[keyword] = MultiValue(lambda one: one, values)
    return first


def _filled(item: Dataset | None) -> dict[str, Any]:
    """Return the public attributes of a dataset that are not empty, by keyword."""
    return {
        element.keyword: element.value
        for element in item or ()
        if element.keyword and not _is_empty(element.value)
    }


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | MultiValue | Sequence) and len(value) == 0)


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
