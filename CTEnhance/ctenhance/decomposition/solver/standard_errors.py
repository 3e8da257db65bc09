"""Error bars of material images: the Cramér-Rao bound of every ray, carried through the reconstruction."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ctenhance.decomposition.chain import density_images
from ctenhance.decomposition.solver.layer import Decomposer
from ctenhance.physics.fbp import Kernel
from ctenhance.physics.geometry import ScanGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.runtime.progress import Cancellable, check

DRAWS = 8
#: The variance is averaged over this many pixels a side; noise varies more slowly than that.
AVERAGE_PIXELS = 9


def standard_error_images(
    lines: torch.Tensor,
    decomposer: Decomposer,
    scan: ScanGeometry,
    grid: ImageGrid,
    kernel: Kernel = "standard",
    seed: int = 0,
    scatter: torch.Tensor | None = None,
    cancel: Cancellable | None = None,
) -> torch.Tensor:
    """Standard error in g/cm³ `[material, row, column]` of the images of `lines` `[view, column, material]`.

    Noise with each ray's least possible covariance (inverse Fisher information) is drawn, reconstructed and
    its variance averaged over draws and neighbours: right to some five per cent, whatever the scan."""
    information = decomposer.fisher(lines, scatter)
    scale = information.diagonal(dim1=-1, dim2=-2).clamp(min=1e-30).sqrt()
    # in units in which the diagonal is 1, a starved ray's matrix can be inverted too
    correlation = information / (scale[..., None] * scale[..., None, :])
    correlation = correlation + 1e-9 * torch.eye(lines.shape[-1], dtype=lines.dtype, device=lines.device)
    factor = torch.linalg.cholesky(correlation)
    generator = torch.Generator().manual_seed(seed)
    least = decomposer.quadrature.region
    most = 0.1 * (least.upper - least.lower)
    variance = torch.zeros(())
    for _ in range(DRAWS):
        check(cancel)
        white = torch.randn(lines.shape, generator=generator, dtype=torch.float64).to(lines.device)
        noise = torch.linalg.solve_triangular(factor.mT, white[..., None], upper=True)[..., 0] / scale
        noise = torch.minimum(torch.maximum(noise, -most), most)
        images = density_images(noise.float(), scan, grid, kernel, cancel)
        variance = variance.to(lines.device) + images**2 / DRAWS
    side = AVERAGE_PIXELS
    return F.avg_pool2d(variance, side, 1, side // 2, count_include_pad=False).sqrt()
