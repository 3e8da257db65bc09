"""Between the rays of a scan as `physics` knows them and the fields that a projection file names."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctenhance.physics.geometry import EQUIANGULAR, FLAT, FanGeometry, ParallelGeometry, ScanGeometry
from ctenhance.runtime.errors import InputError
from ctenhance.scan.fields import ScanFields


def rays_of(p: ScanFields) -> ScanGeometry:
    """The rays that the fields describe; every slice of a scan has the same. Raises InputError where one is
    missing."""
    angles = tuple(float(angle) for angle in p.view_angles)
    if p.geometry == "parallel":
        return ParallelGeometry(
            n_views=p.n_views,
            n_columns=p.n_columns,
            column_pitch_mm=_needed(p, "column_pitch_mm"),
            view_angles=angles,
            central_column=p.central_column,
        )
    flat = p.geometry == "fan_flat"
    return FanGeometry(
        shape=FLAT if flat else EQUIANGULAR,
        source_to_isocenter_mm=_needed(p, "source_to_isocenter_mm"),
        source_to_detector_mm=_needed(p, "source_to_detector_mm"),
        column_pitch=_needed(p, "column_pitch_mm" if flat else "column_pitch_rad"),
        n_columns=p.n_columns,
        central_column=p.central_column,
        view_angles=angles,
    )


def _needed(p: ScanFields, name: str) -> float:
    value = getattr(p, name)
    if value is None:
        raise InputError(f"The projections lack '{name}', which their geometry {p.geometry} needs.")
    return float(value)


def ray_fields(scan: ScanGeometry) -> dict[str, Any]:
    """The fields of `Projections` that describe these rays: the opposite of `rays_of`."""
    fields: dict[str, Any] = {
        "view_angles": np.asarray(scan.angles()),
        "central_column": scan.central_column,
    }
    if isinstance(scan, ParallelGeometry):
        return fields | {"geometry": "parallel", "column_pitch_mm": scan.column_pitch_mm}
    flat = scan.shape == FLAT
    return fields | {
        "geometry": "fan_flat" if flat else "fan_equiangular",
        "column_pitch_mm" if flat else "column_pitch_rad": scan.column_pitch,
        "source_to_isocenter_mm": scan.source_to_isocenter_mm,
        "source_to_detector_mm": scan.source_to_detector_mm,
    }
