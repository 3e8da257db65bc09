"""Agreement: published examples, and scikit-learn as an independent implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ctenhance.study.statistics.agreement import (
    fleiss_kappa,
    icc,
    krippendorff_alpha,
    pairs_with_kappa,
    weighted_kappa,
)
from ctenhance.study.statistics.estimate import bootstrap_limits, jackknifed

# Fleiss (1971), "Measuring nominal scale agreement among many raters", Psychological Bulletin 76, 378-382,
# table 1: how many of 6 psychiatrists gave each of 5 diagnoses to each of 30 patients.
FLEISS_1971 = """00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031
00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006"""

# Shrout & Fleiss (1979), "Intraclass correlations: uses in assessing rater reliability", Psychological
# Bulletin 86, 420-428, table 2: 6 targets rated by 4 judges.
SHROUT_FLEISS_1979 = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]

# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section C: 4 observers, 12 units.
KRIPPENDORFF_2011 = """1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 ."""

# Cohen (1960), table 1, by the agreement matrix that Fleiss, Cohen & Everitt (1969) take up: 200 cases, 3
# diagnoses.
FLEISS_COHEN_EVERITT_1969 = np.array([[0.53, 0.05, 0.02], [0.11, 0.14, 0.05], [0.01, 0.06, 0.03]])


def ratings_of(table: str) -> np.ndarray:
    """Return [reader, case] from how many gave each category."""
    rows = [
        [category for category, count in enumerate(word) for _ in range(int(count))] for word in table.split()
    ]
    return np.array(rows, float).T


def test_fleiss_1971() -> None:
    ratings = ratings_of(FLEISS_1971)
    assert ratings.shape == (6, 30)
    # The shares of the categories that the paper gives with the table.
    shares = [np.mean(ratings == category) for category in range(5)]
    assert np.round(shares, 3).tolist() == [0.144, 0.144, 0.167, 0.306, 0.239]
    estimate = fleiss_kappa(ratings)
    assert estimate.value == pytest.approx(0.430, abs=5e-4)
    assert estimate.low is not None and estimate.high is not None
    assert 0.3 < estimate.low < 0.43 < estimate.high < 0.55
    from statsmodels.stats.inter_rater import aggregate_raters
    from statsmodels.stats.inter_rater import fleiss_kappa as independent

    assert estimate.value == pytest.approx(independent(aggregate_raters(ratings.T)[0]))


def test_shrout_and_fleiss_1979() -> None:
    found = icc(np.array(SHROUT_FLEISS_1979, float).T)
    agreement, consistency = found["ICC(2,1)"], found["ICC(3,1)"]
    assert agreement.value == pytest.approx(0.29, abs=5e-3)
    assert consistency.value == pytest.approx(0.71, abs=6e-3)
    # The limits that R's psych::ICC prints for these data (its example 'sf'), to the digits shown.
    assert (agreement.low, agreement.high) == (pytest.approx(0.019, abs=5e-4), pytest.approx(0.76, abs=5e-3))
    assert (consistency.low, consistency.high) == (
        pytest.approx(0.342, abs=5e-4),
        pytest.approx(0.95, abs=5e-3),
    )


@pytest.mark.parametrize(("level", "value"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorff_2011(level: str, value: float) -> None:
    rows = [
        [math.nan if word == "." else float(word) for word in line.split()]
        for line in KRIPPENDORFF_2011.split("\n")
    ]
    assert krippendorff_alpha(np.array(rows), level).value == pytest.approx(value, abs=5e-4)
    with pytest.raises(ValueError, match="nominal"):
        krippendorff_alpha(np.array(rows), "ratio-like")


def test_unweighted_kappa_of_fleiss_cohen_everitt_1969() -> None:
    first, second = expanded(FLEISS_COHEN_EVERITT_1969 * 200)
    po, pe = 0.70, 0.6 * 0.65 + 0.3 * 0.25 + 0.1 * 0.10
    found = weighted_kappa(np.array([first, second]), "none")
    assert found.value == pytest.approx((po - pe) / (1 - pe)) == pytest.approx(0.429, abs=5e-4)


def expanded(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    counts = np.rint(table).astype(int)
    row, column = np.indices(counts.shape)
    return np.repeat(row.ravel(), counts.ravel()).astype(float), np.repeat(
        column.ravel(), counts.ravel()
    ).astype(float)


@pytest.mark.parametrize("weights", ["quadratic", "linear", "none"])
def test_kappa_is_that_of_scikit_learn(weights: str) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(7)
    truth = rng.integers(1, 6, 60)
    readers = np.array([np.clip(truth + rng.integers(-1, 2, 60), 1, 5) for _ in range(3)], float)
    expected = [
        metrics.cohen_kappa_score(
            readers[i], readers[j], labels=range(1, 6), weights=None if weights == "none" else weights
        )
        for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    pair = weighted_kappa(readers[:2], weights)
    assert pair.value == pytest.approx(expected[0])
    assert pair.low is not None and pair.high is not None and pair.low < expected[0] < pair.high
    assert weighted_kappa(readers, weights).value == pytest.approx(np.mean(expected))


def test_alpha_of_two_readers_is_near_their_kappa() -> None:
    rng = np.random.default_rng(1)
    first = rng.integers(1, 4, 400).astype(float)
    second = np.where(rng.random(400) < 0.3, rng.integers(1, 4, 400), first)
    alpha = krippendorff_alpha(np.array([first, second]), "nominal").value
    kappa = weighted_kappa(np.array([first, second]), "none").value
    assert alpha is not None and kappa is not None and abs(alpha - kappa) < 0.01


def test_nothing_to_tell_is_unknown() -> None:
    same = np.ones((3, 8))
    empty = np.full((3, 8), math.nan)
    for ratings in (same, empty):
        assert fleiss_kappa(ratings).value is None
        assert krippendorff_alpha(ratings).value is None
        assert weighted_kappa(ratings).value is None
        assert weighted_kappa(ratings[:2]).value is None
        assert icc(ratings)["ICC(2,1)"].value is None


def test_the_interval_of_kappa_nears_the_large_sample_one() -> None:
    """Fleiss, Cohen & Everitt's (1969) standard error, as statsmodels has it."""
    from statsmodels.stats.inter_rater import cohens_kappa

    table = np.rint(FLEISS_COHEN_EVERITT_1969 * 3000)
    found = weighted_kappa(np.array(expanded(table)))
    expected = cohens_kappa(table, wt="quadratic")
    assert found.value == pytest.approx(expected.kappa)
    assert (found.low, found.high) == pytest.approx((expected.kappa_low, expected.kappa_upp), abs=2e-3)


