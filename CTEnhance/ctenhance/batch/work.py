"""One case from its input to the finished result: the same in this process and on a worker far away.

A result is made in a folder of its own, away from what is finished, and moved into place at the end, the
report last. So whatever ends the process, a result is whole or not there, and two that make the same one (a
worker that was thought lost, and its substitute) do no harm.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ctenhance
from ctenhance.batch import labels
from ctenhance.batch.case import BEFORE, DONE, FAILED, LEFT_OUT, OWN_FOLDER, Case, Outcome
from ctenhance.batch.pictures import figures, thumbnail
from ctenhance.batch.verbs import Verb
from ctenhance.core.report import Result, write_report
from ctenhance.files.finished import Finished, settings_of, settled
from ctenhance.runtime.errors import Cancelled, CTEnhanceError, InputError, NotCTError
from ctenhance.runtime.failures import sentence_and_code
from ctenhance.runtime.files import (
    DISK_FULL,
    LONGEST_NAME,
    check_output,
    check_output_folder,
    move,
    stem_of,
    why_not_written,
)
from ctenhance.runtime.progress import Cancellable, Progress, check

CHANGED = "Its files changed while they were read; run the same command again once they are all there."
#: In the batch's own folder: results in the making.
UNFINISHED = "unfinished"


def run_case(
    verb: Verb,
    case: Case,
    target: Path,
    overwrite: bool = False,
    run: str = "",
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Outcome:
    """Do a case unless it is finished; whatever it provokes becomes its outcome.

    `target` is the folder of all results; `run` a name of this batch, by which a case is known that was done
    in it already, by a worker that died before it could say so. Raises Cancelled when asked to stop, and
    BrokenPipeError where nobody listens any more.
    """
    began = time.perf_counter()

    def tell(stage: str, done: int, total: int) -> None:
        if progress is not None:
            progress(f"{case.name}: {stage}", done, total)

    try:
        check(cancel)
        outcome = _run(verb, case, target, overwrite, run, tell, cancel)
    except (Cancelled, BrokenPipeError):
        raise
    except NotCTError as error:
        outcome = Outcome(LEFT_OUT, str(error))
    # Whatever one file provokes, the hundreds after it are still worth doing.
    except Exception as error:
        full = (why_not_written(error) or "").startswith(DISK_FULL)
        sentence = sentence_and_code(error)[0].replace(f"{_making(target)}{os.sep}", "")
        if any(path.is_file() for path in verb.outputs(case).values()) and not full:
            sentence += f" ('{next(iter(verb.outputs(case).values())).name}' there is of an earlier run.)"
        outcome = Outcome(FAILED, sentence, disk_full=full)
    outcome.seconds = time.perf_counter() - began
    return outcome


def finished(verb: Verb, case: Case) -> Finished:
    """What is there of a case already."""
    further = [*list(verb.outputs(case).values())[1:], *_label_output(case).values()]
    return Finished(next(iter(verb.outputs(case).values())), further, case.report)


def _run(
    verb: Verb,
    case: Case,
    target: Path,
    overwrite: bool,
    run: str,
    progress: Progress,
    cancel: Cancellable | None,
) -> Outcome:
    token: Any = cancel
    if case.problem:
        raise InputError(case.problem)
    outputs = {**verb.outputs(case), **_label_output(case)}
    _check_outputs(case, outputs)
    before = finished(verb, case)
    inputs = [*case.files, *_files(case.beside)]
    state = _state(inputs)
    asked = verb.asked(case)
    of_this_run = settings_of(before.report).get("run") == run != ""
    if (not overwrite or of_this_run) and before.holds(asked, state=state):
        return Outcome(DONE if of_this_run else BEFORE, figures=_figures(before))
    source = verb.read(case, progress, token)
    identity = dict(verb.identity(source, progress, token))
    label_map = None
    if labelled := _label_output(case):
        identity["labels"], label_map = labels.checked(case.beside[labels.KIND], source)
    if _state(inputs) != state:
        raise InputError(CHANGED)
    known = state if state and settled(inputs) else ""
    if (not overwrite or of_this_run) and before.holds(asked, identity=identity):
        before.write(before.report, known, identity)  # the next run need not read it
        return Outcome(DONE if of_this_run else BEFORE, figures=_figures(before))
    log = [(f"'{case.name}': {note}.", "note") for note in verb.notes(source)]
    if label_map is not None:
        log.append((f"'{case.name}': {labels.PUT_IN_ORDER}.", "note"))
    result = verb.run(source, case, identity, progress, token)
    check(cancel)
    log += [(f"'{case.name}': {warning}", "warning") for warning in result.report.get("warnings", [])]
    log += [(f"'{case.name}': {note}", "note") for note in result.report.get("notes", [])]
    outcome = Outcome(DONE, log=log)
    if (pair := verb.pair(source, result)) is not None:
        outcome.figures, outcome.thumbnail = figures(*pair, cancel=cancel), thumbnail(*pair)
    if "metrics" in result.report.get("details", {}):
        outcome.figures |= {"metrics": result.report["details"]["metrics"]}
    report = _full_report(verb, case, result, outcome, run)
    with _apart(target) as folder:
        images = {**result.volumes, **result.maps}
        for name, path in verb.outputs(case).items():
            place = folder / path.name
            if name in images:
                ctenhance.write(images[name], place)
            else:
                write_report(place, result.report["details"][name])
        for path in labelled.values():
            if label_map is None:
                shutil.copyfile(case.beside[labels.KIND], folder / f"labels-{path.name}")
            else:
                ctenhance.write(label_map, folder / f"labels-{path.name}")
        check(cancel)
        # The old report goes first: it must not stand beside a new volume.
        case.report.unlink(missing_ok=True)
        for name, path in outputs.items():
            check_output_folder(path.parent)
            move(folder / (f"labels-{path.name}" if name in labelled else path.name), path)
        try:
            before.write(report, known, identity, folder)
        except BaseException:
            for path in outputs.values():  # a result without its report would tell nothing of itself
                path.unlink(missing_ok=True)
            raise
    return outcome


def _figures(there: Finished) -> dict[str, Any]:
    found = settings_of(there.report).get("figures")
    return found if isinstance(found, dict) else {}


def _full_report(verb: Verb, case: Case, result: Result, outcome: Outcome, run: str) -> dict[str, Any]:
    """The verb's report, with what was asked for where its own settings do not say it."""
    settings = {**result.report.get("settings", {}), "slices": case.slices}
    said = {"verb", "model", "weights", "seed", *settings}
    batch = {name: value for name, value in verb.recorded.items() if name not in said}
    own = {name: value for name, value in outcome.figures.items() if name != "metrics"}
    return {**result.report, "settings": settings, "batch": {**batch, "run": run, "figures": own}}


