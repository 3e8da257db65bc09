"""The settings of `ctenhance batch`: those of its verb, made into what the workers get."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import ctenhance
from ctenhance.commands.decompose import names, numbers
from ctenhance.commands.options import Choice, pile_up_of
from ctenhance.commands.support import Run
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.words import either

if TYPE_CHECKING:
    from ctenhance.batch.verbs import Verb

#: The options of the verbs, by the names of their settings.
OPTIONS: dict[str, Any] = {
    "model": Annotated[str | None, typer.Option(help="enhance: weights by name or path.")],
    "strength": Annotated[
        float | None, typer.Option(min=0, max=1, help="enhance: 0 keeps the input, 1 is the full effect.")
    ],
    "keep_faint": Annotated[
        float | None,
        typer.Option(min=0, max=1, help="enhance: what of faint lesions to keep, as for one scan."),
    ],
    "steps": Annotated[int | None, typer.Option(min=1, help="enhance: diffusion steps.")],
    "samples": Annotated[
        int | None, typer.Option(min=1, help="enhance, reconstruct: draws, as for a single one.")
    ],
    "uncertainty": Annotated[
        bool | None, typer.Option("--uncertainty", help="enhance, reconstruct: a map of it for each case.")
    ],
    "engine": Annotated[
        str | None, typer.Option(help="enhance, reconstruct: what runs the networks, as for a single one.")
    ],
    "preset": Annotated[
        str | None, typer.Option(help="degrade: routine or a published one; a seed of its own for each case.")
    ],
    "dose": Annotated[float | None, typer.Option(help="degrade: fraction of the full dose.")],
    "after": Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="compare: the volumes after, by the same names.")
    ],
    "reference": Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="compare: the truth, by the same names.")
    ],
    "basis": Annotated[str | None, typer.Option(help="decompose: basis materials.")],
    "vmi": Annotated[str | None, typer.Option(metavar="KEV,…", help="decompose: energies of images.")],
    "low_noise": Annotated[bool | None, typer.Option("--low-noise", help="decompose: quiet images.")],
    "guided_maps": Annotated[bool | None, typer.Option("--guided-maps", help="decompose: maps for viewers.")],
    "vnc": Annotated[bool | None, typer.Option("--vnc", help="decompose: a virtual non-contrast image.")],
    "zeff": Annotated[bool | None, typer.Option("--zeff", help="decompose: the effective atomic number.")],
    "electron_density": Annotated[
        bool | None, typer.Option("--electron-density", help="decompose: relative to water.")
    ],
    "errors": Annotated[bool | None, typer.Option("--errors", help="decompose: standard errors of maps.")],
    "calibration": Annotated[
        Path | None, typer.Option(metavar="FILE", help="decompose: threshold shifts, for all cases.")
    ],
    "scatter": Annotated[str | None, typer.Option(help="decompose: none, kernel, network, weights.")],
    "scatter_ratio": Annotated[float | None, typer.Option(help="decompose: the scanner's ratio.")],
    "grid_ratio": Annotated[float | None, typer.Option(help="decompose: of the anti-scatter grid.")],
    "dead_time": Annotated[
        float | None, typer.Option(metavar="NS", help="decompose: undo pile-up, the dead time in ns …")
    ],
    "view_time": Annotated[float | None, typer.Option(metavar="US", help="… and a view's time in µs.")],
    "image": Annotated[
        list[str] | None,
        typer.Option(
            metavar="ENERGY=NAME",
            help="decompose: images at energies in place of projections; by the name in the folder of each "
            "case (40=low.nii.gz, 80kV=A), a pattern (40=*_40.nii.gz), or '.' for its DICOM. Repeat.",
        ),
    ],
    "unit": Annotated[str | None, typer.Option(help="decompose --image: HU, 1/cm or 1/mm.")],
    "attenuation": Annotated[
        Path | None, typer.Option(metavar="CSV", help="decompose --image: attenuations or spectra.")
    ],
    "noise": Annotated[str | None, typer.Option(metavar="HU,…", help="decompose --image: of each.")],
    "nonnegative": Annotated[
        bool | None, typer.Option("--nonnegative", help="decompose --image: no density below zero.")
    ],
    "conserve_volume": Annotated[
        bool | None, typer.Option("--conserve-volume", help="decompose --image: volumes add up to the voxel.")
    ],
    "at_most": Annotated[
        int | None, typer.Option(metavar="N", help="decompose --image: materials in one voxel.")
    ],
    "residual": Annotated[
        bool | None,
        typer.Option(
            "--residual", help="decompose --image, reconstruct: what is left unexplained, as a map."
        ),
    ],
    "resample": Annotated[
        bool | None, typer.Option("--resample", help="decompose --image: onto the grid of the first.")
    ],
    "tolerance_mm": Annotated[
        float | None, typer.Option(metavar="MM", help="decompose --image: how far they may lie apart.")
    ],
    "apart_s": Annotated[
        float | None, typer.Option(metavar="S", help="decompose --image: how many seconds apart.")
    ],
    "energies_as_given": Annotated[
        bool | None, typer.Option("--energies-as-given", help="decompose --image: where DICOM tells others.")
    ],
    "body_mm": Annotated[
        float | None, typer.Option(metavar="MM", help="decompose --image: water that hardens a beam.")
    ],
    "method": Annotated[str | None, typer.Option(help="reconstruct: fbp, projection or need.")],
    "kernel": Annotated[str | None, typer.Option(help="reconstruct, decompose: the kernel.")],
    "matrix": Annotated[int | None, typer.Option(help="reconstruct, decompose: pixels a side.")],
    "fov": Annotated[float | None, typer.Option(help="reconstruct: field of view in mm.")],
    "model_projection": Annotated[str | None, typer.Option(help="reconstruct: weights.")],
    "model_image": Annotated[str | None, typer.Option(help="reconstruct: weights.")],
    "projection_steps": Annotated[int | None, typer.Option(help="reconstruct: diffusion steps.")],
    "image_steps": Annotated[int | None, typer.Option(help="reconstruct: diffusion steps.")],
    "all": Annotated[
        bool | None,
        typer.Option("--all", help="reconstruct: the other stages, too, as NAME.fbp and NAME.projection."),
    ],
}
#: Which of them each verb takes.
OF_VERB: dict[str, tuple[str, ...]] = {
    "enhance": ("model", "strength", "keep_faint", "steps", "samples", "uncertainty", "engine"),
    "degrade": ("preset", "dose"),
    "compare": ("after", "reference"),
    "decompose": (
        "basis", "vmi", "low_noise", "guided_maps", "vnc", "zeff", "electron_density", "errors", "kernel",
        "matrix", "calibration", "scatter", "scatter_ratio", "grid_ratio", "dead_time", "view_time",
        "image", "unit", "attenuation", "noise", "nonnegative", "conserve_volume", "at_most", "residual",
        "resample", "tolerance_mm", "apart_s", "energies_as_given", "body_mm",
    ),
    "reconstruct": (
        "method", "kernel", "matrix", "fov", "model_projection", "model_image", "projection_steps",
        "image_steps", "all", "uncertainty", "samples", "residual", "engine",
    ),
}  # fmt: skip
#: Of these the ones for images, and the ones for projections.
OF_IMAGES = OF_VERB["decompose"][OF_VERB["decompose"].index("image") :]
OF_PROJECTIONS = (
    "kernel", "matrix", "calibration", "scatter", "scatter_ratio", "grid_ratio", "dead_time", "view_time",
)  # fmt: skip
_FIELDS = {"matrix": "image_size", "fov": "fov_mm", "all": "all_stages"}


def given_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were given. A 0 is (--strength 0), although it equals False."""
    return {
        name: value
        for name, value in given.items()
        if value is not None and value is not False and value != []
    }


