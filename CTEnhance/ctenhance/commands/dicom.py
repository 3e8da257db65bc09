"""`ctenhance dicom write` and `ctenhance dicom list`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctenhance.commands.apps import group
from ctenhance.commands.options import Choice
from ctenhance.commands.support import NEITHER, Run, command
from ctenhance.runtime.errors import InputError, printable
from ctenhance.runtime.json_object import read_report
from ctenhance.runtime.progress import check
from ctenhance.runtime.words import counted, noun

if TYPE_CHECKING:
    from ctenhance.files.dicom.archive import Counts, ListedSeries

#: 'ctenhance dicom IN OUTDIR' is 'ctenhance dicom write IN OUTDIR'.
dicom_app = group("dicom", "Write a DICOM series, or list what folders hold.", "write")


@command(
    dicom_app,
    "ctenhance dicom write maps/vmi_070keV.nii.gz series --quantity vmi --kev 70 --like patient_folder",
    name="write",
    without=NEITHER,
)
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
    storage: Annotated[
        str,
        typer.Option(
            help="auto: CT images for HU, a Parametric Map for all else; ct: CT images whatever it is, as "
            "3D Slicer, SimpleITK and most others read."
        ),
    ] = "auto",
    uids_of: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Make the UIDs of this text: the same one gives the same UIDs."),
    ] = None,
) -> None:
    """Write a volume as a derived DICOM series. Unit, energy and lineage go into it."""
    run.plan([source])
    from ctenhance.core.report import ReportBuilder
    from ctenhance.core.volume import CTVolume
    from ctenhance.files.dicom.writing import Derivation, write_series

    origin = {} if made_by is None else read_report(made_by)
    derivation = Derivation(
        quantity,
        kev,
        material,
        description,
        origin,
        like,
        low_noise,
        choice.series,
        choice.where,
        uids_of,
        storage,
    )
    settings = {"quantity": quantity, "kev": kev, "low_noise": low_noise, "material": material}
    report = ReportBuilder("dicom", settings)
    run.progress("read", 0, 1)
    volume = CTVolume.read(source, check_hu=False)
    run.progress("read", 1, 1)
    report.input = volume.identity()
    with report.stage("write"):
        write_series(volume, folder, derivation, run.progress, run.cancel, report.warn, source.name)
    report.details["images"] = 1 if derivation.as_map else len(volume.array)
    run.finish(report.finish(), {"series": folder})


@command(
    dicom_app, "ctenhance dicom list archive/ --where ConvolutionKernel=Br40", name="list", without=NEITHER
)
def list_series(
    run: Run,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A folder of many studies, or a disc's DICOMDIR.")
    ],
    choice: Choice,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a series and line, with UIDs, instead of a table.")
    ] = False,
    names: Annotated[
        bool, typer.Option("--names", help="Show patients' names and numbers and the studies' dates, too.")
    ] = False,
) -> None:
    """List the series of whole archives. It says what can be done with each, or why nothing."""
    run.plan([])
    from ctenhance.files.dicom.archive import Archive, ListedSeries
    from ctenhance.files.dicom.choice import Conditions

    def looked(files: int) -> None:
        check(run.cancel)
        run.progress("read", files, 0)

    archive = Archive(folder, Conditions.of(choice.where), choice.series, names, looked)
    report: dict[str, Any] = {"series": []} if run.report_path is not None else {}
    for number, found in enumerate(archive):
        if number == 0 and not as_json:
            run.say(_TABLE_HEAD)
        plain = found.plain() if isinstance(found, ListedSeries) else asdict(found)
        if report:
            report["series"].append(plain)
        if as_json:
            run.say(json.dumps(plain, ensure_ascii=False))
        elif isinstance(found, ListedSeries):
            run.say(_row(found))
        else:
            run.say(f"{'':24}'{printable(found.file)}': {printable(found.why)}")
    counts = archive.counts
    if not counts.files:
        raise InputError(f"There is no file in '{folder}'; check the path.")
    if not as_json:
        run.say(_summary(counts))
    run.finish({**report, "counts": asdict(counts)}, counts=asdict(counts))


_TABLE_HEAD = (
    f"{'study':>5} {'series':>6} {'mod.':5} {'slices':>6} {'mm':>6} {'kernel':10} {'energies':12} what"
)


def _row(found: ListedSeries) -> str:
    people = " ".join(filter(None, found.people.values()))
    number = "–" if found.series_number is None else str(found.series_number)
    thickness = "" if found.thickness_mm is None else f"{found.thickness_mm:g}"
    head = (
        f"{found.study:>5} {number:>6} {found.modality[:5]:5} {found.slices:>6} {thickness:>6} "
        f"{found.kernel[:10]:10} {'/'.join(found.energies)[:12]:12} {found.description}"
    ).rstrip()
    lines = [head if not people else f"{head} [{people}]"]
    if found.uses:
        where = f"in '{found.folder}'" + (f" with {found.choose}" if found.choose else "")
        lines.append(f"can {', '.join(found.uses)}: {where}")
    if found.why_not:
        lines.append(
            f"{'but' if found.uses else 'no:'} {found.why_not}"
            + ("" if found.uses else f" ('{found.folder}')")
        )
    lines += [f"note: {note}" for note in found.notes]
    return f"\n{'':24}".join(map(printable, lines))


def _summary(counts: Counts) -> str:
    studies, files = counted(counts.studies, "study", "studies"), counted(counts.files, "file")
    parts = [f"{counts.series} series of {studies} in {files}"]
    parts += [f"{counts.left_out} series not asked for"] if counts.left_out else []
    parts += (
        [f"{counts.not_dicom} {noun(counts.not_dicom, 'is', 'are')} no DICOM"] if counts.not_dicom else []
    )
    parts += [f"{counts.unreadable} cannot be read"] if counts.unreadable else []
    return "; ".join(parts) + "."
