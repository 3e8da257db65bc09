"""Many scans, one after the other, in the background: what `ctenhance batch` is at, case by case.

The command keeps a record in the folder of the results (`manifest.sqlite`), which this reads and never
writes: from it comes the list of the cases, and which files a case is.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from ctenhance.options import EnhanceOptions
from CTEnhanceLib.process.texts import durationText, stageText
from CTEnhanceLib.process.worker import Worker, WorkerProgress

MOST_LISTED = 5000
_WAITING, _RUNNING = "waiting", "running"
_FINISHED = ("done", "finished before")


@dataclass
class CaseState:
    """A case as the list shows it. `state`: waiting, running, done, finished before, failed, left out."""

    name: str
    state: str = _WAITING
    stage: str = ""
    why: str = ""
    seconds: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether its result is there."""
        return self.state in _FINISHED

    def text(self) -> str:
        """Return the state for people."""
        return (self.stage if self.state == _RUNNING else "") or _states().get(self.state, self.state)


@functools.cache
def _states() -> dict[str, str]:
    """Return what the states are called: looked up once, not for each of thousands of cases."""
    return {
        _WAITING: _("waiting"),
        _RUNNING: _("running"),
        "done": _("done"),
        "finished before": _("finished before"),
        "failed": _("failed"),
        "left out": _("left out"),
    }


class Batch:
    """One run of the command over a folder.

    onCase(CaseState), where one has changed or come; onListed(), where many have; onProgress(sentence,
    percentage); onEnded(sentence, failed), once all is over.
    """

    def __init__(
        self,
        onCase: Callable[[CaseState], None],
        onListed: Callable[[], None],
        onProgress: Callable[[str, float], None],
        onEnded: Callable[[str, bool], None],
    ) -> None:
        self._onCase, self._onListed = onCase, onListed
        self._onProgress, self._onEnded = onProgress, onEnded
        self.cases: dict[str, CaseState] = {}
        self.target = Path()
        self._worker: Worker | None = None
        self._started = 0.0
        self._ended, self._total = 0, 0

    @property
    def running(self) -> bool:
        """Whether it is on its way."""
        return self._worker is not None

    @property
    def log(self) -> str:
        """What the command said besides."""
        return "" if self._worker is None else self._worker.log

    def start(self, source: Path, target: Path, options: EnhanceOptions, overwrite: bool = False) -> None:
        """Begin, or go on where it was stopped. Raises CTEnhanceError when there is no Python."""
        self.cases, self.target = {}, target
        self._started, self._ended, self._total = time.monotonic(), 0, 0
        self._worker = Worker(
            self._onFinished, self._onFailed, self._onCancelled, self._onWorker, {"search": 1}, self._take
        )
        # One case after the other: each uses all cores, and nothing else has to be installed.
        arguments = ["batch", str(source), str(target), "--workers", "0", *options.to_arguments()]
        try:
            self._worker.start([*arguments, *(["--overwrite"] if overwrite else [])])
        except BaseException:
            self._worker = None
            raise

    def cancel(self) -> None:
        """Stop; what is finished stays."""
        if self._worker is not None:
            self._worker.cancel()

    def kill(self) -> None:
        """End it at once, for when the module goes."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None

    def _onWorker(self, _progress: WorkerProgress) -> None:
        """Percentages are made of the cases, in `_take`."""

    def _take(self, event: Mapping[str, Any]) -> None:
        """Follow one event of the command."""
        kind = event.get("event")
        if kind == "case":
            case = self._case(str(event["name"]))
            case.state, case.why = str(event["state"]), str(event.get("why") or "")
            case.seconds = float(event.get("seconds") or 0.0)
            self._onCase(case)
        elif kind == "progress":
            stage, done, total = str(event["stage"]), int(event["done"]), max(1, int(event["total"]))
            name, _colon, part = stage.rpartition(": ")
            if stage == "cases":
                self._ended = done
                if total != self._total:  # the search goes on while the first cases are done
                    self._total = total
                    self._list()
                self._onProgress(self._sentence(done, total), 100.0 * done / total)
            elif stage == "search":
                self._onProgress(
                    _("Looking for CTs: folder {done} of {total}").format(done=done, total=total), 0
                )
            elif name:
                case = self._case(name)
                if not case.finished:
                    case.state = _RUNNING
                    case.stage = f"{stageText(part)} {100 * done / total:.0f} %"
                    self._onCase(case)

    def _case(self, name: str) -> CaseState:
        return self.cases.setdefault(name, CaseState(name))

    def _list(self) -> None:
        for name, state in listed(self.target):
            case = self._case(name)
            if case.state == _WAITING:
                case.state = state
        self._onListed()

    def _sentence(self, done: int, total: int) -> str:
        text = _("{done} of 1 case") if total == 1 else _("{done} of {total} cases")
        text = text.format(done=done, total=total)
        since = time.monotonic() - self._started
        if 0 < done < total:
            left = durationText(since / done * (total - done))
            text = _("{cases}, about {time} left").format(cases=text, time=left)
        return text

    def _counts(self) -> str:
        states = [case.state for case in self.cases.values()]
        named = (
            ("done", _("{count} done")),
            ("finished before", _("{count} finished before")),
            ("failed", _("{count} failed")),
            ("left out", _("{count} left out")),
        )
        parts = [text.format(count=states.count(state)) for state, text in named if state in states]
        return ", ".join(parts)

    def _onFinished(self, _event: Mapping[str, Any]) -> None:
        self._end(_("Finished: {counts}.").format(counts=self._counts()), False)

    def _onFailed(self, sentence: str) -> None:
        self._end(sentence, True)

    def _onCancelled(self) -> None:
        text = (
            _("Cancelled with 1 case finished; it stays, and Start goes on from there.")
            if self._ended == 1
            else _("Cancelled with {done} cases finished; they stay, and Start goes on from there.")
        )
        self._end(text.format(done=self._ended), False)

    def _end(self, sentence: str, failed: bool) -> None:
        self._worker = None
        for case in self.cases.values():
            if case.state == _RUNNING:
                case.state, case.stage = _WAITING, ""
                self._onCase(case)
        self._onEnded(sentence, failed)


def listed(target: Path) -> list[tuple[str, str]]:
    """Return name and state of the cases of the last batch into a folder, in their order; the first 5000."""
    query = "SELECT name, state FROM cases WHERE run = (SELECT max(id) FROM runs) ORDER BY number LIMIT ?"
    return [(str(name), str(state)) for name, state in _rows(target, query, MOST_LISTED)]


def caseOf(target: Path, name: str) -> Any:
    """Return the case (`ctenhance.batch.case.Case`) of that name, or None where no record tells of it."""
    from ctenhance.batch.case import Case

    found = [text for (text,) in _rows(target, "SELECT task FROM cases WHERE name = ?", name) if text]
    return Case.from_text(found[0]) if found else None


def _rows(target: Path, query: str, value: Any) -> list[tuple[Any, ...]]:
    """Ask the record of a folder of results; nothing where there is none that can be read."""
    from ctenhance.batch.case import MANIFEST, OWN_FOLDER

    path = target / OWN_FOLDER / MANIFEST
    if not path.is_file():
        return []
    try:
        base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1)
        with contextlib.closing(base):
            return base.execute(query, (value,)).fetchall()
    except sqlite3.Error:
        return []
