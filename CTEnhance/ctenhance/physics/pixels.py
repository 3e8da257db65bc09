"""Where the pixels of an image lie on the detector, and the pixel-driven backprojection that FBP uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ctenhance.physics.gather import gather_sum, samples_at_once
from ctenhance.physics.geometry import EQUIANGULAR, FanGeometry, ScanGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.runtime.progress import Cancellable, check

# What a tile of this many columns and views reads of the table stays in a CPU's cache.
_TILE_COLUMNS, _TILE_VIEWS = 32, 16


@dataclass(frozen=True)
class Tile:
    """A part of the image in a part of the views; its positions broadcast to `[row, column, view]`, or to
    `[view, row, column]`."""

    rows: slice
    columns: slice
    views: slice
    x: torch.Tensor
    y: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor


def tiles(
    scan: ScanGeometry,
    grid: ImageGrid,
    views: slice,
    like: torch.Tensor,
    pixels_first: bool,
    samples_each: int = 1,
    n_columns: int = _TILE_COLUMNS,
) -> Iterator[Tile]:
    """Tiles of the image in parts of `views`, whose samples (`samples_each` a pixel and view) are few enough.

    Positions in mm from the isocentre, of the type and on the device of `like`. Tiles are `n_columns` wide on
    a CPU if `pixels_first`, else as wide as the image; their `views` count from the first of `views`."""
    device = like.device
    angles = scan.angles()[views]
    position = (grid.x_mm(), grid.y_mm(), torch.cos(angles), torch.sin(angles))
    x, y, cos, sin = (v.to(like.dtype).to(device) for v in position)
    width = min(n_columns, grid.columns) if pixels_first and device.type == "cpu" else grid.columns
    n_views = min(_TILE_VIEWS, len(angles))
    height = max(1, samples_at_once(device) // (width * n_views * samples_each))
    if pixels_first:
        x, y = x[:, None], y[:, None, None]
    else:
        y, cos, sin = y[:, None], cos[:, None, None], sin[:, None, None]
    for v in range(0, len(angles), n_views):
        for c in range(0, grid.columns, width):
            for r in range(0, grid.rows, height):
                part = (slice(r, r + height), slice(c, c + width), slice(v, v + n_views))
                yield Tile(*part, x[part[1]], y[part[0]], cos[part[2]], sin[part[2]])


def positions(
    scan: ScanGeometry, tile: Tile, refine: int = 1, shift: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`refine * column + shift` of the column that sees each pixel, and FBP's distance weight (source to
    isocentre over source to pixel, squared, along the central ray if flat; None for parallel rays)."""
    g, x, y, cos, sin = scan, tile.x, tile.y, tile.cos, tile.sin
    zero = g.central_column * refine + shift
    if not isinstance(g, FanGeometry):
        scale = refine / g.column_pitch_mm
        return (x * (cos * scale) + zero) + y * (sin * scale), None
    sid = g.source_to_isocenter_mm
    lateral = x * cos + y * sin
    depth = (sid - x * sin) + y * cos
    if g.shape == EQUIANGULAR:
        weight = torch.addcmul(depth * depth, lateral, lateral).reciprocal_().mul_(sid**2)
        return lateral.div_(depth).atan_().mul_(refine / g.column_pitch).add_(zero), weight
    inverse = depth.reciprocal_()
    column = lateral.mul_(inverse).mul_(refine * g.source_to_detector_mm / g.column_pitch).add_(zero)
    return column, inverse.square_().mul_(sid**2)


@dataclass(frozen=True)
class _Detector:
    """Some views of a scan on a refined detector of `width` samples, `offset` columns before column 0; and
    the image's pixels, which read it."""

    scan: ScanGeometry
    grid: ImageGrid
    views: slice
    refine: int
    offset: int
    width: int

    def samples(
        self, like: torch.Tensor, pixels_first: bool
    ) -> Iterator[tuple[Tile, torch.Tensor, torch.Tensor | None]]:
        """Sample and weight of each pixel of a tile, `[row * column, view]` if `pixels_first`, else `[view,
        row * column]`."""
        n_views = len(range(*self.views.indices(self.scan.n_views)))
        first = torch.arange(n_views, dtype=torch.int32, device=like.device) * self.width
        pixel_axes = (0, 1) if pixels_first else (1, 2)
        for tile in tiles(self.scan, self.grid, self.views, like, pixels_first):
            # + 0.5 so that truncation rounds to the nearest sample
            sample, weight = positions(self.scan, tile, self.refine, self.offset * self.refine + 0.5)
            index = sample.flatten(*pixel_axes).clamp_(0, self.width - 1).to(torch.int32)
            index += first[tile.views] if pixels_first else first[tile.views, None]
            yield tile, index, None if weight is None else weight.flatten(*pixel_axes)


class _PixelSum(torch.autograd.Function):
    """`[slice, rows, columns]` of `[slice, view, sample]`: every pixel gathers one sample a view."""

    @staticmethod
    def forward(ctx, fine, detector, cancel):  # type: ignore[no-untyped-def, override]
        ctx.arguments, ctx.source_shape = (detector, cancel), fine.shape
        slices = fine.shape[0]
        table = fine.flatten(1).T.contiguous()
        image = fine.new_zeros(*detector.grid.shape, slices)
        for tile, index, weight in detector.samples(fine, pixels_first=slices > 1):
            check(cancel)
            part = image[tile.rows, tile.columns]
            part += gather_sum(table, index, weight).view(part.shape)
        return image.permute(2, 0, 1)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def, override]
        detector, cancel = ctx.arguments
        back = grad.new_zeros(ctx.source_shape).flatten(1)
        for tile, index, weight in detector.samples(grad, pixels_first=False):
            for sums, image in zip(back, grad, strict=True):
                check(cancel)
                values = image[tile.rows, tile.columns].reshape(-1).expand(index.shape)
                values = values if weight is None else values * weight
                sums.index_add_(0, index.view(-1), values.reshape(-1))
        return back.view(ctx.source_shape), None, None


def backproject_pixels(
    fine: torch.Tensor,
    scan: ScanGeometry,
    grid: ImageGrid,
    refine: int = 1,
    offset: int = 0,
    first_view: int = 0,
    cancel: Cancellable | None = None,
) -> torch.Tensor:
    """Sum over views of the refined sinogram at each pixel's column: `[..., view, width]` to `[..., rows,
    columns]`.

    Sample `refine * (c + offset)` of the last axis belongs to column c; what lies beyond the ends reads the
    end sample. `fine` may hold only some views of the scan, from `first_view` on. This is the
    pixel-driven backprojection that FBP needs: weights of 1 for parallel rays, of the squared ratio of
    source-to-isocentre and source-to-pixel distance for a fan (along the central ray where the detector is
    flat). Differentiable."""
    batch = fine.reshape(-1, *fine.shape[-2:])
    views = slice(first_view, first_view + fine.shape[-2])
    image = _PixelSum.apply(batch, _Detector(scan, grid, views, refine, offset, fine.shape[-1]), cancel)
    return image.reshape(*fine.shape[:-2], *grid.shape)
