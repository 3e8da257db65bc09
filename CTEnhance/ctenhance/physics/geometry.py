"""Scan geometries.

Convention (DESIGN, 'Projection file'), in LPS: an image shows x to the right and y down; at view angle beta
the column coordinate grows along (cos beta, sin beta), so the ray through column coordinate t is x
cos(beta) + y sin(beta) = t. The isocentre is the centre of the image matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ctenhance.runtime.errors import InputError


@dataclass(frozen=True)
class ParallelGeometry:
    """Parallel rays: `n_views` angles over `arc_rad` (end excluded), `n_columns` of `column_pitch_mm` at
    the isocentre.

    The detector is centred: column c lies at t = (c - (n_columns - 1) / 2) * column_pitch_mm. The image has
    `rows` x `columns` square pixels of `pixel_mm`. `arc_rad` is a whole multiple of pi, for FBP to be
    complete."""

    n_views: int
    n_columns: int
    column_pitch_mm: float
    rows: int
    columns: int
    pixel_mm: float
    arc_rad: float = math.pi

    def __post_init__(self) -> None:
        if min(self.n_views, self.n_columns, self.rows, self.columns) < 1:
            raise InputError(
                "The parallel geometry needs at least one view, column and pixel: enlarge its counts."
            )
        if min(self.column_pitch_mm, self.pixel_mm, self.arc_rad) <= 0:
            raise InputError("The parallel geometry's pitch, pixel size and arc must be positive.")

    @classmethod
    def covering(
        cls,
        rows: int,
        columns: int,
        pixel_mm: float,
        n_views: int | None = None,
        pitch_mm: float | None = None,
    ) -> ParallelGeometry:
        """A geometry whose detector sees the whole image.

        By default one column a pixel, and half as many views again as the longer side has pixels: by
        Crowther's rule (views >= pi/2 * columns across the object) the aliasing then stays outside a body
        that fills the field."""
        pitch = pixel_mm if pitch_mm is None else pitch_mm
        n_columns = math.ceil(math.hypot(rows, columns) * pixel_mm / pitch) + 2
        views = n_views or math.ceil(1.5 * max(rows, columns))
        return cls(views, n_columns, pitch, rows, columns, pixel_mm)

    def angles(self, device: torch.device | str | None = None) -> torch.Tensor:
        """View angles in rad, float64 `[view]`."""
        return torch.arange(self.n_views, dtype=torch.float64, device=device) * (self.arc_rad / self.n_views)

    @property
    def central_column(self) -> float:
        """0-based, fractional column that the isocentre projects to."""
        return (self.n_columns - 1) / 2
