"""The owner's side after the reading: who is how far, closing the study, and answers joined with the key."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import write_text
from ctenhance.runtime.json_object import read_object
from ctenhance.study.fields import Fields, require_format
from ctenhance.study.key import Key, KeyCase
from ctenhance.study.questions import LEFT, PAIR, Question
from ctenhance.study.records import Row, verify
from ctenhance.study.standing import Standing
from ctenhance.study.study_file import CLOSED_FILE, Study

FORMAT, VERSION = "ctenhance-study-unblinded", 1


@dataclass(frozen=True)
class ReaderStatus:
    """How far a reader is, and what is wrong with the records (empty: nothing)."""

    reader: str
    done: int
    total: int
    finished: bool
    active_minutes: float
    last: str
    rows: int
    last_hash: str
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """One answer, unblinded.

    arm, versus  for a question on each image: the arm it was given for, and ''. For one on a pair: the later
                 arm and the earlier one, in the order of the design
    value        as given; for `preference` turned so that above 0 means that `arm` is better, for `choice`
                 whether `arm` was chosen
    correct      for a `choice` with a known truth, whether it was right
    arm_on_right for a pair, whether `arm` was shown on the right
    marks keep their form; `yes-no` is a bool
    """

    reader: str
    case: str
    session: int
    trial: int
    repeat: bool
    question: str
    kind: str
    side: str
    arm: str
    versus: str
    value: Any
    first_value: Any
    changes: int
    correct: bool | None
    active_s: float
    time: float
    arm_on_right: bool | None = None


def status(folder: str | os.PathLike[str]) -> list[ReaderStatus]:
    """Return how far every reader is, and faults of the records; nothing is unblinded or changed."""
    study = Study.read(folder)
    return [_status(study, reader) for reader in study.readers]


def _status(study: Study, reader: str) -> ReaderStatus:
    trials = [trial for trial in study.trials(reader) if trial.counts]
    rows: list[Row] = []
    problems: list[str] = []
    if study.record_path(reader).exists():
        try:
            rows, problems = verify(study.record_path(reader), study.sha256, reader)
        except InputError as error:
            problems = [str(error).rstrip(".")]
    standing = Standing.of(rows)
    sessions = {trial.session for trial in trials}
    return ReaderStatus(
        reader=reader,
        done=sum(trial.number in standing.done for trial in trials),
        total=len(trials),
        finished=sessions <= set(standing.finished),
        active_minutes=round(sum(standing.active.values()) / 60, 1),
        last="" if not rows else datetime.fromtimestamp(rows[-1].time).isoformat(sep=" ", timespec="minutes"),
        rows=len(rows),
        last_hash=rows[-1].hash if rows else "",
        problems=tuple(problems),
    )


def unblind(
    folder: str | os.PathLike[str],
    key_path: str | os.PathLike[str],
    *,
    unfinished: bool = False,
    without: Sequence[str] = (),
) -> dict[str, Any]:
    """Close the study: check the key and every reader's records, and write down their last hashes.

    From then on no more answers are taken, and `answers` can be had with the key. `unfinished` closes it
    although readers have not finished; `without` leaves readers out (and says so in the report).
    Returns what was written. Raises InputError for a wrong key, unfinished readers, records that were
    changed, and a study that is closed already.
    """
    study = Study.read(folder)
    Key.read(key_path, study.key_sha256)
    if study.closed:
        raise InputError(f"The study '{study.title}' was unblinded already; go on with the analysis.")
    for reader in without:
        study.trials(reader)
    states = [_status(study, reader) for reader in study.readers if reader not in without]
    for state in states:
        if state.problems:
            raise InputError(
                f"The records of '{state.reader}' cannot be used: {state.problems[0]}; leave this reader "
                "out, or put back the file as it was."
            )
    late = [state.reader for state in states if not state.finished]
    if late and not unfinished:
        raise InputError(
            f"Not all readers have finished ({', '.join(late)}); wait for them, leave them out (--without, "
            "in Python without=[…]), or close the study unfinished (--unfinished, in Python unfinished=True)."
        )
    states = [state for state in states if state.rows]
    if not states:
        raise InputError(f"Nobody has answered anything in the study '{study.title}' yet.")
    closed = {
        "format": FORMAT,
        "version": VERSION,
        "study": study.sha256,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "heads": {state.reader: {"rows": state.rows, "hash": state.last_hash} for state in states},
        "without": sorted(without),
        "unfinished": sorted(set(late)),
    }
    write_text(study.folder / CLOSED_FILE, json.dumps(closed, indent=1) + "\n")
    return closed


def answers(folder: str | os.PathLike[str], key_path: str | os.PathLike[str]) -> list[Answer]:
    """Return every answer of a closed study, unblinded, by reader and in the order of reading.

    Only answers to cases that were finished with ('done') count.
    Raises InputError for a study that is not closed, a wrong key, and records that have changed since.
    """
    study = Study.read(folder)
    key = Key.read(key_path, study.key_sha256)
    if not study.closed:
        raise InputError(
            f"The study '{study.title}' is still blinded; close it first with 'ctenhance study unblind'."
        )
    path = study.folder / CLOSED_FILE
    values = read_object(path, "closing record of the study")
    require_format(values, FORMAT, VERSION, path)
    fields = Fields(values, f"'{path}'")
    if fields.take("study", str) != study.sha256:
        raise InputError(f"'{path}' belongs to another study; put back the file that unblinding wrote.")
    found: list[Answer] = []
    for reader, head in fields.take("heads", dict).items():
        rows, problems = verify(study.record_path(reader), study.sha256, reader)
        entry = Fields(head, f"the entry of '{reader}' in '{path}'")
        if not problems and (len(rows), rows[-1].hash) != (entry.take("rows", int), entry.take("hash", str)):
            problems = ["they are not the ones that the study was closed with"]
        if problems:
            raise InputError(f"The records of '{reader}' were changed after unblinding: {problems[0]}.")
        found += _of_reader(study, key, reader, Standing.of(rows))
    if not found:
        raise InputError(
            f"No case of the study '{study.title}' was read to its end, so there is nothing to analyse."
        )
    return found


def _of_reader(study: Study, key: Key, reader: str, standing: Standing) -> list[Answer]:
    where = key.where()
    earlier: set[frozenset[str]] = set()
    found = []
    for trial in study.trials(reader):
        if not trial.counts:
            continue
        repeat = frozenset(trial.images) in earlier
        earlier.add(frozenset(trial.images))
        if trial.number not in standing.done:
            continue
        shown = [where[image] for image in trial.images]
        for question, side in study.asked():
            given = standing.answers.get((trial.number, question.id, side))
            if given is None and question.kind != "marks":
                continue
            value, first = ([], []) if given is None else (given.value, given.first)
            arm, versus, right = _arms(key, shown, side)
            found.append(
                Answer(
                    reader=reader,
                    case=shown[0][0].name,
                    session=trial.session,
                    trial=trial.number,
                    repeat=repeat,
                    question=question.id,
                    kind=question.kind,
                    side=side,
                    arm=arm,
                    versus=versus,
                    value=_turned(question, value, right),
                    first_value=_turned(question, first, right),
                    changes=0 if given is None else given.changes,
                    correct=_correct(key, question, value, shown),
                    active_s=standing.active.get(trial.number, 0.0),
                    time=(standing.last_time or 0.0) if given is None else given.time,
                    arm_on_right=right if side == PAIR else None,
                )
            )
    return found


def _arms(key: Key, shown: list[tuple[KeyCase, str]], side: str) -> tuple[str, str, bool]:
    """Return the arm, the one it is compared with ('' for none), and whether the arm stood on the right."""
    if side != PAIR:
        return shown[0 if side == LEFT or len(shown) == 1 else 1][1], "", False
    left, right = shown[0][1], shown[1][1]
    later_right = key.arms.index(right) > key.arms.index(left)
    return (right, left, True) if later_right else (left, right, False)


def _turned(question: Question, value: Any, arm_is_right: bool) -> Any:
    """Return a pair's answer as seen from the arm: sides become arms."""
    if question.kind == "preference":
        return value if arm_is_right else -value
    if question.kind == "choice":
        return (value != LEFT) == arm_is_right
    return value


def _correct(key: Key, question: Question, value: Any, shown: list[tuple[KeyCase, str]]) -> bool | None:
    truth = key.truth.get(question.id)
    if question.kind != "choice" or truth is None or truth not in (shown[0][1], shown[1][1]):
        return None
    return shown[0 if value == LEFT else 1][1] == truth
