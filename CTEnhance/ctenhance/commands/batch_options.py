"""The settings of `ctenhance batch`: those of its verb, made into what the workers get."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ctenhance
from ctenhance.commands.decompose import names, numbers
from ctenhance.commands.support import Run
from ctenhance.runtime.errors import InputError

if TYPE_CHECKING:
    from ctenhance.batch.verbs import Verb

#: The options of each verb, by the names of the command's parameters.
OF_VERB: dict[str, tuple[str, ...]] = {
    "enhance": ("model", "strength", "steps", "samples", "uncertainty", "engine"),
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


def verb_of(verb: str, given: Mapping[str, Any], run: Run) -> Verb:
    """The verb with its settings; `given` are the values of all options that belong to a verb.

    Raises InputError for a verb that there is not, for options of another one, and for settings that no case
    could use.
    """
    from ctenhance.batch.verbs import VERBS

    if verb not in OF_VERB:
        raise InputError(f"There is no verb '{verb}' for a batch: choose {', '.join(OF_VERB)}.")
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
        return _of_images(values, run)
    found: Verb = VERBS[verb].of(_options(verb, values, run))
    return found


def _require_one_kind(values: Mapping[str, Any]) -> None:
    """Raise InputError for an option that would be without effect."""
    others, kind = (OF_PROJECTIONS, "projections") if "image" in values else (OF_IMAGES, "images (--image)")
    for name in values:
        if name in others:
            raise InputError(f"--{name.replace('_', '-')} is for {kind} only: leave it out.")


def _of_images(values: Mapping[str, Any], run: Run) -> Verb:
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
    found: Verb = DecomposeImages.of(OfImages(energies, options, table, noise))
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
        dead_time, view_time = fields.pop("dead_time", None), fields.pop("view_time", None)
        if (dead_time is None) != (view_time is None):
            raise InputError("Pile-up needs both --dead-time and --view-time.")
        if dead_time is not None and view_time is not None:
            from ctenhance.physics.detector import PileUp

            fields["pile_up"] = PileUp(1e-9 * dead_time, 1e-6 * view_time)
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
