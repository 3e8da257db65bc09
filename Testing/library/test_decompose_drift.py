"""Drift of thresholds: found from a phantom or an earlier scan; its rings removed without either."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from decompose_cases import ENERGIES, THRESHOLDS, beam, toy_detector

from ctenhance.decomposition.calibration import drift_fit
from ctenhance.decomposition.calibration.drift import (
    ThresholdShifts,
    _air_rays,
    calibrate_with_phantom,
    calibrate_with_scan,
    calibrate_without_reference,
)
from ctenhance.decomposition.calibration.rings import ring_part
from ctenhance.decomposition.calibration.thresholds import DriftCalibration
from ctenhance.decomposition.chain import density_images
from ctenhance.decomposition.inference import decompose
from ctenhance.decomposition.phantom import rod_phantom
from ctenhance.decomposition.simulate import Beam, Imperfections, random_drift, simulate
from ctenhance.decomposition.solver.layer import Decomposer
from ctenhance.physics.detector import ideal_detector
from ctenhance.physics.geometry import ParallelGeometry
from ctenhance.runtime.errors import InputError

BEAM = Beam(beam(2e6), toy_detector(), THRESHOLDS, 120)
BASIS = ("water", "iodine")


class Case:
    """A scan before and after a drift of 0.7 keV, and the truth."""

    def __init__(self, second_rod: dict[str, float]) -> None:
        self.phantom = rod_phantom(64, 160.0, [{"iodine": 10.0}, second_rod, {"iodine": 5.0}], rod_mm=34.0)
        self.geometry = ParallelGeometry.covering(self.phantom.grid, n_views=180)
        self.shifts = random_drift(self.geometry.n_columns, 6, 0.7, 0.2, seed=5)
        self.shifts[:, -1] = 0  # the tube voltage ends the last bin
        self.before = simulate(self.phantom, self.geometry, BEAM, seed=1)
        self.after = simulate(self.phantom, self.geometry, BEAM, Imperfections(drift_kev=self.shifts), seed=2)

    def error(self, found: torch.Tensor, columns: slice = slice(None)) -> float:
        """RMSE in keV over the thresholds that quanta reach."""
        return float((found - self.shifts)[columns, :5].square().mean().sqrt())

    def images(self, scan, spectra: torch.Tensor) -> torch.Tensor:
        counts = torch.from_numpy(scan.counts)[:, 0]
        return 1000 * density_images(
            Decomposer(BASIS, spectra, ENERGIES).estimate(counts).lines, self.geometry, self.phantom.grid
        )


@pytest.fixture(scope="module")
def case() -> Case:
    """With calcium, which is not in the basis."""
    return Case({"calcium": 150.0})


@pytest.fixture(scope="module")
def described() -> Case:
    """With what the basis describes alone."""
    return Case({"iodine": 2.0})


def assert_errors_are_told(found: ThresholdShifts, case: Case, columns: slice = slice(None)) -> None:
    """What the fit says of its errors is what they are, for thresholds that quanta reach."""
    pulls = ((found.shifts - case.shifts) / found.errors)[columns, :5]
    assert 0.8 < float(pulls.square().mean().sqrt()) < 1.25


def test_a_known_phantom_gives_the_shifts(case: Case) -> None:
    found = calibrate_with_phantom(case.after, BEAM, case.phantom)
    assert case.error(torch.zeros_like(case.shifts)) > 0.5
    assert case.error(found.shifts) < 0.05
    assert bool((found.shifts[:, -1].abs() < 1e-6).all())
    assert_errors_are_told(found, case)


def test_a_scan_before_the_drift_gives_the_shifts(case: Case) -> None:
    # the scan before knows what the basis materials do not describe
    found = calibrate_with_scan(case.after, case.before, BEAM, BASIS)
    assert case.error(found.shifts) < 0.05
    assert_errors_are_told(found, case)


def test_the_earlier_scan_may_be_of_another_exposure(case: Case) -> None:
    stronger = Beam(beam(6e6), toy_detector(), THRESHOLDS, 120)
    before = simulate(case.phantom, case.geometry, stronger, seed=1)
    assert case.error(calibrate_with_scan(case.after, before, BEAM, BASIS).shifts) < 0.045


def test_of_very_many_rays_some_are_enough(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_fit, "MOST_RAYS", 60)
    found = calibrate_with_scan(case.after, case.before, BEAM, BASIS)
    assert 0.03 < case.error(found.shifts) < 0.09
    assert_errors_are_told(found, case)


def test_rings_go_without_a_reference(case: Case) -> None:
    found = calibrate_without_reference(case.after, BEAM, BASIS, case.phantom.grid)
    rod = case.phantom.inside(case.phantom.inserts[0])
    drifted, corrected, best = (
        case.images(case.after, BEAM.spectra(shifts)) for shifts in (None, found.shifts, case.shifts)
    )
    for material in (0, 1):
        worse, left, floor = (float(x[material][rod].var()) for x in (drifted, corrected, best))
        assert worse > 4 * floor
        assert left - floor < 0.1 * (worse - floor)
    assert float(corrected[1][rod].mean()) == pytest.approx(10.0, abs=0.4)


def test_without_a_reference_the_errors_tell_which_shifts_are_found(described: Case) -> None:
    case = described
    found = calibrate_without_reference(case.after, BEAM, BASIS, case.phantom.grid)
    # channels that see air alone know all their shifts; behind the object, two combinations stay open
    aside, behind = slice(0, 8), slice(30, 60)
    assert case.error(found.shifts, aside) < 0.03
    assert float(found.errors[aside, :5].max()) < 0.2
    told = float(found.errors[behind, :5].square().mean().sqrt())
    assert told > 0.25
    assert case.error(found.shifts, behind) < 1.2 * told


def test_without_drift_and_reference_next_to_nothing_is_found(described: Case) -> None:
    """Round by round noise and the rods must not add up to shifts that are not there."""
    case = described
    found = calibrate_without_reference(case.before, BEAM, BASIS, case.phantom.grid)
    assert float(found.shifts[:, :5].square().mean().sqrt()) < 0.16
    none, own = (case.images(case.before, BEAM.spectra(shifts)) for shifts in (None, found.shifts))
    for rod in (case.phantom.inside(insert) for insert in case.phantom.inserts):
        assert float(own[1][rod].mean()) == pytest.approx(float(none[1][rod].mean()), abs=0.2)


def test_a_body_that_leaves_the_field_of_view_is_no_air(case: Case) -> None:
    matter = torch.zeros(1, 64, 64)
    matter[:, 20:40, 20:40] = 1
    assert bool(_air_rays(matter, case.geometry, case.phantom.grid, None).any())
    matter[:, 20:40] = 1
    assert not bool(_air_rays(matter, case.geometry, case.phantom.grid, None).any())


def test_rings_are_told_from_rods() -> None:
    phantom = rod_phantom(96, 200.0, [{"iodine": 20.0}] * 3, rod_mm=30.0)
    axis = torch.arange(96) - 47.5
    radius = (axis[:, None] ** 2 + axis**2).sqrt()
    rings = 0.02 * ((radius - 15).abs() < 0.7) - 0.03 * ((radius - 24).abs() < 0.7)
    generator = torch.Generator().manual_seed(0)
    noise = 0.01 * torch.randn(96, 96, generator=generator)
    water = phantom.map("water")[0] / 1000
    found = ring_part((water + rings + noise)[None], water)[0]
    for r, truth in ((15, 0.02), (24, -0.03)):
        # two interpolations and the median keep half of a ring a pixel wide; rounds bring the rest
        assert 0.3 < float(found[(radius - r).abs() < 0.5].mean()) / truth < 1.1
    elsewhere = (radius - 19.5).abs() < 2
    assert float(found[elsewhere].abs().mean()) < 0.3 * 0.01
    # the rods and the rim are no rings
    clean = ring_part(water[None], water)[0]
    assert float(clean.abs().max()) < 0.002


def test_the_file_keeps_the_calibration_and_decomposes_with_it(case: Case, tmp_path: Path) -> None:
    DriftCalibration.of(case.shifts, BEAM).write(tmp_path / "drift.h5")
    again = DriftCalibration.read(tmp_path / "drift.h5")
    assert again.reference == "given"
    assert (again.standard_errors_kev == 0).all()
    spectra = again.spectra_for(case.after)
    torch.testing.assert_close(spectra, BEAM.spectra(case.shifts), rtol=1e-5, atol=1e-2)
    rod = case.phantom.inside(case.phantom.inserts[0])
    assert float(case.images(case.after, spectra)[1][rod].mean()) == pytest.approx(10.0, abs=0.3)


def test_a_calibration_is_used_on_its_own_energies(case: Case) -> None:
    calibration = DriftCalibration.of(case.shifts, BEAM)
    scan = replace(case.after, energies_keV=np.arange(1.0, 121.0))  # as another program has them
    found, expected = (
        decompose(one, calibration=calibration).volumes["iodine"].array for one in (scan, case.after)
    )
    assert np.array_equal(found, expected)


def test_what_does_not_fit_is_refused(case: Case, tmp_path: Path) -> None:
    other = Beam(beam(2e6), ideal_detector(ENERGIES), THRESHOLDS, 120)
    with pytest.raises(InputError, match="effective spectra are not those"):
        calibrate_with_phantom(case.after, other, case.phantom)
    fewer = Beam(beam(2e6), toy_detector(), THRESHOLDS[:4], 120)
    with pytest.raises(InputError, match="5 energy bins but the thresholds make 3"):
        calibrate_without_reference(case.after, fewer, BASIS, case.phantom.grid)
    calibration = DriftCalibration.of(case.shifts[:9], BEAM)
    with pytest.raises(InputError, match="9 detector columns"):
        calibration.spectra_for(case.after)
    (tmp_path / "text.h5").write_text("nothing")
    with pytest.raises(InputError, match="Cannot read the calibration"):
        DriftCalibration.read(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.attrs["format"] = "ctproj"
    with pytest.raises(InputError, match="no drift calibration"):
        DriftCalibration.read(tmp_path / "other.h5")
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file.attrs.update(format="ctdrift", version=2)
    with pytest.raises(InputError, match="lacks '/shifts_keV'"):
        DriftCalibration.read(tmp_path / "part.h5")
    calibration = DriftCalibration.of(case.shifts, BEAM)
    case.after.meta["kvp"] = 80
    try:
        with pytest.raises(InputError, match="120 kV but the scan at 80 kV"):
            calibration.spectra_for(case.after)
        case.after.meta["kvp"] = "120 kV"
        with pytest.raises(InputError, match="at 120 kV but the scan at 120 kV kV"):
            calibration.spectra_for(case.after)
    finally:
        case.after.meta["kvp"] = 120
