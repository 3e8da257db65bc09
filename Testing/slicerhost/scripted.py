"""Stand-ins for `slicer.ScriptedLoadableModule`, `slicer.parameterNodeWrapper` and `slicer.i18n`.

The parameter node is the real vtkMRMLScriptedModuleNode. A field may be a MRML node, bool, int, float, str
or Enum, with WithinRange or Choice; another type or widget raises, as the real wrapper's checks do.
"""

from __future__ import annotations

import collections
import enum
import functools
import math
import sys
import typing
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
import vtk

from .pythonqt import ctk, qt

# What the real wrapper connects to what: the widget's property, its signal, the types it stands for.
_CONNECTED: dict[Any, tuple[str, str, tuple[type, ...]]] = {
    qt.QCheckBox: ("checked", "stateChanged", (bool,)),
    qt.QLineEdit: ("text", "textChanged", (str,)),
    qt.QSpinBox: ("value", "valueChanged", (int,)),
    qt.QDoubleSpinBox: ("value", "valueChanged", (int, float)),
    ctk.ctkSliderWidget: ("value", "valueChanged", (int, float)),
}


WithinRange = collections.namedtuple("WithinRange", "minimum maximum")
Choice = collections.namedtuple("Choice", "choices")


class _Field:
    """One parameter: its type taken apart, what it may be, how it is kept in the node."""

    def __init__(self, hint: Any, default: Any) -> None:
        self.kind, *self.notes = typing.get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
        kind = self.kind if isinstance(self.kind, type) else object  # a list[int], say
        self.isEnum, self.isNode = issubclass(kind, enum.Enum), issubclass(kind, slicer.vtkMRMLNode)
        if not (self.isEnum or self.isNode or self.kind in (bool, int, float, str)):
            raise TypeError(f"Unable to create serializer for type: {hint}")
        if default is None and not self.isNode:
            default = next(iter(self.kind)) if self.isEnum else self.kind()
        self.default = default

    def write(self, node: Any, name: str, value: Any) -> None:
        """Put the value into the node; raises as the real wrapper does when it is not of this type."""
        for note in self.notes:
            if not (value in note[0] if isinstance(note, Choice) else note[0] <= value <= note[1]):
                raise ValueError(f"Value is {value}, but must be in {note}")
        allowed = (int, float) if self.kind is float else self.kind
        if not isinstance(value, allowed) and not (self.isNode and value is None):
            raise TypeError(f"Value must be of type '{self.kind}', is type '{type(value)}' value '{value}'")
        if self.isNode:
            node.SetNodeReferenceID(name, None if value is None else value.GetID())
        else:
            node.SetParameter(name, value.name if self.isEnum else str(value))  # as Slicer's scenes have it

    def read(self, node: Any, name: str) -> Any:
        if self.isNode:
            return node.GetNodeReference(name)
        text = node.GetParameter(name)
        if self.kind is bool:
            return text == "True"
        return self.kind[text] if self.isEnum else self.kind(text)

    def connector(self, widget: Any) -> tuple[Any, Callable[[], Any], Callable[[Any], None]]:
        """Return signal, reader and writer for a widget; RuntimeError where the real wrapper has none."""
        kind, notes = self.kind, {type(note): note for note in self.notes}
        if type(widget) is slicer.qMRMLNodeComboBox and self.isNode:
            widget.nodeTypes = [kind().GetClassName()]
            return widget.currentNodeChanged, widget.currentNode, widget.setCurrentNode
        if type(widget) is qt.QComboBox and (self.isEnum or Choice in notes):
            options = list(kind) if self.isEnum else list(notes[Choice].choices)
            widget.clear()
            for option in options:
                name = option.name if self.isEnum else str(option)
                widget.addItem(option.label() if hasattr(kind, "label") else name)
            show = lambda value: setattr(widget, "currentIndex", options.index(value))  # noqa: E731
            return widget.currentIndexChanged, lambda: options[widget.currentIndex], show
        name, signal, kinds = _CONNECTED.get(type(widget), ("", "", ()))
        if kind not in kinds:
            raise RuntimeError(f"Unable to create GUI connector from datatype '{kind}' to {type(widget)}")
        if name == "value":
            limits = notes.get(WithinRange, WithinRange(-math.inf, math.inf))
            if type(widget) is ctk.ctkSliderWidget and math.isinf(limits.maximum):
                raise RuntimeError("Cannot have a connection to a slider where the type is unbounded.")
            widget.minimum = kind(max(limits.minimum, -(2**31)))
            widget.maximum = kind(min(limits.maximum, 2**31 - 1))
        show = functools.partial(setattr, widget, name)
        return getattr(widget, signal), lambda: kind(getattr(widget, name)), show


