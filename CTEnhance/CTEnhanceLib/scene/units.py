"""Of what quantity, and in which unit, the values of a volume node are, in DICOM's codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import slicer

_Code = tuple[str, str, str]


@dataclass(frozen=True)
class Quantity:
    """Codes (value, scheme, meaning) of a quantity and of its unit; `sign` stands behind numbers."""

    quantity: _Code
    unit: _Code
    sign: str


ATTENUATION = Quantity(
    ("112031", "DCM", "Attenuation Coefficient"), ("[hnsf'U]", "UCUM", "Hounsfield unit"), "HU"
)
DENSITY = Quantity(("122093", "DCM", "Concentration"), ("mg/ml", "UCUM", "milligram per milliliter"), "mg/mL")
Z_EFFECTIVE = Quantity(
    ("129320", "DCM", "Effective Atomic Number"), ("129320", "DCM", "Effective Atomic Number"), ""
)
ELECTRON_DENSITY = Quantity(("130083", "DCM", "Relative Electron Density"), ("1", "UCUM", "no units"), "")
# Not in DICOM's HU: what is no CT must not be taken for one.
EXPECTED_ERROR = Quantity(
    ("CTE-1", "99CTENHANCE", "Expected error, 90 %"), ("CTE-1", "99CTENHANCE", "± Hounsfield units"), "± HU"
)


def setUnits(node: Any, quantity: Quantity, material: str = "") -> None:
    """Say in the node what its values are; `material`: of what, for densities."""
    for code, put in (
        (quantity.quantity, node.SetVoxelValueQuantity),
        (quantity.unit, node.SetVoxelValueUnits),
    ):
        entry = slicer.vtkCodedEntry()
        entry.SetValueSchemeMeaning(*code)
        put(entry)
    if material:
        node.SetAttribute("CTEnhanceMaterial", material)


def sign(node: Any) -> str:
    """Return what stands behind the numbers of a volume node: HU, mg/mL, ± HU or nothing."""
    if mayBeHounsfield(node):
        return ATTENUATION.sign
    code = node.GetVoxelValueUnits().GetCodeValue()
    return next((known.sign for known in (DENSITY, EXPECTED_ERROR) if code == known.unit[0]), "")


def mayBeHounsfield(node: Any) -> bool:
    """Say whether a volume node is in HU, or does not tell its unit."""
    entry = node.GetVoxelValueUnits()
    return entry is None or entry.GetCodeValue() in (None, "", ATTENUATION.unit[0])
