"""Mean and standard deviation in regions that the user draws: boxes, and closed curves in one layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from ctenhance.runtime.errors import InputError
from CTEnhanceLib.measure import polygon
from CTEnhanceLib.measure.uniformity import isUniform
from CTEnhanceLib.scene import volumes
from CTEnhanceLib.scene.plural import plural
from CTEnhanceLib.views import crosshair, slices

# Above this, following the mouse would stutter.
MOST_VOXELS = 1_000_000
# Whether a box is uniform takes longer to see; larger ones are not in a patient.
_MOST_JUDGED = 300_000
_START_SIZE_MM = 30.0
_HANDLE_PER_CENT = 1.2


@dataclass(frozen=True)
class Statistics:
    """Of the voxels whose centres lie in the region: how many, in how many slices, mean and standard
    deviation (HU), whether that is noise alone (`uniformity`), and the region's area in its plane (mm²)."""

    count: int
    slices: int
    mean: float
    deviation: float
    uniform: bool
    area: float


def addRegion(sliceNode: Any, volumeNode: Any) -> Any:
    """Return a new box, 30 mm wide and at least three slices thick, at the crosshair or in the middle of the
    view."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", _("CT region"))
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    matrix = slices.axes(sliceNode)
    thickness = max(_START_SIZE_MM / 6, 3 * max(volumeNode.GetSpacing()))
    # Thin along the axis that the view looks along.
    normal = np.abs(matrix[:, 2])
    size = [_START_SIZE_MM] * 3
    size[int(np.argmax(normal))] = thickness
    with slicer.util.NodeModify(node), slicer.util.NodeModify(display):
        display.SetFillVisibility(False)
        display.SetPropertiesLabelVisibility(False)
        display.SetInteractionHandleScale(_HANDLE_PER_CENT)  # the usual 3 % would cover what is measured
        display.SetGlyphScale(_HANDLE_PER_CENT)
        node.SetCenter(list(crosshair.placeIn(sliceNode)))
        node.SetSize(size)
    return node


def removeRegion(node: Any, display: Any) -> None:
    """Take a markup and its display out of the scene, as far as they are still there.

    The display goes first: it is by it that a view knows what it draws for the markup.
    """
    for each in (display, node):
        if slicer.mrmlScene.IsNodePresent(each):
            slicer.mrmlScene.RemoveNode(each)


def statistics(region: Any, volumeNode: Any) -> Statistics:
    """Return the statistics of the voxels in the box; raises InputError as `values` does."""
    part, inside = _box(region, volumeNode, volumeNode)
    found = _chosen(part, inside)
    uniform = part.size <= _MOST_JUDGED and isUniform(part, inside)
    mean, deviation = float(found.mean()), float(found.std())
    return Statistics(found.size, _slices(region, part, inside), mean, deviation, uniform, areaOf(region))


def areaOf(region: Any) -> float:
    """Return a region's area in its plane (mm²): what a curve encloses, the largest face of a box."""
    if region.IsA("vtkMRMLMarkupsCurveNode"):
        return polygon.area(polygon.points(region))
    _thinnest, *sides = sorted(region.GetSize())
    return float(np.prod(sides))


