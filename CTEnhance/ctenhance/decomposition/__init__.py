"""From photon-counting bins to material maps and spectral images: maximum likelihood, made differentiable."""

from __future__ import annotations

from ctenhance.decomposition.inference import BASIS, absolute_spectra, decompose, vmi_name
from ctenhance.decomposition.solver.layer import Decomposer

__all__ = ["BASIS", "Decomposer", "absolute_spectra", "decompose", "vmi_name"]
