"""The modules `qt` and `ctk` with PythonQt's semantics, on PySide6.

What PythonQt does differently, and what is mirrored here: Qt properties are attributes (`box.checked`, never
`box.checked()`); `widget.connect("clicked(bool)", slot)` and `widget.clicked.connect(slot)` hold the slot and
pass it no more arguments than it takes; calling a signal emits it; enumerators are members of their class
(`qt.Qt.Horizontal`); a new attribute on a widget, an unknown signal or property raises. Whatever PySide6 has
and PythonQt has not (`Signal`, `Slot`, `Property`, keyword arguments in constructors) is not offered.
"""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

_PYSIDE_ONLY = {"Signal", "Slot", "Property", "QEnum", "QFlag", "ClassInfo", "SIGNAL", "SLOT"}


class PythonQtError(AttributeError):
    """The panel used something that the real application does not have."""


def trimmed(slot: Callable[..., Any], given: int) -> Callable[..., Any]:
    """Return `slot` as PythonQt calls it for a signal of `given` arguments: with as many as it can take."""
    try:
        kinds = [parameter.kind for parameter in inspect.signature(slot).parameters.values()]
    except (TypeError, ValueError):
        kinds = [inspect.Parameter.VAR_POSITIONAL]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    most = None if inspect.Parameter.VAR_POSITIONAL in kinds else sum(kind in positional for kind in kinds)

    def call(*arguments: Any) -> Any:
        return slot(*arguments[:most])

    # PySide6 looks at the signature to see how many arguments it shall pass.
    return (lambda: call(), lambda a: call(a), lambda a, b: call(a, b), lambda a, b, c: call(a, b, c))[given]


class BoundSignal:
    """A signal of one object: connect, disconnect, and a call emits it."""

    def __init__(self, owner: PythonQtObject, signal: Any, name: str) -> None:
        self._owner, self._signal, self._name = owner, signal, name
        # The longest one: Qt splits a signal with default arguments into several.
        meta, plain = QtCore.QObject.metaObject(owner), name.partition("(")[0]
        methods = [meta.method(index) for index in range(meta.methodCount())]
        named = [one for one in methods if bytes(one.name().data()).decode() == plain]
        exact = [one for one in named if bytes(one.methodSignature().data()).decode() == name]
        self._given = max((one.parameterCount() for one in exact or named), default=1)

    def connect(self, slot: Callable[..., Any]) -> bool:
        call = trimmed(slot, self._given)
        self._signal.connect(call)
        self._owner._connections.append((self._name, slot, self._signal, call))
        return True

    def disconnect(self, slot: Callable[..., Any]) -> bool:
        for entry in self._owner._connections:
            if entry[0] == self._name and entry[1] == slot:
                entry[2].disconnect(entry[3])
                self._owner._connections.remove(entry)
                return True
        return False

    def __call__(self, *arguments: Any) -> None:
        self._signal.emit(*arguments)


class PythonQtType(type(QtCore.QObject)):  # type: ignore[misc]
    """Classes of `qt`: an object made by Qt itself counts as an instance too."""

    def __instancecheck__(cls, instance: object) -> bool:
        plain = cls.__dict__.get("_plain")
        return isinstance(instance, plain) if plain else super().__instancecheck__(instance)


class PythonQtObject:
    """What every QObject gets in PythonQt: properties as attributes, signals by signature."""

    # signature in the application -> name of the Python signal that stands for it here
    _signatures: dict[str, str] = {}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)

    @property
    def _connections(self) -> list[tuple[Any, ...]]:
        return self.__dict__.setdefault("_slots", [])

    def _metaProperty(self, name: str) -> QtCore.QMetaProperty | None:
        meta = QtCore.QObject.metaObject(self)
        index = meta.indexOfProperty("objectName" if name == "name" else name)
        return meta.property(index) if index >= 0 else None

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name in ("connect", "disconnect", "className"):
            return object.__getattribute__(self, name)  # PySide6 would give its own connect
        found = self._metaProperty(name)
        if found is not None:
            return found.read(self)
        if name.encode() in [bytes(key.data()) for key in QtCore.QObject.dynamicPropertyNames(self)]:
            return QtCore.QObject.property(self, name)
        value = super().__getattribute__(name)
        return BoundSignal(self, value, name) if isinstance(value, QtCore.SignalInstance) else value

    def __setattr__(self, name: str, value: Any) -> None:
        found = None if name.startswith("_") else self._metaProperty(name)
        if found is not None:
            if not found.isWritable() or not found.write(self, value):
                raise PythonQtError(f"{type(self).__name__}.{name} cannot be set to {value!r}")
        elif name.startswith("_") or "_plain" not in type(self).__dict__:
            super().__setattr__(name, value)  # a Python class derived from a Qt class may carry its own
        elif not UiLoader.loading:  # PySide6 makes every child an attribute of the root; the application not
            raise PythonQtError(f"{type(self).__name__} has no property '{name}'")

    def _signal(self, signature: str) -> BoundSignal:
        name, _, _ = signature.partition("(")
        known = self._signatures.get(signature.replace(" ", ""))
        if known is not None:
            return BoundSignal(self, super().__getattribute__(known), known)
        meta = QtCore.QObject.metaObject(self)
        normal = QtCore.QMetaObject.normalizedSignature(signature)
        normal = normal if isinstance(normal, str) else bytes(normal.data()).decode()
        if meta.indexOfSignal(normal) < 0 or name in self._signatures.values():
            raise PythonQtError(f"{type(self).__name__} has no signal {signature}")
        signal = super().__getattribute__(name)
        return BoundSignal(self, signal, normal)

    def connect(self, signature: str, slot: Callable[..., Any]) -> bool:
        return self._signal(signature).connect(slot)

    def disconnect(self, signature: str, slot: Callable[..., Any]) -> bool:
        return self._signal(signature).disconnect(slot)

    def className(self) -> str:
        return type(self).__name__


