"""Line integrals of an image, their exact adjoint, and the pixel-driven backprojection that FBP uses.

All are sums over samples gathered from a table `[sample, slice]`, slices last: where a sample lies and what
it weighs is computed once for all slices, and one gather moves a vector of them. Interpolation is linear,
taken from a grid refined `REFINE` times: one gather a sample instead of two and a blend (a position is
rounded by at most 1/8 sample). The adjoint scatters along the same indices, so that it matches to rounding.
Angles and positions are prepared in float64 on the CPU, since not every device has float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ctenhance.physics.geometry import EQUIANGULAR, FanGeometry, Geometry
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, check

REFINE = 4
#: Slices that share one table: more of them save little time and cost memory.
SLICES_AT_ONCE = 32
# Samples whose indices exist at one time: few enough to stay in a CPU's cache, enough to fill a GPU.
_CPU_SAMPLES, _GPU_SAMPLES = 1 << 18, 1 << 24
# A tile of pixels and views, such that what they read of the table stays in a CPU's cache.
_TILE_COLUMNS, _TILE_VIEWS = 32, 16
# Numbers in the table of a block of lines.
_CPU_TABLE, _GPU_TABLE = 1 << 21, 1 << 26


def _samples_at_once(device: torch.device) -> int:
    return _CPU_SAMPLES if device.type == "cpu" else _GPU_SAMPLES


def _gather_sum(table: torch.Tensor, index: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """`[bag, slice]`: sum over the samples of `weight * table[index]`.

    `table` `[row, slice]`, contiguous; `index` int32 and `weight` (or None: 1) `[bag, sample]`, or for a
    single slice `[sample, bag]`, the order in which single numbers are gathered fastest."""
    if table.shape[1] == 1:
        values = table.view(-1).index_select(0, index.view(-1)).view(index.shape)
        return (values if weight is None else values.mul_(weight)).sum(0)[:, None]
    if table.device.type == "mps":  # has no embedding bag in the older versions of torch
        total = table.new_zeros(index.shape[0], table.shape[1])
        for sample in range(index.shape[1]):
            rows = table.index_select(0, index[:, sample])
            total += rows if weight is None else rows * weight[:, sample, None]
        return total
    return F.embedding_bag(index, table, mode="sum", per_sample_weights=weight)


def as_slices(x: torch.Tensor, expected: tuple[int, int], what: str) -> tuple[torch.Tensor, torch.Size]:
    """`x` as `[slice, ., .]`, and its leading shape; InputError for a shape that is not the geometry's."""
    if tuple(x.shape[-2:]) != expected:
        raise InputError(
            f"The {what} ends in {tuple(x.shape[-2:])} but the geometry says {expected}: use the geometry "
            "that it was made with."
        )
    return x.reshape(-1, *expected), x.shape[:-2]


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
        at_once = max(1, _samples_at_once(device) // len(lines))
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


def _rays(geometry: Geometry, like: torch.Tensor) -> Iterator[_Rays]:
    g = geometry
    origin, direction = (v.expand(g.n_views, g.n_columns, 2).reshape(-1, 2) for v in g.rays())
    is_steep = direction[:, 1].abs() >= direction[:, 0].abs()
    sizes, middle = (g.columns, g.rows), g.center_mm
    for steep in (True, False):
        number = torch.nonzero(is_steep == steep)[:, 0]
        along, across = (1, 0) if steep else (0, 1)
        o, d = origin[number], direction[number]
        step = d[:, across] / d[:, along]
        at_middle = o[:, across] + (middle[along] - o[:, along]) * step - middle[across]
        # + 1 for the zero pixel before the line; + 0.5 so that truncation rounds to the nearest sample
        start = (at_middle / g.pixel_mm + (sizes[across] - 1) / 2 + 1) * REFINE + 0.5
        values = (start, step * REFINE, g.pixel_mm / d[:, along].abs())
        on_device = [v.to(like.dtype).to(like.device) for v in values]
        yield _Rays(steep, sizes[along], sizes[across], number.to(like.device), *on_device)


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


def _project(image: torch.Tensor, geometry: Geometry, cancel: Cancellable | None) -> torch.Tensor:
    """`[slice, view, column]` of `[slice, rows, columns]`."""
    g, slices = geometry, image.shape[0]
    out = image.new_empty(g.n_views * g.n_columns, slices)
    for rays in _rays(g, image):
        lines = image.permute(1, 2, 0) if rays.steep else image.permute(2, 1, 0)
        sums = image.new_zeros(len(rays.number), slices)
        for block in rays.blocks(slices):
            table = _refine(lines[block.start : block.stop].contiguous()).view(-1, slices)
            for part, index in rays.indices(slices > 1, block):
                check(cancel)
                sums[part] += _gather_sum(table, index)
        out[rays.number] = sums.mul_(rays.length[:, None])
    return out.T.reshape(-1, g.n_views, g.n_columns)


def _backproject(sinogram: torch.Tensor, geometry: Geometry, cancel: Cancellable | None) -> torch.Tensor:
    """`[slice, rows, columns]` of `[slice, view, column]`: what `_project` gathers, scattered."""
    g = geometry
    image = sinogram.new_zeros(sinogram.shape[0], g.rows, g.columns)
    for rays in _rays(g, sinogram):
        values = sinogram.flatten(1)[:, rays.number] * rays.length
        fine = sinogram.new_zeros(len(image), rays.lines * rays.width)
        for part, index in rays.indices(rays_first=False):
            for line_sums, value in zip(fine, values, strict=True):
                check(cancel)
                line_sums.index_add_(0, index.view(-1), value[part].expand(index.shape).reshape(-1))
        pixels = _refine_adjoint(fine.view(len(image), rays.lines, rays.width), rays.across)
        image += pixels if rays.steep else pixels.transpose(1, 2)
    return image


class _Operator(torch.autograd.Function):
    """`_project` or, with `adjoint`, `_backproject`; each is the other's gradient."""

    @staticmethod
    def forward(ctx, x, geometry, adjoint, cancel):  # type: ignore[no-untyped-def, override]
        ctx.arguments = (geometry, not adjoint, cancel)
        return (_backproject if adjoint else _project)(x, geometry, cancel)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def, override]
        return _Operator.apply(grad, *ctx.arguments), None, None, None


