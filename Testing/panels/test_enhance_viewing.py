"""CT Enhance by clicks, when there are results: what views show, what they are called, what is kept."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import slicer

import slicerhost
from panel_run import close_panel, open_panel, press_key
from view_pixels import pixels
from view_titles import captions, titles

SHAPE, SPACING = (12, 64, 80), (2.0, 2.0, 5.0)
BEFORE, AFTER, DIFFERENCE = "CTEnhanceBefore", "CTEnhanceAfter", "CTEnhanceDifference"


def addCT(name: str = "chest", inside: float = 40.0) -> Any:
    """A body in air, with noise, perhaps with another tissue inside; on a grid about the origin."""
    values = np.random.default_rng(0).normal(40, 20, SHAPE)
    values[:, 16:-16, 16:-16] += inside - 40
    values[:, :8], values[:, -8:] = -1000, -1000
    node = slicer.util.addVolumeFromArray(values.astype(np.int16), name=name)
    node.SetSpacing(SPACING)
    node.SetOrigin(*(-n * step / 2 for n, step in zip(SHAPE[::-1], SPACING, strict=True)))
    node.CreateDefaultDisplayNodes()
    return node


def addResult(ct: Any, model: str = "one", change: float = -22.0, strength: float = 1.0) -> Any:
    """What a run of CT Enhance places, with the same change in every voxel."""
    from CTEnhanceLib.scene import placing, volumes

    before = slicer.util.arrayFromVolume(ct).astype(np.float32)
    (image, values), (full, effect) = (volumes.newImage(before.shape, np.float32) for _ in range(2))
    effect[...] = before + change
    values[...] = before + strength * change
    report = {"verb": "enhance", "model": {"name": model}, "settings": {"strength": strength}}
    return placing.addResult(ct, None, f"{ct.GetName()} enhanced ({model})", image, full, report)


@pytest.fixture
def ct(panel: Any, user: Any) -> Any:
    node = addCT()
    user.turn()
    return node


@pytest.fixture
def result(panel: Any, user: Any, ct: Any) -> Any:
    node = addResult(ct)
    choose(panel, user, node)
    return node


def choose(panel: Any, user: Any, node: Any) -> None:
    """Choose a result in the list."""
    user.turn()
    selector = panel.ui.resultSelector
    selector.currentIndex = selector.findText(node.GetName())
    assert panel.parameters.result is node


def widget(view: str) -> Any:
    return slicer.app.layoutManager().sliceWidget(view)


def name(view: str) -> str:
    """Return the first line of a view's title, when it is the letter in its bar that is that of its title."""
    (title,) = titles(view)
    assert widget(view).mrmlSliceNode().GetLayoutLabel() == title[0]
    return title.split("\n")[0].strip()


def probed(view: str, ras: tuple[float, float, float]) -> float:
    """Return what Slicer's Data Probe reads of a view's background under the mouse."""
    layer = widget(view).sliceLogic().GetBackgroundLayer()
    node = widget(view).mrmlSliceNode()
    toXY = slicer.vtkMRMLSliceNode.GetXYToRAS(node)
    toXY.Invert()
    xyz = toXY.MultiplyPoint((*ras, 1.0))[:3]
    toXY.Invert()
    place = [round(value) for value in layer.GetXYToIJKTransform().TransformDoublePoint(xyz)]
    return layer.GetVolumeNode().GetImageData().GetScalarComponentAsDouble(*place, 0)


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_flicker_changes_the_title_with_the_image(panel: Any, user: Any, result: Any, mode: int) -> None:
    ui = panel.ui
    ui.viewModeSelector.currentIndex, ui.fadeSlider.value = mode, 1.0  # whatever was looked at before
    ui.compareButton.click()
    view = widget(AFTER)
    assert name(AFTER) == "After" and "chest enhanced (one)" in titles(AFTER)[0]
    after, colour = pixels(view.sliceView()), view.mrmlSliceNode().GetLayoutColor()
    ui.flickerButton.click()
    assert name(AFTER) == "Before" and "enhanced" not in titles(AFTER)[0]
    assert view.mrmlSliceNode().GetLayoutColor() != colour
    assert not np.array_equal(pixels(view.sliceView()), after)
    if mode < 2:
        assert name(BEFORE) == "Before"
    ui.flickerButton.click()
    assert name(AFTER) == "After" and view.mrmlSliceNode().GetLayoutColor() == colour
    assert np.array_equal(pixels(view.sliceView()), after)
    if mode == 2:
        for fade, said in ((0.25, "After, 25 % over Before"), (0.0, "Before"), (1.0, "After")):
            ui.fadeSlider.value = fade
            assert name(AFTER) == said
    # Another look begins with what its title says.
    ui.flickerButton.click()
    ui.compareButton.click()
    ui.compareButton.click()
    assert name(AFTER) == "After" and not ui.flickerButton.checked
    ui.viewModeSelector.currentIndex = 0


