"""CT Reconstruct: low-dose projections in, an image out, stage beside stage, checked against the data.

The computation runs in a process of its own (CTEnhanceLib.process.worker). This file holds the panel's
parameters and the logic for the Python console. Nothing is imported here beyond Slicer, the standard library
and numpy.
"""

import enum
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest

from ctenhance import choices
from ctenhance.options import ReconstructOptions
from ctenhance.runtime.errors import CTEnhanceError
from CTEnhanceLib.compare import figures
from CTEnhanceLib.compare.figures import Figure
from CTEnhanceLib.compare.modes import Mode
from CTEnhanceLib.panel import about
from CTEnhanceLib.panel.modelchoice import ModelChoice
from CTEnhanceLib.panel.sourcerows import SourceRows, typedPath
from CTEnhanceLib.panel.widget import PanelLogic, PanelWidget
from CTEnhanceLib.process import transfer
from CTEnhanceLib.process.devices import deviceOptions
from CTEnhanceLib.process.run import runAndWait
from CTEnhanceLib.reconstruct import stages
from CTEnhanceLib.reconstruct.job import (
    COLUMNS,
    DEFAULT_OPTIONS,
    VIEWS,
    Method,
    ReconstructJob,
    Simulation,
    problem,
    scannedOf,
)
from CTEnhanceLib.reconstruct.section import StagesSection
from CTEnhanceLib.reconstruct.stages import Overlay, comparedNames
from CTEnhanceLib.scene import placing
from CTEnhanceLib.views import layouts
from CTEnhanceLib.views.slab import Projection


