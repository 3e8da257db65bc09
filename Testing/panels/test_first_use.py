"""What the panels say before the first Apply: the sample, what is installed, how long it takes here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from panel_run import close_panel, lower_edge, open_panel, press_apply, press_key, temporaries


@pytest.fixture
def estimate(app: Any) -> Any:
    from CTEnhanceLib.panel import estimate

    return estimate


def volume(name: str = "CT", slices: int = 6, size: int = 48, seed: int = 0) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    values = np.random.default_rng(seed).normal(20, 20, (slices, size, size)).round().astype(np.int16)
    values[:, 20:30, 20:30] += 100 * (1 + seed)  # iodine, say
    values[:, :4] = -1000
    slicer.util.updateVolumeFromArray(node, values)
    return node


def test_the_sample_on_the_empty_panel(panel: Any, user: Any) -> None:
    ui = panel.ui
    assert ui.sampleButton.visible and not ui.applyButton.enabled
    ui.sampleButton.click()
    node = ui.inputSelector.currentNode()
    assert node.GetName() == "CTEnhanceRoutineChest" and node.GetImageData().GetDimensions()[2] == 14
    assert ui.applyButton.enabled and not ui.sampleButton.visible
    slicer.mrmlScene.Clear(False)
    user.turn()
    assert ui.sampleButton.visible


def test_no_sample_beside_a_ct(panel: Any, user: Any) -> None:
    volume()
    user.turn()
    assert not panel.ui.sampleButton.visible and panel.ui.applyButton.enabled


def test_models_say_what_they_do(panel: Any) -> None:
    selector, note = panel.ui.modelSelector, panel.ui.modelNoteLabel
    names = [selector.itemText(index) for index in range(selector.count)]
    assert names[0].startswith("Standard") and "Diffusion" in names[1]
    said = []
    for index in range(2):
        selector.currentIndex = index
        said.append(note.text)
        assert note.visible and note.text.endswith(".") and "enhance-" not in note.text
        import qt

        assert f"enhance-{('twin', 'diffusion')[index]}" in selector.itemData(index, qt.Qt.ToolTipRole)
    assert said[0] != said[1]
    selector.currentIndex = selector.count - 1  # a file of the user's own: nobody has said what it does
    assert not note.visible


def test_time_is_tried_on_two_slices(
    panel: Any, user: Any, children: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    slicer.app.userSettings().clear()
    node = volume(slices=40)
    before = slicer.util.arrayFromVolume(node).copy()
    user.waits(children, 60)
    user.waits(lambda: "on this computer" in panel.ui.timeLabel.text, 300)
    assert "(40 slices)" in panel.ui.timeLabel.text and not panel.ui.deviceWarningLabel.visible
    assert not children() and not temporaries()
    assert np.array_equal(slicer.util.arrayFromVolume(node), before)
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 1
    # The same size of slice is not tried again; another number of them is carried over.
    panel.ui.inputSelector.setCurrentNode(volume("other", slices=7))
    assert "(7 slices)" in panel.ui.timeLabel.text
    user.rests(2)
    assert not children()


def test_apply_does_not_wait_for_the_trial(
    panel: Any, user: Any, estimate: Any, children: Callable[[], list[Any]]
) -> None:
    slicer.app.userSettings().clear()
    volume(size=40)  # of no size that was tried before
    user.waits(children, 60)
    press_apply(panel, user)
    assert panel.parameters.result is not None
    slicer.app.userSettings().setValue(estimate.NO_TRIAL_SETTING, True)


def test_apply_and_cancel_by_key(panel: Any, user: Any, children: Callable[[], list[Any]]) -> None:
    node = volume(slices=60, size=96)
    ui = panel.ui
    user.turn()  # where the window was active already none has passed since the volume came
    press_key(user, "Ctrl+Return")
    assert ui.applyButton.text == "Cancel"
    press_key(user, "Ctrl+Return")
    assert ui.applyButton.enabled  # the focus stays on it
    user.waits(lambda: ui.applyButton.text == "Apply", 60)
    assert "Cancelled" in ui.statusLabel.text and not children() and not temporaries()
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == [node]
    rows = panel.keys()
    assert ("Ctrl+Return", "Apply; while it works, cancel") in rows
    panel.exit()
    press_key(user, "Ctrl+Return")
    assert ui.applyButton.text == "Apply"


def test_a_trial_ends_with_the_panel(panel: Any, user: Any, children: Callable[[], list[Any]]) -> None:
    slicer.app.userSettings().clear()
    volume(size=44)
    user.waits(children, 60)
    panel.exit()
    user.waits(lambda: not children(), 60)
    assert not temporaries()


def test_what_will_be_installed_is_said_before(
    panel: Any, estimate: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from CTEnhanceLib.process import dependencies

    assert not panel.ui.installLabel.visible
    needs = tmp_path / "requirements.txt"
    needs.write_text("openvino>=9999\nnot-a-package-of-ours>=1\ntyper\n")
    text = estimate.installText(needs)
    assert "openvino, not-a-package-of-ours (about 61 MB)" in text and "if you agree" in text
    assert "Without a graphics card" in text
    panel.runSection.estimate.stop()
    monkeypatch.setattr(panel.runSection.estimate, "_requirements", needs)
    volume()
    panel.refresh()
    assert panel.ui.installLabel.visible and panel.ui.installLabel.text == text
    monkeypatch.setattr(dependencies, "torchInstalled", lambda: False)
    needs.write_text("monai>=1\n")
    assert "PyTorch is missing" in estimate.installText(needs)


@contextlib.contextmanager
def opened_panel(name: str) -> Iterator[Any]:
    panel = open_panel(name)
    yield panel
    panel.runSection.kill()
    close_panel(panel)


def tried(panel: Any, user: Any, children: Callable[[], list[Any]]) -> str:
    """Let the panel be for long enough, and return what it says of the time then."""
    slicer.app.userSettings().clear()
    panel.refresh()
    user.waits(lambda: panel.runSection.estimate.known, 120)
    assert not children() and not temporaries()
    return str(panel.ui.timeLabel.text)


def test_a_simulated_scan_is_tried(app: Any, user: Any, children: Callable[[], list[Any]]) -> None:
    node = volume(slices=9)
    with opened_panel("CTReconstruct") as panel:
        ui = panel.ui
        ui.sourceSelector.currentIndex = 1
        ui.inputSelector.setCurrentNode(node)
        ui.methodSelector.currentIndex = ui.methodSelector.count - 1  # FBP alone
        ui.viewsBox.value, ui.columnsBox.value = 64, 64
        assert tried(panel, user, children).endswith("(9 slices).")
        ui.doseSlider.value = 50  # no time depends on it
        user.rests(2)
        assert "(9 slices)" in panel.ui.timeLabel.text and not children()
        ui.viewsBox.value = 72
        assert not panel.ui.timeLabel.text.strip()
        user.waits(children, 60)
        panel.exit()
        assert not children() and not temporaries()


def test_nothing_moves_when_the_time_is_known(
    panel: Any, user: Any, children: Callable[[], list[Any]]
) -> None:
    """It comes while the user works, as the devices do: a click must not meet another button then."""
    from CTEnhanceLib.process.devices import computer

    volume(slices=9, size=52)
    user.turn()
    ui, places = panel.ui, []

    def look() -> None:
        places.append([lower_edge(panel, button) for button in (ui.applyButton, ui.compareButton)])

    panel.runSection._onDevices([])
    look()
    panel.runSection._onDevices(computer())  # a machine without a graphics card
    assert ui.deviceWarningLabel.visible
    look()
    assert tried(panel, user, children).endswith("(9 slices).") and not ui.deviceWarningLabel.visible
    look()
    assert places[0] == places[1] == places[2]


def test_measured_projections_are_left_after_two_slices(
    app: Any, user: Any, children: Callable[[], list[Any]], tmp_path: Path
) -> None:
    """A file is not cut: the run itself is begun, and ended when two slices are done."""
    from CTEnhanceLib.process import trial
    from CTEnhanceLib.process.run import Job

    class Slow(Job):
        stages = {"read": 1, "enhance": 9}  # noqa: RUF012

        def arguments(self, folder: Path) -> list[str]:
            return ["enhance", str(path), str(folder / "out.nii"), "--device", "cpu"]

        def place(self, report: dict[str, Any]) -> Any:
            raise AssertionError("a trial brings nothing")

    path = tmp_path / "long.nii"
    written(path, 400)
    paces: list[Any] = []
    run = trial.Trial(paces.append)
    run.start(Slow())
    user.waits(lambda: paces, 300)
    assert paces[0].total == 400 and 0 < paces[0].slice < paces[0].whole
    assert paces[0].seconds(400) > paces[0].whole
    assert not run.running and not children() and not temporaries()


def written(path: Path, slices: int) -> None:
    """Write a CT of so many slices."""
    from ctenhance.core.volume import CTVolume

    values = np.random.default_rng(0).normal(0, 20, (slices, 64, 64)).astype(np.float32)
    values[:, :8] = -1000
    CTVolume(values, (0.8, 0.8, 1.0)).write(path)


def test_spectral_scans_and_images_are_tried(app: Any, user: Any, children: Callable[[], list[Any]]) -> None:
    with opened_panel("CTDecompose") as panel:
        ui = panel.ui
        ui.sourceSelector.currentIndex = 1
        ui.slicesBox.value, ui.viewsBox.value, ui.columnsBox.value, ui.matrixBox.value = 5, 64, 64, 64
        assert tried(panel, user, children).endswith("(5 slices).")
        first, second = volume("A 40 keV", seed=2), volume("B 70 keV")
        ui.sourceSelector.currentIndex = 2
        ui.firstImageSelector.setCurrentNode(first)
        ui.secondImageSelector.setCurrentNode(second)
        assert ui.applyButton.enabled
        assert tried(panel, user, children).endswith("(6 slices).")


def test_carried_over_to_all_slices(app: Any) -> None:
    from CTEnhanceLib.process.trial import Pace

    assert Pace(5.0, 0.5).seconds(2) == 5.0
    assert Pace(5.0, 0.5).seconds(302) == 155.0
    assert Pace(5.0, 0.5).seconds(1) == 5.0


@pytest.mark.parametrize(("further", "seconds"), [({}, 5.0), ({"further": 0.08}, 0.8)])
def test_slices_that_come_at_once_take_what_the_verb_says(
    app: Any, further: dict[str, float], seconds: float
) -> None:
    """Half the time of two each would be three times too long where all share the scan's geometry."""
    from CTEnhanceLib.process.run import Command
    from CTEnhanceLib.process.trial import Trial

    run = Trial(lambda _pace: None)
    run._commands, run._times = [Command(["project"], {"project": 1.0}, **further)], {0: 1.0, 2: 9.0}
    assert run._each(10.0) == pytest.approx(seconds)
