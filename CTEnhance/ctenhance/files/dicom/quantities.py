"""What the values of a CT image are, in DICOM's terms: PS3.3 C.8.2.1.1.1 (Image Type), C.11.1.1.2 (units)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Code = tuple[str, str, str]


@dataclass(frozen=True)
class Quantity:
    """`image_type`: value 4 of Image Type; `rescale_type`; `unit`: its code (value, scheme, meaning)."""

    text: str
    image_type: str
    rescale_type: str
    unit: Code

    @property
    def is_hounsfield(self) -> bool:
        """Whether the values are HU."""
        return self.rescale_type == "HU"


_HU: Code = ("[hnsf'U]", "UCUM", "Hounsfield unit")

#: By the name that the command line takes.
QUANTITIES: Mapping[str, Quantity] = {
    "hu": Quantity("CT", "", "HU", _HU),
    "vmi": Quantity("Monoenergetic", "VMI", "HU", _HU),
    "vnc": Quantity("Virtual non-contrast", "MAT_REMOVED", "HU", _HU),
    "density": Quantity("Density", "MAT_SPECIFIC", "MGML", ("mg/ml", "UCUM", "mg/ml")),
    "zeff": Quantity(
        "Effective atomic number", "EFF_ATOMIC_NUM", "Z_EFF", ("129320", "DCM", "Effective Atomic Number")
    ),
    "electron-density": Quantity(
        "Electron density, water = 1", "ELECTRON_DENSITY", "EDW", ("1", "UCUM", "no units")
    ),
}

#: Context group 300, as far as bases name them.
MATERIAL_CODES: Mapping[str, Code] = {
    "water": ("11713004", "SCT", "Water"),
    "iodine": ("44588005", "SCT", "Iodine"),
    "calcium": ("5540006", "SCT", "Calcium"),
    "gadolinium": ("58281002", "SCT", "Gadolinium"),
    "gold": ("2309006", "SCT", "Gold"),
    "adipose": ("256674009", "SCT", "Fat"),
    "hydroxyapatite": ("256579008", "SCT", "Calcium Hydroxyapatite"),
}


def material_code(name: str) -> Code:
    """The code of a material; one of our own where the context group has none."""
    return MATERIAL_CODES.get(name, (name.upper().replace(" ", "_")[:16], "99CTENHANCE", name[:64]))
