"""`ctenhance compare-maps`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctenhance.commands.apps import app
from ctenhance.commands.options import Choice
from ctenhance.commands.support import NEITHER, Run, command
from ctenhance.runtime.errors import InputError


@command(
    app, "ctenhance compare-maps maps/iodine.nii.gz vendors_iodine/ --sphere 12,-40,310,6", without=NEITHER
)
def compare_maps(
    run: Run,
    choice: Choice,
    ours: Annotated[Path, typer.Argument(metavar="MAP", help="A map of a material in mg/mL.")],
    theirs: Annotated[
        Path,
        typer.Argument(metavar="OTHER", help="Another: a file, or a DICOM series that tells its unit."),
    ],
    sphere: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y,Z,R", help="Centre (LPS) and radius in mm of a region. Repeat for each."),
    ] = None,
) -> None:
    """Compare two maps of a material in regions. One may be a vendor's; a series is chosen of OTHER."""
    run.plan([ours, theirs])
    from ctenhance.core.report import ReportBuilder
    from ctenhance.files.dicom.maps import read_map
    from ctenhance.quality import regions

    spheres = []
    for given in sphere or ():
        try:
            x, y, z, radius = (float(part) for part in given.split(","))
        except ValueError as error:
            raise InputError(f"'{given}' is no region: write X,Y,Z,R in mm, such as 12,-40,310,6.") from error
        spheres.append(regions.Sphere(x, y, z, radius))
    if not spheres:
        raise InputError("Give at least one region with --sphere X,Y,Z,R (mm).")
    report = ReportBuilder("compare-maps", {"regions": len(spheres)})
    choices = choice.each([ours, theirs])
    maps = [
        read_map(ours, where=choices[0].where),
        read_map(theirs, choices[1].series, choices[1].where),
    ]
    for volume, path in zip(maps, (ours, theirs), strict=True):
        for note in volume.meta.get("notes", []):
            report.warn(f"'{path.name}': {note}.")
    report.input = {"map": maps[0].input_report(), "other": maps[1].input_report()}
    found = regions.compare_maps(maps[0], maps[1], spheres)
    report.details["regions"] = found
    lines = []
    for one in found:
        where = ", ".join(f"{value:g}" for value in one["centre_mm"])
        values = " and ".join(
            f"{mean:.2f} ± {sd:.2f}" for mean, sd in zip(one["mean"], one["sd"], strict=True)
        )
        lines.append(
            f"({where}) mm, {one['radius_mm']:g} mm: {values} mg/mL, difference {one['difference']:+.2f}"
        )
    run.finish(report.finish(), text="\n".join(lines), regions=found)
