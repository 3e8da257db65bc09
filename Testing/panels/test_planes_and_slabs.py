"""Planes, crosshair, slab and the way back, by clicks and keys, in whatever a panel shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from test_enhance_viewing import AFTER, BEFORE, DIFFERENCE, addCT, addResult, choose, widget
from vtk.util import numpy_support

from panel_run import close_panel, open_panel, press_key
from view_titles import captions, titles

AXES = ("Axial", "Coronal", "Sagittal")


@pytest.fixture
def compared(panel: Any, user: Any) -> Any:
    """A CT whose every slice has values of its own, compared with its result."""
    ct = addCT()
    values = slicer.util.arrayFromVolume(ct)
    values[...] = 10 * np.arange(len(values))[:, None, None] + np.arange(values.shape[1])[:, None]
    slicer.util.arrayFromVolumeModified(ct)
    user.turn()
    result = addResult(ct)
    choose(panel, user, result)
    panel.ui.viewModeSelector.currentIndex = 0
    panel.ui.compareButton.click()
    user.rests(0.4)
    yield result
    panel.ui.slabSelector.currentIndex = 0
    panel.ui.viewModeSelector.currentIndex = 0


def axis(view: str) -> str:
    from CTEnhanceLib.views.part import orientationOf

    return orientationOf(widget(view).mrmlSliceNode())


def shown(view: str) -> np.ndarray:
    """Return the values that a view shows of its background, before window and level."""
    logic = widget(view).sliceLogic()
    reslice = logic.GetBackgroundLayer().GetReslice()
    reslice.Update()
    image = reslice.GetOutput()
    values = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    return values.reshape(image.GetDimensions()[1::-1])


def middle(view: str) -> float:
    values = shown(view)
    return float(values[values.shape[0] // 2, values.shape[1] // 2])


@pytest.mark.parametrize("mode", [0, 1, 2, 4])
def test_one_button_or_key_turns_all_views(panel: Any, user: Any, compared: Any, mode: int) -> None:
    panel.ui.viewModeSelector.currentIndex = mode
    views = [view.name for view in panel.compareSection.comparison.mode.views()]
    for name in ("Coronal", "Sagittal", "Axial"):
        getattr(panel.ui, f"{name.lower()}Button").click()
        assert {axis(view) for view in views} == {name}
        checked = [each for each in AXES if getattr(panel.ui, f"{each.lower()}Button").checked]
        assert checked == [name]
        press_key(user, {"Coronal": "S", "Sagittal": "A", "Axial": "C"}[name])
        assert {axis(view) for view in views} != {name}
        press_key(user, "U")
        assert {axis(view) for view in views} == {name}


def test_three_planes_before_and_after(panel: Any, user: Any, compared: Any) -> None:
    press_key(user, "P")
    for side, volume in ((BEFORE, "chest"), (AFTER, "chest enhanced (one)")):
        for each in AXES:
            view = f"{side}{each}"
            assert axis(view) == each
            assert volume in titles(view)[0] and titles(view)[0].startswith(side.removeprefix("CTEnhance"))
            assert any(line.startswith("Slice ") for line in captions(view))
    assert not panel.ui.axialButton.enabled
    panel.ui.strengthSlider.value = 0.5  # seen at once, in all three
    nodes = {widget(f"{AFTER}{each}").mrmlSliceCompositeNode().GetBackgroundVolumeID() for each in AXES}
    assert len(nodes) == 1 and nodes != {compared.GetID()}
    before, after = (middle(f"{side}Coronal") for side in (BEFORE, AFTER))
    assert after - before == pytest.approx(-11, abs=0.01)
    press_key(user, "P")
    assert panel.ui.viewModeSelector.currentIndex == 0
    press_key(user, "U")
    assert panel.ui.viewModeSelector.currentIndex == 3


def click(view: str, x: int, y: int, drag: int = 0) -> None:
    """Press and release the left button over a view, and perhaps move in between."""
    interactor = widget(view).sliceView().renderWindow().GetInteractor()
    interactor.SetEventInformation(x, y)
    interactor.InvokeEvent(vtk.vtkCommand.LeftButtonPressEvent)
    interactor.SetEventInformation(x + drag, y)
    interactor.InvokeEvent(vtk.vtkCommand.LeftButtonReleaseEvent)


def test_a_click_brings_all_views_to_the_place(panel: Any, user: Any, compared: Any) -> None:
    node = slicer.vtkMRMLCrosshairNode()
    node.SetSingletonTag("default")
    crosshair = slicer.mrmlScene.AddNode(node)
    press_key(user, "P")
    user.rests(0.4)
    place = np.array([20.0, -14.0, 12.5])
    # Where a click in the axial view before puts x and y, and one in the coronal view after then z.
    for view, used in ((f"{BEFORE}Axial", (0, 1)), (f"{AFTER}Coronal", (0, 2))):
        matrix = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(widget(view).mrmlSliceNode().GetXYToRAS(), matrix)
        there = matrix.MultiplyPoint((*place, 1.0))
        click(view, *(round(value) for value in there[:2]))
        found = np.array(crosshair.GetCrosshairRAS())
        assert np.allclose(found[list(used)], place[list(used)], atol=0.5)
        assert crosshair.GetCrosshairMode() == crosshair.ShowIntersection
        # Whole slices are shown, those that hold the place: the middle of its voxel.
        toVoxel, fromVoxel = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
        volume = widget(f"{BEFORE}Axial").sliceLogic().GetBackgroundLayer().GetVolumeNode()
        volume.GetRASToIJKMatrix(toVoxel)
        volume.GetIJKToRASMatrix(fromVoxel)
        voxel = np.round(toVoxel.MultiplyPoint((*found, 1.0))[:3])
        middle = fromVoxel.MultiplyPoint((*voxel, 1.0))
        assert np.abs(np.array(middle[:3]) - found).max() > 0.01
        for side in (BEFORE, AFTER):
            for number, each in enumerate(("Sagittal", "Coronal", "Axial")):
                offset = widget(f"{side}{each}").mrmlSliceNode().GetSliceToRAS().GetElement(number, 3)
                assert offset == pytest.approx(middle[number], abs=1e-6), (side, each)
    # Neither a drag nor a click while it is off, nor one after the panel was left.
    click(f"{BEFORE}Axial", 100, 100, drag=30)
    assert np.allclose(crosshair.GetCrosshairRAS(), found)
    press_key(user, "H")
    assert not panel.ui.crosshairButton.checked
    assert crosshair.GetCrosshairMode() == crosshair.NoCrosshair
    click(f"{BEFORE}Axial", 100, 100)
    assert np.allclose(crosshair.GetCrosshairRAS(), found)
    press_key(user, "H")
    close_panel(panel)
    click(f"{BEFORE}Axial", 100, 100)
    assert np.allclose(crosshair.GetCrosshairRAS(), found)
    open_panel("CTEnhance")


def test_slicers_texts_are_not_written_anew_by_a_click_and_stay_on(
    panel: Any, user: Any, compared: Any
) -> None:
    """They are written three times for each view that moves, and none of them tells of places."""
    texts = slicer.modules.DataProbeInstance.infoWidget.sliceAnnotations
    seen: list[int] = []
    node = widget(BEFORE).mrmlSliceNode()
    tag = node.AddObserver(
        vtk.vtkCommand.ModifiedEvent, lambda *_: seen.append(texts.sliceViewAnnotationsEnabled)
    )
    panel.viewSection._onPlace((5.0, 5.0, 20.0))
    node.RemoveObserver(tag)
    assert seen and not any(seen)
    assert texts.sliceViewAnnotationsEnabled == 1


@pytest.mark.parametrize("turned", [False, True])
def test_a_place_in_a_volume_that_was_moved(panel: Any, user: Any, compared: Any, turned: bool) -> None:
    from CTEnhanceLib.views import crosshair

    volume = widget(BEFORE).sliceLogic().GetBackgroundLayer().GetVolumeNode()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = 0.3, 0.4, 0.2
    if turned:
        matrix[:2, :2] = [[0.6, -0.8], [0.8, 0.6]]
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    place = (3.0, 4.0, 6.0)
    middle = np.array(crosshair._middle(place, volume))
    grid = vtk.vtkMatrix4x4()
    volume.GetRASToIJKMatrix(grid)
    voxel = slicer.util.arrayFromVTKMatrix(grid) @ np.linalg.inv(matrix) @ [*middle, 1.0]
    assert np.allclose(voxel[:3], np.round(voxel[:3]), atol=1e-6)
    asked = slicer.util.arrayFromVTKMatrix(grid) @ np.linalg.inv(matrix) @ [*place, 1.0]
    assert np.abs(asked - voxel).max() <= 0.5 + 1e-6
    bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    volume.SetAndObserveTransformNodeID(bent.GetID())
    assert crosshair._middle(place, volume) == place
    volume.SetAndObserveTransformNodeID(None)
    for node in (transform, bent):
        slicer.mrmlScene.RemoveNode(node)


def test_a_slab_is_as_thick_as_asked_and_says_so(panel: Any, user: Any, compared: Any) -> None:
    """Slices of 5 mm, of which each is 10 HU brighter than the one below."""
    ui = panel.ui
    widget(BEFORE).sliceController().setSliceOffsetValue(2.5)  # the seventh of twelve, of 60 HU
    ui.slabSlider.value = 15.0
    one = {view: middle(view) for view in (BEFORE, AFTER)}
    for index, change, name in ((1, 0.0, "Mean"), (2, 10.0, "MIP"), (3, -10.0, "MinIP")):
        press_key(user, "M")
        assert ui.slabSelector.currentIndex == index
        for view in (BEFORE, AFTER):
            assert middle(view) == pytest.approx(one[view] + change, abs=0.01), (name, view)
            assert f"{name} 15 mm (3 slices)" in captions(view)
    # An even number of slices for the mean, an odd one for whole slices; none is thinner than one slice.
    for thickness, mean, brightest in ((20.0, "20 mm (4 slices)", "25 mm (5 slices)"), (1.0, "", "")):
        ui.slabSlider.value = thickness
        for index, text in ((1, mean), (2, brightest)):
            ui.slabSelector.currentIndex = index
            found = [line for line in captions(AFTER) if "slices)" in line]
            assert [line.split(" ", 1)[1] for line in found] == ([text] if text else [])
            expected = one[AFTER] + (20.0 if index == 2 and text else 0.0)
            assert middle(AFTER) == pytest.approx(expected, abs=0.01)
    # In another plane its steps are that plane's: rows of 2 mm, each 1 HU brighter.
    ui.slabSlider.value, ui.slabSelector.currentIndex = 6.0, 2
    press_key(user, "C")
    user.rests(0.4)
    high = middle(BEFORE)
    assert "MIP 6 mm (3 slices)" in captions(BEFORE)
    ui.slabSelector.currentIndex = 0
    assert high - middle(BEFORE) == pytest.approx(1.0, abs=0.01)
    assert not any("slices)" in line for line in captions(BEFORE))


@pytest.mark.parametrize("degrees", [0.0, 8.0])
def test_a_slab_stands_in_the_middle_of_its_view(
    panel: Any, user: Any, compared: Any, degrees: float
) -> None:
    """Along the volume's slices, where VTK takes its fast way, and in a tilted plane, where it cannot."""
    ui, node = panel.ui, widget(BEFORE).mrmlSliceNode()
    widget(BEFORE).sliceController().setSliceOffsetValue(2.5)
    turn = vtk.vtkTransform()
    turn.SetMatrix(node.GetSliceToRAS())
    turn.RotateX(degrees)
    node.GetSliceToRAS().DeepCopy(turn.GetMatrix())
    node.UpdateMatrices()
    user.rests(0.3)
    one, found = middle(BEFORE), {}
    reslice = widget(BEFORE).sliceLogic().GetBackgroundLayer().GetReslice()
    assert degrees or reslice.GetSlabSliceSpacingFraction() == 1.0
    ui.slabSlider.value = 25.0
    for index in (1, 2, 3):
        ui.slabSelector.currentIndex = index
        user.rests(0.3)
        found[index] = middle(BEFORE)
    # In a tilted plane each is rounded to whole HU; half a slice would be 5 HU.
    assert found[1] == pytest.approx(one, abs=0.05 if degrees == 0 else 1.05)
    assert found[2] - one == pytest.approx(one - found[3], abs=0.05 if degrees == 0 else 2.05)
    assert found[2] - one > 15
    ui.slabSelector.currentIndex = 0
    user.rests(0.3)
    assert middle(BEFORE) == pytest.approx(one, abs=1e-6)


