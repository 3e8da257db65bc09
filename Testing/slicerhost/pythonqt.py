"""The modules `qt` and `ctk` and the qMRML widgets that panels use, with PythonQt's semantics, on PySide6.

What PythonQt does differently, and what is mirrored here: Qt properties are attributes (`box.checked`, never
`box.checked()`); `widget.connect("clicked(bool)", slot)` and `widget.clicked.connect(slot)` hold the slot and
pass it no more arguments than it takes; calling a signal emits it; enumerators are members of their class
(`qt.Qt.Horizontal`). Each widget declares the real one's properties: a new attribute, an unknown signal or
property raises, in a .ui file too. Whatever PySide6 has and PythonQt has not (`Signal`, `Slot`, `Property`,
keyword arguments in constructors) is not offered. Private state lies in names with an underscore.
"""

from __future__ import annotations

import enum
import inspect
import os
import re
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets
from PySide6.QtCore import Property, Signal

# PySide6 looks at a slot's signature to see how many arguments it shall pass.
_TAKING = (
    lambda slot: lambda: slot(),
    lambda slot: lambda a: slot(a),
    lambda slot: lambda a, b: slot(a, b),
    lambda slot: lambda a, b, c: slot(a, b, c),
)


class PythonQtError(AttributeError):
    """The panel used something that the real application does not have."""


class BoundSignal:
    """A signal of one object: connect, disconnect, and a call emits it."""

    def __init__(self, owner: PythonQtObject, signal: Any, name: str, given: int) -> None:
        self._owner, self._signal, self._name, self._given = owner, signal, name, given

    def connect(self, slot: Callable[..., Any]) -> bool:
        # A function gets as many arguments as it has; another callable, a partial say, all of them.
        code = getattr(getattr(slot, "__func__", slot), "__code__", None)
        most = self._given
        if code is not None and not code.co_flags & inspect.CO_VARARGS:
            most = min(most, code.co_argcount - inspect.ismethod(slot))
        call = _TAKING[most](slot)
        self._signal.connect(call)
        self._owner._connections.append((self._name, slot, call))
        return True

    def disconnect(self, slot: Callable[..., Any]) -> bool:
        found = [entry for entry in self._owner._connections if entry[:2] == (self._name, slot)][:1]
        for entry in found:
            self._signal.disconnect(entry[2])
            self._owner._connections.remove(entry)
        return bool(found)

    def __call__(self, *arguments: Any) -> None:
        self._signal.emit(*arguments)


class PythonQtObject:
    """What every QObject gets in PythonQt: properties as attributes, signals by signature."""

    def __init__(self, *arguments: Any) -> None:  # no keywords
        super().__init__(*arguments)
        self.__dict__["_connections"] = []

    def _metaProperty(self, name: str) -> QtCore.QMetaProperty | None:
        meta = QtCore.QObject.metaObject(self)
        index = -1 if name.startswith("_") else meta.indexOfProperty("objectName" if name == "name" else name)
        return meta.property(index) if index >= 0 else None

    def __getattribute__(self, name: str) -> Any:
        # PySide6 has a connect of its own; Qt looks whether Python has overridden the hints of size.
        if name.startswith("_") or name in ("connect", "disconnect", "sizeHint", "minimumSizeHint"):
            return object.__getattribute__(self, name)
        found = self._metaProperty(name)
        value = super().__getattribute__(name) if found is None else found.read(self)
        if not isinstance(value, QtCore.SignalInstance):
            return value
        # The longest one: Qt splits a signal with default arguments into several.
        meta = QtCore.QObject.metaObject(self)
        methods = map(meta.method, range(meta.methodCount()))
        given = max(one.parameterCount() for one in methods if _text(one.name()) == name)
        return BoundSignal(self, value, name, given)

    def __setattr__(self, name: str, value: Any) -> None:
        found = self._metaProperty(name)
        if found is not None:
            value = list(value) if isinstance(value, tuple) else value
            if not found.isWritable() or not found.write(self, value):
                raise PythonQtError(f"{type(self).__name__}.{name} cannot be set to {value!r}")
        elif name.startswith("_"):
            super().__setattr__(name, value)
        elif not UiLoader.loading:  # PySide6 makes every child an attribute of the root; the application not
            raise PythonQtError(f"{type(self).__name__} has no property '{name}'")

    def _signal(self, signature: str) -> BoundSignal:
        normal = _text(QtCore.QMetaObject.normalizedSignature(_known(signature)))
        if QtCore.QObject.metaObject(self).indexOfSignal(normal) < 0:
            raise PythonQtError(f"{type(self).__name__} has no signal {signature}")
        name, _, given = normal.rstrip(")").partition("(")
        return BoundSignal(self, super().__getattribute__(name), name, given.count(",") + bool(given))

    def findChildren(self, kind: type, *name: str) -> list[Any]:
        """All of a class of Qt's, as far as they are the application's own: parts of Qt's widgets are not."""
        qts = next(one for one in kind.__mro__ if one.__module__.startswith("PySide6"))
        wanted = kind if kind.__module__ != "qt" else PythonQtObject
        found = QtCore.QObject.findChildren(self, qts, *name)
        return [each for each in found if isinstance(each, wanted)]

    def findChild(self, kind: type, *name: str) -> Any:
        return next(iter(PythonQtObject.findChildren(self, kind, *name)), None)

    def connect(self, signature: str, slot: Callable[..., Any]) -> bool:
        return self._signal(signature).connect(slot)

    def disconnect(self, signature: str, slot: Callable[..., Any]) -> bool:
        return self._signal(signature).disconnect(slot)


