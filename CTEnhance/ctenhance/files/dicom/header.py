"""The headers of DICOM files, as far as a CT needs them.

pydicom reads them: it gives every attribute, the nested ones of multi-frame images, too.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import data_element_generator, read_partial
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ctenhance.files.dicom.sizes import DEFLATED, require_modest
from ctenhance.files.names import remnant
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
    OverflowError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    OSError,
)
#: What has to be one number each for anything to be made of the pixels.
_COUNTS = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
_FRAMES = 0x5200_0000  # where what is said of all frames and of each begins
_PIXEL_DATA, _UNDEFINED = b"\xe0\x7f\x10\x00", 0xFFFFFFFF
_FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_GROUP_TAGS = tuple(Tag(keyword) for keyword in _FUNCTIONAL_GROUPS)
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
    "SliceLocation",
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
    "HighBit",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "RealWorldValueMappingSequence",
    "SeriesDescription",
    "PerformedProcedureStepDescription",
    "ModalityLUTSequence",
    "ConcatenationUID",
    "InConcatenationNumber",
    "InConcatenationTotalNumber",
    "ImagesInAcquisition",
    "NumberOfSeriesRelatedInstances",
    "MultienergyCTCharacteristicsSequence",
    *_FUNCTIONAL_GROUPS,
)
#: Overlay Bit Position of each of the overlays.
OVERLAYS = [group << 16 | 0x0102 for group in range(0x6000, 0x6020, 2)]


#: What has been converted of a header, by how it is written.
_Known = dict[tuple[Any, ...] | None, Mapping[str, Any]]
#: Functional groups whose items are asked for themselves.
_ASKED_WHOLE = frozenset(
    Tag(keyword)
    for keyword in (
        "RealWorldValueMappingSequence",
        "MultienergyCTCharacteristicsSequence",
        "ModalityLUTSequence",
        "SourceImageSequence",
    )
)
_ITEM, _CHARACTER_SET = (0xFFFE, 0xE000), Tag("SpecificCharacterSet")


@dataclass(frozen=True, eq=False)
class DicomFile:
    """A file, its header without the pixels, and of each frame what stands in it, by keyword.

    A frame of a multi-frame image has its own attributes, those of all frames and those of the file; empty
    ones are left out. `words_at`: where in the file the words of uncompressed little-endian pixels begin,
    None for all others. `cut_off`: the file ends before its uncompressed pixels do, or has none.
    """

    path: Path
    header: Dataset
    frames: tuple[Mapping[str, Any], ...]
    words_at: int | None = None
    cut_off: bool = False

    @property
    def described(self) -> int:
        """How many frames the header describes one by one."""
        groups = self.header.get_item(_GROUP_TAGS[1]) if _GROUP_TAGS[1] in self.header else None
        return len(self.frames) if groups is not None and groups.value else 0

    def value(self, *keywords: str, frame: int = 0) -> Any:
        """Return the first of the attributes that is there and not empty, or None."""
        values = self.frames[frame]
        for keyword in keywords:
            if keyword in values:
                return values[keyword]
        return None


def read_file(path: Path, also: Iterable[str | int] = ()) -> DicomFile | None:
    """Return the file without its pixels, with the attributes that a CT needs and those in `also`.

    None for a file that is not DICOM; raises InputError when it is, but damaged.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(1024)
    except OSError as error:
        if path.is_symlink() and not os.path.exists(path):
            raise InputError(
                f"'{path.name}' is a link to a file that is not there; get the file, or remove the link."
            ) from error
        raise InputError(
            f"'{path.name}' cannot be opened ({error.strerror}); check its permissions."
        ) from error
    marked = start[128:132] == b"DICM"
    if marked and DEFLATED in start:
        require_modest(path)
    # Old and stripped files lack the mark and begin with their first element, always of group 2 or 8.
    if not marked and not (start[:2] in (b"\x02\x00", b"\x08\x00") and start[3:4] == b"\x00"):
        if why := remnant(path, start):
            raise InputError(why)
        return None
    tags: list[Any] = [*_KEYWORDS, *OVERLAYS, *also]
    try:
        with path.open("rb") as stream:
            header = pydicom.dcmread(
                stream,
                stop_before_pixels=True,
                force=not marked,
                specific_tags=tags,
            )
            words_at, cut_off = _words_at(stream, header)
        # pydicom converts a value when it is first asked for: this asks for all, here, where damage can be
        # told.
        frames = frames_of(header)
        if any(header.get(name) not in (None, "") and number(header[name].value) is None for name in _COUNTS):
            raise ValueError("no number")
        stored = header.file_meta.get("MediaStorageSOPClassUID")
        header.SOPClassUID = UID(text(header.get("SOPClassUID") or stored))
        header.Modality = text(header.get("Modality"))[:16]  # no valid one is longer
    except DAMAGE as error:
        if not marked:
            return None
        raise InputError(f"'{path.name}' is damaged or cut off; copy it again from its source.") from error
    if marked and not (header.SOPClassUID or header.Modality or header.get("Rows")):
        raise InputError(
            f"'{path.name}' has the mark of a DICOM file, but says neither what it is (SOP Class UID, "
            "Modality) nor how large its image is (Rows): its header was taken out, or it is damaged; copy "
            "it again from its source."
        )
    # What merely begins like an element has no such identifier.
    if not marked and not header.SOPClassUID.startswith("1.2.840.10008."):
        return None
    return DicomFile(path, header, frames, words_at, cut_off)


