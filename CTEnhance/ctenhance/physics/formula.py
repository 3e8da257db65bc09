"""Chemical formulas as people write them: counts of atoms, and a refusal of what can be read in two ways.

xraydb reads the parts of a formula; here are the spellings that it would take for another compound."""

from __future__ import annotations

import re
import unicodedata

from ctenhance.physics.element_symbols import refuse_look_alike
from ctenhance.physics.hydrates import NO_METALS, SEPARATOR, refuse_lost_point, refuse_points, two_readings
from ctenhance.runtime.errors import InputError

# Dots that part a compound from its water of crystallisation; an asterisk and a times sign are used, too.
_DOTS = "·•∙⋅・･‧*∗×"
_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻^"
# Charges stand at the end ('Fe2+', 'Fe+2'), isotopes as in 'I-131'; other hyphens: bonds, hydrates, alloys.
_HYPHENS = re.compile(r"[+\-−–‐‑—]")
_CHARGE = re.compile(r"[(\[{]?\^?(\d?)([+\-−–]+|\+[1-8]|[\-−–][1-4])([)\]}]*)$")
_ISOTOPE = re.compile(r"^([A-Z][a-z]?)[-‐‑–]\d{1,3}m?$")
# Oxidation states, which would be iodine and vanadium: 'Fe(II)SO4', 'GdIII'.
_OXIDATION = re.compile(
    r"\((?:I{2,3}|IV|VI{1,3}|IX)\)|\(I\)(?=[1-9]?(?![\d.]))|(?<=[A-Za-z])(?:I{2,3}|IV|VI{1,3}|IX)(?![a-z\d])"
)
# What stands for a number, and the states of matter.
_UNKNOWN_COUNT = re.compile(rf"[{SEPARATOR}.]([nxyz])\(?H2O|\)([nxyz])$")
_STATE = re.compile(r"\((?:aq|s|l|g)\)$")
_FRACTION = re.compile(r"(\d*)([¼-¾⅐-⅞])")
_BRACKETS = str.maketrans("[]{}", "()()")
# Elements whose symbols in capitals read as two other elements, which such a formula hardly begins with.
_IN_CAPITALS = ("Bi", "Cs", "Cu", "In", "Nb", "Ni", "Os", "Pb", "Sb", "Sc", "Si", "Sn")
# The same for these as a whole, as other formulas do begin so ('HOCl', 'YBO3').
_WHOLE_IN_CAPITALS = ("HO", "HO2O3", "PO", "PU", "PUO2", "YB", "YB2O3", "YBF3")
_LIGHTEST_ISOTOPE, _ISOTOPES = 18, 0.07  # what a count may be before it looks like an isotope's mass number
# Isotopes in use that are lighter, or further from the natural element's mass than others.
_LIGHT_ISOTOPES = {
    "Li": (6, 7), "B": (10, 11), "C": (11, 13, 14), "N": (13, 15), "O": (15, 17, 18), "F": (18,),
}  # fmt: skip
_NEAR_MASS = 5  # of mass numbers: Ca45, S35
_FEW_OTHERS, _FEW_BESIDE_HEAVY, _HEAVY = 3, 0.5, 100  # times as many atoms as of all others are no compound
# Bases of alloys with silicon, of which with these numbers there are no silicides.
_WITH_SILICON = {"Al": 1, "Cu": 1, "Fe": 3}
# Which make mixed crystals whose parts are of the atoms, as alloys' are.
_SEMICONDUCTORS = frozenset(("Si", "P", "Ge", "As", "Se", "Te"))
# Groups of atoms that salts have several of, then in brackets: 'Ca3(PO4)2', 'Al(OH)3'.
_SEVERAL_GROUPS = re.compile(
    r"(NH(?=4)|(?:As|Cl|Cr|Mn|Mo|P|S|Se|Si|V|W)O(?=4)|(?:B|Br|C|Cl|I|N|S|Se)O(?=3))([34])([2-6])(?![\d.])"
)
_SEVERAL_HYDROXIDES = re.compile(r"(?<=[A-Za-z\d)])OH([2-6])$")
_MOST_HYDROGEN, _OFF_ONE, _OFF_WHOLE = 20, 0.03, 0.015
_COUNTED = r"([A-Z][a-z]?)(\d+(?:\.\d+)?)?"
_GASES = {"CO": "Co", "HF": "Hf"}
_DENSEST_GAS = 2.0  # g/cm³, however compressed


