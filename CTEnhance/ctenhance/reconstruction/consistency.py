"""Does a reconstruction still say what was measured?

The result is projected again and compared with the readings: over blocks of columns of one view, the sum of
(reading - expected counts), divided by its Poisson and electronic SD. The mean square of these is 1 where
only noise is between them, whatever the dose. In counts nothing is biased, unlike behind the logarithm.

Pixels and the kernel keep any image from saying exactly what was measured. The FBP of the same data suffers
from them alike and says the rest exactly, so a block counts with its departure from the readings or from the
projected FBP, whichever is smaller."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from ctenhance.physics.geometry import ScanGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.projector import project
from ctenhance.physics.units import hu_to_mu
from ctenhance.physics.water import WaterCorrection
from ctenhance.reconstruction.readings import Counts
from ctenhance.runtime.progress import Cancellable

#: Views that are looked at, evenly spread, and columns of a block.
VIEWS, BLOCK = 48, 16
#: A mean square beyond this is no noise.
ALLOWED = 1.5


def some_views(scan: ScanGeometry, count: int = VIEWS) -> tuple[ScanGeometry, torch.Tensor]:
    """The scan with about `count` of its views, and their indices."""
    step = max(1, scan.n_views // count)
    index = torch.arange(step // 2, scan.n_views, step)
    return scan.with_views(tuple(scan.angles()[index].tolist())), index


@dataclass
class Consistency:
    """Adds up departures over the slices of a scan: `add` a batch, then `describe`.

    `water`: the correction that the images' line integrals went through, if they did."""

    scan: ScanGeometry
    grid: ImageGrid
    electronic: float
    mu_water: float
    water: WaterCorrection | None = None
    _squares: dict[str, float] = field(default_factory=dict)
    _blocks: int = 0
    _worst: tuple[float, int] = (0.0, 0)
    _rows: int = 0

    def add(
        self,
        counts: Counts,
        result: torch.Tensor,
        low: torch.Tensor,
        cancel: Cancellable | None = None,
    ) -> None:
        """Compare slices: `counts`, `result` and the FBP `low` in HU `[slice, y, x]`."""
        few, index = some_views(self.scan)
        images = hu_to_mu(torch.cat([result, low]), self.mu_water)
        integrals = project(images, few, self.grid, cancel)
        if self.water is not None:
            integrals = self.water.measured(integrals)
        of_result, of_low = (
            self._departures(counts, index, part) for part in torch.exp(-integrals).split(len(result))
        )
        of_result = torch.minimum(of_result.square(), (of_result - of_low).square())
        for name, values in (("result", of_result), ("fbp", of_low.square())):
            self._squares[name] = self._squares.get(name, 0.0) + float(values.sum())
        self._blocks += of_result.numel()
        for row, value in enumerate(of_result.flatten(1).mean(1).tolist()):
            self._worst = max(self._worst, (value, self._rows + row))
        self._rows += len(result)

    def _departures(self, counts: Counts, index: torch.Tensor, transmission: torch.Tensor) -> torch.Tensor:
        """Departures `[slice, view, block]` in SD of views `index`."""
        index = index.to(transmission.device)
        measured, air = (x.expand_as(counts.detected)[:, index] for x in (counts.detected, counts.air))
        expected = air * transmission
        size = min(BLOCK, measured.shape[-1])
        whole = measured.shape[-1] // size * size
        shape = (*measured.shape[:2], -1, size)
        difference = (measured - expected)[..., :whole].reshape(shape).sum(-1)
        variance = (expected + self.electronic).clamp(min=1e-3)[..., :whole].reshape(shape).sum(-1)
        return difference / variance.sqrt()

    def describe(self) -> dict[str, Any]:
        """`departure`: the RMS over blocks in SD of the noise (to 1: noise alone), and what is `allowed`;
        that of the FBP from the readings; the row that departs most."""
        mean = {name: total / max(1, self._blocks) for name, total in self._squares.items()}
        return {
            "departure": math.sqrt(mean["result"]),
            "allowed": math.sqrt(ALLOWED),
            "consistent": mean["result"] <= ALLOWED,
            "departure_of_fbp": math.sqrt(mean["fbp"]),
            "worst_row": self._worst[1],
            "worst_departure": math.sqrt(self._worst[0]),
        }
