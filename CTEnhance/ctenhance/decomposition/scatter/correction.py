"""Scatter of a scan from its own counts: what `decompose` adds to the model of every ray.

Two methods: forward scatter spread along the detector (Ohnesorge et al., Eur Radiol 9:563, 1999), and the
trained network that says how far scatter is from a reference scanner's. Both know a scanner by its
scatter-to-primary ratio behind 300 mm of water (see `scatter.network`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ctenhance.choices import SCATTER_MODES
from ctenhance.decomposition.scatter.network import (
    ARCHITECTURE,
    CoarseModel,
    ScatterNet,
    coarse_shape,
    full_size,
    network_scatter,
)
from ctenhance.decomposition.scatter.physics import middle
from ctenhance.physics.geometry import ScanGeometry
from ctenhance.runtime import weights
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.weights import WeightsEntry
from ctenhance.scan.projections import Projections

NONE, KERNEL, NETWORK = SCATTER_MODES
DEFAULT = "decompose-scatter"
#: The entries of a projection file's `meta` that hold the scanner's SPR behind water and its grid ratio.
SPR_ENTRY, GRID_ENTRY = "scatter_ratio", "grid_ratio"
LEAST_SPR, MOST_SPR, MOST_GRID = 0.001, 2.0, 40.0
#: Bins, their tilt (mean energies), the water ratios and the grids that the network was trained at.
TRAINED_BINS, TRAINED_TILT, TRAINED_SPRS, TRAINED_GRIDS = (2, 8), (-1.7, 3.0), (0.03, 0.8), (4.0, 12.0)


@dataclass(frozen=True)
class ScatterMethod:
    """A way to estimate scatter: `name`, the scanner's SPR behind 300 mm of water or None, the network with
    its entry, the anti-scatter grid's ratio or None."""

    name: str
    water_spr: float | None = None
    network: nn.Module | None = None
    entry: WeightsEntry | None = None
    grid_ratio: float | None = None


def scatter_method(
    choice: str | Path = NONE, water_spr: float | None = None, grid_ratio: float | None = None
) -> ScatterMethod | None:
    """The method meant by 'none' (None), 'kernel', 'network', the name or the file of a network's weights.

    `water_spr`: scatter by primary counts of all bins behind the middle of 300 mm of water on that
    scanner, where it is known; `grid_ratio`: height by gap of its anti-scatter grid (0: none), which the
    kernel makes no use of. Raises InputError for ratios that cannot be and weights that are not there."""
    if choice == NONE and (water_spr, grid_ratio) != (None, None):
        raise InputError("A scatter or grid ratio needs a correction: choose kernel or network, not none.")
    if grid_ratio is not None and not 0 <= grid_ratio <= MOST_GRID:
        raise InputError(f"The grid ratio is {grid_ratio:g}: give 0 to {MOST_GRID:g}, such as 8.")
    if water_spr is not None and not LEAST_SPR <= water_spr <= MOST_SPR:
        raise InputError(
            f"The scatter ratio is {water_spr:g}: give {LEAST_SPR:g} to {MOST_SPR:g}, such as 0.12."
        )
    if choice == NONE:
        return None
    if choice == KERNEL:
        return ScatterMethod(KERNEL, water_spr, grid_ratio=grid_ratio)
    name = weights.default_name(DEFAULT) if choice == NETWORK else choice
    model = weights.load_model(name, [ARCHITECTURE], lambda _, arguments: ScatterNet(**arguments))
    return ScatterMethod(NETWORK, water_spr, model.network, model.entry, grid_ratio)


def spr_in_file(projections: Projections) -> float | None:
    """The scanner's SPR behind 300 mm of water, where the projections' `meta` holds it; else None.

    Raises InputError for a value that no scanner has."""
    what = "scatter to primary behind 300 mm of water"
    return _from_meta(projections, SPR_ENTRY, (LEAST_SPR, MOST_SPR), what, "--scatter-ratio")


def grid_ratio_in_file(projections: Projections) -> float | None:
    """The ratio of the anti-scatter grid, likewise."""
    return _from_meta(projections, GRID_ENTRY, (0.0, MOST_GRID), "height by gap of a grid", "--grid-ratio")


def _from_meta(
    projections: Projections, entry: str, limits: tuple[float, float], what: str, option: str
) -> float | None:
    value = projections.meta.get(entry)
    if value is None:
        return None
    least, most = limits
    if type(value) not in (int, float) or not least <= value <= most:
        raise InputError(
            f"The projections' meta tells a '{entry}' of {value!r:.40}, which is no {what}: give {option} "
            f"{least:g} to {most:g}."
        )
    return float(value)


class ScatterEstimator:
    """A method, made ready for one beam: `spectra` expected quanta in air `[bin, energy]` or `[column, bin,
    energy]` on `energies_kev`. The network runs on `device`."""

    def __init__(
        self,
        method: ScatterMethod,
        spectra: torch.Tensor,
        energies_kev: torch.Tensor,
        device: torch.device | str = "cpu",
    ) -> None:
        self.method, self.device = method, torch.device(device)
        self.model = CoarseModel(spectra, energies_kev)
        self.network = None if method.network is None else method.network.to(self.device)

    def __call__(self, counts: torch.Tensor, geometry: ScanGeometry) -> torch.Tensor:
        """Expected scattered counts, float32 of the shape `[view, column, bin]` of `counts`, on their
        device."""
        spr = self.method.water_spr
        if self.network is None:
            coarse = self.model.kernel(counts, geometry, spr)
            full = full_size(coarse, counts.shape[0], counts.shape[1], coarse_shape(geometry)[2])
        else:
            scan = self.model(counts, geometry, spr, self.method.grid_ratio)
            with torch.inference_mode():
                full = network_scatter(self.network, scan, self.device)
        return (full * float(self.model.mean_air.sum())).to(counts.device)

    def unlike_training(self) -> str | None:
        """A sentence where the beam or the ratio is not one that the network was trained at."""
        if self.network is None:
            return None
        tilt = self.model.tilt
        few, many = TRAINED_BINS
        least, most = TRAINED_SPRS
        spr = self.method.water_spr
        if spr is not None and not least <= spr <= most:
            return (
                f"The scatter network was trained at ratios of {least:g} to {most:g} behind 300 mm of water, "
                f"not {spr:g}: compare with the method 'kernel'."
            )
        grid = self.method.grid_ratio
        if grid is not None and not TRAINED_GRIDS[0] <= grid <= TRAINED_GRIDS[1]:
            return (
                f"The scatter network was trained at grid ratios of {TRAINED_GRIDS[0]:g} to "
                f"{TRAINED_GRIDS[1]:g}, not {grid:g}: compare with the method 'kernel'."
            )
        inside = TRAINED_TILT[0] <= float(tilt.min()) and float(tilt.max()) <= TRAINED_TILT[1]
        if few <= len(tilt) <= many and inside:
            return None
        return (
            f"The scatter network was trained on {few} to {many} energy bins of 80 to 140 kV; this scan's "
            "bins lie outside of that: compare with the method 'kernel'."
        )


def spr_in_counts(scatter: torch.Tensor, counts: torch.Tensor) -> float:
    """Scatter by primary counts that was found in the detector's middle; `[view, column, bin]` both."""
    part = middle(counts.shape[1])
    whole, part_of_it = float(counts[:, part].sum()), float(scatter[:, part].sum())
    return part_of_it / max(whole - part_of_it, 1e-30)
