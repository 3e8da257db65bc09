"""Air counts that are wrong, counts that overflowed or were clipped, and angles that skip views are told."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ellipse_scan import scan

import ctenhance
from ctenhance.core.report import ReportBuilder
from ctenhance.scan.air_level import air_offset, air_warning, counts_warning, rows_warning
from ctenhance.scan.geometry_check import check_geometry, tell_geometry
from ctenhance.scan.projections import Projections
from ctenhance.scan.some_rows import read_rows
from ctenhance.scan.truncation import truncation_warning

KINDS = ("fan_flat", "fan_equiangular", "parallel")
QUANTA, LOW = 1.25e5, 6250.0


def body(kind: str = "fan_flat", quanta: float | None = QUANTA, **more: Any) -> Projections:
    return scan(kind, quanta=quanta, field=480.0, **more)


def offset(p: Projections) -> float | None:
    return air_offset(p.to_line_integrals()[0])


def cut(p: Projections) -> str | None:
    return truncation_warning(p, p.scan_geometry(), p.image_grid())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quanta", [None, QUANTA, LOW])
def test_right_air_and_bodies_that_are_cut_off_are_not_accused(kind: str, quanta: float | None) -> None:
    p = body(kind, quanta)
    assert (
        air_warning(read_rows(p, [0, 1])) is None
        and counts_warning(read_rows(p, [0, 1])) is None
        and cut(p) is None
    )
    for field in (280.0, 200.0, 120.0):
        told = cut(scan(kind, quanta=quanta, field=field))
        assert told is not None and "Or else" not in told
    round_body = scan(kind, [(0.0, 0.0, 150.0, 150.0, 0.0, 1.0)], quanta=quanta, field=290.0)
    told = cut(round_body)
    assert told is not None and "Or else" not in told


@pytest.mark.parametrize("quanta, step", [(QUANTA, 1024.0), (LOW, 256.0)])
def test_counts_that_lost_their_lower_bits_are_told(quanta: float, step: float) -> None:
    p = body(quanta=quanta)
    told = counts_warning(read_rows(replace(p, counts=np.floor(p.counts / step) * step), [0, 1]))
    assert told is not None and f"in steps of {step:g}, and a tenth of them are" in told


def test_line_integrals_of_few_levels_are_told() -> None:
    lines = body(quanta=None).to_line_integrals().numpy().swapaxes(0, 1)
    p = replace(
        body(), counts=None, air_counts=None, line_integrals=np.round(lines * 8).astype(np.float32) / 8
    )
    assert "Line integrals in row 0 (from 0) are all in steps of 0.125: their" in (
        counts_warning(read_rows(p, [0])) or ""
    )
    # Noise larger than the step takes it out again, and a fine one does no harm.
    rng = np.random.default_rng(0)
    for step, noise in ((0.125, 0.2), (0.01, 0.0)):
        read = np.round((lines + rng.normal(0, noise, lines.shape)) / step) * step
        assert counts_warning(read_rows(replace(p, line_integrals=read.astype(np.float32)), [0])) is None


@pytest.mark.parametrize("quanta", [20.0, 100.0, 1000.0])
def test_few_quanta_are_no_lost_bits(quanta: float) -> None:
    p = body(quanta=quanta)
    assert counts_warning(read_rows(replace(p, counts=p.counts.round().clip(0)), [0, 1])) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [0.5, 0.8, 0.9, 0.95])
def test_air_counts_too_low(kind: str, factor: float) -> None:
    p = body(kind)
    low = replace(p, air_counts=np.array(QUANTA * factor))
    assert offset(low) == pytest.approx(math.log(factor), abs=0.01)
    assert f"{1 / factor:.3g} times too low" in (air_warning(read_rows(low, [0, 1])) or "")
    found = tell_geometry(low, ReportBuilder("reconstruct"))
    assert not found["consistent"] and f"{1 / factor:.3g} times too low" in found["values_warning"]
    lines = replace(
        p, counts=None, air_counts=None, line_integrals=low.to_line_integrals().numpy().swapaxes(0, 1)
    )
    assert "have an offset" in (air_warning(read_rows(lines, [1])) or "")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [1.2, 1.5, 2.0])
def test_air_counts_too_high_are_the_other_cause(kind: str, factor: float) -> None:
    p = body(kind)
    told = cut(replace(p, air_counts=np.array(QUANTA * factor)))
    assert told is not None and f"{factor:.3g} times too high" in told
    one_row = p.counts.copy()
    one_row[:, 1] /= factor
    assert "times too high" in (cut(replace(p, counts=one_row)) or "")


def test_uncalibrated_gains_are_no_wrong_air() -> None:
    p = body()
    gains = 1 + 0.05 * np.random.default_rng(1).normal(size=p.n_columns)
    assert air_warning(read_rows(replace(p, counts=p.counts * gains), [0, 1])) is None
    assert air_offset(torch.zeros(30, 40)) is None


def test_counts_that_overflowed_or_were_clipped() -> None:
    p = body()
    assert "clipped" in (counts_warning(read_rows(replace(p, counts=np.minimum(p.counts, 65535)), [0])) or "")
    wrong = replace(p, counts=np.mod(p.counts, 65536))
    assert "overflowed 16 bits in row 1" in (counts_warning(read_rows(wrong, [1])) or "")
    report = ctenhance.reconstruct(wrong, method="fbp", device="cpu").report
    found = report["details"]["data_consistency"]
    assert not found["consistent"] and found["counts_warning"] in report["warnings"]


def test_noise_free_counts_are_not_clipped() -> None:
    p = body(quanta=None)
    counts = 4e4 * np.exp(-p.line_integrals)
    whole = replace(p, line_integrals=None, counts=counts, air_counts=np.array(4e4))
    assert counts_warning(read_rows(whole, [0, 1])) is None


@pytest.mark.parametrize("kind", ["fan_flat", "fan_equiangular"])
@pytest.mark.parametrize(("lost", "quanta"), [(5, QUANTA), (30, LOW), (60, QUANTA)])
def test_lost_views_while_the_angles_go_on(kind: str, lost: int, quanta: float) -> None:
    p = body(kind, quanta)
    kept = np.r_[:100, 100 + lost : p.n_views]
    angles = np.arange(len(kept)) * 2 * np.pi / len(kept)
    fault, told = check_geometry(replace(p, counts=p.counts[kept], view_angles=angles))
    assert fault is not None and told["geometry_warning"] == fault.sentence
    assert fault.likely == {"views_lost": pytest.approx(lost, abs=2), "views_lost_after": 99}
    # a gap that the angles tell is none
    kept = np.r_[:100, 110 : p.n_views]
    told = check_geometry(replace(p, counts=p.counts[kept], view_angles=p.view_angles[kept]))[1]
    assert "geometry_warning" not in told


def test_opposite_rays_that_differ_much_are_not_called_consistent() -> None:
    p = body()
    current = 1 + 0.3 * np.sin(np.arange(p.n_views) / 9)[:, None, None]
    fault, told = check_geometry(replace(p, counts=(p.counts * current).astype(np.float32)))
    assert fault is None and told["opposite_rays_differ"] > 0.12
    assert "the tube's current" in told["geometry_warning"]


def test_readings_normalised_to_air_with_the_noise_of_counts_have_no_dead_columns() -> None:
    p = body()
    normal = replace(p, counts=p.counts / np.float32(QUANTA), air_counts=np.array(1.0))
    assert not normal.dead_columns().any()
    dark = p.counts.copy()
    dark[:, 0, 40] = np.random.default_rng(2).normal(0, 10**0.5, p.n_views)
    assert np.argwhere(replace(p, counts=dark).dead_columns()).tolist() == [[0, 40]]


def stack(kind: str, quanta: float | None = QUANTA) -> Projections:
    parts = [scan(kind, quanta=quanta, field=480.0, rows=1, seed=seed) for seed in range(8)]
    name = "line_integrals" if quanta is None else "counts"
    return replace(parts[0], **{name: np.concatenate([p.readings for p in parts], 1)}, row_pitch_mm=1.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", [0, 3, 7])
def test_one_row_of_many_that_reads_otherwise_through_air(kind: str, row: int) -> None:
    p = stack(kind)
    assert rows_warning(p) is None and rows_warning(stack(kind, LOW)) is None
    for factor in (0.0, 0.97, 1.05):
        counts = np.array(p.counts)
        counts[:, row] *= factor
        assert f"Row {row} of 8 (from 0) read" in (rows_warning(replace(p, counts=counts)) or "")


def test_a_row_that_was_written_twice() -> None:
    p = stack("fan_flat")
    counts = np.array(p.counts)
    counts[:, 5] = counts[:, 2]
    assert "Rows 2 and 5 (from 0) read exactly the same" in (rows_warning(replace(p, counts=counts)) or "")