def project(image: torch.Tensor, geometry: Geometry, cancel: Cancellable | None = None) -> torch.Tensor:
    """Line integrals `[..., view, column]` (dimensionless) of `image` `[..., rows, columns]` in mm^-1.

    Joseph's interpolation along the axis that each ray crosses most steeply (IEEE Trans Med Imaging 1:192,
    1982). Differentiable; the gradient is the exact adjoint, which `backproject` also gives. Raises
    InputError for an image of another shape, Cancelled where `cancel` asks for it (looked at several times
    a second, slices are worked on `SLICES_AT_ONCE` at a time)."""
    g = geometry
    batch, lead = as_slices(image, (g.rows, g.columns), "image")
    parts = [_Operator.apply(part, g, False, cancel) for part in batch.split(SLICES_AT_ONCE)]
    return torch.cat(parts).reshape(*lead, g.n_views, g.n_columns)


def backproject(
    sinogram: torch.Tensor, geometry: Geometry, cancel: Cancellable | None = None
) -> torch.Tensor:
    """The exact adjoint of `project`: `[..., view, column]` to `[..., rows, columns]`; differentiable.

    Raises InputError for a sinogram of another shape, Cancelled where `cancel` asks for it."""
    g = geometry
    batch, lead = as_slices(sinogram, (g.n_views, g.n_columns), "sinogram")
    parts = [_Operator.apply(part, g, True, cancel) for part in batch.split(SLICES_AT_ONCE)]
    return torch.cat(parts).reshape(*lead, g.rows, g.columns)


