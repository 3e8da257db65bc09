"""The cascade on a small scan: what it returns, that batches and runs agree, and how it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reconstruct_scan import (
    COLUMNS,
    GRID,
    PIXEL,
    QUANTA,
    ROWS,
    SIDE,
    anatomy,
    geometry,
    measured,
    small_models,
)

import ctenhance
from ctenhance.options import ReconstructOptions
from ctenhance.physics.fbp import fbp
from ctenhance.physics.projector import project
from ctenhance.physics.units import MU_WATER_PER_MM, hu_to_mu, mu_to_hu
from ctenhance.reconstruction import inference
from ctenhance.reconstruction.consistency import Consistency, some_views
from ctenhance.reconstruction.readings import Scan, counts_of, read_scan, relative_current
from ctenhance.runtime import weights
from ctenhance.runtime.errors import Cancelled, InputError
from ctenhance.runtime.progress import CancelToken
from ctenhance.scan.projections import Projections


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return small_models(tmp_path_factory.mktemp("models"))


def test_fbp_is_the_physics_own_and_lies_where_the_patient_lay() -> None:
    projections = measured()
    result = ctenhance.reconstruct(projections, method="fbp", kernel="hann", device="cpu")
    volume = result.volumes["reconstruction"]
    expected = mu_to_hu(fbp(projections.to_line_integrals(), geometry(), GRID, "hann"))
    assert np.allclose(volume.array, expected.numpy(), atol=1e-2)
    assert volume.spacing == (PIXEL, PIXEL, 2.5)
    assert volume.origin == pytest.approx((-(SIDE - 1) / 2 * PIXEL, -(SIDE - 1) / 2 * PIXEL, 0.0))
    assert set(result.volumes) == {"reconstruction"}
    assert result.report["model"] is None


def test_a_dead_column_makes_no_ring_and_is_told() -> None:
    whole = measured()
    counts = whole.counts.copy()
    counts[:, :, 40] = 0
    images = [
        ctenhance.reconstruct(p, method="fbp", kernel="soft", device="cpu")
        for p in (whole, replace(whole, counts=counts, meta={"notes": ["The table was out."]}))
    ]
    sound, broken = (image.volumes["reconstruction"].array for image in images)
    assert np.abs(broken - sound).mean() < 0.5 * np.abs(sound - anatomy().numpy()).mean()
    assert not images[0].report["warnings"]
    assert "The table was out." in images[1].report["warnings"]
    assert any("count nothing" in warning for warning in images[1].report["warnings"])


def test_need_gives_all_stages_and_maps_in_one_run(models: dict[str, Path]) -> None:
    told: list[tuple[int, int]] = []
    result = ctenhance.reconstruct(
        measured(),
        all_stages=True,
        uncertainty=True,
        residual=True,
        samples=2,
        device="cpu",
        progress=lambda _stage, done, total: told.append((done, total)),
        **models,
    )
    assert set(result.volumes) == {"reconstruction", "fbp", "projection"}
    assert set(result.maps) == {"uncertainty", "residual"}
    assert all(np.isfinite(v.array).all() for v in (*result.volumes.values(), *result.maps.values()))
    assert result.maps["uncertainty"].array.min() >= 0
    assert result.maps["uncertainty"].array.max() > 0
    assert told[-1] == (ROWS, ROWS)
    details = result.report["details"]
    assert [m["name"] for m in details["models"]] == ["model_projection", "model_image"]
    assert details["dose_estimate"]["dose"] == pytest.approx(QUANTA / 2.5e5)
    assert details["data_consistency"]["departure"] > 0


def test_batches_and_runs_agree(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {"device": "cpu", "projection_steps": 2, "image_steps": 2, "seed": 3, **models}
    whole = ctenhance.reconstruct(measured(), **given).volumes["reconstruction"].array
    again = ctenhance.reconstruct(measured(), **given).volumes["reconstruction"].array
    assert np.array_equal(whole, again)
    monkeypatch.setattr(inference, "MOST_SLICES", 1)
    single = ctenhance.reconstruct(measured(), **given).volumes["reconstruction"].array
    assert np.allclose(whole, single, atol=0.05)
    other = ctenhance.reconstruct(measured(), **{**given, "seed": 4}).volumes["reconstruction"].array
    assert not np.array_equal(whole, other)


@pytest.mark.parametrize("method", ["projection", "need"])
def test_a_single_slice_is_its_own_neighbour(method: str, models: dict[str, Path]) -> None:
    result = ctenhance.reconstruct(measured(rows=1), method=method, device="cpu", **models)
    assert result.volumes["reconstruction"].array.shape == (1, SIDE, SIDE)


def test_another_matrix_shows_the_same_field_and_another_field_what_was_asked() -> None:
    same = ctenhance.reconstruct(measured(), method="fbp", image_size=32, device="cpu")
    assert same.volumes["reconstruction"].spacing[0] == 2 * PIXEL
    asked = ctenhance.reconstruct(measured(), method="fbp", image_size=32, fov_mm=64, device="cpu")
    assert asked.volumes["reconstruction"].spacing[0] == 2
    assert asked.volumes["reconstruction"].array.shape == (ROWS, 32, 32)


def test_quanta_are_measured_where_the_file_knows_none() -> None:
    known = measured()
    integrals = known.to_line_integrals().permute(1, 0, 2).numpy()
    unknown = replace(known, counts=None, line_integrals=integrals, air_counts=None)
    result = ctenhance.reconstruct(unknown, method="fbp", device="cpu")
    estimate = result.report["details"]["dose_estimate"]
    assert estimate["from"] == "noise of the readings"
    assert QUANTA / 2 < estimate["quanta_in_air"] < QUANTA * 1.5


def test_says_when_the_dose_is_below_the_trained_ones(models: dict[str, Path]) -> None:
    expected = torch.exp(-measured().to_line_integrals().permute(1, 0, 2)) * (QUANTA / 20)
    counts = torch.poisson(expected, generator=torch.Generator().manual_seed(3)).numpy()
    few = measured(counts=counts, air_counts=np.array(QUANTA / 20))
    result = ctenhance.reconstruct(few, method="projection", device="cpu", **models)
    assert any("fewer than the networks were trained on" in w for w in result.report["warnings"])


def test_says_when_the_noise_is_not_that_of_the_counts(models: dict[str, Path]) -> None:
    scan = measured()
    integrals = project(hu_to_mu(anatomy()), geometry(), GRID)
    clean = QUANTA * torch.exp(-integrals).permute(1, 0, 2).numpy()
    silent = replace(scan, counts=clean)
    result = ctenhance.reconstruct(silent, method="projection", device="cpu", **models)
    assert any("times the noise" in warning for warning in result.report["warnings"])
    usual = ctenhance.reconstruct(scan, method="projection", device="cpu", **models)
    assert 0.9 < usual.report["details"]["dose_estimate"]["noise_against_counts"] < 2.5
    assert not any("times the noise" in warning for warning in usual.report["warnings"])


@pytest.mark.parametrize("unit", [0.05, 30.0])
def test_readings_in_another_unit_are_taken_for_what_their_noise_shows(unit: float) -> None:
    """An integrating detector's signal is proportional to its quanta."""
    quanta = measured(electronic_noise_variance=4.0)
    signal = replace(
        quanta,
        counts=quanta.counts * np.float32(unit),
        air_counts=np.array(QUANTA * unit),
        electronic_noise_variance=4.0 * unit**2,
    )
    usual, found = read_scan(quanta), read_scan(signal)
    assert not found.plausible and found.noise == pytest.approx(unit * (usual.noise or 0), rel=0.1)
    assert found.quanta == pytest.approx(QUANTA / (usual.noise or 0), rel=0.1)
    assert found.electronic == pytest.approx(4.0 / (usual.noise or 0) ** 2, rel=0.2)
    cpu = torch.device("cpu")
    assert float(counts_of(signal, found, cpu).detected.mean()) == pytest.approx(
        float(counts_of(quanta, usual, cpu).detected.mean()) / (usual.noise or 0), rel=0.1
    )


