"""Architectures, and nothing else.

All of them take three neighbouring slices (below, middle, above) in units of 1000 HU, `[batch, 3, y, x]`
with y and x multiples of `multiple`, give the middle slice `[batch, 1, y, x]`, and are built by name from
plain arguments, as these stand in the weights registry: `build(architecture, arguments)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets import AutoencoderKL, BasicUNet, DiffusionModelUNet
from torch import nn
from torch.export import Dim

from ctenhance.enhancement.schedule import Schedule
from ctenhance.runtime.engines.export import ExportForm, InTwoParts
from ctenhance.runtime.errors import InputError

SLICES = 3
#: The output's scale: a fresh network then changes the image by tens of HU, not by thousands.
CHANGE = 0.1


def _unet(inputs: int, outputs: int, features: Sequence[int]) -> BasicUNet:
    return BasicUNet(2, inputs, outputs, tuple(features), act=("relu", {"inplace": True}), norm=None)  # type: ignore[arg-type]


class Twin(nn.Module):
    """The one-step network: a U-Net on pixel-unshuffled slices that predicts what to add to the middle slice.

    No normalisation layer: HU is absolute.
    """

    multiple = 32
    stochastic = False

    def __init__(self, slices: int = SLICES, features: Sequence[int] = (32, 48, 64, 96, 128, 32)) -> None:
        super().__init__()
        self.slices = slices
        self.body = _unet(4 * slices, 4, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        middle = x[:, self.slices // 2 : self.slices // 2 + 1]
        return middle + CHANGE * F.pixel_shuffle(self.body(F.pixel_unshuffle(x, 2)), 2)


class Autoencoder(nn.Module):
    """KL autoencoder of three slices at once: `[batch, 3, y, x]` to `latents` channels at a quarter of the
    side.

    Rombach et al. 2022 in MONAI's form, on pixel-unshuffled slices: the first halving of the side costs no
    convolution at full resolution. `scale` brings latents to unit variance; it is measured at the end of
    training."""

    multiple = 4

    def __init__(
        self, channels: Sequence[int] = (32, 64), latents: int = 4, residual_blocks: int = 1
    ) -> None:
        super().__init__()
        self.latents = latents
        self.body = AutoencoderKL(
            spatial_dims=2,
            in_channels=4 * SLICES,
            out_channels=4 * SLICES,
            channels=tuple(channels),
            attention_levels=(False,) * len(channels),
            latent_channels=latents,
            num_res_blocks=residual_blocks,
            norm_num_groups=16,
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )
        self.register_buffer("scale", torch.ones(()))
        self.scale: torch.Tensor

    def posterior(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and SD of the unscaled latents."""
        return self.body.encode(F.pixel_unshuffle(x, 2))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Scaled latents `[batch, latents, y / 4, x / 4]`: the mean, since a draw would only add noise of
        our own."""
        return self.posterior(x)[0] * self.scale

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Three slices `[batch, 3, y, x]` of scaled latents."""
        return F.pixel_shuffle(self.body.decode(z / self.scale), 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mean, sd = self.posterior(x)
        z = mean + sd * torch.randn_like(sd) if self.training else mean
        return F.pixel_shuffle(self.body.decode(z), 2), mean, sd


class LatentDiffusion(nn.Module):
    """SUMI's conditional latent diffusion, in few steps, with a decoder that sees the degraded slices.

    The denoiser (v-prediction) gets the noisy latents beside those of the degraded slices. Sampling is DDIM
    with trailing steps from the degraded latents under full noise. The decoded draw then is one input of a
    pixel-domain U-Net beside the degraded slices themselves, so that detail need not pass the latent
    bottleneck (the purpose of StableSR's controllable feature wrapping, Wang et al. 2024, in one network).
    """

    multiple = 32
    stochastic = True

    def __init__(
        self,
        autoencoder: dict[str, Any] | None = None,
        channels: Sequence[int] = (32, 64, 96),
        features: Sequence[int] = (32, 48, 64, 96, 128, 32),
    ) -> None:
        super().__init__()
        self.autoencoder = Autoencoder(**(autoencoder or {}))
        latents = self.autoencoder.latents
        self.denoiser = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=2 * latents,
            out_channels=latents,
            channels=tuple(channels),
            attention_levels=(False,) * len(channels),
            num_res_blocks=1,
            norm_num_groups=16,
        )
        self.detail = _unet(4 * (SLICES + 1), 4, features)

    @staticmethod
    def scheduler(steps: int) -> Schedule:
        """The noise schedule with `steps` trailing times."""
        return Schedule(steps)

    def sample(self, condition: torch.Tensor, noise: torch.Tensor, steps: int) -> torch.Tensor:
        """Latents drawn from `noise` given the degraded slices' latents `condition`; `steps` network
        evaluations."""
        schedule = self.scheduler(steps)
        times = [torch.full((len(noise),), time, device=noise.device) for time in schedule.times]
        z = schedule.add_noise(condition, noise, times[0])
        for index, time in enumerate(times):
            z = schedule.step(self.denoiser(torch.cat([z, condition], 1), time), index, z)
        return z

    def render(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """The middle slice from the degraded slices `x` and drawn latents `z`."""
        prior = self.autoencoder.decode(z)[:, 1:2]
        half = F.pixel_unshuffle(torch.cat([x, prior], 1), 2)
        return x[:, 1:2] + 0.1 * F.pixel_shuffle(self.detail(half), 2)

    def latent_shape(self, x: torch.Tensor) -> tuple[int, int, int]:
        """Shape `[channel, y, x]` of the noise that a slice of `x` needs."""
        return self.autoencoder.latents, x.shape[-2] // 4, x.shape[-1] // 4

    def forward(self, x: torch.Tensor, noise: torch.Tensor | None = None, steps: int = 4) -> torch.Tensor:
        if noise is None:
            noise = x.new_zeros((len(x), *self.latent_shape(x))).normal_()
        return self.render(x, self.sample(self.autoencoder.encode(x), noise, steps))


class Change(nn.Module):
    """What a network adds to the middle slice, `[batch, 1, y, x]`; a diffusion takes noise and has its number
    of steps."""

    def __init__(self, network: nn.Module, steps: int) -> None:
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
    # one slice at a time: the diffusion's times are made for so many
    x, free = x[:1], {axis: free[axis] for axis in (2, 3)}
    latents, *sides = network.latent_shape(x)  # type: ignore[operator]
    shrink = x.shape[-1] // sides[-1]
    noise = {2: multiple // shrink * rows, 3: multiple // shrink * columns}
    inputs = {"slices": x, "noise": torch.zeros(1, latents, *sides)}
    return ExportForm(Change(network, steps), inputs, [free, noise], "network.")


ARCHITECTURES: dict[str, type[nn.Module]] = {
    "twin": Twin,
    "autoencoder": Autoencoder,
    "latent-diffusion": LatentDiffusion,
}


def build(architecture: str, arguments: dict[str, Any]) -> nn.Module:
    """The network `architecture` with `arguments`.  Raises InputError where there is none of that name."""
    if architecture not in ARCHITECTURES:
        raise InputError(f"There is no architecture '{architecture}': known are {', '.join(ARCHITECTURES)}.")
    try:
        return ARCHITECTURES[architecture](**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"The arguments of architecture '{architecture}' do not fit: {error}.") from error