def _text(name: Any) -> str:
    return name if isinstance(name, str) else bytes(name.data()).decode()


def _known(text: str) -> str:
    """Return signatures as PySide6 knows them: a pointer to a VTK object is any object of Python."""
    return re.sub(r"vtk\w+ ?\*", "PyObject", text)


def answering(thing: Any, **answers: Any) -> None:
    """Give an object methods that do nothing but return these."""
    for name, answer in answers.items():
        thing.__dict__[name] = lambda answer=answer: answer


class ClosedModule(types.ModuleType):
    """A stand-in module that says what it lacks."""

    def __getattr__(self, name: str) -> Any:
        raise PythonQtError(f"the test host's '{self.__name__}' has no '{name}'")


class QtModule(ClosedModule):
    """`qt`: classes made when first asked for."""

    def __getattr__(self, name: str) -> Any:
        sources = (QtWidgets, QtGui, QtCore) if name.startswith("Q") else ()  # not Signal, Slot, Property
        found = next((kind for one in sources if isinstance(kind := getattr(one, name, None), type)), None)
        if found is None or isinstance(found, enum.EnumMeta) or name in ("QEnum", "QFlag"):
            super().__getattr__(name)
        if issubclass(found, QtCore.QObject):
            found = type(name, (PythonQtObject, found), {"__module__": "qt"})
        setattr(self, name, found)
        return found


class UiLoader(QtUiTools.QUiLoader):
    """`qt.QUiLoader`: raises for classes and properties that the application would not know."""

    loading = False

    def createWidget(self, className: str, parent: Any = None, name: str = "") -> QtWidgets.QWidget:
        found = (getattr(sys.modules[module], className, None) for module in ("ctk", "qt", "slicer"))
        known = next((one for one in found if one is not None), None)
        if known is None:
            self._unknown.add(className)
            return super().createWidget("QWidget", parent, name)
        widget = known(*([] if parent is None else [parent]))
        QtCore.QObject.setObjectName(widget, name)
        return widget

    def load(self, file: QtCore.QFile, parent: QtWidgets.QWidget | None = None) -> QtWidgets.QWidget:
        buffer = QtCore.QBuffer()
        buffer.setData(_known(bytes(file.readAll().data()).decode()).encode())
        self._unknown, UiLoader.loading = set(), True
        widget = super().load(buffer, parent)
        UiLoader.loading = False
        for child in (widget, *widget.findChildren(QtCore.QObject)) if widget is not None else ():
            for name in map(_text, child.dynamicPropertyNames()):
                if not name.startswith("_") and not name.endswith("Margin") and name != "SlicerParameterName":
                    self._unknown.add(f"{type(child).__name__}.{name}")
        if self._unknown or widget is None:
            raise PythonQtError(f"the .ui file names what the host does not know: {self._unknown}")
        return widget


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


