"""Readers whose answers are another's: the same ones, the same in most cases, or moved by a constant."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from scipy import stats

from ctenhance.study.gathered import Gathered
from ctenhance.study.questions import Question

_FEWEST_ALIKE = 3  # answers in common: fewer are alike by chance
# All but a few of many are so no more by chance, where other answers are frequent enough: Cohen's kappa.
_FEWEST_NEARLY, _NEARLY, _MOST_BY_CHANCE, _LEAST_KAPPA = 20, 0.95, 0.6, 0.9
# One question of several is alike where its answers would not be with this chance.
_QUESTION_BY_CHANCE = 1e-5
# Over all questions, where they differ in so much less than any reader does from a third one.
_FEWEST_IN_ALL, _LEAST_KAPPA_IN_ALL, _LEAST_UNLIKE, _UNLIKE_IN_ALL = 30, 0.85, 0.15, 0.35
# Whole cases with the same answers, each to so many questions and images, where the other cases' answers
# agree so much less that this is no chance.
_ANSWERS_OF_CASE, _CASES_ALIKE, _MOST_ELSEWHERE, _WHOLE_BY_CHANCE = 6, 0.75, 0.75, 1e-6
# Fewer whole cases, where their answers are so varied that two people hardly agree on more than such a share
# of them, and agree on less than half in the other cases.
_FEWER_ALIKE, _AS_PEOPLE_AGREE, _VARIED, _LESS_ELSEWHERE, _FEWER_BY_CHANCE = 0.6, 0.8, 0.4, 0.5, 1e-4


def copied_readers(gathered: Gathered) -> list[str]:
    """Return a sentence for every two readers one of whom may be a copy of the other."""
    found = []
    for one, other in itertools.combinations(gathered.readers, 2):
        said = (
            _the_same(gathered, one, other)
            or _moved(gathered, one, other)
            or _moved(gathered, other, one)
            or _whole_cases(gathered, one, other)
        )
        if said:
            found.append(
                f"{said}. Where one is a copy of "
                "the other, leave one out: copied readers count as further ones, and in the multi-reader "
                "comparison the degrees of freedom grow about tenfold."
            )
    return found


def _the_same(gathered: Gathered, one: str, other: str) -> str:
    """Say to which questions two readers gave the same answer in every reading that both have, or nearly.

    Of readers who agree well some question is alike by chance: either all questions together are, or one is
    as it would not be with the agreement in the question where they agree least.
    """
    asked: list[tuple[Question, list[tuple[Any, Any]]]] = []
    for question in gathered.questions:
        if question.kind == "text":
            continue
        first, second = (values_of(gathered, question, reader) for reader in (one, other))
        common = sorted(first.keys() & second.keys())
        unmarked = question.kind == "marks" and not any(first[place] for place in common)
        if not unmarked and len(common) >= _FEWEST_ALIKE:
            asked.append((question, [(first[place], second[place]) for place in common]))
    together = [((question.id, a), (question.id, b)) for question, pairs in asked for a, b in pairs]
    whole = bool(together) and (_same(together) == 1 or _nearly_all(together))
    questions = []
    for question, pairs in asked:
        same, count = round(_same(pairs) * len(pairs)), len(pairs)
        if same < count and not _nearly_all(pairs):
            continue
        least = min((_same(rest) for other_one, rest in asked if other_one is not question), default=0.0)
        if whole or stats.binom.sf(same - 1, count, least) < _QUESTION_BY_CHANCE:
            answers = f"{count} answers" if same == count else f"{same} of {count} answers"
            questions.append(f"'{question.text}' ({answers})")
    named = ", ".join(questions) or _nearly_in_all(gathered, one, other)
    return f"{one} and {other} gave the same answers to {named}" if named else ""


def _moved(gathered: Gathered, one: str, other: str) -> str:
    """Say that the second reader's grades are the first's, all moved by one and the same step and kept within
    the scale; all graded questions are taken together, as a step that fits in one of them may be chance."""
    both: list[tuple[Question, float, float, list[tuple[Any, Any]]]] = []
    for question in gathered.questions:
        if question.kind in ("likert", "number"):
            likert = question.kind == "likert"
            low, high = (1, len(question.anchors)) if likert else (question.low, question.high)
            first, second = (values_of(gathered, question, reader) for reader in (one, other))
            common = sorted(first.keys() & second.keys())
            both.append((question, low, high, [(first[at], second[at]) for at in common]))
    # At the ends of the scale the step may be cut short.
    steps = Counter(b - a for _question, low, high, pairs in both for a, b in pairs if low < b < high)
    step = steps.most_common(1)[0][0] if steps else 0
    moved = [
        ((question.id, min(max(a + step, low), high)), (question.id, b))
        for question, low, high, pairs in both
        for a, b in pairs
    ]
    if not step or not _nearly_all(moved):
        return ""
    asked = [question.text for question, *_range, pairs in both if pairs]
    named = f"'{asked[0]}'" if len(asked) == 1 else f"{len(asked)} questions"
    sign, same = "plus" if step > 0 else "minus", round(_same(moved) * len(moved))
    return f"{other}'s answers to {named} are {one}'s {sign} {abs(step):g} ({same} of {len(moved)} answers)"


def _whole_cases(gathered: Gathered, one: str, other: str) -> str:
    """Say in how many cases two readers gave the same answers to everything, where they differ so much in the
    other cases that they were not read by two in the same way."""
    by_case: dict[str, list[bool]] = {}
    pairs = []
    cases = []
    for question in gathered.questions:
        if question.kind in ("text", "marks"):
            continue
        first, second = (values_of(gathered, question, reader) for reader in (one, other))
        for at in first.keys() & second.keys():
            by_case.setdefault(at[0], []).append(first[at] == second[at])
            pairs.append(((question.id, first[at]), (question.id, second[at])))
            cases.append(at[0])
    asked = {case: same for case, same in by_case.items() if len(same) >= _ANSWERS_OF_CASE}
    elsewhere = [same for same in asked.values() if not all(same)]
    alike = len(asked) - len(elsewhere)
    if not elsewhere or alike < _FEWER_ALIKE * len(asked):
        return ""
    rate = sum(map(sum, elsewhere)) / sum(map(len, elsewhere))
    by_chance = rate ** min(map(len, asked.values()))
    if rate > _MOST_ELSEWHERE or _kappa(pairs)[1] > _MOST_BY_CHANCE:
        return ""
    if stats.binom.sf(alike - 1, len(asked), by_chance) > _WHOLE_BY_CHANCE:
        return ""
    if alike < _CASES_ALIKE * len(asked):
        whole = [pair for pair, case in zip(pairs, cases, strict=True) if all(asked.get(case, [False]))]
        of_people = math.comb(len(asked), alike) * _AS_PEOPLE_AGREE ** len(whole)
        of_one_question = _kappa(whole)[1] * len({question for (question, _), _other in whole})
        if rate > _LESS_ELSEWHERE or of_one_question > _VARIED or of_people > _FEWER_BY_CHANCE:
            return ""
    return (
        f"{one} and {other} gave the same answers to all questions in {alike} of {len(asked)} cases, and to "
        f"{100 * rate:.0f} % in the others"
    )


def _nearly_in_all(gathered: Gathered, one: str, other: str) -> str:
    """Say to how many readings two readers gave the same answers, where these are far more than any reader
    has with a third one; or ''."""
    pairs = _common(gathered, one, other)
    others = [
        _common(gathered, first, second)
        for first, second in itertools.combinations(gathered.readers, 2)
        if {first, second} != {one, other}
    ]
    unlike = [1 - _same(several) for several in others if len(several) >= _FEWEST_IN_ALL]
    if len(pairs) < _FEWEST_IN_ALL or min(unlike, default=0.0) < _LEAST_UNLIKE:
        return ""
    if 1 - _same(pairs) > _UNLIKE_IN_ALL * min(unlike) or _kappa(pairs)[0] < _LEAST_KAPPA_IN_ALL:
        return ""
    return f"{round(_same(pairs) * len(pairs))} of {len(pairs)} readings of all questions"


def _common(gathered: Gathered, one: str, other: str) -> list[tuple[Any, Any]]:
    """The two readers' answers to what both have read, each with its question."""
    pairs = []
    for question in gathered.questions:
        if question.kind not in ("text", "marks"):
            first, second = (values_of(gathered, question, reader) for reader in (one, other))
            both = sorted(first.keys() & second.keys())
            pairs += [((question.id, first[place]), (question.id, second[place])) for place in both]
    return pairs


