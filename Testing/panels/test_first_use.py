"""What CT Enhance says before the first Apply: the sample, what is installed, how long it takes here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from panel_run import press_apply, temporaries


@pytest.fixture
def firstuse(app: Any) -> Any:
    from CTEnhanceLib.enhance import firstuse

    return firstuse


def volume(name: str = "CT", slices: int = 6, size: int = 48) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    values = np.random.default_rng(0).normal(0, 20, (slices, size, size)).round().astype(np.int16)
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
    user.waits(lambda: "here for this CT" in panel.ui.modelNoteLabel.text, 300)
    assert "(40 slices)" in panel.ui.modelNoteLabel.text and not panel.ui.deviceWarningLabel.visible
    assert not children() and not temporaries()
    assert np.array_equal(slicer.util.arrayFromVolume(node), before)
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 1
    # The same size of slice is not tried again; another number of them is carried over.
    panel.ui.inputSelector.setCurrentNode(volume("other", slices=7))
    assert "(7 slices)" in panel.ui.modelNoteLabel.text
    user.rests(2)
    assert not children()


def test_apply_does_not_wait_for_the_trial(
    panel: Any, user: Any, firstuse: Any, children: Callable[[], list[Any]]
) -> None:
    slicer.app.userSettings().clear()
    volume(size=40)  # of no size that was tried before
    user.waits(children, 60)
    press_apply(panel, user)
    assert panel.parameters.result is not None
    slicer.app.userSettings().setValue(firstuse.NO_TRIAL_SETTING, True)


def test_a_trial_ends_with_the_panel(panel: Any, user: Any, children: Callable[[], list[Any]]) -> None:
    slicer.app.userSettings().clear()
    volume(size=44)
    user.waits(children, 60)
    panel.exit()
    user.waits(lambda: not children(), 60)
    assert not temporaries()


def test_what_will_be_installed_is_said_before(
    panel: Any, firstuse: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from CTEnhanceLib.process import dependencies

    assert not panel.ui.installLabel.visible
    needs = tmp_path / "requirements.txt"
    needs.write_text("openvino>=9999\nnot-a-package-of-ours>=1\ntyper\n")
    text = firstuse.installText(needs)
    assert "openvino, not-a-package-of-ours (about 61 MB)" in text and "if you agree" in text
    assert "Without a graphics card" in text
    panel.firstUse.stop()
    monkeypatch.setattr(panel.firstUse, "_requirements", lambda: needs)
    volume()
    panel.refresh()
    assert panel.ui.installLabel.visible and panel.ui.installLabel.text == text
    monkeypatch.setattr(dependencies, "torchInstalled", lambda: False)
    needs.write_text("monai>=1\n")
    assert "PyTorch is missing" in firstuse.installText(needs)


def test_carried_over_to_all_slices(app: Any) -> None:
    from CTEnhanceLib.process.trial import Pace

    assert Pace(5.0, 0.5).seconds(2) == 5.0
    assert Pace(5.0, 0.5).seconds(302) == 155.0
    assert Pace(5.0, 0.5).seconds(1) == 5.0
