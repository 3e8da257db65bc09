"""When a result counts as finished, so that a run over many cases can go on where it was stopped.

The report beside a result says what it was made of, how, and which file came out. A case is finished only
when all three still hold: the same voxels, the same settings and weights, the same file. To look at
thousands of cases in seconds, files are known again by their size and times; only where these differ are the
bytes of the result, or the voxels of the input, looked at again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ctenhance.core.report import write_report
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import move, stem_of

# File systems keep times to 2 s at worst: a file younger than this may change again without showing it.
SETTLED_SECONDS = 3.0
LOCK = ".ctenhance-batch.lock"


def report_of(result: Path) -> Path:
    """Return where the report of a result lies: 'a.report.json' beside 'a.nii.gz'."""
    return result.with_name(f"{stem_of(result)}.report.json")


def read_report(path: Path) -> dict[str, Any]:
    """Return the report, or an empty one where there is none or none that can be read."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return report if isinstance(report, dict) else {}


def files_state(files: Iterable[Path]) -> str:
    """Return a hash of the files' names, sizes and times; it changes when one of them is written again.

    Raises OSError for a file that is not there.
    """
    digest = hashlib.sha256()
    for file in files:
        found = file.stat()
        # The time of the last change of the entry cannot be set back by a program that copies times along.
        digest.update(os.fsencode(file.name))
        digest.update(f"\0{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}\0".encode())
    return digest.hexdigest()


def settled(files: Iterable[Path]) -> bool:
    """Say whether all of the files are old enough for `files_state` to show any later change."""
    return all(time.time() - file.stat().st_mtime > SETTLED_SECONDS for file in files)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class Finished:
    """What the report beside a result says, held against what is there now.

    `further` files belong to the result, and `report` is where the report lies if not beside it. The `state`
    of an input is `files_state` of its files, or '' where that would not show every change.
    """

    def __init__(self, result: Path, further: Sequence[Path] = (), report: Path | None = None) -> None:
        self.result = result
        self.further = further
        self.place = report_of(result) if report is None else report
        self.report = read_report(self.place)

    def other_setting(self, asked: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
        """Return the first setting that differs as (name, as made, as asked), or None.

        `asked` as `settings_of` gives it. None also where nothing would be lost: no result, or no report of
        such a one.
        """
        known = settings_of(self.report)
        if known["verb"] != asked["verb"] or not os.path.isfile(self.result):
            return None
        if not self.result.stat().st_size:
            return None
        for name, value in asked.items():
            if known.get(name) != value:
                return name, known.get(name), value
        return None

    def holds(
        self, asked: Mapping[str, Any], *, state: str = "", identity: Mapping[str, Any] | None = None
    ) -> bool:
        """Say whether it is finished: made so, of this input, and whole.

        Give the input's `state` (False says no more than that the input has to be read), or, once it has
        been read, its `identity`: what the report's `input` must say of its voxels and grid.
        """
        known, settings = self._part("input"), settings_of(self.report)
        if identity is None:
            same = bool(state) and known.get("files_state") == state
        else:
            same = all(known.get(name) == value for name, value in identity.items())
        as_asked = all(settings.get(name) == value for name, value in asked.items())
        return same and as_asked and self.whole()

    def whole(self) -> bool:
        """Say whether the result is the very file, or files, that were written."""
        written = self._part("output")
        others = written.get("further")
        if self.further and not isinstance(others, dict):
            return False
        return _is(self.result, written) and all(
            _is(path, (others or {}).get(path.name)) for path in self.further
        )

    def write(
        self,
        report: Mapping[str, Any],
        state: str,
        identity: Mapping[str, Any],
        folder: Path | None = None,
    ) -> None:
        """Write the report of a result that has just been written, or of a finished one whose files moved.

        With a `folder` on the same disk it is written there and then moved to its place.
        Raises what `write_report` raises, and OSError when the result is not there.
        """
        output: dict[str, Any] = _described(self.result)
        if self.further:
            output["further"] = {path.name: _described(path) for path in self.further}
        source = {**(report.get("input") or {}), **identity, "files_state": state}
        self.report = {**report, "input": source, "output": output}
        if folder is None:
            write_report(self.place, self.report)
        else:
            write_report(folder / self.place.name, self.report)
            move(folder / self.place.name, self.place)

    def _part(self, name: str) -> dict[str, Any]:
        part = self.report.get(name)
        return part if isinstance(part, dict) else {}


def _described(path: Path) -> dict[str, Any]:
    return {
        "bytes": path.stat().st_size,
        "sha256": file_sha256(path),
        "files_state": files_state([path]),
    }


def _is(path: Path, written: Any) -> bool:
    """Whether a file is the one that `_described` once said."""
    if not isinstance(written, dict):
        return False
    try:
        if not path.is_file() or path.stat().st_size != written.get("bytes"):
            return False
        if files_state([path]) == written.get("files_state"):
            return True
        return file_sha256(path) == written.get("sha256")
    except OSError:
        return False


def settings_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that decides on the result besides the input, from a report: settings, seed and weights."""
    settings, model, batch = report.get("settings"), report.get("model"), report.get("batch")
    model = model if isinstance(model, Mapping) else {}
    # reports from before there was a choice do not say it
    earlier = {"keep_faint": 0.0} if report.get("verb") == "enhance" else {}
    return {
        "verb": report.get("verb"),
        "model": model.get("name"),
        "weights": model.get("sha256"),
        "seed": report.get("seed"),
        **(batch if isinstance(batch, Mapping) else {}),
        **(earlier | dict(settings) if isinstance(settings, Mapping) else {}),
    }


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Keep other batches out of a folder of results for as long as the block runs.

    The operating system holds the lock, so it is gone with the process, however that ends; its empty file
    stays. Raises InputError when another batch is writing into the folder.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"Another batch is writing into '{folder}'; wait until it has ended, or name another folder."
        ) from error
    except (OSError, NotImplementedError):  # a network folder without locks
        yield
        return
    try:
        yield
    finally:
        lock.release()
