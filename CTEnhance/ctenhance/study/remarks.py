"""What a reader of the report should know first: who stopped or was left out, and whose answers are the
same, or run against the others'."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ctenhance.runtime.words import counted, noun
from ctenhance.study.design import Case
from ctenhance.study.gathered import Gathered
from ctenhance.study.key import KeyCase
from ctenhance.study.questions import DETECTION, Question
from ctenhance.study.turned import against_the_truth, turned_readers

_FEWEST_ALIKE = 3  # answers in common: fewer are alike by chance
# All but a few of many are so no more by chance, where other answers are frequent enough: Cohen's kappa.
_FEWEST_NEARLY, _NEARLY, _MOST_BY_CHANCE, _LEAST_KAPPA = 20, 0.95, 0.6, 0.9
# So many answers are the same by chance hardly ever, where others give no answer to more than this part.
_FEWEST_UNVARYING, _MOST_OF_ONE = 12, 0.75
# Over all questions, where they differ in so much less than any reader does from a third one.
_FEWEST_IN_ALL, _LEAST_KAPPA_IN_ALL, _LEAST_UNLIKE, _UNLIKE_IN_ALL = 30, 0.85, 0.15, 0.35


def remarks(gathered: Gathered) -> list[str]:
    """Return the sentences; an empty list where every reader has read everything in an own way."""
    areas = without_areas(gathered.cases, gathered.questions)
    return [
        *_incomplete(gathered),
        *areas,
        *_without_truth(gathered),
        *_alike(gathered),
        *_unvarying(gathered),
        *turned_readers(gathered),
        *against_the_truth(gathered),
    ]


def without_areas(cases: Sequence[Case | KeyCase], questions: Iterable[Question]) -> list[str]:
    """Say why a study that asks for lesions has no ROC or wAFROC areas; these need cases of both kinds."""
    kinds = {question.kind for question in questions}
    known = [
        bool(case.lesions) or case.diseased for case in cases if case.lesions or case.diseased is not None
    ]
    if not known and "marks" in kinds:
        which = "Of no case is it known whether it is diseased"
    elif known and len(set(known)) < 2 and kinds & set(DETECTION):
        kind = "diseased" if known[0] else "free of lesions"
        which = (
            f"All {len(known)} cases whose truth is known are {kind}"
            if len(known) > 1
            else f"The only case whose truth is known is {kind}"
        )
    else:
        return []
    return [
        f"{which}: there are no ROC and wAFROC areas, which need cases with and without lesions, told when "
        "the study is made."
    ]


def _incomplete(gathered: Gathered) -> list[str]:
    found = [
        f"{reader} is not in the analysis: left out when the study was closed, or without any answer."
        for reader in gathered.absent
    ]
    every = _readings(gathered, None)
    total = max(gathered.of_cases, len(gathered.cases))
    for reader in gathered.readers:
        own = _readings(gathered, reader)
        if len(own) < len(every):
            cases = len({case for case, _arm, _versus in own})
            found.append(
                f"{reader} has not read everything: {len(own)} of {counted(len(every), 'reading')}, "
                f"{cases} of {counted(total, 'case')}. Each table says on how many cases and readers "
                "it rests."
            )
    return found


def _readings(gathered: Gathered, reader: str | None) -> set[tuple[str, str, str]]:
    return {
        (one.case, one.arm, one.versus)
        for one in gathered.answers
        if not one.repeat and reader in (None, one.reader)
    }


def _without_truth(gathered: Gathered) -> list[str]:
    if not any(question.kind in DETECTION for question in gathered.questions):
        return []
    total = max(gathered.of_cases, len(gathered.cases))
    known = gathered.with_truth()
    found = []
    if known.cases and len(known.cases) < len(gathered.cases):
        unknown = len(gathered.cases) - len(known.cases)
        they, them = ("it is", "it") if unknown == 1 else ("they are", "them")
        found.append(
            f"Of {unknown} of {counted(total, 'case')} nobody says whether {they} diseased: ROC and wAFROC "
            f"areas are without {them}."
        )
    unplaced = sum(bool(case.diseased) and not case.lesions for case in known.cases)
    if unplaced and any(question.kind == "marks" for question in gathered.questions):
        found.append(
            f"Of {unplaced} of {counted(total, 'case')} the lesions have no place: wAFROC areas are without "
            f"{noun(unplaced, 'it', 'them')}."
        )
    return found


def _alike(gathered: Gathered) -> list[str]:
    """Pairs of readers with the same answer to every reading that both have, question by question."""
    found = []
    for one, other in itertools.combinations(gathered.readers, 2):
        questions = []
        for question in gathered.questions:
            if question.kind == "text":
                continue
            first, second = (_values(gathered, question, reader) for reader in (one, other))
            common = first.keys() & second.keys()
            same = sum(first[place] == second[place] for place in common)
            unmarked = question.kind == "marks" and not any(first[place] for place in common)
            if unmarked or len(common) < _FEWEST_ALIKE:
                continue
            if same == len(common):
                questions.append(f"'{question.text}' ({len(common)} answers)")
            elif _nearly_all([(first[place], second[place]) for place in common]):
                questions.append(f"'{question.text}' ({same} of {len(common)} answers)")
        if questions or (said := _nearly_in_all(gathered, one, other)):
            named = ", ".join(questions) or said
            found.append(
                f"{one} and {other} gave the same answers to {named}. Where one is a copy of "
                "the other, leave one out: copied readers count as further ones, and in the multi-reader "
                "comparison the degrees of freedom grow about tenfold."
            )
    return found


def _unvarying(gathered: Gathered) -> list[str]:
    """Readers with one answer to all readings of a question, in which others tell cases apart."""
    found = []
    for reader in gathered.readers:
        questions = []
        for question in gathered.questions:
            if question.kind in ("text", "marks"):
                continue
            values = {one: list(_values(gathered, question, one).values()) for one in gathered.readers}
            own = values.pop(reader)
            others = [several for several in values.values() if len(several) >= _FEWEST_UNVARYING]
            varied = others and all(
                max(Counter(map(str, one)).values()) < _MOST_OF_ONE * len(one) for one in others
            )
            if len(own) >= _FEWEST_UNVARYING and varied and all(one == own[0] for one in own):
                questions.append(f"'{question.text}' ({len(own)} times {own[0]})")
        if questions:
            found.append(
                f"{reader} gave the same answer every time to {', '.join(questions)}, where all others told "
                "cases apart: such a reader pulls every difference towards none; ask, and judge without as "
                "well."
            )
    return found


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
            first, second = (_values(gathered, question, reader) for reader in (one, other))
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


def _values(gathered: Gathered, question: Question, reader: str) -> dict[tuple[str, str, str], Any]:
    return {
        (one.case, one.arm, one.versus): one.value
        for one in gathered.answers
        if one.reader == reader and one.question == question.id and not one.repeat
    }
