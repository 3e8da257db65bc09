"""A scene that Slicer saved before the panels' code was parted into rooms: all of it is there again."""

from __future__ import annotations

import enum
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk

from panel_run import close_panel, open_panel, save_scene

# Saved by Slicer 5.13 with the commit 581dd6f; tiny volumes.
SCENE = Path(__file__).with_name("scenes") / "before-rooms.mrb"
PARAMETERS: dict[str, dict[str, Any]] = {
    "CTEnhance": {
        "inputVolume": "chest",
        "result": "chest enhanced (enhance-twin)",
        "strength": 0.5,
        "device": "cpu",
    },
    "CTReconstruct": {
        "source": "SIMULATED",
        "path": "/data/scan.ctproj.h5",
        "inputVolume": "chest",
        "dosePercent": 40.0,
        "views": 600,
        "columns": 300,
        "method": "PROJECTION",
        "kernel": "soft",
        "matrix": 256,
        "fieldOfView": 200.0,
        "residual": False,
        "uncertainty": True,
        "device": "cpu",
        "seed": 7,
        "result": "scan Projection stage",
    },
    "CTDecompose": {
        "source": "SIMULATED",
        "phantom": "CHEST",
        "dosePercent": 60.0,
        "slices": 4,
        "views": 360,
        "columns": 256,
        "firstMaterial": "water",
        "secondMaterial": "calcium",
        "thirdMaterial": "gold",
        "kernel": "hann",
        "matrix": 128,
        "scatter": "network",
        "scatterRatio": 0.2,
        "gridRatio": 8.0,
        "errors": False,
        "lowNoise": True,
        "device": "cpu",
        "seed": 3,
        "result": "bins water (mg/mL)",
    },
}


@pytest.fixture
def opened(request: pytest.FixtureRequest, app: Any, user: Any, tmp_path: Path) -> Iterator[Any]:
    """The scene, loaded while a panel is open; gives the panel."""
    with zipfile.ZipFile(SCENE) as archive:
        archive.extractall(tmp_path)
    (path,) = tmp_path.glob("*/*.mrml")
    panel = open_panel(request.param)
    layout = slicer.app.layoutManager().layoutLogic().GetLayoutNode()
    before = layout.GetViewArrangement()
    slicer.mrmlScene.SetURL(str(path))
    slicer.mrmlScene.Connect()
    user.rests(0.2)
    yield panel
    if panel.compareSection is not None:
        panel.compareSection.hide()
    close_panel(panel)
    slicer.mrmlScene.Clear(False)
    layout.SetViewArrangement(before)


def plain(value: Any) -> Any:
    """Return a parameter as it stands above: choices and nodes by their names."""
    if isinstance(value, enum.Enum):
        return value.name
    return value.GetName() if hasattr(value, "GetName") else value


@pytest.mark.parametrize("opened", PARAMETERS, indirect=True)
def test_what_was_chosen_is_chosen_again(opened: Any) -> None:
    expected = PARAMETERS[opened.moduleName]
    assert {name: plain(getattr(opened.parameters, name)) for name in expected} == expected
    assert "Model" in opened.ui.detailsText.plainText or opened.moduleName != "CTEnhance"


@pytest.mark.parametrize("opened", ["CTEnhance"], indirect=True)
def test_before_and_after_are_shown_again(opened: Any) -> None:
    from CTEnhanceLib.scene import placing

    result = opened.parameters.result
    assert placing.inputOf(result) is opened.parameters.inputVolume and placing.strengthOf(result) == 0.5
    values = [slicer.util.arrayFromVolume(node) for node in (placing.inputOf(result), result)]
    assert np.allclose(values[1] - values[0], 5)  # half of the 10 HU of the full effect
    opened.ui.compareButton.click()
    shown = slicer.app.layoutManager().sliceWidget("CTEnhanceAfter").mrmlSliceCompositeNode()
    assert shown.GetBackgroundVolumeID() == result.GetID()


