"""DGDiff: the image diffusion with two guides, in few steps at full resolution.

The published form (NEED; METHODS C.4) blends its guides into an unconditional diffusion by hand-set weights,
in a cascade of two resolutions. Here one network at full size sees both guides at every step - l, the FBP of
the low-dose data, and r, the initial reconstruction (SPDiff, then FBP) - so that their weights are learned,
pixel by pixel and for every dose.

The diffusion's unit is the measured noise s, the local SD of l - r: a state at relative level g in (0, 1] is

    x_g = x0 + g s e,   e ~ Normal(0, 1),

and sampling starts at g = 1 from r diffused that far, x_1 = r + s e. Thus strength of noise and guidance
follow what the data have, whatever the dose. Each step predicts x0 and goes on to the next lower g with part
of the old noise (DDIM, Song et al. 2021). One step gives the expectation, which has the least error, and less
still as the mean over the image's four quarter turns; more steps trade some of that for grain. Images are in
units of 1000 HU."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from ctenhance.reconstruction.networks import DoublyGuided
from ctenhance.reconstruction.smoothing import mean_nearby
from ctenhance.runtime.errors import InputError

HU_SCALE = 1000.0
#: What the network sees of HU: beyond lie metal and streaks, which are carried over.
LOWEST, HIGHEST = -2.0, 4.0
#: Side in pixels of the window that the local noise is measured in, and the least and greatest noise.
WINDOW, LEAST_NOISE, GREATEST_NOISE = 17, 0.002, 0.5
#: Share of the old noise that a step keeps; the rest is drawn anew.
KEPT_NOISE = 0.7
#: Quarter turns of the image that an expectation is averaged over.
TURNS = 4


def noise_level(low: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
    """Local SD `[batch, 1, y, x]` of l - r, the middle slices `[batch, 1, y, x]`."""
    half = WINDOW // 2
    square = F.pad((low - initial).square(), (half,) * 4, mode="replicate")
    mean = mean_nearby(square, WINDOW)[..., half:-half, half:-half]
    return mean.clamp(min=0).sqrt().clamp(LEAST_NOISE, GREATEST_NOISE)


def network_input(
    initial: torch.Tensor, low: torch.Tensor, state: torch.Tensor, noise: torch.Tensor, level: torch.Tensor
) -> torch.Tensor:
    """Channels `[batch, 9, y, x]` for `DoublyGuided`.

    `initial` (r) and `low` (l) `[batch, 3, y, x]`, `state` x_g and `noise` s `[batch, 1, y, x]`, `level` g
    broadcastable to it."""
    return torch.cat([initial, low, state, noise, level * noise], 1).clamp_(LOWEST, HIGHEST)


def sample(
    network: Callable[..., torch.Tensor],
    initial: torch.Tensor,
    low: torch.Tensor,
    steps: int,
    noise: torch.Tensor,
    between: Callable[[], None] = lambda: None,
    sd: torch.Tensor | None = None,
) -> torch.Tensor:
    """Middle slices `[batch, 1, y, x]` drawn given the guides `[batch, 3, y, x]`, in `steps` network
    evaluations.

    `noise`: unit-variance draws `[steps, batch, 1, y, x]`. `between` is called before each evaluation (it may
    raise to stop). `sd`: the `noise_level`, where it is known already."""
    middle = slice(1, 2)
    sd = noise_level(low[:, middle], initial[:, middle]) if sd is None else sd
    start = initial[:, middle]
    state, image = start + sd * noise[0], start
    for step in range(steps):
        between()
        level = torch.tensor((steps - step) / steps).to(sd)
        inputs = network_input(initial, low, state, sd, level)
        predicted = network(inputs).float()
        # only the change is the network's: what lies beyond its range stays as r has it
        image = start + predicted - start.clamp(LOWEST, HIGHEST)
        if step + 1 < steps:
            old = (state - image) / (level * sd)
            fresh = KEPT_NOISE * old + (1 - KEPT_NOISE**2) ** 0.5 * noise[step + 1]
            state = image + (steps - step - 1) / steps * sd * fresh
    return image


def expect(
    network: Callable[..., torch.Tensor],
    initial: torch.Tensor,
    low: torch.Tensor,
    noise: torch.Tensor,
    between: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """Expected middle slices `[batch, 1, y, x]`: the mean of one-step samples of the image in all its quarter
    turns, whose errors differ.

    Arguments as in `sample`, with a draw of `noise` for each of `TURNS`."""
    total = torch.zeros_like(initial[:, 1:2])
    sd = noise_level(low[:, 1:2], initial[:, 1:2])
    for turn in range(TURNS):
        turned = [torch.rot90(x, turn, (-2, -1)) for x in (initial, low, noise[turn : turn + 1], sd)]
        one = sample(network, turned[0], turned[1], 1, turned[2], between, turned[3])
        total += torch.rot90(one, -turn, (-2, -1))
    return total / TURNS


def start_from_enhancer(network: DoublyGuided, tensors: dict[str, torch.Tensor]) -> None:
    """Give the network the weights of the one-step enhancing network, whose slices become the guide r.

    The other inputs' weights start at zero.  Raises InputError where the two differ in more than inputs.
    """
    own = network.state_dict()
    for name, value in tensors.items():
        mine = own.get(name)
        if mine is None or mine.shape[0] != value.shape[0] or mine.shape[2:] != value.shape[2:]:
            raise InputError(f"The weights to start from do not fit the image network ('{name}').")
        if mine.shape == value.shape:
            own[name] = value
        else:
            own[name] = torch.zeros_like(mine)
            own[name][:, : value.shape[1]] = value
    network.load_state_dict(own)
