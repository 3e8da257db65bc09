"""A photon-counting beam for the tests of decomposition, and counts that none of the package's code made."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from ctenhance.decomposition.solver.layer import Decomposer
from ctenhance.physics.detector import Detector, ideal_detector, read_detector
from ctenhance.physics.spectrum import energy_grid, tube_spectrum

ENERGIES = energy_grid(120)
THRESHOLDS = torch.tensor([20.0, 35.0, 50.0, 65.0, 80.0, 120.0], dtype=torch.float64)
QUANTA = 2e5


def beam(quanta: float = QUANTA) -> torch.Tensor:
    """Quanta per keV in air at 120 kV."""
    spectrum = tube_spectrum(120, energies_kev=ENERGIES)
    return spectrum * (quanta / spectrum.sum())


def toy_detector() -> Detector:
    """An ideal peak over a flat tail of a third of the counts: no file needed."""
    n = len(ENERGIES)
    tail = torch.tril(torch.ones(n, n, dtype=torch.float64)) / torch.arange(1, n + 1)[:, None]
    return Detector(0.67 * ideal_detector(ENERGIES).response + 0.33 * tail, ENERGIES)


def decomposer(materials=("water", "iodine"), thresholds: torch.Tensor = THRESHOLDS, **options) -> Decomposer:
    """The decomposer of that beam and detector."""
    return Decomposer(materials, toy_detector().effective_spectra(beam(), thresholds), ENERGIES, **options)


class PublishedBeam:
    """XCIST's CZT response and tungsten spectrum, and counts from them by plain numpy and xraydb."""

    def __init__(self, shared_data: Path, quanta: float = QUANTA) -> None:
        folder = shared_data / "xcist"
        if not folder.is_dir():
            pytest.skip("XCIST's data are not here")
        import xraydb
        from scipy.io import loadmat

        self.path = folder / "PC_spectral_response_CZT0.25x0.25x1.6.mat"
        response = loadmat(self.path)["res_mat"][:120, :120]
        table = np.loadtxt(folder / "spectrum" / "tungsten_tar7.0_120_filt.dat", delimiter=",", skiprows=1)
        quanta_per_kev = table[:, 1].reshape(-1, 2).sum(1)  # half-keV lines
        kev = np.arange(120) + 0.5
        fractions = {"H": 0.111898, "O": 0.888102}
        water = sum(part * xraydb.mu_elam(e, 1000 * kev) for e, part in fractions.items())
        self.attenuation = np.stack([water, xraydb.mu_elam("I", 1000 * kev)])
        aluminium = np.exp(-xraydb.mu_elam("Al", 1000 * kev) * 2.699 * 0.3)
        czt = sum(p * xraydb.mu_elam(e, 1000 * kev) for e, p in (("Cd", 0.433), ("Zn", 0.028), ("Te", 0.539)))
        arriving = quanta_per_kev * aluminium
        arriving *= quanta / arriving.sum()
        detected = (arriving * (1 - np.exp(-czt * 5.78 * 0.16)))[:, None] * response
        edges = THRESHOLDS.int().tolist()
        self.spectra = np.stack([detected[:, a:b].sum(1) for a, b in itertools.pairwise(edges)])
        self.arriving = torch.from_numpy(arriving)

    def counts(self, water: float, iodine: float) -> np.ndarray:
        """Expected counts [bin] behind so many g/cm²."""
        return self.spectra @ np.exp(-(water * self.attenuation[0] + iodine * self.attenuation[1]))

    def decomposer(self) -> Decomposer:
        """The package's own, from the file; thresholds as hard as the published bins."""
        detector = read_detector(self.path, ENERGIES, edge_kev=0.01).with_efficiency("czt", 1.6)
        return Decomposer(
            ("water", "iodine"), detector.effective_spectra(self.arriving, THRESHOLDS), ENERGIES
        )
