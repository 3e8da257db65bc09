"""Chemical formulas: the usual spellings give the same atoms, what can be read in two ways is refused."""

from __future__ import annotations

import re

import pytest
import torch

from ctenhance.commands.decompose import names
from ctenhance.physics.formula import atom_counts, mass_shares
from ctenhance.physics.materials import compound, material, solution
from ctenhance.runtime.errors import InputError

CALCIUM_CHLORIDE = {"Ca": 1.0, "Cl": 2.0, "H": 12.0, "O": 6.0}


@pytest.mark.parametrize(
    "spelled",
    [
        *(f"CaCl2{dot}6H2O" for dot in "·•∙⋅・･‧*∗×"), "CaCl2(H2O)6", "CaCl2[H2O]6", "CaCl₂·6H₂O",
        "ＣａＣｌ２·６Ｈ２Ｏ", "CaCl2 · 6 H2O", "6H2O·CaCl2", " CaCl2·6H2O ",
    ],
)  # fmt: skip
def test_hydrates_in_all_spellings(spelled: str) -> None:
    assert atom_counts(spelled) == CALCIUM_CHLORIDE


@pytest.mark.parametrize(
    ("formula", "right"),
    [
        ("CaCl2.6H2O", r"CaCl2\(H2O\)6 or CaCl2·6H2O"),
        ("CaCl2.6(H2O)", r"CaCl2\(H2O\)6 or CaCl2·6H2O"),
        ("CaSO4.2H2O", r"CaSO4\(H2O\)2"),
        ("AlK(SO4)2.12H2O", r"AlK\(SO4\)2·12H2O"),
        ("KCl.MgCl2.6H2O", r"KCl·MgCl2·6H2O"),
        ("GdCl3.6H2O", r"GdCl3\(H2O\)6"),
        ("CaSO4.0.5H2O", r"CaSO4·0.5H2O"),
        ("CdCl2.2.5H2O", r"CdCl2·2.5H2O"),
        ("NaBr.2H2O", r"NaBr·2H2O .* NaBr0.2H2O"),
        ("K4[Fe(CN)6].3H2O", r"K4\(Fe\(CN\)6\)·3H2O"),
        ("CoCl2.6NH3", r"CoCl2·6NH3"),
        ("Al2O3.2SiO2", r"Al2O3·2SiO2"),
        ("CaCl2 6H2O", "it as CaCl2·6H2O"),
        ("CaCl2 2H2O", "it as CaCl2·2H2O"),
        ("CuSO4  5 H2O", "it as CuSO4·5H2O"),
        ("Al 2 O 3", "without spaces"),
        ("Ca.5", "Ca0.5"),
    ],
)
def test_a_point_that_may_part_a_hydrate_is_refused_with_the_right_spelling(formula: str, right: str) -> None:
    with pytest.raises(InputError, match=f"two ways: write .*{right}"):
        atom_counts(formula)


@pytest.mark.parametrize(
    ("formula", "hydrate"),
    [
        ("CaSO42H2O", "CaSO4·2H2O"), ("CaSO40.5H2O", "CaSO4·0.5H2O"), ("CaCl26H2O", "CaCl2·6H2O"),
        ("MgSO47H2O", "MgSO4·7H2O"), ("NaI2H2O", "NaI·2H2O"), ("Na2CO310H2O", "Na2CO3·10H2O"),
        ("AlCl36(H2O)", "AlCl3·6H2O"), ("Na2B4O710H2O", "Na2B4O7·10H2O"), ("Ca(NO3)24H2O", "Ca(NO3)2·4H2O"),
        ("MgCl210H2O", "MgCl2·10H2O"),
    ],
)  # fmt: skip
def test_a_lost_point_of_a_hydrate_is_refused_with_it(formula: str, hydrate: str) -> None:
    with pytest.raises(InputError, match="two ways") as caught:
        atom_counts(formula)
    said = str(caught.value)
    assert f"write {hydrate} for a hydrate" in said
    other = said.split("and ")[1].split(" where")[0]
    assert atom_counts(other) != atom_counts(hydrate)


