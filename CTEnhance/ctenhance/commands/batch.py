"""`ctenhance batch`: a verb over every case of a folder: resumable, and no failing case stops the others."""

from __future__ import annotations

import collections
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctenhance.commands.apps import app
from ctenhance.commands.batch_options import OPTIONS, given_values, verb_of
from ctenhance.commands.batch_run import (
    outcomes_of,
    require_same_setting,
    require_same_settings,
    run_batch,
    stale_results,
    until_first_case,
)
from ctenhance.commands.options import Choice
from ctenhance.commands.support import Run, command
from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.files import check_output_folder
from ctenhance.runtime.words import counted, noun

if TYPE_CHECKING:
    from ctenhance.batch.case import Case
    from ctenhance.batch.manifest import Manifest
    from ctenhance.commands.batch_cases import CaseSearch


@command(app, "ctenhance batch incoming/ enhanced/ --strength 0.8", options=OPTIONS)
def batch(
    run: Run,
    source: Annotated[
        Path, typer.Argument(metavar="IN_DIR", help="Volumes and DICOM series, or projections, at any depth.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="The results and a report for each.")],
    choice: Choice,
    verb: Annotated[
        str, typer.Option(help="What to do: enhance, degrade, compare, decompose or reconstruct.")
    ] = "enhance",
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes that share the cases; 0: this one alone. By cores and memory."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A Dask scheduler, such as tcp://node1:8786, for its workers."),
    ] = None,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="Tell the address of Dask's page.")] = False,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Label maps by the cases' names, to go along with the results."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make all again, also with other settings than before.")
    ] = False,
    **given: Any,
) -> None:
    """Do the same with every case of a folder. A rerun resumes, and a failing case stops no other."""
    from ctenhance.batch import cluster, summary, worker
    from ctenhance.batch.labels import places_in
    from ctenhance.batch.manifest import Manifest, saying_why_not
    from ctenhance.batch.verbs import VERBS
    from ctenhance.batch.work import remove_unfinished_results
    from ctenhance.commands.batch_cases import CTS, IMAGES, PROJECTIONS, CaseSearch, Partners
    from ctenhance.commands.batch_feed import Feed
    from ctenhance.files.finished import sole_writer

    if (workers not in (None, 0)) or scheduler is not None or dashboard:
        cluster.require_dask(dashboard)
    if scheduler is not None and workers is not None:
        raise InputError("The workers of a scheduler are its own: leave out --workers or --scheduler.")
    asked = verb_of(verb, given, run, choice)  # what no case could use is refused before the search
    if labels is not None and not (VERBS[verb].takes_ct and VERBS[verb].gives_ct):
        raise InputError(f"Label maps go along with --verb enhance and degrade only, not with {verb}.")
    partners = Partners(labels, given["after"], given["reference"])
    if labels is not None:
        collections.deque(places_in(labels), maxlen=0)  # refuses two of one case
    kind = IMAGES if given["image"] else CTS if VERBS[verb].takes_ct else PROJECTIONS
    search = CaseSearch(source, target, choice, kind, partners, run.cancel, given["image"] or (), verb)
    found = until_first_case(search, run)
    check_output_folder(target)
    run.plan([])
    settings = given_values(given) | {"seed": run.seed, "labels": labels is not None}
    with sole_writer(target), saying_why_not(target), Manifest(target) as manifest:
        if manifest.put_aside is not None:
            run.log(f"The manifest was damaged and is now '{manifest.put_aside.name}'.", "note")
        remove_unfinished_results(target)
        if not overwrite and not choice:  # of what is not chosen, nothing has to be the same
            require_same_settings(asked, manifest, source)

        def check_case(case: Case) -> None:
            if run.report_path is not None and run.report_path.resolve() in {
                path.resolve() for path in (case.output, case.report)
            }:
                raise InputError(
                    f"'{run.report_path}' is the report of a case; choose another name for --report."
                )
            if not overwrite:
                require_same_setting(asked, case)

        manifest.begin(verb, {**settings, **asked.recorded})
        job = worker.Job(asked, target.absolute(), overwrite)
        written: Mapping[str, Path] = {}
        stale: list[str] = []
        try:
            with (
                Feed(search, found, manifest, check_case, run.cancel) as feed,
                outcomes_of(run, job, feed, workers, scheduler, dashboard) as outcomes,
            ):
                run_batch(run, feed, outcomes, asked)
            stale = stale_results(manifest, asked, source)
        finally:
            remove_unfinished_results(target)
            try:
                if search.gone() != target:
                    written = summary.write(manifest, target, asked, len(stale))
            except (OSError, sqlite3.Error, CTEnhanceError) as error:  # the batch matters more
                run.log(f"Table, pages and card could not be written and are not of this run: {error}")
        if feed.left_out:
            name, reason = next(iter(feed.left_out.items()))
            more = f" and {feed.left_out_number - 1} more" if feed.left_out_number > 1 else ""
            run.log(f"left out: '{name}' ({reason}){more}.", "note")
        if labels is not None:
            _tell_stray_labels(run, labels, search)
        if stale:
            run.log(_of_no_case(stale, source, target), "note")
        _tell(run, manifest, settings, source, target, written, stale)