def atom_counts(formula: str) -> dict[str, float]:
    """Atoms by element symbol in a formula such as 'Ca5(PO4)3OH', 'CaCl2·6H2O' or 'Gd0.5Y0.5'.

    Subscripts and full-width letters count as plain ones, square brackets as round ones, and each of the
    middle dots, an asterisk or a point before a letter parts the formula. Raises InputError, with the right
    spelling where it is known, for anything but a formula, for charges, and for what can be read in two ways:
    a point between digits before water ('CaCl2.6H2O'), a zero for the letter O ('Al203'), lost brackets
    ('Ca3PO42'), alloys ('Ti6Al4V'), isotopes ('Na131I', 'U235O2'), a dopant in brackets ('CsI(Tl)')."""
    import xraydb

    plain = _plain(formula)
    _refuse_two_readings(formula, plain)
    counts: dict[str, float] = {}
    for part in plain.split(SEPARATOR):
        times, rest = re.fullmatch(r"(\d+(?:\.\d+)?)?(.*)", part).groups()  # type: ignore[union-attr]
        try:
            if times and (SEPARATOR not in plain or not float(times)):
                raise ValueError
            atoms = xraydb.chemparse(rest)
        except ValueError as error:
            raise _no_formula(formula) from error
        if not atoms:
            raise _no_formula(formula)
        for element, count in atoms.items():
            counts[element] = counts.get(element, 0.0) + float(times or 1) * float(count)
    return counts


def _no_formula(formula: str) -> InputError:
    squeezed = re.sub(r"\s", "", formula)
    why = ""
    if unknown := _UNKNOWN_COUNT.search(squeezed):
        why = f" (give a number for '{unknown[1] or unknown[2]}')"
    if state := _STATE.search(squeezed):
        why = f" (leave '{state[0]}' out)"
    return InputError(
        f"'{formula}' is no chemical formula{why}; write symbols with their capital letters and counts "
        "behind them, for example Ca5(PO4)3OH or CaCl2·6H2O."
    )


def _neutral(formula: str) -> str:
    """The formula without its charge or mass number; '' where what is left is none."""
    plain = "".join(letter for letter in re.sub(r"\s", "", formula) if letter not in _SUPERSCRIPTS)
    if plain == formula and (isotope := _ISOTOPE.search(plain)):
        plain = isotope[1]
    elif charge := _CHARGE.search(plain):
        before, digit = plain[: charge.start()], charge[1]
        bracket = plain[charge.start()] in "([{"
        # 'NH4+' is one charge of four hydrogens, 'Fe2+' and 'SO42-' are two charges.
        alone = not re.fullmatch(r"[A-Z][a-z]?|.*[\d)\]}]", before)
        counts = charge[2][-1].isdigit() or (len(charge[2]) == 1 and alone and "^" not in formula)
        plain = before + (digit if counts and not bracket else "") + charge[3][bracket:]
    plain = re.sub(r"[+\-−–](?=[A-Z])", "", plain)
    try:
        return plain if atom_counts(plain) else ""
    except InputError:
        return ""


