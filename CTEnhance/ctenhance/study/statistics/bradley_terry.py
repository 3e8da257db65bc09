"""Bradley & Terry's model (1952): a strength for each arm from who was preferred to whom."""

from __future__ import annotations

import numpy as np

from ctenhance.study.statistics.estimate import Estimate, bootstrap_limits, too_few_cases, unknown

_MOST_STEPS, _TOLERANCE = 10_000, 1e-10
_REPEATS = 500
_FEWEST_CASES = 2


def strengths(wins: np.ndarray) -> np.ndarray | None:
    """Return log strengths [arm] with mean 0 from wins [winner, loser] (ties as half a win for both).

    Hunter's (2004) MM algorithm. None when the maximum is not finite: when the arms fall into two groups of
    which one never won against the other.
    """
    count = len(wins)
    if count < 2 or not _connected(wins):
        return None
    games = wins + wins.T
    total = wins.sum(axis=1)
    strength = np.ones(count)
    for _ in range(_MOST_STEPS):
        updated = total / (games / np.add.outer(strength, strength)).sum(axis=1)
        updated /= np.exp(np.log(updated).mean())
        if np.abs(np.log(updated / strength)).max() < _TOLERANCE:
            return np.log(updated)
        strength = updated
    return np.log(strength)


def by_arm(wins_by_case: np.ndarray, seed: int = 0) -> tuple[Estimate, ...]:
    """Return each arm's log strength, from wins [case, winner, loser], bootstrapped over cases."""
    value = strengths(wins_by_case.sum(axis=0))
    cases, count = wins_by_case.shape[:2]
    if value is None:
        return (unknown("no finite strength: some arms never won against the others"),) * count
    if cases < _FEWEST_CASES:
        return (unknown(f"it takes {_FEWEST_CASES} cases"),) * count
    if few := too_few_cases(cases):
        return tuple(Estimate.of(one, why=few) for one in value)
    rng = np.random.default_rng(seed)
    drawn = [strengths(wins_by_case[rng.integers(0, cases, cases)].sum(axis=0)) for _ in range(_REPEATS)]
    known = np.array([one for one in drawn if one is not None])
    if len(known) < _REPEATS / 2:
        why = "no interval: in most bootstrap samples of the cases some arms never won against the others"
        return tuple(Estimate.of(one, why=why) for one in value)
    low, high = bootstrap_limits(known, cases)
    if (low == high).any():
        why = "no interval: all bootstrap samples of the cases tell the same"
        return tuple(Estimate.of(one, why=why) for one in value)
    return tuple(Estimate.of(*one) for one in zip(value, low, high, strict=True))


def _connected(wins: np.ndarray) -> bool:
    """Say whether every arm can be reached from every other along wins."""
    reach = (wins > 0) | np.eye(len(wins), dtype=bool)
    for _ in range(len(wins)):
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    return bool(reach.all())
