"""The box that the user drags in a view, and word of it when it has moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
import vtk

from CTEnhanceLib.measure import roi

_MEASURE_MILLISECONDS = 100


class MeasuredRegion:
    """One box, `node` (None: there is none). `onMoved()` is called a moment after it was dragged.

    A dragged box tells of each pixel; measured is when there is time.
    """

    def __init__(self, onMoved: Callable[[], None]) -> None:
        self.node: Any = None
        self._display: Any = None
        self._tags: list[int] = []
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_MEASURE_MILLISECONDS)
        self._timer.connect("timeout()", onMoved)

    @property
    def pending(self) -> bool:
        """Whether `onMoved` is about to be called."""
        return bool(self._timer.active)

    def add(self, sliceNode: Any, volumeNode: Any) -> None:
        """Put a box into the middle of the view, in place of the one before."""
        self.remove()
        self.node = roi.addRegion(sliceNode, volumeNode)
        self._display = self.node.GetDisplayNode()
        events = (vtk.vtkCommand.ModifiedEvent, slicer.vtkMRMLMarkupsNode.PointModifiedEvent)
        self._tags = [self.node.AddObserver(event, self._onMoved) for event in events]

    def remove(self) -> None:
        """Take the box away."""
        if self.node is not None:
            for tag in self._tags:
                self.node.RemoveObserver(tag)
            node, display = self.node, self._display
            self.node = self._display = None  # before it goes: nobody else has removed it
            roi.removeRegion(node, display)
            self._timer.stop()

    def _onMoved(self, _caller: Any, _event: Any) -> None:
        if not self._timer.active:
            self._timer.start()
