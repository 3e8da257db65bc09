"""The analysis of a closed study: every question by the methods that suit its kind, as tables.

Nothing here decides what is primary: name your primary question, arm pair and method before the reading
starts, and read the rest as exploratory. Wilcoxon p values are Holm-adjusted over all graded questions and
arm pairs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import ctenhance
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress, check, silent
from ctenhance.runtime.words import counted, noun
from ctenhance.study.detection import detection_tables
from ctenhance.study.gathered import Gathered
from ctenhance.study.key import Key
from ctenhance.study.questions import PAIR, Question
from ctenhance.study.reliability import between_readers, within_readers
from ctenhance.study.remarks import remarks
from ctenhance.study.statistics import bradley_terry, ordinal, paired, vgc
from ctenhance.study.statistics.estimate import Estimate, complete_block, unknown
from ctenhance.study.study_file import Study
from ctenhance.study.tables import Cell, Missing, Of, Table, of_text, p_cell, p_text, table
from ctenhance.study.unblinding import answers

_NO_ODDS = "odds of a higher grade are for grades, and these are numbers"
GRADED = ("likert", "number", "yes-no")


@dataclass(frozen=True)
class Results:
    """What the analysis found, with the unblinded answers that it rests on.

    `warnings`: what a reader of the report should know first (see `remarks`).
    """

    gathered: Gathered
    study: dict[str, Any]
    tables: tuple[Table, ...]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return facts, warnings and tables in JSON types."""
        tables = [one.to_json() for one in self.tables]
        return {"study": self.study, "warnings": list(self.warnings), "tables": tables}

    @property
    def facts(self) -> list[str]:
        """What the study is, in sentences: readers, cases, arms; how far each reader came; its identity."""
        gathered, study = self.gathered, self.study
        _cases, readers = gathered.count(np.ones((len(gathered.readers), 1), bool))
        counts = ((row[0], row[-1]) for row in self.table("readings").rows)
        came = ", ".join(f"{who} {of_text(read, 'case')}" for who, read in counts if isinstance(read, Of))
        return [
            f"{of_text(readers, 'reader')} ({', '.join(study['readers'])}), "
            f"{counted(study['cases'], 'case')}, {noun(len(study['arms']), 'arm')} "
            f"{', '.join(study['arms'])}, {counted(study['answers'], 'answer')}.",
            f"Read: {came}.",
            f"Study {study['id']}, SHA-256 {study['sha256'][:16]}…; CTEnhance {ctenhance.__version__}; seed "
            f"of the bootstraps {study['seed']}.",
            "Intervals are 95 % unless another level is named. Only what was named as primary before the "
            "reading is confirmatory; everything else is exploratory.",
        ]

    def table(self, name: str) -> Table:
        """Return the table of that id; raises KeyError when the study gave no such table."""
        for one in self.tables:
            if one.id == name:
                return one
        raise KeyError(name)


