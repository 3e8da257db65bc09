"""The cascade's two networks, ready to use, from the registry or a user's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctenhance.choices import IMAGE_ARCHITECTURES, PROJECTION_ARCHITECTURES
from ctenhance.reconstruction.networks import MULTIPLE, SLICES, PublishedProjection, build, padded
from ctenhance.runtime import weights
from ctenhance.runtime.engines.base import TORCH, Network, in_two_parts
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


def on_engine(model: Model, engine: Any, at_once: int = 1) -> Callable[..., torch.Tensor]:
    """The network ready on an engine: tensors in and out as those of `networks.build`, on torch's device
    where that is the engine, on the CPU otherwise, where it may be called from `at_once` threads together."""
    if engine.name == TORCH:
        ready: Callable[..., torch.Tensor] = engine.network(model.network).run
        return ready
    exported = engine.network(weights.exported(model.entry.name), model.entry.name, at_once)
    if isinstance(model.network, PublishedProjection):
        return lambda x, log_quanta: _run(exported, x, lambda values: (values, log_quanta.numpy()))
    if model.entry.architecture in IMAGE_ARCHITECTURES:
        middle = slice(SLICES // 2, SLICES // 2 + 1)
        return lambda x: x[:, middle] + _run(exported, x, in_two_parts)
    return lambda x, _log_quanta: _run(exported, x, in_two_parts)


def _run(
    network: Network, x: torch.Tensor, inputs: Callable[[np.ndarray], tuple[np.ndarray, ...]]
) -> torch.Tensor:
    """An exported network on a tensor of any size: padded as the network itself does it, and cut again."""
    rows, columns = x.shape[-2:]
    whole = padded(x, MULTIPLE).contiguous().numpy()
    return torch.from_numpy(network(*inputs(whole))[..., :rows, :columns])
