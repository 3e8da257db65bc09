"""Damage to volume files that ITK's readers and writers do not notice.

A NIfTI file that is cut off is filled up with zeros, and a NaN in it becomes zero, which is water; a full
disk while writing one goes unnoticed. Compressed MetaImage values with a flipped bit are read as far as they
go, and NRRD's checksum is not looked at. So the bytes are gone through here first; it takes about as long as
reading, and for a packed NIfTI file hardly any time, as its values are unpacked only once.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from ctenhance.core.hounsfield import not_finite
from ctenhance.files.names import require_right_name
from ctenhance.files.nifti_grid import HEADER_BYTES
from ctenhance.runtime.errors import InputError, NotCTError
from ctenhance.runtime.files import suffix_of

_unpacking: Any = zlib
with contextlib.suppress(ImportError):  # half the time; not built for every processor
    from isal import isal_zlib as _unpacking

DAMAGED = "the file is damaged, cut off or not what its name says; copy it again from its source."
NIFTI = (".nii", ".nii.gz")
_CHUNK = 1 << 20
_INT16 = 4  # its word for that type
#: Bytes behind the voxels of a NIfTI file that programs may leave there; a packed file could have any number.
_MOST_BEHIND = 64 << 20
_PACKED_CHUNK = 1 << 17
_GZIP = b"\x1f\x8b"  # how a gzip file begins
GZIP_WBITS = 31  # zlib's word for one
_UNPACKING_FAILED = (zlib.error, _unpacking.error)
_LOCAL = b"LOCAL"
#: What parts a field's name from its value in NRRD, and in MetaImage, as ITK reads them.
_MARK = (re.compile(b":"), re.compile(b"[=:]"))
_MILLIMETRE = ("", "?", "???", "mm", "millimeter", "millimeters", "millimetre", "millimetres")
_SPELLED = {"distanceunits": "DistanceUnits", "space units": "space units", "units": "units"}
UNPLACED = "its header does not say where the volume lies: left and right and the position may be wrong"
#: What a NRRD file calls an axis of space, or one that it does not explain.
_OF_SPACE = ("domain", "space", "none", "???", "stub")

Take = Callable[[bytes], Any]


# Of the names of what a header says, those under which people write what it shows.
_DESCRIBES = re.compile(r"^(content|comment|name)\s*$|descri|comment|rescale ?_?type|units?$|quantity", re.I)
_OF_LENGTH = re.compile(r"space units|distanceunits", re.I)
_MOST_TEXT, _LONGEST_HEADER = 1 << 20, 64 << 20  # bytes of a header that are looked at, and that it may have
_SAME_SIZE = 0.01
LEAST_OFFSET = 352  # of the voxels in a NIfTI file


def require_sound(path: Path, plain: Take | None = None) -> None:
    """Raise InputError, with the reason alone, for damage to a NIfTI, NRRD or MetaImage file.

    `plain` is given the bytes of a NIfTI file, unpacked, up to the end of its voxels.
    """
    require_right_name(path)
    if suffix_of(path) in NIFTI:
        _require_whole_nifti(path, plain)
    else:
        _require_sound_compression(path)


def is_packed(path: Path) -> bool:
    """Say whether a file is packed by gzip, whatever its name says."""
    with path.open("rb") as stream:
        return stream.read(len(_GZIP)) == _GZIP


def require_plain_meaning(path: Path) -> None:
    """Raise InputError for a NRRD or MetaImage header that says what ITK's readers do not heed.

    They take any unit of length as the millimetre, any third axis as one of space, and values as stored.
    """
    if suffix_of(path) in NIFTI:
        return
    meta_image = suffix_of(path) in (".mha", ".mhd")
    fields = {
        name.decode("latin-1"): value.decode("latin-1").strip()
        for name, value in _header(path).fields.items()
    }
    if meta_image:
        modality = fields.get("modality", "").upper().removeprefix("MET_MOD_")
        if modality in ("MR", "NM", "US"):
            raise NotCTError(f"its header calls it {modality} (Modality), no CT; give the CT.")
    else:
        _require_axes_of_space(fields)
        if "sample units" in fields:
            from ctenhance.files.dicom.units import unit_of  # pydicom takes a while to load

            unit = fields["sample units"].strip('" ')
            if unit_of(unit) not in ("", "HU"):
                raise NotCTError(
                    f"its values are in {unit}, not Hounsfield units (sample units in its header); give the "
                    "CT."
                )
    for name in ("distanceunits",) if meta_image else ("space units", "units"):
        value = fields.get(name, "")
        units = re.findall(r'"([^"]*)"', value) or value.split()
        for unit in units[:3]:
            if unit.strip().lower() not in _MILLIMETRE:
                raise InputError(
                    f"its header gives lengths in '{unit}' ({_SPELLED[name]}), and only mm are read; "
                    "convert the lengths in the header to mm, or export the volume again in mm."
                )
    if meta_image:
        slope = fields.get("elementtointensityfunctionslope", "1")
        offset = fields.get("elementtointensityfunctionoffset", "0")
        if not (_is_number(slope, 1) and _is_number(offset, 0)):
            raise InputError(
                f"its header stores a scaling of the values (ElementToIntensityFunctionSlope {slope}, "
                f"ElementToIntensityFunctionOffset {offset}), which is not applied in reading; convert the "
                "stored values to HU first, and set slope 1 and offset 0."
            )


def _require_axes_of_space(fields: dict[str, str]) -> None:
    """Raise InputError for a NRRD file of three axes whose third one is, say, time."""
    if fields.get("dimension") != "3":
        return
    directions = re.findall(r"\([^)]*\)|\S+", fields.get("space directions", ""))
    kinds = fields.get("kinds", "").lower().split()
    kind = kinds[2] if len(kinds) == 3 else ""
    if kind and kind not in _OF_SPACE:
        said = f"kinds: '{kind}'"
    elif len(directions) == 3 and directions[2].lower() == "none":
        said = "space directions: none"
    else:
        return
    raise InputError(
        f"the third axis in its header is none of space ({said}), so that it holds no slices of a volume; "
        "export the CT as a volume with three axes of space."
    )


def _is_number(text: str, number: float) -> bool:
    try:
        return float(text) == number
    except ValueError:
        return False


def taken_on_trust(path: Path, direction: np.ndarray) -> list[str]:
    """Return notes on what the header of a NRRD or MetaImage file does not tell, or tells otherwise.

    `direction`: 3 x 3, of the axes as ITK has read them, in LPS.
    """
    fields = _header(path).fields
    notes = []
    sizes = (b"space directions", b"spacings", b"elementspacing", b"elementsize")
    if not any(name in fields for name in sizes):
        notes.append("its header gives no voxel size; taken as 1 mm")
    if suffix_of(path) in (".nrrd", ".nhdr"):
        space = fields.get(b"space", b"").decode("latin-1").lower().replace("_", "-")
        anatomical = re.search("(left|right)-(anterior|posterior)-(superior|inferior)|[lr][ap][si]", space)
        if not (anatomical and fields.get(b"space directions")):
            notes.append(UNPLACED)
        return notes
    if not fields.keys() & {
        b"transformmatrix",
        b"rotation",
        b"orientation",
        b"offset",
        b"position",
        b"origin",
    }:
        notes.append(UNPLACED)
    # Slices may be thicker than they are apart; pixels are as large as they are apart.
    size, spacing = (_numbers(fields.get(name, b"")) for name in (b"elementsize", b"elementspacing"))
    if len(size) == len(spacing) == 3 and not np.allclose(size[:2], spacing[:2], rtol=_SAME_SIZE, atol=0):
        said, taken = (" ".join(f"{one:.4g}" for one in three) for three in (size, spacing))
        notes.append(
            f"its header contradicts itself: ElementSize {said}, but ElementSpacing {taken}, which was "
            "taken; lengths and areas may be wrong"
        )
    # RAI and LPS are one orientation, by where the axes come from and by where they go to.
    code = fields.get(b"anatomicalorientation", b"").decode("latin-1").upper()
    goes_to = "".join(
        "LPS"[axis] if column[axis] > 0 else "RAI"[axis]
        for column, axis in ((column, int(np.abs(column).argmax())) for column in direction.T)
    )
    comes_from = goes_to.translate(str.maketrans("LPSRAI", "RAILPS"))
    if len(goes_to) == 3 and re.fullmatch("[LRAPSI]{3}", code) and code not in (goes_to, comes_from):
        notes.append(
            f"its header contradicts itself: AnatomicalOrientation {code}, but {comes_from} by its "
            "TransformMatrix, which was taken, as 3D Slicer does; left and right may be wrong"
        )
    return notes


def _numbers(said: bytes) -> list[float]:
    try:
        return [float(one) for one in said.split()]
    except ValueError:
        return []


def values_beside(path: Path) -> bool:
    """Say whether it is a NRRD or MetaImage header whose values lie in another file."""
    return suffix_of(path) in (".nrrd", ".nhdr", ".mha", ".mhd") and _header(path).values != _LOCAL


@dataclass(frozen=True)
class _Header:
    """The fields of a NRRD or MetaImage header by their names in lower case, where it ends, and the name of
    the file of values (`_LOCAL`: this one)."""

    fields: dict[bytes, bytes]
    end: int
    values: bytes


def _header(path: Path) -> _Header:
    meta_image = suffix_of(path) in (".mha", ".mhd")
    fields: dict[bytes, bytes] = {}
    with path.open("rb") as stream:
        while line := stream.readline(_CHUNK):
            if stream.tell() > _LONGEST_HEADER:  # anything, of which no line ends a header
                raise InputError(DAMAGED)
            if not meta_image and b"\r" in line.rstrip(b"\r\n"):  # would end a line for ITK
                raise InputError(DAMAGED)
            name, value = (*_MARK[meta_image].split(line, 1), b"")[:2]
            if not meta_image and value.startswith(b"="):
                continue  # a NRRD key, which anybody may name as a field is named
            fields[name.strip().lower()] = value.strip()
            # The last line of either header.
            if b"elementdatafile" in fields if meta_image else not line.strip():
                break
        end = stream.tell()
    if meta_image:
        values = fields.get(b"elementdatafile", _LOCAL)
    else:
        values = fields.get(b"data file") or fields.get(b"datafile") or _LOCAL
    return _Header(fields, end, values)


def texts_of_header(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the names and values of what describes a NRRD or MetaImage file's content in its header."""
    meta_image = suffix_of(path) in (".mha", ".mhd")
    end = _header(path).end
    with path.open("rb") as stream:
        lines = stream.read(min(end, _MOST_TEXT)).decode("utf-8", "replace").splitlines()
    for line in lines[0 if meta_image else 1 :]:
        mark = re.search("[=:]" if meta_image else ":=" if ":=" in line else ":", line)
        name, value = (line[: mark.start()], line[mark.end() :]) if mark else (line, "")
        if line.startswith("#"):
            yield "a comment", line[1:].strip()
        elif mark and _DESCRIBES.search(name) and not _OF_LENGTH.search(name):
            yield name.strip(), value.strip()