def test_a_slab_of_what_is_made_live(panel: Any, user: Any, compared: Any) -> None:
    """Another strength and the difference are there in all slices of the slab, before voxels are written."""
    ui = panel.ui
    ui.viewModeSelector.currentIndex = 1
    ui.slabSlider.value, ui.slabSelector.currentIndex = 25.0, 1
    widget(BEFORE).sliceController().setSliceOffsetValue(2.5)
    full = middle(AFTER)
    ui.strengthSlider.value = 0.5
    assert middle(AFTER) - full == pytest.approx(11, abs=0.01)
    assert middle(DIFFERENCE) == pytest.approx(-11, abs=0.01)


@pytest.mark.parametrize("index", [2, 3])
def test_the_difference_beside_the_brightest_or_darkest_is_a_mean(
    panel: Any, user: Any, compared: Any, index: int
) -> None:
    """The brightest of a difference has noise look as if everything had become brighter."""
    ui = panel.ui
    ui.viewModeSelector.currentIndex = 1
    ui.slabSlider.value, ui.slabSelector.currentIndex = 25.0, 1
    user.rests(0.3)
    mean = middle(DIFFERENCE)
    ui.slabSelector.currentIndex = index
    user.rests(0.3)
    kinds = {each: widget(each).mrmlSliceNode().GetSlabReconstructionType() for each in (AFTER, DIFFERENCE)}
    assert kinds[AFTER] == (vtk.VTK_IMAGE_SLAB_MAX, vtk.VTK_IMAGE_SLAB_MIN)[index - 2]
    assert kinds[DIFFERENCE] == vtk.VTK_IMAGE_SLAB_MEAN
    assert middle(DIFFERENCE) == pytest.approx(mean, abs=0.01)
    ui.slabSlider.value = 20.0
    user.rests(0.3)
    counts = {
        widget(each).sliceLogic().GetBackgroundLayer().GetReslice().GetSlabNumberOfSlices()
        for each in (AFTER, DIFFERENCE)
    }
    assert len(counts) == 1 and counts.pop() % 2 == 1


