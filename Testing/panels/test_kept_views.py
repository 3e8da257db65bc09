"""How things are shown is saved with the scene, and is so again in the Slicer that loads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import slicer

from panel_run import close_panel, open_panel

MODES = {
    "CTEnhance": "viewModeSelector",
    "CTReconstruct": "viewModeSelector",
    "CTDecompose": "spectralModeSelector",
}


@pytest.fixture(params=MODES)
def opened(request: pytest.FixtureRequest, app: Any) -> Iterator[Any]:
    panel = open_panel(request.param)
    yield panel
    close_panel(panel)


def shown(panel: Any) -> dict[str, Any]:
    """Return what the widgets say."""
    ui = panel.ui
    found = {"mode": getattr(ui, MODES[panel.moduleName]).currentText}
    found |= {"slab": ui.slabSelector.currentText, "mm": ui.slabSlider.value}
    if panel.moduleName == "CTReconstruct":
        found |= {"overlay": ui.overlaySelector.currentText}
        found |= {"colours": (ui.overlayRangeSlider.value, ui.overlayOpacitySlider.value)}
    if panel.moduleName == "CTDecompose":
        found |= {"keV": (ui.energySlider.value, ui.secondEnergySlider.value)}
    else:
        found |= {"fade": ui.fadeSlider.value, "difference": ui.differenceSlider.value}
    return found


def choose(panel: Any, mode: int, slab: int, millimetres: float) -> dict[str, Any]:
    ui = panel.ui
    getattr(ui, MODES[panel.moduleName]).currentIndex = mode
    if panel.moduleName != "CTDecompose":
        ui.fadeSlider.value, ui.differenceSlider.value = 0.02 * millimetres, 2 * millimetres + 100
    ui.slabSelector.currentIndex, ui.slabSlider.value = slab, millimetres
    if panel.moduleName == "CTReconstruct":
        ui.overlaySelector.currentIndex, ui.overlayRangeSlider.value = 2 - mode % 2, 3 * millimetres
        ui.overlayOpacitySlider.value = 0.01 * millimetres
    if panel.moduleName == "CTDecompose":
        ui.energySlider.value, ui.secondEnergySlider.value = 40.0 + mode, 100.0 + mode
    return shown(panel)


def save(path: Path) -> None:
    slicer.mrmlScene.SetURL(str(path))
    assert slicer.mrmlScene.Commit()


def load(path: Path, user: Any) -> None:
    slicer.mrmlScene.SetURL(str(path))
    slicer.mrmlScene.Connect()
    user.rests(0.1)


def test_mode_and_slab_come_back_with_the_scene(opened: Any, user: Any, tmp_path: Path) -> None:
    before = shown(opened)
    chosen = choose(opened, 3, 2, 25.0)
    assert all(chosen[name] != before[name] for name in before)
    save(tmp_path / "scene.mrml")
    slicer.mrmlScene.Clear(False)
    user.rests(0.1)
    assert shown(opened) == before  # another scene begins anew
    load(tmp_path / "scene.mrml", user)
    assert shown(opened) == chosen


def test_they_are_there_when_the_panel_is_opened_first(opened: Any, user: Any, tmp_path: Path) -> None:
    chosen = choose(opened, 2, 1, 17.0)
    opened.exit()  # another module is open while the scene is saved
    save(tmp_path / "scene.mrml")
    close_panel(opened)
    slicer.mrmlScene.Clear(False)
    load(tmp_path / "scene.mrml", user)
    again = open_panel(opened.moduleName)
    try:
        assert shown(again) == chosen
    finally:
        close_panel(again)


def test_they_stay_while_the_panel_is_left(opened: Any, user: Any) -> None:
    chosen = choose(opened, 1, 3, 5.0)
    opened.exit()
    opened.enter()
    assert shown(opened) == chosen


def test_another_scene_that_is_added_changes_nothing(opened: Any, user: Any, tmp_path: Path) -> None:
    chosen = choose(opened, 1, 2, 12.0)
    (tmp_path / "other.mrml").write_text('<MRML version="Slicer4.4.0"></MRML>', encoding="utf-8")
    slicer.mrmlScene.SetURL(str(tmp_path / "other.mrml"))
    slicer.mrmlScene.Import()
    user.rests(0.1)
    assert shown(opened) == chosen
    opened.viewSection.undo()
    assert opened.ui.slabSlider.value == 10.0  # the reader's own last change
