"""`ctenhance degrade`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import ctenhance
from ctenhance.choices import DEFAULT_PRESET
from ctenhance.commands.apps import app
from ctenhance.commands.options import Choice, InputPath, OutputPath
from ctenhance.commands.support import VOLUME_SUFFIXES, Run, command
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.json_object import read_object


@command(app, "ctenhance degrade chest.nii.gz routine.nii.gz --preset routine --dose 0.25 --seed 1")
def degrade(
    run: Run,
    source: InputPath,
    target: OutputPath,
    choice: Choice,
    preset: Annotated[
        str, typer.Option(help="routine, sumi-paper, sumi-paper-validation or sumi-paper-3d.")
    ] = DEFAULT_PRESET,
    dose: Annotated[
        float | None, typer.Option(help="Fraction of the full dose, such as 0.25; drawn if not given.")
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(metavar="REPORT", help="Apply the degradation recorded in this report again."),
    ] = None,
) -> None:
    """Make a high-quality CT look like a routine one. The report records every drawn parameter."""
    inputs = [source] if replay is None else [source, replay]
    run.plan(inputs, (target, VOLUME_SUFFIXES))
    if replay is not None and (preset != DEFAULT_PRESET or run.seed):
        raise InputError("A replay takes preset and seed from its report: leave --preset and --seed out.")
    options = ctenhance.DegradeOptions(
        preset=preset,
        dose=dose,
        replay=None if replay is None else read_object(replay, "report"),
        device=run.device,
        seed=run.seed,
    )
    volume = run.read(source, choice)
    result = ctenhance.degrade(volume, options=options, progress=run.progress, cancel=run.cancel)
    run.write_result(result, {"degraded": target})
