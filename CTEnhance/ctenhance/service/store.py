"""What the service has received and what is to be done with it: files, and a SQLite file beside them.

An image is answered for only when its file, the file's name and the database's line are on the disk. Names
are hashes of UIDs, so that neither a path-like UID nor a patient shows in them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.files import space_left

_SCHEMA = """
CREATE TABLE IF NOT EXISTS series (
  key TEXT PRIMARY KEY, last REAL NOT NULL, expected INTEGER, state TEXT NOT NULL DEFAULT 'open', closed REAL,
  scan TEXT
);
CREATE TABLE IF NOT EXISTS images (
  series TEXT NOT NULL, key TEXT NOT NULL, bytes INTEGER NOT NULL, kept INTEGER NOT NULL DEFAULT 1,
  PRIMARY KEY (series, key)
);
CREATE TABLE IF NOT EXISTS jobs (
  id INTEGER PRIMARY KEY, series TEXT NOT NULL, pipeline TEXT NOT NULL, images TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'waiting', attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL DEFAULT 0,
  why TEXT NOT NULL DEFAULT '', UNIQUE (series, pipeline, images)
);
CREATE TABLE IF NOT EXISTS sent (job INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (job, name));
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
# `scan`: what the parts of a scan have in common whose every file is of a series of its own. Queues of
# earlier versions lack it.
_SINCE = """
ALTER TABLE series ADD COLUMN scan TEXT;
"""
_INDEX = """
CREATE INDEX IF NOT EXISTS series_scan ON series (scan);
"""
_HALF = ".part"
#: So many series of one image each, of one study and number, are one scan in parts.
FEWEST_PARTS = 3
#: No job waits longer for its next attempt.
LONGEST_WAIT_S = 3600.0


@dataclass(frozen=True)
class Job:
    """A pipeline's work on a series. States: waiting, made (the derived series is there), sent, failed, and
    superseded, by a job for more images of the series."""

    id: int
    series: str
    pipeline: str
    images: str
    state: str
    attempts: int


_ALONE = "(SELECT COUNT(*) FROM images WHERE images.series = series.key) = 1"


