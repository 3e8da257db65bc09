"""Scatter of a scan from its own counts: what `decompose` adds to the model of every ray.

Two methods: forward scatter spread along the detector (Ohnesorge et al., Eur Radiol 9:563, 1999), and the
trained network that says how far scatter is from a usual scanner's. Both know a scanner by its water ratio
(see `scatter_network`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ctenhance.decomposition.scatter.network import (
    ARCHITECTURE,
    CoarseModel,
    ScatterNet,
    full_size,
    grid,
    network_scatter,
)
from ctenhance.decomposition.scatter.physics import middle
from ctenhance.physics.geometry import ScanGeometry
from ctenhance.runtime import weights
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.weights import WeightsEntry
from ctenhance.scan.projections import Projections

NONE, KERNEL, NETWORK = "none", "kernel", "network"
DEFAULT = "decompose-scatter"
#: The entries of a projection file's `meta` that hold the scanner's water ratio and its grid's.
RATIO_ENTRY, GRID_ENTRY = "scatter_ratio", "grid_ratio"
LEAST_RATIO, MOST_RATIO, MOST_GRID = 0.001, 2.0, 40.0
#: Bins, their tilt (mean energies), the water ratios and the grids that the network was trained at.
TRAINED_BINS, TRAINED_TILT, TRAINED_RATIOS, TRAINED_GRIDS = (2, 8), (-1.7, 3.0), (0.03, 0.8), (4.0, 12.0)


@dataclass(frozen=True)
class ScatterMethod:
    """A way to estimate scatter: `name`, the scanner's `water_ratio` or None, the network with its entry, the
    anti-scatter grid's ratio or None."""

    name: str
    water_ratio: float | None = None
    network: ScatterNet | None = None
    entry: WeightsEntry | None = None
    grid_ratio: float | None = None


def scatter_method(
    choice: str | Path = NONE, water_ratio: float | None = None, grid_ratio: float | None = None
) -> ScatterMethod | None:
    """The method meant by 'none' (None), 'kernel', 'network', the name or the file of a network's weights.

    `water_ratio`: scatter by primary counts of all bins behind the middle of 300 mm of water on that
    scanner, where it is known; `grid_ratio`: height by gap of its anti-scatter grid (0: none), which the
    kernel makes no use of. Raises InputError for ratios that cannot be and weights that are not there."""
    if choice == NONE and (water_ratio, grid_ratio) != (None, None):
        raise InputError("A scatter or grid ratio needs a correction: choose --scatter kernel or network.")
    if grid_ratio is not None and not 0 <= grid_ratio <= MOST_GRID:
        raise InputError(f"The grid ratio is {grid_ratio:g}: give 0 to {MOST_GRID:g}, such as 8.")
    if water_ratio is not None and not LEAST_RATIO <= water_ratio <= MOST_RATIO:
        raise InputError(
            f"The scatter ratio is {water_ratio:g}: give {LEAST_RATIO:g} to {MOST_RATIO:g}, such as 0.12."
        )
    if choice == NONE:
        return None
    if choice == KERNEL:
        return ScatterMethod(KERNEL, water_ratio, grid_ratio=grid_ratio)
    wanted = weights.default_name(DEFAULT) if choice == NETWORK else choice
    tensors, entry = weights.load(wanted, [ARCHITECTURE])
    network = ScatterNet(**entry.arguments)
    weights.fill(network, tensors, entry)
    return ScatterMethod(NETWORK, water_ratio, network.eval(), entry, grid_ratio)


def told_ratio(projections: Projections) -> float | None:
    """The scanner's water ratio, where the projections' `meta` tells it; else None.

    Raises InputError for a ratio that cannot be."""
    what = "scatter to primary behind 300 mm of water"
    return _told(projections, RATIO_ENTRY, (LEAST_RATIO, MOST_RATIO), what, "--scatter-ratio")


def told_grid(projections: Projections) -> float | None:
    """The ratio of the anti-scatter grid, likewise."""
    return _told(projections, GRID_ENTRY, (0.0, MOST_GRID), "height by gap of a grid", "--grid-ratio")


def _told(
    projections: Projections, entry: str, limits: tuple[float, float], what: str, option: str
) -> float | None:
    told = projections.meta.get(entry)
    if told is None:
        return None
    least, most = limits
    if type(told) not in (int, float) or not least <= told <= most:
        raise InputError(
            f"The projections' meta tells a '{entry}' of {told!r:.40}, which is no {what}: give {option} "
            f"{least:g} to {most:g}."
        )
    return float(told)


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
        ratio = self.method.water_ratio
        if self.network is None:
            coarse = self.model.kernel(counts, geometry, ratio)
            full = full_size(coarse, counts.shape[0], counts.shape[1], grid(geometry)[2])
        else:
            seen = self.model(counts, geometry, ratio, self.method.grid_ratio)
            with torch.inference_mode():
                full = network_scatter(self.network, seen, self.device)
        return (full * float(self.model.mean_air.sum())).to(counts.device)

    def unlike_training(self) -> str | None:
        """A sentence where the beam or the ratio is not one that the network was trained at."""
        if self.network is None:
            return None
        tilt = self.model.tilt
        few, many = TRAINED_BINS
        least, most = TRAINED_RATIOS
        ratio = self.method.water_ratio
        if ratio is not None and not least <= ratio <= most:
            return (
                f"The scatter network was trained at ratios of {least:g} to {most:g} behind 300 mm of water, "
                f"not {ratio:g}: compare with --scatter kernel."
            )
        grid = self.method.grid_ratio
        if grid is not None and not TRAINED_GRIDS[0] <= grid <= TRAINED_GRIDS[1]:
            return (
                f"The scatter network was trained at grid ratios of {TRAINED_GRIDS[0]:g} to "
                f"{TRAINED_GRIDS[1]:g}, not {grid:g}: compare with --scatter kernel."
            )
        inside = TRAINED_TILT[0] <= float(tilt.min()) and float(tilt.max()) <= TRAINED_TILT[1]
        if few <= len(tilt) <= many and inside:
            return None
        return (
            f"The scatter network was trained on {few} to {many} energy bins of 80 to 140 kV; this scan's "
            "bins lie outside of that: compare with --scatter kernel."
        )


def found_ratio(scatter: torch.Tensor, counts: torch.Tensor) -> float:
    """Scatter by primary counts that was found in the detector's middle; `[view, column, bin]` both."""
    part = middle(counts.shape[1])
    whole, part_of_it = float(counts[:, part].sum()), float(scatter[:, part].sum())
    return part_of_it / max(whole - part_of_it, 1e-30)
