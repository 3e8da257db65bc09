"""Beam hardening in water: known spectra are corrected before reconstruction, and the data check knows it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from ctenhance.core.volume import CTVolume
from ctenhance.physics.materials import material
from ctenhance.physics.spectrum import energy_grid, tube_spectrum
from ctenhance.physics.units import MU_WATER_PER_MM
from ctenhance.physics.water import WaterCorrection
from ctenhance.reconstruction import reconstruct
from ctenhance.reconstruction.readings import water_correction
from ctenhance.runtime.errors import InputError
from ctenhance.scan.projections import Projections
from ctenhance.scan.simulate import simulate_projections

SIZE, PIXEL, RADIUS = 128, 2.5, 125.0
SCAN = {"views": 240, "columns": 368, "device": "cpu"}
ENERGIES = energy_grid().numpy()
SHARES = (tube_spectrum(120) * energy_grid()).numpy()


def cylinder(hu: float = 0.0) -> CTVolume:
    y, x = (np.indices((SIZE, SIZE)) - (SIZE - 1) / 2) * PIXEL
    plane = np.where(np.hypot(x, y) < RADIUS, hu, -1000.0).astype(np.float32)
    return CTVolume(plane[None], (PIXEL, PIXEL, 3.0))


def rings(image: np.ndarray) -> list[float]:
    """Mean HU from the middle outwards, the edge left out."""
    y, x = (np.indices((SIZE, SIZE)) - (SIZE - 1) / 2) * PIXEL
    radius = np.hypot(x, y)
    edges = np.linspace(0, RADIUS - 10, 7)
    return [float(image[(radius >= a) & (radius < b)].mean()) for a, b in pairwise(edges)]


def test_a_water_cylinder_is_flat_and_of_zero_hu() -> None:
    p = simulate_projections(cylinder(), photons=None, polychromatic=True, kvp=80, **SCAN)
    flat = rings(reconstruct(p, method="fbp", device="cpu").volumes["reconstruction"].array[0])
    assert flat == pytest.approx([0.0] * 6, abs=2)
    p.effective_spectra = p.energies_keV = None
    cup = rings(reconstruct(p, method="fbp", device="cpu").volumes["reconstruction"].array[0])
    assert cup[-1] - cup[0] > 20


def test_a_file_of_counts_is_corrected_and_agrees_with_its_own_data(tmp_path: Path) -> None:
    path = tmp_path / "scan.ctproj.h5"
    simulate_projections(cylinder(50.0), polychromatic=True, bowtie=0.5, seed=1, **SCAN).write(path)
    p = Projections.read(path)
    result = reconstruct(p, method="fbp", residual=True, device="cpu")
    assert rings(result.volumes["reconstruction"].array[0]) == pytest.approx([50.0] * 6, abs=3)
    assert result.report["details"]["water_correction"] == "from the file's effective_spectra"
    assert result.report["details"]["data_consistency"]["consistent"]
    assert rings(result.maps["residual"].array[0]) == pytest.approx([0.0] * 6, abs=3)


def test_bins_count_together_as_they_do_in_air() -> None:
    low, high = np.where(ENERGIES < 60, SHARES, 0), np.where(ENERGIES >= 60, SHARES, 0)
    path = torch.tensor([0.0, 100.0, 300.0], dtype=torch.float64)
    mu = material("water").linear_attenuation(energy_grid())
    through = torch.exp(-path[:, None] * mu)
    bins = torch.stack([(through * torch.from_numpy(part)).sum(1) for part in (low, high)], -1)
    p = Projections(
        geometry="parallel",
        view_angles=np.linspace(0, np.pi, 30),
        central_column=1.0,
        counts=np.broadcast_to(bins[None, None].float().numpy(), (30, 1, 3, 2)),
        air_counts=bins[0].numpy(),
        column_pitch_mm=100.0,
        # each bin of a scale of its own, as files may have them
        effective_spectra=np.stack([low / low.sum(), 7 * high]),
        energies_keV=ENERGIES,
    )
    water = water_correction(p, MU_WATER_PER_MM)
    assert water is not None
    corrected = water.corrected(p.to_line_integrals())[0, 0]
    assert corrected.numpy() == pytest.approx(MU_WATER_PER_MM * path.numpy(), rel=1e-4, abs=1e-5)


def test_both_ways_lead_back_and_go_on_beyond_the_table() -> None:
    water = WaterCorrection(ENERGIES, SHARES, MU_WATER_PER_MM)
    p = torch.linspace(-1, 25, 999)
    assert water.measured(water.corrected(p)).numpy() == pytest.approx(p.numpy(), rel=1e-4, abs=1e-4)
    assert bool((water.corrected(p).diff() > 0).all())
    assert float(water.corrected(torch.zeros(()))) == 0.0


def test_one_energy_needs_no_correction() -> None:
    water = WaterCorrection(np.array([60.0, 70.0]), np.array([0.0, 1.0]), 0.02)
    mu = float(material("water").linear_attenuation(torch.tensor([70.0])))
    assert water.corrected(torch.tensor([3.0])).item() == pytest.approx(3.0 * 0.02 / mu, rel=1e-5)


def test_refuses_energies_that_no_table_has() -> None:
    with pytest.raises(InputError, match="energies_keV"):
        WaterCorrection(np.array([0.0, 70.0]), np.array([0.5, 0.5]), 0.02)
