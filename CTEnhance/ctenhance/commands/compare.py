"""`ctenhance compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctenhance.commands.apps import app
from ctenhance.commands.options import Choice
from ctenhance.commands.support import FIGURE_SUFFIXES, NEITHER, Run, command
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.json_object import read_report


@command(
    app,
    "ctenhance compare before.nii.gz after.nii.gz --reference full.nii.gz --page compare.html",
    without=NEITHER,
)
def compare(
    run: Run,
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="The volume before.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="The volume after, on the same grid.")],
    choice: Choice,
    after_series: Annotated[
        str | None,
        typer.Option(metavar="NUMBER", help="Which series AFTER is, where --series is the one of BEFORE."),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="The truth, if there is one: adds PSNR and SSIM.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Write before | after | difference as a picture.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="Write a self-contained page with a slider (.html).")
    ] = None,
    made_by: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON",
            help="The report of the run that made AFTER: the page tells model, settings, warnings.",
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the metrics as JSON.")] = None,
) -> None:
    """Compare two volumes: noise, sharpness, HU by tissue. With a reference also PSNR and SSIM."""
    from ctenhance import quality
    from ctenhance.core.report import ReportBuilder, write_report
    from ctenhance.runtime.progress import check

    inputs = [before, after] if reference is None else [before, after, reference]
    run.plan(inputs, (figure, FIGURE_SUFFIXES), (page, (".html",)), (json, (".json",)))
    if made_by is not None and page is None:
        raise InputError("A report (--made-by) is told on the page: give --page, too.")
    origin = None if made_by is None else read_report(made_by)
    builder = ReportBuilder("compare")
    choices = choice.each(inputs)
    if after_series is not None:
        choices[1:2] = Choice(after_series, choice.where).each([after])
    first, second = run.read(before, choices[0]), run.read(after, choices[1])
    truth = None if reference is None else run.read(reference, choices[2])
    builder.input = {"before": first.input_report(), "after": second.input_report()}
    if truth is not None:
        builder.input["reference"] = truth.input_report()
    outputs: dict[str, Path] = {}
    with builder.stage("metrics"):
        metrics = quality.compare(first, second, truth, progress=run.progress, cancel=run.cancel)
    for doubt in quality.doubts_of_pair(first, second, truth):
        builder.warn(doubt)
    builder.details = {"metrics": metrics}
    if figure is not None:
        check(run.cancel)
        with builder.stage("figure"):
            quality.figure(first, second, figure, reference=truth, metrics=metrics)
        outputs["figure"] = figure
    if page is not None:
        check(run.cancel)
        with builder.stage("page"):
            quality.page(first, second, page, reference=truth, metrics=metrics, made_by=origin)
        outputs["page"] = page
    if json is not None:
        write_report(json, metrics)
        outputs["metrics"] = json
    run.finish(builder.finish(), outputs, text=quality.table(metrics), metrics=metrics)