@pytest.mark.parametrize(
    "formula", ["CaCl2H2O", "CaSO4H2O", "C6H12O6H2O", "Ca(OH)2H2O", "CaC2O4H2O", "MgOH2O"]
)
def test_one_water_needs_no_point(formula: str) -> None:
    assert atom_counts(formula) == atom_counts(f"{formula[:-3]}·H2O")


@pytest.mark.parametrize(
    ("formula", "right"),
    [
        ("Ca3PO42", "Ca3(PO4)2"), ("CaNO32", "Ca(NO3)2"), ("NH42SO4", "(NH4)2SO4"), ("Al2CO33", "Al2(CO3)3"),
        ("MgClO42", "Mg(ClO4)2"), ("AlOH3", "Al(OH)3"), ("CaOH2", "Ca(OH)2"), ("Ca5PO43OH", "Ca5(PO4)3OH"),
        ("Ca10PO46OH2", "Ca10(PO4)6(OH)2"), ("Fe2SO43·9H2O", "Fe2(SO4)3·9H2O"),
    ],
)  # fmt: skip
def test_lost_brackets_are_refused_with_them(formula: str, right: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"write {right} for groups of atoms, and ")) as refusal:
        atom_counts(formula)
    atoms = atom_counts(right)
    single = str(refusal.value).split("and ")[1].split(" for")[0]
    assert atoms != atom_counts(single)  # which is what was written


@pytest.mark.parametrize(
    "formula", ["C76H52O46", "C20H35NO24", "KH2PO4", "FeOOH", "W12SiO40", "C2H5OH", "NO2"]
)
def test_no_brackets_were_lost(formula: str) -> None:
    assert atom_counts(formula)


