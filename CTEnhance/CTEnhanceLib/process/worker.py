"""The worker: `PythonSlicer -m ctenhance …` as a child process, its events, its end and its ending.

The child writes JSON lines to its standard output (`ctenhance.runtime.progress`). Only a normal exit with
code 0 after a result event is a success; everything else is reported as one sentence. Ending it means its
whole process tree: PythonSlicer is a launcher, and the interpreter that computes is a child of it. When
Slicer itself is killed, the child sees that it is gone, and ends.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ctenhance.runtime.errors import CTEnhanceError
from CTEnhanceLib.process.child import Child, Listeners, start

# How long a child may take to end in order before it is killed.
GRACE_SECONDS = 3.0
_POLL_MILLISECONDS = 100
_LOG_LINES = 400
# Of a process's niceness: how much later than Slicer the child has its turn.
_STEPS_BACK = 10
_NICEST = 19

PACKAGE_FOLDER = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class WorkerProgress:
    """How far the worker is: its stage, per cent of the whole, seconds left (None: not known yet)."""

    stage: str
    percent: float
    secondsLeft: float | None


class TimeLeft:
    """Estimates the time that a stage still takes from its steps so far."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage = ""
        self._first: tuple[float, int] = (0.0, 0)

    def __call__(self, stage: str, done: int, total: int) -> float | None:
        """Return the seconds left, or None as long as there is nothing to judge by."""
        now = self._clock()
        if stage != self._stage:
            # From the first event on, not from the start: the first step waits for the model to load.
            self._stage, self._first = stage, (now, done)
            return None
        since, steps = now - self._first[0], done - self._first[1]
        return None if steps <= 0 else since / steps * max(0, total - done)


def pythonExecutable() -> str:
    """Return the path of PythonSlicer. Raises CTEnhanceError when there is none."""
    found = shutil.which("PythonSlicer")
    if found is None:
        raise CTEnhanceError(_("Slicer's own Python (PythonSlicer) was not found: reinstall Slicer."))
    return found


def childEnvironment() -> dict[str, str]:
    """Return what the child's environment has besides ours: it finds `ctenhance` and speaks UTF-8."""
    paths = [str(PACKAGE_FOLDER), os.environ.get("PYTHONPATH", "")]
    return {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONIOENCODING": "utf-8",
        # Cards are numbered as nvidia-smi and the device list number them.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        # Should Slicer be killed, the child ends, too (`ctenhance.runtime.parent`).
        "CTENHANCE_PARENT": str(os.getpid()),
        # Tracebacks go to the details.
        "CTENHANCE_DEBUG": "1",
    }


class ProcessTree:
    """A process and all that it started, as they were when asked; ends them even if the first one is gone."""

    def __init__(self, pid: int) -> None:
        # psutil is one of the packages that Apply installs; without it only the child itself can be ended.
        self._processes: list[Any] = []
        if pid <= 0:  # not started; 0 is the system's own on some systems
            return
        with contextlib.suppress(ImportError):
            self._psutil = importlib.import_module("psutil")
            with contextlib.suppress(self._psutil.Error):
                root = self._psutil.Process(pid)
                self._processes = [*root.children(recursive=True), root]

    def alive(self) -> list[Any]:
        """Return the processes that still run (a zombie does not)."""
        found = []
        for process in self._processes:
            with contextlib.suppress(self._psutil.Error):
                if process.is_running() and process.status() != self._psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def terminate(self) -> None:
        """Ask all of them to end."""
        self._each("terminate")

    def kill(self) -> None:
        """End all of them at once."""
        self._each("kill")

    def _each(self, action: str) -> None:
        for process in self.alive():
            with contextlib.suppress(self._psutil.Error):
                getattr(process, action)()