def uncompressed_values(path: Path) -> int:
    """Return how many values the uncompressed image in a DICOM file has, by what precedes the description of
    its frames; 0 where it is no such file."""
    try:
        with path.open("rb") as stream:
            if DEFLATED in stream.read(1024):
                return 0
        first = before_frames(path)
        values = math.prod(int(first.get(name) or 0) for name in ("Rows", "Columns"))
        values *= int(first.get("NumberOfFrames") or 1)
        return values if 0 < values * int(first.BitsAllocated) // 8 <= path.stat().st_size else 0
    except DAMAGE:
        return 0


def before_frames(path: Path, tags: list[Any] | None = None, force: bool = False) -> Dataset:
    """Return what precedes the description of frames in a file, or of that the attributes with these tags.

    `force`: in one without the mark of DICOM, too.
    """
    with path.open("rb") as stream:
        return read_partial(stream, lambda tag, vr, length: tag >= _FRAMES, force=force, specific_tags=tags)


def _words_at(stream: BinaryIO, header: Dataset) -> tuple[int | None, bool]:
    """Return where the words begin, of a stream that stands at the element with the pixels, and whether they
    are cut off."""
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax not in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        return None, False
    start = stream.read(12)
    expected = math.prod(int(header.get(name) or 0) for name in ("Rows", "Columns", "BitsAllocated"))
    expected = expected * int(header.get("NumberOfFrames") or 1) // 8
    explicit = start[4:6] in (b"OB", b"OW")
    if len(start) < 12:
        return None, expected > 0
    if start[:4] != _PIXEL_DATA or explicit == (syntax == ImplicitVRLittleEndian):
        return None, False
    (length,) = struct.unpack("<I", start[8:] if explicit else start[4:8])
    begin = stream.tell() - (0 if explicit else 4)
    if length == _UNDEFINED or begin + length > os.fstat(stream.fileno()).st_size:
        return None, length != _UNDEFINED
    plain = header.get("SamplesPerPixel", 1) == 1 and header.get("BitsAllocated") in (8, 16, 32)
    return (begin if plain and 0 < expected <= length <= expected + 1 else None), False


