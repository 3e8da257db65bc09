"""What all panels share: a widget class and a logic class to derive from (docs/panels.md shows how).

The widget's life (opened, left, scene closed, nodes removed), its parameter node, and the sections Run,
Compare and Details, each from a .ui file of its own and below the panel's own one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer
import vtk
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic, ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from CTEnhanceLib import placing
from CTEnhanceLib.comparesection import CompareSection
from CTEnhanceLib.run import Job
from CTEnhanceLib.runsection import AUTOMATIC, RunSection
from CTEnhanceLib.worker import PACKAGE_FOLDER

RESOURCES = PACKAGE_FOLDER / "Resources"


class PanelLogic(ScriptedLoadableModuleLogic):
    """A module's logic; `parameterNodeType` is the class under `@parameterNodeWrapper`."""

    parameterNodeType: Any = None

    def getParameterNode(self) -> Any:
        """Return the parameters of the scene."""
        return self.parameterNodeType(super().getParameterNode())

    def requirementsPath(self) -> Path:
        """Return the file that lists the Python packages that the worker needs."""
        return RESOURCES / "requirements.txt"


class PanelWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """A module's widget. A panel says what is its own:

    `title`, `logicType`; `connectWidgets` (once), `reason` and `doing` (why Apply can or can't be pressed,
    what it does), `makeJob` (what it does then), `follow` (the parameters changed), `resultArrived`.
    Its parameter node has a field `device`, a string. `ui` holds the widgets of all sections by name.
    """

    title = ""
    logicType: type[PanelLogic] = PanelLogic
    sections: tuple[str, ...] = ("RunSection", "CompareSection", "DetailsSection")

    def __init__(self, parent: Any = None) -> None:
        VTKObservationMixin.__init__(self)
        self.logic: Any = None
        self.parameters: Any = None
        # Until `setup` has built them: Slicer calls enter, exit and cleanup also where setup failed.
        self.runSection: RunSection | None = None
        self.compareSection: CompareSection | None = None
        self._guiTag: Any = None
        self._following = False
        ScriptedLoadableModuleWidget.__init__(self, parent)

    # What a panel fills in -----------------------------------------------------------------------------

    def connectWidgets(self) -> None:
        """Connect the panel's own widgets (in `ui`) that no parameter is bound to."""

    def reason(self) -> str:
        """Return the sentence that says why Apply cannot be pressed, or an empty one."""
        return ""

    def doing(self) -> str:
        """Return what Apply does, for its tooltip."""
        return ""

    def makeJob(self) -> Job:
        """Return the job that the parameters ask for. Raises InputError when they cannot be met."""
        raise TypeError(f"{type(self).__name__} has no job for its Apply button")

    def follow(self) -> None:
        """Show what the parameters say; called when one has changed, and by `refresh`."""

    def resultArrived(self, result: Any) -> None:
        """Take the result of a run that the scene has now."""

    def showArrived(self, result: Any) -> None:
        """Bring a new result onto the screen; called while the module is open."""
        if self.compareSection is not None:
            self.compareSection.show()

    def nodesGo(self) -> None:
        """Let go of all nodes: the scene closes, or what is shown is being removed."""

    # What all do ---------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Build the panel; called once, when the module is opened first."""
        ScriptedLoadableModuleWidget.setup(self)
        self.panel = slicer.util.loadUI(self.resourcePath(f"UI/{self.moduleName}.ui"))
        self.layout.addWidget(self.panel)
        whole = [self.panel]
        for section in self.sections:
            whole.append(slicer.util.loadUI(str(RESOURCES / "UI" / f"{section}.ui")))
            self.layout.addWidget(whole[-1])
        self.ui = slicer.util.childWidgetVariables(self.panel)
        for widget in whole[1:]:
            vars(self.ui).update(vars(slicer.util.childWidgetVariables(widget)))
        self.panel.setMRMLScene(slicer.mrmlScene)
        self.logic = self.logicType()
        self.runSection = RunSection(
            self.ui,
            self.title,
            self.logic.requirementsPath(),
            self.makeJob,
            self._onResult,
            self._onDevice,
            self.refresh,
        )
        self.compareSection = (
            CompareSection(self.ui, self.panel) if "CompareSection" in self.sections else None
        )
        self.connectWidgets()
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self.onNodeAboutToBeRemoved)
        self.initializeParameterNode()
        self.runSection.askDevices()

    def cleanup(self) -> None:
        """The module goes: end what runs."""
        if self.runSection is None:
            return
        self.runSection.kill()
        self.nodesGo()
        if self.compareSection is not None:
            self.compareSection.exit()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        """The user opens the module."""
        if self.runSection is None:
            return
        self.initializeParameterNode()
        if self.compareSection is not None:
            self.compareSection.enter()
        self.runSection.askDevices()

    def exit(self) -> None:
        """The user opens another module; a run goes on."""
        if self.runSection is None:
            return
        if self.compareSection is not None:
            self.compareSection.exit()
        if not self.runSection.running:
            self.setParameterNode(None)

    def onSceneStartClose(self, caller: Any, event: Any) -> None:
        """All nodes are about to go."""
        self.runSection.cancel()
        self._forgetNodes()
        self.setParameterNode(None)
        self.runSection.showStatus("")
        self.runSection.showReport(None)

    def onSceneEndClose(self, caller: Any, event: Any) -> None:
        """The scene is empty now."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAboutToBeRemoved(self, caller: Any, event: Any, node: Any) -> None:
        """Take the hidden nodes of a removed result along, and stop comparing it."""
        if slicer.mrmlScene.IsClosing() or node is None:
            return
        if self.compareSection is not None:
            self.compareSection.nodeGoes(node)
            shown = self.compareSection.comparison.result
            if node in (shown, placing.inputOf(shown)):
                self._forgetNodes()
        hidden = placing.hiddenNodesOf(node)
        if hidden:
            # Not now: the scene is in the middle of a removal.
            qt.QTimer.singleShot(0, lambda: placing.removeNodes(hidden))

    def initializeParameterNode(self) -> None:
        """Have a parameter node."""
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode: Any) -> None:
        """Follow this parameter node instead of the one before; None: follow none."""
        if self.parameters is not None:
            self.parameters.disconnectGui(self._guiTag)
            self.removeObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self._onParameters)
        self.parameters = parameterNode
        if parameterNode is not None:
            self._guiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParameters)
            self.refresh()
        else:
            self.runSection.disable()

    def refresh(self) -> None:
        """Show what the parameters say, and whether Apply can be pressed."""
        if self.parameters is None or self._following:
            return
        self._following = True
        try:
            self.panel.enabled = not self.runSection.running
            self.follow()
            self.runSection.refresh(self.reason(), self.doing(), self.parameters.device or AUTOMATIC)
        finally:
            self._following = False

    def showResult(self, result: Any) -> None:
        """Offer the comparison of this result (None: nothing) and show its report."""
        if self.compareSection is not None:
            self.compareSection.setResult(result)
        if result is not None and placing.reportOf(result) is not None:
            self.runSection.showReport(result)

    def _onParameters(self, caller: Any = None, event: Any = None) -> None:
        self.refresh()

    def _onDevice(self, spec: str) -> None:
        if self.parameters is not None:
            self.parameters.device = spec

    def _onResult(self, result: Any) -> None:
        self.resultArrived(result)
        if self.compareSection is not None:
            self.compareSection.setResult(result)
        if self.parent.isEntered:  # who works in another module meanwhile keeps the layout
            self.showArrived(result)

    def _forgetNodes(self) -> None:
        self.nodesGo()
        if self.compareSection is not None:
            self.compareSection.hide()
