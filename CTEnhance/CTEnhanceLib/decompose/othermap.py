"""Another program's map of a material, such as a scanner's iodine, beside ours in a region.

Slicer says of every CT series that it is in HU. What the DICOM images themselves say, in Rescale Type or Real
World Value Mapping, holds here.
"""

from __future__ import annotations

import html
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from ctenhance.runtime.errors import InputError
from CTEnhanceLib.measure import roi
from CTEnhanceLib.out.patient import firstFile
from CTEnhanceLib.scene import units


def toDensity(node: Any) -> tuple[float, float]:
    """Return slope and intercept that make mg/mL of a volume's values.

    Raises InputError for a volume whose images or units say that it is no density.
    """
    found = _ofFile(firstFile(node))
    if found is None:
        entry = node.GetVoxelValueUnits()
        found = _conversion("" if entry is None else entry.GetCodeValue() or "", None)
    if found is None:
        raise InputError(
            _("'{name}' is no density: choose a map whose DICOM images or units say mg/mL.").format(
                name=node.GetName()
            )
        )
    return found


def isMap(node: Any) -> bool:
    """Say whether a volume's own DICOM images or units tell that it is no CT image in HU."""
    file = firstFile(node)
    return not units.mayBeHounsfield(node) or (bool(file) and _isOther(file))


def showUnit(node: Any) -> None:
    """Let Slicer show values in mg/mL where they are; it takes any CT for HU."""
    if toDensity(node) == (1.0, 0.0) and units.mayBeHounsfield(node):
        units.setUnits(node, units.DENSITY)


def text(region: Any, result: Any, ours: Any, other: Any) -> str:
    """Return the line of a table that compares a map of ours (on the result's grid) with another's."""
    try:
        slope, intercept = toDensity(other)
        theirs = slope * roi.values(region, other) + intercept
    except InputError as error:
        return f"<br>{html.escape(str(error))}"
    here = roi.values(region, result, ours)
    difference = float(np.mean(theirs) - np.mean(here))
    sentence = _("{name}: {mean:.2f} ± {deviation:.2f} mg/mL, {difference:+.2f} against {ours}").format(
        name=other.GetName(),
        mean=float(np.mean(theirs)),
        deviation=float(np.std(theirs)),
        difference=difference,
        ours=ours.GetName(),
    )
    return f"<br>{html.escape(sentence)}"


def _conversion(unit: str, mapping: tuple[float, float] | None) -> tuple[float, float] | None:
    from ctenhance.files.dicom.maps import mg_per_ml_of

    factor = mg_per_ml_of(unit) if unit else None
    if factor is None:
        return None
    slope, intercept = mapping or (1.0, 0.0)
    return factor * slope, factor * intercept


@lru_cache(maxsize=64)
def _measure(path: str) -> tuple[Any, float, float] | None:
    """Return what a DICOM image's values are, and its rescaling; None where it cannot be read."""
    if not path or not Path(path).is_file():
        return None
    try:
        from ctenhance.files.dicom.header import number, read_file
        from ctenhance.files.dicom.units import measure_of
    except ImportError:  # pydicom comes with Slicer, but not with every Python
        return None
    try:
        file = read_file(Path(path))
    except InputError:
        return None
    if file is None:
        return None
    slope, intercept = (number(file.value(f"Rescale{name}")) for name in ("Slope", "Intercept"))
    return measure_of(file, 0), slope or 1.0, intercept or 0.0


def _isOther(path: str) -> bool:
    found = _measure(path)
    return found is not None and bool(found[0].is_other)


def _ofFile(path: str) -> tuple[float, float] | None:
    found = _measure(path)
    if found is None or not found[0].is_other:
        return None
    measure, slope, intercept = found
    if measure.slope is None:  # the rescaling, which Slicer has done, gives it
        return _conversion(measure.unit, None)
    share = measure.slope / slope
    return _conversion(measure.unit, (share, measure.intercept - share * intercept))
