"""Stand-ins for `slicer.app`, the layout manager with its slice views, the module manager, the modules.

The scene, the layout logic, the slice and link logics and the volumes logic are the real ones of slicer-core;
only what the application adds in C++ and Qt is written here.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal
from vtk.util import numpy_support

from .pythonqt import PythonQtError, PythonQtObject, PythonQtType, derived
from .widgets import Widget

VIEW_PIXELS = (512, 512)


class _Object(PythonQtObject, QtCore.QObject, metaclass=PythonQtType):
    _plain = QtCore.QObject


class SliceView(Widget):
    """`qMRMLSliceView`: shows the slice logic's blended image in a render window off the screen."""

    _plain = None

    def __init__(self, logic: Any) -> None:
        super().__init__()
        self._logic, self._window = logic, None

    def _rendered(self) -> Any:
        if self._window is None:
            self._window = vtk.vtkRenderWindow()
            self._window.SetOffScreenRendering(1)
            self._window.SetMultiSamples(0)
            renderer = vtk.vtkRenderer()
            self._window.AddRenderer(renderer)
            self._interactor = vtk.vtkGenericRenderWindowInteractor()  # the displayable managers ask for it
            self._interactor.SetRenderWindow(self._window)
            mapper = vtk.vtkImageMapper()
            mapper.SetColorWindow(255)
            mapper.SetColorLevel(127.5)
            mapper.SetInputConnection(self._logic.GetImageDataConnection())
            actor = vtk.vtkActor2D()
            actor.SetMapper(mapper)
            actor.GetProperty().SetDisplayLocationToBackground()
            renderer.AddViewProp(actor)
            factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
            self._group = factory.InstantiateDisplayableManagers(renderer)
            self._group.SetMRMLDisplayableNode(self._logic.GetSliceNode())
        size = self._logic.GetSliceNode().GetDimensions()[:2]
        if tuple(self._window.GetSize()) != tuple(size):
            self._window.SetSize(*size)
        return self._window

    def renderWindow(self) -> Any:
        return self._rendered()

    def forceRender(self) -> None:
        self._rendered().Render()

    def scheduleRender(self) -> None:
        """The application renders when it is idle; here a test or a picture asks."""

    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()

    def _pixels(self) -> np.ndarray:
        """Return what the view shows, [row, column, RGB], from the top."""
        self.forceRender()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self._window)
        grab.ReadFrontBufferOff()
        grab.Update()
        columns, rows, _ = grab.GetOutput().GetDimensions()
        scalars = numpy_support.vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars())
        return scalars.reshape(rows, columns, -1)[::-1, :, :3].copy()


class SliceController(Widget):
    """`qMRMLSliceControllerWidget`: a change made here goes to the linked views, as by the user's mouse."""

    _plain = None

    def __init__(self, logic: Any) -> None:
        super().__init__()
        self._logic = logic

    def setSliceOffsetValue(self, offset: float) -> None:
        self._logic.StartSliceOffsetInteraction()
        self._logic.SetSliceOffset(offset)
        self._logic.EndSliceOffsetInteraction()


class SliceWidget(Widget):
    """`qMRMLSliceWidget` for one slice node of the layout."""

    _plain = None

    def __init__(self, node: Any, applicationLogic: Any) -> None:
        super().__init__()
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(applicationLogic)
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._logic.SetSliceNode(node)
        self._logic.ResizeSliceNode(*VIEW_PIXELS)
        applicationLogic.GetSliceLogics().AddItem(self._logic)
        self._view, self._controller = SliceView(self._logic), SliceController(self._logic)

    def sliceLogic(self) -> Any:
        return self._logic

    def sliceView(self) -> SliceView:
        return self._view

    def sliceController(self) -> SliceController:
        return self._controller

    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()


