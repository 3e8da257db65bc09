"""From photon-counting bins to material maps and spectral images: maximum likelihood, made differentiable."""

from __future__ import annotations

from ctenhance.decomposition.inference import absolute_spectra, decompose
from ctenhance.decomposition.solver.layer import Decomposer

__all__ = ["Decomposer", "absolute_spectra", "decompose"]
