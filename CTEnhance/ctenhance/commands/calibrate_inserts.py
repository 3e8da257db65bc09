"""`ctenhance calibrate inserts`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctenhance.commands.calibrate import calibrate_app
from ctenhance.commands.options import Choice
from ctenhance.commands.spectral_images import (
    ApartOption,
    EnergiesAsGivenOption,
    ImagesOption,
    read_images,
)
from ctenhance.commands.support import NEITHER, Run, command
from ctenhance.runtime.errors import InputError


@command(
    calibrate_app,
    "ctenhance calibrate inserts table.csv --rods rods.csv --image 40=phantom40/ --image 70=phantom70/",
    without=NEITHER,
)
def inserts(
    run: Run,
    choice: Choice,
    target: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="The attenuations, for 'decompose --attenuation': a .csv file."),
    ],
    rods: Annotated[
        Path,
        typer.Option(
            metavar="CSV", help="What the rods hold: material,mg_per_ml and maybe x_mm,y_mm,radius_mm."
        ),
    ],
    image: ImagesOption = None,
    check: Annotated[
        list[str] | None,
        typer.Option(metavar="ENERGY=PATH", help="A second scan of the rods, on which the result is tried."),
    ] = None,
    unit: Annotated[str, typer.Option(help="The unit of the images: HU, 1/cm or 1/mm.")] = "HU",
    apart_s: ApartOption = 10.0,
    energies_as_given: EnergiesAsGivenOption = False,
) -> None:
    """Find how much materials attenuate in images. From a scan of rods of known contents."""
    if not image:
        raise InputError("Give the images of the rods with --image ENERGY=PATH.")
    run.plan([rods], (target, (".csv",)))
    from ctenhance.core.report import ReportBuilder
    from ctenhance.decomposition.calibration.inserts import calibrate_inserts, read_rods, write_table
    from ctenhance.decomposition.calibration.inserts_check import concentrations
    from ctenhance.decomposition.from_images.options import HU, ImageDecomposeOptions

    ImageDecomposeOptions(unit=unit)  # raises the sentence
    report = ReportBuilder("calibrate inserts", {"unit": unit})
    table = read_rods(rods)
    images = read_images(run, image, unit == HU, choice=choice)
    with report.stage("fit"):
        found = calibrate_inserts(images, table, unit, apart_s, energies_as_given)
    lines = [
        f"{label}: residual {residual:.1f} HU, "
        + ", ".join(f"{name} {value:.4g} cm²/g" for name, value in found.table[label].items())
        for label, residual in found.residual_hu.items()
    ]
    report.details |= {"attenuation_cm2_per_g": found.table, "nominal": found.nominal}
    report.details["residual_HU"] = found.residual_hu
    for note in found.notes:
        report.warn(note)
    if check:
        again = read_images(run, check, unit == HU, choice=choice)
        if set(again) != set(images):
            raise InputError("The second scan (--check) must have the energies of the first.")
        tried = concentrations(again, found, unit)
        report.details["second_scan"] = tried
        lines += [
            f"{one['material']} {one['mg_per_ml']:g} mg/mL: {one['found']:.2f} on the second scan"
            + (f" ({one['nominal']:.2f} with the tables)" if one["nominal"] is not None else "")
            for one in tried
        ]
    write_table(found.table, target)
    run.finish(report.finish(), {"attenuation": target}, "\n".join(lines))
