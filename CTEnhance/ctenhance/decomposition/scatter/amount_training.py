"""Training of the part of the scatter network that judges how much a scanner scatters.

What one factor on a reference scanner's scatter does to the images' error is tabulated for each drawn scan;
from then on a step costs next to nothing, and no scatter label is needed either."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ctenhance.decomposition.scatter.network import Amount, CoarseScan, summary
from ctenhance.runtime.progress import Cancellable, Progress
from ctenhance.runtime.weights import WeightsEntry
from ctenhance.training.loop import Settings, fit

#: Logarithms of the factor at which the images' errors are tabulated.
FACTORS = tuple(np.linspace(-2, 2, 9).tolist())
STEPS, BATCH, LEARNING_RATE = 2000, 32, 2e-3


@dataclass(frozen=True)
class Table:
    """What `Amount` sees of a drawn scan, and the images' error for each of `FACTORS`."""

    summary: torch.Tensor
    image: torch.Tensor
    errors: torch.Tensor


def tabulated(scan: CoarseScan, error: Callable[[Callable[..., torch.Tensor]], torch.Tensor]) -> Table:
    """The table of a drawn scan by the `error` that maps lead to."""

    def at(factor: float) -> Callable[..., torch.Tensor]:
        maps = torch.zeros(1, 2, *scan.counts.shape[1:])
        maps[:, 0] = factor
        return lambda *_: maps

    with torch.no_grad():
        errors = torch.stack([error(at(factor)) for factor in FACTORS]).float()
    return Table(summary(scan.features[None])[0], scan.image, errors)


def train_amount(
    amount: Amount,
    tables: Sequence[Table],
    folder: Path,
    settings: Settings,
    entry: WeightsEntry,
    progress: Progress | None,
    cancel: Cancellable | None,
) -> None:
    """Train on the error of images that an amount leads to, by linear interpolation in the tables; the best
    weights are there when it is done."""
    summaries, images, errors = (
        torch.stack([getattr(table, name) for table in tables]) for name in ("summary", "image", "errors")
    )
    amount.mean.copy_(summaries.mean(0))
    amount.spread.copy_(summaries.std(0, correction=0) + 1e-2)
    low, step_of = FACTORS[0], FACTORS[1] - FACTORS[0]

    def loss(model: nn.Module, step: int, rank: int, where: torch.device) -> torch.Tensor:
        rng = np.random.default_rng((settings.seed, 5, step, rank))
        chosen = torch.from_numpy(rng.integers(len(tables), size=BATCH))
        turned = torch.rot90(images[chosen], int(rng.integers(4)), (2, 3))  # scatter knows no direction
        turned = turned.flip(3) if rng.random() < 0.5 else turned
        found = model(summaries[chosen].to(where), turned.to(where)).cpu()
        position = ((found - low) / step_of).clamp(0, len(FACTORS) - 1)
        before = position.detach().long().clamp(max=len(FACTORS) - 2)
        some = errors[chosen]
        left, right = (some.gather(1, (before + k)[:, None])[:, 0] for k in (0, 1))
        return torch.lerp(left, right, position - before).mean()

    steps = min(STEPS, settings.steps)
    own = replace(
        settings, steps=steps, minutes=math.inf, learning_rate=LEARNING_RATE, validate_every=steps + 1
    )
    fit(amount, loss, folder, own, entry, None, progress, cancel)
