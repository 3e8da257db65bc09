"""NIfTI-1 files whose header says what a test wants: both transforms, their codes, voxel size, unit."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

SIZE = (40, 30, 12)  # i, j, k
VOXEL = (0.7, 0.8, 1.5)


def turned(
    degrees: float, offset: tuple[float, float, float] = (0, 0, 0), voxel: tuple = VOXEL
) -> np.ndarray:
    """Return a matrix from voxel index to mm (RAS) that turns about the long axis."""
    angle = np.radians(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, :3] *= voxel
    matrix[:3, 3] = offset
    return matrix


def sheared(degrees: float, voxel: tuple = VOXEL) -> np.ndarray:
    """Return a matrix whose slices slide along the rows, as those of a tilted gantry do."""
    matrix = turned(0, voxel=voxel)
    matrix[1, 2] += np.tan(np.radians(degrees)) * voxel[2]
    return matrix


def write(
    path: Path,
    values: np.ndarray,
    qform: np.ndarray | None = None,
    qform_code: int = 0,
    sform: np.ndarray | None = None,
    sform_code: int = 0,
    voxel: tuple = VOXEL,
    unit: int = 2,
    order: str = "<",
) -> Path:
    """Write int16 values [k, j, i]; a qform must be a turn about the long axis (see `turned`)."""
    header = bytearray(352)
    struct.pack_into(f"{order}i", header, 0, 348)
    struct.pack_into(f"{order}8h", header, 40, 3, *values.shape[::-1], 1, 1, 1, 1)
    struct.pack_into(f"{order}2h", header, 70, 4, 16)
    struct.pack_into(f"{order}8f", header, 76, 1, *voxel, 1, 1, 1, 1)
    struct.pack_into(f"{order}f", header, 108, 352)
    struct.pack_into(f"{order}f", header, 112, 1)
    header[123] = unit
    struct.pack_into(f"{order}2h", header, 252, qform_code, sform_code)
    if qform is not None:
        half = np.arctan2(qform[1, 0], qform[0, 0]) / 2
        struct.pack_into(f"{order}6f", header, 256, 0, 0, np.sin(half), *qform[:3, 3])
    if sform is not None:
        struct.pack_into(f"{order}12f", header, 280, *sform[:3].ravel())
    header[344:348] = b"n+1\0"
    path.write_bytes(bytes(header) + values.astype(f"{order}i2").tobytes())
    return path


def forms(path: Path) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Return qform and sform (4 x 4, RAS) and their codes, as the header of a .nii file has them."""
    header = path.read_bytes()[:348]
    voxel = np.array(struct.unpack_from("<4f", header, 76))
    b, c, d, *offset = struct.unpack_from("<6f", header, 256)
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    qform = np.eye(4)
    qform[:3, :3] = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    ) * (voxel[1:] * [1, 1, voxel[0] or 1])
    qform[:3, 3] = offset
    sform = np.vstack([np.reshape(struct.unpack_from("<12f", header, 280), (3, 4)), [0, 0, 0, 1]])
    return qform, sform, *struct.unpack_from("<2h", header, 252)
