"""Materials by composition, and their attenuation.

Attenuation is taken from the tables of Elam, Ravel and Sieber (Radiat Phys Chem 63:121, 2002) by the package
xraydb; compositions of tissues are those of ICRU reports 44 and 46 as tabulated by NIST and by Schneider et
al. (Phys Med Biol 45:459, 2000). The total includes coherent scatter, as narrow-beam attenuation does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from ctenhance.physics.formula import NO_METALS, atom_counts, mass_shares, refuse_gas_for_metal
from ctenhance.runtime.errors import InputError

#: Energies at which the tables hold, in keV.
LOWEST_KEV, HIGHEST_KEV = 0.1, 950.0
#: g/cm³ of osmium, rounded up, and the last element of the tables.
_DENSEST, _HEAVIEST = 23.0, 92
# Atomic numbers of elements that, where they are this share of the mass, no solid has at so few g/cm³.
_LEAST_HEAVY, _MOSTLY_HEAVY, _LIGHTEST_SOLID, _DENSEST_VAPOUR = 11, 0.2, 0.4, 0.03
_FOAMED = frozenset(("Mg", "Al", "Ti", "Fe", "Ni", "Cu", "Zn"))
_LIGHT_ALL_THE_SAME = frozenset(("Si", "Ar", "Kr", "Xe", "Rn"))  # aerogels, gases
#: How far a tabulated density may be off; how many times the tabulated density of an element its densest form
#: has (diamond 1.55, black phosphorus 1.48), and frozen gases (neon 1,600, helium 1,200, others below 950).
_AS_TABULATED, _PRESSED, _FROZEN = 0.03, 1.6, 1700.0
KINDS = ("total", "photo", "incoh", "coh")


@dataclass(frozen=True)
class Material:
    """A homogeneous material: mass fractions by element symbol, and density in g/cm³.

    Fractions are normalised. Raises InputError for an unknown element or a density that is not positive.
    """

    name: str
    fractions: tuple[tuple[str, float], ...]
    density: float

    def __post_init__(self) -> None:
        total = sum(share for _, share in self.fractions)
        if not (total > 0 and all(share >= 0 for _, share in self.fractions)):
            raise InputError(f"The material '{self.name}' needs mass fractions that are not negative.")
        if not (np.isfinite(self.density) and self.density > 0):
            raise InputError(f"The material '{self.name}' needs a density above 0 g/cm³, not {self.density}.")
        for element, _ in self.fractions:
            _atomic_number(element)
        object.__setattr__(self, "fractions", tuple((e, s / total) for e, s in self.fractions))

    def mass_attenuation(self, energies_kev: torch.Tensor, kind: str = "total") -> torch.Tensor:
        """Mass attenuation in cm²/g, float64 of the shape of `energies_kev`.

        `kind`: total (with coherent scatter), photo (absorption), incoh (Compton) or coh (Rayleigh).
        """
        if kind not in KINDS:
            raise InputError(f"There is no kind of attenuation '{kind}': choose {', '.join(KINDS)}.")
        energies = torch.as_tensor(energies_kev, dtype=torch.float64)
        kev = energies.detach().cpu().numpy()
        if kev.size and not (kev.min() >= LOWEST_KEV and kev.max() <= HIGHEST_KEV):
            raise InputError(
                f"Attenuation is tabulated from {LOWEST_KEV} to {HIGHEST_KEV} keV; "
                f"asked for {kev.min():g} to {kev.max():g} keV."
            )
        flat = tuple(kev.ravel().tolist())
        total = sum(share * _element_attenuation(element, kind, flat) for element, share in self.fractions)
        return torch.as_tensor(np.reshape(total, kev.shape), device=energies.device)

    def linear_attenuation(self, energies_kev: torch.Tensor) -> torch.Tensor:
        """Linear attenuation in mm⁻¹ at the material's density, float64 of the shape of `energies_kev`."""
        return self.mass_attenuation(energies_kev) * (0.1 * self.density)

    def electrons_per_gram(self) -> float:
        """Electrons per gram in units of mol/g (Σ w Z / A); water has 0.555."""
        return sum(s * _atomic_number(e) / _atomic_mass(e) for e, s in self.fractions)

    def power_mean_z(self, exponent: float) -> float:
        """Σ a Z^exponent over the electron fractions a: what the effective atomic number is the root of."""
        electrons = [(s * _atomic_number(e) / _atomic_mass(e), _atomic_number(e)) for e, s in self.fractions]
        return sum(a * z**exponent for a, z in electrons) / sum(a for a, _ in electrons)


