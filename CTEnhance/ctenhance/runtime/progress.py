"""Progress and cancellation, passed as plain arguments through every long computation.

Both may be None everywhere. Loops call `check(cancel)` at least twice a second on a CPU.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import IO, Any, Protocol

from ctenhance.runtime.errors import Cancelled

SECONDS_BETWEEN_EVENTS = 0.1
BARS_SHOWN = 6


class Progress(Protocol):
    """Told that `done` of `total` steps of the named stage are finished; 0: nobody knows of how many."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


class Cancellable(Protocol):
    """Anything with a truth value `.cancelled`."""

    @property
    def cancelled(self) -> bool: ...


class CancelToken:
    """Set once from a signal handler or another thread, looked at by the loops."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        """Ask the computation to stop at its next check."""
        self.cancelled = True


def check(cancel: Cancellable | None) -> None:
    """Raise `Cancelled` if the user asked to stop."""
    if cancel is not None and cancel.cancelled:
        raise Cancelled


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def write_event(event: str, stream: IO[str] | None, **fields: Any) -> None:
    """Write one event as one line of JSON, flushed, so that a parent process sees it at once."""
    out = sys.stdout if stream is None else stream
    out.write(json.dumps({"event": event, **fields}, ensure_ascii=True, allow_nan=False) + "\n")
    out.flush()


def json_progress(stream: IO[str] | None = None, clock: Callable[[], float] = time.monotonic) -> Progress:
    """Return a progress that writes JSON lines (standard output unless `stream` is given).

    At most ten a second, but always the first and the last of a stage, so that a reader sees each stage end.
    """
    last_stage: str | None = None
    last_time = 0.0

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last_stage, last_time
        now = clock()
        if stage == last_stage and (done < total or not total) and now - last_time < SECONDS_BETWEEN_EVENTS:
            return
        last_stage, last_time = stage, now
        write_event("progress", stream, stage=stage, done=int(done), total=int(total))

    return report


class BarProgress:
    """A terminal bar a stage, on standard error so that standard output stays clean for results.

    Call it like any progress; `close()` (or leaving a `with` block) gives the terminal back.
    """

    def __init__(self, stream: IO[str] | None = None) -> None:
        # Imported here: rich costs a tenth of a second that `--progress none` and `--help` need not pay.
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bars = RichProgress(
            TextColumn("{task.description}", markup=False),  # file names may hold brackets
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr if stream is None else stream),
        )
        self._tasks: dict[str, Any] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        self._bars.start()
        if stage not in self._tasks:
            if len(self._tasks) == BARS_SHOWN:  # a batch has hundreds of stages, a terminal few lines
                self._bars.remove_task(self._tasks.pop(next(iter(self._tasks))))
            self._tasks[stage] = self._bars.add_task(stage, total=total or None)
        self._bars.update(self._tasks[stage], completed=done, total=total or None)

    def close(self) -> None:
        """Stop drawing; may be called more than once."""
        if self._tasks:  # a bar that was never drawn would leave an empty line
            self._bars.stop()

    def __enter__(self) -> BarProgress:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
