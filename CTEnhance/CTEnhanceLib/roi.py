"""Mean and standard deviation in a box that the user drags, before and after."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ctenhance.runtime.errors import InputError

# Above this, following the mouse would stutter.
MOST_VOXELS = 4_000_000
_START_SIZE_MM = 30.0
_HANDLE_PER_CENT = 1.2


@dataclass(frozen=True)
class Statistics:
    """Of the voxels whose centres lie in the box: how many, and mean and standard deviation (HU)."""

    count: int
    mean: float
    deviation: float


def addRegion(sliceNode: Any, volumeNode: Any) -> Any:
    """Return a new box in the middle of the view, 30 mm wide and at least three slices thick."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", _("CT region"))
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetFillVisibility(False)
    display.SetPropertiesLabelVisibility(False)
    display.SetInteractionHandleScale(_HANDLE_PER_CENT)  # the usual 3 % would cover what is measured
    display.SetGlyphScale(_HANDLE_PER_CENT)
    node.SetSaveWithScene(False)
    matrix = sliceNode.GetSliceToRAS()
    node.SetCenter([matrix.GetElement(axis, 3) for axis in range(3)])
    thickness = max(_START_SIZE_MM / 6, 3 * max(volumeNode.GetSpacing()))
    # Thin along the axis that the view looks along.
    normal = [abs(matrix.GetElement(axis, 2)) for axis in range(3)]
    size = [_START_SIZE_MM] * 3
    size[int(np.argmax(normal))] = thickness
    node.SetSize(size)
    return node


def removeRegion(node: Any, display: Any) -> None:
    """Take a box and its display out of the scene, as far as they are still there.

    The display goes first: it is by it that a view knows what it draws for the box.
    """
    for each in (display, node):
        if slicer.mrmlScene.IsNodePresent(each):
            slicer.mrmlScene.RemoveNode(each)


def statistics(region: Any, volumeNode: Any) -> Statistics:
    """Return the statistics of the voxels in the box; raises InputError as `values` does."""
    found = values(region, volumeNode)
    return Statistics(found.size, float(found.mean()), float(found.std()))


def values(region: Any, volumeNode: Any, of: Any = None) -> np.ndarray:
    """Return the voxels in the box as float64 [voxel]; in the same order for volumes on one grid.

    `of` - a volume node of the same size, whose voxels are taken in the places of the other's

    Raises InputError when the box lies outside the volume or holds more voxels than can be followed live.
    """
    array = slicer.util.arrayFromVolume(volumeNode if of is None else of)
    toBox, half = _voxelsToBox(region, volumeNode)
    corners = _boxCorners(toBox, half)
    low = np.maximum(np.ceil(corners.min(axis=0) - 1e-6), 0).astype(int)
    high = np.minimum(np.floor(corners.max(axis=0) + 1e-6), np.array(array.shape[::-1]) - 1).astype(int)
    if (high < low).any():
        raise InputError(_("The region holds no voxel of the volume: move or enlarge it."))
    if np.prod(high - low + 1) > MOST_VOXELS:
        raise InputError(_("The region is too large to be measured live: make it smaller."))
    part = array[low[2] : high[2] + 1, low[1] : high[1] + 1, low[0] : high[0] + 1]
    inside = _inside(toBox, half, low, part.shape)
    found = (part.ravel() if inside is None else part[inside]).astype(np.float64)
    if found.size == 0:
        raise InputError(_("The region holds no voxel of the volume: move or enlarge it."))
    return found


def table(rows: Mapping[str, Statistics]) -> str:
    """Return the statistics as a small table in rich text."""
    head = "".join(f"<th align='right'>&nbsp;{text}</th>" for text in (_("Mean HU"), _("SD HU")))
    lines = "".join(
        f"<tr><td>{html.escape(name)}</td><td align='right'>{row.mean:.1f}</td>"
        f"<td align='right'>{row.deviation:.1f}</td></tr>"
        for name, row in rows.items()
    )
    count = next(iter(rows.values())).count
    caption = _("{count} voxels").format(count=count)
    first, *_others, last = rows.values()
    if first.deviation > 0:
        caption += ", " + _("noise (SD) {change:+.0f} %").format(
            change=100 * (last.deviation / first.deviation - 1)
        )
    return f"<table cellpadding='3'><tr><th></th>{head}</tr>{lines}</table>{caption}"


def _voxelsToBox(region: Any, volumeNode: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix from voxel indices (x, y, z) to box coordinates, and half the box's sides there."""
    toRAS = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(toRAS)
    toWorld = slicer.util.arrayFromVTKMatrix(toRAS)
    transform = volumeNode.GetParentTransformNode()
    if transform is not None:
        if not transform.IsTransformToWorldLinear():
            raise InputError(_("Regions cannot be measured under a transform that bends: harden it first."))
        matrix = vtk.vtkMatrix4x4()
        transform.GetMatrixTransformToWorld(matrix)
        toWorld = slicer.util.arrayFromVTKMatrix(matrix) @ toWorld
    boxToWorld = slicer.util.arrayFromVTKMatrix(region.GetObjectToWorldMatrix())
    return np.linalg.inv(boxToWorld) @ toWorld, np.array(region.GetSize()) / 2


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
