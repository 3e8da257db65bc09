"""Volumes as several processes share them: the voxels in one plain file that each of them maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError

if TYPE_CHECKING:
    from ctenhance.files.volumes import StoredVolume

#: Patient coordinates are LPS in files and in `CTVolume`, RAS in Slicer.
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class SharedVolume:
    """Where the voxels [z, y, x] of a volume are, and its grid (mm, LPS), as `CTVolume` has them.

    file       a file that holds them, from byte `start` on, little-endian
    kind       `<i2` or `<f4`
    hounsfield whether they are HU
    """

    file: str
    start: int
    kind: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[tuple[float, float, float], ...]
    hounsfield: bool = True

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> SharedVolume:
        """Return the volume that `to_json` told of."""
        return cls(**{name: _tuples(value) for name, value in values.items()})

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able object for another process of this program."""
        return asdict(self)

    @property
    def nbytes(self) -> int:
        """Bytes of the voxels."""
        return int(np.prod(self.shape)) * np.dtype(self.kind).itemsize

    def array(self) -> np.ndarray:
        """Return the voxels [z, y, x], mapped and not to be written to."""
        return np.memmap(self.file, np.dtype(self.kind), "r", self.start, self.shape)

    def ijk_to_ras(self) -> np.ndarray:
        """Return the 4 x 4 matrix from voxel indices (x, y, z) to RAS in mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = RAS_TO_LPS @ np.array(self.direction) * np.array(self.spacing)
        matrix[:3, 3] = RAS_TO_LPS @ np.array(self.origin)
        return matrix


def share(volume: CTVolume | StoredVolume, path: Path, hounsfield: bool = True) -> SharedVolume:
    """Write the voxels of a volume into a new file, as int16 where that keeps every one; those that stand in
    a file already (`read_or_map`) stay there."""
    array = volume.array
    if isinstance(volume, CTVolume):
        file, start, kind = path, 0, "<i2" if _is_whole(array) else "<f4"
        with path.open("xb") as stream:
            for plane in array:  # plane by plane: no second copy of the volume
                stream.write(np.ascontiguousarray(plane, kind).data)
    else:
        file, start, kind = volume.file, volume.start, "<i2"
    z, y, x = array.shape
    rows = np.asarray(volume.direction).reshape(3, 3).tolist()
    direction = tuple((float(x), float(y), float(z)) for x, y, z in rows)
    spacing, origin = volume.spacing, volume.origin
    return SharedVolume(str(file), start, kind, (z, y, x), spacing, origin, direction, hounsfield)


def require_same_grid(first: SharedVolume, other: SharedVolume, name: str) -> None:
    """Raise InputError unless both lie on one grid, within a twentieth of a voxel at every corner."""
    reason = ""
    if first.shape != other.shape:
        sizes = (" x ".join(str(n) for n in reversed(one.shape)) for one in (first, other))
        reason = "{} against {} voxels".format(*sizes)
    else:
        corners = np.array([[i, j, k, 1.0] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
        corners[:, :3] *= np.array(first.shape[::-1]) - 1
        apart = np.abs((first.ijk_to_ras() - other.ijk_to_ras()) @ corners.T)[:3].max()
        if apart > 0.05 * min(first.spacing):
            reason = f"they lie up to {apart:.3g} mm apart"
    if reason:
        raise InputError(
            f"The {name} is on another grid than the first volume ({reason}); resample it before "
            "it is compared."
        )


def _is_whole(array: np.ndarray) -> bool:
    if array.min() < _INT16.min or array.max() > _INT16.max:
        return False
    return all(np.array_equal(plane, plane.astype(np.int16)) for plane in array)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value
