"""Images at several energies, as the options `--image` name them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctenhance.commands.options import Choice
from ctenhance.commands.support import VOLUME_SUFFIXES, Run
from ctenhance.runtime.files import folder_made

if TYPE_CHECKING:
    from ctenhance.core.volume import CTVolume
    from ctenhance.decomposition.from_images.options import ImageDecomposeOptions

ImagesOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ENERGY=PATH",
        help="An image at an energy: 40=file (keV), 80kV=folder, Sn140kV=folder, or "
        "a bin's name; of DICOM the energy may be left out. Repeat for each.",
    ),
]
EnergiesAsGivenOption = Annotated[
    bool, typer.Option("--energies-as-given", help="Believe --image where DICOM tells another energy.")
]
ApartOption = Annotated[
    float, typer.Option(metavar="S", help="Refuse images acquired more than so many seconds apart.")
]


def decompose_images(
    run: Run,
    given: Sequence[str],
    folder: Path,
    options: ImageDecomposeOptions,
    table: Path | None,
    noise: Sequence[float] | None,
    choice: Choice,
) -> None:
    """Read the images, decompose them and write what was asked for into the folder."""
    from ctenhance.decomposition import products
    from ctenhance.decomposition.from_images.attenuation import read_table
    from ctenhance.decomposition.from_images.inference import decompose_images as decompose
    from ctenhance.decomposition.from_images.options import HU
    from ctenhance.decomposition.from_images.reading import split

    planned = products.image_names(options) + (["residual"] if options.residual else [])
    with folder_made(folder):
        outputs = {name: folder / f"{name}.nii.gz" for name in planned}
        inputs = [split(one)[1] for one in given] + ([table] if table else [])
        run.plan(inputs, *((path, VOLUME_SUFFIXES) for path in outputs.values()))
        attenuation = None if table is None else read_table(table)
        images = read_images(run, given, options.unit == HU, check_files=False, choice=choice)
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
    *,
    choice: Choice,
) -> dict[str, CTVolume]:
    """Volumes by energy, as `images_at_energies` reads them; `choice`: of the DICOM folders among them."""
    from ctenhance.decomposition.from_images.reading import images_at_energies, split

    def choices(paths: Sequence[Path]) -> list[dict[str, Any]]:
        return [one.arguments() for one in choice.each(paths)]

    return images_at_energies(
        [split(one) for one in given],
        hounsfield,
        check_files,
        choices,
        run.progress,
        run.cancel,
        lambda note: run.log(note, "note"),
    )
