"""What runs at a worker of Dask: one case, with the threads and the card that are this worker's."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ctenhance
from ctenhance.batch.case import FAILED, Case, Outcome
from ctenhance.batch.verbs import Verb
from ctenhance.batch.work import run_case
from ctenhance.runtime.errors import InputError

#: Under which workers tell their progress.
TOPIC = "ctenhance"
#: The environment variable that tells workers in this machine which cards they share out among themselves.
CARDS = "CTENHANCE_CARDS"
_BETWEEN_EVENTS = 0.5


@dataclass(frozen=True)
class Job:
    """What all cases have in common; goes to the workers with each of them."""

    verb: Verb
    target: Path
    overwrite: bool = False
    version: str = ctenhance.__version__
    run: str = field(default_factory=lambda: uuid.uuid4().hex)


class _NotWanted:
    """Set when nobody waits for the running task any more: its client cancelled it or is gone."""

    def __init__(self, worker: Any, key: Any) -> None:
        self.worker, self.key = worker, key

    @property
    def cancelled(self) -> bool:
        task = self.worker.state.tasks.get(self.key)
        return (
            task is None
            or task.state in ("cancelled", "released")
            or self.worker.status.name in ("closing", "closed", "failed")
        )


_one_at_a_time = threading.Lock()
_known: dict[str, str] = {}


def on_worker(job: Job, case: Case) -> Outcome:
    """The task: one case on the worker that runs it."""
    from distributed import get_worker

    worker = get_worker()
    cancel = _NotWanted(worker, worker.get_current_task())
    last = 0.0

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > _BETWEEN_EVENTS or done == total:
            last = time.monotonic()
            worker.log_event(TOPIC, {"stage": stage, "done": int(done), "total": int(total)})

    with _one_at_a_time:  # one model a process, whatever its number of threads
        _set_up(worker)
        wrong = _other_version(job, str(worker.name))
        outcome = (
            Outcome(FAILED, wrong)
            if wrong
            else run_case(job.verb, case, job.target, job.overwrite, job.run, progress, cancel)
        )
    outcome.worker = f"{platform.node()}/{worker.name}"
    return outcome


def _set_up(worker: Any) -> None:
    """Once a process: threads as many as the worker has, a card of its own, nothing on standard output."""
    if _known.setdefault("pid", "") == str(os.getpid()):
        return
    _known["pid"] = str(os.getpid())
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # that is where the command tells its progress
    if worker.state.nthreads > 1:  # Dask tells libraries to take one thread, whatever the worker has
        os.environ["OMP_NUM_THREADS"] = str(worker.state.nthreads)
    cards = [card for card in os.environ.get(CARDS, "").split(",") if card]
    if cards and isinstance(worker.name, int):  # before anything looks for a card
        os.environ["CUDA_VISIBLE_DEVICES"] = cards[worker.name % len(cards)]
    from ctenhance.enhancement import models

    models.keep_networks()


def _other_version(job: Job, worker: str) -> str:
    """Why this worker cannot do the job: another version or other weights than the command's; '' if none."""
    mark = repr((job.version, job.verb))
    if mark not in _known:
        _known[mark] = ""
        if job.version != ctenhance.__version__:
            _known[mark] = f"has ctenhance {ctenhance.__version__}, not {job.version}"
        else:
            try:
                if type(job.verb).of(job.verb.options).recorded != job.verb.recorded:
                    _known[mark] = "has other weights than the command"
            except InputError as error:
                _known[mark] = f"cannot do it ({error})"
    why = _known[mark]
    return why and f"The worker '{worker}' {why}: install the same everywhere."
