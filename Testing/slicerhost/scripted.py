"""Stand-ins for `slicer.ScriptedLoadableModule`, `slicer.parameterNodeWrapper` and `slicer.i18n`.

The parameter node is the real vtkMRMLScriptedModuleNode; only the field types and widgets that the panels use
are known, with the checks of the real wrapper.
"""

from __future__ import annotations

import pathlib
import typing
import unittest
from collections.abc import Callable
from typing import Any

import ctk
import qt
import slicer
import vtk


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__
        for size in (".svg", ".png"):
            icon = pathlib.Path(parent.path).parent / "Resources" / "Icons" / (self.moduleName + size)
            if icon.is_file():
                parent.icon = qt.QIcon(str(icon))
                break

    def resourcePath(self, filename: str) -> str:
        return str(pathlib.Path(self.parent.path).parent / "Resources" / filename)

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        return f"<p>https://slicer.readthedocs.io/{docPage or self.moduleName}</p>"


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        if parent is None:
            parent = slicer.qMRMLWidget()
            parent.setLayout(qt.QVBoxLayout())
            parent.setMRMLScene(slicer.mrmlScene)
        self.parent = parent
        self.layout = parent.layout()

    def resourcePath(self, filename: str) -> str:
        return str(pathlib.Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def setup(self) -> None:
        """Nothing without the developer mode."""

    def cleanup(self) -> None:
        """For the module's own widget to fill."""


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(self.moduleName)
            node.SetName(self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.messageDelay = 0

    def runTest(self) -> None:
        """For the module's own test to fill."""

    def delayDisplay(self, message: str, requestedDelay: Any = None, msec: Any = None) -> None:
        slicer.app.processEvents()


class WithinRange(typing.NamedTuple):
    minimum: float
    maximum: float

    def validate(self, value: Any) -> None:
        if value is None or not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value {value} is not within [{self.minimum}, {self.maximum}]")


class _Field:
    """One typed parameter: how it is kept in the node, what it may be."""

    def __init__(self, name: str, hint: Any, default: Any) -> None:
        self.name, self.range = name, None
        if typing.get_origin(hint) is typing.Annotated:
            hint, self.range = typing.get_args(hint)
        self.type = hint
        self.isNode = isinstance(hint, type) and issubclass(hint, slicer.vtkMRMLNode)
        if not (self.isNode or hint in (int, float, str)):
            raise TypeError(f"Unable to create serializer for {hint} member {name}")
        self.default = None if self.isNode else hint() if default is None else default

    def write(self, node: Any, value: Any) -> None:
        if self.range is not None:
            self.range.validate(value)
        accepted = (int, float) if self.type is float else self.type
        if not (isinstance(value, accepted) or (self.isNode and value is None)):
            raise TypeError(f"{self.name} takes {self.type.__name__}, not {value!r}")
        identifier = value.GetID() if self.isNode and value is not None else None
        if self.isNode:
            node.SetNodeReferenceID(self.name, identifier)
        node.SetParameter(self.name, str(identifier if self.isNode else value))

    def read(self, node: Any) -> Any:
        if not node.HasParameter(self.name):
            self.write(node, self.default)
        if self.isNode:
            return node.GetNodeReference(self.name)
        return self.type(node.GetParameter(self.name))


def _connector(widget: Any, field: _Field) -> tuple[str, Callable[[], Any], Callable[[Any], None]]:
    """Return signal, reader and writer for a widget; RuntimeError where the real wrapper has none."""
    kind = type(widget)
    if field.isNode and kind is slicer.qMRMLNodeComboBox:
        widget.nodeTypes = [field.type.__name__]
        return "currentNodeChanged", widget.currentNode, widget.setCurrentNode
    if field.type in (int, float) and kind is ctk.ctkSliderWidget:
        if field.range is None:
            raise RuntimeError("Cannot have a connection to ctkSliderWidget where the type is unbounded.")
        widget.minimum, widget.maximum = field.range
        return "valueChanged", lambda: field.type(widget.value), lambda value: setattr(widget, "value", value)
    raise RuntimeError(f"No GUI connector for {kind.__name__} and {field.type}")


class _Wrapper:
    """What `@parameterNodeWrapper` gives a class; its attributes live in the parameter node."""

    def __init__(self, parameterNode: Any) -> None:
        self.__dict__.update(parameterNode=parameterNode, _guis={}, _updating=False)
        for field in self.allParameters.values():
            if not parameterNode.HasParameter(field.name):
                field.write(parameterNode, field.default)

    def __setattr__(self, name: str, value: Any) -> None:
        self._check(name).write(self.parameterNode, value)

    def __getattr__(self, name: str) -> Any:
        return self._check(name).read(self.__dict__["parameterNode"])

    def _check(self, name: str) -> _Field:
        if name not in type(self).allParameters:
            raise AttributeError(f"Cannot find a param with the given name: {name}")
        return type(self).allParameters[name]

    getValue, setValue = __getattr__, __setattr__

    def connectGui(self, gui: Any) -> int:
        """Connect every widget of `slicer.util.childWidgetVariables` that carries SlicerParameterName."""
        named = [(widget.property("SlicerParameterName"), widget) for widget in gui.__dict__.values()]
        return self.connectParametersToGui({name: widget for name, widget in named if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        made = {name: (widget, *_connector(widget, self._check(name))) for name, widget in mapping.items()}
        heard = []
        for name, (widget, signal, read, write) in made.items():
            write(self.getValue(name))

            def changed(name: str = name, read: Callable[[], Any] = read) -> None:
                if not self._updating:
                    self.setValue(name, read())

            slot = lambda *_, changed=changed: changed()  # noqa: E731
            getattr(widget, signal).connect(slot)
            heard.append((widget, signal, slot))

        def update(*_: Any) -> None:
            if self._updating:
                return
            self.__dict__["_updating"] = True
            try:
                for name, (_widget, _signal, _read, write) in made.items():
                    write(self.getValue(name))
            finally:
                self.__dict__["_updating"] = False

        tag = self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, update)
        self._guis[tag] = heard
        return tag

    def disconnectGui(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)
        for widget, signal, slot in self._guis.pop(tag, ()):
            getattr(widget, signal).disconnect(slot)

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, modified: int) -> None:
        self.parameterNode.EndModify(modified)

    def AddObserver(self, event: Any, callback: Callable[..., None], priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def parameterNodeWrapper(cls: type) -> type:
    """Turn a class of typed fields into a wrapper around a parameter node."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {name: _Field(name, hint, cls.__dict__.get(name)) for name, hint in hints.items()}
    kept = {
        key: value
        for key, value in cls.__dict__.items()
        if key not in hints and key not in ("__dict__", "__weakref__")
    }
    return type(cls.__name__, (_Wrapper,), {**kept, "allParameters": fields})
