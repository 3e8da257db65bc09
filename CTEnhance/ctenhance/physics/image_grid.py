"""The pixels of an image: how many, how large, and where they lie about the isocentre."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ctenhance.runtime.errors import InputError


@dataclass(frozen=True)
class ImageGrid:
    """`rows` x `columns` square pixels of `pixel_mm`, the middle of the matrix at `center_mm` (x, y) from the
    isocentre; x grows to the right and y downwards.

    Raises InputError for a grid without pixels, and for a size or position that is not finite."""

    rows: int
    columns: int
    pixel_mm: float
    center_mm: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if min(self.rows, self.columns) < 1:
            raise InputError(f"An image of {self.rows} x {self.columns} has no pixel: enlarge its matrix.")
        if not (math.isfinite(self.pixel_mm) and self.pixel_mm > 0):
            raise InputError(f"The image's pixel size must be positive and finite, not {self.pixel_mm}.")
        if not all(math.isfinite(value) for value in self.center_mm):
            raise InputError("The image's centre must be two finite numbers (x, y in mm).")

    @classmethod
    def centred(cls, shape: Sequence[int], pixel_mm: float) -> ImageGrid:
        """The pixels of an array whose last two axes are rows and columns, their middle at the isocentre."""
        rows, columns = shape[-2:]
        return cls(rows, columns, pixel_mm)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, self.columns

    @property
    def radius_mm(self) -> float:
        """Distance from the isocentre to the farthest corner."""
        half_x, half_y = self.columns * self.pixel_mm / 2, self.rows * self.pixel_mm / 2
        return math.hypot(abs(self.center_mm[0]) + half_x, abs(self.center_mm[1]) + half_y)

    def x_mm(self) -> torch.Tensor:
        """x of the pixels' middles from the isocentre, float64 `[columns]`."""
        return _about_zero(self.columns) * self.pixel_mm + self.center_mm[0]

    def y_mm(self) -> torch.Tensor:
        """y of the pixels' middles from the isocentre, float64 `[rows]`."""
        return _about_zero(self.rows) * self.pixel_mm + self.center_mm[1]


def _about_zero(n: int) -> torch.Tensor:
    return torch.arange(n, dtype=torch.float64) - (n - 1) / 2
