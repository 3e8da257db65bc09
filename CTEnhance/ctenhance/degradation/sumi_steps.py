"""The steps of SUMI's published degradation (arXiv 2604.07329; METHODS A.2-A.4), re-derived from its
description.

They are defined on x = (HU + 1000) / 2000, which is 0 in air and 1 at +1000 HU; each step converts from HU
and back, so that it can also be used alone.  Values beyond +-1000 HU are lost, as in the paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from scipy import ndimage, sparse

from ctenhance.degradation.steps import SliceStep, Tick, VolumeStep, apply_along_z
from ctenhance.physics.fbp import fbp
from ctenhance.physics.geometry import ParallelGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.projector import project

#: The paper's matrix: its sizes in pixels are fractions of this one.
PAPER_MATRIX = 512
_STREAK_BLUR = 6.0


def to_unit(hu: np.ndarray) -> np.ndarray:
    """HU to the paper's scale: -1000 HU is 0, +1000 HU is 1 (not clipped)."""
    return (hu + np.float32(1000)) * np.float32(1 / 2000)


def from_unit(x: np.ndarray) -> np.ndarray:
    """The inverse of `to_unit`, in float32."""
    return (x * np.float32(2000) - np.float32(1000)).astype(np.float32, copy=False)


def area_down(n: int, m: int) -> sparse.csr_array:
    """Operator `[m, n]`: each of m equal cells takes the average of the n samples that it covers."""
    edges = np.arange(m + 1) * (n / m)
    overlap = np.minimum(edges[1:, None], np.arange(1, n + 1)) - np.maximum(edges[:-1, None], np.arange(n))
    return sparse.csr_array((overlap.clip(min=0) * (m / n)).astype(np.float32))


def linear_resize(m: int, n: int) -> sparse.csr_array:
    """Operator `[n, m]`: m cells to n cells by linear interpolation between cell centres, the end cells
    held.
    """
    position = ((np.arange(n) + 0.5) * (m / n) - 0.5).clip(0, m - 1)
    low = np.minimum(position.astype(int), max(m - 2, 0))
    high = np.minimum(low + 1, m - 1)
    weight = position - low
    rows = np.arange(n)
    operator = sparse.coo_array(
        (np.r_[1 - weight, weight], (np.r_[rows, rows], np.r_[low, high])), shape=(n, m), dtype=np.float64
    )
    return operator.tocsr().astype(np.float32)


@lru_cache(maxsize=8)
def _down_and_up(n: int, m: int, by_area: bool) -> sparse.csr_array:
    down = area_down(n, m) if by_area else linear_resize(n, m)
    return sparse.csr_array(linear_resize(m, n) @ down)


def _in_plane(image: np.ndarray, rows: int, columns: int, by_area: bool) -> np.ndarray:
    vertical = _down_and_up(image.shape[0], rows, by_area)
    horizontal = _down_and_up(image.shape[1], columns, by_area)
    return np.ascontiguousarray((horizontal @ (vertical @ image).T).T)