class CTReconstruct(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        text = _(
            "Reconstructs low-dose projections, at doses that no network was trained on, and checks the "
            "result against the measured data. Choose a projection file, a folder of DICOM-CT-PD files, or "
            "a CT whose scan is simulated at a dose of your choice, and press Apply."
        )
        category = _("Tomographic Reconstruction")
        about.describe(self.parent, _("CT Reconstruct"), text, "panel-ct-reconstruct.md", [category])
        layouts.atStartup(figures.layouts, stages.layouts)
        transfer.removeLeftoversAtStartup()


class Source(enum.Enum):
    """Where the projections come from."""

    MEASURED = 0
    SIMULATED = 1

    def label(self):
        """Return the source's name in the list."""
        return {
            Source.MEASURED: _("Projections: a file or a folder"),
            Source.SIMULATED: _("Simulate the scan of a loaded CT"),
        }[self]


@parameterNodeWrapper
class CTReconstructParameterNode:
    """What the user chose; saved with the scene.

    source - measured projections, or a simulated scan
    path - the projection file (.ctproj.h5) or the folder of DICOM-CT-PD files
    inputVolume, dosePercent, views, columns - what scan to simulate
    method, kernel - of the reconstruction
    matrix, fieldOfView - pixels a side, and mm; 0: as the data suggest
    residual, uncertainty - whether these maps are asked for
    study - DICOM images of the patient, whose study exported series join; empty: that of the input
    projectionModel, imageModel - name or path of the weights; empty: the default ones
    device, seed - auto, cpu, cuda:0 … or mps; the same seed gives the same result on the same one
                   with the same number of threads
    viewMode, slab, slabThickness, fade, differenceRange, figure, trustShown, trustRange - how images are
        shown, as in CT Enhance
    overlay, overlayRange, overlayOpacity - the map over the last stage, where it has its last colour (HU),
        and how much it covers
    result - the reconstruction that is shown
    """

    source: Source = Source.MEASURED
    path: str = ""
    inputVolume: vtkMRMLScalarVolumeNode
    dosePercent: Annotated[float, WithinRange(1, 100)] = 25.0
    views: Annotated[int, WithinRange(32, 4096)] = VIEWS
    columns: Annotated[int, WithinRange(32, 4096)] = COLUMNS
    method: Method = Method.NEED
    kernel: Annotated[str, Choice(list(choices.KERNELS))] = choices.DEFAULT_KERNEL
    matrix: Annotated[int, WithinRange(0, 4096)] = 0
    fieldOfView: Annotated[float, WithinRange(0, 1000)] = 0.0
    residual: bool = True
    uncertainty: bool = False
    projectionModel: str = ""
    imageModel: str = ""
    study: str = ""
    device: str = "auto"
    seed: Annotated[int, WithinRange(0, 2**31 - 1)] = 0
    viewMode: Mode = Mode.SIDE_BY_SIDE
    slab: Projection = Projection.NONE
    slabThickness: float = 10.0
    fade: Annotated[float, WithinRange(0, 1)] = 1.0
    differenceRange: float = 50.0
    figure: Figure = Figure.NONE
    trustShown: bool = False
    trustRange: float = 50.0
    overlay: Overlay = Overlay.NONE
    overlayRange: float = 50.0
    overlayOpacity: Annotated[float, WithinRange(0, 1)] = 0.6
    result: vtkMRMLScalarVolumeNode


class CTReconstructLogic(PanelLogic):
    """Reconstructing without the panel."""

    parameterNodeType = CTReconstructParameterNode

    def process(
        self,
        source: str | Path | vtkMRMLScalarVolumeNode | Simulation,
        options: ReconstructOptions = DEFAULT_OPTIONS,
        progress: Callable[[str, float], None] | None = None,
    ) -> vtkMRMLScalarVolumeNode:
        """Reconstruct and return the last stage, when it is there; Slicer stays usable meanwhile.

        source - a projection file, a folder of DICOM-CT-PD files, or a scan to be simulated: a
                 `Simulation(node, dose)`, or a CT volume for one at full dose
        options - as for `ctenhance.reconstruct`: method, kernel, residual, device and so on
        progress - is called with a stage and a percentage

        Raises CTEnhanceError with one sentence when it cannot be done; the scene is as it was then.
        """
        if isinstance(source, str):
            source = Path(source)
        elif not isinstance(source, Path | Simulation):
            source = Simulation(source, 1.0)
        job = ReconstructJob(source, options)
        return runAndWait(job, self.requirementsPath(), progress)


class CTReconstructWidget(PanelWidget):
    """The panel."""

    title = _("CT Reconstruct")
    logicType = CTReconstructLogic
    verb = "reconstruct"
    engines = True
    takesVolume = True
    sections = ("RunSection", "StagesSection", *PanelWidget.sections[1:])

    def connectWidgets(self) -> None:
        """Fill the model lists, connect the buttons."""
        ui = self.ui
        self._lastResult = None
        self.projectionModels = ModelChoice(
            ui.projectionModelSelector,
            ui.projectionModelBrowseButton,
            "reconstruct-projection",
            choices.PROJECTION_ARCHITECTURES,
            self._onProjectionModel,
        )
        self.imageModels = ModelChoice(
            ui.imageModelSelector,
            ui.imageModelBrowseButton,
            "reconstruct-image",
            choices.IMAGE_ARCHITECTURES,
            self._onImageModel,
        )
        ui.sampleButton.connect("clicked()", self._onSample)
        self.stagesSection = StagesSection(ui)
        self._sourceRows = SourceRows(
            ui,
            shown={
                Source.MEASURED: ("pathLabel", "pathEdit", "fileButton", "folderButton"),
                Source.SIMULATED: ("inputLabel", "inputSelector", "doseLabel", "doseSlider"),
            },
            enabled={Source.SIMULATED: ("viewsBox", "columnsBox")},
            onPath=self._onPath,
        )

    def linkedViews(self):
        """Return the comparison and the stages."""
        return [*super().linkedViews(), self.stagesSection.stages.views]

    def keptViews(self):
        """Add the map that lies over the last stage."""
        ui = self.ui
        own = {
            "overlay": (ui.overlaySelector, Overlay),
            "overlayRange": (ui.overlayRangeSlider, float),  # after the map, which suggests one
            "overlayOpacity": (ui.overlayOpacitySlider, float),
        }
        return {**super().keptViews(), **own}

    def firstViews(self):
        """Return those of the stages, and of the comparison."""
        return [*stages.stageViews().values(), stages.sinogramView(), *super().firstViews()]

    def opened(self) -> None:
        """Follow the scene's parameters, and its stages."""
        super().opened()
        self.stagesSection.refresh()

    def reason(self) -> str:
        """Say what is wrong with the source, the settings or the models, if anything."""
        method = self.parameters.method
        return (
            problem(self._source(), self._options())
            or ("" if method is Method.FBP else self.projectionModels.reason())
            or (self.imageModels.reason() if method is Method.NEED else "")
        )

    def doing(self) -> str:
        """Say what Apply does."""
        simulated = self.parameters.source is Source.SIMULATED
        return _("Simulate the scan and reconstruct it.") if simulated else _("Reconstruct the projections.")

    def makeJob(self) -> ReconstructJob:
        """Return the run that the parameters ask for."""
        return ReconstructJob(self._source(), self._options())

    def compared(self, result) -> tuple[str, str]:
        """Name the stages."""
        return comparedNames(result)

    def patientOf(self, result):
        """Return the CT whose scan was simulated, where it was one."""
        return scannedOf(result)

    def resultArrived(self, result) -> None:
        """Tell of it, and remember it with the scene."""
        self._lastResult = result
        self.stagesSection.setResult(result, shown=False)
        if self.parameters is not None:
            self.parameters.result = result

    def showArrived(self, result) -> None:
        """Show all stages; two of them can be compared more closely afterwards."""
        self.stagesSection.show()

    def nodesGo(self) -> None:
        """Show no node any longer."""
        self._lastResult = None
        self.stagesSection.hide()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAboutToBeRemoved(self, caller, event, node) -> None:
        """Stop showing a result that goes."""
        if node is not None and node is self._lastResult and not slicer.mrmlScene.IsClosing():
            self.nodesGo()
        super().onNodeAboutToBeRemoved(caller, event, node)

    def follow(self) -> None:
        """Show what the parameters say."""
        ui, chosen = self.ui, self.parameters
        method = chosen.method
        self._sourceRows.follow(chosen.source)
        nothing = not chosen.path and chosen.inputVolume is None and not placing.originals()
        ui.sampleButton.visible = ui.sampleLabel.visible = nothing
        ui.uncertaintyBox.enabled = method is not Method.FBP
        ui.projectionModelSelector.enabled = ui.projectionModelBrowseButton.enabled = method is not Method.FBP
        ui.imageModelSelector.enabled = ui.imageModelBrowseButton.enabled = method is Method.NEED
        self.projectionModels.follow(chosen.projectionModel)
        self.imageModels.follow(chosen.imageModel)
        if chosen.result is not self._lastResult:
            self._lastResult = chosen.result
            self.stagesSection.setResult(chosen.result)
            self.showResult(chosen.result)

    def _source(self) -> Path | Simulation | None:
        chosen = self.parameters
        if chosen.source is Source.SIMULATED:
            return Simulation(chosen.inputVolume, chosen.dosePercent / 100, chosen.views, chosen.columns)
        return typedPath(chosen.path)

    def _options(self) -> ReconstructOptions:
        chosen = self.parameters
        return ReconstructOptions(
            method=chosen.method.value,
            kernel=chosen.kernel,
            image_size=chosen.matrix or None,
            fov_mm=chosen.fieldOfView or None,
            residual=chosen.residual,
            uncertainty=chosen.uncertainty and chosen.method is not Method.FBP,
            model_projection=self.projectionModels.model(),
            model_image=self.imageModels.model(),
            seed=chosen.seed,
            **deviceOptions(chosen.device),
        )

    def _onSample(self) -> None:
        node = about.loadSample(about.SAMPLE)
        if node is not None and self.parameters is not None:
            self.parameters.source, self.parameters.inputVolume = Source.SIMULATED, node

    def _onPath(self, path: str) -> None:
        if self.parameters is not None:
            self.parameters.path = path

    def _onProjectionModel(self, key: str) -> None:
        if self.parameters is not None:
            self.parameters.projectionModel = key

    def _onImageModel(self, key: str) -> None:
        if self.parameters is not None:
            self.parameters.imageModel = key


class CTReconstructTest(ScriptedLoadableModuleTest):
    """What can be tested wherever Slicer runs, without a model."""

    def setUp(self):
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Run all."""
        self.setUp()
        self.test_refusals()
        self.setUp()
        self.test_arguments()

    def test_refusals(self):
        """What cannot be reconstructed is said in a sentence."""
        logic = CTReconstructLogic()
        self.assertIn("Choose a projection file", problem(None, DEFAULT_OPTIONS))
        with self.assertRaises(CTEnhanceError):
            logic.process("/no/such/file.ctproj.h5")
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
        self.assertIn("holds no image", problem(Simulation(node, 0.25), DEFAULT_OPTIONS))
        with self.assertRaises(CTEnhanceError):
            logic.process(Simulation(node, 0.25))
        with self.assertRaises(CTEnhanceError):
            ReconstructOptions(method="fbp", uncertainty=True)

    def test_arguments(self):
        """A simulated scan takes two verbs, measured projections one."""
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
        folder = Path(slicer.app.temporaryPath)
        simulated = ReconstructJob(Simulation(node, 0.25))
        self.assertEqual([command.arguments[0] for command in simulated.preceding(folder)], ["project"])
        self.assertEqual(simulated.arguments(folder)[0], "reconstruct")
        self.assertEqual(list(ReconstructJob(folder).preceding(folder)), [])
