"""Who sees what, when and on which side: seeded, balanced, and not to be worked out without the key.

Everything random comes from streams that are seeded with SHA-256 of the seed, the key's salt and what the
stream is for. The salt is 128 random bits that stand in the sealed key only.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from ctenhance.study.fields import canonical, sha256_of

Showing = tuple[tuple[int, int], ...]
"""What is shown at once, from left to right: (number of the case, number of the arm), counted from 0."""


def stream(seed: int, salt: str, *purpose: str) -> random.Random:
    """Return the generator of random numbers for one purpose, such as ('order', 'reader-1')."""
    return random.Random(int(sha256_of(canonical([seed, salt, *purpose])), 16))


def image_ids(count: int, rng: random.Random) -> list[str]:
    """Return so many different names of 8 hexadecimal digits, in random order."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[f"{rng.getrandbits(32):08x}"] = None
    return list(found)


def balanced(count: int, rng: random.Random) -> list[bool]:
    """Return so many truth values in random order: half of each, the odd one drawn."""
    values = [number < count // 2 for number in range(count)]
    if count % 2:
        values[-1] = rng.random() < 0.5
    rng.shuffle(values)
    return values


def readings(cases: int, arms: int, pairs: bool, sessions: int, rng: random.Random) -> list[list[Showing]]:
    """Return what one reader sees, session by session.

    A case comes up once for each arm (or each pair of arms). These rounds are kept apart: first every case
    with one of its arms, then every case with another, so that a case is seen again as late as possible, and
    each round holds the arms in equal parts (a Latin square over the shuffled cases). The order within a
    round is random; sessions cut the whole into equal parts.
    """
    variants: list[tuple[int, ...]] = (
        list(itertools.combinations(range(arms), 2)) if pairs else [(arm,) for arm in range(arms)]
    )
    rng.shuffle(variants)
    order = list(range(cases))
    rng.shuffle(order)
    shown: list[Showing] = []
    for turn in range(len(variants)):
        part = [
            tuple((case, arm) for arm in variants[(place + turn) % len(variants)])
            for place, case in enumerate(order)
        ]
        rng.shuffle(part)
        shown += part
    cuts = [round(number * len(shown) / sessions) for number in range(sessions + 1)]
    return [flipped(shown[start:stop], rng) for start, stop in itertools.pairwise(cuts)]


def practice(cases: int, arms: int, pairs: bool, rng: random.Random) -> list[Showing]:
    """Return what one reader practises with: each of the cases once, arms (or pairs of arms) in turn."""
    variants: list[tuple[int, ...]] = (
        list(itertools.combinations(range(arms), 2)) if pairs else [(arm,) for arm in range(arms)]
    )
    rng.shuffle(variants)
    shown = [tuple((case, arm) for arm in variants[case % len(variants)]) for case in range(cases)]
    rng.shuffle(shown)
    return flipped(shown, rng)


def flipped(shown: Sequence[Showing], rng: random.Random) -> list[Showing]:
    """Return the showings with the two sides exchanged in half of those of each pair of arms."""
    sides: dict[tuple[int, ...], list[bool]] = {}
    for arms in sorted({tuple(arm for _case, arm in showing) for showing in shown}):
        count = sum(tuple(arm for _case, arm in showing) == arms for showing in shown)
        sides[arms] = balanced(count, rng)
    return [
        tuple(reversed(showing)) if sides[tuple(arm for _case, arm in showing)].pop() else showing
        for showing in shown
    ]


def repeated(shown: Sequence[Showing], count: int, rng: random.Random) -> list[Showing]:
    """Return so many of the showings once more, in a new order and with new sides."""
    chosen = [tuple(sorted(showing, key=lambda one: one[1])) for showing in rng.sample(list(shown), count)]
    return flipped(chosen, rng)
