"""The cascade's two networks, ready to use, from the registry or a user's files."""

from __future__ import annotations

from pathlib import Path

from ctenhance.choices import IMAGE_ARCHITECTURES, PROJECTION_ARCHITECTURES
from ctenhance.reconstruction.networks import build
from ctenhance.runtime import weights
from ctenhance.runtime.weights import Model

PROJECTION_DEFAULT, IMAGE_DEFAULT = "reconstruct-projection", "reconstruct-image"


def load_projection_model(model: str | Path | None = None) -> Model:
    """SPDiff's network on the CPU: `model` is a registry name or a weights file, the default one otherwise.

    Raises InputError where the weights are unknown, damaged, or of another network.
    """
    name = weights.default_name(PROJECTION_DEFAULT) if model is None else model
    return weights.load_model(name, PROJECTION_ARCHITECTURES, build)


def load_image_model(model: str | Path | None = None) -> Model:
    """DGDiff's network, in the same way."""
    name = weights.default_name(IMAGE_DEFAULT) if model is None else model
    return weights.load_model(name, IMAGE_ARCHITECTURES, build)
