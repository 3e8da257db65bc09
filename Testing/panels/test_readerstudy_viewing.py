"""Windows, keys, room for the images and breaks in CT Reader Study, on the real MRML scene."""

from __future__ import annotations

from typing import Any

import pytest
import slicer
from reading import VIEWS, Maker, Reader, rows, shownCase

from view_pixels import pixels


@pytest.mark.parametrize("locked", [False, True])
def test_windows_are_logged_or_locked(reader: Reader, make: Maker, locked: bool) -> None:
    folder = make(cases=3, window_locked=locked)
    reader.signsIn(folder)
    first, second = reader.desk.session.study.conduct.windows[:2]
    display = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")[0].GetDisplayNode()
    assert (display.GetLevel(), display.GetWindow()) == (first.level, first.width)
    reader.presses("W")
    assert (display.GetLevel(), display.GetWindow()) == (second.level, second.width)
    display.SetWindowLevel(123, 45)  # the mouse in the view
    if locked:
        assert (display.GetLevel(), display.GetWindow()) == (second.level, second.width)
    display.SetWindowLevel(124, 45)
    reader.presses("3", "PgDown")
    reader.sees()
    assert (display.GetLevel(), display.GetWindow()) == (first.level, first.width)
    reader.desk.signOut()
    logged = [(row.data["level"], row.data["width"]) for row in rows(folder) if row.kind == "window"]
    assert logged == [(second.level, second.width)] + ([] if locked else [(45, 124)])


def test_scrolling_by_keys_is_linked(reader: Reader, make: Maker) -> None:
    reader.signsIn(make(cases=3))
    first, second = (slicer.app.layoutManager().sliceWidget(name).sliceLogic() for name in VIEWS)
    start = first.GetSliceOffset()
    reader.presses("Up")
    assert first.GetSliceOffset() == pytest.approx(start + 2.5)
    assert second.GetSliceOffset() == pytest.approx(first.GetSliceOffset())
    reader.presses("Shift+Down")
    low = first.GetSliceOffset()
    reader.presses("Down")
    assert first.GetSliceOffset() == pytest.approx(low) and low < start


def test_the_panel_leaves_the_room_to_the_images(reader: Reader, make: Maker) -> None:
    """Slicer's panel is as wide as its contents would like to be, however long their sentences."""
    from PySide6 import QtWidgets

    reader.signsIn(make(preset="image quality (VGA)", cases=3))
    reader.presses("PgDown")  # refused in a sentence
    assert len(reader.ui.statusLabel.text) > 40
    assert QtWidgets.QWidget.sizeHint(reader.panel.panel).width() < 400


def test_the_row_that_the_keys_are_for_is_seen(reader: Reader, make: Maker) -> None:
    from PySide6 import QtWidgets

    window = slicer.util.mainWindow()
    area = QtWidgets.QScrollArea()  # as Slicer has its panels in one
    area.setWidgetResizable(True)
    area.setWidget(window.takeCentralWidget())
    window.setCentralWidget(area)
    try:
        area.setFixedHeight(240)
        reader.signsIn(make(preset="image quality (VGA)", cases=3))

        def seen() -> bool:
            row = reader.desk.form.current.widget
            return QtWidgets.QWidget.visibleRegion(row).boundingRect().height() == row.height

        for _ in range(11):
            assert seen()
            reader.presses("3")
        assert seen() and area.verticalScrollBar().value() > 0
    finally:
        window.setCentralWidget(area.takeWidget())


def test_zooming_and_moving_by_keys_is_linked(reader: Reader, make: Maker) -> None:
    reader.signsIn(make(cases=3))
    nodes = [slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode() for name in VIEWS]
    whole, origin = nodes[0].GetFieldOfView(), nodes[0].GetXYZOrigin()
    offset = nodes[0].GetSliceOffset()
    for keys, factor in ((("Ctrl++",), 1 / 1.25), (("Ctrl+=",), 1 / 1.25**2), (("Ctrl+-",) * 3, 1.25)):
        reader.presses(*keys)
        for node in nodes:
            assert node.GetFieldOfView()[:2] == pytest.approx([factor * whole[0], factor * whole[1]])
    # A picture that goes to the right is seen from a point further left; so for all four ways.
    for key, right, up in (("Right", 1, 0), ("Up", 1, 1), ("Left", 0, 1), ("Down", 0, 0)):
        reader.presses(f"Ctrl+{key}")
        width, height, _ = nodes[0].GetFieldOfView()
        for node in nodes:
            expected = [origin[0] - 0.1 * right * width, origin[1] - 0.1 * up * height]
            assert node.GetXYZOrigin()[:2] == pytest.approx(expected, abs=1e-6)
    reader.presses("Ctrl+Right", "Up", "Home")
    reader.waits(lambda: nodes[1].GetFieldOfView() == pytest.approx(whole), 60)
    for node in nodes:
        assert node.GetXYZOrigin() == pytest.approx(origin) and node.GetSliceOffset() == pytest.approx(offset)
    for _ in range(60):
        reader.presses("Ctrl+-")
    assert nodes[0].GetFieldOfView()[0] < 5000


