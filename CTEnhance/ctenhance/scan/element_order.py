"""Are the views, rows or columns of a scan in their order? Neighbours are alike, so that where the order is
lost some differ far more than they would in another one: halves or modules of a detector exchanged, elements
that come interleaved, blocks that run backwards.

Beyond the detector's ends is air: what is dense at both ends and air in the middle has its halves exchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

#: Interleaved by up to so many.
_MOST_INTERLEAVED = 64
#: A seam is where neighbours differ so many times more than others close by; so many are put together.
_SEAM, _CLOSE_BY, _MOST_SEAMS = 2.0, 8, 12
#: Another order is believed if neighbours that are others in it differ by less than this part: where some
#: get others, and where most do (of elements that come as every second one, neighbours are twice as far).
_BETTER, _BETTER_MOST = 0.5, 0.75
#: Of most, the two that differ most may do so by this part of what they do before.
_WORST = 1.2
#: So, too, with every element divided by its mean, lest elements of one gain be put together; where this says
#: nothing, as of a centred disc, panels have to be this part of the whole at least.
_NO_WORSE, _LEAST_PANEL = 1.1, 1 / 16
_FEWEST = 5
#: Of no more elements any two are tried in each other's place.
_MOST_TRIED = 32
#: Two are exchanged if new neighbours differ by less than this part of the old ones, and the worst of them by
#: less than that of the worst. Slices of 21 real scans, 1 to 20 mm apart, have no pair with less than 0.83.
_EXCHANGED, _EXCHANGED_WORST = 0.75, 0.9
#: Runs of neighbours that are listed one by one.
_MOST_RUNS, _SOME = 9, 5


@dataclass(frozen=True)
class Order:
    """Another order: `order` holds the places at which the elements stand that belong first, second, …;
    `come_as`, which elements stand there, in words; neighbours differ by `before` as they stand and by
    `after` in this order (mean difference of the roots of their transmissions)."""

    order: np.ndarray
    come_as: str
    before: float
    after: float


def other_order(elements: np.ndarray, between_air: bool = False) -> Order | None:
    """The order in which neighbours are far more alike than as they stand, None where there is none.

    `elements` `[element, feature]`: roots of transmissions, of the same rays otherwise; `between_air`: the
    first and the last should be air, which is 1. A reversal as a whole is not reported."""
    if len(elements) < _FEWEST:
        return None
    chain = _Chain(elements.astype(np.float32), between_air)
    found = min(chain.candidates(), key=chain.gain)
    # backwards as a whole it is as smooth: all are close to their places, or most run as they stand
    back = found[::-1].copy()
    close = [np.abs(one - chain.stands).max() <= chain.n / 8 for one in (found, back)]
    if close[1] or (
        not close[0] and np.count_nonzero(np.diff(found) == 1) < np.count_nonzero(np.diff(back) == 1)
    ):
        found = back
    if not (chain.believed(found) or chain.believed_exchange(found)):
        return None
    before, after = chain.changed(found, chain.values)
    return Order(found, come_as(np.argsort(found)), before, after)


def come_as(numbers: np.ndarray) -> str:
    """'90 to 179, 0 to 89' or '0, 2, 4, 6, 8, 10, …'."""
    steps = np.diff(numbers)
    starts = [0]
    for k in range(1, len(numbers)):
        step = steps[k - 1]
        run = abs(step) == 1 and (k - 1 == starts[-1] or step == steps[k - 2])
        if not run:
            starts.append(k)
    parts = [part.tolist() for part in np.split(numbers, starts[1:])]
    runs = [f"{part[0]} to {part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts]
    return ", ".join(runs if len(runs) <= _MOST_RUNS else [*runs[:_SOME], "…"])


class _Chain:
    """Elements one beside the other, with how far any two differ."""

    def __init__(self, elements: np.ndarray, between_air: bool) -> None:
        self.n = len(elements)
        self.air = [self.n] if between_air else []
        self.values = np.concatenate([elements, np.ones_like(elements[:1])])
        mean = np.maximum(self.values.mean(1, keepdims=True), 1e-6)
        self.scaled = self.values / mean
        self.few = self.values[:, :: max(1, elements.shape[1] // 64)]
        self.stands = np.arange(self.n)
        self.neighbours = _differ(self.values, self.stands[:-1], self.stands[1:])

    def candidates(self) -> Iterator[np.ndarray]:
        """Other orders: interleaved, by name, in blocks that run backwards, in panels."""
        n = self.n
        yield self.stands
        for first in (0, 1):
            yield np.argsort(sorted(range(first, n + first), key=str))
        for k in range(2, min(_MOST_INTERLEAVED, n // 2) + 1):
            order = np.concatenate([np.arange(start, n, k) for start in range(k)])
            yield order
            yield np.argsort(order)
        for k in range(2, n // 2 + 1):
            if n % k == 0:
                yield self.stands.reshape(-1, k)[:, ::-1].ravel()
        yield self._panels()
        # Two that are exchanged and differ little from their new neighbours.
        if n <= _MOST_TRIED:
            yield self._exchanged()

    def _exchanged(self) -> np.ndarray:
        """The order with those two exchanged that makes neighbours most alike."""
        found, best = self.stands, 0.0
        for one in range(self.n):
            for other in range(one + 1, self.n):
                order = self.stands.copy()
                order[[one, other]] = other, one
                if (gain := self.gain(order)) < best:
                    found, best = order, gain
        return found

    def gain(self, order: np.ndarray) -> float:
        """How much less neighbours differ in all, negative for less; on some features alone."""
        return self._length(order) - self._length(self.stands)

    def _length(self, order: np.ndarray) -> float:
        path = np.array([*self.air, *order, *self.air])
        return float(_differ(self.few, path[:-1], path[1:]).sum())

    def believed(self, order: np.ndarray) -> bool:
        """Whether neighbours are far more alike, and not because of their gain alone."""
        cuts = np.flatnonzero(np.abs(np.diff(order)) != 1)
        most = len(cuts) > self.n / 3
        limit = _BETTER_MOST if most else _BETTER
        before, after = self.changed(order, self.values)
        if not after < limit * before:
            return False
        # an odd element is as odd elsewhere, and where parts are joined they have to fit
        worst, still = self.changed(order, self.values, np.max)
        if not still < (_WORST if most else _BETTER_MOST) * worst:
            return False
        before, after = self.changed(order, self.scaled)
        if after < limit * before:
            return True
        least = min(len(run) for run in np.split(order, cuts + 1))
        return after < _NO_WORSE * before and least >= _LEAST_PANEL * self.n

    def believed_exchange(self, order: np.ndarray) -> bool:
        """Whether two that are exchanged are far more like their new neighbours, the worst of them, too."""
        if np.count_nonzero(order != self.stands) != 2:
            return False
        pairs = [np.sort(np.stack([one[:-1], one[1:]], 1), 1) for one in (self.stands, order)]
        keys = [one[:, 0] * self.n + one[:, 1] for one in pairs]
        old, new = pairs[0][~np.isin(keys[0], keys[1])], pairs[1][~np.isin(keys[1], keys[0])]
        for values in (self.values, self.scaled):
            before, after = (_differ(values, one[:, 0], one[:, 1]) for one in (old, new))
            if not (
                after.mean() < _EXCHANGED * before.mean() and after.max() < _EXCHANGED_WORST * before.max()
            ):
                return False
        return True

    def changed(
        self, order: np.ndarray, values: np.ndarray, of: Callable[[np.ndarray], float] = np.mean
    ) -> tuple[float, float]:
        """How far neighbours differ, as they stand and in the order, about the elements that get others.

        With all neighbours of these: an odd element that is moved stays an odd one."""
        paths = [np.array([*self.air, *path, *self.air]) for path in (self.stands, order)]
        pairs = [np.sort(np.stack([path[:-1], path[1:]], 1), 1) for path in paths]
        keys = [one[:, 0] * (self.n + 1) + one[:, 1] for one in pairs]
        other = [~np.isin(keys[0], keys[1]), ~np.isin(keys[1], keys[0])]
        touched = np.unique(np.concatenate([one[new].ravel() for one, new in zip(pairs, other, strict=True)]))
        touched = touched[touched < self.n]
        mean = []
        for one in pairs:
            near = one[np.isin(one, touched).any(1)]
            mean.append(float(of(_differ(values, near[:, 0], near[:, 1]))) if len(near) else 0.0)
        return mean[0], mean[1]

    def _panels(self) -> np.ndarray:
        """The panels between seams, put together so that their ends fit."""
        cuts = self._seams()
        if not cuts:
            return self.stands
        panels = np.split(self.stands, cuts)
        ends = np.array([[panel[0], panel[-1]] for panel in panels] + [[self.n, self.n]])
        flat = ends.ravel()
        fit = np.stack([_differ(self.values, np.full_like(flat, end), flat) for end in flat])
        if not self.air:
            fit[-2:], fit[:, -2:] = 0.0, 0.0
        tour = list(range(0, 2 * len(panels), 2))  # 2 k: panel k, 2 k + 1: panel k backwards
        sizes = np.array([len(panel) for panel in panels]) / self.n
        typical = float(np.median(self.neighbours))

        def length(tour: list[int]) -> float:
            around = np.array([2 * len(panels), *tour, 2 * len(panels)])
            ends = float(fit[around[:-1] ^ 1, around[1:]].sum())
            # what hardly differs, as air, stays where it stands
            other = np.count_nonzero(np.diff(around[1:-1]) != 2)
            moved = float(sizes[np.array(tour) // 2][np.array(tour) != np.arange(0, len(fit) - 2, 2)].sum())
            return ends + typical * (other + moved)

        best = length(tour)
        while True:
            following = min(_moves(tour), key=length)
            if not length(following) < best - 1e-9:
                break
            tour, best = following, length(following)
        return np.concatenate([panels[one // 2][:: -1 if one % 2 else 1] for one in tour])

    def _seams(self) -> list[int]:
        """Where to cut: before these elements."""
        differ, n = self.neighbours, self.n
        cuts: list[int] = []
        if self.air:
            # between two that are air, closest to the middle
            to_air = _differ(self.values, self.stands, np.full(n, n))
            to_air = to_air[:-1] + to_air[1:]
            air = np.flatnonzero(to_air <= to_air.min() + 2 * np.median(differ))
            cuts.append(int(air[np.argmin(np.abs(air + 1 - n / 2))]) + 1)
        around = np.lib.stride_tricks.sliding_window_view(
            np.pad(differ, _CLOSE_BY, mode="reflect" if n > _CLOSE_BY + 1 else "wrap"), 2 * _CLOSE_BY + 1
        )
        ratio = differ / np.maximum(np.median(around, 1), 1e-9)
        if np.count_nonzero(ratio > 2 * _SEAM) > _MOST_SEAMS:
            return []
        some = np.argsort(-ratio)[:_MOST_SEAMS]
        return sorted({*cuts, *(int(k) + 1 for k in some if ratio[k] > _SEAM)})


def _differ(values: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(values[one] - values[other]).mean(1)


def _moves(tour: list[int]) -> Iterator[list[int]]:
    """A part turned round, moved elsewhere, or both; two panels exchanged."""
    n = len(tour)
    yield tour
    for start in range(n):
        for stop in range(start + 1, n + 1):
            part, rest = tour[start:stop], tour[:start] + tour[stop:]
            turned = [one ^ 1 for one in reversed(part)]
            yield tour[:start] + turned + tour[stop:]
            for at in range(start) if len(part) < n else ():
                yield rest[:at] + part + rest[at:]
                yield rest[:at] + turned + rest[at:]
            if stop - start > 2:
                yield [*tour[:start], part[-1], *part[1:-1], part[0], *tour[stop:]]