@lru_cache(maxsize=512)
def _element_attenuation(element: str, kind: str, energies_kev: tuple[float, ...]) -> np.ndarray:
    import xraydb

    # Elam's tables are for eV
    return np.asarray(xraydb.mu_elam(element, 1000 * np.asarray(energies_kev), kind=kind), dtype=np.float64)


@lru_cache(maxsize=128)
def _atomic_number(element: str) -> int:
    import xraydb

    try:
        number = int(xraydb.atomic_number(element))
    except (AttributeError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"There is no element '{element}'; write symbols such as Ca or I.") from error
    if number > _HEAVIEST:
        compound_meant = f", or {element.upper()} where two elements are" if len(element) == 2 else ""
        raise InputError(
            f"No attenuation is known of element {number} ({element}): write another element{compound_meant}."
        )
    return number


@lru_cache(maxsize=128)
def _atomic_mass(element: str) -> float:
    import xraydb

    return float(xraydb.atomic_mass(element))


def compound(name: str, formula: str, density: float) -> Material:
    """A material of a chemical formula such as 'Ca5(PO4)3OH' or 'CaCl2·6H2O', or of per cent by mass such as
    'H11.2%O88.8%', and a density in g/cm³.

    Raises InputError as `formula.atom_counts` and `formula.mass_shares` do, and where the density belies the
    formula.
    """
    if density > _DENSEST:
        raise InputError(f"Nothing has {density:g} g/cm³ as '{name}' would: write the density in g/cm³.")
    if "%" in formula or "％" in formula:
        return Material(name, tuple(mass_shares(formula).items()), density)
    atoms = atom_counts(formula)
    for element in atoms:
        _atomic_number(element)  # before its mass is asked for
    refuse_gas_for_metal(formula, density)
    if len(atoms) == 1:
        _refuse_denser_element(next(iter(atoms)), density)
    return Material(
        name, tuple((element, count * _atomic_mass(element)) for element, count in atoms.items()), density
    )


def mixture(name: str, parts: Mapping[str | Material, float], density: float) -> Material:
    """A mixture by mass fraction of materials (or their names) with the density in g/cm³."""
    fractions: dict[str, float] = {}
    for part, share in parts.items():
        for element, fraction in material(part).fractions:
            fractions[element] = fractions.get(element, 0.0) + share * fraction
    return Material(name, tuple(fractions.items()), density)


def solution(solute: str | Material, mg_per_ml: float, solvent: str | Material = "water") -> Material:
    """`mg_per_ml` of a solute in a solvent whose own partial density is unchanged, as phantoms' inserts are
    specified."""
    solute, solvent = material(solute), material(solvent)
    added = 1e-3 * mg_per_ml
    if not (np.isfinite(added) and added >= 0):
        raise InputError(
            f"A concentration of {mg_per_ml} mg/mL of {solute.name} is not possible: give 0 or more."
        )
    density = solvent.density + added
    name = f"{mg_per_ml:g} mg/mL {solute.name} in {solvent.name}"
    return mixture(name, {solvent: solvent.density / density, solute: added / density}, density)


def _parse(fractions: str) -> tuple[tuple[str, float], ...]:
    return tuple((e, float(s)) for e, s in re.findall(r"([A-Z][a-z]?) ?([\d.]+)", fractions))


