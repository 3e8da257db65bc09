"""CT Decompose: energy bins of a photon-counting scan in, material maps and spectral images out.

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
from ctenhance.options import DecomposeOptions
from ctenhance.runtime.errors import CTEnhanceError, InputError
from CTEnhanceLib.decompose import views, volumes
from CTEnhanceLib.decompose.curve import PLOT_VIEW
from CTEnhanceLib.decompose.images import SpectralImages
from CTEnhanceLib.decompose.imagesection import ImageSection
from CTEnhanceLib.decompose.job import (
    DEFAULT_OPTIONS,
    MATERIALS,
    NO_MATERIAL,
    DecomposeJob,
    Phantom,
    Scatter,
    SpectralSimulation,
    imageOf,
    problem,
)
from CTEnhanceLib.decompose.section import SpectralSection
from CTEnhanceLib.decompose.spectral import Kind, SpectralImage
from CTEnhanceLib.decompose.views import Mode as ViewMode
from CTEnhanceLib.out.section import OutSection
from CTEnhanceLib.panel import about
from CTEnhanceLib.panel.sourcerows import SourceRows, chooseFile, typed, typedPath
from CTEnhanceLib.panel.widget import PanelLogic, PanelWidget
from CTEnhanceLib.process import transfer
from CTEnhanceLib.process.run import runAndWait
from CTEnhanceLib.views import layouts
from CTEnhanceLib.views.slab import Projection

SIMULATED_RODS = SpectralSimulation()
# The widgets of settings that images which are there already do not have.
OF_SCANS = ("kernelSelector", "matrixBox", "calibrationEdit", "calibrationButton", "scatterSelector")


class CTDecompose(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        text = _(
            "Makes maps of materials from CT images at two or more energies, or from the energy bins of a "
            "photon-counting scan. Of these, at once as a slider moves, come monoenergetic images from 40 to "
            "190 keV, virtual non-contrast images, the effective atomic number and overlays. Choose images, "
            "a projection file or a phantom, and press Apply."
        )
        category = _("Spectral Imaging")
        about.describe(self.parent, _("CT Decompose"), text, "panel-ct-decompose.md", [category])
        layouts.atStartup(views.layouts)
        transfer.removeLeftoversAtStartup()


class Source(enum.Enum):
    """What is decomposed."""

    MEASURED = 0
    SIMULATED = 1
    IMAGES = 2

    def label(self):
        """Return the source's name in the list."""
        return {
            Source.MEASURED: _("Projections in energy bins: a file"),
            Source.SIMULATED: _("Simulate the scan of a phantom"),
            Source.IMAGES: _("Images at two or more energies"),
        }[self]


