"""What attenuations that were found in one scan of rods make of a second one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ctenhance.core.volume import CTVolume
from ctenhance.decomposition.calibration.inserts import PART, Inserts, circle
from ctenhance.decomposition.from_images.inference import decompose_images
from ctenhance.decomposition.from_images.options import HU


def concentrations(images: Mapping[str, CTVolume], found: Inserts, unit: str = HU) -> list[dict[str, Any]]:
    """For each rod `material`, `mg_per_ml`, what is `found` there in mg/mL, and with the tables' attenuation
    (`nominal`, None where they do not know the images'). The rods lie as in the first scan."""
    names = list(next(iter(found.table.values())))
    with_tables = found.nominal if len(found.nominal) == len(found.table) else None
    results: list[dict[str, CTVolume] | None] = []
    for table in (found.table, with_tables):
        if table is None:
            results.append(None)
            continue
        result = decompose_images(dict(images), basis=names, attenuation=table, unit=unit)
        results.append(result.volumes)
    rows = []
    for rod in found.rods:
        if rod.material == "water":
            continue
        inside = circle(next(iter(images.values())), rod, PART)
        means = [None if r is None else float(np.mean(r[rod.material].array[:, inside])) for r in results]
        rows.append(
            {"material": rod.material, "mg_per_ml": rod.mg_per_ml, "found": means[0], "nominal": means[1]}
        )
    return rows
