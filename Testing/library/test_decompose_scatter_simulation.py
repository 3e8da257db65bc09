"""Scatter in simulated scans: its amount, where it goes, and the ratio by which corrections know it."""

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
from ctenhance.core import arrays
from ctenhance.decomposition import decompose
from ctenhance.decomposition.phantom import MaterialPhantom, rod_phantom
from ctenhance.decomposition.scatter.correction import GRID_ENTRY, SPR_ENTRY, grid_ratio_in_file, spr_in_file
from ctenhance.decomposition.scatter.physics import ScatterSetup, middle, physical_scatter, water_cylinder
from ctenhance.decomposition.scatter.simulation import SLAB_MM, ScanScatter
from ctenhance.decomposition.simulate import Imperfections, simulate
from ctenhance.decomposition.solver.beam import Beam
from ctenhance.files.projections import read_projections
from ctenhance.physics.geometry import ParallelGeometry, ScanGeometry
from ctenhance.physics.materials import material
from ctenhance.physics.spectrum import tube_spectrum
from ctenhance.runtime.errors import Cancelled, InputError
from ctenhance.runtime.progress import CancelToken
from ctenhance.scan.projections import Projections
from ctenhance.scan.simulate import clinical_scan

SPECTRUM = tube_spectrum(120, energies_kev=ENERGIES)


def beam(thresholds=THRESHOLDS) -> Beam:
    edges = torch.as_tensor(thresholds, dtype=torch.float64)
    return Beam(SPECTRUM * (1e6 / SPECTRUM.sum()), toy_detector(), edges, 120)


def scanner(name: str, views: int = 40, columns: int = 80) -> ScanGeometry:
    return clinical_scan(name, views, columns)


def rods(diameter_mm: float = 240.0) -> MaterialPhantom:
    return rod_phantom(48, diameter_mm, [{"iodine": 5.0}, {"calcium": 200.0}], rod_mm=0.2 * diameter_mm)


def discs(*radii_mm: float, slice_mm: float, n_slices: int) -> MaterialPhantom:
    """Stacks of `n_slices` water discs of each radius."""
    place = (torch.arange(48) - 23.5) * 7.0
    far = (place**2 + place[:, None] ** 2).sqrt()
    slices = [(far < radius).float() for radius in radii_mm for _ in range(n_slices)]
    return MaterialPhantom((material("water"),), torch.stack(slices)[None], 7.0, slice_mm=slice_mm)


def scattered(
    phantom: MaterialPhantom, geometry: ScanGeometry, some: Beam, ratio: float, **flaws
) -> np.ndarray:
    """Expected counts with scatter less those without, and these, float64 `[2, view, row, column, bin]`."""
    plain = simulate(phantom, geometry, some, Imperfections(**flaws), noise=False).counts
    both = simulate(phantom, geometry, some, Imperfections(ratio, **flaws), noise=False).counts
    return np.stack([both.astype(np.float64) - plain, plain])


@pytest.mark.parametrize("name", ["fan-equiangular", "fan-flat", "parallel"])
@pytest.mark.parametrize("thresholds", [(20, 120), (20, 65, 120), (20, 30, 40, 50, 60, 70, 80, 90, 120)])
def test_scatter_has_the_ratio_that_was_asked_for(name: str, thresholds: tuple[float, ...]) -> None:
    phantom = rods()
    found, plain = scattered(phantom, scanner(name), beam(thresholds), 0.2)
    part = middle(found.shape[2])
    assert found[:, :, part].sum() / plain[:, :, part].sum() == pytest.approx(0.2, rel=0.01)
    assert found.min() > 0
    beside = found[:, :, :4].sum() / found[:, :, part].sum() * 16 / 4
    assert 0.05 < beside < 1.2  # it reaches the columns that see air
    assert np.abs(np.diff(found.sum(-1), axis=2)).max() < 0.2 * found.sum(-1).max()  # and is smooth


def test_behind_300_mm_of_water_the_water_ratio_is_the_one_asked_for() -> None:
    geometry = scanner("fan-equiangular")
    water, _ = water_cylinder(geometry)
    scan = simulate(water, geometry, beam(), Imperfections(0.17), noise=False)
    assert scan.meta[SPR_ENTRY] == pytest.approx(0.17, rel=0.01)


