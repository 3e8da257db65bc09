"""The compiled solver: whether it is there, where its machine code is kept, and torch's rays brought to it.

numba keeps machine code beside a module, in `__pycache__`, or in the user's own cache directory, and reads
it back by pickle, which may run what it reads. So it is kept only where nobody but the user (or the
system's administrator) can write; anywhere else it is compiled anew.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctenhance.decomposition.solver.quadrature import (
    LEAST_AT_LOW_ENERGY,
    LEAST_ATTENUATION,
    MOST_ATTENUATION,
    Region,
)
from ctenhance.decomposition.solver.start import Start, exponents

#: Rays from which compiling, which takes seconds where it was not done before, is worth while.
MANY_RAYS = 10_000_000
#: The compiled steps go on to this part of the tolerance: they cost little.
STRICTER = 0.1


def installed() -> bool:
    """Say whether numba is there, without loading it."""
    return importlib.util.find_spec("numba") is not None


@cache
def _solver() -> Any:
    """The compiled function, kept on the disk where that is safe."""
    from ctenhance.decomposition.solver.fused import solve_group

    try:
        solve_group.enable_caching()
    except RuntimeError:  # there is no place to write to
        return solve_group
    if not only_ours(Path(solve_group.stats.cache_path)):
        from numba import njit

        return njit(**solve_group.targetoptions)(solve_group.py_func)
    return solve_group


def only_ours(folder: Path) -> bool:
    """Whether nobody but this user and the administrator can write into a folder, or replace it.

    Where there are no such owners (Windows) the folders in question lie in the user's own profile."""
    if not hasattr(os, "getuid"):
        return True
    folder = folder.resolve()
    for place in (folder, *folder.parents):
        if not place.exists():
            continue
        facts = place.stat()
        if facts.st_uid not in (0, os.getuid()):
            return False
        # others may write where they cannot replace what is not theirs, as in /tmp
        shared = facts.st_mode & 0o022
        if shared and (place == folder or not facts.st_mode & 0o1000):
            return False
    return True


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
        n_groups, _, n_rays = counts.shape
        lines = np.empty((n_groups, len(self._attenuation[0]), n_rays))
        good, counted = np.zeros((n_groups, n_rays), bool), np.empty((n_groups, n_rays))
        scattered = np.zeros(counts.shape) if scatter is None else scatter.numpy()
        spaces = self._space(counts.shape[1], np.float32), self._space(counts.shape[1], np.float64)
        steps = 0
        for index, group in enumerate(range(len(self._air))[groups]):
            taken = _solver()(
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
