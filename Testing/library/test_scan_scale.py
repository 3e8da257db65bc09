"""An image whose values are all too high or low by one factor is told, with what may make them so."""

from __future__ import annotations

import numpy as np
import pytest
from ellipse_scan import scan

from ctenhance.scan.attenuation_level import scale_warning


def patient(seed: int = 0) -> np.ndarray:
    """HU [z, y, x] of muscle within fat in air, with noise."""
    y, x = np.mgrid[:160, :160] - 79.5
    away = np.hypot(x / 1.3, y)
    plane = np.where(away < 58, -100.0, -1000.0)
    plane[away < 42] = 50
    return plane + np.random.default_rng(seed).normal(0, 10, (4, 160, 160))


@pytest.mark.parametrize(
    ("factor", "counted", "said"),
    [
        (1.0, False, None),
        (1 / 1.18, False, "0.8"),
        (1 / np.log(2), False, "to the base 2 and not natural"),
        (1 / np.log(10), False, "base 10"),
        (1.44, True, "'water_mu_per_mm' or the lengths are wrong"),
        (1.02, False, None),
    ],
)
def test_a_factor_of_all_values_is_told(factor: float, counted: bool, said: str | None) -> None:
    array = ((patient() + 1000) * factor - 1000).astype(np.float32)
    warning = scale_warning(array, scan(quanta=1e5 if counted else None, views=40))
    assert warning is None if said is None else warning is not None and said in warning
    assert warning is None or ("to the base" in warning) == (not counted and factor != 1 / 1.18)


def test_tissue_low_by_a_factor_is_told_with_the_scans_own_level() -> None:
    """Where fat is no level, muscle may be taken for it; then the whole body's attenuation tells."""
    plane = np.where(patient() > -550, 50.0, -1000.0) + np.random.default_rng(1).normal(0, 10, (4, 160, 160))
    array = ((plane + 1000) / 1.18 - 1000).astype(np.float32)
    assert scale_warning(array, scan(views=40)) is None
    assert scale_warning(array, scan(views=40), -150.0) is not None
    assert scale_warning(plane.astype(np.float32), scan(views=40), 45.0) is None
