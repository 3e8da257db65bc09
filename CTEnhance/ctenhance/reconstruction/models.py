"""The cascade's two networks, ready to use, from the registry or a user's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ctenhance.reconstruction.networks import IMAGE_ARCHITECTURES, PROJECTION_ARCHITECTURES, build
from ctenhance.runtime import weights
from ctenhance.runtime.weights import WeightsEntry

PROJECTION_DEFAULT, IMAGE_DEFAULT = "reconstruct-projection", "reconstruct-image"


@dataclass(frozen=True)
class Model:
    """A network with its entry, on the CPU."""

    network: nn.Module
    entry: WeightsEntry


def _load(model: str | Path, architectures: Sequence[str]) -> Model:
    tensors, entry = weights.load(model, architectures)
    network = build(entry.architecture, entry.arguments)
    weights.fill(network, tensors, entry)
    return Model(network.eval(), entry)


def load_projection_model(model: str | Path | None = None) -> Model:
    """SPDiff's network: `model` is a registry name or a weights file, the default one otherwise.

    Raises InputError where the weights are unknown, damaged, or of another network.
    """
    return _load(
        weights.default_name(PROJECTION_DEFAULT) if model is None else model, PROJECTION_ARCHITECTURES
    )


def load_image_model(model: str | Path | None = None) -> Model:
    """DGDiff's network, in the same way."""
    return _load(weights.default_name(IMAGE_DEFAULT) if model is None else model, IMAGE_ARCHITECTURES)
