"""Some rows of a scan, read once for all that looks at their readings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ctenhance.scan.projections import Projections

#: Rows that are looked at, evenly spread.
_ROWS = 4


@dataclass(frozen=True)
class Row:
    """A row by its `number` (from 0), and the projections of it `alone`, in memory."""

    number: int
    alone: Projections

    @cached_property
    def transmission(self) -> torch.Tensor:
        """Transmissions `[1, view, column]`."""
        return self.alone.transmission()

    @cached_property
    def line_integrals(self) -> torch.Tensor:
        """Line integrals `[view, column]`."""
        return self.alone.to_line_integrals()[0]

    @cached_property
    def lines(self) -> np.ndarray:
        """The same as float64."""
        return self.line_integrals.double().numpy()


def read_rows(projections: Projections, numbers: Iterable[int] | None = None) -> list[Row]:
    """Rows with these `numbers`; of None some, evenly spread."""
    n = projections.n_rows
    if numbers is None:
        numbers = sorted({(2 * k + 1) * n // (2 * _ROWS) for k in range(_ROWS)})
    return [Row(number, projections.rows(number, number + 1)) for number in numbers]