class LayoutManager(_Object):
    """`qSlicerLayoutManager`: makes a slice widget for every slice node that a layout brings."""

    _plain = None
    layoutChanged = Signal(int)

    def __init__(self, applicationLogic: Any) -> None:
        super().__init__()
        self._applicationLogic, self._widgets, self._busy = applicationLogic, {}, False
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLApplicationLogic(applicationLogic)
        self._logic.SetMRMLScene(slicer.mrmlScene)
        events = slicer.vtkMRMLScene
        for event in (events.NodeAddedEvent, events.NodeRemovedEvent, events.EndBatchProcessEvent):
            slicer.mrmlScene.AddObserver(event, lambda *_: self._update())
        slicer.mrmlScene.AddObserver(events.EndCloseEvent, lambda *_: self._update())
        # Panels change the layout through its node as well as through setLayout.
        self._logic.GetLayoutNode().AddObserver("ModifiedEvent", lambda *_: self._update())
        self._logic.GetLayoutNode().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self._update()

    def _update(self) -> None:
        if self._busy or slicer.mrmlScene.IsBatchProcessing() or slicer.mrmlScene.IsClosing():
            return
        self._busy = True  # a slice logic adds nodes of its own
        nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode")
        for node in nodes:
            if node.GetLayoutName() not in self._widgets:
                self._widgets[node.GetLayoutName()] = SliceWidget(node, self._applicationLogic)
        shown = self._logic.GetViewNodes()
        for node in nodes:
            node.SetMappedInLayout(bool(shown.IsItemPresent(node)))
        logics = self._applicationLogic.GetSliceLogics()
        for name, widget in list(self._widgets.items()):
            if widget.mrmlSliceNode() not in nodes:
                logics.RemoveItem(widget.sliceLogic())
                del self._widgets[name]
        self._busy = False

    def setLayout(self, identifier: int) -> None:
        node = self._logic.GetLayoutNode()
        if identifier >= 100 and not node.IsLayoutDescription(identifier):
            raise PythonQtError(f"no layout {identifier} was added to the layout node")
        node.SetViewArrangement(identifier)
        self._update()
        object.__getattribute__(self, "layoutChanged").emit(identifier)

    layout = Property(int, lambda self: self._logic.GetLayoutNode().GetViewArrangement(), setLayout)
    threeDViewCount = Property(int, lambda self: 0)
    tableViewCount = Property(int, lambda self: 0)
    plotViewCount = Property(int, lambda self: 0)

    def layoutLogic(self) -> Any:
        return self._logic

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._widgets)

    def sliceWidget(self, name: str) -> SliceWidget | None:
        return self._widgets.get(name)

    def mrmlSliceLogics(self) -> Any:
        return self._applicationLogic.GetSliceLogics()

    def resetSliceViews(self) -> None:
        for widget in self._widgets.values():
            widget.sliceLogic().FitSliceToBackground()


class CoreIOManager(_Object):
    _plain = None

    def fileType(self, name: str) -> str:
        return "VolumeFile"

    def loadNodes(self, kind: str, properties: dict[str, Any], nodes: Any, messages: Any = None) -> bool:
        if kind != "VolumeFile":
            raise PythonQtError(f"the test host loads volumes only, not {kind}")
        path = properties["fileName"]
        name = properties.get("name") or Path(path).name.split(".")[0]
        node = slicer.modules.volumes.logic().AddArchetypeVolume(path, name)
        if node is not None:
            nodes.AddItem(node)
        return node is not None


class ModuleManager(_Object):
    _plain = None
    moduleAboutToBeUnloaded = Signal(str)

    def module(self, name: str) -> Any:
        return getattr(slicer.modules, name.lower(), None)


