"""Pictures on their way to the browser: small while something moves, the rendered ones to the bit at rest."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

LOSSLESS, MOVING = "png", "jpeg"
#: Of pictures while something moves.
QUALITY = 90
_LENGTH = struct.Struct("<I")


def encoded(picture: np.ndarray, kind: str) -> bytes:
    """Return a picture [row, column, RGB], uint8, as PNG or JPEG; a grey one without its colours."""
    grey = picture[..., 0]
    if np.array_equal(grey, picture[..., 1]) and np.array_equal(grey, picture[..., 2]):
        image = Image.fromarray(np.ascontiguousarray(grey))
    else:
        image = Image.fromarray(np.ascontiguousarray(picture))
    stream = io.BytesIO()
    if kind == LOSSLESS:
        image.save(stream, "png", compress_level=1)
    else:
        image.save(stream, "jpeg", quality=QUALITY, subsampling=0)
    return stream.getvalue()


def message(head: Mapping[str, Any], parts: Sequence[bytes] = ()) -> bytes:
    """Return what is sent: the length of the head, the head (JSON), and the parts after each other."""
    text = json.dumps(head, allow_nan=False).encode("ascii")
    return b"".join([_LENGTH.pack(len(text)), text, *parts])


def unpacked(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the head and what follows of a message."""
    (length,) = _LENGTH.unpack_from(data)
    return json.loads(data[_LENGTH.size : _LENGTH.size + length]), data[_LENGTH.size + length :]