def test_the_water_ratio_tells_the_scatter_of_another_object() -> None:
    one, other = rods(240.0), rods(160.0)
    scans = []
    for phantom in (one, other):
        own = physical_scatter(phantom, scanner("fan-equiangular"), beam())[0].numpy()
        found, _ = scattered(phantom, scanner("fan-equiangular"), beam(), 0.1)
        scan = simulate(phantom, scanner("fan-equiangular"), beam(), Imperfections(0.1), noise=False)
        scans.append((scan.meta[SPR_ENTRY], found.sum() / own.sum()))
    assert scans[1][0] > 1.5 * scans[0][0]  # behind a small object 0.1 means a scanner that scatters more
    assert scans[1][0] / scans[0][0] == pytest.approx(scans[1][1] / scans[0][1], rel=1e-3)


def test_scatter_is_softer_than_what_comes_straight() -> None:
    phantom = rods()
    found, plain = scattered(phantom, scanner("fan-equiangular"), beam(), 0.2)
    part = middle(found.shape[2])
    by_bin = found[:, :, part].sum((0, 1, 2)) / plain[:, :, part].sum((0, 1, 2))
    assert by_bin[0] > 1.2 * by_bin[-1]
    assert bool((by_bin > 0.05).all())


def test_slices_scatter_onto_their_neighbours() -> None:
    thick = discs(140.0, 0.0, slice_mm=SLAB_MM / 4, n_slices=8)
    told: list[tuple[str, int, int]] = []
    scatter = ScanScatter(thick, scanner("parallel"), beam(), 0.1, lambda *event: told.append(event))
    assert [event for event in told if event[0] == "scatter"] == [("scatter", n, 4) for n in (1, 2, 3, 4)]
    amounts = [float(scatter(index).sum()) for index in range(16)]
    assert amounts[:6] == pytest.approx([amounts[0]] * 6) and amounts[10:] == [0.0] * 6
    between = amounts[5:11]
    assert sorted(set(between), reverse=True) == between  # less and less, beyond the end of the object, too
    thin = replace(thick, slice_mm=1.0)
    same = ScanScatter(thin, scanner("parallel"), beam(), 0.1)
    assert torch.equal(same(0), same(15))


def test_images_of_any_shape_and_place_scatter_alike() -> None:
    side = discs(60.0, slice_mm=1.0, n_slices=1)
    disc = torch.zeros(1, 1, 64, 64)
    disc[..., 8:56, 8:56] = side.densities
    phantom = replace(side, densities=disc, pixel_mm=5.0)
    geometry = ParallelGeometry.covering(phantom.grid, n_views=12)
    known = physical_scatter(replace(phantom, densities=disc.roll(8, -1)), geometry, beam())
    moved = physical_scatter(replace(phantom, center_mm=(40.0, 0.0)), geometry, beam())
    assert float((moved - known).abs().sum() / known.sum()) < 0.06  # paths are sampled coarsely
    narrow = replace(phantom, densities=disc[..., 12:52, :])
    cut = physical_scatter(narrow, geometry, beam())
    torch.testing.assert_close(cut, physical_scatter(phantom, geometry, beam()), rtol=1e-9, atol=0)


def test_thresholds_that_drift_change_the_scatter_too() -> None:
    phantom = rods()
    geometry = scanner("fan-equiangular")
    shifts = torch.zeros(geometry.n_columns, len(THRESHOLDS), dtype=torch.float64)
    shifts[40, 1] = 1.0  # bin 1 grows, bin 2 shrinks
    still, _ = scattered(phantom, geometry, beam(), 0.2)
    drifted, _ = scattered(phantom, geometry, beam(), 0.2, drift_kev=shifts)
    change = drifted.sum((0, 1)) / still.sum((0, 1))
    assert change[40, 0] > 1.02 and change[40, 1] < 0.98
    assert np.abs(np.delete(change, 40, 0) - 1).max() < 2e-3


def test_a_seed_decides_all_and_large_scans_stay_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phantom = discs(120.0, slice_mm=2.5, n_slices=2)
    geometry = scanner("fan-flat")

    def scan(seed: int) -> Projections:
        return simulate(phantom, geometry, beam(), Imperfections(0.1, correlation=0.1), seed=seed)

    one, other = scan(3), scan(4)
    assert not np.array_equal(one.counts, other.counts)
    monkeypatch.setattr(arrays, "LARGEST_IN_MEMORY", 1000)
    again = scan(3)
    assert isinstance(again.counts, np.memmap) and not isinstance(one.counts, np.memmap)
    assert np.array_equal(again.counts, one.counts)
    again.write(tmp_path / "scan.ctproj.h5")
    read = read_projections(tmp_path / "scan.ctproj.h5")
    assert np.array_equal(read.counts, one.counts)
    assert grid_ratio_in_file(read) == one.meta[GRID_ENTRY] == ScatterSetup().grid_ratio
    assert spr_in_file(read) == one.meta[SPR_ENTRY] and read.row_pitch_mm == 2.5


