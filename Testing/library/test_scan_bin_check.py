"""Energy bins of one scan that do not belong together are named; sound ones are not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ellipse_scan import BODY, DISC, scan

from ctenhance.core.report import ReportBuilder
from ctenhance.decomposition import decompose
from ctenhance.decomposition.scanner import named_scan
from ctenhance.physics.geometry import ParallelGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.projector import project
from ctenhance.scan.air_level import bin_air_warning
from ctenhance.scan.geometry_check import check_geometry, tell_geometry
from ctenhance.scan.projections import Projections
from ctenhance.scan.rays import ray_fields
from ctenhance.scan.some_rows import read_rows

FAN = "fan_equiangular"
#: Attenuation of a body and of what is in it, by bin: bone or iodine, softer from bin to bin.
BODY_BY_BIN, BONE_BY_BIN = np.array([1.25, 1.05, 0.95, 0.85, 0.8]), np.array([1.6, 1.2, 0.9, 0.7, 0.6])
Ellipses = list[tuple[float, ...]]
Change = Callable[[np.ndarray], np.ndarray]


def spectral(
    n_bins: int = 5,
    quanta: float = 5e4,
    bodies: Ellipses | None = None,
    geometry: str = FAN,
    views: int = 240,
    offset: float = 0.0,
    seed: int = 0,
) -> Projections:
    """A scan in bins, the beam hardened, the highest with a tenth of the quanta of the others."""
    bodies = BODY if bodies is None else bodies
    of = [scan(geometry, [one], views=views, offset=offset, rows=1) for one in bodies]
    weights = [BODY_BY_BIN] + [BONE_BY_BIN if one[-1] > 0 else BODY_BY_BIN for one in bodies[1:]]
    lines = sum(np.asarray(one.line_integrals)[..., None] * w for one, w in zip(of, weights, strict=True))
    lines = (lines - 0.01 * lines**2)[..., :n_bins]
    air = np.full(n_bins, quanta)
    air[-1] /= 10
    counts = np.random.default_rng(seed).poisson(air * np.exp(-lines)).astype(np.float32)
    whole = scan(geometry, bodies, views=views, offset=offset, rows=1)
    return replace(whole, line_integrals=None, counts=counts, air_counts=air)


def with_bin(p: Projections, b: int, change: Change) -> Projections:
    """Another order of one bin's readings `[view, row, column]`."""
    counts = np.array(p.counts)
    counts[..., b] = change(counts[..., b])
    return replace(p, counts=counts)


def by_views(n: int) -> Change:
    return lambda one: np.roll(one, n, axis=0)


def by_columns(n: int) -> Change:
    return lambda one: np.roll(one, n, axis=2)


FAULTS = [
    pytest.param(by_views(3), {"views_late": 3}, "comes 3 views (4.5 degrees) too late", id="late"),
    pytest.param(by_views(-2), {"views_late": -2}, "comes 2 views (3 degrees) too early", id="early"),
    pytest.param(by_views(120), {"views_late": 120}, "(180 degrees) too late", id="half a turn"),
    pytest.param(by_columns(2), {"columns_aside": 2}, "lies 2 columns too far towards the last", id="aside"),
    pytest.param(by_columns(-1), {"columns_aside": -1}, "too far towards the first", id="one column"),
    pytest.param(
        lambda one: one[:, :, ::-1], {"reversed": "columns"}, "has its columns in the rev", id="mirrored"
    ),
    pytest.param(lambda one: one[::-1], {"reversed": "views"}, "its views in the reverse", id="backwards"),
]


@pytest.mark.parametrize("n_bins", [2, 5])
@pytest.mark.parametrize("quanta", [5e4, 2e3])
@pytest.mark.parametrize(("change", "likely", "said"), FAULTS)
def test_a_bin_that_was_not_read_with_the_others_is_named(
    change: Change, likely: dict[str, object], said: str, quanta: float, n_bins: int
) -> None:
    fault, facts = check_geometry(with_bin(spectral(n_bins, quanta), 1, change))
    assert fault is not None and facts["likely_geometry"]["bins"] == [1], facts
    assert f"bin 1 {said}" in fault.sentence or said in fault.sentence
    for name, value in likely.items():
        (found,) = facts["likely_geometry"][name]
        assert found == (value if isinstance(value, str) else pytest.approx(value, abs=0.2))


@pytest.mark.parametrize("b", [0, 2, 4])
def test_the_odd_one_is_named_whichever_it_is(b: int) -> None:
    """That all others are compared with one that is itself aside makes it no better."""
    fault, _ = check_geometry(with_bin(spectral(), b, by_views(2)))
    assert fault is not None and fault.likely["bins"] == [b]
    assert fault.likely["views_late"] == [pytest.approx(2, abs=0.2)]


@pytest.mark.parametrize("b", [0, 1])
def test_opposite_rays_tell_which_of_two_bins_lies_aside(b: int) -> None:
    fault, _ = check_geometry(with_bin(spectral(2), b, by_columns(2)))
    assert fault is not None and fault.likely["bins"] == [b] and "agree in the other bin" in fault.sentence


def test_views_do_not_tell_which_of_two_bins_is_late() -> None:
    fault, _ = check_geometry(with_bin(spectral(2), 0, by_views(3)))
    assert fault is not None and "or the other bin" in fault.sentence


RODS = [*DISC, *((50 * math.cos(a), 50 * math.sin(a), 8.0, 8.0, 0.0, 0.5) for a in range(6))]


