"""Do the reader studies' statistics hold what they promise? Simulated studies with a known truth.

    python benchmarks/study_simulations.py --studies 1000 > benchmarks/results/study_simulations.md

For each method: how often it finds an effect at alpha = 0.05 where there is none (nominal: 5 %), and how
often its 95 % interval holds the effect that was planted (nominal: 95 %). Behind each rate stands its own
simulation error.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "CTEnhance"))

from ctenhance.study.statistics.agreement import (
    fleiss_kappa,
    icc,
    krippendorff_alpha,
    mean_weighted_kappa,
    weighted_kappa,
)
from ctenhance.study.statistics.estimate import Estimate
from ctenhance.study.statistics.mrmc import FIXED_READERS, RANDOM, compare
from ctenhance.study.statistics.ordinal import odds_ratio
from ctenhance.study.statistics.paired import share, signed_rank
from ctenhance.study.statistics.roc import auc_kernel, figure_of_merit
from ctenhance.study.statistics.vgc import vgc_auc

Generator = np.random.Generator
ALPHA = 0.05


def answers(
    rng: Generator, probability: float, readers: int, cases: int, by_case: float, by_reader: float = 0.0
) -> np.ndarray:
    """Answers 0 or 1 [reader, case] with that share, from a latent normal with effects of the case and the
    reader.
    """
    total = math.sqrt(1 + by_case**2 + by_reader**2)
    latent = rng.normal(0, 1, (readers, cases)) + rng.normal(0, by_case, cases)
    latent = latent + rng.normal(0, by_reader, (readers, 1))
    return (latent < stats.norm.ppf(probability) * total).astype(float)


def grades(rng: Generator, shift: float, readers: int, cases: int) -> tuple[np.ndarray, np.ndarray]:
    """Grades 1-5 [reader, case] of two arms: cases differ, readers are strict or mild, the second arm is
    shifted.
    """
    cuts = np.array([-1.5, -0.5, 0.5, 1.5])
    common = rng.normal(0, 0.8, cases) + rng.normal(0, 0.4, (readers, 1))
    arms = []
    for effect in (0.0, shift):
        # What an arm does to a case, all readers see.
        latent = common + effect + rng.normal(0, 0.4, cases) + rng.normal(0, 0.8, (readers, cases))
        arms.append(1.0 + (latent[..., None] > cuts).sum(axis=-1))
    return arms[0], arms[1]


def copied(rng: Generator, agreement: float, readers: int, cases: int) -> np.ndarray:
    """Grades [reader, case] of which any two readers have kappa = `agreement`, whatever the weights.

    Each reader gives the case's own grade with the chance of the root of it, and else one drawn anew.
    """
    law = [0.1, 0.2, 0.3, 0.25, 0.15]
    truth = rng.choice(5, cases, p=law)
    anew = rng.choice(5, (readers, cases), p=law)
    return np.where(rng.random((readers, cases)) < math.sqrt(agreement), truth, anew).astype(float)


def roe_metz(
    rng: Generator, area: float, difference: float, readers: int, cases: int, by_reader: float, by_both: float
) -> np.ndarray:
    """Kernels [2, reader, normal, diseased] of Roe & Metz' (1997) model of ratings, equal variances.

    Variances of case 0.3, modality x case 0.3, reader x case 0.2 and the rest 0.2, together 1; those of the
    reader and of modality x reader shift the diseased cases' mean.
    """
    means = [math.sqrt(2) * stats.norm.ppf(one) for one in (area, area + difference)]
    ratings = []
    for diseased in (0, 1):
        case = rng.normal(0, math.sqrt(0.3), cases)
        with_modality = rng.normal(0, math.sqrt(0.3), (2, 1, cases))
        with_reader = rng.normal(0, math.sqrt(0.2), (1, readers, cases))
        rest = rng.normal(0, math.sqrt(0.2), (2, readers, cases))
        shift = rng.normal(0, by_reader, (1, readers, 1)) + rng.normal(0, by_both, (2, readers, 1))
        ratings.append(
            case + with_modality + with_reader + rest + shift + diseased * np.reshape(means, (2, 1, 1))
        )
    return np.array(
        [[auc_kernel(ratings[0][m, r], ratings[1][m, r]) for r in range(readers)] for m in range(2)]
    )


@dataclass(frozen=True)
class Trial:
    """A method under a known truth: `run` returns the estimate of one simulated study.

    truth    the planted value, for coverage; None where only the test is looked at
    null     whether there is no effect, so that a p value below alpha is an error
    """

    name: str
    design: str
    run: Callable[[Generator], Estimate]
    truth: float | None = None
    null: bool = False


def _difference(kernels: np.ndarray, analysis: str) -> Estimate:
    return compare(kernels).tests[analysis].differences[0, 1]


def _equivalence(rng: Generator) -> Estimate:
    """The two one-sided tests at the edge of the margin, where 'equivalent' is just wrong."""
    found = share(answers(rng, 0.6, 4, 60, 0.5), margin=0.1)
    return Estimate(found.these_readers.value, p=found.equivalent_p)


TRIALS = (
    Trial(
        "share, these readers",
        "4 readers x 30 cases",
        lambda g: share(answers(g, 0.5, 4, 30, 0.7)).these_readers,
        0.5,
        True,
    ),
    Trial(
        "share, readers random",
        "6 readers x 40 cases, readers differ",
        lambda g: share(answers(g, 0.5, 6, 40, 0.5, 0.4)).other_readers,
        0.5,
        True,
    ),
    Trial(
        "equivalence (TOST) at the margin",
        "4 readers x 60 cases, share 60 %, margin 10 %",
        _equivalence,
        None,
        True,
    ),
    Trial(
        "Wilcoxon on grades", "3 readers x 30 cases", lambda g: signed_rank(*grades(g, 0.0, 3, 30)), 0.0, True
    ),
    Trial(
        "VGC area",
        "3 readers x 30 cases",
        lambda g: vgc_auc(*grades(g, 0.0, 3, 30), random_readers=False),
        0.5,
        True,
    ),
    Trial("ordinal GEE", "3 readers x 40 cases", lambda g: odds_ratio(*grades(g, 0.0, 3, 40)), 1.0, True),
    Trial(
        "MRMC, readers and cases random",
        "5 readers, 50 + 50 cases, area 0.8",
        lambda g: _difference(roe_metz(g, 0.8, 0.0, 5, 50, 0.15, 0.1), RANDOM),
        0.0,
        True,
    ),
    Trial(
        "MRMC, readers fixed",
        "5 readers, 50 + 50 cases, area 0.8",
        lambda g: _difference(roe_metz(g, 0.8, 0.0, 5, 50, 0.0, 0.0), FIXED_READERS),
        0.0,
        True,
    ),
    Trial(
        "preference 70 %, these readers",
        "4 readers x 40 cases",
        lambda g: share(answers(g, 0.7, 4, 40, 0.7)).these_readers,
        0.7,
    ),
    Trial(
        "preference 70 %, readers random",
        "6 readers x 40 cases, readers differ",
        lambda g: share(answers(g, 0.7, 6, 40, 0.5, 0.4)).other_readers,
        0.7,
    ),
    Trial("kappa 0.6, 2 readers", "60 cases", lambda g: weighted_kappa(*copied(g, 0.6, 2, 60)), 0.6),
    Trial(
        "kappa 0.6, mean of pairs",
        "4 readers x 60 cases",
        lambda g: mean_weighted_kappa(copied(g, 0.6, 4, 60)),
        0.6,
    ),
    Trial(
        "Fleiss' kappa 0.6",
        "4 readers x 60 cases",
        lambda g: fleiss_kappa(copied(g, 0.6, 4, 60)),
        0.6,
    ),
    Trial(
        "Krippendorff's alpha 0.6",
        "4 readers x 60 cases",
        lambda g: krippendorff_alpha(copied(g, 0.6, 4, 60)),
        0.6,
    ),
    Trial(
        "ICC(3,1) 0.6", "4 readers x 60 cases, normal", lambda g: icc(_normal(g, 0.6, 4, 60))["ICC(3,1)"], 0.6
    ),
    Trial(
        "area 0.8, one reader",
        "50 + 50 cases",
        lambda g: figure_of_merit(roe_metz(g, 0.8, 0.0, 2, 50, 0, 0)[0, 0]),
        0.8,
    ),
    Trial(
        "area 0.8, readers and cases random",
        "5 readers, 50 + 50 cases",
        lambda g: compare(roe_metz(g, 0.8, 0.0, 5, 50, 0, 0)).tests[RANDOM].modalities[0],
        0.8,
    ),
    Trial(
        "area 0.8 and 0.7, their difference",
        "5 readers, 50 + 50 cases",
        lambda g: _difference(roe_metz(g, 0.8, -0.1, 5, 50, 0, 0.1), RANDOM),
        0.1,
    ),
)


def _normal(rng: Generator, correlation: float, readers: int, cases: int) -> np.ndarray:
    case = rng.normal(0, math.sqrt(correlation), cases)
    return case + rng.normal(0, math.sqrt(1 - correlation), (readers, cases))


@dataclass(frozen=True)
class Outcome:
    """How often a method was wrong (a null rejected) and how often its interval held the truth, of how
    many.
    """

    studies: int
    rejected: int
    tested: int
    covered: int
    intervals: int
    mean: float

    def error_rate(self) -> float:
        """The share of the tests that rejected."""
        return self.rejected / self.tested if self.tested else math.nan

    def coverage(self) -> float:
        """The share of the intervals that held the truth."""
        return self.covered / self.intervals if self.intervals else math.nan


def simulate(trial: Trial, studies: int, seed: int = 0) -> Outcome:
    """Run the method on so many simulated studies."""
    rejected = tested = covered = intervals = 0
    values = []
    for one in np.random.SeedSequence([seed, *trial.name.encode()]).spawn(studies):
        found = trial.run(np.random.default_rng(one))
        if found.value is not None:
            values.append(found.value)
        if trial.null and found.p is not None:
            tested += 1
            rejected += found.p < ALPHA
        if trial.truth is not None and found.low is not None and found.high is not None:
            intervals += 1
            covered += found.low <= trial.truth <= found.high
    return Outcome(
        studies, rejected, tested, covered, intervals, float(np.mean(values)) if values else math.nan
    )


def lines(studies: int, seed: int) -> Iterator[str]:
    """Yield the table, row by row."""
    heads = (
        "method",
        "simulated study",
        "studies",
        "type-I error, %",
        "coverage, %",
        "planted",
        "mean estimate",
    )
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for trial in TRIALS:
        # A rate near 5 % needs more studies than a coverage near 95 % whose test nobody asks for.
        outcome = simulate(trial, studies if trial.null else studies // 2, seed)
        error = _rate(outcome.error_rate(), outcome.tested) if trial.null else ""
        coverage = _rate(outcome.coverage(), outcome.intervals) if trial.truth is not None else ""
        planted = "" if trial.truth is None else f"{trial.truth:g}"
        yield (
            f"| {trial.name} | {trial.design} | {outcome.studies} | {error} | {coverage} | {planted} | "
            f"{outcome.mean:.3f} |"
        )


def _rate(rate: float, count: int) -> str:
    return f"{100 * rate:.1f} ± {100 * math.sqrt(rate * (1 - rate) / max(count, 1)):.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--studies", type=int, default=1000, help="simulated studies without an effect; half as many others"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    started = time.perf_counter()
    print("# Reader-study statistics on simulated studies\n")
    print(f"`python benchmarks/study_simulations.py --studies {given.studies} --seed {given.seed}`\n")
    for line in lines(given.studies, given.seed):
        print(line, flush=True)
    print(
        "\nCoverage is that of the 95 % intervals; behind ± stands the simulation's own standard error. "
        "Type-I error: share of p < 0.05 where there is no effect\n(for equivalence: at the edge of the "
        f"margin). The ratings' model is Roe & Metz' (1997). {(time.perf_counter() - started) / 60:.0f} "
        "minutes on one core of a shared machine."
    )


if __name__ == "__main__":
    main()
