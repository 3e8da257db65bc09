"""Results in the scene, blends, regions and worker events, on the real MRML scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from ctenhance.core.volume import CTVolume
from CTEnhanceLib.compare.strength import fillBlended
from CTEnhanceLib.measure import roi
from CTEnhanceLib.process.devices import parseCards
from CTEnhanceLib.process.worker import TimeLeft
from CTEnhanceLib.scene import colortables, placing, volumes


def ctNode(name: str = "CT") -> Any:
    values = np.random.default_rng(0).integers(-1000, 2000, (6, 40, 50)).astype(np.float32)
    return volumes.nodeFromVolume(CTVolume(values, (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), np.eye(3)), name)


def placed(node: Any) -> Any:
    image, values = volumes.newImage((6, 40, 50), np.float32)
    values[...] = slicer.util.arrayFromVolume(node) + 10
    full, all_ = volumes.newImage((6, 40, 50), np.float32)
    all_[...] = values
    return placing.addResult(node, None, "CT enhanced", image, full, {"settings": {"strength": 1.0}})


def test_result_stands_beside_input() -> None:
    node = ctNode()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), study)
    result = placed(node)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(result)) == study
    assert placing.inputOf(result) is node and placing.strengthOf(result) == 1.0
    assert volumes.sameGrid(node, result)
    assert result.GetDisplayNode() is node.GetDisplayNode()
    assert placing.fullEffectOf(result).GetHideFromEditors()


def test_result_survives_saving(tmp_path: Path) -> None:
    result = placed(ctNode())
    assert slicer.mrmlScene.Commit(str(tmp_path / "scene.mrml"))
    saved = (tmp_path / "scene.mrml").read_text(encoding="utf-8")
    assert placing.REPORT_ROLE in saved and placing.INPUT_ROLE in saved
    assert f'id="{placing.fullEffectOf(result).GetID()}"' not in saved  # it can be computed again


def test_half_made_result_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    node = ctNode()
    before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")

    def broken(*_arguments: Any) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(placing, "placeUnder", broken)
    with pytest.raises(RuntimeError):
        placed(node)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == before
    assert not slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTextNode")


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_blend(strength: float) -> None:
    before, full = np.full((3, 4, 5), -7, np.int16), np.full((3, 4, 5), 3.5, np.float32)
    target = np.empty_like(full)
    assert list(fillBlended(target, before, full, strength))[-1] == 1.0
    assert np.allclose(target, before + strength * (full - before))


def test_region_statistics() -> None:
    node = ctNode()
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    # Centres of voxels 20..30 (x), 10..14 (y), 1..3 (z); LPS to RAS turns x and y.
    region.SetCenter([-25.0, -12.0, 4.0])
    region.SetSize([10.5, 4.5, 4.5])
    values = slicer.util.arrayFromVolume(node)[1:4, 10:15, 20:31]
    found = roi.statistics(region, node)
    assert (found.count, found.slices) == (values.size, 3)
    assert (found.mean, found.deviation) == pytest.approx((values.mean(), values.std()))


def test_region_outside_is_said() -> None:
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    region.SetCenter([500.0, 0.0, 0.0])
    region.SetSize([5.0, 5.0, 5.0])
    with pytest.raises(roi.InputError, match="no voxel"):
        roi.statistics(region, ctNode())


def test_the_difference_is_dark_where_nothing_changed() -> None:
    node = colortables.differences()
    assert colortables.differences() is node
    count = node.GetNumberOfColors()
    colors = np.zeros((count, 4))
    for index in range(count):
        node.GetColor(index, row := [0.0] * 4)
        colors[index] = row
    light = colors[:, :3] @ (0.2126, 0.7152, 0.0722)
    middle = count // 2
    assert count % 2 and light[middle] == light.min() < 0.15  # not glaring beside a CT
    assert (np.diff(light[: middle + 1]) < 0).all() and (np.diff(light[middle:]) > 0).all()
    assert colors[0, 2] > colors[0, 0] and colors[-1, 0] > colors[-1, 2]  # blue: less; red: more


def test_cards_are_parsed() -> None:
    (card,) = parseCards("0, NVIDIA H200, 140000, 143771\nnonsense\n")
    assert card.spec == "cuda:0" and "136.7 of 140.4 GB" in card.text


def test_time_left() -> None:
    now = [0.0]
    left = TimeLeft(lambda: now[0])
    assert left("enhance", 0, 10) is None
    now[0] = 4.0
    assert left("enhance", 2, 10) == pytest.approx(16.0)
