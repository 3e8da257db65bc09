"""Scatter: its physics against tables, the coarse scan, the corrections, and training without labels."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from decompose_cases import ENERGIES, THRESHOLDS, toy_detector
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.decompose import decompose, scatter_scans, training
from ctenhance.decompose.beam import Beam, expected_counts
from ctenhance.decompose.layer import Decomposer
from ctenhance.decompose.phantom import rod_phantom
from ctenhance.decompose.scatter import ScatterEstimator, found_ratio, scatter_method
from ctenhance.decompose.scatter_calibration import water_ratio as find_water_ratio
from ctenhance.decompose.scatter_network import (
    CELL_MM,
    CoarseModel,
    ScatterNet,
    full_size,
    grid,
    limited,
    network_scatter,
    pooled,
)
from ctenhance.decompose.scatter_physics import (
    Sampling,
    ScatterSetup,
    cross_section,
    physical_scatter,
    scatter_ratio,
    water_cylinder,
)
from ctenhance.decompose.scatter_scans import (
    AIR_QUANTA,
    BASIS,
    body_phantom,
    draw_beams,
    draw_scan,
    patient_phantom,
)
from ctenhance.decompose.scatter_usual import USUAL
from ctenhance.decompose.simulate import Imperfections, simulate
from ctenhance.io.projections import Projections
from ctenhance.physics.geometry import EQUIANGULAR, FanGeometry, ParallelGeometry, even_angles
from ctenhance.physics.materials import material
from ctenhance.physics.noise import bowtie_fluence
from ctenhance.physics.spectrum import tube_spectrum
from ctenhance.runtime import weights
from ctenhance.runtime.errors import InputError
from ctenhance.volume import CTVolume


def beam(quanta: float = 1e6, thresholds: torch.Tensor = THRESHOLDS) -> Beam:
    spectrum = tube_spectrum(120, energies_kev=ENERGIES)
    return Beam(spectrum * (quanta / spectrum.sum()), toy_detector(), thresholds, 120)


def fan(size: int, pixel_mm: float, views: int = 72, columns: int = 96) -> FanGeometry:
    pitch = 2 * math.asin(200 / 570) / columns
    middle = (columns - 1) / 2
    return FanGeometry(
        EQUIANGULAR, 570.0, 1040.0, pitch, columns, middle, even_angles(views), size, size, pixel_mm
    )


@pytest.fixture(scope="module")
def cylinder_scan():
    """A cylinder with rods by the toy beam: phantom, geometry, primary counts and scatter of ratio 0.15."""
    phantom = rod_phantom(64, 300.0, [{"iodine": 5.0}, {"iodine": 10.0}, {"calcium": 200.0}], rod_mm=40.0)
    geometry = fan(64, phantom.pixel_mm)
    primary = expected_counts(phantom, geometry, beam().spectra(), ENERGIES)[0]
    scatter = physical_scatter(phantom, geometry, beam())[0]
    return phantom, geometry, primary, scatter * (0.15 / scatter_ratio(scatter, primary))


def water_ratio(geometry: FanGeometry, phantom, scatter_of_phantom: torch.Tensor) -> float:
    """What scatter the same scanner makes behind 300 mm of water."""
    own = physical_scatter(phantom, geometry, beam())[0]
    water, across = water_cylinder(geometry)
    counts = expected_counts(water, across, beam().spectra(), ENERGIES)
    unit = float(scatter_of_phantom.sum() / own.sum())
    return unit * scatter_ratio(physical_scatter(water, across, beam()), counts)


@pytest.mark.parametrize("kev", [40.0, 60.0, 100.0])
def test_cross_sections_add_up_to_tabulated_attenuation(kev: float) -> None:
    cosine = torch.cos((torch.arange(20000, dtype=torch.float64) + 0.5) / 20000 * math.pi)
    sine = (1 - cosine**2).sqrt() * math.pi / 20000
    compton, coherent = cross_section(torch.tensor(kev, dtype=torch.float64), cosine)
    # half the classical electron radius squared, and water's molecules a gram
    unit = 2 * math.pi * 0.5 * (2.8179403e-13) ** 2 * 6.02214e23 / 18.015
    energy = torch.tensor([kev])
    for found, kind, tolerance in ((compton, "incoh", 0.04), (coherent, "coh", 0.06)):
        known = float(material("water").mass_attenuation(energy, kind))
        assert float((found * sine).sum()) * unit == pytest.approx(known, rel=tolerance)


def test_scatter_of_a_cylinder_is_the_same_in_all_views_and_on_both_sides() -> None:
    phantom, _ = water_cylinder(fan(64, 5.0))
    geometry = fan(64, phantom.pixel_mm, views=8)
    scatter = physical_scatter(phantom, geometry, beam(), ScatterSetup(grid_ratio=4.0))[0]
    assert float((scatter - scatter.flip(1)).abs().max()) < 0.03 * float(scatter.max())
    assert float((scatter - scatter.mean(0)).abs().max()) < 0.06 * float(scatter.max())
    # smooth: most of it is in the lowest frequencies along the detector
    power = torch.fft.rfft(scatter[0].sum(-1)).abs() ** 2
    assert float(power[12:].sum() / power[1:].sum()) < 0.01


@pytest.mark.parametrize("views", [1, 72])
def test_scatter_has_converged_in_amount_and_from_bin_to_bin(cylinder_scan, views: int) -> None:
    phantom, geometry, _, _ = cylinder_scan
    geometry = replace(geometry, view_angles=even_angles(views))
    finer = Sampling(views=48, places=60, element_mm=9.0, steps=32, groups=30)
    coarse, fine = (
        physical_scatter(phantom, geometry, beam(), sampling=sampling)[0] for sampling in (Sampling(), finer)
    )
    off = (coarse / fine).log()[:, 12:84]
    assert float(off.std()) < 0.04 and abs(float(off.mean())) < 0.04
    assert float((off - off.mean(-1, keepdim=True)).std()) < 0.008


def test_scatter_grows_with_the_object_and_is_none_without() -> None:
    geometry = fan(64, 6.0)
    phantom, _ = water_cylinder(geometry)
    seen = replace(geometry, pixel_mm=phantom.pixel_mm, view_angles=(0.0,))
    primary = expected_counts(phantom, seen, beam().spectra(), ENERGIES)
    whole = scatter_ratio(physical_scatter(phantom, seen, beam()), primary)
    small = replace(phantom, pixel_mm=0.5 * phantom.pixel_mm)
    near = replace(seen, pixel_mm=small.pixel_mm)
    half = scatter_ratio(
        physical_scatter(small, near, beam()), expected_counts(small, near, beam().spectra(), ENERGIES)
    )
    assert half < 0.5 * whole
    nothing = replace(phantom, densities=torch.zeros_like(phantom.densities))
    assert float(physical_scatter(nothing, seen, beam()).abs().max()) == 0


def test_the_coarse_grid_has_cells_of_one_size_whatever_the_scan() -> None:
    for geometry in (fan(64, 5.0), fan(64, 5.0, 360, 700)):
        n_views, n_cells, full_turn = grid(geometry)
        assert (n_views, full_turn) == (32, True)
        assert n_cells * CELL_MM == pytest.approx(geometry.field_of_view_mm, rel=0.06)
    half = ParallelGeometry.covering(128, 128, 3.0)
    assert grid(half)[0] == 16 and not grid(half)[2]


@pytest.mark.parametrize("shape", ["fan", "bowtie", "zoomed", "parallel"])
def test_a_usual_scanner_s_scatter_is_known_from_the_counts(cylinder_scan, shape: str) -> None:
    phantom, geometry, _, _ = cylinder_scan
    spectra = beam().spectra()
    if shape == "parallel":
        geometry = ParallelGeometry(90, 100, 4.0, 64, 64, phantom.pixel_mm)
    primary = expected_counts(phantom, geometry, spectra, ENERGIES)[0]
    setup, model = USUAL, CoarseModel(spectra, ENERGIES)
    if shape == "bowtie":
        fluence = bowtie_fluence(geometry, 0.7, 150.0)
        setup, model = replace(USUAL, fluence=fluence), model.with_fluence(fluence)
        primary = primary * fluence[:, None]
    true = physical_scatter(phantom, geometry, beam(), setup)[0]
    water, across = water_cylinder(geometry)
    of_water = physical_scatter(water, across, beam(), USUAL)
    unit = scatter_ratio(of_water, expected_counts(water, across, spectra, ENERGIES))
    seen = model(primary, geometry.with_image(20, 20, 2.0) if shape == "zoomed" else geometry, 1e-6)
    found = seen.usual * model.mean_air.sum()
    off = (found / (true * 1e-6 / unit)).log()[:, 20:76]
    assert float(off.abs().mean()) < 0.1
    assert float((off - off.mean(-1, keepdim=True)).std()) < 0.04


def test_a_known_grid_tells_where_scatter_goes(cylinder_scan) -> None:
    phantom, geometry, primary, _ = cylinder_scan
    model = CoarseModel(beam().spectra(), ENERGIES)
    water, across = water_cylinder(geometry)
    counts = expected_counts(water, across, beam().spectra(), ENERGIES)
    for lamellae in (4.0, 16.0):
        setup = replace(USUAL, grid_ratio=lamellae)
        true = physical_scatter(phantom, geometry, beam(), setup)[0]
        unit = scatter_ratio(physical_scatter(water, across, beam(), setup), counts)
        off = []
        for told in (lamellae, None):
            seen = model(primary, geometry, 1e-6, told)
            found = seen.usual * model.mean_air.sum()
            off.append(float((found / (true * 1e-6 / unit)).log()[:, 20:76].std()))
        assert off[0] < 0.05 and off[0] < 0.75 * off[1]


def test_the_network_says_the_same_of_a_finer_detector(cylinder_scan) -> None:
    phantom = cylinder_scan[0]
    torch.manual_seed(0)
    network = ScatterNet()
    torch.nn.init.normal_(network.out.weight, std=0.05)
    found = []
    for scan in (fan(64, phantom.pixel_mm, 180, 96), fan(64, phantom.pixel_mm, 360, 384)):
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
    phantom, _ = water_cylinder(fan(64, 5.0))
    geometry = fan(64, phantom.pixel_mm, 24, 64)
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


def test_known_ratio_scales_what_the_kernel_takes_off(cylinder_scan) -> None:
    _, geometry, primary, scatter = cylinder_scan
    counts = primary + scatter
    once, twice = (
        ScatterEstimator(scatter_method("kernel", ratio), beam().spectra(), ENERGIES)(counts, geometry)  # type: ignore[arg-type]
        for ratio in (0.05, 0.1)
    )
    ratio = twice[:, 40:56] / once[:, 40:56]
    assert float(ratio.mean()) == pytest.approx(2, rel=0.05)


def test_the_embedded_network_takes_most_of_the_bias_away(cylinder_scan) -> None:
    phantom, geometry, primary, scatter = cylinder_scan
    ratio = water_ratio(geometry, phantom, scatter)
    decomposer = Decomposer(BASIS, beam().spectra(), ENERGIES)
    counts = primary + scatter
    from ctenhance.decompose.chain import material_images

    truth = material_images(primary, decomposer, geometry)
    body = truth[0] > 0.5
    before = (material_images(counts, decomposer, geometry) - truth)[:, body].abs().mean(1)
    noisy = torch.poisson(counts, generator=torch.Generator().manual_seed(2))
    for known, least, off in ((ratio, 0.7, 0.2), (None, 0.4, 0.5)):
        method = scatter_method("network", known)
        assert method is not None
        estimator = ScatterEstimator(method, beam().spectra(), ENERGIES)
        assert estimator.unlike_training() is None
        found = estimator(noisy, geometry)
        images = material_images(counts, decomposer, geometry, scatter=found)
        after = (images - truth)[:, body].abs().mean(1)
        assert float(1 - (after / before).mean()) > least
        assert found_ratio(found, counts) == pytest.approx(0.15, rel=off)


def test_decompose_reports_the_correction() -> None:
    phantom = rod_phantom(64, 260.0, [{"iodine": 8.0}], rod_mm=50.0)
    geometry = fan(64, phantom.pixel_mm)
    scan = simulate(phantom, geometry, beam(1e6), Imperfections(scatter_to_primary=0.2), seed=1)
    clean = simulate(phantom, geometry, beam(1e6), seed=1)
    plain, kernel, network = (
        decompose(scan, BASIS, scatter=scatter, device="cpu") for scatter in ("none", "kernel", "network")
    )
    truth = decompose(clean, BASIS, device="cpu").volumes["water"].array
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


def test_patients_become_tissues_with_iodine_where_it_can_be() -> None:
    hu = np.full((80, 60), -1000.0, np.float32)
    hu[10:70, 5:55] = 40
    hu[12:20, 10:50] = -100
    hu[30:36, 25:35] = 900
    hu[45:60, 10:25] = -800
    phantom = patient_phantom(hu, 5.0, np.random.default_rng(3))
    assert phantom.densities.shape == (4, 1, 64, 64)
    total = phantom.densities[:3].sum(0)
    assert float(total.max()) < 2.0 and float(phantom.map("iodine").max()) <= 20.001
    assert float(phantom.map("bone").max()) > 700
    assert bool((phantom.map("iodine")[phantom.map("bone") > 0] == 0).all())
    assert bool((phantom.map("iodine")[phantom.map("adipose") > 0] == 0).all())


@pytest.fixture(scope="module")
def drawn_scan():
    some = draw_beams(2, 5)[1]
    rng = np.random.default_rng(1)
    decomposer = Decomposer(BASIS, some.spectra() * AIR_QUANTA, some.detector.energies_kev)
    return draw_scan(body_phantom(rng), some, decomposer, rng, "drawn")


def test_true_scatter_leaves_no_bias_and_the_gradient_is_that_of_the_images(drawn_scan) -> None:
    chain = training.Chain()
    before = chain.bias(chain.images(drawn_scan, 0.2, None), drawn_scan)
    true = 0.2 * drawn_scan.scatter
    after = chain.bias(chain.images(drawn_scan, 0.2, true), drawn_scan)
    assert max(a / b for a, b in zip(after, before, strict=True)) < 0.02

    def error(scale: torch.Tensor) -> torch.Tensor:
        images = chain.images(drawn_scan, 0.2, (scale * true.double()))
        return training.image_error(chain, images.double(), drawn_scan)

    scale = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(error(scale), scale)
    with torch.no_grad():
        finite = (error(scale + 0.02) - error(scale - 0.02)) / 0.04
    assert float(slope) == pytest.approx(float(finite), rel=0.03)
    assert float(slope) < 0  # more correction would be better


@pytest.mark.parametrize("labels", [False, True])
def test_training_learns_resumes_and_its_weights_load(
    tmp_path: Path, labels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scatter_scans, "BEAMS", 1)
    hu = np.full((2, 48, 64), -1000.0, np.float32)
    hu[:, 6:42, 6:58] = 30
    (tmp_path / "data").mkdir()
    CTVolume(hu, (5.0, 5.0, 5.0), (0.0, 0.0, 0.0), np.eye(3)).write(tmp_path / "data" / "one.nii.gz")
    run = tmp_path / "run"

    def train(steps: int) -> Path:
        return training.train_scatter(
            tmp_path / "data", run, labels=labels, steps=steps, batch=1, scans_per_volume=2, device="cpu"
        )

    train(2)
    files = sorted((run / "scans").glob("*.safetensors"))
    made = [file.stat().st_mtime_ns for file in files]
    assert len(files) == 3
    best = train(3)
    assert [file.stat().st_mtime_ns for file in files] == made
    lines = [json.loads(line) for line in (best.parent / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "score" in line] == [2, 3]
    entry = weights.read_entry(best)
    assert entry.trained_on == "one"
    method = scatter_method(best)
    assert method is not None and method.network is not None
    fresh = ScatterNet().state_dict()
    assert any(not torch.equal(value, fresh[name]) for name, value in method.network.state_dict().items())


@pytest.fixture(scope="module")
def water_scan(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A noisy scan of a water cylinder of 240 mm with scatter by physics, and the scanner's water ratio."""
    geometry = fan(64, 4.0)
    place = (torch.arange(64) - 31.5) * 4.0
    water, _ = water_cylinder(geometry)
    disc = (place**2 + place[:, None] ** 2 < 120.0**2).float()[None, None]
    phantom = replace(water, densities=disc, pixel_mm=4.0)
    primary = expected_counts(phantom, geometry, beam().spectra(), ENERGIES)[0]
    scatter = physical_scatter(phantom, geometry, beam())[0]
    scatter = scatter * (0.12 / scatter_ratio(scatter, primary))
    plain = simulate(phantom, geometry, beam(), noise=False)
    counts = torch.poisson(primary + scatter, generator=torch.Generator().manual_seed(4))
    path = tmp_path_factory.mktemp("water") / "water.ctproj.h5"
    replace(plain, counts=counts[:, None].float().numpy()).write(path)
    return path, water_ratio(geometry, phantom, scatter)


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
        find_water_ratio(replace(scan, counts=air), "kernel")
    dense = (air * np.exp(1.6 * np.log(np.clip(scan.counts / air, 1e-4, 1)))).astype(np.float32)
    with pytest.raises(InputError, match="one of water"):
        find_water_ratio(replace(scan, counts=dense), "kernel")


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


def test_a_bowtie_changes_neither_images_nor_what_the_network_sees_of_the_object(drawn_scan) -> None:
    chain, rng = training.Chain(), np.random.default_rng
    behind = drawn_scan.with_bowtie(0.7, 150.0)
    assert float(behind.primary.sum()) < 0.8 * float(drawn_scan.primary.sum())
    bare, through = (chain.images(scan, 0.0, None) for scan in (drawn_scan, behind))
    assert float((bare - through).abs().max()) < 1e-3
    one, other = (chain.coarse(scan, 0.0, 1e9, False, rng(1)) for scan in (drawn_scan, behind))
    assert float((one.features[0] - other.features[0]).abs().max()) < 0.02  # attenuation
    assert bool((other.features[3, 0, [0, -1]] < -0.3).all()) and not bool(one.features[3].any())