@pytest.mark.parametrize("pictured", [False, True])
def test_a_view_across_the_rows_waits_for_the_memory(
    panel: Any, user: Any, compared: Any, monkeypatch: pytest.MonkeyPatch, pictured: bool
) -> None:
    """It takes many turns to come; until then nothing is drawn that is not so."""
    from CTEnhanceLib.out import pictures
    from CTEnhanceLib.views import liveslices
    from CTEnhanceLib.views.drawing import oneByOne

    ui = panel.ui
    ui.sagittalButton.click()
    user.waits(lambda: not oneByOne.waiting, 30)
    expected = 0.5 * (middle(BEFORE) + middle(AFTER))
    monkeypatch.setattr(liveslices, "_LARGE", 0)
    monkeypatch.setattr(liveslices, "_BLOCK", 1 << 10)
    ui.strengthSlider.value = 0.5
    renderer = widget(AFTER).sliceView().renderWindow().GetRenderers().GetFirstRenderer()
    assert not renderer.GetDraw() and oneByOne.waiting
    if pictured:
        pictures.taken()
    else:
        user.waits(lambda: not oneByOne.waiting, 30)
    assert renderer.GetDraw() and not oneByOne.waiting
    assert middle(AFTER) == pytest.approx(expected, abs=0.5)  # of the CT whole HU are shown
    # Turned away again, a view does not wait any longer.
    panel.compareSection.comparison._dropBlend()
    ui.strengthSlider.value = 0.4
    assert not renderer.GetDraw()
    ui.axialButton.click()
    oneByOne.finish()
    assert renderer.GetDraw()


