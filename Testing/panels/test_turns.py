"""No turn of the event loop does what can be done in several: views are made ahead, and drawn one a turn."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from spectral_scan import exhausted
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
    from CTEnhanceLib.views.view import VIEW_GROUP

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


def test_images_wait_for_their_turn_while_views_are_laid_out(panel: Any, user: Any, frames: Any) -> None:
    """Qt draws each view as it gets its size, all of them in one turn, whether it is held or not."""
    from CTEnhanceLib.views.drawing import oneByOne

    def drawing() -> list[int]:
        windows = [widget(view).sliceView().renderWindow() for view in SIX]
        return [window.GetRenderers().GetFirstRenderer().GetDraw() for window in windows]

    panel.ui.viewModeSelector.currentIndex = 0
    user.waits(lambda: not oneByOne.waiting, 30)
    assert drawing() == [1] * 6
    panel.ui.viewModeSelector.currentIndex = 3
    assert drawing() == [0] * 6
    user.turn()
    assert sum(drawing()) < 6
    user.waits(lambda: not oneByOne.waiting, 30)
    assert drawing() == [1] * 6
    assert all(pixels(widget(view).sliceView()).std() > 0 for view in SIX)
    # A picture that is taken before they are drawn has them.
    from CTEnhanceLib.out import pictures

    panel.ui.viewModeSelector.currentIndex = 0
    panel.ui.viewModeSelector.currentIndex = 3
    assert pictures.taken().std() > 0 and drawing() == [1] * 6


def test_one_step_a_turn(app: Any, user: Any) -> None:
    """Two that each take most of what a turn may take are not done in one."""
    from CTEnhanceLib.process.steps import TimedSteps

    done: list[int] = []

    def steps() -> Iterator[float]:
        for number in range(6):
            done.append(number)
            yield 0.0

    ended: list[int] = []
    TimedSteps(steps(), lambda: ended.append(1), pytest.fail, seconds=0.0, milliseconds=10)
    counts = []
    while not ended:
        before = len(done)
        slicer.app.processEvents()
        counts.append(len(done) - before)
    assert len(done) == 6 and max(counts) == 1


def test_two_long_works_take_turns_and_views_pass_them(panel: Any, user: Any, frames: Any) -> None:
    """Each piece is a turn of its own, also what is done when the steps are over."""
    from CTEnhanceLib.process.steps import TimedSteps

    log: list[str] = []

    def steps(name: str) -> Iterator[float]:
        for _number in range(3):
            log.append(name)
            yield 0.0

    for name in "ab":
        TimedSteps(steps(name), lambda name=name: log.append(f"{name} is over"), pytest.fail, seconds=0.0)
    counts = frames(lambda: panel.viewSection._onPlace((7.0, 8.0, 9.0)))
    assert counts == [1] * 6
    user.waits(lambda: "b is over" in log, 30)
    assert log == ["a", "b"] * 3 + ["a is over", "b is over"]


def test_what_ends_long_work_is_not_in_its_last_turn(app: Any, user: Any) -> None:
    from CTEnhanceLib.process.steps import TimedSteps

    log: list[str] = []

    def steps() -> Iterator[float]:
        time.sleep(0.02)
        log.append("step")
        yield 1.0
        time.sleep(0.02)

    TimedSteps(steps(), lambda: log.append("over"), pytest.fail)
    user.waits(lambda: log, 30)
    assert log == ["step"]
    user.waits(lambda: len(log) > 1, 30)
    assert log == ["step", "over"]


def test_a_long_list_is_written_in_turns(panel: Any, user: Any, tmp_path: Any) -> None:
    from ctenhance.batch.case import Case
    from ctenhance.batch.manifest import Manifest

    window = panel.batchWindow
    with Manifest(tmp_path) as record:
        record.begin("enhance", {})
        record.add([Case(f"case {n:04d}", (), tmp_path / f"{n}.nii.gz") for n in range(2000)])
    window.batch.target = tmp_path
    window.batch._take({"event": "progress", "stage": "cases", "done": 0, "total": 2000})
    assert window.ui.batchTable.rowCount == 2000 and len(window._written) < 2000
    # What comes meanwhile is written at once, and stays.
    window.batch._take({"event": "case", "name": "case 1999", "state": "done", "seconds": 3})
    table = window.ui.batchTable
    assert [table.item(1999, column).text() for column in (0, 1)] == ["case 1999", "done"]
    user.waits(lambda: len(window._written) == 2000, 60)
    assert [table.item(1000, column).text() for column in range(4)] == ["case 1000", "waiting", "", ""]
    assert table.item(1999, 1).text() == "done"
    window._clear()
    assert table.rowCount == 0


def test_panels_share_their_views_and_leave_them_clean(app: Any, user: Any) -> None:
    """Who takes views finds nothing of their former owner on them, and that one knows that they are gone."""
    from CTEnhanceLib.compare.modes import Mode
    from CTEnhanceLib.views.linked import LinkedViews
    from CTEnhanceLib.views.view import FREE_VIEWS, View
    from view_titles import captions, titles

    panel = open_panel("CTEnhance")
    try:
        ct = addCT()
        choose(panel, user, addResult(ct))
        panel.ui.compareButton.click()
        panel.ui.viewModeSelector.currentIndex = list(Mode).index(Mode.SWIPE)
        panel.viewSection.turn("Coronal")
        user.rests(0.3)
        renderer = widget(AFTER).sliceView().renderWindow().GetRenderers().GetFirstRenderer()
        swiped = renderer.GetViewProps().GetNumberOfItems()
        other = LinkedViews()
        bare = View(FREE_VIEWS[1], "Sinogram", "#8C8C8C", "Axial", captioned=False)
        other.show(7190, [bare])
        other.setLayers(bare.name, ct)
        other.fit(ct)
        user.rests(0.3)
        assert not panel.ui.compareButton.checked and not panel.compareSection.comparison.active
        assert renderer.GetViewProps().GetNumberOfItems() < swiped  # neither line nor halves
        assert titles(AFTER) == ["Sinogram"] and captions(AFTER) == []
        assert widget(AFTER).mrmlSliceNode().GetOrientation() == "Axial"
        panel.ui.compareButton.click()  # and takes them back
        user.rests(0.3)
        assert not other.shown and panel.compareSection.comparison.active
        assert captions(AFTER)
        panel.ui.compareButton.click()
    finally:
        panel.ui.viewModeSelector.currentIndex = 0
        close_panel(panel)


def test_a_plot_is_made_before_it_is_shown(app: Any, user: Any, monkeypatch: Any) -> None:
    """Node and widget, where nobody sees them; neither twice, nor taken from a layout that shows them."""
    import qt

    from CTEnhanceLib.views import making

    name, kind = "CTEnhanceTestPlot", "vtkMRMLPlotViewNode"

    def made() -> Any:
        return slicer.mrmlScene.GetSingletonNode(name, kind)

    class PlotWidget(qt.QWidget):
        def mrmlPlotViewNode(self) -> Any:
            return made()

    manager, plot = slicer.app.layoutManager(), PlotWidget()
    assert list(making.makePlot(name)) == [1.0] and made() is None  # this Slicer has no plots
    monkeypatch.setattr(slicer.modules, "plots", object(), raising=False)
    monkeypatch.setattr(manager, "plotViewCount", 1, raising=False)
    monkeypatch.setattr(manager, "plotWidget", lambda _index: plot, raising=False)
    steps = making.makePlot(name)
    assert next(steps) < 1 and made() is not None and not plot.visible
    assert not made().GetSaveWithScene() and made().GetLayoutName() == name
    next(steps)
    assert plot.visible and plot.pos.x() < -plot.width
    assert list(steps)[-1] == 1.0 and not plot.visible
    node = made()
    assert list(making.makePlot(name)) == [1.0] and made() is node
    # A layout has come for it meanwhile.
    slicer.mrmlScene.RemoveNode(node)
    steps = making.makePlot(name)
    next(steps)
    made().SetMappedInLayout(True)
    list(steps)
    assert plot.visible
    plot.hide()
    slicer.mrmlScene.RemoveNode(made())


class _Done:
    """A run that is over but for what is to be shown."""

    def cancel(self) -> None:
        """There is nothing to stop any more."""


def test_a_result_is_taken_shown_and_reported_in_turns_of_their_own(panel: Any, user: Any) -> None:
    """Together they hold the main thread for longer than a turn may; until the last one the panel waits."""
    result, run = addResult(addCT()), panel.runSection
    run._run = _Done()
    states = []
    run._onDone(result, ["mind this"])
    while not states or states[-1][2]:
        user.turn()
        states.append(
            (panel.parameters.result is result, panel.compareSection.comparison.active, run.running)
        )
    assert list(dict.fromkeys(states)) == [
        (True, False, True),
        (True, True, True),
        (True, True, False),
    ]
    assert "mind this" in panel.ui.statusLabel.text and panel.ui.applyButton.text == "Apply"


def test_a_scene_closed_while_a_result_arrives_stays_empty(panel: Any, user: Any) -> None:
    run = panel.runSection
    run._run = _Done()
    run._onDone(addResult(addCT()), [])
    slicer.mrmlScene.Clear()
    user.waits(lambda: not run.running)
    assert not panel.compareSection.comparison.active and panel.parameters.result is None
    assert panel.ui.applyButton.text == "Apply"


def test_a_module_left_while_a_result_arrives_shows_it_later(panel: Any, user: Any) -> None:
    run, result = panel.runSection, addResult(addCT())
    run._run = _Done()
    run._onDone(result, [])
    panel.parent._enter(False)
    user.waits(lambda: not run.running)
    assert not panel.compareSection.comparison.active
    panel.parent._enter(True)
    assert panel.parameters.result is result


def test_maps_are_placed_one_a_turn_and_whole_or_not_at_all(
    spectral_panel: Any, user: Any, spectral_files: Any
) -> None:
    """Each node that comes is told to all views and lists; half of a result is none."""
    from ctenhance.runtime.errors import CTEnhanceError
    from CTEnhanceLib.decompose.job import DecomposeJob, mapsOf
    from CTEnhanceLib.process.run import Run

    kinds = ("", "_sd", "_guided")
    names = [f"{material}{kind}" for kind in kinds for material in ("water", "iodine")]
    files = {name: spectral_files / "maps" / f"{name}.nii.gz" for name in names}
    report = json.loads((spectral_files / "made.json").read_text(encoding="utf-8"))

    def job() -> DecomposeJob:
        loaded = DecomposeJob(spectral_files / "scan.ctproj.h5")
        exhausted(loaded.load(files))
        return loaded

    def there() -> int:
        return slicer.mrmlScene.GetNumberOfNodes()

    before = there()
    steps = job().placing(report)
    counts = []
    for _number in range(3):
        next(steps)
        counts.append(there() - before)
    assert counts == [2, 4, 6]  # a map and its display at a time
    steps.close()
    assert there() == before
    steps = job().placing(report)
    next(steps)
    slicer.mrmlScene.RemoveNode(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")[-1])
    with pytest.raises(CTEnhanceError, match="changed meanwhile"):
        exhausted(steps)
    assert there() == before
    # A run has each of them in a turn of its own, and can be cancelled until the last one.
    ended: list[Any] = []
    for cancelled in (True, False):
        run = Run(
            job(),
            lambda _progress: None,
            lambda result, _warnings: ended.append(result),
            lambda sentence, _details: pytest.fail(sentence),
            lambda: ended.append("cancelled"),
        )
        run.active, run._report = True, lambda: dict(report)
        run._place()
        came = []
        while not ended:
            known = there()
            user.turn()
            came.append(there() - known)
            if cancelled and there() - before > 3:
                run.cancel()
        assert ended.pop() == "cancelled" if cancelled else len(mapsOf(ended.pop())) == 2
        assert max(came) <= 2
        assert there() == before or not cancelled


def test_handles_are_drawn_without_being_sorted(panel: Any, user: Any, frames: Any) -> None:
    """Sorted by depth they take longer than the image, where edges are smoothed without a graphics card."""
    panel.ui.roundButton.click()
    user.rests(0.5)
    frames(lambda: panel.viewSection._onPlace((1.0, 2.0, 3.0)))
    above = []
    for view in SIX:
        renderers = widget(view).sliceView().renderWindow().GetRenderers()
        found = [renderers.GetItemAsObject(index) for index in range(renderers.GetNumberOfItems())]
        above += [each for each in found if each.GetLayer()]
    assert len(above) >= len(SIX) and not any(each.GetUseDepthPeeling() for each in above)


def test_a_result_that_arrives_is_shown_once_and_then_measured(
    panel: Any, user: Any, monkeypatch: Any
) -> None:
    ct = addCT()
    choose(panel, user, addResult(ct))
    panel.ui.compareButton.click()
    panel.ui.roundButton.click()
    user.rests(0.3)
    log: list[str] = []
    section = panel.compareSection
    for of, name in ((section.comparison, "show"), (section.measuring, "measure")):
        own = getattr(of, name)
        monkeypatch.setattr(
            of, name, lambda *each, own=own, name=name: (log.append(f"{name} {turn[0]}"), own(*each))
        )
    turn, run = [0], panel.runSection
    run._run = _Done()
    run._onDone(addResult(ct), [])
    while run.running:
        turn[0] += 1
        user.turn()
    kinds = [each.split()[0] for each in log]
    assert kinds.count("show") == 1 and kinds.index("show") < kinds.index("measure")
    assert (
        len(
            {each.split()[1] for each in log if each.startswith("show")}
            & {each.split()[1] for each in log if each.startswith("measure")}
        )
        == 0
    )  # in another turn