class ScriptedModule(_Object):
    """`qSlicerScriptedLoadableModule`: what a module's constructor fills."""

    _plain = None

    def __init__(self, path: Path) -> None:
        super().__init__()
        about = "title categories dependencies contributors helpText acknowledgementText icon hidden index"
        self.__dict__["_about"] = {"path": str(path), "name": path.stem, **dict.fromkeys(about.split())}
        self._widget = None

    def __getattribute__(self, name: str) -> Any:
        about = object.__getattribute__(self, "__dict__").get("_about", {})
        return about[name] if name in about else super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._about:
            self._about[name] = value
        else:
            super().__setattr__(name, value)

    def widgetRepresentation(self) -> Any:
        if self._widget is None:
            python = sys.modules[self.name]
            self._widget = slicer.qSlicerScriptedLoadableModuleWidget()
            QtWidgets.QVBoxLayout(self._widget)
            self._widget._self = getattr(python, self.name + "Widget")(self._widget)
            setattr(slicer.modules, self.name + "Widget", self._widget._self)
            self._widget._self.setup()
        return self._widget


class ScriptedModuleWidget(Widget):
    _plain = None

    def setMRMLScene(self, scene: Any) -> None:
        """The application hands the scene over."""

    def self(self) -> Any:  # the real method's name
        return self._self

    def _enter(self, entered: bool) -> None:
        self.__dict__["_entered"] = entered
        (self._self.enter if entered else self._self.exit)()

    isEntered = Property(bool, lambda self: self.__dict__.get("_entered", False))


class CoreModule:
    """One of Slicer's own modules: only its logic."""

    def __init__(self, logic: Any) -> None:
        self._logic = logic

    def logic(self) -> Any:
        return self._logic


class Application(PythonQtObject, QtWidgets.QApplication, metaclass=PythonQtType):
    """`slicer.app`."""

    _plain = None
    startupCompleted = Signal()
    temporaryPath = Property(str, lambda self: self._temporary)
    slicerHome = Property(str, lambda self: self._temporary)
    majorVersion = Property(int, lambda self: 5)
    minorVersion = Property(int, lambda self: 12)

    def __init__(self) -> None:
        super().__init__(["Slicer"])
        self.applicationName = "Slicer"
        self._temporary = os.environ.get("SLICERHOST_TEMP") or tempfile.mkdtemp(prefix="slicerhost-")
        self._logic = slicer.vtkSlicerApplicationLogic()
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._logic.SetSliceLogics(vtk.vtkCollection())
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(self._logic)
        for name in ("vtkMRMLCrosshairDisplayableManager", "vtkMRMLMarkupsDisplayableManager"):
            factory.RegisterDisplayableManager(name)
        self._mainWindow = derived(QtWidgets.QMainWindow)()
        self._mainWindow.objectName = "qSlicerMainWindow"
        self._moduleManager, self._io, self._layoutManager = ModuleManager(), CoreIOManager(), None

    def testingEnabled(self) -> bool:
        return False

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def applicationLogic(self) -> Any:
        return self._logic

    def layoutManager(self) -> LayoutManager:
        if self._layoutManager is None:
            self._layoutManager = LayoutManager(self._logic)
        return self._layoutManager

    def moduleManager(self) -> ModuleManager:
        return self._moduleManager

    def coreIOManager(self) -> CoreIOManager:
        return self._io

    def startupEnvironment(self) -> Any:
        return QtCore.QProcessEnvironment.systemEnvironment()

    def userSettings(self) -> Any:
        return QtCore.QSettings(
            os.path.join(self._temporary, "settings.ini"), QtCore.QSettings.Format.IniFormat
        )

    def pauseRender(self) -> None:
        """Nothing renders by itself here."""

    def resumeRender(self) -> None:
        """Nothing renders by itself here."""


def addModule(path: Path) -> Any:
    """Load a scripted module from its file, as the module factory does; return `slicer.modules.<name>`."""
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    python = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = python
    spec.loader.exec_module(python)
    module = ScriptedModule(path)
    setattr(slicer.modules, path.stem + "Instance", getattr(python, path.stem)(module))
    setattr(slicer.modules, path.stem.lower(), module)
    return module
