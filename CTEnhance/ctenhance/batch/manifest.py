"""What became of each case, in an SQLite file in the folder of the results.

It is a record, and decides on nothing: whether a case is finished, its report and its files say
(`files.finished`). One process writes, the one that holds the folder's lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import ctenhance
from ctenhance.batch.case import BEFORE, DONE, LEFT_OUT, MANIFEST, OWN_FOLDER, WAITING, Case, Outcome
from ctenhance.core.report import plain
from ctenhance.runtime.errors import CTEnhanceError
from ctenhance.runtime.files import why_not_written

#: Cases that are held in memory at once.
_PAGE = 200
_PATIENCE_SECONDS = 30.0  # with another program that has it open
_TABLES = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, started TEXT, ended TEXT, verb TEXT, settings TEXT, version TEXT, how TEXT);
CREATE TABLE IF NOT EXISTS cases (
    number INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, run INTEGER, state TEXT NOT NULL, why TEXT,
    ended TEXT, seconds REAL, worker TEXT, output TEXT, figures TEXT, thumbnail BLOB, task TEXT);
CREATE TABLE IF NOT EXISTS left_out (run INTEGER, name TEXT, why TEXT);
CREATE TABLE IF NOT EXISTS results (
    place BLOB, verb TEXT, run INTEGER, name TEXT, input BLOB, PRIMARY KEY (place, verb));
CREATE INDEX IF NOT EXISTS results_input ON results (input, run);
"""
#: `found`: which case of its run it was in the search.
_SINCE = """
ALTER TABLE cases ADD COLUMN found INTEGER;
"""
_INDEX = "CREATE INDEX IF NOT EXISTS cases_found ON cases (run, found);"


