"""Views in which the tube failed are told by number, and are no body beyond the detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from ellipse_scan import DISC, scan
from scipy import ndimage

from ctenhance.core.report import ReportBuilder
from ctenhance.scan.geometry_check import check_geometry, tell_geometry
from ctenhance.scan.projections import Projections
from ctenhance.scan.some_rows import read_rows
from ctenhance.scan.truncation import truncation_warning
from ctenhance.scan.view_check import aside_in_turn, view_offsets, view_warning, views_aside

ROWS = [0, 1]


def changed(change: Callable[[np.ndarray], None], quanta: float = 1e5) -> Projections:
    whole = scan(quanta=quanta)
    counts = np.array(whole.counts)
    change(counts)
    return replace(whole, counts=counts)


def arced(counts: np.ndarray) -> None:
    counts[100:103] *= 0.02


def dropped(counts: np.ndarray) -> None:
    """Of the voltage: more is missing behind the body."""
    counts[40] = 0.8 * counts.max() * (counts[40] / counts.max()) ** 1.1


def twice(counts: np.ndarray) -> None:
    counts[7] *= 0.7
    counts[200:206] *= 0.5


@pytest.mark.parametrize("quanta", [1e5, 3e3])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (arced, "Views 100 to 102 (counted from 0) count up to 5"),
        (dropped, "View 40 (counted from 0) count"),
        (twice, "Views 7, 200 to 205 (counted from 0) count up to 2"),
    ],
)
def test_views_in_which_the_tube_failed_are_told(change: Callable, said: str, quanta: float) -> None:
    warning = view_warning(read_rows(changed(change, quanta), ROWS))
    assert warning is not None and warning.startswith(said) and "the tube arced" in warning


def test_line_integrals_are_told_by_their_offset() -> None:
    whole = scan()
    lines = np.array(whole.line_integrals)
    lines[30:32] += 1.5
    warning = view_warning(read_rows(replace(whole, line_integrals=lines), ROWS))
    assert warning is not None and warning.startswith("Views 30 to 31 (counted from 0) have")
    assert "+1.5 from those beside" in warning


def blank(counts: np.ndarray) -> None:
    counts[[77, 200]] = 0


@pytest.mark.parametrize("change", [arced, blank])
@pytest.mark.parametrize("quanta", [1e5, 3e3])
def test_views_that_count_less_are_no_body_beyond_the_detector(change: Callable, quanta: float) -> None:
    """A few views in three hundred, spread over nine each where the ends are looked at."""
    p = changed(change, quanta)
    grid = p.image_grid(64, None, None)
    assert truncation_warning(p, p.scan_geometry(), grid) is None
    report = ReportBuilder("reconstruct")
    assert tell_geometry(p, report)["consistent"]
    (warning,) = report.finish()["warnings"]
    assert warning.startswith("Views 100 to 102" if change is arced else "Views 77, 200")


def test_a_body_beyond_the_detector_is_still_told_beside_such_views() -> None:
    whole = scan(quanta=1e5, field=200.0)
    counts = np.array(whole.counts)
    arced(counts)
    p = replace(whole, counts=counts)
    warning = truncation_warning(p, p.scan_geometry(), p.image_grid(64, None, None))
    assert warning is not None and warning.startswith("Body or table reach beyond")


@pytest.mark.parametrize("ellipses", [None, DISC])
@pytest.mark.parametrize("quanta", [None, 1e5, 300.0])
@pytest.mark.parametrize(
    ("geometry", "views"), [("fan_flat", 300), ("parallel", 60), ("fan_equiangular", 90)]
)
def test_sound_scans_are_not(ellipses: list | None, quanta: float | None, geometry: str, views: int) -> None:
    assert (
        view_warning(read_rows(scan(geometry, ellipses=ellipses, quanta=quanta, views=views), ROWS)) is None
    )


def test_current_that_follows_the_body_or_alternates_is_none() -> None:
    whole = scan(quanta=1e5)
    lines = whole.rows(0, 1).to_line_integrals()[0].double().numpy()
    angles = np.asarray(whole.view_angles)
    for change in (0.5 * np.sin(2 * angles), 0.4 * (np.arange(len(angles)) % 2)):
        assert not view_offsets(lines + change[:, None]).any()


def test_a_patient_who_moves_or_is_cut_off_is_none() -> None:
    moved = scan(move=lambda part: (12.0 * (part > 0.5), 0.0))
    assert view_warning(read_rows(moved, ROWS)) is None
    assert view_warning(read_rows(scan(field=220.0, quanta=1e5), ROWS)) is None


@pytest.mark.parametrize("kind", ["fan_flat", "fan_equiangular", "parallel"])
@pytest.mark.parametrize("quanta", [None, 1.25e5, 6250.0, 1000.0])
def test_every_second_view_aside_is_told(kind: str, quanta: float | None) -> None:
    p = scan(kind, quanta=quanta, field=480.0)
    lines = p.to_line_integrals()[0].double().numpy()
    assert aside_in_turn(lines) == 0
    for apart in (0.2, 0.5, 1.0):
        moved = lines.copy()
        for first, by in ((0, apart / 2), (1, -apart / 2)):
            moved[first::2] = ndimage.shift(lines[first::2], (0, by), order=1, mode="nearest")
        assert abs(aside_in_turn(moved)) == pytest.approx(apart, rel=0.15)
    readings = np.repeat(moved[:, None], 2, 1).astype(np.float32)
    told = replace(p, counts=None, air_counts=None, line_integrals=readings)
    report = ReportBuilder("reconstruct")
    found = tell_geometry(told, report)
    assert found["likely_geometry"] == {"views_aside_in_turn": pytest.approx(1.0, rel=0.15)}
    assert not found["consistent"] and found["geometry_warning"] in report.finish()["warnings"]
    assert "columns aside of the others (row 0), as with a focal spot" in found["geometry_warning"]
    assert views_aside(read_rows(p), 0.0) is None


@pytest.mark.parametrize("kind", ["fan_flat", "fan_equiangular"])
@pytest.mark.parametrize(("apart", "off"), [(0.5, 3.0), (1.0, -5.0)])
def test_views_aside_in_turn_are_no_other_centre(kind: str, apart: float, off: float) -> None:
    p = scan(kind, field=480.0)
    lines = np.array(p.line_integrals)
    for first, by in ((0, apart / 2), (1, -apart / 2)):
        lines[first::2] = ndimage.shift(lines[first::2], (0, 0, by), order=1, mode="nearest")
    told = replace(p, line_integrals=lines, central_column=p.central_column + off)
    fault, _ = check_geometry(told)
    assert fault is not None and fault.sentence.startswith("Every second view lies")
    assert fault.likely == {
        "views_aside_in_turn": pytest.approx(apart, rel=0.15),
        "central_column": pytest.approx(p.central_column, abs=0.1),
    }
    assert "In the middle between both the central column is" in fault.sentence
    # of one half of them
    rows = read_rows(replace(told, central_column=p.central_column + apart / 2))
    fault = views_aside(rows, 0.1, p.central_column)
    assert fault is not None and set(fault.likely) == {"views_aside_in_turn"}
    assert fault.sentence.endswith(
        f"the file's, {p.central_column + apart / 2:g}, is that of one half of them."
    )
    # without views aside it is the centre alone
    moved, _ = check_geometry(replace(p, central_column=p.central_column + off))
    assert moved is not None and set(moved.likely) == {"central_column"}


def test_a_gain_that_changes_in_turn_is_no_shift() -> None:
    lines = scan("fan_flat", quanta=None, field=480.0).to_line_integrals()[0].double().numpy()
    assert aside_in_turn(lines * np.where(np.arange(len(lines)) % 2, 1.0, 0.9)[:, None]) == 0
    cut_off = lines[:, len(lines[0]) // 2 :]
    assert aside_in_turn(cut_off + np.where(np.arange(len(lines)) % 2, 0.03, 0.0)[:, None]) == 0
