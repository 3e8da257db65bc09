"""`ctenhance simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import ctenhance
from ctenhance.commands.apps import app
from ctenhance.commands.decompose import numbers
from ctenhance.commands.project import PROJECTION_SUFFIXES
from ctenhance.commands.support import NO_DEVICE, Run, command


@command(
    app, "ctenhance simulate bins.ctproj.h5 --phantom chest --slices 8 --dose 0.5 --seed 1", without=NO_DEVICE
)
def simulate(
    run: Run,
    target: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="The new projections: a name ending in .ctproj.h5 or .h5."),
    ],
    phantom: Annotated[
        str, typer.Option(help="rods (iodine and calcium in water), chest, or a file of labels (.npz).")
    ] = "rods",
    dose: Annotated[float, typer.Option(help="Fraction of the full dose, 500,000 quanta a reading.")] = 1.0,
    slices: Annotated[int, typer.Option(help="Slices of 2.5 mm.")] = 1,
    matrix: Annotated[int, typer.Option(help="Pixels a side of the phantom and the image.")] = 256,
    views: Annotated[int, typer.Option(help="Views of the turn.")] = 720,
    columns: Annotated[int, typer.Option(help="Detector columns; they share the same fan.")] = 512,
    kvp: Annotated[int, typer.Option(help="Tube voltage in kV.")] = 120,
    detector: Annotated[
        str, typer.Option(help="ideal, cdte, czt, silicon, or a file with a response matrix.")
    ] = "cdte",
    thresholds: Annotated[
        str, typer.Option(metavar="KEV,…", help="Where the bins begin; the last ends at the tube voltage.")
    ] = "20,35,50,65,80",
    contrast: Annotated[
        float | None,
        typer.Option(metavar="MG/ML", help="Iodine in the blood of the chest or the labels (5)."),
    ] = None,
    scatter: Annotated[
        float,
        typer.Option(help="Scatter by primary counts behind the middle of the object, such as 0.1."),
    ] = 0.0,
    drift: Annotated[
        float, typer.Option(metavar="KEV", help="Standard deviation of each threshold's shift.")
    ] = 0.0,
) -> None:
    """Simulate a photon-counting scan of a phantom."""
    run.plan([], (target, PROJECTION_SUFFIXES))
    bins = numbers(thresholds)
    from ctenhance.core.report import ReportBuilder
    from ctenhance.decomposition.scanner import named_scan
    from ctenhance.decomposition.scatter.correction import SPR_ENTRY

    settings = {
        "phantom": Path(phantom).name,
        "dose": dose,
        "slices": slices,
        "matrix": matrix,
        "views": views,
        "columns": columns,
        "kvp": kvp,
        "detector_name": detector,
        "thresholds_kev": bins,
        "contrast_mg_ml": contrast,
        "scatter": scatter,
        "drift_kev": drift,
    }
    report = ReportBuilder("simulate", settings, None, run.seed)
    with report.stage("project"):
        projections = named_scan(
            **(settings | {"phantom": phantom}),  # type: ignore[arg-type]
            seed=run.seed,
            progress=run.progress,
            cancel=run.cancel,
        )
    with report.stage("write"):
        ctenhance.write_projections(projections, target, run.progress, run.cancel)
    report.details["projections"] = projections.identity(run.progress, run.cancel)
    spr, text = projections.meta.get(SPR_ENTRY), None
    if spr is not None:
        report.details[SPR_ENTRY] = spr
        text = f"Scatter to primary behind 300 mm of water: {spr:.3f} (in the file, for decompose --scatter)"
    run.finish(report.finish(), {"projections": target}, text, scatter_ratio=spr)
