"""Helical scans as fan slices: an analytic phantom comes out with its HU, where it is."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helical_scan import WATER, HelicalScan

from ctenhance.core import arrays
from ctenhance.core.report import ReportBuilder
from ctenhance.files.ctpd.writing import write_ctpd
from ctenhance.files.projections import read_projections
from ctenhance.physics.fbp import fbp
from ctenhance.physics.units import mu_to_hu
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancelled, CancelToken
from ctenhance.scan.geometry_check import check_geometry, tell_geometry
from ctenhance.scan.projections import Projections
from ctenhance.scan.rebin import rebin_helix, rebin_projections

PIXEL, SIZE = 2.6, 88


def hounsfield(projections: Projections) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Reconstructed HU [z, y, x], and the LPS coordinates of its voxels."""
    grid = projections.image_grid(SIZE, PIXEL)
    lines = projections.to_line_integrals()
    hu = mu_to_hu(fbp(lines, projections.scan_geometry(), grid, "hann"), WATER).numpy()
    volume = projections.volume(hu.astype(np.float32), grid)
    z, y, x = (
        axis * spacing + start
        for axis, spacing, start in zip(
            np.indices(hu.shape), volume.spacing[::-1], volume.origin[::-1], strict=True
        )
    )
    return hu, x, y, z


def check_phantom(projections: Projections, scan: HelicalScan, place: float = 0.4) -> None:
    """Water at 0 HU, the sphere at 500 HU within `place` mm of where it is; on the back, head first."""
    hu, x, y, z = hounsfield(projections)
    true = np.array([scan.sphere[0], -scan.sphere[1], scan.sphere[2]])
    inside = np.hypot(x, y) < 85
    off = np.sqrt((x - true[0]) ** 2 + (y - true[1]) ** 2 + (z - true[2]) ** 2)
    weight = np.clip(hu - 150, 0, 400) * inside
    found = np.array([(weight * axis).sum() / weight.sum() for axis in (x, y, z)])
    assert found == pytest.approx(true, abs=place)
    water = hu[inside & (off > 30)]
    assert water.mean() == pytest.approx(0, abs=2) and water.std() < 5
    assert hu[off < 8].mean() == pytest.approx(500, abs=8)
    assert hu[np.hypot(x, y) > 115].mean() == pytest.approx(-1000, abs=2)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sense": -1.0, "feed": -20.0, "start_z": 27.0},
        {"flat": True},
        {"z_shifts": (0.6, -0.6)},
        {"angle_shifts": (0.004, -0.004), "radius_shifts": (0.0, -1.5)},
        {"per_angle": 2, "angle_shifts": (0.022, -0.022)},
        {"views_per_turn": 143.37},
    ],
    ids=[
        "helix",
        "the other way round",
        "flat",
        "focal spot flies in z",
        "in the plane",
        "at each angle",
        "no whole turns",
    ],
)
def test_phantom(changes: dict[str, Any]) -> None:
    scan = HelicalScan(**changes)
    check_phantom(rebin_helix(scan.helix()), scan)


def test_from_files_with_rows_counted_the_other_way(tmp_path: Path) -> None:
    scan = HelicalScan(row_sign=1.0)
    write_ctpd(tmp_path / "scan", replace_rows(scan), column_fastest=True)
    projections = read_projections(tmp_path / "scan")
    assert "counted the other way round" in projections.meta["notes"][0]
    check_phantom(projections, scan)


def replace_rows(scan: HelicalScan) -> Any:
    """The scan's helix, labelled with the format's row direction although its readings have the other."""
    return replace(scan.helix(), row_pitch_mm=-scan.row_spacing)


def test_from_files(tmp_path: Path) -> None:
    scan = HelicalScan(photons=np.full(96, 1e5))
    write_ctpd(tmp_path / "scan", scan.helix())
    stages = []
    projections = read_projections(
        tmp_path / "scan", lambda stage, done, total: stages.append((stage, done, total))
    )
    check_phantom(projections, scan)
    assert projections.meta["notes"] == [] and projections.meta["table_feed_mm"] == pytest.approx(
        20, rel=1e-3
    )
    assert ("rebin", scan.n_views, scan.n_views) in stages and stages[0][0] == "read headers"
    # each reading is the mean of two turns' rays and, in each, of two rows
    assert np.all((projections.air_counts > 1.5e5) & (projections.air_counts < 2.25e5))
    projections.write(tmp_path / "fan.ctproj.h5")
    again = read_projections(tmp_path / "fan.ctproj.h5")
    assert again.identity() == projections.identity() and again.isocenter_mm == projections.isocenter_mm


