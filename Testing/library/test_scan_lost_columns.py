"""Columns that are missing in the middle of the detector, or stand there twice, are told as such."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from ellipse_scan import COLUMNS, SID, scan

from ctenhance.core.report import ReportBuilder
from ctenhance.scan.geometry_check import check_geometry, tell_geometry
from ctenhance.scan.projections import Projections

FANS = ("fan_flat", "fan_equiangular")
FULL, LOW = 2.5e5, 1e4


def changed(p: Projections, lost: int, before: int, offset: float) -> Projections:
    """The same without so many columns (fewer than 0: with that one twice), the centre off by that."""
    name = "line_integrals" if p.counts is None else "counts"
    r = p.readings
    r = np.concatenate([r[:, :, :before], r[:, :, min(before, before + lost) :][:, :, max(0, lost) :]], 2)
    return replace(p, central_column=p.central_column + offset, **{name: np.ascontiguousarray(r)})


@pytest.mark.parametrize("kind", FANS)
@pytest.mark.parametrize("quanta", [None, LOW])
@pytest.mark.parametrize(
    ("lost", "before", "offset"), [(1, 60, 0.0), (2, 89, -1.0), (10, 120, -10.0), (-1, 70, 1.0)]
)
def test_columns_missing_in_the_middle(
    kind: str, quanta: float | None, lost: int, before: int, offset: float
) -> None:
    p = scan(kind, quanta=quanta, offset=0.25)
    wrong = changed(p, lost, before, offset)
    fault, facts = check_geometry(wrong)
    assert fault is not None
    found = dict(fault.likely)
    assert found.pop("central_column") == pytest.approx(p.central_column, abs=0.5 if quanta == LOW else 0.15)
    if lost > 0:
        many = pytest.approx(lost, abs=1 if quanta == LOW else 0)
        assert found == {"columns_lost": many, "columns_lost_before": before}
        assert f"likely missing between columns {before - 1} and {before} (counted from 0)" in fault.sentence
    else:
        assert found == {"columns_too_many": 1, "columns_too_many_at": before}
        assert f"A column is likely too many in the detector, about column {before}" in fault.sentence
    assert facts["opposite_rays_differ_if"] < facts["opposite_rays_differ"]
    report = ReportBuilder("reconstruct")
    assert not tell_geometry(wrong, report)["consistent"]
    assert fault.sentence in report.finish()["warnings"]


@pytest.mark.parametrize(("lost", "before"), [(1, 60), (2, 89), (6, 87), (-1, 70)])
def test_parallel_rays_over_half_a_turn_tell_them_by_their_sums(lost: int, before: int) -> None:
    p = scan("parallel", quanta=FULL, offset=0.25)
    fault, _ = check_geometry(changed(p, lost, before, -lost / 2))
    assert fault is not None
    assert fault.likely.get("columns_lost", -fault.likely.get("columns_too_many", 0)) == lost
    assert fault.likely["central_column"] == pytest.approx(p.central_column, abs=0.3)
    assert check_geometry(p)[0] is None


@pytest.mark.parametrize("kind", [*FANS, "parallel"])
def test_what_the_sentence_says_puts_it_right(kind: str) -> None:
    """As many columns between the two in what they read, and that centre: nothing is said any more."""
    wrong = changed(scan(kind, offset=0.25), 2, 89, -1.0)
    found = check_geometry(wrong)[0].likely
    at, r = found["columns_lost_before"], np.asarray(wrong.line_integrals)
    one, two = r[:, :, at - 1 : at], r[:, :, at : at + 1]
    filled = np.concatenate([r[:, :, :at], (2 * one + two) / 3, (one + 2 * two) / 3, r[:, :, at:]], 2)
    again = replace(wrong, line_integrals=filled, central_column=found["central_column"])
    assert check_geometry(again)[0] is None


def test_a_short_scan_tells_them_too() -> None:
    half = math.asin(0.5 * 360.0 / SID)
    p = scan("fan_flat", arc=math.pi + 2 * half + 0.05, offset=0.25)
    assert check_geometry(p)[0] is None
    found = check_geometry(changed(p, 2, 60, 0.0))[0].likely
    assert (found["columns_lost"], found["columns_lost_before"]) == (2, 60)


@pytest.mark.parametrize("kind", FANS)
def test_other_faults_are_not_taken_for_missing_columns(kind: str) -> None:
    p = scan(kind, quanta=FULL, offset=0.25)
    spacing = "column_pitch_mm" if kind == "fan_flat" else "column_pitch_rad"
    for wrong in (
        replace(p, central_column=p.central_column + 1),
        replace(p, **{spacing: 1.06 * getattr(p, spacing)}),
        replace(p, view_angles=0.99 * p.view_angles),
        scan(kind, quanta=FULL, move=lambda part: (5.0 * (part > 0.4), 0.0)),
    ):
        fault, _ = check_geometry(wrong)
        assert fault is None or not {"columns_lost", "columns_too_many"} & set(fault.likely)


@pytest.mark.parametrize("kind", [*FANS, "parallel"])
@pytest.mark.parametrize("quanta", [FULL, LOW])
def test_broken_columns_are_not_missing(kind: str, quanta: float) -> None:
    p = scan(kind, quanta=quanta)
    middle = COLUMNS // 2
    dead, filled, module = (np.array(p.counts) for _ in range(3))
    dead[:, :, [40, middle, middle + 1]] = 0
    filled[:, :, middle] = filled[:, :, middle - 1]
    module[:, :, middle:] *= 1.05
    for counts in (dead, filled, module):
        assert check_geometry(replace(p, counts=counts))[0] is None
