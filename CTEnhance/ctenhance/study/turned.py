"""Readers whose grades run against those of the others, as where 1 is taken for the best of a scale."""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy import stats

from ctenhance.study.gathered import Gathered
from ctenhance.study.questions import PAIR, Question

_KINDS = ("likert", "number", "yes-no", "preference")
#: A correlation that is no chance and no mere want of agreement, and by how many of its SDs it is below 0.
_AGAINST, _SURE = -0.4, 4.0
#: What counts beside such a one: of who runs against one reader for sure, against which others, too.
_LIKELY = -0.2
#: So large a share of wrong answers, or of pairs of cases in the wrong order, is no want of skill, nor
#: chance where guessing gives it with this p.
_WRONG, _BY_CHANCE = 0.7, 0.001
#: Two readers who differ on the arms alone agree on the cases within each arm, by more than this.
_OF_CASES = 0.2


def turned_readers(gathered: Gathered) -> list[str]:
    """Return a sentence for every reader, or two of them, whose grades run against the others'.

    From all graded questions together, whose answers are many; where these show none, question by question.
    """
    found = {
        question.text: pairs
        for question in gathered.questions
        if question.kind in _KINDS and (pairs := _pairs(gathered, question))
    }
    together: dict[tuple[str, str], _Pair] = {}
    for pairs in found.values():
        for readers, pair in pairs.items():
            together[readers] = together[readers] + pair if readers in together else pair
    if len(found) > 1 and (said := _sentences(gathered.readers, together, found)):
        return said
    return [
        one for text, pairs in found.items() for one in _sentences(gathered.readers, pairs, {text: pairs})
    ]


def against_the_truth(gathered: Gathered) -> list[str]:
    """Return a sentence for every reader who is wrong far more often than by guessing: the question, or the
    scale, may have been taken the other way round."""
    tell = {"choice": _wrong_choices, "number": _wrong_order}
    return [
        f"{reader}'s answers to '{question.text}' are {how}: make sure that {reader} did not take it the "
        "other way round."
        for question in gathered.questions
        for reader in gathered.readers
        if question.kind in tell and (how := tell[question.kind](gathered, question, reader))
    ]


def _wrong_choices(gathered: Gathered, question: Question, reader: str) -> str:
    right = [
        one.correct
        for one in gathered.answers
        if (one.reader, one.question) == (reader, question.id) and not one.repeat and one.correct is not None
    ]
    wrong = len(right) - sum(right)
    if not right or wrong < _WRONG * len(right):
        return ""
    by_chance = float(stats.binomtest(wrong, len(right), 0.5, "greater").pvalue)
    return (
        f"wrong {wrong} times of {len(right)}, more often than by guessing" if by_chance < _BY_CHANCE else ""
    )


def _wrong_order(gathered: Gathered, question: Question, reader: str) -> str:
    known = gathered.with_truth()
    if known.diseased is None or reader not in known.readers:
        return ""
    rows = [known.grid(known.of(question, arm))[known.readers.index(reader)] for arm in known.arms]
    ill, healthy = (
        np.concatenate([row[kind & np.isfinite(row)] for row in rows])
        for kind in (known.diseased, ~known.diseased)
    )
    if not min(ill.size, healthy.size):
        return ""
    test = stats.mannwhitneyu(ill, healthy, alternative="less")
    area = float(test.statistic) / (ill.size * healthy.size)
    sure = area <= 1 - _WRONG and test.pvalue < _BY_CHANCE
    return f"higher without a lesion than with one (area under the ROC curve {area:.2f})" if sure else ""


class _Pair:
    """Two readers' answers to the same readings, each as its deviation from that reader's mean, in SDs."""

    def __init__(self, whole: np.ndarray, within: np.ndarray) -> None:
        self.whole, self.within = whole, within  # [reader, answer]; less the mean of all, or of the arm

    def __add__(self, other: _Pair) -> _Pair:
        return _Pair(np.hstack([self.whole, other.whole]), np.hstack([self.within, other.within]))

    @property
    def correlation(self) -> float:
        return _correlation(self.whole)

    @property
    def against(self) -> bool:
        count, found = self.whole.shape[1], self.correlation
        sure = found * math.sqrt(max(count - 2, 0) / max(1 - found**2, 1e-9)) < -_SURE
        return found <= _AGAINST and sure and _correlation(self.within) <= _OF_CASES


def _correlation(deviations: np.ndarray) -> float:
    one, other = deviations
    size = math.sqrt(float((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / size if size > 0 else 0.0


def _pairs(gathered: Gathered, question: Question) -> dict[tuple[str, str], _Pair]:
    """Return what every two readers answered to a question, where both vary."""
    pair = question.scope == PAIR
    places = [(b, a) for a, b in gathered.pairs] if pair else [(arm, "") for arm in gathered.arms]
    grids = np.stack(
        [gathered.grid(gathered.of(question, *place)) for place in places]
    )  # [arm, reader, case]
    found = {}
    for (row, one), (other_row, other) in itertools.combinations(enumerate(gathered.readers), 2):
        both = grids[:, [row, other_row]]
        both = np.where(np.isfinite(both).all(axis=1, keepdims=True), both, np.nan)
        common = np.isfinite(both[:, 0])
        if common.sum() < 3:
            continue
        whole = [both[:, side][common] for side in (0, 1)]
        spreads = [float(values.std()) for values in whole]
        if not min(spreads):
            continue
        rows = [
            [values[there] for values, there in zip(both[:, side], common, strict=True)] for side in (0, 1)
        ]
        arms = [np.concatenate([arm - arm.mean() for arm in side if arm.size]) for side in rows]
        found[one, other] = _Pair(
            np.stack([(values - values.mean()) / sd for values, sd in zip(whole, spreads, strict=True)]),
            np.stack([values / sd for values, sd in zip(arms, spreads, strict=True)]),
        )
    return found


def _sentences(
    readers: tuple[str, ...],
    pairs: dict[tuple[str, str], _Pair],
    questions: dict[str, dict[tuple[str, str], _Pair]],
) -> list[str]:
    """Say who runs against whom: one reader against most others, or else two against each other."""
    against = {both: pair.correlation for both, pair in pairs.items() if pair.against}
    # Whoever runs against one reader for sure, and against others likely, is the one to name.
    likely = {both: pair.correlation for both, pair in pairs.items() if pair.correlation <= _LIKELY}
    sure = {one for both in against for one in both}
    foes = {one: [both for both in likely if one in both] if one in sure else [] for one in readers}
    alone = [one for one in readers if 2 * len(foes[one]) > len(readers) - 1]
    if 2 * len(alone) >= len(readers):  # nobody can say on which side it is
        alone = []
    found = [(f"{one}'s", foes[one], one) for one in alone]
    found += [
        (f"{one}'s and {other}'s", [(one, other)], "either")
        for one, other in against
        if one not in alone and other not in alone
    ]
    said = []
    for whose, both, who in found:
        low, high = (f"{limit([likely[one] for one in both]):.2f}" for limit in (min, max))
        others = ", ".join(name for one in both for name in one if name != who)
        rest = "each other" if who == "either" else f"those of {others}"
        turned = [
            text for text, own in questions.items() if all(own[x].correlation < 0 for x in both if x in own)
        ]
        asked = f"{len(turned)} of {len(questions)} questions" if len(questions) > 1 else f"'{turned[0]}'"
        said.append(
            f"{whose} answers to {asked} run against {rest} (correlation "
            f"{low if low == high else f'{low} to {high}'}): make sure that {who} did not take the scale the "
            "other way round. Nothing was turned here, and tables of all readers mix both directions."
        )
    return said
