"""`ctenhance convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctenhance.commands.apps import app
from ctenhance.commands.options import Choice, OutputPath
from ctenhance.commands.support import NEITHER, VOLUME_SUFFIXES, Run, command


@command(app, "ctenhance convert dicom_folder/ chest.nii.gz --series 3", without=NEITHER)
def convert(
    run: Run,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="A CT: a folder with a DICOM series, .nii, .nii.gz, .nrrd or .mha."
        ),
    ],
    target: OutputPath,
    choice: Choice,
) -> None:
    """Write a CT as a volume file in HU. It is read as by every other command."""
    run.plan([source], (target, VOLUME_SUFFIXES))
    from ctenhance.core.report import ReportBuilder

    report = ReportBuilder("convert")
    volume = run.read(source, choice)
    report.input = volume.input_report()
    with report.stage("write"):
        run.write((volume, target))
    run.finish(report.finish(), {"volume": target})
