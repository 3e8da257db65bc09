"""Counts above each threshold, where the spectra are of bins between two: the warning says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from decompose_cases import THRESHOLDS, beam, toy_detector

from ctenhance.decomposition import decompose
from ctenhance.decomposition.phantom import rod_phantom
from ctenhance.decomposition.simulate import Beam, simulate
from ctenhance.physics.geometry import ParallelGeometry
from ctenhance.scan.projections import Projections


@pytest.fixture(scope="module", params=[2, 5])
def scan(request: pytest.FixtureRequest) -> Projections:
    thresholds = THRESHOLDS if request.param == 5 else THRESHOLDS[[0, 3, 5]]
    rods = rod_phantom(64, 200.0)
    geometry = ParallelGeometry.covering(rods.grid, n_views=60)
    return simulate(rods, geometry, Beam(beam(1e6), toy_detector(), thresholds, 120), seed=3)


def _above(values: object) -> np.ndarray:
    return np.cumsum(np.asarray(values)[..., ::-1], axis=-1)[..., ::-1].copy()


def _below(values: object) -> np.ndarray:
    return np.cumsum(np.asarray(values), axis=-1)


def _said(scan: Projections) -> list[str]:
    return decompose(scan, device="cpu").report["warnings"]


@pytest.mark.parametrize("sums", [_above, _below])
def test_sums_of_bins_are_named(scan: Projections, sums: Callable[[object], np.ndarray]) -> None:
    """In falling order and in rising order; of two bins by what water makes of them."""
    said = _said(replace(scan, counts=sums(scan.counts), air_counts=sums(scan.air_counts)))
    (sentence,) = [one for one in said if "above each threshold and not between two" in one]
    assert (
        "'/counts'" in sentence and "'/air_counts'" in sentence and "differences of neighbouring" in sentence
    )


def test_counts_between_thresholds_are_not(scan: Projections) -> None:
    """Neither sound ones, nor those with another fault, though bins may fall in air by themselves."""
    counts, air = np.asarray(scan.counts), np.asarray(scan.air_counts)
    gains = np.linspace(1.6, 0.5, counts.shape[-1]) ** 2
    for factors in (np.ones_like(gains), gains):
        falling = replace(scan, counts=counts * factors, air_counts=air * factors)
        assert not [one for one in _said(falling) if "above each threshold" in one]
        one_bin = counts * factors
        one_bin[..., 0] *= 0.95
        said = _said(replace(scan, counts=one_bin, air_counts=air * factors))
        assert not [one for one in said if "above each threshold" in one]


def test_a_basis_that_cannot_describe_the_object_is_named(scan: Projections) -> None:
    alike = decompose(scan, basis=("water", "pmma"), device="cpu").report["warnings"]
    assert any("map of pmma" in one and "so far below zero" in one for one in alike)
    for sound in (("water", "iodine"), ("water", "bone")):
        said = decompose(scan, basis=sound, device="cpu").report["warnings"]
        assert not any("so far below zero" in one for one in said)
