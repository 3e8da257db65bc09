"""Views show all of a scan, or what the reader has chosen of it, whenever Slicer lays them out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
from test_enhance_viewing import AFTER, BEFORE, SHAPE, SPACING, addCT, addResult, choose, seenPart, widget


@pytest.fixture
def compared(panel: Any, user: Any) -> int:
    """A result beside its CT; returns the layout that was there before."""
    ct = addCT()
    user.turn()
    choose(panel, user, addResult(ct))
    before = slicer.app.layoutManager().layout
    panel.ui.compareButton.click()
    user.rests(0.5)
    return int(before)


def wholeIsSeen(view: str) -> bool:
    """Say whether all of the CT is in the view, in its middle."""
    (middle, seen), size = seenPart(view), np.array(SHAPE[:0:-1]) * SPACING[:2]
    centred = np.allclose(middle[:2], -np.array(SPACING[:2]) / 2, atol=0.1)
    return centred and bool((np.array(seen) >= size - 0.1).all() and (np.array(seen) / size).min() < 1.01)


def test_views_are_fitted_whenever_they_get_another_size(panel: Any, user: Any, compared: Any) -> None:
    widget(BEFORE).sliceController().setSliceOffsetValue(-12.5)
    views = (BEFORE, AFTER)
    # Long after the layout, and more than once: there is no time after which it is too late.
    for size in ((300, 700), (700, 300), (120, 640)):
        for view in views:
            widget(view).sliceLogic().ResizeSliceNode(*size)
        user.rests(0.1)
        assert all(wholeIsSeen(view) for view in views), size
        assert all(seenPart(view)[0][2] == pytest.approx(-12.5) for view in views)


@pytest.mark.parametrize("how", ["zoomed", "moved"])
def test_a_view_that_the_reader_has_changed_is_not_fitted(
    panel: Any, user: Any, compared: Any, how: str
) -> None:
    for view in (BEFORE, AFTER):
        node, logic = widget(view).mrmlSliceNode(), widget(view).sliceLogic()
        across, down, depth = node.GetFieldOfView()
        logic.StartSliceNodeInteraction(node.FieldOfViewFlag if how == "zoomed" else node.XYZOriginFlag)
        if how == "zoomed":
            node.SetFieldOfView(across / 3, down / 3, depth)
        else:
            node.GetSliceToRAS().SetElement(1, 3, 30.0)
            node.UpdateMatrices()
        logic.EndSliceNodeInteraction()
        for size in ((300, 700), (700, 300)):
            logic.ResizeSliceNode(*size)
            left = seenPart(view)
            user.rests(0.1)
            found = seenPart(view)
            assert np.allclose(found[0], left[0]) and np.allclose(found[1], left[1])
        assert not wholeIsSeen(view)


def test_a_view_that_slicer_sets_back_late_is_fitted(panel: Any, user: Any, compared: Any) -> None:
    """On a busy computer that comes long after the views are there, and nobody has touched them."""
    for view in (BEFORE, AFTER):
        node = widget(view).mrmlSliceNode()
        node.SetFieldOfView(1037.0, 400.0, node.GetFieldOfView()[2])
        node.GetSliceToRAS().SetElement(0, 3, 200.0)
        node.UpdateMatrices()
        widget(view).sliceLogic().ResizeSliceNode(790, 300)
    user.rests(0.1)
    assert wholeIsSeen(BEFORE) and wholeIsSeen(AFTER)


def test_a_layout_of_slicers_own_ends_the_comparison(panel: Any, user: Any, compared: Any) -> None:
    ui, layout = panel.ui, slicer.app.layoutManager().layoutLogic().GetLayoutNode()
    before = compared
    ours = layout.GetViewArrangement()
    # A view that is maximised for a while is still of the comparison.
    layout.SetViewArrangement(layout.SlicerLayoutMaximizedView)
    user.rests(0.1)
    assert ui.compareButton.checked
    layout.SetViewArrangement(ours)
    layout.SetViewArrangement(layout.SlicerLayoutOneUpRedSliceView)
    user.rests(0.1)
    assert ui.compareButton.text == "Compare" and not panel.compareSection.comparison.active
    assert layout.GetViewArrangement() == layout.SlicerLayoutOneUpRedSliceView
    # One press shows it again, another goes back to what the user chose.
    ui.compareButton.click()
    assert layout.GetViewArrangement() == ours and ui.compareButton.text == "Stop comparing"
    ui.compareButton.click()
    assert layout.GetViewArrangement() == layout.SlicerLayoutOneUpRedSliceView
    # Pressed at once, it stops.
    ui.compareButton.click()
    layout.SetViewArrangement(layout.SlicerLayoutFourUpView)
    ui.compareButton.click()
    user.rests(0.1)
    assert layout.GetViewArrangement() == layout.SlicerLayoutFourUpView and not ui.compareButton.checked
    layout.SetViewArrangement(before)
