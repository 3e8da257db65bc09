"""`ctenhance film`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctenhance.commands.apps import app
from ctenhance.commands.support import NEITHER, Run, command


@command(app, "ctenhance film frames/ flicker.gif --seconds 0.5", without=NEITHER)
def film(
    run: Run,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Pictures (.png) of one size, shown in the order of their names."
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT.gif", help="The film.")],
    seconds: Annotated[float, typer.Option(min=0.02, max=60.0, help="How long each picture is shown.")] = 0.1,
) -> None:
    """Make a film (GIF) of pictures; it begins anew at its end."""
    run.plan([], (target, (".gif",)))
    from ctenhance.core.report import ReportBuilder
    from ctenhance.files.film import write_film

    report = ReportBuilder("film", {"seconds": seconds}, None, run.seed)
    with report.stage("write"):
        report.details["pictures"] = write_film(source, target, seconds, run.progress, run.cancel)
    run.finish(report.finish(), {"film": target})