@parameterNodeWrapper
class CTDecomposeParameterNode:
    """What the user chose; saved with the scene.

    source - measured energy bins, a simulated scan, or images at two or more energies
    path - the projection file (.ctproj.h5)
    firstImage, firstEnergy, … - images and their energies: 40 (keV), 80kV, Sn140kV
    imageFolder - DICOM images that tell their energies, in place of these
    phantom, dosePercent, slices, views, columns - what scan to simulate
    firstMaterial, secondMaterial, thirdMaterial - the basis
    kernel, matrix - of the reconstruction; a matrix of 0 is what the data suggest
    calibration - file with the drift of the thresholds; empty: none
    scatter, scatterRatio, gridRatio - how it is corrected, the scanner's scatter to primary and height by gap
        of its anti-scatter grid; 0: the file's
    errors - whether standard errors of the maps are asked for
    lowNoise - whether monoenergetic images are shown and kept at low noise
    study - DICOM images of the patient, whose study exported series join; empty: one of their own
    device, seed - auto, cpu, cuda:0 … or mps; the same seed gives the same result on the same one
                   with the same number of threads
    keV, secondKeV - the energies that are shown
    viewMode, slab, slabThickness - how images are shown, and what of several slices (mm)
    curve - whether the spectral curve of the box is plotted
    result - the map of the first material of the decomposition that is shown
    """

    source: Source = Source.MEASURED
    path: str = ""
    firstImage: vtkMRMLScalarVolumeNode
    firstEnergy: str = ""
    secondImage: vtkMRMLScalarVolumeNode
    secondEnergy: str = ""
    thirdImage: vtkMRMLScalarVolumeNode
    thirdEnergy: str = ""
    imageFolder: str = ""
    phantom: Phantom = Phantom.RODS
    dosePercent: Annotated[float, WithinRange(1, 100)] = 100.0
    slices: Annotated[int, WithinRange(1, 512)] = 8
    views: Annotated[int, WithinRange(32, 4096)] = 720
    columns: Annotated[int, WithinRange(32, 4096)] = 512
    firstMaterial: Annotated[str, Choice(list(MATERIALS))] = "water"
    secondMaterial: Annotated[str, Choice(list(MATERIALS))] = "iodine"
    thirdMaterial: Annotated[str, Choice([NO_MATERIAL, *MATERIALS])] = NO_MATERIAL
    kernel: Annotated[str, Choice(list(choices.KERNELS))] = choices.DEFAULT_KERNEL
    matrix: Annotated[int, WithinRange(0, 4096)] = 0
    calibration: str = ""
    scatter: Scatter = Scatter.none
    scatterRatio: Annotated[float, WithinRange(0, 2)] = 0.0
    gridRatio: Annotated[float, WithinRange(0, 40)] = 0.0
    errors: bool = True
    lowNoise: bool = False
    study: str = ""
    device: str = "auto"
    seed: Annotated[int, WithinRange(0, 2**31 - 1)] = 0
    keV: float = 70.0
    secondKeV: float = 140.0
    viewMode: ViewMode = ViewMode.FOUR
    slab: Projection = Projection.NONE
    slabThickness: float = 10.0
    curve: bool = False
    result: vtkMRMLScalarVolumeNode


class CTDecomposeLogic(PanelLogic):
    """Decomposing without the panel."""

    parameterNodeType = CTDecomposeParameterNode

    def process(
        self,
        source: str | Path | SpectralSimulation | SpectralImages = SIMULATED_RODS,
        options: DecomposeOptions = DEFAULT_OPTIONS,
        progress: Callable[[str, float], None] | None = None,
    ) -> vtkMRMLScalarVolumeNode:
        """Decompose and return the map of the first material, when it is there; Slicer stays usable.

        source - a projection file with energy bins; a scan of a phantom, which is simulated; or images at two
                 or more energies: `SpectralImages((("40", node), ("70", other)))`, or, for those of a DICOM
                 study that says its energies, `SpectralImages(folder=path)`
        options - as for `ctenhance.decompose`: basis, kernel, scatter, errors, device and so on
        progress - is called with a stage and a percentage

        `CTEnhanceLib.decompose.job.mapsOf(node)` are all maps. Raises CTEnhanceError with one sentence when
        it cannot be done; the scene is as it was then.
        """
        job = DecomposeJob(Path(source) if isinstance(source, str) else source, options)
        return runAndWait(job, self.requirementsPath(), progress)

    def addImage(
        self,
        result: vtkMRMLScalarVolumeNode,
        kind: str = "vmi",
        kev: float = 70.0,
        lowNoise: bool = False,
    ) -> vtkMRMLScalarVolumeNode:
        """Make a spectral image of a result as a volume beside it, and return its node.

        kind - vmi (at `kev`, with `lowNoise` nearly at the noise of the quietest energy), vnc, zeff or
        electron-density

        Raises CTEnhanceError with one sentence when the result does not have it.
        """
        if kind not in [each.value for each in Kind]:
            raise InputError(
                _("There is no image '{kind}': choose {names}.").format(
                    kind=kind, names=", ".join(each.value for each in Kind)
                )
            )
        image = SpectralImage(Kind(kind), kev, lowNoise)
        steps = volumes.computed(result, image)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return volumes.place(result, image, end.value, (400.0, 50.0))