class ctkCollapsibleButton(PythonQtObject, QtWidgets.QGroupBox):
    """A titled section whose content folds away; what was hidden by itself stays hidden when it unfolds."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._folded: list[QtWidgets.QWidget] = []
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Preferred)

    def _fold(self) -> None:
        children = [child for child in self.children() if isinstance(child, QtWidgets.QWidget)]
        if self.collapsed:
            self._folded += [child for child in children if not QtWidgets.QWidget.isHidden(child)]
        for child in self._folded:
            QtWidgets.QWidget.setVisible(child, not self.collapsed)
        if not self.collapsed:
            self._folded = []

    def showEvent(self, _event: Any) -> None:
        self._fold()  # its children came after the property was set

    text = Property(str, QtWidgets.QGroupBox.title, QtWidgets.QGroupBox.setTitle)
    collapsed = stored(bool, False, _fold)


class ctkSliderWidget(Widget):
    """A slider beside a spin box, for real numbers; here the spin box leads."""

    valueChanged = Signal(float)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._slider, self._spin = qt.QSlider(QtCore.Qt.Horizontal), qt.QDoubleSpinBox()
        self._fill(self._slider, self._spin)
        self._spin.valueChanged.connect(self._changed)

    def _changed(self, value: float) -> None:
        low, high = self._spin.minimum, self._spin.maximum
        self._slider.setValue(round(99 * (value - low) / max(high - low, 1e-9)))
        self.valueChanged(value)

    value = Property(float, lambda self: self._spin.value, lambda self, to: self._spin.setValue(to))
    minimum = Property(float, lambda self: self._spin.minimum, lambda self, to: self._spin.setMinimum(to))
    maximum = Property(float, lambda self: self._spin.maximum, lambda self, to: self._spin.setMaximum(to))
    decimals = Property(int, lambda self: self._spin.decimals, lambda self, to: self._spin.setDecimals(to))
    suffix = Property(str, lambda self: self._spin.suffix, lambda self, to: self._spin.setSuffix(to))
    singleStep, pageStep, tracking = stored(float, 1.0), stored(float, 10.0), stored(bool, True)


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
        self._box, self._scene, self._current = qt.QComboBox(), None, None
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


qt = sys.modules["qt"] = QtModule("qt")
qt.QUiLoader = UiLoader


class FolderDialog:
    """Qt's dialog for a folder, whose test's user types `chosen`: it keeps the folders on the way selected.

    Seen in Qt 5.15: with a path typed at once both the parent and the folder are selected, and
    `getExistingDirectory` returns the first of them. PythonQt returns the path of a file alone.
    """

    Directory, ShowDirsOnly = 2, 1
    chosen = ""

    def __init__(self, _parent: Any = None, _title: str = "", _start: str = "") -> None:
        self._directory = False

    def setFileMode(self, mode: int) -> None:
        self._directory = mode == self.Directory

    def setOption(self, option: int, on: bool = True) -> None:
        assert (option, on) == (self.ShowDirsOnly, True)

    def exec_(self) -> int:
        return int(bool(FolderDialog.chosen))

    def selectedFiles(self) -> tuple[str, ...]:
        assert self._directory, "without setFileMode(Directory) the dialog takes no folder"
        return (os.path.dirname(FolderDialog.chosen), FolderDialog.chosen)

    def deleteLater(self) -> None:
        pass

    @staticmethod
    def getExistingDirectory(*_: Any) -> str:
        return os.path.dirname(FolderDialog.chosen)

    @staticmethod
    def getOpenFileName(*_: Any) -> str:
        return FolderDialog.chosen

    getSaveFileName = getOpenFileName


qt.QFileDialog = FolderDialog
ctk = sys.modules["ctk"] = ClosedModule("ctk")
for _name, _value in list(globals().items()):
    if _name.startswith(("ctk", "qMRML")) and _name != "ctk":
        setattr(ctk if _name.startswith("ctk") else slicer, _name, _value)
