"""Signed distances, textures and painting with partial volume: what the chest phantom is drawn with.

Distances are mm, negative inside. Axial positions are x to the patient's left and y to posterior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Point = tuple[float, float, float]

ANGLES = 8192  # entries of a table that gives an outline's radius by polar angle
TABLE_ANGLES = np.arange(ANGLES) * (2 * np.pi / ANGLES) - np.pi


@dataclass
class Polar:
    """Polar coordinates about an axis: radius (mm), angle (rad, 0 = left, π/2 = posterior), table index."""

    radius: Array
    angle: Array
    index: Array

    @classmethod
    def about(cls, x: Array, y: Array, axis: tuple[float, float]) -> Polar:
        """Take the coordinates of the points (x, y) about `axis`."""
        dx, dy = x - axis[0], y - axis[1]
        angle = np.arctan2(dy, dx)
        index = np.rint((angle + np.pi) * (ANGLES / (2 * np.pi))).astype(np.int32) % ANGLES
        return cls(np.hypot(dx, dy), angle, index)

    def distance(self, outline: Array) -> Array:
        """Signed distance to the outline given as radius by table angle (first order at the surface)."""
        closed = np.concatenate([outline[-1:], outline, outline[:1]])
        slope = (closed[2:] - closed[:-2]) * (ANGLES / (4 * np.pi))
        foreshortening = outline / np.hypot(outline, slope)
        return (self.radius - outline[self.index]) * foreshortening[self.index]


def superellipse(a: float, b: float, power: float) -> Array:
    """Radius by table angle of |x/a|^power + |y/b|^power = 1."""
    c, s = np.abs(np.cos(TABLE_ANGLES)), np.abs(np.sin(TABLE_ANGLES))
    return (((c / a) ** power + (s / b) ** power) ** (-1 / power)).astype(np.float32)


def bump(centre_rad: float, width_rad: float) -> Array:
    """By table angle: 1 at the centre, falling off as a Gaussian."""
    away = (TABLE_ANGLES - centre_rad + np.pi) % (2 * np.pi) - np.pi
    return np.exp(-0.5 * (away / width_rad) ** 2).astype(np.float32)


def ellipsoid(x: Array, y: Array, z: float, centre: Point, axes: Point, turn_deg: float = 0.0) -> Array:
    """Signed distance (close to exact near the surface) to an ellipsoid turned in the axial plane."""
    c, s = float(np.cos(np.radians(turn_deg))), float(np.sin(np.radians(turn_deg)))
    dx, dy = x - centre[0], y - centre[1]
    u, v, w = (c * dx + s * dy) / axes[0], (c * dy - s * dx) / axes[1], (z - centre[2]) / axes[2]
    scaled = np.sqrt(u * u + v * v + w * w)
    gradient = np.sqrt((u / axes[0]) ** 2 + (v / axes[1]) ** 2 + (w / axes[2]) ** 2)
    return scaled * (scaled - 1) / np.maximum(gradient, 1e-6)


def bar(x: Array, y: Array, start: tuple[float, float], end: tuple[float, float], radius: float) -> Array:
    """Signed distance to a bar with round ends that runs upright through the plane."""
    ax, ay = end[0] - start[0], end[1] - start[1]
    t = np.clip(((x - start[0]) * ax + (y - start[1]) * ay) / (ax * ax + ay * ay), 0, 1)
    return np.hypot(x - start[0] - t * ax, y - start[1] - t * ay) - radius


class Grid:
    """Pixel centres of a slice in mm: `x` [1, column], `y` [row, 1]."""

    def __init__(self, x: Array, y: Array, pixel_mm: float) -> None:
        self.x, self.y, self.pixel = x, y, pixel_mm
        self._polar: dict[tuple[float, float], Polar] = {}

    @classmethod
    def centred(cls, rows: int, columns: int, pixel_mm: float) -> Grid:
        """Make a grid with its middle at (0, 0)."""
        x = ((np.arange(columns) - (columns - 1) / 2) * pixel_mm).astype(np.float32)
        y = ((np.arange(rows) - (rows - 1) / 2) * pixel_mm).astype(np.float32)
        return cls(x[None, :], y[:, None], pixel_mm)

    def polar(self, axis: tuple[float, float]) -> Polar:
        """Polar coordinates about the axis, computed once."""
        if axis not in self._polar:
            self._polar[axis] = Polar.about(self.x, self.y, axis)
        return self._polar[axis]


class Texture:
    """Smooth periodic random fields of unit SD at any plane: 'fine' has ~2 mm grain, 'coarse' ~9 mm."""

    SIDE = 144  # mm, the period; one sample a mm

    def __init__(self, generator: np.random.Generator, grid: Grid) -> None:
        from scipy.ndimage import gaussian_filter

        self._fields = {}
        for name, sigma in (("fine", 0.9), ("coarse", 4.0)):
            white = generator.standard_normal((self.SIDE,) * 3).astype(np.float32)
            smooth = gaussian_filter(white, sigma, mode="wrap")
            self._fields[name] = smooth / smooth.std()
        self._rows, self._columns = self._interpolation(grid.y.ravel()), self._interpolation(grid.x.ravel()).T

    def _interpolation(self, positions: Array) -> Array:
        """Matrix [position, sample] of periodic linear interpolation."""
        below = np.floor(positions).astype(int)
        fraction = positions - below
        matrix = np.zeros((len(positions), self.SIDE), np.float32)
        matrix[np.arange(len(positions)), below % self.SIDE] = 1 - fraction
        matrix[np.arange(len(positions)), (below + 1) % self.SIDE] += fraction
        return matrix

    def plane(self, name: str, z: float) -> Array:
        """Return the field at z mm on the grid."""
        below = int(np.floor(z))
        volume, fraction = self._fields[name], np.float32(z - below)
        mixed = (1 - fraction) * volume[below % self.SIDE] + fraction * volume[(below + 1) % self.SIDE]
        return self._rows @ mixed @ self._columns


class Plane:
    """One plane being painted: `hu`, and `space`, the part of each pixel in which vessels may run."""

    def __init__(self, grid: Grid, z: float, hu: Array | None = None, space: Array | None = None) -> None:
        shape = (grid.y.size, grid.x.size)
        self.grid, self.z = grid, z
        self.hu = np.full(shape, -1000, np.float32) if hu is None else hu
        self.space = np.zeros(shape, np.float32) if space is None else space

    def window(self, x: float, y: float, reach: float) -> tuple[Plane, tuple[slice, slice]]:
        """Return the square ± `reach` about (x, y) as a plane on the same memory, and where it is."""
        columns = np.flatnonzero(np.abs(self.grid.x.ravel() - x) <= reach)
        rows = np.flatnonzero(np.abs(self.grid.y.ravel() - y) <= reach)
        box = tuple(slice(i[0], i[-1] + 1) if i.size else slice(0, 0) for i in (rows, columns))
        grid = Grid(self.grid.x[:, box[1]], self.grid.y[box[0]], self.grid.pixel)
        return Plane(grid, self.z, self.hu[box], self.space[box]), (box[0], box[1])

    def over(self, distance: Array, hu: Array | float, space: float = 0.0, part: Array | float = 1.0) -> None:
        """Paint what is inside the surface over what was there; `part` makes it translucent."""
        cover = np.clip(0.5 - distance / self.grid.pixel, 0, 1) * part
        self.hu += cover * (hu - self.hu)
        self.space += cover * (space - self.space)

    def ellipsoid(self, centre: Point, axes: Point, hu: float, turn_deg: float = 0.0) -> None:
        """Paint an ellipsoid."""
        if abs(self.z - centre[2]) > axes[2] + self.grid.pixel:
            return
        part, _ = self.window(centre[0], centre[1], max(axes[0], axes[1]) + self.grid.pixel)
        part.over(ellipsoid(part.grid.x, part.grid.y, self.z, centre, axes, turn_deg), hu)
