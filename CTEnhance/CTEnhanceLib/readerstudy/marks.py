"""Lesion marks: points in one of the images, each with a confidence from 0 to 100.

The answer of the study is what counts; the markups node in the view only shows it and tells of points that
the user has put, moved or removed there. Answers are in LPS, markups in RAS (mm).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import qt
import slicer
import vtk
from slicer.i18n import tr as _

from ctenhance.study.questions import Question
from CTEnhanceLib.measure.roi import removeRegion
from CTEnhanceLib.readerstudy.questions import Answer, Row
from CTEnhanceLib.readerstudy.views import VIEW_NAMES
from CTEnhanceLib.scene import placing
from CTEnhanceLib.scene.volumes import RAS_TO_LPS
from CTEnhanceLib.views import slices
from CTEnhanceLib.views.linked import sliceWidget

START_CONFIDENCE = 50.0
_COLOR = (1.0, 0.8, 0.1)
_GLYPH_PER_CENT = 2.0


class MarksRow(Row):
    """A list of marks, the confidence of the chosen one, and their points in the view of this side."""

    def __init__(self, question: Question, side: str, answer: Answer) -> None:
        super().__init__(question, side, answer)
        self._marks: list[dict[str, Any]] = []
        self._following = False
        self._node: Any = None
        self._tags: list[int] = []
        self.list = qt.QListWidget()
        self.list.maximumHeight = 84
        self.list.focusPolicy = qt.Qt.NoFocus
        self.list.connect("currentRowChanged(int)", self._onChosen)
        self.line.addWidget(self.list)
        column = qt.QVBoxLayout()
        self.confidence = qt.QSpinBox()
        self.confidence.maximum = 100
        self.confidence.suffix = " %"
        self.confidence.keyboardTracking = False  # a number is one answer, not one for each digit
        self.confidence.toolTip = _("How sure you are that this is a lesion (keys 0 to 9: 0 to 90 %).")
        self.confidence.connect("valueChanged(int)", self.setConfidence)
        self.addButton = qt.QPushButton(_("Click a point"))
        self.addButton.toolTip = _("Then click into the image. Key M marks the point below the mouse.")
        self.addButton.connect("clicked()", self._onPlace)
        self.removeButton = qt.QPushButton(_("Remove"))
        self.removeButton.toolTip = _("Remove the chosen mark (key Delete).")
        self.removeButton.connect("clicked()", self.removeChosen)
        for button in (self.addButton, self.removeButton):
            button.focusPolicy = qt.Qt.NoFocus
        for each in (self.confidence, self.addButton, self.removeButton):
            column.addWidget(each)
        self.line.addLayout(column)

    @property
    def viewName(self) -> str:
        """The name of the view that its points are in."""
        return VIEW_NAMES[self.side]

    def set(self, value: Any) -> None:
        """Show these marks."""
        chosen = self.list.currentRow
        self._marks = [dict(mark) for mark in value or ()]
        self._following = True
        try:
            self.list.clear()
            for count, mark in enumerate(self._marks, start=1):
                self.list.addItem(
                    _("Mark {count}: {percent:.0f} %").format(count=count, percent=mark["confidence"])
                )
            self.list.currentRow = min(max(chosen, 0), len(self._marks) - 1)
            self._showChosen()
            self._showPoints()
        finally:
            self._following = False

    def press(self, index: int) -> None:
        """0 to 9: 0 to 90 % for the chosen mark."""
        if index < 10:
            self.setConfidence(10 * ((index + 1) % 10))

    def add(self, ras: Any) -> None:
        """Mark a point (mm, RAS)."""
        mark = {"point": (RAS_TO_LPS @ np.array(ras)).tolist(), "confidence": START_CONFIDENCE}
        if self._give([*self._marks, mark]):
            self.list.currentRow = len(self._marks) - 1

    def removeChosen(self) -> None:
        """Remove the chosen mark."""
        chosen = self.list.currentRow
        if 0 <= chosen < len(self._marks):
            self._give([mark for index, mark in enumerate(self._marks) if index != chosen])

    def setConfidence(self, percent: float) -> None:
        """Give the chosen mark this confidence."""
        chosen = self.list.currentRow
        if self._following or not 0 <= chosen < len(self._marks):
            return
        if self._marks[chosen]["confidence"] != percent:
            marks = [dict(mark) for mark in self._marks]
            marks[chosen]["confidence"] = float(percent)
            self._give(marks)

    def showNode(self, locked: bool) -> None:
        """Show the points in the view, which stands now."""
        if self._node is None:
            with placing.whole() as added:
                self._node = placing.addNode("vtkMRMLMarkupsFiducialNode", _("Marks"), added, hidden=True)
                self._node.CreateDefaultDisplayNodes()
            display = self._node.GetDisplayNode()
            display.SetSaveWithScene(False)
            display.AddViewNodeID(sliceWidget(self.viewName).mrmlSliceNode().GetID())
            display.SetColor(*_COLOR)
            display.SetSelectedColor(*_COLOR)
            display.SetGlyphScale(_GLYPH_PER_CENT)
            for event in ("PointPositionDefinedEvent", "PointEndInteractionEvent", "PointRemovedEvent"):
                self._tags.append(self._node.AddObserver(getattr(self._node, event), self._onPoints))
        self._node.SetLocked(locked)
        self._following = True
        try:
            self._showPoints()
        finally:
            self._following = False

    def removeNode(self) -> None:
        """Take the points out of the view and the scene."""
        if self._node is None:
            return
        for tag in self._tags:
            self._node.RemoveObserver(tag)
        display, node = self._node.GetDisplayNode(), self._node
        self._node, self._tags = None, []
        removeRegion(node, display)

    def _give(self, marks: list[dict[str, Any]]) -> bool:
        taken = self._answer(self.question, self.side, marks)
        self.onUsed(self, False)
        return taken

    def _onChosen(self, _row: int) -> None:
        if not self._following:
            self._following = True
            try:
                self._showChosen()
            finally:
                self._following = False

    def _showChosen(self) -> None:
        chosen = self.list.currentRow
        there = 0 <= chosen < len(self._marks)
        self.confidence.enabled = self.removeButton.enabled = there
        self.confidence.value = round(self._marks[chosen]["confidence"]) if there else 0

    def _showPoints(self) -> None:
        """Bring the markups node to what the marks are; called while following."""
        node = self._node
        if node is None:
            return
        with slicer.util.NodeModify(node):
            node.RemoveAllControlPoints()
            for count, mark in enumerate(self._marks, start=1):
                point = RAS_TO_LPS @ np.array(mark["point"])
                node.AddControlPoint(vtk.vtkVector3d(*point), f"{count}: {mark['confidence']:.0f} %")
                node.SetNthControlPointDescription(count - 1, repr(mark["confidence"]))

    def _onPlace(self) -> None:
        if self._node is not None:
            logic = slicer.modules.markups.logic()
            logic.SetActiveList(self._node)
            logic.StartPlaceMode(False)

    def _onPoints(self, node: Any, _event: str) -> None:
        """The user has put, moved or removed a point in the view."""
        if self._following:
            return
        marks = []
        for index in range(node.GetNumberOfControlPoints()):
            if node.GetNthControlPointPositionStatus(index) != node.PositionDefined:
                continue  # it still follows the mouse
            point = RAS_TO_LPS @ np.array(node.GetNthControlPointPositionVector(index))
            # A new point has no description yet.
            confidence = float(node.GetNthControlPointDescription(index) or START_CONFIDENCE)
            marks.append({"point": point.tolist(), "confidence": confidence})
        # Not now: the node is in the middle of its change.
        more = len(marks) > len(self._marks)
        qt.QTimer.singleShot(0, lambda: self._onMarks(marks, more))

    def _onMarks(self, marks: list[dict[str, Any]], more: bool) -> None:
        if self._node is not None and self._give(marks) and more:
            self.list.currentRow = len(self._marks) - 1


def cursor() -> tuple[str, list[float]] | None:
    """Return the view below the mouse and the point there (mm, RAS), or None."""
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    xyz, ras = [0.0] * 3, [0.0] * 3
    sliceNode = crosshair.GetCursorPositionXYZ(xyz) if crosshair is not None else None
    if sliceNode is None or not crosshair.GetCursorPositionRAS(ras):
        return None
    return sliceNode.GetLayoutName(), ras


def middle(viewName: str) -> list[float]:
    """Return the point in the middle of the view (mm, RAS)."""
    return list(slices.axes(sliceWidget(viewName).mrmlSliceNode())[:, 3])