def voxels(region: Any, volumeNode: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels about the region [slice, row, column], and which of them are in it; in the same order
    for volumes on one grid. Raises InputError as `values` does."""
    part, inside = _box(region, volumeNode, volumeNode)
    return part, np.ones(part.shape, bool) if inside is None else inside


def place(region: Any, volumeNode: Any) -> tuple[tuple[slice, ...], np.ndarray]:
    """Return where the voxels about the region are [slice, row, column], and which of those are in it. Raises
    InputError as `values` does."""
    where, inside = _where(region, volumeNode, slicer.util.arrayFromVolume(volumeNode).shape)
    size = [each.stop - each.start for each in where]
    return where, np.ones(size, bool) if inside is None else inside


def sizeOf(region: Any, volumeNode: Any) -> tuple[int, int]:
    """Return how many voxels are in the box, and in how many slices; raises InputError as `values` does."""
    part, inside = _box(region, volumeNode, volumeNode)
    return _chosen(part, inside).size, _slices(region, part, inside)


def sizeText(count: int, slices: int) -> str:
    """Return so many voxels in so many slices, in words."""
    voxels = plural(count, _("1 voxel"), _("{count} voxels"))
    return plural(slices, _("{voxels} in one slice"), _("{voxels} in {count} slices"), voxels=voxels)


def values(region: Any, volumeNode: Any, of: Any = None) -> np.ndarray:
    """Return the voxels in the box as float64 [voxel]; in the same order for volumes on one grid.

    `of` - a volume node of the same size, whose voxels are taken in the places of the other's

    Raises InputError when the box lies outside the volume or holds more voxels than can be followed live.
    """
    return _chosen(*_box(region, volumeNode, volumeNode if of is None else of))


def _box(region: Any, volumeNode: Any, of: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the voxels about the region [slice, row, column], and which of them are in it (None: all)."""
    array = slicer.util.arrayFromVolume(of)
    where, inside = _where(region, volumeNode, array.shape)
    return array[where], inside


def _where(
    region: Any, volumeNode: Any, shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], np.ndarray | None]:
    """Return where the voxels about the region are, and which of them are in it (None: all)."""
    if region.IsA("vtkMRMLMarkupsCurveNode"):
        toVoxels = np.linalg.inv(_toWorld(volumeNode))
        start, inside = polygon.layer(polygon.points(region), toVoxels, shape)
        _checkSize(inside.size)
        return tuple(slice(n, n + m) for n, m in zip(start, inside.shape, strict=True)), inside
    toBox, half = _voxelsToBox(region, volumeNode)
    corners = _boxCorners(toBox, half)
    low = np.maximum(np.ceil(corners.min(axis=0) - 1e-6), 0).astype(int)
    high = np.minimum(np.floor(corners.max(axis=0) + 1e-6), np.array(shape[::-1]) - 1).astype(int)
    if (high < low).any():
        raise polygon.nothing()
    _checkSize(int(np.prod(high - low + 1)))
    where = tuple(slice(a, b + 1) for a, b in zip(low[::-1], high[::-1], strict=True))
    return where, _inside(toBox, half, low, tuple(each.stop - each.start for each in where))


def _checkSize(count: int) -> None:
    if count > MOST_VOXELS:
        raise InputError(_("The region is too large to be measured live: make it smaller."))


def _slices(region: Any, part: np.ndarray, inside: np.ndarray | None) -> int:
    if region.IsA("vtkMRMLMarkupsCurveNode"):
        return 1  # of the view that it was drawn in
    return len(part) if inside is None else int(np.count_nonzero(inside.any(axis=(1, 2))))


def _chosen(part: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
    found = (part.ravel() if inside is None else part[inside]).astype(np.float64)
    if found.size == 0:
        raise polygon.nothing()
    return found


def _voxelsToBox(region: Any, volumeNode: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix from voxel indices (x, y, z) to box coordinates, and half the box's sides there."""
    boxToWorld = slicer.util.arrayFromVTKMatrix(region.GetObjectToWorldMatrix())
    return np.linalg.inv(boxToWorld) @ _toWorld(volumeNode), np.array(region.GetSize()) / 2


def _toWorld(volumeNode: Any) -> np.ndarray:
    """Return the matrix from voxel indices (x, y, z) to the world (mm, RAS)."""
    world = volumes.toWorld(volumeNode)
    if world is None:
        raise InputError(_("Regions cannot be measured under a transform that bends: harden it first."))
    return world @ volumes.ijkToRAS(volumeNode)


def _boxCorners(toBox: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Return the box's eight corners in voxel indices."""
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8)
    corners = np.vstack([signs * half[:, None], np.ones(8)])
    return (np.linalg.inv(toBox) @ corners)[:3].T


def _inside(
    toBox: np.ndarray, half: np.ndarray, low: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray | None:
    """Return which voxels lie in the box, or None for all (its sides run along the voxels)."""
    axes = np.abs(toBox[:3, :3]) > 1e-6 * np.abs(toBox[:3, :3]).max()
    if (axes.sum(axis=0) == 1).all():
        return None
    z, y, x = (np.arange(length) + start for length, start in zip(shape, low[::-1], strict=True))
    mask = np.ones(shape, dtype=bool)
    for row in range(3):
        a, b, c, d = toBox[row]
        place = a * x[None, None, :] + b * y[None, :, None] + c * z[:, None, None] + d
        mask &= np.abs(place) <= half[row] + 1e-6
    return mask