class Store:
    """The queue in a folder; one process at a time has it open."""

    def __init__(self, folder: Path, most_bytes: float, least_free_bytes: float) -> None:
        """Raises InputError for a folder that cannot be used, or that another service uses."""
        self.folder = folder
        # The clock that the queue goes by is set once: that somebody sets the system's ends no series early
        # and lets none wait.
        self._started = time.time() - time.monotonic()
        self._most, self._least_free = most_bytes, least_free_bytes
        self._lock = threading.RLock()
        try:
            for name in ("received", "work", "derived"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            os.chmod(folder, 0o700)  # patients' images
            self._alone = _lock_file(folder / "lock")
            self._data = sqlite3.connect(
                folder / "queue.sqlite", isolation_level=None, check_same_thread=False
            )
            self._data.execute("PRAGMA journal_mode=WAL")
            self._data.execute("PRAGMA synchronous=FULL")
            self._data.executescript(_SCHEMA)
            if "scan" not in {row[1] for row in self._data.execute("PRAGMA table_info(series)")}:
                self._data.executescript(_SINCE)
            self._data.executescript(_INDEX)
            self._bytes = 0
            self._take_up()
            self._bytes = int(self._one("SELECT COALESCE(SUM(bytes), 0) FROM images WHERE kept") or 0)
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"The queue's folder '{folder}' cannot be used ({error}).") from error

    def now(self) -> float:
        """Seconds since 1970, by a clock that only goes on."""
        return self._started + time.monotonic()

    def close(self) -> None:
        """Let another service have the queue."""
        with self._lock:
            self._data.close()
            self._alone.close()

    def _take_up(self) -> None:
        """Put right what a killed service left: half files go, whole ones without a line get one."""
        shutil.rmtree(self.folder / "work", ignore_errors=True)
        (self.folder / "work").mkdir(exist_ok=True)
        for path in (self.folder / "derived").iterdir():
            if not path.name.isdecimal():
                shutil.rmtree(path, ignore_errors=True)
        for (series,) in self._data.execute("SELECT key FROM series WHERE state = 'cleared'"):
            shutil.rmtree(self.folder / "received" / series, ignore_errors=True)
        # While the service was away nothing could come: that was no quiet.
        self._data.execute("UPDATE series SET last = ? WHERE state = 'open'", (self.now(),))
        # Nor has anything happened yet that a clock set back since says is to come.
        self._data.execute("UPDATE series SET closed = MIN(closed, ?)", (self.now(),))
        self._data.execute("UPDATE jobs SET due = MIN(due, ?)", (self.now() + LONGEST_WAIT_S,))
        known = {(series, key) for series, key in self._data.execute("SELECT series, key FROM images")}
        for path in (self.folder / "received").glob("*/*"):
            if path.suffix == _HALF:
                path.unlink(missing_ok=True)
            elif (path.parent.name, path.stem) not in known:
                self._enter(path.parent.name, path.stem, path.stat().st_size, None)

    # Images

    def room(self) -> bool:
        """Whether there is room for another image, by the limits of the settings."""
        with contextlib.suppress(OSError):
            return self._bytes < self._most and space_left(self.folder) > self._least_free
        return False

    def add(self, series: str, uid: str, content: bytes, expected: int | None = None, scan: str = "") -> bool:
        """Keep an image for good, and return whether it is a new one; raises OSError or
        sqlite3.Error where it cannot be kept.

        `series`: `key_of` its UIDs; `uid`: its SOP Instance UID; `content`: the whole file; `scan`: `key_of`
        its study and series number."""
        key = key_of(uid)
        folder = self.folder / "received" / series
        path = folder / f"{key}.dcm"
        half = folder / f"{key}.{threading.get_ident()}{_HALF}"
        with self._lock:
            # Only what was done away with since is kept again.
            if self._one("SELECT kept FROM images WHERE series = ? AND key = ?", series, key):
                self._data.execute(
                    "UPDATE series SET last = ? WHERE key = ? AND state = 'open'", (self.now(), series)
                )
                self.count("repeated")
                return False
        folder.mkdir(exist_ok=True)
        try:
            with half.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(half, path)
        except BaseException:
            half.unlink(missing_ok=True)
            raise
        _sync_folder(folder)
        _sync_folder(folder.parent)
        with self._lock:
            if not path.is_file():
                raise OSError("the series was cleared at this moment")
            self._enter(series, key, len(content), expected, scan)
        return True

    def _enter(self, series: str, key: str, size: int, expected: int | None, scan: str = "") -> None:
        with self._lock, self._transaction():
            added = self._data.execute(
                "INSERT INTO images (series, key, bytes) VALUES (?, ?, ?) "
                "ON CONFLICT (series, key) DO UPDATE SET kept = 1, bytes = excluded.bytes WHERE NOT kept",
                (series, key, size),
            )
            self._data.execute(
                "INSERT INTO series (key, last, expected, scan) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET last = excluded.last, state = 'open', "
                "expected = COALESCE(excluded.expected, expected), scan = COALESCE(excluded.scan, scan)",
                (series, self.now(), expected, scan or None),
            )
            if added.rowcount:
                self.count("received")
        if added.rowcount:
            self._bytes += size

    # Series and jobs

    def complete(self, quiet_s: float) -> list[str]:
        """The open series for which nothing has come for so long, or that have all their images."""
        with self._lock:
            rows = self._data.execute(
                "SELECT key FROM series WHERE state = 'open' AND (last <= ? OR expected <= "
                "(SELECT COUNT(*) FROM images WHERE images.series = series.key)) ORDER BY last",
                (self.now() - quiet_s,),
            ).fetchall()
        return [row[0] for row in rows]

    def close_series(self, series: str, pipelines: Sequence[str]) -> bool:
        """Have these pipelines work on what has been received of a series; it is done with once they have.

        Not, and False is returned, where images came late, when others of the series had been cleared."""
        with self._lock, self._transaction():
            whole = not self._one("SELECT 1 FROM images WHERE series = ? AND NOT kept", series)
            if not whole:
                pipelines = []
                self.count("series_incomplete")
            images = self.images_of(series)
            for name in pipelines:
                self._data.execute(
                    "INSERT OR IGNORE INTO jobs (series, pipeline, images) VALUES (?, ?, ?)",
                    (series, name, images),
                )
            self._data.execute(
                "UPDATE series SET state = 'closed', closed = ? WHERE key = ?", (self.now(), series)
            )
            if whole:
                self.count("series" if pipelines else "series_without_pipeline")
        return whole

    def parts(self, series: str) -> int:
        """How many series of one image each the scan has that this one is of, itself counted; 0 where this
        one has more images."""
        with self._lock:
            scan = self._one(f"SELECT scan FROM series WHERE key = ? AND {_ALONE}", series)
            return int(self._one(f"SELECT COUNT(*) FROM series WHERE scan = ? AND {_ALONE}", scan))

    def images_of(self, series: str) -> str:
        """A hash of which images a series has, in any order."""
        with self._lock:
            keys = self._data.execute(
                "SELECT key FROM images WHERE series = ? ORDER BY key", (series,)
            ).fetchall()
        return key_of("\n".join(key for (key,) in keys))

    def files_of(self, series: str) -> list[Path]:
        """The files of a series; raises OSError where some that are kept are not there."""
        with self._lock:
            keys = self._data.execute(
                "SELECT key FROM images WHERE series = ? AND kept ORDER BY key", (series,)
            ).fetchall()
        files = [self.folder / "received" / series / f"{key}.dcm" for (key,) in keys]
        gone = sum(not path.is_file() for path in files)
        if gone:
            raise OSError(f"{gone} of {len(files)} images are gone from the queue's folder")
        return files

    def input_of(self, job: Job) -> Path | None:
        """A folder with the images that a job was made for; None where others have come since."""
        folder = self.folder / "work" / str(job.id)
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "input").mkdir(parents=True)
        with self._lock:
            if self.images_of(job.series) != job.images:
                return None
            for path in self.files_of(job.series):
                try:
                    os.link(path, folder / "input" / path.name)
                except OSError:  # a file system without such links
                    shutil.copyfile(path, folder / "input" / path.name)
        return folder / "input"

    def next_job(self, state: str) -> Job | None:
        """The job in this state that is due first."""
        with self._lock:
            row = self._data.execute(
                "SELECT id, series, pipeline, images, state, attempts FROM jobs WHERE state = ? "
                "AND due <= ? ORDER BY due, id LIMIT 1",
                (state, self.now()),
            ).fetchone()
        return None if row is None else Job(*row)

    def put_job(self, job: Job, state: str, why: str = "", due: float = 0.0, attempts: int = 0) -> None:
        """Say how a job stands; `why` without anything that identifies a patient."""
        with self._lock, self._transaction():
            self._data.execute(
                "UPDATE jobs SET state = ?, why = ?, due = ?, attempts = ? WHERE id = ?",
                (state, why, due, attempts, job.id),
            )
            if state != job.state:
                self.count(f"jobs_{state}")

    def derived(self, job: Job) -> Path:
        """The folder of what a job makes."""
        return self.folder / "derived" / str(job.id)

    def sent(self, job: Job) -> set[str]:
        """The names of a job's files that have arrived."""
        with self._lock:
            return {name for (name,) in self._data.execute("SELECT name FROM sent WHERE job = ?", (job.id,))}

    def put_sent(self, job: Job, name: str) -> None:
        """Say that a file has arrived."""
        with self._lock, self._transaction():
            self._data.execute("INSERT OR IGNORE INTO sent (job, name) VALUES (?, ?)", (job.id, name))
            self.count("sent")

    def clear(self, keep_s: float) -> None:
        """Remove the images of series that have been done with for so long; that they came is remembered."""
        with self._lock:
            rows = self._data.execute(
                "SELECT key FROM series WHERE state = 'closed' AND closed <= ? AND NOT EXISTS (SELECT 1 "
                "FROM jobs WHERE jobs.series = series.key AND jobs.state IN ('waiting', 'made'))",
                (self.now() - keep_s,),
            ).fetchall()
            for (series,) in rows:
                with self._transaction():
                    self._data.execute("UPDATE series SET state = 'cleared' WHERE key = ?", (series,))
                    self._data.execute("UPDATE images SET kept = 0 WHERE series = ?", (series,))
                shutil.rmtree(self.folder / "received" / series, ignore_errors=True)
                for (job,) in self._data.execute(
                    "SELECT id FROM jobs WHERE series = ?", (series,)
                ).fetchall():
                    shutil.rmtree(self.folder / "derived" / str(job), ignore_errors=True)
            if rows:
                self._bytes = int(self._one("SELECT COALESCE(SUM(bytes), 0) FROM images WHERE kept") or 0)

    # Counters

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self._data.execute(
                "INSERT INTO counts VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                (name, by),
            )

    def counters(self) -> dict[str, int]:
        """What has been counted since the queue was made, and how it stands now (`now_…`)."""
        with self._lock:
            found = {
                str(name): int(value) for name, value in self._data.execute("SELECT name, value FROM counts")
            }
            states = self._data.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state").fetchall()
            opened = int(self._one("SELECT COUNT(*) FROM series WHERE state = 'open'") or 0)
            images = int(self._one("SELECT COUNT(*) FROM images WHERE kept") or 0)
            parts = self._data.execute(
                f"SELECT COUNT(*) FROM series WHERE state != 'cleared' AND scan IS NOT NULL AND {_ALONE} "
                "GROUP BY scan HAVING COUNT(*) >= ?",
                (FEWEST_PARTS,),
            ).fetchall()
        now = {f"now_jobs_{state}": int(count) for state, count in states}
        now["now_scans_in_parts"] = len(parts)
        return {**found, **now, "now_open_series": opened, "now_images": images, "now_bytes": self._bytes}

    def failures(self) -> list[str]:
        """Why the last jobs that were given up failed."""
        with self._lock:
            rows = self._data.execute(
                "SELECT pipeline, why FROM jobs WHERE state = 'failed' ORDER BY id DESC LIMIT 10"
            ).fetchall()
        return [f"{pipeline}: {why}" for pipeline, why in rows]

    def _one(self, statement: str, *values: object) -> Any:
        with self._lock:
            row = self._data.execute(statement, values).fetchone()
        return None if row is None else row[0]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        if self._data.in_transaction:  # a part of a larger one
            yield
            return
        self._data.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._data.execute("COMMIT")
        except BaseException:
            if self._data.in_transaction:  # not where a full disk has ended it already
                self._data.execute("ROLLBACK")
            raise


def key_of(*uids: str) -> str:
    """The name of what these UIDs identify."""
    return hashlib.sha256("\0".join(uids).encode("utf-8", "surrogateescape")).hexdigest()[:40]


def failure(error: Exception) -> str:
    """Why something failed, in words that name no file and no patient."""
    if isinstance(error, sqlite3.Error):
        return f"the queue's list cannot be used: {error}"
    if isinstance(error, OSError):
        return error.strerror or str(error) or "the disk failed"
    return str(error) if isinstance(error, CTEnhanceError) else type(error).__name__


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere the system has no such call
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _Alone:
    def __init__(self, lock: object) -> None:
        self._lock = lock

    def close(self) -> None:
        self._lock.release()  # type: ignore[attr-defined]


def _lock_file(path: Path) -> _Alone:
    import filelock

    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise CTEnhanceError(f"Another service uses the queue '{path.parent}'; end it first.") from error
    return _Alone(lock)