def _plain(formula: str) -> str:
    """The formula in ASCII, its parts separated by a middle dot."""
    formula = formula.strip()
    raised = any(letter in _SUPERSCRIPTS for letter in formula)
    if raised or _CHARGE.search(formula) or _ISOTOPE.search(formula):
        natural = _neutral(formula)
        raise InputError(
            f"'{formula}' has a charge or an isotope in it, which is no part of a formula: write "
            + (f"{natural}, " if natural else "")
            + "the neutral compound of natural elements."
        )
    hyphen = _HYPHENS.search(formula)
    if hyphen:
        raise InputError(
            f"'{formula}' holds '{hyphen.group()}', which is no part of a formula; write bonds without it "
            "(C2H6O), a hydrate as CaCl2·6H2O, and an alloy by its per cent of mass (Ti90%Al6%V4%)."
        )
    if "%" in formula:
        raise InputError(
            f"'{formula}' is in per cent: give a material by mass as name=H11.2%O88.8%@density, and a "
            "formula without %."
        )
    for dot in _DOTS:
        formula = formula.replace(dot, SEPARATOR)
    formula = _FRACTION.sub(lambda m: f"{int(m[1] or 0) + unicodedata.numeric(m[2]):.4g}", formula)  # '½H2O'
    plain = unicodedata.normalize("NFKC", formula).translate(_BRACKETS).strip()
    plain = re.sub(rf"\s*{SEPARATOR}\s*(\d+(?:\.\d+)?)\s+", rf"{SEPARATOR}\1", plain)  # '· 6 H2O'
    plain = re.sub(rf"\s*{SEPARATOR}\s*", SEPARATOR, plain)
    if re.search(r"\s[\d.]", plain):
        _refuse_shares(formula, re.sub(r"\s", "", plain))
        hydrate = re.fullmatch(r"(\S+)\s+(\d+(?:\.\d+)?)\s*H2O", plain)
        spelled = f"as {hydrate[1]}·{hydrate[2]}H2O" if hydrate else "without spaces"
        raise InputError(f"'{formula}' can be read in two ways: write it {spelled}.")
    plain = re.sub(r"\s", "", plain)
    if strange := re.search(rf"[^A-Za-z0-9().{SEPARATOR}]", plain):
        raise InputError(
            f"'{formula}' holds '{strange.group()}' (U+{ord(strange.group()):04X}), which is no part of a "
            "formula; write it with Latin letters, for example Ca5(PO4)3OH or CaCl2·6H2O."
        )
    # A point before a letter can be no decimal point.
    return re.sub(r"\.(?=[A-Z(])", SEPARATOR, plain)


def _refuse_two_readings(formula: str, plain: str) -> None:
    isotope = re.search(r"[DT](?![a-z])", plain)
    if isotope:
        _refuse_capitals(formula, plain, isotope.start())
        raise InputError(
            f"'{formula}' has the isotope {isotope.group()}, but attenuation is of natural elements: write "
            "H, and a density that gives as many electrons."
        )
    if re.search(r"\.(?!\d)|\d[a-z]|\(\)", plain):
        raise _no_formula(formula)
    _refuse_oxidation_states(formula, plain)
    refuse_lost_point(formula, plain)
    refuse_look_alike(formula, plain)
    _refuse_cobalt(formula, plain)
    _refuse_lost_brackets(formula, plain)
    refuse_points(formula, plain)
    _refuse_zeros(formula, plain)
    _refuse_isotopes(formula, plain)
    _refuse_shares(formula, plain)
    _refuse_alloys(formula, plain)
    _refuse_isotopes_behind(formula, plain)
    if dopant := re.search(r"\(([A-Z][a-z]?)\)(?![\d.])", plain):
        raise InputError(
            f"'{formula}' has {dopant.group(1)} in brackets without a count, as dopants are written: leave "
            f"it out, or write how many atoms of it there are, as ({dopant.group(1)})0.001."
        )
    capital = plain[:2].capitalize()
    meant = capital in _IN_CAPITALS or plain in _WHOLE_IN_CAPITALS or plain.startswith("HFO")
    if plain.isupper() and plain[:2].isalpha() and meant:
        apart = f"{plain[0]}1{plain[1]}1"
        raise two_readings(formula, f"{capital} where that element is meant, and {apart} where two are")


