"""A vendor's map of a material in mg/mL, whatever unit its headers tell: Rescale Type or Real World Value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ctenhance.core.volume import AnyPath, CTVolume
from ctenhance.files.dicom.header import number, read_file, text
from ctenhance.files.dicom.slices import HOUNSFIELD
from ctenhance.files.dicom.units import measure_of, unit_of
from ctenhance.runtime.errors import InputError

MG_PER_ML = "mg/ml"
_SAME = 0.02
_MASS = {"kg": 1e6, "g": 1e3, "mg": 1.0, "ug": 1e-3, "mcg": 1e-3}
_VOLUME = {"ml": 1.0, "cc": 1.0, "cm3": 1.0, "mm3": 1e3, "dl": 1e-2, "l": 1e-3, "m3": 1e-6}
_UNIT = re.compile(
    r"(?:(\d+\.?\d*|\.\d+)|(\d+\.?\d*e[+-]?\d+)|10(?:\^|\*\*?)?([+-]\d+)|10(?:\^|\*\*?)(\d+))?[x×*·]?"
    r"(kg|mcg|mg|ug|g)(?:i|iodine|ca|hap|h2o|water)?/(ml|cc|cm3|mm3|dl|l|m3)"
)


def mg_per_ml_of(unit: str) -> float | None:
    """What one of `unit` is in mg/mL, None for a unit that is no mass by volume."""
    squeezed = re.sub(r"[\s{}()\[\]]", "", unit.lower().replace("µ", "u").replace("μ", "u"))
    found = _UNIT.fullmatch(re.sub(r"m\^3", "m3", squeezed))
    if found is None:
        return None
    number, scientific, negative, positive, mass, volume = found.groups()
    power = float(negative or positive or 0)
    return float(number or scientific or 10.0**power) * _MASS[mass] * _VOLUME[volume]


def read_map(
    path: AnyPath | Sequence[AnyPath],
    series: int | str | None = None,
    where: Mapping[str, str] | None = None,
) -> CTVolume:
    """A map of a material in mg/mL, `meta` unit mg/ml, from a DICOM series that tells its unit, or from an
    image file, whose values are taken for mg/mL. Raises InputError for HU and for what tells no such unit."""
    volume = CTVolume.read(path, series, where=where, check_hu=False)
    if "source_files" not in volume.meta and "unit" not in volume.meta:
        return volume.with_array(volume.array, unit=MG_PER_ML)
    unit = str(volume.meta.get("unit") or HOUNSFIELD)
    factor = mg_per_ml_of(unit)
    if note := _said_twice(volume):
        volume.meta["notes"] = [*volume.meta.get("notes", []), note]
    if factor is None:
        name = Path(path).name if isinstance(path, str | Path) else "the map"
        raise InputError(
            f"'{name}' is in {unit}, not in mg/mL: give the series of a material's density, with its unit in "
            "Rescale Type or Real World Value Mapping."
        )
    return volume.with_array((volume.array * np.float32(factor)), unit=MG_PER_ML)


def _said_twice(volume: CTVolume) -> str:
    """Return the note on a map whose rescaling and Real World Value Mapping lead to other concentrations."""
    files, frames = volume.meta.get("source_files"), volume.meta.get("source_frames")
    file = read_file(Path(files[0])) if files else None
    if file is None or not frames:
        return ""
    frame = int(frames[0])
    mapped, slope = measure_of(file, frame), number(file.value("RescaleSlope", frame=frame))
    said = text(file.value("RescaleType", frame=frame)).strip()
    units = [mg_per_ml_of(one) for one in (unit_of(said), mapped.unit)]
    if mapped.slope is None or not slope or None in units:
        return ""
    by_rescaling, by_mapping = (a * (b or 0) for a, b in zip((slope, mapped.slope), units, strict=True))
    if not by_mapping or abs(by_rescaling / by_mapping - 1) < _SAME:
        return ""
    return (
        f"its header leads to concentrations in two ways: by Rescale Slope {slope:g} ({said}), which makes "
        f"them {by_rescaling / by_mapping:.3g} times as high, and by the Real World Value Mapping's slope "
        f"{mapped.slope:g} ({mapped.unit}), which was taken: ask its maker which is right"
    )
