"""Simulated answers of reader studies whose truth is known, as `study_simulations.py` wants them."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "CTEnhance"))

from ctenhance.study.statistics.roc import UNMARKED, auc_kernel, wafroc_kernel

Generator = np.random.Generator


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


def normal_grades(rng: Generator, correlation: float, readers: int, cases: int) -> np.ndarray:
    """Normal ratings [reader, case] of which any two readers have that correlation."""
    case = rng.normal(0, math.sqrt(correlation), cases)
    return case + rng.normal(0, math.sqrt(1 - correlation), (readers, cases))


def scores(rng: Generator, readers: int, cases: int) -> np.ndarray:
    """Preferences -2 to +2 [reader, case] of arms that are alike, from a latent normal with case effects."""
    latent = rng.normal(0, 0.7, cases) + rng.normal(0, 1, (readers, cases))
    return (latent[..., None] > np.array([-1.5, -0.5, 0.5, 1.5])).sum(axis=-1) - 2.0


def with_ties(rng: Generator, share: float, ties: float, cases: int) -> np.ndarray:
    """One reader's preferences [case]: 1, 0, and 0.5 for a tie; the share is that of the others."""
    preferred = (rng.random(cases) < share).astype(float)
    return np.where(rng.random(cases) < ties, 0.5, preferred)


def wins(rng: Generator, log_strengths: tuple[float, ...], readers: int, cases: int) -> np.ndarray:
    """Wins [case, winner, loser] by Bradley & Terry's law; half of the answers follow the case's winner."""
    count = len(log_strengths)
    found = np.zeros((cases, count, count))
    for one in range(count):
        for other in range(one):
            chance = 1 / (1 + math.exp(log_strengths[other] - log_strengths[one]))
            common = rng.random(cases) < chance
            own = rng.random((readers, cases)) < chance
            won = np.where(rng.random((readers, cases)) < 0.5, common, own).sum(axis=0)
            found[:, one, other], found[:, other, one] = won, readers - won
    return found


def roe_metz(
    rng: Generator,
    areas: tuple[float, ...],
    readers: int,
    cases: int,
    by_reader: float,
    by_both: float,
    modality_case: float = 0.3,
) -> np.ndarray:
    """Kernels [modality, reader, normal, diseased] of Roe & Metz' (1997) model of ratings, equal variances.

    Variances of case 0.3, modality x case 0.3, reader x case 0.2 and the rest 0.2, together 1 (what is taken
    from modality x case goes to the rest); those of the reader and of modality x reader shift the diseased
    cases' mean.
    """
    count = len(areas)
    means = [math.sqrt(2) * stats.norm.ppf(area) for area in areas]
    ratings = []
    for diseased in (0, 1):
        case = rng.normal(0, math.sqrt(0.3), cases)
        with_modality = rng.normal(0, math.sqrt(modality_case), (count, 1, cases))
        with_reader = rng.normal(0, math.sqrt(0.2), (1, readers, cases))
        rest = rng.normal(0, math.sqrt(0.5 - modality_case), (count, readers, cases))
        shift = rng.normal(0, by_reader, (1, readers, 1)) + rng.normal(0, by_both, (count, readers, 1))
        ratings.append(
            case + with_modality + with_reader + rest + shift + diseased * np.reshape(means, (count, 1, 1))
        )
    return np.array(
        [[auc_kernel(ratings[0][m, r], ratings[1][m, r]) for r in range(readers)] for m in range(count)]
    )


def marked(rng: Generator, readers: int, cases: int) -> np.ndarray:
    """Kernels [2, reader, normal, diseased] of lesion marks in two arms that are alike.

    Each case has one false candidate, each diseased one also one or two lesions; a candidate is marked where
    what the reader perceives (variances as in `roe_metz`) lies above a threshold.
    """
    lesions = rng.integers(1, 3, cases)

    def perceived(count: int, mean: float) -> np.ndarray:
        parts = ((1, 1), (2, 1), (1, readers), (2, readers))
        found = sum(
            rng.normal(0, math.sqrt(variance), (*part, count))
            for variance, part in zip((0.3, 0.3, 0.2, 0.2), parts, strict=True)
        )
        found = found + mean + rng.normal(0, 0.1, (2, readers, 1))
        return np.where(found > 0.3, found, UNMARKED)

    false, true = perceived(cases, 0.0), perceived(int(lesions.sum()), 1.2)
    ends = np.cumsum(lesions)[:-1]
    return np.array(
        [[wafroc_kernel(false[m, r], np.split(true[m, r], ends)) for r in range(readers)] for m in range(2)]
    )
