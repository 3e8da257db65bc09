"""No turn of the event loop does what can be done in several: views are made ahead, and drawn one a turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from test_enhance_viewing import AFTER, BEFORE, DIFFERENCE, addCT, addResult, choose, widget

from panel_run import close_panel, open_panel
from view_pixels import pixels

SIX = tuple(
    f"CTEnhance{side}{axis}" for side in ("Before", "After") for axis in ("Axial", "Coronal", "Sagittal")
)


@pytest.fixture
def frames(panel: Any, user: Any) -> Iterator[Any]:
    """A comparison; returns in how many turns views were drawn, how many in each."""
    choose(panel, user, addResult(addCT()))
    panel.ui.compareButton.click()
    panel.ui.viewModeSelector.currentIndex = 3
    user.rests(0.6)
    drawn: list[int] = []
    tags = []
    for view in SIX:
        window = widget(view).sliceView().renderWindow()
        tags.append((window, window.AddObserver(vtk.vtkCommand.EndEvent, lambda *_: drawn.append(1))))

    def after(do: Any) -> list[int]:
        drawn.clear()
        do()
        assert not drawn  # not in the turn of the change itself
        counts = []
        for _ in range(40):
            user.turn()
            counts.append(len(drawn))
            drawn.clear()
        return [count for count in counts if count]

    yield after
    for window, tag in tags:
        window.RemoveObserver(tag)
    panel.ui.slabSelector.currentIndex = 0
    panel.ui.viewModeSelector.currentIndex = 0


def test_six_views_are_drawn_one_a_turn(panel: Any, user: Any, frames: Any) -> None:
    assert frames(lambda: setattr(panel.ui.slabSelector, "currentIndex", 2)) == [1] * 6
    assert frames(lambda: panel.viewSection._onPlace((3.0, 4.0, 5.0))) == [1] * 6
    # Views that stay where they are, are not drawn: only those that look along the axis of the move.
    assert frames(lambda: panel.viewSection._onPlace((3.0, 4.0, 5.0))) in ([1] * 6, [])
    # Once, also where a view asks to be drawn by itself.
    views = panel.compareSection.comparison.views
    assert frames(lambda: [views.hold(), panel.ui.swapButton.click()]) == [1] * 6
    frames(lambda: [views.hold(), panel.ui.swapButton.click()])
    scroll = widget("CTEnhanceBeforeCoronal").sliceController().setSliceOffsetValue
    assert frames(lambda: scroll(12.0)) == [1] * 2
    assert not any(widget(view).sliceView()._paused for view in SIX)


def test_the_newest_place_is_drawn_and_no_other(panel: Any, user: Any, frames: Any) -> None:
    def hurry() -> None:
        for step in range(20):
            panel.viewSection._onPlace((float(step), float(step), float(step)))

    assert frames(hurry) == [1] * 6
    assert widget("CTEnhanceAfterAxial").sliceLogic().GetSliceOffset() == pytest.approx(19.0, abs=1.5)


def test_a_picture_does_not_wait_for_the_views(panel: Any, user: Any, frames: Any) -> None:
    from CTEnhanceLib.out import pictures

    panel.ui.boneButton.click()
    panel.viewSection._onPlace((10.0, 10.0, 10.0))
    taken = pictures.taken()
    user.rests(0.3)
    assert np.array_equal(taken, pictures.taken())


def test_views_are_made_before_they_are_shown(app: Any, user: Any) -> None:
    from CTEnhanceLib.views.linked import VIEW_GROUP

    slicer.app.userSettings().setValue("CTEnhance/nothingAhead", "")
    panel = open_panel("CTEnhance")
    try:
        user.waits(lambda: not panel.ahead.pending, 120)
        made = [slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceNode") for view in (BEFORE, AFTER, *SIX)]
        assert all(node is not None for node in made)
        assert not any(node.IsMappedInLayout() for node in made)
        assert [node.GetOrientation() for node in made[2:]] == ["Axial", "Coronal", "Sagittal"] * 2
        ct = addCT()
        choose(panel, user, addResult(ct))
        panel.ui.compareButton.click()
        user.rests(0.5)
        assert widget(BEFORE).mrmlSliceNode().GetViewGroup() == VIEW_GROUP
        assert pixels(widget(AFTER).sliceView()).std() > 0
        # What is not shown does not follow, which would take its time.
        away = widget("CTEnhanceAfterAxial").sliceLogic().GetSliceOffset()
        widget(BEFORE).sliceController().setSliceOffsetValue(away + 10.0)
        assert widget(AFTER).sliceLogic().GetSliceOffset() == pytest.approx(away + 10.0)
        assert widget("CTEnhanceAfterAxial").sliceLogic().GetSliceOffset() == pytest.approx(away)
        panel.ui.compareButton.click()
        assert widget(DIFFERENCE) is not None
    finally:
        close_panel(panel)
