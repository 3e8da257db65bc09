"""`ctenhance batch`: a verb over every case of a folder: resumable, and no failing case stops the others."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctenhance.commands.apps import app
from ctenhance.commands.batch_options import verb_of
from ctenhance.commands.batch_run import outcomes_of, require_same_settings, run_batch
from ctenhance.commands.options import Choice
from ctenhance.commands.support import Run, command
from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.files import check_output_folder

if TYPE_CHECKING:
    from ctenhance.batch.manifest import Manifest


@command(app, "ctenhance batch incoming/ enhanced/ --strength 0.8")
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
    model: Annotated[str | None, typer.Option(help="enhance: weights by name or path.")] = None,
    strength: Annotated[
        float | None, typer.Option(min=0, max=1, help="enhance: 0 keeps the input, 1 is the full effect.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="enhance: diffusion steps.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="enhance: average this many draws.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="enhance, reconstruct: what runs the networks, as for a single one.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="degrade: routine or a published one; a seed of its own for each case.")
    ] = None,
    dose: Annotated[float | None, typer.Option(help="degrade: fraction of the full dose.")] = None,
    after: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="compare: the volumes after, by the same names.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="compare: the truth, by the same names.")
    ] = None,
    basis: Annotated[str | None, typer.Option(help="decompose: basis materials.")] = None,
    vmi: Annotated[str | None, typer.Option(metavar="KEV,…", help="decompose: energies of images.")] = None,
    low_noise: Annotated[bool, typer.Option("--low-noise", help="decompose: quiet images.")] = False,
    guided_maps: Annotated[bool, typer.Option("--guided-maps", help="decompose: maps for viewers.")] = False,
    vnc: Annotated[bool, typer.Option("--vnc", help="decompose: a virtual non-contrast image.")] = False,
    zeff: Annotated[bool, typer.Option("--zeff", help="decompose: the effective atomic number.")] = False,
    electron_density: Annotated[
        bool, typer.Option("--electron-density", help="decompose: relative to water.")
    ] = False,
    errors: Annotated[bool, typer.Option("--errors", help="decompose: standard errors of maps.")] = False,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="decompose: threshold shifts, for all cases.")
    ] = None,
    scatter: Annotated[str | None, typer.Option(help="decompose: none, kernel, network, weights.")] = None,
    scatter_ratio: Annotated[float | None, typer.Option(help="decompose: the scanner's ratio.")] = None,
    grid_ratio: Annotated[float | None, typer.Option(help="decompose: of the anti-scatter grid.")] = None,
    method: Annotated[str | None, typer.Option(help="reconstruct: fbp, projection or need.")] = None,
    kernel: Annotated[str | None, typer.Option(help="reconstruct, decompose: the kernel.")] = None,
    matrix: Annotated[int | None, typer.Option(help="reconstruct, decompose: pixels a side.")] = None,
    fov: Annotated[float | None, typer.Option(help="reconstruct: field of view in mm.")] = None,
    model_projection: Annotated[str | None, typer.Option(help="reconstruct: weights.")] = None,
    model_image: Annotated[str | None, typer.Option(help="reconstruct: weights.")] = None,
    projection_steps: Annotated[int | None, typer.Option(help="reconstruct: diffusion steps.")] = None,
    image_steps: Annotated[int | None, typer.Option(help="reconstruct: diffusion steps.")] = None,
) -> None:
    """Do the same with every case of a folder; a rerun resumes, and a failing case stops no other."""
    from ctenhance.batch import cluster, summary, worker
    from ctenhance.batch.labels import by_place
    from ctenhance.batch.manifest import Manifest
    from ctenhance.batch.verbs import VERBS
    from ctenhance.batch.work import remove_unfinished_results
    from ctenhance.commands.batch_cases import find_cases, with_partners
    from ctenhance.files.finished import sole_writer

    given = {
        "model": model, "strength": strength, "steps": steps, "samples": samples, "engine": engine,
        "preset": preset, "dose": dose, "after": after, "reference": reference, "basis": basis, "vmi": vmi,
        "low_noise": low_noise, "guided_maps": guided_maps, "vnc": vnc, "zeff": zeff,
        "electron_density": electron_density, "errors": errors, "calibration": calibration,
        "scatter": scatter, "scatter_ratio": scatter_ratio, "grid_ratio": grid_ratio, "method": method,
        "kernel": kernel, "matrix": matrix, "fov": fov, "model_projection": model_projection,
        "model_image": model_image, "projection_steps": projection_steps, "image_steps": image_steps,
    }  # fmt: skip
    if (workers not in (None, 0)) or scheduler is not None or dashboard:
        cluster.require_dask(dashboard)
    if scheduler is not None and workers is not None:
        raise InputError("The workers of a scheduler are its own: leave out --workers or --scheduler.")
    asked = verb_of(verb, given, run)  # what no case could use is refused before the search
    known_labels = None if labels is None else by_place(labels)
    if labels is not None and not (VERBS[verb].takes_ct and VERBS[verb].gives_ct):
        raise InputError(f"Label maps go along with --verb enhance and degrade only, not with {verb}.")
    found = find_cases(source, target, choice, run, projections=not VERBS[verb].takes_ct)
    found = with_partners(found, target, known_labels, after, reference)
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
    settings = {name: value for name, value in given.items() if value not in (None, False)}
    settings |= {"seed": run.seed, "labels": labels is not None}
    with sole_writer(target), Manifest(target) as manifest:
        if manifest.put_aside is not None:
            run.log(f"The manifest was damaged and is now '{manifest.put_aside.name}'.", "note")
        remove_unfinished_results(target)
        manifest.begin(verb, {**settings, **asked.recorded}, found.cases, found.left_out)
        found.cases.clear()
        if not overwrite:
            require_same_settings(asked, manifest)
        job = worker.Job(asked, target.absolute(), overwrite)
        try:
            with outcomes_of(run, job, manifest, workers, scheduler, dashboard) as outcomes:
                run_batch(run, manifest, outcomes, asked)
        finally:
            remove_unfinished_results(target)
            with contextlib.suppress(OSError, sqlite3.Error, CTEnhanceError):  # the batch matters more
                written = summary.write(manifest, target, asked)
        _tell(run, manifest, settings, source, target, written)


def _tell(
    run: Run,
    manifest: Manifest,
    settings: Mapping[str, Any],
    source: Path,
    target: Path,
    written: Mapping[str, Path],
) -> None:
    """Finish with the report of the batch; raises InputError where nothing was a case after all, and
    CTEnhanceError where cases failed."""
    from ctenhance.batch.case import BEFORE, DONE, FAILED, LEFT_OUT

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
    }
    counts = {name: len(members) for name, members in lists.items()}
    text = f"{counts['done']} done, {counts['finished_before']} finished before, {len(failed)} failed"
    text += f", {len(left_out)} left out." if left_out else "."
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
