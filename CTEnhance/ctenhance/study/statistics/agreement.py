"""Do readers agree with each other, and with themselves? Chance-corrected measures with 95 % intervals."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable

import numpy as np
from scipy import stats

from ctenhance.study.statistics.estimate import ALPHA, UNKNOWN, Estimate, over_cases

LEVELS = ("nominal", "ordinal", "interval")


def weighted_kappa(first: np.ndarray, second: np.ndarray, weights: str = "quadratic") -> Estimate:
    """Return Cohen's kappa of two readings [case] of whole-number grades; cases with a NaN are left out.

    `weights` is 'quadratic', 'linear' or 'none'. Cohen (1968); the interval is the large-sample one of
    Fleiss, Cohen & Everitt (1969), by statsmodels.
    """
    from statsmodels.stats.inter_rater import cohens_kappa

    both = np.isfinite(first) & np.isfinite(second)
    if both.sum() < 2:
        return UNKNOWN
    table = _crossed(first[both], second[both])
    if np.count_nonzero(table.sum(0) + table.sum(1)) < 2:
        return UNKNOWN  # all the same grade: nothing to agree on by more than chance
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        result = cohens_kappa(table, wt=None if weights == "none" else weights)
    return Estimate.of(result.kappa, result.kappa_low, result.kappa_upp)


def mean_weighted_kappa(ratings: np.ndarray, weights: str = "quadratic", seed: int = 0) -> Estimate:
    """Return the mean kappa of all pairs of readers of ratings [reader, case], bootstrapped over cases.

    With two readers this is `weighted_kappa` (Light 1971 for more).
    """
    if len(ratings) == 2:
        return weighted_kappa(ratings[0], ratings[1], weights)
    if len(ratings) < 2 or not np.isfinite(ratings).any():
        return UNKNOWN
    pairs = [_kappas(one, other, weights) for one, other in itertools.combinations(ratings, 2)]
    return over_cases(
        lambda drawn: np.mean([kappa(drawn) for kappa in pairs], axis=0), ratings.shape[1], seed
    )


def _kappas(first: np.ndarray, second: np.ndarray, weights: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return what gives kappa for weights of the cases [sample, case]: 1 - observed / chance disagreement."""
    both = np.isfinite(first) & np.isfinite(second)
    levels = np.unique(np.concatenate([first[both], second[both]]))
    distance = np.abs(np.subtract.outer(levels, levels))
    distance = (
        (distance > 0).astype(float) if weights == "none" else distance ** (1 + (weights == "quadratic"))
    )
    shown = [((one[:, None] == levels) & both[:, None]).astype(float) for one in (first, second)]
    observed = np.einsum("ci,ij,cj->c", shown[0], distance, shown[1])

    def kappa(drawn: np.ndarray) -> np.ndarray:
        margins = [drawn @ one for one in shown]
        with np.errstate(all="ignore"):
            chance = np.einsum("bi,ij,bj->b", margins[0], distance, margins[1]) / (drawn @ both)
            return np.where(chance > 0, 1 - drawn @ observed / chance, math.nan)

    return kappa


def fleiss_kappa(ratings: np.ndarray, seed: int = 0) -> Estimate:
    """Return Fleiss' kappa (1971) of ratings [reader, case], bootstrapped over cases.

    Cases that some reader did not rate are left out.
    """
    whole = ratings[:, np.isfinite(ratings).all(axis=0)]
    readers, cases = whole.shape
    if readers < 2 or cases < 2:
        return UNKNOWN
    counts = _counts(whole)
    alike = (np.square(counts).sum(axis=1) - readers) / (readers * (readers - 1))

    def kappa(drawn: np.ndarray) -> np.ndarray:
        total = drawn.sum(axis=1)
        chance = np.square(drawn @ counts / (readers * total[:, None])).sum(axis=1)
        with np.errstate(all="ignore"):
            return np.where(chance < 1, (drawn @ alike / total - chance) / (1 - chance), math.nan)

    return over_cases(kappa, cases, seed)


def icc(ratings: np.ndarray) -> dict[str, Estimate]:
    """Return ICC(2,1) and ICC(3,1) of ratings [reader, case] with exact (3) and approximate (2) F intervals.

    Shrout & Fleiss (1979); intervals as in McGraw & Wong (1996), table 7. Cases with a missing rating are
    left out. ICC(2,1) asks whether readers give the same value, ICC(3,1) whether they rank the cases alike.
    """
    whole = ratings[:, np.isfinite(ratings).all(axis=0)].T
    n, k = whole.shape
    if n < 2 or k < 2:
        return {"ICC(2,1)": UNKNOWN, "ICC(3,1)": UNKNOWN}
    rows, columns = whole.mean(axis=1), whole.mean(axis=0)
    between = k * np.var(rows, ddof=1)
    judges = n * np.var(columns, ddof=1)
    error = np.sum((whole - rows[:, None] - columns + whole.mean()) ** 2) / ((n - 1) * (k - 1))
    if not between + error > 0:
        return {"ICC(2,1)": UNKNOWN, "ICC(3,1)": UNKNOWN}
    with np.errstate(all="ignore"):
        return {
            "ICC(2,1)": _icc_agreement(between, judges, error, n, k),
            "ICC(3,1)": _icc_consistency(between, error, n, k),
        }


