"""Stand-ins for `slicer.app`, the layout manager with its slice views, the module manager, the modules.

The scene and all logics are the real ones of slicer-core; what the application adds in C++ and Qt is here.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import slicer
import slicer.util
import vtk
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from .pythonqt import ClosedModule, PythonQtError, PythonQtObject, Widget, answering, qt, stored

# What message boxes said (text, details), and what the next ones will answer.
messages: list[tuple[str, str]] = []
answers: list[int] = []
# PySide6 returns None from calls without a result, and True from an emitted signal, without taking a
# reference, as if they were immortal; before Python 3.12 they are not, and the last one ends the interpreter.
if sys.version_info < (3, 12):
    _lost = [None, True] * 2_000_000
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_lost))  # never given back, at exit neither


def start() -> Any:
    """Start the application once a process; return `slicer.app`."""
    if not hasattr(slicer, "app"):
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        slicer.util.messageBox = messageBox
        slicer.modules = ClosedModule("slicer.modules")
        slicer.qSlicerScriptedLoadableModule = ScriptedModule
        slicer.qSlicerScriptedLoadableModuleWidget = ScriptedModuleWidget
        slicer.mrmlScene = slicer.vtkMRMLScene()
        slicer.app = Application()
        followScene(slicer.mrmlScene)
        addPython(Path(slicer.app.temporaryPath, "bin"))
    return slicer.app


def messageBox(text: str, parent: Any = None, **about: Any) -> int:
    """Note what the box would show; a question is answered by the test."""
    messages.append((text, about.get("detailedText", "")))
    return answers.pop(0) if answers else QtWidgets.QMessageBox.StandardButton.Ok


def addPython(folder: Path) -> None:
    """Make a PythonSlicer: a launcher that starts the interpreter as its child, as the application's does."""
    folder.mkdir()
    launcher = folder / "PythonSlicer"
    launcher.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\nexit $?\n', encoding="utf-8")
    launcher.chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


class SliceView(Widget):
    """`qMRMLSliceView`: shows the slice logic's blended image in a render window off the screen."""

    def __init__(self, logic: Any) -> None:
        super().__init__()
        self._logic, self._viewer, self._paused, self._asked = logic, None, 0, False
        answering(self, mrmlSliceNode=logic.GetSliceNode(), cornerAnnotation=vtk.vtkCornerAnnotation())

    def renderWindow(self) -> Any:
        if self._viewer is None:
            viewer = self._viewer = vtk.vtkImageViewer()
            viewer.SetOffScreenRendering(1)
            viewer.SetColorWindow(255)
            viewer.SetColorLevel(127.5)
            viewer.GetActor2D().GetProperty().SetDisplayLocationToBackground()
            viewer.GetRenderer().AddViewProp(self.cornerAnnotation())
            self._interactor = vtk.vtkGenericRenderWindowInteractor()  # the displayable managers ask for it
            self._interactor.SetInteractorStyle(None)  # VTK's own keeps the mouse to itself
            self._interactor.SetRenderWindow(viewer.GetRenderWindow())
            factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
            self._group = factory.InstantiateDisplayableManagers(viewer.GetRenderer())
            self._group.SetMRMLDisplayableNode(self._logic.GetSliceNode())
        self._viewer.SetInputConnection(self._logic.GetImageDataConnection())  # changes with the layers
        self._viewer.GetRenderWindow().SetSize(*self._logic.GetSliceNode().GetDimensions()[:2])
        return self._viewer.GetRenderWindow()

    def scheduleRender(self) -> None:
        self._asked = bool(self._paused)  # by itself the application draws when it is idle

    def forceRender(self) -> None:
        self._asked = False
        self.renderWindow().Render()

    def pauseRender(self) -> int:
        self._paused += 1
        return self._paused

    def resumeRender(self) -> int:
        self._paused -= 1
        if self._asked and not self._paused:
            self.forceRender()  # at once: what waited is late already
        return self._paused


