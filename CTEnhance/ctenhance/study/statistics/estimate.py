"""An estimate with its confidence interval, and intervals by the jackknife and the bootstrap over cases."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

ALPHA = 0.05
_MOST_WEIGHTS = 4_000_000  # at once in the jackknife: 32 MB


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


def jackknifed(statistic: Callable[[np.ndarray], np.ndarray], cases: int) -> Estimate:
    """Return the statistic, which lies between -1 and 1, of all cases with its jackknife interval.

    `statistic` takes weights [sample, case] (how often each case counts) and returns values [sample], NaN
    where there is none. Delete-one jackknife on Fisher's z scale, judged by t: coefficients of agreement are
    skewed, so that symmetric intervals and percentile bootstraps of few cases hold too little (Fisher 1921;
    Efron & Tibshirani 1993, chapter 11). No interval at -1, at 1 and where no case makes a difference.
    """
    value = float(statistic(np.ones((1, cases)))[0])
    if cases < 3 or not abs(value) < 1:
        return Estimate.of(value)
    blocks = np.array_split(np.arange(cases), math.ceil(cases**2 / _MOST_WEIGHTS))
    left_out = np.concatenate([statistic((block[:, None] != np.arange(cases)) * 1.0) for block in blocks])
    error = math.sqrt((cases - 1) / cases * np.square(left_out - left_out.mean()).sum()) / (1 - value**2)
    if not error > 0:  # NaN, too: without one of the cases there is no value
        return Estimate.of(value)
    reach = stats.t.ppf(1 - ALPHA / 2, cases - 1) * error
    return Estimate.of(value, math.tanh(math.atanh(value) - reach), math.tanh(math.atanh(value) + reach))


def bootstrap_limits(drawn: np.ndarray, cases: int) -> np.ndarray:
    """Return the lower and the upper limit [2, ...] of bootstrap values [sample, ...] of so many cases.

    Percentiles, expanded as the t distribution and the bias of a bootstrap's variance ask (Hesterberg 2015,
    "What teachers should know about the bootstrap", section 5.3).
    """
    reach = stats.t.ppf(1 - ALPHA / 2, cases - 1) * math.sqrt(cases / (cases - 1))
    beyond = 100 * float(stats.norm.sf(reach))
    return np.percentile(drawn, (beyond, 100 - beyond), axis=0)


def complete(values: np.ndarray) -> np.ndarray:
    """Return the array [reader, case] without the cases that some reader has not answered."""
    return values[:, np.isfinite(values).all(axis=0)]
