"""Filtered backprojection of parallel and fan beams.

The band-limited ramp is built in space (Kak & Slaney 1988, eq. 3.61), so that its zero frequency is right,
and is multiplied by the reconstruction kernel. Filtering and refinement to a finer column grid
share one pair of FFTs. A fan's line integrals are weighted with the cosine of the ray's angle before, and
with the squared ratio of distances during backprojection (sec. 3.4.1 equiangular, 3.4.2 flat); on an
equiangular detector the ramp's taps are multiplied by (g / sin g)^2."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy.fft import next_fast_len

from ctenhance.choices import KERNELS
from ctenhance.physics.gather import REFINE, SLICES_AT_ONCE, as_slices
from ctenhance.physics.geometry import EQUIANGULAR, FanGeometry, ScanGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.pixels import backproject_pixels
from ctenhance.physics.redundancy import measured_field_mm, ray_weights
from ctenhance.runtime.errors import require_one_of
from ctenhance.runtime.progress import Cancellable, check

#: A reconstruction kernel: gain as a function of frequency in cycles/mm, or one of `KERNELS`.
Kernel = str | Callable[[torch.Tensor], torch.Tensor]
#: Kernels and the frequencies (line pairs per mm at the isocentre, in any geometry) at which their gain is
#: 50 % and 10 %: the MTF of the reconstruction, to which the focal spot and the columns' width add.
KERNEL_MTF = {"soft": (0.30, 0.50), "standard": (0.40, 0.65), "sharp": (0.55, 0.75)}
# The first and the last column.
_ENDS = (slice(0, 1), slice(-1, None))
# Filtered samples that exist at one time.
_CPU_SAMPLES, _GPU_SAMPLES = 1 << 23, 1 << 27


def kernel_gain(kernel: Kernel, frequency: torch.Tensor, pitch_mm: float) -> torch.Tensor:
    """Gain at `frequency` (cycles/mm at the isocentre), where neighbouring columns lie `pitch_mm` apart.

    ramp, shepp-logan and hann end at the columns' Nyquist frequency 1 / (2 pitch). Those of `KERNEL_MTF` are
    exp(-ln 2 (f / MTF50)^p), with p such that MTF10 is right: they mean the same in every geometry, as far as
    its Nyquist frequency reaches. Raises InputError for another name."""
    if callable(kernel):
        return kernel(frequency)
    require_one_of(kernel, KERNELS, "reconstruction kernel")
    relative = frequency * (2 * pitch_mm)
    if kernel in KERNEL_MTF:
        half, tenth = KERNEL_MTF[kernel]
        power = math.log(math.log(10) / math.log(2)) / math.log(tenth / half)
        return torch.exp2(-((frequency / half) ** power))
    if kernel == "ramp":
        return torch.ones_like(frequency)
    if kernel == "shepp-logan":
        return torch.sinc(relative / 2)
    return 0.5 + 0.5 * torch.cos(math.pi * relative.clamp(max=1))  # hann


def _ramp_response(n: int, scan: ScanGeometry, n_rays: int) -> torch.Tensor:
    """Frequency response `[n // 2 + 1]` of the band-limited ramp, in mm^-1, times the pitch (a discrete
    convolution across `n_rays` values); float64."""
    g = scan
    pitch = g.isocenter_pitch_mm
    k = torch.arange(n, dtype=torch.float64)
    k = torch.minimum(k, n - k)
    taps = torch.where(k % 2 == 1, -1.0 / (math.pi * k.clamp(min=1) * pitch) ** 2, torch.zeros_like(k))
    taps[0] = 1 / (4 * pitch**2)
    if isinstance(g, FanGeometry) and g.shape == EQUIANGULAR:
        # no two rays are farther apart than the whole fan, so taps beyond it multiply zeros only
        angle = k.clamp(max=n_rays - 1) * g.column_pitch
        taps /= torch.sinc(angle / math.pi) ** 2
    return torch.fft.rfft(taps).real * pitch


def _needed_columns(scan: ScanGeometry, reach: float, offset: int, n: int) -> tuple[int, int]:
    """First and last (excluded) padded column, `offset` before column 0, that an image which extends `reach`
    mm from the isocentre reads of `n`."""
    g = scan
    if isinstance(g, FanGeometry):
        angle = math.asin(reach / g.source_to_isocenter_mm)
        reach = angle if g.shape == EQUIANGULAR else math.tan(angle) * g.source_to_detector_mm
        pitch = g.column_pitch
    else:
        pitch = g.column_pitch_mm
    first, last = (g.central_column + offset + side * reach / pitch for side in (-1, 1))
    return max(0, math.floor(first) - 1), min(n, math.ceil(last) + 2)


def _span(scan: ScanGeometry) -> int:
    """Columns across the field of which all lines are measured: for a detector that stands aside more than it
    has, as the image's other half is filtered from the longer side, too."""
    g = scan
    if measured_field_mm(g) <= g.field_of_view_mm:
        return 0
    return 2 * math.ceil(max(g.central_column, g.n_columns - 1 - g.central_column)) + 1