def test_the_jackknife_of_a_correlation_is_near_fishers_interval() -> None:
    """For normal values the jackknife's standard error on the z scale is near 1 / sqrt(n - 3)."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, 3000)
    y = 0.6 * x + 0.8 * rng.normal(0, 1, 3000)

    def correlation(counted: np.ndarray) -> np.ndarray:
        total = counted.sum(axis=1)
        means = [counted @ one / total for one in (x, y, x * y, x * x, y * y)]
        above = means[2] - means[0] * means[1]
        return above / np.sqrt((means[3] - means[0] ** 2) * (means[4] - means[1] ** 2))

    found = jackknifed(correlation, 3000)
    assert found.value == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found.low is not None and found.high is not None
    half = (math.atanh(found.high) - math.atanh(found.low)) / 2
    assert half == pytest.approx(1.96 / math.sqrt(2997), rel=0.05)


def test_full_agreement_has_no_interval() -> None:
    ratings = np.array([[1.0, 2, 3, 1, 2], [1, 2, 3, 1, 2]])
    found = weighted_kappa(ratings)
    assert found.value == pytest.approx(1) and found.low is None and found.high is None


def test_bootstrap_limits_of_a_mean_are_those_of_the_t_test() -> None:
    """Plain percentiles would be as narrow as the normal law with the variance over n instead of n - 1."""
    rng = np.random.default_rng(0)
    values = rng.normal(5, 2, 8)
    drawn = rng.multinomial(8, np.full(8, 1 / 8), 200_000) @ values / 8
    reach = stats.t.ppf(0.975, 7) * values.std(ddof=1) / math.sqrt(8)
    limits = bootstrap_limits(drawn, 8)
    assert limits == pytest.approx([values.mean() - reach, values.mean() + reach], abs=0.12 * reach)
    assert np.diff(np.percentile(drawn, (2.5, 97.5))) < 0.85 * np.diff(limits)


@pytest.mark.parametrize("weights", ["quadratic", "linear", "none"])
def test_one_case_has_no_kappa(weights: str) -> None:
    """By the formula it would be 0, whatever the two grades are."""
    nan = math.nan
    for ratings in ([[1.0], [2.0]], [[1, nan, 3], [4, 2, nan]]):
        found = np.array(ratings)
        assert weighted_kappa(found, weights).value is None
        assert pairs_with_kappa(found) == 0
    # A third reader's pairs count, the one of a single case does not.
    three = np.array([[1, nan, nan, nan], [2, 1, 2, 1], [nan, 1, 2, 2]])
    alone = weighted_kappa(three[1:, 1:], weights)
    assert weighted_kappa(three, weights).value == pytest.approx(alone.value)
    assert pairs_with_kappa(three) == 1