def _same(pairs: Sequence[tuple[Any, Any]]) -> float:
    return sum(one == other for one, other in pairs) / len(pairs)


def _kappa(pairs: Sequence[tuple[Any, Any]]) -> tuple[float, float]:
    """Return Cohen's kappa of two readers' answers, and the share of equal ones by chance."""
    ones, others = (Counter(map(repr, answers)) for answers in zip(*pairs, strict=True))
    by_chance = sum(ones[answer] * others[answer] for answer in ones) / len(pairs) ** 2
    return (_same(pairs) - by_chance) / max(1 - by_chance, 1e-9), by_chance


def _nearly_all(pairs: Sequence[tuple[Any, Any]]) -> bool:
    """Say whether so many pairs of answers are equal as two people's are not, however well they agree."""
    if len(pairs) < _FEWEST_NEARLY or _same(pairs) < _NEARLY:
        return False
    kappa, by_chance = _kappa(pairs)
    return by_chance <= _MOST_BY_CHANCE and kappa >= _LEAST_KAPPA


def values_of(gathered: Gathered, question: Question, reader: str) -> dict[tuple[str, str, str], Any]:
    """Return a reader's first answers to a question by case, arm and the arm it is compared with."""
    return {
        (one.case, one.arm, one.versus): one.value
        for one in gathered.answers
        if one.reader == reader and one.question == question.id and not one.repeat
    }