def _require_sound_compression(path: Path) -> None:
    header = _header(path)
    fields, start = header.fields, header.end
    if suffix_of(path) in (".mha", ".mhd"):
        compressed = fields.get(b"compresseddata", b"").lower() == b"true"
    else:
        compressed = fields.get(b"encoding") in (b"gzip", b"gz")
        # What is skipped may be anything; ITK knows how.
        compressed = compressed and not fields.keys() & {b"byte skip", b"byteskip", b"line skip", b"lineskip"}
    if header.values != _LOCAL:
        path, start = path.parent / os.fsdecode(header.values), 0
    # ITK reports a missing file of values.
    if compressed and path.is_file():
        with path.open("rb") as stream:
            stream.seek(start)
            unpacker = _unpacking.decompressobj(zlib.MAX_WBITS | 32)  # zlib (MetaImage) or gzip (NRRD)
            try:
                while chunk := stream.read(_CHUNK):
                    unpacker.decompress(chunk)
            except _UNPACKING_FAILED as error:
                raise InputError(DAMAGED) from error
        if not unpacker.eof:
            raise InputError(DAMAGED)


def nifti_header(path: Path) -> bytes:
    """Return the first bytes of a NIfTI file, unpacked; raises InputError for damage."""
    try:
        with _unpacked(path) as stream:
            return stream.read(540)
    except (EOFError, OSError, *_UNPACKING_FAILED) as error:
        raise InputError(DAMAGED) from error


