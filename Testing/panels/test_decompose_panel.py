"""CT Decompose by clicks, on the real MRML scene: from energy bins to maps and spectral images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk

import slicerhost
from panel_run import close_panel, nodes, open_panel, press_apply, save_scene, temporaries
from view_pixels import pixels

REPOSITORY = Path(__file__).resolve().parents[2]
SECONDS = 900
SIDE, SLICES = 40, 6
SMALL = ["--matrix", str(SIDE), "--views", "64", "--columns", "64", "--detector", "ideal"]
# What the library makes of the same scan, to compare with.
IMAGES = ["--vmi", "50,70,130", "--vnc", "--zeff", "--electron-density", "--errors"]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan, and what the command line makes of it."""
    folder = tmp_path_factory.mktemp("decompose")
    for arguments in (
        ["simulate", "scan.ctproj.h5", "--slices", str(SLICES), *SMALL],
        ["decompose", "scan.ctproj.h5", "maps", *IMAGES, "--report", "made.json"],
        ["simulate", "two.ctproj.h5", "--thresholds", "20", *SMALL],
    ):
        # In a process of its own: PySide6 reads the source of every module that is imported beside it.
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "CTEnhance")}
        command = [sys.executable, "-m", "ctenhance", *arguments, "--progress", "none"]
        subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def panel(app: Any) -> Any:
    """The panel, opened."""
    widget = open_panel("CTDecompose")
    ui = widget.ui
    ui.sourceSelector.currentIndex = ui.orientationSelector.currentIndex = 0
    ui.energySlider.value, ui.secondEnergySlider.value = 70, 140
    yield widget
    widget.runSection.kill()
    widget.ui.spectralButton.checked = False
    widget.ui.curveBox.checked = False
    widget.ui.spectralModeSelector.currentIndex = 0
    close_panel(widget)