class Worker:
    """One run of the command line in a process of its own; a new run needs a new Worker.

    `stages` are the verb's, in their order, with what each takes of the whole time (any unit): so the
    percentage is one of the whole. A stage that is not among them leaves the percentage where it is.

    Exactly one of `onFinished(result event)`, `onFailed(sentence)` and `onCancelled()` is called, once the
    whole process tree has ended; `onProgress(WorkerProgress)` before it. `log` keeps what the child said
    besides.
    """

    def __init__(
        self,
        onFinished: Callable[[Mapping[str, Any]], None],
        onFailed: Callable[[str], None],
        onCancelled: Callable[[], None],
        onProgress: Callable[[WorkerProgress], None],
        stages: Mapping[str, float],
        onEvent: Callable[[Mapping[str, Any]], None] = lambda event: None,
    ) -> None:
        self._onEvent = onEvent
        self._onFinished, self._onFailed, self._onCancelled = onFinished, onFailed, onCancelled
        self._onProgress, self._stages, self._percent = onProgress, dict(stages), 0.0
        self._process: Child | None = None
        self._tree: ProcessTree | None = None
        self._timeLeft = TimeLeft()
        self._pending = b""
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._result: Mapping[str, Any] | None = None
        self._error = ""
        self._cancelled = False
        self._killAt = 0.0
        # With a parent: without one PythonQt deletes an object when we let go of it, perhaps in the middle
        # of its own signal.
        self._poll = qt.QTimer(slicer.app)
        self._poll.setInterval(_POLL_MILLISECONDS)
        self._poll.connect("timeout()", self._untilGone)

    @property
    def running(self) -> bool:
        """Whether the child is there, or ending."""
        return self._process is not None

    @property
    def log(self) -> str:
        """What the child wrote besides its events: warnings, tracebacks."""
        return "\n".join(self._log)

    def start(self, arguments: list[str]) -> None:
        """Start `python -m ctenhance ARGUMENTS --progress json`; CTEnhanceError when there is no Python."""
        program = pythonExecutable()
        listeners = Listeners(self._readOutput, self._readErrors, self._ended, self._broke)
        command = ["-m", "ctenhance", *arguments, "--progress", "json"]
        self._process = start(program, command, childEnvironment(), listeners)
        _stepBack(self._process.pid)

    def cancel(self) -> None:
        """Ask the whole process tree to end, and kill what is left after a few seconds; returns at once."""
        if self._process is None or self._cancelled:
            return
        self._cancelled = True
        self._tree = ProcessTree(self._process.pid)
        self._tree.terminate()
        if not self._tree.alive():
            self._process.terminate()
        self._killAt = time.monotonic() + GRACE_SECONDS
        self._poll.start()

    def kill(self) -> None:
        """End the whole process tree now, without a word; for when the application goes."""
        if self._process is None:
            return
        process, self._process = self._process, None
        self._poll.stop()
        self._poll.deleteLater()
        tree = self._tree or ProcessTree(process.pid)
        tree.kill()
        process.kill()
        process.wait(1.0)
        process.close()

    def _readOutput(self, written: bytes) -> None:
        if self._process is None:
            return
        *lines, self._pending = (self._pending + written).split(b"\n")
        if lines and self._tree is None and self._process.running:
            # Taken while all of it runs: should the launcher alone be killed, its child would not be found.
            self._tree = ProcessTree(self._process.pid)
        for line in lines:
            self._take(line.decode("utf-8", errors="replace").strip())

    def _readErrors(self, written: bytes) -> None:
        text = written.decode("utf-8", errors="replace")
        self._log.extend(line for line in text.splitlines() if line.strip())

    def _take(self, line: str) -> None:
        try:
            event = json.loads(line)
            kind = event["event"]
        except (ValueError, TypeError, KeyError):
            if line:
                self._log.append(line)
            return
        self._onEvent(event)
        if kind == "progress" and not self._cancelled:
            stage, done, total = str(event["stage"]), int(event["done"]), max(1, int(event["total"]))
            secondsLeft = self._timeLeft(stage, done, total)
            self._percent = max(self._percent, self._percentOf(stage, min(1.0, done / total)))
            if stage == "read" and done >= total:
                # Models are loaded now: nothing more is reported until the first step is done.
                stage, secondsLeft = "prepare", None
            self._onProgress(WorkerProgress(stage, self._percent, secondsLeft))
        elif kind == "result":
            self._result = event
        elif kind == "error":
            self._error = str(event.get("text", ""))
        elif kind == "log":
            self._log.append(str(event.get("text", "")))

    def _percentOf(self, stage: str, part: float) -> float:
        """Return how much of the whole is done when this part of the stage is."""
        if stage not in self._stages:
            return 0.0
        names = list(self._stages)
        before = sum(self._stages[name] for name in names[: names.index(stage)])
        return 100.0 * (before + self._stages[stage] * part) / sum(self._stages.values())

    def _broke(self) -> None:
        self._finish(lambda: self._onFailed(_("Slicer's own Python could not be started.")))

    def _ended(self, exitCode: int, crashed: bool) -> None:
        if self._process is None:
            return
        if self._cancelled:
            return  # `_untilGone` waits for the others of the tree
        if not crashed and exitCode == 0 and self._result is not None:
            result = self._result
            self._finish(lambda: self._onFinished(result))
            return
        if self._tree is not None:
            self._tree.kill()
        killed = crashed or exitCode > 128
        advice = (
            _("often the memory ran out; close other programs, crop the volume or choose another device.")
            if killed
            else _("the log under Details says why.")
        )
        sentence = self._error or _("The computation ended unexpectedly (exit code {code}): {advice}").format(
            code=exitCode, advice=advice
        )
        self._finish(lambda: self._onFailed(sentence))

    def _untilGone(self) -> None:
        if self._process is None or self._tree is None:
            return
        if self._tree.alive() or self._process.running:
            if time.monotonic() >= self._killAt:
                self._tree.kill()
                self._process.kill()
            return
        self._finish(self._onCancelled)

    def _finish(self, tell: Callable[[], None]) -> None:
        # First: the callback may start the next run.
        process, self._process = self._process, None
        self._poll.stop()
        self._poll.deleteLater()
        if process is not None:
            process.close()
        tell()


def _stepBack(pid: int) -> None:
    """Have a child, and what it starts, leave the processors to Slicer where both want them: it takes all of
    them, and the user scrolls meanwhile."""
    if pid <= 0:  # not started
        return
    if hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):
            niceness = os.getpriority(os.PRIO_PROCESS, pid) + _STEPS_BACK
            if niceness <= _NICEST or not hasattr(os, "SCHED_IDLE"):
                os.setpriority(os.PRIO_PROCESS, pid, niceness)
            else:
                # Slicer itself is this low (findings/slicer-core-main-thread-niced.sh), and no step is left
                os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
        return
    with contextlib.suppress(ImportError):
        psutil = importlib.import_module("psutil")
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
