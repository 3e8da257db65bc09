"""The header of a study's blinded copy (.mha, int16, as `images` writes them), for those who show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, Any

import numpy as np

_LONGEST_LINE = 4096
_MOST_FIELDS = 64
# What a study's copies are written as; anything else is no copy of a study.
_PLAIN = {
    "NDims": "3",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}


@dataclass(frozen=True, eq=False)
class CopyHeader:
    """Where the voxels [z, y, x] are and their grid, as `CTVolume` has it (mm, LPS).

    start   byte of the file at which the voxels begin: int16, little-endian
    """

    start: int
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: np.ndarray

    @property
    def end(self) -> int:
        """Byte of the file at which the voxels, and with them the file, end."""
        z, y, x = self.shape
        return self.start + 2 * z * y * x


def read_header(stream: IO[bytes], digest: Any) -> CopyHeader:
    """Return what the header says, having put its bytes into `digest`; the stream stands at the voxels then.

    Raises ValueError for what is no copy of a study, OSError where it cannot be read.
    """
    fields: dict[str, str] = {}
    for _ in range(_MOST_FIELDS):
        line = stream.readline(_LONGEST_LINE)
        digest.update(line)
        name, sign, value = line.decode("ascii").partition("=")
        if not sign:
            raise ValueError("no header")
        fields[name.strip()] = value.strip()
        if "ElementDataFile" in fields:
            break
    if any(fields.get(name) != value for name, value in _PLAIN.items()):
        raise ValueError("another kind of image")
    x, y, z = (int(length) for length in fields.get("DimSize", "").split())
    if min(x, y, z) < 1:
        raise ValueError("no voxels")
    # MetaImage has one axis after the other, a direction matrix has them as columns.
    direction = np.array(_numbers(fields, "TransformMatrix", 9)).reshape(3, 3).T
    spacing, origin = (_numbers(fields, name, 3) for name in ("ElementSpacing", "Offset"))
    return CopyHeader(
        stream.tell(), (z, y, x), (spacing[0], spacing[1], spacing[2]), (origin[0], origin[1], origin[2]),
        direction,
    )  # fmt: skip


def _numbers(fields: dict[str, str], name: str, count: int) -> list[float]:
    found = [float(number) for number in fields.get(name, "").split()]
    if len(found) != count:
        raise ValueError(f"{name} has not {count} numbers")
    return found
