"""CT Decompose: energy bins of a photon-counting scan in, material maps and spectral images out.

The computation runs in a process of its own (CTEnhanceLib.process.worker). This file holds the panel's
parameters and the logic for the Python console. Nothing is imported here beyond Slicer, the standard library
and numpy.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import qt
import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest

from ctenhance.runtime.errors import CTEnhanceError, InputError
from CTEnhanceLib.decompose import views, volumes
from CTEnhanceLib.decompose.images import SpectralImages
from CTEnhanceLib.decompose.imagesection import ImageSection
from CTEnhanceLib.decompose.job import (
    MATERIALS,
    NO_MATERIAL,
    DecomposeJob,
    Phantom,
    Scatter,
    SpectralSimulation,
    Wanted,
    problem,
)
from CTEnhanceLib.decompose.section import SpectralSection
from CTEnhanceLib.decompose.spectral import Kind, SpectralImage
from CTEnhanceLib.panel import about
from CTEnhanceLib.panel.widget import PanelLogic, PanelWidget
from CTEnhanceLib.process import transfer
from CTEnhanceLib.process.projections import KERNELS
from CTEnhanceLib.process.run import Settings, runAndWait
from CTEnhanceLib.views import layouts


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
    kernel: Annotated[str, Choice(list(KERNELS))] = KERNELS[0]
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
    result: vtkMRMLScalarVolumeNode


class CTDecomposeLogic(PanelLogic):
    """Decomposing without the panel."""

    parameterNodeType = CTDecomposeParameterNode

    def process(
        self,
        path: str | Path | None = None,
        basis: Sequence[str] = ("water", "iodine"),
        kernel: str = KERNELS[0],
        matrix: int = 0,
        calibration: str | Path | None = None,
        scatter: str = Scatter.none.value,
        scatterRatio: float = 0.0,
        gridRatio: float = 0.0,
        errors: bool = True,
        phantom: str = Phantom.RODS.value,
        dose: float = 1.0,
        slices: int = 8,
        views: int = 720,
        columns: int = 512,
        device: str = "auto",
        seed: int = 0,
        progress: Callable[[str, float], None] | None = None,
        images: Mapping[str, vtkMRMLScalarVolumeNode] | str | Path | None = None,
    ) -> vtkMRMLScalarVolumeNode:
        """Decompose and return the map of the first material, when it is there; Slicer stays usable.

        path - a projection file with energy bins; None: the scan of a phantom is simulated
        basis - two or three materials, by name or as name=formula@density
        calibration - file with the drift of the thresholds, as `ctenhance calibrate drift` writes it
        scatter - none, kernel, network, or the path of a network's weights
        scatterRatio - the scanner's scatter to primary, from `ctenhance calibrate scatter`; 0: the file's
        gridRatio - height by gap of its anti-scatter grid, which the network makes use of; 0: the file's
        phantom, dose, slices, views, columns - of the simulated scan: rods, chest or a file of labels (.npz)
        progress - is called with a stage and a percentage
        images - volumes by energy, such as {"40": node, "70": other}, or the folder of a DICOM study that
            tells its energies; in place of projections

        `CTEnhanceLib.decompose.job.mapsOf(node)` are all maps. Raises CTEnhanceError with one sentence when
        it cannot be done; the scene is as it was then.
        """
        source: Path | SpectralSimulation | SpectralImages
        if images is not None:
            folder = Path(images) if isinstance(images, str | Path) else None
            source = SpectralImages(() if isinstance(images, str | Path) else tuple(images.items()), folder)
        elif path is not None:
            source = Path(path)
        else:
            source = SpectralSimulation(phantom, dose, slices, views, columns)
        drift = "" if calibration is None else str(calibration)
        wanted = Wanted(tuple(basis), kernel, matrix, errors, drift, scatter, scatterRatio, gridRatio)
        job = DecomposeJob(source, wanted, Settings(None, device, seed))
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
    sections = ("RunSection", "SpectralSection", "DetailsSection")

    def connectWidgets(self) -> None:
        """Connect the buttons."""
        ui = self.ui
        self._seenResult = None
        self.spectralSection = SpectralSection(ui, lambda make, done: self.runSection.start(make, done))
        self.imageSection = ImageSection(ui, self.panel)
        ui.fileButton.connect("clicked()", self._onFile)
        ui.calibrationButton.connect("clicked()", self._onCalibration)

    def opened(self) -> None:
        """The panel is on the screen."""
        super().opened()
        self.spectralSection.refresh()

    def reason(self) -> str:
        """Say what is wrong with the source or the settings, if anything."""
        return problem(self._source(), self._wanted())

    def doing(self) -> str:
        """Say what Apply does."""
        return {
            Source.MEASURED: _("Decompose the projections."),
            Source.SIMULATED: _("Simulate the scan and decompose it."),
            Source.IMAGES: _("Decompose the images."),
        }[self.parameters.source]

    def makeJob(self) -> DecomposeJob:
        """Return the run that the parameters ask for."""
        chosen = self.parameters
        return DecomposeJob(self._source(), self._wanted(), Settings(None, chosen.device, chosen.seed))

    def resultArrived(self, result) -> None:
        """Tell of it, and remember it with the scene."""
        self._seenResult = result
        self.spectralSection.setResult(result)
        if self.parameters is not None:
            self.parameters.result = result

    def showArrived(self, result) -> None:
        """Show the spectral images."""
        self.spectralSection.show()

    def nodesGo(self) -> None:
        """Show no node any longer."""
        self._seenResult = None
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
        simulated, images = chosen.source is Source.SIMULATED, chosen.source is Source.IMAGES
        for widget in (ui.pathLabel, ui.pathEdit, ui.fileButton):
            widget.visible = chosen.source is Source.MEASURED
        self.imageSection.follow(chosen, images)
        for widget in (ui.phantomLabel, ui.phantomSelector, ui.doseLabel, ui.doseSlider):
            widget.visible = simulated
        for widget in (ui.slicesBox, ui.viewsBox, ui.columnsBox):
            widget.enabled = simulated
        ofScan = (
            ui.kernelSelector,
            ui.matrixBox,
            ui.calibrationEdit,
            ui.calibrationButton,
            ui.scatterSelector,
        )
        for widget in ofScan:
            widget.enabled = not images
        ui.scatterRatioBox.enabled = chosen.scatter is not Scatter.none and not images
        # the kernel makes no use of it
        ui.gridRatioBox.enabled = chosen.scatter is Scatter.network and not images
        ui.thirdMaterialSelector.setItemText(0, _("no third one"))
        if chosen.result is not self._seenResult:
            self._seenResult = chosen.result
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
        path = _typed(chosen.path)
        return Path(path).expanduser() if path else None

    def _wanted(self) -> Wanted:
        chosen = self.parameters
        materials = (chosen.firstMaterial, chosen.secondMaterial, chosen.thirdMaterial)
        return Wanted(
            tuple(name for name in materials if name != NO_MATERIAL),
            chosen.kernel,
            chosen.matrix,
            chosen.errors,
            _typed(chosen.calibration),
            chosen.scatter.value,
            chosen.scatterRatio,
            chosen.gridRatio,
        )

    def _onFile(self) -> None:
        filters = _("Projections") + " (*.h5 *.hdf5)"
        path = qt.QFileDialog.getOpenFileName(self.panel, _("Projection file"), "", filters)
        if path and self.parameters is not None:
            self.parameters.path = path

    def _onCalibration(self) -> None:
        filters = _("Calibrations") + " (*.h5 *.hdf5)"
        path = qt.QFileDialog.getOpenFileName(self.panel, _("Drift of the thresholds"), "", filters)
        if path and self.parameters is not None:
            self.parameters.calibration = path


def _typed(path: str) -> str:
    """Return a path as the user typed or pasted it, without what surrounds it."""
    return path.strip().strip('"')


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
        self.assertIn("Choose a projection file", problem(None, Wanted()))
        with self.assertRaises(CTEnhanceError):
            logic.process("/no/such/file.ctproj.h5")
        self.assertIn("twice", problem(SpectralSimulation(), Wanted(("water", "water"))))
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