def _refuse_oxidation_states(formula: str, plain: str) -> None:
    if state := _OXIDATION.search(plain):
        raise InputError(
            f"'{formula}' has an oxidation state in it, {state[0]}, whose letters would be iodine and "
            f"vanadium: write {plain[: state.start()]}{plain[state.end() :]}, and where atoms are meant "
            "count them (I2)."
        )


def _refuse_cobalt(formula: str, plain: str) -> None:
    """A slip of carbonates and of the oxides of carbon: 'CaCo3', 'NaHCo3', 'Co2'."""
    slip = re.fullmatch(r"((?:[A-Z][a-z]?\d?)*)Co([23]?)", plain)
    if slip and ((slip[2] == "3" and slip[1]) or (slip[2] == "2" and not slip[1])):
        raise two_readings(
            formula,
            f"{slip[1]}CO{slip[2]} where carbon and oxygen are meant, and {slip[1]}(Co){slip[2]} for cobalt",
        )


def _refuse_lost_brackets(formula: str, plain: str) -> None:
    """Several groups without their brackets, which would be dozens of atoms: 'Ca3PO42', 'AlOH3'."""
    grouped = _SEVERAL_GROUPS.sub(r"(\1\2)\3", plain)
    counted = _SEVERAL_GROUPS.sub(lambda found: f"{found[1][:-1]}({found[1][-1]}){found[2]}{found[3]}", plain)
    symbols = set(re.findall(r"[A-Z][a-z]?", _SEVERAL_GROUPS.sub("", plain)))
    if symbols - NO_METALS:
        grouped = _SEVERAL_HYDROXIDES.sub(r"(OH)\1", grouped)
        counted = _SEVERAL_HYDROXIDES.sub(r"O1H\1", counted)
    if grouped != plain and "C" not in symbols:  # of organic compounds these may be the atoms
        raise two_readings(formula, f"{grouped} for groups of atoms, and {counted} for single ones")


def _refuse_capitals(formula: str, plain: str, at: int) -> None:
    """A symbol in capitals with a D or T, which would be isotopes of hydrogen: 'GD2O3', 'TLBR'."""
    for start in (at - 1, at):
        symbol = plain[max(0, start) : start + 2].capitalize()
        if plain.isupper() and len(symbol) == 2 and symbol.isalpha() and _mass(symbol):
            natural = plain[:start] + symbol + plain[start + 2 :]
            raise two_readings(
                formula,
                f"{natural} where {symbol} is meant, and H for the isotope {plain[at]}, as attenuation is of "
                "natural elements",
            )


def _refuse_zeros(formula: str, plain: str) -> None:
    """Zeros where the letter O is meant, which would make another count."""
    zero = re.search(r"(?<![\d.])0\d*(?![\d.])", plain)
    zero = zero or re.search(rf"(?:^|[({SEPARATOR}][\d.]*)H20(?!\d)", plain)
    if "O" not in re.findall(r"[A-Z][a-z]?", plain):
        zero = zero or re.search(r"(?<=[A-Za-z)])[1-9]0[1-9](?!\d)", plain)
    if zero:
        raise InputError(
            f"'{formula}' has a zero in '{zero.group()}' where the letter O seems to be meant: write O for "
            "oxygen, as in H2O and Al2O3."
        )


def _refuse_isotopes(formula: str, plain: str) -> None:
    """Mass numbers, which stand before a symbol and would be the count of the one before: 'Na131I'."""
    for found in re.finditer(r"([A-Z][a-z]?)(\d{2,3})([A-Z][a-z]?)(?![a-z\d.])", plain):
        before, number, symbol = found.groups()
        near = abs(int(number) / (_mass(symbol) or 1) - 1) < _ISOTOPES and int(number) >= _LIGHTEST_ISOTOPE
        if (near and before not in NO_METALS) or found.group() in ("H217O", "H218O"):
            rest = plain[found.end() :]
            natural = plain[: found.start()] + before + ("2" if before == "H" else "") + symbol + rest
            counted = plain[: found.end()] + "1" + rest
            raise two_readings(
                formula,
                f"{natural} for the isotope, as attenuation is of natural elements, and {counted} where the "
                f"number counts {before}",
            )