def test_rows_of_a_projection_file_that_run_the_other_way_are_told() -> None:
    scan = HelicalScan(cylinder_center=(25.0, -15.0), cylinder_radius=80.0)
    assert rebin_helix(scan.helix()).readers_notes == []
    wrong = replace(scan.helix(), load=lambda view: scan.line_integrals(view)[::-1])
    (note,) = rebin_helix(wrong).readers_notes
    assert "from the other end" in note
    report = ReportBuilder("reconstruct")
    found = tell_geometry(rebin_helix(wrong), report)
    assert not found["consistent"] and found["geometry_warning"]
    assert tell_geometry(rebin_helix(scan.helix()), report)["consistent"]
    # a feed that runs the other way is the same
    (note,) = rebin_helix(replace(scan.helix(), focal_z=-scan.helix().focal_z)).readers_notes
    assert "'/view_z_mm'" in note


@pytest.mark.parametrize("factor", [0.5, 1.3, 2.0])
def test_another_feed_than_the_rows_see_is_named(factor: float) -> None:
    helix = HelicalScan(cylinder_center=(25.0, -15.0), cylinder_radius=80.0).helix()
    wrong = rebin_helix(replace(helix, focal_z=factor * helix.focal_z))
    note = wrong.readers_notes[0]
    feed, rows = re.findall(r"feed is ([0-9.]+) mm a turn .* 'row_pitch_mm' ([0-9.]+) and", note)[0]
    assert float(feed) == pytest.approx(20, abs=1) and float(rows) == pytest.approx(3 * factor, rel=0.06)
    found = tell_geometry(wrong, report := ReportBuilder("reconstruct"))
    assert found["geometry_warning"] == note and not found["consistent"]
    assert not report.finish()["notes"]


@pytest.mark.parametrize(
    "changes",
    [{"rows": 1, "feed": 1.0, "start_z": -2.0, "central": (48.75, 1.0)}, {"feed": 30.0, "start_z": -45.0}],
)
def test_a_feed_that_the_rows_cannot_show_is_noted(changes: dict[str, Any]) -> None:
    p = rebin_helix(HelicalScan(**changes).helix())
    assert not any("likely wrong" in note for note in p.readers_notes)
    tell_geometry(p, report := ReportBuilder("reconstruct"))
    assert any("do not show whether the table's feed" in note for note in report.finish()["notes"])


def test_the_slices_of_a_helix_tell_whether_its_geometry_is_right() -> None:
    for feed, start in ((20.0, -27.0), (40.0, -60.0)):
        scan = HelicalScan(
            cylinder_center=(25.0, -15.0), cylinder_radius=80.0, feed=feed, start_z=start, central=(49.5, 8.5)
        )
        helix = scan.helix()
        assert check_geometry(rebin_helix(helix))[0] is None
        mirrored = replace(helix, load=lambda view, scan=scan: scan.line_integrals(view)[:, ::-1])
        found = check_geometry(rebin_helix(mirrored))[0]
        assert "reversed" in found.likely
        assert "once the columns are put into the reverse order" in found.sentence
        off = replace(helix, central_column=helix.central_column - 2)
        found = check_geometry(rebin_helix(off))[0].likely
        assert found == {"central_column": pytest.approx(48.5, abs=0.2)}


