"""The scatter that a reference scanner would have of the object which a scan's counts show.

Counts are decomposed at few rays and become a coarse image; what that scatters follows from physics. It is
what the scatter network starts from, so that it need not learn the way of quanta through a body, but only
how this scanner differs and what is wrong with the image.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from ctenhance.decomposition.chain import density_images
from ctenhance.decomposition.phantom import MaterialPhantom
from ctenhance.decomposition.scatter.physics import (
    FINE,
    Quanta,
    Sampling,
    ScatterSetup,
    physical_scatter,
    spr_behind_middle,
    view_arc,
    water_cylinder,
)
from ctenhance.decomposition.solver.beam import expected_counts
from ctenhance.decomposition.solver.layer import Decomposer
from ctenhance.physics.geometry import ScanGeometry
from ctenhance.physics.image_grid import ImageGrid

#: Views and columns of the rays that are decomposed, and pixels a side of the image. Streaks of fewer views
#: scatter beside the object.
VIEWS, COLUMNS, SIZE = 240, 144, 96
#: Views on either side that are averaged, as a part of the step: quanta are few behind thick bodies.
_AROUND = 1.5
#: How finely scatter is computed that only cleans the counts for the next image.
ROUGH = Sampling(views=12, columns=16, element_mm=20.0, steps=12, groups=8)
#: A grid and multiple scatter in the middle of what scanners have.
REFERENCE_SETUP = ScatterSetup(grid_ratio=8.0, leak=0.045, multiple=0.32, multiple_width_mm=85.0)
#: In g/cm³: less than this is noise of the air, and no material of the basis is denser.
_LEAST_DENSITY, _MOST_DENSITY = 0.05, 3.0


class ReferenceScatter:
    """Made ready for one beam, by the `decomposer` of its spectra `[bin, energy]`."""

    def __init__(self, decomposer: Decomposer) -> None:
        self.decomposer = decomposer
        self.quanta = Quanta.counted_once(decomposer.spectra, decomposer.energies_kev)
        self._water: dict[tuple[ScanGeometry, float, Sampling], float] = {}

    def image(
        self, counts: torch.Tensor, fluence: torch.Tensor | None, scan: ScanGeometry, grid: ImageGrid
    ) -> MaterialPhantom:
        """The object on `grid` that is seen by `counts` `[view, column, bin]` without (most of) their
        scatter, in the unit of the spectra; `fluence`: the bowtie's, relative to the mean column's,
        `[column]`."""
        bright = torch.ones_like(counts[0, :, :1]) if fluence is None else fluence[:, None]
        lines = self.decomposer.estimate(counts / bright, correct_bias=True).lines.float()
        images = density_images(lines, scan, grid, truncated=self.decomposer.materials)
        axis = ((torch.arange(len(images[0])) + 0.5) / len(images[0]) * 2 - 1) ** 2
        kept = (axis + axis[:, None] < 1) & (images.sum(0) > _LEAST_DENSITY)
        # materials other than water may be negative, as iodine is in fat
        least = torch.full((len(images), 1, 1), -_MOST_DENSITY)
        least[0] = 0
        images = (images * kept).clamp(max=_MOST_DENSITY).maximum(least)
        return MaterialPhantom(tuple(self.decomposer.materials), images[:, None], grid.pixel_mm)

    def scatter(
        self,
        phantom: MaterialPhantom,
        fluence: torch.Tensor | None,
        scan: ScanGeometry,
        sampling: Sampling = FINE,
        grid_ratio: float | None = None,
    ) -> torch.Tensor:
        """Scatter `[view, column, bin]` of an `image`, by the SPR behind water; `fluence` as there, of this
        `scan`; `grid_ratio`: the anti-scatter grid's, where it is known."""
        setup = REFERENCE_SETUP if grid_ratio is None else replace(REFERENCE_SETUP, grid_ratio=grid_ratio)
        behind = replace(setup, fluence=fluence)
        found = physical_scatter(phantom, scan, self.quanta, behind, sampling=sampling)[0]
        return found / self._of_water(scan, setup, sampling)

    def _of_water(self, scan: ScanGeometry, setup: ScatterSetup, sampling: Sampling) -> float:
        """The SPR behind the cylinder of water, in the unit of `physical_scatter`."""
        cylinder, one_view = water_cylinder(scan)
        key = one_view, setup.grid_ratio, sampling
        if key not in self._water:
            spectra, energies = self.decomposer.spectra, self.quanta.energies_kev
            primary = expected_counts(cylinder, one_view, spectra, energies)
            own = physical_scatter(cylinder, one_view, self.quanta, setup, sampling=sampling)
            self._water[key] = spr_behind_middle(own, primary)
        return self._water[key]


def few_rays(values: torch.Tensor, scan: ScanGeometry) -> tuple[torch.Tensor, ScanGeometry, ImageGrid]:
    """`[view, column, bin]` of some views, means over views and columns beside each other, their rays, and an
    image that covers the field of view."""
    angles = scan.angles()
    n_views, n_columns = min(VIEWS, len(angles)), min(COLUMNS, scan.n_columns)
    images = values.permute(2, 0, 1)[None]
    around = round(_AROUND * len(angles) / n_views)
    if 0 < around < len(angles):
        turn = "circular" if view_arc(scan)[1] else "replicate"
        padded = F.pad(images, (0, 0, around, around), mode=turn)
        images = F.avg_pool2d(padded, (2 * around + 1, 1), 1)
    views = (torch.arange(n_views) * (len(angles) / n_views)).long()
    means = F.adaptive_avg_pool2d(images[:, :, views], (n_views, n_columns))[0].permute(1, 2, 0)
    wide = scan.n_columns / n_columns
    few = scan.with_views(tuple(angles[views].tolist())).with_columns(
        n_columns, (scan.central_column + 0.5) / wide - 0.5, wide
    )
    field = 2 * float(few.ray_offsets_mm().abs().max())
    return means, few, ImageGrid(SIZE, SIZE, field / SIZE)
