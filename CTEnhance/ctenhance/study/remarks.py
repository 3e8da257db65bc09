"""What a reader of the report should know first: who stopped or was left out, and whose answers are the
same, or run against the others'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from scipy import stats

from ctenhance.runtime.words import counted, noun
from ctenhance.study.copies import copied_readers, values_of
from ctenhance.study.design import Case
from ctenhance.study.gathered import Gathered
from ctenhance.study.key import KeyCase
from ctenhance.study.questions import DETECTION, Question
from ctenhance.study.turned import against_the_truth, turned_readers

# So many answers are the same by chance hardly ever, where others give no answer to more than this part.
_FEWEST_UNVARYING, _MOST_OF_ONE = 12, 0.75
# All preferences for one side of the screen, with this p where sides were tossed for.
_SIDE_BY_CHANCE = 0.0005


def remarks(gathered: Gathered) -> list[str]:
    """Return the sentences; an empty list where every reader has read everything in an own way."""
    areas = without_areas(gathered.cases, gathered.questions)
    return [
        *_incomplete(gathered),
        *areas,
        *_without_truth(gathered),
        *copied_readers(gathered),
        *_unvarying(gathered),
        *_one_sided(gathered),
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


def _unvarying(gathered: Gathered) -> list[str]:
    """Readers with one answer to all readings of a question, in which others tell cases apart."""
    found = []
    for reader in gathered.readers:
        questions = []
        for question in gathered.questions:
            if question.kind in ("text", "marks"):
                continue
            values = {one: list(values_of(gathered, question, one).values()) for one in gathered.readers}
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


def _one_sided(gathered: Gathered) -> list[str]:
    """Readers who prefer one side of the screen, whichever arm stands there."""
    found = []
    for question in gathered.questions:
        if question.kind not in ("preference", "choice"):
            continue
        for reader in gathered.readers:
            right: list[bool] = []
            by_pair: dict[tuple[str, str], Counter[bool]] = {}
            for one in gathered.answers:
                if (one.reader, one.question) != (reader, question.id) or one.arm_on_right is None:
                    continue
                if question.kind == "preference" and not one.value:
                    continue
                later = one.value > 0  # a choice is True or False
                right.append(later == one.arm_on_right)
                by_pair.setdefault((one.arm, one.versus), Counter())[later] += 1
            most = max(sum(right), len(right) - sum(right))
            by_arm = sum(max(counts.values()) for counts in by_pair.values())
            # Who always prefers an arm prefers a side where that arm stands there more often.
            if most <= by_arm or stats.binomtest(most, len(right), 0.5).pvalue >= _SIDE_BY_CHANCE:
                continue
            side = "right" if 2 * sum(right) > len(right) else "left"
            times = f"all {most} times" if most == len(right) else f"{most} of {len(right)} times"
            found.append(
                f"{reader} answered '{question.text}' {times} for the image on the {side}, whichever arm "
                "stood there: such answers tell the side of the screen and pull every preference towards "
                "none; ask, and judge without as well."
            )
    return found
