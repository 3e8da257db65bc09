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
    statistic: Callable[[np.ndarray], float], cases: int, seed: int = 0, repeats: int = REPEATS
) -> Estimate:
    """Return the statistic of all cases with its percentile bootstrap interval over cases.

    `statistic` takes the numbers of the cases (an int array, repeats allowed) and may return NaN. Efron &
    Tibshirani (1993), chapter 13.
    """
    value = statistic(np.arange(cases))
    if cases < 2 or not math.isfinite(value):
        return Estimate.of(value)
    rng = np.random.default_rng(seed)
    drawn = np.array([statistic(rng.integers(0, cases, cases)) for _ in range(repeats)])
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < repeats / 2:
        return Estimate.of(value)
    low, high = np.percentile(drawn, (50 * ALPHA, 100 - 50 * ALPHA))
    return Estimate.of(value, low, high)


def complete(values: np.ndarray) -> np.ndarray:
    """Return the array [reader, case] without the cases that some reader has not answered."""
    return values[:, np.isfinite(values).all(axis=0)]