class _Unpacking(io.RawIOBase):
    """A gzip file's content; half as long as by the module gzip, which takes 8 kB at a time."""

    def __init__(self, path: Path) -> None:
        self._source = path.open("rb")
        self._unpacker = _unpacking.decompressobj(GZIP_WBITS)
        self._tail = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; raises what is in _UNPACKING_FAILED, and EOFError, for damage."""
        while True:
            chunk = self._tail or self._source.read(_PACKED_CHUNK)
            if self._unpacker.eof:  # one gzip file may follow another, or zeros
                chunk, self._tail = chunk.lstrip(b"\0"), b""
                if not chunk:
                    if self._source.peek(1):
                        continue
                    return 0
                self._unpacker = _unpacking.decompressobj(GZIP_WBITS)
            piece = self._unpacker.decompress(chunk, len(buffer))
            self._tail = self._unpacker.unused_data or self._unpacker.unconsumed_tail
            if piece:
                buffer[: len(piece)] = piece
                return len(piece)
            if not chunk and not self._unpacker.eof:
                raise EOFError("the file is cut off")

    def close(self) -> None:
        self._source.close()
        super().close()


def _unpacked(path: Path) -> IO[bytes]:
    stream = io.BufferedReader(_Unpacking(path), _CHUNK) if is_packed(path) else path.open("rb")
    return cast("IO[bytes]", stream)


def _require_whole_nifti(path: Path, plain: Take | None) -> None:
    """Raise InputError when a NIfTI file is cut off, its compression is damaged, or it holds NaN.

    ITK reads all of these without a word: it fills up with zeros and sets NaN to zero, which is water.
    """
    try:
        with _unpacked(path) as stream:
            header = stream.read(540)
            layout = nifti_layout(header)
            _require_one_scaling(header, layout.order)
            if header[344:347] == b"n+1" and layout.offset < LEAST_OFFSET:
                raise InputError(
                    f"its header says that its voxels begin at byte {layout.offset}, within the header "
                    "itself, where programs read other places; correct vox_offset (most often "
                    f"{LEAST_OFFSET})."
                )
            # To the very end, because only there stands the checksum of a compressed file.
            length = bad = first_bad = 0
            for chunk in _after(header, layout, stream, plain):
                if layout.float_type and length < layout.length:
                    values = np.frombuffer(chunk[: (layout.length - length)], dtype=layout.float_type)
                    where = np.flatnonzero(~np.isfinite(values))
                    if where.size and not bad:
                        first_bad = length // values.itemsize + int(where[0])
                    bad += where.size
                length += len(chunk)
                if length > layout.length + _MOST_BEHIND:
                    raise InputError(DAMAGED)
    except (EOFError, OSError, ValueError, OverflowError, struct.error, *_UNPACKING_FAILED) as error:
        raise InputError(DAMAGED) from error
    if length < layout.length:
        raise InputError(DAMAGED)
    if bad:
        z, y, x = (int(index) for index in np.unravel_index(first_bad, layout.shape)[-3:])
        raise InputError(not_finite(bad, z, y, x))


def _after(header: bytes, layout: NiftiLayout, stream: IO[bytes], plain: Take | None) -> Iterator[bytes]:
    """Yield a file's bytes from the first voxel on, of which `header` has been read, in pieces that cut no
    value; `plain` is given all up to the last voxel."""
    if layout.offset < 0:
        raise ValueError("no place in a file")
    give = plain or (lambda _data: None)
    give(header[: layout.offset])
    passed = layout.offset - len(header)
    while passed > 0 and (chunk := stream.read(min(passed, _CHUNK))):
        give(chunk)
        passed -= len(chunk)
    rest, left = header[layout.offset :], layout.length
    chunk = rest + stream.read(_CHUNK - len(rest))
    while chunk:
        if left > 0:
            give(chunk[:left])
            left -= len(chunk)
        yield chunk
        chunk = stream.read(_CHUNK)


@dataclass(frozen=True)
class NiftiLayout:
    """Where the voxels of a NIfTI file stand: bytes, shape (slowest axis first), type of floats, order; and
    whether they are whole numbers of 16 bits that nothing scales."""

    offset: int
    length: int
    shape: tuple[int, ...]
    float_type: str
    order: str
    plain_int16: bool


def _require_one_scaling(header: bytes, order: str) -> None:
    """Raise InputError where programs make different values of a header's slope and offset.

    A slope of 0 says that values are as they are stored, and so they are in nibabel; ITK takes off the offset
    all the same.
    """
    slope, offset = struct.unpack_from(f"{order}2f", header, 112)
    unscaled = slope == 0 or math.isnan(slope)
    if unscaled and math.isfinite(offset) and offset != 0:
        raise InputError(
            f"its header contradicts itself: by scl_slope {slope:g} its values are as stored, by scl_inter "
            f"{offset:g} they are not; set scl_slope to 1 if the offset is to be added, else scl_inter to 0."
        )
    if not unscaled and not (math.isfinite(slope) and math.isfinite(offset)):
        raise InputError(
            f"its header has no usable scaling (scl_slope {slope:g}, scl_inter {offset:g}); export the "
            "volume again."
        )


def nifti_layout(header: bytes) -> NiftiLayout:
    """Return what the NIfTI-1 header promises; raises struct.error without one, InputError for NIfTI-2."""
    if len(header) < HEADER_BYTES:
        raise struct.error("no whole NIfTI header")
    for order in "<>":
        (header_size,) = struct.unpack_from(f"{order}i", header, 0)
        if header_size == HEADER_BYTES:
            dimensions = struct.unpack_from(f"{order}8h", header, 40)
            kind, bits = struct.unpack_from(f"{order}2h", header, 70)
            offset = int(struct.unpack_from(f"{order}f", header, 108)[0])
        elif header_size == 540:
            raise InputError("the format NIfTI-2 cannot be read; save the volume as NIfTI-1 or NRRD.")
        else:
            continue
        shape = tuple(max(length, 1) for length in dimensions[7:0:-1])[7 - max(0, min(dimensions[0], 7)) :]
        float_type = {16: f"{order}f4", 64: f"{order}f8"}.get(kind, "")
        scaling = struct.unpack_from(f"{order}2f", header, 112)
        plain = (kind, bits) == (_INT16, 16) and scaling in ((1.0, 0.0), (0.0, 0.0))
        return NiftiLayout(offset, math.prod(shape) * bits // 8, (1, 1, 1, *shape), float_type, order, plain)
    raise struct.error("no NIfTI header")
