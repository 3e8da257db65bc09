"""ROC, FROC and the multi-reader comparison: the Van Dyke study, and cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from ctenhance.runtime.errors import InputError
from ctenhance.study.design import Lesion
from ctenhance.study.statistics.mrmc import FIXED_CASES, FIXED_READERS, RANDOM, Inference, compare
from ctenhance.study.statistics.roc import (
    UNMARKED,
    auc_kernel,
    figure_of_merit,
    jackknife_covariance,
    roc_points,
    scored_marks,
    wafroc_kernel,
)

# Van Dyke, White, Obuchowski, Geisinger, Lorig & Meziane (1993), "Cine MRI in the diagnosis of thoracic
# aortic dissection" (79th RSNA meeting): ratings 1-5 of 69 normal and then 45 diseased cases, 5 readers, 2
# modalities; public in the R packages MRMCaov and RJafroc.
VAN_DYKE = (
    (
        "122151111111411111111131311214111113121211233131133111111221111332111 "
        "555545554555434245555555154454553555115554451",
        "232222222322522232222222422223222222222222222222222222222432232222222 "
        "535555542555442225555555243354552425225555352",
        "222235112242422232221232411322112224121412112222223211211221151421212 "
        "545555555555542355555555252255552555225555552",
        "111111311111111111112111211112111111111111111111331111111111111311111 "
        "555555555555555155555555554544553555125555555",
        "351211112221211122113221111211211231221113332111211111111341231212113 "
        "525255551545452235555554144322151515115553552",
    ),
    (
        "333222223213122222211111421312214323123122233111333113412421241442111 "
        "535555554555544335555555355355554455535555551",
        "322222223222222122221222322222212212222231223222222222322322222222122 "
        "535555552555344245455545252355532425525555552",
        "242222322211132222121121411512112122212221132111233113221232341242121 "
        "525555555555354145555555253355543555534555551",
        "221111312111122111211111321212111122112111112121212211111212111323211 "
        "545555554555455555555555455445555555535555555",
        "223122221222111222122212322321212222112121132122332122221222231233111 "
        "525455555455343335555555251332532545533555553",
    ),
)
NORMAL = 69


def van_dyke() -> np.ndarray:
    ratings = np.array(
        [[list(reader.replace(" ", "")) for reader in modality] for modality in VAN_DYKE], dtype=int
    )
    assert ratings.shape == (2, 5, 114)
    return np.array(
        [[auc_kernel(reader[:NORMAL], reader[NORMAL:]) for reader in modality] for modality in ratings]
    )


def interval(inference: Inference) -> tuple[float | None, float | None]:
    found = inference.differences[0, 1]
    return found.low, found.high


def test_van_dyke_as_printed_by_the_program_of_the_methods_authors() -> None:
    """Schartz, Hillis, Pesce & Berbaum, OR-DBM MRMC 2.51: trapezoidal areas, jackknife, every figure it
    prints.
    """
    found = compare(van_dyke())
    printed = [
        [0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066],
        [0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169],
    ]
    assert found.figures == pytest.approx(np.array(printed), abs=5e-9)
    squares = found.mean_squares
    assert squares["modality"] == pytest.approx(0.00479617, abs=5e-9)
    assert squares["reader"] == pytest.approx(0.00383620, abs=5e-9)
    assert squares["modality x reader"] == pytest.approx(0.00055103, abs=5e-9)
    covariances = (found.variance, found.cov1, found.cov2, found.cov3)
    assert covariances == pytest.approx((0.00080229, 0.00034661, 0.00034407, 0.00023903), abs=5e-9)

    random = found.tests[RANDOM]
    assert (round(random.statistic, 2), random.numerator_df) == (4.46, 1)
    assert round(random.denominator_df, 2) == 15.26 and round(random.p, 4) == 0.0517
    assert interval(random) == (pytest.approx(-0.08796, abs=5e-6), pytest.approx(0.00036, abs=5e-6))
    singles = [(one.low, one.value, one.high) for one in random.modalities]
    assert singles[0] == pytest.approx((0.82522360, 0.89703704, 0.96885048), abs=5e-8)
    assert singles[1] == pytest.approx((0.89413783, 0.94083736, 0.98753689), abs=5e-8)

    readers = found.tests[FIXED_READERS]
    assert readers.statistic == pytest.approx(5.47595, abs=5e-6) and round(readers.p, 4) == 0.0193
    assert math.isinf(readers.denominator_df)
    assert interval(readers) == (pytest.approx(-0.08049, abs=5e-6), pytest.approx(-0.00711, abs=5e-6))
    assert readers.modalities[0].low == pytest.approx(0.84943008, abs=5e-8)
    assert readers.modalities[1].high == pytest.approx(0.97371835, abs=5e-8)

    cases = found.tests[FIXED_CASES]
    assert (round(cases.statistic, 2), cases.denominator_df, round(cases.p, 4)) == (8.70, 4, 0.0420)
    assert interval(cases) == (pytest.approx(-0.08502, abs=5e-6), pytest.approx(-0.00258, abs=5e-6))
    assert cases.modalities[0].high == pytest.approx(0.96597599, abs=5e-8)


def test_single_readers_of_van_dyke() -> None:
    """The same program's part (d): each reader's own variance of the difference."""
    kernels = van_dyke()
    covariance = jackknife_covariance(kernels).reshape(2, 5, 2, 5)
    for reader, (variance, cov1) in enumerate(
        [(0.00069890, 0.00037347), (0.00110605, 0.00076016), (0.00084234, 0.00035532)]
    ):
        own = covariance[:, reader, :, reader]
        assert (own[0, 0] + own[1, 1]) / 2 == pytest.approx(variance, abs=5e-9)
        assert own[0, 1] == pytest.approx(cov1, abs=5e-9)


def test_area_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(3)
    normal, diseased = rng.integers(0, 8, 40).astype(float), rng.integers(2, 10, 30).astype(float)
    truth, rating = np.repeat([0, 1], [40, 30]), np.concatenate([normal, diseased])
    expected = metrics.roc_auc_score(truth, rating)
    assert figure_of_merit(auc_kernel(normal, diseased)).value == pytest.approx(expected)
    false, true = roc_points(normal, diseased)
    assert metrics.auc(false, true) == pytest.approx(expected)


def test_one_readers_interval_is_symmetric_on_the_logit_scale_and_stays_below_1() -> None:
    kernel = van_dyke()[1, 3]  # 0.9994, where the symmetric interval would go beyond 1
    found = figure_of_merit(kernel)
    assert found.low is not None and found.high is not None and found.value is not None
    assert 0.98 < found.low < found.value < found.high < 1
    logits = special.logit([found.low, found.value, found.high])
    error = np.sqrt(jackknife_covariance(kernel[None, None])[0, 0])
    assert np.diff(logits) == pytest.approx([1.959964 * error / (found.value * (1 - found.value))] * 2)
    perfect = figure_of_merit(np.ones((5, 4)))
    assert (perfect.value, perfect.low, perfect.high) == (1, None, None)


def test_jackknife_leaves_out_one_case_at_a_time() -> None:
    rng = np.random.default_rng(5)
    normal, diseased = rng.normal(0, 1, (2, 7)), rng.normal(1, 1, (2, 5))
    kernels = np.array([[auc_kernel(normal[reader], diseased[reader]) for reader in range(2)]])
    values = []
    for left_out in range(12):
        kept = np.delete(np.arange(12), left_out)
        values.append(
            [
                auc_kernel(normal[reader][kept[kept < 7]], diseased[reader][kept[kept >= 7] - 7]).mean()
                for reader in range(2)
            ]
        )
    deviations = np.array(values) - np.mean(values, axis=0)
    expected = 11 / 12 * deviations.T @ deviations
    assert jackknife_covariance(kernels) == pytest.approx(expected)


def test_three_arms_are_compared_in_pairs() -> None:
    rng = np.random.default_rng(0)
    shift = np.array([0.5, 1.0, 2.0])
    normal, diseased = rng.normal(0, 1, (3, 4, 60)), rng.normal(0, 1, (3, 4, 60)) + shift[:, None, None]
    kernels = np.array([[auc_kernel(normal[t, r], diseased[t, r]) for r in range(4)] for t in range(3)])
    found = compare(kernels).tests[RANDOM]
    assert found.numerator_df == 2 and found.p < 0.01
    assert set(found.differences) == {(0, 1), (0, 2), (1, 2)}
    with pytest.raises(InputError, match="at least 2 arms"):
        compare(kernels[:1])


def test_marks_are_scored_by_the_nearest_lesion() -> None:
    lesions = [Lesion((0, 0, 0), 5), Lesion((8, 0, 0), 5), Lesion((50, 0, 0), 5)]
    marks = [
        {"point": [1, 0, 0], "confidence": 40},
        {"point": [0, 2, 0], "confidence": 70},
        {"point": [4.5, 0, 0], "confidence": 90},  # within both, nearer to the second
        {"point": [30, 0, 0], "confidence": 20},
        {"point": [0, 0, 30], "confidence": 60},
    ]
    rated, false = scored_marks(marks, lesions)
    assert rated.tolist() == [70, 90, UNMARKED] and false.tolist() == [20, 60]
    rated, false = scored_marks([], [])
    assert rated.size == 0 and false.size == 0


def test_wafroc_by_hand() -> None:
    """Chakraborty's definition worked by hand: 2 normal cases (one unmarked), 2 diseased (one with two
    lesions).
    """
    normal = np.array([50.0, UNMARKED])
    lesions = [np.array([80.0, UNMARKED]), np.array([50.0])]
    kernel = wafroc_kernel(normal, lesions)
    # Case 1: lesion 80 beats both; the missed one loses to 50 and ties with unmarked. Case 2: 50 ties 50,
    # beats none.
    assert kernel.tolist() == [[0.5, 0.5], [0.75, 1.0]]
    assert figure_of_merit(kernel).value == pytest.approx(0.6875)


def test_wafroc_of_one_lesion_each_is_the_roc_area() -> None:
    rng = np.random.default_rng(8)
    normal, diseased = rng.normal(0, 1, 30), rng.normal(1, 1, 20)
    assert wafroc_kernel(normal, [np.array([one]) for one in diseased]) == pytest.approx(
        auc_kernel(normal, diseased)
    )


def test_readers_who_agree_wholly_give_no_nonsense() -> None:
    rng = np.random.default_rng(2)
    kernel = auc_kernel(rng.normal(0, 1, 20), rng.normal(1, 1, 20))
    same = np.broadcast_to(kernel, (2, 3, 20, 20))
    found = compare(same)
    for inference in found.tests.values():
        assert inference.differences[0, 1].value == 0 and inference.differences[0, 1].p == 1
        assert not math.isnan(inference.p)


@pytest.mark.parametrize("cases", [2, 3, 4])
def test_the_interval_of_very_few_cases_holds_or_is_not_given(cases: int) -> None:
    rng, true = np.random.default_rng(5), 0.8
    apart = stats.norm.ppf(true) * math.sqrt(2)
    found = [
        figure_of_merit(auc_kernel(rng.normal(0, 1, cases), rng.normal(apart, 1, cases))) for _ in range(300)
    ]
    given = [one for one in found if one.low is not None and one.high is not None]
    assert np.mean([one.low <= true <= one.high for one in given]) >= 0.95
    assert all(one.why for one in found if one.low is None)
