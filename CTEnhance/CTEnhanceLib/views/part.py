"""What a slice view shows of a volume, so that other views can show the same: plane, place and zoom."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from CTEnhanceLib.views import slices

AXES = ("Sagittal", "Coronal", "Axial")  # by the axis (R, A, S) along which a view looks most
# All of a volume is seen if no more of its width or height is missing than this part.
_MISSING = 0.02
# A plane this near to one of the volume's own (cosine of the angle) is turned into it.
_NEARLY = 0.996


@dataclass(frozen=True)
class Part:
    """What a view shows.

    `axes` [3, 3] and `centre` (mm): the plane's axes as columns, and the middle of what is seen, in RAS.
    `extent` and `depth` (mm): how much, across and down, and how thick.
    `whole` - it is all of the volume, and stays so in views of other shapes.
    """

    axes: np.ndarray
    centre: np.ndarray
    extent: tuple[float, float]
    depth: float
    whole: bool

    @classmethod
    def of(cls, widget: Any, volume: Any) -> Part:
        """Return what a slice widget shows now of a volume."""
        node = widget.mrmlSliceNode()
        frame = slices.axes(node)
        width, height, depth = node.GetFieldOfView()
        axes, centre = frame[:, :3], frame[:, 3]
        low, high = _bounds(widget, volume)
        middle, half = (axes.T @ centre)[:2], np.array([width, height]) / 2
        missing = np.maximum(middle - half - low, 0) + np.maximum(high - middle - half, 0)
        return cls(axes, centre, (width, height), depth, bool((missing <= _MISSING * (high - low)).all()))

    @classmethod
    def all(cls, widget: Any, volume: Any) -> Part:
        """Have a slice widget show all of a volume, in its middle, and return that."""
        node, logic = widget.mrmlSliceNode(), widget.sliceLogic()
        # Along the volume's own slices, which need not be axial to the hundredth of a degree.
        node.RotateToVolumePlane(volume)
        logic.FitSliceToAll()
        if slices.within(logic, volume):
            return cls.of(widget, volume)
        found = [0.0] * 6
        logic.GetVolumeSliceBounds(volume, found)  # the view shows another one, in another place
        logic.SetSliceOffset((found[4] + found[5]) / 2)
        return dataclasses.replace(cls.of(widget, volume), whole=True)

    def show(self, widget: Any, volume: Any) -> None:
        """Have a slice widget show it of this volume, whatever the shape of its view."""
        node = widget.mrmlSliceNode()
        columns, rows = node.GetDimensions()[:2]
        if min(columns, rows) < 1:  # not laid out yet
            return
        _place(node, self.axes, self.centre)
        # The volume's own slices need not be axial to the hundredth of a degree.
        node.RotateToVolumePlane(volume)
        axes = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())[:3, :3]
        if abs(float(axes[:, 2] @ self.axes[:, 2])) < _NEARLY:
            axes = self.axes
        scale, centre = max(self.extent[0] / columns, self.extent[1] / rows), self.centre
        if self.whole:
            _place(node, axes, centre)
            low, high = _bounds(widget, volume)
            scale = float(max((high - low) / (columns, rows)))
            centre = axes @ np.array([*(low + high) / 2, axes[:, 2] @ self.centre])
        node.SetFieldOfView(scale * columns, scale * rows, self.depth)
        node.SetXYZOrigin(0.0, 0.0, 0.0)
        _place(node, axes, centre)


def orientationOf(node: Any) -> str:
    """Return along which axis a slice node looks, also where its plane is tilted."""
    return AXES[int(np.argmax(np.abs(slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())[:3, 2])))]


def holds(volume: Any, point: np.ndarray) -> bool:
    """Say whether a point (mm, RAS) lies within the bounds of a volume node."""
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    return bool(((point >= bounds[::2]) & (point <= bounds[1::2])).all())


def _place(node: Any, axes: np.ndarray, centre: np.ndarray) -> None:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = axes, centre
    node.GetSliceToRAS().DeepCopy(matrix.ravel().tolist())
    node.UpdateMatrices()


def _bounds(widget: Any, volume: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the volume's least and greatest place across and down a widget's plane (mm, from RAS 0)."""
    bounds = [0.0] * 6
    widget.sliceLogic().GetVolumeSliceBounds(volume, bounds)
    return np.array([bounds[0], bounds[2]]), np.array([bounds[1], bounds[3]])
