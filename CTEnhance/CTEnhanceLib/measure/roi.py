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
from CTEnhanceLib.measure.uniformity import isUniform

# Above this, following the mouse would stutter.
MOST_VOXELS = 4_000_000
# Whether a box is uniform takes longer to see; larger ones are not in a patient.
_MOST_JUDGED = 300_000
_START_SIZE_MM = 30.0
_HANDLE_PER_CENT = 1.2


@dataclass(frozen=True)
class Statistics:
    """Of the voxels whose centres lie in the box: how many, in how many slices, mean and standard deviation
    (HU), and whether that is noise alone (`uniformity`)."""

    count: int
    slices: int
    mean: float
    deviation: float
    uniform: bool


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
    part, inside = _box(region, volumeNode, volumeNode)
    found = _chosen(part, inside)
    uniform = part.size <= _MOST_JUDGED and isUniform(part, inside)
    return Statistics(found.size, _slices(part, inside), float(found.mean()), float(found.std()), uniform)


def sizeOf(region: Any, volumeNode: Any) -> tuple[int, int]:
    """Return how many voxels are in the box, and in how many slices; raises InputError as `values` does."""
    part, inside = _box(region, volumeNode, volumeNode)
    return _chosen(part, inside).size, _slices(part, inside)


def sizeText(count: int, slices: int) -> str:
    """Return so many voxels in so many slices, in words."""
    if slices == 1:
        return _("{count} voxels in one slice").format(count=count)
    return _("{count} voxels in {slices} slices").format(count=count, slices=slices)


def values(region: Any, volumeNode: Any, of: Any = None) -> np.ndarray:
    """Return the voxels in the box as float64 [voxel]; in the same order for volumes on one grid.

    `of` - a volume node of the same size, whose voxels are taken in the places of the other's

    Raises InputError when the box lies outside the volume or holds more voxels than can be followed live.
    """
    return _chosen(*_box(region, volumeNode, volumeNode if of is None else of))


def table(rows: Mapping[str, Statistics]) -> str:
    """Return the statistics as a small table in rich text."""
    head = "".join(f"<th align='right'>&nbsp;{text}</th>" for text in (_("Mean HU"), _("SD HU")))
    lines = "".join(
        f"<tr><td>{html.escape(name)}</td><td align='right'>{row.mean:.1f}</td>"
        f"<td align='right'>{row.deviation:.1f}</td></tr>"
        for name, row in rows.items()
    )
    first, *_others, last = rows.values()
    caption = sizeText(first.count, first.slices)
    if first.deviation > 0:
        uniform = all(row.uniform for row in rows.values())
        text = _("noise (SD) {change:+.0f} %") if uniform else _("SD {change:+.0f} %")
        caption += "; " + text.format(change=100 * (last.deviation / first.deviation - 1))
        if not uniform:
            caption += "<br>" + _("Not noise alone: the box is not uniform, or too small to tell.")
    return f"<table cellpadding='3'><tr><th></th>{head}</tr>{lines}</table>{caption}"


def _box(region: Any, volumeNode: Any, of: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the voxels about the box [slice, row, column], and which of them are in it (None: all)."""
    array = slicer.util.arrayFromVolume(of)
    toBox, half = _voxelsToBox(region, volumeNode)
    corners = _boxCorners(toBox, half)
    low = np.maximum(np.ceil(corners.min(axis=0) - 1e-6), 0).astype(int)
    high = np.minimum(np.floor(corners.max(axis=0) + 1e-6), np.array(array.shape[::-1]) - 1).astype(int)
    if (high < low).any():
        raise InputError(_("The region holds no voxel of the volume: move or enlarge it."))
    if np.prod(high - low + 1) > MOST_VOXELS:
        raise InputError(_("The region is too large to be measured live: make it smaller."))
    part = array[low[2] : high[2] + 1, low[1] : high[1] + 1, low[0] : high[0] + 1]
    return part, _inside(toBox, half, low, part.shape)


def _slices(part: np.ndarray, inside: np.ndarray | None) -> int:
    return len(part) if inside is None else int(np.count_nonzero(inside.any(axis=(1, 2))))


def _chosen(part: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
    found = (part.ravel() if inside is None else part[inside]).astype(np.float64)
    if found.size == 0:
        raise InputError(_("The region holds no voxel of the volume: move or enlarge it."))
    return found


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