def _in_quarter_turns(scan: ScanGeometry, grid: ImageGrid) -> bool:
    """Whether the last three quarters of the views are the first turned by 90, 180 and 270 degrees, about the
    middle of a square image."""
    if scan.n_views % 4 or grid.rows != grid.columns or any(grid.center_mm):
        return False
    quarters = scan.angles().double().view(4, -1)
    away = quarters - quarters[:1] - torch.arange(4, dtype=torch.float64)[:, None] * (math.pi / 2)
    return bool((away.sin().abs() < 1e-9).all() and (away.cos() > 0).all())


def fbp(
    sinogram: torch.Tensor,
    scan: ScanGeometry,
    grid: ImageGrid,
    kernel: Kernel = "ramp",
    cancel: Cancellable | None = None,
    outside: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Image `[..., rows, columns]` in mm^-1 on `grid` from line integrals `[..., view, column]` of `scan`.

    The view angles say whether the scan is full, short or something between (see `redundancy`); `kernel`:
    one of `KERNELS`, or a gain as a function of cycles/mm at the isocentre; `outside`: line integrals `[...,
    view, ray]`, as many before the first column as after the last one, 0 if not given. Slices are worked on
    `SLICES_AT_ONCE` at a time, views in parts. Differentiable. Raises InputError where the sinogram does not
    have the scan's shape, its views are too few or the image reaches the source, Cancelled where `cancel`
    asks for it."""
    g = scan
    batch, lead = as_slices(sinogram, (g.n_views, g.n_columns), "sinogram")
    # zero padding to twice the width keeps the circular convolution from wrapping round
    beyond = 0 if outside is None else outside[0].shape[-1]
    width = beyond + max(g.n_columns, _span(g))
    n = next_fast_len(2 * width, real=True)
    n += n % 2
    offset = (n - g.n_columns) // 2
    frequency = torch.arange(n // 2 + 1, dtype=torch.float64) / (n * g.isocenter_pitch_mm)
    response = _ramp_response(n, g, width) * kernel_gain(kernel, frequency, g.isocenter_pitch_mm)
    weight = ray_weights(g, grid) * torch.cos(g.column_angles())
    response, weight = (v.to(sinogram.dtype).to(sinogram.device) for v in (response, weight))
    first, last = _needed_columns(g, grid.radius_mm, offset, n)

    at_once = _CPU_SAMPLES if sinogram.device.type == "cpu" else _GPU_SAMPLES
    ends = [as_slices(end, (g.n_views, beyond), "sinogram's outside")[0] for end in outside or ()]
    # views a quarter turn apart look at the turned image alike: their pixels' places are worked out once
    turns = 4 if _in_quarter_turns(g, grid) else 1
    batch, weight, *ends = (
        x.unflatten(-2, (turns, -1)) for x in (batch, weight.expand(g.n_views, -1), *ends)
    )
    images = []
    parts = [stack.split(SLICES_AT_ONCE // turns) for stack in (batch, *ends)]
    for slices, *sides in zip(*parts, strict=True):
        n_views = max(1, at_once // (max(1, len(slices)) * turns * n * REFINE))
        image = None
        for low in range(0, g.n_views // turns, n_views):
            check(cancel)
            views = slice(low, low + n_views)
            rays = slices[..., views, :] * weight[:, views]
            if sides:
                before, after = (
                    side[..., views, :] * weight[:, views, at] for side, at in zip(sides, _ENDS, strict=True)
                )
                rays = torch.cat([before, rays, after], -1)
            padded = torch.nn.functional.pad(rays, (offset - beyond, n - g.n_columns - beyond - offset))
            fine = torch.fft.irfft(torch.fft.rfft(padded) * response, n=n * REFINE) * REFINE
            fine = fine[..., first * REFINE : last * REFINE]
            part = backproject_pixels(fine, g, grid, REFINE, offset - first, low, cancel)
            image = part if image is None else image + part
        assert image is not None
        images.append(sum(torch.rot90(image[:, turn], -turn, (-2, -1)) for turn in range(turns)))
    return torch.cat(images).reshape(*lead, *grid.shape)  # type: ignore[arg-type]