# name: mass fractions in per cent, density in g/cm³
_TABLE: dict[str, tuple[str, float]] = {
    "water": ("H 11.1898 O 88.8102", 1.0),
    "iodine": ("I 100", 4.93),
    "calcium": ("Ca 100", 1.55),
    "gadolinium": ("Gd 100", 7.9004),
    "barium": ("Ba 100", 3.5),
    "air": ("C 0.0124 N 75.5268 O 23.1781 Ar 1.2827", 0.001205),
    "adipose": ("H 11.4 C 59.8 N 0.7 O 27.8 Na 0.1 S 0.1 Cl 0.1", 0.95),
    "soft_tissue": ("H 10.2 C 14.3 N 3.4 O 70.8 Na 0.2 P 0.3 S 0.3 Cl 0.2 K 0.3", 1.06),
    "muscle": ("H 10.2 C 14.3 N 3.4 O 71.0 Na 0.1 P 0.2 S 0.3 Cl 0.1 K 0.4", 1.05),
    "blood": ("H 10.2 C 11.0 N 3.3 O 74.5 Na 0.1 P 0.1 S 0.2 Cl 0.3 K 0.2 Fe 0.1", 1.06),
    "heart": ("H 10.3 C 12.1 N 3.2 O 73.4 Na 0.1 P 0.1 S 0.2 Cl 0.3 K 0.2 Fe 0.1", 1.06),
    "lung": ("H 10.3 C 10.5 N 3.1 O 74.9 Na 0.2 P 0.2 S 0.3 Cl 0.3 K 0.2", 0.26),
    "cartilage": ("H 9.6 C 9.9 N 2.2 O 74.4 Na 0.5 P 2.2 S 0.9 Cl 0.3", 1.10),
    "bone": ("H 3.4 C 15.5 N 4.2 O 43.5 Na 0.1 Mg 0.2 P 10.3 S 0.3 Ca 22.5", 1.92),
    "spine": ("H 6.3 C 26.1 N 3.9 O 43.6 Na 0.1 Mg 0.1 P 6.1 S 0.3 Cl 0.1 K 0.1 Ca 13.3", 1.42),
    "rib": ("H 6.4 C 26.3 N 3.9 O 43.6 Na 0.1 Mg 0.1 P 6.0 S 0.3 Cl 0.1 K 0.1 Ca 13.1", 1.41),
    "hydroxyapatite": ("H 0.2007 O 41.4068 P 18.4989 Ca 39.8936", 3.16),
    "pmma": ("H 8.0538 C 59.9848 O 31.9614", 1.19),
    "polyethylene": ("H 14.3716 C 85.6284", 0.93),
    "ptfe": ("C 24.0183 F 75.9817", 2.2),
    "aluminium": ("Al 100", 2.699),
    "titanium": ("Ti 100", 4.54),
    "copper": ("Cu 100", 8.96),
    "tin": ("Sn 100", 7.31),
    "gold": ("Au 100", 19.32),
    "tungsten": ("W 100", 19.3),
    "silicon": ("Si 100", 2.33),
    "cdte": ("Cd 46.8358 Te 53.1642", 5.85),
    "czt": ("Cd 43.3 Zn 2.8 Te 53.9", 5.78),
}
#: The materials that a name suffices for.
NAMES = tuple(_TABLE)


@lru_cache(maxsize=64)
def _named(name: str) -> Material:
    fractions, density = _TABLE[name]
    return Material(name, _parse(fractions), density)


def material(given: str | Material) -> Material:
    """The material of that name, or of a description 'name=formula@density' such as 'saline=NaCl@2.16', where
    per cent by mass may stand for the formula ('tissue=H10.5%C25.6%N2.7%O61.2%@1.06').

    Raises InputError where there is no such material.
    """
    if isinstance(given, Material):
        return given
    if "=" in given or "@" in given:
        return _described(given)
    name = given.strip().lower().replace(" ", "_").replace("-", "_")
    if name not in _TABLE:
        raise InputError(
            f"There is no material '{given}': choose {', '.join(NAMES)}, or write name=formula@density, "
            "for example hafnium=Hf@13.3, or with per cent by mass brass=Cu63%Zn37%@8.44."
        )
    return _named(name)


