"""Line integrals of an image and their exact adjoint, and the pixel-driven backprojection that FBP uses.

Both are sums over gathered samples: `_GatherSum` walks the views once, its gradient scatters along the same
indices, so each operator and its adjoint match to rounding. Interpolation is linear, taken from a grid
refined `REFINE` times: one 32-bit gather a sample instead of two gathers and a blend, which on a CPU is
three times faster than `grid_sample` (an interpolation position is rounded by at most 1/8 sample)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

from ctenhance.physics.geometry import ParallelGeometry

REFINE = 4

# One part of an operator: which slice of the output it adds to, the flat source index of every sample, a
# weight, and whether the samples are summed over their first axis.
Plan = Callable[[torch.device], Iterator[tuple[int, torch.Tensor, float]]]


class _GatherSum(torch.autograd.Function):
    """out[b, part] += weight * sum_rows source[b, index]; the adjoint scatters. Shapes are set by the
    plan."""

    @staticmethod
    def forward(ctx, source, plan, parts, reduce_rows):  # type: ignore[no-untyped-def, override]
        ctx.plan, ctx.reduce_rows, ctx.source_shape = plan, reduce_rows, source.shape
        batch = source.shape[0]
        out: torch.Tensor | None = None
        for part, index, weight in plan(source.device):
            size = index.shape[1] if reduce_rows else index.numel()
            if out is None:
                out = source.new_zeros(batch, parts, size)
            flat = index.reshape(-1)
            for b in range(batch):
                samples = source[b].index_select(0, flat)
                if reduce_rows:
                    samples = samples.view(index.shape).sum(0)
                out[b, part].add_(samples, alpha=weight)
        assert out is not None
        return out

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def, override]
        back = grad.new_zeros(ctx.source_shape)
        for part, index, weight in ctx.plan(grad.device):
            flat = index.reshape(-1)
            for b in range(grad.shape[0]):
                values = grad[b, part] * weight
                if ctx.reduce_rows:
                    values = values.expand(index.shape).reshape(-1)
                back[b].index_add_(0, flat, values)
        return back, None, None, None


def _refine_last(x: torch.Tensor) -> torch.Tensor:
    """Linear interpolation of `[batch, lines, n]` to n * REFINE + 1 points: source sample i stands at
    REFINE * (i + 1).

    One zero sample is added at either end, so that rays beyond the image fade to and then read zero.
    """
    kernel = 1 - torch.arange(-REFINE + 1, REFINE, device=x.device, dtype=x.dtype).abs() / REFINE
    flat = x.reshape(-1, 1, x.shape[-1])
    fine = F.conv_transpose1d(flat, kernel.view(1, 1, -1), stride=REFINE)
    fine = F.pad(fine, (1, 1))
    return fine.reshape(*x.shape[:-1], fine.shape[-1])


def _as_batch(x: torch.Tensor) -> tuple[torch.Tensor, torch.Size]:
    return x.reshape(-1, *x.shape[-2:]), x.shape[:-2]


def _ray_plan(geometry: ParallelGeometry, steep: bool) -> Plan:
    """Joseph's method (1982): rays that run mostly along y (`steep`) step row by row and interpolate along
    x."""
    g = geometry
    lines, across = (g.rows, g.columns) if steep else (g.columns, g.rows)
    width = (across + 1) * REFINE + 1

    def plan(device: torch.device) -> Iterator[tuple[int, torch.Tensor, float]]:
        t = (
            torch.arange(g.n_columns, dtype=torch.float64, device="cpu") - g.central_column
        ) * g.column_pitch_mm
        line = (torch.arange(lines, dtype=torch.float64) - (lines - 1) / 2) * g.pixel_mm
        starts = (torch.arange(lines, dtype=torch.int32) * width).to(device)[:, None]
        for view, beta in enumerate(g.angles().tolist()):
            cos, sin = math.cos(beta), math.sin(beta)
            if (abs(cos) >= abs(sin)) != steep:
                continue
            main, other = (cos, sin) if steep else (sin, cos)
            # position across the lines, in refined samples; + 0.5 so that truncation rounds to the nearest
            a = (t / main / g.pixel_mm + (across - 1) / 2 + 1) * REFINE + 0.5
            b = -line * other / main / g.pixel_mm * REFINE
            position = b.to(device, torch.float32)[:, None] + a.to(device, torch.float32)[None, :]
            index = position.clamp_(0, width - 1).to(torch.int32).add_(starts)
            yield view, index, g.pixel_mm / abs(main)

    return plan


def project(image: torch.Tensor, geometry: ParallelGeometry) -> torch.Tensor:
    """Line integrals `[..., view, column]` (dimensionless) of `image` `[..., rows, columns]` in mm^-1.

    Joseph's interpolation along the axis that each ray crosses most steeply. Differentiable; the gradient
    is the exact adjoint, which `backproject` also gives."""
    batch, lead = _as_batch(image)
    total: torch.Tensor | None = None
    for steep in (True, False):
        oriented = batch if steep else batch.transpose(1, 2)
        source = _refine_last(oriented.contiguous()).flatten(1)
        if not any((abs(math.cos(b)) >= abs(math.sin(b))) == steep for b in geometry.angles().tolist()):
            continue
        part = _GatherSum.apply(source, _ray_plan(geometry, steep), geometry.n_views, True)
        total = part if total is None else total + part
    assert total is not None
    return total.reshape(*lead, geometry.n_views, geometry.n_columns)


def backproject(sinogram: torch.Tensor, geometry: ParallelGeometry) -> torch.Tensor:
    """The exact adjoint of `project`: `[..., view, column]` to `[..., rows, columns]`; differentiable."""
    return _Adjoint.apply(sinogram, geometry)


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, sinogram, geometry):  # type: ignore[no-untyped-def, override]
        ctx.geometry = geometry
        shape = (*sinogram.shape[:-2], geometry.rows, geometry.columns)
        with torch.enable_grad():
            probe = sinogram.new_zeros(shape).requires_grad_()
            image: torch.Tensor
            (image,) = torch.autograd.grad(project(probe, geometry), probe, sinogram.detach())
        return image

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def, override]
        return project(grad, ctx.geometry), None


def _pixel_plan(geometry: ParallelGeometry, refine: int, offset: int, width: int) -> Plan:
    g = geometry

    def plan(device: torch.device) -> Iterator[tuple[int, torch.Tensor, float]]:
        x = (
            (torch.arange(g.columns, dtype=torch.float64) - (g.columns - 1) / 2)
            * g.pixel_mm
            / g.column_pitch_mm
        )
        y = (torch.arange(g.rows, dtype=torch.float64) - (g.rows - 1) / 2) * g.pixel_mm / g.column_pitch_mm
        for view, beta in enumerate(g.angles().tolist()):
            a = (x * math.cos(beta) + g.central_column + offset) * refine + 0.5
            b = y * math.sin(beta) * refine
            position = b.to(device, torch.float32)[:, None] + a.to(device, torch.float32)[None, :]
            index = position.clamp_(0, width - 1).to(torch.int32).add_(view * width)
            yield 0, index, 1.0

    return plan


def backproject_pixels(
    fine: torch.Tensor, geometry: ParallelGeometry, refine: int, offset: int
) -> torch.Tensor:
    """Sum over views of the refined sinogram at each pixel's column: `[..., view, width]` to `[..., rows,
    columns]`.

    Sample `refine * (c + offset)` of the last axis belongs to column c; what lies beyond the ends reads the
    end sample. This is the pixel-driven backprojection (no ray weights), as FBP needs it; differentiable.
    """
    batch, lead = _as_batch(fine)
    plan = _pixel_plan(geometry, refine, offset, fine.shape[-1])
    image = _GatherSum.apply(batch.flatten(1), plan, 1, False)
    return image.reshape(*lead, geometry.rows, geometry.columns)
