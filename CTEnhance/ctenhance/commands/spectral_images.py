"""Images at several energies, as the options `--image` name them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctenhance.commands.options import Choice
from ctenhance.commands.support import VOLUME_SUFFIXES, Run
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import check_output_folder
from ctenhance.runtime.progress import check

if TYPE_CHECKING:
    from ctenhance.core.volume import CTVolume
    from ctenhance.decomposition.from_images.options import ImageDecomposeOptions

ImagesOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ENERGY=PATH",
        help="An image at an energy, in place of projections: 40=file (keV), 80kV=folder, Sn140kV=folder, or "
        "a bin's name; of DICOM the energy may be left out. Repeat for each.",
    ),
]
EnergiesAsGivenOption = Annotated[
    bool, typer.Option("--energies-as-given", help="Believe --image where DICOM tells another energy.")
]
ApartOption = Annotated[
    float, typer.Option(metavar="S", help="Refuse images acquired more than so many seconds apart.")
]


@contextlib.contextmanager
def folder_made(folder: Path) -> Iterator[None]:
    """Make the folder if it is missing; it goes again if nothing comes into it."""
    missing = not folder.exists()
    check_output_folder(folder)
    try:
        yield
    finally:
        if missing:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()


def decompose_images(
    run: Run,
    given: Sequence[str],
    folder: Path,
    options: ImageDecomposeOptions,
    table: Path | None,
    noise: Sequence[float] | None,
) -> None:
    """Read the images, decompose them and write what was asked for into the folder."""
    from ctenhance.decomposition import products
    from ctenhance.decomposition.from_images.attenuation import read_table
    from ctenhance.decomposition.from_images.inference import decompose_images as decompose
    from ctenhance.decomposition.from_images.options import HU

    planned = products.image_names(options) + (["residual"] if options.residual else [])
    with folder_made(folder):
        outputs = {name: folder / f"{name}.nii.gz" for name in planned}
        inputs = [_split(one)[1] for one in given] + ([table] if table else [])
        run.plan(inputs, *((path, VOLUME_SUFFIXES) for path in outputs.values()))
        attenuation = None if table is None else read_table(table)
        images = read_images(run, given, options.unit == HU, check_files=False)
        result = decompose(
            images,
            attenuation=attenuation,
            noise=noise,
            options=options,
            progress=run.progress,
            cancel=run.cancel,
        )
        found = {**result.volumes, **result.maps}
        run.write(*((found[name], path) for name, path in outputs.items()))
        run.finish(result.report, outputs)


def read_images(
    run: Run,
    given: Sequence[str],
    hounsfield: bool,
    check_files: bool = True,
    choice: Choice | None = None,
) -> dict[str, CTVolume]:
    """Volumes by energy; raises InputError for energies that are not known or that were given twice, and,
    where `hounsfield`, for other values in DICOM and, with `check_files`, in files without a unit.

    `choice`: of the DICOM folders among them.
    """
    from ctenhance.decomposition.from_images.energies import Energy, different
    from ctenhance.files.dicom.energies import read_at

    pairs = [(Energy.of(label), path) for label, path in _expanded(run, [_split(one) for one in given])]
    different([energy for energy, _ in pairs])
    choices = (choice or Choice()).each([path for _, path in pairs])
    volumes = {}
    for done, (energy, path) in enumerate(pairs):
        run.progress("read", done, len(pairs))
        # of values without a unit the verb says better what they may be
        checked = hounsfield and (check_files or not path.exists() or _is_dicom(path))
        volumes[energy.label] = read_at(
            path, energy.label, check_hu=checked, series=choices[done].series, where=choices[done].where
        )
        check(run.cancel)
    run.progress("read", len(pairs), len(pairs))
    return volumes


def _split(given: str) -> tuple[str, Path]:
    """'40=path' as energy and path; a path alone has no energy."""
    parts = re.fullmatch(r"([^=/\\]+)=(.+)", given)
    if parts is None or Path(given).exists():
        return "", Path(given)
    return parts[1].strip(), Path(parts[2])


def _expanded(run: Run, given: Sequence[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """Each image with its energy: those of DICOM without one have what their headers tell."""
    from ctenhance.decomposition.from_images.energies import Energy
    from ctenhance.files.dicom.energies import energies_in

    found: list[tuple[str, Path]] = []
    for label, path in given:
        if label:
            found.append((label, path))
            continue
        if not path.exists():
            raise InputError(f"There is no file or folder '{path}': check the path.")
        energies = (
            [name for one in energies_in(path) for name in one.energies if name] if _is_dicom(path) else []
        )
        if not energies:
            raise InputError(
                f"Nothing tells the energy of '{path.name}': write it before the path: 40={path.name}."
            )
        names = list(dict.fromkeys(energies))
        # beside monoenergetic images the scan's usual one says little, and that less exactly
        mono = [name for name in names if Energy.of(name).kev is not None] if len(names) > 2 else []
        if 2 <= len(mono) < len(names):
            left = ", ".join(name for name in names if name not in mono)
            run.log(f"'{path.name}': of its images at several energies, {left} was left out.", "note")
            names = mono
        found += [(name, path) for name in names]
    return found


def _is_dicom(path: Path) -> bool:
    from ctenhance.core.volume import READABLE_SUFFIXES
    from ctenhance.runtime.files import suffix_of

    return path.is_dir() or suffix_of(path) not in READABLE_SUFFIXES