def derived(plain: type) -> type:
    """Return the class of `qt` for a class of PySide6."""
    return PythonQtType(plain.__name__, (PythonQtObject, plain), {"_plain": plain, "__module__": "qt"})


class QtModule(types.ModuleType):
    """`qt`: classes made when first asked for; what the application lacks raises."""

    def __getattr__(self, name: str) -> Any:
        if name in _PYSIDE_ONLY or not name.startswith("Q"):
            raise PythonQtError(f"the real qt module has no '{name}'")
        if name == "QUiLoader":
            return UiLoader
        if name == "QFileDialog":
            return FileDialog
        for source in (QtWidgets, QtGui, QtCore):
            plain = getattr(source, name, None)
            if plain is None:
                continue
            if isinstance(plain, type) and issubclass(plain, QtCore.QObject):
                plain = derived(plain)
            elif isinstance(plain, enum.EnumMeta):
                break
            setattr(self, name, plain)
            return plain
        raise PythonQtError(f"the real qt module has no '{name}'")


class FileDialog:
    """`qt.QFileDialog`: the file that the test's user chose; PythonQt returns the path alone."""

    chosen = ""

    @staticmethod
    def getOpenFileName(*_arguments: Any) -> str:
        return FileDialog.chosen


class ClosedModule(types.ModuleType):
    """A stand-in module that says what it lacks."""

    def __getattr__(self, name: str) -> Any:
        raise PythonQtError(f"{self.__name__}.{name} is not among what the test host stands in for")


class _Loader(QtUiTools.QUiLoader):
    """Loads .ui files with the stand-in classes; notes what no stand-in exists for."""

    def __init__(self, classes: Callable[[str], type | None]) -> None:
        super().__init__()
        self.classes, self.unknown, self.kept = classes, [], []

    def createWidget(self, className: str, parent: Any = None, name: str = "") -> QtWidgets.QWidget:
        try:
            return self._made(className, parent, name)
        except Exception as error:  # Qt would go on without the widget
            self.unknown.append(f"{className} ({error})")
            raise

    def _made(self, className: str, parent: Any, name: str) -> QtWidgets.QWidget:
        known = self.classes(className)
        if known is None:
            if className != "Line":
                self.unknown.append(className)
            return super().createWidget(className if className == "Line" else "QWidget", parent, name)
        widget = known(parent) if parent is not None else known()
        QtCore.QObject.setObjectName(widget, name)
        return widget

    def createLayout(self, className: str, parent: Any = None, name: str = "") -> QtWidgets.QLayout:
        known = self.classes(className)
        layout = known(parent) if isinstance(parent, QtWidgets.QWidget) and not parent.layout() else known()
        QtCore.QObject.setObjectName(layout, name)
        self.kept.append(layout)
        return layout


class UiLoader:
    """`qt.QUiLoader`: raises for classes and properties that the application would not know.

    Connections between stand-ins (`mrmlSceneChanged(vtkMRMLScene*)` to `setMRMLScene(vtkMRMLScene*)`) carry
    pointers that PySide6 does not know; they are made here from the file's connections.
    """

    loading = False

    def load(self, file: QtCore.QFile, parent: QtWidgets.QWidget | None = None) -> QtWidgets.QWidget:
        root = ElementTree.fromstring(bytes(file.readAll().data()))
        connections = root.find("connections")
        if connections is not None:
            root.remove(connections)
        loader = _Loader(known_class)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        UiLoader.loading = True
        widget = loader.load(buffer, parent)
        UiLoader.loading = False
        if loader.unknown:
            raise PythonQtError(f"the .ui file names classes the host does not know: {set(loader.unknown)}")
        everything = {
            QtCore.QObject.objectName(child): child for child in widget.findChildren(QtCore.QObject)
        }
        everything[QtCore.QObject.objectName(widget)] = widget
        dynamic = {item.get("name") for item in root.iter("property") if item.get("stdset") == "0"}
        for child in everything.values():
            for key in child.dynamicPropertyNames():
                name = bytes(key.data()).decode()
                if name not in dynamic and not name.startswith("_"):
                    raise PythonQtError(f"{type(child).__name__} has no property '{name}' (in the .ui file)")
        for one in connections if connections is not None else ():
            sender, signal, receiver, slot = (
                one.findtext(key) for key in ("sender", "signal", "receiver", "slot")
            )
            everything[sender].connect(signal, getattr(everything[receiver], slot.partition("(")[0]))
        widget._kept = loader.kept
        return widget


def known_class(name: str) -> type | None:
    """Return the class that a .ui file's class name stands for, or None."""
    import ctk
    import qt
    import slicer

    for module in (ctk, qt, slicer):
        try:
            return getattr(module, name)
        except AttributeError:
            continue
    return None