@dataclass(frozen=True)
class _Pixels:
    """Where the pixels of an image lie on a refined detector, for some views of a geometry."""

    geometry: Geometry
    views: slice
    refine: int
    offset: int
    width: int

    def tiles(
        self, like: torch.Tensor, pixels_first: bool
    ) -> Iterator[tuple[slice, slice, torch.Tensor, torch.Tensor | None]]:
        """Rows and columns of a tile of the image, and the sample and weight of each of its pixels, `[row *
        column, view]` if `pixels_first`, else `[view, row * column]`, for some of the views at a time."""
        g, device = self.geometry, like.device
        angles = g.angles()[self.views]
        position = (g.x_mm(), g.y_mm(), torch.cos(angles), torch.sin(angles))
        x, y, cos, sin = (v.to(like.dtype).to(device) for v in position)
        first = torch.arange(len(angles), dtype=torch.int32, device=device) * self.width
        tiled = pixels_first and device.type == "cpu"
        n_columns = _TILE_COLUMNS if tiled else g.columns
        n_views = min(_TILE_VIEWS, len(angles))
        n_rows = max(1, _samples_at_once(device) // (n_columns * n_views))
        if pixels_first:
            x, y = x[:, None], y[:, None, None]
        else:
            y, cos, sin, first = y[:, None], cos[:, None, None], sin[:, None, None], first[:, None]
        ends = (0, 1) if pixels_first else (1, 2)
        for v in range(0, len(angles), n_views):
            views = slice(v, v + n_views)
            for c in range(0, g.columns, n_columns):
                for r in range(0, g.rows, n_rows):
                    rows, columns = slice(r, r + n_rows), slice(c, c + n_columns)
                    sample, weight = self._samples(x[columns], y[rows], cos[views], sin[views])
                    index = sample.flatten(*ends).clamp_(0, self.width - 1).to(torch.int32).add_(first[views])
                    yield rows, columns, index, None if weight is None else weight.flatten(*ends)

    def _samples(
        self, x: torch.Tensor, y: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Position on the refined detector, + 0.5 so that truncation rounds, and the fan's distance weight
        (source to isocentre over source to pixel, squared); the arguments broadcast."""
        g = self.geometry
        zero = (g.central_column + self.offset) * self.refine + 0.5
        if not isinstance(g, FanGeometry):
            scale = self.refine / g.column_pitch_mm
            return (x * (cos * scale) + zero) + y * (sin * scale), None
        sid = g.source_to_isocenter_mm
        lateral = x * cos + y * sin
        depth = (sid - x * sin) + y * cos
        if g.shape == EQUIANGULAR:
            weight = torch.addcmul(depth * depth, lateral, lateral).reciprocal_().mul_(sid**2)
            sample = lateral.div_(depth).atan_().mul_(self.refine / g.column_pitch)
        else:
            inverse = depth.reciprocal_()
            sample = lateral.mul_(inverse).mul_(self.refine * g.source_to_detector_mm / g.column_pitch)
            weight = inverse.square_().mul_(sid**2)
        return sample.add_(zero), weight


class _PixelSum(torch.autograd.Function):
    """`[slice, rows, columns]` of `[slice, view, sample]`: every pixel gathers one sample a view."""

    @staticmethod
    def forward(ctx, fine, pixels, cancel):  # type: ignore[no-untyped-def, override]
        ctx.arguments, ctx.source_shape = (pixels, cancel), fine.shape
        g, slices = pixels.geometry, fine.shape[0]
        table = fine.flatten(1).T.contiguous()
        image = fine.new_zeros(g.rows, g.columns, slices)
        for rows, columns, index, weight in pixels.tiles(fine, pixels_first=slices > 1):
            check(cancel)
            tile = image[rows, columns]
            tile += _gather_sum(table, index, weight).view(tile.shape)
        return image.permute(2, 0, 1)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def, override]
        pixels, cancel = ctx.arguments
        back = grad.new_zeros(ctx.source_shape).flatten(1)
        for rows, columns, index, weight in pixels.tiles(grad, pixels_first=False):
            for sums, image in zip(back, grad, strict=True):
                check(cancel)
                values = image[rows, columns].reshape(-1).expand(index.shape)
                values = values if weight is None else values * weight
                sums.index_add_(0, index.view(-1), values.reshape(-1))
        return back.view(ctx.source_shape), None, None


def backproject_pixels(
    fine: torch.Tensor,
    geometry: Geometry,
    refine: int,
    offset: int,
    first_view: int = 0,
    cancel: Cancellable | None = None,
) -> torch.Tensor:
    """Sum over views of the refined sinogram at each pixel's column: `[..., view, width]` to `[..., rows,
    columns]`.

    Sample `refine * (c + offset)` of the last axis belongs to column c; what lies beyond the ends reads the
    end sample. `fine` may hold only some views of the geometry, from `first_view` on. This is the
    pixel-driven backprojection that FBP needs: weights of 1 for parallel rays, of the squared ratio of
    source-to-isocentre and source-to-pixel distance for a fan (along the central ray where the detector is
    flat). Differentiable."""
    batch = fine.reshape(-1, *fine.shape[-2:])
    views = slice(first_view, first_view + fine.shape[-2])
    image = _PixelSum.apply(batch, _Pixels(geometry, views, refine, offset, fine.shape[-1]), cancel)
    return image.reshape(*fine.shape[:-2], geometry.rows, geometry.columns)
