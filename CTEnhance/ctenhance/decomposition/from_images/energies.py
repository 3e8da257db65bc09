"""What energy an image was made at: keV, a tube voltage, or a bin of a table."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ctenhance.runtime.errors import InputError

#: mm of tin by tube voltage in dual-source scanners (Petersilka et al., Eur J Radiol 68:362, 2008).
TIN_MM = {100: 0.6, 140: 0.4, 150: 0.6}
LEAST_KEV, MOST_KEV = 35.0, 200.0
LEAST_KV, MOST_KV = 70, 150


@dataclass(frozen=True)
class Energy:
    """`label` as images are named; one of `kev` (monoenergetic) and `kvp` (polychromatic, behind `tin_mm` of
    tin), or neither: a bin, whose attenuation a table tells."""

    label: str
    kev: float | None = None
    kvp: int | None = None
    tin_mm: float = 0.0

    @classmethod
    def of(cls, label: str | float | Energy) -> Energy:
        """Read '40', '40keV', '80kV', 'Sn140kV', or a bin's name.

        Raises InputError for energies at which materials are not told apart."""
        if isinstance(label, Energy):
            return label
        said = f"{label:g}" if isinstance(label, int | float) else label.strip()
        if not said:
            raise InputError(
                "An image needs its energy: write, for instance, 40=file, 80kV=file or bin1=file."
            )
        if mono := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:kev)?", said, re.IGNORECASE):
            kev = float(mono[1])
            if not LEAST_KEV <= kev <= MOST_KEV:
                raise InputError(
                    f"An image at {kev:g} keV cannot be used: give {LEAST_KEV:g} to {MOST_KEV:g} keV, or a "
                    "tube voltage as 80kV."
                )
            return cls(f"{kev:g}", kev)
        if tube := re.fullmatch(r"(sn)?\s*(\d+)\s*kvp?", said, re.IGNORECASE):
            kvp, tin = int(tube[2]), bool(tube[1])
            if not LEAST_KV <= kvp <= MOST_KV:
                raise InputError(
                    f"A tube voltage of {kvp} kV is not possible: give {LEAST_KV} to {MOST_KV} kV."
                )
            if tin and kvp not in TIN_MM:
                known = ", ".join(f"Sn{one}kV" for one in TIN_MM)
                raise InputError(
                    f"No scanner filters {kvp} kV with tin: give {known}, or a name such as bin1 and a "
                    "table of its attenuations."
                )
            return cls(f"{'Sn' if tin else ''}{kvp}kV", None, kvp, TIN_MM[kvp] if tin else 0.0)
        if not re.fullmatch(r"[\w .+-]+", said):
            raise InputError(
                f"'{said}' is no energy of an image: write 40, 80kV, Sn140kV, or the name of a bin."
            )
        return cls(said)

    @property
    def order(self) -> float | None:
        """What images are sorted by, where it is known: keV, or for a tube voltage about its mean energy."""
        if self.kev is not None:
            return self.kev
        return None if self.kvp is None else 0.45 * self.kvp * (1.3 if self.tin_mm else 1.0)

    def __str__(self) -> str:
        return f"{self.kev:g} keV" if self.kev is not None else self.label


def different(energies: list[Energy]) -> None:
    """Raise InputError where one energy was given twice, or there are fewer than two."""
    labels = [one.label.casefold() for one in energies]
    twice = next((one for one, label in zip(energies, labels, strict=True) if labels.count(label) > 1), None)
    if twice is not None:
        raise InputError(f"Two images are given at {twice}: give each energy once.")
    if len(labels) < 2:
        raise InputError("One image cannot be decomposed: give images at two or more energies.")


def of_what_is_left(image: str, place: str, without: str) -> InputError:
    """Return the refusal of an `image` of which a place such as 'its header' says `without` what it is."""
    return InputError(
        f"{image} had a material taken out by {place} ({without}), as a virtual non-contrast one: it is no "
        "image at an energy; give one from which nothing was."
    )
