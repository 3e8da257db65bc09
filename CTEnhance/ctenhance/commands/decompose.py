"""`ctenhance decompose`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

import ctenhance
from ctenhance.commands.apps import app
from ctenhance.commands.options import (
    Choice,
    GridRatioOption,
    KernelOption,
    MatrixOption,
    pile_up_of,
    require_grid_ratio_used,
)
from ctenhance.commands.spectral_images import (
    ApartOption,
    EnergiesAsGivenOption,
    ImagesOption,
    decompose_images,
)
from ctenhance.commands.support import VOLUME_SUFFIXES, Run, command
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import folder_made

SpectralPath = Annotated[
    Path,
    typer.Argument(metavar="IN", help="Photon-counting projections with energy bins: a .ctproj.h5 file."),
]
BasisOption = Annotated[
    str, typer.Option(help="Basis materials, one to three, by name or as name=formula@density.")
]


def names(listed: str) -> list[str]:
    """The parts of a list that was written with commas."""
    parts = [part.strip() for part in listed.split(",")]
    comma = re.search(r"@\s*(\d+),(\d+)\s*(,|$)", listed)
    if comma:
        raise InputError(
            f"'{listed}' has a comma in a density: write it with a point, as in @{comma[1]}.{comma[2]}."
        )
    if not all(parts):
        raise InputError(f"'{listed}' is no list: separate its parts by single commas, as in water,iodine.")
    return parts


def numbers(listed: str | None) -> list[float]:
    """The numbers of a list that was written with commas; none for None."""
    try:
        return [] if listed is None else [float(part) for part in names(listed)]
    except ValueError as error:
        raise InputError(f"'{listed}' is no list of numbers such as 40,70,100.") from error


# What belongs to projections alone and to images alone, with what it is where it was not given.
_OF_PROJECTIONS: dict[str, Any] = {
    "kernel": "standard", "matrix": None, "calibration": None, "dead_time": None, "view_time": None,
    "scatter": "none", "scatter_ratio": None, "grid_ratio": None,
}  # fmt: skip
_OF_IMAGES: dict[str, Any] = {
    "unit": "HU", "attenuation": None, "noise": None, "nonnegative": False, "conserve_volume": False,
    "at_most": None, "residual": False, "resample": False, "tolerance_mm": 1.0, "apart_s": 10.0,
    "energies_as_given": False, "body_mm": 200.0,
}  # fmt: skip


def _require_none(given: Mapping[str, Any], defaults: Mapping[str, Any], of: str) -> None:
    """Raise InputError for an option that would be without effect."""
    for name, default in defaults.items():
        if given[name] != default:
            raise InputError(f"--{name.replace('_', '-')} is for {of} only: leave it out.")


@command(app, "ctenhance decompose bins.ctproj.h5 maps --basis water,iodine --vmi 40,70,100 --vnc --errors")
def decompose(
    run: Run,
    choice: Choice,
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[IN]",
            help="Photon-counting projections with energy bins: a .ctproj.h5 file; leave out with --image.",
        ),
    ] = None,
    folder: Annotated[
        Path | None, typer.Argument(metavar="OUTDIR", help="A folder for the maps; made if missing.")
    ] = None,
    image: ImagesOption = None,
    basis: BasisOption = "water,iodine",
    vmi: Annotated[
        str | None, typer.Option(metavar="KEV,…", help="Monoenergetic images at these energies.")
    ] = None,
    low_noise: Annotated[
        bool, typer.Option("--low-noise", help="Monoenergetic images at the noise of the quietest energy.")
    ] = False,
    guided_maps: Annotated[
        bool, typer.Option("--guided-maps", help="Maps from which viewers make low-noise images.")
    ] = False,
    vnc: Annotated[bool, typer.Option("--vnc", help="A virtual non-contrast image (HU at 70 keV).")] = False,
    zeff: Annotated[bool, typer.Option("--zeff", help="The effective atomic number.")] = False,
    electron_density: Annotated[
        bool, typer.Option("--electron-density", help="The electron density relative to water.")
    ] = False,
    errors: Annotated[
        bool, typer.Option("--errors", help="Standard errors of the maps, from the Fisher information.")
    ] = False,
    kernel: KernelOption = "standard",
    matrix: MatrixOption = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Threshold shifts that 'calibrate drift' found.")
    ] = None,
    dead_time: Annotated[
        float | None, typer.Option(metavar="NS", help="Undo pile-up: the detector's dead time in ns …")
    ] = None,
    view_time: Annotated[float | None, typer.Option(metavar="US", help="… and a view's time in µs.")] = None,
    scatter: Annotated[
        str, typer.Option(help="Scatter correction: none, kernel, network, or a network's weights.")
    ] = "none",
    scatter_ratio: Annotated[
        float | None,
        typer.Option(help="The scanner's scatter to primary behind 300 mm of water, if the scan tells none."),
    ] = None,
    grid_ratio: GridRatioOption = None,
    unit: Annotated[str, typer.Option(help="The unit of --image: HU, 1/cm or 1/mm.")] = "HU",
    attenuation: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Of each --image the mass attenuations in cm²/g (image,water,iodine,…) or the spectrum "
            "(keV,bin1,bin2,…).",
        ),
    ] = None,
    noise: Annotated[
        str | None, typer.Option(metavar="HU,…", help="The noise of each --image; measured otherwise.")
    ] = None,
    nonnegative: Annotated[
        bool, typer.Option("--nonnegative", help="No density below zero (--image).")
    ] = False,
    conserve_volume: Annotated[
        bool, typer.Option("--conserve-volume", help="The materials' volumes add up to the voxel (--image).")
    ] = False,
    at_most: Annotated[
        int | None, typer.Option(metavar="N", help="At most so many materials in one voxel (--image).")
    ] = None,
    residual: Annotated[
        bool, typer.Option("--residual", help="Where the basis does not explain each --image, in noise.")
    ] = False,
    resample: Annotated[
        bool, typer.Option("--resample", help="Bring each --image onto the grid of the first.")
    ] = False,
    tolerance_mm: Annotated[
        float, typer.Option(metavar="MM", help="How far one --image may lie from the first.")
    ] = 1.0,
    apart_s: ApartOption = 10.0,
    energies_as_given: EnergiesAsGivenOption = False,
    body_mm: Annotated[
        float, typer.Option(metavar="MM", help="Water that hardens the beam of an --image at a kV.")
    ] = 200.0,
) -> None:
    """Decompose spectral data into maps of materials.

    A photon-counting scan's projections in energy bins, or images at several energies. Monoenergetic and
    other spectral images can come with the maps.
    """
    given = locals()
    if low_noise and vmi is None:
        raise InputError("--low-noise is for the images of --vmi: leave it out, or add --vmi.")
    if image:
        _require_none(given, _OF_PROJECTIONS, "projections")
        if source is None:
            raise InputError("Give a folder for the maps beside the images.")
        if folder is not None:
            raise InputError(f"Give projections ('{source}') or --image, not both.")
        from ctenhance.decomposition.from_images.options import ImageDecomposeOptions

        of_images = ImageDecomposeOptions(
            basis=names(basis), vmi=numbers(vmi), low_noise=low_noise, guided_maps=guided_maps, vnc=vnc,
            zeff=zeff, electron_density=electron_density, errors=errors, residual=residual, unit=unit,
            nonnegative=nonnegative, conserve_volume=conserve_volume, at_most=at_most, resample=resample,
            tolerance_mm=tolerance_mm, apart_s=apart_s, energies_as_given=energies_as_given,
            body_mm=body_mm, device=run.device, seed=run.seed,
        )  # fmt: skip
        levels = numbers(noise) or None
        decompose_images(run, image, source, of_images, attenuation, levels, choice)
        return
    _require_none(given, _OF_IMAGES, "images (--image)")
    if choice:
        raise InputError("Series and images can be chosen for --image only; leave the choice out.")
    if source is None or folder is None:
        raise InputError(
            "Give the projections and a folder for the maps, or images at energies with --image."
        )
    materials, energies = names(basis), numbers(vmi)
    require_grid_ratio_used(grid_ratio, scatter)
    pile_up = pile_up_of(dead_time, view_time)
    from ctenhance.decomposition.products import image_names

    options = ctenhance.DecomposeOptions(
        basis=materials,
        vmi=energies,
        low_noise=low_noise,
        guided_maps=guided_maps,
        vnc=vnc,
        zeff=zeff,
        electron_density=electron_density,
        errors=errors,
        kernel=kernel,
        image_size=matrix,
        calibration=calibration,
        pile_up=pile_up,
        scatter=scatter,
        scatter_ratio=scatter_ratio,
        grid_ratio=grid_ratio,
        device=run.device,
        seed=run.seed,
    )
    with folder_made(folder):
        outputs = {name: folder / f"{name}.nii.gz" for name in image_names(options)}
        run.plan([source], *((path, VOLUME_SUFFIXES) for path in outputs.values()))
        projections = ctenhance.read_projections(source, run.progress, run.cancel)
        result = ctenhance.decompose(projections, options=options, progress=run.progress, cancel=run.cancel)
        run.write_result(result, outputs)
