"""The cascade's two networks, ready to use, from the registry or a user's files."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ctenhance.choices import IMAGE_ARCHITECTURES, PROJECTION_ARCHITECTURES
from ctenhance.reconstruction.networks import MULTIPLE, SLICES, build, padded
from ctenhance.runtime import weights
from ctenhance.runtime.engines.base import TORCH, Network, in_two_parts
from ctenhance.runtime.weights import WeightsEntry

PROJECTION_DEFAULT, IMAGE_DEFAULT = "reconstruct-projection", "reconstruct-image"


@dataclass
class Model:
    """Weights that were found sound, by their entry; `source` is a registry name or a file."""

    entry: WeightsEntry
    source: str | Path

    @cached_property
    def network(self) -> nn.Module:
        """The network in torch, on the CPU. InputError where the weights do not fit their architecture."""
        return weights.load_model(self.source, (self.entry.architecture,), build).network


def load_projection_model(model: str | Path | None = None) -> Model:
    """SPDiff's network: `model` is a registry name or a weights file, the default one otherwise.

    Raises InputError where the weights are unknown, damaged, or of another network.
    """
    return _load(PROJECTION_DEFAULT, model, PROJECTION_ARCHITECTURES)


def load_image_model(model: str | Path | None = None) -> Model:
    """DGDiff's network, in the same way."""
    return _load(IMAGE_DEFAULT, model, IMAGE_ARCHITECTURES)


def _load(default: str, model: str | Path | None, architectures: Collection[str]) -> Model:
    source = weights.default_name(default) if model is None else model
    _path, entry = weights.find(source, architectures)
    return Model(entry, source)


def on_engine(model: Model, engine: Any, at_once: int = 1) -> Callable[..., torch.Tensor]:
    """The network ready on an engine: tensors in and out as those of `networks.build`, on torch's device
    where that is the engine, on the CPU otherwise, where it may be called from `at_once` threads together."""
    if engine.name == TORCH:
        ready: Callable[..., torch.Tensor] = engine.network(model.network).run
        return ready
    exported = engine.network(weights.exported(model.entry.name), model.entry.name, at_once)
    if model.entry.architecture == "spdiff-published":
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
