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
import sys
import types
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets


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
        # PySide6 looks at the signature to see how many arguments it shall pass.
        call = (lambda: slot(), lambda a: slot(a), lambda a, b: slot(a, b), lambda a, b, c: slot(a, b, c))[
            most
        ]
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


class PythonQtType(type(QtCore.QObject)):  # type: ignore[misc]
    """Classes of `qt`: an object made by Qt itself counts as an instance too."""

    def __instancecheck__(cls, instance: object) -> bool:
        plain = vars(cls).get("_plain")
        return isinstance(instance, plain) if plain else super().__instancecheck__(instance)


class PythonQtObject:
    """What every QObject gets in PythonQt: properties as attributes, signals by signature."""

    # signature in the application -> name of the Python signal that stands for it here
    _signatures: dict[str, str] = {}

    def __init__(self, *arguments: Any) -> None:  # no keywords
        super().__init__(*arguments)
        self.__dict__["_connections"] = []

    def _metaProperty(self, name: str) -> QtCore.QMetaProperty | None:
        meta = QtCore.QObject.metaObject(self)
        index = -1 if name.startswith("_") else meta.indexOfProperty("objectName" if name == "name" else name)
        return meta.property(index) if index >= 0 else None

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name in ("connect", "disconnect", "className"):
            return object.__getattribute__(self, name)  # PySide6 would give its own connect
        found = self._metaProperty(name)
        value = super().__getattribute__(name) if found is None else found.read(self)
        if not isinstance(value, QtCore.SignalInstance):
            return value
        # The longest one: Qt splits a signal with default arguments into several.
        meta = QtCore.QObject.metaObject(self)
        methods = [meta.method(index) for index in range(meta.methodCount())]
        longest = max(one.parameterCount() for one in methods if _text(one.name()) == name)
        return BoundSignal(self, value, name, longest)

    def __setattr__(self, name: str, value: Any) -> None:
        found = self._metaProperty(name)
        if found is not None:
            value = list(value) if isinstance(value, tuple) else value
            if not found.isWritable() or not found.write(self, value):
                raise PythonQtError(f"{type(self).__name__}.{name} cannot be set to {value!r}")
        elif name.startswith("_") or "_plain" not in vars(type(self)):
            super().__setattr__(name, value)  # a Python class derived from a Qt class may carry its own
        elif not UiLoader.loading:  # PySide6 makes every child an attribute of the root; the application not
            raise PythonQtError(f"{type(self).__name__} has no property '{name}'")

    def _signal(self, signature: str) -> BoundSignal:
        normal = _text(QtCore.QMetaObject.normalizedSignature(signature))
        name, _, given = normal.rstrip(")").partition("(")
        known = self._signatures.get(normal)
        if known is None:
            if QtCore.QObject.metaObject(self).indexOfSignal(normal) < 0 or name in self._signatures.values():
                raise PythonQtError(f"{type(self).__name__} has no signal {signature}")
            known = name
        return BoundSignal(
            self, super().__getattribute__(known), known, len(given.split(",")) if given else 0
        )

    def connect(self, signature: str, slot: Callable[..., Any]) -> bool:
        return self._signal(signature).connect(slot)

    def disconnect(self, signature: str, slot: Callable[..., Any]) -> bool:
        return self._signal(signature).disconnect(slot)

    def className(self) -> str:
        return type(self).__name__


def _text(name: Any) -> str:
    return name if isinstance(name, str) else bytes(name.data()).decode()


def answering(thing: Any, **answers: Any) -> None:
    """Give an object methods that do nothing but return these."""
    for name, answer in answers.items():
        thing.__dict__[name] = lambda answer=answer: answer


def derived(plain: type) -> type:
    """Return the class of `qt` for a class of PySide6."""
    return PythonQtType(plain.__name__, (PythonQtObject, plain), {"_plain": plain, "__module__": "qt"})


class QtModule(types.ModuleType):
    """`qt`: classes made when first asked for; what the application lacks raises."""

    def __getattr__(self, name: str) -> Any:
        if name in ("QUiLoader", "QFileDialog"):
            return UiLoader if name == "QUiLoader" else FileDialog
        for source in (
            (QtWidgets, QtGui, QtCore) if name.startswith("Q") else ()
        ):  # not Signal, Slot, Property
            plain = getattr(source, name, None)
            if plain is not None and not isinstance(plain, enum.EnumMeta) and name not in ("QEnum", "QFlag"):
                isObject = isinstance(plain, type) and issubclass(plain, QtCore.QObject)
                setattr(self, name, derived(plain) if isObject else plain)
                return vars(self)[name]
        raise PythonQtError(f"the real qt module has no '{name}'")


class FileDialog:
    """`qt.QFileDialog`: the path that the test's user chose; PythonQt returns it alone."""

    chosen = ""
    getOpenFileName = getSaveFileName = getExistingDirectory = staticmethod(lambda *_: FileDialog.chosen)


class ClosedModule(types.ModuleType):
    """A stand-in module that says what it lacks."""

    def __getattr__(self, name: str) -> Any:
        raise PythonQtError(f"{self.__name__}.{name} is not among what the test host stands in for")


class UiLoader(QtUiTools.QUiLoader):
    """`qt.QUiLoader`: raises for classes and properties that the application would not know."""

    loading = False

    def createWidget(self, className: str, parent: Any = None, name: str = "") -> QtWidgets.QWidget:
        found = (getattr(sys.modules[module], className, None) for module in ("ctk", "qt", "slicer"))
        known = next((one for one in found if one is not None), None)
        if known is None and className != "Line":
            self._unknown.add(className)
        if known is None:
            return super().createWidget("Line" if className == "Line" else "QWidget", parent, name)
        widget = known(parent) if parent is not None else known()
        QtCore.QObject.setObjectName(widget, name)
        return widget

    def load(self, file: QtCore.QFile, parent: QtWidgets.QWidget | None = None) -> QtWidgets.QWidget:
        root, buffer, self._unknown = (
            ElementTree.fromstring(bytes(file.readAll().data())),
            QtCore.QBuffer(),
            set(),
        )
        # They carry pointers that PySide6 does not know (vtkMRMLScene*), and are made below.
        connections = root.findall("connections/connection")
        root.remove(root.find("connections"))
        buffer.setData(ElementTree.tostring(root))
        UiLoader.loading = True
        widget = super().load(buffer, parent)
        UiLoader.loading = False
        if self._unknown or widget is None:
            raise PythonQtError(f"the .ui file names classes the host does not know: {self._unknown}")
        named = {
            QtCore.QObject.objectName(one): one for one in [widget, *widget.findChildren(QtCore.QObject)]
        }
        dynamic = {item.get("name") for item in root.iter("property") if item.get("stdset") == "0"}
        for child in named.values():
            names = {_text(key) for key in child.dynamicPropertyNames()} - dynamic
            if any(not name.startswith("_") and not name.endswith("Margin") for name in names):
                raise PythonQtError(f"{type(child).__name__} has no property {names} (in the .ui file)")
        for one in connections:
            sender, signal, receiver, slot = (
                one.findtext(key) for key in ("sender", "signal", "receiver", "slot")
            )
            named[sender].connect(signal, getattr(named[receiver], slot.partition("(")[0]))
        return widget