def test_the_last_window_comes_back(panel: Any, user: Any, compared: Any) -> None:
    display = compared.GetDisplayNode()
    press_key(user, "3")
    user.rests(0.8)
    display.SetWindowLevel(1234, 56)  # with the mouse, in many small steps
    display.SetWindowLevel(1235, 57)
    for expected in ((2000, 500), None):
        press_key(user, "U")
        if expected:
            assert (display.GetWindow(), display.GetLevel()) == expected


def test_no_key_of_slicer_s_is_taken(panel: Any, user: Any, compared: Any) -> None:
    from CTEnhanceLib.views.keys import OF_SLICER

    for name in ("CTReconstruct", "CTDecompose", "CTEnhance"):
        rows = open_panel(name).keys()
        taken = [row[0].lower() for row in rows]
        assert len(taken) > 12 and len(set(taken)) == len(taken) and not set(taken) & OF_SLICER
        if name != "CTEnhance":
            close_panel(getattr(slicer.modules, name.lower()).widgetRepresentation().self())


def test_only_what_cuts_the_volume_starts_threads(panel: Any, user: Any, compared: Any) -> None:
    """Of each view's filters; what they show is the same."""
    logic = widget(AFTER).sliceLogic()
    threads: dict[str, set[int]] = {}
    waiting = [logic.GetImageDataConnection().GetProducer()]
    while waiting:
        each = waiting.pop()
        if hasattr(each, "GetNumberOfThreads"):
            threads.setdefault(each.GetClassName(), set()).add(each.GetNumberOfThreads())
        for port in range(each.GetNumberOfInputPorts()):
            for index in range(each.GetNumberOfInputConnections(port)):
                waiting.append(each.GetInputConnection(port, index).GetProducer())
    reslicing = threads.pop("vtkImageReslice")
    assert len(threads) >= 3 and all(found == {1} for found in threads.values())
    assert reslicing == {vtk.vtkMultiThreader.GetGlobalDefaultNumberOfThreads()}
