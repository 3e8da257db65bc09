"""A basis whose materials attenuate much alike makes maps that nothing can have: that is pointed out."""

from __future__ import annotations

import pytest
from spectral_images import scan

import ctenhance
from ctenhance.core.volume import CTVolume

PLAIN = dict.fromkeys(("iodine 2", "iodine 10", "iodine 20"), ("iodine", 0.0))


def _said(images: dict[float, CTVolume], basis: tuple[str, ...], **more) -> list[str]:
    report = ctenhance.decompose_images(images, basis=basis, **more).report
    return [one for one in report["warnings"] if "no concentration" in one]


@pytest.mark.parametrize("other", ["pmma=C5O2H8@1.18", "adipose"])
def test_iodine_in_a_basis_of_water_and_what_is_like_it_is_pointed_out(other: str) -> None:
    (said,) = _said(scan((40.0, 70.0), (4.0, 4.0)), ("water", other))
    name = other.partition("=")[0]
    assert said.startswith(f"The map of {name} is -") and "% of the body" in said
    assert f"water and {name} attenuate much alike" in said and said.endswith("such as water,iodine.")


def test_no_bound_at_zero_hides_it() -> None:
    images = scan((40.0, 70.0), (4.0, 4.0))
    (said,) = _said(images, ("water", "pmma=C5O2H8@1.18"), nonnegative=True)
    assert said.startswith("Hidden by --nonnegative: The map of pmma is -")
    assert not _said(images, ("water", "iodine"), nonnegative=True)


@pytest.mark.parametrize(
    "basis", [("water", "iodine"), ("water", "calcium"), ("water", "bone"), ("water", "salt=NaCl@2.16")]
)
def test_a_basis_that_tells_materials_apart_is_not(basis: tuple[str, ...]) -> None:
    assert not _said(scan((40.0, 70.0), (4.0, 4.0)), basis)
    assert not _said(scan((40.0, 70.0), (40.0, 40.0), others={"plain": ("calcium", 300.0)}), basis)


@pytest.mark.parametrize("noise", [4.0, 40.0])
def test_noise_alone_is_not(noise: float) -> None:
    """Of water and acrylic noise makes large amounts, too, which the standard errors tell."""
    assert not _said(scan((40.0, 70.0), (noise, noise), others=PLAIN), ("water", "pmma=C5O2H8@1.18"))


def test_energies_that_tell_not_even_water_from_iodine_are_questioned() -> None:
    images = scan((40.0, 80.0), (2.0, 2.0))
    (said,) = _said({40.0: images[40.0], 41.0: images[80.0]}, ("water", "iodine"))
    assert "even water and iodine attenuate much alike: make sure that they are those of the images" in said
