"""Enhance every CT of a folder, one after the other: resumable, and no failing case stops the others."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import ctenhance
from ctenhance.commands.apps import app
from ctenhance.commands.options import (
    Choice,
    EngineOption,
    ModelOption,
    SamplesOption,
    StepsOption,
    StrengthOption,
)
from ctenhance.commands.support import Run, command, sentence_and_code
from ctenhance.runtime.errors import Cancelled, CTEnhanceError, InputError, NotCTError
from ctenhance.runtime.files import (
    DISK_FULL,
    LONGEST_NAME,
    check_output,
    check_output_folder,
    why_not_written,
)
from ctenhance.runtime.progress import check

if TYPE_CHECKING:
    from ctenhance.commands.batch_cases import Case
    from ctenhance.options import EnhanceOptions

_SETTINGS = {
    "weights": "weights file",
    "steps": "number of steps",
    "samples": "number of samples",
    "slices": "choice of slices",
}
CHANGED = "Its files changed while they were read; run the same command again once they are all there."


@dataclass
class Outcome:
    """Names of the cases that were done now, those that were finished before, and why the others failed.

    `no_ct`: why what looked like a CT series is none after all.
    """

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    no_ct: dict[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Return the outcome in JSON types."""
        return {"done": self.done, "finished_before": self.skipped, "failed": self.failed}


def run_batch(
    run: Run,
    cases: Sequence[Case],
    options: EnhanceOptions,
    recorded: Mapping[str, Any],
    overwrite: bool = False,
) -> Outcome:
    """Enhance the cases that are not finished yet, and return the outcome of each.

    `recorded` is what reports say of the options (`recorded_settings`).

    Raises InputError, before any case is read, when results were made with other settings: one folder shall
    not hold results that nobody can tell apart. Raises Cancelled when the user asks to stop, and
    CTEnhanceError when the disk is full; what was finished until then stays.
    """
    from ctenhance.files.finished import Finished

    outcome = Outcome()
    if not overwrite:
        _require_same_settings(cases, recorded)
    for number, case in enumerate(cases):
        run.progress("cases", number, len(cases))
        try:
            check(run.cancel)
            if _finish(run, case, options, {**recorded, "slices": case.slices}, overwrite):
                outcome.done.append(case.name)
            else:
                outcome.skipped.append(case.name)
        except Cancelled as error:
            finished = len(outcome.done) + len(outcome.skipped)
            raise Cancelled(
                f"Cancelled with {finished} of {len(cases)} cases finished; their results stay, and the same "
                "command goes on from there."
            ) from error
        except BrokenPipeError:  # nobody listens any more
            raise
        except NotCTError as error:
            outcome.no_ct[case.name] = str(error)
            run.log(f"left out: '{case.name}': {error}", "note")
        # Whatever one file provokes, the hundreds after it are still worth doing.
        except Exception as error:
            if (why := why_not_written(error)) and why.startswith(DISK_FULL):
                finished = len(outcome.done) + len(outcome.skipped)
                raise CTEnhanceError(
                    f"Stopped at '{case.name}', since the disk is full: {finished} of {len(cases)} cases are "
                    "finished; free some space and run the same command again, which goes on from there."
                ) from error
            _note_failure(run, outcome, case, sentence_and_code(error)[0])
    run.progress("cases", len(cases), len(cases))
    for case in cases:
        if case.name in outcome.done + outcome.skipped and not Finished(case.output).whole():
            _note_failure(run, outcome, case, f"'{case.output}' was changed or removed meanwhile.")
    return outcome


def recorded_settings(options: EnhanceOptions) -> dict[str, Any]:
    """Return what the report of a finished case says of its making (`finished.settings_of`).

    Raises InputError for a model, engine or device that is not there, and for what the model cannot do.
    """
    from ctenhance.enhancement.inference import decide

    model, decided = decide(options)
    model.engine(options.engine, options.device, decided.steps or 1)
    made_by = {"verb": "enhance", "model": model.entry.name, "weights": model.entry.sha256}
    return {**made_by, "seed": options.seed, **decided.settings()}


def _require_same_settings(cases: Sequence[Case], recorded: Mapping[str, Any]) -> None:
    from ctenhance.files.finished import Finished

    others = []
    for case in cases:
        other = Finished(case.output).other_setting({**recorded, "slices": case.slices})
        if other is not None:
            others.append((case, other))
    if others:
        case, (name, known, value) = others[0]
        if name == "weights":
            known, value = f"{str(known)[:12]}…", f"{str(value)[:12]}…"
        name = _SETTINGS.get(name, name)
        more = f" and {len(others) - 1} more were" if len(others) > 1 else " was"
        raise InputError(
            f"'{case.output}'{more} made before with another {name} ({known}, not {value}); take --overwrite "
            "to make all again, or name another folder."
        )


