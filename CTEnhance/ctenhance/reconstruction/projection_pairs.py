"""Training pairs of the projection network: noisy readings of three slices and the clean line integrals.

Half of the draws are scans as measured; in the other half the middle slice already got quanta from earlier
steps, so that it stands higher on the schedule than its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ctenhance.reconstruction.bank import STEP, CleanScan
from ctenhance.reconstruction.drawing import Exposure, draw_exposure, measure
from ctenhance.reconstruction.spdiff import CLEAN_QUANTA, LEAST_COUNT, Readings, shifted_poisson

#: Patients thinner and thicker than those of the bank.
THICKNESS = (0.7, 1.35)
#: Shares of draws whose neighbours are the middle slice itself (single slices), one of them (end slices), and
#: that stand higher on the schedule than measured.
ALONE, AT_THE_END, ON_THE_WAY = 0.2, 0.1, 0.4
#: Variances above this count alike: rays without light must not rule the rest.
_GREATEST_VARIANCE = 1.0
#: Weight of an error itself beside that of its slope along the columns: filtered backprojection amplifies
#: errors in proportion to their frequency, in power.
_PLAIN = 0.25


@dataclass(frozen=True)
class ProjectionBatch:
    """`readings` of `[batch, 3, view, column]`, clean `integrals` `[batch, view, column]`, and `scale`
    `[batch]`: the variance of the line integrals that the exposure leads one to expect."""

    readings: Readings
    integrals: torch.Tensor
    scale: torch.Tensor


def _variance(integrals: torch.Tensor, air: torch.Tensor, electronic: float) -> float:
    expected = (air * torch.exp(-integrals)).clamp(min=LEAST_COUNT)
    return float(((expected + electronic) / expected.square()).clamp(max=_GREATEST_VARIANCE).mean())


def integral_error(output: torch.Tensor, target: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Mean squared error of line integrals and of their slope, relative to the measurement's variance."""
    error = output - target
    slope = error.diff(dim=-1)
    each = _PLAIN * error.square().flatten(1).mean(1) + slope.square().flatten(1).mean(1)
    return (each / scale).mean()


class ProjectionSampler:
    """Draws batches of crops. A batch depends on the seed, the bank and its step alone, so a resumed run
    goes on alike."""

    def __init__(self, scans: Sequence[CleanScan], crop: int = 128, seed: int = 0) -> None:
        self.scans, self.crop, self.seed = list(scans), crop, seed

    def batch(self, size: int, step: int, rank: int = 0) -> ProjectionBatch:
        """The batch of `size` pairs of training step `step` on process `rank`."""
        rng = np.random.default_rng((self.seed, step, rank))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        draws = [self._draw(rng, generator) for _ in range(size)]
        electronic = torch.tensor([d[3] for d in draws])[:, None, None, None]
        readings = Readings(
            torch.stack([d[0] for d in draws]), torch.stack([d[1] for d in draws]), electronic
        )
        return ProjectionBatch(
            readings, torch.stack([d[2] for d in draws]), torch.tensor([d[4] for d in draws])
        )

    def _draw(
        self, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float, float]:
        scan = self.scans[int(rng.integers(len(self.scans)))]
        thickness = float(rng.uniform(*THICKNESS))
        exposure = draw_exposure(rng, scan.geometry)
        views, columns = self._window(rng, scan)
        clean = scan.integrals[:, views, columns].float() * (STEP * thickness)
        clean = clean.expand(3, -1, -1)
        here = Exposure(exposure.air[columns], exposure.electronic)
        alone = len(scan.integrals) == 1 or rng.random() < ALONE
        shifted = measure(clean, here, generator) + exposure.electronic
        if alone:
            shifted = shifted[1:2].repeat(3, 1, 1)
        elif rng.random() < AT_THE_END:
            shifted[0] = shifted[1]
        air = here.air.repeat(3, clean.shape[1], 1)
        if rng.random() < ON_THE_WAY:
            highest = CLEAN_QUANTA / float(exposure.air.max())
            factor = float(np.exp(rng.uniform(0, np.log(max(highest, 1.0)))))
            air[1] *= factor
            shifted[1] = shifted_poisson(torch.exp(-clean[1]), air[1], exposure.electronic, generator)
        coarse = scan.integrals[len(scan.integrals) // 2, ::16, ::4].float() * (STEP * thickness)
        whole = _variance(coarse, exposure.air[::4], exposure.electronic)
        scale = (whole * _variance(clean[1], here.air, exposure.electronic)) ** 0.5
        both = torch.cat([shifted, air, clean[1:2]])
        for axis in (1, 2):
            if rng.random() < 0.5:
                both = both.flip(axis)
        order = [0, 1, 2] if rng.random() < 0.5 else [2, 1, 0]
        return both[:3][order], both[3:6][order], both[6], exposure.electronic, scale

    def _window(self, rng: np.random.Generator, scan: CleanScan) -> tuple[slice, slice]:
        """A place for the crop, preferably one that sees the patient."""
        _, views, columns = scan.integrals.shape
        tall, wide = min(self.crop, views), min(self.crop, columns)
        for _ in range(4):
            v, c = int(rng.integers(views - tall + 1)), int(rng.integers(columns - wide + 1))
            if int(scan.integrals[0, v + tall // 2, c + wide // 2]) * STEP > 0.2:
                break
        return slice(v, v + tall), slice(c, c + wide)
