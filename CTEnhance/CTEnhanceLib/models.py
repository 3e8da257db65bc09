"""The models that enhance, by name, as the panel offers them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slicer.i18n import tr as _

from ctenhance.runtime import weights
from ctenhance.runtime.errors import InputError

# Others in the registry (an autoencoder alone, models of other methods) enhance nothing.
_ENHANCING = ("twin", "latent-diffusion")


@dataclass(frozen=True)
class Model:
    """A model: what `--model` takes, its name for people, and what it was trained on."""

    key: str
    text: str
    explanation: str


def installedModels() -> list[Model]:
    """Return the models that are there, the default one first. Raises InputError for a broken registry."""
    entries = [entry for entry in weights.entries() if entry.architecture in _ENHANCING]
    try:
        default = weights.default_name("enhance")
    except InputError:  # none is marked
        default = ""
    entries.sort(key=lambda entry: entry.name != default)
    found = []
    for entry in entries:
        text = _("{name} (default)").format(name=entry.name) if entry.name == default else entry.name
        found.append(
            Model(
                entry.name,
                text,
                _("Version {version}, {licence}. Trained on {data}.").format(
                    version=entry.version, licence=entry.licence, data=entry.trained_on
                ),
            )
        )
    return found


def modelFromFile(path: str) -> Model:
    """Return a weights file as a model; whether it is one, the worker checks."""
    return Model(path, Path(path).stem, _("From the file {path}").format(path=path))
