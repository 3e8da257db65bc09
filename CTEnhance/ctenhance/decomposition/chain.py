"""The whole chain from counts to material images, differentiable from detector to image.

Counts go to the maximum-likelihood layer and its line integrals to filtered backprojection. What
is kept for the gradient is counts, line integrals and spectra: nothing of the solver's steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ctenhance.decomposition.solver.layer import Decomposer
from ctenhance.decomposition.solver.quadrature import REFERENCE_KEV
from ctenhance.physics.fbp import Kernel, fbp
from ctenhance.physics.geometry import ScanGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.materials import Material, attenuation_matrix, material
from ctenhance.physics.truncation import beyond_parts
from ctenhance.runtime.progress import Cancellable

#: Line integrals are g/cm², the scan's lengths mm: an image of them in mm⁻¹ is 0.1 g/cm³.
_PER_MM_TO_G_CM3 = 10.0


def density_images(
    lines: torch.Tensor,
    scan: ScanGeometry,
    grid: ImageGrid,
    kernel: Kernel = "standard",
    cancel: Cancellable | None = None,
    truncated: Sequence[Material] | None = None,
) -> torch.Tensor:
    """Partial densities in g/cm³ `[..., material, row, column]` of line integrals in g/cm² `[..., view,
    column, material]`; differentiable. `truncated`: the materials, where the body reaches beyond the
    detector, so that it has to be continued there."""
    parts = lines.movedim(-1, -3)
    outside = None
    if truncated is not None:
        energy = torch.tensor([REFERENCE_KEV])
        attenuation = attenuation_matrix(list(truncated), energy)[:, 0]
        outside = beyond_parts(parts, attenuation, scan, float(material("water").linear_attenuation(energy)))
    return fbp(parts, scan, grid, kernel, cancel, outside) * _PER_MM_TO_G_CM3


def material_images(
    counts: torch.Tensor,
    decomposer: Decomposer,
    scan: ScanGeometry,
    grid: ImageGrid,
    kernel: Kernel = "standard",
    spectra: torch.Tensor | None = None,
    scatter: torch.Tensor | None = None,
    tolerance: float = 1e-4,
) -> torch.Tensor:
    """Partial densities in g/cm³ `[..., material, row, column]` of counts `[..., view, column, bin]`.

    Differentiable in `counts`, `spectra` (`[bin, energy]` or `[column, bin, energy]`) and `scatter` (expected
    quanta, of the counts' shape)."""
    lines = decomposer(counts, spectra, scatter, tolerance)
    return density_images(lines, scan, grid, kernel)
