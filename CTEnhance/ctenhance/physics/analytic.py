"""Exact line integrals of ellipses along the rays of a scan: what projector and FBP are held against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ctenhance.physics.geometry import ScanGeometry
from ctenhance.physics.image_grid import ImageGrid


@dataclass(frozen=True)
class Ellipse:
    """An ellipse of attenuation `mu_per_mm` with semi-axes (mm), centre (x, y mm from the isocentre) and the
    first semi-axis turned by `turn_rad` from x towards y. Overlapping ellipses add."""

    mu_per_mm: float
    semi_axes_mm: tuple[float, float]
    center_mm: tuple[float, float] = (0.0, 0.0)
    turn_rad: float = 0.0

    def chords(self, origin: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        """Length in mm that rays (points and unit directions `[..., 2]`) run inside."""
        cos, sin = math.cos(self.turn_rad), math.sin(self.turn_rad)
        scaled_axes = torch.tensor(
            [
                [cos / self.semi_axes_mm[0], -sin / self.semi_axes_mm[1]],
                [sin / self.semi_axes_mm[0], cos / self.semi_axes_mm[1]],
            ],
            dtype=origin.dtype,
        )  # to the unit circle
        o = (origin - torch.tensor(self.center_mm, dtype=origin.dtype)) @ scaled_axes
        d = direction @ scaled_axes
        squared, along = (d * d).sum(-1), (o * d).sum(-1)
        inside = along**2 - squared * ((o * o).sum(-1) - 1)
        return 2 * inside.clamp(min=0).sqrt() / squared

    def covers(self, grid: ImageGrid, scale: float = 1.0) -> torch.Tensor:
        """Which pixels' middles lie inside, `[rows, columns]`; the axes times `scale`."""
        x = grid.x_mm()[None] - self.center_mm[0]
        y = grid.y_mm()[:, None] - self.center_mm[1]
        cos, sin = math.cos(self.turn_rad), math.sin(self.turn_rad)
        along, across = x * cos + y * sin, y * cos - x * sin
        return (along / self.semi_axes_mm[0]) ** 2 + (across / self.semi_axes_mm[1]) ** 2 < scale**2


def ellipse_sinogram(
    scan: ScanGeometry, ellipses: Sequence[Ellipse], rays_per_column: int = 1
) -> torch.Tensor:
    """Line integrals of the ellipses' sum, float64 `[view, column]`, on the CPU.

    One ray through the middle of each column, or the mean of `rays_per_column` evenly over its width."""
    n = rays_per_column
    fine = scan.with_columns(scan.n_columns * n, (scan.central_column + 0.5) * n - 0.5, 1 / n)
    origin, direction = fine.rays()
    total = sum(e.mu_per_mm * e.chords(origin, direction) for e in ellipses)
    total = torch.as_tensor(total, dtype=torch.float64).expand(scan.n_views, fine.n_columns)
    return total.reshape(scan.n_views, scan.n_columns, n).mean(-1)