def _finish(
    run: Run, case: Case, options: EnhanceOptions, recorded: Mapping[str, Any], overwrite: bool
) -> bool:
    """Enhance a case unless it is finished; say whether that was to be done."""
    from ctenhance.files.finished import Finished, settled

    if case.problem:
        raise InputError(case.problem)
    _check_output(case)
    before = Finished(case.output)
    state = _state(case.files)
    if not overwrite and before.holds(recorded, state=state):
        return False
    volume = ctenhance.read(case.files, where=case.where)
    if _state(case.files) != state:
        raise InputError(CHANGED)
    known = state if state and settled(case.files) else ""
    identity = {
        **volume.identity(),
        "origin": list(volume.origin),
        "direction": volume.direction.tolist(),
    }
    if not overwrite and before.holds(recorded, identity=identity):
        before.write(before.report, known, identity)  # the next run need not read it
        return False
    for note in volume.meta.get("notes", []):
        run.log(f"'{case.name}': {note}.", "note")

    def progress(stage: str, done: int, total: int) -> None:
        run.progress(f"{case.name}: {stage}", done, total)

    result = ctenhance.enhance(volume, options=options, progress=progress, cancel=run.cancel)
    check(run.cancel)
    # The old report goes first: it must not stand beside a new volume.
    case.report.unlink(missing_ok=True)
    ctenhance.write(result.volumes["enhanced"], case.output)
    report = {**result.report, "settings": {**result.report["settings"], "slices": case.slices}}
    try:
        before.write(report, known, identity)
    except BaseException:
        case.output.unlink(missing_ok=True)  # a result without its report would tell nothing of itself
        raise
    for warning in result.report.get("warnings", []):
        run.log(f"'{case.name}': {warning}")
    return True


def _state(files: Sequence[Path]) -> str:
    """Return `files_state`; '' for what is gone and for a header whose values lie in another file."""
    from ctenhance.files.damage import values_beside
    from ctenhance.files.finished import files_state

    try:
        return "" if len(files) == 1 and values_beside(files[0]) else files_state(files)
    except OSError:
        return ""


def _check_output(case: Case) -> None:
    check_output_folder(case.output.parent)
    for path in (case.output, case.report):
        if len(os.fsencode(path.name)) > LONGEST_NAME:
            raise InputError(
                f"The result's name would be longer than {LONGEST_NAME} bytes; give the input a shorter one."
            )
        if path.is_dir():
            raise InputError(f"'{path}' is a folder where a file has to go; rename or remove it.")
        check_output(path, inputs=case.files)


def _note_failure(run: Run, outcome: Outcome, case: Case, sentence: str) -> None:
    if case.name in outcome.done + outcome.skipped:
        (outcome.done if case.name in outcome.done else outcome.skipped).remove(case.name)
    elif case.output.is_file():
        sentence += f" ('{case.output.name}' there is of an earlier run.)"
    outcome.failed[case.name] = sentence
    run.log(f"'{case.name}' failed: {sentence}")


@command(app, "ctenhance batch incoming/ enhanced/ --strength 0.8")
def batch(
    run: Run,
    source: Annotated[Path, typer.Argument(metavar="IN_DIR", help="Volumes and DICOM series, at any depth.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUT_DIR", help="Enhanced volumes and a report for each.")
    ],
    choice: Choice,
    model: ModelOption = None,
    strength: StrengthOption = 1.0,
    steps: StepsOption = None,
    samples: SamplesOption = None,
    engine: EngineOption = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make all again, also with other settings than before.")
    ] = False,
) -> None:
    """Enhance every CT in a folder; a rerun resumes, and a failing case stops no other."""
    from ctenhance.commands.batch_cases import find_cases
    from ctenhance.files.finished import sole_writer

    options = ctenhance.EnhanceOptions(
        model=model,
        strength=strength,
        steps=steps,
        samples=samples,
        device=run.device,
        engine=engine,
        seed=run.seed,
    )
    recorded = recorded_settings(options)  # what no case could use is refused before the search
    found = find_cases(source, target, choice, run)
    check_output_folder(target)
    run.plan([])
    if run.report_path is not None and run.report_path.resolve() in {
        path.resolve() for case in found.cases for path in (case.output, case.report)
    }:
        raise InputError(f"'{run.report_path}' is the report of a case; choose another name for --report.")
    if found.left_out:
        name, reason = next(iter(found.left_out.items()))
        more = f" and {len(found.left_out) - 1} more" if len(found.left_out) > 1 else ""
        run.log(f"left out: '{name}' ({reason}){more}.", "note")
    with sole_writer(target):
        outcome = run_batch(run, found.cases, options, recorded, overwrite)
    settings = {"model": model, "strength": strength, "steps": steps, "samples": samples}
    found.left_out |= {name: sentence.rstrip(".") for name, sentence in outcome.no_ct.items()}
    cases = len(found.cases) - len(outcome.no_ct)
    if not cases:
        name, sentence = next(iter(outcome.no_ct.items()))
        raise InputError(f"There is no CT in '{source}'; the first that was left out, '{name}': {sentence}")
    report = {"verb": "batch", "settings": settings, **outcome.summary(), "left_out": found.left_out}
    text = f"{len(outcome.done)} done, {len(outcome.skipped)} finished before, {len(outcome.failed)} failed"
    text += f", {len(found.left_out)} left out." if found.left_out else "."
    fields = {**outcome.summary(), "left_out": found.left_out}
    run.finish(report, {"folder": target}, text=text, **fields)
    if outcome.failed:
        raise CTEnhanceError(_failures(outcome, cases, target))


def _failures(outcome: Outcome, cases: int, target: Path) -> str:
    name, sentence = next(iter(outcome.failed.items()))
    failed = len(outcome.failed)
    if cases == 1:
        return f"The only case, '{name}', failed: {sentence}"
    if failed == cases:
        return f"All {cases} cases failed; the first, '{name}': {sentence}"
    return (
        f"{failed} of {cases} cases failed, the others are in '{target}'; the first of them, '{name}': "
        f"{sentence}"
    )
