"""Stand-ins for the ctk and qMRML widgets that the panels use: the names and behaviour of the real ones.

Each declares the real widget's properties, so that a .ui file or a panel that misspells one fails. Private
state lies in names with an underscore, as the public ones are Qt's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from . import answers, messages
from .pythonqt import PythonQtObject, PythonQtType

_numbers = itertools.count()


class Widget(PythonQtObject, QtWidgets.QWidget, metaclass=PythonQtType):
    _plain = QtWidgets.QWidget

    def _tell(self, signal: str, *arguments: Any) -> None:
        object.__getattribute__(self, signal).emit(*arguments)

    def _fill(self, *parts: QtWidgets.QWidget) -> None:
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in parts:
            layout.addWidget(part)


def stored(kind: Any, default: Any, changed: Callable[[Any], None] = lambda widget: None) -> Any:
    """Return a Qt property that only keeps its value (and tells `changed`)."""
    key = f"_stored{next(_numbers)}"

    def write(self: Any, value: Any) -> None:
        self.__dict__[key] = value
        changed(self)

    return Property(kind, lambda self: self.__dict__.get(key, default), write)


def passed(kind: Any, part: str, name: str) -> Any:
    """Return a Qt property that is one of the inner widget `part`."""
    return Property(
        kind, lambda self: vars(self)[part].property(name),
        lambda self, value: vars(self)[part].setProperty(name, value),
    )  # fmt: skip


class ctkMessageBox(Widget):
    """Notes what it would show; the panel's modal questions are answered by the test."""

    _plain = None
    text, windowTitle, detailedText = stored(str, ""), stored(str, ""), stored(str, "")
    icon, standardButtons = stored("QVariant", None), stored("QVariant", None)

    def exec_(self) -> int:
        messages.append((self.text, self.detailedText))
        return answers.pop(0) if answers else QtWidgets.QMessageBox.StandardButton.Ok


class ctkCollapsibleButton(PythonQtObject, QtWidgets.QGroupBox, metaclass=PythonQtType):
    """A titled section whose content folds away."""

    _plain = None

    def _fold(self, folded: bool) -> None:
        self._folded = folded
        QtWidgets.QGroupBox.setFlat(self, folded)
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                QtWidgets.QWidget.setVisible(child, not folded)

    def showEvent(self, _event: Any) -> None:
        self._fold(self.collapsed)  # its children came after the property was set

    text = Property(str, QtWidgets.QGroupBox.title, QtWidgets.QGroupBox.setTitle)
    collapsed = Property(bool, lambda self: self.__dict__.get("_folded", False), _fold)


class ctkSliderWidget(Widget):
    """A slider beside a spin box, for real numbers."""

    _plain = None
    valueChanged = Signal(float)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._slider, self._spin = (
            QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal),
            QtWidgets.QDoubleSpinBox(),
        )
        self._fill(self._slider, self._spin)
        self._slider.setRange(0, 1000)
        self._slider.sliderMoved.connect(
            lambda tick: self._spin.setValue(self._low() + tick / 1000 * self._span())
        )
        self._spin.valueChanged.connect(self._spun)

    def _low(self) -> float:
        return self._spin.minimum()

    def _span(self) -> float:
        return self._spin.maximum() - self._spin.minimum()

    def _spun(self, value: float) -> None:
        self._slider.setValue(round(1000 * (value - self._low()) / max(self._span(), 1e-9)))
        self._tell("valueChanged", value)

    value, minimum, maximum, singleStep = (
        passed(float, "_spin", name) for name in ("value", "minimum", "maximum", "singleStep")
    )
    decimals, suffix, prefix = (
        passed(int, "_spin", "decimals"),
        *(passed(str, "_spin", n) for n in ("suffix", "prefix")),
    )
    pageStep, tracking = stored(float, 10.0), stored(bool, True)


class ctkPathLineEdit(Widget):
    """A path to type or to browse for."""

    _plain = None
    Dirs, Files = 0x1, 0x2
    currentPathChanged = Signal(str)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._edit = QtWidgets.QLineEdit()
        self._fill(self._edit)
        self._edit.textChanged.connect(lambda text: self._tell("currentPathChanged", text))

    currentPath, settingKey = passed(str, "_edit", "text"), stored(str, "")
    nameFilters, filters = stored("QStringList", []), stored("QVariant", None)


class qMRMLWidget(Widget):
    """The root of a panel: hands the scene to the widgets inside."""

    _plain = None
    mrmlSceneChanged = Signal(object)
    _signatures = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}

    def setMRMLScene(self, scene: Any) -> None:
        self._tell("mrmlSceneChanged", scene)


class qMRMLNodeComboBox(Widget):
    """Offers the scene's nodes of some classes; follows what comes and goes."""

    _plain = None
    currentNodeChanged, _valid = Signal(object), Signal(bool)
    _signatures = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": "_valid",
    }

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._box, self._scene, self._current = QtWidgets.QComboBox(), None, None
        self._fill(self._box)
        self._box.activated.connect(lambda index: self._become(self._offered()[index]))

    def _offered(self) -> list[Any]:
        """Return what the list offers: perhaps None, and the nodes that are not hidden."""
        found = [None] if self.noneEnabled else []
        for node in [one for name in self.nodeTypes for one in slicer.util.getNodesByClass(name)]:
            wanted = self.showChildNodeTypes or node.GetClassName() in self.nodeTypes
            if wanted and node not in found and (self.showHidden or not node.GetHideFromEditors()):
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
            self._tell("currentNodeChanged", node)
            self._tell("_valid", node is not None)

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        for event in ("NodeAddedEvent", "NodeRemovedEvent", "EndBatchProcessEvent", "EndCloseEvent"):
            scene.AddObserver(getattr(scene, event), lambda *_: self._refresh())
        self._refresh()

    def addNode(self) -> Any:
        name = self._scene.GenerateUniqueName(self.baseName or "Volume")
        self._become(self._scene.AddNewNodeByClass(self.nodeTypes[0], name))
        return self._current

    def currentNode(self) -> Any:
        return self._current

    def setCurrentNode(self, node: Any) -> None:
        if node is not None and not isinstance(node, vtk.vtkObject):
            raise TypeError("setCurrentNode takes a node; for an identifier there is setCurrentNodeID")
        self._refresh()
        self._become(node if node in self._offered() else None)

    nodeTypes, baseName = stored("QStringList", [], _refresh), stored(str, "")
    noneEnabled, noneDisplay = stored(bool, False, _refresh), stored(str, "None", _refresh)
    showChildNodeTypes, showHidden = stored(bool, True, _refresh), stored(bool, False, _refresh)
    addEnabled, removeEnabled, selectNodeUponCreation = (stored(bool, True) for _ in range(3))
    editEnabled, renameEnabled = stored(bool, False), stored(bool, False)
