"""`ctenhance project`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import ctenhance
from ctenhance.commands.apps import app
from ctenhance.commands.options import Choice, InputPath
from ctenhance.commands.support import Run, command
from ctenhance.runtime.errors import InputError

PROJECTION_SUFFIXES = (".h5", ".hdf5")


@command(app, "ctenhance project chest.nii.gz low_dose.ctproj.h5 --dose 0.25 --seed 1")
def project(
    run: Run,
    source: InputPath,
    target: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="The new projections: a name ending in .ctproj.h5 or .h5."),
    ],
    choice: Choice,
    dose: Annotated[
        float, typer.Option(help="Fraction of the full dose, such as 0.25; 1 is --photons as given.")
    ] = 1.0,
    geometry: Annotated[
        str, typer.Option(help="fan-equiangular, fan-flat (a full turn) or parallel (half a turn).")
    ] = "fan-equiangular",
    views: Annotated[int, typer.Option(help="Views of the turn.")] = 1152,
    columns: Annotated[int, typer.Option(help="Detector columns; they share the same fan.")] = 736,
    photons: Annotated[
        float, typer.Option(help="Quanta in air on the central ray, per reading, at full dose.")
    ] = 2.5e5,
    electronic_variance: Annotated[
        float, typer.Option(help="Variance of the electronic noise in counts².")
    ] = 10.0,
    bowtie: Annotated[
        float, typer.Option(help="Strength of the bowtie filter: 0 none, 1 evens out a body of 32 cm.")
    ] = 0.0,
    modulation: Annotated[
        float, typer.Option(help="How far the tube current follows the attenuation; 0.5 is usual, 0 not.")
    ] = 0.0,
    polychromatic: Annotated[
        bool, typer.Option("--polychromatic", help="A tube's whole spectrum, with beam hardening.")
    ] = False,
    kvp: Annotated[
        int | None, typer.Option(help="Tube voltage in kV, with --polychromatic; 120 if not given.")
    ] = None,
) -> None:
    """Simulate projections of a CT volume at a chosen dose."""
    run.plan([source], (target, PROJECTION_SUFFIXES))
    if kvp is not None and not polychromatic:
        raise InputError("--kvp is for --polychromatic only: leave it out, or add --polychromatic.")
    from ctenhance.core.report import ReportBuilder
    from ctenhance.runtime.device import pick_device
    from ctenhance.scan.simulate import KVP, simulate_projections

    place = pick_device(run.device)
    settings = {
        "geometry": geometry,
        "dose": dose,
        "photons": photons,
        "electronic_variance": electronic_variance,
        "bowtie": bowtie,
        "modulation": modulation,
        "polychromatic": polychromatic,
        "kvp": kvp or KVP,
        "views": views,
        "columns": columns,
    }
    report = ReportBuilder("project", settings, place, run.seed)
    volume = run.read(source, choice)
    report.input = volume.input_report()
    with report.stage("project"):
        projections = simulate_projections(
            volume,
            **settings,  # type: ignore[arg-type]
            seed=run.seed,
            device=run.device,
            progress=run.progress,
            cancel=run.cancel,
        )
    for note in projections.meta["notes"]:
        if note not in volume.meta.get("notes", []):  # which were said when it was read
            report.warn(note)
    with report.stage("write"):
        ctenhance.write_projections(projections, target, run.progress, run.cancel)
    report.details["projections"] = projections.identity(run.progress, run.cancel)
    run.finish(report.finish(), {"projections": target})
