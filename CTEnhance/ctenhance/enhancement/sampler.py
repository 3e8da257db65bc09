"""How the diffusion goes from noise to a draw in a few evaluations of its network.

At the angle `a` a latent is `cos a · clean + sin a · noise`, and the network predicts its velocity
`cos a · noise - sin a · clean` (v-prediction; Salimans and Ho 2022). A step splits the latent into both and
puts them together again at the next, smaller angle. With the plain steps of DDIM (Song et al. 2021) four
evaluations leave a third to two thirds of a texture's power out, however good the network is. Here the
angles, and a gain on the noise at each step, are fitted so that Gaussian data of any power from 0.02 to 4
times the expected one keep it when the network is exact: to 5 % in three steps, to 0.5 % in four
(`benchmarks/fit_sampler.py`; a test holds it).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctenhance.runtime.errors import InputError

if TYPE_CHECKING:
    import torch

#: By the number of steps: the angles, falling, and the gain on the noise after each but the last.
FITTED: dict[int, tuple[tuple[float, ...], tuple[float, ...]]] = {
    3: ((1.4025, 0.9431, 0.1603), (1.6767, 1.0743)),
    4: ((1.4599, 1.1687, 0.4737, 0.1008), (1.5525, 0.9074, 1.1911)),
    5: ((1.4879, 1.2751, 0.7285, 0.2944, 0.0738), (1.5079, 0.8681, 1.0033, 1.2425)),
    8: (
        (1.4494, 1.3194, 0.8227, 0.6986, 0.4392, 0.2996, 0.1453, 0.0389),
        (1.5209, 0.8473, 0.6909, 1.3334, 0.9263, 1.1511, 1.2685),
    ),
}
#: Angles that a network is trained for: nearly pure noise, and hardly any.
SMALLEST_ANGLE, LARGEST_ANGLE = 0.03, 1.55


@dataclass(frozen=True)
class Sampler:
    """`angles` in radian, falling, at which the network is asked, and `gains` on the noise between them."""

    angles: tuple[float, ...]
    gains: tuple[float, ...]

    def draw(
        self, velocity: Callable[[torch.Tensor, float], torch.Tensor], noise: torch.Tensor
    ) -> torch.Tensor:
        """Clean latents from unit-variance `noise` of their shape; `velocity` is the network's, of latents at
        an angle."""
        z = noise
        for step, angle in enumerate(self.angles):
            clean, rest = parts(z, velocity(z, angle), angle)
            if step < len(self.gains):
                following = self.angles[step + 1]
                z = math.cos(following) * clean + math.sin(following) * self.gains[step] * rest
        return clean


def fitted(steps: int) -> Sampler:
    """The sampler of `steps` evaluations. Raises InputError for a number that there is none for."""
    if steps not in FITTED:
        raise InputError(
            f"The number of steps is {steps}: a draw takes {', '.join(map(str, FITTED))} steps (with fewer "
            "its texture would have another power, and more do no better)."
        )
    return Sampler(*FITTED[steps])


def mixed(clean: torch.Tensor, noise: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Latents `[batch, channel, y, x]` at the angles `[batch]`."""
    cos, sin = _sides(angle)
    return cos * clean + sin * noise


def velocity_of(clean: torch.Tensor, noise: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """What the network is to predict of them."""
    cos, sin = _sides(angle)
    return cos * noise - sin * clean


def parts(z: torch.Tensor, velocity: torch.Tensor, angle: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The clean latents and the noise that a velocity means."""
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * z - sin * velocity, sin * z + cos * velocity


def _sides(angle: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    angle = angle[:, None, None, None]
    return angle.cos(), angle.sin()