@pytest.mark.parametrize("geometry", ["fan_flat", "parallel"])
@pytest.mark.parametrize("views", [90, 360])
@pytest.mark.parametrize("quanta", [1e6, 500.0])
@pytest.mark.parametrize("bodies", [BODY, DISC, RODS], ids=["body", "disc", "rods"])
def test_bins_of_one_scan_are_in_step(bodies: Ellipses, quanta: float, views: int, geometry: str) -> None:
    fault, _ = check_geometry(spectral(5, quanta, bodies, geometry, views))
    assert fault is None or "bins" not in fault.likely


def broken(counts: np.ndarray) -> None:
    counts[:, :, 60:72, 1] = 0
    counts[:, :, [20, 90, 130], 2] = 0


def gains(counts: np.ndarray) -> None:
    counts *= np.random.default_rng(1).normal(1, 0.05, counts.shape[2:]).astype(np.float32)


def piled_up(counts: np.ndarray) -> None:
    load = counts.sum(-1, keepdims=True) / counts.sum(-1).max()
    counts *= np.exp(-0.5 * load)


def drifting(counts: np.ndarray) -> None:
    counts[..., 2] *= np.linspace(1, 0.8, len(counts))[:, None, None].astype(np.float32)


def scattered(counts: np.ndarray) -> None:
    counts += counts.max((0, 1, 2)) * np.float32(0.01) * np.linspace(1.5, 0.2, counts.shape[-1]).astype("f")


@pytest.mark.parametrize("change", [broken, gains, piled_up, drifting, scattered])
@pytest.mark.parametrize("bodies", [BODY, DISC], ids=["body", "disc"])
def test_flaws_of_a_bin_do_not_put_it_out_of_step(
    bodies: Ellipses, change: Callable[[np.ndarray], None]
) -> None:
    p = spectral(4, bodies=bodies)
    counts = np.array(p.counts)
    change(counts)
    fault, _ = check_geometry(replace(p, counts=counts))
    assert fault is None or "bins" not in fault.likely


def test_a_detector_that_stands_aside_does_not_either() -> None:
    fault, _ = check_geometry(spectral(3, offset=-45.0))
    assert fault is None or "bins" not in fault.likely


@pytest.mark.parametrize("views", [90, 360])
def test_real_bins_around_absorption_edges_are_in_step(shared_data: Path, views: int) -> None:
    """Iodine, barium and gadolinium, measured in eight bins about their edges, projected again."""
    path = shared_data / "spectral" / "microct_8bins_real.npz"
    if not path.is_file():
        pytest.skip("the real photon-counting measurement is not here")
    with np.load(path, allow_pickle=False) as file:
        planes = torch.from_numpy(np.moveaxis(file["mu_per_cm"], -1, 0) / 10)
    planes = torch.nn.functional.avg_pool2d(planes[:, None], 3)[:, 0].float()
    grid = ImageGrid(*planes.shape[-2:], 3 * 0.0453)
    geometry = ParallelGeometry.covering(grid, n_views=views)
    lines = project(planes, geometry, grid).numpy().transpose(1, 2, 0)[:, None]
    counts = np.random.default_rng(0).poisson(2e4 * np.exp(-lines)).astype(np.float32)
    p = Projections(counts=counts, air_counts=np.full(8, 2e4), water_mu_per_mm=0.02, **ray_fields(geometry))
    fault, _ = check_geometry(p)
    assert fault is None or "bins" not in fault.likely
    fault, _ = check_geometry(with_bin(p, 5, by_views(3)))
    assert fault is not None and fault.likely["bins"] == [5]


@pytest.fixture(scope="module")
def photon_counting() -> Projections:
    return named_scan("chest", matrix=96, views=240, columns=160, thresholds_kev=(20.0, 65.0))


def test_decompose_says_it_once_and_nothing_else_of_the_cause(photon_counting: Projections) -> None:
    sound = decompose(photon_counting, device="cpu").report
    assert sound["details"]["data_consistency"]["consistent"], sound["warnings"]
    for change in (by_views(3), by_columns(2)):
        report = decompose(with_bin(photon_counting, 1, change), device="cpu").report
        found = report["details"]["data_consistency"]
        assert not found["consistent"] and found["likely_geometry"]["bins"] == [1]
        (sentence,) = [one for one in report["warnings"] if "do not belong together" in one]
        assert sentence == found["geometry_warning"]
        assert not [one for one in report["warnings"] if "central_column" in one or "drifted" in one]


@pytest.mark.parametrize("n_bins", [2, 5])
@pytest.mark.parametrize(("factor", "said"), [(0.94, "1.06 times too low"), (1.25, "1.25 times too high")])
def test_air_counts_of_one_bin_that_are_off_are_named(n_bins: int, factor: float, said: str) -> None:
    p = spectral(n_bins)
    air = np.array(p.air_counts)
    air[1] *= factor
    found = tell_geometry(replace(p, air_counts=air), ReportBuilder("decompose"))
    assert not found["consistent"] and "energy bin 1 (from 0" in found["values_warning"]
    assert said in found["values_warning"]


@pytest.mark.parametrize("quanta", [5e4, 100.0])
@pytest.mark.parametrize("offset", [0.0, -45.0])
def test_air_counts_of_sound_bins_are_not(quanta: float, offset: float) -> None:
    assert bin_air_warning(read_rows(spectral(4, quanta, offset=offset))) is None


def test_reconstruction_is_warned_as_well(photon_counting: Projections) -> None:
    report = ReportBuilder("reconstruct")
    found = tell_geometry(with_bin(photon_counting, 1, by_views(3)), report)
    assert not found["consistent"] and [one for one in report.finish()["warnings"] if "3 views" in one]