def test_the_image_says_what_it_is(panel: Any, user: Any, result: Any) -> None:
    ui = panel.ui
    ui.viewModeSelector.currentIndex = 0
    ui.compareButton.click()
    user.turn()  # then views are linked
    ui.lungButton.click()
    count = slicer.util.arrayFromVolume(result).shape[0]
    for number in (1, count):
        spacing, origin = result.GetSpacing()[2], result.GetOrigin()[2]
        offset = origin + (number - 1) * spacing
        widget(BEFORE).sliceController().setSliceOffsetValue(offset)
        for view in (BEFORE, AFTER):
            place = f"{'I' if offset < 0 else 'S'} {abs(offset):.1f} mm"
            assert captions(view) == [
                f"Slice {number}/{count}, {place}",
                "W 1500 L -600 HU",
                "Research use only",
            ]
    ui.boneButton.click()
    assert captions(AFTER)[1] == "W 2000 L 500 HU"
    # The keys 1 to 9 are the windows, in the order of their buttons, as long as the panel is open.
    for key, text in ((1, "W 1500 L -600 HU"), (5, "W 400 L 40 HU"), (7, "W 600 L 200 HU")):
        press_key(user, str(key))
        assert captions(AFTER)[1] == text
    close_panel(panel)
    press_key(user, "3")
    assert result.GetDisplayNode().GetWindow() == 600  # Slicer's own again
    open_panel("CTEnhance")
    press_key(user, "3")
    # It is in the image itself: light letters on dark ground in its lower left corner.
    corner = pixels(widget(AFTER).sliceView())[-60:, :110]
    assert (corner.min(-1) > 200).sum() > 50 and np.median(corner) < 60
    for strength in (0.02, 1.0):
        ui.strengthSlider.value = strength
        assert titles(AFTER)[0].endswith(f"strength {100 * strength:.0f} %")


def test_f1_shows_all_keys(panel: Any, user: Any, result: Any) -> None:
    press_key(user, "F1")
    ((sheet, _details),) = slicerhost.messages
    # A table: by tabs some of what the keys do would stand beside the others.
    keys = dict(re.findall("<tr><td>([^<]*)</td><td[^>]*>([^<]*)</td></tr>", sheet))
    assert list(keys) == [
        *("Ctrl+Return", "Ctrl+Shift+C"),
        *("1 to 8", "9"),
        *"XWPEOQ",
        *("Shift+arrows", "Shift+PgUp, Shift+PgDown"),
        *("I", "Shift+I"),
        *"NACS",
        *("J, K, Shift+J, Shift+K", "Ctrl++, Ctrl+=, Ctrl+-", "Ctrl+Shift+arrows"),
        *"HMU",
        *(f"Ctrl+Shift+{key}" for key in "DIP"),
        "F1",
    ]
    assert keys["1 to 8"].startswith("Window: Lung, Mediastinum") and keys["1 to 8"].endswith("Metal")
    slicerhost.messages.clear()
    close_panel(panel)
    try:
        press_key(user, "F1")
        assert not slicerhost.messages  # the key is Slicer's own again
    finally:
        open_panel("CTEnhance")


