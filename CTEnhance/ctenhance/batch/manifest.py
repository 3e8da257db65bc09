"""What became of each case, in an SQLite file in the folder of the results.

It is a record, and decides on nothing: whether a case is finished, its report and its files say
(`files.finished`). One process writes, the one that holds the folder's lock.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import ctenhance
from ctenhance.batch.case import BEFORE, DONE, MANIFEST, OWN_FOLDER, WAITING, Case, Outcome
from ctenhance.core.report import plain

#: Cases that are held in memory at once.
_PAGE = 200
_TABLES = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, started TEXT, ended TEXT, verb TEXT, settings TEXT, version TEXT, how TEXT);
CREATE TABLE IF NOT EXISTS cases (
    number INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, run INTEGER, state TEXT NOT NULL, why TEXT,
    ended TEXT, seconds REAL, worker TEXT, output TEXT, figures TEXT, thumbnail BLOB, task TEXT);
CREATE TABLE IF NOT EXISTS left_out (run INTEGER, name TEXT, why TEXT);
"""


class Manifest:
    """The record of a folder of results; use it in a `with` block.

    A case keeps its `number` from run to run. A damaged file is put aside, and a new one begun.
    """

    def __init__(self, target: Path) -> None:
        self.folder = target / OWN_FOLDER
        self.path = self.folder / MANIFEST
        self.folder.mkdir(exist_ok=True)
        self.put_aside: Path | None = None
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
        self.run = 0

    def _open(self) -> None:
        self._base = sqlite3.connect(self.path, timeout=30)
        try:
            self._base.row_factory = sqlite3.Row
            self._base.execute("PRAGMA synchronous = NORMAL")
            self._base.execute("PRAGMA quick_check(1)")
            self._base.executescript(_TABLES)
        except BaseException:
            self._base.close()
            raise

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_exc: object) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._base.close()

    def begin(
        self, verb: str, settings: Mapping[str, Any], cases: Iterable[Case], left_out: Mapping[str, str]
    ) -> int:
        """Note the cases of a run, all waiting, and what was left out in the search; return their number."""
        with self._base:
            said = json.dumps(plain(settings))
            self.run = (
                self._base.execute(
                    "INSERT INTO runs (started, verb, settings, version) VALUES (?, ?, ?, ?)",
                    (_now(), verb, said, ctenhance.__version__),
                ).lastrowid
                or 0
            )
            self._base.executemany(
                "INSERT INTO cases (name, run, state, output, task) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (name) DO UPDATE SET run = excluded.run, state = excluded.state, "
                "output = excluded.output, task = excluded.task, why = NULL",
                ((case.name, self.run, WAITING, _text(case.output.name), case.to_text()) for case in cases),
            )
            self._base.executemany(
                "INSERT INTO left_out VALUES (?, ?, ?)",
                ((self.run, _text(name), _text(why)) for name, why in left_out.items()),
            )
        return self.count()

    def cases(self, *states: str) -> Iterator[Case]:
        """The cases of this run in these states (all if none is named), a few hundred in memory at once."""
        for row in self.rows("number, state, task", *states):
            yield Case.from_text(row["task"])

    def rows(self, columns: str, *states: str) -> Iterator[sqlite3.Row]:
        """Rows of this run's cases by their numbers; `columns` are names of the table's, `number` first."""
        last = 0
        chosen = f"AND state IN ({', '.join('?' * len(states))})" if states else ""
        while True:
            page = self._base.execute(
                f"SELECT {columns} FROM cases WHERE run = ? AND number > ? {chosen} ORDER BY number LIMIT ?",
                (self.run, last, *states, _PAGE),
            ).fetchall()
            if not page:
                return
            yield from page
            last = page[-1]["number"]

    def count(self, *states: str) -> int:
        """How many of this run's cases are in these states, or how many there are."""
        chosen = f"AND state IN ({', '.join('?' * len(states))})" if states else ""
        query = f"SELECT count(*) FROM cases WHERE run = ? {chosen}"
        return int(self._base.execute(query, (self.run, *states)).fetchone()[0])

    def names(self, state: str) -> dict[str, str]:
        """The names of this run's cases in a state, and why."""
        return {row["name"]: row["why"] or "" for row in self.rows("number, name, why", state)}

    def left_out(self) -> dict[str, str]:
        """What the search of this run left out, and why."""
        query = "SELECT name, why FROM left_out WHERE run = ?"
        return {row["name"]: row["why"] for row in self._base.execute(query, (self.run,))}

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
        with self._base:
            self._base.execute(query, values)

    def end(self, how: str) -> None:
        """Note how the run ended."""
        with self._base:
            self._base.execute("UPDATE runs SET ended = ?, how = ? WHERE id = ?", (_now(), how, self.run))

    def finished(self) -> int:
        """How many of this run's cases are finished."""
        return self.count(DONE, BEFORE)


def _text(name: str) -> str:
    """A name in another encoding holds what UTF-8 cannot write."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
