"""Paired grades, shares, Bradley-Terry, VGC, the ordinal model and planning: published examples and closed
forms.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from ctenhance.runtime.errors import InputError
from ctenhance.study.statistics import sample_size
from ctenhance.study.statistics.bradley_terry import by_arm, strengths
from ctenhance.study.statistics.ordinal import odds_ratio
from ctenhance.study.statistics.paired import binomial, holm, share, signed_rank
from ctenhance.study.statistics.vgc import curve, vgc_auc

# Hollander & Wolfe (1999), Nonparametric Statistical Methods, 2nd ed., example 3.1: Hamilton depression scale
# factor IV of 9 patients before and after tranquilizer therapy (Salsburg 1970); also R's help page of
# wilcox.test.
BEFORE = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
AFTER = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]

# Agresti (1990), Categorical Data Analysis, table 10.10: American League baseball 1987, wins of the row over
# the column, Milwaukee, Detroit, Toronto, New York, Boston, Cleveland, Baltimore; 13 games a pair.
BASEBALL = [
    [0, 7, 9, 7, 7, 9, 11],
    [6, 0, 7, 5, 11, 9, 9],
    [4, 6, 0, 7, 7, 8, 12],
    [6, 8, 6, 0, 6, 7, 10],
    [6, 2, 6, 7, 0, 7, 12],
    [4, 4, 5, 6, 6, 0, 6],
    [2, 4, 1, 3, 1, 7, 0],
]


def test_signed_rank_of_hollander_and_wolfe() -> None:
    found = signed_rank(np.array([BEFORE]), np.array([AFTER]))
    # Two-sided exact p = 2 * 0.0195 and the estimate -0.46, both in the book (3.1 and 3.2).
    assert found.p == pytest.approx(0.0391, abs=5e-5)
    assert found.value == pytest.approx(-0.46, abs=5e-3)
    # As R's wilcox.test prints it with conf.int = TRUE.
    assert (found.low, found.high) == (pytest.approx(-0.786, abs=5e-4), pytest.approx(-0.010, abs=5e-4))


@pytest.mark.parametrize("cases", [6, 12, 30, 150])
def test_the_shifts_interval_inverts_the_test(cases: int) -> None:
    """Shifts within the limits are not refused at 5 %, those beyond are (as far as so few cases can)."""
    rng = np.random.default_rng(cases)
    values = rng.normal(0.3, 1, (1, cases))
    found = signed_rank(np.zeros((1, cases)), values)
    assert found.low is not None and found.high is not None
    for limit, way in ((found.low, -1), (found.high, 1)):
        inside, outside = (stats.wilcoxon(values[0] - limit - way * step).pvalue for step in (-1e-6, 1e-6))
        assert outside <= 0.05 < inside + 0.003, "the normal law of many cases is off by that"


def test_readers_are_averaged_before_the_test() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(1, 6, (3, 20)).astype(float)
    second = first + rng.integers(-1, 3, (3, 20))
    expected = stats.wilcoxon((second - first).mean(axis=0)).pvalue
    assert signed_rank(first, second).p == pytest.approx(expected)
    first[0, 3] = math.nan
    assert signed_rank(first, second).p is not None
    assert signed_rank(first, first).p == 1.0
    assert signed_rank(first[:, :1], second[:, :1]).value is None


def test_holm_by_hand() -> None:
    """Holm (1979): 0.01 * 4, 0.03 * 3, 0.04 * 2 and 0.005 * ... , kept in order; None is left alone."""
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == [
        pytest.approx(0.03), pytest.approx(0.06), None, pytest.approx(0.06), pytest.approx(0.02),
    ]  # fmt: skip
    assert holm([None]) == [None]


def test_binomial_mid_p_by_hand() -> None:
    """8 of 10: P(more) + P(8) / 2 = (11 + 22.5) / 1024 on each side; the limits by their definition."""
    found = binomial(np.array([1] * 8 + [0] * 2 + [math.nan], float))
    assert found.p == pytest.approx(2 * 33.5 / 1024)
    assert found.low is not None and found.high is not None
    for limit, rest in ((found.low, 0.975), (found.high, 0.025)):
        assert stats.binom.cdf(7, 10, limit) + stats.binom.pmf(8, 10, limit) / 2 == pytest.approx(rest)
    # Within Clopper & Pearson's (1934) exact interval, 0.444 to 0.975.
    assert 0.4439 < found.low < 0.8 < found.high < 0.9748
    none = binomial(np.zeros(10))
    assert (none.value, none.low, none.p) == (0, 0, pytest.approx(1 / 1024))
    # All wrong: the upper limit has (1 - p)^10 / 2 = 0.025.
    assert none.high == pytest.approx(1 - 0.05**0.1)
    assert binomial(np.ones(10)).high == 1


def _sums(less: float, ties: float, more: float, count: int) -> np.ndarray:
    """The law of twice the sum of so many answers, step by step."""
    law = np.ones(1)
    for _ in range(count):
        law = np.convolve(law, [less, ties, more])
    return law


def test_ties_count_half_in_a_single_readers_share() -> None:
    """Limits by their definition: with the likeliest share of ties, the observed sum counted half."""
    wins, ties, losses = 9, 6, 3
    found = binomial(np.array([1] * wins + [0.5] * ties + [0] * losses + [math.nan], float))
    assert found.value == pytest.approx((wins + ties / 2) / 18)
    assert found.low is not None and found.high is not None
    for limit, rest in ((found.low, 0.975), (found.high, 0.025)):
        likely = optimize.minimize_scalar(
            lambda tie, share=limit: (
                -ties * math.log(tie)
                - wins * math.log(share - tie / 2)
                - losses * math.log(1 - share - tie / 2)
            ),
            bounds=(1e-9, 2 * min(limit, 1 - limit) - 1e-9),
            method="bounded",
            options={"xatol": 1e-10},
        ).x
        law = _sums(1 - limit - likely / 2, likely, limit - likely / 2, 18)
        observed = ties + 2 * wins
        assert law[:observed].sum() + law[observed] / 2 == pytest.approx(rest, abs=1e-5)
    # At one half: McNemar's mid-p test of 9 against 3.
    mcnemar = 2 * (stats.binom.cdf(3, 12, 0.5) - stats.binom.pmf(3, 12, 0.5) / 2)
    assert found.p == pytest.approx(mcnemar, rel=0.1)
    assert (found.low > 0.5) == (found.p is not None and found.p < 0.05)
    only = binomial(np.full(5, 0.5))
    assert (only.value, only.p) == (0.5, pytest.approx(1)) and only.low is not None and only.low < 0.3


@pytest.mark.parametrize(("share_of_wins", "ties", "cases"), [(0.5, 0.4, 25), (0.75, 0.3, 30)])
def test_a_share_with_ties_is_covered_by_its_interval(share_of_wins: float, ties: float, cases: int) -> None:
    rng = np.random.default_rng(5)
    chances = (1 - share_of_wins - ties / 2, ties, share_of_wins - ties / 2)
    drawn = rng.choice([0.0, 0.5, 1.0], (400, cases), p=chances)
    limits = [binomial(one) for one in drawn]
    inside = [one.low <= share_of_wins <= one.high for one in limits]  # type: ignore[operator]
    assert 0.92 < np.mean(inside) < 0.985


def test_all_readers_share_is_the_mean_of_each_readers_with_ties() -> None:
    answers = np.random.default_rng(3).choice([0.0, 0.5, 1.0], (3, 12), p=(0.15, 0.45, 0.4))
    found = share(answers)
    assert found.these_readers.value == pytest.approx(np.mean([one.value for one in found.by_reader]))
    alone = share(answers[:1])
    assert alone.these_readers == alone.by_reader[0]
    assert alone.these_readers.value == pytest.approx(answers[0].mean())


@pytest.mark.parametrize("cases", [10, 20])
def test_one_readers_90_percent_interval_holds_and_judges_equivalence(cases: int) -> None:
    """Every number of right answers, by the binomial law: near 1 no normal interval holds."""
    found = [share((np.arange(cases)[None] < right).astype(float), margin=0.3) for right in range(cases + 1)]
    for true in (0.6, 0.7, 0.8, 0.9, 0.95):
        chances = stats.binom.pmf(np.arange(cases + 1), cases, true)
        held = [
            one.interval_90 is not None and one.interval_90[0] <= true <= one.interval_90[1] for one in found
        ]
        assert float(chances @ np.array(held)) > 0.87
    for one in found:
        assert one.interval_90 is not None and one.equivalent_p is not None
        inside = one.interval_90[0] > 0.2 and one.interval_90[1] < 0.8
        assert inside == (one.equivalent_p < 0.05)
    assert found[-1].interval_90 == pytest.approx((0.1 ** (1 / cases), 1.0))  # mid-p of n of n


def test_share_of_several_readers_is_a_t_test_of_case_means() -> None:
    rng = np.random.default_rng(1)
    answers = (rng.random((4, 30)) < 0.6).astype(float)
    found = share(answers, margin=0.1)
    expected = stats.ttest_1samp(answers.mean(axis=0), 0.5)
    assert found.these_readers.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (found.these_readers.low, found.these_readers.high) == pytest.approx((interval.low, interval.high))
    assert found.other_readers.p is not None and found.other_readers.p >= expected.pvalue * 0.999
    lower = stats.ttest_1samp(answers.mean(axis=0), 0.4, alternative="greater").pvalue
    upper = stats.ttest_1samp(answers.mean(axis=0), 0.6, alternative="less").pvalue
    assert found.equivalent_p == pytest.approx(max(lower, upper))


def test_a_reader_unlike_the_others_widens_the_interval_for_other_readers() -> None:
    answers = np.repeat([[0.0], [1.0], [1.0], [1.0]], 25, axis=1)
    answers[:, ::5] = 1 - answers[:, ::5]
    found = share(answers)
    these, others = found.these_readers, found.other_readers
    assert these.low is not None and others.low is not None and others.low < these.low - 0.1
    assert share(np.full((3, 10), math.nan)).these_readers.value is None


def test_answers_all_alike_are_judged_by_the_cases_alone() -> None:
    for all_answers, limits in ((1.0, (0.025 ** (1 / 6), 1)), (0.0, (0, 1 - 0.025 ** (1 / 6)))):
        found = share(np.full((3, 6), all_answers))
        for one in (found.these_readers, found.other_readers):
            assert one.p == pytest.approx(2 / 64)
            assert (one.low, one.high) == pytest.approx(limits)


@pytest.mark.parametrize("cases", [6, 12, 30])
@pytest.mark.parametrize("true", [0.8, 0.9, 0.95])
def test_identical_readers_keep_the_coverage(cases: int, true: float) -> None:
    held = 0.0
    for right in range(cases + 1):
        answers = np.repeat((np.arange(cases) < right)[None].astype(float), 3, axis=0)
        found = share(answers).these_readers
        if found.low <= true <= found.high:  # type: ignore[operator]
            held += float(stats.binom.pmf(right, cases, true))
    assert held >= 0.93


def test_the_share_of_other_readers_is_a_t_test_where_one_sample_tells_all() -> None:
    """Readers who differ and nothing else: t with r - 1 degrees of freedom. Cases only: t with c - 1."""
    rng = np.random.default_rng(2)
    readers = np.repeat(rng.uniform(0.4, 0.9, (5, 1)), 40, axis=1)
    found = share(readers + 1e-9 * rng.normal(0, 1, readers.shape)).other_readers
    expected = stats.ttest_1samp(readers[:, 0], 0.5)
    assert found.p == pytest.approx(expected.pvalue, rel=0.05)
    assert found.low == pytest.approx(expected.confidence_interval().low, rel=0.02)
    cases = np.repeat(rng.uniform(0.3, 0.9, (1, 12)), 5, axis=0)
    found = share(cases + 1e-9 * rng.normal(0, 1, cases.shape)).other_readers
    assert found.p == pytest.approx(stats.ttest_1samp(cases[0], 0.5).pvalue, rel=0.05)


@pytest.mark.parametrize("cases", [3, 4, 6])
def test_few_cases_that_all_go_one_way_give_the_least_p_there_is(cases: int) -> None:
    first = np.tile([2.0, 3.0, 3.0, 2.0, 1.0, 2.0][:cases], (3, 1))
    found = vgc_auc(first, first + 1)
    assert found.p == pytest.approx(2 / 2**cases)
    assert (found.low is None) == (cases < 6)


def test_bradley_terry_of_agrestis_baseball() -> None:
    found = strengths(np.array(BASEBALL, float))
    assert found is not None
    # The estimates that Agresti prints, Baltimore set to 0.
    assert found - found[-1] == pytest.approx([1.581, 1.436, 1.294, 1.248, 1.108, 0.684, 0], abs=6e-4)


def test_bradley_terry_of_two_arms_is_the_log_odds() -> None:
    wins = np.zeros((40, 2, 2))
    wins[:30, 1, 0] = 1
    wins[30:, 0, 1] = 1
    first, second = by_arm(wins)
    assert second.value is not None and first.value is not None
    assert second.value - first.value == pytest.approx(math.log(3))
    assert second.low is not None and second.low > 0
    assert strengths(np.array([[0.0, 5.0], [0.0, 0.0]])) is None, (
        "one that always wins has no finite strength"
    )


def test_vgc_area_counts_pairs() -> None:
    first, second = np.array([[1.0, 2, 3, 3]]), np.array([[2.0, 3, 3, 4]])
    found = vgc_auc(first, second, random_readers=False)
    pairs = [(a < b) + 0.5 * (a == b) for a in first[0] for b in second[0]]
    assert found.value == pytest.approx(np.mean(pairs))
    x, y = curve(first, second)
    assert np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) == pytest.approx(np.mean(pairs))
    assert vgc_auc(first, first, random_readers=False).p == 1.0
    assert found.low is None and found.p is not None and "4 cases can give has 87.5 %" in found.why
    other_readers = vgc_auc(first, second)
    assert (other_readers.value, other_readers.low, other_readers.p) == (found.value, None, None), (
        "one reader tells nothing of other readers"
    )
    assert vgc_auc(first[:, :1], second[:, :1]).value is None


def test_vgc_permutation_is_that_of_all_exchanges() -> None:
    """With 8 cases all 256 exchanges can be counted."""
    rng = np.random.default_rng(3)
    first, second = rng.integers(1, 6, (2, 8)).astype(float), rng.integers(2, 6, (2, 8)).astype(float)
    found = vgc_auc(first, second)

    assert found.value is not None
    observed = abs(found.value - 0.5)
    reached = 0
    for number in range(256):
        swap = np.array([bool(number >> bit & 1) for bit in range(8)])
        one, other = np.where(swap, second, first), np.where(swap, first, second)
        better = (other[:, :, None] > one[:, None, :]) + 0.5 * (other[:, :, None] == one[:, None, :])
        reached += abs(better.mean() - 0.5) >= observed - 1e-9
    assert found.p == pytest.approx(reached / 256, abs=0.03)


def test_ordinal_model_recovers_a_planted_odds_ratio() -> None:
    rng = np.random.default_rng(4)
    cases, effect = 400, 0.8
    leaning = rng.normal(0, 0.5, cases)
    reader = np.array([0.0, 0.4, -0.3])[:, None]
    cuts = np.array([-1.5, -0.5, 0.5, 1.5])

    def grades(shift: float) -> np.ndarray:
        latent = leaning + reader + shift + rng.logistic(0, 1, (3, cases))
        return 1.0 + (latent[..., None] > cuts).sum(axis=-1)

    found, _ = odds_ratio(grades(0.0), grades(effect))
    assert found.low is not None and found.high is not None and found.p is not None
    # The effect of the population is a little smaller than that of a case (leaning varies between cases).
    assert found.low < math.exp(effect) < found.high * 1.1 and found.p < 1e-6
    assert odds_ratio(np.ones((2, 20)), np.ones((2, 20)))[0].value is None
    assert odds_ratio(np.ones((2, 3)), np.full((2, 3), 2.0))[0].value is None


def test_planned_preference_reaches_its_power() -> None:
    cases = sample_size.cases_for_preference(0.7, readers=1)
    limit = stats.binom.ppf(0.975, cases, 0.5)
    assert stats.binom.sf(limit, cases, 0.7) > 0.7, "the exact test loses a little by its steps"
    assert 45 <= cases <= 50
    assert sample_size.cases_for_preference(0.7, readers=4, agreement=0.0) == math.ceil(cases / 4)
    assert sample_size.cases_for_preference(0.7, readers=4, agreement=1.0) == cases


def test_planned_grades_are_those_of_the_t_test() -> None:
    """A paired t test for half an SD at 80 % power needs 34 cases (Cohen 1988, table 2.4.1, by symmetry of
    d').
    """
    assert sample_size.cases_for_grades(0.5, 1.0) == math.ceil(34 * math.pi / 3 - 1e-9)


def test_planned_equivalence_by_its_formula() -> None:
    reach = stats.norm.ppf(0.95) + stats.norm.ppf(0.9)
    assert sample_size.cases_for_equivalence(0.1) == math.ceil(reach**2 * 0.25 / 0.01)


# The Van Dyke study (see test_study_mrmc.py), Wilcoxon areas, jackknife.
VAN_DYKE = sample_size.Pilot(
    variance=0.00080229, cov1=0.00034661, cov2=0.00034407, cov3=0.00023903, interaction=0.00020039, cases=114
)
VAN_DYKE_DIFFERENCE = 0.04380032


def test_mrmc_power_of_the_van_dyke_study_as_published() -> None:
    """Hillis, Obuchowski & Berbaum (2011) as the RJafroc book and its tests print it for these data: a power
    of 0.5555789 with 6 readers and 112 cases, 0.5526116 with 111, and 251 cases for 80 % power.
    """
    for cases, power in ((112, 0.5555789), (111, 0.5526116)):
        found = sample_size.mrmc_power(VAN_DYKE_DIFFERENCE, 6, cases, VAN_DYKE)
        assert found == pytest.approx(power, abs=3e-5)  # the five digits of the components
    assert sample_size.cases_for_mrmc(VAN_DYKE_DIFFERENCE, 6, VAN_DYKE) == 251


def test_mrmc_power_is_the_tests_own_at_no_effect_and_grows() -> None:
    assert sample_size.mrmc_power(0.0, 5, 114, VAN_DYKE) == pytest.approx(0.05)
    powers = [sample_size.mrmc_power(0.044, readers, 114, VAN_DYKE) for readers in (3, 5, 8, 15)]
    assert powers == sorted(powers) and 0.2 < powers[1] < 0.8 < powers[-1] + 0.2
    assert sample_size.mrmc_power(0.9, 15, 10_000, VAN_DYKE) == 1


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: sample_size.cases_for_preference(0.5), "no effect"),
        (lambda: sample_size.cases_for_preference(1.2), "between 0 and 1"),
        (lambda: sample_size.cases_for_preference(0.7, readers=0), "at least 1 reader"),
        (lambda: sample_size.cases_for_preference(0.7, agreement=2), "agreement"),
        (lambda: sample_size.cases_for_preference(0.5001), "more than 100000"),
        (lambda: sample_size.cases_for_equivalence(0.7), "margin"),
        (lambda: sample_size.cases_for_grades(0.0, 1.0), "must not be 0"),
        (lambda: sample_size.cases_for_grades(math.nan, 1.0), "must not be 0"),
        (lambda: sample_size.cases_for_grades(0.5, math.inf), "above 0"),
        (lambda: sample_size.cases_for_grades(1e-4, 1.0), "more than 100000"),
        (lambda: sample_size.mrmc_power(0.1, 1, 10, VAN_DYKE), "2 readers"),
        (lambda: sample_size.cases_for_mrmc(0.0, 5, VAN_DYKE), "difference of areas"),
        (lambda: sample_size.cases_for_mrmc(0.02, 3, VAN_DYKE), "more readers"),
        (lambda: sample_size.Pilot(0.0, 0, 0, 0, 0, 9), "above 0"),
        (lambda: sample_size.Pilot(1.0, 0, 0, 0, 0, 1), "at least 2 cases"),
    ],
)
def test_planning_refuses(call, sentence: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=sentence):
        call()
