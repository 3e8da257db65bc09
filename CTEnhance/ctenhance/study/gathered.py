"""A study's unblinded answers as arrays: by question, arm, reader and case."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ctenhance.study.key import KeyCase
from ctenhance.study.questions import Question
from ctenhance.study.unblinding import Answer


@dataclass(frozen=True)
class Gathered:
    """The answers of a study with what is needed to sort them.

    `cases` are in the order of the key. Arrays are [reader, case] floats with NaN where there is no answer;
    repeated readings are left out of them except in `repeats`.
    """

    title: str
    arms: tuple[str, ...]
    questions: tuple[Question, ...]
    cases: tuple[KeyCase, ...]
    answers: tuple[Answer, ...]
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
    def diseased(self) -> np.ndarray | None:
        """Whether each case is diseased; None unless that is known of all and both kinds are there."""
        known = [case.diseased for case in self.cases]
        if any(one is None for one in known) or len(set(known)) < 2:
            return None
        return np.array(known, bool)
