"""Compressed DICOM that would unpack to far more than its header says: looked at before it is unpacked.

A few kilobytes may stand for gigabytes, by damage or on purpose. Decoders believe the picture's own stream,
and zlib gives whatever is in it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

from ctenhance.runtime.errors import InputError

DEFLATED = b"1.2.840.10008.1.2.1.99"
#: What a deflated data set may take when unpacked: so much, and so many times its packed size. CT shrinks to
#: a half or a third.
_BYTES, _TIMES = 256 << 20, 20
_CHUNK = 1 << 20
_META_LENGTH_AT = 140
_SIZ = b"\xff\x4f\xff\x51"
#: Markers of a JPEG or JPEG-LS stream that its size follows, and those without a length of their own.
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
_BARE = {0x01, *range(0xD0, 0xDA)}


def stream_size(frame: bytes) -> tuple[int, int] | None:
    """The rows and columns of a JPEG, JPEG-LS or JPEG 2000 stream; None where it does not say them."""
    try:
        if frame[:4] == _SIZ:
            right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
            return bottom - top, right - left
        if frame[:2] != b"\xff\xd8":
            return None
        at = 2
        while at + 9 <= len(frame) and frame[at] == 0xFF:
            kind = frame[at + 1]
            if kind in _FRAMES:
                rows, columns = struct.unpack_from(">2H", frame, at + 5)
                return rows, columns
            at += (
                2 if kind in _BARE else 1 if kind == 0xFF else 2 + struct.unpack_from(">H", frame, at + 2)[0]
            )
    except struct.error:
        pass
    return None


def require_size(frames: Iterable[bytes], rows: int, columns: int, name: str) -> None:
    """Raise InputError where a frame's stream has another size than the header."""
    for frame in frames:
        size = stream_size(bytes(frame[:4096]))
        if size is not None and size != (rows, columns):
            raise InputError(
                f"the compressed pixel data of '{name}' are of {size[1]} x {size[0]} pixels, its header says "
                f"{columns} x {rows}; copy it again from its source."
            )


def require_modest(path: Path) -> None:
    """Raise InputError for a deflated data set that unpacks to more than any CT."""
    most = _BYTES + _TIMES * path.stat().st_size
    unpacker, length = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as stream:
        stream.seek(_META_LENGTH_AT)
        (meta,) = struct.unpack("<I", stream.read(4).ljust(4, b"\0"))
        stream.seek(_META_LENGTH_AT + 4 + meta)
        try:
            while not unpacker.eof and (packed := unpacker.unconsumed_tail or stream.read(_CHUNK)):
                length += len(unpacker.decompress(packed, 4 * _CHUNK))
                if length > most:
                    raise InputError(
                        f"'{path.name}' unpacks to more than {most >> 20} MB, more than a CT of its size: "
                        "it is damaged, or made to fill the memory; export the series uncompressed."
                    )
        except zlib.error:
            pass  # whoever reads it says so