def test_goes_on_with_fewer_slices_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    guides = inference.Cascade.guides

    def tight(self: inference.Cascade, start: int, stop: int) -> Any:
        if stop - start > 1:
            raise MemoryError
        return guides(self, start, stop)

    expected = ctenhance.reconstruct(measured(), method="fbp", device="cpu")
    monkeypatch.setattr(inference.Cascade, "guides", tight)
    result = ctenhance.reconstruct(measured(), method="fbp", device="cpu")
    assert any("ran out" in warning for warning in result.report["warnings"])
    first, second = (r.volumes["reconstruction"].array for r in (expected, result))
    assert np.allclose(first, second, atol=0.05)


def test_stops_when_asked(models: dict[str, Path]) -> None:
    cancel = CancelToken()

    def stop(_stage: str, done: int, _total: int) -> None:
        if done == 1:
            cancel.cancel()

    with pytest.raises(Cancelled):
        ctenhance.reconstruct(measured(), device="cpu", progress=stop, cancel=cancel, **models)


def test_a_report_gives_the_settings_to_do_it_again(models: dict[str, Path]) -> None:
    asked = ReconstructOptions(
        kernel="soft", fov_mm=200.0, uncertainty=True, samples=3, device="cpu", seed=2, **models
    )
    result = ctenhance.reconstruct(measured(), options=asked)
    options = ReconstructOptions.from_report(result.report)
    names = [weights.read_entry(path).name for path in models.values()]
    assert [options.model_projection, options.model_image] == names
    again = ctenhance.reconstruct(measured(), options=replace(options, device="cpu", **models))
    for found, expected in ((again.volumes, result.volumes), (again.maps, result.maps)):
        assert all(np.array_equal(found[name].array, expected[name].array) for name in expected)
    assert again.report["settings"] == result.report["settings"]
    plain = ctenhance.reconstruct(measured(), method="fbp", device="cpu")
    assert ReconstructOptions.from_report(plain.report).uncertainty is False