def test_the_difference_reads_what_it_shows(panel: Any, user: Any, ct: Any, result: Any) -> None:
    ui = panel.ui
    ui.viewModeSelector.currentIndex = 1
    ui.compareButton.click()
    user.turn()
    for strength in (1.0, 0.44, 0.9):
        ui.strengthSlider.value = strength
        # Before the voxels are written, and after.
        for settled in (False, True):
            if settled:
                user.waits(lambda: not panel._strengthWriter.pending)
            for offset in (0.0, 15.0):
                widget(BEFORE).sliceController().setSliceOffsetValue(offset)
                before, after, read = (
                    probed(view, (10.0, 4.0, offset)) for view in (BEFORE, AFTER, DIFFERENCE)
                )
                assert read == pytest.approx(-22 * strength, abs=1e-4), (strength, settled)
                assert after - before == pytest.approx(read, abs=1e-3), (strength, settled)
            assert f"strength {100 * strength:.0f} %" in titles(AFTER)[0]
    node = widget(DIFFERENCE).sliceLogic().GetBackgroundLayer().GetVolumeNode()
    for limit in (50, 10):
        ui.differenceSlider.value = limit
        assert (node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetLevel()) == (2 * limit, 0)
    ui.viewModeSelector.currentIndex = 0
    assert not slicer.mrmlScene.IsNodePresent(node)


