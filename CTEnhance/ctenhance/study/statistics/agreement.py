"""Do readers agree with each other, and with themselves? Chance-corrected measures with 95 % intervals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from ctenhance.study.statistics.estimate import (
    ALIKE,
    ALPHA,
    Estimate,
    complete_block,
    jackknifed,
    unknown,
)

_FEWEST_CASES = 2
_TOO_FEW = f"no two readers have {_FEWEST_CASES} cases in common"
_TOO_FEW_WHOLE = f"no two readers have {_FEWEST_CASES} cases in common without gaps"
# What rounding leaves where there is no variance: of the answers' sum of squares, and of the answers.
_NO_VARIANCE, _ROUNDING = 1e-12, 1e-14
_NO_CASES = "no interval: the cases do not differ in the mean over readers (no variance between cases)"
_IDENTICAL = "no interval: the readers' answers are identical in every case (no variance within cases)"
_SHIFTED = "no interval: readers differ by a constant only (no variance within cases but for it)"
LEVELS = ("nominal", "ordinal", "interval")


def weighted_kappa(ratings: np.ndarray, weights: str = "quadratic") -> Estimate:
    """Return the mean of all pairs of readers' kappas of whole-number grades [reader, case].

    `weights` is 'quadratic', 'linear' or 'none'. Cohen (1968) for two readers, Light (1971) for more; a pair
    leaves out the cases that one of them did not grade, counts by how many are left, and for nothing where it
    has no kappa (see `pairs_with_kappa`). Jackknife interval over cases.
    """
    if not _in_common(ratings):
        return unknown(_TOO_FEW)
    pairs = [_kappas(one, other, weights) for one, other in itertools.combinations(ratings, 2)]

    def mean(counted: np.ndarray) -> np.ndarray:
        values = np.array([kappa(counted) for kappa, _both in pairs])
        cases = np.array([counted @ both for _kappa, both in pairs]) * np.isfinite(values)
        with np.errstate(all="ignore"):
            return (np.nan_to_num(values) * cases).sum(axis=0) / cases.sum(axis=0)

    return jackknifed(mean, ratings.shape[1])


def pairs_with_kappa(ratings: np.ndarray) -> int:
    """Return how many pairs of readers have a kappa: two cases in common, and not one and the same grade."""
    whole = np.ones((1, ratings.shape[1]))
    pairs = itertools.combinations(ratings, 2)
    return sum(bool(np.isfinite(_kappas(one, other, "quadratic")[0](whole))[0]) for one, other in pairs)


def _in_common(ratings: np.ndarray) -> bool:
    """Whether two readers have cases enough in common."""
    known = np.isfinite(ratings).astype(int)
    shared = known @ known.T
    np.fill_diagonal(shared, 0)
    return bool(shared.max(initial=0) >= _FEWEST_CASES)


def _kappas(
    first: np.ndarray, second: np.ndarray, weights: str
) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """Return what gives kappa for weights of the cases [sample, case], 1 - observed / chance disagreement,
    and the cases [bool] that both have."""
    both = np.isfinite(first) & np.isfinite(second)
    levels = np.unique(np.concatenate([first[both], second[both]]))
    distance = np.abs(np.subtract.outer(levels, levels))
    distance = (
        (distance > 0).astype(float) if weights == "none" else distance ** (1 + (weights == "quadratic"))
    )
    shown = [((one[:, None] == levels) & both[:, None]).astype(float) for one in (first, second)]
    observed = np.einsum("ci,ij,cj->c", shown[0], distance, shown[1])

    def kappa(counted: np.ndarray) -> np.ndarray:
        margins = [counted @ one for one in shown]
        with np.errstate(all="ignore"):
            chance = np.einsum("bi,ij,bj->b", margins[0], distance, margins[1]) / (counted @ both)
            # Of one case what chance would give is what was given: kappa would be 0 whatever the grades.
            known = (chance > 0) & (np.count_nonzero(counted * both, axis=1) >= _FEWEST_CASES)
            return np.where(known, 1 - counted @ observed / chance, math.nan)

    return kappa, both


def fleiss_kappa(ratings: np.ndarray) -> Estimate:
    """Return Fleiss' kappa (1971) of ratings [reader, case], with its jackknife interval over cases.

    Of the readers and cases of `complete_block`: each case needs as many readers.
    """
    whole = _whole(ratings)
    readers, cases = whole.shape
    if readers < 2 or cases < _FEWEST_CASES:
        return unknown(_TOO_FEW_WHOLE)
    counts = _counts(whole)
    alike = (np.square(counts).sum(axis=1) - readers) / (readers * (readers - 1))

    def kappa(counted: np.ndarray) -> np.ndarray:
        total = counted.sum(axis=1)
        chance = np.square(counted @ counts / (readers * total[:, None])).sum(axis=1)
        with np.errstate(all="ignore"):
            return np.where(chance < 1, (counted @ alike / total - chance) / (1 - chance), math.nan)

    return jackknifed(kappa, cases)


def icc(ratings: np.ndarray) -> dict[str, Estimate]:
    """Return ICC(2,1) and ICC(3,1) of ratings [reader, case] with exact (3) and approximate (2) F intervals.

    Shrout & Fleiss (1979); intervals as in McGraw & Wong (1996), table 7. Of the readers
    and cases of `complete_block`. ICC(2,1) asks whether readers give the same value, ICC(3,1) whether they
    rank the cases alike.
    """
    whole = _whole(ratings).T
    n, k = whole.shape
    if n < _FEWEST_CASES or k < 2:
        return dict.fromkeys(("ICC(2,1)", "ICC(3,1)"), unknown(_TOO_FEW_WHOLE))
    rows, columns = whole.mean(axis=1), whole.mean(axis=0)
    between = k * np.var(rows, ddof=1)
    judges = n * np.var(columns, ddof=1)
    error = np.sum((whole - rows[:, None] - columns + whole.mean()) ** 2) / ((n - 1) * (k - 1))
    none = (
        _NO_VARIANCE * np.square(whole - whole.mean()).sum()
        + whole.size * (_ROUNDING * np.abs(whole).max()) ** 2
    )
    if not max(between, error) > none:
        return dict.fromkeys(("ICC(2,1)", "ICC(3,1)"), unknown(ALIKE if judges <= none else _NO_CASES))
    if not min(between, error) > none:  # with none of one kind both limits are the value
        between, error = (float(one) if one > none else 0.0 for one in (between, error))
        why = _NO_CASES if error else _IDENTICAL if judges <= none else _SHIFTED
        rest = k * (judges - error) / n if judges > none or error else 0.0
        return {
            "ICC(2,1)": Estimate.of((between - error) / (between + (k - 1) * error + rest), why=why),
            "ICC(3,1)": Estimate.of((between - error) / (between + (k - 1) * error), why=why),
        }
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


def krippendorff_alpha(ratings: np.ndarray, level: str = "ordinal") -> Estimate:
    """Return Krippendorff's alpha of ratings [reader, case], NaN where missing.

    `level` is 'nominal', 'ordinal' or 'interval'. Krippendorff (2011), Computing Krippendorff's
    Alpha-Reliability. Jackknife interval over cases.
    """
    pairable = ratings[:, np.isfinite(ratings).sum(axis=0) >= 2]
    if pairable.shape[1] < _FEWEST_CASES:
        return unknown(_TOO_FEW)
    values = np.unique(pairable[np.isfinite(pairable)])
    counts = np.stack([(pairable == value).sum(axis=0) for value in values], axis=1).astype(float)
    raters = counts.sum(axis=1)
    # The coincidences of each case; a sample only adds up other cases' ones.
    coincidences = np.einsum("uc,uk->uck", counts, counts)
    coincidences[:, range(len(values)), range(len(values))] -= counts
    coincidences /= (raters - 1)[:, None, None]

    def alpha(counted: np.ndarray) -> np.ndarray:
        totals = counted @ coincidences.sum(axis=2)
        distance = _distance(totals, values, level)
        if level == "ordinal":
            observed = np.einsum("bu,uck,bck->b", counted, coincidences, distance, optimize=True)
        else:  # the distances are those of every sample
            observed = counted @ np.einsum("uck,ck->u", coincidences, distance[0])
        expected = np.einsum("bc,bck,bk->b", totals, distance, totals, optimize=True) / (
            totals.sum(axis=1) - 1
        )
        with np.errstate(all="ignore"):
            return np.where(expected > 0, 1 - observed / expected, math.nan)

    return jackknifed(alpha, len(counts))


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


def _whole(ratings: np.ndarray) -> np.ndarray:
    """Return the largest table [reader, case] without gaps."""
    readers, cases = complete_block(np.isfinite(ratings))
    return ratings[readers][:, cases]


def _counts(whole: np.ndarray) -> np.ndarray:
    """Return how many readers gave each value, [case, value]."""
    return np.stack([(whole == value).sum(axis=0) for value in np.unique(whole)], axis=1)
