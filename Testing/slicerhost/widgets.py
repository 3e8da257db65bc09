"""Stand-ins for the ctk and qMRML widgets that the panels use: the names and behaviour of the real ones.

Each declares the real widget's properties, so that a .ui file or a panel that misspells one fails. Private
state lies in names with an underscore, as the public ones are Qt's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from . import answers, messages
from .pythonqt import PythonQtObject, PythonQtType


class Widget(PythonQtObject, QtWidgets.QWidget, metaclass=PythonQtType):
    _plain = QtWidgets.QWidget


def stored(kind: Any, default: Any, changed: Callable[[Any], None] | None = None) -> Any:
    """Return a Qt property that only keeps its value (and tells `changed`)."""
    key = f"_stored_{id(default)}_{len(_keys)}"
    _keys.append(key)

    def write(self: Any, value: Any) -> None:
        self.__dict__[key] = value
        if changed is not None:
            changed(self)

    return Property(kind, lambda self: self.__dict__.get(key, default), write)


_keys: list[str] = []


class ctkMessageBox(Widget):
    """Notes what it would show; the panel's modal questions are answered by the test."""

    _plain = None
    text = stored(str, "")
    windowTitle = stored(str, "")
    detailedText = stored(str, "")
    icon = stored("QVariant", None)
    standardButtons = stored("QVariant", QtWidgets.QMessageBox.StandardButton.Ok)

    def exec_(self) -> int:
        messages.append((self.text, self.detailedText))
        if answers:
            return answers.pop(0)
        for button in QtWidgets.QMessageBox.StandardButton:
            if button.value and button.value & int(
                getattr(self.standardButtons, "value", self.standardButtons)
            ):
                return button
        return QtWidgets.QMessageBox.StandardButton.Ok


class ctkCollapsibleButton(Widget):
    """A titled section whose content folds away."""

    contentsCollapsed = Signal(bool)

    def __init__(self, *arguments: Any) -> None:
        texts = [argument for argument in arguments if isinstance(argument, str)]
        super().__init__(*[argument for argument in arguments if not isinstance(argument, str)])
        self._header = QtWidgets.QToolButton(self)
        self._header.setToolButtonStyle(QtCore.Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._header.setAutoRaise(True)
        self._header.clicked.connect(lambda: self._fold(not self._folded))
        self._folded, self._text = False, ""
        height = self._header.sizeHint().height() + 4
        QtWidgets.QWidget.setContentsMargins(self, 0, height, 0, 0)
        self._title(texts[0] if texts else "")
        self._fold(False)

    def resizeEvent(self, event: Any) -> None:
        self._header.setGeometry(0, 0, QtWidgets.QWidget.width(self), self._header.sizeHint().height())
        QtWidgets.QWidget.resizeEvent(self, event)

    def _title(self, text: str) -> None:
        self._text = text
        self._header.setText(text)

    def _fold(self, folded: bool) -> None:
        changed, self._folded = folded != self._folded, folded
        arrows = QtCore.Qt.ArrowType
        self._header.setArrowType(arrows.RightArrow if folded else arrows.DownArrow)
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget) and child is not self._header:
                QtWidgets.QWidget.setVisible(child, not folded)
        limit = QtWidgets.QWidget.contentsMargins(self).top() if folded else 16777215
        QtWidgets.QWidget.setMaximumHeight(self, limit)
        if changed:
            object.__getattribute__(self, "contentsCollapsed").emit(folded)

    text = Property(str, lambda self: self._text, _title)
    collapsed = Property(bool, lambda self: self._folded, _fold)
    checked = Property(bool, lambda self: not self._folded, lambda self, value: self._fold(not value))


