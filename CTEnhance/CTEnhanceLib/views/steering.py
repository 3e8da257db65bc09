"""Looking at linked views without a mouse: scroll, zoom, move them, walk through the patient by steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from CTEnhanceLib.views import slices
from CTEnhanceLib.views.linked import LinkedViews

#: By one press of a key: the factor of a zoom,
ZOOM = 1.25
# and the parts of a view by which images move, and by which one goes through the patient.
_MOVE, _STEP = 0.1, 0.02
_LEAST_MM, _MOST_MM = 5.0, 5000.0  # what zooming shows of the images, across
# A place nearer to a view's edge than this part of it is brought into its middle.
_EDGE = 0.05
Place = tuple[float, float, float]


def scroll(views: LinkedViews, by: int) -> None:
    """Go so many slices on, in the first view and those that follow it."""
    for widget in views.widgets()[:1]:
        logic = widget.sliceLogic()
        low, high = slices.bounds(logic)
        step = logic.GetLowestVolumeSliceSpacing()[2]
        # By the controller: only what it changes goes to the linked views.
        widget.sliceController().setSliceOffsetValue(min(max(logic.GetSliceOffset() + by * step, low), high))


def zoom(views: LinkedViews, factor: float) -> None:
    """Show more (above 1) or less of all images, about the middle of the views."""
    for node in _nodes(views):
        width, height, depth = node.GetFieldOfView()
        if _LEAST_MM < width * factor < _MOST_MM:
            node.SetFieldOfView(width * factor, height * factor, depth)
            node.UpdateMatrices()
    views.readers()


def move(views: LinkedViews, right: int, up: int) -> None:
    """Move all images in the views, by tenths of what the first view shows."""
    nodes = list(_nodes(views))
    width, height, _depth = nodes[0].GetFieldOfView() if nodes else (0.0, 0.0, 0.0)
    for node in nodes:
        x, y, z = node.GetXYZOrigin()
        node.SetXYZOrigin(x - right * _MOVE * width, y - up * _MOVE * height, z)
        node.UpdateMatrices()
    views.readers()


def middle(views: LinkedViews) -> Place:
    """Return the place (RAS) in the middle of the first view."""
    x, y, z = slices.axes(next(iter(_nodes(views))))[:, 3]
    return float(x), float(y), float(z)


def beside(views: LinkedViews, place: Place, right: int = 0, up: int = 0, on: int = 0) -> Place:
    """Return the place (RAS) so many steps beside another one in the first view, and so many slices on from
    the one that it shows; within its volume."""
    widget = views.widgets()[0]
    logic, node = widget.sliceLogic(), widget.mrmlSliceNode()
    frame, step = slices.axes(node), _STEP * node.GetFieldOfView()[0]
    rotation = frame[:, :3]
    target = place @ rotation + (right * step, up * step, 0.0)
    target[2] = frame[:, 3] @ rotation[:, 2] + on * logic.GetLowestVolumeSliceSpacing()[2]
    bounds = [0.0] * 6
    logic.GetLowestVolumeSliceBounds(bounds, True)  # of the voxels' middles, along the view's axes
    x, y, z = rotation @ np.clip(target, bounds[::2], bounds[1::2])
    return float(x), float(y), float(z)


def reveal(views: LinkedViews, place: Place) -> None:
    """Bring a place (RAS) into the middle of those views beyond whose edge it lies."""
    for node in _nodes(views):
        width, height, _depth = node.GetFieldOfView()
        axes = slices.axes(node)
        x, y = (np.array(place) - axes[:, 3]) @ axes[:, :2]
        if abs(x) > (0.5 - _EDGE) * width or abs(y) > (0.5 - _EDGE) * height:
            first, second, third = node.GetXYZOrigin()
            node.SetXYZOrigin(first + x, second + y, third)
            node.UpdateMatrices()
            views.readers()


def _nodes(views: LinkedViews) -> Iterable[Any]:
    return (widget.mrmlSliceNode() for widget in views.widgets())