@pytest.mark.parametrize("opened", ["CTReconstruct"], indirect=True)
def test_stages_and_residual_are_found_again(opened: Any) -> None:
    from CTEnhanceLib.reconstruct.job import ROLES
    from CTEnhanceLib.reconstruct.stages import stagesOf

    result = opened.parameters.result
    assert [node.GetName() for _view, node in stagesOf(result)] == ["scan FBP", "scan Projection stage"]
    assert result.GetNodeReference(ROLES["residual"]).GetName() == "scan Projection stage residual"
    assert opened.ui.stagesButton.enabled


@pytest.mark.parametrize("opened", ["CTDecompose"], indirect=True)
def test_maps_make_spectral_images_again(opened: Any) -> None:
    from CTEnhanceLib.decompose.job import errorsOf, guidedOf, mapsOf

    result = opened.parameters.result
    assert [len(found(result)) for found in (mapsOf, errorsOf, guidedOf)] == [2, 2, 2]
    image = opened.logic.addImage(result, "vmi", 70.0, lowNoise=True)
    assert np.ptp(slicer.util.arrayFromVolume(image)) > 500


def colours(node: Any) -> list[list[float]]:
    found, rgba = [], [0.0] * 4
    for index in range(node.GetNumberOfColors()):
        node.GetColor(index, rgba)
        found.append([round(each, 1) for each in rgba])
    return found


def forget_colours() -> None:
    """Leave none of our tables, as in a new application: clearing a scene leaves them and their files."""
    for node in slicer.util.getNodesByClass("vtkMRMLColorTableNode"):
        if (node.GetSingletonTag() or "").startswith("CTEnhance"):
            slicer.mrmlScene.RemoveNode(node)
    for node in slicer.util.getNodesByClass("vtkMRMLColorTableStorageNode"):
        slicer.mrmlScene.RemoveNode(node)


@pytest.mark.parametrize("name", ["densities", "trust", "signedOverlay", "unsignedOverlay"])
def test_a_saved_map_brings_its_colours_along(app: Any, tmp_path: Path, name: str) -> None:
    """A display whose colours are not there shows noise, also in a Slicer without the panels."""
    from CTEnhanceLib.scene import colortables

    forget_colours()
    table = getattr(colortables, name)()
    expected, tag = colours(table), table.GetID()
    node = slicer.util.addVolumeFromArray(np.ones((2, 3, 4), np.float32), name="map")
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAndObserveColorNodeID(tag)
    save_scene(tmp_path / "scene.mrml")
    slicer.mrmlScene.Clear(False)
    forget_colours()
    slicer.mrmlScene.SetURL(str(tmp_path / "scene.mrml"))
    assert slicer.mrmlScene.Import()
    found = slicer.util.getNode("map").GetDisplayNode().GetColorNode()
    assert found is not None and colours(found) == expected
    assert getattr(colortables, name)() is found


def test_colours_that_come_after_a_scene_are_taken(app: Any) -> None:
    """Scenes of earlier versions name tables that they do not bring."""
    from CTEnhanceLib.scene import colortables

    node = slicer.util.addVolumeFromArray(np.ones((2, 3, 4), np.float32), name="map")
    node.CreateDefaultDisplayNodes()
    display, table = node.GetDisplayNode(), colortables.densities()
    tag = table.GetID()
    slicer.mrmlScene.RemoveNode(table)
    display.SetAndObserveColorNodeID(tag)
    told: list[int] = []
    observed = display.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: told.append(1))
    assert colortables.densities().GetID() == tag and told
    display.RemoveObserver(observed)
    assert display.GetColorNode() is colortables.densities()


@pytest.mark.parametrize(
    "name", ["densities", "trust", "signedOverlay", "unsignedOverlay", "differences", "atomicNumbers"]
)
def test_colours_that_are_there_are_not_written_again(app: Any, name: str) -> None:
    """They are asked for with each change of a view, and whoever shows them is drawn anew each time."""
    from CTEnhanceLib.scene import colortables

    forget_colours()
    table = getattr(colortables, name)()
    told: list[int] = []
    observed = table.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: told.append(1))
    assert getattr(colortables, name)() is table and not told
    table.SetNumberOfColors(0)
    told.clear()
    assert getattr(colortables, name)() is table and len(told) == 1
    table.RemoveObserver(observed)