def _icc_consistency(between: float, error: float, n: int, k: int) -> Estimate:
    value = (between - error) / (between + (k - 1) * error)
    ratio, inner, outer = between / error, n - 1, (n - 1) * (k - 1)
    low = ratio / stats.f.ppf(1 - ALPHA / 2, inner, outer)
    high = ratio * stats.f.ppf(1 - ALPHA / 2, outer, inner)
    return Estimate.of(value, (low - 1) / (low + k - 1), (high - 1) / (high + k - 1))


def _icc_agreement(between: float, judges: float, error: float, n: int, k: int) -> Estimate:
    value = (between - error) / (between + (k - 1) * error + k * (judges - error) / n)
    ratio = judges / error
    rest = n * (1 + (k - 1) * value) - k * value
    freedom = (k - 1) * (n - 1) * (k * value * ratio + rest) ** 2
    freedom /= (n - 1) * k**2 * value**2 * ratio**2 + rest**2
    lower, upper = stats.f.ppf(1 - ALPHA / 2, n - 1, freedom), stats.f.ppf(1 - ALPHA / 2, freedom, n - 1)
    noise = k * judges + (k * n - k - n) * error
    low = n * (between - lower * error) / (lower * noise + n * between)
    high = n * (upper * between - error) / (noise + n * upper * between)
    return Estimate.of(value, low, high)


def krippendorff_alpha(ratings: np.ndarray, level: str = "ordinal", seed: int = 0) -> Estimate:
    """Return Krippendorff's alpha of ratings [reader, case], NaN where missing, bootstrapped over cases.

    `level` is 'nominal', 'ordinal' or 'interval'. Krippendorff (2011), Computing Krippendorff's
    Alpha-Reliability.
    """
    pairable = ratings[:, np.isfinite(ratings).sum(axis=0) >= 2]
    if pairable.shape[1] < 2:
        return UNKNOWN
    values = np.unique(pairable[np.isfinite(pairable)])
    counts = np.stack([(pairable == value).sum(axis=0) for value in values], axis=1).astype(float)
    raters = counts.sum(axis=1)
    # The coincidences of each case; a bootstrap sample only adds up other cases' ones.
    coincidences = np.einsum("uc,uk->uck", counts, counts)
    coincidences[:, range(len(values)), range(len(values))] -= counts
    coincidences /= (raters - 1)[:, None, None]

    def alpha(drawn: np.ndarray) -> np.ndarray:
        totals = drawn @ coincidences.sum(axis=2)
        distance = _distance(totals, values, level)
        if level == "ordinal":
            observed = np.einsum("bu,uck,bck->b", drawn, coincidences, distance, optimize=True)
        else:  # the distances are those of every sample
            observed = drawn @ np.einsum("uck,ck->u", coincidences, distance[0])
        expected = np.einsum("bc,bck,bk->b", totals, distance, totals, optimize=True) / (
            totals.sum(axis=1) - 1
        )
        with np.errstate(all="ignore"):
            return np.where(expected > 0, 1 - observed / expected, math.nan)

    return over_cases(alpha, len(counts), seed)


def _distance(totals: np.ndarray, values: np.ndarray, level: str) -> np.ndarray:
    """Return the metric's squared differences [sample, value, value] for totals [sample, value]."""
    if level == "nominal":
        return np.broadcast_to(1.0 - np.eye(len(values)), (len(totals), len(values), len(values)))
    if level == "interval":
        squares = np.subtract.outer(values, values) ** 2
        return np.broadcast_to(squares, (len(totals), *squares.shape))
    if level != "ordinal":
        raise ValueError(f"the level must be one of {LEVELS}, not {level!r}")
    # Between the middles of two ranks; the sums from c to k less half of both ends.
    middles = np.cumsum(totals, axis=1) - totals / 2
    return (middles[:, :, None] - middles[:, None, :]) ** 2


def _crossed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return how often each pair of grades was given, over all grades from the least to the most."""
    low = int(min(first.min(), second.min()))
    size = int(max(first.max(), second.max())) - low + 1
    table = np.zeros((size, size))
    np.add.at(table, (first.astype(int) - low, second.astype(int) - low), 1)
    return table


def _counts(whole: np.ndarray) -> np.ndarray:
    """Return how many readers gave each value, [case, value]."""
    return np.stack([(whole == value).sum(axis=0) for value in np.unique(whole)], axis=1)