@pytest.mark.parametrize(
    ("formula", "atoms"),
    [
        ("Gd0.5Y0.5", {"Gd": 0.5, "Y": 0.5}),
        ("Cd0.9Zn0.1Te", {"Cd": 0.9, "Zn": 0.1, "Te": 1.0}),
        ("Lu1.8Y0.2SiO5", {"Lu": 1.8, "Y": 0.2, "Si": 1.0, "O": 5.0}),
        ("YBa2Cu3O6.9", {"Y": 1.0, "Ba": 2.0, "Cu": 3.0, "O": 6.9}),
        ("Ca4.5(PO4)3", {"Ca": 4.5, "P": 3.0, "O": 12.0}),
        ("SiO1.5N0.3", {"Si": 1.0, "O": 1.5, "N": 0.3}),
        ("CaSO4·0.5H2O", {"Ca": 1.0, "S": 1.0, "O": 4.5, "H": 1.0}),
        ("LiBr.H2O", {"Li": 1.0, "Br": 1.0, "H": 2.0, "O": 1.0}),
        ("3CaO·2SiO2", {"Ca": 3.0, "O": 7.0, "Si": 2.0}),
        ("Ca10(PO4)6(OH)2", {"Ca": 10.0, "P": 6.0, "O": 26.0, "H": 2.0}),
        ("Ca₅(PO₄)₃OH", {"Ca": 5.0, "P": 3.0, "O": 13.0, "H": 1.0}),
        ("CO", {"C": 1.0, "O": 1.0}),
        ("Co", {"Co": 1.0}),
        ("C10H20", {"C": 10.0, "H": 20.0}),
        ("C60", {"C": 60.0}),
        ("CsI", {"Cs": 1.0, "I": 1.0}),
        ("NiTi", {"Ni": 1.0, "Ti": 1.0}),
        ("Ti6Al4V1", {"Ti": 6.0, "Al": 4.0, "V": 1.0}),
        ("Au0.9Cu0.1", {"Au": 0.9, "Cu": 0.1}),
        ("Si0.8Ge0.2", {"Si": 0.8, "Ge": 0.2}),
        ("C18F34", {"C": 18.0, "F": 34.0}),
        ("Na131I1", {"Na": 131.0, "I": 1.0}),
        ("C40H40O20", {"C": 40.0, "H": 40.0, "O": 20.0}),
        ("HOCl", {"H": 1.0, "O": 1.0, "Cl": 1.0}),
        ("(C2H4)", {"C": 2.0, "H": 4.0}),
        ("CaSO4·½H2O", {"Ca": 1.0, "S": 1.0, "O": 4.5, "H": 1.0}),
        ("Na2CO3·1½H2O", {"Na": 2.0, "C": 1.0, "O": 4.5, "H": 3.0}),
    ],
)
def test_fractions_brackets_and_capitals_stay(formula: str, atoms: dict[str, float]) -> None:
    assert atom_counts(formula) == pytest.approx(atoms)


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("Fe2+", "charge"), ("SO₄²⁻", "charge"), ("Ca^2+", "charge"), ("²³⁵U", "isotope"),
        ("D2O", "isotope D"),
        ("H20", "letter O"), ("Al203", "letter O"), ("Si02", "letter O"), ("CaC03", "letter O"),
        ("MgAl204", "letter O"), ("CaCl2·2H20", "letter O"), ("Ca0", "letter O"),
        ("Саs", r"U\+0421"), ("CaCl2,6", r"U\+002C"),
        ("nacl", "capital letters"), ("NACL", "capital letters"), ("CaCl2.nH2O", "capital letters"),
        ("H2O.", "capital letters"), ("O1e3", "capital letters"), ("Qq2", "capital letters"),
        ("", "no chemical"),
        ("()", "no chemical"), ("·H2O", "no chemical"), ("Ca((PO4)3", "no chemical"),
        ("CU", "write Cu"), ("SIO2", "write Si"), ("CSI", "write Cs"), ("HFO2", "write Hf"),
        ("HO", "write Ho"), ("YB2O3", "write Yb"),
        ("I-131", "isotope"), ("Na131I", "write NaI for the isotope"), ("Na18F", "write NaF"),
        ("H218O", "write H2O for the isotope"),
        ("CH3-CH2-OH", "bonds without it"), ("CaCl2+6H2O", "hydrate as"), ("Ti-6Al-4V", "Ti90%Al6%V4%"),
        ("GD2O3", "write Gd2O3 where Gd"), ("CD4", "write Cd4 where Cd .* isotope D"),
        ("H2O100%", "without %"), ("TLBR", "write TlBR where Tl"),
        ("CsI(Tl)", "as dopants are written"), ("Gd2O2S(Tb)", r"\(Tb\)0.001"), ("Ca()", "no chemical"),
    ],
)  # fmt: skip
def test_what_is_no_formula_or_another_is_refused(formula: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        atom_counts(formula)


@pytest.mark.parametrize(
    ("formula", "neutral"),
    [
        ("Gd+3", "Gd"), ("Gd3+", "Gd"), ("Gd(3+)", "Gd"), ("Gd(+3)", "Gd"), ("Ca++", "Ca"), ("Ca+2", "Ca"),
        ("CO3-2", "CO3"), ("SO42-", "SO4"), ("PO4(3-)", "PO4"), ("NH4+", "NH4"), ("Na+Cl-", "NaCl"),
        ("Fe(CN)63-", "Fe(CN)6"), ("I-131", "I"), ("²³⁵U", "U"), ("Ca^2+", "Ca"), ("O2-", "O"),
    ],
)  # fmt: skip
def test_charges_are_called_so_with_the_neutral_formula(formula: str, neutral: str) -> None:
    with pytest.raises(
        InputError,
        match=re.escape(f"charge or an isotope in it, which is no part of a formula: write {neutral},"),
    ):
        atom_counts(formula)
    assert atom_counts(neutral)


@pytest.mark.parametrize(
    ("formula", "without"),
    [
        ("Fe(II)SO4", "FeSO4"), ("Gd(III)Cl3", "GdCl3"), ("Fe(III)2O3", "Fe2O3"), ("Cu(I)2O", "Cu2O"),
        ("Mn(VII)", "Mn"), ("FeII", "Fe"), ("Ti(IV)O2", "TiO2"), ("CrVIO3", "CrO3"), ("Cu(I)", "Cu"),
    ],
)  # fmt: skip
def test_an_oxidation_state_is_no_iodine(formula: str, without: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"write {without}, and where atoms are meant")):
        atom_counts(formula)