def verb_of(verb: str, given: Mapping[str, Any], run: Run, choice: Choice) -> Verb:
    """The verb with its settings; `given`: the values of all options that belong to a verb, `choice`: of the
    images at energies.

    Raises InputError for a verb that there is not, for options of another one, and for settings that no case
    could use.
    """
    from ctenhance.batch.verbs import VERBS

    if verb not in OF_VERB:
        raise InputError(f"There is no verb '{verb}' for a batch: choose {either(OF_VERB)}.")
    values = given_values(given)
    for name in values:
        if name not in OF_VERB[verb]:
            others = " and ".join(one for one, own in OF_VERB.items() if name in own)
            raise InputError(
                f"--{name.replace('_', '-')} is for --verb {others} only, not for {verb}: leave it out."
            )
    if verb == "decompose":
        _require_one_kind(values)
    if "image" in values:
        return _of_images(values, run, choice)
    found: Verb = VERBS[verb].of(_options(verb, values, run))
    return found


def _require_one_kind(values: Mapping[str, Any]) -> None:
    """Raise InputError for an option that would be without effect."""
    others, kind = (OF_PROJECTIONS, "projections") if "image" in values else (OF_IMAGES, "images (--image)")
    for name in values:
        if name in others:
            raise InputError(f"--{name.replace('_', '-')} is for {kind} only: leave it out.")


