"""Scatter in a whole simulated scan, by physics, in the amount that is asked for."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import torch

from ctenhance.decomposition.phantom import MaterialPhantom
from ctenhance.decomposition.scatter.physics import (
    Quanta,
    ScatterSetup,
    middle,
    physical_scatter,
    slice_scatter,
    spr_behind_middle,
    spread,
    water_cylinder,
)
from ctenhance.decomposition.solver.beam import Beam, expected_counts
from ctenhance.physics.geometry import ScanGeometry
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress, check, silent

#: Thickness of the slabs: a slice is hit by scatter from about as far.
SLAB_MM = 20.0
#: Views at which primary counts are compared with scatter.
COMPARED_VIEWS = 64


class ScanScatter:
    """Expected scattered counts of a scan, slice by slice: `scatter(index)` is float64 `[view, column, bin]`.

    `spr`: scatter by primary counts of all bins behind the middle of the object (the middle fifth of
    the detector's columns), on average over views and slices. `water_spr`: the same of this scanner behind
    the middle of 300 mm of water, by which corrections know it; `grid_ratio`: its anti-scatter grid's.
    Raises InputError where nothing scatters, Cancelled when asked to stop.
    """

    def __init__(
        self,
        phantom: MaterialPhantom,
        geometry: ScanGeometry,
        beam: Beam,
        spr: float,
        progress: Progress = silent,
        cancel: Cancellable | None = None,
    ) -> None:
        if not (math.isfinite(spr) and spr > 0):
            raise InputError(f"Scatter cannot be {spr:g} of the primary counts: give 0.1, for example.")
        self._geometry, self._n_slices = geometry, phantom.densities.shape[1]
        slabs, quanta, setup = in_slabs(phantom), Quanta.of(beam), ScatterSetup()
        self.grid_ratio = setup.grid_ratio
        parts = []
        for index in range(slabs.densities.shape[1]):
            parts.append(slice_scatter(slabs, index, geometry, quanta, setup, cancel))
            progress("scatter", index + 1, slabs.densities.shape[1])
        self._slabs = torch.stack(parts)  # [slab, view, column, bin]
        if not bool(self._slabs.any()):
            raise InputError("The phantom scatters nothing: choose another phantom, or a scatter of 0.")
        self._scale = spr / self._own_spr(phantom, beam, cancel)
        cylinder, one_view = water_cylinder(geometry)
        water = expected_counts(cylinder, one_view, beam.spectra(), beam.detector.energies_kev, cancel=cancel)
        own = physical_scatter(cylinder, one_view, quanta, setup, cancel)
        self.water_spr = self._scale * spr_behind_middle(own, water)

    def __call__(self, index: int) -> torch.Tensor:
        return self._scale * self._slice(index)

    def _slice(self, index: int) -> torch.Tensor:
        """Scatter of one slice in the unit of the slabs."""
        n_slabs = len(self._slabs)
        position = min(max((index + 0.5) / self._n_slices * n_slabs - 0.5, 0.0), n_slabs - 1.0)
        below = int(position)
        above = min(below + 1, n_slabs - 1)
        here = torch.lerp(self._slabs[below], self._slabs[above], position - below)
        return spread(here, self._geometry)

    def _own_spr(self, phantom: MaterialPhantom, beam: Beam, cancel: Cancellable | None) -> float:
        """Scatter by primary counts of the phantom in the unit of the slabs, at some views."""
        geometry = self._geometry
        n_views = min(COMPARED_VIEWS, geometry.n_views)
        views = (torch.arange(n_views) * (geometry.n_views / n_views)).long()
        columns = middle(geometry.n_columns)
        compared = geometry.with_views(tuple(geometry.angles()[views].tolist())).with_columns(
            len(range(geometry.n_columns)[columns]), geometry.central_column - columns.start
        )
        scattered = direct = 0.0
        for index in range(self._n_slices):
            check(cancel)
            one = replace(phantom, densities=phantom.densities[:, index : index + 1])
            energies = beam.detector.energies_kev
            direct += float(expected_counts(one, compared, beam.spectra(), energies, cancel=cancel).sum())
            scattered += float(self._slice(index)[views][:, columns].sum())
        return scattered / max(direct, 1e-300)


def in_slabs(phantom: MaterialPhantom) -> MaterialPhantom:
    """The phantom in slabs of `SLAB_MM`: a slice is hit by what others scatter, so scatter changes slowly
    along the axis."""
    n_slices = phantom.densities.shape[1]
    n_slabs = min(n_slices, max(1, round(n_slices * phantom.slice_mm / SLAB_MM)))
    ends = [round(slab * n_slices / n_slabs) for slab in range(n_slabs + 1)]
    slabs = [phantom.densities[:, first:last].mean(1) for first, last in itertools.pairwise(ends)]
    thick = phantom.slice_mm * n_slices / n_slabs
    return replace(phantom, densities=torch.stack(slabs, 1), slice_mm=thick)