def _label_output(case: Case) -> dict[str, Path]:
    path = case.beside.get(f"{labels.KIND} out")
    return {} if path is None else {labels.KIND: path}


def _files(beside: Mapping[str, Path]) -> Iterator[Path]:
    """The files that are read beside a case's own, in an order."""
    for name, path in sorted(beside.items()):
        if name.endswith(" out"):
            continue
        if path.is_dir():
            yield from sorted(one for one in path.rglob("*") if one.is_file())
        else:
            yield path


def _state(files: Sequence[Path]) -> str:
    """Return `files_state`; '' for what is gone and for a header whose values lie in another file."""
    from ctenhance.files.finished import files_state
    from ctenhance.files.text_header import values_beside

    try:
        return "" if any(values_beside(file) for file in files) else files_state(files)
    except (OSError, InputError):  # whoever reads it says what is wrong
        return ""


def _check_outputs(case: Case, outputs: Mapping[str, Path]) -> None:
    inputs = [*case.files, *_files(case.beside)]
    check_output_folder(case.report.parent)
    stem = stem_of(case.output)
    for name, path in outputs.items():
        if stem.endswith(f".{name}") and path.name == f"{stem}.{name}.nii.gz":
            raise InputError(
                f"Its result would have the name of another case's further image ('.{name}'): rename the "
                "input, or leave that image out."
            )
    for path in (*outputs.values(), case.report):
        if len(os.fsencode(path.name)) > LONGEST_NAME:
            raise InputError(
                f"The result's name would be longer than {LONGEST_NAME} bytes; give the input a shorter one."
            )
        if path.is_dir():
            raise InputError(f"'{path}' is a folder where a file has to go; rename or remove it.")
        if path.parent.is_dir():
            check_output(path, inputs=inputs)


def _making(target: Path) -> Path:
    return target / OWN_FOLDER / UNFINISHED


@contextlib.contextmanager
def _apart(target: Path) -> Iterator[Path]:
    """A folder for results in the making, gone at the end."""
    folder = _making(target) / uuid.uuid4().hex[:12]
    if not (target / OWN_FOLDER).is_dir():  # no other takes its place
        raise CTEnhanceError(f"The folder '{target}' is not there any more.")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        reason = why_not_written(error) or f"{error.strerror or error}; choose another place"
        raise CTEnhanceError(f"Cannot make the folder '{folder}': {reason}.") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_unfinished_results(target: Path) -> None:
    """Remove what an ended batch left behind half-made; for the one that holds the folder's lock."""
    shutil.rmtree(_making(target), ignore_errors=True)