def exhausted(steps: Any) -> Any:
    """Go through a generator and return what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.fixture
def result(panel: Any, made: Path) -> Any:
    """The decomposition of the scan as a run places it, shown; without waiting for a run."""
    from CTEnhanceLib import transfer
    from CTEnhanceLib.decomposition import DecomposeJob

    job = DecomposeJob(made / "scan.ctproj.h5")
    names = ("water", "iodine", "water_sd", "iodine_sd")
    exhausted(job.load({name: made / "maps" / f"{name}.nii.gz" for name in names}))
    assert transfer.temporaryRoot().is_dir()
    node = job.place(json.loads((made / "made.json").read_text(encoding="utf-8")))
    panel._onResult(node)
    slicer.app.processEvents()
    return node


@pytest.fixture
def reference(made: Path) -> Any:
    """Give an image that the library made, as a node of the scene."""

    def load(name: str) -> Any:
        from CTEnhanceLib import placing, transfer

        loaded = exhausted(transfer.readNifti(made / "maps" / f"{name}.nii.gz"))
        return placing.addVolume(loaded.image, loaded.ijkToRAS, name, [])

    return load


def widget(view: str) -> Any:
    return slicer.app.layoutManager().sliceWidget(view)


def shown(view: str) -> Any:
    """Return the volume in the background of a view."""
    return slicer.mrmlScene.GetNodeByID(widget(view).mrmlSliceCompositeNode().GetBackgroundVolumeID())


def resliced(view: str) -> np.ndarray:
    """Return what a view shows of its background, in the units of the volume."""
    from vtk.util import numpy_support

    logic = widget(view).sliceLogic().GetBackgroundLayer()
    reslice = logic.GetReslice()
    reslice.Update()
    values = numpy_support.vtk_to_numpy(reslice.GetOutput().GetPointData().GetScalars())
    return np.array(values, dtype=np.float64)


def compared(view: str, node: Any) -> float:
    """Return the largest difference between what a view shows and another volume in the same view."""
    own = resliced(view)
    composite = widget(view).mrmlSliceCompositeNode()
    before = composite.GetBackgroundVolumeID()
    composite.SetBackgroundVolumeID(node.GetID())
    other = resliced(view)
    composite.SetBackgroundVolumeID(before)
    assert own.size == other.size and np.ptp(other) > 100
    return float(np.abs(own - other).max())


def test_measured_bins_to_maps(panel: Any, user: Any, made: Path) -> None:
    import qt

    ui, manager = panel.ui, slicer.app.layoutManager()
    layout = manager.layout
    ui.pathEdit.text = ""
    assert ui.applyButton.toolTip.startswith("Choose a projection file")
    qt.QFileDialog.chosen = str(made / "scan.ctproj.h5")
    ui.fileButton.click()
    press_apply(panel, user, SECONDS)

    from CTEnhanceLib import placing
    from CTEnhanceLib.decomposition import errorsOf, mapsOf

    result = panel.parameters.result
    maps, errors = mapsOf(result), errorsOf(result)
    assert [node.GetName() for node in maps] == ["scan water (mg/mL)", "scan iodine (mg/mL)"]
    assert [node.GetName() for node in errors] == [
        "scan water standard error (mg/mL)",
        "scan iodine standard error (mg/mL)",
    ]
    assert maps[1].GetVoxelValueUnits().GetCodeValue() == "mg/ml"
    assert maps[1].GetVoxelValueQuantity().GetCodeMeaning() == "Concentration"
    middle = slicer.util.arrayFromVolume(maps[0])[:, 16:24, 16:24].mean()
    assert middle == pytest.approx(1000, rel=0.05)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    folders = {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in (*maps, *errors)}
    assert len(folders) == 1 and hierarchy.GetItemName(folders.pop()) == "scan spectral"
    assert placing.reportOf(result)["verb"] == "decompose"
    assert "viewing" in ui.detailsText.plainText and not temporaries()

    # All four images are there, in one row of two rows.
    assert manager.layout == 7300 and ui.spectralButton.checked
    assert [shown(f"CTDecompose{name}").GetName() for name in ("First", "Plain", "Number")] == [
        "70 keV",
        "VNC",
        "Z-eff",
    ]
    assert shown("CTDecomposeMaterial") is maps[1]
    assert all(
        pixels(widget(f"CTDecompose{n}").sliceView()).std() > 0 for n in ("First", "Material", "Number")
    )

    # What belongs to a map that goes, goes; the layout comes back.
    live = shown("CTDecomposeFirst")
    slicer.mrmlScene.RemoveNode(maps[1])
    user.turn()
    assert manager.layout == layout and not ui.spectralButton.enabled
    assert not slicer.mrmlScene.IsNodePresent(live)


@pytest.mark.parametrize("orientation", ["Axial", "Coronal", "Sagittal"])
def test_shown_slices_are_those_of_the_library(
    panel: Any, user: Any, result: Any, reference: Any, orientation: str
) -> None:
    ui = panel.ui
    ui.orientationSelector.currentIndex = ["Axial", "Coronal", "Sagittal"].index(orientation)
    user.turn()
    images = {70: reference("vmi_070keV"), 50: reference("vmi_050keV"), 130: reference("vmi_130keV")}
    assert compared("CTDecomposeFirst", images[70]) < 0.01
    ui.energySlider.value = 50
    assert compared("CTDecomposeFirst", images[50]) < 0.01
    assert shown("CTDecomposeFirst").GetName() == "50 keV"
    # Scrolled in one view, all follow; what they look at is there, between two slices too.
    for offset in (4.0, 7.3, 6.1):
        widget("CTDecomposePlain").sliceController().setSliceOffsetValue(offset)
        assert widget("CTDecomposeFirst").sliceLogic().GetSliceOffset() == pytest.approx(offset)
        assert compared("CTDecomposeFirst", images[50]) < 0.01
        ui.metalButton.click()
        assert compared("CTDecomposeFirst", images[130]) < 0.01
        ui.angiographyButton.click()
        assert compared("CTDecomposeFirst", images[50]) < 0.01
    assert compared("CTDecomposePlain", reference("vnc")) < 0.01
    z = reference("zeff")
    array = slicer.util.arrayFromVolume(z)
    array *= 100  # in hundredths
    slicer.util.arrayFromVolumeModified(z)
    own = resliced("CTDecomposeNumber")
    widget("CTDecomposeNumber").mrmlSliceCompositeNode().SetBackgroundVolumeID(z.GetID())
    assert np.abs(100 * own - resliced("CTDecomposeNumber")).max() < 0.01


def test_tilted_planes_and_thick_slabs(panel: Any, user: Any, result: Any, reference: Any) -> None:
    panel.ui.spectralModeSelector.currentIndex = 1
    image = reference("vmi_070keV")
    node = widget("CTDecomposeFirst").mrmlSliceNode()
    for degrees, axis in ((7, (0, 1, 0)), (35, (1, 1, 0)), (60, (1, 0, 0.3)), (0.3, (0, 1, 0))):
        transform = vtk.vtkTransform()
        transform.RotateWXYZ(degrees, *axis)
        matrix = node.GetSliceToRAS()
        turned = slicer.util.arrayFromVTKMatrix(transform.GetMatrix()) @ slicer.util.arrayFromVTKMatrix(
            matrix
        )
        slicer.util.updateVTKMatrixFromArray(matrix, turned)
        node.UpdateMatrices()
        assert compared("CTDecomposeFirst", image) < 0.01
    node.SetOrientationToAxial()
    node.SetSlabReconstructionEnabled(True)
    node.SetSlabReconstructionThickness(6.0)
    node.SetSliceOffset(5.0)
    try:
        assert compared("CTDecomposeFirst", image) < 0.01
    finally:
        node.SetSlabReconstructionEnabled(False)


def test_only_shown_slices_are_made(panel: Any, result: Any) -> None:
    live = slicer.util.arrayFromVolume(shown("CTDecomposeFirst"))
    assert 1 <= sum(bool(plane.any()) for plane in live) <= 2
    panel.ui.energySlider.value = 60
    assert sum(bool(plane.any()) for plane in live) <= 2


def test_modes_windows_and_layers(panel: Any, user: Any, result: Any) -> None:
    ui, manager = panel.ui, slicer.app.layoutManager()
    iodine = result.GetNthNodeReference("CTDecomposeMap", 0)
    ui.spectralLungButton.click()
    assert shown("CTDecomposeFirst").GetDisplayNode().GetWindow() == 1500

    ui.spectralModeSelector.currentIndex = 1
    assert manager.layout == 7301 and ui.secondEnergySlider.enabled
    first, second = shown("CTDecomposeFirst"), shown("CTDecomposeSecond")
    assert first.GetDisplayNode() is second.GetDisplayNode()
    assert first.GetDisplayNode().GetWindow() == 1500  # as it was left
    ui.secondEnergySlider.value = 120
    assert second.GetName() == "120 keV"

    ui.spectralModeSelector.currentIndex = 2
    composite = widget("CTDecomposeFirst").mrmlSliceCompositeNode()
    plain = pixels(widget("CTDecomposeFirst").sliceView())
    assert composite.GetForegroundVolumeID() == iodine.GetID()
    ui.materialOpacitySlider.value = 0.0
    grey = pixels(widget("CTDecomposeFirst").sliceView())
    assert (plain.max(-1) != plain.min(-1)).sum() > (grey.max(-1) != grey.min(-1)).sum()
    ui.materialRangeSlider.value = 15
    assert iodine.GetDisplayNode().GetWindow() == 15 and iodine.GetDisplayNode().GetLevel() == 7.5

    ui.spectralModeSelector.currentIndex = 3
    ui.spectralFadeSlider.value = 0.25
    assert composite.GetForegroundOpacity() == pytest.approx(0.25)
    assert slicer.mrmlScene.GetNodeByID(composite.GetForegroundVolumeID()).GetName() == "120 keV"

    ui.spectralModeSelector.currentIndex = 4
    user.turn()
    names = [f"CTDecompose{name}" for name in ("Axial", "Coronal", "Sagittal")]
    assert [widget(name).mrmlSliceNode().GetOrientation() for name in names] == [
        "Axial",
        "Coronal",
        "Sagittal",
    ]
    assert all(pixels(widget(name).sliceView()).std() > 0 for name in names)
    assert not ui.orientationSelector.enabled

    hidden = [
        node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if node.GetHideFromEditors()
    ]
    assert len(hidden) == 1 and not hidden[0].GetSaveWithScene()
    ui.spectralButton.click()
    assert not slicer.mrmlScene.IsNodePresent(hidden[0]) and manager.layout < 7300


def test_region_tells_materials_and_curve(
    panel: Any, user: Any, result: Any, reference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from CTEnhanceLib import roi

    ui = panel.ui
    section = panel.spectralSection
    ui.spectralRegionButton.click()
    region = section._region.node
    assert ui.spectralTable.visible and "iodine (mg/mL)" in ui.spectralTable.text
    assert "SD expected" in ui.spectralTable.text and "Z-eff 7." in ui.spectralTable.text

    ui.curveBox.click()
    assert ui.spectralNoteLabel.text == "This Slicer has no plots: the table stands alone."
    assert ui.spectralTable.visible and slicer.app.layoutManager().layout == 7300
    ui.curveBox.click()

    monkeypatch.setattr(slicer.modules, "plots", types.SimpleNamespace(), raising=False)
    ui.curveBox.click()
    assert slicer.app.layoutManager().layout == 7308
    view = slicer.mrmlScene.GetSingletonNode("CTDecomposeCurve", "vtkMRMLPlotViewNode")
    chart = slicer.mrmlScene.GetNodeByID(view.GetPlotChartNodeID())
    assert chart.GetNumberOfPlotSeriesNodes() == 3
    curve = {name: slicer.util.arrayFromTableColumn(section.plot.table, name) for name in ("keV", "Mean HU")}
    upper = slicer.util.arrayFromTableColumn(section.plot.table, "Mean + SD")
    assert curve["keV"].tolist() == list(range(40, 191))
    for kev, image in ((50, "vmi_050keV"), (70, "vmi_070keV"), (130, "vmi_130keV")):
        found = roi.statistics(region, reference(image))
        at = kev - 40
        assert curve["Mean HU"][at] == pytest.approx(found.mean, abs=0.02)
        assert upper[at] - curve["Mean HU"][at] == pytest.approx(found.deviation, abs=0.02)

    # Dragged, all follow: an iodine rod lies there.
    before, text = curve["Mean HU"][10], ui.spectralTable.text
    region.SetCenter([0.0, 87.5, 5.0])
    region.SetSize([12.0, 12.0, 12.0])
    user.waits(lambda: not section.measuring, 30)
    assert ui.spectralTable.text != text
    assert slicer.util.arrayFromTableColumn(section.plot.table, "Mean HU")[10] != before
    region.SetCenter([500.0, 500.0, 500.0])
    user.waits(lambda: not section.measuring, 30)
    assert ui.spectralTable.text == "The region holds no voxel of the volume: move or enlarge it."

    plotted = section.plot.table
    ui.spectralRegionButton.click()
    assert not slicer.mrmlScene.IsNodePresent(region) and not ui.spectralTable.visible
    assert plotted is None or not slicer.mrmlScene.IsNodePresent(plotted)


def test_volume_is_added_whole(panel: Any, user: Any, result: Any, made: Path, reference: Any) -> None:
    from CTEnhanceLib import placing

    ui = panel.ui
    offered = [ui.spectralVolumeSelector.itemText(i) for i in range(ui.spectralVolumeSelector.count)]
    assert offered == [
        "Monoenergetic image", "Virtual non-contrast", "Effective atomic number", "Electron density",
        "Map of water (mg/mL)", "Map of iodine (mg/mL)",
    ]  # fmt: skip
    ui.angiographyButton.click()
    ui.addVolumeButton.click()
    user.waits(lambda: not panel.spectralSection.busy, 60)
    node = slicer.util.getNode("scan 50 keV")
    assert ui.spectralNoteLabel.text == "Added: scan 50 keV."
    own, library = (slicer.util.arrayFromVolume(each) for each in (node, reference("vmi_050keV")))
    assert np.abs(own - library).max() < 0.01
    assert node.GetVoxelValueUnits().GetCodeMeaning() == "Hounsfield unit"
    assert placing.reportOf(node)["image"] == {"kind": "vmi", "keV": 50.0}
    for index, name in ((2, "zeff"), (3, "electron_density")):
        ui.spectralVolumeSelector.currentIndex = index
        ui.addVolumeButton.click()
        user.waits(lambda: not panel.spectralSection.busy, 60)
        made_node = slicer.util.getNode("scan Z-eff" if name == "zeff" else "scan Electron density")
        assert (
            np.abs(
                slicer.util.arrayFromVolume(made_node) - slicer.util.arrayFromVolume(reference(name))
            ).max()
            < 1e-3
        )
    ui.spectralVolumeSelector.currentIndex = 5
    assert not ui.addVolumeButton.enabled and "already" in ui.addVolumeButton.toolTip


def test_saved_scene_shows_the_same(
    panel: Any, user: Any, result: Any, reference: Any, tmp_path: Path
) -> None:
    save_scene(tmp_path / "scene.mrml")
    slicer.mrmlScene.Clear(False)
    user.turn()
    assert not panel.ui.spectralButton.enabled and not panel.ui.detailsText.plainText
    slicer.mrmlScene.SetURL(str(tmp_path / "scene.mrml"))
    slicer.mrmlScene.Connect()
    user.rests(0.2)
    names = {node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")}
    assert names == {
        f"scan {name}{kind} (mg/mL)" for name in ("water", "iodine") for kind in ("", " standard error")
    }
    assert panel.parameters.result.GetName() == "scan water (mg/mL)"
    assert '"decompose"' in panel.ui.detailsText.plainText
    panel.ui.spectralButton.click()
    user.turn()
    assert compared("CTDecomposeFirst", reference("vmi_070keV")) < 0.01


def test_export_names_energy_and_unit(panel: Any, user: Any, result: Any, tmp_path: Path) -> None:
    import pydicom
    import qt

    ui = panel.ui
    ui.energySlider.value = 65
    for index, folder in ((0, "vmi"), (5, "iodine")):
        ui.spectralVolumeSelector.currentIndex = index
        qt.QFileDialog.chosen = str(tmp_path / folder)
        ui.exportButton.click()
        assert ui.applyButton.text == "Cancel" and ui.progressBar.visible
        user.waits(lambda: ui.applyButton.text == "Apply", SECONDS)
        assert not slicerhost.messages, slicerhost.messages
        assert ui.spectralNoteLabel.text == f"Written to {tmp_path / folder}."
    images = [pydicom.dcmread(path) for path in sorted((tmp_path / "vmi").iterdir())]
    assert len(images) == SLICES
    assert images[0].MultienergyCTCharacteristicsSequence[0].MonoenergeticEnergyEquivalent == 65
    assert list(images[0].ImageType) == ["DERIVED", "SECONDARY", "AXIAL", "VMI"]
    iodine = pydicom.dcmread(min((tmp_path / "iodine").iterdir()))
    assert iodine.RescaleType == "MGML" and "Iodine" in iodine.SeriesDescription
    assert iodine.StudyInstanceUID == images[0].StudyInstanceUID
    # A folder with files in it is refused before anything runs.
    ui.exportButton.click()
    assert "holds files already" in slicerhost.messages[0][0] and ui.applyButton.text == "Apply"
    assert not temporaries()


def test_export_cancelled_leaves_no_folder(
    panel: Any, user: Any, result: Any, tmp_path: Path, children: Any
) -> None:
    import qt

    qt.QFileDialog.chosen = str(tmp_path / "series")
    panel.ui.exportButton.click()
    user.waits(children, SECONDS)
    panel.ui.applyButton.click()
    user.waits(lambda: panel.ui.applyButton.text == "Apply", SECONDS)
    assert "Cancelled" in panel.ui.statusLabel.text
    assert not children() and not temporaries() and not (tmp_path / "series").exists()


def test_simulated_scan_takes_two_verbs(panel: Any, user: Any) -> None:
    ui = panel.ui
    ui.sourceSelector.currentIndex = 1
    ui.doseSlider.value = 50
    ui.slicesBox.value, ui.viewsBox.value, ui.columnsBox.value, ui.matrixBox.value = 2, 64, 64, SIDE
    ui.errorsBox.checked = False
    said: list[str] = []
    progress = panel.runSection._onProgress
    panel.runSection._onProgress = lambda each: (said.append(each.stage), progress(each))
    try:
        press_apply(panel, user, SECONDS)
    finally:
        del panel.runSection._onProgress
    from CTEnhanceLib import placing
    from CTEnhanceLib.decomposition import errorsOf

    result = panel.parameters.result
    assert "project" in said and "decompose" in said[said.index("project") :]
    assert result.GetName() == "rods 50 % water (mg/mL)" and errorsOf(result) == []
    assert placing.reportOf(result)["preceding"][0]["settings"]["dose"] == 0.5
    assert not temporaries()

    slicer.mrmlScene.Clear(False)
    user.turn()
    assert not nodes() and not ui.spectralButton.enabled and not ui.exportButton.enabled


def test_cancel_leaves_nothing(panel: Any, user: Any, children: Any) -> None:
    panel.ui.sourceSelector.currentIndex = 1
    scene = nodes()
    panel.ui.applyButton.click()
    user.waits(lambda: "Simulating" in panel.ui.statusLabel.text and children(), SECONDS)
    panel.ui.applyButton.click()
    user.waits(lambda: panel.ui.applyButton.text == "Apply", SECONDS)
    assert "Cancelled" in panel.ui.statusLabel.text
    assert not children() and not temporaries() and nodes() == scene


def test_close_scene_during_run(panel: Any, user: Any, children: Any) -> None:
    panel.ui.sourceSelector.currentIndex = 1
    panel.ui.applyButton.click()
    user.waits(children, SECONDS)
    slicer.mrmlScene.Clear(False)
    user.waits(lambda: not children() and panel.ui.applyButton.text == "Apply", SECONDS)
    assert not temporaries() and not nodes()


def test_what_cannot_be_decomposed_is_one_sentence(panel: Any, user: Any, made: Path) -> None:
    ui = panel.ui
    ui.pathEdit.text = str(made / "two.ctproj.h5")  # one bin, two materials
    scene = nodes()
    ui.applyButton.click()
    user.waits(lambda: slicerhost.messages, SECONDS)
    sentence = slicerhost.messages[0][0]
    assert len(slicerhost.messages) == 1 and sentence == ui.statusLabel.text
    assert "bin" in sentence and "Traceback" not in sentence
    assert nodes() == scene and not temporaries() and ui.applyButton.text == "Apply"


def test_what_cannot_be_is_said_before_apply(panel: Any, made: Path, tmp_path: Path) -> None:
    ui = panel.ui
    ui.pathEdit.text = str(tmp_path / "none.ctproj.h5")
    assert ui.applyButton.toolTip.startswith("There is no file")
    ui.pathEdit.text = str(tmp_path)
    assert ui.applyButton.toolTip.startswith("There is no file")
    ui.pathEdit.text = str(made / "scan.ctproj.h5")
    assert ui.applyButton.enabled
    ui.secondMaterialSelector.currentIndex = 0
    assert ui.applyButton.toolTip == "'water' is in the basis twice: choose another material."
    ui.secondMaterialSelector.currentIndex = 1
    ui.matrixBox.value = 8
    assert "matrix is too small" in ui.applyButton.toolTip
    ui.matrixBox.value = 0
    ui.calibrationEdit.text = str(tmp_path / "none.h5")
    assert ui.applyButton.toolTip.startswith("There is no calibration file")
    ui.calibrationEdit.text = ""
    assert ui.applyButton.enabled
    ui.sourceSelector.currentIndex = 1
    assert not ui.pathEdit.visible and ui.doseSlider.visible and ui.slicesBox.enabled


def test_scatter_is_offered_where_the_command_line_has_it(panel: Any, user: Any, made: Path) -> None:
    from CTEnhanceLib.decomposition import SCATTER

    ui = panel.ui
    ui.pathEdit.text = str(made / "scan.ctproj.h5")
    panel._onHelp("--kernel TEXT")
    assert not ui.scatterSelector.visible
    assert "--scatter" not in panel.makeJob().arguments(made)
    panel._onHelp("--kernel TEXT  --scatter TEXT")
    assert ui.scatterSelector.visible
    ui.scatterSelector.currentIndex = SCATTER.index("kernel")
    arguments = panel.makeJob().arguments(made)
    assert arguments[arguments.index("--scatter") + 1] == "kernel"
    ui.scatterSelector.currentIndex = 0
    assert "--scatter" not in panel.makeJob().arguments(made)


def test_console(panel: Any, made: Path) -> None:
    from ctenhance.runtime.errors import CTEnhanceError

    logic = panel.logic
    maps = logic.process(made / "scan.ctproj.h5", errors=False)
    assert maps.GetName() == "scan water (mg/mL)"
    assert logic.addImage(maps, "vmi", 50).GetName() == "scan 50 keV"
    with pytest.raises(CTEnhanceError, match="between 40 and 190 keV"):
        logic.addImage(maps, "vmi", 500)
    with pytest.raises(CTEnhanceError, match="no image 'hu'"):
        logic.addImage(maps, "hu")


def test_console_example_of_the_readme(panel: Any, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    example = readme.partition("### CT Decompose")[2].partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {"slicer": slicer}
    exec(compile(example, "README.md", "exec"), names)
    assert names["image"].GetName() == "scan 50 keV"


def test_its_own_test(panel: Any) -> None:
    import CTDecompose

    CTDecompose.CTDecomposeTest().runTest()
