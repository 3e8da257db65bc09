"""Columns of the detector that are dead or off are told, and what looks like them is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from ellipse_scan import DISC, scan

from ctenhance.scan.column_check import column_warning
from ctenhance.scan.projections import Projections
from ctenhance.scan.some_rows import read_rows

ROWS = [0, 1]


def changed(change: Callable[[np.ndarray], None]) -> Projections:
    whole = scan(quanta=1e5)
    counts = np.array(whole.counts)
    change(counts)
    return replace(whole, counts=counts)


def dead(counts: np.ndarray) -> None:
    counts[..., 70:86] = 0


def stuck(counts: np.ndarray) -> None:
    counts[..., 90] = 3e5


def like_air(counts: np.ndarray) -> None:
    counts[..., [90, 100, 101]] = counts.max()


def half(counts: np.ndarray) -> None:
    counts[..., 110] *= 0.5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dead, "Columns 70 to 85 of the detector (counted from 0) read nothing, or the same"),
        (stuck, "Column 90 of the detector (counted from 0) read nothing, or the same"),
        (like_air, "Columns 90, 100 to 101 of the detector (counted from 0) read nothing, or the same"),
        (half, "Column 110 of the detector (counted from 0) read otherwise than those beside them"),
    ],
)
def test_columns_that_are_dead_or_off_are_told(change: Callable, said: str) -> None:
    warning = column_warning(read_rows(changed(change), ROWS))
    assert warning is not None and warning.startswith(said)


@pytest.mark.parametrize("variance", [25.0, 400.0])
@pytest.mark.parametrize("width", [5, 16])
def test_wide_runs_that_read_the_electronics_noise_alone_are_told(variance: float, width: int) -> None:
    def noisy(counts: np.ndarray) -> None:
        counts[..., 70 : 70 + width] = 0
        counts += np.random.default_rng(0).normal(0, variance**0.5, counts.shape)

    one = replace(changed(noisy), electronic_noise_variance=variance)
    assert not one.dead_columns().any()  # too many to be filled in
    warning = column_warning(read_rows(one, ROWS))
    assert warning is not None and warning.startswith(f"Columns 70 to {69 + width} of the detector")


@pytest.mark.parametrize("quanta", [100.0, 1e3])
def test_little_more_than_noise_behind_a_body_is_no_dead_column(quanta: float) -> None:
    whole = scan(quanta=quanta)
    counts = np.array(whole.counts) + np.random.default_rng(0).normal(0, 5.0, np.shape(whole.counts))
    one = replace(whole, counts=counts.astype(np.float32), electronic_noise_variance=25.0)
    assert not one.dead_columns().any()
    assert "nothing" not in (column_warning(read_rows(one, ROWS)) or "")


@pytest.mark.parametrize("ellipses", [None, DISC])
@pytest.mark.parametrize("quanta", [None, 1e5, 2e3])
def test_sound_scans_and_round_bodies_are_not(ellipses: list | None, quanta: float | None) -> None:
    assert column_warning(read_rows(scan(ellipses=ellipses, quanta=quanta), ROWS)) is None


def test_counts_clipped_at_the_ends_are_left_to_others() -> None:
    def clip(counts: np.ndarray) -> None:
        np.minimum(counts, 0.7 * counts.max(), out=counts)

    assert column_warning(read_rows(changed(clip), ROWS)) is None


@pytest.mark.parametrize(("change", "said"), [(dead, "Columns 70 to 85"), (stuck, "Column 90"), (None, None)])
def test_energy_bins_are_looked_at_together(change: Callable | None, said: str | None) -> None:
    whole = scan(quanta=1e5)
    counts, air = np.array(whole.counts), np.broadcast_to(np.asarray(whole.air_counts), whole.shape[2:])
    if change is not None:
        change(counts)
    shares = np.array([0.4, 0.6])
    binned = replace(whole, counts=counts[..., None] * shares, air_counts=air[:, None] * shares)
    warning = column_warning(read_rows(binned, ROWS))
    assert warning is None if said is None else warning is not None and warning.startswith(said)


@pytest.mark.parametrize("seed", range(4))
def test_noise_behind_a_thick_body_is_no_column(seed: int) -> None:
    whole = scan(quanta=None)
    quanta = 2e3 * np.exp(-1.8 * np.asarray(whole.line_integrals))
    counts = np.random.default_rng(seed).poisson(quanta)[::3].astype(np.float32)
    views = np.asarray(whole.view_angles)[::3]
    noisy = replace(whole, line_integrals=None, counts=counts, air_counts=2e3, view_angles=views)
    assert column_warning(read_rows(noisy, ROWS)) is None