def test_one_sample_is_refused_for_an_uncertainty_map_only() -> None:
    usual = ctenhance.reconstruct(measured(), method="fbp", device="cpu")
    same = ctenhance.reconstruct(measured(), method="fbp", samples=1, device="cpu")
    assert same.report["settings"] == usual.report["settings"]
    assert [text for text in same.report["warnings"] if text not in usual.report["warnings"]] == [
        "Samples are drawn for an uncertainty map, and none was asked for: none were drawn."
    ]


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"method": "magic"}, "magic"),
        ({"method": "fbp", "kernel": "B40f"}, "B40f"),
        ({"method": "fbp", "image_steps": 0}, "image steps"),
        ({"method": "fbp", "projection_steps": 99}, "projection steps"),
        ({"method": "fbp", "image_size": 3}, "matrix"),
        ({"method": "fbp", "fov_mm": -1.0}, "field of view"),
        ({"method": "fbp", "fov_mm": 100.0, "pixel_mm": 1.0}, "give one of them"),
        ({"method": "fbp", "uncertainty": True}, "uncertainty"),
        ({"method": "need", "uncertainty": True, "samples": 1}, "samples"),
    ],
)
def test_refuses_what_cannot_be(given: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        ctenhance.reconstruct(measured(), device="cpu", **given)


def test_refuses_weights_of_the_other_stage(models: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="architecture"):
        ctenhance.reconstruct(measured(), method="projection", model_projection=models["model_image"])


def _agreement(result: torch.Tensor, projections: Projections) -> dict[str, Any]:
    low = mu_to_hu(fbp(projections.to_line_integrals(), geometry(), GRID, "standard"))
    check = Consistency(geometry(), GRID, 0.0, MU_WATER_PER_MM)
    counts = counts_of(projections, read_scan(projections), torch.device("cpu"))
    for part in (slice(0, 2), slice(2, 4)):
        check.add(counts.of(part), result[part], low[part])
    return check.describe()


def test_the_truth_departs_from_the_data_by_their_noise_alone() -> None:
    found = _agreement(anatomy(), measured(5))
    assert 0.5 < found["departure"] < 1.05
    assert found["consistent"]


def test_a_lesion_that_nobody_measured_is_told() -> None:
    wrong = anatomy()
    wrong[2, 22:38, 20:36] += 120
    found = _agreement(wrong, measured(5))
    assert not found["consistent"]
    assert found["worst_row"] == 2


def test_pixels_that_are_coarser_than_the_columns_are_named(models: dict[str, Path]) -> None:
    pitch = geometry().isocenter_pitch_mm
    for pixel in (2 * pitch, 0.8 * pitch):
        result = ctenhance.reconstruct(measured(5), method="need", device="cpu", pixel_mm=pixel, **models)
        departs = [one for one in result.report["warnings"] if "departs from the measured" in one]
        assert len(departs) == 1  # these networks are of random weights
        assert ("coarser than the columns" in departs[0]) == (pixel > pitch)


def test_some_views_are_views_of_the_scan() -> None:
    g = geometry()
    few, index = some_views(g, 24)
    assert few.n_views == 24
    image = hu_to_mu(anatomy()[0])
    assert torch.allclose(project(image, few, GRID), project(image, g, GRID)[index], atol=1e-6)


def test_air_by_column_is_kept() -> None:
    air = np.linspace(1e4, 2e4, COLUMNS)
    scan = read_scan(measured(air_counts=air))
    assert isinstance(scan, Scan)
    assert np.allclose(scan.air.numpy(), air)
    assert scan.quanta == pytest.approx(2e4)


def _modulated(strength: float, electronic: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts `[slice, view, column]` divided by the current, as a file holds them, and the current."""
    views = torch.linspace(0, 2 * math.pi, 360)
    current = torch.exp(strength * torch.cos(2 * views))
    current = current / current.mean()
    chord = (1 - torch.linspace(-0.99, 0.99, 300).square()).sqrt()
    clean = (3.5 + 0.5 * torch.cos(2 * views))[:, None] * chord
    generator = torch.Generator().manual_seed(11)
    air = 3e4 * current[:, None]
    counts = torch.poisson((air * torch.exp(-clean)).expand(2, -1, -1), generator=generator)
    counts += torch.randn(counts.shape, generator=generator) * electronic**0.5
    return counts / current[:, None], current


@pytest.mark.parametrize("electronic", [0.0, 10.0])
def test_a_modulated_tube_current_shows_in_the_noise(electronic: float) -> None:
    counts, current = _modulated(0.6, electronic)
    found = relative_current(counts, electronic)
    assert float((found / current - 1).abs().max()) < 0.15
    assert float((found / current - 1).abs().mean()) < 0.06


def test_a_current_that_changes_along_the_patient_shows_in_the_noise() -> None:
    g, air, current = geometry(), 2e4, torch.tensor([1.0, 1.0, 0.2, 0.3])
    clean = project(hu_to_mu(anatomy()), g, GRID)
    detected = air * current[:, None, None] * torch.exp(-clean)
    detected = torch.poisson(detected, generator=torch.Generator().manual_seed(2))
    divided = detected / current[:, None, None]
    p = measured(counts=divided.permute(1, 0, 2).numpy(), air_counts=np.array(air))
    # 1.3: what such coarse slices show at the usual current
    counts = counts_of(p, replace(read_scan(p), noise=1.3), torch.device("cpu"))
    found = counts.air.mean((1, 2)) / air
    assert torch.equal(found[:2], torch.ones(2))
    assert np.allclose(found[2:], current[2:], rtol=0.25)
    assert torch.allclose(counts.detected / counts.air, divided / air)


def test_a_constant_tube_current_is_left_alone() -> None:
    counts, _ = _modulated(0.0, 10.0)
    assert torch.equal(relative_current(counts, 10.0), torch.ones(2, 360))
    silent = 1000 * torch.exp(torch.linspace(0, 3, 360)[:, None] * torch.linspace(-1, 1, 300)).expand(
        1, -1, -1
    )
    assert torch.equal(relative_current(silent, 0.0), torch.ones(1, 360))
    nothing = relative_current(torch.zeros(1, 50, 60), 10.0)
    assert torch.equal(nothing, torch.ones(1, 50))
