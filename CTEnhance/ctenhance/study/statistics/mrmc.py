"""Multi-reader multi-case comparison by Obuchowski and Rockette (1995), with Hillis' degrees of freedom.

Equations as in Hillis, Obuchowski, Schartz & Berbaum (2005) and Hillis (2007); error covariances by the
jackknife. Modalities are fixed. Three analyses: readers and cases random (for the population of both),
readers fixed (these readers, other cases), cases fixed (other readers, these cases).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ctenhance.runtime.errors import InputError
from ctenhance.study.statistics.estimate import ALPHA, Estimate
from ctenhance.study.statistics.roc import jackknife_covariance

RANDOM, FIXED_READERS, FIXED_CASES = "readers and cases random", "readers fixed", "cases fixed"
#: Why there is no interval, nor a p value of what differs.
WITHOUT_SCATTER = (
    "nothing shows how sure this is: the error variance of this analysis is 0, as its readers or its cases "
    "all agree"
)
# Variances up to this are rounding: of the figures' own variance, and of figures between 0 and 1.
_NO_VARIANCE, _ROUNDING = 1e-12, 1e-20


@dataclass(frozen=True)
class Inference:
    """One analysis: the test that all modalities are alike, and the differences of each pair of them.

    statistic is F, or chi-square where `denominator_df` is infinite; `differences` are by (first, second) of
    first - second; `modalities` are the single modalities' figures of merit, each from its own data. Where
    the error variance is 0 a difference has no p: data without any scatter cannot say how sure they are.
    """

    statistic: float
    numerator_df: int
    denominator_df: float
    p: float | None
    differences: dict[tuple[int, int], Estimate]
    modalities: tuple[Estimate, ...]


@dataclass(frozen=True)
class Comparison:
    """Figures of merit [modality, reader], mean squares, covariances, and the three analyses by name."""

    figures: np.ndarray
    mean_squares: dict[str, float]
    variance: float
    cov1: float
    cov2: float
    cov3: float
    tests: dict[str, Inference]

    @property
    def interaction(self) -> float:
        """The variance component of modality x reader (Hillis, Obuchowski & Berbaum 2011), at least 0."""
        error = self.variance - self.cov1 - max(self.cov2 - self.cov3, 0.0)
        return max(self.mean_squares["modality x reader"] - error, 0.0)


def compare(kernels: np.ndarray) -> Comparison:
    """Compare modalities from kernels [modality, reader, normal case, diseased case] (see `roc`).

    Raises InputError for fewer than 2 modalities, 2 readers, or 2 cases of either kind: then nothing can be
    said beyond single figures of merit.
    """
    modalities, readers, normal, diseased = kernels.shape
    if modalities < 2 or readers < 2 or min(normal, diseased) < 2:
        raise InputError(
            "A multi-reader comparison needs at least 2 arms, 2 readers, 2 normal and 2 diseased cases, but "
            f"there are {modalities}, {readers}, {normal} and {diseased}."
        )
    figures = kernels.mean(axis=(2, 3))
    covariance = jackknife_covariance(kernels).reshape(modalities, readers, modalities, readers)
    by_modality, by_reader, value = figures.mean(axis=1), figures.mean(axis=0), float(figures.mean())
    squares = {
        "modality": readers * float(np.var(by_modality, ddof=1)),
        "reader": modalities * float(np.var(by_reader, ddof=1)),
        "modality x reader": float(
            np.sum((figures - by_modality[:, None] - by_reader + value) ** 2)
            / ((modalities - 1) * (readers - 1))
        ),
    }
    same_modality, same_reader = np.eye(modalities, dtype=bool), np.eye(readers, dtype=bool)

    def mean_where(modality: np.ndarray, reader: np.ndarray) -> float:
        return float(covariance[modality[:, None, :, None] & reader[None, :, None, :]].mean())

    variance = mean_where(same_modality, same_reader)
    cov1 = mean_where(~same_modality, same_reader)
    cov2 = mean_where(same_modality, ~same_reader)
    cov3 = mean_where(~same_modality, ~same_reader)
    shared = max(cov2 - cov3, 0.0)
    interaction = squares["modality x reader"]
    freedom = (modalities - 1) * (readers - 1)
    both = interaction + readers * shared
    fixed = variance - cov1 + (readers - 1) * shared
    singles = [_single(figures[one], covariance[one, :, one, :]) for one in range(modalities)]
    none = _NO_VARIANCE * variance + _ROUNDING
    tests = {
        RANDOM: _test(
            by_modality,
            squares,
            both,
            _ratio(both**2 * freedom, interaction**2),
            readers,
            [one[0] for one in singles],
            none,
        ),
        FIXED_READERS: _test(
            by_modality, squares, fixed, math.inf, readers, [one[1] for one in singles], none
        ),
        FIXED_CASES: _test(
            by_modality, squares, interaction, freedom, readers, [one[2] for one in singles], none
        ),
    }
    return Comparison(figures, squares, variance, cov1, cov2, cov3, tests)


def _test(
    means: np.ndarray,
    squares: dict[str, float],
    denominator: float,
    freedom: float,
    readers: int,
    singles: list[tuple[float, float]],
    none: float,
) -> Inference:
    """Return the test with that error term and so many degrees of freedom (infinite: normal); variances below
    `none` are rounding."""
    above = len(means) - 1
    denominator = denominator if denominator > none else 0.0
    singles = [(error if error**2 > none else 0.0, freedom) for error, freedom in singles]
    p: float | None = None
    statistic = _ratio(squares["modality"], denominator)
    if not denominator > 0:  # every reader is wholly like every other
        p = 1.0 if statistic == 0 else None
    elif math.isinf(freedom):
        statistic *= above
        p = float(stats.chi2.sf(statistic, above))
    else:
        p = float(stats.f.sf(statistic, above, freedom))
    error = math.sqrt(max(2 / readers * denominator, 0.0))
    differences = {
        (one, other): _estimate(float(means[one] - means[other]), error, freedom, test=True)
        for one, other in itertools.combinations(range(len(means)), 2)
    }
    alone = tuple(
        _estimate(float(value), error, freedom)
        for value, (error, freedom) in zip(means, singles, strict=True)
    )
    return Inference(statistic, above, freedom, p, differences, alone)


def _single(figures: np.ndarray, covariance: np.ndarray) -> list[tuple[float, float]]:
    """Return a modality's standard error and degrees of freedom: random, readers fixed, cases fixed."""
    readers = len(figures)
    square = float(np.var(figures, ddof=1))
    error = float(np.trace(covariance) / readers)
    cov2 = float((covariance.sum() - np.trace(covariance)) / (readers * (readers - 1)))
    both = square + readers * max(cov2, 0.0)
    return [
        (math.sqrt(both / readers), _ratio(both**2 * (readers - 1), square**2)),
        (math.sqrt(max(error + (readers - 1) * max(cov2, 0.0), 0.0) / readers), math.inf),
        (math.sqrt(square / readers), readers - 1),
    ]


def _estimate(value: float, error: float, freedom: float, test: bool = False) -> Estimate:
    if not error > 0:
        return Estimate.of(value, p=1.0 if test and value == 0 else math.nan, why=WITHOUT_SCATTER)
    law = stats.norm if math.isinf(freedom) else stats.t(freedom)
    reach = float(law.ppf(1 - ALPHA / 2)) * error
    p = float(2 * law.sf(abs(value) / error)) if test else math.nan
    return Estimate.of(value, value - reach, value + reach, p)


def _ratio(above: float, below: float) -> float:
    """Return the ratio, infinite where nothing stands below it (no interaction at all)."""
    return above / below if below > 0 else math.inf if above > 0 else 0.0
