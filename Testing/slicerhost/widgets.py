"""Stand-ins for the ctk and qMRML widgets that the panels use: the names and behaviour of the real ones.

Each declares the real widget's properties, so that a .ui file or a panel that misspells one fails. Private
state lies in names with an underscore, as the public ones are Qt's.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from .pythonqt import ClosedModule, PythonQtObject


class Widget(PythonQtObject, QtWidgets.QWidget):
    def _fill(self, *parts: QtWidgets.QWidget) -> None:
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in parts:
            layout.addWidget(part)


def stored(kind: Any, default: Any, changed: Callable[[Any], None] = lambda widget: None) -> Any:
    """Return a Qt property that only keeps its value (and tells `changed`)."""
    values: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def write(self: Any, value: Any) -> None:
        values[self] = value
        changed(self)

    return Property(kind, lambda self: values.get(self, default), write)


def passed(kind: Any, part: str, name: str) -> Any:
    """Return a Qt property that is one of the inner widget `part`."""

    def write(self: Any, value: Any) -> None:
        vars(self)[part].setProperty(name, value)

    return Property(kind, lambda self: vars(self)[part].property(name), write)


class ctkCollapsibleButton(PythonQtObject, QtWidgets.QGroupBox):
    """A titled section whose content folds away."""

    def _fold(self) -> None:
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                QtWidgets.QWidget.setVisible(child, not self.collapsed)

    def showEvent(self, _event: Any) -> None:
        self._fold()  # its children came after the property was set

    text = Property(str, QtWidgets.QGroupBox.title, QtWidgets.QGroupBox.setTitle)
    collapsed = stored(bool, False, _fold)


class ctkSliderWidget(Widget):
    """A slider beside a spin box, for real numbers; here the spin box leads."""

    valueChanged = Signal(float)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._slider, self._spin = QtWidgets.QSlider(QtCore.Qt.Horizontal), QtWidgets.QDoubleSpinBox()
        self._fill(self._slider, self._spin)
        self._spin.valueChanged.connect(self._changed)

    def _changed(self, value: float) -> None:
        low, high = self._spin.minimum(), self._spin.maximum()
        self._slider.setValue(round(99 * (value - low) / max(high - low, 1e-9)))
        self.valueChanged(value)

    value, minimum, maximum, singleStep = (
        passed(float, "_spin", name) for name in ("value", "minimum", "maximum", "singleStep")
    )
    decimals, suffix = passed(int, "_spin", "decimals"), passed(str, "_spin", "suffix")
    pageStep, tracking = stored(float, 10.0), stored(bool, True)


class ctkPathLineEdit(PythonQtObject, QtWidgets.QLineEdit):
    """A path to type; the real one lets the user browse, too."""

    Dirs, Files = 0x1, 0x2
    currentPathChanged = Signal(str)
    nameFilters, filters, settingKey = stored("QStringList", []), stored("QVariant", None), stored(str, "")
    currentPath = Property(str, QtWidgets.QLineEdit.text, QtWidgets.QLineEdit.setText)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.textChanged.connect(lambda text: self.currentPathChanged(text))


class qMRMLWidget(Widget):
    """The root of a panel: hands the scene to the widgets inside."""

    mrmlSceneChanged = Signal(object)

    def setMRMLScene(self, scene: Any) -> None:
        self.mrmlSceneChanged(scene)


class qMRMLNodeComboBox(Widget):
    """Offers the scene's nodes of some classes; follows what comes and goes."""

    currentNodeChanged = Signal(object)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._box, self._scene, self._current = QtWidgets.QComboBox(), None, None
        self._fill(self._box)

    def _offered(self) -> list[Any]:
        """Return what the list offers: perhaps None, and the nodes that are not hidden."""
        found = [None] if self.noneEnabled else []
        for node in [one for name in self.nodeTypes for one in slicer.util.getNodesByClass(name)]:
            wanted = self.showChildNodeTypes or node.GetClassName() in self.nodeTypes
            if wanted and node not in found and not node.GetHideFromEditors():
                found.append(node)
        return found if self._scene is not None else []

    def _refresh(self) -> None:
        offered = self._offered()
        self._box.clear()
        self._box.addItems([node.GetName() if node else self.noneDisplay for node in offered])
        self._become(self._current if self._current in offered else next(iter(offered), None))

    def _become(self, node: Any) -> None:
        changed, self._current = node is not self._current, node
        self._box.setCurrentIndex(self._offered().index(node) if node in self._offered() else -1)
        if changed:
            self.currentNodeChanged(node)

    @QtCore.Slot(object)
    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        for event in ("NodeAddedEvent", "NodeRemovedEvent", "EndBatchProcessEvent", "EndCloseEvent"):
            scene.AddObserver(getattr(scene, event), lambda *_: self._refresh())
        self._refresh()

    def currentNode(self) -> Any:
        return self._current

    def setCurrentNode(self, node: Any) -> None:
        if node is not None and not isinstance(node, vtk.vtkObject):
            raise TypeError("setCurrentNode takes a node; for an identifier there is setCurrentNodeID")
        self._refresh()
        self._become(node if node in self._offered() else None)

    nodeTypes = stored("QStringList", [], _refresh)
    noneEnabled, noneDisplay = stored(bool, False, _refresh), stored(str, "None", _refresh)
    showChildNodeTypes = stored(bool, True, _refresh)
    addEnabled, removeEnabled, selectNodeUponCreation = (stored(bool, True) for _ in range(3))
    editEnabled, renameEnabled = (stored(bool, False) for _ in range(2))


ctk = sys.modules["ctk"] = ClosedModule("ctk")
for _name, _value in list(globals().items()):
    if _name.startswith(("ctk", "qMRML")) and _name != "ctk":
        setattr(ctk if _name.startswith("ctk") else slicer, _name, _value)
