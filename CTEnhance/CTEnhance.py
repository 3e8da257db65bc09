"""CT Enhance: a routine CT that looks as if a photon-counting scanner had made it, beside the original.

The computation runs in a process of its own (CTEnhanceLib.worker); this file is the panel, its parameters and
the logic for the Python console. Nothing is imported here beyond Slicer, the standard library and numpy.
"""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import qt
import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from ctenhance.runtime.errors import CTEnhanceError
from CTEnhanceLib import dependencies, placing, volumes
from CTEnhanceLib.choices import AUTOMATIC, Choices
from CTEnhanceLib.comparepanel import ComparePanel
from CTEnhanceLib.enhancement import EnhanceRun, Settings, problem
from CTEnhanceLib.strength import StrengthWriter, canBlend
from CTEnhanceLib.texts import durationText, progressText, stageText

DOCUMENTATION = "https://github.com/CTEnhance/CTEnhance/blob/main/docs/panel-ct-enhance.md"
SAMPLE = "CTEnhanceChestPhantom"
SAMPLE_SHA256 = "cf677e3c2772d6a7d4262f43d0162202c6cfcbec4a9c87d5cc41d61ff08f1c9b"
_WARNING_STYLE = "color: #C05000; font-weight: bold;"
_FAILURE_STYLE = "color: #C02020;"
_POLL_SECONDS = 0.02


