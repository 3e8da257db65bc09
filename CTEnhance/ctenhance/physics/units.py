"""Hounsfield units and linear attenuation.

HU = 1000 (mu - mu_water) / mu_water, with mu in mm^-1. All functions take torch tensors, numpy arrays or
floats and return the same kind."""

from __future__ import annotations

from typing import TypeVar

Quantity = TypeVar("Quantity")

#: Water at about 70 keV, the effective energy of a filtered 120 kVp beam (METHODS C.1, E: 0.0192 mm^-1).
MU_WATER_PER_MM = 0.0192


def hu_to_mu(hu: Quantity, mu_water: float = MU_WATER_PER_MM) -> Quantity:
    """Linear attenuation in mm^-1 of `hu`; below -1000 HU it is negative, as the formula says: clip where
    it matters."""
    return (hu * (1e-3 * mu_water)) + mu_water  # type: ignore[operator,return-value]


def mu_to_hu(mu: Quantity, mu_water: float = MU_WATER_PER_MM) -> Quantity:
    """Hounsfield units of the linear attenuation `mu` in mm^-1."""
    return (mu - mu_water) * (1000.0 / mu_water)  # type: ignore[operator,return-value]
