"""The module `qt` with PythonQt's semantics, on PySide6.

What PythonQt does differently, and what is mirrored here: Qt properties are attributes (`box.checked`, never
`box.checked()`); `widget.connect("clicked(bool)", slot)` and `widget.clicked.connect(slot)` hold the slot and
pass it no more arguments than it takes; calling a signal emits it; enumerators are members of their class
(`qt.Qt.Horizontal`); a new attribute on a widget, an unknown signal or property raises. Whatever PySide6 has
and PythonQt has not (`Signal`, `Slot`, `Property`, keyword arguments in constructors) is not offered.
"""

from __future__ import annotations

import enum
import inspect
import re
import sys
import types
from collections.abc import Callable
from typing import Any

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

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
        for entry in self._owner._connections:
            if entry[:2] == (self._name, slot):
                self._signal.disconnect(entry[2])
                self._owner._connections.remove(entry)
                return True
        return False

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
        methods = [meta.method(index) for index in range(meta.methodCount())]
        return BoundSignal(
            self, value, name, max(one.parameterCount() for one in methods if _text(one.name()) == name)
        )

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


def derived(plain: type) -> type:
    """Return the class of `qt` for a class of PySide6."""
    return type(plain.__name__, (PythonQtObject, plain), {"__module__": "qt"})


class ClosedModule(types.ModuleType):
    """A stand-in module that says what it lacks."""

    def __getattr__(self, name: str) -> Any:
        raise PythonQtError(f"the test host's '{self.__name__}' has no '{name}'")


class QtModule(ClosedModule):
    """`qt`: classes made when first asked for."""

    def __getattr__(self, name: str) -> Any:
        sources = (QtWidgets, QtGui, QtCore) if name.startswith("Q") else ()  # not Signal, Slot, Property
        plain = next((found for one in sources if isinstance(found := getattr(one, name, None), type)), None)
        if plain is None or isinstance(plain, enum.EnumMeta) or name in ("QEnum", "QFlag"):
            super().__getattr__(name)
        setattr(self, name, derived(plain) if issubclass(plain, QtCore.QObject) else plain)
        return vars(self)[name]


class FileDialog:
    """`qt.QFileDialog`: the path that the test's user chose; PythonQt returns it alone."""

    chosen = ""
    getOpenFileName = getSaveFileName = getExistingDirectory = staticmethod(lambda *_: FileDialog.chosen)


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


qt = sys.modules["qt"] = QtModule("qt")
qt.QUiLoader, qt.QFileDialog = UiLoader, FileDialog
