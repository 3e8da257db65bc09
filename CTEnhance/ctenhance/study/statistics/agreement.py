"""Do readers agree with each other, and with themselves? Chance-corrected measures with 95 % intervals."""

from __future__ import annotations

import itertools
import math
import warnings

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
    low, high = np.nanmin(ratings), np.nanmax(ratings)
    if not high > low:
        return UNKNOWN
    power = {"quadratic": 2, "linear": 1}.get(weights)

    def statistic(cases: np.ndarray) -> float:
        found = [_kappa(one[cases], other[cases], power) for one, other in itertools.combinations(ratings, 2)]
        return float(np.mean(found))

    return over_cases(statistic, ratings.shape[1], seed, repeats=1000)


def fleiss_kappa(ratings: np.ndarray, seed: int = 0) -> Estimate:
    """Return Fleiss' kappa (1971) of ratings [reader, case], by statsmodels, bootstrapped over cases.

    Cases that some reader did not rate are left out.
    """
    from statsmodels.stats.inter_rater import fleiss_kappa as kappa_of

    whole = ratings[:, np.isfinite(ratings).all(axis=0)]
    if len(whole) < 2 or whole.shape[1] < 2:
        return UNKNOWN
    counts = _counts(whole)

    def statistic(cases: np.ndarray) -> float:
        table = counts[cases]
        if np.count_nonzero(table.sum(axis=0)) < 2:
            return math.nan
        return float(kappa_of(table, method="fleiss"))

    return over_cases(statistic, whole.shape[1], seed)


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

    def statistic(cases: np.ndarray) -> float:
        observed = coincidences[cases].sum(axis=0)
        totals = observed.sum(axis=0)
        distance = _distance(totals, values, level)
        expected = float(totals @ distance @ totals) / (totals.sum() - 1)
        return math.nan if expected == 0 else 1 - float((observed * distance).sum()) / expected

    return over_cases(statistic, len(counts), seed, repeats=1000)


def _distance(totals: np.ndarray, values: np.ndarray, level: str) -> np.ndarray:
    """Return the squared differences of the metric between any two values."""
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    if level == "interval":
        return np.subtract.outer(values, values) ** 2
    if level != "ordinal":
        raise ValueError(f"the level must be one of {LEVELS}, not {level!r}")
    # Between the middles of two ranks; the sums from c to k less half of both ends.
    middles = np.cumsum(totals) - totals / 2
    return np.subtract.outer(middles, middles) ** 2


def _crossed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return how often each pair of whole-number grades was given, over all grades from the least to the
    most.
    """
    low = int(min(first.min(), second.min()))
    size = int(max(first.max(), second.max())) - low + 1
    table = np.zeros((size, size))
    np.add.at(table, (first.astype(int) - low, second.astype(int) - low), 1)
    return table


def _counts(whole: np.ndarray) -> np.ndarray:
    """Return how many readers gave each value, [case, value]."""
    return np.stack([(whole == value).sum(axis=0) for value in np.unique(whole)], axis=1)


def _kappa(first: np.ndarray, second: np.ndarray, power: int | None) -> float:
    """Return weighted kappa of two readings from the mean disagreement, observed and by chance."""
    both = np.isfinite(first) & np.isfinite(second)
    one, other = first[both], second[both]
    if len(one) < 2:
        return math.nan

    def disagreement(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a != b).astype(float) if power is None else np.abs(a - b) ** power

    chance = disagreement(one[:, None], other[None, :]).mean()
    return math.nan if chance == 0 else 1 - float(disagreement(one, other).mean() / chance)
