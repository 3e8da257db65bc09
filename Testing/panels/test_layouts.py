"""The panels' layouts: known from the start, out of saved scenes, and narrow enough for small screens."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from spectral_scan import shown_result

from panel_run import REPOSITORY, save_scene

SIDE_BY_SIDE = 29  # a layout of Slicer's own, as the user's
CURVE = 7308
PANELS = ("CTEnhance", "CTReconstruct", "CTDecompose", "CTReaderStudy")
# What a Slicer is that has just been started, without this extension or with it.
LOAD = """
import sys
from pathlib import Path
import slicer
if sys.argv[2] == "with":
    sys.path[:0] = [sys.argv[3] + "/Testing", sys.argv[3] + "/CTEnhance"]
    import slicerhost
    slicerhost.start()
    for panel in ("CTEnhance", "CTReconstruct", "CTDecompose", "CTReaderStudy"):
        slicerhost.addModule(Path(sys.argv[3], "CTEnhance", panel + ".py"))
    slicer.app.startupCompleted()
    scene, logic = slicer.mrmlScene, slicer.app.layoutManager().layoutLogic()
else:
    scene, logic = slicer.vtkMRMLScene(), slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(scene)
scene.SetURL(sys.argv[1])
scene.Connect()
node = logic.GetLayoutNode()
print(node.GetViewArrangement(), node.IsLayoutDescription(node.GetViewArrangement()))
"""


def layout_node() -> Any:
    return slicer.app.layoutManager().layoutLogic().GetLayoutNode()


def load(path: Path) -> None:
    """Load a scene in place of this one, as the user does."""
    slicer.mrmlScene.Clear(False)
    slicer.mrmlScene.SetURL(str(path))
    slicer.mrmlScene.Connect()


def loaded_elsewhere(path: Path, extension: str) -> str:
    """Load a scene in a Slicer of its own; return the layout's number, and whether there are views."""
    command = [sys.executable, "-c", LOAD, str(path), extension, str(REPOSITORY)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "CTEnhance")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "Can't find layout" not in done.stdout + done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.fixture
def own() -> Iterator[int]:
    """The user has a layout of his own."""
    before = layout_node().GetViewArrangement()
    layout_node().SetViewArrangement(SIDE_BY_SIDE)
    yield SIDE_BY_SIDE
    layout_node().SetViewArrangement(before)


