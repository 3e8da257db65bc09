"""Architectures, and nothing else.

They take any size of sinogram or image (what is missing to whole multiples is padded inside), and are built
by name from plain arguments, as these stand in the weights registry: `build(architecture, arguments)`.

A projection network sees readings made comparable at all doses (`spdiff.features`) and gives the correction
of the middle slice in units of its own noise. An image network sees slices in units of 1000 HU."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ctenhance.runtime.engines.export import ExportForm, InTwoParts
from ctenhance.runtime.errors import InputError

SLICES = 3
#: The output's scale: a fresh network then changes the image by tens of HU, not by thousands.
CHANGE = 0.1
#: Sides of what an exported network takes are whole multiples of this.
MULTIPLE = 32
#: Channels of `spdiff.features`: the readings of three slices on two scales, then attenuation and noise.
PROJECTION_CHANNELS = 9
#: Inputs of the image network: r and l of three slices each, the diffused image, two noise levels.
IMAGE_CHANNELS = 2 * SLICES + 3


def padded(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Padded at the far sides to whole multiples, by the edge's own values."""
    down, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    return F.pad(x, (0, right, 0, down), mode="replicate") if down or right else x


def _unet(inputs: int, outputs: int, features: Sequence[int]) -> nn.Module:
    from monai.networks.nets import BasicUNet  # takes seconds, and exported networks do without it

    return BasicUNet(2, inputs, outputs, tuple(features), act=("relu", {"inplace": True}), norm=None)  # type: ignore[arg-type]


class CompactProjection(nn.Module):
    """The small projection network for CPUs: a U-Net on pixel-unshuffled sinograms.

    The noise level comes as channels of its own, ray by ray; `log_quanta` is not used.
    """

    def __init__(self, features: Sequence[int] = (24, 32, 48, 64, 96, 24)) -> None:
        super().__init__()
        self.body = _unet(4 * PROJECTION_CHANNELS, 4, features)

    def forward(self, x: torch.Tensor, log_quanta: torch.Tensor) -> torch.Tensor:
        rows, columns = x.shape[-2:]
        half = F.pixel_unshuffle(padded(x, MULTIPLE), 2)
        return F.pixel_shuffle(self.body(half), 2)[..., :rows, :columns]


def _convolutions(*channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class PublishedProjection(nn.Module):
    """SPDiff's network at its published layout and size, 4,355,041 parameters (Gao et al., NEED,
    arXiv 2506.22012; METHODS C.3).

    A U-Net of three levels without normalisation that sees the three slices' readings and, as its time, the
    logarithm of the quanta in air; here that time is continuous.
    """

    #: Sinusoids of the time, and the quanta (of air, on the logarithmic axis) that count as time 0.
    times, clean_quanta = 32, 3e5

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(self.times, 128), nn.GELU(), nn.Linear(128, self.times))
        self.inner = _convolutions(3, 64, 64)
        self.middle = _convolutions(64, 128, 128, 128)
        self.deepest = _convolutions(128, 256, 256, 256, 256, 256, 256)
        self.up = nn.ConvTranspose2d(256, 128, 2, stride=2)
        self.middle_back = _convolutions(128, 128, 128, 128)
        self.up_again = nn.ConvTranspose2d(128, 64, 2, stride=2)
        self.inner_back = _convolutions(64, 64, 64)
        self.last = nn.Conv2d(64, 1, 1)
        self.shifts = nn.ModuleList(
            nn.Sequential(nn.GELU(), nn.Linear(self.times, channels)) for channels in (64, 128, 128, 64)
        )

    def _embed(self, log_quanta: torch.Tensor) -> torch.Tensor:
        time = 10 * (math.log(self.clean_quanta) - log_quanta)
        half = self.times // 2
        rate = torch.exp(torch.arange(half, device=time.device) * (-math.log(1e4) / (half - 1)))
        phase = time[:, None] * rate
        return self.time(torch.cat([phase.sin(), phase.cos()], 1))

    def forward(self, x: torch.Tensor, log_quanta: torch.Tensor) -> torch.Tensor:
        rows, columns = x.shape[-2:]
        embedded = self._embed(log_quanta)
        shift = [part(embedded)[:, :, None, None] for part in self.shifts]
        # the readings about their wide baseline: both scales together, in units of their noise
        x = padded(x[:, :SLICES] + x[:, SLICES : 2 * SLICES] / 3, 4)
        first = self.inner(x)
        second = self.middle(F.avg_pool2d(first, 2) + shift[0])
        deepest = self.deepest(F.avg_pool2d(second, 2) + shift[1])
        second = self.middle_back(self.up(deepest) + second + shift[2])
        first = self.inner_back(self.up_again(second) + first + shift[3])
        return self.last(first)[..., :rows, :columns]


class DoublyGuided(nn.Module):
    """The image network: predicts the normal-dose slice from a diffused one and its two guides.

    Channels `[batch, 9, y, x]`, units of 1000 HU: guide r (initial reconstruction) of three slices, guide l
    (low-dose FBP) of three slices, the diffused image, the local noise level, the diffusion's noise level.
    A U-Net on pixel-unshuffled images that predicts what to add to the middle slice of r. No normalisation
    layer: HU is absolute. The guide r stands where the one-step enhancing network has its slices, so that
    training may start from that one's weights.
    """

    def __init__(self, features: Sequence[int] = (32, 48, 64, 96, 128, 32)) -> None:
        super().__init__()
        self.body = _unet(4 * IMAGE_CHANNELS, 4, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = x.shape[-2:]
        middle = x[:, SLICES // 2 : SLICES // 2 + 1]
        half = F.pixel_unshuffle(padded(x, MULTIPLE), 2)
        return middle + CHANGE * F.pixel_shuffle(self.body(half), 2)[..., :rows, :columns]


def export_form(network: nn.Module) -> ExportForm:
    """What of a network is exported: any number of slices, sides of whole multiples, which callers pad to; of
    an image network the change that it makes to the middle slice of r."""
    from torch.export import Dim

    slices, rows, columns = Dim("slices"), Dim("rows", max=1024), Dim("columns", max=1024)
    channels = IMAGE_CHANNELS if isinstance(network, DoublyGuided) else PROJECTION_CHANNELS
    x = torch.zeros(2, channels, 2 * MULTIPLE, 3 * MULTIPLE)
    free: list[dict[int, Any]] = [{0: slices, 2: MULTIPLE * rows, 3: MULTIPLE * columns}]
    if isinstance(network, PublishedProjection):
        return ExportForm(network, {"readings": x, "log_quanta": torch.zeros(2)}, [*free, {0: slices}])
    scale = CHANGE if isinstance(network, DoublyGuided) else 1.0
    body = InTwoParts(network.body, scale)  # type: ignore[arg-type]
    return ExportForm(body, {"upper": x, "lower": x.clone()}, 2 * free)


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "spdiff-compact": CompactProjection,
    "spdiff-published": PublishedProjection,
    "doubly-guided": DoublyGuided,
}


def build(architecture: str, arguments: dict[str, Any]) -> nn.Module:
    """The network of a registry entry, with fresh weights. InputError for arguments that do not fit."""
    try:
        return ARCHITECTURES[architecture](**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The arguments of the architecture '{architecture}' do not fit: {error}."
        ) from error
