"""An estimate with its confidence interval, and intervals by the jackknife and the bootstrap over cases."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

ALPHA = 0.05
_FEWEST = 3  # cases of a jackknife interval
ALIKE = "all answers are one and the same, so agreement cannot be told from chance"
_MOST_WEIGHTS = 4_000_000  # at once in the jackknife: 32 MB


@dataclass(frozen=True)
class Estimate:
    """A value with the limits of its 95 % confidence interval and, where there is a test, its p value.

    None stands for what the data cannot tell, and `why` says in half a sentence what of them is to blame: no
    variance, too few cases. It is also said of limits that fall together.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    why: str = ""

    @classmethod
    def of(
        cls, value: float, low: float = math.nan, high: float = math.nan, p: float = math.nan, why: str = ""
    ) -> Estimate:
        """Return the estimate with None for whatever is not finite; `why` stays where limits are missing or
        fall together."""
        found, lower, upper, tested = (
            float(one) if math.isfinite(one) else None for one in (value, low, high, p)
        )
        return cls(found, lower, upper, tested, why="" if lower is not None and lower != upper else why)


def unknown(why: str) -> Estimate:
    """Return the estimate of what the data cannot tell."""
    return Estimate(None, why=why)


def too_few_cases(cases: int) -> str:
    """Return why so few cases give no interval by their ranks or by drawing them anew, or ''.

    Neither reaches beyond what the single cases say, and with a chance of 2 / 2^n all n of them lie on one
    side of the truth: the widest interval of 5 cases has 93.75 %.
    """
    missed = 2.0 ** (1 - cases)
    if missed <= ALPHA:
        return ""
    most = math.floor(1000 * (1 - missed)) / 10
    return (
        f"no interval: the widest that {cases} cases can give has {most:g} %, "
        f"not {100 * (1 - ALPHA):g} %; it takes {math.ceil(1 + math.log2(1 / ALPHA))} cases"
    )


def jackknifed(statistic: Callable[[np.ndarray], np.ndarray], cases: int) -> Estimate:
    """Return the statistic, which lies between -1 and 1, of all cases with its jackknife interval.

    `statistic` takes weights [sample, case] (how often each case counts) and returns values [sample], NaN
    where there is none. Delete-one jackknife on Fisher's z scale, judged by t: coefficients of agreement are
    skewed, so that symmetric intervals and percentile bootstraps of few cases hold too little (Fisher 1921;
    Efron & Tibshirani 1993, chapter 11). No interval at -1, at 1 and where no case makes a difference.
    """
    value = float(statistic(np.ones((1, cases)))[0])
    if math.isnan(value):
        return unknown(ALIKE)
    if cases < _FEWEST:
        return Estimate.of(value, why=f"no interval from fewer than {_FEWEST} cases")
    if not abs(value) < 1:
        return Estimate.of(value, why="no interval at 1 and -1, where nothing shows how the value scatters")
    blocks = np.array_split(np.arange(cases), math.ceil(cases**2 / _MOST_WEIGHTS))
    left_out = np.concatenate([statistic((block[:, None] != np.arange(cases)) * 1.0) for block in blocks])
    error = math.sqrt((cases - 1) / cases * np.square(left_out - left_out.mean()).sum()) / (1 - value**2)
    if math.isnan(error):
        return Estimate.of(value, why="no interval: without one of the cases all other answers are alike")
    if not error > 0:
        return Estimate.of(value, why="no interval: no single case changes the value")
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


def complete_block(
    present: np.ndarray, least: int = 2, enough: Callable[[np.ndarray], bool] = lambda _cases: True
) -> tuple[np.ndarray, np.ndarray]:
    """Return which readers and which cases make the largest table without gaps of `present` [reader, case].

    For methods that need every reader to have every case. With readers in the order of how much they have
    answered, each table of the first so many of them and of the cases that all of these have is looked at;
    the one with the most answers is taken, of two alike that with more readers. At least `least` readers, and
    cases [bool] that are `enough`; nothing at all where there is no such table.
    """
    readers, cases = np.zeros(len(present), bool), np.zeros(present.shape[1], bool)
    order = np.argsort(-present.sum(axis=1), kind="stable")
    for count in range(len(order), least - 1, -1):
        whole = np.asarray(present[order[:count]].all(axis=0))
        if count * whole.sum() > readers.sum() * cases.sum() and enough(whole):
            readers, cases = np.isin(np.arange(len(present)), order[:count]), whole
    return readers, cases