@pytest.fixture
def shown(own: int, spectral_panel: Any, spectral_files: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """CT Decompose shows four images above the curve of a region; returns the result."""
    monkeypatch.setattr(slicer.modules, "plots", types.SimpleNamespace(), raising=False)
    result = shown_result(spectral_panel, spectral_files)
    spectral_panel.ui.spectralRegionButton.click()
    spectral_panel.ui.curveBox.click()
    assert layout_node().GetViewArrangement() == CURVE
    return result


def test_all_layouts_are_known_once_slicer_has_started(app: Any) -> None:
    from CTEnhanceLib.compare.modes import Mode as Comparison
    from CTEnhanceLib.decompose.views import Mode as Spectral

    for panel in PANELS:
        path = REPOSITORY / "CTEnhance" / f"{panel}.py"
        getattr(importlib.import_module(panel), panel)(types.SimpleNamespace(path=str(path)))
    app.startupCompleted()
    known = layout_node()
    numbers = {mode.value for mode in (*Comparison, *Spectral)} | {mode.value + 8 for mode in Spectral}
    for number in (*numbers, *range(7201, 7216), 7121, 7122):
        assert known.IsLayoutDescription(number), number
    # Slicer remembers the layout of the time when it was closed; without its panel it is nothing to see.
    own = known.GetViewArrangement()
    known.SetViewArrangement(7101)
    app.startupCompleted()
    assert known.GetViewArrangement() == own < 100


@pytest.mark.parametrize("extension", ["with", "without"])
def test_a_scene_saved_meanwhile_has_the_users_layout(
    shown: Any, own: int, extension: str, tmp_path: Path
) -> None:
    save_scene(tmp_path / "scene.mrml")
    text = (tmp_path / "scene.mrml").read_text(encoding="utf-8")
    assert re.findall(r'currentViewArrangement="(\d+)"', text) == [str(own)]
    assert loaded_elsewhere(tmp_path / "scene.mrml", extension) == f"{own} True"
    assert layout_node().GetViewArrangement() == CURVE  # here, nothing has changed


def test_the_layout_that_the_user_chose_meanwhile_is_saved_and_stays(
    shown: Any, spectral_panel: Any, tmp_path: Path
) -> None:
    chosen = layout_node().SlicerLayoutOneUpRedSliceView
    layout_node().SetViewArrangement(chosen)
    save_scene(tmp_path / "scene.mrml")
    text = (tmp_path / "scene.mrml").read_text(encoding="utf-8")
    assert re.findall(r'currentViewArrangement="(\d+)"', text) == [str(chosen)]
    spectral_panel.ui.spectralButton.click()
    assert layout_node().GetViewArrangement() == chosen
    save_scene(tmp_path / "again.mrml")
    text = (tmp_path / "again.mrml").read_text(encoding="utf-8")
    assert re.findall(r'currentViewArrangement="(\d+)"', text) == [str(chosen)]


def test_the_dicom_browser_is_nobodys_layout(shown: Any, own: int, spectral_panel: Any) -> None:
    layout_node().SetViewArrangement(layout_node().SlicerLayoutDicomBrowserView)
    layout_node().SetViewArrangement(CURVE)  # it goes back to where it was called
    spectral_panel.ui.spectralButton.click()
    assert layout_node().GetViewArrangement() == own


def test_the_same_scene_again_in_one_session(
    shown: Any, own: int, spectral_panel: Any, user: Any, tmp_path: Path
) -> None:
    path = tmp_path / "scene.mrml"
    save_scene(path)
    for _ in range(2):
        load(path)
        user.rests(0.1)
        assert layout_node().GetViewArrangement() == own
    # The box and its curve are there again; without the box no plot.
    ui = spectral_panel.ui
    ui.spectralButton.click()
    assert spectral_panel.spectralSection.views.active and ui.curveBox.checked
    assert layout_node().GetViewArrangement() == CURVE and ui.spectralRegionButton.checked
    ui.spectralRegionButton.click()
    assert layout_node().GetViewArrangement() == CURVE - 8
    assert ui.spectralNoteLabel.text == "Press Measure: the curve is that of a box."
    ui.spectralRegionButton.click()
    assert layout_node().GetViewArrangement() == CURVE and not ui.spectralNoteLabel.text
    ui.spectralRegionButton.click()
    assert layout_node().GetViewArrangement() == CURVE - 8
    ui.spectralButton.click()
    assert layout_node().GetViewArrangement() == own and not ui.spectralNoteLabel.text


@pytest.mark.parametrize("extension", ["with", "here"])
def test_a_scene_of_an_earlier_version_is_no_row_of_slits(
    shown: Any, own: int, spectral_panel: Any, user: Any, extension: str, tmp_path: Path
) -> None:
    path = tmp_path / "scene.mrml"
    save_scene(path)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(f'currentViewArrangement="{own}"', f'currentViewArrangement="{CURVE}"'))
    if extension == "with":
        number, views = loaded_elsewhere(path, extension).split()
        assert int(number) < 100 and views == "True"
        return
    load(path)
    user.rests(0.1)
    assert layout_node().GetViewArrangement() == own


def test_a_scene_added_to_what_is_shown_leaves_the_views(
    shown: Any, own: int, spectral_panel: Any, user: Any, tmp_path: Path
) -> None:
    path = tmp_path / "scene.mrml"
    layout = 'id="vtkMRMLLayoutNode1" singletonTag="vtkMRMLLayoutNode" currentViewArrangement="7301"'
    path.write_text(f'<?xml version="1.0" encoding="UTF-8"?>\n<MRML>\n<Layout {layout}/>\n</MRML>\n')
    slicer.mrmlScene.SetURL(str(path))
    slicer.mrmlScene.Import()
    user.rests(0.1)
    assert layout_node().GetViewArrangement() == CURVE and spectral_panel.spectralSection.views.active


