"""Planted effects are found and nulls are left alone: a small version of benchmarks/study_simulations.py.

The bounds are those within which a right method falls in all but one of 10,000 runs; the seeds are fixed.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

STUDIES = 200


@pytest.fixture
def simulations(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    import study_simulations

    return study_simulations


def bounds(rate: float) -> tuple[float, float]:
    low, high = stats.binom.interval(1 - 1e-4, STUDIES, rate)
    return float(low) / STUDIES, float(high) / STUDIES


@pytest.mark.parametrize(
    "name", ["share, these readers", "Wilcoxon on grades", "MRMC, readers and cases random"]
)
def test_null_studies_find_nothing_at_the_nominal_rate(simulations: ModuleType, name: str) -> None:
    trial = next(one for one in simulations.TRIALS if one.name == name)
    outcome = simulations.simulate(trial, STUDIES)
    low, high = bounds(0.05)
    assert outcome.tested == STUDIES and low <= outcome.error_rate() <= high


@pytest.mark.parametrize(
    "name", ["preference 70 %, these readers", "kappa 0.6, 2 readers", "area 0.8, readers and cases random"]
)
def test_planted_effects_lie_within_their_intervals(simulations: ModuleType, name: str) -> None:
    trial = next(one for one in simulations.TRIALS if one.name == name)
    outcome = simulations.simulate(trial, STUDIES)
    low, high = bounds(0.95)
    assert outcome.intervals == STUDIES and low <= outcome.coverage() <= high
    assert outcome.mean == pytest.approx(trial.truth, abs=0.02)


def test_the_planted_kappa_is_what_is_said(simulations: ModuleType) -> None:
    """The generator itself, on a study so large that chance does not matter."""
    ratings = simulations.copied(np.random.default_rng(0), 0.6, 2, 5000)
    assert simulations.weighted_kappa(ratings).value == pytest.approx(0.6, abs=0.03)
    assert simulations.weighted_kappa(ratings, weights="none").value == pytest.approx(0.6, abs=0.03)


def test_the_planted_area_is_what_is_said(simulations: ModuleType) -> None:
    kernels = simulations.roe_metz(np.random.default_rng(0), (0.8, 0.7), 1, 1500, 0.0, 0.0)
    assert kernels.mean(axis=(1, 2, 3)) == pytest.approx([0.8, 0.7], abs=0.03)
