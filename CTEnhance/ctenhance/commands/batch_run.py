"""A batch from its first case to its last: what is told, and what is written down."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctenhance.commands.support import Run
from ctenhance.runtime.errors import Cancelled, CTEnhanceError, InputError
from ctenhance.runtime.files import DISK_FULL, why_not_written
from ctenhance.runtime.words import counted, noun

if TYPE_CHECKING:
    from ctenhance.batch.case import Case, Outcome
    from ctenhance.batch.manifest import Manifest
    from ctenhance.batch.verbs import Verb
    from ctenhance.batch.worker import Job
    from ctenhance.commands.batch_cases import CaseSearch, Withdrawn
    from ctenhance.commands.batch_feed import Feed
    from ctenhance.commands.batch_search import LeftOut

_SETTINGS = {
    "weights": "weights file",
    "keep_faint": "share of faint structures kept",
    "steps": "number of steps",
    "samples": "number of samples",
    "slices": "choice of slices",
    "seed_of_all": "seed",
}


def until_first_case(search: CaseSearch, run: Run) -> Iterator[Case | LeftOut | Withdrawn]:
    """What a search finds, looked for until its first case. Raises InputError when there is none."""
    from ctenhance.batch.case import Case

    found = iter(search)
    first = []
    for one in found:
        run.progress("search", search.folders, search.folders + 1)
        first.append(one)
        if isinstance(one, Case):
            break
    return itertools.chain(first, found)


def require_same_settings(verb: Verb, manifest: Manifest, source: Path) -> None:
    """Raise InputError when cases that the manifest knows were made with other settings: one folder shall not
    hold results that nobody can tell apart. Cases of another input folder, or that are gone, do not count,
    nor does the choice of slices, which is known with the case."""
    others = 0
    first: tuple[Path, tuple[str, Any, Any]] | None = None
    inside = source.absolute()
    for case in manifest.all_cases():
        if case.files and inside in case.files[0].absolute().parents and case.files[0].exists():
            asked = {name: value for name, value in verb.asked(case).items() if name != "slices"}
            other = _other_setting(verb, case, asked)
            others += other is not None
            first = first or other
    if first is not None:
        raise InputError(_other_settings(first, others))


def require_same_setting(verb: Verb, case: Case) -> None:
    """The same for a case that was found. Raises InputError."""
    other = _other_setting(verb, case, verb.asked(case))
    if other is not None:
        raise InputError(_other_settings(other, 1))


def _other_setting(
    verb: Verb, case: Case, asked: Mapping[str, Any]
) -> tuple[Path, tuple[str, Any, Any]] | None:
    from ctenhance.batch.work import finished

    there = finished(verb, case)
    other = there.other_setting(asked)
    return None if other is None else (there.result, other)


def _other_settings(first: tuple[Path, tuple[str, Any, Any]], number: int) -> str:
    result, (name, known, value) = first
    if name == "weights":
        known, value = f"{str(known)[:12]}…", f"{str(value)[:12]}…"
    name = _SETTINGS.get(name, name)
    more = f" and {number - 1} more were" if number > 1 else " was"
    return (
        f"'{result}'{more} made before with another {name} ({known}, not {value}); take --overwrite "
        "to make all again, or name another folder."
    )


def _require_there(gone: Path | None) -> None:
    if gone is not None:
        raise CTEnhanceError(
            f"Stopped, since the folder '{gone}' is not there any more; once it is, run the same command "
            "again, which goes on from what is finished."
        )


def run_batch(run: Run, feed: Feed, outcomes: Iterator[tuple[Case, Outcome]], verb: Verb) -> None:
    """Write down and tell the outcome of each case as it ends.

    Raises Cancelled when the user asks to stop, and CTEnhanceError when the disk is full or gone; what was
    finished until then stays.
    """
    from ctenhance.batch.case import BEFORE, DONE, FAILED, LEFT_OUT, Outcome

    manifest = feed.manifest
    try:
        for case, outcome in outcomes:
            if case.name in feed.withdrawn:  # while it was done; told below
                continue
            gone = feed.search.gone()
            if gone is None or (outcome.finished and gone == feed.search.source):
                manifest.ended(case, outcome)
            _require_there(gone)
            feed.ended += 1
            if outcome.disk_full:
                raise CTEnhanceError(
                    f"Stopped at '{case.name}', since the disk is full: {manifest.finished()} of "
                    f"{counted(feed.total, 'case')} {noun(feed.total, 'is', 'are')} finished; free some "
                    "space and run the same command again, which "
                    "goes on from there."
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
            run.progress("cases", feed.ended, feed.total)
        _require_there(feed.search.gone())
    except Cancelled as error:
        manifest.end("cancelled")
        raise Cancelled(
            f"Cancelled with {manifest.finished()} of {counted(feed.total, 'case')} finished; their "
            "results stay, and the same command goes on from there."
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
    for case in manifest.cases() if feed.withdrawn else ():
        if (why := feed.withdrawn.get(case.name)) is not None:
            remove_result(verb, case)
            manifest.ended(case, Outcome(LEFT_OUT, why))
            run.log(f"left out: '{case.name}': {why}.", "note")
            run.event("case", name=case.name, state=LEFT_OUT, output=None, why=why, seconds=0.0)
    _look_again(run, manifest, verb, (DONE, BEFORE))
    manifest.end("whole")


def remove_result(verb: Verb, case: Case) -> None:
    """Remove what was made of a case that was withdrawn: it holds a part only."""
    for path in (case.report, *verb.outputs(case).values()):
        path.unlink(missing_ok=True)


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


def stale_results(manifest: Manifest, verb: Verb, source: Path) -> list[str]:
    """The results that earlier runs left and no case of this one owns, by their paths in the folder."""
    from ctenhance.commands.batch_search import as_text

    found = (verb.outputs(case).values() for case in manifest.of_no_case(source))
    firsts = (next((path for path in paths if path.exists()), None) for paths in found)
    return [as_text(path.relative_to(manifest.target).as_posix()) for path in firsts if path is not None]


@contextlib.contextmanager
def outcomes_of(
    run: Run, job: Job, feed: Feed, workers: int | None, scheduler: str | None, dashboard: bool
) -> Iterator[Iterator[tuple[Case, Outcome]]]:
    """The outcomes of all cases, in this process or over Dask."""
    from ctenhance.batch import cluster
    from ctenhance.commands.batch_feed import AHEAD

    if workers is None and scheduler is None and not cluster.dask_is_there():
        run.log(
            "Dask is not installed: one case after the other, in this process (pip install "
            "'ctenhance[batch]' for several at once).",
            "note",
        )
        workers = 0
    if workers == 0:
        cases = (case for case in _cases_of(run, feed) if case is not None)
        yield cluster.here(job, cases, run.progress, run.cancel)
        return
    number = workers or cluster.default_workers(run.device)
    feed.start()
    until = time.monotonic() + AHEAD
    while feed.number < number and not feed.over and time.monotonic() < until:
        time.sleep(0.02)  # a few cases do not need all workers
    feed.raise_error()
    number = max(1, min(number, feed.number) if feed.over else number)
    run.progress("workers", 0, 1)
    with cluster.connected(number, scheduler, dashboard, run.log) as connection:
        run.progress("workers", 1, 1)
        stream = cluster.over_dask(connection, job, _cases_of(run, feed), run.progress, run.cancel)
        try:
            yield stream
        finally:
            stream.close()


def _cases_of(run: Run, feed: Feed) -> Iterator[Case | None]:
    """The cases to be done, while it is told how far the search is."""
    total = 0
    for case in feed.waiting():
        run.progress("search", feed.search.folders, feed.search.folders + (not feed.over))
        if feed.total != total:
            total = feed.total
            run.progress("cases", feed.ended, total)
        yield case
