"""Views that advance unevenly are named as such, without a step that would mend only a part; and the report
says whether another spacing of the columns would have shown."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ellipse_scan import DISC, VIEWS, scan

from ctenhance.scan.geometry_check import check_geometry
from ctenhance.scan.projections import Projections

KINDS = ("fan_flat", "fan_equiangular", "parallel")
FULL = 2.5e5  # quanta in air


def at_angles(p: Projections, speed: Any) -> Projections:
    """The same scan as if its views, which are even, were at other angles that go on by `speed` each."""
    return replace(p, view_angles=np.cumsum(speed) * 2 * math.pi / np.sum(speed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quanta", [None, FULL])
@pytest.mark.parametrize("swing", [0.036, 0.07])
def test_uneven_angles_name_no_step(kind: str, quanta: float | None, swing: float) -> None:
    p = scan(kind, quanta=quanta, arc=2 * math.pi)
    turned = 2 * math.pi * np.arange(VIEWS) / VIEWS
    wrong = at_angles(p, 1 - swing * np.cos(turned))
    fault, told = check_geometry(wrong)
    assert fault is not None and fault.likely == {"view_angles": "uneven"}
    assert "instead of" not in fault.sentence and "No single step" in fault.sentence
    assert told["opposite_rays_differ_if"] < 0.6 * told["opposite_rays_differ"]
    if swing > 0.05:  # nor are they right once a step is taken that mends some of it
        followed = replace(wrong, view_angles=wrong.view_angles * (1 - swing / 2))
        assert check_geometry(followed)[1]["geometry_warning"]


@pytest.mark.parametrize("kind", ["fan_flat", "fan_equiangular"])
@pytest.mark.parametrize("offset", [-75.0, -40.0])
@pytest.mark.parametrize("swing", [0.015, 0.036])
def test_uneven_angles_show_through_the_middle_of_the_body(kind: str, offset: float, swing: float) -> None:
    p = scan(kind, quanta=1e5, offset=offset, field=400.0)
    turned = 2 * math.pi * np.arange(VIEWS) / VIEWS
    _, told = check_geometry(at_angles(p, 1 - swing * np.cos(turned)))
    assert told["likely_geometry"] == {"view_angles": "uneven"}
    assert told["opposite_rays_differ_if"] < 0.75 * told["opposite_rays_differ"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arc", [1.0, 365 / 360, 1.25])
def test_one_step_is_advised_where_it_explains_all(kind: str, arc: float) -> None:
    p = scan(kind, quanta=FULL, arc=2 * math.pi * arc)
    wrong = replace(p, view_angles=p.view_angles * 1.03)
    fault, _ = check_geometry(wrong)
    assert fault.likely == {"view_angle_factor": pytest.approx(1 / 1.03, abs=2e-4)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arc", [1.5 * math.pi, 5.2])
def test_one_step_is_not_advised_where_more_than_noise_is_left(kind: str, arc: float) -> None:
    """Less than a turn, where too few directions are measured twice to say that the angles are uneven."""
    p = scan(kind, quanta=FULL, arc=arc)
    turned = np.arange(VIEWS) / VIEWS
    angles = arc * (1.02 * turned + 0.01 * np.sin(2 * math.pi * turned))
    fault, _ = check_geometry(replace(p, view_angles=angles))
    assert fault is None or "view_angle_factor" not in fault.likely


def test_only_a_scan_that_tells_the_spacing_says_that_it_was_checked() -> None:
    assert check_geometry(scan(quanta=FULL))[1]["spacing_checked"]
    assert check_geometry(scan(ellipses=DISC, quanta=FULL))[1]["spacing_checked"] is False
    half = scan(quanta=FULL, offset=-75.0, field=400.0)
    assert check_geometry(half)[1]["spacing_checked"] is False
    assert "geometry_note" not in {k for k, v in check_geometry(scan(quanta=FULL))[1].items() if v}
    assert "spacing_checked" not in check_geometry(scan("parallel", quanta=FULL))[1]
