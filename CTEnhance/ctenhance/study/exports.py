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
from ctenhance.runtime.words import counted
from ctenhance.study.detection import Scores, scored, scored_questions
from ctenhance.study.gathered import Gathered
from ctenhance.study.statistics.estimate import complete_block
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

    `question` may be left out when only one has ratings of cases with a known truth; cases without are left
    out. Readers, cases and arms are written under their names; the design need not be fully crossed. Raises
    InputError when there is no such question, and for a wrong path.
    """
    target = check_output(path, (".imrmc", ".csv", ".txt"))
    scores = _scores(gathered, question, "number")
    gathered, chosen, diseased = scores.gathered, scores.question, scores.diseased
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


def write_rjafroc(gathered: Gathered, path: str | os.PathLike[str], question: str | None = None) -> str:
    """Write the lesion marks in RJafroc's Excel format (.xlsx), factorial design: TP, FP and Truth.

    Readers, arms and cases become whole numbers as the format asks; a fourth sheet, Names, says which is
    which. Lesions have equal weights. RJafroc takes a case without a mark for one that was read, so of
    readers and cases only those are written that `complete_block` finds; returns a sentence on who and what
    was left out, or an empty one. Raises InputError when no question takes marks or the truth is not known.
    """
    from openpyxl import Workbook

    target = check_output(path, (".xlsx",))
    scores = _scores(gathered, question, "marks")
    gathered, chosen = scores.gathered, scores.question
    who_read, read = complete_block(scores.present, least=1)
    readers = [name for name, there in zip(gathered.readers, who_read, strict=True) if there]
    out = [case.name for case, there in zip(gathered.cases, read, strict=True) if not there]
    away = [name for name in gathered.readers if name not in readers]
    gathered = gathered.without(out)
    book = Workbook()
    hits, misses, truth = book.active, book.create_sheet("FP"), book.create_sheet("Truth")
    hits.title = "TP"
    hits.append(["ReaderID", "ModalityID", "CaseID", "LesionID", "TP_Rating"])
    misses.append(["ReaderID", "ModalityID", "CaseID", "FP_Rating"])
    truth.append(["CaseID", "LesionID", "Weight", "ReaderID", "ModalityID", "Paradigm"])
    every = [
        ",".join(str(number + 1) for number in range(count)) for count in (len(readers), len(gathered.arms))
    ]
    paradigm = iter(("FROC", "FCTRL"))
    for number, case in enumerate(gathered.cases, start=1):
        for lesion in range(1, len(case.lesions) + 1) if case.lesions else (0,):
            weight = 1 / len(case.lesions) if case.lesions else 0
            truth.append([number, lesion, weight, *every, next(paradigm, None)])
    for place, arm in enumerate(gathered.arms, start=1):
        for who, reader in enumerate(readers, start=1):
            for number, one in enumerate(scored(gathered, chosen, arm, reader), start=1):
                assert one is not None
                ratings, false = one
                for lesion, rating in enumerate(ratings, start=1):
                    if rating != UNMARKED:
                        hits.append([who, place, number, lesion, float(rating)])
                for rating in false:
                    misses.append([who, place, number, float(rating)])
    names = book.create_sheet("Names")
    names.append(["what", "ID", "name"])
    for what, found in (
        ("reader", readers),
        ("modality", gathered.arms),
        ("case", [case.name for case in gathered.cases]),
    ):
        for number, name in enumerate(found, start=1):
            names.append([what, number, name])
    with replace_when_done(target) as temporary:
        book.save(temporary)
    if not away and not out:
        return ""
    parts = [f"reader {', '.join(away)}"] if away else []
    total = max(gathered.of_cases, len(gathered.cases))
    parts += [f"{len(out)} of {counted(total, 'case')}"] if out else []
    left_out = " and ".join(parts)
    return f"'{target.name}' is without {left_out}: RJafroc would take what was not read for unmarked."


def write_json(results: dict[str, object], path: str | os.PathLike[str]) -> None:
    """Write the results as indented JSON."""
    target = check_output(path, (".json",))
    write_text(target, json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def questions_of_kind(gathered: Gathered, kind: str) -> list[str]:
    """Return the ids of the questions of that kind ('number', 'marks') that can be held against a truth."""
    return [one.question.id for one in scored_questions(gathered) if one.question.kind == kind]


def _scores(gathered: Gathered, name: str | None, kind: str) -> Scores:
    found = [one for one in scored_questions(gathered) if one.question.kind == kind]
    chosen = [one for one in found if name in (None, one.question.id)]
    what = "ratings" if kind == "number" else "lesion marks"
    if not chosen:
        raise InputError(
            f"The study has no {what} of cases whose truth is known{f' under {name!r}' if name else ''}, "
            "read by somebody in every arm: there is nothing to export."
        )
    if len(chosen) > 1:
        names = ", ".join(one.question.id for one in chosen)
        raise InputError(f"Several questions have {what}: name one of {names}.")
    return chosen[0]
