"""CT Enhance by clicks, on the real MRML scene: from a CT to the comparison, with a cancel midway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from scipy import ndimage

import slicerhost
from ctenhance.options import EnhanceOptions
from panel_run import nodes, press_apply, save_scene, temporaries
from view_pixels import pixels
from view_titles import titles

SMALL = (4, 72, 64)
EXAMPLE = ("CTEnhanceChestPhantom", "enhanced")


@pytest.fixture
def ct(panel: Any) -> Any:
    """A small CT in the scene, chosen as input."""
    node = addCT("chest")
    panel.ui.inputSelector.setCurrentNode(node)
    return node


def addCT(name: str, shape: tuple[int, int, int] = SMALL) -> Any:
    values = np.random.default_rng(0).normal(40, 30, shape).astype(np.int16)
    values[:, : shape[1] // 4] = -1000
    node = slicer.util.addVolumeFromArray(values, name=name)
    node.SetSpacing(0.7, 0.7, 2.5)
    node.CreateDefaultDisplayNodes()
    return node


def apply(panel: Any, user: Any) -> Any:
    """Press Apply and wait for the result."""
    press_apply(panel, user)
    return panel.parameters.result


def test_apply_places_result(panel: Any, user: Any, ct: Any) -> None:
    before = slicer.util.arrayFromVolume(ct).copy()
    result = apply(panel, user)
    assert result is not None and result is not ct
    after = slicer.util.arrayFromVolume(result)
    assert after.shape == before.shape and not np.array_equal(after, before)
    assert np.array_equal(slicer.util.arrayFromVolume(ct), before)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item, other = hierarchy.GetItemByDataNode(result), hierarchy.GetItemByDataNode(ct)
    assert hierarchy.GetItemParent(item) == hierarchy.GetItemParent(other)
    reports = [node for node in slicer.util.getNodesByClass("vtkMRMLTextNode") if '"model"' in node.GetText()]
    assert len(reports) == 1
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(reports[0])) == item
    assert not temporaries()
    assert "Done" in panel.ui.statusLabel.text
    print(
        f"longest turn of the event loop: {user.longest * 1e3:.0f} ms ({user.longestBusy * 1e3:.0f} ms busy)"
    )


def test_the_engine_is_chosen_in_the_list_of_devices(panel: Any, user: Any, ct: Any) -> None:
    selector = panel.ui.deviceSelector
    user.waits(lambda: selector.count > 1, 30)
    texts = [selector.itemText(index) for index in range(selector.count)]
    chosen = next(index for index, text in enumerate(texts) if "with PyTorch" in text)
    assert any("with OpenVINO" in text for text in texts)
    selector.currentIndex = chosen
    assert panel.parameters.device == "cpu by torch"
    from CTEnhanceLib.scene.placing import reportOf

    report = reportOf(apply(panel, user))
    assert report is not None
    assert report["engine"]["name"] == "torch" and report["device"].startswith("cpu")


def test_cancel_leaves_nothing(panel: Any, user: Any, ct: Any, children: Any) -> None:
    scene = nodes()
    panel.ui.applyButton.click()
    user.waits(lambda: "Starting" in panel.ui.statusLabel.text and children())
    panel.ui.applyButton.click()
    user.waits(lambda: panel.ui.applyButton.text == "Apply")
    assert "Cancelled" in panel.ui.statusLabel.text
    assert not children() and not temporaries() and nodes() == scene
    assert apply(panel, user) is not None


def test_faint_structures_are_kept_on_request(panel: Any, user: Any, ct: Any) -> None:
    from CTEnhanceLib.scene.placing import reportOf

    before = slicer.util.arrayFromVolume(ct).astype(np.float32)
    plain = slicer.util.arrayFromVolume(apply(panel, user)).astype(np.float32)
    panel.ui.keepFaintBox.checked = True
    assert panel.parameters.keepFaint
    result = apply(panel, user)
    kept = slicer.util.arrayFromVolume(result).astype(np.float32)

    def coarse(change: np.ndarray) -> np.ndarray:
        """What it holds of structures of 4 mm and more, by the documented formula (SD of 1.5 mm)."""
        x, y, _z = ct.GetSpacing()
        return ndimage.gaussian_filter(change, (0, 1.5 / y, 1.5 / x), truncate=3.0) * (change != 0)

    taken = coarse(plain - before)
    assert np.abs(taken).max() > 2  # of the 3.3 HU here; else there was nothing to keep
    assert np.allclose(kept, plain - taken, atol=1.01)  # whole HU are stored
    assert np.square(coarse(kept - before)).mean() < 0.25 * np.square(taken).mean()
    assert reportOf(result)["settings"]["keep_faint"] == 1  # type: ignore[index]
    assert "faint kept, strength 100 %" in titles("CTEnhanceAfter")[0]


def test_strength_follows_slider(panel: Any, user: Any, ct: Any) -> None:
    result = apply(panel, user)
    before = slicer.util.arrayFromVolume(ct).astype(np.float32)
    full = slicer.util.arrayFromVolume(result).copy()
    panel.ui.strengthSlider.value = 0.5
    user.turn()
    view = slicer.app.layoutManager().sliceWidget("CTEnhanceAfter")
    layer = view.sliceLogic().GetBackgroundLayer().GetVolumeNode()
    assert layer is not result  # what is seen at once is made of the shown slices
    index = 2
    view.sliceController().setSliceOffsetValue(2.5 * index)
    shown = slicer.util.arrayFromVolume(layer)[index]
    assert np.allclose(shown, (before + 0.5 * (full - before))[index], atol=0.01)
    user.waits(lambda: not panel._strengthWriter.pending)
    assert np.allclose(slicer.util.arrayFromVolume(result), before + 0.5 * (full - before), atol=0.51)
    assert view.sliceLogic().GetBackgroundLayer().GetVolumeNode() is result
    assert not slicer.mrmlScene.IsNodePresent(layer)
    # Back to the full effect: a preset, no new run.
    panel.ui.presetSelector.currentIndex = 2
    user.waits(lambda: not panel._strengthWriter.pending)
    assert np.allclose(slicer.util.arrayFromVolume(result), full, atol=0.51)


def test_compare_modes(panel: Any, user: Any, ct: Any) -> None:
    manager = slicer.app.layoutManager()
    layout = manager.layout
    result = apply(panel, user)
    assert panel.ui.compareButton.checked and manager.layout != layout
    first, second = (manager.sliceWidget(name) for name in ("CTEnhanceBefore", "CTEnhanceAfter"))
    assert first.mrmlSliceCompositeNode().GetBackgroundVolumeID() == ct.GetID()
    assert second.mrmlSliceCompositeNode().GetBackgroundVolumeID() == result.GetID()
    user.turn()  # then views are linked
    first.sliceController().setSliceOffsetValue(5.0)
    assert second.sliceLogic().GetSliceOffset() == pytest.approx(5.0)
    panel.ui.lungButton.click()
    for node in (ct, result):
        assert (node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetLevel()) == (1500, -600)
    left, right = pixels(first.sliceView()), pixels(second.sliceView())
    assert left.std() > 0 and right.std() > 0

    panel.ui.viewModeSelector.currentIndex = 1
    user.rests(0.2)
    third = manager.sliceWidget("CTEnhanceDifference")
    assert pixels(third.sliceView()).std() > 0

    panel.ui.viewModeSelector.currentIndex = 2
    panel.ui.fadeSlider.value = 0.25
    assert second.mrmlSliceCompositeNode().GetForegroundOpacity() == pytest.approx(0.25)
    panel.ui.flickerButton.click()
    assert second.mrmlSliceCompositeNode().GetForegroundOpacity() == 0
    panel.ui.flickerButton.click()

    panel.ui.viewModeSelector.currentIndex = 0
    without = pixels(first.sliceView())
    panel.ui.squareButton.click()
    assert "Mean HU" in panel.ui.regionTable.text
    assert not np.array_equal(pixels(first.sliceView()), without)
    slicer.mrmlScene.RemoveNode(slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")[0])
    user.waits(lambda: not panel.ui.regionTable.text, seconds=5)
    assert np.array_equal(pixels(first.sliceView()), without)
    panel.ui.squareButton.click()
    panel.ui.compareButton.click()
    assert manager.layout == layout
    assert slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")  # it is the user's, and saved with the scene


def test_close_scene_during_run(panel: Any, user: Any, ct: Any, children: Any) -> None:
    panel.ui.applyButton.click()
    user.waits(children)
    slicer.mrmlScene.Clear(False)
    user.waits(lambda: not children() and panel.ui.applyButton.text == "Apply")
    assert not temporaries() and not nodes()
    assert not panel.ui.applyButton.enabled and "Choose a CT" in panel.ui.applyButton.toolTip


def test_close_scene_after_run(panel: Any, user: Any, ct: Any) -> None:
    apply(panel, user)
    slicer.mrmlScene.Clear(False)
    user.turn()
    assert not nodes() and not panel.ui.compareButton.enabled
    addCT("another")
    panel.ui.inputSelector.setCurrentNode(slicer.util.getNode("another"))
    assert apply(panel, user) is not None


def test_saved_scene_comes_back(panel: Any, user: Any, ct: Any, tmp_path: Path) -> None:
    result = apply(panel, user)
    panel.ui.strengthSlider.value = 0.5
    user.waits(lambda: not panel._strengthWriter.pending)
    before, after = (slicer.util.arrayFromVolume(node).copy() for node in (ct, result))
    save_scene(tmp_path / "scene.mrml")
    slicer.mrmlScene.Clear(False)
    assert not panel.ui.compareButton.enabled and panel.parameters.inputVolume is None
    slicer.mrmlScene.SetURL(str(tmp_path / "scene.mrml"))
    slicer.mrmlScene.Connect()
    user.rests(0.2)
    ct, result = (slicer.util.getNode(name) for name in ("chest", "chest enhanced (tiny)"))
    assert panel.parameters.inputVolume is ct and panel.parameters.result is result
    assert np.array_equal(slicer.util.arrayFromVolume(ct), before)
    assert np.array_equal(slicer.util.arrayFromVolume(result), after)
    assert panel.ui.strengthSlider.value == 0.5 and "Model" in panel.ui.detailsText.plainText
    panel.ui.compareButton.click()
    layer = slicer.app.layoutManager().sliceWidget("CTEnhanceAfter").mrmlSliceCompositeNode()
    assert layer.GetBackgroundVolumeID() == result.GetID()
    # The full effect is not saved: nothing is blended any more, and that is said.
    panel.ui.strengthSlider.value = 0.25
    user.rests(0.5)
    assert np.array_equal(slicer.util.arrayFromVolume(result), after)
    assert "Press Apply" in panel.ui.statusLabel.text
    panel.ui.outputSelector.setCurrentNode(result)
    assert apply(panel, user) is result
    assert not np.array_equal(slicer.util.arrayFromVolume(result), after)


def test_no_input(panel: Any) -> None:
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip == "Choose a CT volume as input."


def test_same_input_and_output(panel: Any, ct: Any) -> None:
    panel.ui.outputSelector.setCurrentNode(ct)
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip.startswith("Input and output are the same volume")


def failure(panel: Any, user: Any, do: Any = lambda: None) -> str:
    """Press Apply, let something go wrong; return the one sentence that was said."""
    scene = nodes()
    panel.ui.applyButton.click()
    do()
    user.waits(lambda: slicerhost.messages)
    assert len(slicerhost.messages) == 1 and nodes() == scene and not temporaries()
    sentence = slicerhost.messages[0][0]
    assert sentence == panel.ui.statusLabel.text and "Traceback" not in sentence
    assert panel.ui.applyButton.text == "Apply"
    return sentence


def test_worker_killed(panel: Any, user: Any, ct: Any, children: Any) -> None:
    def kill() -> None:
        user.waits(lambda: len(children()) > 1)  # the launcher and the interpreter
        children()[-1].kill()

    assert "ended unexpectedly" in failure(panel, user, kill)


def test_weights_missing(panel: Any, user: Any, ct: Any, tmp_path: Path) -> None:
    import qt

    qt.QFileDialog.chosen = str(tmp_path / "gone.safetensors")
    panel.ui.modelBrowseButton.click()
    assert "gone.safetensors" in failure(panel, user)


def test_out_of_memory(panel: Any, user: Any, ct: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from CTEnhanceLib.enhance import job

    def full(*_arguments: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(job.volumes, "newImage", full)
    assert "not enough memory" in failure(panel, user)


def test_torch_missing(panel: Any, user: Any, ct: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from CTEnhanceLib.process import dependencies

    monkeypatch.setattr(dependencies, "torchInstalled", lambda: False)
    assert "PyTorch is missing" in failure(panel, user)


def test_without_torch_openvino_is_enough_in_the_console(
    panel: Any, ct: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from CTEnhanceLib.process import dependencies

    monkeypatch.setattr(dependencies, "torchInstalled", lambda: False)
    logic = slicer.util.getModuleLogic("CTEnhance")
    assert logic.requirementsPath().name == "requirements-enhance.txt"
    assert not dependencies.needsTorch(logic.requirementsPath())
    result = logic.process(ct, options=EnhanceOptions(model="enhance-twin", engine="openvino"))
    before, after = (slicer.util.arrayFromVolume(node) for node in (ct, result))
    assert after.shape == before.shape and not np.array_equal(after, before)
    scene = nodes()
    monkeypatch.setattr(dependencies, "missing", lambda path: ["openvino>=2025.0"])
    with pytest.raises(dependencies.CTEnhanceError, match="openvino"):
        logic.process(ct)
    assert nodes() == scene


def test_without_torch_the_installation_says_what_is_for_what(monkeypatch: pytest.MonkeyPatch) -> None:
    import CTEnhance
    from CTEnhanceLib.process import dependencies

    asked: list[tuple[list[str], str]] = []
    monkeypatch.setattr(dependencies, "torchInstalled", lambda: False)
    monkeypatch.setattr(dependencies, "missing", lambda path: ["openvino>=2025.0"])
    monkeypatch.setattr(dependencies, "_installTorch", lambda: pytest.fail("PyTorch is not needed"))
    monkeypatch.setattr(dependencies, "_install", lambda lacking, who: asked.append((lacking, who)))
    assert dependencies.ensure(CTEnhance.WITHOUT_TORCH, "CT Enhance") is False  # declined
    assert asked[0][0] == ["openvino>=2025.0"]
    assert "OpenVINO" in asked[0][1] and "graphics card" in asked[0][1]


def test_console_example_of_the_readme(panel: Any) -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    example = readme.partition("## In 3D Slicer")[2].partition("```python\n")[2].partition("```")[0]
    addCT("CTEnhanceChestPhantom")
    exec(compile(example, "README.md", "exec"), {"slicer": slicer})
    before, after = (slicer.util.arrayFromVolume(slicer.util.getNode(n)) for n in EXAMPLE)
    assert before.shape == after.shape and not np.array_equal(before, after)


def test_console_tells_progress(panel: Any, ct: Any, model: Path) -> None:
    from CTEnhance import CTEnhanceLogic

    heard = []
    options = EnhanceOptions(strength=0.8, model=str(model), device="cpu")
    result = CTEnhanceLogic().process(ct, options=options, progress=lambda *each: heard.append(each))
    assert result.GetName() == "chest enhanced (tiny)"
    percentages = [percentage for stage, percentage in heard if stage == "Enhancing"]
    assert percentages == sorted(percentages) and percentages[-1] > 90


def test_self_test(panel: Any) -> None:
    from CTEnhance import CTEnhanceTest

    CTEnhanceTest().runTest()


def test_dicom_by_clicks(panel: Any, user: Any, shared_data: Path, children: Any) -> None:
    series = sorted((shared_data / "dicom" / "lidc_idri_0001_ge_2.5mm_uncompressed").glob("*.dcm"))
    node = slicer.util.loadVolume(str(series[0]))
    panel.ui.inputSelector.setCurrentNode(node)
    panel.ui.applyButton.click()
    user.waits(lambda: "Enhancing" in panel.ui.statusLabel.text)
    panel.ui.applyButton.click()
    user.waits(lambda: panel.ui.applyButton.text == "Apply")
    assert not children() and not temporaries()
    user.longest = user.longestBusy = 0.0
    user.watches = lambda: panel.runSection.running  # then the result is shown: views are made
    result = apply(panel, user)
    assert slicer.util.arrayFromVolume(result).shape == (len(series), 512, 512)
    matrices = slicer.vtkMRMLScene, [slicer.util.arrayFromVTKMatrix(m) for m in map(_grid, (node, result))]
    assert np.allclose(*matrices[1])
    panel.ui.compareButton.click()
    print(
        f"longest turn of the event loop: {user.longest * 1e3:.0f} ms ({user.longestBusy * 1e3:.0f} ms busy)"
    )
    assert user.longestBusy < 0.1


def _grid(node: Any) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix
