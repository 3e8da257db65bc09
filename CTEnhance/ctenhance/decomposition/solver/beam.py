"""The beam of a photon-counting scan, and what of it passes an object without being scattered."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ctenhance.decomposition.phantom import MaterialPhantom
from ctenhance.physics.detector import Detector, check_thresholds
from ctenhance.physics.geometry import ScanGeometry
from ctenhance.physics.materials import attenuation_matrix
from ctenhance.physics.projector import project
from ctenhance.runtime.progress import Cancellable, check


@dataclass(frozen=True)
class Beam:
    """What arrives at and is counted by the detector.

    `spectrum` quanta per keV of one ray in air `[energy]`; `detector`; `thresholds_kev` `[bin + 1]`; `kvp`.
    Raises InputError for thresholds that do not fit.
    """

    spectrum: torch.Tensor
    detector: Detector
    thresholds_kev: torch.Tensor
    kvp: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds_kev", check_thresholds(self.thresholds_kev, self.kvp))

    def spectra(self, shifts_kev: torch.Tensor | None = None) -> torch.Tensor:
        """Detected quanta per keV `[bin, energy]`, or `[column, bin, energy]` with threshold shifts `[column,
        bin + 1]`; differentiable in the shifts."""
        thresholds = self.thresholds_kev if shifts_kev is None else self.thresholds_kev + shifts_kev
        return self.detector.effective_spectra(self.spectrum, thresholds)


def expected_counts(
    phantom: MaterialPhantom,
    scan: ScanGeometry,
    spectra: torch.Tensor,
    energies_kev: torch.Tensor,
    cancel: Cancellable | None = None,
) -> torch.Tensor:
    """Primary counts `[slice, view, column, bin]` float64, over all energies (no quadrature)."""
    mu = attenuation_matrix(list(phantom.materials), energies_kev)
    result = []
    for index in range(phantom.densities.shape[1]):
        # g/cm³ along mm is 0.1 g/cm²
        lines = project(phantom.densities[:, index], scan, phantom.grid, cancel).double() * 0.1
        views = []
        for start in range(0, lines.shape[1], 16):
            check(cancel)
            passed = torch.exp(-torch.einsum("mvc,me->vce", lines[:, start : start + 16], mu))
            form = "vce,je->vcj" if spectra.ndim == 2 else "vce,cje->vcj"
            views.append(torch.einsum(form, passed, spectra))
        result.append(torch.cat(views))
    return torch.stack(result)
