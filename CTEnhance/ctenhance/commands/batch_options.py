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
    "enhance": ("model", "strength", "steps", "samples", "engine"),
    "degrade": ("preset", "dose"),
    "compare": ("after", "reference"),
    "decompose": (
        "basis", "vmi", "low_noise", "guided_maps", "vnc", "zeff", "electron_density", "errors", "kernel",
        "matrix", "calibration", "scatter", "scatter_ratio", "grid_ratio",
    ),
    "reconstruct": (
        "method", "kernel", "matrix", "fov", "model_projection", "model_image", "projection_steps",
        "image_steps", "engine",
    ),
}  # fmt: skip
_FIELDS = {"matrix": "image_size", "fov": "fov_mm"}


def verb_of(verb: str, given: Mapping[str, Any], run: Run) -> Verb:
    """The verb with its settings; `given` are the values of all options that belong to a verb.

    Raises InputError for a verb that there is not, for options of another one, and for settings that no case
    could use.
    """
    from ctenhance.batch.verbs import VERBS

    if verb not in OF_VERB:
        raise InputError(f"There is no verb '{verb}' for a batch: choose {', '.join(OF_VERB)}.")
    values = {name: value for name, value in given.items() if value not in (None, False)}
    for name in values:
        if name not in OF_VERB[verb]:
            others = " and ".join(one for one, own in OF_VERB.items() if name in own)
            raise InputError(
                f"--{name.replace('_', '-')} is for --verb {others} only, not for {verb}: leave it out."
            )
    found: Verb = VERBS[verb].of(_options(verb, values, run))
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
