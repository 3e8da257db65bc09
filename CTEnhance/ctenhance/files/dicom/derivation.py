"""What a derived volume is, how it was made, and how a DICOM series says so in words and numbers."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ctenhance
from ctenhance.files.dicom.quantities import QUANTITIES, Quantity
from ctenhance.runtime.errors import InputError, require_one_of

#: How a volume is stored: PS3.3 A.3 (CT Image), A.75 (Parametric Map), or by the quantity.
STORAGES = ("ct", "map", "auto")
RESEARCH = "Research use only; not for diagnosis."
_LONGEST_DESCRIPTION = 64
_VERBS = {"enhance": "Enhanced CT", "degrade": "Degraded CT", "reconstruct": "Reconstructed CT"}
# A series number is this many times the source's number, plus what the quantity makes of it: the keV of a
# monoenergetic image, one thousand more of a low-noise one, else a place in the quantity's own thousand.
_NUMBERS_A_SERIES = 10_000
_WITHOUT_SOURCE = 9
_LARGEST_NUMBER = 2**31 - 1


@dataclass(frozen=True)
class Derivation:
    """What a volume is and how it was made.

    `quantity`: a name of `QUANTITIES`; `kev` of a monoenergetic image; `material` of a density; `report`:
    that of the run that made it; `like`: a DICOM folder or file of the patient's study, `series` and `where`
    what of it, as in `CTVolume.read`; `low_noise`: the monoenergetic image was made of guided maps, too;
    `uids_of`: a text of which the UIDs are made, so that the same text gives the same ones; else random;
    `storage`: a name of `STORAGES`: CT images (ct), a Parametric Map (map), or by its unit (auto).
    Raises InputError for a quantity without what it needs, for a material that the report's run did not have,
    and for a description that DICOM cannot hold.
    """

    quantity: str = "hu"
    kev: float | None = None
    material: str | None = None
    description: str | None = None
    report: Mapping[str, Any] = field(default_factory=dict)
    like: str | os.PathLike[str] | None = None
    low_noise: bool = False
    series: int | str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    uids_of: str | None = None
    storage: str = "ct"

    def __post_init__(self) -> None:
        require_one_of(self.storage, STORAGES, "storage")
        if self.storage == "map" and self.quantity in QUANTITIES and self.meaning.is_hounsfield:
            raise InputError("A parametric map is for values that are not HU: write HU as CT images (ct).")
        require_one_of(self.quantity, QUANTITIES, "quantity")
        if self.quantity == "vmi" and self.kev is None:
            raise InputError("A monoenergetic image needs its energy: give it in keV (--kev, such as 70).")
        if self.quantity != "vmi" and self.kev is not None:
            raise InputError("An energy in keV belongs to the quantity vmi, and to it alone.")
        if self.kev is not None and not 1 <= self.kev <= 1000:
            raise InputError(f"A monoenergetic image at {self.kev:g} keV is not possible.")
        if self.low_noise and self.kev is None:
            raise InputError("Low noise belongs to the quantity vmi, and to it alone.")
        if self.quantity == "density" and self.material is None:
            raise InputError("A density needs its material: say of what it is (--material, such as iodine).")
        if self.quantity != "density" and self.material is not None:
            raise InputError("A material belongs to the quantity density, and to it alone.")
        basis = self.basis()
        if self.material is not None and basis and self.material not in basis:
            raise InputError(
                f"The report is of maps of {', '.join(basis)}, not of {self.material}: give the map's own "
                "material, or its own report."
            )
        if (self.series is not None or self.where) and self.like is None:
            raise InputError("A series is chosen of the patient's folder: give that with --like, too.")
        given = self.description or ""
        if len(given) > _LONGEST_DESCRIPTION or "\\" in given or not given.isprintable():
            raise InputError(
                f"A series' description is one line of at most {_LONGEST_DESCRIPTION} characters without a "
                "backslash: give another one."
            )

    @property
    def as_map(self) -> bool:
        """Whether it is stored as a Parametric Map."""
        return self.storage == "map" or (self.storage == "auto" and not self.meaning.is_hounsfield)

    @property
    def meaning(self) -> Quantity:
        """The quantity in DICOM's terms."""
        return QUANTITIES[self.quantity]

    @property
    def verb(self) -> str:
        """The verb of the run that made it, empty without a report."""
        return str(self.report.get("verb") or "")

    @property
    def version(self) -> str:
        """The version of CTEnhance that made it."""
        return str(self.report.get("ctenhance", ctenhance.__version__))

    def setting(self, name: str) -> Any:
        """A setting of the run that made it, None without a report."""
        return (self.report.get("settings") or {}).get(name)

    @property
    def from_images(self) -> bool:
        """Whether it was decomposed of images, not of counts."""
        return bool(self.setting("from_images"))

    def basis(self) -> list[str]:
        """The names of the materials that a decomposition had."""
        return [str(name) for name in self.setting("basis") or ()]

    def text(self, source: str = "") -> str:
        """The series' description; `source`: that of the series of which another CT image was made."""
        if self.description:
            return self.description
        if self.kev is not None:
            return f"{self.meaning.text} {self.kev:g} keV{' low noise' if self.low_noise else ''}"
        if self.material is not None:
            return f"{self.material.capitalize()} mg/mL"[:_LONGEST_DESCRIPTION]
        if self.quantity != "hu":
            return self.meaning.text
        own = ", ".join([_VERBS.get(self.verb, "CT processed by CTEnhance"), *self._how()])
        return (f"{own}: {source}" if source else own)[:_LONGEST_DESCRIPTION]

    def lineage(self) -> str:
        """How it was made, in a sentence, for Derivation Description."""
        basis = self.basis()
        parts = [self.text(), f"by CTEnhance {self.version} ({self.verb or 'no report of the run'})"]
        parts += [f"from maps of {', '.join(basis)}"] if basis else []
        parts += [f"decomposed of images at {self._energies()}"] if self.from_images else []
        model = self.report.get("model") or {}
        known = f"model {model.get('name')} {str(model.get('sha256', ''))[:12]}".strip()
        parts += [known] if model.get("name") else []
        return "; ".join(parts)[:900]

    def _energies(self) -> str:
        """The energies of the images that were decomposed, with their units."""
        said = [str(one) for one in self.setting("from_images")]
        return ", ".join(f"{one} keV" if one.replace(".", "", 1).isdigit() else one for one in said)

    def number(self, source: int | None, slices: str = "") -> int:
        """The series' number: one for each quantity, energy, material and way of making, by source.

        `source`: the number of the series that it was made of; `slices`: what tells the volume's from those
        of that series, '' for its own.
        """
        if self.kev is not None and self.kev == int(self.kev) and not slices:
            place = int(self.kev) + (1000 if self.low_noise else 0)
        else:
            facts = [self.quantity, self.kev, self.low_noise, self.material, self.description]
            facts += [self.verb, self.report.get("settings"), self.report.get("model"), slices]
            spelled = json.dumps(facts, sort_keys=True, default=str).encode()
            place = 1000 * (2 + list(QUANTITIES).index(self.quantity)) + 1 + zlib.crc32(spelled) % 999
        # Numbers that archives made up may be too large to be multiplied.
        series = (source or 0) % (_LARGEST_NUMBER // _NUMBERS_A_SERIES)
        return (series if series > 0 else _WITHOUT_SOURCE) * _NUMBERS_A_SERIES + place

    def _how(self) -> list[str]:
        """What distinguishes two results of one verb, in few words."""
        name = (self.report.get("model") or {}).get("name")
        parts = [str(name)] if name and self.verb == "enhance" else []
        parts += [str(self.setting(one)) for one in ("method", "preset", "kernel") if self.setting(one)]
        for one in ("strength", "dose"):
            share = self.setting(one)
            if isinstance(share, int | float) and share != 1:
                parts.append(f"{one} {100 * share:g} %")
        if isinstance(share := self.setting("keep_faint"), int | float) and share > 0:
            parts.append(f"faint kept {100 * share:g} %")
        return parts
