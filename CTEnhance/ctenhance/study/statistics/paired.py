"""Gradings of two arms on the same cases, and shares of answers: tests with the case as the unit.

Several readers' answers to one case are not independent. All tests here average over readers first and take
the cases as the sample: they speak of cases like these, read by these readers. `share` also says what holds
for other readers like these.
"""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from ctenhance.study.statistics.estimate import ALPHA, Estimate, complete_block, too_few_cases, unknown

#: Why there is no estimate with the case as the unit.
TOO_FEW_CASES = "fewer than 2 cases have the answers that it takes"
_ONE_READER = "one reader tells nothing of other readers"
_GAPS = "no 2 readers have answered on 2 cases in common"
_DRAWS = 10_000
_MOST_COUNTED = 100


def signed_rank(first: np.ndarray, second: np.ndarray) -> Estimate:
    """Return the shift from the first arm's grades [reader, case] to the second's, with Wilcoxon's p value.

    Grades are averaged over the readers who graded both arms of a case. The shift is the Hodges-Lehmann
    estimate (the median of the Walsh averages) with the interval that inverts the test (Hollander & Wolfe
    1999, 3.2-3.3), none of fewer than 6 cases; the test is scipy's, zeros dropped.
    """
    differences = case_differences(first, second)
    if len(differences) < 2:
        return unknown(TOO_FEW_CASES)
    pairs = itertools.combinations_with_replacement(differences, 2)
    walsh = np.sort([(one + other) / 2 for one, other in pairs])
    rank = _outside(len(differences))
    if not np.any(differences):
        return Estimate.of(0.0, p=1.0, why="no interval: no case was graded differently in the two arms")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy says when it goes over to the approximation
        p = float(stats.wilcoxon(differences).pvalue)
    if few := too_few_cases(len(differences)):
        return Estimate.of(float(np.median(walsh)), p=p, why=few)
    why = "so many cases have the same difference that both limits are equal to it"
    return Estimate.of(float(np.median(walsh)), walsh[rank], walsh[-1 - rank], p, why)


def _outside(cases: int) -> int:
    """Return how many Walsh averages lie beyond each limit: the law's lower quantile less one, at least 0.

    The law of the sum of signed ranks is counted out; for many cases it is taken as normal.
    """
    if cases > _MOST_COUNTED:
        spread = math.sqrt(cases * (cases + 1) * (2 * cases + 1) / 24)
        return math.ceil(cases * (cases + 1) / 4 - stats.norm.ppf(1 - ALPHA / 2) * spread) - 1
    chances = np.ones(1)
    for rank in range(1, cases + 1):  # each rank is in the sum or not
        chances = (np.pad(chances, (0, rank)) + np.pad(chances, (rank, 0))) / 2
    return max(int(np.searchsorted(np.cumsum(chances), ALPHA / 2)) - 1, 0)


