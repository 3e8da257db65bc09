"""Trains the networks that the project's models are held against, on the same pairs and for the same time.

    python benchmarks/train_peers.py red-cnn DATA RUN --minutes 60 --validation PAIRS --exclude NAME …
    python benchmarks/train_peers.py plain-unet DATA RUN --minutes 60 --bank RUN_OF_ANOTHER/bank

`red-cnn`: Chen et al. 2017, five convolutions of 5 x 5 and as many transposed ones with 96 channels, three
shortcuts, one slice in and out. `plain-unet`: a U-Net in pixels, three slices in, with batch normalisation
and no shortcut round it, as tutorials have it. Both learn the mean squared error, as published. A run resumes
where it was stopped; RUN/best.safetensors is what `run.py --trained` takes.
"""

from __future__ import annotations

import argparse
import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets import BasicUNet
from torch import nn

from ctenhance.enhancement.training import course_of, middle_of, pairs_validation
from ctenhance.runtime import weights
from ctenhance.runtime.weights import WeightsEntry
from ctenhance.training.loop import Settings
from ctenhance.training.options import TwinTraining


class RedCnn(nn.Module):
    """RED-CNN (Chen et al. 2017, IEEE TMI 36:2524): no padding on the way in, transposed on the way out."""

    def __init__(self, channels: int = 96) -> None:
        super().__init__()
        sides = [1, *[channels] * 5]
        down = itertools.pairwise(sides)
        self.down = nn.ModuleList([nn.Conv2d(a, b, 5) for a, b in down])
        up = [(channels, channels)] * 4 + [(channels, 1)]
        self.up = nn.ModuleList([nn.ConvTranspose2d(a, b, 5) for a, b in up])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, 1:2]  # one slice, as published
        kept, h = [x], x
        for number, layer in enumerate(self.down):
            h = F.relu(layer(h))
            if number in (1, 3):
                kept.append(h)
        for number, layer in enumerate(self.up):
            h = layer(h)
            if number in (0, 2, 4):
                h = h + kept.pop()
            if number < 4 or h.shape[1] > 1:
                h = F.relu(h)
        return h


class PlainUNet(nn.Module):
    """A U-Net that gives the middle of three slices."""

    def __init__(self, features: tuple[int, ...] = (32, 32, 64, 128, 256, 32)) -> None:
        super().__init__()
        self.body = BasicUNet(2, 3, 1, features, norm="batch")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


NETWORKS: dict[str, type[nn.Module]] = {"red-cnn": RedCnn, "plain-unet": PlainUNet}


def load(path: Path) -> tuple[nn.Module, WeightsEntry]:
    """A trained peer, ready, and the entry of its weights. Raises InputError where it is none."""
    tensors, entry = weights.load(path, NETWORKS)
    network = NETWORKS[entry.architecture]()
    weights.fill(network, tensors, entry)
    return network.eval(), entry


def train(name: str, data: Path, run: Path, options: TwinTraining, progress: Any = None) -> Path:
    """Train a peer as `train_twin` trains the one-step network, but for its loss and its rate."""
    validate = pairs_validation(options.validation, 32)
    taught = course_of(data, run, options, replace(Settings.of(options), learning_rate=2e-4), progress, None)

    def loss(model: nn.Module, step: int, rank: int, where: torch.device) -> torch.Tensor:
        degraded, target = middle_of(taught.pairs(options.batch, step, rank), where)
        return 100 * F.mse_loss(model(degraded).float(), target)

    return taught.run(NETWORKS[name](), loss, name, {}, validate)


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("name", choices=NETWORKS)
    add("data", type=Path)
    add("run", type=Path)
    add("--bank", type=Path, help="the noise bank of another run, to save making it again")
    add("--validation", type=Path)
    add("--exclude", nargs="*", default=[])
    add("--minutes", type=float, default=math.inf)
    add("--steps", type=int, default=20000)
    add("--batch", type=int, default=6)
    given = parser.parse_args()
    given.run.mkdir(parents=True, exist_ok=True)
    if given.bank is not None and not (given.run / "bank").exists():
        (given.run / "bank").symlink_to(given.bank.resolve(), target_is_directory=True)
    options = TwinTraining(
        validation=given.validation,
        exclude=given.exclude,
        minutes=given.minutes,
        steps=given.steps,
        batch=given.batch,
        device="cpu",
    )
    print(train(given.name, given.data, given.run, options))


if __name__ == "__main__":
    main()
