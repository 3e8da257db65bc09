"""Word of nodes that have come into the scene or gone, when they are complete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
import vtk


class SceneWatch:
    """Calls `onChanged()` in a turn after nodes have come or gone, or a volume has got its image and display:
    while Slicer reads a file its node is in the scene without these, and events happen."""

    def __init__(self, onChanged: Callable[[], None]) -> None:
        self._onChanged = onChanged
        self._pending = False
        scene = slicer.mrmlScene
        events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent)
        self._tags = [(scene, scene.AddObserver(event, self._onNodes)) for event in events]
        self._awaited: dict[str, tuple[Any, int]] = {}

    def stop(self) -> None:
        """Watch no longer."""
        for caller, tag in (*self._tags, *self._awaited.values()):
            caller.RemoveObserver(tag)
        self._tags, self._awaited, self._onChanged = [], {}, lambda: None

    def _onNodes(self, _caller: Any, _event: str) -> None:
        if not self._pending:
            self._pending = True
            qt.QTimer.singleShot(0, self._tell)

    def _tell(self) -> None:
        self._pending = False
        if not slicer.mrmlScene.IsClosing():
            self._await()
            self._onChanged()

    def _await(self) -> None:
        """Follow the volumes that are not complete yet."""
        volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        lacking = {
            node.GetID(): node
            for node in volumes
            if node.GetImageData() is None or node.GetDisplayNode() is None
        }
        for known in set(self._awaited) - set(lacking):
            node, tag = self._awaited.pop(known)
            node.RemoveObserver(tag)
        for name, node in lacking.items():
            if name not in self._awaited:
                self._awaited[name] = node, node.AddObserver(vtk.vtkCommand.AnyEvent, self._onNodes)
