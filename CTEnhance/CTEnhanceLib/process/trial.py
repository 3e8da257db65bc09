"""How long a run will take here: two slices are tried, in the background, and the time is carried over.

A figure from another computer would say nothing: processors differ tenfold, graphics cards a hundredfold.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qt

from ctenhance.runtime.errors import CTEnhanceError
from CTEnhanceLib.process import transfer
from CTEnhanceLib.process.run import Command, Job
from CTEnhanceLib.process.steps import TimedSteps
from CTEnhanceLib.process.worker import Worker

SLICES = 2
#: Whoever has not done two slices by then is left alone: it keeps the processor from other work.
MOST_SECONDS = 120.0


@dataclass(frozen=True)
class Pace:
    """What a trial took: all of it (seconds), and each slice after the first; `total`: how many slices there
    are, where the trial itself has found out."""

    whole: float
    slice: float
    total: int | None = None

    def seconds(self, slices: int) -> float:
        """Return what so many slices take."""
        return self.whole + max(0, slices - SLICES) * self.slice


class Trial:
    """Tries a job; `onDone(Pace or None)` is called when it is over, None: it has failed.

    A job that has a `few` is tried on those slices; any other is left when it has done two.
    """

    def __init__(self, onDone: Callable[[Pace | None], None]) -> None:
        self._onDone = onDone
        self._folder: Path | None = None
        self._job: Job | None = None
        self._steps: TimedSteps | None = None
        self._worker: Worker | None = None
        self._commands: list[Command] = []
        self._paces: list[Pace] = []
        self._times: dict[int, float] = {}
        self._whole = False
        self._stage, self._started = "", 0.0

    @property
    def running(self) -> bool:
        """Whether it is on its way."""
        return self._folder is not None

    def start(self, job: Job) -> None:
        """Begin; returns at once."""
        self.stop()
        few = job.few()
        self._job, self._whole = few or job, few is None
        try:
            self._folder = transfer.runFolder()
        except CTEnhanceError:
            self._end(None)
            return
        self._steps = TimedSteps(self._job.prepare(self._folder), self._run, lambda _error: self._end(None))

    def stop(self) -> None:
        """Leave it; nobody is told."""
        if self._steps is not None:
            self._steps.cancel()
        if self._worker is not None:
            self._worker.kill()
        self._clear()

    def _run(self) -> None:
        if self._folder is None or self._job is None:
            return
        self._steps, self._paces = None, []
        try:
            last = Command(self._job.arguments(self._folder), self._job.stages)
            self._commands = [*self._job.preceding(self._folder), last]
        except CTEnhanceError:
            self._end(None)
            return
        self._next()

    def _next(self) -> None:
        """Have a process of its own work on the next command."""
        command = self._commands[len(self._paces)]
        self._times, self._started = {}, time.monotonic()
        # The stage that takes longest is the one that goes slice by slice.
        self._stage = max(command.stages, key=lambda name: command.stages[name])
        self._worker = Worker(
            lambda _event: self._finished(),
            lambda _sentence: self._end(None),
            lambda: None,
            lambda _progress: None,
            {},
            self._take,
        )
        try:
            self._worker.start(list(command.arguments))
        except CTEnhanceError:
            self._worker = None
            self._end(None)

    def _take(self, event: Mapping[str, Any]) -> None:
        if event.get("event") != "progress":
            return
        now, total = time.monotonic(), None
        if event.get("stage") == self._stage:
            self._times.setdefault(int(event["done"]), now)
            total = int(event["total"])
        if not self._whole or len(self._paces) + 1 < len(self._commands):
            return
        if total is not None and int(event["done"]) >= min(SLICES, total):
            pace = Pace(now - self._started, self._each(now - self._started), total)
            self._leave(pace)
        elif now - self._started > MOST_SECONDS:
            self._leave(None)

    def _leave(self, pace: Pace | None) -> None:
        """End what has told enough; not now, when its worker is in the middle of telling."""
        worker, folder, self._whole = self._worker, self._folder, False
        if worker is None:
            return

        def end() -> None:
            if self._folder is folder and self._worker is worker:
                worker.kill()
                self._end(pace)

        qt.QTimer.singleShot(0, end)

    def _finished(self) -> None:
        whole = time.monotonic() - self._started
        self._paces.append(Pace(whole, self._each(whole)))
        if len(self._paces) < len(self._commands):
            self._next()
        else:
            self._end(Pace(sum(one.whole for one in self._paces), sum(one.slice for one in self._paces)))

    def _each(self, whole: float) -> float:
        """Return the seconds of one slice: from the first one's end on, which had to wait for the engine."""
        done = [number for number in self._times if number > 0]
        steps = max(done, default=0) - min(done, default=0)
        # Where both came at once nothing tells one slice from the start of the engine, unless the verb does.
        further = self._commands[len(self._paces)].further
        return (self._times[max(done)] - self._times[min(done)]) / steps if steps else whole * further

    def _end(self, pace: Pace | None) -> None:
        self._worker = None
        self._clear()
        self._onDone(pace)

    def _clear(self) -> None:
        self._steps = self._worker = self._job = None
        if self._folder is not None:
            transfer.removeFolder(self._folder)
            self._folder = None
