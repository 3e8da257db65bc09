"""Scatter corrections: the coarse scan, both methods, calibration and the command."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from decompose_cases import ENERGIES
from scatter_cases import beam, cylinder_scan, fan, water_spr
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.decomposition import decompose
from ctenhance.decomposition.calibration.scatter import water_spr as find_water_spr
from ctenhance.decomposition.phantom import rod_phantom
from ctenhance.decomposition.scatter.correction import ScatterEstimator, scatter_method, spr_in_counts
from ctenhance.decomposition.scatter.network import (
    CELL_MM,
    CoarseModel,
    ScatterNet,
    coarse_shape,
    full_size,
    limited,
    network_scatter,
    pooled,
)
from ctenhance.decomposition.scatter.physics import physical_scatter, spr_behind_middle, water_cylinder
from ctenhance.decomposition.scatter.scans import BASIS
from ctenhance.decomposition.simulate import Imperfections, simulate
from ctenhance.decomposition.solver.beam import expected_counts
from ctenhance.decomposition.solver.layer import Decomposer
from ctenhance.physics.geometry import ParallelGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.runtime import weights
from ctenhance.runtime.errors import InputError
from ctenhance.scan.projections import Projections


def test_the_coarse_grid_has_cells_of_one_size_whatever_the_scan() -> None:
    for geometry in (fan(), fan(360, 700)):
        n_views, n_cells, full_turn = coarse_shape(geometry)
        assert (n_views, full_turn) == (32, True)
        assert n_cells * CELL_MM == pytest.approx(geometry.field_of_view_mm, rel=0.06)
    half = ParallelGeometry.covering(ImageGrid(128, 128, 3.0))
    assert coarse_shape(half)[0] == 16 and not coarse_shape(half)[2]


def test_the_network_says_the_same_of_a_finer_detector() -> None:
    phantom = cylinder_scan()[0]
    torch.manual_seed(0)
    network = ScatterNet()
    torch.nn.init.normal_(network.out.weight, std=0.05)
    found = []
    for scan in (fan(180, 96), fan(360, 384)):
        counts = expected_counts(phantom, scan, beam().spectra(), ENERGIES)[0]
        model = CoarseModel(beam().spectra(), ENERGIES)
        with torch.no_grad():
            seen = model(counts, scan)
            found.append(pooled(network_scatter(network, seen, torch.device("cpu")), 60, 32))
    ratio = found[1][..., 5:27] / found[0][..., 5:27]
    assert float((ratio.log()).abs().mean()) < 0.03


def test_full_size_keeps_values_and_joins_the_turn() -> None:
    coarse = torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(0)) + 0.5
    assert torch.allclose(full_size(coarse, 8, 12, True).permute(2, 0, 1), coarse, rtol=1e-5)
    turned = full_size(coarse.roll(2, 1), 64, 48, True)
    torch.testing.assert_close(turned, full_size(coarse, 64, 48, True).roll(16, 0))
    assert float(limited(torch.tensor(50.0), torch.tensor(1.0))) < 0.91


def test_scatter_is_positive_below_the_counts_and_of_any_number_of_bins() -> None:
    phantom, _ = water_cylinder(fan())
    geometry = fan(24, 64)
    method = scatter_method("kernel")
    assert method is not None
    for thresholds in ([20, 120], [20, 65, 120], [20, 30, 40, 50, 60, 70, 80, 90, 120]):
        some = beam(1e5, torch.tensor(thresholds, dtype=torch.float64))
        counts = expected_counts(phantom, geometry, some.spectra(), ENERGIES)[0]
        counts = torch.poisson(counts, generator=torch.Generator().manual_seed(1))
        spectra = some.spectra().expand(64, -1, -1)  # a spectrum of each column
        found = ScatterEstimator(method, spectra, ENERGIES)(counts, geometry)
        assert found.shape == counts.shape and bool((found > 0).all())
        dense = slice(24, 40)
        assert bool((found[:, dense].sum(-1) < counts[:, dense].sum(-1)).all())
        again = ScatterEstimator(method, some.spectra(), ENERGIES)(counts, geometry)
        torch.testing.assert_close(again, found, rtol=1e-4, atol=1e-3)


def test_known_ratio_scales_what_the_kernel_takes_off() -> None:
    _, geometry, primary, scatter = cylinder_scan()
    counts = primary + scatter
    once, twice = (
        ScatterEstimator(scatter_method("kernel", ratio), beam().spectra(), ENERGIES)(counts, geometry)  # type: ignore[arg-type]
        for ratio in (0.05, 0.1)
    )
    ratio = twice[:, 40:56] / once[:, 40:56]
    assert float(ratio.mean()) == pytest.approx(2, rel=0.05)


def test_the_embedded_network_takes_most_of_the_bias_away() -> None:
    phantom, geometry, primary, scatter = cylinder_scan()
    ratio = water_spr(geometry, phantom, scatter)
    decomposer = Decomposer(BASIS, beam().spectra(), ENERGIES)
    counts = primary + scatter
    from ctenhance.decomposition.chain import material_images

    truth = material_images(primary, decomposer, geometry, phantom.grid)
    body = truth[0] > 0.5
    before = (material_images(counts, decomposer, geometry, phantom.grid) - truth)[:, body].abs().mean(1)
    noisy = torch.poisson(counts, generator=torch.Generator().manual_seed(2))
    for known, least, off in ((ratio, 0.7, 0.2), (None, 0.4, 0.5)):
        method = scatter_method("network", known)
        assert method is not None
        estimator = ScatterEstimator(method, beam().spectra(), ENERGIES)
        assert estimator.unlike_training() is None
        found = estimator(noisy, geometry)
        images = material_images(counts, decomposer, geometry, phantom.grid, scatter=found)
        after = (images - truth)[:, body].abs().mean(1)
        assert float(1 - (after / before).mean()) > least
        assert spr_in_counts(found, counts) == pytest.approx(0.15, rel=off)


def test_decompose_reports_the_correction() -> None:
    phantom = rod_phantom(64, 260.0, [{"iodine": 8.0}], rod_mm=50.0)
    geometry = fan()
    scan = simulate(phantom, geometry, beam(1e6), Imperfections(spr=0.2), seed=1)
    clean = simulate(phantom, geometry, beam(1e6), seed=1)
    plain, kernel, network = (
        decompose(scan, basis=BASIS, scatter=scatter, device="cpu")
        for scatter in ("none", "kernel", "network")
    )
    truth = decompose(clean, basis=BASIS, device="cpu").volumes["water"].array
    body = truth > 700

    def bias(result) -> float:
        return abs(float((result.volumes["water"].array - truth)[body].mean()))

    assert "scatter_to_primary" not in plain.report["details"]
    assert plain.report["settings"]["scatter"] == "none"
    for result in (kernel, network):
        assert 0.02 < result.report["details"]["scatter_to_primary"] < 0.5
        assert bias(result) < 0.8 * bias(plain)
    # the kernel shares scatter among the bins in another way than physics: its model need not fit better
    assert network.report["details"]["misfit"] < plain.report["details"]["misfit"]
    assert network.report["model"]["name"] == weights.default_name("decompose-scatter")
    assert network.report["model"]["sha256"]
    assert kernel.report["model"] is None


def test_one_bin_is_told_to_be_outside_of_the_training() -> None:
    method = scatter_method("network")
    assert method is not None
    one = beam(1e5, torch.tensor([20.0, 120.0], dtype=torch.float64))
    sentence = ScatterEstimator(method, one.spectra(), ENERGIES).unlike_training()
    assert sentence is not None and "2 to 8 energy bins" in sentence


@pytest.mark.parametrize(
    ("choice", "ratio", "said"),
    [
        ("none", 0.1, "needs a correction"),
        ("kernel", 0.0, "0.001 to 2"),
        ("network", math.nan, "0.001 to 2"),
        ("nowhere", None, "nowhere"),
        ("enhance-twin", None, "architecture"),
    ],
)
def test_bad_choices_are_refused_in_one_sentence(choice: str, ratio: float | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        scatter_method(choice, ratio)


@pytest.mark.parametrize("lamellae", [-1.0, 41.0, math.nan])
def test_a_grid_that_cannot_be_is_refused_in_one_sentence(lamellae: float) -> None:
    with pytest.raises(InputError, match=r"The grid ratio is .*give 0 to 40"):
        scatter_method("network", 0.1, lamellae)
    with pytest.raises(InputError, match="needs a correction"):
        scatter_method("none", None, 8.0)


@pytest.fixture(scope="module")
def water_scan(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A noisy scan of a water cylinder of 240 mm with scatter by physics, and the scanner's water ratio."""
    geometry = fan()
    place = (torch.arange(64) - 31.5) * 4.0
    water, _ = water_cylinder(geometry)
    disc = (place**2 + place[:, None] ** 2 < 120.0**2).float()[None, None]
    phantom = replace(water, densities=disc, pixel_mm=4.0)
    primary = expected_counts(phantom, geometry, beam().spectra(), ENERGIES)[0]
    scatter = physical_scatter(phantom, geometry, beam())[0]
    scatter = scatter * (0.12 / spr_behind_middle(scatter, primary))
    plain = simulate(phantom, geometry, beam(), noise=False)
    counts = torch.poisson(primary + scatter, generator=torch.Generator().manual_seed(4))
    path = tmp_path_factory.mktemp("water") / "water.ctproj.h5"
    replace(plain, counts=counts[:, None].float().numpy()).write(path)
    return path, water_spr(geometry, phantom, scatter)


