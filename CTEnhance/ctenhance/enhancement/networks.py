"""Architectures, and nothing else.

All of them take three neighbouring slices (below, middle, above) in units of 1000 HU, `[batch, 3, y, x]`
with y and x multiples of `multiple`, give the middle slice `[batch, 1, y, x]`, and are built by name from
plain arguments, as these stand in the weights registry: `build(architecture, arguments)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets import BasicUNet
from torch import nn
from torch.export import Dim

from ctenhance.choices import DEFAULT_ENHANCE_STEPS
from ctenhance.enhancement import sampler
from ctenhance.runtime.engines.export import ExportForm, InTwoParts
from ctenhance.runtime.errors import InputError

SLICES = 3
#: The output's scale: a fresh network then changes the image by tens of HU, not by thousands.
CHANGE = 0.1
#: Pixels a side that become the channels of one latent of the diffusion.
UNIT = 4


def _unet(inputs: int, outputs: int, features: Sequence[int]) -> BasicUNet:
    return BasicUNet(2, inputs, outputs, tuple(features), act=("relu", {"inplace": True}), norm=None)  # type: ignore[arg-type]


#: The steps of a U-Net in the order of their `widths`: pairs of convolutions from the finest grid to the
#: coarsest, and back up, each behind an upsampling.
DOWN = ("conv_0", *(f"down_{level}.convs" for level in (1, 2, 3, 4)))
UP = ("upcat_4", "upcat_3", "upcat_2", "upcat_1")


def _with_widths(body: BasicUNet, widths: Sequence[Sequence[int]]) -> BasicUNet:
    """The U-Net with convolutions of so many outputs each: a pair in each step down, and in each step up
    those of the upsampling and the pair."""
    lengths = [len(step) for step in widths]
    if lengths != [2] * len(DOWN) + [3] * len(UP):
        raise ValueError("widths are five pairs and four threes")

    def pair(name: str, inputs: int, outputs: Sequence[int]) -> int:
        for k, number in enumerate(outputs):
            body.get_submodule(f"{name}.conv_{k}").conv = nn.Conv2d(inputs, number, 3, padding=1)
            inputs = number
        return inputs

    last = int(body.get_submodule("conv_0.conv_0.conv").in_channels)  # type: ignore[arg-type]
    skips = [last := pair(name, last, outputs) for name, outputs in zip(DOWN, widths, strict=False)][:-1]
    for name, (raised, *outputs) in zip(UP, widths[len(DOWN) :], strict=True):
        body.get_submodule(f"{name}.upsample").deconv = nn.ConvTranspose2d(last, raised, 2, stride=2)
        last = pair(f"{name}.convs", skips.pop() + raised, outputs)
    body.final_conv = nn.Conv2d(last, body.final_conv.out_channels, 1)
    return body


class Twin(nn.Module):
    """The one-step network: a U-Net on pixel-unshuffled slices that predicts what to add to the middle slice.

    No normalisation layer: HU is absolute. `widths`: the outputs of each convolution (see `_with_widths`), in
    place of those that follow from `features`.
    """

    multiple = 32
    stochastic = False

    def __init__(
        self,
        slices: int = SLICES,
        features: Sequence[int] = (32, 48, 64, 96, 128, 32),
        widths: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        self.slices = slices
        self.body = _unet(4 * slices, 4, features)
        if widths is not None:
            self.body = _with_widths(self.body, widths)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        middle = x[:, self.slices // 2 : self.slices // 2 + 1]
        return middle + CHANGE * F.pixel_shuffle(self.body(F.pixel_unshuffle(x, 2)), 2)


class ResidualDiffusion(nn.Module):
    """A draw of what a scan of higher dose would show: the one-step network's mean, and on it a texture drawn
    by diffusion, which a mean cannot have.

    The diffusion works on what the mean leaves of the reference, in latents that hold all of it: space to
    depth, `UNIT` x `UNIT` pixels to as many channels, over the SD that a small network predicts there.
    So its data have unit variance everywhere, whatever the dose, and the round trip of the latents loses
    nothing. The denoiser sees the noisy latents beside the slices, the mean, and what the mean took away. It
    predicts the velocity at an angle (`sampler`)."""

    multiple = 64
    stochastic = True

    def __init__(
        self, twin: dict[str, Any] | None = None, features: Sequence[int] = (64, 96, 128, 160, 192, 64)
    ) -> None:
        super().__init__()
        self.twin = Twin(**(twin or {}))
        stacked = UNIT**2 * (SLICES + 2)
        self.spread = nn.Sequential(
            nn.Conv2d(stacked + 1, 48, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(48, 48, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(48, 48, 3, padding=2, dilation=2),
            nn.ReLU(),
            nn.Conv2d(48, 1, 1),
        )
        # beside the latents and what is seen: the scale, and cosine and sine of the angle
        self.denoiser = _unet(UNIT**2 + stacked + 3, UNIT**2, features)
        # of what is drawn, as measured on held-out patients at the end of training
        self.register_buffer("amplitude", torch.ones(()))
        self.amplitude: torch.Tensor

    def scale(self, x: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        """The SD of what the mean leaves, `[batch, 1, y / UNIT, x / UNIT]`, units of 1000 HU."""
        removed = 50 * (x[:, 1:2] - mean)
        power = F.avg_pool2d(F.avg_pool2d(removed.square(), UNIT), 5, 1, 2, count_include_pad=False)
        stacked = F.pixel_unshuffle(torch.cat([x, mean, removed], 1), UNIT)
        return 0.01 * self.spread(torch.cat([stacked, (power + 0.01).log()], 1)).clamp(-3, 5).exp()

    def condition(self, x: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """What the denoiser sees beside the latents."""
        removed = (x[:, 1:2] - mean) / F.interpolate(scale, scale_factor=UNIT, mode="nearest")
        stacked = F.pixel_unshuffle(torch.cat([x, mean, removed.clamp(-8, 8)], 1), UNIT)
        return torch.cat([stacked, 0.5 * (scale / 0.02).log()], 1)

    def velocity(self, z: torch.Tensor, condition: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
        """The denoiser's velocity of latents at the angles `[batch]` (or `[1]` for all)."""
        sides = torch.stack([angle.cos(), angle.sin()], 1)[:, :, None, None]
        # z.shape, not len(z): an export would take that for a constant
        sides = sides.expand(z.shape[0], -1, z.shape[-2], z.shape[-1])
        return self.denoiser(torch.cat([z, condition, sides], 1))

    @staticmethod
    def encode(residual: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Latents of what a mean leaves, `[batch, 1, y, x]`."""
        return F.pixel_unshuffle(residual, UNIT) / scale

    @staticmethod
    def decode(z: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """The inverse of `encode`."""
        return F.pixel_shuffle(z * scale, UNIT)

    def forward(
        self,
        x: torch.Tensor,
        noise: torch.Tensor | None = None,
        steps: int | sampler.Sampler = DEFAULT_ENHANCE_STEPS,
        reference: torch.Tensor | None = None,
        angle: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """A draw from `noise` `[batch, 1, y, x]` in so many fitted `steps`, or by another sampler; with a
        `reference` the loss of training at the angles `[batch]` (here, since processes that train together
        share the gradients of `forward` alone)."""
        noise = torch.randn_like(x[:, :1]) if noise is None else noise
        mean = self.twin(x)
        scale = self.scale(x, mean)
        if reference is not None and angle is not None:
            return self._loss(x, mean, scale, reference - mean, noise, angle)
        condition = self.condition(x, mean, scale)

        def velocity(z: torch.Tensor, at: float) -> torch.Tensor:
            return self.velocity(z, condition, torch.full((1,), at, device=z.device))

        steps = sampler.fitted(steps) if isinstance(steps, int) else steps
        z = steps.draw(velocity, F.pixel_unshuffle(noise, UNIT))
        return mean + self.decode(self.amplitude * z, scale)

    def _loss(
        self,
        x: torch.Tensor,
        mean: torch.Tensor,
        scale: torch.Tensor,
        residual: torch.Tensor,
        noise: torch.Tensor,
        angle: torch.Tensor,
    ) -> torch.Tensor:
        """The velocity's squared error, and the scale's likelihood (of a Gaussian), `[2]`."""
        power = self.encode(residual, scale).square().mean(1).clamp(max=50)
        likelihood = (scale[:, 0].log() + 0.5 * power).mean()
        scale = scale.detach()
        z = self.encode(residual, scale).clamp(-8, 8)
        noise = F.pixel_unshuffle(noise, UNIT)
        found = self.velocity(sampler.mixed(z, noise, angle), self.condition(x, mean, scale), angle)
        return torch.stack([F.mse_loss(found.float(), sampler.velocity_of(z, noise, angle)), likelihood])


class Change(nn.Module):
    """What a network adds to the middle slice, `[batch, 1, y, x]`; a diffusion takes noise of that shape and
    has its number of steps."""

    def __init__(self, network: nn.Module, steps: int | sampler.Sampler) -> None:
        super().__init__()
        self.network, self.steps = network, steps

    def forward(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        image = self.network(x) if noise is None else self.network(x, noise, self.steps)
        return image.float() - x[:, SLICES // 2 : SLICES // 2 + 1]


def export_form(network: nn.Module, steps: int) -> ExportForm:
    """What of a whole model is exported: any number of slices, sides of whole multiples."""
    multiple, slices = int(network.multiple), Dim("slices")  # type: ignore[arg-type]
    rows, columns = Dim("rows", max=1024), Dim("columns", max=1024)
    x = torch.zeros(2, SLICES, 2 * multiple, 3 * multiple)
    free = {0: slices, 2: multiple * rows, 3: multiple * columns}
    if isinstance(network, Twin):
        return ExportForm(InTwoParts(network.body, CHANGE), {"upper": x, "lower": x.clone()}, [free, free])
    inputs = {"slices": x, "noise": x[:, :1].clone()}
    return ExportForm(Change(network, steps), inputs, [free, free], "network.")


ARCHITECTURES: dict[str, type[nn.Module]] = {
    "twin": Twin,
    "residual-diffusion": ResidualDiffusion,
}


def build(architecture: str, arguments: dict[str, Any]) -> nn.Module:
    """The network `architecture` with `arguments`.  Raises InputError where there is none of that name."""
    if architecture not in ARCHITECTURES:
        raise InputError(f"There is no architecture '{architecture}': known are {', '.join(ARCHITECTURES)}.")
    try:
        return ARCHITECTURES[architecture](**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"The arguments of architecture '{architecture}' do not fit: {error}.") from error
