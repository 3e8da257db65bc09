"""Noisy counts: their mean and variance, bowtie, tube current and dose, in parallel and fan geometries."""

from __future__ import annotations

import math

import pytest
import torch

from ctenhance.physics.geometry import FanGeometry, ParallelGeometry, even_angles
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.noise import bowtie_fluence, noise_fields, noisy_counts, tube_modulation
from ctenhance.runtime.errors import InputError

FAN = FanGeometry("equiangular", 595.0, 1085.6, 2.0 / 1085.6, 360, 180.0, even_angles(40))
GRID = ImageGrid(20, 24, 8.0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_counts_have_the_mean_and_variance_of_theory() -> None:
    p = torch.linspace(0, 6, 30).expand(20000, 30)
    bowtie, current = torch.linspace(1, 0.4, 30), torch.ones(20000) * 0.8
    counts = noisy_counts(p, 4000.0, 25.0, seeded(1), bowtie, current, dose=0.25)
    assert counts.dtype == torch.float32
    expected = 4000 * 0.25 * 0.8 * bowtie * torch.exp(-p[0])
    tolerance = 5 * ((expected + 25) / 20000).sqrt()
    assert bool(((counts.mean(0) - expected).abs() < tolerance).all())
    assert float((counts.var(0) / (expected + 25) - 1).abs().max()) < 0.06
    assert float(counts.min()) < 0  # electronic noise on a starved ray


def test_counts_repeat_with_the_seed() -> None:
    p = torch.rand(50, 60) * 5
    draws = [noisy_counts(p, 1e5, 10.0, seeded(seed)) for seed in (4, 4, 5)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("dose", [0.0, -1.0, math.nan])
def test_a_dose_that_is_none_is_refused(dose: float) -> None:
    with pytest.raises(InputError, match="positive fraction"):
        noisy_counts(torch.zeros(2, 2), 1e5, dose=dose)


def test_a_fans_bowtie_follows_its_rays() -> None:
    """Equal distances from the isocentre get equal fluence, whatever the geometry."""
    fluence = bowtie_fluence(FAN, 0.7, 160.0)
    assert float(fluence[180]) == pytest.approx(1)
    distance = float(FAN.ray_offsets_mm()[250])
    parallel = ParallelGeometry(4, 3, distance)
    assert float(fluence[250]) == pytest.approx(float(bowtie_fluence(parallel, 0.7, 160.0)[2]), rel=1e-6)
    assert float(fluence[0]) < 0.2


def test_a_fans_noise_follows_the_long_axis() -> None:
    hu = torch.full((1, 20, 24), -1000.0)
    hu[0, 7:13, 3:21] = 0.0
    p_peak_views = tube_modulation(torch.rand(3, 40, 360), 0.5)
    torch.testing.assert_close(p_peak_views.mean(-1), torch.ones(3))
    plain, _ = noise_fields(hu.expand(40, -1, -1), FAN, GRID, "hann", generator=seeded(2))
    modulated, _ = noise_fields(hu.expand(40, -1, -1), FAN, GRID, "hann", modulation=0.5, generator=seeded(2))
    body = hu[0] == 0
    assert float(modulated[:, body].std()) < float(plain[:, body].std())
