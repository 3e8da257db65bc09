"""ROC and free-response analysis of a study whose cases' truth is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ctenhance.runtime.errors import InputError
from ctenhance.study.gathered import Gathered
from ctenhance.study.questions import PAIR, Question
from ctenhance.study.statistics import mrmc, roc
from ctenhance.study.statistics.estimate import Estimate
from ctenhance.study.statistics.sample_size import Pilot
from ctenhance.study.tables import Cell, Table, p_text, table

Kernels = dict[str, dict[str, np.ndarray]]
"""By arm and reader: a kernel [normal case, diseased case], see `statistics.roc`."""

_SCATTER = "scatter."
_SCATTER_COLUMNS = ("Var(error)", "Cov1", "Cov2", "Cov3", "Var(arm x reader)", "cases")


def detection_tables(gathered: Gathered) -> list[Table]:
    """Return figures of merit and their multi-reader comparison for every rating and every marking question.

    Empty where the truth of some case is not known or all cases are of one kind.
    """
    tables: list[Table] = []
    for question, name, kernels in questions_with_truth(gathered):
        tables += _figures(question, name, kernels)
        tables += _comparison(gathered, question, name, kernels)
        if question.kind == "marks":
            tables += _marks(gathered, question)
    return tables


def questions_with_truth(gathered: Gathered) -> list[tuple[Question, str, Kernels]]:
    """Return the questions that can be held against the truth, with the name of their figure of merit."""
    found: list[tuple[Question, str, Kernels]] = []
    if gathered.diseased is None:
        return found
    for question in gathered.questions:
        if question.scope == PAIR or question.kind not in ("number", "marks"):
            continue
        make = rating_kernel if question.kind == "number" else marks_kernel
        name = "ROC area" if question.kind == "number" else "wAFROC area"
        if kernels := _kernels(gathered, question, make):
            found.append((question, name, kernels))
    return found


def _kernels(
    gathered: Gathered, question: Question, make: Callable[[Gathered, Question, str, str], np.ndarray | None]
) -> Kernels:
    """Return kernels of all readers who have read every case in every arm; others would not be comparable."""
    kernels: Kernels = {arm: {} for arm in gathered.arms}
    for reader in gathered.readers:
        own = {arm: make(gathered, question, arm, reader) for arm in gathered.arms}
        if all(kernel is not None for kernel in own.values()):
            for arm, kernel in own.items():
                kernels[arm][reader] = kernel  # type: ignore[assignment]
    return kernels if kernels[gathered.arms[0]] else {}


def rating_split(
    gathered: Gathered, question: Question, arm: str, reader: str
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return a reader's ratings of the normal and of the diseased cases; None when one is missing."""
    row = gathered.grid(gathered.of(question, arm))[gathered.readers.index(reader)]
    diseased = gathered.diseased
    if diseased is None or not np.isfinite(row).all():
        return None
    return row[~diseased], row[diseased]


def rating_kernel(gathered: Gathered, question: Question, arm: str, reader: str) -> np.ndarray | None:
    """Return the ROC kernel of a reader's ratings."""
    split = rating_split(gathered, question, arm, reader)
    return None if split is None else roc.auc_kernel(*split)


def scored(
    gathered: Gathered, question: Question, arm: str, reader: str
) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Return for each case the ratings of its lesions and of its false marks; None when a case is unread."""
    own = {one.case: one.value for one in gathered.of(question, arm) if one.reader == reader}
    if len(own) < len(gathered.cases):
        return None
    return [roc.scored_marks(own[case.name], case.lesions) for case in gathered.cases]


def marks_kernel(gathered: Gathered, question: Question, arm: str, reader: str) -> np.ndarray | None:
    """Return the wAFROC kernel of a reader's marks; None without any lesion in a diseased case."""
    cases = scored(gathered, question, arm, reader)
    if cases is None or any(case.diseased and not case.lesions for case in gathered.cases):
        return None
    both = list(zip(cases, gathered.cases, strict=True))
    normal = [max(false, default=roc.UNMARKED) for (_ratings, false), case in both if not case.diseased]
    return roc.wafroc_kernel(np.array(normal), [ratings for (ratings, _false), case in both if case.diseased])


