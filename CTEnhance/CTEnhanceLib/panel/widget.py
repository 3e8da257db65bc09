"""What all panels share: widget classes and a logic class to derive from (docs/panels.md shows how).

`PanelWidget`, for panels that compute, adds to the widget's life (`base`) a parameter node and the sections
Run, Compare, Views, Export and Details, each from a .ui file of its own and below the panel's own one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from CTEnhanceLib.compare import figures, modes
from CTEnhanceLib.compare.section import CompareSection
from CTEnhanceLib.out.section import OutSection
from CTEnhanceLib.panel import ahead, keptviews
from CTEnhanceLib.panel.base import RESOURCES, BasePanelWidget
from CTEnhanceLib.panel.keysheet import KeySheet
from CTEnhanceLib.panel.runsection import AUTOMATIC, RunSection
from CTEnhanceLib.panel.viewsection import ViewSection
from CTEnhanceLib.process.run import Job
from CTEnhanceLib.scene import placing
from CTEnhanceLib.scene.watch import SceneWatch
from CTEnhanceLib.views.history import History
from CTEnhanceLib.views.linked import LinkedViews, showInOwn
from CTEnhanceLib.views.view import View


class PanelLogic(ScriptedLoadableModuleLogic):
    """A module's logic; `parameterNodeType` is the class under `@parameterNodeWrapper`."""

    parameterNodeType: Any = None

    def getParameterNode(self) -> Any:
        """Return the parameters of the scene."""
        return self.parameterNodeType(super().getParameterNode())

    def requirementsPath(self) -> Path:
        """Return the file that lists the Python packages that the worker needs."""
        return RESOURCES / "requirements.txt"


