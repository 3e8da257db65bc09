"""Detector responses, thresholds and pile-up: conservation, derivatives, the published matrix, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ctenhance.physics.detector import (
    Detector,
    PileUp,
    check_thresholds,
    ideal_detector,
    read_detector,
    threshold_windows,
)
from ctenhance.physics.detector_models import SENSORS, detector, detector_model
from ctenhance.physics.materials import material
from ctenhance.physics.spectrum import energy_grid, tube_spectrum
from ctenhance.runtime.errors import InputError

ENERGIES = energy_grid()


def matrix_of_xcist(shared_data: Path) -> Path:
    path = shared_data / "xcist" / "PC_spectral_response_CZT0.25x0.25x1.6.mat"
    if not path.is_file():
        pytest.skip("XCIST's response matrix is not here")
    return path


def test_windows_divide_the_axis_among_the_bins() -> None:
    windows = threshold_windows(torch.tensor([20.3, 51.0, 90.6]), ENERGIES)
    inside = (ENERGIES > 26) & (ENERGIES < 85)
    torch.testing.assert_close(windows.sum(0)[inside], torch.ones_like(ENERGIES[inside]), atol=1e-5, rtol=0)
    # as many keV as lie between the thresholds, whatever their place on the grid
    torch.testing.assert_close(windows.sum(1), torch.tensor([30.7, 39.6], dtype=torch.float64))


@pytest.mark.parametrize("threshold", [49.5, 50.0, 50.21])
def test_a_threshold_moves_counts_by_the_density_at_it(threshold: float) -> None:
    detector_ = ideal_detector(ENERGIES)
    flat = torch.ones_like(ENERGIES)
    thresholds = torch.tensor([20.0, threshold, 110.0], dtype=torch.float64, requires_grad=True)
    low, _ = detector_.effective_spectra(flat, thresholds).sum(-1)
    (slope,) = torch.autograd.grad(low, thresholds)
    torch.testing.assert_close(slope, torch.tensor([-1.0, 1.0, 0.0], dtype=torch.float64), atol=1e-9, rtol=0)


def test_the_published_matrix_has_its_row_sums(shared_data: Path) -> None:
    response = read_detector(matrix_of_xcist(shared_data)).response
    sums = response.sum(1)[[30, 60, 90, 120]]
    torch.testing.assert_close(
        sums, torch.tensor([1.69, 2.02, 2.14, 2.18], dtype=torch.float64), atol=0.03, rtol=0
    )
    above = response[:, 20:].sum(1)[[30, 60, 90, 120]]
    torch.testing.assert_close(
        above, torch.tensor([0.69, 1.19, 1.36, 1.41], dtype=torch.float64), atol=0.03, rtol=0
    )


def test_the_own_czt_model_resembles_the_published_one(shared_data: Path) -> None:
    published = read_detector(matrix_of_xcist(shared_data)).with_efficiency("czt", 1.6)
    own = detector("czt", ENERGIES)
    beam = tube_spectrum(120)
    beam = beam / beam.sum()
    thresholds = torch.tensor([20.0, 35.0, 55.0, 75.0, 150.0])
    ours, theirs = (d.effective_spectra(beam, thresholds).sum(-1) for d in (own, published))
    # two models of one pixel, made independently: the share of each bin agrees to some per cent of the whole
    torch.testing.assert_close(ours / ours.sum(), theirs / theirs.sum(), atol=0.08, rtol=0)


@pytest.mark.parametrize("name", SENSORS)
def test_a_sensor_counts_no_energy_twice(name: str) -> None:
    model = detector_model(name, ENERGIES, samples=2048)
    rows = torch.tensor([40, 60, 80, 100])
    deposited = (model.response[rows] * ENERGIES).sum(1)
    stuff, sensor = material(SENSORS[name].material), SENSORS[name]
    photo, compton = (
        stuff.mass_attenuation(ENERGIES[rows], kind) * 0.1 * stuff.density for kind in ("photo", "incoh")
    )
    stopped = ENERGIES[rows] * (1 - torch.exp(-(photo + compton) * sensor.thickness_mm))
    assert bool((deposited < 1.03 * stopped).all())
    if name != "silicon":  # photo-absorption: most of the energy stays
        assert bool((deposited > 0.75 * stopped).all())
        peak = model.response[80, 60:90].argmax() + 60
        assert abs(int(peak) - 80) <= 1
    else:  # Compton: most events leave a recoil below 40 keV
        assert float(model.response[100, :40].sum()) > float(model.response[100, 90:].sum())


def test_sharing_makes_more_pulses_than_quanta_and_ideal_does_not() -> None:
    assert float(detector("czt", ENERGIES).response[90, 10:].sum()) > 1.1
    spectrum = tube_spectrum(120)
    counted = detector("ideal", ENERGIES).effective_spectra(spectrum, torch.tensor([5.0, 60.0, 155.0]))
    torch.testing.assert_close(counted.sum(0), spectrum, rtol=1e-6, atol=1e-3)


def test_a_model_counts_alike_on_whatever_energies_1_kev_apart(tmp_path: Path) -> None:
    thresholds = torch.tensor([20.0, 35.0, 50.0, 65.0, 80.0, 120.0])
    grid = energy_grid(120)
    usual = detector_model("cdte", grid)
    trimmed = detector_model("cdte", grid[20:])
    torch.testing.assert_close(trimmed.response, usual.response[20:, 20:])
    whole = torch.arange(1, 121, dtype=torch.float64)
    counts, shifted = (
        model.effective_spectra(tube_spectrum(120, energies_kev=kev), thresholds).sum(-1)
        for model, kev in ((usual, grid), (detector_model("cdte", whole), whole))
    )
    torch.testing.assert_close(shifted, counts, rtol=2e-3, atol=0)
    with pytest.raises(InputError, match="of cdte is known at energies 1 keV apart"):
        detector_model("cdte", torch.arange(1.0, 120.0, 2.0, dtype=torch.float64))
    np.save(tmp_path / "response.npy", usual.response.numpy())
    with pytest.raises(InputError, match=r"'response\.npy' is of bins at 0\.5, 1\.5, .* are 1, 2, …"):
        detector(tmp_path / "response.npy", whole)


def test_pile_up_is_undone_and_differentiable() -> None:
    pile_up = PileUp(dead_time_s=20e-9, view_time_s=2e-4)
    true = torch.tensor([[900.0, 700.0], [3000.0, 2500.0], [0.0, 0.0]], dtype=torch.float64)
    seen = pile_up.observed(true)
    assert bool((seen[:2] < true[:2]).all())
    torch.testing.assert_close(pile_up.corrected(seen), true, rtol=1e-9, atol=1e-9)
    assert torch.autograd.gradcheck(pile_up.corrected, (seen[:2].clone().requires_grad_(),))
    with pytest.raises(InputError, match="saturated"):
        pile_up.corrected(torch.tensor([[5000.0, 5000.0]]))


@pytest.mark.parametrize(
    ("thresholds", "kvp", "message"),
    [
        ([20.0, 50.0, 40.0], None, "out of order"),
        ([20.0], None, "at least two"),
        ([-1.0, 20.0], None, "above zero"),
        ([20.0, 90.0, 120.0], 80.0, "highest bin begins at 90 keV"),
    ],
)
def test_thresholds_are_checked(thresholds, kvp, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_thresholds(thresholds, kvp)


def test_a_response_that_is_none_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "r.npy", np.ones((4, 5)))
    with pytest.raises(InputError, match="square matrix"):
        read_detector(tmp_path / "r.npy")
    np.savetxt(tmp_path / "r.csv", np.eye(30), delimiter=",")
    assert read_detector(tmp_path / "r.csv").response.shape == (30, 30)
    with pytest.raises(InputError, match="ends at 30 keV"):
        read_detector(tmp_path / "r.csv", ENERGIES)
    (tmp_path / "r.mat").write_text("no matrix")
    with pytest.raises(InputError, match="Cannot read"):
        read_detector(tmp_path / "r.mat")
    with pytest.raises(InputError, match="negative"):
        Detector(-torch.eye(160, dtype=torch.float64), ENERGIES)
    with pytest.raises(InputError, match="no detector 'cds'"):
        detector("cds", ENERGIES)
