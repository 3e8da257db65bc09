"""The error that a polychromatic beam makes behind bone when the scanner corrects for water alone.

A detector that integrates energy reads  H(w, b) = -ln sum_E S(E) exp(-w m_w(E) - b m_b(E)),  w and b the
line integrals of soft tissue and bone at the effective energy and m the attenuation relative to it.  The
scanner turns H into the water path that would give the same reading; what is left is an error where rays
cross bone, greatest where they cross much of it: dark bands between dense bones (Joseph and Spital, J
Comput Assist Tomogr 2:100, 1978).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from ctenhance.physics.units import hu_to_mu, mu_to_hu

# Attenuation coefficients of water and cortical bone (ICRU-44) in cm2/g, NIST (Hubbell and Seltzer).
_ENERGIES_KEV = np.array([30.0, 40.0, 50.0, 60.0, 80.0, 100.0])
_WATER = np.array([0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707])
_BONE = np.array([1.331, 0.6655, 0.4242, 0.3148, 0.2229, 0.1855])
# Share of the detected energy of a filtered 120 kVp beam around each of these energies.
_DETECTED = np.array([0.04, 0.15, 0.23, 0.25, 0.21, 0.12])
_EFFECTIVE_KEV = 70.0
# Soft tissue reaches up to here; what a pixel has beyond is counted as bone.
_SOFT_HU = 150.0
# Longest water path (line integral) that the correction is made for, and its polynomial degree.
_LONGEST_PATH = 14.0
_DEGREE = 6


def _relative(coefficients: np.ndarray) -> np.ndarray:
    at_effective = np.exp(np.interp(np.log(_EFFECTIVE_KEV), np.log(_ENERGIES_KEV), np.log(coefficients)))
    return coefficients / at_effective


@lru_cache(maxsize=1)
def _water_correction() -> np.ndarray:
    """Coefficients c1..cn of the water path as a polynomial of the reading, without a constant."""
    path = np.linspace(0, _LONGEST_PATH, 400)
    reading = -np.log(np.exp(-np.outer(path, _relative(_WATER))) @ _DETECTED)
    powers = reading[:, None] ** np.arange(1, _DEGREE + 1)
    return np.linalg.lstsq(powers, path, rcond=None)[0]


def bone_hu(hu: torch.Tensor) -> torch.Tensor:
    """Image in HU of the attenuation beyond soft tissue alone (none is -1000 HU)."""
    return mu_to_hu((hu_to_mu(hu) - hu_to_mu(_SOFT_HU)).clamp(min=0))


def water_corrected_error(total: torch.Tensor, bone: torch.Tensor) -> torch.Tensor:
    """Error of the line integrals `total`, of which `bone` is bone's part; tensors of one shape.

    The part in proportion to `bone` is taken off: it would only rescale the bones, whose HU the image
    already has.
    """
    water = (total - bone).clamp(min=0)
    transmitted = torch.zeros_like(total)
    for share, m_w, m_b in zip(_DETECTED, _relative(_WATER), _relative(_BONE), strict=True):
        transmitted += float(share) * torch.exp(-float(m_w) * water - float(m_b) * bone)
    reading = -torch.log(transmitted)
    corrected = torch.zeros_like(total)
    for coefficient in _water_correction()[::-1]:
        corrected = (corrected + float(coefficient)) * reading
    error = corrected - water - bone
    scale = (error * bone).sum() / (bone * bone).sum().clamp(min=1e-6)
    # rays without bone are corrected exactly, but for the polynomial's small misfit
    return torch.where(bone > 0, error - scale * bone, torch.zeros_like(error))
