"""Line integrals of an image and their exact adjoint, for any scan (Joseph, IEEE Trans Med Imaging 1:192,
1982).

Interpolation is linear, taken from lines that are refined `REFINE` times: one gather a sample instead of two
and a blend (a position is rounded by at most 1/8 sample). The adjoint uses the same rounded positions, so
that it matches to rounding. Angles and rays are prepared in float64 on the CPU, since not every device has
float64."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F

from ctenhance.physics.gather import REFINE, SLICES_AT_ONCE, as_slices, gather_sum, samples_at_once
from ctenhance.physics.geometry import FLAT, FanGeometry, ScanGeometry, check_image
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.pixels import Tile, positions, tiles
from ctenhance.runtime.progress import Cancellable, check

# Numbers in the table of a block of lines: what stays in a CPU's cache while all rays cross the block.
_CPU_TABLE, _GPU_TABLE = 1 << 21, 1 << 26
# Up to so many slices a CPU scatters each alone; more of them gather together.
_SCATTERED_SLICES = 5
# Width of a tile when pixels gather from their rays.
_TILE_COLUMNS = 64


@dataclass(frozen=True)
class _Rays:
    """The rays that cross all lines (rows if `steep`, else columns) of the image, by Joseph's method (1982).

    Ray `number` (view * n_columns + column) crosses line l at the refined sample  start + step * (l - middle
    line);  `length` is its path in mm from line to line."""

    steep: bool
    lines: int
    across: int
    number: torch.Tensor
    start: torch.Tensor
    step: torch.Tensor
    length: torch.Tensor

    @property
    def width(self) -> int:
        """Refined samples a line: a zero pixel before the first one, two after the last."""
        return (self.across + 2) * REFINE

    def indices(self, rays_first: bool, lines: range | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
        """The sample of every crossing with `lines` (or all), counted from the first of them: `[ray, line]`
        if `rays_first`, else `[line, ray]`, for one part of the rays after the other."""
        device, lines = self.start.device, lines or range(self.lines)
        line = torch.arange(lines.start, lines.stop, dtype=self.start.dtype, device=device)
        line -= (self.lines - 1) / 2
        first = torch.arange(len(lines), dtype=torch.int32, device=device) * self.width
        at_once = max(1, samples_at_once(device) // len(lines))
        for low in range(0, len(self.number), at_once):
            part = slice(low, low + at_once)
            start, step = self.start[part], self.step[part]
            if rays_first:
                sample, starts = torch.addcmul(start[:, None], step[:, None], line), first
            else:
                sample, starts = torch.addcmul(start, step, line[:, None]), first[:, None]
            # rays beyond the image read the zero pixels at its sides
            yield part, sample.clamp_(0, (self.across + 1) * REFINE).to(torch.int32).add_(starts)

    def blocks(self, slices: int) -> Iterator[range]:
        """Neighbouring lines whose refined table stays in a CPU's cache while all rays cross them."""
        limit = _CPU_TABLE if self.start.device.type == "cpu" else _GPU_TABLE
        n_blocks = -(-self.lines * self.width * slices // limit)
        n_lines = -(-self.lines // n_blocks)
        for low in range(0, self.lines, n_lines):
            yield range(low, min(low + n_lines, self.lines))


def _crossings(scan: ScanGeometry, grid: ImageGrid) -> tuple[torch.Tensor, ...]:
    """Of every ray, float64 or bool `[view * column]`: whether it is steep; the refined sample at which it
    crosses the middle line, + 0.5 so that truncation rounds to the nearest; its step from line to line; its
    path in mm between two lines."""
    origin, direction = (v.expand(scan.n_views, scan.n_columns, 2).reshape(-1, 2) for v in scan.rays())
    steep = direction[:, 1].abs() >= direction[:, 0].abs()
    along = torch.where(steep, direction[:, 1], direction[:, 0])
    step = torch.where(steep, direction[:, 0], direction[:, 1]) / along
    x, y = (origin - torch.tensor(grid.center_mm, dtype=torch.float64)).unbind(-1)
    at_middle = torch.where(steep, x - y * step, y - x * step) / grid.pixel_mm
    half = torch.where(steep, (grid.columns - 1) / 2, (grid.rows - 1) / 2)
    # + 1 for the zero pixel before the line
    return steep, (at_middle + half + 1) * REFINE + 0.5, step * REFINE, grid.pixel_mm / along.abs()


def _rays(scan: ScanGeometry, grid: ImageGrid, like: torch.Tensor) -> Iterator[_Rays]:
    is_steep, *values = _crossings(scan, grid)
    for steep in (True, False):
        number = torch.nonzero(is_steep == steep)[:, 0]
        on_device = [v[number].to(like.dtype).to(like.device) for v in values]
        sizes = grid.shape if steep else grid.shape[::-1]
        yield _Rays(steep, *sizes, number.to(like.device), *on_device)


def _refine(lines: torch.Tensor) -> torch.Tensor:
    """`[line, pixel, slice]` linearly interpolated: `[line, (pixel + 2) * REFINE, slice]`, zero at its sides.

    Pixel i stands at sample REFINE * (i + 1)."""
    n, across, slices = lines.shape
    padded = F.pad(lines, (0, 0, 1, 2))
    fine = lines.new_empty(n, across + 2, REFINE, slices)
    for k in range(REFINE):
        torch.lerp(padded[:, :-1], padded[:, 1:], k / REFINE, out=fine[:, :, k])
    return fine.view(n, -1, slices)


def _refine_adjoint(fine: torch.Tensor, across: int) -> torch.Tensor:
    """The adjoint of `_refine` with the slices first: `[slice, line, (pixel + 2) * REFINE]` to `[slice, line,
    pixel]`."""
    samples = fine.view(*fine.shape[:-1], across + 2, REFINE)
    right = torch.arange(REFINE, dtype=fine.dtype, device=fine.device) / REFINE
    return (samples @ (1 - right))[..., 1:-1] + (samples @ right)[..., :-2]


def _project(
    image: torch.Tensor, scan: ScanGeometry, grid: ImageGrid, cancel: Cancellable | None
) -> torch.Tensor:
    """`[slice, view, column]` of `[slice, rows, columns]`."""
    slices = image.shape[0]
    out = image.new_empty(scan.n_views * scan.n_columns, slices)
    for rays in _rays(scan, grid, image):
        lines = image.permute(1, 2, 0) if rays.steep else image.permute(2, 1, 0)
        sums = image.new_zeros(len(rays.number), slices)
        for block in rays.blocks(slices):
            table = _refine(lines[block.start : block.stop].contiguous()).view(-1, slices)
            for part, index in rays.indices(slices > 1, block):
                check(cancel)
                sums[part] += gather_sum(table, index)
        out[rays.number] = sums.mul_(rays.length[:, None])
    return out.T.reshape(-1, scan.n_views, scan.n_columns)


def _backproject(
    sinogram: torch.Tensor, scan: ScanGeometry, grid: ImageGrid, cancel: Cancellable | None
) -> torch.Tensor:
    """`[slice, rows, columns]` of `[slice, view, column]`: the adjoint of `_project`."""
    few = sinogram.device.type == "cpu" and len(sinogram) <= _SCATTERED_SLICES
    return (_scatter if few else _gather)(sinogram, scan, grid, cancel)


def _scatter(
    sinogram: torch.Tensor, scan: ScanGeometry, grid: ImageGrid, cancel: Cancellable | None
) -> torch.Tensor:
    """Every ray adds to the samples that `_project` gathers: one number after the other, on one core."""
    image = sinogram.new_zeros(sinogram.shape[0], *grid.shape)
    for rays in _rays(scan, grid, sinogram):
        values = sinogram.flatten(1)[:, rays.number] * rays.length
        fine = sinogram.new_zeros(len(image), rays.lines * rays.width)
        for part, index in rays.indices(rays_first=False):
            for line_sums, value in zip(fine, values, strict=True):
                check(cancel)
                line_sums.index_add_(0, index.view(-1), value[part].expand(index.shape).reshape(-1))
        pixels = _refine_adjoint(fine.view(len(image), rays.lines, rays.width), rays.across)
        image += pixels if rays.steep else pixels.transpose(1, 2)
    return image


def _gather(
    sinogram: torch.Tensor, scan: ScanGeometry, grid: ImageGrid, cancel: Cancellable | None
) -> torch.Tensor:
    """Every pixel gathers the rays that pass less than a pixel away, with the weights that `_project` gives
    it: slices together, on all cores, in the same order on every run."""
    slices = sinogram.shape[0]
    is_steep, *values = _crossings(scan, grid)
    length = values.pop().view(scan.n_views, scan.n_columns).to(sinogram.dtype).to(sinogram.device)
    # a ray of nothing before the first column and one after the last: what lies beyond reads them
    table = F.pad(sinogram * length, (1, 1)).flatten(1).T.contiguous()
    n = scan.n_columns + 2
    shallow, start, step = (
        F.pad(v.view(scan.n_views, -1).to(sinogram.dtype), (1, 1)).flatten().to(sinogram.device)
        for v in (~is_steep, *values)
    )
    row, column = (torch.arange(size, dtype=sinogram.dtype, device=sinogram.device) for size in grid.shape)
    first = torch.arange(scan.n_views, dtype=torch.int32, device=sinogram.device)[:, None] * n
    image = sinogram.new_zeros(*grid.shape, slices)
    for tile in tiles(scan, grid, slice(None), sinogram, True, samples_each=4, n_columns=_TILE_COLUMNS):
        check(cancel)
        reach = _reach(scan, grid.pixel_mm, tile)
        nearest, _ = positions(scan, tile, shift=1 - reach)
        number = torch.arange(math.floor(2 * reach) + 1, dtype=sinogram.dtype, device=sinogram.device)
        ray = (nearest.ceil_()[..., None] + number).clamp_(0, n - 1).to(torch.int32)
        ray += first[tile.views]
        flat = ray.view(-1)
        kind, sample, slope = (v.index_select(0, flat).view(ray.shape) for v in (shallow, start, step))
        x, y = column[tile.columns, None, None], row[tile.rows, None, None, None]
        # as in `_Rays.indices`, so that every position is rounded alike; shallow rays step along x
        from_left, from_top = x - (grid.columns - 1) / 2, y - (grid.rows - 1) / 2
        line = torch.addcmul(from_top, kind, from_left - from_top)
        sample = torch.addcmul(sample, slope, line).trunc_()
        sample -= torch.addcmul((x + 1) * REFINE, kind, (y - x) * REFINE)
        weight = sample.abs_().mul_(-1 / REFINE).add_(1).clamp_(min=0)
        index, weight = (v.view(-1, ray.shape[2] * ray.shape[3]) for v in (ray, weight))
        part = image[tile.rows, tile.columns]
        part += (
            gather_sum(table, index.T, weight.T) if slices == 1 else gather_sum(table, index, weight)
        ).view(part.shape)
    return image.permute(2, 0, 1)


def _reach(scan: ScanGeometry, pixel_mm: float, tile: Tile) -> float:
    """How many columns at most lie between a pixel of the tile and a ray that passes less than a pixel, and
    the rounding of its position, away."""
    g = scan
    away = 1.02 * (1 + 0.5 / REFINE) * pixel_mm
    if not isinstance(g, FanGeometry):
        return away / g.column_pitch_mm
    largest = 0.0
    for i, k in product((0, -1), (0, -1)):  # the extremes lie at the tile's corners
        x, y = tile.x.flatten()[i], tile.y.flatten()[k]
        depth = g.source_to_isocenter_mm - x * tile.sin + y * tile.cos
        lateral = x * tile.cos + y * tile.sin
        columns_a_mm = 1 / (g.column_pitch * torch.hypot(depth, lateral))
        if g.shape == FLAT:
            columns_a_mm = g.source_to_detector_mm / g.column_pitch * torch.hypot(depth, lateral) / depth**2
        largest = max(largest, float(columns_a_mm.max()))
    return away * largest


class _Operator(torch.autograd.Function):
    """`_project` or, with `adjoint`, `_backproject`; each is the other's gradient."""

    @staticmethod
    def forward(ctx, x, scan, grid, adjoint, cancel):  # type: ignore[no-untyped-def, override]
        ctx.arguments = (scan, grid, not adjoint, cancel)
        return (_backproject if adjoint else _project)(x, scan, grid, cancel)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def, override]
        return _Operator.apply(grad, *ctx.arguments), None, None, None, None


def project(
    image: torch.Tensor, scan: ScanGeometry, grid: ImageGrid, cancel: Cancellable | None = None
) -> torch.Tensor:
    """Line integrals `[..., view, column]` (dimensionless) along the scan's rays of `image` `[..., rows,
    columns]` in mm^-1, whose pixels are those of `grid`.

    Joseph's interpolation along the axis that each ray crosses most steeply (IEEE Trans Med Imaging 1:192,
    1982). Differentiable; the gradient is the exact adjoint, which `backproject` also gives. Raises
    InputError for an image of another shape or one that reaches the source, Cancelled where `cancel` asks for
    it (looked at several times a second, slices are worked on `SLICES_AT_ONCE` at a time)."""
    check_image(scan, grid)
    batch, lead = as_slices(image, grid.shape, "image")
    parts = [_Operator.apply(part, scan, grid, False, cancel) for part in batch.split(SLICES_AT_ONCE)]
    return torch.cat(parts).reshape(*lead, scan.n_views, scan.n_columns)


def backproject(
    sinogram: torch.Tensor, scan: ScanGeometry, grid: ImageGrid, cancel: Cancellable | None = None
) -> torch.Tensor:
    """The exact adjoint of `project`: `[..., view, column]` to `[..., rows, columns]`; differentiable.

    Raises InputError for a sinogram of another shape or an image that reaches the source, Cancelled where
    `cancel` asks for it."""
    check_image(scan, grid)
    batch, lead = as_slices(sinogram, (scan.n_views, scan.n_columns), "sinogram")
    parts = [_Operator.apply(part, scan, grid, True, cancel) for part in batch.split(SLICES_AT_ONCE)]
    return torch.cat(parts).reshape(*lead, *grid.shape)