class ctkSliderWidget(Widget):
    """A slider beside a spin box, for real numbers; without tracking it speaks when it is let go."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self._spin = QtWidgets.QDoubleSpinBox()
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._slider, 1)
        row.addWidget(self._spin)
        self._known, self._low, self._high, self._step = 0.0, 0.0, 99.0, 1.0
        self._tracks, self._busy = True, False
        self._slider.valueChanged.connect(lambda tick: self._moved(self._low + tick * self._step))
        self._slider.sliderReleased.connect(lambda: self._settle(self._spin.value()))
        self._spin.valueChanged.connect(lambda value: None if self._busy else self._settle(value))
        self._scale()

    def _scale(self) -> None:
        self._busy = True
        self._spin.setRange(self._low, self._high)
        self._spin.setSingleStep(self._step)
        self._slider.setRange(0, max(round((self._high - self._low) / self._step), 0))
        self._busy = False
        self._settle(min(max(self._known, self._low), self._high))

    def _show(self, value: float) -> None:
        self._busy = True
        self._spin.setValue(value)
        self._slider.setValue(round((value - self._low) / self._step))
        self._busy = False

    def _moved(self, value: float) -> None:
        if self._busy:
            return
        self._show(value)
        object.__getattribute__(self, "valueIsChanging").emit(value)
        if self._tracks or not self._slider.isSliderDown():
            self._settle(value)

    def _settle(self, value: float) -> None:
        self._show(value)
        value = self._spin.value()
        if value != self._known:
            self._known = value
            object.__getattribute__(self, "valueChanged").emit(value)

    def _set(name: str) -> Callable[[Any, Any], None]:  # type: ignore[misc]
        def write(self: Any, value: Any) -> None:
            self.__dict__[name] = value
            self._scale()

        return write

    value = Property(float, lambda self: self._known, lambda self, value: self._settle(value))
    minimum = Property(float, lambda self: self._low, _set("_low"))
    maximum = Property(float, lambda self: self._high, _set("_high"))
    singleStep = Property(float, lambda self: self._step, _set("_step"))
    tracking = Property(bool, lambda self: self._tracks, lambda self, on: self.__dict__.update(_tracks=on))
    decimals = Property(int, lambda self: self._spin.decimals(), lambda self, n: self._spin.setDecimals(n))
    suffix = Property(str, lambda self: self._spin.suffix(), lambda self, text: self._spin.setSuffix(text))
    prefix = Property(str, lambda self: self._spin.prefix(), lambda self, text: self._spin.setPrefix(text))
    spinBoxVisible = Property(
        bool, lambda self: not self._spin.isHidden(), lambda s, v: s._spin.setVisible(v)
    )
    pageStep = stored(float, 10.0)
    del _set

    def setValue(self, value: float) -> None:
        self._settle(value)


class qMRMLWidget(Widget):
    """The root of a panel: hands the scene to the widgets inside."""

    _plain = None
    mrmlSceneChanged = Signal(object)
    _signatures = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        object.__getattribute__(self, "mrmlSceneChanged").emit(scene)

    def mrmlScene(self) -> Any:
        return self.__dict__.get("_scene")


class qMRMLNodeComboBox(Widget):
    """Offers the scene's nodes of some classes; follows what comes and goes."""

    currentNodeChanged = Signal(object)
    nodeAddedByUser = Signal(object)
    _valid = Signal(bool)
    _signatures = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": "_valid",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
    }

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._box = QtWidgets.QComboBox()
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._box)
        self._scene, self._nodes, self._current, self._tags = None, [], None, []
        self._box.activated.connect(self._chosen)

    def _refresh(self) -> None:
        if self._scene is None:
            return
        nodes = []
        for name in self.nodeTypes:
            for index in range(self._scene.GetNumberOfNodesByClass(name)):
                node = self._scene.GetNthNodeByClass(index, name)
                derived = node.GetClassName() not in self.nodeTypes
                hidden = node.GetHideFromEditors() and not self.showHidden
                if node not in nodes and not hidden and not (derived and not self.showChildNodeTypes):
                    nodes.append(node)
        self._nodes = nodes
        self._box.clear()
        if self.noneEnabled:
            self._box.addItem(self.noneDisplay or "None", None)
        for node in self._nodes:
            self._box.addItem(node.GetName(), node.GetID())
        if self.addEnabled:
            self._box.addItem(
                "Create new " + self.nodeTypes[0].removeprefix("vtkMRML").removesuffix("Node"), "+"
            )
        wanted = self._current if self._current in self._nodes else None
        self._become(wanted or (self._nodes[0] if self._nodes and not self.noneEnabled else None))

    def _become(self, node: Any) -> None:
        changed, self._current = node is not self._current, node
        self._box.setCurrentIndex(self._box.findData(node.GetID() if node else None))
        if changed:
            object.__getattribute__(self, "currentNodeChanged").emit(node)
            object.__getattribute__(self, "_valid").emit(node is not None)

    def _chosen(self, index: int) -> None:
        data = self._box.itemData(index)
        if data == "+":
            self.addNode()
        else:
            self._become(self._scene.GetNodeByID(data) if data else None)

    def setMRMLScene(self, scene: Any) -> None:
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._scene, events = scene, slicer.vtkMRMLScene
        heard = (
            events.NodeAddedEvent,
            events.NodeRemovedEvent,
            events.EndBatchProcessEvent,
            events.EndCloseEvent,
        )
        self._tags = (
            [scene.AddObserver(event, lambda *_: self._refresh()) for event in heard] if scene else []
        )
        self._refresh()

    def addNode(self) -> Any:
        node = self._scene.AddNewNodeByClass(
            self.nodeTypes[0], self._scene.GenerateUniqueName(self.baseName or "Volume")
        )
        if self.selectNodeUponCreation:
            self._become(node)
        object.__getattribute__(self, "nodeAddedByUser").emit(node)
        return node

    def mrmlScene(self) -> Any:
        return self._scene

    def currentNode(self) -> Any:
        return self._current

    def setCurrentNode(self, node: Any) -> None:
        if node is not None and not isinstance(node, vtk.vtkObject):
            raise TypeError("setCurrentNode takes a node; for an identifier there is setCurrentNodeID")
        self._refresh()
        self._become(node if node in self._nodes else None)

    def setCurrentNodeID(self, identifier: str) -> None:
        self.setCurrentNode(self._scene.GetNodeByID(identifier) if identifier else None)

    def nodeCount(self) -> int:
        return len(self._nodes)

    nodeTypes = stored("QStringList", [], _refresh)
    showChildNodeTypes = stored(bool, True, _refresh)
    showHidden = stored(bool, False, _refresh)
    noneEnabled = stored(bool, False, _refresh)
    noneDisplay = stored(str, "None", _refresh)
    addEnabled = stored(bool, True, _refresh)
    removeEnabled = stored(bool, True)
    editEnabled = stored(bool, False)
    renameEnabled = stored(bool, False)
    selectNodeUponCreation = stored(bool, True)
    baseName = stored(str, "")
    currentNodeID = Property(str, lambda s: s._current.GetID() if s._current else "", setCurrentNodeID)