def _figures(question: Question, name: str, kernels: Kernels) -> list[Table]:
    rows: list[list[Cell]] = [
        [arm, reader, roc.figure_of_merit(kernel)]
        for arm, own in kernels.items()
        for reader, kernel in own.items()
    ]
    note = "Nonparametric, with the jackknife's interval over cases on the logit scale."
    return table(f"figures.{question.id}", f"{question.text} – {name}", ("arm", "reader", name), rows, note)


def _comparison(gathered: Gathered, question: Question, name: str, kernels: Kernels) -> list[Table]:
    stacked = np.array([list(own.values()) for own in kernels.values()])
    if len(stacked) < 2 or stacked.shape[1] < 2 or min(stacked.shape[2:]) < 2:
        return []
    found = mrmc.compare(stacked)
    rows: list[list[Cell]] = []
    for label, test in found.tests.items():
        freedom = "∞" if math.isinf(test.denominator_df) else f"{test.denominator_df:.1f}"
        for arm, figure in zip(kernels, test.modalities, strict=True):
            limits = (figure.low, figure.high)
            held = (None if limit is None else min(max(limit, 0.0), 1.0) for limit in limits)
            rows.append([label, arm, Estimate(figure.value, *held), "", "", ""])
        for (one, other), difference in test.differences.items():
            first, second = gathered.arms[one], gathered.arms[other]
            turned = Estimate(
                *(None if x is None else -x for x in (difference.value, difference.high, difference.low))
            )
            rows.append([label, f"{second} - {first}", turned, "", freedom, p_text(difference.p)])
        if len(test.differences) > 1:
            rows.append([label, "all alike", None, f"{test.statistic:.2f}", freedom, p_text(test.p)])
    note = (
        "Obuchowski-Rockette with jackknife covariances and Hillis' degrees of freedom (infinite: "
        f"chi-square). Readers: {', '.join(kernels[gathered.arms[0]])}."
    )
    columns = ("analysis", "arm", f"{name} (95 % CI)", "statistic", "degrees of freedom", "p")
    return [
        *table(f"mrmc.{question.id}", f"{question.text} – multi-reader comparison", columns, rows, note),
        *_scatter(question, found, sum(stacked.shape[2:])),
    ]


def _scatter(question: Question, found: mrmc.Comparison, cases: int) -> list[Table]:
    """Return what the next study is planned with; `read_pilot` reads it again."""
    row = (found.variance, found.cov1, found.cov2, found.cov3, found.interaction, cases)
    note = "For planning the next study: 'ctenhance study plan mrmc --pilot results.json'."
    title = f"{question.text} – how the areas scatter"
    return table(f"{_SCATTER}{question.id}", title, _SCATTER_COLUMNS, [row], note)


def read_pilot(path: Path, question: str | None = None) -> Pilot:
    """Return how areas scattered in the study whose analysis wrote that results.json.

    `question` is the id of one of its questions; it may be left out where only one has such figures. Raises
    InputError for another kind of file, and when the question is not there.
    """
    try:
        tables = json.loads(path.read_text(encoding="utf-8"))["tables"]
        found = {one["id"]: one["rows"][0] for one in tables if one["id"].startswith(_SCATTER)}
        pilots = {
            name.removeprefix(_SCATTER): Pilot(*(row[column] for column in _SCATTER_COLUMNS))
            for name, row in found.items()
        }
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(
            f"'{path}' is no results.json of a study analysis; name the one that 'ctenhance study analyse' "
            "wrote."
        ) from error
    if question is None and len(pilots) == 1:
        question = next(iter(pilots))
    if question not in pilots:
        listed = ", ".join(pilots) or "none of its questions has them"
        raise InputError(f"Name one question whose areas '{path}' compares with --question: {listed}.")
    return pilots[question]


def _marks(gathered: Gathered, question: Question) -> list[Table]:
    rows: list[list[Cell]] = []
    lesions = sum(len(case.lesions) for case in gathered.cases)
    for arm in gathered.arms:
        for reader in gathered.readers:
            cases = scored(gathered, question, arm, reader)
            if cases is None:
                continue
            found = sum(int(np.isfinite(ratings).sum()) for ratings, _false in cases)
            false = sum(len(marks) for _ratings, marks in cases)
            rows.append([arm, reader, found, lesions, found / lesions, false / len(cases)])
    columns = ("arm", "reader", "lesions found", "of", "sensitivity", "false marks a case")
    note = "A mark within a lesion's radius finds it."
    return table(f"marks.{question.id}", f"{question.text} – marks", columns, rows, note)
