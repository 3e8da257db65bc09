"""ROC and free-response analysis of a study whose cases' truth is known."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctenhance.runtime.errors import InputError
from ctenhance.study.gathered import Gathered
from ctenhance.study.questions import DETECTION, PAIR, Question
from ctenhance.study.statistics import mrmc, roc
from ctenhance.study.statistics.estimate import Estimate, complete_block
from ctenhance.study.statistics.sample_size import Pilot
from ctenhance.study.tables import Cell, Missing, Table, p_cell, p_text, table

_SCATTER = "scatter."
_SCATTER_COLUMNS = ("Var(error)", "Cov1", "Cov2", "Cov3", "Var(arm x reader)", "cases")
_FEWEST = 2  # cases of either kind, of a multi-reader comparison


@dataclass(frozen=True)
class Scores:
    """What readers' answers to a question are worth against the truth.

    `gathered` has the cases with a known truth only; `name` is the figure of merit's. `kernels` [arm, reader,
    normal case, diseased case] (see `statistics.roc`), NaN where the reader has not read one of the two
    cases in that arm; `present` [reader, case]: who has read which case in every arm.
    """

    gathered: Gathered
    question: Question
    name: str
    kernels: np.ndarray
    present: np.ndarray

    @property
    def diseased(self) -> np.ndarray:
        """Which cases are diseased."""
        found = self.gathered.diseased
        assert found is not None
        return found

    def own(self, reader: int) -> np.ndarray:
        """Return a reader's kernels [arm, normal, diseased] of the cases that this reader has in all arms."""
        mine = self.present[reader]
        return self.kernels[:, reader][:, mine[~self.diseased]][:, :, mine[self.diseased]]

    def shared(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the readers and the cases [bool] of the multi-reader comparison, see `complete_block`."""

        def enough(cases: np.ndarray) -> bool:
            return min(cases[self.diseased].sum(), cases[~self.diseased].sum()) >= _FEWEST

        return complete_block(self.present, enough=enough)


def detection_tables(gathered: Gathered) -> list[Table]:
    """Return figures of merit and their multi-reader comparison for every rating and every marking question.

    Of the cases whose truth is known; empty where these are all of one kind.
    """
    tables: list[Table] = []
    for scores in scored_questions(gathered):
        tables += _figures(scores)
        tables += _comparison(scores)
        if scores.question.kind == "marks":
            tables += _marks(scores)
    return tables


def scored_questions(gathered: Gathered) -> list[Scores]:
    """Return the questions that can be held against the truth, with what the answers are worth."""
    found: list[Scores] = []
    for question in gathered.questions:
        if question.scope == PAIR or question.kind not in DETECTION:
            continue
        known = gathered.with_truth()
        if question.kind == "marks":  # a lesion of unknown place cannot be found
            known = known.without(case.name for case in known.cases if case.diseased and not case.lesions)
        if known.diseased is None:
            continue
        name = "ROC area" if question.kind == "number" else "wAFROC area"
        kernels = np.array(
            [[_kernel(known, question, arm, reader) for reader in known.readers] for arm in known.arms]
        )
        if not np.isfinite(kernels).all(axis=0).any():  # nobody has read a case of either kind in every arm
            continue
        found.append(Scores(known, question, name, kernels, _present(known, question)))
    return found


def _present(gathered: Gathered, question: Question) -> np.ndarray:
    """Return who has answered on which case [reader, case] in every arm."""
    found = np.zeros((len(gathered.arms), len(gathered.readers), len(gathered.cases)), bool)
    for place, arm in enumerate(gathered.arms):
        answered = {(one.reader, one.case) for one in gathered.of(question, arm)}
        for row, reader in enumerate(gathered.readers):
            found[place, row] = [(reader, case.name) in answered for case in gathered.cases]
    return np.asarray(found.all(axis=0))


def _kernel(gathered: Gathered, question: Question, arm: str, reader: str) -> np.ndarray:
    """Return the kernel [normal, diseased] of a reader's answers, NaN where one is missing."""
    diseased = gathered.diseased
    assert diseased is not None
    if question.kind == "number":
        row = gathered.grid(gathered.of(question, arm))[gathered.readers.index(reader)]
        kernel = roc.auc_kernel(row[~diseased], row[diseased])
        return np.where(np.isfinite(row[~diseased])[:, None] & np.isfinite(row[diseased]), kernel, math.nan)
    own = scored(gathered, question, arm, reader)
    healthy = [one for one, ill in zip(own, diseased, strict=True) if not ill]
    normal = np.array([max(one[1], default=roc.UNMARKED) if one else math.nan for one in healthy])
    lesions = [one[0] if one else np.full(1, math.nan) for one, ill in zip(own, diseased, strict=True) if ill]
    kernel = roc.wafroc_kernel(normal, lesions)
    unread = np.array([bool(np.isnan(one).any()) for one in lesions])
    return np.where(np.isnan(normal)[:, None] | unread, math.nan, kernel)


def scored(
    gathered: Gathered, question: Question, arm: str, reader: str
) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """Return for each case the ratings of its lesions and of its false marks; None where it is unread."""
    own = {one.case: one.value for one in gathered.of(question, arm) if one.reader == reader}
    return [
        roc.scored_marks(own[case.name], case.lesions) if case.name in own else None
        for case in gathered.cases
    ]


def rating_split(scores: Scores, arm: str, reader: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return a reader's ratings of normal and of diseased cases read in all arms; None without any."""
    place = scores.gathered.readers.index(reader)
    row = scores.gathered.grid(scores.gathered.of(scores.question, arm))[place]
    mine = scores.present[place]
    split = row[mine & ~scores.diseased], row[mine & scores.diseased]
    return split if min(map(len, split)) else None


def _figures(scores: Scores) -> list[Table]:
    gathered = scores.gathered
    rows: list[list[Cell]] = []
    for place, arm in enumerate(gathered.arms):
        for number, reader in enumerate(gathered.readers):
            kernel = scores.own(number)[place]
            if kernel.size:
                cases, _readers = gathered.count(scores.present[number : number + 1])
                rows.append([arm, reader, roc.figure_of_merit(kernel), cases])
    note = (
        "Nonparametric, with the jackknife's interval over cases on the logit scale, of the cases that the "
        "reader has read in every arm."
    )
    question = scores.question
    columns = ("arm", "reader", scores.name, "cases")
    title = f"{question.text} – {scores.name}"
    return table(f"figures.{question.id}", title, columns, rows, note, gathered.basis(scores.present))


def _comparison(scores: Scores) -> list[Table]:
    gathered, question = scores.gathered, scores.question
    readers, cases = scores.shared()
    diseased = scores.diseased
    stacked = scores.kernels[:, readers][:, :, cases[~diseased]][:, :, :, cases[diseased]]
    if len(stacked) < 2 or not stacked.size:
        return []
    found = mrmc.compare(stacked)
    rows: list[list[Cell]] = []
    for label, test in found.tests.items():
        freedom: Cell = "∞" if math.isinf(test.denominator_df) else f"{test.denominator_df:.1f}"
        if test.p is None:
            freedom = Missing(mrmc.WITHOUT_SCATTER)
        for arm, figure in zip(gathered.arms, test.modalities, strict=True):
            low, high = (
                None if limit is None else min(max(limit, 0.0), 1.0) for limit in (figure.low, figure.high)
            )
            rows.append([label, arm, Estimate(figure.value, low, high, why=figure.why), "", "", ""])
        for (one, other), difference in test.differences.items():
            first, second = gathered.arms[one], gathered.arms[other]
            value, low, high = (
                None if x is None else -x for x in (difference.value, difference.high, difference.low)
            )
            turned = Estimate(value, low, high, why=difference.why)
            rows.append([label, f"{second} - {first}", turned, "", freedom, p_cell(difference)])
        if len(test.differences) > 1:
            without = Missing(mrmc.WITHOUT_SCATTER)
            tested = (
                [without, freedom, without]
                if test.p is None
                else [f"{test.statistic:.2f}", freedom, p_text(test.p)]
            )
            rows.append([label, "all alike", None, *tested])
    named = ", ".join(name for name, there in zip(gathered.readers, readers, strict=True) if there)
    note = (
        "Obuchowski-Rockette with jackknife covariances and Hillis' degrees of freedom (infinite: "
        f"chi-square). It needs every reader to have read every case in every arm. Readers: {named}."
    )
    basis = gathered.basis(readers[:, None] & cases)
    columns = ("analysis", "arm", f"{scores.name} (95 % CI)", "statistic", "degrees of freedom", "p")
    title = f"{question.text} – multi-reader comparison"
    return [
        *table(f"mrmc.{question.id}", title, columns, rows, note, basis),
        *_scatter(question, found, int(cases.sum()), basis),
    ]


def _scatter(question: Question, found: mrmc.Comparison, cases: int, basis: str) -> list[Table]:
    """Return what the next study is planned with; `read_pilot` reads it again."""
    row = (found.variance, found.cov1, found.cov2, found.cov3, found.interaction, cases)
    note = "For planning the next study: 'ctenhance study plan mrmc --pilot results.json'."
    title = f"{question.text} – how the areas scatter"
    return table(f"{_SCATTER}{question.id}", title, _SCATTER_COLUMNS, [row], note, basis)


def read_pilot(path: Path, question: str | None = None) -> Pilot:
    """Return how areas scattered in the study whose analysis wrote that results.json.

    `question` is the id of one of its questions; it may be left out where only one has such figures. Raises
    InputError for another kind of file, and when the question is not there.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        tables = results["tables"]
        readers = len(results.get("study", {}).get("readers", ()))
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
    if not pilots:
        alone = "it has one reader, and " if readers == 1 else ""
        raise InputError(
            f"How areas scatter cannot be estimated from '{path}': {alone}that takes 2 arms, 2 readers, and "
            "2 cases of either kind that all of them read; give a study that has these, or published numbers "
            "with --components."
        )
    if question is None and len(pilots) == 1:
        question = next(iter(pilots))
    if question not in pilots:
        listed = ", ".join(pilots)
        raise InputError(f"Name one question whose areas '{path}' compares with --question: {listed}.")
    return pilots[question]


def _marks(scores: Scores) -> list[Table]:
    gathered, question = scores.gathered, scores.question
    rows: list[list[Cell]] = []
    for arm in gathered.arms:
        for place, reader in enumerate(gathered.readers):
            mine = scores.present[place]
            cases = zip(scored(gathered, question, arm, reader), mine, strict=True)
            read = [one for one, there in cases if there and one is not None]
            if not read:
                continue
            lesions = sum(len(ratings) for ratings, _false in read)
            found = sum(int(np.isfinite(ratings).sum()) for ratings, _false in read)
            false = sum(len(marks) for _ratings, marks in read)
            share = found / lesions if lesions else Missing("the cases read have no lesion")
            own, _readers = gathered.count(mine[None])
            rows.append([arm, reader, found, lesions, share, false / len(read), own])
    columns = ("arm", "reader", "lesions found", "of", "sensitivity", "false marks a case", "cases")
    note = "A mark within a lesion's radius finds it. Of the cases that the reader has read in every arm."
    basis = gathered.basis(scores.present)
    return table(f"marks.{question.id}", f"{question.text} – marks", columns, rows, note, basis)
