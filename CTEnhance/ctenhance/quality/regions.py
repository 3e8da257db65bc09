"""Two maps in the same spheres, whatever grids they lie on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError


@dataclass(frozen=True)
class Sphere:
    """Centre (x, y, z; LPS) and radius in mm."""

    x: float
    y: float
    z: float
    radius: float


def inside(volume: CTVolume, sphere: Sphere) -> np.ndarray:
    """The values of the voxels with their centres in the sphere. Raises InputError where there is none."""
    centre = volume.direction.T @ (np.array([sphere.x, sphere.y, sphere.z]) - volume.origin) / volume.spacing
    reach = sphere.radius / np.array(volume.spacing)
    size = np.array(volume.array.shape[::-1])
    low = np.maximum(np.ceil(centre - reach), 0).astype(int)
    high = np.minimum(np.floor(centre + reach), size - 1).astype(int)
    if (low <= high).all():
        x, y, z = (np.arange(a, b + 1) - c for a, b, c in zip(low, high, centre, strict=True))
        away = (
            (x * volume.spacing[0])[None, None] ** 2
            + (y * volume.spacing[1])[None, :, None] ** 2
            + (z * volume.spacing[2])[:, None, None] ** 2
        )
        box = volume.array[low[2] : high[2] + 1, low[1] : high[1] + 1, low[0] : high[0] + 1]
        found = box[away <= sphere.radius**2]
        if found.size:
            return found
    raise InputError(
        f"No voxel lies within {sphere.radius:g} mm of ({sphere.x:g}, {sphere.y:g}, {sphere.z:g}) mm: give "
        "places in the volumes' own mm (LPS)."
    )


def compare_maps(one: CTVolume, other: CTVolume, spheres: Sequence[Sphere]) -> list[dict[str, Any]]:
    """For each sphere `mean` and `sd` of both maps, in their unit, the `difference` (second less first) and
    how many voxels of each that is."""
    rows = []
    for sphere in spheres:
        a, b = inside(one, sphere).astype(np.float64), inside(other, sphere).astype(np.float64)
        rows.append(
            {
                "centre_mm": [sphere.x, sphere.y, sphere.z], "radius_mm": sphere.radius,
                "mean": [a.mean(), b.mean()], "sd": [a.std(), b.std()], "voxels": [a.size, b.size],
                "difference": b.mean() - a.mean(),
            }
        )  # fmt: skip
    return rows