class CTEnhance(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("CT Enhance")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Filtering")]
        self.parent.dependencies = []
        self.parent.contributors = ["The CTEnhance contributors"]
        self.parent.helpText = _(
            "Turns a routine CT into one that looks as if a photon-counting scanner had made it: less noise, "
            "sharper detail, the same Hounsfield units. Choose a CT volume, press Apply, and compare before "
            "and after side by side. Research use only; not for diagnosis."
        ) + _(' See the <a href="{url}">documentation</a>.').format(url=DOCUMENTATION)
        self.parent.acknowledgementText = _(
            "Built on 3D Slicer, PyTorch and MONAI. Each model says on what data it was trained: see the "
            "tooltip of its name, and its model card."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """Offer the phantom that comes with the module in the module Sample Data."""
    import SampleData

    resources = Path(__file__).resolve().parent / "Resources"
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="CTEnhance",
        sampleName=SAMPLE,
        # It came with the module: nothing is downloaded.
        uris=(resources / "SampleData" / f"{SAMPLE}.nrrd").as_uri(),
        fileNames=f"{SAMPLE}.nrrd",
        nodeNames=SAMPLE,
        checksums=f"SHA256:{SAMPLE_SHA256}",
        thumbnailFileName=str(resources / "Icons" / "CTEnhance.png"),
    )


@parameterNodeWrapper
class CTEnhanceParameterNode:
    """What the user chose; saved with the scene.

    inputVolume - the CT to enhance
    outputVolume - takes the result; a new volume if there is none
    model - name or path of the weights; empty: the default ones
    strength - 0 keeps the input, 1 is the full effect
    device - auto, cpu, cuda:0 … or mps
    """

    inputVolume: vtkMRMLScalarVolumeNode
    outputVolume: vtkMRMLScalarVolumeNode
    model: str = ""
    strength: Annotated[float, WithinRange(0, 1)] = 1.0
    device: str = AUTOMATIC


class CTEnhanceWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self._run: EnhanceRun | None = None
        self._seenInput = self._seenOutput = None
        self._reason = ""
        self._started = 0.0
        self._updating = False

    def setup(self) -> None:
        """Build the panel; called once, when the module is opened first."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/CTEnhance.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = CTEnhanceLogic()
        self.compare = ComparePanel(self.ui, uiWidget)
        self._strengthWriter = StrengthWriter(self._onStrengthWritten)
        self.choices = Choices(self.ui, uiWidget, lambda: self._parameterNode)

        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self.onNodeAboutToBeRemoved)

        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)

        self.initializeParameterNode()
        self.choices.askDevices()

    def cleanup(self) -> None:
        """The module goes: end what runs."""
        if self._run is not None:
            self._run.kill()
        self.choices.stop()
        self._strengthWriter.forget()
        self.compare.setKeyEnabled(False)
        self.removeObservers()

    def enter(self) -> None:
        """The user opens the module."""
        self.initializeParameterNode()
        self.compare.setKeyEnabled(True)
        self.choices.askDevices()

    def exit(self) -> None:
        """The user opens another module; a run goes on."""
        self.compare.setKeyEnabled(False)
        if self._run is None:
            self.setParameterNode(None)

    def onSceneStartClose(self, caller, event) -> None:
        """All nodes are about to go."""
        if self._run is not None:
            self._run.cancel()
        self._strengthWriter.forget()
        self.compare.hide()
        self.setParameterNode(None)
        self._seenInput = self._seenOutput = None
        self._showStatus("")
        self.ui.detailsText.setPlainText("")

    def onSceneEndClose(self, caller, event) -> None:
        """The scene is empty now."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAboutToBeRemoved(self, caller, event, node) -> None:
        """Take the hidden nodes of a removed result along, and stop comparing it."""
        if slicer.mrmlScene.IsClosing():
            return
        shown = self.compare.comparison.result
        if node is not None and node in (shown, placing.inputOf(shown)):
            self._strengthWriter.forget()
            self.compare.hide()
        hidden = placing.hiddenNodesOf(node)
        if hidden:
            # Not now: the scene is in the middle of a removal.
            qt.QTimer.singleShot(0, lambda: placing.removeNodes(hidden))

    def initializeParameterNode(self) -> None:
        """Have a parameter node, and an input where there is one to choose."""
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.inputVolume:
            firstVolume = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            if firstVolume and not firstVolume.GetHideFromEditors():
                self._parameterNode.inputVolume = firstVolume

    def setParameterNode(self, parameterNode: CTEnhanceParameterNode | None) -> None:
        """Follow this parameter node instead of the one before."""
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParameters)
        self._parameterNode = parameterNode
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParameters)
            self._onParameters()
        elif self._run is None:
            self.ui.applyButton.enabled = False

    def onApplyButton(self, checked=False) -> None:
        """Start, or stop what runs."""
        if self._run is not None:
            self.ui.applyButton.enabled = False
            self._run.cancel()
            return
        parameters = self._parameterNode
        settings = Settings(self.choices.model(), parameters.strength, parameters.device)
        try:
            if not dependencies.ensure(self.logic.requirementsPath(), _("CT Enhance")):
                self._showStatus(_("Nothing was installed, so nothing was computed."))
                return
            self._strengthWriter.forget()
            run = EnhanceRun(
                parameters.inputVolume,
                parameters.outputVolume,
                settings,
                self._onProgress,
                self._onDone,
                self._onFailed,
                self._onCancelled,
            )
            self._run, self._started = run, time.monotonic()
            run.start()
        except CTEnhanceError as error:
            self._onFailed(str(error), "")
            return
        self._onParameters()

    def _onProgress(self, progress) -> None:
        self.ui.progressBar.value = int(progress.percent)
        self._showStatus(progressText(progress))

    def _onDone(self, result, warnings: list[str]) -> None:
        self._run = None
        took = _("Done in {time} on {device}.").format(
            time=durationText(time.monotonic() - self._started),
            device=(placing.reportOf(result) or {}).get("device"),
        )
        self._showStatus(" ".join([took, *warnings]), _WARNING_STYLE if warnings else "")
        if self._parameterNode:
            self._seenInput, self._seenOutput = placing.inputOf(result), result
            self._parameterNode.outputVolume = result
        self._onParameters()
        self._showReport(result)
        self.compare.setResult(result)
        if self.parent.isEntered:  # who works in another module meanwhile keeps the layout
            self.compare.show()
        self.choices.askDevices()

    def _onFailed(self, sentence: str, details: str) -> None:
        self._run = None
        self._onParameters()
        self._showStatus(sentence, _FAILURE_STYLE)
        self.ui.detailsText.setPlainText(details)
        slicer.util.errorDisplay(sentence, **({"detailedText": details} if details else {}))

    def _onCancelled(self) -> None:
        self._run = None
        self._onParameters()
        self._showStatus(_("Cancelled; nothing was changed."))

    def _onParameters(self, caller=None, event=None) -> None:
        """Show what the parameter node says, and whether Apply can be pressed."""
        parameters = self._parameterNode
        if parameters is None or self._updating:
            return
        self._updating = True
        try:
            self._followNodes(parameters)
            self.choices.follow(parameters)
            self._refreshButtons(parameters)
            self._followStrength(parameters)
        finally:
            self._updating = False

    def _followNodes(self, parameters) -> None:
        """Notice another input or output."""
        source, result = parameters.inputVolume, parameters.outputVolume
        if source is not self._seenInput:
            self._seenInput = source
            if result is not None and placing.inputOf(result) not in (None, source):
                # A result of another input must not be overwritten by accident.
                parameters.outputVolume = result = None
        if result is not self._seenOutput:
            self._seenOutput = result
            if result is not None and placing.inputOf(result) is not None:
                parameters.strength = placing.strengthOf(result)
                self._showReport(result)
            self.compare.setResult(result)

    def _followStrength(self, parameters) -> None:
        """Show another strength of a result at once; its voxels follow when the slider rests."""
        result = parameters.outputVolume
        if self._run is not None or result is None or not canBlend(result):
            return
        changed = abs(parameters.strength - placing.strengthOf(result)) > 1e-4
        if changed or self._strengthWriter.pending:
            self.compare.comparison.setStrengthPreview(parameters.strength)
            self._strengthWriter.ask(result, parameters.strength)

    def _onStrengthWritten(self, result) -> None:
        self.compare.comparison.setStrengthPreview(None)
        self.compare.measure()
        self._showReport(result)

    def _refreshButtons(self, parameters) -> None:
        ui, running = self.ui, self._run is not None
        reason = problem(parameters.inputVolume, parameters.outputVolume, parameters.strength)
        reason = reason or self.choices.reason()
        ui.applyButton.text = _("Cancel") if running else _("Apply")
        ui.applyButton.enabled = running or not reason
        ui.applyButton.toolTip = (
            _("Stop; nothing will be changed.") if running else reason or _("Enhance the CT.")
        )
        ui.progressBar.visible = running
        for widget in (
            ui.inputSelector,
            ui.outputSelector,
            ui.modelSelector,
            ui.modelBrowseButton,
            ui.presetSelector,
            ui.strengthSlider,
            ui.deviceSelector,
            ui.deviceRefreshButton,
        ):
            widget.enabled = not running
        if not running and reason != self._reason:
            # Said once; what a run said last stays to be read until something else is wrong, or mended.
            self._showStatus(reason)
        self._reason = reason

    def _showStatus(self, text: str, style: str = "") -> None:
        self.ui.statusLabel.styleSheet = style
        self.ui.statusLabel.text = text

    def _showReport(self, result) -> None:
        report = placing.reportOf(result)
        text = "" if report is None else json.dumps(report, indent=2, ensure_ascii=False)
        self.ui.detailsText.setPlainText(text)


