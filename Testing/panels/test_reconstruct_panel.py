"""CT Reconstruct by clicks, on the real MRML scene: from projections, or a simulated scan, to its stages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

import slicerhost
import view_titles
from panel_run import (
    close_panel,
    lower_edge,
    nodes,
    open_panel,
    press_apply,
    press_in,
    press_key,
    temporaries,
)
from view_pixels import pixels

REPOSITORY = Path(__file__).resolve().parents[2]
SLICES, SIDE, VIEWS, COLUMNS = 3, 40, 96, 64
SECONDS = 900
# Two tiny networks with random weights, and a scan of a cylinder at a tenth of the dose.
MAKE = f"""
import sys
import numpy as np
import torch
from pathlib import Path
from ctenhance.scan.simulate import simulate_projections
from ctenhance.reconstruction.networks import build
from ctenhance.runtime import weights
from ctenhance.core.volume import CTVolume

folder = Path(sys.argv[1])
torch.manual_seed(0)
for name, architecture in (("projection", "spdiff-compact"), ("image", "doubly-guided")):
    arguments = {{"features": [4, 4, 4, 4, 4, 4]}}
    entry = weights.WeightsEntry(name, "", "", "none", "nothing", architecture, arguments, "1", "")
    weights.save(folder / f"{{name}}.safetensors", build(architecture, arguments).state_dict(), entry)
