"""Symbols written with signs that look like theirs, which would be others: 'NaCI', 'CaC12', 'CO3O4'."""

from __future__ import annotations

import re

from ctenhance.physics.hydrates import NO_METALS, two_readings

# Chlorine with a capital I or the digit 1 for its l, behind a metal, hydrogen, ammonium or a bracket; behind
# a count of carbon from 10 on there is hydrogen.
_CHLORINE = re.compile(r"(^H|NH4|[(]|([A-Z][a-z]?)\d*)C(I(?=\d?(?:[O)·]|$))|1(?=[1-6]?(?:·|$)))")
# A zero for the O of a hydroxide, and an O for the zero of ten: 'Ca5(PO4)30H', 'Ca1O(PO4)6(OH)2'.
_HYDROXIDE = re.compile(r"(?:([A-Z][a-z]?)|\))[1-9](0)H(?![a-z\d])")
_TEN = re.compile(r"[A-Z][a-z]?1(O)(?=[A-Z(])")
# Oxygen counted twice, side by side: cobalt in capitals.
_COBALT = re.compile(r"CO(\d*)O(\d*)")


def refuse_look_alike(formula: str, plain: str) -> None:
    """Refuse 'CI' and 'C1' where Cl is likely, 'CO3O4' where cobalt is, and O and zero for each other."""
    for slip in _CHLORINE.finditer(plain):
        if slip[2] is None or slip[2] not in NO_METALS:
            before, behind = plain[: slip.start() + len(slip[1])], plain[slip.end() :]
            apart = f"{before}(C)1{'I' if slip[3] == 'I' else ''}{behind}"
            other = "carbon and iodine are" if slip[3] == "I" else "carbon is"
            raise two_readings(formula, f"{before}Cl{behind} for chlorine, and {apart} where {other} meant")
    metal = bool(set(re.findall(r"[A-Z][a-z]?", plain)) - NO_METALS)
    for named, right, sign in ((_HYDROXIDE, "O", "0"), (_TEN, "0", "O")):
        found = named.search(plain) if metal else None
        if found and not (named is _HYDROXIDE and found[1] == "C"):
            at = found.start(2 if named is _HYDROXIDE else 1)
            before, behind = plain[:at], plain[at + 1 :]
            other = f"{before}0(H)1{behind[1:]}" if sign == "0" else f"{before}O1{behind}"
            what = "the letter O" if right == "O" else "a zero"
            raise two_readings(
                formula, f"{before}{right}{behind} for {what}, and {other} for '{sign}' as it is"
            )
    if found := _COBALT.fullmatch(plain):
        cobalt = f"Co{found[1]}O{found[2]}"
        carbon = f"C1O{found[1] or 1}(O){found[2] or 1}"
        raise two_readings(formula, f"{cobalt} for cobalt, and {carbon} where carbon is meant")