def sliceWidget(node: Any) -> Widget:
    """Return a `qMRMLSliceWidget` for one slice node of the layout."""
    logic, applicationLogic = slicer.vtkMRMLSliceLogic(), slicer.app.applicationLogic()
    logic.SetMRMLApplicationLogic(applicationLogic)
    logic.SetMRMLScene(slicer.mrmlScene)
    logic.SetSliceNode(node)
    logic.ResizeSliceNode(512, 512)
    applicationLogic.GetSliceLogics().AddItem(logic)

    def scroll(offset: float) -> None:
        """A change by the view's bar goes to the linked views, as by the user's mouse."""
        logic.StartSliceOffsetInteraction()
        logic.SetSliceOffset(offset)
        logic.EndSliceOffsetInteraction()

    composite, slider = logic.GetSliceCompositeNode(), [1.0]

    def follow(*_: Any) -> None:
        """The bar's opacity slider follows the node; whatever moves it, linked views get the value."""
        opacity = round(composite.GetForegroundOpacity(), 2)
        if opacity != slider[0] and not slicer.mrmlScene.IsBatchProcessing():
            slider[0] = opacity
            logic.StartSliceCompositeNodeInteraction(composite.ForegroundOpacityFlag)
            composite.SetForegroundOpacity(opacity)
            logic.EndSliceCompositeNodeInteraction()

    composite.AddObserver(vtk.vtkCommand.ModifiedEvent, follow)
    follow()
    widget = Widget()
    controller = Widget(widget)  # made visible, it is no window of its own
    controller.__dict__["setSliceOffsetValue"] = scroll
    answering(widget, sliceLogic=logic, sliceView=SliceView(logic), sliceController=controller)
    answering(widget, mrmlSliceNode=node, mrmlSliceCompositeNode=composite)
    return widget


class LayoutManager:
    """`qSlicerLayoutManager`: has a slice widget for every slice node that a layout brought."""

    def __init__(self, applicationLogic: Any) -> None:
        self._widgets, self._logic = {}, slicer.vtkMRMLLayoutLogic()
        viewport = qt.QWidget()
        viewport.resize(1440, 900)
        answering(self, layoutLogic=self._logic, viewport=viewport)
        self._logic.SetMRMLApplicationLogic(applicationLogic)
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._logic.GetLayoutNode().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    @property
    def layout(self) -> int:
        return self._logic.GetLayoutNode().GetViewArrangement()

    def sliceViewNames(self) -> tuple[str, ...]:
        nodes = {node.GetLayoutName(): node for node in slicer.util.getNodesByClass("vtkMRMLSliceNode")}
        for name in self._widgets.keys() - nodes.keys():
            slicer.app.applicationLogic().GetSliceLogics().RemoveItem(self._widgets.pop(name).sliceLogic())
        for name, node in nodes.items():
            if name not in self._widgets:
                self._widgets[name] = sliceWidget(node)
            node.SetMappedInLayout(bool(self._logic.GetViewNodes().IsItemPresent(node)))
        return tuple(self._widgets)

    def sliceWidget(self, name: str) -> Widget | None:
        return self._widgets[name] if name in self.sliceViewNames() else None


def loadNodes(_kind: str, properties: dict[str, Any], nodes: Any, _messages: Any = None) -> bool:
    """`qSlicerCoreIOManager.loadNodes`, of volumes, by their real logic."""
    path, logic = properties["fileName"], slicer.modules.volumes.logic()
    node = logic.AddArchetypeVolume(path, properties.get("name") or Path(path).name.split(".")[0])
    if node is not None:
        nodes.AddItem(node)
    return node is not None


class ScriptedModule(types.SimpleNamespace):
    """`qSlicerScriptedLoadableModule`: what a module's constructor fills."""

    def __init__(self, path: Path) -> None:
        about = "title categories dependencies contributors helpText acknowledgementText icon hidden index"
        super().__init__(path=str(path), name=path.stem, **dict.fromkeys(about.split()))

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in vars(self) and not name.startswith("_"):
            raise PythonQtError(f"a module has no '{name}'")
        super().__setattr__(name, value)

    def widgetRepresentation(self) -> Any:
        if not hasattr(self, "_widget"):
            self._widget = ScriptedModuleWidget()
            QtWidgets.QVBoxLayout(self._widget)
            self._widget.__dict__["_module"] = self.name
            self._widget.reload()
        return self._widget