def test_the_difference_has_a_scale_on_a_dark_ground(panel: Any, user: Any, ct: Any) -> None:
    choose(panel, user, addResult(ct, change=0.0))
    panel.ui.viewModeSelector.currentIndex = 1
    panel.ui.compareButton.click()
    user.turn()
    seen = pixels(widget(DIFFERENCE).sliceView())
    middle = seen[seen.shape[0] // 3 : seen.shape[0] // 2, seen.shape[1] // 4 : seen.shape[1] // 2]
    assert middle.max() < 60  # nothing changed: no glare
    scale = seen[seen.shape[0] // 3 : 2 * seen.shape[0] // 3, int(0.85 * seen.shape[1]) :].reshape(-1, 3)
    blue, red = scale[:, 2].astype(int) - scale[:, 0], scale[:, 0].astype(int) - scale[:, 2]
    assert (blue > 80).any() and (red > 80).any()
    panel.ui.viewModeSelector.currentIndex = 0


def seenPart(view: str) -> tuple[np.ndarray, tuple[float, float]]:
    """Return the middle (RAS) and the extent (mm) of what a view shows."""
    node = widget(view).mrmlSliceNode()
    matrix = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
    return (matrix @ (*node.GetXYZOrigin(), 1.0))[:3], tuple(node.GetFieldOfView()[:2])


def lookAt(view: str, ct: Any, offset: float, width: float = 0.0) -> None:
    """Read a volume in one of Slicer's own views: at this slice, and perhaps with a smaller field of view."""
    logic, node = widget(view).sliceLogic(), widget(view).mrmlSliceNode()
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(ct.GetID())
    logic.FitSliceToAll()
    if width:
        across, down, depth = node.GetFieldOfView()
        node.SetFieldOfView(width, width * down / across, depth)
        node.SetXYZOrigin(-20.0, 10.0, 0.0)
        node.UpdateMatrices()
    logic.SetSliceOffset(offset)


@pytest.mark.parametrize("width", [0.0, 50.0])
def test_slice_and_zoom_are_kept(panel: Any, user: Any, ct: Any, result: Any, width: float) -> None:
    lookAt("Red", ct, 17.5, width)
    middle, extent = seenPart("Red")
    panel.ui.compareButton.click()
    user.rests(0.5)
    for view in (BEFORE, AFTER):
        found, seen = seenPart(view)
        assert found[2] == pytest.approx(17.5)
        if width:
            assert np.allclose(found, middle, atol=0.01)
            scale = max(np.array(extent) / widget(view).mrmlSliceNode().GetDimensions()[:2])
            assert np.allclose(seen, scale * np.array(widget(view).mrmlSliceNode().GetDimensions()[:2]))
        else:
            assert seen[0] >= SHAPE[2] * SPACING[0] - 0.1 and seen[1] >= SHAPE[1] * SPACING[1] - 0.1
    # The same in views of other shapes: neither cropped nor shrunk by going there and back.
    sizes = {0: (400, 700), 1: (270, 700), 2: (820, 700)}
    panel.ui.fadeSlider.value = 1.0
    for mode in (1, 2, 0, 1, 0):
        panel.ui.viewModeSelector.currentIndex = mode
        shown = {0: (BEFORE, AFTER), 1: (BEFORE, AFTER, DIFFERENCE), 2: (AFTER,)}[mode]
        for view in shown:
            widget(view).sliceLogic().ResizeSliceNode(*sizes[mode])
        user.rests(0.5)
        for view in shown:
            found, seen = seenPart(view)
            assert found[2] == pytest.approx(17.5)
            if width:  # all of what was seen, and no more than the view's shape asks for
                scale = max(np.array(extent) / sizes[mode])
                assert np.allclose(seen, scale * np.array(sizes[mode]), rtol=1e-3), mode
            else:
                assert seen[0] >= SHAPE[2] * SPACING[0] - 0.1 and seen[1] >= SHAPE[1] * SPACING[1] - 0.1, mode
    panel.ui.viewModeSelector.currentIndex = 0


def test_another_result_keeps_the_slice(panel: Any, user: Any, ct: Any, result: Any) -> None:
    other = addResult(ct, "two", change=8.0)
    panel.ui.compareButton.click()
    user.rests(0.4)
    widget(BEFORE).sliceController().setSliceOffsetValue(-12.5)
    choose(panel, user, other)
    assert widget(AFTER).sliceLogic().GetSliceOffset() == pytest.approx(-12.5)
    assert "chest enhanced (two)" in titles(AFTER)[0]
    layer = widget(AFTER).mrmlSliceCompositeNode()
    assert layer.GetBackgroundVolumeID() == other.GetID()
    panel.ui.strengthSlider.value = 0.5
    user.waits(lambda: not panel._strengthWriter.pending)
    first, second = (
        slicer.util.arrayFromVolume(node) - slicer.util.arrayFromVolume(ct).astype(np.float32)
        for node in (result, other)
    )
    assert np.allclose(first, -22) and np.allclose(second, 4)  # the strength is the shown one's alone
    choose(panel, user, result)
    assert panel.ui.strengthSlider.value == 1.0


def test_a_plane_that_only_the_reader_shows(panel: Any, user: Any, ct: Any, result: Any) -> None:
    manager = slicer.app.layoutManager()
    manager.layoutLogic().GetLayoutNode().SetViewArrangement(
        slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpGreenSliceView
    )
    lookAt("Green", ct, 9.0)
    panel.ui.compareButton.click()
    user.rests(0.5)
    normal = slicer.util.arrayFromVTKMatrix(widget(AFTER).mrmlSliceNode().GetSliceToRAS())[:3, 2]
    assert abs(normal[1]) == pytest.approx(1) and seenPart(AFTER)[0][1] == pytest.approx(9.0)
    panel.ui.compareButton.click()
    manager.layoutLogic().GetLayoutNode().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)


def test_a_volume_that_comes_is_the_input(panel: Any, user: Any) -> None:
    assert panel.ui.inputSelector.currentNode() is None
    hidden = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
    hidden.UnRegister(None)
    hidden.SetHideFromEditors(True)
    slicer.mrmlScene.AddNode(hidden)
    user.turn()
    assert panel.ui.inputSelector.currentNode() is None
    first = addCT("first")
    user.turn()
    assert panel.ui.inputSelector.currentNode() is first and panel.ui.applyButton.enabled
    addCT("second")
    user.turn()
    assert panel.ui.inputSelector.currentNode() is first  # what is chosen stays


def test_results_are_not_taken_as_input(panel: Any, user: Any, ct: Any, result: Any) -> None:
    from CTEnhanceLib.scene import placing, units

    slicer.mrmlScene.RemoveNode(ct)
    user.turn()
    assert panel.parameters.inputVolume is None and placing.originals() == []
    map_ = addCT("iodine")
    units.setUnits(map_, units.DENSITY, "iodine")
    user.turn()
    assert placing.originals() == [] and addCT("another") in placing.originals()


def test_what_is_no_result_is_not_overwritten(panel: Any, user: Any, ct: Any) -> None:
    import qt

    patient = addCT("patient")
    before = slicer.util.arrayFromVolume(patient).copy()
    panel.ui.outputSelector.setCurrentNode(patient)
    slicerhost.answers.append(qt.QMessageBox.No)
    panel.ui.applyButton.click()
    user.rests(0.2)
    ((question, _details),) = slicerhost.messages
    assert "'patient' is no result of CT Enhance" in question and "Replace it?" in question
    assert panel.ui.applyButton.text == "Apply" and "Nothing was computed" in panel.ui.statusLabel.text
    assert np.array_equal(slicer.util.arrayFromVolume(patient), before)


def test_the_console_does_not_overwrite_either(panel: Any, ct: Any) -> None:
    from CTEnhance import CTEnhanceLogic
    from CTEnhanceLib.enhance.job import CTEnhanceError

    patient = addCT("patient")
    with pytest.raises(CTEnhanceError, match="'patient' is no result of CT Enhance"):
        CTEnhanceLogic().process(ct, patient)


def test_a_replaced_volume_forgets_its_file(panel: Any, user: Any, ct: Any) -> None:
    from CTEnhanceLib.enhance.job import EnhanceJob
    from CTEnhanceLib.process.transfer import LoadedVolume
    from CTEnhanceLib.scene import placing, volumes

    patient = addCT("patient")
    patient.AddDefaultStorageNode()
    patient.GetStorageNode().SetFileName("/patients/one.nrrd")
    patient.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    hierarchy.SetItemUID(hierarchy.GetItemByDataNode(patient), "DICOM", "1.2")
    job = EnhanceJob(ct, patient, overwrite=True)
    image, values = volumes.newImage(SHAPE, np.float32)
    values[...] = 7
    job._image, job._full = image, LoadedVolume(image, np.eye(4))
    assert job.place({"verb": "enhance", "model": {"name": "tiny"}}) is patient
    assert patient.GetStorageNode() is None and patient.GetAttribute("DICOM.instanceUIDs") is None
    assert hierarchy.GetItemUID(hierarchy.GetItemByDataNode(patient), "DICOM") == ""
    assert patient.GetName() == "chest enhanced (tiny)"  # 'patient' it is no longer
    assert placing.inputOf(patient) is ct


def test_a_run_that_ends_elsewhere_leaves_the_views(panel: Any, user: Any, ct: Any, result: Any) -> None:
    panel.ui.compareButton.click()
    panel.ui.applyButton.click()
    user.waits(lambda: panel.runSection.running)
    close_panel(panel)
    shown = widget(AFTER).mrmlSliceCompositeNode().GetBackgroundVolumeID()
    assert shown == result.GetID()
    user.waits(lambda: not panel.runSection.running)
    user.rests(0.3)
    assert widget(AFTER).mrmlSliceCompositeNode().GetBackgroundVolumeID() == shown
    assert panel.compareSection.comparison.result is result
    assert "Done in" in panel.ui.statusLabel.text
    assert "CT Enhance: Done in" in slicer.util.mainWindow().statusBar().currentMessage()
    second = slicer.util.getNode("chest enhanced (tiny)")
    assert panel.logic.getParameterNode().result is second
    open_panel("CTEnhance")
    user.turn()
    # It is the panel's own again.
    assert panel.ui.resultSelector.currentText == "chest enhanced (tiny)"
    assert widget(AFTER).mrmlSliceCompositeNode().GetBackgroundVolumeID() == second.GetID()
    assert panel.ui.applyButton.text == "Apply" and panel.ui.applyButton.enabled


def test_the_next_run_makes_a_new_result(panel: Any, user: Any, ct: Any, result: Any) -> None:
    from panel_run import press_apply

    kept = slicer.util.arrayFromVolume(result).copy()
    press_apply(panel, user)
    made = panel.parameters.result
    assert made is not result and made.GetName() == "chest enhanced (tiny)"
    assert np.array_equal(slicer.util.arrayFromVolume(result), kept)
    assert panel.ui.outputSelector.currentNode() is None  # the one after that is new, too
    names = [panel.ui.resultSelector.itemText(index) for index in range(panel.ui.resultSelector.count)]
    assert names == ["Choose a result", "chest enhanced (one)", "chest enhanced (tiny)"]
    assert panel.ui.deviceWarningLabel.visible is False  # it is known how long it took
    assert "Done in" in panel.ui.statusLabel.text
    report = panel.ui.detailsText.toPlainText()
    assert "Model" in report and "tiny" in report and "{" not in report
    panel.ui.jsonBox.click()
    assert '"model": {' in panel.ui.detailsText.toPlainText()
    panel.ui.jsonBox.click()


def test_without_a_window_of_the_readers_the_content_decides(panel: Any, user: Any) -> None:
    for inside, expected in ((40.0, (350, 50)), (-800.0, (1500, -600))):
        node = addCT(f"inside {inside}", inside)
        addResult(node)
        display = node.GetDisplayNode()
        assert (display.GetWindow(), display.GetLevel()) == expected
    node = addCT("read")
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevel(80, 40)
    addResult(node)
    assert (node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetLevel()) == (80, 40)
