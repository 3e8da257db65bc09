"""The compiled solver: whether it is there, and torch's rays brought to it.

It is compiled anew in each process: numba's own store of machine code is read back by pickle, which may run
what it reads.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import torch

from ctenhance.decomposition.solver.quadrature import (
    LEAST_AT_LOW_ENERGY,
    LEAST_ATTENUATION,
    MOST_ATTENUATION,
    Region,
)
from ctenhance.decomposition.solver.start import Start, exponents

#: Rays from which compiling, which takes seconds in each process, is worth while.
MANY_RAYS = 10_000_000
#: The compiled steps go on to this part of the tolerance: they cost little.
STRICTER = 0.1


def installed() -> bool:
    """Say whether numba is there, without loading it."""
    return importlib.util.find_spec("numba") is not None


class Steps:
    """The solver for one set of spectra: `tables` `[group, moment * bin, node]`, `attenuation` `[material,
    node]`, `air` `[group, bin, 1]`, all float64, start and region."""

    def __init__(
        self, tables: torch.Tensor, attenuation: torch.Tensor, air: torch.Tensor, start: Start, region: Region
    ) -> None:
        terms = exponents(len(attenuation))
        places = {term: index for index, term in enumerate(terms)}
        quick = start.to(torch.float32)
        box = [values.numpy() for values in (region.lower, region.upper)]
        limits = np.array([LEAST_ATTENUATION, MOST_ATTENUATION, LEAST_AT_LOW_ENERGY])
        self._tables = tables.float().numpy(), tables.numpy()
        self._attenuation = attenuation.float().numpy(), attenuation.numpy()
        self._bounds = (*(side.astype(np.float32) for side in box), *box, region.guard.numpy(), limits)
        self._groups = quick.groups.numpy()
        self._air = (quick.groups @ air.float())[..., 0].numpy()
        self._polynomial = (
            *(values.numpy() for values in (quick.coefficients, quick.least, quick.most)),
            np.array([places.get(term[:-1], -1) for term in terms]),
            np.array([term[-1] for term in terms]),
        )

    def __call__(
        self,
        counts: torch.Tensor,
        scatter: torch.Tensor | None,
        groups: slice,
        tolerance: float,
        correct_bias: bool,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
        """Line integrals `[group, material, ray]` of `counts` `[group, bin, ray]`, less their bias where that
        is asked for; which of them converged inside the box; their quanta in all bins; and the most steps."""
        from ctenhance.decomposition.solver.fused import solve_group

        n_groups, _, n_rays = counts.shape
        lines = np.empty((n_groups, len(self._attenuation[0]), n_rays))
        good, counted = np.zeros((n_groups, n_rays), bool), np.empty((n_groups, n_rays))
        scattered = np.zeros(counts.shape) if scatter is None else scatter.numpy()
        spaces = self._space(counts.shape[1], np.float32), self._space(counts.shape[1], np.float64)
        steps = 0
        for index, group in enumerate(range(len(self._air))[groups]):
            taken = solve_group(
                counts[index].numpy(),
                scattered[index],
                (*(tables[group] for tables in self._tables), *self._attenuation),
                self._bounds,
                (self._groups, self._air[group], *self._polynomial),
                STRICTER * tolerance,
                correct_bias,
                (lines[index], good[index], counted[index], np.arange(n_rays)),
                spaces,
            )
            steps = max(steps, taken)
        return torch.from_numpy(lines), torch.from_numpy(good), torch.from_numpy(counted), steps

    def _space(self, bins: int, kind: type) -> tuple[np.ndarray, ...]:
        """Room for the solver to work in, in the order in which it takes it apart."""
        from ctenhance.decomposition.solver.fused import LANES

        k, nodes = self._attenuation[0].shape
        entries, rows, terms = k * (k + 1) // 2, self._tables[0].shape[1], len(self._polynomial[-1])
        sizes = (bins, bins, k, nodes, rows, k, k, entries, entries, 4, 3, terms + 2 * k)
        return tuple(np.empty((size, LANES), kind) for size in sizes)