@pytest.mark.parametrize("formula", ["PbI2", "CuI", "TlI", "VI3", "CI4", "BiI3", "Na(I)131", "VO2", "IV"])
def test_iodine_and_vanadium_stay(formula: str) -> None:
    assert {"I", "V"} & atom_counts(formula).keys()


@pytest.mark.parametrize(
    ("formula", "said"),
    [("Fe2O3·nH2O", "number for 'n'"), ("GdCl3(H2O)x", "number for 'x'"), ("NaCl(aq)", "leave '(aq)' out")],
)
def test_letters_for_numbers_and_states_of_matter_are_named(formula: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        atom_counts(formula)


@pytest.mark.parametrize(
    ("formula", "natural", "counted"),
    [
        ("U235O2", "UO2", "(U)235O2"), ("Ba133SO4", "BaSO4", "(Ba)133SO4"), ("H2O18", "H2O", "H2(O)18"),
        ("NaI131", "NaI", "Na(I)131"), ("C13O2", "CO2", "(C)13O2"), ("Cs137Cl", "CsCl", "(Cs)137Cl"),
        ("Pu239O2", "PuO2", "(Pu)239O2"), ("Lu177Cl3·6H2O", "LuCl3·6H2O", "(Lu)177Cl3·6H2O"),
        ("Na22Cl", "NaCl", "(Na)22Cl"), ("Ca45(NO3)2", "Ca(NO3)2", "(Ca)45(NO3)2"),
        ("C6H11F18O5", "C6H11FO5", "C6H11(F)18O5"), ("C8H10I131N3", "C8H10IN3", "C8H10(I)131N3"),
        ("Li6F", "LiF", "(Li)6F"), ("N13H3", "NH3", "(N)13H3"),
    ],
)  # fmt: skip
def test_mass_numbers_behind_the_symbol_are_no_counts(formula: str, natural: str, counted: str) -> None:
    with pytest.raises(InputError) as caught:
        atom_counts(formula)
    assert f"write {natural} for the isotope" in str(caught.value)
    assert f"and {counted} where the number counts" in str(caught.value)
    number = max(atom_counts(counted).values())
    assert atom_counts(natural) and number >= 6 and f"{number:g}" in formula


@pytest.mark.parametrize(
    "formula",
    [
        "C60", "C12H22O11", "C18H34O2", "C13H10", "C13H28", "C11H24", "Be3Al2Si6O18", "C60F18", "C8F18",
        "B10H14", "B10C", "B13C2", "Li7La3Zr2O12", "Mg24Y5", "Al23V4", "Mg17Al12", "Nd2Fe14B", "YB66",
        "Na96Al96Si96O384", "Na24Si136", "C65H90N14O19S2", "C63H88CoN14O14P", "C19H26I3N3O9", "KC8",
        "C6H9F3", "C17H36", "MoSi2", "Mg2Si", "Cu3Si", "Cu5Si", "Cu15Si4", "FeSi2", "Fe3Si", "Al2SiO5",
        "Fe5Si3", "URu2Si2", "Al4Si3O12", "SiC", "Al2Si2O5(OH)4",
    ],
)  # fmt: skip
def test_counts_that_are_mass_numbers_elsewhere_stay(formula: str) -> None:
    assert atom_counts(formula)


@pytest.mark.parametrize(
    "name",
    [
        "AlSi10Mg", "AlSi12", "Al12Si", "AlCu4MgSi", "AlMgSi1", "AlSi7Mg0.3", "Al88Si12", "CuNi2Si",
        "CuSi3Mn1", "FeSi6.5", "FeMn30Si5",
    ],
)  # fmt: skip
def test_alloys_with_silicon_are_refused_as_others_are(name: str) -> None:
    with pytest.raises(InputError, match=r"where the numbers count atoms, and .* % by mass"):
        atom_counts(name)


@pytest.mark.parametrize(
    ("name", "of_atoms", "by_mass"),
    [
        ("Ti6Al4V", "Ti6Al4V1", "Ti90%Al6%V4%"),
        ("TiAl6V4", "Ti1Al6V4", "Ti90%Al6%V4%"),
        ("Ti90Al6V4", "Ti1Al0.0667V0.0444", "Ti90%Al6%V4%"),
        ("Ti0.90Al0.06V0.04", "Ti1Al0.0667V0.0444", "Ti90%Al6%V4%"),
        ("CoCr28Mo6", "Co1Cr28Mo6", "Co66%Cr28%Mo6%"),
        ("AlMg3", "Al1Mg3", "Al97%Mg3%"),
        ("AlSi12", "Al1Si12", "Al88%Si12%"),
        ("Cu70Zn30", "Cu1Zn0.429", "Cu70%Zn30%"),
        ("H11.2O88.8", "H0.126O1", "H11.2%O88.8%"),
        ("H 11.2 O 88.8", "H0.126O1", "H11.2%O88.8%"),
        ("H11O89", "H0.124O1", "H11%O89%"),
        ("H0.112O0.888", "H0.126O1", "H11.2%O88.8%"),
        ("H0.105C0.256N0.027O0.612", "H0.172C0.418N0.0441O1", "H10.5%C25.6%N2.7%O61.2%"),
        ("H 0.105 C 0.256 N 0.027 O 0.602", "H0.174C0.425N0.0449O1", "H10.61%C25.86%N2.727%O60.81%"),
        ("Ca0.4P0.18O0.42", "Ca0.952P0.429O1", "Ca40%P18%O42%"),
    ],
)
def test_alloys_and_compositions_in_per_cent_are_refused_with_both_spellings(
    name: str, of_atoms: str, by_mass: str
) -> None:
    with pytest.raises(InputError, match=f"{of_atoms} where .* atoms, and {by_mass} for % by mass"):
        atom_counts(name)
    assert atom_counts(of_atoms)
    assert mass_shares(by_mass)


def test_per_cent_by_mass_give_the_material_itself() -> None:
    energies = torch.tensor([40.0, 60.0, 100.0])
    made = material("wasser=H 11.1898% O 88.8102%@1").mass_attenuation(energies)
    torch.testing.assert_close(made, material("water").mass_attenuation(energies))
    assert dict(material("x=H11.2wt%O88.8 wt%@1").fractions) == pytest.approx({"H": 0.112, "O": 0.888})


@pytest.mark.parametrize(
    ("composition", "said"),
    [
        ("H11%O80%", "makes 91 % by mass and not 100"), ("H11.2O88.8%", "each element once"),
        ("H50%H50%", "each element once"), ("Qq100%", "no element 'Qq'"), ("O88.8%H at%", "each element"),
        ("(H2O)100%", "each element once"),
    ],
)  # fmt: skip
def test_what_is_no_composition_by_mass_is_refused(composition: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        compound("x", composition, 1.0)


def test_a_hydrates_attenuation_is_that_of_its_parts() -> None:
    """Anhydrous salt and water by mass, of their molar masses 110.98 and 6 x 18.015 g/mol."""
    energies = torch.tensor([40.0, 60.0, 100.0])
    salt, water = 110.98, 6 * 18.015
    apart = salt * compound("salt", "CaCl2", 1.0).mass_attenuation(energies)
    apart = (apart + water * material("water").mass_attenuation(energies)) / (salt + water)
    made = material("hydrate=CaCl2·6H2O@1.71").mass_attenuation(energies)
    torch.testing.assert_close(made, apart, rtol=2e-4, atol=0)


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ("cobalt=CO@8.9", "CO is a gas"),
        ("copper=C1U1@8.96", "named after copper .* write Cu"),
        ("iodine=KBr@3", "named after iodine"),
        ("saline=NaCl@2,16", "'2,16' .* no density"),
        ("saline=NaCl@2160", "write the density in g/cm³"),
        ("saline=NaCl", "name=formula@density"),
        ("a/b=NaCl@2", "letters, digits, spaces"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(described: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        material(described)


@pytest.mark.parametrize(
    ("described", "mg_per_ml"),
    [
        ("barium sulphate=BaSO4@0.045", 45),
        ("saline=NaCl@0.009", 9),
        ("agent=I@0.005", 5),
        ("agent=C17H22I3N3O8@0.3", 300),
        ("insert=Ca5(PO4)3OH@0.2", 200),
        ("agent=Ba58.8%S13.7%O27.4%@0.045", 45),
    ],
)
def test_a_concentration_for_a_density_is_refused_with_the_solution(described: str, mg_per_ml: float) -> None:
    with pytest.raises(InputError, match=rf"looks like a concentration \({mg_per_ml:g} mg/ml\)") as refusal:
        material(described)
    spelled = re.search(r"in water, (.*)\.$", str(refusal.value))
    assert spelled is not None
    energies = torch.tensor([40.0, 70.0, 100.0])
    _, formula = described.split("=")
    solute = compound("solute", formula.split("@")[0], 2.0)
    made, right = material(spelled[1]), solution(solute, mg_per_ml)
    assert made.density == pytest.approx(1 + mg_per_ml / 1e3, rel=1e-3)
    torch.testing.assert_close(
        made.mass_attenuation(energies), right.mass_attenuation(energies), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize(
    "described",
    ["xenon=Xe@0.0059", "gas=SF6@0.006", "foam=Al@0.3", "aerogel=SiO2@0.1", "styrofoam=C8H8@0.05",
     "li=Li@0.53",
     "lung=H10.3%C10.5%N3.1%O74.9%Na0.2%P0.2%S0.3%Cl0.3%K0.2%@0.26", "powder=CaCO3@0.6", "gas=UF6@0.0147"],
)  # fmt: skip
def test_gases_foams_and_light_solids_have_low_densities(described: str) -> None:
    assert material(described).density == float(described.split("@")[1])


@pytest.mark.parametrize(
    ("formula", "right"),
    [("CaCo3", "CaCO3"), ("NaHCo3", "NaHCO3"), ("Na2Co3", "Na2CO3"), ("BaCo3", "BaCO3"), ("Co2", "CO2")],
)
def test_a_slip_that_makes_cobalt_of_carbonates_is_refused_with_both(formula: str, right: str) -> None:
    with pytest.raises(InputError, match=rf"write {right} where carbon and oxygen are meant, and .*\(Co\)"):
        atom_counts(formula)
    assert atom_counts("Co3O4") == {"Co": 3.0, "O": 4.0} and atom_counts("Co") == {"Co": 1.0}


@pytest.mark.parametrize(("formula", "other"), [("No", "NO where two elements"), ("PuO2", "PU where two")])
def test_elements_without_tables_are_refused(formula: str, other: str) -> None:
    with pytest.raises(InputError, match=rf"No attenuation is known of element .*{other}"):
        compound("x", formula, 1.0)


def test_a_comma_in_a_density_is_named() -> None:
    with pytest.raises(InputError, match=r"comma in a density: write it with a point, as in @3\.14"):
        names("water,x=Ca3(PO4)2@3,14")
    assert names("water,x=CaCO3@2.7,iodine") == ["water", "x=CaCO3@2.7", "iodine"]