def test_helical_projection_file(tmp_path: Path) -> None:
    scan = HelicalScan(row_sign=1.0, start_phi=-0.4)
    phi, z = scan.focal()
    p = np.stack([scan.line_integrals(view) for view in range(scan.n_views)])
    air = 1e6
    fields: dict[str, Any] = {
        "geometry": "fan_equiangular",
        "view_angles": -phi,
        "view_z_mm": z,
        "central_column": scan.central[0] - 1,
        "column_pitch_rad": scan.helix().column_pitch,
        "source_to_isocenter_mm": scan.focal_radius,
        "source_to_detector_mm": scan.detector_distance,
        "row_pitch_mm": scan.row_spacing,
        "water_mu_per_mm": WATER,
    }
    helix = Projections(counts=(air * np.exp(-p)).astype(np.float32), air_counts=np.asarray(air), **fields)
    helix.write(tmp_path / "helix.ctproj.h5")
    assert Projections.read(tmp_path / "helix.ctproj.h5").helical
    check_phantom(read_projections(tmp_path / "helix.ctproj.h5"), scan)
    helix.effective_spectra, helix.energies_keV = np.array([[1.0, 2.0]]), np.array([60.0, 70.0])
    helix.image_size, helix.electronic_noise_variance = 128, 10.0
    slices = rebin_projections(helix)
    assert np.array_equal(slices.effective_spectra, helix.effective_spectra)
    assert slices.image_size == 128
    assert slices.electronic_noise_variance == pytest.approx(10 * np.mean(slices.air_counts) / air)
    assert slices.electronic_noise_variance > 10
    with pytest.raises(InputError, match="no slices"):
        helix.rows(0, 1)
    bins = Projections(counts=np.ones((*p.shape, 2), np.float32), air_counts=np.asarray(1.0), **fields)
    bins.write(tmp_path / "bins.ctproj.h5")
    with pytest.raises(InputError, match="Only fan-beam projections of one energy"):
        read_projections(tmp_path / "bins.ctproj.h5")


def test_one_turn_at_one_place() -> None:
    scan = HelicalScan(feed=0.0, turns=1.0, start_z=5.0)
    p = rebin_helix(scan.helix())
    assert p.shape == (144, 16, 96)
    assert p.row_pitch_mm == pytest.approx(3 * 595 / 1085.6)
    assert p.isocenter_mm[2] + 7.5 * p.row_pitch_mm == pytest.approx(5.0)
    hu, x, y, _ = hounsfield(p)
    assert hu[:, np.hypot(x, y)[0] < 20].mean() == pytest.approx(0, abs=2)


def test_thick_slices_average_rows() -> None:
    scan = HelicalScan()
    draw = np.random.default_rng(0)
    noise = draw.normal(0, 0.05, (scan.n_views, scan.rows, scan.columns)).astype(np.float32)
    helix = replace(scan.helix(), load=lambda view: noise[view], photons=np.full(scan.columns, 1e4))
    thin, thick = (rebin_helix(helix, mm) for mm in (None, 6.6))
    assert thick.n_rows == pytest.approx(thin.n_rows / 4, abs=1) and thick.row_pitch_mm == 6.6
    for p in (thin, thick):
        # the air counts tell the noise of the slices
        quanta = float(p.air_counts[0]) / 1e4
        assert np.asarray(p.line_integrals).std() == pytest.approx(0.05 / math.sqrt(quanta), rel=0.06)


def test_a_gap_between_the_turns_is_told() -> None:
    scan = HelicalScan(feed=40.0, start_z=-60.0)
    p = rebin_helix(scan.helix(), 4.0)
    assert any("more than the detector's" in note for note in p.meta["notes"])


def test_large_scans_stay_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = HelicalScan(turns=2.2, views_per_turn=48)
    small = rebin_helix(scan.helix())
    monkeypatch.setattr(arrays, "LARGEST_IN_MEMORY", 1000)
    large = rebin_helix(scan.helix())
    assert isinstance(large.line_integrals, np.memmap)
    assert np.array_equal(small.line_integrals, large.line_integrals)


def test_refusals() -> None:
    helix = HelicalScan(views_per_turn=48).helix()
    n = helix.n_views
    gap = np.r_[0:40, 60:n]
    for changes, part in [
        (at_views(helix, gap), "20 views are missing after view 40"),
        (at_views(helix, np.r_[0:40]), "a whole turn is needed"),
        (at_views(helix, np.r_[0:48]), "hold no whole slice"),
        (at_views(helix, np.r_[0:60, 59:50:-1]), "do not turn in one direction"),
        ({"focal_z": helix.focal_z + 30 * (np.arange(n) > 70)}, "does not move evenly"),
    ]:
        with pytest.raises(InputError, match=part):
            rebin_helix(replace(helix, **changes))
    with pytest.raises(InputError, match="Slices of -1 mm"):
        rebin_helix(helix, -1)
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        rebin_helix(helix, cancel=token)


def at_views(helix: Any, views: np.ndarray) -> dict[str, Any]:
    """The helix's per-view fields at some of its views."""
    names = (
        "focal_angle", "focal_z", "focal_radius", "angle_shift", "z_shift", "radius_shift",
        "detector_distance", "central_column",
    )  # fmt: skip
    return {name: getattr(helix, name)[views] for name in names}
