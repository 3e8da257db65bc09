"""The voxels inside a closed curve that lies flat in a view: those of one layer whose centres it encloses."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from ctenhance.runtime.errors import InputError

# Voxels: how far a curve may leave its plane.
_FLAT = 0.5


def points(curve: Any) -> np.ndarray:
    """Return the points (mm, RAS) of a curve node as it is drawn, [point, 3]; raises InputError where there
    are fewer than three."""
    if curve.GetNumberOfControlPoints() < 3 or curve.GetCurvePointsWorld() is None:
        raise InputError(_("Place three points of the region or more."))
    return np.array(slicer.util.arrayFromMarkupsCurvePoints(curve, world=True), dtype=float)


def area(outline: np.ndarray) -> float:
    """Return the area (mm²) that a flat outline [point, 3] encloses."""
    _centre, axes = _plane(outline)
    x, y = (outline @ axes[:2].T).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def layer(outline: np.ndarray, toVoxels: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels inside: their first index [slice, row, column] and a mask [slice, row, column] from
    there on.

    outline - [point, 3], mm; toVoxels [4, 4] - from mm to voxels (column, row, slice); shape - of the volume

    Raises InputError where the outline is not flat, or no voxel of the volume is inside.
    """
    vertices = (np.c_[outline, np.ones(len(outline))] @ toVoxels.T)[:, 2::-1]  # slice, row, column
    centre, axes = _plane(vertices)
    normal = axes[2]
    if np.abs((vertices - centre) @ normal).max() > _FLAT:
        raise InputError(_("The region is not flat: draw all of it in one view and one slice."))
    across = int(np.argmax(np.abs(normal)))
    kept = [axis for axis in range(3) if axis != across]
    low = np.maximum(np.ceil(vertices.min(axis=0) - 1e-6), 0).astype(int)
    high = np.minimum(np.floor(vertices.max(axis=0) + 1e-6), np.array(shape) - 1).astype(int)
    if (high < low)[kept].any():
        raise nothing()
    first, second = (np.arange(low[axis], high[axis] + 1) for axis in kept)
    inside = _enclosed(vertices[:, kept], first, second)
    # The layer nearest to the plane, place by place.
    slopes = -normal[kept] / normal[across]
    offsets = slopes[0] * (first - centre[kept[0]])[:, None] + slopes[1] * (second - centre[kept[1]])[None, :]
    heights = np.rint(centre[across] + offsets - 1e-9).astype(int)
    inside &= (heights >= 0) & (heights < shape[across])
    if not inside.any():
        raise nothing()
    bottom, top = heights[inside].min(), heights[inside].max()
    start = low.copy()
    start[across] = bottom
    levels = np.arange(bottom, top + 1).reshape(-1, 1, 1)
    return start, np.moveaxis((heights[None] == levels) & inside[None], 0, across)


def _enclosed(vertices: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return which places of a grid [row, column] are inside a polygon [vertex, 2], by the even-odd rule."""
    inside = np.zeros((len(rows), len(columns)), bool)
    for (y0, x0), (y1, x1) in zip(vertices, np.roll(vertices, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crossed = (rows >= min(y0, y1)) & (rows < max(y0, y1))
        x = x0 + (rows[crossed] - y0) * (x1 - x0) / (y1 - y0)
        inside[crossed] ^= columns[None, :] >= x[:, None]
    return inside


def _plane(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the centre and the axes [axis, 3] of the plane that fits best; the last one is its normal."""
    centre = vertices.mean(axis=0)
    rest = vertices - centre
    return centre, np.linalg.eigh(rest.T @ rest)[1].T[::-1]


def nothing() -> InputError:
    """Return what is raised where no voxel of the volume is in a region, of whatever shape."""
    return InputError(_("The region holds no voxel of the volume: move or enlarge it."))
