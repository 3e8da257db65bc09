"""One press of Apply: inputs go out to files, the worker computes, results come into the scene.

What a verb needs says a `Job`; `Run` takes it through: prepare (main thread, in turns), worker process, load
(main thread, in turns), place. Until that last step the scene is not touched, and it is done whole or not at
all, so a failure or a cancel leaves the scene as it was; the temporary folder goes in any case.
"""

from __future__ import annotations

import abc
import json
import logging
import time
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from ctenhance.runtime.errors import CTEnhanceError, InputError
from CTEnhanceLib.process import dependencies, transfer
from CTEnhanceLib.process.steps import APART_MILLISECONDS, TimedSteps
from CTEnhanceLib.process.texts import stageText
from CTEnhanceLib.process.worker import Worker, WorkerProgress

_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Command:
    """A verb with its arguments (as `Job.arguments`), and what its stages take (as `Job.stages`).

    further - what each further slice takes, as a share of the time of two that come both at once
    """

    arguments: Sequence[str]
    stages: Mapping[str, float]
    further: float = 0.5


class Job(abc.ABC):
    """What one run does. `stages`: see Worker; their names for people stand in `texts`."""

    stages: Mapping[str, float] = {}

    def problem(self) -> str:
        """Return the sentence that says why it cannot be done, or an empty one."""
        return ""

    def remarks(self) -> list[str]:
        """Return the sentences to say with the result that the worker, given copies, cannot know."""
        return []

    def prepare(self, folder: Path) -> Iterator[float]:
        """Write what the worker reads into the folder, in short steps; yield the fraction done."""
        yield 1.0

    def preceding(self, folder: Path) -> Sequence[Command]:
        """Return the verbs that run before `arguments`, in turn, such as one that simulates its input.

        Their reports end in the result's, as `report["preceding"]`.
        """
        return ()

    @abc.abstractmethod
    def arguments(self, folder: Path) -> list[str]:
        """Return the command line: the verb, inputs, outputs (in the folder), options; no --report."""

    def load(self, outputs: Mapping[str, Path]) -> Iterator[float]:
        """Read the worker's outputs (by the names of its result event), in short steps, scene untouched."""
        yield 1.0

    @abc.abstractmethod
    def place(self, report: dict[str, Any]) -> Any:
        """Put what was loaded into the scene, all of it or nothing (`placing.whole`); return the result.

        Raises CTEnhanceError when it cannot be done any more.
        """

    def placing(self, report: dict[str, Any]) -> Generator[float, None, Any]:
        """Do what `place` does, in short steps, and return the result; closed before that, leave nothing."""
        result = self.place(report)
        yield 1.0
        return result

    def readable(self, sentence: str, folder: Path) -> str:
        """Return a sentence of the worker with the user's names in place of temporary files."""
        return sentence

    def few(self) -> Job | None:
        """Return the same on the two slices in the middle, to be timed; None: there is no cutting it."""
        return None

    def slices(self) -> int | None:
        """Return how many slices it is to make; None: only the worker can tell."""
        return None

    def likeness(self) -> Hashable:
        """Return what the time that a slice takes depends on: of jobs with the same, one tells for all.

        None: it is not to be timed.
        """
        return None


