"""Attenuation and compositions against NIST's tables (XCOM, Hubbell & Seltzer) and refusals."""

from __future__ import annotations

import pytest
import torch

from ctenhance.physics.materials import Material, compound, material, mixture, solution
from ctenhance.runtime.errors import InputError

# Mass attenuation in cm²/g with coherent scatter, from NIST's tables (NISTIR 5632).
NIST = {
    "water": {20: 0.8096, 30: 0.3756, 40: 0.2683, 60: 0.2059, 80: 0.1837, 100: 0.1707, 150: 0.1505},
    "iodine": {30: 8.561, 40: 22.10, 60: 7.579, 80: 3.510, 100: 1.942, 150: 0.6978},
    "calcium": {20: 13.06, 30: 4.080, 60: 0.6578, 100: 0.2571},
    "gadolinium": {60: 11.75, 100: 3.108},
    "bone": {30: 1.331, 60: 0.3148, 100: 0.1855},
    "adipose": {30: 0.3063, 60: 0.1974, 100: 0.1688},
    "pmma": {30: 0.3032, 60: 0.1924, 100: 0.1641},
}


@pytest.mark.parametrize("name", NIST)
def test_attenuation_is_that_of_nist(name: str) -> None:
    energies = torch.tensor(list(NIST[name]), dtype=torch.float64)
    expected = torch.tensor(list(NIST[name].values()), dtype=torch.float64)
    torch.testing.assert_close(material(name).mass_attenuation(energies), expected, rtol=0.012, atol=0)


def test_iodine_jumps_at_its_k_edge() -> None:
    below, above = material("iodine").mass_attenuation(torch.tensor([33.1, 33.3]))
    assert below == pytest.approx(6.55, rel=0.02)
    assert above == pytest.approx(35.8, rel=0.02)


def test_parts_add_up_to_the_total() -> None:
    energies = torch.tensor([25.0, 60.0, 110.0])
    parts = sum(material("bone").mass_attenuation(energies, kind) for kind in ("photo", "incoh", "coh"))
    torch.testing.assert_close(material("bone").mass_attenuation(energies), parts, rtol=1e-9, atol=0)


def test_a_solution_adds_its_parts() -> None:
    energies = torch.tensor([50.0, 70.0])
    mixed = solution("iodine", 10.0).linear_attenuation(energies)
    apart = 0.1 * (
        material("water").mass_attenuation(energies) + 0.010 * material("iodine").mass_attenuation(energies)
    )
    torch.testing.assert_close(mixed, apart, rtol=1e-12, atol=0)
    assert solution("iodine", 10.0).density == pytest.approx(1.010)


def test_formula_and_mixture_agree_with_the_table() -> None:
    energies = torch.tensor([30.0, 80.0])
    for made in (
        compound("hydroxyapatite", "Ca5(PO4)3OH", 3.16),
        material("mine=Ca5(PO4)3OH@3.16"),
        mixture("mine", {material("hydroxyapatite"): 2.0}, 3.16),
    ):
        torch.testing.assert_close(
            made.mass_attenuation(energies),
            material("hydroxyapatite").mass_attenuation(energies),
            rtol=1e-3,
            atol=0,
        )


def test_water_has_its_electrons() -> None:
    assert material("water").electrons_per_gram() == pytest.approx(0.5551, rel=1e-3)
    assert material("water").power_mean_z(2.94) ** (1 / 2.94) == pytest.approx(7.42, abs=0.01)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: material("unobtainium"), "There is no material 'unobtainium'"),
        (lambda: material("x=Qq2@1.0"), "Qq2"),
        (lambda: Material("x", (("Ca", 1.0),), 0.0), "density"),
        (lambda: Material("x", (("Zz", 1.0),), 1.0), "no element 'Zz'"),
        (lambda: Material("x", (("Ca", -1.0),), 1.0), "mass fractions"),
        (lambda: solution("iodine", -3.0), "-3"),
        (lambda: material("water").mass_attenuation(torch.tensor([0.001])), "tabulated"),
        (lambda: material("water").mass_attenuation(torch.tensor([60.0]), "all"), "kind"),
    ],
)
def test_refusals(wrong, message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrong()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("xenon=Xe@5.9", r"5\.9 is the density of gaseous Xe in g/l: write Xe@0\.0059"),
        ("kr=Kr@3.75", r"in g/l: write Kr@0\.00375"),
        ("n=N@1.25", "in g/l"),
        ("xenon=Xe@12", r"No form of Xe has 12 g/cm³: it has 0\.00589 as a gas"),
        ("ca=Ca@3.2", r"No form of Ca has 3\.2 g/cm³: it has 1\.55, so"),
        ("iodine=I@11.27", r"No form of I has 11\.27"),
    ],
)
def test_no_element_is_denser_than_its_densest_form(given: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        material(given)


@pytest.mark.parametrize(
    "given",
    [
        "diamond=C@3.51", "graphite=C@2.2", "black=P@2.69", "xenon=Xe@3.6", "xenon=Xe@2.94",
        "xenon=Xe@0.0059", "kr=Kr@2.83", "ne=Ne@1.44", "he=He@0.145", "h=H@0.0708", "n=N@0.807", "o=O@1.141",
        "cl=Cl@1.56", "hg=Hg@13.6", "br=Br@3.12", "i=I@4.93", "au=Au@19.3", "os=Os@22.59", "u=U@19.1",
        "se=Se@4.81",
    ],
)  # fmt: skip
def test_elements_at_densities_that_they_have(given: str) -> None:
    assert material(given).density == float(given.split("@")[1])