def analyse(
    folder: str | os.PathLike[str],
    key_path: str | os.PathLike[str],
    *,
    margin: float = 0.1,
    seed: int = 0,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Results:
    """Analyse a closed study. `margin` is the half-width of equivalence for shares around one half.

    `seed` is that of the bootstraps and permutations. Raises InputError as `unblinding.answers` does and for
    a margin outside 0 to 0.5; Cancelled.
    """
    if not 0 < margin < 0.5:
        raise InputError(f"The equivalence margin must lie between 0 and 0.5, but it is {margin:g}.")
    gathered = gather(folder, key_path)
    study = Study.read(folder)
    facts = {
        "title": study.title,
        "id": study.id,
        "sha256": study.sha256,
        "arms": list(gathered.arms),
        "readers": list(gathered.readers),
        "cases": len(gathered.cases),
        "answers": len(gathered.answers),
        "margin": margin,
        "seed": seed,
    }
    tables = tuple(tables_of(gathered, margin, seed, progress, cancel))
    return Results(gathered, facts, tables, tuple(remarks(gathered)))


def gather(folder: str | os.PathLike[str], key_path: str | os.PathLike[str]) -> Gathered:
    """Return a closed study's unblinded answers; raises InputError as `unblinding.answers` does."""
    study = Study.read(folder)
    found = answers(folder, key_path)
    key = Key.read(key_path, study.key_sha256)
    return Gathered(study.title, key.arms, study.questions, key.cases, tuple(found), study.readers)


def tables_of(
    gathered: Gathered,
    margin: float = 0.1,
    seed: int = 0,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> list[Table]:
    """Return every table that the answers give, in the order of the report."""
    report = silent if progress is None else progress
    steps: list[Callable[[], list[Table]]] = [
        lambda: _readings(gathered),
        lambda: _summaries(gathered),
        lambda: _comparisons(gathered),
        lambda: _grading_curves(gathered, seed),
        lambda: _preferences(gathered, seed),
        lambda: _choices(gathered, margin),
        lambda: detection_tables(gathered),
        lambda: between_readers(gathered),
        lambda: within_readers(gathered),
    ]
    tables: list[Table] = []
    for number, step in enumerate(steps):
        check(cancel)
        report("analysis", number, len(steps))
        tables += step()
    report("analysis", len(steps), len(steps))
    return tables


def _readings(gathered: Gathered) -> list[Table]:
    rows: list[list[Cell]] = []
    for reader in gathered.readers:
        own = [one for one in gathered.answers if one.reader == reader]
        times = {one.trial: one.active_s for one in own}
        repeats = len({one.trial for one in own if one.repeat})
        median, changes = float(np.median(list(times.values()))), sum(one.changes for one in own)
        cases, _readers = gathered.count(gathered.answered(own))
        rows.append([reader, len(times), repeats, median, changes, cases])
    columns = ("reader", "readings", "of them repeats", "median active seconds", "changed answers", "cases")
    basis = gathered.basis(gathered.answered(gathered.answers))
    return table("readings", "Readings", columns, rows, "Active seconds leave out idle time.", basis)


def _graded(gathered: Gathered) -> list[Question]:
    return [one for one in gathered.questions if one.kind in GRADED]


def _summaries(gathered: Gathered) -> list[Table]:
    rows: list[list[Cell]] = []
    for question in _graded(gathered):
        arms = [("pair", "")] if question.scope == PAIR else [(arm, "") for arm in gathered.arms]
        for arm, versus in arms:
            given = gathered.of(question, arm, versus) if arm != "pair" else _of_pairs(gathered, question)
            values = np.array([float(one.value) for one in given])
            if not len(values):
                continue
            spread = float(values.std(ddof=1)) if len(values) > 1 else Missing("a single answer has no SD")
            quarters = [float(one) for one in np.percentile(values, (25, 50, 75))]
            middle: list[Cell] = [float(values.mean()), spread, quarters[1], *quarters[::2]]
            rows.append([question.text, arm, len(values), *middle, *gathered.count(gathered.answered(given))])
    columns = (
        "question", "arm", "answers", "mean", "SD", "median", "lower quartile", "upper quartile", "cases",
        "readers",
    )  # fmt: skip
    basis = gathered.asked(_graded(gathered))
    return table("summary", "Grades", columns, rows, "Scales as asked; yes-no counts as 1 and 0.", basis)


def _of_pairs(gathered: Gathered, question: Question) -> list[Any]:
    return [one for first, second in gathered.pairs for one in gathered.of(question, second, first)]


def _comparisons(gathered: Gathered) -> list[Table]:
    rows: list[list[Cell]] = []
    p_values: list[float | None] = []
    for question in _graded(gathered):
        if question.scope == PAIR:
            continue
        for first, second in gathered.pairs:
            one, other = (gathered.grid(gathered.of(question, arm)) for arm in (first, second))
            shift = paired.signed_rank(one, other)
            cases, readers = gathered.count(np.isfinite(one) & np.isfinite(other))
            odds, fitted = unknown(_NO_ODDS), np.zeros(len(gathered.readers), bool)
            if question.kind != "number":
                odds, fitted = ordinal.odds_ratio(one, other)
            used = Of(int(fitted.sum()), readers.total)
            in_model: Cell = Missing(odds.why) if odds.value is None else used
            p_values.append(shift.p)
            rests: list[Cell] = [cases, readers, in_model]
            rows.append([question.text, first, second, shift, p_cell(shift), "", odds, p_cell(odds), *rests])
    for row, adjusted in zip(rows, paired.holm(p_values), strict=True):
        row[5] = row[4] if adjusted is None else p_text(adjusted)
    columns = (
        "question", "from", "to", "shift (95 % CI)", "p (Wilcoxon)", "p (Holm)", "odds ratio (95 % CI)",
        "p (GEE)", "cases", "readers", "readers (GEE)",
    )  # fmt: skip
    note = (
        "Shift: Hodges-Lehmann, of case means over readers. Holm: over all rows. Odds ratio of a higher "
        "grade: proportional odds, GEE clustered by case, readers as fixed effects. The cases are the "
        "sample, the readers are those of this study. Of each reader the cases graded in both arms; where "
        "the model cannot be fitted with readers of few cases, it is without them."
    )
    basis = gathered.asked(_graded(gathered))
    return table("comparison", "Grades of one arm against another", columns, rows, note, basis)


def _grading_curves(gathered: Gathered, seed: int) -> list[Table]:
    rows: list[list[Cell]] = []
    for question in gathered.questions:
        if question.kind != "likert" or question.scope == PAIR:
            continue
        for first, second in gathered.pairs:
            one, other = (gathered.grid(gathered.of(question, arm)) for arm in (first, second))
            area = vgc.vgc_auc(one, other, random_readers=True, seed=seed)
            these = vgc.vgc_auc(one, other, random_readers=False, seed=seed)
            counts = gathered.count(np.isfinite(one) & np.isfinite(other))
            rows.append([question.text, first, second, area, these, p_cell(these), *counts])
    columns = (
        "question", "from", "to", "area (readers random)", "area (these readers)", "p (these readers)",
        "cases", "readers",
    )  # fmt: skip
    note = (
        "Area under the visual grading characteristics curve, mean over readers, each with the cases graded "
        "in both arms and weighted by how many these are; above 0.5 the second arm is graded better. "
        "Bootstrap over cases (and readers); p by exchanging the arms of cases."
    )
    basis = gathered.asked(one for one in gathered.questions if one.kind == "likert")
    return table("vgc", "Visual grading characteristics", columns, rows, note, basis)


def _preferences(gathered: Gathered, seed: int) -> list[Table]:
    tables: list[Table] = []
    for question in gathered.questions:
        if question.kind != "preference":
            continue
        rows: list[list[Cell]] = []
        wins: list[np.ndarray] = []
        for first, second in gathered.pairs:
            grid = gathered.grid(gathered.of(question, second, first))
            if not np.isfinite(grid).any():
                continue
            preferred = np.where(np.isfinite(grid), (np.sign(grid) + 1) / 2, np.nan)
            found = paired.share(preferred)
            score = paired.signed_rank(np.zeros_like(grid), grid)
            counts = [int((grid == value).sum()) for value in range(-2, 3)]
            name = f"{second} over {first}"
            present = np.isfinite(grid)
            tested: list[Cell] = [*_share_cells(found), score, p_cell(score)]
            rows.append([name, "all", *counts, *tested, *_rests_on(gathered, present)])
            for number, (reader, own) in enumerate(zip(gathered.readers, grid, strict=True)):
                own_counts = [int((own == value).sum()) for value in range(-2, 3)]
                exact = found.by_reader[number]
                single: list[Cell] = [exact, p_cell(exact), None, None, None, None]
                cases = gathered.count(present[number : number + 1])[0]
                rows.append([name, reader, *own_counts, *single, cases, "", ""])
            wins.append(_wins(gathered, preferred, first, second))
        columns = (
            "preference", "reader", "-2", "-1", "0", "+1", "+2", "share (these readers)",
            "p (these readers)", "share (readers random)", "p (readers random)", "score (Hodges-Lehmann)",
            "p (Wilcoxon)", "cases", "readers", "readers random: rests on",
        )  # fmt: skip
        note = (
            "Share preferring the arm named first, in every row with ties half: of case means over the "
            "readers who have the case; the cases are the sample, tested against 50 %. Other readers: of "
            "those readers and cases that leave no gaps. Single readers: mid-p of wins, ties and losses."
        )
        basis = gathered.asked([question])
        tables += table(f"preference.{question.id}", question.text, columns, rows, note, basis)
        if len(gathered.arms) > 2 and wins:
            strengths = bradley_terry.by_arm(np.sum(wins, axis=0), seed)
            tables += table(
                f"bradley-terry.{question.id}",
                f"{question.text} – Bradley-Terry",
                ("arm", "log strength (95 % CI)"),
                [list(one) for one in zip(gathered.arms, strengths, strict=True)],
                "Mean 0; a difference d means that the stronger wins with odds exp(d). Every answer counts, "
                "so that a case with more readers counts more. Bootstrap over cases.",
                basis,
            )
    return tables


def _rests_on(gathered: Gathered, present: np.ndarray) -> list[Cell]:
    """Return on how many cases and readers shares rest, and on how many those for other readers."""
    readers, cases = complete_block(present)
    whole = gathered.count(readers[:, None] & cases)
    if not cases.any():
        return [*gathered.count(present), Missing(paired.why_no_other_readers(present))]
    return [*gathered.count(present), f"{of_text(whole[0], 'case')}, {of_text(whole[1], 'reader')}"]


def _wins(gathered: Gathered, preferred: np.ndarray, first: str, second: str) -> np.ndarray:
    """Return wins [case, winner, loser] of one pair of arms over all readers."""
    wins = np.zeros((len(gathered.cases), len(gathered.arms), len(gathered.arms)))
    one, other = gathered.arms.index(first), gathered.arms.index(second)
    wins[:, other, one] = np.nansum(preferred, axis=0)
    wins[:, one, other] = np.nansum(1 - preferred, axis=0)
    return wins


def _share_cells(found: paired.Share) -> list[Cell]:
    these, others = found.these_readers, found.other_readers
    return [these, p_cell(these), others, p_cell(others)]


def _choices(gathered: Gathered, margin: float) -> list[Table]:
    rows: list[list[Cell]] = []
    for question in gathered.questions:
        if question.kind != "choice":
            continue
        for first, second in gathered.pairs:
            given = gathered.of(question, second, first)
            if not given:
                continue
            known = any(one.correct is not None for one in given)
            grid = gathered.grid(given, correct=known)
            found = paired.share(grid, margin=margin)
            interval, why = found.interval_90, found.these_readers.why
            what = "right answers" if known else f"'{second}' chosen"
            tested: list[Cell] = [
                Estimate(found.these_readers.value, *interval) if interval else unknown(why),
                Missing(why) if found.equivalent_p is None else p_text(found.equivalent_p),
                Missing(why) if found.equivalent_p is None else found.equivalent_p < 0.05,
            ]
            name = f"{question.text} {first} / {second}"
            present = np.isfinite(grid)
            shares = _share_cells(found)
            rows.append([name, what, "all", len(given), *shares, *tested, *_rests_on(gathered, present)])
            for number, (reader, own) in enumerate(zip(gathered.readers, found.by_reader, strict=True)):
                count = sum(one.reader == reader for one in given)
                single: list[Cell] = [own, p_cell(own), None, None, None, None, None]
                cases = gathered.count(present[number : number + 1])[0]
                rows.append([name, what, reader, count, *single, cases, "", ""])
    columns = (
        "question", "share of", "reader", "answers", "share (these readers)", "p (these readers)",
        "share (readers random)", "p (readers random)", "90 % interval", "p (equivalence)", "equivalent",
        "cases", "readers", "readers random: rests on",
    )  # fmt: skip
    note = (
        f"Against 50 %, the share of guessing. Equivalent: two one-sided tests show the share within 50 ± "
        f"{100 * margin:g} %; a p value above 0.05 alone shows nothing of the kind."
    )
    basis = gathered.asked(one for one in gathered.questions if one.kind == "choice")
    return table("choice", "Forced choice", columns, rows, note, basis)
