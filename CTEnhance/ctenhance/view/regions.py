"""What is measured: mean and standard deviation of a rectangle, image by image, and the length of a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctenhance.runtime.errors import InputError
from ctenhance.view.images import Image
from ctenhance.view.planes import Plane
from ctenhance.view.shared import SharedVolume


@dataclass(frozen=True)
class Region:
    """A rectangle in slice `index` of a plane.

    corners    two opposite ones, RAS in mm
    part       the voxels whose centres lie in it, along the slice's two array axes
    """

    plane: str
    index: int
    corners: tuple[np.ndarray, np.ndarray]
    part: tuple[slice, slice]

    def boxes(self, pixels: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
        """Return left, top, width and height in each cell, of the corners' `pixels` there."""
        return {
            cell: [*ends.min(axis=0).tolist(), *np.ptp(ends, axis=0).tolist()]
            for cell, ends in pixels.items()
        }

    @classmethod
    def of(cls, grid: SharedVolume, plane: Plane, index: int, first: np.ndarray, last: np.ndarray) -> Region:
        """Return the rectangle between two points of a slice; raises InputError when no voxel is in it."""
        to_voxels = np.linalg.inv(grid.ijk_to_ras())
        ends = np.array([(to_voxels @ [*point, 1.0])[2::-1] for point in (first, last)])  # [z, y, x]
        low = np.maximum(np.ceil(ends.min(axis=0) - 1e-6), 0).astype(int)
        high = np.minimum(np.floor(ends.max(axis=0) + 1e-6), np.array(grid.shape) - 1).astype(int)
        spans = [slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True)]
        part = [one for axis, one in enumerate(spans) if axis != plane.axis]
        if any(one.stop <= one.start for one in part):
            raise InputError("There is no voxel in this rectangle; draw a larger one on the image.")
        return cls(plane.name, index, (first, last), (part[0], part[1]))


@dataclass(frozen=True)
class Line:
    """A line in slice `index` of a plane between two points, RAS in mm."""

    plane: str
    index: int
    ends: tuple[np.ndarray, np.ndarray]

    @property
    def length(self) -> float:
        """In mm."""
        return float(np.linalg.norm(self.ends[1] - self.ends[0]))


def statistics(region: Region, plane: Plane, images: Mapping[str, Image]) -> dict[str, Any]:
    """Return the number of voxels, and of each image its name, unit, mean and standard deviation."""
    rows, count = [], 0
    for image in images.values():
        values = image.slice(plane, region.index)[region.part].astype(np.float64)
        count = values.size
        rows.append(
            {"name": image.name, "unit": image.unit, "mean": float(values.mean()), "sd": float(values.std())}
        )
    return {"count": count, "rows": rows}