class Run:
    """A job on its way. Exactly one of the last three callbacks is called, when all is over.

    onProgress(WorkerProgress); onDone(result, warnings); onFailed(sentence, details); onCancelled().
    """

    def __init__(
        self,
        job: Job,
        onProgress: Callable[[WorkerProgress], None],
        onDone: Callable[[Any, list[str]], None],
        onFailed: Callable[[str, str], None],
        onCancelled: Callable[[], None],
    ) -> None:
        self.job: Job | None = job
        self._onProgress, self._onDone = onProgress, onDone
        self._onFailed, self._onCancelled = onFailed, onCancelled
        self._folder: Path | None = None
        self._steps: TimedSteps | None = None
        self._commands: list[Command] = []
        self._worker: Worker | None = None
        self._warnings: list[str] = []
        self._result: Any = None
        self.active = self._placed = False

    def start(self) -> None:
        """Begin; returns at once. Raises InputError with the job's problem, CTEnhanceError for no folder."""
        sentence = self._theJob().problem()
        if sentence:
            raise InputError(sentence)
        self._folder = transfer.runFolder()
        self._warnings = self._theJob().remarks()
        self.active = True
        self._tell("prepare", 0.0)
        self._steps = TimedSteps(self._theJob().prepare(self._folder), self._compute, self._failWith)

    def cancel(self) -> None:
        """Stop; `onCancelled` is called once nothing of the run is left."""
        if not self.active or self._placed:
            return
        if self._steps is not None:
            self._steps.cancel()
        if self._worker is not None and self._worker.running:
            self._worker.cancel()
            self._tell("cancel", 0.0)
        else:
            self._endCancelled()

    def kill(self) -> None:
        """Stop at once without any callback, for when the application or the module goes."""
        if self.active:
            if self._steps is not None:
                self._steps.cancel()
            if self._worker is not None:
                self._worker.kill()
            self._cleanUp()

    def _compute(self) -> None:
        job, folder = self._theJob(), self._files()
        try:
            last = Command(job.arguments(folder), job.stages)
            self._commands = [*job.preceding(folder), last]
        except CTEnhanceError as error:
            self._fail(str(error))
            return
        self._start(0)

    def _start(self, index: int) -> None:
        """Have a process of its own work on this command."""
        command = self._commands[index]
        shares = [sum(each.stages.values()) for each in self._commands]
        before, after = sum(shares[:index]), sum(shares[index + 1 :])
        self._tell("start", 100.0 * before / max(sum(shares), 1e-9))
        # The percentage is one of all commands together.
        stages = {"(before)": before, **command.stages, "(after)": after}
        self._worker = Worker(
            lambda event: self._finished(index, event),
            self._fail,
            self._endCancelled,
            self._onProgress,
            stages,
        )
        try:
            self._worker.start([*command.arguments, "--report", str(self._reportPath(index))])
        except CTEnhanceError as error:
            self._fail(str(error))

    def _finished(self, index: int, event: Mapping[str, Any]) -> None:
        self._warnings += [str(warning) for warning in event.get("warnings", [])]
        if index + 1 < len(self._commands):
            self._start(index + 1)
        else:
            self._load(event)

    def _load(self, event: Mapping[str, Any]) -> None:
        outputs = {str(name): Path(path) for name, path in dict(event.get("outputs", {})).items()}
        self._steps = TimedSteps(
            self._loaded(outputs),
            self._place,
            self._failWith,
            lambda part: self._tell("load", 100.0 * part),
        )

    def _loaded(self, outputs: Mapping[str, Path]) -> Iterator[float]:
        """Load the outputs; then what is large in the folder goes, which takes its time, too."""
        yield from self._theJob().load(outputs)
        for _part in transfer.emptied(self._files()):
            yield 1.0

    def _place(self) -> None:
        """Place it, a step a turn: nodes take long to come, whose views and lists are told of each."""
        self._steps = TimedSteps(
            self._placing(), self._tellDone, self._failWith, seconds=0.0, milliseconds=APART_MILLISECONDS
        )

    def _placing(self) -> Iterator[float]:
        self._result = yield from self._theJob().placing(self._report())
        self._placed = True
        yield 1.0

    def _tellDone(self) -> None:
        result, self._result = self._result, None
        self._cleanUp()
        self._onDone(result, self._warnings)

    def _reportPath(self, index: int) -> Path:
        return self._files() / f"report-{index}.json"

    def _report(self) -> dict[str, Any]:
        try:
            paths = [self._reportPath(index) for index in range(len(self._commands))]
            *preceding, report = [dict(json.loads(path.read_text(encoding="utf-8"))) for path in paths]
        except (OSError, ValueError, TypeError) as error:
            raise CTEnhanceError(
                _("The report of the computation cannot be read; press Apply again.")
            ) from error
        if preceding:
            report["preceding"] = preceding
        return report

    def _failWith(self, error: Exception) -> None:
        if isinstance(error, CTEnhanceError):
            self._fail(str(error))
        elif isinstance(error, MemoryError):
            self._fail(_("There is not enough memory for the result: close other volumes or crop the input."))
        else:
            logging.exception("A run of CTEnhance failed", exc_info=error)
            self._fail(_("Something unexpected happened ({error}).").format(error=error))

    def _fail(self, sentence: str) -> None:
        readable = self._theJob().readable(sentence, self._files())
        details = self._worker.log if self._worker is not None else ""
        self._cleanUp()
        self._onFailed(readable, details)

    def _endCancelled(self) -> None:
        self._cleanUp()
        self._onCancelled()

    def _cleanUp(self) -> None:
        self.active = False
        self._steps = None
        self.job = None  # it may hold hundreds of megabytes
        if self._folder is not None:
            transfer.removeFolder(self._folder)

    def _theJob(self) -> Job:
        if self.job is None:
            raise CTEnhanceError(_("The run is over: start a new one."))
        return self.job

    def _files(self) -> Path:
        if self._folder is None:
            raise CTEnhanceError(_("The run has not been started."))
        return self._folder

    def _tell(self, stage: str, percent: float) -> None:
        self._onProgress(WorkerProgress(stage, percent, None))


def runAndWait(job: Job, requirements: Path, progress: Callable[[str, float], None] | None = None) -> Any:
    """Run a job for the Python console and return its result; Slicer stays usable meanwhile.

    progress - is called with a stage and a percentage

    Raises CTEnhanceError with one sentence when it cannot be done; the scene is as it was then.
    """
    dependencies.require(requirements)
    outcome: dict[str, Any] = {}
    run = Run(
        job,
        lambda each: progress(stageText(each.stage), each.percent) if progress else None,
        lambda result, warnings: outcome.update(result=result, warnings=warnings),
        lambda sentence, details: outcome.update(sentence=sentence, details=details),
        lambda: outcome.update(sentence=_("Cancelled; nothing was changed."), details=""),
    )
    run.start()
    while run.active or not outcome:
        slicer.app.processEvents()
        time.sleep(_POLL_SECONDS)
    if "result" not in outcome:
        if outcome["details"]:
            logging.error(outcome["details"])
        raise CTEnhanceError(outcome["sentence"])
    for warning in outcome["warnings"]:
        logging.warning(warning)
    return outcome["result"]
