"""Visual grading characteristics (Bath & Mansson 2007): the area under one arm's curve against another's.

0.5 means that the arms are graded alike; above, the second is graded better. The area is found for each
reader by the trapezoidal rule (ties count half), over the cases that the reader has, and averaged.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from ctenhance.study.statistics.estimate import Estimate, bootstrap_limits, too_few_cases, unknown

REPEATS = 2000


def vgc_auc(first: np.ndarray, second: np.ndarray, random_readers: bool = True, seed: int = 0) -> Estimate:
    """Return the area with its interval and p value for grades [reader, case] of two arms.

    Each reader counts with the cases that this reader graded in both arms: the area is the mean over readers,
    weighted by how many these are. The interval is a bootstrap's (see `bootstrap_limits`) that draws cases
    and, with `random_readers`, readers, both arms of a reading together. The p value is of the permutation
    test that exchanges the arms of a case for all readers at once, in all ways where cases are few (10);
    it is exact for these readers. One reader tells nothing of other readers: with `random_readers` interval
    and p value are then unknown. There is no interval of fewer than 6 cases, nor where every bootstrap sample
    has one and the same area.
    """
    both = np.isfinite(first) & np.isfinite(second)
    some, used = both.any(axis=1), both.any(axis=0)
    both, first, second = (one[some][:, used] for one in (both, first, second))
    readers, cases = both.shape
    if cases < 2 or readers < 1:
        return unknown("fewer than 2 cases were graded in both arms by one reader")
    rng = np.random.default_rng(seed)
    with np.errstate(invalid="ignore"):
        better = (second[:, :, None] > first[:, None, :]) + 0.5 * (second[:, :, None] == first[:, None, :])
    better *= both[:, :, None] & both[:, None, :]
    own = both.sum(axis=1)
    value = float((better.sum(axis=(1, 2)) / own).sum() / own.sum())
    if random_readers and readers < 2:
        return Estimate.of(value, why="no interval: one reader tells nothing of other readers")
    counts = rng.multinomial(cases, np.full(cases, 1 / cases), REPEATS).astype(float)
    # By reader [reader, draw]: the cases drawn that the reader has, and these times the area.
    drawn_cases = both.astype(float) @ counts.T
    areas = np.stack([np.einsum("bi,ij,bj->b", counts, one, counts, optimize=True) for one in better])
    areas = np.divide(areas, drawn_cases, out=np.zeros_like(areas), where=drawn_cases > 0)
    times = np.ones((readers, REPEATS))
    if random_readers:
        times = rng.multinomial(readers, np.full(readers, 1 / readers), REPEATS).T.astype(float)
    weight = (times * drawn_cases).sum(axis=0)
    drawn = (times * areas).sum(axis=0)[weight > 0] / weight[weight > 0]
    low, high = bootstrap_limits(drawn, cases)
    p = _permutation_p(first, second, both, rng)
    why = too_few_cases(cases)
    if not why and low == high:
        why = "no interval: all bootstrap samples of the cases have the same area"
    return Estimate.of(value, p=p, why=why) if why else Estimate.of(value, low, high, p)


def _permutation_p(
    first: np.ndarray, second: np.ndarray, both: np.ndarray, rng: np.random.Generator
) -> float:
    """Return the two-sided p value; the area is linear in the rank sums, whose ranks no exchange changes."""
    cases = both.shape[1]
    gains = np.zeros(cases)
    for one, other, own in zip(first, second, both, strict=True):
        ranks = stats.rankdata(np.concatenate([one[own], other[own]])).reshape(2, -1)
        gains[own] += (ranks[1] - ranks[0]) / own.sum()
    observed = abs(gains.sum())
    if 2**cases <= REPEATS:  # no more than would be drawn: all of them
        signs = 1.0 - 2.0 * (np.arange(2**cases)[:, None] >> np.arange(cases) & 1)
        return float(np.mean(np.abs(signs @ gains) >= observed - 1e-9))
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