def _refuse_isotopes_behind(formula: str, plain: str) -> None:
    """Mass numbers behind the symbol, which would be counts: 'U235O2', 'H2O18'."""
    for part in plain.split(SEPARATOR):
        for found in re.finditer(r"([A-Z][a-z]?)(\d{1,3})(?![\d.])", part):
            if not _is_mass_number(found.group(1), int(found.group(2)), part):
                continue
            before, behind = part[: found.start()], part[found.end() :]
            natural, counted = f"{before}{found[1]}{behind}", f"{before}({found[1]}){found[2]}{behind}"
            raise two_readings(
                formula,
                f"{plain.replace(part, natural, 1)} for the isotope, as attenuation is of natural elements, "
                f"and {plain.replace(part, counted, 1)} where the number counts {found[1]}",
            )


def _is_mass_number(symbol: str, number: int, part: str) -> bool:
    """Say whether the number behind a symbol is an isotope's and hardly a count beside the other atoms."""
    import xraydb

    if symbol in _LIGHT_ISOTOPES:
        near = number in _LIGHT_ISOTOPES[symbol]
    else:
        reach = max(_NEAR_MASS, _ISOTOPES * _mass(symbol))
        near = number > _LIGHTEST_ISOTOPE and abs(number - _mass(symbol)) <= reach
    if not near:
        return False
    try:
        atoms = xraydb.chemparse(part.lstrip("0123456789."))
    except ValueError:
        return False
    others = sum(atoms.values()) - number
    if others <= 0 or (symbol == "C" and "H" in atoms) or (symbol == "B" and "C" in atoms):
        return False
    metals = not NO_METALS.intersection(atoms)
    if metals and number < _HEAVY:  # phases such as Mg24Y5
        return False
    if symbol == "F" and "H" in atoms and set(atoms) <= {"C", "H", "F", "N", "O"}:
        return bool(atoms["H"] + number > 2 * atoms.get("C", 0) + atoms.get("N", 0) + 2)  # more than bonds
    heavy = number >= _HEAVY and not metals
    return bool(number >= (_FEW_BESIDE_HEAVY if heavy else _FEW_OTHERS) * others)


def _refuse_alloys(formula: str, plain: str) -> None:
    """Names of alloys, whose numbers are per cent by mass ('Ti6Al4V', 'TiAl6V4')."""
    symbols, numbers = _symbols_and_numbers(plain)
    written = [number for number in numbers if number is not None]
    no_metals = NO_METALS.intersection(symbols)
    silicon = no_metals == {"Si"} and symbols[0] in _WITH_SILICON
    least = _WITH_SILICON[symbols[0]] if silicon else 1.001
    if (no_metals and not silicon) or not written or max(written) < least or sum(written) >= 100:
        return
    if numbers[0] is None:  # TiAl6V4; a metal without a number is there in traces
        shares = [100 - sum(written), *(number or 0.0 for number in numbers[1:])]
    elif numbers[-1] is None and (not silicon or symbols[0] == "Al"):  # Ti6Al4V, but Cu3Si
        shares = [100 - sum(written), *(number or 0.0 for number in numbers[:-1])]
    else:
        return
    counted = "".join(f"{symbol}{number or '1'}" for symbol, number in re.findall(_COUNTED, plain))
    raise _shares_or_atoms(formula, counted, symbols, shares)


