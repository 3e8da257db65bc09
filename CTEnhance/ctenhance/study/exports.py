"""Answers and results for other programs: tidy CSV, iMRMC, RJafroc's Excel file."""

from __future__ import annotations

import csv
import io
import json
import os
from datetime import datetime, timezone

import numpy as np

from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import check_output, replace_when_done, write_text
from ctenhance.study.detection import questions_with_truth, scored
from ctenhance.study.gathered import Gathered
from ctenhance.study.questions import Question
from ctenhance.study.statistics.roc import UNMARKED

COLUMNS = (
    "reader", "case", "session", "trial", "repeat", "question", "kind", "side", "arm", "versus", "value",
    "first_value", "changes", "correct", "active_s", "time",
)  # fmt: skip


def write_tidy(gathered: Gathered, path: str | os.PathLike[str]) -> None:
    """Write every answer as one row of CSV (UTF-8); lists (marks) stand as JSON, times as UTC in ISO 8601.

    Raises InputError for a path that cannot be written.
    """
    target = check_output(path, (".csv",))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for answer in gathered.answers:
        row = []
        for column in COLUMNS:
            value = getattr(answer, column)
            if column == "time":
                value = datetime.fromtimestamp(value, timezone.utc).isoformat(timespec="seconds")
            elif isinstance(value, bool):
                value = int(value)
            elif isinstance(value, list):
                value = json.dumps(value)
            elif isinstance(value, str) and value[:1] in ("=", "+", "-", "@"):
                value = f"'{value}"  # or a spreadsheet would take a reader's remark for a formula
            row.append("" if value is None else value)
        writer.writerow(row)
    write_text(target, text.getvalue())


def write_imrmc(gathered: Gathered, path: str | os.PathLike[str], question: str | None = None) -> None:
    """Write the ratings of one question in the input format of iMRMC (.imrmc), normal cases as truth 0.

    `question` may be left out when only one has ratings of cases with a known truth. Readers, cases and arms
    are written under their names. Raises InputError when there is no such question, and for a wrong path.
    """
    target = check_output(path, (".imrmc", ".csv", ".txt"))
    chosen = _question(gathered, question, "number")
    diseased = gathered.diseased
    assert diseased is not None
    lines = [
        gathered.title.replace("\n", " "),
        "",
        f"NR: {len(gathered.readers)}",
        f"N0: {int((~diseased).sum())}",
        f"N1: {int(diseased.sum())}",
        f"NM: {len(gathered.arms)}",
        "",
        "BEGIN DATA:",
        *(f"-1,{case.name},0,{int(bool(case.diseased))}" for case in gathered.cases),
    ]
    for arm in gathered.arms:
        grid = gathered.grid(gathered.of(chosen, arm))
        for reader, row in zip(gathered.readers, grid, strict=True):
            lines += [
                f"{reader},{case.name},{arm},{rating:g}"
                for case, rating in zip(gathered.cases, row, strict=True)
                if np.isfinite(rating)
            ]
    write_text(target, "\n".join(lines) + "\n")


def write_rjafroc(gathered: Gathered, path: str | os.PathLike[str], question: str | None = None) -> None:
    """Write the lesion marks in RJafroc's Excel format (.xlsx), factorial design: TP, FP and Truth.

    Readers, arms and cases become whole numbers as the format asks; a fourth sheet, Names, says which is
    which. Lesions have equal weights. Raises InputError when no question takes marks or the truth is not
    known.
    """
    from openpyxl import Workbook

    target = check_output(path, (".xlsx",))
    chosen = _question(gathered, question, "marks")
    book = Workbook()
    hits, misses, truth = book.active, book.create_sheet("FP"), book.create_sheet("Truth")
    hits.title = "TP"
    hits.append(["ReaderID", "ModalityID", "CaseID", "LesionID", "TP_Rating"])
    misses.append(["ReaderID", "ModalityID", "CaseID", "FP_Rating"])
    truth.append(["CaseID", "LesionID", "Weight", "ReaderID", "ModalityID", "Paradigm"])
    every = [
        ",".join(str(number + 1) for number in range(count))
        for count in (len(gathered.readers), len(gathered.arms))
    ]
    paradigm = iter(("FROC", "FCTRL"))
    for number, case in enumerate(gathered.cases, start=1):
        for lesion in range(1, len(case.lesions) + 1) if case.lesions else (0,):
            weight = 1 / len(case.lesions) if case.lesions else 0
            truth.append([number, lesion, weight, *every, next(paradigm, None)])
    for place, arm in enumerate(gathered.arms, start=1):
        for who, reader in enumerate(gathered.readers, start=1):
            for number, (ratings, false) in enumerate(scored(gathered, chosen, arm, reader) or [], start=1):
                for lesion, rating in enumerate(ratings, start=1):
                    if rating != UNMARKED:
                        hits.append([who, place, number, lesion, float(rating)])
                for rating in false:
                    misses.append([who, place, number, float(rating)])
    names = book.create_sheet("Names")
    names.append(["what", "ID", "name"])
    for what, found in (
        ("reader", gathered.readers),
        ("modality", gathered.arms),
        ("case", [case.name for case in gathered.cases]),
    ):
        for number, name in enumerate(found, start=1):
            names.append([what, number, name])
    with replace_when_done(target) as temporary:
        book.save(temporary)


def write_json(results: dict[str, object], path: str | os.PathLike[str]) -> None:
    """Write the results as indented JSON."""
    target = check_output(path, (".json",))
    write_text(target, json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def has_kind(gathered: Gathered, kind: str) -> bool:
    """Say whether a question of that kind ('number' or 'marks') can be held against a known truth."""
    return any(question.kind == kind for question, _name, _kernels in questions_with_truth(gathered))


def _question(gathered: Gathered, name: str | None, kind: str) -> Question:
    found = [
        question for question, _name, _kernels in questions_with_truth(gathered) if question.kind == kind
    ]
    chosen = [question for question in found if name in (None, question.id)]
    what = "ratings" if kind == "number" else "lesion marks"
    if not chosen:
        raise InputError(
            f"The study has no {what} of cases whose truth is known{f' under {name!r}' if name else ''}, "
            "read by somebody in every arm: there is nothing to export."
        )
    if len(chosen) > 1:
        raise InputError(f"Several questions have {what}: name one of {', '.join(one.id for one in chosen)}.")
    return chosen[0]
