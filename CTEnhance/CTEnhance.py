"""CT Enhance: a routine CT, cleaned towards what photon-counting CT shows, beside the original.

The computation runs in a process of its own (CTEnhanceLib.process.worker). This file holds the panel's
parameters and the logic for the Python console. Nothing is imported here beyond Slicer, the standard library
and numpy.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import qt
import slicer
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest

from ctenhance import choices
from ctenhance.options import EnhanceOptions
from ctenhance.runtime.errors import CTEnhanceError
from CTEnhanceLib.compare import figures
from CTEnhanceLib.compare.figures import Figure
from CTEnhanceLib.compare.modes import Mode
from CTEnhanceLib.compare.resultchoice import resultsOf
from CTEnhanceLib.compare.strength import StrengthWriter, canBlend, presets
from CTEnhanceLib.enhance.batchwindow import BatchWindow, Settings
from CTEnhanceLib.enhance.job import DEFAULT_OPTIONS, VERB, EnhanceJob, isForeign, problem
from CTEnhanceLib.panel import about
from CTEnhanceLib.panel.base import RESOURCES
from CTEnhanceLib.panel.modelchoice import ModelChoice
from CTEnhanceLib.panel.widget import PanelLogic, PanelWidget
from CTEnhanceLib.process import dependencies, transfer
from CTEnhanceLib.process.devices import deviceOptions
from CTEnhanceLib.process.run import runAndWait
from CTEnhanceLib.scene import placing, volumes
from CTEnhanceLib.views import layouts
from CTEnhanceLib.views.slab import Projection

WITHOUT_TORCH = RESOURCES / "requirements-enhance.txt"
SAMPLES_SHA256 = {
    about.SAMPLE: "cf677e3c2772d6a7d4262f43d0162202c6cfcbec4a9c87d5cc41d61ff08f1c9b",
    about.ROUTINE_SAMPLE: "f77c6803e1da2c9c8342af9ab72f4e4befc8fc2cb6776c20be700e9e5dbfa4d1",
}


class CTEnhance(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        text = _(
            "Cleans a routine CT towards what photon-counting CT shows: less noise, no detail lost, the same "
            "Hounsfield units. Choose a CT volume, press Apply, and compare before and after side by side."
        )
        category = translate("qSlicerAbstractCoreModule", "Filtering")
        about.describe(self.parent, _("CT Enhance"), text, "panel-ct-enhance.md", [category])
        layouts.atStartup(figures.layouts)
        transfer.removeLeftoversAtStartup()
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """Offer the phantoms that come with the module in the module Sample Data."""
    icon = RESOURCES / "Icons" / "CTEnhance.png"
    for name, sha256 in SAMPLES_SHA256.items():
        about.registerSample(name, about.samplePath(name), sha256, icon)


@parameterNodeWrapper
class CTEnhanceParameterNode:
    """What the user chose; saved with the scene.

    inputVolume - the CT to enhance
    outputVolume - takes the next result; a new volume if there is none
    model - name or path of the weights; empty: the default ones
    strength - 0 keeps the input, 1 is the full effect
    keepFaint - whether the next result keeps more of faint lesions, and some noise
    trustMap - whether the next result gets a trust map
    study - DICOM images of the patient, whose study exported series join; empty: that of the input
    device - auto, cpu, cuda:0 … or mps; 'cpu by torch' names what runs the network, too
    viewMode, slab, slabThickness - how images are shown, and what of several slices (mm)
    fade, differenceRange - how far one image covers the other (1: wholly), and the difference's range (HU)
    figure - what is plotted of the chosen region
    trustShown, trustRange - whether the trust map lies over the result, and where it is red (HU)
    result - the result that is shown, and whose strength follows
    """

    inputVolume: vtkMRMLScalarVolumeNode
    outputVolume: vtkMRMLScalarVolumeNode
    model: str = ""
    strength: Annotated[float, WithinRange(0, 1)] = 1.0
    keepFaint: bool = False
    trustMap: bool = False
    study: str = ""
    device: str = "auto"
    viewMode: Mode = Mode.SIDE_BY_SIDE
    slab: Projection = Projection.NONE
    slabThickness: float = 10.0
    fade: Annotated[float, WithinRange(0, 1)] = 1.0
    differenceRange: float = 50.0
    figure: Figure = Figure.NONE
    trustShown: bool = False
    trustRange: float = 50.0
    result: vtkMRMLScalarVolumeNode


class CTEnhanceLogic(PanelLogic):
    """Enhancing without the panel."""

    parameterNodeType = CTEnhanceParameterNode

    def requirementsPath(self) -> Path:
        """Return the file with the packages: without PyTorch a few that OpenVINO needs, else all."""
        return super().requirementsPath() if dependencies.torchInstalled() else WITHOUT_TORCH

    def process(
        self,
        inputNode: vtkMRMLScalarVolumeNode,
        outputNode: vtkMRMLScalarVolumeNode | None = None,
        options: EnhanceOptions = DEFAULT_OPTIONS,
        overwrite: bool = False,
        progress: Callable[[str, float], None] | None = None,
    ) -> vtkMRMLScalarVolumeNode:
        """Enhance a CT volume and return the result, when it is there; Slicer stays usable meanwhile.

        outputNode - takes the result; None: a new volume
        options - as for `ctenhance.enhance`: strength, model, device and so on
        overwrite - whether the output may be a volume with an image that is no result of CT Enhance
        progress - is called with a stage and a percentage

        Raises CTEnhanceError with one sentence when it cannot be done; the scene is as it was then.
        """
        job = EnhanceJob(inputNode, outputNode, options, overwrite)
        return runAndWait(job, self.requirementsPath(), progress)


class CTEnhanceWidget(PanelWidget):
    """The panel."""

    title = _("CT Enhance")
    logicType = CTEnhanceLogic
    verb = VERB
    engines = True
    takesVolume = True

    def connectWidgets(self) -> None:
        """Fill model and preset lists."""
        ui = self.ui
        self._lastInput = self._lastResult = None
        self._strengthWriter = StrengthWriter(self._onStrengthWritten)
        self.models = ModelChoice(
            ui.modelSelector, ui.modelBrowseButton, "enhance", choices.ENHANCE_ARCHITECTURES, self._onModel
        )
        for name, strength in presets():
            ui.presetSelector.addItem(_("{name} ({percent:.0f} %)").format(name=name, percent=100 * strength))
        ui.presetSelector.addItem(_("Custom"))
        ui.presetSelector.connect("currentIndexChanged(int)", self._onPreset)
        ui.sampleButton.connect("clicked()", self._onSample)
        self.batchWindow = BatchWindow(
            str(RESOURCES / "UI" / "BatchWindow.ui"),
            self.title,
            self._batchSettings,
            self.logic.requirementsPath,
            self.runSection.start,
            lambda: self.runSection.running,
            self._onCaseOpened,
            self._onBatch,
        )
        ui.batchButton.connect("clicked()", self.batchWindow.show)

    def gone(self) -> None:
        """End the batch, too."""
        self.batchWindow.kill()
        super().gone()

    def trialJob(self) -> EnhanceJob | None:
        """Try nothing beside a batch."""
        if self.batchWindow.batch.running:
            return None
        return EnhanceJob(self.parameters.inputVolume, None, self._options())

    def _options(self) -> EnhanceOptions:
        chosen = self.parameters
        return EnhanceOptions(
            model=self.models.model(),
            strength=chosen.strength,
            keep_faint=float(chosen.keepFaint),
            uncertainty=chosen.trustMap,
            **deviceOptions(chosen.device),
        )

    def _onSample(self) -> None:
        node = about.loadSample(about.ROUTINE_SAMPLE)
        if node is not None and self.parameters is not None:
            self.parameters.inputVolume = node

    def _batchSettings(self) -> Settings:
        """Return what a batch is done with: the panel's model, strength, faint structures and device."""
        chosen, ui = self.parameters, self.ui
        strength = 1.0 if chosen is None else chosen.strength
        device = "auto" if chosen is None else chosen.device
        kept = chosen is not None and chosen.keepFaint
        options = EnhanceOptions(
            model=self.models.model(), strength=strength, keep_faint=float(kept), **deviceOptions(device)
        )
        line = (
            _("{model}, strength {percent:.0f} %, faint structures kept, {device}")
            if kept
            else _("{model}, strength {percent:.0f} %, {device}")
        )
        text = line.format(
            model=ui.modelSelector.currentText, percent=100 * strength, device=ui.deviceSelector.currentText
        )
        return Settings(options, text)

    def _onBatch(self, sentence: str) -> None:
        self.ui.batchButton.text = _("Batch: {state}").format(state=sentence) if sentence else _("Batch…")

    def _onCaseOpened(self, result) -> None:
        """Show a case of the batch."""
        if not self.parent.isEntered:
            slicer.util.selectModule(self.moduleName)
        another = self.parameters is None or self.parameters.result is not result
        if self.parameters is not None:
            self.parameters.inputVolume = placing.inputOf(result)
        self._onResult(result)
        if another:  # the place that was looked at is another patient's
            self.compareSection.comparison.views.fit(placing.inputOf(result), anew=True)

    def reason(self) -> str:
        """Say what is wrong with the nodes or the model, if anything."""
        chosen = self.parameters
        return problem(chosen.inputVolume, chosen.outputVolume) or self.models.reason()

    def doing(self) -> str:
        """Say what Apply does."""
        return _("Enhance the CT.")

    def makeJob(self) -> EnhanceJob | None:
        """Return the run that the parameters ask for; None: an image was to be kept after all."""
        self._strengthWriter.forget()
        chosen = self.parameters
        output = chosen.outputVolume
        overwrite = isForeign(output)
        if overwrite and not slicer.util.confirmYesNoDisplay(
            _(
                "'{name}' is no result of CT Enhance. Its image would be replaced, and be lost if it was not "
                "saved. Replace it? (For a new volume answer No, and choose it as Output.)"
            ).format(name=output.GetName()),
            windowTitle=self.title,
        ):
            self.runSection.showStatus(_("Nothing was computed: choose another output, or a new volume."))
            return None
        return EnhanceJob(chosen.inputVolume, output, self._options(), overwrite)

    def resultArrived(self, result) -> None:
        """Show it from now on."""
        if self.parameters is not None:
            self._lastInput, self._lastResult = placing.inputOf(result), result
            self.parameters.result = result

    def showArrived(self, result) -> None:
        """Show it with its trust map, where that was asked for."""
        super().showArrived(result)
        self.compareSection.showTrustMap()

    def nodesGo(self) -> None:
        """Nothing is written into nodes that go."""
        self._strengthWriter.forget()
        self._lastInput = self._lastResult = None

    def follow(self) -> None:
        """Show what the parameters say."""
        chosen = self.parameters
        self._followNodes(chosen)
        self.models.follow(chosen.model)
        ui = self.ui
        none = chosen.inputVolume is None and not placing.originals()
        ui.sampleButton.visible = ui.sampleLabel.visible = none
        ui.modelNoteLabel.text = self.models.does()
        ui.modelNoteLabel.visible = bool(ui.modelNoteLabel.text)
        near = [i for i, (_name, strength) in enumerate(presets()) if abs(strength - chosen.strength) < 0.005]
        ui.presetSelector.currentIndex = near[0] if near else len(presets())
        result = chosen.result
        if self.runSection.running or result is None or placing.inputOf(result) is None:
            return
        # Another strength of a result is shown at once; its voxels follow when the slider rests.
        changed = abs(chosen.strength - placing.strengthOf(result)) > 1e-4
        if not canBlend(result):
            if changed:
                self.runSection.showStatus(
                    _("Press Apply for another strength: the full effect is not saved with a scene.")
                )
        elif changed or self._strengthWriter.pending:
            self.compareSection.comparison.setStrengthPreview(chosen.strength)
            self._strengthWriter.ask(result, chosen.strength)

    def _followNodes(self, chosen) -> None:
        """Notice another input or result: the two stay together, so that strengths go to what is shown."""
        if chosen.result is not self._lastResult and placing.inputOf(chosen.result) is not None:
            chosen.inputVolume = self._lastInput = placing.inputOf(chosen.result)
        source = chosen.inputVolume
        if source is not self._lastInput:
            self._lastInput = source
            if chosen.outputVolume is not None and placing.inputOf(chosen.outputVolume) not in (None, source):
                chosen.outputVolume = None  # not to be overwritten by accident
            if placing.inputOf(chosen.result) is not source:
                own = [node for node in resultsOf(VERB) if placing.inputOf(node) is source]
                chosen.result = own[-1] if own and source is not None else None
        if chosen.result is not self._lastResult:
            self._lastResult = chosen.result
            if chosen.result is not None and placing.inputOf(chosen.result) is not None:
                chosen.strength = placing.strengthOf(chosen.result)
            self.showResult(chosen.result)

    def _onModel(self, key: str) -> None:
        if self.parameters is not None:
            self.parameters.model = key

    def _onPreset(self, index: int) -> None:
        if self.parameters is not None and not self._following and 0 <= index < len(presets()):
            self.parameters.strength = presets()[index][1]

    def _onStrengthWritten(self, result) -> None:
        self.compareSection.comparison.setStrengthPreview(None)
        qt.QTimer.singleShot(0, lambda: self._tellOfStrength(result))  # in a turn of its own

    def _tellOfStrength(self, result) -> None:
        if self.parameters is not None and self.parameters.result is result:
            self.compareSection.measure()
            self.compareSection.refreshTrust()
            self.runSection.showReport(result)


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

        from ctenhance.core.volume import CTVolume

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