def _of_images(values: Mapping[str, Any], run: Run, choice: Choice) -> Verb:
    from ctenhance.batch.spectral import DecomposeImages, OfImages
    from ctenhance.decomposition.from_images.options import ImageDecomposeOptions
    from ctenhance.decomposition.from_images.reading import split

    fields = {name: value for name, value in values.items() if name not in ("image", "noise", "attenuation")}
    fields["basis"] = names(fields.get("basis", "water,iodine"))
    fields["vmi"] = numbers(fields.get("vmi"))
    options = ImageDecomposeOptions(**fields, device=run.device, seed=run.seed)
    table = values.get("attenuation")
    if table is not None:
        _require_file(table)
        table = Path(table).absolute()
    noise = tuple(numbers(values.get("noise"))) or None
    energies = tuple(split(one)[0] for one in values["image"])
    chosen = choice.arguments() if choice else {}
    found: Verb = DecomposeImages.of(OfImages(energies, options, table, noise, chosen))
    return found


def _options(verb: str, values: Mapping[str, Any], run: Run) -> Any:
    if verb == "compare":
        if "after" not in values:
            raise InputError("A batch of comparisons needs --after, the folder with the volumes after.")
        return {"reference": "reference" in values}
    fields = {_FIELDS.get(name, name): value for name, value in values.items()}
    if verb == "decompose":
        fields["basis"] = names(fields.get("basis", "water,iodine"))
        fields["vmi"] = numbers(fields.get("vmi"))
        scatter = fields.get("scatter")
        if scatter is not None and Path(str(scatter)).exists():
            fields["scatter"] = Path(scatter).absolute()
        pile_up = pile_up_of(fields.pop("dead_time", None), fields.pop("view_time", None))
        if pile_up is not None:
            fields["pile_up"] = pile_up
        if "calibration" in fields:
            _require_file(fields["calibration"])
            fields["calibration"] = Path(fields["calibration"]).absolute()
    for name in ("model", "model_projection", "model_image"):  # a worker may work in another folder
        if name in fields and Path(fields[name]).is_file():
            fields[name] = str(Path(fields[name]).absolute())
    options = {
        "enhance": ctenhance.EnhanceOptions,
        "degrade": ctenhance.DegradeOptions,
        "decompose": ctenhance.DecomposeOptions,
        "reconstruct": ctenhance.ReconstructOptions,
    }[verb]
    return options(**fields, device=run.device, seed=run.seed)


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"There is no file '{path}'; check the path.")
