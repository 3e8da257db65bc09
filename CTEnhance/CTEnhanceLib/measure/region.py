"""The regions that the user draws in views, and word of it when one has moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer
import vtk

from CTEnhanceLib.measure import roi, shapes
from CTEnhanceLib.process.steps import restTimer

_MEASURE_MILLISECONDS = 50
# By this attribute the box is known in a scene that was saved with it.
_ATTRIBUTE = "CTEnhance.MeasuredBox"


class WatchedRegions:
    """Watches markups. `onMoved()` is called a moment after one of them was dragged.

    A dragged region tells of each pixel; measured is when there is time.
    """

    def __init__(self, onMoved: Callable[[], None]) -> None:
        self.nodes: list[Any] = []
        self._displays: list[Any] = []
        self._tags: list[tuple[Any, int]] = []
        self._rounding = False
        self._timer = restTimer(_MEASURE_MILLISECONDS, onMoved)

    @property
    def pending(self) -> bool:
        """Whether `onMoved` is about to be called."""
        return bool(self._timer.active)

    def watch(self, nodes: Sequence[Any]) -> None:
        """Watch these, and no others."""
        if list(nodes) == self.nodes:
            return
        for node, tag in self._tags:
            node.RemoveObserver(tag)
        for node, display in zip(self.nodes, self._displays, strict=True):
            if display is not None and not slicer.mrmlScene.IsNodePresent(node):
                roi.removeRegion(node, display)  # else views go on drawing what somebody has removed
        self.nodes = list(nodes)
        self._displays = [node.GetDisplayNode() for node in self.nodes]
        events = (
            vtk.vtkCommand.ModifiedEvent,
            slicer.vtkMRMLMarkupsNode.PointModifiedEvent,
            slicer.vtkMRMLMarkupsNode.PointAddedEvent,
            slicer.vtkMRMLMarkupsNode.PointRemovedEvent,
        )
        self._tags = [
            (node, node.AddObserver(event, self._onMoved)) for node in self.nodes for event in events
        ]
        if not self.nodes:
            self._timer.stop()

    def _onMoved(self, node: Any, _event: Any) -> None:
        if not self._rounding:
            self._rounding = True
            try:
                shapes.keepRound(node)
            finally:
                self._rounding = False
        if not self._timer.active:
            self._timer.start()


class DrawnRegion:
    """The free region whose points are the user's clicks now. Given up before the first point, it goes:
    Slicer takes as long to draw it in each view as one that is there. `onGone()` is called then."""

    def __init__(self, onGone: Callable[[], None]) -> None:
        self._onGone = onGone
        self._node: Any = None
        self._tag: tuple[Any, int] | None = None

    def begin(self, node: Any) -> None:
        """Let clicks draw this one."""
        self._end()
        self._node = node
        shapes.beginDrawing(node)
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        event = interaction.InteractionModeChangedEvent
        self._tag = interaction, interaction.AddObserver(event, self._onMode)

    def _onMode(self, interaction: Any, _event: Any) -> None:
        if interaction.GetCurrentInteractionMode() != interaction.Place:
            # Not now: Slicer first takes the point away that follows the mouse.
            qt.QTimer.singleShot(0, self._end)

    def _end(self) -> None:
        node, self._node = self._node, None
        if self._tag is not None:
            self._tag[0].RemoveObserver(self._tag[1])
            self._tag = None
        empty = node is not None and not node.GetNumberOfDefinedControlPoints()
        if empty and slicer.mrmlScene.IsNodePresent(node):
            roi.removeRegion(node, node.GetDisplayNode())
            self._onGone()


class MeasuredRegion:
    """One box, `node` (None: there is none). `onMoved()` is called a moment after it was dragged."""

    def __init__(self, onMoved: Callable[[], None]) -> None:
        self.node: Any = None
        self._display: Any = None
        self._watched = WatchedRegions(onMoved)

    @property
    def pending(self) -> bool:
        """Whether `onMoved` is about to be called."""
        return self._watched.pending

    @staticmethod
    def kept() -> Any:
        """Return the box of a scene that was loaded, or None."""
        boxes = slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")
        return next((node for node in boxes if node.GetAttribute(_ATTRIBUTE)), None)

    def add(self, sliceNode: Any, volumeNode: Any) -> None:
        """Put a box into the middle of the view, in place of the one before; that of a loaded scene stays
        where it is."""
        self.remove()
        self.node = self.kept()
        if self.node is None:
            self.node = roi.addRegion(sliceNode, volumeNode)
            self.node.SetAttribute(_ATTRIBUTE, "1")
        self._display = self.node.GetDisplayNode()
        self._watched.watch([self.node])

    def remove(self) -> None:
        """Take the box away."""
        if self.node is not None:
            self._watched.watch([])
            node, display = self.node, self._display
            self.node = self._display = None  # before it goes: nobody else has removed it
            roi.removeRegion(node, display)
