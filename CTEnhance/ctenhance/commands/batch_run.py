"""A batch from its first case to its last: what is told, and what is written down."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctenhance.commands.support import Run
from ctenhance.runtime.errors import Cancelled, CTEnhanceError, InputError
from ctenhance.runtime.files import DISK_FULL, why_not_written

if TYPE_CHECKING:
    from ctenhance.batch.case import Case, Outcome
    from ctenhance.batch.manifest import Manifest
    from ctenhance.batch.verbs import Verb
    from ctenhance.batch.worker import Job

_SETTINGS = {
    "weights": "weights file",
    "steps": "number of steps",
    "samples": "number of samples",
    "slices": "choice of slices",
    "seed_of_all": "seed",
}


def require_same_settings(verb: Verb, manifest: Manifest) -> None:
    """Raise InputError when results were made with other settings: one folder shall not hold results that
    nobody can tell apart."""
    from ctenhance.batch.work import finished

    first: tuple[Path, tuple[str, Any, Any]] | None = None
    others = 0
    for case in manifest.cases():
        there = finished(verb, case)
        other = there.other_setting(verb.asked(case))
        if other is not None:
            others += 1
            first = first or (there.result, other)
    if first is not None:
        result, (name, known, value) = first
        if name == "weights":
            known, value = f"{str(known)[:12]}…", f"{str(value)[:12]}…"
        name = _SETTINGS.get(name, name)
        more = f" and {others - 1} more were" if others > 1 else " was"
        raise InputError(
            f"'{result}'{more} made before with another {name} ({known}, not {value}); take --overwrite "
            "to make all again, or name another folder."
        )


def run_batch(run: Run, manifest: Manifest, outcomes: Iterator[tuple[Case, Outcome]], verb: Verb) -> None:
    """Write down and tell the outcome of each case as it ends.

    Raises Cancelled when the user asks to stop, and CTEnhanceError when the disk is full; what was finished
    until then stays.
    """
    from ctenhance.batch.case import BEFORE, DONE, FAILED, LEFT_OUT

    total, ended = manifest.count(), 0
    run.progress("cases", 0, total)
    try:
        for case, outcome in outcomes:
            manifest.ended(case, outcome)
            ended += 1
            if outcome.disk_full:
                raise CTEnhanceError(
                    f"Stopped at '{case.name}', since the disk is full: {manifest.finished()} of {total} "
                    "cases are finished; free some space and run the same command again, which goes on from "
                    "there."
                )
            for text, level in outcome.log:
                run.log(text, level)
            if outcome.state == LEFT_OUT:
                run.log(f"left out: '{case.name}': {outcome.why}", "note")
            elif outcome.state == FAILED:
                run.log(f"'{case.name}' failed: {outcome.why}")
            first = next(iter(verb.outputs(case).values()))
            run.event(
                "case",
                name=case.name,
                state=outcome.state,
                output=str(first) if outcome.finished else None,
                why=outcome.why,
                seconds=round(outcome.seconds, 3),
            )
            run.progress("cases", ended, total)
    except Cancelled as error:
        manifest.end("cancelled")
        raise Cancelled(
            f"Cancelled with {manifest.finished()} of {total} cases finished; their results stay, and the "
            "same command goes on from there."
        ) from error
    except BaseException as error:
        with contextlib.suppress(sqlite3.Error):
            manifest.end("stopped")
        if isinstance(error, sqlite3.Error) and (why_not_written(error) or "").startswith(DISK_FULL):
            raise CTEnhanceError(
                "Stopped, since the disk is full; free some space and run the same command again, which goes "
                "on from there."
            ) from error
        raise
    _look_again(run, manifest, verb, (DONE, BEFORE))
    manifest.end("whole")


def _look_again(run: Run, manifest: Manifest, verb: Verb, states: tuple[str, str]) -> None:
    """A result may have vanished since it was made."""
    from ctenhance.batch.case import FAILED, Outcome
    from ctenhance.batch.work import finished

    for case in manifest.cases(*states):
        there = finished(verb, case)
        if not there.whole():
            why = f"'{there.result}' was changed or removed meanwhile."
            manifest.ended(case, Outcome(FAILED, why))
            run.log(f"'{case.name}' failed: {why}")


@contextlib.contextmanager
def outcomes_of(
    run: Run, job: Job, manifest: Manifest, workers: int | None, scheduler: str | None, dashboard: bool
) -> Iterator[Iterator[tuple[Case, Outcome]]]:
    """The outcomes of all cases, in this process or over Dask."""
    from ctenhance.batch import cluster

    if workers is None and scheduler is None and not cluster.dask_is_there():
        run.log(
            "Dask is not installed: one case after the other, in this process (pip install "
            "'ctenhance[batch]' for several at once).",
            "note",
        )
        workers = 0
    if workers == 0:
        yield cluster.here(job, manifest.cases(), run.progress, run.cancel)
        return
    number = min(workers or cluster.default_workers(run.device), manifest.count())
    run.progress("workers", 0, 1)
    with cluster.connected(number, scheduler, dashboard, run.log) as connection:
        run.progress("workers", 1, 1)
        stream = cluster.over_dask(connection, job, manifest.cases(), run.progress, run.cancel)
        try:
            yield stream
        finally:
            stream.close()