def _described(given: str) -> Material:
    """The material of 'name=formula@density'."""
    parts = re.fullmatch(r"([^=@]*)=([^=@]*)@([^=@]*)", given)
    if not parts:
        raise InputError(f"'{given}' is no description of a material: write name=formula@density.")
    name, formula, spelled = (part.strip() for part in parts.groups())
    if not re.fullmatch(r"[\w -]+", name):  # files are named by it
        raise InputError(f"The name '{name}' in '{given}' may have letters, digits, spaces and hyphens only.")
    try:
        density = float(spelled)
    except ValueError as error:
        raise InputError(f"'{spelled}' in '{given}' is no density in g/cm³: write it as in @1.85.") from error
    mixture = compound(name, formula, density)
    meant = _element_named(name)
    if meant and meant not in dict(mixture.fractions):
        raise InputError(
            f"'{given}' is named after {name} but has none of it: write {meant}, or another name."
        )
    _refuse_dilution(mixture)
    return mixture


def _refuse_dilution(of: Material) -> None:
    """Raise InputError, with the spelling of a solution in water, where a density is a concentration.

    No solid of heavy elements is so light, but gases, and foams of a metal; powders are denser.
    """
    shares = dict(of.fractions)
    heavy = {one for one in shares if _atomic_number(one) >= _LEAST_HEAVY and one not in _LIGHT_ALL_THE_SAME}
    solid = bool(heavy - NO_METALS) or ("I" in heavy and set(shares) != {"H", "I"})
    gaseous = not solid or shares.get("F", 0.0) > _MOSTLY_HEAVY
    if (
        sum(shares[one] for one in heavy) < _MOSTLY_HEAVY
        or not _DENSEST_VAPOUR * gaseous < of.density < _LIGHTEST_SOLID
        or (len(shares) == 1 and heavy <= _FOAMED)
    ):
        return
    in_water = solution(of, 1e3 * of.density)
    parts = "".join(f"{element}{100 * share:.4g}%" for element, share in in_water.fractions)
    raise InputError(
        f"Nothing of the elements of '{of.name}' has {of.density:g} g/cm³, which looks like a concentration "
        f"({1e3 * of.density:g} mg/ml): write the density of the substance itself or, for this much of it in "
        f"water, {of.name}={parts}@{in_water.density:.4g}."
    )


def _refuse_denser_element(element: str, density: float) -> None:
    """Raise InputError for an element at a density (g/cm³) that no form of it has: a gas' is often tabulated
    in g/l, a thousand times its g/cm³."""
    import xraydb

    tabulated = float(xraydb.atomic_density(element))
    gas = tabulated < _DENSEST_VAPOUR
    if gas and abs(density / (1e3 * tabulated) - 1) < _AS_TABULATED:
        raise InputError(
            f"{density:g} is the density of gaseous {element} in g/l: write {element}@{density / 1e3:.3g}, "
            "in g/cm³."
        )
    densest = (_FROZEN if gas else _PRESSED) * tabulated
    if density > densest:
        raise InputError(
            f"No form of {element} has {density:g} g/cm³: it has {tabulated:.3g}"
            f"{' as a gas' if gas else ''}, so write that, or the formula of what is meant."
        )


@lru_cache(maxsize=64)
def _element_named(name: str) -> str | None:
    """The symbol of the element of that name, None where it is none."""
    import xraydb

    spelled = name.strip().lower().replace("aluminium", "aluminum").replace("caesium", "cesium")
    symbols = (str(xraydb.atomic_symbol(z)) for z in range(1, _HEAVIEST + 1))
    return next((one for one in symbols if str(xraydb.atomic_name(one)).lower() == spelled), None)


def attenuation_matrix(materials: list[str | Material], energies_kev: torch.Tensor) -> torch.Tensor:
    """Mass attenuation in cm²/g, float64 `[material, energy]`."""
    return torch.stack([material(m).mass_attenuation(energies_kev) for m in materials])