def test_images_and_plot_share_the_height(shown: Any) -> None:
    described = layout_node().GetLayoutDescription(CURVE)
    # Every part of a splitter has a size: without one a plot takes all.
    assert described.count("<item") == described.count("<item splitSize=")


@pytest.mark.parametrize(("width", "rows"), [(780, 2), (1400, 1), (400, 2), (0, 2)])
def test_rows_follow_the_room_there_is(
    own: int, spectral_panel: Any, spectral_files: Path, width: int, rows: int
) -> None:
    viewport = slicer.app.layoutManager().viewport()
    before = viewport.width
    viewport.resize(width, 800)
    try:
        shown_result(spectral_panel, spectral_files)
        spectral_panel.ui.spectralModeSelector.currentIndex = 4  # three planes
        described = layout_node().GetLayoutDescription(7304)
    finally:
        viewport.resize(before, 800)
    assert described.count('type="horizontal"') == rows
    names = re.findall(r'singletontag="(\w+)"', described)
    assert names == ["CTEnhanceBeforeAxial", "CTEnhanceBeforeCoronal", "CTEnhanceBeforeSagittal"]
    # None of them keeps a window from becoming narrow later.
    manager = slicer.app.layoutManager()
    assert all(0 < manager.sliceWidget(name).minimumWidth <= 150 for name in names)


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_two_stand_side_by_side_in_any_window(count: int, rows: int) -> None:
    from CTEnhanceLib.views.linked import LinkedViews
    from CTEnhanceLib.views.view import View

    viewport, linked = slicer.app.layoutManager().viewport(), LinkedViews()
    before = viewport.width
    viewport.resize(420, 800)
    try:
        linked.show(7190, [View(f"HostView{number}", "V", "#8C8C8C") for number in range(count)])
    finally:
        viewport.resize(before, 800)
    assert layout_node().GetLayoutDescription(7190).count('type="horizontal"') == rows
    linked.leave()


@pytest.fixture
def arrives(app: Any) -> Any:
    """Have the user's view Red show a node, then a result come; say what Red shows."""
    from CTEnhanceLib.scene import placing
    from CTEnhanceLib.views.linked import showInOwn

    layout_node().SetViewArrangement(layout_node().SlicerLayoutFourUpView)
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()

    def arrive(there: Any, result: Any, over: Any = None, before: Any = None) -> tuple[Any, Any]:
        composite.SetBackgroundVolumeID(None if there is None else there.GetID())
        list(showInOwn((result, over, 0.6), before, placing.reportOf))
        shown = composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()
        return tuple(None if each is None else slicer.mrmlScene.GetNodeByID(each) for each in shown)

    return arrive


def some_volume(name: str, aside: float = 0.0) -> Any:
    node = slicer.util.addVolumeFromArray(np.ones((4, 8, 8), np.float32), name=name)
    node.SetOrigin(0.0, 0.0, aside)
    return node


def test_the_users_own_views_show_a_result_in_a_saved_scene(arrives: Any) -> None:
    from CTEnhanceLib.scene import placing

    scanned, first, second, over = map(some_volume, ("CT", "first", "second", "over"))
    for node in (first, second):
        placing.attachReport(node, {"verb": "decompose"}, [])
    assert arrives(None, first, over) == (first, over)
    assert arrives(first, second) == (second, None)  # an earlier result gives way
    assert arrives(scanned, first, before=scanned) == (first, None)


def test_what_else_the_user_looks_at_stays(arrives: Any) -> None:
    other, result = map(some_volume, ("prior", "result"))
    assert arrives(other, result) == (other, None)


def test_a_result_in_another_place_is_looked_at_there(arrives: Any) -> None:
    from CTEnhanceLib.views import slices

    scanned, result = some_volume("CT"), some_volume("result", aside=500.0)
    assert arrives(scanned, result, before=scanned) == (result, None)
    assert slices.within(slicer.app.layoutManager().sliceWidget("Red").sliceLogic(), result)