def test_a_water_scan_tells_the_scanner_s_ratio(water_scan: tuple[Path, float], tmp_path: Path) -> None:
    path, true = water_scan
    report = tmp_path / "report.json"
    done = CliRunner().invoke(
        app, ["calibrate", "scatter", str(path), "--report", str(report), "--progress", "json"]
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["event"] == "result"
    assert told["scatter_ratio"] == pytest.approx(true, rel=0.3)
    details = json.loads(report.read_text(encoding="utf-8"))["details"]
    assert details["error_mg_ml"] < 15


def test_no_water_is_refused(water_scan: tuple[Path, float]) -> None:
    scan = Projections.read(water_scan[0])
    air = np.broadcast_to(scan.air_counts, scan.shape).astype(np.float32)
    with pytest.raises(InputError, match="no cylinder of water"):
        find_water_spr(replace(scan, counts=air), "kernel")
    dense = (air * np.exp(1.6 * np.log(np.clip(scan.counts / air, 1e-4, 1)))).astype(np.float32)
    with pytest.raises(InputError, match="one of water"):
        find_water_spr(replace(scan, counts=dense), "kernel")


def test_the_command_writes_maps_and_says_what_it_took_off(
    water_scan: tuple[Path, float], tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    arguments = ["decompose", str(water_scan[0]), str(tmp_path / "maps"), "--scatter", "kernel"]
    common = ["--scatter-ratio", "0.2", "--report", str(report), "--device", "cpu", "--progress", "none"]
    done = CliRunner().invoke(app, [*arguments, *common])
    assert done.exit_code == 0, done.output
    written = json.loads(report.read_text(encoding="utf-8"))
    assert written["settings"]["scatter"] == "kernel" and written["settings"]["scatter_ratio"] == 0.2
    assert 0.01 < written["details"]["scatter_to_primary"] < 0.6
    assert (tmp_path / "maps" / "water.nii.gz").is_file()
    done = CliRunner().invoke(app, [*arguments[:-1], str(tmp_path / "none.safetensors"), *common])
    assert done.exit_code == 2 and "none.safetensors" in done.stderr
