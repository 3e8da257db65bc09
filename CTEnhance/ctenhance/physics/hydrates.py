"""The point before the water of a hydrate: refused where it may belong to a count, or where it was lost.

'CaCl2.6H2O' would be Cl2.6, and 'CaCl26H2O' Cl26."""

from __future__ import annotations

import re

from ctenhance.runtime.errors import InputError

#: Parts a compound from its water of crystallisation.
SEPARATOR = "·"
NO_METALS = frozenset((
    "H", "He", "B", "C", "N", "O", "F", "Ne", "Si", "P", "S", "Cl", "Ar", "Ge", "As", "Se", "Br", "Kr",
    "Te", "I",
))  # fmt: skip
# 'Cl2.6H2O': a count with a point behind a symbol or a bracket, and what follows up to the next part.
_POINTED = re.compile(rf"([A-Z][a-z]?|\))([1-9]\d*)\.(\d+)(?=[A-Z(])([^{SEPARATOR}]*)")
# What crystallises with salts, as a formula's part begins with it.
_ADDUCT = re.compile(r"\(?(H2O|D2O|OH2|HOH|NH3|HCl|HBr|CH3OH|CH4O|C2H5OH|C2H6O|CO2|SO2|SO3)(?![0-9a-z])")
# Behind a fractional count of these nothing but other fractional counts makes sense ('SiO1.5N0.3').
_ANIONS = ("O", "F", "Cl", "Br", "I", "S", "N", "P", ")")
# A count and, without a point, the water of a hydrate with its own: 'CaSO42H2O', 'CaSO40.5H2O'.
_LOST_POINT = re.compile(r"(.*?)([A-Z][a-z]?|\))(\d+(?:\.\d+)?)\(?H2O\)?")
# What ions carry, to tell which numbers make a salt.
_CATIONS = {
    1: "Li Na K Rb Cs Ag", 2: "Be Mg Ca Sr Ba Zn Cd Pb Cu Mn Fe Co Ni Hg Sn",
    3: "Al Ga In Sc Y La Ce Pr Nd Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Cr Fe Co Bi Sb Tl", 4: "Ti Zr Hf Ce Th Sn",
}  # fmt: skip
_ANION_CHARGES = {
    1: "F Cl Br I NO3 NO2 ClO4 ClO3 BrO3 IO3 MnO4 OH C2H3O2 CH3COO",
    2: "O S SO4 SO3 CO3 CrO4 MoO4 WO4 SeO4 SiO3 C2O4", 3: "PO4 BO3 AsO4 C6H5O7",
}  # fmt: skip


def two_readings(formula: str, ways: str) -> InputError:
    """The refusal of a formula that can be read in two `ways`."""
    return InputError(f"'{formula}' can be read in two ways: write {ways}.")


def refuse_points(formula: str, plain: str) -> None:
    """Refuse points that may part a hydrate or belong to a count."""
    twice = re.search(r"\d(\.)\d+\.\d", plain)
    if twice:
        before, behind = plain[: twice.start(1)], plain[twice.end(1) :]
        raise two_readings(formula, f"{before}{SEPARATOR}{behind} for a hydrate")
    bare = re.search(r"[A-Za-z)](\.)\d", plain)
    if bare:
        before, behind = plain[: bare.start(1)], plain[bare.end(1) :]
        parted = f"{before}{SEPARATOR}{behind} for a hydrate and the like, and "
        fraction = f"{before}0.{behind} for a count below one"
        raise two_readings(formula, (parted if re.search("[A-Z]", behind) else "") + fraction)
    for pointed in _POINTED.finditer(plain):
        symbol, count, times, rest = pointed.groups()
        closed = symbol in _ANIONS and not re.search(r"\d\.\d", rest)
        if closed or _ADDUCT.match(rest):
            start, number = plain[: pointed.start(3) - 1], times.lstrip("0") or times
            inner = rest[1:-1] if re.fullmatch(r"\([^()]*\)", rest) else rest
            parted = (
                f"{start}({inner}){number} or {start}{SEPARATOR}{number}{inner} for a hydrate and the like"
            )
            fraction = f"the part with the count {count}.{times} last where that is meant"
            raise two_readings(formula, f"{parted}, and {fraction}")


def refuse_lost_point(formula: str, plain: str) -> None:
    """Refuse a hydrate of a salt without its point, whose numbers run into one: 'CaSO42H2O', 'NaI2H2O'."""
    found = _LOST_POINT.fullmatch(plain)
    if not found or SEPARATOR in plain:
        return
    before, last, digits = found.groups()
    if not set(re.findall(r"[A-Z][a-z]?", before + last)) - NO_METALS:
        return
    whole, point, _ = digits.partition(".")
    if point and whole in tuple("123456789"):
        return  # of these `refuse_points` tells
    splits = [(digits[:k], digits[k:]) for k in range(len(whole))]
    splits = [(count, water) for count, water in splits if water[0] != "0" or water[1:2] == "."]
    salts = [one for one in splits if _is_salt(f"{before}{last}{one[0]}")]
    if not salts and (len(digits) < 2 or _is_salt(f"{before}{last}{digits}")):
        return
    count, water = next(iter(salts or [one for one in splits if one[0]] or splits))
    alone = last if last in (")", "I", "V") else f"({last})"  # which would be oxidation states
    raise two_readings(
        formula,
        f"{before}{last}{count}{SEPARATOR}{water}H2O for a hydrate, and "
        f"{before}{alone}{digits}{SEPARATOR}H2O where {digits} is one number",
    )


def _is_salt(plain: str) -> bool:
    """Whether a formula is that of a simple salt whose ions carry as much as each other."""
    for charge, symbols in _ANION_CHARGES.items():
        for anion in symbols.split():
            salt = re.fullmatch(rf"([A-Z][a-z]?)(\d*)(?:{anion}|\({anion}\)(\d+)|{anion}(\d+))", plain)
            if salt is None or (salt[4] and anion[-1].isdigit()):
                continue
            carried = charge * int(salt[3] or salt[4] or 1)
            if any(
                salt[1] in known.split() and own * int(salt[2] or 1) == carried
                for own, known in _CATIONS.items()
            ):
                return True
    return False
