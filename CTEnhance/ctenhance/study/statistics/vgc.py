"""Visual grading characteristics (Bath & Mansson 2007): the area under one arm's curve against another's.

0.5 means that the arms are graded alike; above, the second is graded better. The area is found for each
reader by the trapezoidal rule (ties count half) and averaged over readers.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from ctenhance.study.statistics.estimate import UNKNOWN, Estimate, bootstrap_limits

REPEATS = 2000


def vgc_auc(first: np.ndarray, second: np.ndarray, random_readers: bool = True, seed: int = 0) -> Estimate:
    """Return the area with its interval and p value for grades [reader, case] of two arms.

    The interval is a bootstrap's (see `bootstrap_limits`) that draws cases and, with `random_readers`,
    readers, both arms of a reading together. The p value is of the permutation test that exchanges the arms
    of a case for all readers at once; it is exact for these readers. Cases that some reader did not grade in
    both arms are left out.
    """
    whole = np.isfinite(first).all(axis=0) & np.isfinite(second).all(axis=0)
    first, second = first[:, whole], second[:, whole]
    readers, cases = first.shape
    if cases < 2 or readers < 1:
        return UNKNOWN
    rng = np.random.default_rng(seed)
    better = (second[:, :, None] > first[:, None, :]) + 0.5 * (second[:, :, None] == first[:, None, :])
    value = float(better.mean())
    counts = rng.multinomial(cases, np.full(cases, 1 / cases), REPEATS).astype(float)
    by_reader = (
        np.stack([np.einsum("bi,ij,bj->b", counts, one, counts, optimize=True) for one in better]) / cases**2
    )
    if random_readers and readers > 1:
        drawn = rng.multinomial(readers, np.full(readers, 1 / readers), REPEATS) / readers
        areas = (drawn.T * by_reader).sum(axis=0)
    else:
        areas = by_reader.mean(axis=0)
    low, high = bootstrap_limits(areas, cases)
    return Estimate.of(value, low, high, _permutation_p(first, second, rng))


def _permutation_p(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> float:
    """Return the two-sided p value; the area is linear in the rank sum, whose ranks no exchange changes."""
    pooled = stats.rankdata(np.concatenate([first, second], axis=1), axis=1)
    cases = first.shape[1]
    gains = (pooled[:, cases:] - pooled[:, :cases]).sum(axis=0)
    observed = abs(gains.sum())
    signs = rng.choice([-1.0, 1.0], (REPEATS, cases))
    reached = np.abs(signs @ gains) >= observed - 1e-9
    return float((1 + reached.sum()) / (REPEATS + 1))


def curve(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of the VGC curve of all readers together: shares of both arms above each grade."""
    first, second = first[np.isfinite(first)], second[np.isfinite(second)]
    steps = np.unique(np.concatenate([first, second]))[::-1]
    x = [0.0, *((first >= step).mean() for step in steps)]
    y = [0.0, *((second >= step).mean() for step in steps)]
    return np.array(x), np.array(y)
