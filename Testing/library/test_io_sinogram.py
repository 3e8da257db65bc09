"""The measured sinograms as a volume."""

from __future__ import annotations

import numpy as np
import pytest

from ctenhance.runtime.errors import Cancelled
from ctenhance.runtime.progress import CancelToken
from ctenhance.scan import sinogram as module
from ctenhance.scan.projections import Projections
from ctenhance.scan.sinogram import sinogram

VIEWS, ROWS, COLUMNS = 20, 11, 6


def scan() -> Projections:
    integrals = np.random.default_rng(0).uniform(0.1, 3, (VIEWS, ROWS, COLUMNS))
    return Projections(
        geometry="parallel",
        view_angles=np.arange(VIEWS) * np.pi / VIEWS,
        central_column=(COLUMNS - 1) / 2,
        column_pitch_mm=1.0,
        row_pitch_mm=2.5,
        counts=(1e5 * np.exp(-integrals)).astype(np.float32),
        air_counts=np.array(1e5),
        water_mu_per_mm=0.02,
    )


def test_line_integrals_slice_by_slice() -> None:
    projections = scan()
    volume = sinogram(projections)
    assert volume.array.shape == (ROWS, VIEWS, COLUMNS) and volume.spacing == (1, 1, 2.5)
    expected = -np.log(projections.counts[:, 9] / 1e5)
    assert np.allclose(volume.array[9], expected, atol=1e-5)


def test_more_views_than_a_screen_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    every = sinogram(scan()).array
    monkeypatch.setattr(module, "MOST_VIEWS", 7)
    assert np.array_equal(sinogram(scan()).array, every[:, ::3])


def test_stops_when_asked() -> None:
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        sinogram(scan(), cancel)
