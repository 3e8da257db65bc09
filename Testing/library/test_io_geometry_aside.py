"""A detector that stands aside (half-fan) behind a wide body: a wrong geometry is named, a right one is not
accused, and what the readings cannot tell is not called consistent."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ellipse_scan import BODY, COLUMNS, VIEWS, scan

from ctenhance.core.report import ReportBuilder
from ctenhance.physics.inner_rays import NOTHING, InnerRays
from ctenhance.physics.opposite_rays import Supposed
from ctenhance.scan.geometry_check import check_geometry, tell_geometry
from ctenhance.scan.projections import Projections

#: 15 columns of 2 mm are the shorter side, of a body of 300 mm; and the other way round.
SIDES = (-75.0, 74.6)
FANS = ("fan_flat", "fan_equiangular")
QUANTA = 1e5


def half_fan(
    kind: str = "fan_flat", quanta: float | None = QUANTA, side: float = SIDES[0], **body: Any
) -> Projections:
    return scan(kind, quanta=quanta, offset=side, arc=2 * math.pi, field=400.0, **body)


def changed(p: Projections, change: Any, **fields: Any) -> Projections:
    name = "line_integrals" if p.counts is None else "counts"
    return replace(p, **{name: np.ascontiguousarray(change(p.readings)), **fields})


def put(place: Any, value: float) -> Any:
    def change(readings: np.ndarray) -> np.ndarray:
        readings = readings.copy()
        readings[place] = value
        return readings

    return change


@pytest.mark.parametrize("kind", [*FANS, "parallel"])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("quanta", [None, 1e6, 5e3])
def test_a_right_geometry_is_not_accused(kind: str, side: float, quanta: float | None) -> None:
    fault, facts = check_geometry(half_fan(kind, quanta, side))
    assert fault is None and "geometry_warning" not in facts


@pytest.mark.parametrize(
    "bad",
    [
        lambda p: changed(p, put(np.s_[:, :, [9, 14, 15, 90]], 0)),
        lambda p: changed(p, put(np.s_[:, :, 5:9], 0)),
        lambda p: changed(p, put(VIEWS // 2, 0)),
        lambda p: changed(
            p, lambda r: np.delete(r, VIEWS // 3, 0), view_angles=np.delete(p.view_angles, VIEWS // 3)
        ),
        lambda p: changed(p, lambda r: r * np.random.default_rng(1).normal(1, 0.03, COLUMNS).astype("f4")),
        lambda p: changed(p, lambda r: r * np.linspace(0.95, 1.05, COLUMNS, dtype="f4")),
        lambda p: changed(p, lambda r: r * np.linspace(0.97, 1.03, VIEWS, dtype="f4")[:, None, None]),
        lambda p: half_fan(p.geometry, move=lambda part: (0.0, 1.5 * math.sin(2 * math.pi * part))),
    ],
    ids=[
        "dead columns",
        "dead side by side",
        "lost view",
        "left out view",
        "rings",
        "heel",
        "drift",
        "breath",
    ],
)
@pytest.mark.parametrize("kind", FANS)
def test_bad_readings_of_a_right_geometry(kind: str, bad: Any) -> None:
    fault, facts = check_geometry(bad(half_fan(kind)))
    assert fault is None and "geometry_warning" not in facts


@pytest.mark.parametrize("kind", [*FANS, "parallel"])
@pytest.mark.parametrize(
    ("quanta", "side", "off"),
    [
        (None, SIDES[0], 0.5),
        (QUANTA, SIDES[1], -1.0),
        (1e4, SIDES[0], 3.0),
        (QUANTA, SIDES[1], -10.0),
        (None, SIDES[0], 30.0),
    ],
)
def test_the_centre_is_found(kind: str, quanta: float | None, side: float, off: float) -> None:
    p = half_fan(kind, quanta, side)
    fault, facts = check_geometry(replace(p, central_column=p.central_column + off))
    assert facts["likely_geometry"] == {"central_column": pytest.approx(p.central_column, abs=0.15)}
    assert fault.differ_if < 0.5 * facts["opposite_rays_differ"]


@pytest.mark.parametrize("kind", FANS)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("quanta", [None, 1e4])
def test_the_direction_is_found(kind: str, side: float, quanta: float | None) -> None:
    p = half_fan(kind, quanta, side)
    for wrong in (replace(p, view_angles=-p.view_angles), changed(p, lambda r: r[:, :, ::-1])):
        fault, facts = check_geometry(wrong)
        assert facts["likely_geometry"] == {"reversed": "view_angles or columns"}
        # mirrored columns have their short side elsewhere
        said = re.findall(r"'central_column' becomes ([0-9.]*[0-9])", fault.sentence)
        assert float(said[-1]) == pytest.approx(COLUMNS - 1 - wrong.central_column, abs=0.3)
    both = replace(p, view_angles=-p.view_angles, central_column=p.central_column + 3)
    assert "reversed" in check_geometry(both)[1]["likely_geometry"]


@pytest.mark.parametrize("kind", FANS)
@pytest.mark.parametrize(("side", "quanta"), [(SIDES[0], None), (-60.0, 1e6), (66.0, QUANTA)])
def test_the_spacing_is_found(kind: str, side: float, quanta: float | None) -> None:
    p = half_fan(kind, quanta, side)
    name = "column_pitch_mm" if kind == "fan_flat" else "column_pitch_rad"
    for factor in (0.93, 1.08, 0.55):
        fault, facts = check_geometry(replace(p, **{name: factor * getattr(p, name)}))
        assert facts["likely_geometry"] == {name: pytest.approx(getattr(p, name), rel=0.01)}
        assert "beyond their noise" in fault.sentence and "geometry_note" not in facts
    if kind == "fan_flat":
        fault, _ = check_geometry(replace(p, source_to_detector_mm=1.07 * p.source_to_detector_mm))
        assert re.search(r"'source_to_detector_mm' from 1162 to 10(8\d|9[01])", fault.sentence)


def test_a_spacing_is_that_of_all_arcs_of_the_scan() -> None:
    p = half_fan(quanta=None, side=-60.0)
    inner = InnerRays(p.transmission(), torch.from_numpy(p.view_angles))
    per_column = float(p.column_pitch_mm or 0) / float(p.source_to_detector_mm or 1)
    by, error = inner.spacing(Supposed(p.central_column, 0.98 * per_column, True))
    assert by == pytest.approx(0.0204, abs=0.003) and error < 0.002
    assert inner.spacing(Supposed(p.central_column, 0.0)) is None
    assert inner.spacing(Supposed(1.0, per_column, True)) is None


@pytest.mark.parametrize("kind", FANS)
@pytest.mark.parametrize("side", [SIDES[0], 60.0])
@pytest.mark.parametrize("quanta", [None, QUANTA])
def test_a_patient_who_moves_names_no_spacing(kind: str, side: float, quanta: float | None) -> None:
    for move in (
        lambda part: (6 * part, 0.0),
        lambda part: (0.0, 5.0 * (part > 0.4)),
        lambda part: (0.0, 4 * math.sin(4 * math.pi * part)),
    ):
        _, facts = check_geometry(half_fan(kind, quanta, side, move=move))
        named = {"column_pitch_mm", "column_pitch_rad", "view_angles"}
        assert not named & set(facts.get("likely_geometry", ()))


@pytest.mark.parametrize(
    ("quanta", "what"), [(1e6, "whether the detector's shape"), (1e4, "columns' spacing")]
)
def test_what_cannot_be_checked_is_noted_once(quanta: float, what: str) -> None:
    report = ReportBuilder("reconstruct")
    found = tell_geometry(half_fan(quanta=quanta, side=-60.0), report)
    assert found["consistent"] and found["spacing_checked"] == (quanta == 1e6)
    (note,) = report.finish()["notes"]
    assert note == found["geometry_note"] and what in note and not report.finish()["warnings"]


def test_a_round_body_does_not_tell_the_direction() -> None:
    report = ReportBuilder("reconstruct")
    p = half_fan(quanta=None, ellipses=[(0.0, 0.0, 150.0, 150.0, 0.0, 1.0), (0.0, 0.0, 40.0, 40.0, 0.0, 0.2)])
    found = tell_geometry(p, report)
    assert not found["consistent"] and "likely_geometry" not in found
    assert "do not tell" in found["geometry_warning"]
    assert found["geometry_warning"] in report.finish()["warnings"]


@pytest.mark.parametrize("off", [0.0, 3.0])
def test_nothing_is_consistent_where_hardly_any_quanta_come_through(off: float) -> None:
    large = [(x, y, 1.45 * a, 1.6 * b, turned, mu) for x, y, a, b, turned, mu in BODY[:1]]
    p = half_fan(quanta=300.0, ellipses=large)
    _, facts = check_geometry(replace(p, central_column=p.central_column + off))
    assert "do not tell" in facts["geometry_warning"] and not facts.get("likely_geometry")


def test_nothing_is_consistent_where_hardly_a_column_is_measured_twice() -> None:
    p = half_fan(side=-(COLUMNS - 1) / 2 + 1)
    _, facts = check_geometry(p)
    assert "do not tell" in facts["geometry_warning"] and not facts.get("likely_geometry")


@pytest.mark.parametrize(
    ("views", "turns"), [(VIEWS + 1, 1 + 1 / VIEWS), (2 * VIEWS, 2.0), (VIEWS + 60, 1.2)]
)
def test_more_than_a_turn(views: int, turns: float) -> None:
    p = scan(quanta=QUANTA, offset=SIDES[0], arc=turns * 2 * math.pi, field=400.0, views=views)
    assert check_geometry(p)[0] is None
    _, facts = check_geometry(replace(p, central_column=p.central_column + 2))
    assert facts["likely_geometry"] == {"central_column": pytest.approx(p.central_column, abs=0.15)}


@pytest.mark.parametrize("kind", FANS)
def test_views_in_no_order_name_no_centre(kind: str) -> None:
    p = half_fan(kind)
    views = np.random.default_rng(3).permutation(VIEWS)
    _, facts = check_geometry(changed(p, lambda r: r[views]))
    assert facts["geometry_warning"] and "central_column" not in (facts.get("likely_geometry") or {})


def test_arcs_of_the_scan_agree_on_the_centre() -> None:
    p = half_fan(quanta=None)
    angles = torch.from_numpy(p.view_angles)
    inner = InnerRays(p.transmission(), angles)
    right = Supposed(
        p.central_column, float(p.column_pitch_mm or 0) / float(p.source_to_detector_mm or 1), True
    )
    assert inner.whole and not InnerRays(p.transmission()[:, : VIEWS // 2], angles[: VIEWS // 2]).whole
    assert inner.compare(right).differ < 0.02
    off, by_column = inner.centres(replace(right, central=right.central + 0.5))
    np.testing.assert_allclose(off.numpy(), -0.5, atol=0.1)
    assert inner.compare(replace(right, central=1.0)) == NOTHING
    assert not len(inner.centres(replace(right, central=1.0))[0])
    one_off = inner.compare(replace(right, central=right.central + 1)).differ
    assert one_off == pytest.approx(by_column, rel=0.2)
