"""CT Decompose by clicks: from energy bins to maps, or to a sentence that says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import slicer
from spectral_scan import REPOSITORY, SIDE, shown, widget

import slicerhost
from panel_run import nodes, press_apply, temporaries
from view_pixels import pixels

SECONDS = 900


def test_measured_bins_to_maps(spectral_panel: Any, user: Any, spectral_files: Path) -> None:
    import qt

    ui, manager = spectral_panel.ui, slicer.app.layoutManager()
    layout = manager.layout
    ui.pathEdit.text = ""
    assert ui.applyButton.toolTip.startswith("Choose a projection file")
    qt.QFileDialog.chosen = str(spectral_files / "scan.ctproj.h5")
    ui.fileButton.click()
    press_apply(spectral_panel, user, SECONDS)

    from CTEnhanceLib.decompose.job import errorsOf, mapsOf
    from CTEnhanceLib.scene import placing

    result = spectral_panel.parameters.result
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
    assert "Viewing" in ui.detailsText.plainText and not temporaries()

    # All four images are there, in one row of two rows.
    assert manager.layout == 7300 and ui.spectralButton.checked
    assert [shown(f"CTEnhance{name}").GetName() for name in ("Before", "Difference", "Fourth")] == [
        "70 keV",
        "VNC",
        "Z-eff",
    ]
    assert shown("CTEnhanceAfter") is maps[1]
    assert all(pixels(widget(f"CTEnhance{n}").sliceView()).std() > 0 for n in ("Before", "After", "Fourth"))

    # What belongs to a map that goes, goes; the layout comes back.
    live = shown("CTEnhanceBefore")
    slicer.mrmlScene.RemoveNode(maps[1])
    user.turn()
    assert manager.layout == layout and not ui.spectralButton.enabled
    user.waits(lambda: not slicer.mrmlScene.IsNodePresent(live))  # volumes go one a turn


def test_simulated_scan_takes_two_verbs(spectral_panel: Any, user: Any) -> None:
    ui = spectral_panel.ui
    ui.sourceSelector.currentIndex = 1
    ui.doseSlider.value = 50
    ui.slicesBox.value, ui.viewsBox.value, ui.columnsBox.value, ui.matrixBox.value = 2, 64, 64, SIDE
    ui.errorsBox.checked = False
    said: list[str] = []
    progress = spectral_panel.runSection._onProgress
    spectral_panel.runSection._onProgress = lambda each: (said.append(each.stage), progress(each))
    try:
        press_apply(spectral_panel, user, SECONDS)
    finally:
        del spectral_panel.runSection._onProgress
    from CTEnhanceLib.decompose.job import errorsOf
    from CTEnhanceLib.scene import placing

    result = spectral_panel.parameters.result
    assert "project" in said and "decompose" in said[said.index("project") :]
    assert result.GetName() == "50 % rods water (mg/mL)" and errorsOf(result) == []
    assert placing.reportOf(result)["preceding"][0]["settings"]["dose"] == 0.5
    assert not temporaries()

    slicer.mrmlScene.Clear(False)
    user.turn()
    assert not nodes() and not ui.spectralButton.enabled and not ui.outExportButton.enabled


def test_cancel_leaves_nothing(spectral_panel: Any, user: Any, children: Any) -> None:
    spectral_panel.ui.sourceSelector.currentIndex = 1
    scene = nodes()
    spectral_panel.ui.applyButton.click()
    user.waits(lambda: "Simulating" in spectral_panel.ui.statusLabel.text and children(), SECONDS)
    spectral_panel.ui.applyButton.click()
    user.waits(lambda: spectral_panel.ui.applyButton.text == "Apply", SECONDS)
    assert "Cancelled" in spectral_panel.ui.statusLabel.text
    assert not children() and not temporaries() and nodes() == scene


def test_close_scene_during_run(spectral_panel: Any, user: Any, children: Any) -> None:
    spectral_panel.ui.sourceSelector.currentIndex = 1
    spectral_panel.ui.applyButton.click()
    user.waits(children, SECONDS)
    slicer.mrmlScene.Clear(False)
    user.waits(lambda: not children() and spectral_panel.ui.applyButton.text == "Apply", SECONDS)
    assert not temporaries() and not nodes()


def test_what_cannot_be_decomposed_is_one_sentence(
    spectral_panel: Any, user: Any, spectral_files: Path
) -> None:
    ui = spectral_panel.ui
    ui.pathEdit.text = str(spectral_files / "two.ctproj.h5")  # one bin, two materials
    scene = nodes()
    ui.applyButton.click()
    user.waits(lambda: slicerhost.messages, SECONDS)
    sentence = slicerhost.messages[0][0]
    assert len(slicerhost.messages) == 1 and sentence == ui.statusLabel.text
    assert "bin" in sentence and "Traceback" not in sentence
    assert nodes() == scene and not temporaries() and ui.applyButton.text == "Apply"


def test_what_cannot_be_is_said_before_apply(
    spectral_panel: Any, spectral_files: Path, tmp_path: Path
) -> None:
    ui = spectral_panel.ui
    ui.pathEdit.text = str(tmp_path / "none.ctproj.h5")
    assert ui.applyButton.toolTip.startswith("There is no file")
    ui.pathEdit.text = str(tmp_path)
    assert ui.applyButton.toolTip.startswith("There is no file")
    ui.pathEdit.text = str(spectral_files / "scan.ctproj.h5")
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


def test_scatter_is_asked_for_with_its_ratio(spectral_panel: Any, user: Any, spectral_files: Path) -> None:
    from CTEnhanceLib.decompose.job import Scatter

    ui, known = spectral_panel.ui, list(Scatter)
    selector = ui.scatterSelector
    assert [selector.itemText(index) for index in range(selector.count)] == [
        "Not corrected",
        "Corrected by a network",
        "Corrected by a kernel",
    ]
    assert ui.thirdMaterialSelector.itemText(0) == "no third one"
    ui.pathEdit.text = str(spectral_files / "scan.ctproj.h5")
    assert not ui.scatterRatioBox.enabled
    arguments = spectral_panel.makeJob().arguments(spectral_files)
    assert arguments[arguments.index("--scatter") + 1] == "none"
    ui.scatterSelector.currentIndex = known.index(Scatter.kernel)
    arguments = spectral_panel.makeJob().arguments(spectral_files)
    assert arguments[arguments.index("--scatter") + 1] == "kernel"
    assert "--scatter-ratio" not in arguments
    assert ui.scatterRatioBox.enabled
    ui.scatterRatioBox.value = 0.14
    arguments = spectral_panel.makeJob().arguments(spectral_files)
    assert float(arguments[arguments.index("--scatter-ratio") + 1]) == 0.14
    press_apply(spectral_panel, user, SECONDS)
    assert not ui.gridRatioBox.enabled  # the kernel makes no use of it
    ui.scatterSelector.currentIndex = known.index(Scatter.network)
    assert ui.gridRatioBox.enabled and "--grid-ratio" not in spectral_panel.makeJob().arguments(
        spectral_files
    )
    ui.gridRatioBox.value = 7.5
    arguments = spectral_panel.makeJob().arguments(spectral_files)
    assert float(arguments[arguments.index("--grid-ratio") + 1]) == 7.5
    ui.scatterSelector.currentIndex = 0
    arguments = spectral_panel.makeJob().arguments(spectral_files)
    assert arguments[arguments.index("--scatter") + 1] == "none"
    assert not {"--scatter-ratio", "--grid-ratio"} & set(arguments)


def test_scatter_of_scenes_of_earlier_versions_is_read(spectral_panel: Any) -> None:
    from CTEnhanceLib.decompose.job import Scatter

    node = spectral_panel.parameters.parameterNode
    kept = node.GetParameter("scatter")
    try:
        node.SetParameter("scatter", kept.replace("none", "network"))  # the text of the command line, as ever
        assert spectral_panel.parameters.scatter is Scatter.network
    finally:
        node.SetParameter("scatter", kept)


def test_console(spectral_panel: Any, spectral_files: Path) -> None:
    from ctenhance.options import DecomposeOptions
    from ctenhance.runtime.errors import CTEnhanceError

    logic = spectral_panel.logic
    maps = logic.process(spectral_files / "scan.ctproj.h5", DecomposeOptions(errors=False))
    assert maps.GetName() == "scan water (mg/mL)"
    assert logic.addImage(maps, "vmi", 50).GetName() == "scan 50 keV"
    with pytest.raises(CTEnhanceError, match="between 40 and 190 keV"):
        logic.addImage(maps, "vmi", 500)
    with pytest.raises(CTEnhanceError, match="no image 'hu'"):
        logic.addImage(maps, "hu")


def test_console_example_of_the_readme(
    spectral_panel: Any, spectral_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spectral_files / "bins.ctproj.h5").write_bytes((spectral_files / "scan.ctproj.h5").read_bytes())
    monkeypatch.chdir(spectral_files)
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    example = readme.partition("### CT Decompose")[2].partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {"slicer": slicer}
    exec(compile(example, "README.md", "exec"), names)
    assert names["image"].GetName() == "bins 50 keV"


def test_its_own_test(spectral_panel: Any) -> None:
    import CTDecompose

    CTDecompose.CTDecomposeTest().runTest()