class Clock:
    """A stop-watch that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1e9

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    from ctenhance.study import session as module
    from CTEnhanceLib.readerstudy import desk

    watch = Clock()
    opened = module.ReadingSession.open
    monkeypatch.setattr(
        desk.ReadingSession,
        "open",
        lambda folder, reader: opened(folder, reader, now=watch, tick=watch),
    )
    return watch


def test_an_enforced_break_covers_the_images(reader: Reader, make: Maker, clock: Clock) -> None:
    reader.signsIn(make(cases=3, break_every_minutes=1, break_minutes=5, rules="enforce"))
    for _ in range(3):
        clock.seconds += 30
        reader.presses("Up")
    assert reader.desk.session.active_seconds == 60  # no more once the break is due
    reader.waits(lambda: reader.ui.warningLabel.visible, 60)
    assert "rest your eyes" in reader.ui.warningLabel.text
    reader.waits(lambda: not reader.desk.views.shown, 60)
    reader.presses("3", "PgDown")
    assert reader.desk.session.answers == {} and reader.ui.progressLabel.text == "Case 1 of 3"
    clock.seconds += 301
    reader.waits(lambda: reader.desk.views.shown and not reader.ui.warningLabel.visible, 60)
    reader.presses("3", "PgDown")
    assert reader.ui.progressLabel.text == "Case 2 of 3"


@pytest.mark.parametrize("rules", ["warn", "enforce"])
def test_washout(reader: Reader, make: Maker, clock: Clock, rules: str) -> None:
    folder = make(cases=2, sessions=2, washout_days=3, rules=rules)
    reader.signsIn(folder)
    reader.presses("3", "PgDown", "Ctrl+Return")
    assert "Session 2 should not begin before" in reader.ui.progressLabel.text
    assert "Begin the next session" in reader.ui.goOnButton.text
    reader.presses("Ctrl+Return")
    assert (reader.desk.session.state == "reading") == (rules == "warn")
    if rules == "enforce":
        clock.seconds += 3 * 86400
        reader.presses("Ctrl+Return")
    else:
        assert "Session 2 should not begin" in reader.ui.warningLabel.text
    reader.sees()
    assert reader.ui.progressLabel.text == "Case 1 of 1, session 2 of 2"


def test_looking_counts_as_activity(reader: Reader, make: Maker, clock: Clock) -> None:
    reader.signsIn(make(cases=3))
    clock.seconds += 20
    node = slicer.app.layoutManager().sliceWidget(VIEWS[1]).mrmlSliceNode()
    node.SetFieldOfView(50, 50, 1)  # zooming by the mouse
    assert reader.desk.session.active_seconds == 20
    clock.seconds += 3600  # away
    reader.presses("3")
    assert reader.desk.session.active_seconds == 80


def orientations() -> set[str]:
    from CTEnhanceLib.views.part import orientationOf

    return {orientationOf(slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode()) for name in VIEWS}


def test_planes_by_key_and_by_question(reader: Reader, make: Maker) -> None:
    asked = [
        {"id": "noise", "kind": "yes-no", "text": "Noise?", "scope": "pair"},
        {"id": "stripes", "kind": "yes-no", "text": "Stripes?", "scope": "pair", "plane": "coronal"},
        {"id": "edges", "kind": "yes-no", "text": "Edges?", "scope": "pair"},
    ]
    reader.signsIn(make(cases=2, questions=asked))
    assert orientations() == {"Axial"}
    reader.presses("S")
    assert orientations() == {"Sagittal"}
    assert reader.ui.sliceLabel.text == "Slice 17 of 32"
    reader.presses("A", "1")  # the answer leads to the question about a plane
    assert orientations() == {"Coronal"}
    reader.presses("Shift+Tab")
    assert orientations() == {"Coronal"}
    reader.presses("Tab", "2", "1", "PgDown")
    reader.sees()
    assert orientations() == {"Axial"}  # where every case begins


def test_windows_by_number(reader: Reader, make: Maker) -> None:
    reader.signsIn(make(cases=2))
    windows = reader.desk.session.study.conduct.windows
    display = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")[0].GetDisplayNode()
    for number in (3, 1, 2):
        reader.presses(f"Ctrl+{number}")
        window = windows[number - 1]
        assert (display.GetLevel(), display.GetWindow()) == (window.level, window.width)
    reader.presses("Ctrl+9")  # there is none
    assert (display.GetLevel(), display.GetWindow()) == (windows[1].level, windows[1].width)


def test_a_pause_hides_the_images(reader: Reader, make: Maker) -> None:
    folder = make(cases=2)
    reader.signsIn(folder)
    views = [slicer.app.layoutManager().sliceWidget(name) for name in VIEWS]
    reader.presses("Up", "P")
    offset = views[0].sliceLogic().GetSliceOffset()
    assert not any(view.mrmlSliceCompositeNode().GetBackgroundVolumeID() for view in views)
    assert "Paused" in reader.ui.statusLabel.text and reader.ui.pauseButton.text == "Go on (P)"
    reader.presses("5", "PgDown", "Up", "W", "C")
    assert not any(view.mrmlSliceCompositeNode().GetBackgroundVolumeID() for view in views)
    assert not reader.desk.form.enabled and not reader.ui.nextButton.enabled
    reader.presses("P")
    assert all(view.mrmlSliceCompositeNode().GetBackgroundVolumeID() for view in views)
    assert views[0].sliceLogic().GetSliceOffset() == offset and orientations() == {"Axial"}
    assert "Answer with" in reader.ui.statusLabel.text
    reader.presses("5")
    reader.ui.pauseButton.click()
    # Another module and back: still paused, and nothing is shown.
    reader.panel.exit()
    reader.panel.enter()
    assert not slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") and reader.desk.session.paused
    reader.ui.pauseButton.click()
    reader.sees()
    assert all(view.mrmlSliceCompositeNode().GetBackgroundVolumeID() for view in views)
    reader.desk.signOut()
    kinds = [row.kind for row in rows(folder)]
    assert kinds.count("answer") == 1 and kinds.count("pause") == kinds.count("resume") == 2


def test_practice_comes_first(reader: Reader, make: Maker) -> None:
    folder = make(cases=3, practise=2)
    reader.signsIn(folder)
    assert reader.ui.progressLabel.text == "Practice case 1 of 2: its answers do not count"
    reader.presses("1", "PgDown")
    reader.sees()
    reader.presses("1", "PgDown", "Ctrl+Return")
    assert "count from now on" in reader.ui.progressLabel.text
    reader.presses("Ctrl+Return")
    reader.sees()
    assert reader.ui.progressLabel.text == "Case 1 of 3"


def test_sheet_of_keys(reader: Reader, make: Maker) -> None:
    import slicerhost

    reader.signsIn(make(cases=2))
    reader.presses("F1")
    text = slicerhost.messages[0][0]
    for key in ("P", "A, C, S", "Ctrl+Return", "F1"):
        assert f"<td>{key}</td>" in text


def test_drawings_of_other_work_are_not_over_the_images(reader: Reader, make: Maker) -> None:
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "of another panel")
    region.CreateDefaultDisplayNodes()
    hidden = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "hidden already")
    hidden.CreateDefaultDisplayNodes()
    hidden.GetDisplayNode().SetVisibility2D(False)
    reader.signsIn(make(cases=2))
    assert not region.GetDisplayNode().GetVisibility2D()
    reader.desk.signOut()
    assert region.GetDisplayNode().GetVisibility2D()
    assert not hidden.GetDisplayNode().GetVisibility2D()


def test_views_are_made_before_who_reads_signs_in(
    reader: Reader, make: Maker, user: Any, monkeypatch: Any
) -> None:
    """Else the sign-in makes them all at once; who leaves the panel waits for none."""
    from CTEnhanceLib.readerstudy import views

    names = ("CTReaderStudyTestFirst", "CTReaderStudyTestSecond")
    for constant, name in zip(("FIRST_VIEW", "SECOND_VIEW"), names, strict=True):
        monkeypatch.setattr(views, constant, name)  # other tests have had those of the panel made
    ahead = reader.panel.ahead

    def made() -> list[Any]:
        return [slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceNode") for name in names]

    slicer.app.userSettings().setValue("CTEnhance/nothingAhead", "")
    try:
        reader.panel.opened()
        assert ahead.pending
        reader.panel.left()
        assert not ahead.pending and made() == [None] * 2
        reader.panel.opened()
        user.waits(lambda: not ahead.pending, 120)
    finally:
        slicer.app.userSettings().setValue("CTEnhance/nothingAhead", True)
    nodes = made()
    assert None not in nodes and not any(node.IsMappedInLayout() for node in nodes)
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []
    reader.signsIn(make(cases=3))
    assert made() == nodes and [node.IsMappedInLayout() for node in nodes] == [1, 1]
    assert shownCase(names[0]) == shownCase(names[1])
    for name in names[:2]:
        widget = slicer.app.layoutManager().sliceWidget(name)
        assert not widget.sliceController().visible  # its bar names what is shown
        assert pixels(widget.sliceView()).std() > 0
    left, right = (slicer.app.layoutManager().sliceWidget(name) for name in names[:2])
    start = left.sliceLogic().GetSliceOffset()
    right.sliceController().setSliceOffsetValue(start + 2.5)
    assert left.sliceLogic().GetSliceOffset() == pytest.approx(start + 2.5)


def test_images_of_later_cases_change_nothing_on_the_screen(reader: Reader, make: Maker, user: Any) -> None:
    from CTEnhanceLib.readerstudy.images import ImageShelf

    reader.signsIn(make(cases=3))
    session = reader.desk.session
    images, upcoming = session.case.images, session.upcoming
    assert len(images) == 2 and set(upcoming) - set(images)
    told: list[bool] = []
    shelf = ImageShelf(
        lambda path: session.study.images[path.name][0],
        lambda: told.append(shelf.get(images) is not None),
    )
    shelf.request(images, upcoming)
    user.waits(lambda: not shelf.busy, 60)
    assert told == [False, True] and shelf.get(upcoming) is not None
    shelf.clear()
