"""From a projection file to what the diffusion needs: counts, quanta in air, electronic variance, dose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ctenhance.io.projections import Projections
from ctenhance.reconstruct.spdiff import (
    CLEAN_QUANTA,
    LAST_DIVISOR,
    NORMAL_QUANTA,
    match_level,
    quanta_from_noise,
    schedule,
)

#: Below this many quanta in air, "counts" are readings normalised to air: only their noise
#: shows how many there were.
_FEWEST_QUANTA = 100.0
#: More quanta than this are as good as no noise; noise-free simulations have no end of them.
_MOST_QUANTA = 1e8
#: Slices that the noise is measured on where the quanta are not known.
_SLICES_FOR_NOISE = 4


@dataclass(frozen=True)
class Scan:
    """What a scan was measured with: quanta in air `[column]` float32, electronic variance in counts^2, and
    whether the quanta were `known` or had to be measured from the noise."""

    air: torch.Tensor
    electronic: float
    known: bool

    @property
    def quanta(self) -> float:
        """Quanta in air on the ray that gets most."""
        return float(self.air.max())

    @property
    def beyond_training(self) -> bool:
        """Whether the dose lies below the schedule's end."""
        return self.quanta < CLEAN_QUANTA / LAST_DIVISOR

    def describe(self) -> dict[str, Any]:
        """The dose estimate for the report: `dose` relative to the normal one of 2.5e5 quanta a ray, and the
        nearest level of the published schedule (0 to 9)."""
        return {
            "quanta_in_air": round(self.quanta),
            "dose": self.quanta / NORMAL_QUANTA,
            "schedule_divisor": max(1.0, CLEAN_QUANTA / self.quanta),
            "published_level": match_level(self.quanta, schedule(10, 12.0)),
            "electronic_noise_variance": self.electronic,
            "from": "air counts" if self.known else "noise of the line integrals",
        }


def read_scan(projections: Projections) -> Scan:
    """The scan's quanta: those that the file declares, or, where it holds line integrals or normalised
    readings alone, those that its noise shows."""
    if projections.air_counts is not None:
        air = np.asarray(projections.air(), dtype=np.float32)
        if air.max() >= _FEWEST_QUANTA:
            columns = np.broadcast_to(air, projections.n_columns).copy()
            return Scan(torch.from_numpy(columns), float(projections.electronic_noise_variance), True)
    middle = projections.n_rows // 2
    start = max(0, middle - _SLICES_FOR_NOISE // 2)
    part = projections.rows(start, min(start + _SLICES_FOR_NOISE, projections.n_rows))
    quanta = min(quanta_from_noise(part.to_line_integrals()), _MOST_QUANTA)
    return Scan(torch.full((projections.n_columns,), quanta), 0.0, False)


def counts_of(projections: Projections, scan: Scan) -> torch.Tensor:
    """Counts `[row, view, column]` float32 of these rows, noise as it is."""
    return projections.transmission() * scan.air
