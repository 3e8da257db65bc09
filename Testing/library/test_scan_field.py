"""The field that a scan measures whole: of a detector that stands aside it is that of its longer side."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ellipse_scan import scan

from ctenhance.physics.fbp import fbp
from ctenhance.physics.redundancy import measured_field_mm
from ctenhance.physics.units import MU_WATER_PER_MM, mu_to_hu
from ctenhance.scan.attenuation_level import image_warning
from ctenhance.scan.projections import Projections
from ctenhance.scan.truncation import truncation_warning

FANS = ("fan_flat", "fan_equiangular")


def half_fan(kind: str, arc: float = 2 * math.pi, side: float = -75.0) -> Projections:
    return replace(scan(kind, offset=side, arc=arc, field=400.0), image_pixel_mm=None)


@pytest.mark.parametrize("kind", [*FANS, "parallel"])
@pytest.mark.parametrize("side", [-75.0, 75.0])
def test_whole_turns_of_half_fans_measure_to_the_longer_side(kind: str, side: float) -> None:
    p = half_fan(kind, side=side)
    shorter, longer = sorted(np.abs(p.scan_geometry().ray_offsets_mm()[[0, -1]].numpy()))
    assert longer > 2 * shorter
    assert p.field_of_view_mm == pytest.approx(2 * longer)
    assert p.image_grid().pixel_mm * max(p.image_shape) == pytest.approx(2 * longer)


def test_less_than_a_turn_measures_what_every_view_sees() -> None:
    g = half_fan("fan_flat").scan_geometry()
    part = replace(g, view_angles=g.view_angles[: g.n_views * 3 // 4])
    assert measured_field_mm(part) == part.field_of_view_mm < measured_field_mm(g) / 2


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_a_detector_in_the_middle_or_a_quarter_of_a_column_aside_measures_as_ever(offset: float) -> None:
    g = scan("fan_flat", offset=offset, arc=2 * math.pi).scan_geometry()
    assert measured_field_mm(g) == g.field_of_view_mm


@pytest.mark.parametrize("kind", FANS)
def test_values_are_right_out_to_the_longer_side(kind: str) -> None:
    """The body of 300 x 200 mm is wider than what every view sees: it is in the image, whole."""
    p = half_fan(kind)
    grid = p.image_grid((96, 96))
    image = fbp(p.to_line_integrals(), p.scan_geometry(), grid)[0]
    hu = mu_to_hu(image.double(), p.water_mu_per_mm or MU_WATER_PER_MM)
    x, y = torch.as_tensor(grid.x_mm()), torch.as_tensor(grid.y_mm())
    for side in (x > 120, x < -120):
        beside = hu[y.abs() < 20][:, side & (x.abs() < 138)]
        assert float(beside.mean()) == pytest.approx(0, abs=60)


@pytest.mark.parametrize("kind", FANS)
def test_the_image_of_a_half_fan_is_not_called_too_large(kind: str) -> None:
    p = half_fan(kind, side=-80.0)
    whole = replace(p, image_pixel_mm=400.0 / max(p.image_shape))
    assert image_warning(whole) is None
    assert image_warning(replace(whole, image_pixel_mm=40.0))


def test_the_field_beyond_which_values_mean_nothing_is_the_measured_one() -> None:
    p = replace(scan("fan_flat", offset=-40.0, arc=2 * math.pi, field=200.0), image_pixel_mm=None)
    sentence = truncation_warning(p, p.scan_geometry(), p.image_grid())
    assert (
        sentence is not None and f"the {p.field_of_view_mm:.0f} mm that the scan measures whole" in sentence
    )
