"""Any two volumes beside each other: results of one input, another scan; swapped, and as a swipe."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from test_enhance_viewing import AFTER, BEFORE, DIFFERENCE, addCT, addResult, choose, probed, widget

from panel_run import press_key
from view_pixels import pixels
from view_titles import captions, titles


@pytest.fixture
def two(panel: Any, user: Any) -> Any:
    """Two results of one CT, 22 HU darker and 8 HU brighter; the first is compared with the CT."""
    ct = addCT()
    user.turn()
    first, second = addResult(ct), addResult(ct, "two", change=8.0)
    choose(panel, user, first)
    panel.ui.viewModeSelector.currentIndex = 1
    panel.ui.compareButton.click()
    user.rests(0.4)
    yield ct, first, second
    panel.ui.viewModeSelector.currentIndex = 0


def compare_with(panel: Any, node: Any) -> None:
    selector = panel.ui.otherSelector
    selector.currentIndex = selector.findData(node.GetID())
    assert panel.compareSection.comparison.pair.other is node


def said(view: str) -> str:
    """Return the lines of a view's title."""
    return "\n".join(line.strip() for line in titles(view)[0].split("\n"))


def content(view: str) -> Any:
    return widget(view).sliceLogic().GetBackgroundLayer().GetVolumeNode()


def read() -> tuple[float, float, float]:
    """Return what the mouse reads on the left, on the right, and of the difference."""
    left, right, change = (probed(view, (10.0, 4.0, 2.5)) for view in (BEFORE, AFTER, DIFFERENCE))
    return left, right, change


def test_two_results_of_one_input(panel: Any, user: Any, two: Any) -> None:
    _ct, first, second = two
    compare_with(panel, second)
    assert content(BEFORE) is second and content(AFTER) is first
    assert said(BEFORE).startswith("Left\nchest enhanced (two)")
    assert said(AFTER).startswith("Right\nchest enhanced (one)")
    left, right, change = read()
    assert change == pytest.approx(-30, abs=1e-3) and right - left == pytest.approx(-30, abs=1e-3)
    assert "Right minus Left" in said(DIFFERENCE)
    # The strength is that of the result, and the other stays as it is.
    panel.ui.strengthSlider.value = 0.5
    left, right, change = read()
    assert change == pytest.approx(-19, abs=1e-3) and right - left == pytest.approx(-19, abs=1e-3)
    user.waits(lambda: not panel._strengthWriter.pending)
    assert read()[2] == pytest.approx(-19, abs=1e-3)
    press_key(user, "W")
    assert content(BEFORE) is first and content(AFTER) is second
    left, right, change = read()
    assert change == pytest.approx(19, abs=1e-3) and right - left == pytest.approx(19, abs=1e-3)
    assert said(BEFORE).startswith("Left\nchest enhanced (one)")


def test_what_is_chosen_is_what_is_shown(panel: Any, user: Any, two: Any) -> None:
    """After a pause, for the next result of this CT, and never for one of another CT."""
    ct, first, second = two
    compare_with(panel, second)
    for _ in range(2):
        panel.ui.compareButton.click()
    assert content(BEFORE) is second and panel.ui.otherSelector.currentText == second.GetName()
    choose(panel, user, second)  # it cannot be compared with itself
    assert content(BEFORE) is ct and content(AFTER) is second
    compare_with(panel, first)
    other = addCT("another patient")
    user.turn()
    result = addResult(other)
    choose(panel, user, result)
    assert content(BEFORE) is other and panel.ui.otherSelector.currentText == "another patient"
    assert said(BEFORE).startswith("Before\nanother patient")
    choose(panel, user, first)
    assert content(BEFORE) is ct and said(BEFORE).startswith("Before\nchest")


def test_swapped_with_its_input(panel: Any, user: Any, two: Any) -> None:
    ct, first, _second = two
    panel.ui.swapButton.click()
    assert content(BEFORE) is first and content(AFTER) is ct
    assert said(BEFORE).startswith("After\n") and said(AFTER).startswith("Before\nchest")
    assert panel.ui.resultLabel.text == "Result (left):" and panel.ui.otherLabel.text == "With (right):"
    assert read()[2] == pytest.approx(22, abs=1e-3) and "Before minus After" in said(DIFFERENCE)
    panel.ui.strengthSlider.value = 0.5
    left, right, change = read()
    assert change == pytest.approx(11, abs=1e-3) and right - left == pytest.approx(11, abs=1e-3)
    press_key(user, "X")
    assert said(AFTER).startswith("After\n")
    press_key(user, "X")
    panel.ui.compareButton.click()
    panel.ui.compareButton.click()
    assert content(AFTER) is first and not panel.ui.swapButton.checked  # it begins as it is called