def case_differences(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return second - first by case, averaged over the readers with both, for cases that have any."""
    both = np.isfinite(first) & np.isfinite(second)
    found = both.any(axis=0)
    total = np.where(both, second - first, 0.0).sum(axis=0)
    return (total / np.maximum(both.sum(axis=0), 1))[found]


def holm(p_values: list[float | None]) -> list[float | None]:
    """Return Holm's (1979) adjusted p values, by statsmodels; None stays None and counts for nothing."""
    from statsmodels.stats.multitest import multipletests

    known = [p for p in p_values if p is not None]
    if not known:
        return list(p_values)
    adjusted = iter(multipletests(known, method="holm")[1].tolist())
    return [None if p is None else float(next(adjusted)) for p in p_values]


@dataclass(frozen=True)
class Share:
    """A share of answers against a null value.

    these_readers     the share with interval and p value; the cases are the sample
    other_readers     the same where readers are a sample, too; None values with a single reader
    equivalent_p      the two one-sided tests' p value that the share lies within the margin of the null
    margin            that margin; None when none was asked for
    interval_90       the 90 % interval that equivalence is judged by
    by_reader         each reader's share, with binomial intervals and p values
    """

    these_readers: Estimate
    other_readers: Estimate
    equivalent_p: float | None
    margin: float | None
    interval_90: tuple[float, float] | None
    by_reader: tuple[Estimate, ...]


def share(answers: np.ndarray, null: float = 0.5, margin: float | None = None) -> Share:
    """Test the mean of answers [reader, case] between 0 and 1 (right or wrong, preferred or not, ties 0.5).

    With one reader tests and intervals are those of `binomial`; with several a t test of the case means, each
    over the readers who have the case, or the exact binomial test of the cases where all answers are alike.
    For other readers: see `_random_readers`; on the readers and cases of
    `complete_block`, since that model needs all of them. Equivalence: two one-sided tests (Schuirmann 1987).
    """
    by_reader = tuple(binomial(row, null) for row in answers)
    present = np.isfinite(answers)
    readers, cases = int(present.any(axis=1).sum()), int(present.any(axis=0).sum())
    if cases < 2:
        few = unknown(TOO_FEW_CASES)
        return Share(few, few, None, margin, None, by_reader)
    means = np.nanmean(answers[:, present.any(axis=0)], axis=0)
    value, freedom = float(means.mean()), cases - 1
    error = _error(means)
    these = _exact(value, cases, null) if value in (0, 1) else _t_estimate(value, error, freedom, null)
    block, whole = complete_block(present)
    others = unknown(why_no_other_readers(present))
    if whole.sum() > 1:
        found = answers[block][:, whole]
        if (same := float(found.mean())) in (0, 1):
            others = _exact(same, int(whole.sum()), null)
        else:
            others = _random_readers(found, _error(found.mean(axis=0)), null)
    reach = stats.t.ppf(1 - ALPHA, freedom) * error
    interval = (max(0.0, value - reach), min(1.0, value + reach))
    if value in (0, 1):
        limit = ALPHA ** (1 / cases)
        interval = (limit, 1.0) if value else (0.0, 1 - limit)
    equivalent = None
    if margin is not None:
        equivalent = float(
            max(
                stats.t.sf((value - null + margin) / error, freedom),
                stats.t.cdf((value - null - margin) / error, freedom),
            )
        )
    if readers == 1:
        alone = int(present.any(axis=1).argmax())
        these, sums = by_reader[alone], _Sums.of(answers[alone])
        interval = sums.interval(2 * ALPHA)
        if margin is not None:
            equivalent = max(1 - sums.below(null - margin), sums.below(null + margin), 0.0)
    return Share(these, others, equivalent, margin, interval, by_reader)


def why_no_other_readers(present: np.ndarray) -> str:
    """Return why answers that are there [reader, case] tell nothing of other readers, where they do not."""
    return _ONE_READER if present.any(axis=1).sum() < 2 else _GAPS


def _exact(value: float, cases: int, null: float) -> Estimate:
    """Return a share of 0 or 1, all answers alike, with Clopper & Pearson's interval and the exact p value.

    The case counts once: readers who all agree may say no more than one of them.
    """
    found = stats.binomtest(round(value * cases), cases, null)
    limits = found.proportion_ci(1 - ALPHA, "exact")
    return Estimate.of(value, float(limits.low), float(limits.high), float(found.pvalue))


def _error(means: np.ndarray) -> float:
    """Return the standard error of the mean of case means.

    Without any spread the share cannot be better known than one answer in as many tells.
    """
    return max(float(means.std(ddof=1)), 0.5 / len(means)) / math.sqrt(len(means))


def binomial(answers: np.ndarray, null: float = 0.5) -> Estimate:
    """Return a reader's share [case] of answers 0, 0.5 (ties) and 1 with mid-p interval and p value.

    Ties count half, as wherever several readers are averaged. Without any this is the binomial test: mid-p
    counts the observed number half (Lancaster 1961). For few answers the exact test rejects in 2 to 4 % where
    it should in 5 %, mid-p hardly ever in more than 5 % (Fagerland, Lydersen & Laake 2013). Ties make wins,
    ties and losses a trinomial law, whose share of ties is taken at its likeliest for each supposed share of
    answers (Storer & Kim 1990). At one half that is McNemar's mid-p test but for the last digits.
    """
    sums = _Sums.of(answers)
    if not sums.total:
        return unknown("this reader has not answered")
    p = 2 * min(sums.below(null), 1 - sums.below(null))
    return Estimate.of(sums.halves / (2 * sums.total), *sums.interval(ALPHA), min(1.0, max(0.0, p)))


@dataclass(frozen=True)
class _Sums:
    """A reader's answers 0, 0.5 and 1, counted, and the law of their sum."""

    losses: int
    ties: int
    wins: int

    @classmethod
    def of(cls, answers: np.ndarray) -> _Sums:
        """Return those of answers [case], NaN where there is none."""
        known = answers[np.isfinite(answers)]
        return cls(*(int(np.count_nonzero(np.sign(known - 0.5) == one)) for one in (-1, 0, 1)))

    @property
    def total(self) -> int:
        return self.losses + self.ties + self.wins

    @property
    def halves(self) -> int:
        """Twice the sum."""
        return self.ties + 2 * self.wins

    def below(self, share: float) -> float:
        """Return the chance of a lower sum of the answers, the observed one counted half."""
        tie = _likeliest_ties(share, self.losses, self.ties, self.wins)
        one = np.fft.fft([max(1 - share - tie / 2, 0), tie, max(share - tie / 2, 0)], 2 * self.total + 1)
        law = np.fft.ifft(one**self.total).real.clip(0)  # of twice the sum
        return float(law[: self.halves].sum() + law[self.halves] / 2)

    def interval(self, alpha: float) -> tuple[float, float]:
        """Return the limits of the interval that holds with the chance 1 - alpha."""
        low, high = 0.0, 1.0
        if self.halves:
            low = optimize.brentq(lambda share: self.below(share) - 1 + alpha / 2, 0, 1)
        if self.halves < 2 * self.total:
            high = optimize.brentq(lambda share: self.below(share) - alpha / 2, 0, 1)
        return low, high


def _likeliest_ties(share: float, losses: int, ties: int, wins: int) -> float:
    """Return the chance of a tie that is likeliest where wins and half of the ties together have `share`.

    Half of it, u, solves ties / u = wins / (share - u) + losses / (1 - share - u).
    """
    linear = ties + wins * (1 - share) + losses * share
    last = ties * share * (1 - share)
    total = losses + ties + wins
    return (linear - math.sqrt(max(linear**2 - 4 * total * last, 0.0))) / total


def _random_readers(whole: np.ndarray, error: float, null: float) -> Estimate:
    """Return the share where readers are a sample, too, from answers [reader, case].

    `error` is the standard error that cases alone give. In the two-way random-effects model the variance of
    the mean is (E MS(R) + E MS(C) - E MS(RC)) / (rc). With few readers its estimate is poor, and the t test
    with Satterthwaite's degrees of freedom errs too often (simulated: in 6 % with 6 readers, in 8 % with 3),
    since a variance found too small also gets too many of them. So the expected mean squares are drawn from
    their fiducial laws, MS times df / chi-square(df), and the p value is the mean over the draws: a
    generalised p value and interval (Weerahandi 1995, Exact Statistical Methods for Data Analysis; Burdick,
    Borror & Montgomery 2005). It errs on the safe side where readers hardly differ.
    """
    readers, cases = whole.shape
    rows, columns, value = whole.mean(axis=1), whole.mean(axis=0), float(whole.mean())
    rest = np.sum((whole - rows[:, None] - columns + value) ** 2) / ((readers - 1) * (cases - 1))
    squares = (cases * np.var(rows, ddof=1), readers * cases * error**2, rest)
    rng = np.random.default_rng(0)
    of_readers, of_cases, of_rest = (
        square * freedom / rng.chisquare(freedom, _DRAWS)
        for square, freedom in zip(
            squares, (readers - 1, cases - 1, (readers - 1) * (cases - 1)), strict=True
        )
    )
    # Neither readers nor cases can add less than nothing.
    variance = np.maximum(np.maximum(of_readers, of_cases), of_readers + of_cases - of_rest)
    errors = np.sqrt(variance / (readers * cases))

    def beyond(distance: float) -> float:
        return float(2 * special.ndtr(-distance / errors).mean())

    reach = optimize.brentq(lambda distance: beyond(distance) - ALPHA, 0, 2 * errors.max())
    return Estimate.of(value, max(0.0, value - reach), min(1.0, value + reach), beyond(abs(value - null)))


def _t_estimate(value: float, error: float, freedom: float, null: float) -> Estimate:
    reach = stats.t.ppf(1 - ALPHA / 2, freedom) * error
    p = 2 * stats.t.sf(abs(value - null) / error, freedom)
    return Estimate.of(value, max(0.0, value - reach), min(1.0, value + reach), p)
