"""`ctenhance reconstruct`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import ctenhance
from ctenhance.choices import DEFAULT_RECONSTRUCT_STEPS, ENGINES
from ctenhance.commands.apps import app
from ctenhance.commands.options import EngineOption, KernelOption, MatrixOption, OutputPath
from ctenhance.commands.support import VOLUME_SUFFIXES, Run, command
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import stem_of, suffix_of

ProjectionsPath = Annotated[
    Path,
    typer.Argument(metavar="IN", help="Projections: a .ctproj.h5 file or a folder of DICOM-CT-PD files."),
]


def _beside(target: Path, stage: str) -> Path:
    """The name of another stage's volume: `out.nii.gz` becomes `out_fbp.nii.gz`."""
    return target.with_name(f"{stem_of(target)}_{stage}{suffix_of(target)}")


@command(app, "ctenhance reconstruct low_dose.ctproj.h5 chest.nii.gz --method need --report chest.json")
def reconstruct(
    run: Run,
    source: ProjectionsPath,
    target: OutputPath,
    method: Annotated[
        str,
        typer.Option(help="fbp; projection (denoised projections, then FBP); need (projections and images)."),
    ] = "need",
    kernel: KernelOption = "standard",
    engine: EngineOption = "auto",
    matrix: MatrixOption = None,
    fov: Annotated[
        float | None, typer.Option(help="Field of view in mm; as the file suggests otherwise.")
    ] = None,
    all_stages: Annotated[
        bool, typer.Option("--all", help="Write the other stages beside OUT, as …_fbp and …_projection.")
    ] = False,
    uncertainty: Annotated[
        Path | None, typer.Option(metavar="MAP", help="Write the draws' standard deviation (HU) as a volume.")
    ] = None,
    residual: Annotated[
        Path | None,
        typer.Option(metavar="MAP", help="Write what the data say and the result does not (HU) as a volume."),
    ] = None,
    sinogram: Annotated[
        Path | None,
        typer.Option(metavar="MAP", help="Write the measured line integrals: slices of views and columns."),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Draws for the uncertainty map; 4 if not given.")
    ] = None,
    model_projection: Annotated[
        str | None, typer.Option(help="Weights for the projections, by name or path.")
    ] = None,
    model_image: Annotated[str | None, typer.Option(help="Weights for the images, by name or path.")] = None,
    projection_steps: Annotated[
        int, typer.Option(help="Diffusion steps on the projections.")
    ] = DEFAULT_RECONSTRUCT_STEPS,
    image_steps: Annotated[
        int, typer.Option(help="Diffusion steps on the images.")
    ] = DEFAULT_RECONSTRUCT_STEPS,
) -> None:
    """Reconstruct low-dose projections into a CT volume."""
    if samples is not None and uncertainty is None:
        raise InputError(
            "--samples is for the map of --uncertainty only: leave it out, or add --uncertainty."
        )
    networks = [] if method == "fbp" and not all_stages else ["projection"]
    networks += ["image"] if method == "need" else []
    given = {
        "projection": {"model-projection": model_projection, "projection-steps": projection_steps},
        "image": {"model-image": model_image, "image-steps": image_steps},
    }
    unused = {name: value for key in given if key not in networks for name, value in given[key].items()}
    unused |= {} if networks else {"engine": engine}
    for name, value in unused.items():
        if value not in (None, DEFAULT_RECONSTRUCT_STEPS, ENGINES[0]):
            raise InputError(f"--{name} has no effect on the method {method}: leave it out.")
    stages = {name: _beside(target, name) for name in ("fbp", "projection")} if all_stages else {}
    planned = [target, uncertainty, residual, sinogram, *stages.values()]
    run.plan([source], *((path, VOLUME_SUFFIXES) for path in planned))
    options = ctenhance.ReconstructOptions(
        method=method,
        kernel=kernel,
        image_size=matrix,
        fov_mm=fov,
        all_stages=all_stages,
        uncertainty=uncertainty is not None,
        residual=residual is not None,
        samples=samples,
        model_projection=model_projection,
        model_image=model_image,
        projection_steps=projection_steps,
        image_steps=image_steps,
        device=run.device,
        engine=engine,
        seed=run.seed,
    )
    from ctenhance.scan.sinogram import sinogram as measured_sinogram

    projections = ctenhance.read_projections(source, run.progress, run.cancel)
    result = ctenhance.reconstruct(projections, options=options, progress=run.progress, cancel=run.cancel)
    if sinogram is not None:
        result.maps["sinogram"] = measured_sinogram(projections, run.cancel)
    maps = {"uncertainty": uncertainty, "residual": residual, "sinogram": sinogram}
    run.write_result(result, {"reconstruction": target, **stages, **maps})