@contextlib.contextmanager
def without_collecting() -> Iterator[None]:
    """Make many small objects of which none is garbage: to look for some takes a third of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class _Item(dict[BaseTag, RawDataElement | DataElement]):
    """What stands in an item of a sequence; a Dataset of each of thousands takes several times as long."""

    def __init__(self, elements: Iterable[RawDataElement | DataElement], encoding: Any) -> None:
        super().__init__((BaseTag(one.tag), one) for one in elements)
        self.encoding = encoding

    get_item = dict.get

    def __getitem__(self, tag: BaseTag) -> DataElement:
        element = super().__getitem__(tag)
        if isinstance(element, RawDataElement):
            return convert_raw_data_element(element, encoding=self.encoding)
        return element


@without_collecting()
def frames_of(header: Dataset) -> tuple[Mapping[str, Any], ...]:
    """Return the attributes of each frame; one mapping for an image of a single frame."""
    known: _Known = {}
    shared, per_frame = (_groups(header, tag) for tag in _GROUP_TAGS)
    top = _of_macros(header, known) | _filled(header, known)
    of_all: dict[str, Any] = {}
    for group in shared:
        of_all |= _of_macros(group, known)
    common = top | of_all
    return tuple(common | _of_macros(group, known) for group in per_frame) or (common,)


def _groups(header: Dataset, tag: BaseTag) -> Iterable[Dataset | _Item]:
    """Return the functional groups of all frames, or of each."""
    if tag not in header:
        return ()
    items = _items(header.get_item(tag), header.original_character_set)
    return header[tag].value or () if items is None else items


def _items(element: RawDataElement | DataElement | None, encoding: Any) -> list[_Item] | None:
    """Return the items of a sequence as it is usually written; None for any other, which pydicom reads."""
    if not isinstance(element, RawDataElement) or not isinstance(element.value, bytes):
        return None
    if element.VR != "SQ" or element.is_implicit_VR or not element.is_little_endian:
        return None
    items, written, at = [], element.value, 0
    while at < len(written):
        if len(written) - at < 8:
            return None
        *tag, length = struct.unpack_from("<HHL", written, at)
        at += 8
        if tuple(tag) != _ITEM or at + length > len(written):
            return None
        stream = BytesIO(written[at : at + length])
        item = _Item(data_element_generator(stream, False, True, encoding=encoding), encoding)
        if _CHARACTER_SET in item or any(one.VR is None for one in item.values()):
            return None
        items.append(item)
        at += length
    return items


def _of_macros(group: Dataset | _Item, known: _Known) -> dict[str, Any]:
    """Return the attributes within a functional group: each is a sequence with one item."""
    found: dict[str, Any] = {}
    for tag in _tags(group):
        found |= _of_macro(group, tag, known)
    return found


def _tags(item: Dataset | _Item) -> list[BaseTag]:
    """Return the tags in their order, but for those of the functional groups."""
    return sorted(set(item.keys()).difference(_GROUP_TAGS), key=int)


def _of_macro(group: Dataset | _Item, tag: BaseTag, known: _Known) -> Mapping[str, Any]:
    """Return an attribute and, where it is a sequence, what its items say."""
    written = _as_written(group, tag)
    key = None if written is None else ("macro", *written)
    if key in known:
        return known[key]
    found: dict[str, Any] = {}
    items = _items(group.get_item(tag), group.encoding) if _is_plain(group, tag) else None
    if items is not None:
        found |= _of_items(items, known) if items else {}
    else:
        found |= _element(group, tag, known)
        for value in tuple(found.values()):
            if isinstance(value, Sequence):
                found |= _of_items(value, known)
    if key is not None:
        known[key] = found
    return found


def _is_plain(group: Dataset | _Item, tag: BaseTag) -> bool:
    """Say whether of a functional group nothing but what stands in it is asked for."""
    return isinstance(group, _Item) and tag not in _ASKED_WHOLE and bool(keyword_for_tag(tag))


def _of_items(items: Iterable[Dataset | _Item], known: _Known) -> dict[str, Any]:
    """Return what the items of a macro say: of a single value that differs, as of two tubes' kV, all."""
    first, *further = (_filled(item, known) for item in items)
    for keyword, value in first.items() if further else ():
        values = [value, *(item[keyword] for item in further if keyword in item)]
        if all(isinstance(one, str | int | float) for one in values) and len(set(values)) > 1:
            first[keyword] = MultiValue(lambda one: one, values)
    return first


def _filled(item: Dataset | _Item, known: _Known) -> dict[str, Any]:
    """Return the public attributes of a dataset that are not empty, by keyword."""
    found: dict[str, Any] = {}
    for tag in _tags(item):
        found |= _element(item, tag, known)
    return found


def _element(item: Dataset | _Item, tag: BaseTag, known: _Known) -> Mapping[str, Any]:
    """Return an attribute's value by its keyword; nothing for a private or an empty one."""
    key = _as_written(item, tag)
    if key in known:
        return known[key]
    element = item[tag]
    found = {element.keyword: element.value} if element.keyword and not _is_empty(element.value) else {}
    if key is not None:
        known[key] = found
    return found


def _as_written(item: Dataset | _Item, tag: BaseTag) -> tuple[Any, ...] | None:
    """Return what an attribute's value depends on, None for one that is converted already.

    Most of what thousands of frames say of themselves is the same, byte for byte: it is converted once.
    """
    raw = item.get_item(tag)
    return (raw.tag, raw.VR, raw.value) if isinstance(raw, RawDataElement) else None


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
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
