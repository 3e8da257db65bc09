"""Stand-ins for `slicer.app`, the layout manager with its slice views, the module manager, the modules.

The scene, the layout logic, the slice and link logics and the volumes logic are the real ones of slicer-core;
only what the application adds in C++ and Qt is written here.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from .pythonqt import PythonQtError, PythonQtObject, PythonQtType, answering, derived
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
        answering(self, mrmlSliceNode=logic.GetSliceNode(), cornerAnnotation=vtk.vtkCornerAnnotation())

    def renderWindow(self) -> Any:
        if self._window is None:
            self._window, renderer = vtk.vtkRenderWindow(), vtk.vtkRenderer()
            self._window.SetOffScreenRendering(1)
            self._window.SetMultiSamples(0)
            self._window.AddRenderer(renderer)
            self._interactor = vtk.vtkGenericRenderWindowInteractor()  # the displayable managers ask for it
            self._interactor.SetRenderWindow(self._window)
            mapper, actor = vtk.vtkImageMapper(), vtk.vtkActor2D()
            mapper.SetColorWindow(255)
            mapper.SetColorLevel(127.5)
            mapper.SetInputConnection(self._logic.GetImageDataConnection())
            actor.SetMapper(mapper)
            actor.GetProperty().SetDisplayLocationToBackground()
            renderer.AddViewProp(actor)
            renderer.AddViewProp(self.cornerAnnotation())
            factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
            self._group = factory.InstantiateDisplayableManagers(renderer)
            self._group.SetMRMLDisplayableNode(self._logic.GetSliceNode())
        size = tuple(self._logic.GetSliceNode().GetDimensions()[:2])
        if tuple(self._window.GetSize()) != size:
            self._window.SetSize(*size)
        return self._window

    def forceRender(self) -> None:
        self.renderWindow().Render()

    def scheduleRender(self) -> None:
        """The application renders when it is idle; here a test or a picture asks."""


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
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(applicationLogic)
        logic.SetMRMLScene(slicer.mrmlScene)
        logic.SetSliceNode(node)
        logic.ResizeSliceNode(*VIEW_PIXELS)
        applicationLogic.GetSliceLogics().AddItem(logic)
        controller = SliceController(logic)
        QtWidgets.QWidget.setParent(controller, self)  # made visible, it is no window of its own
        controller.resize(VIEW_PIXELS[0], 24)
        answering(self, sliceLogic=logic, sliceView=SliceView(logic), sliceController=controller)
        answering(self, mrmlSliceNode=node, mrmlSliceCompositeNode=logic.GetSliceCompositeNode())


class LayoutManager(_Object):
    """`qSlicerLayoutManager`: makes a slice widget for every slice node that a layout brings."""

    _plain = None
    layoutChanged = Signal(int)

    def __init__(self, applicationLogic: Any) -> None:
        super().__init__()
        self._applicationLogic, self._widgets, self._busy = applicationLogic, {}, False
        self._logic = slicer.vtkMRMLLayoutLogic()
        answering(self, layoutLogic=self._logic, mrmlSliceLogics=applicationLogic.GetSliceLogics())
        self._logic.SetMRMLApplicationLogic(applicationLogic)
        self._logic.SetMRMLScene(slicer.mrmlScene)
        events = slicer.vtkMRMLScene
        for event in (events.NodeAddedEvent, events.NodeRemovedEvent, events.EndBatchProcessEvent,
                      events.EndCloseEvent):  # fmt: skip
            slicer.mrmlScene.AddObserver(event, lambda *_: self._update())
        # Panels change the layout through its node as well as through setLayout.
        self._logic.GetLayoutNode().AddObserver("ModifiedEvent", lambda *_: self._update())
        self._logic.GetLayoutNode().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self._update()

    def _update(self) -> None:
        if self._busy or slicer.mrmlScene.IsBatchProcessing() or slicer.mrmlScene.IsClosing():
            return
        self._busy = True  # a slice logic adds nodes of its own
        nodes, shown = slicer.util.getNodesByClass("vtkMRMLSliceNode"), self._logic.GetViewNodes()
        for node in nodes:
            if node.GetLayoutName() not in self._widgets:
                self._widgets[node.GetLayoutName()] = SliceWidget(node, self._applicationLogic)
            node.SetMappedInLayout(bool(shown.IsItemPresent(node)))
        for name, widget in list(self._widgets.items()):
            if widget.mrmlSliceNode() not in nodes:
                self.mrmlSliceLogics().RemoveItem(widget.sliceLogic())
                del self._widgets[name]
        self._busy = False

    def setLayout(self, identifier: int) -> None:
        node = self._logic.GetLayoutNode()
        if identifier >= 100 and not node.IsLayoutDescription(identifier):
            raise PythonQtError(f"no layout {identifier} was added to the layout node")
        node.SetViewArrangement(identifier)
        object.__getattribute__(self, "layoutChanged").emit(identifier)

    layout = Property(int, lambda self: self._logic.GetLayoutNode().GetViewArrangement(), setLayout)
    threeDViewCount, tableViewCount, plotViewCount = (Property(int, lambda self: 0) for _ in range(3))

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._widgets)

    def sliceWidget(self, name: str) -> SliceWidget | None:
        return self._widgets.get(name)


class CoreIOManager(_Object):
    """`qSlicerCoreIOManager`: loads volumes, by their real logic."""

    _plain = None

    def loadNodes(self, kind: str, properties: dict[str, Any], nodes: Any, _messages: Any = None) -> bool:
        path, logic = properties["fileName"], slicer.modules.volumes.logic()
        node = logic.AddArchetypeVolume(path, properties.get("name") or Path(path).name.split(".")[0])
        if kind == "VolumeFile" and node is not None:
            nodes.AddItem(node)
        return node is not None


class ModuleManager(_Object):
    _plain = None
    moduleAboutToBeUnloaded = Signal(str)

    def module(self, name: str) -> Any:
        return getattr(slicer.modules, name.lower(), None)


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
            self._widget._self = getattr(sys.modules[self.name], self.name + "Widget")(self._widget)
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


class Application(PythonQtObject, QtWidgets.QApplication, metaclass=PythonQtType):
    """`slicer.app`."""

    _plain = None
    startupCompleted = Signal()
    temporaryPath = Property(str, lambda self: self._temporary)

    def __init__(self) -> None:
        super().__init__(["Slicer"])
        self.applicationName = "Slicer"
        self._temporary = tempfile.mkdtemp(prefix="slicerhost-")
        self._logic = slicer.vtkSlicerApplicationLogic()
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._logic.SetSliceLogics(vtk.vtkCollection())
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(self._logic)
        for name in ("vtkMRMLCrosshairDisplayableManager", "vtkMRMLMarkupsDisplayableManager"):
            factory.RegisterDisplayableManager(name)
        self._mainWindow = derived(QtWidgets.QMainWindow)()
        self._mainWindow.objectName = "qSlicerMainWindow"
        answering(self, applicationLogic=self._logic, testingEnabled=False, coreIOManager=CoreIOManager())
        settings = derived(QtCore.QSettings)(
            f"{self._temporary}/Slicer.ini", QtCore.QSettings.Format.IniFormat
        )
        answering(self, moduleManager=ModuleManager(), userSettings=settings)


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


def followScene(scene: Any) -> None:
    """Do what the subject hierarchy's plugins do: an item for every node that the user sees."""
    shown = ("vtkMRMLDisplayableNode", "vtkMRMLTextNode", "vtkMRMLTableNode")

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def changed(_scene: Any, event: str, node: Any) -> None:
        if scene.IsClosing() or not any(node.IsA(name) for name in shown):
            return
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        item = hierarchy.GetItemByDataNode(node)
        if scene.IsNodePresent(node) and not item and not node.GetHideFromEditors():
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
        elif item and not scene.IsNodePresent(node):
            hierarchy.RemoveItem(item, False, False)

    scene.AddObserver(scene.NodeAddedEvent, changed)
    scene.AddObserver(scene.NodeRemovedEvent, changed)


class SliceAnnotations:
    """The Data Probe's annotations: the name of the volume stands in the corner of every view."""

    def __init__(self) -> None:
        self.sliceViewAnnotationsEnabled = 1

    def follow(self) -> None:
        """Write into the views; in the application the slice logics call for it."""
        for name in slicer.app.layoutManager().sliceViewNames() if self.sliceViewAnnotationsEnabled else ():
            widget = slicer.app.layoutManager().sliceWidget(name)
            identifier = widget.mrmlSliceCompositeNode().GetBackgroundVolumeID()
            node = slicer.mrmlScene.GetNodeByID(identifier) if identifier else None
            widget.sliceView().cornerAnnotation().SetText(0, f"B: {node.GetName()}" if node else "")


def addDataProbe() -> None:
    """Have the Data Probe below the module panel, as far as panels know of it."""
    probe = derived(QtWidgets.QWidget)(slicer.util.mainWindow())
    probe.objectName = "DataProbeCollapsibleWidget"
    information = types.SimpleNamespace(sliceAnnotations=SliceAnnotations())
    slicer.modules.DataProbeInstance = types.SimpleNamespace(infoWidget=information)