class CTEnhanceLogic(ScriptedLoadableModuleLogic):
    """Enhancing without the panel."""

    def getParameterNode(self):
        """Return the parameters of the scene."""
        return CTEnhanceParameterNode(super().getParameterNode())

    def requirementsPath(self) -> Path:
        """Return the file that lists the Python packages that the worker needs."""
        return Path(__file__).resolve().parent / "Resources" / "requirements.txt"

    def process(
        self,
        inputNode: vtkMRMLScalarVolumeNode,
        outputNode: vtkMRMLScalarVolumeNode | None = None,
        strength: float = 1.0,
        model: str | None = None,
        device: str = AUTOMATIC,
        seed: int = 0,
        progress: Callable[[str, float], None] | None = None,
    ) -> vtkMRMLScalarVolumeNode:
        """Enhance a CT volume and return the result, when it is there; Slicer stays usable meanwhile.

        outputNode - takes the result; None: a new volume
        strength - 0 keeps the input, 1 is the full effect
        model - name or path of the weights; None: the default ones
        device - auto, cpu, cuda:0 … or mps
        progress - is called with a stage and a percentage

        Raises CTEnhanceError with one sentence when it cannot be done; the scene is as it was then.
        """
        dependencies.require(self.requirementsPath())
        outcome = {}
        run = EnhanceRun(
            inputNode,
            outputNode,
            Settings(model, strength, device, seed),
            lambda each: progress(stageText(each.stage), each.percent) if progress else None,
            lambda result, warnings: outcome.update(result=result, warnings=warnings),
            lambda sentence, details: outcome.update(sentence=sentence, details=details),
            lambda: outcome.update(sentence=_("Cancelled; nothing was changed."), details=""),
        )
        run.start()
        while run.active or not outcome:
            slicer.app.processEvents()
            time.sleep(_POLL_SECONDS)
        if "result" not in outcome:
            if outcome["details"]:
                logging.error(outcome["details"])
            raise CTEnhanceError(outcome["sentence"])
        for warning in outcome["warnings"]:
            logging.warning(warning)
        return outcome["result"]


class CTEnhanceTest(ScriptedLoadableModuleTest):
    """What can be tested wherever Slicer runs, without a model: a volume's way to the worker and back."""

    def setUp(self):
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Run all."""
        self.setUp()
        self.test_volumeRoundTrip()
        self.setUp()
        self.test_refusals()

    def test_volumeRoundTrip(self):
        """A volume node becomes a CTVolume and a node again, voxel by voxel."""
        import numpy as np

        from ctenhance.volume import CTVolume

        values = np.random.default_rng(0).integers(-1000, 2000, (4, 5, 6)).astype(np.float32)
        volume = CTVolume(values, (0.7, 0.8, 2.5), (10.0, -20.0, 30.0))
        node = volumes.nodeFromVolume(volume, "CT")
        again = volumes.volumeFromNode(node)
        self.assertTrue(np.array_equal(again.array, values))
        self.assertTrue(np.allclose(again.origin, volume.origin))
        self.assertTrue(np.allclose(again.direction, volume.direction))

    def test_refusals(self):
        """What cannot be enhanced is said in a sentence."""
        logic = CTEnhanceLogic()
        self.assertIn("Choose a CT volume", problem(None, None))
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
        self.assertIn("holds no image", problem(node, None))
        with self.assertRaises(CTEnhanceError):
            logic.process(node)