@dataclass(frozen=True)
class Resolution(SliceStep):
    """Area-average down by `scale` (smaller matrix / matrix), bilinear up (A.3, step 1)."""

    name: ClassVar[str] = "sumi-resolution"
    scale: float

    @classmethod
    def fit(cls, info: object, size: int | None = None, factor: float | None = None) -> Resolution:  # type: ignore[override]
        """`size`: pixels that remain of the paper's 512; or `factor`: how many times coarser."""
        return cls(size / PAPER_MATRIX if size is not None else 1 / float(factor or 1))

    def apply(self, image: np.ndarray, pixel_mm: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
        rows, columns = (max(1, round(n * self.scale)) for n in image.shape)
        return _in_plane(image, rows, columns, by_area=True)


@dataclass(frozen=True)
class PoissonNoise(SliceStep):
    """x <- Poisson(clip(x, 1e-6, 1) * counts) / counts, in the image (A.3, step 2)."""

    name: ClassVar[str] = "sumi-poisson"
    counts: float

    def apply(self, image: np.ndarray, pixel_mm: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
        expected = np.clip(to_unit(image), 1e-6, 1).astype(np.float64) * self.counts
        return from_unit((rng.poisson(expected) / self.counts).astype(np.float32))


@dataclass(frozen=True)
class GaussianNoise(SliceStep):
    """White noise of SD `sigma` on the unit scale (times 2000 in HU), independent in every voxel (A.3, step
    3).
    """

    name: ClassVar[str] = "sumi-gaussian"
    sigma: float

    def apply(self, image: np.ndarray, pixel_mm: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
        return image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(2000 * self.sigma)


@dataclass(frozen=True)
class DirectionalStreak(SliceStep):
    """One blurred bright line, the same in all slices (A.3, step 4).

    Through the point (`across`, `down`), given as fractions of the matrix, at `angle_deg`, of half-length
    `reach` (fraction of the rows) and `thickness` pixels; blurred by a Gaussian of 6 pixels, scaled to a
    maximum of `brightness` on the unit scale (times 2000 in HU).
    """

    name: ClassVar[str] = "sumi-streak"
    across: float
    down: float
    angle_deg: float
    reach: float
    thickness: int
    brightness: float

    def apply(self, image: np.ndarray, pixel_mm: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
        return image + self.pattern(*image.shape) * np.float32(2000 * self.brightness)

    def pattern(self, rows: int, columns: int) -> np.ndarray:
        """The line on the given matrix, float32, maximum 1."""
        angle = math.radians(self.angle_deg)
        y, x = np.indices((rows, columns), dtype=np.float64)
        x -= math.floor(self.across * columns)
        y -= math.floor(self.down * rows)
        along = x * math.cos(angle) + y * math.sin(angle)
        off = y * math.cos(angle) - x * math.sin(angle)
        # a line of thickness 1 is the pixels whose centre is within half a pixel of it
        line = (np.abs(along) <= math.floor(self.reach * rows)) & (np.abs(off) <= self.thickness / 2)
        blurred = ndimage.gaussian_filter(line.astype(np.float32), _STREAK_BLUR, mode="constant")
        return blurred / blurred.max()


@dataclass(frozen=True)
class FewViewReconstruction(SliceStep):
    """The image of `n_views` parallel projections over [0, pi) by ramp FBP, clipped to the unit scale (A.3,
    step 5).

    The whole image passes through projector and FBP, as in the paper; `routine` has a step that adds the
    artefact only.
    """

    name: ClassVar[str] = "sumi-sparse-view"
    n_views: int

    def apply(self, image: np.ndarray, pixel_mm: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
        # with pixels of length 1 the attenuation is the unit scale itself; the pixel's size cancels
        grid = ImageGrid.centred(image.shape, 1.0)
        scan = ParallelGeometry.covering(grid, n_views=self.n_views)
        x = torch.from_numpy(to_unit(image))
        return from_unit(fbp(project(x, scan, grid), scan, grid, "ramp").clamp(0, 1).numpy())


@dataclass(frozen=True)
class Zoom(VolumeStep):
    """Linear down and up by `scale` along all three axes (A.4); no axis falls below 4 samples."""

    name: ClassVar[str] = "sumi-zoom"
    scale: float

    def apply(self, array: np.ndarray, tick: Tick) -> None:
        n_slices = array.shape[0]
        depth, height, width = (min(n, max(4, int(n * self.scale))) for n in array.shape)
        if depth < n_slices:
            along_z = _down_and_up(n_slices, depth, False)
            apply_along_z(array, along_z, lambda done, total: tick(done, 2 * total))
        for z in range(n_slices):
            array[z] = _in_plane(array[z], height, width, by_area=False)
            tick(n_slices + z + 1, 2 * n_slices)