y, x = np.indices(({SIDE}, {SIDE})) - ({SIDE} - 1) / 2
disc = np.where(np.hypot(x - 4, y) < 13, 40.0, -1000.0).astype(np.float32)
volume = CTVolume(np.repeat(disc[None], {SLICES}, 0), (6.0, 6.0, 2.5), (-110.0, -90.0, 20.0))
scan = simulate_projections(volume, dose=0.1, views={VIEWS}, columns={COLUMNS}, device="cpu")
scan.write(folder / "scan.ctproj.h5")
scan.central_column += 5
scan.write(folder / "off.ctproj.h5")
"""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reconstruct")
    # In a process of its own: PySide6 reads the source of every module that is imported beside it.
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "CTEnhance")}
    subprocess.run([sys.executable, "-c", MAKE, str(folder)], env=environment, check=True)
    return folder


@pytest.fixture
def panel(app: Any, made: Path) -> Any:
    """The panel, opened, with the tiny models chosen by their buttons."""
    import qt

    widget = open_panel("CTReconstruct")
    for name in ("projection", "image"):
        qt.QFileDialog.chosen = str(made / f"{name}.safetensors")
        getattr(widget.ui, f"{name}ModelBrowseButton").click()
    yield widget
    close_panel(widget)


@pytest.fixture
def ct(panel: Any) -> Any:
    """A small CT in the scene, whose scan is to be simulated at 25 %."""
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    disc = np.where(np.hypot(x, y + 2) < 12, 50, -1000).astype(np.int16)
    node = slicer.util.addVolumeFromArray(np.repeat(disc[None], SLICES, 0), name="phantom")
    node.SetIJKToRASDirections(-1, 0, 0, 0, -1, 0, 0, 0, 1)
    node.SetSpacing(5.0, 5.0, 3.0)
    node.SetOrigin(30.0, 20.0, -10.0)
    node.CreateDefaultDisplayNodes()
    panel.ui.sourceSelector.currentIndex = 1
    panel.ui.inputSelector.setCurrentNode(node)
    panel.ui.viewsBox.value, panel.ui.columnsBox.value = VIEWS, COLUMNS
    return node


def apply(panel: Any, user: Any) -> Any:
    """Press Apply and wait for the result."""
    press_apply(panel, user, SECONDS)
    return panel.parameters.result


def shown(view: str) -> Any:
    """Return the composite node of a view."""
    return slicer.app.layoutManager().sliceWidget(view).mrmlSliceCompositeNode()


def test_the_sample_on_the_empty_panel(panel: Any, user: Any) -> None:
    """One press loads the phantom and chooses its simulated scan."""
    ui = panel.ui
    assert ui.sampleButton.visible and not ui.applyButton.enabled
    ui.sampleButton.click()
    assert ui.inputSelector.currentNode().GetName() == "CTEnhanceChestPhantom" and ui.inputSelector.visible
    assert ui.applyButton.enabled and not ui.sampleButton.visible and ui.doseSlider.value == 25
    slicer.mrmlScene.Clear(False)
    user.turn()
    assert ui.sampleButton.visible
    ui.pathEdit.text = "somewhere.ctproj.h5"
    assert not ui.sampleButton.visible


def test_a_wrong_central_column_is_told(panel: Any, user: Any, made: Path) -> None:
    import qt

    qt.QFileDialog.chosen = str(made / "off.ctproj.h5")
    panel.ui.fileButton.click()
    apply(panel, user)
    assert panel.ui.consistencyLabel.text.startswith("The geometry is likely wrong")
    assert "'central_column'" in panel.ui.consistencyLabel.text
    assert "to 31.5" in panel.ui.consistencyLabel.text
    assert panel.ui.consistencyLabel.styleSheet
    assert "to 31.5" in panel.ui.statusLabel.text


def test_measured_projections_to_linked_stages(panel: Any, user: Any, made: Path) -> None:
    import qt

    manager = slicer.app.layoutManager()
    layout = manager.layout
    assert panel.ui.applyButton.toolTip.startswith("Choose a projection file")
    qt.QFileDialog.chosen = str(made / "scan.ctproj.h5")
    panel.ui.fileButton.click()
    panel.ui.uncertaintyBox.checked = True
    result = apply(panel, user)

    stages = [result.GetNodeReference(role) for role in ("CTReconstructFBP", "CTReconstructProjection")]
    assert [node.GetName() for node in (*stages, result)] == [
        "scan FBP",
        "scan Projection stage",
        "scan NEED",
    ]
    arrays = [slicer.util.arrayFromVolume(node) for node in (*stages, result)]
    assert all(array.shape == (SLICES, SIDE, SIDE) for array in arrays)
    assert not np.array_equal(arrays[0], arrays[1]) and not np.array_equal(arrays[1], arrays[2])
    assert abs(arrays[0][1, 15:25, 18:28].mean() - 40) < 15
    # LPS (-110, -90, 20) is RAS (110, 90, 20).
    assert np.allclose(result.GetOrigin(), (110, 90, 20), atol=1e-3)
    names = ("CTEnhanceBefore", "CTEnhanceAfter", "CTEnhanceDifference")
    assert [shown(name).GetBackgroundVolumeID() for name in names] == [
        node.GetID() for node in (*stages, result)
    ]
    stage, *said = (line.strip() for line in view_titles.titles("CTEnhanceDifference")[0].split("\n"))
    # In as many lines as the view's width asks for.
    assert stage == "NEED" and " ".join(said) == "scan NEED, kernel standard, 10 % of normal dose"
    assert len({node.GetDisplayNode() for node in (*stages, result)}) == 1
    panel.ui.boneButton.click()
    assert stages[0].GetDisplayNode().GetWindow() == 2000
    first, last = (manager.sliceWidget(names[index]) for index in (0, 2))
    first.sliceController().setSliceOffsetValue(22.5)
    assert last.sliceLogic().GetSliceOffset() == pytest.approx(22.5)
    assert panel.ui.doseEstimateLabel.text == "10 % of normal, 25,000 quanta a ray"
    assert panel.ui.consistencyLabel.text.startswith("The image ")
    # a disc in the middle does not tell the columns' spacing
    for said in (panel.ui.consistencyLabel.toolTip, panel.ui.statusLabel.text):
        assert "The readings do not show whether the columns' spacing" in said
    assert not panel.ui.statusLabel.styleSheet
    assert "times their noise" in panel.ui.consistencyLabel.toolTip
    assert not temporaries()

    plain = pixels(last.sliceView())
    assert plain.std() > 0
    panel.ui.overlaySelector.currentIndex = 1
    residual = slicer.util.arrayFromVolume(result.GetNodeReference("CTReconstructResidual"))
    assert panel.ui.overlayRangeSlider.value == pytest.approx(4 * residual.std(), rel=0.02)  # by a sample
    panel.ui.overlayRangeSlider.value = 5
    over = pixels(last.sliceView())
    assert shown(names[2]).GetForegroundVolumeID() == result.GetNodeReferenceID("CTReconstructResidual")
    coloured = np.abs(over.astype(int) - plain).max(-1) > 0
    assert coloured.any() and (over[..., 0] != over[..., 2])[coloured].any()
    assert not shown(names[0]).GetForegroundVolumeID()
    panel.ui.overlaySelector.currentIndex = 2
    assert shown(names[2]).GetForegroundVolumeID() == result.GetNodeReferenceID("CTReconstructUncertainty")
    panel.ui.overlayOpacitySlider.value = 0.5
    assert shown(names[2]).GetForegroundOpacity() == pytest.approx(0.5)
    panel.ui.overlaySelector.currentIndex = 0
    assert np.array_equal(pixels(last.sliceView()), plain)

    panel.ui.sinogramBox.checked = True
    user.turn()
    sinogram = slicer.mrmlScene.GetNodeByID(shown("CTEnhanceFourth").GetBackgroundVolumeID())
    values = slicer.util.arrayFromVolume(sinogram)
    assert values.shape == (SLICES, VIEWS, COLUMNS) and 0 < np.percentile(values, 99) < 20
    assert sinogram.GetHideFromEditors()
    bounds, of = np.zeros(6), np.zeros(6)
    sinogram.GetRASBounds(bounds)
    result.GetRASBounds(of)
    assert np.allclose(bounds, of, atol=1e-3)
    assert pixels(manager.sliceWidget("CTEnhanceFourth").sliceView()).std() > 0

    # Slicer passes the opacity of one linked view on to the others: the sinogram's must not hide an overlay.
    for sinogram_shown in (True, False, True):
        panel.ui.sinogramBox.checked = sinogram_shown
        for index in (1, 2):
            panel.ui.overlaySelector.currentIndex = index
            panel.ui.overlayRangeSlider.value = 5
            user.turn()
            assert shown(names[2]).GetForegroundOpacity() == pytest.approx(0.5)
            over = pixels(last.sliceView()).astype(int)
            assert (np.abs(over - plain).max(-1) > 0).any() and np.ptp(over, -1).max() > 50
        panel.ui.overlaySelector.currentIndex = 0

    # Two of them more closely, with the section that all panels share; then the stages again.
    panel.ui.compareButton.click()
    assert lower_edge(panel, panel.ui.squareButton) <= 700  # of what a window of 1000 pixels leaves a panel
    assert not panel.ui.stagesButton.checked
    assert shown("CTEnhanceBefore").GetBackgroundVolumeID() == stages[0].GetID()
    assert shown("CTEnhanceAfter").GetBackgroundVolumeID() == result.GetID()
    titles = [panel.compareSection.comparison._titles[f"CTEnhance{side}"][0] for side in ("Before", "After")]
    assert titles == ["FBP\nscan FBP", "NEED\nscan NEED"]
    assert panel.ui.flickerButton.text == "Show FBP (key X)"
    panel.ui.flickerButton.click()
    assert panel.compareSection.comparison._titles["CTEnhanceAfter"][0].startswith("FBP")
    assert panel.ui.flickerButton.text == "Show NEED (key X)"
    panel.ui.flickerButton.click()
    panel.ui.squareButton.click()
    assert ">FBP<" in panel.ui.regionTable.text and ">NEED<" in panel.ui.regionTable.text
    panel.ui.removeRegionButton.click()
    panel.ui.stagesButton.click()
    assert not panel.ui.compareButton.checked and panel.stagesSection.stages.active
    panel.ui.stagesButton.click()
    assert manager.layout == layout

    # What means nothing without the result goes with it.
    panel.ui.stagesButton.click()
    slicer.mrmlScene.RemoveNode(result)
    user.turn()
    assert manager.layout == layout and not panel.ui.stagesButton.enabled
    assert not slicer.mrmlScene.IsNodePresent(sinogram)
    panel.ui.sinogramBox.checked = False


def test_the_data_check_is_a_sentence_for_readers(panel: Any) -> None:
    from CTEnhanceLib.reconstruct.job import agrees, consistencyTexts

    found = {"departure": 1.034, "allowed": 1.22, "worst_row": 1, "consistent": True}
    report = {"details": {"data_consistency": found}}
    short, explanation = consistencyTexts(report)
    assert short == "The image fits the measured data: what is left of them is noise."
    assert "1.03 times their noise" in explanation and "Up to 1.22 times" in explanation
    found.update(departure=2.5, consistent=False)
    short, explanation = consistencyTexts(report)
    assert short.startswith("The image does not fit") and "slice 2" in short and not agrees(report)
    found.update(values_warning="Rays through air read -0.7.")
    assert consistencyTexts(report)[0] == "Rays through air read -0.7."
    found.update(geometry_warning="Opposite rays differ.")
    assert consistencyTexts(report)[0] == "Opposite rays differ."
    found.update(counts_warning="Counts were clipped.")
    short, explanation = consistencyTexts(report)
    assert short == "Counts were clipped." and "readings themselves" in explanation
    assert consistencyTexts({})[0] == "not known yet"


def test_simulated_scan_takes_two_verbs(panel: Any, user: Any, ct: Any) -> None:
    said: list[str] = []
    progress = panel.runSection._onProgress
    panel.runSection._onProgress = lambda each: (said.append(each.stage), progress(each))
    panel.ui.methodSelector.currentIndex = 2
    assert not panel.ui.imageModelSelector.enabled
    try:
        result = apply(panel, user)
    finally:
        del panel.runSection._onProgress
        panel.ui.methodSelector.currentIndex = 0
    assert "project" in said and "reconstruct" in said[said.index("project") :]
    assert result.GetName() == "25 % phantom FBP"
    lines = view_titles.titles("CTEnhanceBefore")[0].split("\n")
    # The dose once, in the name: a title twice as long has smaller letters.
    assert " ".join(line.strip() for line in lines) == "FBP 25 % phantom FBP, kernel standard"
    from CTEnhanceLib.scene import placing
    from CTEnhanceLib.scene.volumes import sameGrid

    assert sameGrid(result, ct) and placing.inputOf(result) is ct
    assert abs(slicer.util.arrayFromVolume(result)[1, 14:22, 15:25].mean() - 50) < 15
    report = placing.reportOf(result)
    assert report["verb"] == "reconstruct"
    assert [each["verb"] for each in report["preceding"]] == ["project"]
    assert report["preceding"][0]["settings"]["dose"] == 0.25
    assert shown("CTEnhanceBefore").GetBackgroundVolumeID() == result.GetID()
    assert panel.compared(result) == ("Scanned CT", "FBP")
    assert not temporaries()

    slicer.mrmlScene.Clear(False)
    user.turn()
    assert not nodes() and not panel.ui.stagesButton.enabled
    assert panel.ui.doseEstimateLabel.text == "not known yet"


def test_cancel_leaves_nothing(panel: Any, user: Any, ct: Any, children: Any) -> None:
    scene = nodes()
    panel.ui.applyButton.click()
    user.waits(lambda: "Simulating" in panel.ui.statusLabel.text and children(), SECONDS)
    panel.ui.applyButton.click()
    user.waits(lambda: panel.ui.applyButton.text == "Apply", SECONDS)
    assert "Cancelled" in panel.ui.statusLabel.text
    assert not children() and not temporaries() and nodes() == scene


def test_damaged_file_is_one_sentence(panel: Any, user: Any, made: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "cut.ctproj.h5"
    damaged.write_bytes((made / "scan.ctproj.h5").read_bytes()[:3000])
    panel.ui.pathEdit.text = str(damaged)
    scene = nodes()
    panel.ui.applyButton.click()
    user.waits(lambda: slicerhost.messages, SECONDS)
    sentence = slicerhost.messages[0][0]
    assert len(slicerhost.messages) == 1 and sentence == panel.ui.statusLabel.text
    assert "cut.ctproj.h5" in sentence and "Traceback" not in sentence
    assert nodes() == scene and not temporaries() and panel.ui.applyButton.text == "Apply"


def test_close_scene_during_run(panel: Any, user: Any, ct: Any, children: Any) -> None:
    panel.ui.applyButton.click()
    user.waits(children, SECONDS)
    slicer.mrmlScene.Clear(False)
    user.waits(lambda: not children() and panel.ui.applyButton.text == "Apply", SECONDS)
    assert not temporaries() and not nodes()
    assert not panel.ui.applyButton.enabled and "Choose a projection" in panel.ui.applyButton.toolTip


def test_what_cannot_be_is_said_before_apply(panel: Any, tmp_path: Path) -> None:
    ui = panel.ui
    ui.pathEdit.text = str(tmp_path / "none.ctproj.h5")
    assert ui.applyButton.toolTip.startswith("There is no file or folder")
    ui.pathEdit.text = str(tmp_path)
    assert ui.applyButton.enabled
    ui.matrixBox.value = 8
    assert "matrix is too small" in ui.applyButton.toolTip
    ui.matrixBox.value = 0
    ui.sourceSelector.currentIndex = 1
    assert not ui.pathEdit.visible and ui.doseSlider.visible
    assert ui.applyButton.toolTip == "Choose a CT volume as input."
    ui.sourceSelector.currentIndex = 0


def test_the_only_ct_is_chosen(panel: Any, user: Any) -> None:
    panel.ui.sourceSelector.currentIndex = 1
    assert panel.ui.inputSelector.currentNode() is None
    node = slicer.util.addVolumeFromArray(np.zeros((3, 8, 8), np.int16), name="only")
    user.turn()
    assert panel.ui.inputSelector.currentNode() is node and panel.ui.applyButton.enabled
    panel.ui.sourceSelector.currentIndex = 0


def test_console_example_of_the_readme(panel: Any, ct: Any) -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    example = readme.partition("### CT Reconstruct")[2].partition("```python\n")[2].partition("```")[0]
    ct.SetName("CTEnhanceChestPhantom")
    names: dict[str, Any] = {"slicer": slicer}
    exec(compile(example, "README.md", "exec"), names)
    assert names["image"].GetName() == "25 % CTEnhanceChestPhantom NEED"
    inside = slicer.util.arrayFromVolume(names["image"])[1, 14:22, 15:25]
    assert abs(inside.mean() - 50) < 10


def test_its_own_test(panel: Any) -> None:
    import CTReconstruct

    CTReconstruct.CTReconstructTest().runTest()


def test_by_keyboard_alone_from_a_ct_to_a_documented_comparison(
    panel: Any, user: Any, ct: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step by a key of its own; what a dialog is asked for is typed there in the application."""
    from PySide6 import QtWidgets

    from CTEnhanceLib.compare.modes import Mode
    from CTEnhanceLib.measure import shapes

    ui, views = panel.ui, panel.compareSection.comparison.views
    ui.methodSelector.currentIndex = 2  # FBP: it takes a moment
    press_key(user, "Ctrl+Return")
    assert panel.runSection.running
    user.waits(lambda: not panel.runSection.running)
    assert panel.stagesSection.stages.active
    press_key(user, "Ctrl+Shift+C")
    assert panel.compareSection.comparison.active and not panel.stagesSection.stages.active
    names = [node.GetSingletonTag() for node in (each.mrmlSliceNode() for each in views.widgets())]
    before = [shown(name).GetBackgroundVolumeID() for name in names]
    press_key(user, "W")
    assert [shown(name).GetBackgroundVolumeID() for name in names] == before[::-1]
    press_key(user, "W")
    press_key(user, "M")
    assert ui.slabSelector.currentIndex == 1
    for _ in range(3):
        press_key(user, "M")
    assert ui.slabSelector.currentIndex == 0
    for _ in range(list(Mode).index(Mode.FADE)):
        press_in(user, ui.viewModeSelector, "Down")
    assert panel.compareSection.comparison.mode is Mode.FADE
    (field,) = QtWidgets.QWidget.findChildren(ui.fadeSlider, QtWidgets.QAbstractSpinBox)
    press_in(user, field, "Down")
    assert 0 <= ui.fadeSlider.value < 1
    for _ in range(list(Mode).index(Mode.FADE)):
        press_in(user, ui.viewModeSelector, "Up")
    press_key(user, "Q")
    assert len(shapes.regions()) == 1
    press_key(user, "Shift+Right")
    user.rests(0.5)
    assert "Difference" in ui.regionTable.text
    monkeypatch.setattr(panel.outSection, "_asked", lambda _title, _suffix: tmp_path / "page.html")
    monkeypatch.setattr(panel.outSection, "_pageIsThere", lambda _path: None)
    press_key(user, "Ctrl+Shift+P")
    user.waits(lambda: not panel.runSection.running)
    assert (tmp_path / "page.html").is_file()
    press_key(user, "Ctrl+Shift+C")
    assert not panel.compareSection.comparison.active


def test_tab_goes_on_from_apply_after_a_run(panel: Any, user: Any, ct: Any) -> None:
    """What had the focus is disabled meanwhile; else Tab would begin at the panel's head again."""
    from PySide6 import QtWidgets

    QtWidgets.QWidget.activateWindow(panel.parent)
    user.waits(lambda: QtWidgets.QWidget.isActiveWindow(panel.parent), 60)
    QtWidgets.QWidget.setFocus(panel.ui.methodSelector)
    panel.ui.applyButton.click()
    assert panel.runSection.running
    panel.ui.applyButton.click()
    user.waits(lambda: not panel.runSection.running)
    assert QtWidgets.QApplication.focusWidget() is panel.ui.applyButton
