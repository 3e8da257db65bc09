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

from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress, check, silent
from ctenhance.study.detection import detection_tables
from ctenhance.study.gathered import Gathered
from ctenhance.study.key import Key
from ctenhance.study.questions import PAIR, Question
from ctenhance.study.statistics import agreement, bradley_terry, ordinal, paired, vgc
from ctenhance.study.statistics.estimate import UNKNOWN, Estimate
from ctenhance.study.study_file import Study
from ctenhance.study.tables import Cell, Table, p_text, table
from ctenhance.study.unblinding import answers

GRADED = ("likert", "number", "yes-no")


@dataclass(frozen=True)
class Results:
    """What the analysis found, with the unblinded answers that it rests on."""

    gathered: Gathered
    study: dict[str, Any]
    tables: tuple[Table, ...]

    def to_json(self) -> dict[str, Any]:
        """Return facts and tables in JSON types."""
        return {"study": self.study, "tables": [one.to_json() for one in self.tables]}

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
    return Results(gathered, facts, tuple(tables_of(gathered, margin, seed, progress, cancel)))


def gather(folder: str | os.PathLike[str], key_path: str | os.PathLike[str]) -> Gathered:
    """Return a closed study's unblinded answers; raises InputError as `unblinding.answers` does."""
    study = Study.read(folder)
    found = answers(folder, key_path)
    key = Key.read(key_path, study.key_sha256)
    return Gathered(study.title, key.arms, study.questions, key.cases, tuple(found))


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
        lambda: _between_readers(gathered),
        lambda: _within_readers(gathered),
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
        rows.append(
            [
                reader,
                len(times),
                len({one.trial for one in own if one.repeat}),
                float(np.median(list(times.values()))),
                sum(one.changes for one in own),
            ]
        )
    columns = ("reader", "readings", "of them repeats", "median active seconds", "changed answers")
    return table("readings", "Readings", columns, rows, "Active seconds leave out idle time.")


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
            spread = float(values.std(ddof=1)) if len(values) > 1 else None
            quarters = [float(one) for one in np.percentile(values, (25, 50, 75))]
            rows.append(
                [question.text, arm, len(values), float(values.mean()), spread, quarters[1], *quarters[::2]]
            )
    columns = ("question", "arm", "answers", "mean", "SD", "median", "lower quartile", "upper quartile")
    return table("summary", "Grades", columns, rows, "Scales as asked; yes-no counts as 1 and 0.")


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
            odds = ordinal.odds_ratio(one, other) if question.kind != "number" else UNKNOWN
            p_values.append(shift.p)
            rows.append([question.text, first, second, shift, p_text(shift.p), "", odds, p_text(odds.p)])
    for row, adjusted in zip(rows, paired.holm(p_values), strict=True):
        row[5] = p_text(adjusted)
    columns = (
        "question", "from", "to", "shift (95 % CI)", "p (Wilcoxon)", "p (Holm)", "odds ratio (95 % CI)",
        "p (GEE)",
    )  # fmt: skip
    note = (
        "Shift: Hodges-Lehmann, of case means over readers. Holm: over all rows. Odds ratio of a higher "
        "grade: proportional odds, GEE clustered by case, readers as fixed effects. The cases are the "
        "sample, the readers are those of this study."
    )
    return table("comparison", "Grades of one arm against another", columns, rows, note)


def _grading_curves(gathered: Gathered, seed: int) -> list[Table]:
    rows: list[list[Cell]] = []
    for question in gathered.questions:
        if question.kind != "likert" or question.scope == PAIR:
            continue
        for first, second in gathered.pairs:
            one, other = (gathered.grid(gathered.of(question, arm)) for arm in (first, second))
            area = vgc.vgc_auc(one, other, random_readers=True, seed=seed)
            these = vgc.vgc_auc(one, other, random_readers=False, seed=seed)
            rows.append([question.text, first, second, area, these, p_text(these.p)])
    columns = ("question", "from", "to", "area (readers random)", "area (these readers)", "p (these readers)")
    note = (
        "Area under the visual grading characteristics curve, mean over readers; above 0.5 the second arm "
        "is graded better. Bootstrap over cases (and readers); p by exchanging the arms of cases."
    )
    return table("vgc", "Visual grading characteristics", columns, rows, note)


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
            rows.append(
                [f"{second} over {first}", "all", *counts, *_share_cells(found), score, p_text(score.p)]
            )
            for reader, own in zip(gathered.readers, grid, strict=True):
                own_counts = [int((own == value).sum()) for value in range(-2, 3)]
                exact = paired.binomial(np.where(np.isfinite(own), (np.sign(own) + 1) / 2, np.nan))
                rows.append(
                    [
                        f"{second} over {first}",
                        reader,
                        *own_counts,
                        exact,
                        p_text(exact.p),
                        None,
                        "–",
                        None,
                        "–",
                    ]
                )
            wins.append(_wins(gathered, preferred, first, second))
        columns = (
            "preference", "reader", "-2", "-1", "0", "+1", "+2", "share (these readers)",
            "p (these readers)", "share (readers random)", "p (readers random)", "score (Hodges-Lehmann)",
            "p (Wilcoxon)",
        )  # fmt: skip
        note = (
            "Share preferring the arm named first, ties half; the cases are the sample, tested against 50 "
            "%. Single readers: binomial (mid-p) without ties."
        )
        tables += table(f"preference.{question.id}", question.text, columns, rows, note)
        if len(gathered.arms) > 2 and wins:
            strengths = bradley_terry.by_arm(np.sum(wins, axis=0), seed)
            tables += table(
                f"bradley-terry.{question.id}",
                f"{question.text} – Bradley-Terry",
                ("arm", "log strength (95 % CI)"),
                [list(one) for one in zip(gathered.arms, strengths, strict=True)],
                "Mean 0; a difference d means that the stronger wins with odds exp(d). Bootstrap over cases.",
            )
    return tables


