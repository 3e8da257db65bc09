"""Stand-ins for `slicer.ScriptedLoadableModule` and `slicer.parameterNodeWrapper`.

The parameter node is the real vtkMRMLScriptedModuleNode. Its fields may be int, float, str, bool, Path, Enum,
MRML nodes, `list` and `Optional` of such, with WithinRange and Choice; another type or widget raises, as the
real wrapper's checks do.
"""

from __future__ import annotations

import collections
import enum
import functools
import json
import math
import pathlib
import types
import typing
import unittest
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ctk
import qt
import slicer
import vtk

_UNIONS = (typing.Union, types.UnionType)


@dataclass
class WithinRange:
    minimum: float
    maximum: float

    def validate(self, value: Any) -> None:
        if value is None or not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


@dataclass
class Choice:
    choices: Any

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value is {value}, but must be in one of the following: {self.choices}")


class ObservedList(collections.UserList):
    """A list parameter: what is changed in it is written to the node."""

    def _saving(name: str) -> Callable[..., Any]:  # type: ignore[misc]
        def method(self: Any, *arguments: Any) -> Any:
            result = getattr(collections.UserList, name)(self, *arguments)
            self.save(self.data)
            return result

        return method

    append, extend, insert, remove = map(_saving, ("append", "extend", "insert", "remove"))
    pop, clear, __setitem__, __delitem__ = map(_saving, ("pop", "clear", "__setitem__", "__delitem__"))


class _Field:
    """One parameter: its type taken apart, how it is kept in the node, what it may be."""

    def __init__(self, hint: Any) -> None:
        self.kind, self.notes = hint, ()
        if typing.get_origin(hint) is typing.Annotated:
            self.kind, *self.notes = typing.get_args(hint)
        self.inner: tuple[Any, ...] = typing.get_args(self.kind)
        self.optional = typing.get_origin(self.kind) in _UNIONS and type(None) in self.inner
        self.isList = typing.get_origin(self.kind) is list
        if self.optional:
            self.kind = next(one for one in self.inner if one is not type(None))
        self.isEnum = isinstance(self.kind, type) and issubclass(self.kind, enum.Enum)
        self.isNode = isinstance(self.kind, type) and issubclass(self.kind, slicer.vtkMRMLNode)
        self.element = _Field(self.inner[0]) if self.isList else None
        plain = self.kind in (int, float, str, bool, pathlib.Path)
        if not (plain or self.isList or self.isEnum or self.isNode) or (self.optional and self.isNode):
            raise TypeError(f"Unable to create serializer for type: {hint}")

    def initial(self) -> Any:
        """Return what the parameter begins with when the class says nothing."""
        if self.optional or self.isNode:
            return None
        return next(iter(self.kind)) if self.isEnum else [] if self.isList else self.kind()

    def encoded(self, value: Any) -> Any:
        """Return the value for JSON; raises as the real wrapper does when it is not of this type."""
        for note in self.notes:
            note.validate(value)
        if self.optional and value is None:
            return None
        if self.element is not None:
            return [self.element.encoded(one) for one in value]
        if not isinstance(value, (int, float) if self.kind is float else self.kind):
            raise TypeError(f"Value must be of type '{self.kind}', is type '{type(value)}' value '{value}'")
        return value.name if self.isEnum else str(value) if self.kind is pathlib.Path else value

    def decoded(self, data: Any) -> Any:
        if self.optional and data is None:
            return None
        if self.element is not None:
            return ObservedList([self.element.decoded(one) for one in data])
        return self.kind[data] if self.isEnum else self.kind(data)

    def connector(self, widget: Any) -> tuple[str, Callable[[], Any], Callable[[Any], None]]:
        """Return signal, reader and writer for a widget; RuntimeError where the real wrapper has none."""
        kind, notes = self.kind, {type(note): note for note in self.notes}
        if type(widget) is slicer.qMRMLNodeComboBox and self.isNode:
            widget.nodeTypes = [kind().GetClassName()]
            return "currentNodeChanged", widget.currentNode, widget.setCurrentNode
        if type(widget) is qt.QComboBox and (self.isEnum or Choice in notes):
            options = list(kind) if self.isEnum else list(notes[Choice].choices)
            widget.clear()
            for option in options:
                name = option.name if self.isEnum else str(option)
                widget.addItem(kind.label(option) if hasattr(kind, "label") else name)
            choose = lambda value: setattr(widget, "currentIndex", options.index(value))  # noqa: E731
            return "currentIndexChanged", lambda: options[widget.currentIndex], choose
        if (type(widget), kind) not in _CONNECTED or self.optional:
            raise RuntimeError(f"Unable to create GUI connector from datatype '{kind}' to {type(widget)}")
        name, signal = _CONNECTED[type(widget), kind]
        if kind in (int, float):
            limits = notes.get(WithinRange, WithinRange(-math.inf, math.inf))
            if type(widget) in (qt.QSlider, ctk.ctkSliderWidget) and math.isinf(limits.maximum):
                raise RuntimeError("Cannot have a connection to a slider where the type is unbounded.")
            widget.minimum = kind(max(limits.minimum, -(2**31)))
            widget.maximum = kind(min(limits.maximum, 2**31 - 1))
        put = lambda value: setattr(widget, name, str(value) if kind is pathlib.Path else value)  # noqa: E731
        return signal, lambda: kind(getattr(widget, name)), put