def test_another_scan_on_another_grid(panel: Any, user: Any, two: Any) -> None:
    """It is shown in the same places of the patient, in the same window; there is no difference to show."""
    _ct, first, _second = two
    prior = slicer.util.addVolumeFromArray(np.full((20, 40, 40), 70, np.int16), name="prior")
    prior.SetSpacing(3, 3, 3)
    prior.SetOrigin(-60, -60, -30)
    prior.CreateDefaultDisplayNodes()
    user.turn()
    compare_with(panel, prior)
    assert said(BEFORE).startswith("Other scan\nprior")
    assert content(DIFFERENCE) is None and "not in the same places" in said(DIFFERENCE)
    user.turn()  # then views are linked
    widget(BEFORE).sliceController().setSliceOffsetValue(6.0)
    assert widget(AFTER).sliceLogic().GetSliceOffset() == pytest.approx(6.0)
    for node in (first, prior):
        node.GetDisplayNode().SetWindowLevel(777, 11)
        for other in (first, prior):
            display = other.GetDisplayNode()
            assert (display.GetWindow(), display.GetLevel()) == (777, 11)
        press_key(user, "5")
        assert prior.GetDisplayNode().GetWindow() == 400
    slicer.mrmlScene.RemoveNode(prior)
    user.rests(0.1)
    assert not panel.compareSection.comparison.active  # what was compared is gone


def test_the_swipe_shows_each_on_its_side(panel: Any, user: Any, two: Any) -> None:
    ui = panel.ui
    ui.viewModeSelector.currentIndex = 2  # both in one view: all of the one, all of the other
    images = []
    for fade in (0.0, 1.0):
        ui.fadeSlider.value = fade
        images.append(pixels(widget(AFTER).sliceView()))
    ui.viewModeSelector.currentIndex = 4
    assert ui.fadeLabel.text == "Swipe:" and said(AFTER).startswith("Before | After")
    assert "\nBefore: chest" in said(AFTER) and "\nAfter: chest enhanced" in said(AFTER)  # which is which
    body, width = slice(200, 320), images[0].shape[1]  # between title and caption
    for part in (0.5, 0.25, 0.75):
        ui.fadeSlider.value = part
        found, line = pixels(widget(AFTER).sliceView()), round(width * part)
        assert np.array_equal(found[body, : line - 3], images[0][body, : line - 3])
        assert np.array_equal(found[body, line + 3 :], images[1][body, line + 3 :])
        assert not np.array_equal(images[0][body], images[1][body])
    # The mouse takes the line along; elsewhere it does not.
    interactor = widget(AFTER).sliceView().renderWindow().GetInteractor()
    for start, end, expected in ((0.75, 0.25, 0.25), (0.6, 0.8, 0.25)):
        for place, event in ((start, "LeftButtonPress"), (end, "MouseMove"), (end, "LeftButtonRelease")):
            interactor.SetEventInformation(round(width * place), 200)
            interactor.InvokeEvent(getattr(vtk.vtkCommand, f"{event}Event"))
        assert ui.fadeSlider.value == pytest.approx(expected, abs=0.01)
    press_key(user, "X")
    assert np.array_equal(pixels(widget(AFTER).sliceView())[body], images[0][body])
    press_key(user, "X")
    ui.viewModeSelector.currentIndex = 2
    ui.fadeSlider.value = 0.0
    assert np.array_equal(pixels(widget(AFTER).sliceView())[body], images[0][body])
    ui.fadeSlider.value = 1.0


@pytest.mark.parametrize(
    ("model", "called"),
    [
        ("enhance-twin", "Standard"),
        ("enhance-diffusion", "Diffusion"),
        ("enhance-detail", "Detail"),
        ("own",) * 2,
    ],
)
def test_images_say_what_people_call_the_model(panel: Any, user: Any, model: str, called: str) -> None:
    from CTEnhanceLib.out import pictures

    ct = addCT()
    node = addResult(ct, model)
    ct.SetName("Doe^Jane")
    node.SetName(node.GetName().replace("chest", "Doe^Jane"))
    choose(panel, user, node)
    panel.ui.compareButton.click()
    assert f"Doe^Jane enhanced ({called}), strength 100 %" in titles(AFTER)[0]
    assert node.GetName().endswith(f"({model})") and model in panel.ui.detailsText.plainText
    with pictures.nameless(pictures.shownWidgets()):
        assert f"CT ({called}), strength 100 %" in titles(AFTER)[0]
        assert not any("Doe" in title for view in (BEFORE, AFTER) for title in titles(view))


def test_a_scan_is_offered_that_got_its_image_late(panel: Any, user: Any, two: Any) -> None:
    """While Slicer reads a file its node is in the scene, and events happen."""
    prior = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "prior")
    user.rests(0.1)
    slicer.util.updateVolumeFromArray(prior, slicer.util.arrayFromVolume(two[0]).copy())
    user.rests(0.1)
    assert panel.ui.otherSelector.findText("prior") < 0
    prior.CreateDefaultDisplayNodes()
    user.rests(0.1)
    assert panel.ui.otherSelector.findText("prior") >= 0


def test_a_prior_in_another_place_does_not_take_the_result_away(panel: Any, user: Any, two: Any) -> None:
    """Slicer takes all views to a volume that it loads; which of the two is not there says so."""
    _ct, result, _second = two
    prior = slicer.util.addVolumeFromArray(slicer.util.arrayFromVolume(two[0]).copy(), name="prior")
    prior.SetOrigin(0, 0, 900)
    prior.CreateDefaultDisplayNodes()
    widget(BEFORE).sliceController().setSliceOffsetValue(910.0)  # as loading does
    user.rests(0.1)
    compare_with(panel, prior)
    user.rests(0.2)
    bounds = [0.0] * 6
    result.GetRASBounds(bounds)
    assert bounds[4] < widget(AFTER).sliceLogic().GetSliceOffset() < bounds[5]
    assert captions(AFTER)[0].startswith("Slice ")
    assert captions(BEFORE)[0].startswith("Outside this scan")
