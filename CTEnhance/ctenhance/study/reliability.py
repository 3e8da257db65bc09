"""Tables of agreement: between readers, and of readers with themselves."""

from __future__ import annotations

import numpy as np

from ctenhance.study.gathered import Gathered
from ctenhance.study.questions import PAIR, Question
from ctenhance.study.statistics import agreement
from ctenhance.study.statistics.estimate import complete_block
from ctenhance.study.tables import Cell, Missing, Of, Table, table

_NUMBERS = Missing("kappa is for grades, and these are numbers: see ICC")


def between_readers(gathered: Gathered) -> list[Table]:
    """Return the table of how alike readers answer."""
    rows: list[list[Cell]] = []
    if len(gathered.readers) < 2:
        return []
    for question in gathered.questions:
        for name, grid in _grids(gathered, question):
            whole = question.kind != "number"
            correlation = agreement.icc(grid)
            measures: list[Cell] = [
                agreement.weighted_kappa(grid) if whole else _NUMBERS,
                agreement.fleiss_kappa(grid) if whole else _NUMBERS,
                agreement.krippendorff_alpha(grid, "ordinal" if whole else "interval"),
                correlation["ICC(2,1)"],
                correlation["ICC(3,1)"],
            ]
            present = np.isfinite(grid)
            several = present & (present.sum(axis=0) > 1)
            pairs = len(grid) * (len(grid) - 1) // 2
            agreed = Of(agreement.pairs_with_kappa(grid), pairs) if whole else _NUMBERS
            readers, cases = complete_block(present)
            rests: list[Cell] = [*gathered.count(several), agreed, *gathered.count(readers[:, None] & cases)]
            rows.append([question.text, name, *measures, *rests])
    columns = (
        "question", "arm", "weighted kappa", "Fleiss' kappa", "Krippendorff's alpha", "ICC(2,1)", "ICC(3,1)",
        "cases", "readers", "pairs (weighted kappa)", "cases (Fleiss, ICC)", "readers (Fleiss, ICC)",
    )  # fmt: skip
    note = (
        "Weighted kappa: quadratic weights, mean of all pairs of readers, weighted by their cases. Alpha: "
        "ordinal (numbers: interval). Both with all cases that two readers have; Fleiss' kappa and ICC need "
        "readers and cases without gaps. Jackknife over cases on Fisher's z scale; ICC by F."
    )
    basis = gathered.asked(one for one in gathered.questions if one.kind not in ("text", "marks"))
    return table("agreement", "Agreement between readers", columns, rows, note, basis)


def _grids(gathered: Gathered, question: Question) -> list[tuple[str, np.ndarray]]:
    if question.kind in ("text", "marks"):
        return []
    places = (
        [(f"{second} / {first}", second, first) for first, second in gathered.pairs]
        if question.scope == PAIR
        else [(arm, arm, "") for arm in gathered.arms]
    )
    grids = [(name, gathered.grid(gathered.of(question, arm, versus))) for name, arm, versus in places]
    return [(name, grid) for name, grid in grids if np.isfinite(grid).any()]


def within_readers(gathered: Gathered) -> list[Table]:
    """Return the table of how alike readers answer when they see a reading again."""
    rows: list[list[Cell]] = []
    for question in gathered.questions:
        if question.kind in ("text", "marks"):
            continue
        for reader, (first, again) in gathered.repeats(question).items():
            whole = question.kind != "number"
            kappa = agreement.weighted_kappa(np.array([first, again])) if whole else _NUMBERS
            icc = agreement.icc(np.array([first, again]))["ICC(2,1)"]
            repeated = [
                one for one in gathered.answers
                if one.repeat and one.reader == reader and one.question == question.id
            ]  # fmt: skip
            cases = gathered.count(gathered.answered(repeated))[0]
            same = float((first == again).mean())
            rows.append([question.text, reader, len(first), same, kappa, icc, cases])
    columns = ("question", "reader", "repeats", "same answer", "weighted kappa", "ICC(2,1)", "cases")
    basis = gathered.basis(gathered.answered(one for one in gathered.answers if one.repeat))
    title = "Agreement of readers with themselves"
    return table("repeats", title, columns, rows, "Of readings shown twice.", basis)