#: So many of those that were perhaps meant are told by name.
_MOST_MISSED = 3


def _tell_stray_labels(run: Run, folder: Path, search: CaseSearch) -> None:
    """A label map by another name than its image would be left behind without a word."""
    from ctenhance.batch.labels import places_in

    strays = [str(place) for place in places_in(folder) if not search.has_place(place)]
    if strays:
        run.log(
            f"{len(strays)} of the label maps in '{folder}' {noun(len(strays), 'belongs', 'belong')} to "
            f"no case, such as '{strays[0]}': a label map has the path and the name of its image "
            f"({search.labelled} have).",
        )


def _of_no_case(stale: list[str], source: Path, target: Path) -> str:
    named = ", ".join(f"'{name}'" for name in stale[:_MOST_MISSED])
    more = f" and {len(stale) - _MOST_MISSED} more" if len(stale) > _MOST_MISSED else ""
    count = len(stale)
    they_were = noun(count, "it was", "they were")
    it_goes = noun(count, "remove it with its report", "remove them with their reports")
    stays = noun(count, "it is", "they are")
    return (
        f"{counted(count, 'result')} of earlier runs in '{target}' {noun(count, 'belongs', 'belong')} to no "
        f"case of this run: {named}{more}. What {they_were} made of is not in '{source}' any more, or "
        f"goes to another name now. Nothing was deleted: {it_goes} if {stays} not to stay in the set."
    )


def _tell(
    run: Run,
    manifest: Manifest,
    settings: Mapping[str, Any],
    source: Path,
    target: Path,
    written: Mapping[str, Path],
    stale: list[str],
) -> None:
    """Finish with the report of the batch; raises InputError where nothing was a case after all, and
    CTEnhanceError where cases failed."""
    from ctenhance.batch.case import BEFORE, DONE, FAILED, LEFT_OUT
    from ctenhance.commands.batch_search import ARCHIVE, MISNAMED, NOT_THERE

    failed, no_ct = manifest.names(FAILED), manifest.names(LEFT_OUT)
    left_out = manifest.left_out() | {name: sentence.rstrip(".") for name, sentence in no_ct.items()}
    cases = manifest.count() - len(no_ct)
    if not cases:
        name, sentence = next(iter(no_ct.items()))
        raise InputError(f"There is no CT in '{source}'; the first that was left out, '{name}': {sentence}")
    lists = {
        "done": list(manifest.names(DONE)),
        "finished_before": list(manifest.names(BEFORE)),
        "failed": failed,
        "left_out": left_out,
        "of_no_case": stale,
    }
    counts = {name: len(members) for name, members in lists.items()}
    text = f"{counts['done']} done, {counts['finished_before']} finished before, {len(failed)} failed"
    text += f", {len(left_out)} left out." if left_out else "."
    meant = (NOT_THERE, ARCHIVE, MISNAMED)
    missed = [f"'{name}' ({why})" for name, why in left_out.items() if why.startswith(meant)]
    if missed:
        more = f" and {len(missed) - _MOST_MISSED} more" if len(missed) > _MOST_MISSED else ""
        text += f" Left out, though perhaps meant: {', '.join(missed[:_MOST_MISSED])}{more}."
    report = {"verb": "batch", "settings": settings, **lists}
    run.finish(report, {"folder": target, **written}, text=text, counts=counts, **lists)
    if failed:
        raise CTEnhanceError(_failures(failed, cases, target))


def _failures(failed: Mapping[str, str], cases: int, target: Path) -> str:
    name, sentence = next(iter(failed.items()))
    if cases == 1:
        return f"The only case, '{name}', failed: {sentence}"
    if len(failed) == cases:
        return f"All {cases} cases failed; the first, '{name}': {sentence}"
    return (
        f"{len(failed)} of {cases} cases failed, the others are in '{target}'; the first of them, '{name}': "
        f"{sentence}"
    )