def _refuse_shares(formula: str, plain: str) -> None:
    """Compositions in per cent or parts of one, be it of atoms or of mass: 'Cu70Zn30',
    'H10.2C14.3N3.4O70.8', 'H0.112O0.888'.

    Numbers that count atoms are at least one somewhere; in alloys and semiconductors of two elements parts of
    one are of the atoms ('Gd0.5Y0.5', 'Si0.8Ge0.2').
    """
    symbols, numbers = _symbols_and_numbers(plain)
    shares = [number for number in numbers if number is not None]
    if not symbols or len(shares) < len(numbers):
        return
    total, metals = sum(shares), not NO_METALS.intersection(symbols)
    if max(shares) < 1:
        of_mass = not (NO_METALS - _SEMICONDUCTORS).isdisjoint(symbols)
        if not of_mass and (len(symbols) < 3 or abs(total - 1) > _OFF_ONE):
            return
    elif metals or "." in plain:
        if abs(total - 100) > (0.5 if metals else 3):
            return
    # Of a hundred atoms of an organic compound many more are hydrogen.
    elif abs(total - 100) > 0.5 or dict(zip(symbols, shares, strict=True)).get("H", 0) > _MOST_HYDROGEN:
        return
    raise _shares_or_atoms(formula, _atoms(symbols, shares), symbols, shares)


def _symbols_and_numbers(plain: str) -> tuple[list[str], list[float | None]]:
    """The elements and their numbers, None where there is none; nothing for what has brackets or parts."""
    if not re.fullmatch(rf"(?:{_COUNTED}){{2,}}", plain):
        return [], []
    found = re.findall(_COUNTED, plain)
    symbols, numbers = [one for one, _ in found], [float(number) if number else None for _, number in found]
    if len(set(symbols)) < len(symbols) or not all(map(_mass, symbols)):
        return [], []
    return symbols, numbers


def _shares_or_atoms(formula: str, counted: str, symbols: list[str], shares: list[float]) -> InputError:
    whole = 100 / sum(shares)
    by_mass = "".join(
        f"{one}{share * whole:.4g}%" for one, share in zip(symbols, shares, strict=True) if share
    )
    return two_readings(formula, f"{counted} where the numbers count atoms, and {by_mass} for % by mass")


def mass_shares(composition: str) -> dict[str, float]:
    """Mass fractions by element symbol of a composition in per cent by mass, such as 'H11.2%O88.8%'.

    Raises InputError for anything but symbols with a number and % each, and where these do not make 100.
    """
    plain = unicodedata.normalize("NFKC", re.sub(r"\s|(?i:wt\.?|w)(?=\s*%)", "", composition))
    found = re.findall(r"([A-Z][a-z]?)(\d+(?:\.\d+)?)%", plain)
    shares = {symbol: float(number) / 100 for symbol, number in found}
    if "".join(f"{symbol}{number}%" for symbol, number in found) != plain or len(shares) < len(found):
        raise InputError(
            f"'{composition}' is no composition by mass: write each element once with its per cent behind, "
            "for example H11.2%O88.8%."
        )
    if unknown := next((symbol for symbol in shares if not _mass(symbol)), None):
        raise InputError(f"There is no element '{unknown}' as in '{composition}': correct it.")
    if abs(sum(shares.values()) - 1) > _OFF_WHOLE:
        raise InputError(
            f"'{composition}' makes {100 * sum(shares.values()):.4g} % by mass and not 100: give all of its "
            "elements."
        )
    return shares


def _atoms(symbols: list[str], shares: list[float]) -> str:
    """A formula of as many atoms, of the most frequent one."""
    return "".join(f"{one}{share / max(shares):.3g}" for one, share in zip(symbols, shares, strict=True))


def _mass(symbol: str) -> float:
    """In g/mol; 0 where there is no such element."""
    import xraydb

    try:
        return float(xraydb.atomic_mass(symbol))
    except (AttributeError, ValueError, TypeError, KeyError):
        return 0.0


def refuse_gas_for_metal(formula: str, density: float) -> None:
    """Raise InputError where the density is a metal's but the formula a gas': CO for Co, HF for Hf."""
    metal = _GASES.get(formula.strip())
    if metal and density > _DENSEST_GAS:
        raise InputError(f"{formula} is a gas, and none of {density:g} g/cm³: write {metal} for the metal.")
