"""`ctenhance calibrate scatter`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import ctenhance
from ctenhance.commands.calibrate import calibrate_app
from ctenhance.commands.decompose import SpectralPath
from ctenhance.commands.options import GridRatioOption, require_grid_ratio_used
from ctenhance.commands.support import NEITHER, Run, command


@command(calibrate_app, "ctenhance calibrate scatter water.ctproj.h5 --method network", without=NEITHER)
def scatter(
    run: Run,
    source: SpectralPath,
    method: Annotated[str, typer.Option(help="The correction to calibrate: kernel, network or a file.")] = (
        "network"
    ),
    grid_ratio: GridRatioOption = None,
) -> None:
    """Find how much a scanner scatters, from a scan of water.

    Of a water cylinder; the number is for 'decompose --scatter-ratio'.
    """
    run.plan([source])
    from ctenhance.core.report import ReportBuilder
    from ctenhance.decomposition.calibration.scatter import water_spr

    require_grid_ratio_used(grid_ratio, method)
    report = ReportBuilder("calibrate scatter", {"method": Path(method).name, "grid_ratio": grid_ratio})
    scan = ctenhance.read_projections(source, run.progress, run.cancel)
    report.input = scan.identity(run.progress, run.cancel)
    with report.stage("fit"):
        ratio, rms = water_spr(scan, method, grid_ratio, run.progress, run.cancel)
    report.details.update({"scatter_ratio": ratio, "error_mg_ml": rms})
    text = f"Scatter to primary behind 300 mm of water: {ratio:.3f} (water then errs by {rms:.1f} mg/mL)"
    run.finish(report.finish(), text=text, scatter_ratio=ratio)