class PanelWidget(BasePanelWidget):
    """The widget of a module that computes. A panel says what is its own:

    `title`, `logicType`, `verb` (the command line's, whose reports its results carry); `connectWidgets`
    (once), `reason` and `doing` (why Apply can or can't be pressed, what it does), `makeJob` (what it does
    then), `follow` (the parameters changed), `resultArrived`, `compared` (what is beside what). Its parameter
    node has the fields `device`, a string, `result`, the volume node that is shown, and those of `keptViews`;
    where `takesVolume`, also `inputVolume`. `ui` holds the widgets of all sections by name.
    """

    title = ""
    verb = ""
    #: Whether networks run, by an engine that the user may choose.
    engines = False
    takesVolume = False
    #: What is made ready beside the views: plot views, by name, and libraries.
    firstPlots: tuple[str, ...] = (figures.PLOT_VIEW,)
    firstLibraries = ahead.MEASURING
    logicType: type[PanelLogic] = PanelLogic
    _all = ("Run", "Compare", "Measure", "View", "Out", "Details")
    sections: tuple[str, ...] = tuple(f"{each}Section" for each in _all)

    def __init__(self, parent: Any = None) -> None:
        self.parameters: Any = None
        self.compareSection: CompareSection | None = None
        self.outSection: OutSection | None = None
        self.viewSection: ViewSection | None = None
        self.history = History()
        self._guiTag: Any = None
        self._following = False
        super().__init__(parent)

    # What a panel fills in -----------------------------------------------------------------------------

    def reason(self) -> str:
        """Return the sentence that says why Apply cannot be pressed, or an empty one."""
        return ""

    def doing(self) -> str:
        """Return what Apply does, for its tooltip."""
        return ""

    def slow(self) -> bool:
        """Return whether what Apply does takes minutes without a graphics card."""
        return True

    def compared(self, result: Any) -> tuple[str, str]:
        """Return what the two of a comparison are called: the other one, and the result (None: any)."""
        return _("Before"), _("After")

    def patientOf(self, result: Any) -> Any:
        """Return the node of the patient's own image that a result was made from, or None."""
        return placing.inputOf(result)

    def trialJob(self) -> Job | None:
        """Return what is tried to tell how long a run takes, asking nothing; None: nothing is tried now."""
        return self.makeJob()

    def makeJob(self) -> Job | None:
        """Return the job asked for; None: the user would rather not. Raises InputError if it cannot be."""
        raise TypeError(f"{type(self).__name__} has no job for its Apply button")

    def follow(self) -> None:
        """Show what the parameters say; called when one has changed, and by `refresh`."""
        self.showResult(self.parameters.result)

    def resultArrived(self, result: Any) -> None:
        """Take the result of a run that the scene has now; called while the module is open."""
        if self.parameters is not None:
            self.parameters.result = result

    def showArrived(self, result: Any) -> None:
        """Bring a new result onto the screen; called while the module is open."""
        if self.compareSection is not None:
            self.compareSection.show()

    def ownLayers(self, result: Any) -> tuple[Any, Any, float]:
        """Return what the user's own views show of a result: background, foreground and its opacity."""
        return result, None, 0.0

    def arrivals(self) -> list[Callable[[Any], None]]:
        """Return what is done with a new result while the module is open, one thing a turn."""
        return [self.resultArrived, self._offer, self.showArrived, self._measureArrived]

    def keys(self) -> list[tuple[str, str]]:
        """Return the panel's keys and what they do, for the sheet that F1 shows."""
        return list(chain.from_iterable(part.keys() for part in (self.runSection, *self._shownSections())))

    def linkedViews(self) -> list[LinkedViews]:
        """Return what the panel may show; asked once all its sections are there."""
        return [] if self.compareSection is None else [self.compareSection.comparison.views]

    def keptViews(self) -> keptviews.Widgets:
        """Return which widgets say how things are shown, by the parameter that keeps it."""
        return keptviews.shared(self.ui)

    def firstViews(self) -> list[View]:
        """Return the views to be made ahead, those of the first result in front."""
        return [] if self.compareSection is None else modes.allViews()

    def nodesGo(self) -> None:
        """Let go of all nodes: the scene closes, or what is shown is being removed."""

    # What all do ---------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Build the panel; called once, when the module is opened first."""
        super().setup()
        if "ViewSection" in self.sections:
            self.viewSection = ViewSection(self.ui, self.panel, self.linkedViews(), self.history)
        self._keptViews = keptviews.KeptViews(self.keptViews(), self.history)
        self.ahead = ahead.Ahead(self.firstViews, self.firstPlots, self.firstLibraries)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self.onNodeAboutToBeRemoved)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        self._watch = SceneWatch(self._followScene)
        self.initializeParameterNode()
        self.runSection.askDevices()
        if self.parent.isEntered:
            self.ahead.start()

    def buildSections(self) -> None:
        """Make what drives Run and Compare."""
        self._keySheet = KeySheet(self.panel, self.title, lambda: self.keys())
        self.runSection = RunSection(
            self.ui,
            self.title,
            self.logic.requirementsPath(),
            self.makeJob,
            self.trialJob,
            self._arriving,
            self._onDevice,
            self.refresh,
            lambda: bool(self.parent.isEntered),
            self.engines,
        )
        if "CompareSection" in self.sections:
            self.compareSection = CompareSection(
                self.ui, self.panel, self.compared, self.verb, self._onResultChosen, self.history
            )
        if "OutSection" in self.sections and self.compareSection is not None:
            self.outSection = OutSection(
                self.ui,
                self.runSection.start,
                self.patientOf,
                lambda: setattr(self.ui.compareButton, "checked", True),
                self.compareSection.comparison,
            )

    def gone(self) -> None:
        """End what runs."""
        self.ahead.stop()
        self._watch.stop()
        self.runSection.kill()
        self._keySheet.enable(False)
        self.nodesGo()
        self._leaveSections()
        if self.compareSection is not None:
            self.compareSection.measuring.stop()
        self.setParameterNode(None)

    def opened(self) -> None:
        """Follow the scene's parameters."""
        super().opened()
        self._keySheet.enable(True)
        self.initializeParameterNode()
        for section in self._shownSections():
            section.enter()
        self.runSection.askDevices()
        self.ahead.start()

    def left(self) -> None:
        """Take the comparison off the screen; a run goes on."""
        self.ahead.stop()
        self.runSection.exit()
        self._keySheet.enable(False)
        self._leaveSections()
        if not self.runSection.running:
            self.setParameterNode(None)

    def sceneGoes(self) -> None:
        """Let go of all nodes, and end the run."""
        self.ahead.stop()
        self.runSection.cancel()
        self._forgetNodes()
        self.setParameterNode(None)
        self.runSection.showStatus("")
        self.runSection.showReport(None)

    def sceneEmptied(self) -> None:
        """Follow the new scene's parameters."""
        self.initializeParameterNode()
        self.ahead.start()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAboutToBeRemoved(self, caller: Any, event: Any, node: Any) -> None:
        """Take along what means nothing without a removed result, and stop comparing it."""
        if slicer.mrmlScene.IsClosing() or node is None:
            return
        if self.compareSection is not None and node in self.compareSection.nodes():
            self._forgetNodes()
        dependents = placing.dependentsOf(node)
        if dependents:
            # Not now: the scene is in the middle of a removal.
            qt.QTimer.singleShot(0, lambda: placing.removeNodes(dependents))

    def onSceneEndImport(self, caller: Any, event: Any) -> None:
        """A scene was loaded, and with it other parameters."""
        if self.parameters is not None:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Have a parameter node, and an input where there is one to choose."""
        self.setParameterNode(self.logic.getParameterNode())
        self._chooseInput()

    def setParameterNode(self, parameterNode: Any) -> None:
        """Follow this parameter node instead of the one before; None: follow none."""
        if self.parameters is not None:
            self.parameters.disconnectGui(self._guiTag)
            self.removeObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self._onParameters)
        self.parameters = parameterNode
        self._keptViews.follow(parameterNode)
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
            running, focused = self.runSection.running, slicer.app.focusWidget()
            if running and focused is not None and self.panel.isAncestorOf(focused):
                self.ui.applyButton.setFocus()  # else Tab would begin at the panel's head again
            self.panel.enabled = not running
            self.follow()
            device = self.parameters.device or AUTOMATIC
            self.runSection.refresh(self.reason(), self.doing(), device, self.slow())
            if self.outSection is not None:
                self.outSection.refresh(running)
        finally:
            self._following = False

    def showResult(self, result: Any) -> None:
        """Offer the comparison of this result (None: nothing) and show its report."""
        if self.compareSection is not None:
            self.compareSection.setResult(result)
        if self.outSection is not None:
            self.outSection.setResult(result)
        if result is not None and placing.reportOf(result) is not None:
            self.runSection.showReport(result)

    def _onParameters(self, caller: Any = None, event: Any = None) -> None:
        # In a scene that is being loaded, parameters may come before the nodes that they name.
        if not slicer.mrmlScene.IsImporting():
            self.refresh()

    def _onDevice(self, spec: str) -> None:
        if self.parameters is not None:
            self.parameters.device = spec

    def _followScene(self) -> None:
        """Offer what can be chosen now."""
        if self.parameters is not None:
            self._chooseInput()
            if self.compareSection is not None:
                self.compareSection.setResult(self.parameters.result)
                self.compareSection.measuring.nodesChanged()

    def _chooseInput(self) -> None:
        """Take a CT as input where none is chosen: the first that is no result of ours."""
        if self.takesVolume and not self.parameters.inputVolume:
            self.parameters.inputVolume = next(iter(placing.originals()), None)

    def _onResultChosen(self, result: Any) -> None:
        if self.parameters is not None:
            self.parameters.result = result

    def _offer(self, result: Any) -> None:
        if self.compareSection is not None:
            self.compareSection.setResult(result, shown=False)
        if self.outSection is not None:
            self.outSection.setResult(result)

    def _measureArrived(self, _result: Any) -> None:
        if self.compareSection is not None:
            self.compareSection.measure()

    def _arriving(self, result: Any) -> Iterator[float]:
        """Take and show a result, in short steps: meanwhile the scene may be closed, or the module left."""
        for do in self.arrivals():
            if not slicer.mrmlScene.IsNodePresent(result):
                return
            if not self.parent.isEntered:
                # The views are another module's now; the result is shown when this one is opened again.
                self.setParameterNode(None)
                self.logic.getParameterNode().result = result
                return
            do(result)
            yield 0.0
        if slicer.mrmlScene.IsNodePresent(result):
            yield from showInOwn(self.ownLayers(result), self.patientOf(result), placing.reportOf)

    def _onResult(self, result: Any) -> None:
        for _part in self._arriving(result):
            pass

    def _shownSections(self) -> list[Any]:
        return [each for each in (self.compareSection, self.viewSection, self.outSection) if each is not None]

    def _leaveSections(self) -> None:
        for section in self._shownSections():
            section.exit()

    def _forgetNodes(self) -> None:
        self.nodesGo()
        if self.compareSection is not None:
            self.compareSection.hide()
        if self.outSection is not None:
            self.outSection.setResult(None)