def _wins(gathered: Gathered, preferred: np.ndarray, first: str, second: str) -> np.ndarray:
    """Return wins [case, winner, loser] of one pair of arms over all readers."""
    wins = np.zeros((len(gathered.cases), len(gathered.arms), len(gathered.arms)))
    one, other = gathered.arms.index(first), gathered.arms.index(second)
    wins[:, other, one] = np.nansum(preferred, axis=0)
    wins[:, one, other] = np.nansum(1 - preferred, axis=0)
    return wins


def _share_cells(found: paired.Share) -> list[Cell]:
    these, others = found.these_readers, found.other_readers
    return [these, p_text(these.p), others, p_text(others.p)]


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
            interval = found.interval_90
            what = "right answers" if known else f"'{second}' chosen"
            tested: list[Cell] = [
                Estimate(found.these_readers.value, *interval) if interval else UNKNOWN,
                p_text(found.equivalent_p),
                found.equivalent_p is not None and found.equivalent_p < 0.05,
            ]
            name = f"{question.text} {first} / {second}"
            rows.append([name, what, "all", len(given), *_share_cells(found), *tested])
            for reader, own in zip(gathered.readers, found.by_reader, strict=True):
                count = sum(one.reader == reader for one in given)
                rows.append([name, what, reader, count, own, p_text(own.p), None, "–", None, "–", None])
    columns = (
        "question", "share of", "reader", "answers", "share (these readers)", "p (these readers)",
        "share (readers random)", "p (readers random)", "90 % interval", "p (equivalence)", "equivalent",
    )  # fmt: skip
    note = (
        f"Against 50 %, the share of guessing. Equivalent: two one-sided tests show the share within 50 ± "
        f"{100 * margin:g} %; a p value above 0.05 alone shows nothing of the kind."
    )
    return table("choice", "Forced choice", columns, rows, note)


def _between_readers(gathered: Gathered) -> list[Table]:
    rows: list[list[Cell]] = []
    if len(gathered.readers) < 2:
        return []
    for question in gathered.questions:
        for name, grid in _agreement_grids(gathered, question):
            whole = question.kind != "number"
            correlation = agreement.icc(grid)
            rows.append(
                [
                    question.text,
                    name,
                    agreement.weighted_kappa(grid) if whole else None,
                    agreement.fleiss_kappa(grid) if whole else None,
                    agreement.krippendorff_alpha(grid, "ordinal" if whole else "interval"),
                    correlation["ICC(2,1)"],
                    correlation["ICC(3,1)"],
                ]
            )
    columns = (
        "question",
        "arm",
        "weighted kappa",
        "Fleiss' kappa",
        "Krippendorff's alpha",
        "ICC(2,1)",
        "ICC(3,1)",
    )
    note = (
        "Weighted kappa: quadratic weights, mean of all pairs of readers. Alpha: ordinal (numbers: "
        "interval). Jackknife over cases on Fisher's z scale; ICC by F."
    )
    return table("agreement", "Agreement between readers", columns, rows, note)


def _agreement_grids(gathered: Gathered, question: Question) -> list[tuple[str, np.ndarray]]:
    if question.kind in ("text", "marks"):
        return []
    places = (
        [(f"{second} / {first}", second, first) for first, second in gathered.pairs]
        if question.scope == PAIR
        else [(arm, arm, "") for arm in gathered.arms]
    )
    grids = [(name, gathered.grid(gathered.of(question, arm, versus))) for name, arm, versus in places]
    return [(name, grid) for name, grid in grids if np.isfinite(grid).any()]


def _within_readers(gathered: Gathered) -> list[Table]:
    rows: list[list[Cell]] = []
    for question in gathered.questions:
        if question.kind in ("text", "marks"):
            continue
        for reader, (first, again) in gathered.repeats(question).items():
            kappa = agreement.weighted_kappa(np.array([first, again])) if question.kind != "number" else None
            icc = agreement.icc(np.array([first, again]))["ICC(2,1)"]
            rows.append([question.text, reader, len(first), float((first == again).mean()), kappa, icc])
    columns = ("question", "reader", "repeats", "same answer", "weighted kappa", "ICC(2,1)")
    return table("repeats", "Agreement of readers with themselves", columns, rows, "Of readings shown twice.")
