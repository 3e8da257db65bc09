"""The simulator: what it counts, and the chain back to the phantom it counted."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from decompose_cases import ENERGIES, THRESHOLDS, beam, toy_detector

from ctenhance.decomposition.chain import density_images, material_images
from ctenhance.decomposition.phantom import label_phantom, read_label_phantom, rod_phantom
from ctenhance.decomposition.simulate import Imperfections, noisy_counts, random_drift, simulate
from ctenhance.decomposition.solver.beam import Beam, expected_counts
from ctenhance.decomposition.solver.layer import Decomposer
from ctenhance.physics.detector import PileUp
from ctenhance.physics.geometry import ParallelGeometry
from ctenhance.physics.materials import material
from ctenhance.runtime.errors import InputError
from ctenhance.scan.projections import Projections

BEAM = Beam(beam(5e5), toy_detector(), THRESHOLDS, 120)


def small_case(size: int = 64, n_views: int = 90):
    phantom = rod_phantom(size, 160.0, [{"iodine": 10.0}, {"calcium": 100.0}, {"iodine": 5.0}], rod_mm=34.0)
    geometry = ParallelGeometry.covering(phantom.grid, n_views=n_views)
    return phantom, geometry


def test_air_and_a_known_path_are_counted_as_beer_and_lambert_say() -> None:
    square = label_phantom(torch.ones(32, 32).int().numpy(), [None, "water"], 1.0)
    geometry = ParallelGeometry(1, 33, 1.0, view_angles=(0.0,))
    counts = expected_counts(square, geometry, BEAM.spectra(), ENERGIES)[0, 0]
    mu = material("water").linear_attenuation(ENERGIES)
    through = BEAM.spectra() @ torch.exp(-mu * 32)
    torch.testing.assert_close(counts[16], through, rtol=1e-5, atol=0)


def test_bins_are_independent_or_share_quanta() -> None:
    expected = torch.tensor([900.0, 500.0, 300.0], dtype=torch.float64).expand(200000, 3)
    generator = torch.Generator().manual_seed(0)
    alone, shared = noisy_counts(expected, 0, generator), noisy_counts(expected, 0.3, generator)
    for counts, correlation in ((alone, 0.0), (shared, 0.3)):
        covariance = torch.cov(counts.T)
        torch.testing.assert_close(counts.mean(0), expected[0], rtol=2e-3, atol=0)
        torch.testing.assert_close(covariance.diagonal(), expected[0], rtol=0.02, atol=0)
        assert float(covariance[0, 1]) == pytest.approx(correlation * 900 * 500 / 1700, abs=8)
    with pytest.raises(InputError, match="correlation"):
        noisy_counts(expected, 0.9, generator)


def test_a_scan_goes_through_its_file_and_back_to_the_phantom(tmp_path: Path) -> None:
    phantom, geometry = small_case()
    scan = simulate(phantom, geometry, BEAM, noise=False)
    scan.write(tmp_path / "scan.ctproj.h5")
    again = Projections.read(tmp_path / "scan.ctproj.h5")
    assert again.n_bins == 5
    assert again.meta["kvp"] == 120
    decomposer = Decomposer(
        ["water", "iodine", "calcium"], torch.from_numpy(again.effective_spectra), ENERGIES
    )
    counts = torch.from_numpy(again.rows(0, 1).counts)[:, 0]
    lines = decomposer.estimate(counts).lines
    images = density_images(lines, again.scan_geometry(), again.image_grid(), "soft")
    assert images.shape == (3, 64, 64)
    for insert in phantom.inserts:
        inside = phantom.inside(insert)
        for index, what in enumerate(("water", "iodine", "calcium")):
            truth = float(phantom.map(what)[0][inside].mean())
            assert float(1000 * images[index][inside].mean()) == pytest.approx(
                truth, abs={"water": 15, "iodine": 0.2, "calcium": 2}[what]
            )


def test_the_same_seed_gives_the_same_counts_and_noise_can_be_left_out() -> None:
    phantom, geometry = small_case(48, 20)
    one, two = (simulate(phantom, geometry, BEAM, seed=3).counts for _ in range(2))
    assert (one == two).all()
    clean = simulate(phantom, geometry, BEAM, noise=False).counts
    assert not (clean == one).all()
    assert float(abs(clean - one).mean() / clean.mean()) < 0.05


def test_drift_and_pile_up_change_the_counts_but_not_the_calibration() -> None:
    phantom, geometry = small_case(48, 20)
    shifts = random_drift(geometry.n_columns, 6, 0.7, seed=2)
    assert float(shifts.std()) == pytest.approx(0.7, rel=0.15)
    clean = simulate(phantom, geometry, BEAM, noise=False)
    drifted = simulate(phantom, geometry, BEAM, Imperfections(drift_kev=shifts), noise=False)
    assert (drifted.air_counts == clean.air_counts).all()
    assert float(abs(drifted.counts / clean.counts - 1).max()) > 0.01
    lossy = Imperfections(pile_up=PileUp(20e-9, 0.1))
    lost = simulate(phantom, geometry, BEAM, lossy, noise=False)
    restored = lossy.pile_up.corrected(torch.from_numpy(lost.counts).double())
    torch.testing.assert_close(restored, torch.from_numpy(clean.counts).double(), rtol=1e-5, atol=1e-2)
    with pytest.raises(InputError, match="shifts for 7 columns"):
        simulate(phantom, geometry, BEAM, Imperfections(drift_kev=shifts[:7]))


def test_the_chain_is_differentiable_from_thresholds_to_image() -> None:
    phantom, geometry = small_case(24, 24)
    counts = torch.from_numpy(simulate(phantom, geometry, BEAM, noise=False).counts)[:, 0].double()
    decomposer = Decomposer(["water", "iodine"], BEAM.spectra(), ENERGIES)
    weight = torch.randn(2, 24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(shift: torch.Tensor) -> torch.Tensor:
        images = material_images(
            counts, decomposer, geometry, phantom.grid, "soft", BEAM.spectra(shift), tolerance=1e-11
        )
        return (images * weight).sum()

    shift = torch.zeros(geometry.n_columns, 6, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(shift), shift)
    direction = torch.randn(shift.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        step = 1e-3
        finite = (loss(shift + step * direction) - loss(shift - step * direction)) / (2 * step)
    assert float((slope * direction).sum()) == pytest.approx(float(finite), rel=1e-5)


def test_the_anthropomorphic_slab(shared_data: Path) -> None:
    path = shared_data / "xcist" / "chest_slab_female_labels_0p25mm.npz"
    if not path.is_file():
        pytest.skip("XCIST's phantoms are not here")
    phantom = read_label_phantom(path, 128, contrast_mg_ml=8.0)
    assert phantom.densities.shape[-2:] == (128, 128)
    assert 0.2 < float(phantom.densities.sum(0).max()) < 2.0
    assert float(phantom.map("iodine").max()) == pytest.approx(8.0, rel=1e-4)
    lung = phantom.map("lung")
    assert float(lung.max()) == pytest.approx(260, rel=1e-4)
    assert math.isclose(phantom.pixel_mm, 0.25 * 14)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rod_phantom(64, 100.0, rod_mm=40.0), "do not fit"),
        (lambda: Beam(beam(), toy_detector(), torch.tensor([20.0, 15.0]), 120), "out of order"),
        (lambda: Beam(beam(), toy_detector(), torch.tensor([20.0, 90.0, 120.0]), 80), "highest bin"),
        (lambda: label_phantom(torch.full((4, 4), 5).numpy(), [None, "water"], 1.0), "labels"),
        (lambda: rod_phantom(64).map("gold"), "no gold"),
    ],
)
def test_refusals(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
