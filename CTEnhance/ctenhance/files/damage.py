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
from ctenhance.files.text_header import DAMAGED, LOCAL, text_header
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import suffix_of

_unpacking: Any = zlib
with contextlib.suppress(ImportError):  # half the time; not built for every processor
    from isal import isal_zlib as _unpacking

NIFTI = (".nii", ".nii.gz")
_CHUNK = 1 << 20
_INT16 = 4  # its word for that type
#: Bytes behind the voxels of a NIfTI file that programs may leave there; a packed file could have any number.
_MOST_BEHIND = 64 << 20
_PACKED_CHUNK = 1 << 17
_GZIP = b"\x1f\x8b"  # how a gzip file begins
GZIP_WBITS = 31  # zlib's word for one
_UNPACKING_FAILED = (zlib.error, _unpacking.error)
LEAST_OFFSET = 352  # of the voxels in a NIfTI file

Take = Callable[[bytes], Any]


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


def _require_sound_compression(path: Path) -> None:
    header = text_header(path)
    fields, start = header.fields, header.end
    if suffix_of(path) in (".mha", ".mhd"):
        compressed = fields.get(b"compresseddata", b"").lower() == b"true"
    else:
        compressed = fields.get(b"encoding") in (b"gzip", b"gz")
        # What is skipped may be anything; ITK knows how.
        compressed = compressed and not fields.keys() & {b"byte skip", b"byteskip", b"line skip", b"lineskip"}
    if header.values != LOCAL:
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
