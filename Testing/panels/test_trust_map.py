"""The trust map: computed along with a result, laid over it with its scale, and kept with the scene."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from conftest import REPOSITORY

from panel_run import close_panel, nodes, open_panel, press_apply, press_key, save_scene
from view_pixels import pixels
from view_titles import titles

FACTOR = 3.0
BEFORE, AFTER = "CTEnhanceBefore", "CTEnhanceAfter"
CALIBRATE = f"""
import sys
from dataclasses import replace
from pathlib import Path
from ctenhance.runtime import weights

tensors, entry = weights.load(sys.argv[1])
weights.save(Path(sys.argv[2]), tensors, replace(entry, spread={{"4": {FACTOR}}}))
"""


def run(*arguments: Any) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "CTEnhance")}
    subprocess.run([sys.executable, *map(str, arguments)], env=environment, check=True, capture_output=True)


@pytest.fixture(scope="module")
def calibrated(model: Path) -> Path:
    """The tiny model with a factor for its spread, as from held-out patients."""
    path = model.with_name("calibrated.safetensors")
    run("-c", CALIBRATE, model, path)
    return path


@pytest.fixture
def ct(panel: Any, calibrated: Path) -> Any:
    """A small CT, chosen with the calibrated model and with the trust map."""
    import qt

    qt.QFileDialog.chosen = str(calibrated)
    panel.ui.modelBrowseButton.click()
    values = np.random.default_rng(0).normal(40, 30, (4, 72, 64)).astype(np.int16)
    values[:, :, :24] = -1000  # air beside the patient
    node = slicer.util.addVolumeFromArray(values, name="chest")
    node.SetSpacing(0.7, 0.7, 2.5)
    node.CreateDefaultDisplayNodes()
    panel.ui.inputSelector.setCurrentNode(node)
    panel.ui.trustMapBox.checked = True
    return node


@pytest.fixture
def result(panel: Any, user: Any, ct: Any) -> Any:
    press_apply(panel, user)
    user.rests(0.2)
    return panel.parameters.result


def trustMapOf(result: Any) -> Any:
    from CTEnhanceLib.scene import placing

    return placing.trustMapOf(result)


def layers(view: str) -> tuple[str | None, str | None]:
    composite = slicer.app.layoutManager().sliceWidget(view).mrmlSliceCompositeNode()
    return composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()


def seen(view: str) -> np.ndarray:
    return pixels(slicer.app.layoutManager().sliceWidget(view).sliceView())


def test_it_is_the_command_s_map_as_ninety_percent(
    panel: Any, ct: Any, result: Any, calibrated: Path, tmp_path: Path
) -> None:
    from CTEnhanceLib.process import transfer

    for _part in transfer.writeMetaImage(ct, tmp_path / "in.mha"):
        pass
    made = tmp_path / "out.nii", tmp_path / "sd.nii"
    more = ["--device", "cpu", "--model", calibrated]
    run("-m", "ctenhance", "enhance", tmp_path / "in.mha", made[0], "--uncertainty", made[1], *more)
    reading = transfer.readNiftis({"sd": made[1]})
    while True:
        try:
            next(reading)
        except StopIteration as end:
            sd = end.value["sd"].array
            break
    error = slicer.util.arrayFromVolume(trustMapOf(result))
    assert sd.max() > 0 and error.shape == slicer.util.arrayFromVolume(ct).shape
    assert not error[:, :, :20].any() and sd[:, :, :20].any()  # nothing is told of the air around
    np.testing.assert_allclose(error[:, :, 28:], 1.645 * sd[:, :, 28:], rtol=0.02, atol=0.02)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(trustMapOf(result))
    assert hierarchy.GetItemParent(item) == hierarchy.GetItemByDataNode(result)


def test_it_lies_over_the_result_and_says_how_to_read_it(panel: Any, user: Any, ct: Any, result: Any) -> None:
    ui, trust = panel.ui, trustMapOf(result).GetID()
    assert ui.trustBox.checked  # it was asked for
    assert layers(BEFORE) == (ct.GetID(), None) and layers(AFTER) == (result.GetID(), trust)
    assert any("trust map" in title for title in titles(AFTER))
    assert not any("trust map" in title for title in titles(BEFORE))
    with_map = seen(AFTER)
    ui.trustRangeSlider.value = 2 * ui.trustRangeSlider.value
    assert not np.array_equal(seen(AFTER), with_map)
    high = ui.trustRangeSlider.value
    assert "90 %" in ui.trustLegendLabel.text and f"±{high:.0f} HU" in ui.trustLegendLabel.text
    press_key(user, "E")
    assert not ui.trustBox.checked and layers(AFTER) == (result.GetID(), None)
    without = seen(AFTER)
    assert not np.array_equal(without, with_map)
    # Neither colours nor scale are left: all is grey but the title and the frame.
    inner = without[80:-60, 80:-80].astype(int)
    assert np.ptp(inner, axis=-1).max() == 0
    press_key(user, "E")
    assert layers(AFTER)[1] == trust
    ui.strengthSlider.value = 0.5
    user.waits(lambda: "full strength" in ui.trustLegendLabel.text)
    assert layers(AFTER) == (result.GetID(), trust)


def test_it_goes_where_the_result_goes(panel: Any, user: Any, ct: Any, result: Any) -> None:
    ui, trust = panel.ui, trustMapOf(result).GetID()
    ui.swapButton.click()
    assert layers(BEFORE) == (result.GetID(), trust) and layers(AFTER) == (ct.GetID(), None)
    ui.swapButton.click()
    ui.flickerButton.click()
    assert layers(AFTER) == (ct.GetID(), None)
    ui.flickerButton.click()
    assert layers(AFTER) == (result.GetID(), trust)
    ui.viewModeSelector.currentIndex = 3  # three planes
    assert [layers(f"{AFTER}{axis}")[1] for axis in ("Axial", "Coronal", "Sagittal")] == 3 * [trust]
    ui.viewModeSelector.currentIndex = 2  # in one view the other layer is the result itself
    assert layers(AFTER) == (ct.GetID(), result.GetID()) and not ui.trustBox.enabled
    assert "side by side" in ui.trustLegendLabel.text
    ui.viewModeSelector.currentIndex = 0
    assert layers(AFTER) == (result.GetID(), trust)
    ui.compareButton.click()
    user.turn()
    assert not ui.trustBox.enabled
    ui.compareButton.click()
    assert layers(AFTER) == (result.GetID(), trust)


def test_another_run_without_it_leaves_none(panel: Any, user: Any, ct: Any, result: Any) -> None:
    ui, trust = panel.ui, trustMapOf(result)
    ui.trustMapBox.checked = False
    ui.outputSelector.setCurrentNode(result)
    press_apply(panel, user)
    assert panel.parameters.result is result and trustMapOf(result) is None
    assert not slicer.mrmlScene.IsNodePresent(trust) and not ui.trustBox.visible
    assert layers(AFTER) == (result.GetID(), None)
    assert not any("trust map" in title for title in titles(AFTER))
    press_key(user, "E")
    assert layers(AFTER) == (result.GetID(), None)
    # ... and one with it has its own again.
    ui.trustMapBox.checked = True
    press_apply(panel, user)
    assert layers(AFTER) == (result.GetID(), trustMapOf(result).GetID())


def test_it_goes_with_its_result(panel: Any, user: Any, ct: Any, result: Any) -> None:
    before = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLDisplayNode")}
    own = trustMapOf(result).GetDisplayNode().GetID()
    assert own in before
    slicer.mrmlScene.RemoveNode(result)
    user.rests(0.2)
    assert not any("trust map" in node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLVolumeNode"))
    left = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLDisplayNode")}
    assert own not in left and ct.GetDisplayNode() is not None
    assert nodes()  # the CT


def test_it_is_no_ct(panel: Any, user: Any, ct: Any, result: Any) -> None:
    from CTEnhanceLib.compare.pair import candidates
    from CTEnhanceLib.scene import placing, units

    trust = trustMapOf(result)
    assert candidates(result) == [ct] and placing.originals() == [ct]
    panel.ui.inputSelector.setCurrentNode(trust)
    assert not panel.ui.applyButton.enabled and "no CT" in panel.ui.applyButton.toolTip
    assert units.sign(trust) == "± HU", "what stands behind its window"


def test_saved_scene_has_it(panel: Any, user: Any, ct: Any, result: Any, tmp_path: Path) -> None:
    values = slicer.util.arrayFromVolume(trustMapOf(result)).copy()
    assert panel.ui.trustBox.checked
    panel.ui.trustRangeSlider.value = 35
    save_scene(tmp_path / "scene.mrml")
    slicer.mrmlScene.Clear(False)
    assert not panel.ui.trustBox.visible and not panel.ui.trustBox.checked
    slicer.mrmlScene.SetURL(str(tmp_path / "scene.mrml"))
    slicer.mrmlScene.Connect()
    user.rests(0.2)
    result = panel.parameters.result
    assert panel.ui.trustMapBox.checked
    np.testing.assert_allclose(slicer.util.arrayFromVolume(trustMapOf(result)), values)
    panel.ui.compareButton.click()
    assert panel.ui.trustBox.checked and panel.ui.trustRangeSlider.value == 35  # as they were saved
    assert layers(AFTER) == (result.GetID(), trustMapOf(result).GetID())
    colors = trustMapOf(result).GetDisplayNode().GetColorNode()
    assert colors is not None and colors.GetName() == "CT trust map"
    assert "90 %" in panel.ui.trustLegendLabel.text
    panel.ui.inputSelector.setCurrentNode(trustMapOf(result))
    assert not panel.ui.applyButton.enabled  # it is known as a map still


def test_one_that_was_never_calibrated_says_so(app: Any, user: Any, panel: Any, ct: Any, model: Path) -> None:
    import qt

    qt.QFileDialog.chosen = str(model)
    panel.ui.modelBrowseButton.click()
    press_apply(panel, user)
    text = panel.ui.trustLegendLabel.text
    assert "Not calibrated" in text and "90 %" not in text
    assert "never compared with true errors" in panel.ui.detailsText.plainText


def test_panels_without_one_do_not_offer_it(app: Any, user: Any) -> None:
    panel = open_panel("CTReconstruct")
    assert not panel.ui.trustBox.visible and not panel.ui.trustRangeSlider.visible
    close_panel(panel)


def test_it_stands_where_the_result_stands(panel: Any, user: Any, ct: Any) -> None:
    """Under a transform, and after it was asked for in the Python console."""
    from ctenhance.options import EnhanceOptions
    from CTEnhanceLib.scene import volumes

    move = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    ct.SetAndObserveTransformNodeID(move.GetID())
    options = EnhanceOptions(model=panel.models.model(), device="cpu", uncertainty=True, strength=0.5)
    result = panel.logic.process(ct, None, options)
    trust = trustMapOf(result)
    assert trust.GetParentTransformNode() is move and volumes.sameGrid(trust, ct)
    full = trustMapOf(panel.logic.process(ct, None, EnhanceOptions(**{**vars(options), "strength": 1.0})))
    one, other = (slicer.util.arrayFromVolume(node) for node in (trust, full))
    np.testing.assert_allclose(one, other)  # of the full effect, whatever the strength