def test_scatter_can_be_cancelled() -> None:
    phantom = discs(120.0, slice_mm=SLAB_MM, n_slices=4)
    cancel, told = CancelToken(), []

    def progress(stage: str, done: int, total: int) -> None:
        told.append((stage, done))
        cancel.cancel()

    with pytest.raises(Cancelled):
        simulate(
            phantom,
            scanner("fan-equiangular"),
            beam(),
            Imperfections(0.1),
            progress=progress,
            cancel=cancel,
        )
    assert told == [("scatter", 1)]


def test_what_makes_no_scatter_is_refused() -> None:
    phantom = rods()
    geometry = scanner("fan-equiangular")
    nothing = replace(phantom, densities=torch.zeros_like(phantom.densities))
    with pytest.raises(InputError, match="scatters nothing"):
        simulate(nothing, geometry, beam(), Imperfections(0.1))
    for bad in (-0.1, math.nan, math.inf):
        with pytest.raises(InputError, match="Scatter cannot be"):
            simulate(phantom, geometry, beam(), Imperfections(bad))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A scan with scatter that the command made, and its report."""
    folder = tmp_path_factory.mktemp("simulated")
    path, report = folder / "scan.ctproj.h5", folder / "report.json"
    small = ["--matrix", "48", "--views", "72", "--columns", "96", "--detector", "ideal", "--scatter", "0.2"]
    done = CliRunner().invoke(
        app, ["simulate", str(path), *small, "--report", str(report), "--progress", "none"]
    )
    assert done.exit_code == 0, done.output
    made = json.loads(report.read_text(encoding="utf-8"))
    ratio = made["details"]["scatter_ratio"]
    assert f"300 mm of water: {ratio:.3f}" in done.stdout and made["settings"]["scatter"] == 0.2
    assert 0.2 < ratio < 0.6  # the rods stand in 250 mm of water
    return path, made


def spr_used(arguments: list[str], tmp_path: Path) -> float | None:
    """The ratio that the command says it took."""
    report = tmp_path / "maps.json"
    common = ["--report", str(report), "--device", "cpu", "--progress", "none"]
    done = CliRunner().invoke(app, ["decompose", *arguments, *common])
    assert done.exit_code == 0, done.output
    return json.loads(report.read_text(encoding="utf-8"))["details"].get("scatter_ratio")


def test_decompose_takes_the_ratio_from_the_scan_unless_told_another(
    simulated: tuple[Path, dict], tmp_path: Path
) -> None:
    path, made = simulated
    plain = [str(path), str(tmp_path / "maps")]
    assert spr_used(plain, tmp_path) is None
    for method in ("kernel", "network"):
        asked = [*plain, "--scatter", method]
        assert spr_used(asked, tmp_path) == made["details"]["scatter_ratio"]
        assert spr_used([*asked, "--scatter-ratio", "0.1"], tmp_path) == 0.1


def test_the_ratio_in_the_scan_takes_more_bias_away_than_none(simulated: tuple[Path, dict]) -> None:
    scan = read_projections(simulated[0])
    silent = replace(scan, meta={k: v for k, v in scan.meta.items() if k not in (SPR_ENTRY, GRID_ENTRY)})
    body = None
    errors = {}
    for name, projections, method in (
        ("none", scan, "none"),
        ("unknown", silent, "network"),
        ("known", scan, "network"),
    ):
        result = decompose(projections, scatter=method, device="cpu")
        water = result.volumes["water"].array[0]
        if body is None:
            body = np.hypot(*(np.mgrid[:48, :48] - 23.5)) * 270 / 48 < 30  # water only, between the rods
        errors[name] = abs(float(water[body].mean()) - 1000)
    assert errors["known"] < 0.3 * errors["none"]
    assert errors["known"] < errors["unknown"]


@pytest.mark.parametrize("told", [0.0, -1, 7, "0.2", True, [0.2], math.nan])
def test_a_ratio_that_cannot_be_is_refused_where_it_is_needed(simulated: tuple[Path, dict], told) -> None:
    scan = read_projections(simulated[0])
    bad = replace(scan, meta={**scan.meta, SPR_ENTRY: told})
    with pytest.raises(InputError, match=r"'scatter_ratio' of .*give --scatter-ratio 0.001 to 2"):
        decompose(bad, scatter="kernel", device="cpu")
    assert decompose(bad, device="cpu").volumes
    assert decompose(bad, scatter="kernel", scatter_ratio=0.2, device="cpu").volumes
    grid = replace(scan, meta={**scan.meta, GRID_ENTRY: [told]})
    with pytest.raises(InputError, match=r"'grid_ratio' of .*give --grid-ratio 0 to 40"):
        decompose(grid, scatter="kernel", device="cpu")