# What the real wrapper connects to what: the widget's property and its signal.
_CONNECTED: dict[tuple[Any, type], tuple[str, str]] = {
    (qt.QCheckBox, bool): ("checked", "stateChanged"),
    (qt.QPushButton, bool): ("checked", "toggled"),
    (qt.QLineEdit, str): ("text", "textChanged"),
    (ctk.ctkPathLineEdit, pathlib.Path): ("currentPath", "currentPathChanged"),
    (qt.QSpinBox, int): ("value", "valueChanged"),
    (qt.QSlider, int): ("value", "valueChanged"),
    (qt.QDoubleSpinBox, int): ("value", "valueChanged"),
    (qt.QDoubleSpinBox, float): ("value", "valueChanged"),
    (ctk.ctkSliderWidget, int): ("value", "valueChanged"),
    (ctk.ctkSliderWidget, float): ("value", "valueChanged"),
}


class _Wrapper:
    """What `@parameterNodeWrapper` gives a class; its attributes live in the parameter node."""

    def __init__(self, parameterNode: Any) -> None:
        self.__dict__.update(parameterNode=parameterNode, _guis={}, _updating=False)
        for name, (_field, default) in self.allParameters.items():
            if not parameterNode.HasParameter(name):
                self.setValue(name, default)

    def getValue(self, name: str) -> Any:
        if self.allParameters[name][0].isNode:
            return self.parameterNode.GetNodeReference(name)
        value = self.allParameters[name][0].decoded(json.loads(self.parameterNode.GetParameter(name)))
        if isinstance(value, ObservedList):
            value.save = functools.partial(self.setValue, name)
        return value

    def setValue(self, name: str, value: Any) -> None:
        field, node = self.allParameters[name][0], self.parameterNode
        if not field.isNode:
            node.SetParameter(name, json.dumps(field.encoded(value)))
            return
        with slicer.util.NodeModify(node):
            identifier = None if value is None else field.encoded(value).GetID()
            node.SetParameter(name, "")
            node.SetNodeReferenceID(name, identifier)

    def __setattr__(self, name: str, value: Any) -> None:
        self.setValue(name, value) if name in self.allParameters else object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name in ("StartModify", "EndModify", "AddObserver", "RemoveObserver", "Modified"):
            return getattr(self.parameterNode, name)
        if name not in type(self).allParameters:
            raise AttributeError(f"Cannot find a param with the given name: {name}")
        return self.getValue(name)

    def connectGui(self, gui: Any) -> int:
        """Connect every widget of `slicer.util.childWidgetVariables` that carries SlicerParameterName."""
        named = [(widget.property("SlicerParameterName"), widget) for widget in vars(gui).values()]
        return self.connectParametersToGui({name: widget for name, widget in named if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        made = {name: self.allParameters[name][0].connector(widget) for name, widget in mapping.items()}
        heard = []
        for name, (signal, read, write) in made.items():
            write(self.getValue(name))

            def slot(*_: Any, name: str = name, read: Callable[[], Any] = read) -> None:
                if not self._updating:
                    self.setValue(name, read())

            getattr(mapping[name], signal).connect(slot)
            heard.append((getattr(mapping[name], signal), slot))

        def update(*_: Any) -> None:
            if self._updating:
                return
            self.__dict__["_updating"] = True
            try:
                for name, (_signal, _read, write) in made.items():
                    write(self.getValue(name))
            finally:
                self.__dict__["_updating"] = False

        tag = self.AddObserver(vtk.vtkCommand.ModifiedEvent, update)
        self._guis[tag] = heard
        return tag

    def disconnectGui(self, tag: int) -> None:
        self.RemoveObserver(tag)
        for signal, slot in self._guis.pop(tag, ()):
            signal.disconnect(slot)


def parameterNodeWrapper(cls: type) -> type:
    """Turn a class of typed fields into a wrapper around a parameter node."""
    fields = {name: _Field(hint) for name, hint in typing.get_type_hints(cls, include_extras=True).items()}
    parameters = {name: (field, vars(cls).get(name, field.initial())) for name, field in fields.items()}
    kept = {key: value for key, value in vars(cls).items() if key not in {"__dict__", "__weakref__", *fields}}
    return type(cls.__name__, (_Wrapper,), {**kept, "allParameters": parameters})


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent, self.moduleName = parent, type(self).__name__
        icon = pathlib.Path(parent.path).parent / "Resources" / "Icons" / f"{self.moduleName}.png"
        parent.icon = qt.QIcon(str(icon)) if icon.is_file() else None


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.parent, self.layout = parent, parent.layout()

    def resourcePath(self, filename: str) -> str:
        return str(pathlib.Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def setup(self) -> None:
        """Nothing without the developer mode."""


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    def runTest(self) -> None:
        """For the module's own test to fill."""
