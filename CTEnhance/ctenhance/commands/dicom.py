"""`ctenhance dicom`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctenhance.commands.apps import app
from ctenhance.commands.options import Choice
from ctenhance.commands.support import Run, command, read_json


@command(app, "ctenhance dicom maps/vmi_070keV.nii.gz series --quantity vmi --kev 70 --like patient_folder")
def dicom(
    run: Run,
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A volume or map: .nii, .nii.gz, .nrrd or .mha.")
    ],
    folder: Annotated[
        Path, typer.Argument(metavar="OUTDIR", help="The series' folder: a new one, or an empty one.")
    ],
    choice: Choice,
    quantity: Annotated[
        str, typer.Option(help="What the values are: hu, vmi, vnc, density, zeff or electron-density.")
    ] = "hu",
    kev: Annotated[float | None, typer.Option(help="Energy of a monoenergetic image.")] = None,
    low_noise: Annotated[
        bool, typer.Option("--low-noise", help="Say that the monoenergetic image is one of low noise.")
    ] = False,
    material: Annotated[str | None, typer.Option(help="Of what a density in mg/mL is.")] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="A DICOM series of the patient: study and patient are kept, and, where the volume has the "
            "series' slices, how it was scanned. --series and the like choose in it.",
        ),
    ] = None,
    made_by: Annotated[
        Path | None, typer.Option(metavar="JSON", help="The report of the run that made the volume.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="The series' description.")] = None,
) -> None:
    """Write a volume as a derived DICOM series, with unit, energy and lineage."""
    run.plan([source])
    from ctenhance.core.report import ReportBuilder
    from ctenhance.core.volume import CTVolume
    from ctenhance.files.dicom.writing import Derivation, write_series

    origin = {} if made_by is None else read_json(made_by)
    derivation = Derivation(
        quantity, kev, material, description, origin, like, low_noise, choice.series, choice.where
    )
    settings = {"quantity": quantity, "kev": kev, "low_noise": low_noise, "material": material}
    report = ReportBuilder("dicom", settings, None, run.seed)
    run.progress("read", 0, 1)
    volume = CTVolume.read(source, check_hu=False)
    run.progress("read", 1, 1)
    report.input = volume.identity()
    with report.stage("write"):
        write_series(volume, folder, derivation, run.progress, run.cancel, report.warn)
    report.details["images"] = len(volume.array)
    run.finish(report.finish(), {"series": folder})
