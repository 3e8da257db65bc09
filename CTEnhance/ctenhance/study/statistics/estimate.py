"""An estimate with its confidence interval, and the bootstrap over cases."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

ALPHA = 0.05
REPEATS = 2000


@dataclass(frozen=True)
class Estimate:
    """A value with the limits of its 95 % confidence interval and, where there is a test, its p value.

    None stands for what the data cannot tell (no variance, too few cases).
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @classmethod
    def of(cls, value: float, low: float = math.nan, high: float = math.nan, p: float = math.nan) -> Estimate:
        """Return the estimate with None for whatever is not finite."""
        return cls(*(float(one) if math.isfinite(one) else None for one in (value, low, high, p)))


UNKNOWN = Estimate(None)


def over_cases(
    statistic: Callable[[np.ndarray], np.ndarray], cases: int, seed: int = 0, repeats: int = REPEATS
) -> Estimate:
    """Return the statistic of all cases with its percentile bootstrap interval over cases.

    `statistic` takes weights [sample, case] (how often each case was drawn) and returns values [sample], NaN
    where there is none. Efron & Tibshirani (1993), chapter 13.
    """
    value = float(statistic(np.ones((1, cases)))[0])
    if cases < 2 or not math.isfinite(value):
        return Estimate.of(value)
    rng = np.random.default_rng(seed)
    drawn = statistic(rng.multinomial(cases, np.full(cases, 1 / cases), repeats).astype(float))
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < repeats / 2:
        return Estimate.of(value)
    low, high = np.percentile(drawn, (50 * ALPHA, 100 - 50 * ALPHA))
    return Estimate.of(value, low, high)


def complete(values: np.ndarray) -> np.ndarray:
    """Return the array [reader, case] without the cases that some reader has not answered."""
    return values[:, np.isfinite(values).all(axis=0)]
