"""A study's unblinded answers as arrays: by question, arm, reader and case."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ctenhance.study.key import KeyCase
from ctenhance.study.questions import Question
from ctenhance.study.tables import Of, of_text
from ctenhance.study.unblinding import Answer


@dataclass(frozen=True)
class Gathered:
    """The answers of a study with what is needed to sort them.

    `cases` are in the order of the key. Arrays are [reader, case] floats with NaN where there is no answer;
    repeated readings are left out of them except in `repeats`. `invited` are all readers of the study, those
    without any answer among them; `of_cases` is how many cases the study has, where `cases` are only some.
    """

    title: str
    arms: tuple[str, ...]
    questions: tuple[Question, ...]
    cases: tuple[KeyCase, ...]
    answers: tuple[Answer, ...]
    invited: Sequence[str] = ()
    of_cases: int = 0
    readers: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "readers", tuple(sorted({answer.reader for answer in self.answers})))

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Every pair of arms, the earlier first."""
        return tuple(itertools.combinations(self.arms, 2))

    def of(self, question: Question, arm: str, versus: str = "") -> list[Answer]:
        """Return a question's first answers for an arm (for a pair: the later arm and the earlier one)."""
        return [
            one
            for one in self.answers
            if one.question == question.id and one.arm == arm and one.versus == versus and not one.repeat
        ]

    def grid(self, answers: Iterable[Answer], correct: bool = False) -> np.ndarray:
        """Return the answers' values (or whether they are right) as [reader, case]."""
        rows = {reader: number for number, reader in enumerate(self.readers)}
        columns = {case.name: number for number, case in enumerate(self.cases)}
        found = np.full((len(rows), len(columns)), math.nan)
        for one in answers:
            value = one.correct if correct else one.value
            if value is not None:
                found[rows[one.reader], columns[one.case]] = float(value)
        return found

    def repeats(self, question: Question) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return for each reader the first and the repeated answers to the same readings."""
        found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for reader in self.readers:
            own = [one for one in self.answers if one.reader == reader and one.question == question.id]
            first = {(one.case, one.arm, one.versus): one.value for one in own if not one.repeat}
            again = {(one.case, one.arm, one.versus): one.value for one in own if one.repeat}
            both = [place for place in again if place in first]
            if both:
                found[reader] = (
                    np.array([float(first[place]) for place in both]),
                    np.array([float(again[place]) for place in both]),
                )
        return found

    @property
    def absent(self) -> tuple[str, ...]:
        """The readers of the study who have no answer."""
        return tuple(one for one in self.invited if one not in self.readers)

    def count(self, present: np.ndarray) -> tuple[Of, Of]:
        """Return on how many cases and readers something rests that has these answers [reader, case]."""
        found = int(present.any(axis=0).sum()), int(present.any(axis=1).sum())
        total = max(self.of_cases, len(self.cases)), len(self.readers) + len(self.absent)
        return Of(found[0], total[0]), Of(found[1], total[1])

    def basis(self, present: np.ndarray) -> str:
        """Say that in a sentence."""
        cases, readers = self.count(present)
        return f"Rests on {of_text(cases, 'case')} and {of_text(readers, 'reader')}."

    def answered(self, answers: Iterable[Answer]) -> np.ndarray:
        """Return which reader has any of these answers to which case [reader, case]."""
        found = {(one.reader, one.case) for one in answers}
        return np.array([[(reader, case.name) in found for case in self.cases] for reader in self.readers])

    def asked(self, questions: Iterable[Question]) -> str:
        """Say on how many cases and readers the answers to these questions rest."""
        names = {one.id for one in questions}
        return self.basis(self.answered(one for one in self.answers if one.question in names))

    def with_truth(self) -> Gathered:
        """Return the same without the cases of which nobody says whether they are diseased."""
        return self.without(case.name for case in self.cases if case.diseased is None)

    def without(self, names: Iterable[str]) -> Gathered:
        """Return the same without cases, which still count among those that the study has."""
        out = frozenset(names)
        cases = tuple(case for case in self.cases if case.name not in out)
        answers = tuple(one for one in self.answers if one.case not in out)
        total = max(self.of_cases, len(self.cases))
        invited = tuple(dict.fromkeys((*self.invited, *self.readers)))
        return Gathered(self.title, self.arms, self.questions, cases, answers, invited, total)

    @property
    def diseased(self) -> np.ndarray | None:
        """Whether each case is diseased; None unless that is known of all and both kinds are there."""
        known = [case.diseased for case in self.cases]
        if any(one is None for one in known) or len(set(known)) < 2:
            return None
        return np.array(known, bool)