class ScriptedModuleWidget(Widget):
    """`qSlicerScriptedLoadableModuleWidget`; `_enter` is what the module selector does."""

    isEntered = stored(bool, False)

    def reload(self) -> None:
        """Make the panel anew from its class as it is now; `enter` is not called."""
        panel = getattr(sys.modules[self._module], self._module + "Widget")(self)
        answering(self, self=panel)
        setattr(slicer.modules, self._module + "Widget", panel)
        panel.setup()

    def _enter(self, entered: bool) -> None:
        self.isEntered = entered
        (self.self().enter if entered else self.self().exit)()


class Application(PythonQtObject, QtWidgets.QApplication):
    """`slicer.app`."""

    startupCompleted = Signal()
    temporaryPath = Property(str, lambda self: self._temporary)

    def __init__(self) -> None:
        super().__init__(["Slicer"])
        self._temporary = tempfile.mkdtemp(prefix="slicerhost-")
        logic = slicer.vtkSlicerApplicationLogic()
        logic.SetMRMLScene(slicer.mrmlScene)
        logic.SetSliceLogics(vtk.vtkCollection())
        # Where the application keeps its colour files; without a folder their logic complains.
        logic.SetHomeDirectory(self._temporary)
        logic.SetShareDirectory("share")
        Path(self._temporary, "share", "ColorFiles").mkdir(parents=True)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(logic)
        for name in ("vtkMRMLCrosshairDisplayableManager", "vtkMRMLMarkupsDisplayableManager"):
            factory.RegisterDisplayableManager(name)
        # Of Slicer's own modules there are the logics only.
        for name, kind in {"Colors": "Color", "Volumes": "Volumes", "Markups": "Markups"}.items():
            own, module = getattr(slicer, f"vtkSlicer{kind}Logic")(), types.SimpleNamespace()
            own.SetMRMLApplicationLogic(logic)
            own.SetMRMLScene(slicer.mrmlScene)
            logic.SetModuleLogic(name, own)
            answering(module, logic=own)
            setattr(slicer.modules, name.lower(), module)
        modules = types.SimpleNamespace(module=lambda name: getattr(slicer.modules, name.lower(), None))
        settings = qt.QSettings(f"{self._temporary}/Slicer.ini", QtCore.QSettings.Format.IniFormat)
        answering(self, applicationLogic=logic, testingEnabled=False, userSettings=settings)
        answering(self, coreIOManager=types.SimpleNamespace(loadNodes=loadNodes), moduleManager=modules)
        answering(self, layoutManager=LayoutManager(logic))
        # The main window, with the Data Probe as far as panels know of it.
        self._mainWindow = qt.QMainWindow()
        self._mainWindow.objectName = "qSlicerMainWindow"
        qt.QWidget(self._mainWindow).objectName = "DataProbeCollapsibleWidget"
        slicer.modules.DataProbeInstance = probe = types.SimpleNamespace(infoWidget=types.SimpleNamespace())
        probe.infoWidget.sliceAnnotations = types.SimpleNamespace(sliceViewAnnotationsEnabled=1)


def addModule(path: Path) -> ScriptedModule:
    """Load a scripted module from its file, as the module factory does; return `slicer.modules.<name>`."""
    start()
    sys.path.insert(0, str(path.parent))
    python, module = importlib.import_module(path.stem), ScriptedModule(path)
    setattr(slicer.modules, path.stem + "Instance", getattr(python, path.stem)(module))
    setattr(slicer.modules, path.stem.lower(), module)
    return module


def followScene(scene: Any) -> None:
    """Do what the subject hierarchy's plugins do: an item for every node that the user sees."""
    shown = ("vtkMRMLDisplayableNode", "vtkMRMLTextNode", "vtkMRMLTableNode")

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def changed(_scene: Any, event: str, node: Any) -> None:
        if not scene.IsClosing() and any(node.IsA(name) for name in shown):
            hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
            item, present = hierarchy.GetItemByDataNode(node), scene.IsNodePresent(node)
            if present and not item and not node.GetHideFromEditors():
                hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
            elif item and not present:
                hierarchy.RemoveItem(item, False, False)

    scene.AddObserver(scene.NodeAddedEvent, changed)
    scene.AddObserver(scene.NodeRemovedEvent, changed)
