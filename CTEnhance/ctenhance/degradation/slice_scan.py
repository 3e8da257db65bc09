"""The projections of one axial image, which the projection steps add their errors to."""

from __future__ import annotations

from functools import cached_property

import torch

from ctenhance.degradation.reconstruction import Reconstruction
from ctenhance.physics.geometry import ParallelGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.noise import attenuation_sinogram
from ctenhance.physics.projector import project
from ctenhance.physics.units import hu_to_mu

# Anything above is metal, whose attenuation the clipped HU scale of most scanners does not show anyway.
_HIGHEST_HU = 4000.0


class SliceScan:
    """Projections `[view, column]` of one axial image: `clean` as they are, `error` what the steps add."""

    def __init__(
        self, hu: torch.Tensor, pixel_mm: float, reconstruction: Reconstruction, detail: bool
    ) -> None:
        """`hu` `[rows, columns]`; projected in full `detail`, or only as smoothly as noise needs it."""
        self.reconstruction = reconstruction
        self.grid = ImageGrid.centred(hu.shape, pixel_mm)
        self.geometry = ParallelGeometry.covering(self.grid, n_views=reconstruction.views)
        self.hu = hu.clamp(-1000, _HIGHEST_HU)
        self.clean = (
            project(hu_to_mu(self.hu), self.geometry, self.grid)
            if detail
            else self.smooth_projection(self.hu)
        )
        self.error = torch.zeros_like(self.clean)

    def error_image(self) -> torch.Tensor:
        """What the errors add to the image, in HU `[rows, columns]`."""
        return self.reconstruction.image(self.error, self.geometry, self.grid)

    def smooth_projection(self, hu: torch.Tensor) -> torch.Tensor:
        """Line integrals `[view, column]` of `hu`, from pixels twice as large."""
        return attenuation_sinogram(hu[None], self.geometry, self.grid)[0]

    @cached_property
    def angles(self) -> torch.Tensor:
        """View angles `[view]` in rad, float32."""
        return self.geometry.angles().to(device=self.hu.device, dtype=torch.float32)