class CTDecomposeWidget(PanelWidget):
    """The panel."""

    title = _("CT Decompose")
    logicType = CTDecomposeLogic
    verb = "decompose"
    sections = ("RunSection", "SpectralSection", "ViewSection", "OutSection", "DetailsSection")
    firstPlots = (PLOT_VIEW,)
    firstLibraries = ()

    def connectWidgets(self) -> None:
        """Connect the buttons."""
        ui = self.ui
        self._lastResult = None
        self.spectralSection = SpectralSection(ui, self.history, self._followExport)
        self.outSection = OutSection(
            ui,
            self.runSection.start,
            self.patientOf,
            self.spectralSection.show,
            series=lambda result, folder, study: volumes.ExportJob(
                result, folder, study, self.spectralSection.chosen()
            ),
        )
        self.imageSection = ImageSection(ui, self.panel)
        self._sourceRows = SourceRows(
            ui,
            shown={
                Source.MEASURED: ("pathLabel", "pathEdit", "fileButton"),
                Source.SIMULATED: ("phantomLabel", "phantomSelector", "doseLabel", "doseSlider"),
            },
            enabled={
                Source.MEASURED: OF_SCANS,
                Source.SIMULATED: (*OF_SCANS, "slicesBox", "viewsBox", "columnsBox"),
            },
            onPath=self._onPath,
        )
        ui.calibrationButton.connect("clicked()", self._onCalibration)

    def opened(self) -> None:
        """The panel is on the screen."""
        super().opened()
        self.spectralSection.refresh()

    def keys(self) -> list[tuple[str, str]]:
        """Name the windows' keys, too."""
        return [*self.spectralSection.keys(), *super().keys()]

    def linkedViews(self):
        """Return the spectral images."""
        return [self.spectralSection.views.linked]

    def patientOf(self, result):
        """Return the first of the images that it was decomposed from, where it was."""
        return imageOf(result)

    def ownLayers(self, result):
        """Return the patient's own image, or the first map, with the contrast medium over it."""
        below, agent = imageOf(result) or result, self.spectralSection.views.materialMap()
        return below, None if agent is below else agent, 0.6

    def firstViews(self):
        """Return those of all modes."""
        return views.allViews()

    def keptViews(self):
        """Add what is shown of the result, and at which energies."""
        ui = self.ui
        own = {
            "viewMode": (ui.spectralModeSelector, ViewMode),
            "curve": (ui.curveBox, bool),
            "keV": (ui.energySlider, float),
            "secondKeV": (ui.secondEnergySlider, float),
        }
        return {**super().keptViews(), **own}

    def left(self) -> None:
        """The keys are free for others."""
        super().left()
        self.spectralSection.exit()

    def reason(self) -> str:
        """Say what is wrong with the source or the settings, if anything."""
        return problem(self._source(), self._options())

    def doing(self) -> str:
        """Say what Apply does."""
        return {
            Source.MEASURED: _("Decompose the projections."),
            Source.SIMULATED: _("Simulate the scan and decompose it."),
            Source.IMAGES: _("Decompose the images."),
        }[self.parameters.source]

    def slow(self) -> bool:
        """Images take seconds on any processor."""
        return self.parameters.source is not Source.IMAGES

    def makeJob(self) -> DecomposeJob:
        """Return the run that the parameters ask for."""
        return DecomposeJob(self._source(), self._options())

    def resultArrived(self, result) -> None:
        """Tell of it, and remember it with the scene."""
        self._lastResult = result
        self.spectralSection.setResult(result, shown=False)
        if self.parameters is not None:
            self.parameters.result = result

    def arrivals(self):
        """Make the images' nodes, and give them to the views, in turns of their own."""
        taken, offered, *rest = super().arrivals()
        section = self.spectralSection
        ahead = (lambda _result: section.prepare(), lambda _result: section.layAhead())
        return [taken, offered, *ahead, *rest]

    def showArrived(self, result) -> None:
        """Show the spectral images."""
        self.spectralSection.show()

    def nodesGo(self) -> None:
        """Show no node any longer."""
        self._lastResult = None
        self.spectralSection.hide()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAboutToBeRemoved(self, caller, event, node) -> None:
        """Stop showing maps of which one goes."""
        if node is not None and not slicer.mrmlScene.IsClosing() and self.spectralSection.nodeGoes(node):
            self.nodesGo()
        super().onNodeAboutToBeRemoved(caller, event, node)

    def follow(self) -> None:
        """Show what the parameters say."""
        ui, chosen = self.ui, self.parameters
        images = chosen.source is Source.IMAGES
        self._sourceRows.follow(chosen.source)
        self.imageSection.follow(chosen, images)
        ui.scatterRatioBox.enabled = chosen.scatter is not Scatter.none and not images
        # the kernel makes no use of it
        ui.gridRatioBox.enabled = chosen.scatter is Scatter.network and not images
        ui.thirdMaterialSelector.setItemText(0, _("no third one"))
        if chosen.result is not self._lastResult:
            self._lastResult = chosen.result
            self.spectralSection.setResult(chosen.result)
            self.showResult(chosen.result)

    def _source(self) -> Path | SpectralSimulation | SpectralImages | None:
        chosen = self.parameters
        if chosen.source is Source.IMAGES:
            return self.imageSection.chosen()
        if chosen.source is Source.SIMULATED:
            return SpectralSimulation(
                chosen.phantom.value, chosen.dosePercent / 100, chosen.slices, chosen.views, chosen.columns
            )
        return typedPath(chosen.path)

    def _options(self) -> DecomposeOptions:
        chosen = self.parameters
        materials = (chosen.firstMaterial, chosen.secondMaterial, chosen.thirdMaterial)
        corrected = chosen.scatter is not Scatter.none
        return DecomposeOptions(
            basis=[name for name in materials if name != NO_MATERIAL],
            kernel=chosen.kernel,
            image_size=chosen.matrix or None,
            errors=chosen.errors,
            calibration=typed(chosen.calibration) or None,
            scatter=chosen.scatter.value,
            scatter_ratio=chosen.scatterRatio or None if corrected else None,
            grid_ratio=chosen.gridRatio or None if chosen.scatter is Scatter.network else None,
            device=chosen.device,
            seed=chosen.seed,
        )

    def _followExport(self) -> None:
        if self.outSection is not None:
            self.outSection.refresh(self.runSection.running or self.spectralSection.busy)

    def _onPath(self, path: str) -> None:
        if self.parameters is not None:
            self.parameters.path = path

    def _onCalibration(self) -> None:
        path = chooseFile(self.panel, _("Drift of the thresholds"), _("Calibrations"))
        if path and self.parameters is not None:
            self.parameters.calibration = path


class CTDecomposeTest(ScriptedLoadableModuleTest):
    """What can be tested wherever Slicer runs."""

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
        """What cannot be decomposed is said in a sentence."""
        logic = CTDecomposeLogic()
        self.assertIn("Choose a projection file", problem(None, DEFAULT_OPTIONS))
        with self.assertRaises(CTEnhanceError):
            logic.process("/no/such/file.ctproj.h5")
        self.assertIn("twice", problem(SpectralSimulation(), DecomposeOptions(basis=["water", "water"])))
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "no maps")
        with self.assertRaises(CTEnhanceError):
            logic.addImage(node)

    def test_arguments(self):
        """A simulated scan takes two verbs, measured projections one."""
        folder = Path(slicer.app.temporaryPath)
        simulated = DecomposeJob(SpectralSimulation("chest", 0.5))
        self.assertEqual([command.arguments[0] for command in simulated.preceding(folder)], ["simulate"])
        self.assertEqual(simulated.arguments(folder)[0], "decompose")
        self.assertEqual(list(DecomposeJob(folder / "scan.ctproj.h5").preceding(folder)), [])
