"""A reader's records: append-only, on the disk before they are acknowledged, tamper-evident.

One SQLite file a reader. Every row holds its content as canonical JSON and a SHA-256 over the row before it
and this content; the first row is bound to the study and the reader. Triggers refuse updates and deletions.
`append` returns when the row has been synced to the disk (write-ahead log, synchronous = FULL; on macOS with
a full flush), so that nothing acknowledged is lost when the process or the machine stops. After that a small
receipt beside the file (`.head`) is told how many rows there are and what the last hash is.

`verify` finds any changed, inserted, reordered or removed row, and rows that are missing at the end. It
cannot find that somebody recomputed every hash of the file and of its receipt (nothing here is secret), or
put back older copies of both; against that the owner notes the last hash (`ctenhance study status` shows it)
or collects the records right after each session.

The lock of the file is SQLite's own, held as long as the records are open: a second window is refused, and a
killed process leaves no lock behind. Only the standard library is used.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.files import write_text
from ctenhance.runtime.words import counted
from ctenhance.study.fields import canonical, sha256_of

BEGIN = "begin"
_TABLE = "CREATE TABLE record (n INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL, hash TEXT NOT NULL)"
_REFUSAL = "BEGIN SELECT RAISE(ABORT, 'records are append-only'); END"
_TRIGGERS = {
    "no_update": f"CREATE TRIGGER no_update BEFORE UPDATE ON record {_REFUSAL}",
    "no_delete": f"CREATE TRIGGER no_delete BEFORE DELETE ON record {_REFUSAL}",
}


@dataclass(frozen=True)
class Row:
    """One record: its number from 1, when (seconds since 1970), what kind, and what belongs to it."""

    n: int
    time: float
    kind: str
    data: dict[str, Any]
    hash: str


class Records:
    """The records of one reader, open for appending; made if there are none yet.

    Raises InputError when they are open in another window, of another study or reader, damaged or changed.
    """

    def __init__(
        self, path: Path, study_sha256: str, reader: str, now: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self.reader = reader
        self.now = now
        self._start = _start(study_sha256, reader)
        self.rows: list[Row] = []
        self._receipt: IO[bytes] | None = None
        with _sentences(path, reader):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, timeout=0.2, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._base.close()
                raise

    def _open(self) -> None:
        # Exclusive before anything else: the lock is taken at the first access, and the write-ahead log then
        # needs no shared memory, which network folders do not have.
        self._base.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._base.execute("PRAGMA journal_mode = WAL")
        self._base.execute("PRAGMA synchronous = FULL")
        self._base.execute("PRAGMA fullfsync = ON")
        self._base.execute("BEGIN IMMEDIATE")
        if not self._base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in (_TABLE, *_TRIGGERS.values()):
                self._base.execute(statement)
        self._base.execute("COMMIT")
        self.rows, problems = _examined(self._base, self.path, self._start)
        if problems and not (problems == [_NO_RECEIPT] and len(self.rows) <= 1):
            raise InputError(
                f"The records of '{self.reader}' cannot be gone on with: {problems[0]}; tell the owner of "
                "the study."
            )
        if not self.rows:
            self.append(BEGIN, reader=self.reader)
        elif problems:  # stopped before the first receipt: made up for now, as a second row needs one
            self._vouch(self.rows[-1])

    @property
    def last_hash(self) -> str:
        """The hash of the last row, which vouches for all before it."""
        return self.rows[-1].hash if self.rows else self._start

    def append(self, kind: str, **data: Any) -> Row:
        """Write one row and return it once it is safely on the disk.

        Raises CTEnhanceError when it cannot be written (disk full); all rows before are safe then, and the
        records stay usable.
        """
        n, when = len(self.rows) + 1, round(self.now(), 3)
        body = canonical({"n": n, "time": when, "kind": kind, **data})
        row = Row(n, when, kind, data, sha256_of(self.last_hash + body))
        with _sentences(self.path, self.reader):
            try:
                self._base.execute("INSERT INTO record (n, body, hash) VALUES (?, ?, ?)", (n, body, row.hash))
            except sqlite3.Error:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise
        self.rows.append(row)
        self._vouch(row)
        return row

    def _vouch(self, row: Row) -> None:
        # The row is safe already; a receipt that could not be written is made up for by the next one.
        with contextlib.suppress(OSError, CTEnhanceError):
            if self._receipt is None:
                self._receipt = _open_receipt(self.path, row)
            _write_receipt(self._receipt, row)

    def close(self) -> None:
        """Fold the log into the one file, which can then be copied, and give it free; may be called again."""
        with contextlib.suppress(
            sqlite3.Error
        ):  # closed already, or the disk is full: the log keeps the rows
            self._base.execute("PRAGMA journal_mode = DELETE")
        self._base.close()
        if self._receipt is not None:
            self._receipt.close()

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


def verify(path: Path, study_sha256: str, reader: str) -> tuple[list[Row], list[str]]:
    """Return a reader's rows and what is wrong with them, one sentence each; nothing is changed.

    Of a file that was changed, the rows before the first fault are returned.
    Raises InputError when there are no records, when they are open in a session, or cannot be opened at all.
    """
    if not path.is_file():
        raise InputError(f"There are no records of '{reader}' at '{path}'.")
    with _sentences(path, reader):
        base = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=0.2)
        try:
            return _examined(base, path, _start(study_sha256, reader))
        finally:
            base.close()


_NO_RECEIPT = "the receipt beside the records is missing"


def _examined(base: sqlite3.Connection, path: Path, start: str) -> tuple[list[Row], list[str]]:
    problems = []
    names = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
    if names != set(_TRIGGERS):
        problems.append("the triggers that forbid changes were removed")
    stored = list(base.execute("SELECT n, body, hash FROM record ORDER BY n"))
    rows: list[Row] = []
    last = start
    for n, body, digest in stored:
        row = _row(body, digest)
        if n != len(rows) + 1 or row is None or row.n != n or digest != sha256_of(last + body):
            problems.append(f"row {len(rows) + 1} was changed, removed or put in from elsewhere")
            break
        rows.append(row)
        last = digest
    if rows and rows[0].kind != BEGIN:
        problems.append("the first row is not the beginning")
    (issued,) = base.execute(
        "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'record'"
    ).fetchone()
    if len(stored) == len(rows) and issued != len(rows):
        problems.append(
            f"{counted(issued, 'row was', 'rows were')} written, but {counted(len(rows), 'is', 'are')} there"
        )
    problems += _receipt_problems(path, rows, stored)
    return rows, problems


def _row(body: Any, digest: Any) -> Row | None:
    try:
        values = json.loads(body)
        return Row(values.pop("n"), values.pop("time"), values.pop("kind"), values, digest)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _receipt(path: Path) -> Path:
    return path.with_suffix(".head")


def _open_receipt(path: Path, row: Row) -> IO[bytes]:
    place = _receipt(path)
    if not place.exists():  # made whole: one that was stopped while still empty would vouch for nothing
        write_text(place, _receipt_text(row))
    return open(place, "r+b")


def _write_receipt(file: IO[bytes], row: Row) -> None:
    # Always as long, written over in one piece and not synced: after a power cut it is the old one or the new
    # one, and an old one only vouches for fewer rows.
    file.seek(0)
    file.write(_receipt_text(row).encode("ascii"))
    file.flush()


def _receipt_text(row: Row) -> str:
    return f'{{"hash":"{row.hash}","rows":{row.n:12d}}}\n'


def _receipt_problems(path: Path, rows: list[Row], stored: list[Any]) -> list[str]:
    try:
        text = _receipt(path).read_text(encoding="ascii")
        if not text:  # earlier versions could be stopped between making it and writing it
            return [_NO_RECEIPT] if stored else []
        receipt = json.loads(text)
        n, last = int(receipt["rows"]), str(receipt["hash"])
    except FileNotFoundError:
        return [_NO_RECEIPT] if stored else []
    except (OSError, ValueError, TypeError, KeyError):
        return ["the receipt beside the records cannot be read"]
    if n > len(stored):
        return [
            f"the receipt tells of {counted(n, 'row')}, but {counted(len(stored), 'is', 'are')} there: the "
            "end was removed"
        ]
    # The receipt may be one row behind when the process was stopped between the two.
    if n < 1 or (n <= len(rows) and rows[n - 1].hash != last):
        return [f"row {n} is not the one that the receipt tells of"]
    return []


def _start(study_sha256: str, reader: str) -> str:
    return sha256_of(canonical([study_sha256, reader]))


@contextlib.contextmanager
def _sentences(path: Path, reader: str) -> Iterator[None]:
    """Turn what SQLite and the system say into one sentence that a reader can act on."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error).lower()
        if "locked" in text or "busy" in text:
            raise InputError(
                f"The study is open for '{reader}' in another window or program; close that one first."
            ) from error
        if "full" in text or "disk i/o" in text:
            raise CTEnhanceError(
                "Nothing could be saved because the disk is full or failing; free some space and "
                "answer again. All earlier answers are safe."
            ) from error
        if "readonly" in text or "unable to open" in text:
            raise InputError(
                f"The records '{path}' cannot be written; copy the study to a folder where you may write."
            ) from error
        raise InputError(
            f"The records '{path}' are damaged ({error}); tell the owner of the study."
        ) from error
    except OSError as error:
        raise InputError(f"The records '{path}' cannot be opened ({error.strerror or error}).") from error
