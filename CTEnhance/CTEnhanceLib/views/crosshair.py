"""A click in one view brings all linked views to that place, and marks it there with Slicer's crosshair."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import slicer
import vtk

from CTEnhanceLib.scene import volumes
from CTEnhanceLib.views import slices

# Pixels; a mouse that moved farther while its button was down has dragged something.
_STILL = 3


class ClickedPlace:
    """Calls `onPlace(RAS)` for clicks of the left button in slice widgets, while it watches them."""

    def __init__(self, onPlace: Callable[[tuple[float, float, float]], None]) -> None:
        self._onPlace = onPlace
        self._tags: list[tuple[Any, int]] = []
        self._pressed: tuple[int, int] | None = None

    def watch(self, widgets: Iterable[Any]) -> None:
        """Follow the clicks in these views, and in no others."""
        self.release()
        for widget in widgets:
            interactor, node = widget.sliceView().renderWindow().GetInteractor(), widget.mrmlSliceNode()
            # Before Slicer's own, which may let no other one have the event.
            press = interactor.AddObserver(vtk.vtkCommand.LeftButtonPressEvent, self._onPress, 1.0)
            release = interactor.AddObserver(
                vtk.vtkCommand.LeftButtonReleaseEvent,
                lambda caller, _event, node=node: self._onRelease(caller, node),
                1.0,
            )
            self._tags += [(interactor, press), (interactor, release)]

    def release(self) -> None:
        """Follow no clicks any longer."""
        for interactor, tag in self._tags:
            interactor.RemoveObserver(tag)
        self._tags, self._pressed = [], None

    def _onPress(self, caller: Any, _event: str) -> None:
        modified = caller.GetShiftKey() or caller.GetControlKey() or caller.GetAltKey()
        self._pressed = None if modified or _placing() else tuple(caller.GetEventPosition())

    def _onRelease(self, caller: Any, node: Any) -> None:
        begun, self._pressed = self._pressed, None
        x, y = caller.GetEventPosition()
        if begun is not None and max(abs(x - begun[0]), abs(y - begun[1])) <= _STILL:
            self._onPlace(node.GetXYToRAS().MultiplyPoint((x, y, 0.0, 1.0))[:3])


def _placing() -> bool:
    """Say whether clicks place the points of a markup now."""
    node = slicer.app.applicationLogic().GetInteractionNode()
    return node is not None and node.GetCurrentInteractionMode() == node.Place


class Crosshair:
    """Slicer's crosshair, shown by us, and shown as the user had it when we are done."""

    def __init__(self) -> None:
        #: Where it was put (RAS); None: nowhere.
        self.place: tuple[float, float, float] | None = None
        self._kept: int | None = None

    def mark(self, place: tuple[float, float, float]) -> None:
        """Show it at this place (RAS)."""
        node, self.place = _node(), place
        if node is not None:
            if self._kept is None:
                self._kept = node.GetCrosshairMode()
            node.SetCrosshairRAS(*place)
            node.SetCrosshairMode(node.ShowIntersection)

    def remove(self) -> None:
        """Show it as it was before."""
        node = _node()
        if node is not None and self._kept is not None:
            node.SetCrosshairMode(self._kept)
        self._kept = self.place = None


def shownIn(sliceNode: Any) -> np.ndarray | None:
    """Return the place (RAS) of Slicer's crosshair, whoever has put it, in a view's plane; None where the
    view does not show it."""
    node = _node()
    if node is None or node.GetCrosshairMode() == node.NoCrosshair:
        return None
    place = np.array(node.GetCrosshairRAS())
    frame, (width, height, depth) = slices.axes(sliceNode), sliceNode.GetFieldOfView()
    away = (place - frame[:, 3]) @ frame[:, :3]
    if (np.abs(away) > (width / 2, height / 2, depth)).any():
        return None
    return np.array(place - away[2] * frame[:, 2])


def placeIn(sliceNode: Any) -> np.ndarray:
    """Return where to begin (RAS): at the crosshair, where a view shows it, else in the view's middle."""
    shown = shownIn(sliceNode)
    return slices.axes(sliceNode)[:, 3] if shown is None else shown


def _node() -> Any:
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")


def bringTo(place: tuple[float, float, float], group: int, volume: Any) -> None:
    """Bring all views of a group to the slices that hold this place (RAS).

    To their middle, as scrolling does: between two slices twice as many voxels are mixed, and a slab would
    have parts of slices.
    """
    kind = slicer.vtkMRMLSliceNode
    kind.JumpAllSlices(slicer.mrmlScene, *_middle(place, volume), kind.OffsetJumpSlice, group)


def _middle(place: tuple[float, float, float], volume: Any) -> tuple[float, float, float]:
    """Return the middle of the voxel that a place is in; the place itself where there is none, or where the
    volume is bent."""
    if volume is None or volume.GetImageData() is None:
        return place
    world = volumes.toWorld(volume)
    if world is None:
        return place
    fromVoxel = world @ volumes.ijkToRAS(volume)
    voxel = np.rint(np.linalg.solve(fromVoxel, (*place, 1.0)))
    x, y, z, _one = fromVoxel @ voxel
    return float(x), float(y), float(z)