class Manifest:
    """The record of a folder of results; use it in a `with` block.

    A case keeps its `number` from run to run, and `results` each place where one ever went, since a case
    may get another. A damaged file is put aside, and a new one begun.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target / OWN_FOLDER
        self.path = self.folder / MANIFEST
        self.folder.mkdir(exist_ok=True)
        self.put_aside: Path | None = None
        self._lock = threading.RLock()
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            self.put_aside = self.path.with_name(
                f"damaged-{datetime.now().strftime('%Y%m%d-%H%M%S')}-{MANIFEST}"
            )
            self.path.replace(self.put_aside)
            self._open()
        self.run, self._verb, self._found = 0, "", 0

    def _open(self) -> None:
        # The search adds cases from a thread of its own; `_lock` lets one at a time to the file.
        self._base = sqlite3.connect(self.path, timeout=_PATIENCE_SECONDS, check_same_thread=False)
        try:
            self._base.row_factory = sqlite3.Row
            self._base.execute("PRAGMA synchronous = NORMAL")
            self._base.execute("PRAGMA quick_check(1)")
            self._base.executescript(_TABLES)
            if "found" not in {row["name"] for row in self._base.execute("PRAGMA table_info(cases)")}:
                self._base.executescript(_SINCE)
            self._base.executescript(_INDEX)
            self._places_of_earlier_versions()
        except BaseException:
            self._base.close()
            raise

    def _places_of_earlier_versions(self) -> None:
        """A manifest from before there were `results` knows of each case its last place."""
        if self._base.execute("SELECT 1 FROM results LIMIT 1").fetchone() is None:
            columns = "number, run, task, (SELECT verb FROM runs WHERE id = cases.run) AS verb"
            with self._base:
                for row in self._pages(columns, "1", ()):
                    self._note_places([Case.from_text(row["task"])], row["verb"], row["run"])

    def _note_places(self, cases: Sequence[Case], verb: str, run: int) -> None:
        self._base.executemany(
            "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)",
            [(self._place(case), verb, run, case.name, _input(case)) for case in cases],
        )

    def _place(self, case: Case) -> bytes:
        """Inside the folder of the results, which may be moved."""
        return os.fsencode(os.path.relpath(case.output, self.target))

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_exc: object) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._base.close()

    def begin(self, verb: str, settings: Mapping[str, Any]) -> None:
        """Note that a run begins."""
        with self._lock, self._base:
            said = json.dumps(plain(settings))
            self.run = (
                self._base.execute(
                    "INSERT INTO runs (started, verb, settings, version) VALUES (?, ?, ?, ?)",
                    (_now(), verb, said, ctenhance.__version__),
                ).lastrowid
                or 0
            )
            self._verb, self._found = verb, 0

    def add(self, cases: Sequence[Case] = (), left_out: Mapping[str, str] | None = None) -> None:
        """Note cases of this run that were found, all waiting, and what was left out in the search."""
        rows = []
        for case in cases:
            self._found += 1
            rows.append((case.name, self.run, self._found, WAITING, _text(case.output.name), case.to_text()))
        with self._lock, self._base:
            self._base.executemany(
                "INSERT INTO cases (name, run, found, state, output, task) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (name) DO UPDATE SET run = excluded.run, found = excluded.found, "
                "state = excluded.state, output = excluded.output, task = excluded.task, why = NULL",
                rows,
            )
            self._note_places(cases, self._verb, self.run)
            self._base.executemany(
                "INSERT INTO left_out VALUES (?, ?, ?)",
                ((self.run, _text(name), _text(why)) for name, why in (left_out or {}).items()),
            )

    def withdraw(self, name: str, why: str) -> None:
        """Leave out a case of this run that was found to be none."""
        with self._lock, self._base:
            self._base.execute(
                "UPDATE cases SET state = ?, why = ? WHERE name = ?", (LEFT_OUT, _text(why), name)
            )

    def found_after(self, last: int) -> list[tuple[int, Case]]:
        """Some of the waiting cases of this run that were found after the `last`-th, with their places."""
        with self._lock:
            rows = self._base.execute(
                "SELECT found, task FROM cases WHERE run = ? AND found > ? AND state = ? ORDER BY found "
                "LIMIT ?",
                (self.run, last, WAITING, _PAGE),
            ).fetchall()
        return [(row["found"], Case.from_text(row["task"])) for row in rows]

    def all_cases(self) -> Iterator[Case]:
        """The cases of all runs, a few hundred in memory at once."""
        for row in self._pages("number, task", "1", ()):
            yield Case.from_text(row["task"])

    def cases(self, *states: str) -> Iterator[Case]:
        """The cases of this run in these states (all if none is named), a few hundred in memory at once."""
        for row in self.rows("number, state, task", *states):
            yield Case.from_text(row["task"])

    def rows(self, columns: str, *states: str) -> Iterator[sqlite3.Row]:
        """Rows of this run's cases by their numbers; `columns` are names of the table's, `number` first."""
        chosen = f"AND state IN ({', '.join('?' * len(states))})" if states else ""
        return self._pages(columns, f"run = ? {chosen}", (self.run, *states))

    def _pages(self, columns: str, where: str, values: tuple[Any, ...]) -> Iterator[sqlite3.Row]:
        last = 0
        while True:
            with self._lock:
                page = self._base.execute(
                    f"SELECT {columns} FROM cases WHERE {where} AND number > ? ORDER BY number LIMIT ?",
                    (*values, last, _PAGE),
                ).fetchall()
            if not page:
                return
            yield from page
            last = page[-1]["number"]

    def count(self, *states: str) -> int:
        """How many of this run's cases are in these states, or how many there are."""
        chosen = f"AND state IN ({', '.join('?' * len(states))})" if states else ""
        query = f"SELECT count(*) FROM cases WHERE run = ? {chosen}"
        with self._lock:
            return int(self._base.execute(query, (self.run, *states)).fetchone()[0])

    def names(self, state: str) -> dict[str, str]:
        """The names of this run's cases in a state, and why."""
        return {row["name"]: row["why"] or "" for row in self.rows("number, name, why", state)}

    def left_out(self) -> dict[str, str]:
        """What the search of this run left out, and why."""
        query = "SELECT name, why FROM left_out WHERE run = ?"
        with self._lock:
            return {row["name"]: row["why"] for row in self._base.execute(query, (self.run,))}

    def of_no_case(self, source: Path) -> Iterator[Case]:
        """Results of this verb that no case of this run owns though it should: what they were made of was
        in the input folder `source` and is gone, goes elsewhere now, or is no CT any more.

        They may be gone, too. Ask when the search is over. What was only not chosen in this run counts as
        little as what another input folder holds.
        """
        inside = os.fsencode(source.absolute()) + os.sep.encode()
        with self._lock:
            rows = self._base.execute(
                "SELECT place, name, input, EXISTS (SELECT 1 FROM results AS now WHERE now.run = :run "
                "AND now.input = results.input) AS taken FROM results WHERE verb = :verb "
                "AND (run != :run OR name IN (SELECT name FROM cases WHERE run = :run AND state = :left_out))"
                " ORDER BY place",
                {"run": self.run, "verb": self._verb, "left_out": LEFT_OUT},
            ).fetchall()
        for row in rows:
            first = row["input"].partition(b"\0")[0]
            if first.startswith(inside) and (row["taken"] or not os.path.lexists(first)):
                yield Case(row["name"], (), self.target / os.fsdecode(row["place"]))

    def ended(self, case: Case, outcome: Outcome) -> None:
        """Note what became of a case; of one that was finished before, what is known of then stays."""
        if outcome.state == BEFORE:
            query = "UPDATE cases SET state = ?, why = NULL, figures = coalesce(figures, ?) WHERE name = ?"
            values: tuple[Any, ...] = (outcome.state, json.dumps(plain(outcome.figures)), case.name)
        else:
            query = (
                "UPDATE cases SET state = ?, why = ?, ended = ?, seconds = ?, worker = ?, figures = ?, "
                "thumbnail = ? WHERE name = ?"
            )
            figures = json.dumps(plain(outcome.figures))
            values = (outcome.state, _text(outcome.why) or None, _now(), outcome.seconds, outcome.worker)
            values += (figures, outcome.thumbnail or None, case.name)
        with self._lock, self._base:
            self._base.execute(query, values)

    def end(self, how: str) -> None:
        """Note how the run ended."""
        with self._lock, self._base:
            self._base.execute("UPDATE runs SET ended = ?, how = ? WHERE id = ?", (_now(), how, self.run))

    def finished(self) -> int:
        """How many of this run's cases are finished."""
        return self.count(DONE, BEFORE)


@contextlib.contextmanager
def saying_why_not(target: Path) -> Iterator[None]:
    """Raise CTEnhanceError with a sentence where the manifest of a folder of results cannot be used."""
    try:
        yield
    except sqlite3.OperationalError as error:
        why = why_not_written(error, target) or (
            f"{error}; close what else has it open, or choose a folder on a disk of this machine"
        )
        raise CTEnhanceError(
            f"The manifest '{target / OWN_FOLDER / MANIFEST}' cannot be used: {why}. Results stay, and the "
            "same command goes on from there."
        ) from error


def _input(case: Case) -> bytes:
    """What a case is known by, whatever it is called: the path of its first file, and which slices."""
    beside = (path for name, path in sorted(case.beside.items()) if name.startswith("image"))
    first = next(iter(case.files), None) or next(beside, None)
    return b"" if first is None else os.fsencode(first.absolute()) + b"\0" + case.slices.encode()


def _text(name: str) -> str:
    """A name in another encoding holds what UTF-8 cannot write."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
