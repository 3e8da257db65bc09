"""Spectral images from maps of partial density: monoenergetic, non-contrast, electron density, effective Z.

Maps are g/cm³ `[material, ...]`; the functions are cheap sums, so that a viewer can make them for the shown
slices at any energy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from ctenhance.choices import LEAST_KEV, MOST_KEV, VIEWING_KEV
from ctenhance.physics.materials import Material, material
from ctenhance.runtime.errors import InputError

#: What a virtual non-contrast image leaves out.
CONTRAST_AGENTS = ("iodine", "gadolinium", "barium", "gold")
NON_CONTRAST_KEV = 70.0
#: Exponent of the effective atomic number (Mayneord 1937).
Z_EXPONENT = 2.94
#: Below this electron density, or attenuation at `NON_CONTRAST_KEV`, relative to water (air, lung's air) an
#: effective atomic number means nothing. Attenuation has far less noise: density alone would speckle air.
LEAST_DENSITY = 0.1
#: Side of the window in pixels, and the regularisation in HU, of the guided filter of low-noise images.
GUIDE_RADIUS, GUIDE_HU = 4, 15.0


def vmi_weights(materials: Sequence[str | Material], kev: float) -> torch.Tensor:
    """HU per g/cm³ of each material at an energy, float64 `[material]`: VMI = weights · maps - 1000.

    Raises InputError for an energy at which the basis does not hold."""
    if not LEAST_KEV <= kev <= MOST_KEV:
        raise InputError(
            f"A monoenergetic image at {kev:g} keV is not possible: choose {LEAST_KEV:g} to {MOST_KEV:g} keV."
        )
    energy = torch.tensor([float(kev)], dtype=torch.float64)
    water = material("water").mass_attenuation(energy)
    return torch.cat([1000 * material(m).mass_attenuation(energy) / water for m in materials])


def vmi(maps: torch.Tensor, materials: Sequence[str | Material], kev: float) -> torch.Tensor:
    """Virtual monoenergetic image in HU `[...]` at `kev`, from maps in g/cm³ `[material, ...]`."""
    weights = vmi_weights(materials, kev).to(maps)
    return torch.tensordot(weights, maps, 1) - 1000


def virtual_non_contrast(maps: torch.Tensor, materials: Sequence[str | Material]) -> torch.Tensor:
    """Image in HU `[...]` at `NON_CONTRAST_KEV`, of maps in g/cm³ `[material, ...]`, without the contrast
    agents among the materials.

    Raises InputError where the basis holds none, or nothing else."""
    names = [material(m).name for m in materials]
    kept = [index for index, name in enumerate(names) if name not in CONTRAST_AGENTS]
    if len(kept) in (0, len(names)):
        raise InputError(
            f"A virtual non-contrast image of the basis {', '.join(names)} is not possible: it needs a "
            f"contrast agent ({', '.join(CONTRAST_AGENTS)}) and another material."
        )
    return vmi(maps[kept], [materials[i] for i in kept], NON_CONTRAST_KEV)


def electron_density(maps: torch.Tensor, materials: Sequence[str | Material]) -> torch.Tensor:
    """Electron density relative to water `[...]`."""
    water = material("water").electrons_per_gram()
    weights = torch.tensor([material(m).electrons_per_gram() / water for m in materials]).to(maps)
    return torch.tensordot(weights, maps, 1)


def viewing_table(materials: Sequence[str | Material]) -> dict[str, Any]:
    """What a viewer needs to make these images from maps in mg/mL without this package (JSON-able).

    `energies_keV` `[energy]`; `hounsfield_per_mg_ml` `[material][energy]` (VMI = their sum over maps - 1000);
    `electron_density_per_mg_ml` `[material]`, relative to water; `z_power` `[material]` and `z_exponent`:
    Z = max(1, Σ e_k m_k p_k / Σ e_k m_k) ** (1 / exponent), where both electron density and attenuation at
    `non_contrast_keV` are `least_density` of water's or more;
    `contrast_agents`: what a non-contrast image at `non_contrast_keV` leaves out."""
    stuff = [material(m) for m in materials]
    weights = torch.stack([vmi_weights(stuff, float(kev)) for kev in VIEWING_KEV], 1) / 1000
    water = material("water").electrons_per_gram()
    return {
        "materials": [m.name for m in stuff],
        "energies_keV": list(VIEWING_KEV),
        "hounsfield_per_mg_ml": weights.tolist(),
        "electron_density_per_mg_ml": [m.electrons_per_gram() / water / 1000 for m in stuff],
        "z_power": [m.power_mean_z(Z_EXPONENT) for m in stuff],
        "z_exponent": Z_EXPONENT,
        "least_density": LEAST_DENSITY,
        "contrast_agents": [m.name for m in stuff if m.name in CONTRAST_AGENTS],
        "non_contrast_keV": NON_CONTRAST_KEV,
    }


def effective_atomic_number(maps: torch.Tensor, materials: Sequence[str | Material]) -> torch.Tensor:
    """Effective atomic number `[...]` (Mayneord, exponent 2.94): 1, as hydrogen has, or more.

    It is 0 where there is hardly any matter, and nowhere else: noise that takes one material far below zero
    may leave nothing to draw the root of."""
    stuff = [material(m) for m in materials]
    electrons = torch.tensor([m.electrons_per_gram() for m in stuff]).to(maps)
    powers = torch.tensor([m.electrons_per_gram() * m.power_mean_z(Z_EXPONENT) for m in stuff]).to(maps)
    density = torch.tensordot(electrons, maps, 1)
    power = torch.tensordot(powers, maps, 1)
    least = LEAST_DENSITY * material("water").electrons_per_gram()
    z = (power / density.clamp(min=least)).clamp(min=1) ** (1 / Z_EXPONENT)
    attenuates = vmi(maps, materials, NON_CONTRAST_KEV) >= 1000 * (LEAST_DENSITY - 1)
    return torch.where(attenuates & (density >= least), z, torch.zeros_like(z))


def quietest_energy(maps: torch.Tensor, materials: Sequence[str | Material]) -> float:
    """The energy in keV whose monoenergetic image of maps `[material, ..., row, column]` is least noisy.

    The noise of the maps is anti-correlated, so that it cancels there (Alvarez & Seppi 1979). It is measured
    on what a 3 x 3 average takes away, without edges."""
    flat = maps.reshape(len(maps), -1, *maps.shape[-2:]).double()
    fine = (flat - F.avg_pool2d(flat, 3, 1, 1, count_include_pad=False)).flatten(1)
    body = (flat.flatten(1)[0] > 0.5) if material(materials[0]).name == "water" else fine[0] == fine[0]
    for k in range(len(fine)):
        spread = fine[k][body].abs().median() if bool(body.any()) else fine[k].abs().median()
        body = body & (fine[k].abs() < 4.5 * spread)
    sample = fine[:, body] if int(body.sum()) > 100 else fine
    covariance = torch.cov(sample).reshape(len(fine), len(fine))
    energies = torch.arange(40, 191, dtype=torch.float64)
    weights = torch.stack([vmi_weights(materials, float(e)) for e in energies])
    variance = torch.einsum("ek,kl,el->e", weights, covariance.cpu(), weights)
    return float(energies[variance.argmin()])


def low_noise_vmi(
    maps: torch.Tensor,
    materials: Sequence[str | Material],
    kev: float,
    quiet_kev: float | None = None,
    guided: torch.Tensor | None = None,
) -> torch.Tensor:
    """Monoenergetic image in HU `[..., row, column]` with nearly the noise of the quietest energy.

    What differs between both energies is made of the `guided_maps` (given, or made here), so that contrast is
    kept."""
    quiet = quietest_energy(maps, materials) if quiet_kev is None else quiet_kev
    difference = (vmi_weights(materials, kev) - vmi_weights(materials, quiet)).to(maps)
    if guided is None:
        guided = guided_maps(maps, materials, quiet)
    return vmi(maps, materials, quiet) + torch.tensordot(difference, guided, 1)


def guided_maps(maps: torch.Tensor, materials: Sequence[str | Material], quiet_kev: float) -> torch.Tensor:
    """Maps `[material, ..., row, column]` smoothed along the edges of their image at `quiet_kev`, by a guided
    filter (He et al., IEEE TPAMI 35:1397, 2013).

    It is linear in the maps: with w the weights of an energy, w(quiet) · maps + (w(E) - w(quiet)) · guided
    maps - 1000 is the low-noise image at E."""
    # HU squared lose digits in float32
    guide, images = vmi(maps, materials, quiet_kev).double(), maps.double()
    centre, target = _box_mean(guide), _box_mean(images)
    slope = (_box_mean(guide * images) - centre * target) / (_box_mean(guide**2) - centre**2 + GUIDE_HU**2)
    return (_box_mean(slope) * guide + _box_mean(target - slope * centre)).to(maps.dtype)


def _box_mean(images: torch.Tensor) -> torch.Tensor:
    """The mean over the guide's window of images `[..., row, column]`, at edges over what is there of it."""
    flat = images.reshape(-1, 1, *images.shape[-2:])
    side = 2 * GUIDE_RADIUS + 1
    for shape, pad in (((side, 1), (GUIDE_RADIUS, 0)), ((1, side), (0, GUIDE_RADIUS))):
        flat = F.avg_pool2d(flat, shape, 1, pad, count_include_pad=False)
    return flat.reshape(images.shape)
