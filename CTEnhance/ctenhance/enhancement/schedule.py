"""The noise schedule of the latent diffusion, and its deterministic steps (DDIM, Song et al. 2021, eta 0).

Written out, since the schedulers of MONAI 1.5 and 1.6 list other times for one number of steps, the newer one
steps to times that are not in its own list, and the older one takes no trailing list of fewer steps.
"""

from __future__ import annotations

import math

import torch

#: Diffusion steps of the noise schedule (MAISI's: beta 0.0015 to 0.0195, scaled linear; METHODS D).
TRAIN_STEPS = 1000
_BETA_START, _BETA_END = 0.0015, 0.0195
_BETAS = torch.linspace(_BETA_START**0.5, _BETA_END**0.5, TRAIN_STEPS, dtype=torch.float32) ** 2
_ALPHAS = torch.cumprod(1 - _BETAS, 0)
_SHARES = _ALPHAS.tolist()


class Schedule:
    """`steps` trailing times of the schedule: the first is the last of training, so that one is possible.

    `timesteps` int64 `[steps]`, falling; `alphas_cumprod` float32 `[TRAIN_STEPS]`, the share of the signal in
    the variance at each time.
    """

    def __init__(self, steps: int) -> None:
        #: As plain numbers, so that an exported network has them as constants.
        self.times = [TRAIN_STEPS * (steps - index) // steps - 1 for index in range(steps)]
        self.timesteps = torch.tensor(self.times)
        self.alphas_cumprod = _ALPHAS
        self._shares = [*(_SHARES[time] for time in self.times), 1.0]

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """`clean` `[batch, …]` with the noise of the times `[batch]`."""
        alpha = self._share(time, clean)
        return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise

    def velocity(self, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """What the network is to predict (v, Salimans and Ho 2022)."""
        alpha = self._share(time, clean)
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * clean

    def step(self, velocity: torch.Tensor, index: int, z: torch.Tensor) -> torch.Tensor:
        """From the noise of `timesteps[index]` to that of the next one; behind the last one there is none."""
        alpha, after = self._shares[index : index + 2]
        clean = math.sqrt(alpha) * z - math.sqrt(1 - alpha) * velocity
        noise = math.sqrt(alpha) * velocity + math.sqrt(1 - alpha) * z
        return math.sqrt(after) * clean + math.sqrt(1 - after) * noise

    def _share(self, time: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        alpha = self.alphas_cumprod.to(like)[time.to(like.device)]
        return alpha.view(-1, *[1] * (like.ndim - 1))