class _Wrapper:
    """What `@parameterNodeWrapper` gives a class; its attributes live in the parameter node."""

    def __init__(self, parameterNode: Any) -> None:
        self.__dict__.update(parameterNode=parameterNode, _guis={}, _showing=False)
        for name, field in self.fields.items():
            if not field.isNode and not parameterNode.HasParameter(name):
                field.write(parameterNode, name, field.default)

    def __setattr__(self, name: str, value: Any) -> None:
        self.fields[name].write(self.parameterNode, name, value)

    def __getattr__(self, name: str) -> Any:
        if name in ("AddObserver", "RemoveObserver"):
            return getattr(self.parameterNode, name)
        if name not in type(self).fields:
            raise AttributeError(f"Cannot find a param with the given name: {name}")
        return self.fields[name].read(self.parameterNode, name)

    def connectGui(self, gui: Any) -> int:
        """Connect every widget of `slicer.util.childWidgetVariables` that carries SlicerParameterName."""
        named = [(widget.property("SlicerParameterName"), widget) for widget in vars(gui).values()]
        return self.connectParametersToGui({name: widget for name, widget in named if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        heard, writers = [], {}
        for name, widget in mapping.items():
            signal, read, writers[name] = self.fields[name].connector(widget)
            writers[name](getattr(self, name))

            def slot(*_: Any, name: str = name, read: Callable[[], Any] = read) -> None:
                if not self._showing:
                    setattr(self, name, read())

            signal.connect(slot)
            heard.append((signal, slot))

        def show(*_: Any) -> None:
            if not self._showing:
                self.__dict__["_showing"] = True
                for name, write in writers.items():
                    write(getattr(self, name))
                self.__dict__["_showing"] = False

        tag = self.AddObserver(vtk.vtkCommand.ModifiedEvent, show)
        self._guis[tag] = heard
        return tag

    def disconnectGui(self, tag: int) -> None:
        self.RemoveObserver(tag)
        for signal, slot in self._guis.pop(tag, ()):
            signal.disconnect(slot)


def parameterNodeWrapper(cls: type) -> type:
    """Turn a class of typed fields into a wrapper around a parameter node."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {name: _Field(hint, vars(cls).get(name)) for name, hint in hints.items()}
    return type(cls.__name__, (_Wrapper,), {"__doc__": cls.__doc__, "fields": fields})


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent, self.moduleName = parent, type(self).__name__
        icon = Path(parent.path).parent / "Resources" / "Icons" / f"{self.moduleName}.png"
        parent.icon = qt.QIcon(str(icon)) if icon.is_file() else None


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.parent, self.layout = parent, parent.layout()

    def resourcePath(self, filename: str) -> str:
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

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


def translate(*texts: str) -> str:
    """Return the last one as it is: a context may stand before it."""
    return texts[-1]


tr, ScriptedLoadableModuleTest = translate, unittest.TestCase

for _name in ("ScriptedLoadableModule", "parameterNodeWrapper", "i18n"):
    sys.modules[f"slicer.{_name}"] = sys.modules[__name__]
    setattr(slicer, _name, sys.modules[__name__])
