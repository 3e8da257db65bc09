"""Noise of the measurement: quanta, electronics, bowtie and tube-current modulation.

A ray with N0 quanta in air and line integral p counts I ~ Poisson(N0 exp(-p)) + Normal(0, s2), s2 the
electronic variance in counts^2. To first order the line integral -ln(I / N0) then has the variance

    exp(p) / N0  +  s2 exp(2 p) / N0^2        (quantum + electronic; Whiting et al., Med Phys 33:3290, 2006),

so the electronic part grows faster as dose falls and as the body thickens: streaks along the long axis.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ctenhance.physics.fbp import Kernel, fbp
from ctenhance.physics.geometry import ParallelGeometry, ScanGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.projector import project
from ctenhance.physics.units import MU_WATER_PER_MM, hu_to_mu
from ctenhance.runtime.errors import InputError

#: A reading below this many counts carries no more information; the log is taken of the floor.
COUNT_FLOOR = 0.5


def bowtie_fluence(scan: ScanGeometry, strength: float = 0.7, radius_mm: float = 160.0) -> torch.Tensor:
    """Relative fluence `[column]`, 1 at the centre: a filter that evens out a water cylinder of `radius_mm`
    at the isocentre.

    `strength` 0 means no filter, 1 evens the cylinder out completely.
    """
    chord = 2 * (radius_mm**2 - scan.ray_offsets_mm() ** 2).clamp(min=0).sqrt()
    return torch.exp(-strength * MU_WATER_PER_MM * (2 * radius_mm - chord)).float()


def tube_modulation(line_integrals: torch.Tensor, strength: float) -> torch.Tensor:
    """Relative tube current `[..., view]`, mean 1: by `strength` of the view's greatest attenuation (0.5 is
    usual).

    Gies et al., Med Phys 26:2235 (1999): a current in proportion to the square root of the attenuation
    minimises the noise at a given dose, which is `strength` = 0.5."""
    peak = line_integrals.amax(-1)
    current = torch.exp(strength * (peak - peak.amax(-1, keepdim=True)))
    return current / current.mean(-1, keepdim=True)


def noisy_counts(
    line_integrals: torch.Tensor,
    air_counts: float | torch.Tensor,
    electronic_variance: float = 0.0,
    generator: torch.Generator | None = None,
    bowtie: torch.Tensor | None = None,
    current: torch.Tensor | None = None,
    dose: float = 1.0,
) -> torch.Tensor:
    """Detected counts, float32, of the shape of `line_integrals` `[..., view, column]`: Poisson quanta and
    Gaussian electronics (`electronic_variance` in counts^2), which may make a starved reading negative.

    `air_counts`: quanta in air on the central ray at the full `dose` (a fraction of it is given), a number or
    a tensor that broadcasts; `bowtie`: relative fluence `[column]` (`bowtie_fluence`); `current`: relative
    tube current `[..., view]` (`tube_modulation`). The electronic noise depends on none of the three. Drawn
    in float64, on the CPU where the device has none. Raises InputError for a dose that is not positive."""
    if not dose > 0:
        raise InputError(f"The dose must be a positive fraction of the full dose, not {dose}.")
    air = air_in_view(line_integrals, air_counts, bowtie, current) * dose
    return _detect(line_integrals, air, electronic_variance, generator).float().to(line_integrals.device)


def air_in_view(
    line_integrals: torch.Tensor,
    air_counts: float | torch.Tensor,
    bowtie: torch.Tensor | None = None,
    current: torch.Tensor | None = None,
) -> torch.Tensor:
    """Expected counts without an object, float64, broadcasting to `line_integrals`: as in
    `noisy_counts`."""
    device = _double_device(line_integrals)
    air = torch.as_tensor(air_counts).to(device).double()
    if bowtie is not None:
        air = air * bowtie.to(device).double()
    return air if current is None else air * current.to(device).double()[..., None]


def _double_device(x: torch.Tensor) -> torch.device:
    return torch.device("cpu") if x.device.type == "mps" else x.device


def _detect(
    line_integrals: torch.Tensor, air: torch.Tensor, variance: float, generator: torch.Generator | None
) -> torch.Tensor:
    expected = air * torch.exp(-line_integrals.to(air.device).double())
    counts = torch.poisson(expected, generator=generator)
    if variance > 0:
        normal = torch.randn(counts.shape, generator=generator, dtype=torch.float64, device=counts.device)
        counts += normal * variance**0.5
    return counts


def quantum_electronic_noise(
    line_integrals: torch.Tensor,
    photons_per_ray: float | torch.Tensor,
    electronic_variance: float = 0.0,
    generator: torch.Generator | None = None,
    bowtie: torch.Tensor | None = None,
) -> torch.Tensor:
    """Noisy line integrals of the same shape: Poisson quanta and Gaussian electronics (counts^2), then the
    log.

    `photons_per_ray`: quanta in air on the central ray, a number or a tensor that broadcasts; `bowtie`:
    relative fluence `[column]`."""
    air = air_in_view(line_integrals, photons_per_ray, bowtie)
    counts = _detect(line_integrals, air, electronic_variance, generator)
    return torch.log(air / counts.clamp(min=COUNT_FLOOR)).to(line_integrals.dtype).to(line_integrals.device)


def attenuation_sinogram(hu: torch.Tensor, scan: ScanGeometry, grid: ImageGrid) -> torch.Tensor:
    """Line integrals `[batch, view, column]` of `hu` `[batch, rows, columns]` on `grid`, from pixels twice as
    large.

    For noise levels only: attenuation varies slowly along the detector, and this is eight times cheaper.
    (Fans, and parallel rays that are not evenly spread about a centred image, are projected in full.)
    """
    g = scan
    mu = hu_to_mu(hu).clamp(min=0)
    if not (isinstance(g, ParallelGeometry) and _evenly_spread(g) and grid.center_mm == (0.0, 0.0)):
        return project(mu, g, grid)
    mu = F.pad(mu, (0, -mu.shape[-1] % 2, 0, -mu.shape[-2] % 2))
    coarse = F.avg_pool2d(mu[:, None], 2)[:, 0]
    views = max(8, g.n_views // 4)
    n_columns = -(-g.n_columns // 2) + 1
    half = ParallelGeometry(views, n_columns, 2 * g.column_pitch_mm, g.arc_rad)
    sinogram = project(coarse, half, ImageGrid.centred(coarse.shape, 2 * grid.pixel_mm))
    # bilinear in both directions; beyond the last view the arc closes on the first one, mirrored
    closing = sinogram[:, :1].flip(-1) if abs(g.arc_rad - torch.pi) < 1e-6 else sinogram[:, :1]
    closed = torch.cat([sinogram, closing], 1)
    v = torch.arange(g.n_views, device=hu.device) * (views / g.n_views)
    t = torch.arange(g.n_columns, device=hu.device) - g.central_column
    c = t / 2 + half.central_column
    positions = torch.stack(
        torch.meshgrid(c * (2 / (n_columns - 1)) - 1, v * (2 / views) - 1, indexing="xy"), -1
    )  # [view, column, (column, view)]
    positions = positions.to(hu.dtype).expand(hu.shape[0], -1, -1, -1)
    return F.grid_sample(closed[:, None], positions, align_corners=True, padding_mode="border")[:, 0]


def _evenly_spread(g: ParallelGeometry) -> bool:
    return g == ParallelGeometry(g.n_views, g.n_columns, g.column_pitch_mm, g.arc_rad)


def noise_fields(
    hu: torch.Tensor,
    scan: ScanGeometry,
    grid: ImageGrid,
    kernel: Kernel = "ramp",
    bowtie: torch.Tensor | None = None,
    modulation: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two independent noise images in HU, `[batch, rows, columns]`: quantum and electronic, for one quantum
    a ray.

    At N0 quanta a ray and electronic variance s2 the noise of a scan is  quantum / sqrt(N0) + electronic *
    s / N0; going from N0 to d * N0 (d < 1) adds noise of variance  quantum^2 (1/d - 1) / N0 + electronic^2
    s2 (1/d^2 - 1) / N0^2. Gaussian in the line integrals: right down to some ten counts a ray. `bowtie` as
    in `quantum_electronic_noise`, `modulation` as in `tube_modulation`."""
    p = attenuation_sinogram(hu, scan, grid).clamp(0, 12)
    fluence = torch.ones_like(p)
    if bowtie is not None:
        fluence = fluence * bowtie.to(p)
    if modulation > 0:
        fluence = fluence * tube_modulation(p, modulation)[..., None]
    inverse_counts = torch.exp(p) / fluence
    white = torch.randn((2, *p.shape), generator=generator, device=p.device, dtype=p.dtype)
    noise = torch.stack([white[0] * inverse_counts.sqrt(), white[1] * inverse_counts])
    images = fbp(noise, scan, grid, kernel)
    images = images * (1000 / MU_WATER_PER_MM)
    return images[0], images[1]
