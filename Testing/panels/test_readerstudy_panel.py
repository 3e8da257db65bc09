"""CT Reader Study as a reader uses it, by keyboard, on the real MRML scene; and what it must not tell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk

import slicerhost

REPOSITORY = Path(__file__).resolve().parents[2]
MAKER = Path(__file__).with_name("study_maker.py")
VIEWS = ("CTReaderStudyLeft", "CTReaderStudyRight")
ARMS = ("smooth-arm", "noisy-arm")

Maker = Callable[..., Path]


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Return a study folder with such a design; made once each, copied for each test."""
    made: dict[str, Path] = {}

    def make(target: Path, **design: Any) -> Path:
        asked = json.dumps(design, sort_keys=True)
        if asked not in made:
            made[asked] = tmp_path_factory.mktemp("study")
            environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "CTEnhance")}
            command = [sys.executable, str(MAKER), str(made[asked]), asked]
            subprocess.run(command, env=environment, check=True)
        return Path(shutil.copytree(made[asked] / "study", target))

    return make


@pytest.fixture
def make(studies: Maker, tmp_path: Path) -> Maker:
    return lambda **design: studies(tmp_path / "study", **design)


class Reader:
    """Sits before the main window and has a keyboard only."""

    def __init__(self, panel: Any, user: Any, window: Any) -> None:
        self.panel, self.ui, self.desk = panel, panel.ui, panel.desk
        self._user, self._window = user, window

    def signsIn(self, folder: Path, reader: str = "ann") -> None:
        self.ui.folderEdit.currentPath = str(folder)
        self.ui.readerSelector.currentText = reader
        self.ui.signInButton.click()
        self.sees()

    def sees(self) -> None:
        """Wait for the images, and for the views to have fitted them."""
        self._user.waits(lambda: self.ui.statusLabel.text != "Loading the images…", 60)
        self._user.rests(0.05)

    def presses(self, *keys: str) -> None:
        from PySide6 import QtGui, QtTest, QtWidgets

        self._window.activateWindow()
        self._user.waits(lambda: self._window.isActiveWindow, 60)
        for key in keys:
            combination = QtGui.QKeySequence(key)[0]
            target = QtWidgets.QApplication.focusWidget() or self._window
            QtTest.QTest.keyClick(target, combination.key(), combination.keyboardModifiers())
            self._user.turn()

    def waits(self, *arguments: Any) -> None:
        self._user.waits(*arguments)


@pytest.fixture
def reader(app: Any, user: Any) -> Iterator[Reader]:
    if not hasattr(slicer.modules, "ctreaderstudy"):
        slicerhost.addModule(REPOSITORY / "CTEnhance" / "CTReaderStudy.py")
    representation = slicer.modules.ctreaderstudy.widgetRepresentation()
    window = slicer.util.mainWindow()
    window.setCentralWidget(representation)
    window.show()
    window.activateWindow()
    user.waits(lambda: window.isActiveWindow, 60)
    representation._enter(True)
    yield Reader(representation.self(), user, window)
    representation.self().desk.signOut()
    representation._enter(False)


def rows(folder: Path, reader: str = "ann") -> list[Any]:
    from ctenhance.study import Study, records

    found, problems = records.verify(
        Study.read(folder).record_path(reader), Study.read(folder).sha256, reader
    )
    assert problems == []
    return found


def given(folder: Path) -> dict[tuple[int, str, str], Any]:
    data = [row.data for row in rows(folder) if row.kind == "answer"]
    return {(one["trial"], one["question"], one["side"]): one["value"] for one in data}


def shownCase(view: str) -> int:
    """Tell by its voxels which case is on the screen."""
    composite = slicer.app.layoutManager().sliceWidget(view).mrmlSliceCompositeNode()
    node = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID())
    return (int(slicer.util.arrayFromVolume(node)[0, 0, 0]) - 100) // 10


def test_a_reader_completes_a_study_by_keyboard(reader: Reader, make: Maker) -> None:
    folder = make(preset="image quality (VGA)", cases=20)
    reader.signsIn(folder)
    seen, expected = [], {}
    for number in range(1, 21):
        reader.waits(lambda number=number: reader.ui.progressLabel.text == f"Case {number} of 20", 60)
        reader.sees()
        assert shownCase(VIEWS[0]) == shownCase(VIEWS[1])
        seen.append(shownCase(VIEWS[0]))
        for count, (question, side) in enumerate(reader.desk.session.asked):
            key = (number + count) % 5 + 1
            expected[number, question.id, side] = key
            reader.presses(str(key))
        assert reader.desk.session.missing == ()
        reader.presses("PgDown")
    assert sorted(seen) == list(range(20))
    assert reader.ui.goOnButton.visible and "locks" in reader.ui.statusLabel.text
    reader.presses("Ctrl+Return")
    assert reader.ui.progressLabel.text == "You have read every case of this study. Thank you."
    assert not reader.ui.questionsWidget.visible
    reader.presses("Ctrl+Return")
    assert reader.ui.signInSection.visible and not reader.ui.readingSection.visible
    assert given(folder) == expected


def test_reading_goes_on_where_a_killed_slicer_stopped(reader: Reader, make: Maker) -> None:
    folder = make(cases=3)
    script = (
        "import os, sys\n"
        "from ctenhance.study import ReadingSession\n"
        "session = ReadingSession.open(sys.argv[1], 'ann')\n"
        "session.answer('preference', -2)\n"
        "session.next()\n"
        "session.answer('preference', 1)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "CTEnhance")}
    ended = subprocess.run([sys.executable, "-c", script, str(folder)], env=environment, check=False)
    assert ended.returncode == -9
    reader.signsIn(folder)
    assert reader.ui.progressLabel.text == "Case 2 of 3"
    assert [button.checked for button in reader.desk.form.rows[0]._buttons] == [False] * 3 + [True, False]
    reader.presses("5")
    reader.presses("PgUp")
    assert reader.ui.progressLabel.text == "Case 1 of 3"
    reader.desk.signOut()
    assert given(folder) == {(1, "preference", "pair"): -2, (2, "preference", "pair"): 2}


def test_closing_the_scene_or_leaving_the_module_loses_nothing(
    reader: Reader, make: Maker, user: Any
) -> None:
    folder = make(cases=3)
    reader.signsIn(folder)
    reader.presses("4", "Tab")
    text = reader.desk.form.current.edit
    text.setPlainText("both are fine")  # typed, and not yet saved
    slicer.mrmlScene.Clear(False)
    reader.waits(lambda: reader.desk.views.shown, 60)
    assert shownCase(VIEWS[0]) == shownCase(VIEWS[1])
    saved = {("preference", "pair"): 1, ("comment", "pair"): "both are fine"}
    assert reader.desk.session.answers == saved
    text.setPlainText("no, the left one")
    module = slicer.modules.ctreaderstudy.widgetRepresentation()
    module._enter(False)
    assert slicer.app.layoutManager().layout < 100 and not reader.desk.views.shown
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []
    assert reader.desk.session.answers["comment", "pair"] == "no, the left one"
    reader.presses("1")
    assert reader.desk.session.answers["preference", "pair"] == 1  # another module is open: not our keys
    module._enter(True)
    assert reader.desk.views.shown and reader.ui.progressLabel.text == "Case 1 of 3"
    reader.presses("1")
    assert reader.desk.session.answers["preference", "pair"] == -2


def told() -> str:
    """All that Slicer tells of the nodes in the scene: names, attributes, files, lists, corners, titles."""
    from PySide6 import QtWidgets

    found = []
    for index in range(slicer.mrmlScene.GetNumberOfNodes()):
        node = slicer.mrmlScene.GetNthNode(index)
        found += [node.GetName() or "", node.GetDescription() or "", node.GetID()]
        found += [f"{name}={node.GetAttribute(name)}" for name in node.GetAttributeNames()]
        if node.IsA("vtkMRMLStorageNode"):
            found.append(node.GetFileName() or "")
    found.append(slicer.mrmlScene.GetURL() or "")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    found += [hierarchy.GetItemName(items.GetId(index)) for index in range(items.GetNumberOfIds())]
    annotations = slicer.modules.DataProbeInstance.infoWidget.sliceAnnotations
    for name in slicer.app.layoutManager().sliceViewNames():
        widget = slicer.app.layoutManager().sliceWidget(name)
        corner = widget.sliceView().cornerAnnotation()
        found += [corner.GetText(place) or "" for place in range(8)]
        if annotations.sliceViewAnnotationsEnabled:  # the Data Probe writes the volume's name there
            volume = slicer.mrmlScene.GetNodeByID(
                widget.mrmlSliceCompositeNode().GetBackgroundVolumeID() or ""
            )
            found.append(volume.GetName() if volume is not None else "")
    for widget in QtWidgets.QApplication.allWidgets():
        if QtWidgets.QWidget.isVisible(widget):
            for name in ("windowTitle", "text", "toolTip", "currentText", "plainText"):
                found.append(str(QtWidgets.QWidget.property(widget, name) or ""))
    return "\n".join(found)


def test_nothing_tells_the_arms_apart(reader: Reader, make: Maker, tmp_path: Path) -> None:
    folder = make(cases=4)
    reader.signsIn(folder)
    names = {path.name for path in (folder / "images").iterdir()}
    nodes = set()
    for _ in range(4):
        reader.sees()
        said = told()
        for secret in (*ARMS, "miller", "Miller", *names, *(Path(name).stem for name in names)):
            assert secret not in said, secret
        shown = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        assert [node.GetName() for node in shown] == ["Left", "Right"]
        for node in shown:
            assert node.GetHideFromEditors() and not node.GetSaveWithScene()
            assert node.GetStorageNode() is None
        left, right = shown
        # One window, one kind of voxel, one grid: none of these is seen, and none differs.
        assert left.GetDisplayNode() is right.GetDisplayNode()
        images = [node.GetImageData() for node in shown]
        assert images[0].GetScalarType() == images[1].GetScalarType()
        assert images[0].GetDimensions() == images[1].GetDimensions()
        assert left.GetSpacing() == right.GetSpacing() and left.GetOrigin() == right.GetOrigin()
        nodes.add((left.GetID(), right.GetID()))
        reader.presses("3", "PgDown")
    assert len(nodes) == 1  # which arm came first, or when, cannot be read from identifiers
    for name in VIEWS:
        assert slicer.app.layoutManager().sliceWidget(name).sliceController().isHidden()


def test_what_was_hidden_comes_back(reader: Reader, make: Maker) -> None:
    annotations = slicer.modules.DataProbeInstance.infoWidget.sliceAnnotations
    probe = slicer.util.findChild(slicer.util.mainWindow(), "DataProbeCollapsibleWidget")
    layout = slicer.app.layoutManager().layout
    other = slicer.util.addVolumeFromArray(np.zeros((2, 4, 4), np.int16), name="other")
    reader.signsIn(make(cases=3))
    assert probe.isHidden() and not annotations.sliceViewAnnotationsEnabled
    reader.ui.signOutButton.click()
    assert not probe.isHidden() and annotations.sliceViewAnnotationsEnabled
    assert slicer.app.layoutManager().layout == layout
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == [other]


def test_what_cannot_be_read_is_said_in_a_sentence(reader: Reader, make: Maker, tmp_path: Path) -> None:
    from ctenhance.study import ReadingSession

    folder = make(cases=3)
    reader.ui.folderEdit.currentPath = str(tmp_path)
    assert "There is no study at" in reader.ui.signInLabel.text and not reader.ui.signInButton.enabled
    text = (folder / "study.json").read_text(encoding="utf-8")
    (folder / "study.json").write_text(text.replace('"Tiny"', '"Tidy"'))
    reader.ui.folderEdit.currentPath = str(folder)
    assert "was changed after it was made" in reader.ui.signInLabel.text
    (folder / "study.json").write_text(text)
    with ReadingSession.open(folder, "ann"):
        reader.ui.folderEdit.currentPath = ""
        reader.ui.folderEdit.currentPath = str(folder)
        reader.ui.signInButton.click()
        assert "open for 'ann' in another window" in reader.ui.signInLabel.text
    assert reader.desk.session is None and reader.ui.signInSection.visible
    for path in (folder / "images").iterdir():
        content = bytearray(path.read_bytes())
        content[-1] ^= 1  # as long as before, and not the image of the study
        path.write_bytes(content)
    reader.ui.signInButton.click()
    reader.waits(lambda: "is damaged" in reader.ui.statusLabel.text, 60)
    reader.presses("1")
    assert reader.desk.session.answers == {} and not reader.desk.views.shown


def test_a_missing_image_is_said_in_a_sentence(reader: Reader, make: Maker) -> None:
    folder = make(cases=3)
    shutil.rmtree(folder / "images")
    reader.signsIn(folder)
    assert "is missing; copy the whole study folder" in reader.ui.statusLabel.text
    assert not reader.desk.form.enabled


def test_a_full_disk_is_said_and_loses_nothing(reader: Reader, make: Maker, monkeypatch: Any) -> None:
    from ctenhance.runtime.errors import CTEnhanceError

    reader.signsIn(make(cases=3))
    reader.presses("2")
    session = reader.desk.session

    def full(*_arguments: Any, **_named: Any) -> None:
        raise CTEnhanceError("The answer could not be saved because the disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(session._records, "append", full)
        reader.presses("5")
    assert slicerhost.messages == [("The answer could not be saved because the disk is full.", "")]
    assert session.answers == {("preference", "pair"): -1}
    assert [button.checked for button in reader.desk.form.rows[0]._buttons].index(True) == 1


def test_locked_answers_stay(reader: Reader, make: Maker) -> None:
    folder = make(cases=3, lock="case")
    reader.signsIn(folder)
    reader.presses("PgDown")
    assert "Answer 'Which image" in reader.ui.statusLabel.text
    reader.presses("4", "PgDown", "PgUp")
    reader.sees()
    assert "locked" in reader.ui.statusLabel.text and not reader.desk.form.enabled
    reader.presses("1")
    assert reader.desk.session.answers == {("preference", "pair"): 1}


def test_marks_are_put_rated_moved_and_removed(reader: Reader, make: Maker) -> None:
    folder = make(preset="lesion detection (FROC)", cases=3)
    reader.signsIn(folder)
    view = slicer.app.layoutManager().sliceWidget("CTReaderStudyImage")
    reader.presses("M", "8")
    (node,) = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    assert node.GetHideFromEditors() and not node.GetSaveWithScene()
    assert node.GetDisplayNode().GetViewNodeIDs() == (view.mrmlSliceNode().GetID(),)
    ras = np.array(node.GetNthControlPointPositionVector(0))
    middle = np.array([view.mrmlSliceNode().GetSliceToRAS().GetElement(axis, 3) for axis in range(3)])
    assert np.allclose(ras, middle)
    answers = reader.desk.session.answers
    assert answers["lesions", "image"] == [
        {"point": pytest.approx((ras * [-1, -1, 1]).tolist()), "confidence": 80.0}
    ]
    # By the mouse: a point is put into the view, then dragged.
    node.AddControlPoint(vtk.vtkVector3d(1.0, 2.0, 3.0))
    node.InvokeEvent(node.PointPositionDefinedEvent)
    reader.waits(lambda: len(reader.desk.session.answers["lesions", "image"]) == 2, 60)
    reader.presses("3")
    node.SetNthControlPointPosition(0, 4.0, 5.0, 6.0)
    node.InvokeEvent(node.PointEndInteractionEvent)
    reader.waits(lambda: reader.desk.session.answers["lesions", "image"][0]["point"] == [-4, -5, 6], 60)
    assert [mark["confidence"] for mark in reader.desk.session.answers["lesions", "image"]] == [80, 30]
    reader.presses("Tab", "7", "5", "Return")
    assert reader.desk.session.answers["suspicion", "image"] == 75
    assert "75" in reader.desk.form.rows[1].edit.text
    reader.presses("Shift+Tab", "Delete")
    assert [mark["confidence"] for mark in reader.desk.session.answers["lesions", "image"]] == [80]
    reader.presses("PgDown")
    reader.sees()
    assert slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")[0].GetNumberOfControlPoints() == 0
    reader.presses("PgUp")
    reader.sees()
    assert slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")[0].GetNumberOfControlPoints() == 1


def test_a_wrong_number_is_refused(reader: Reader, make: Maker) -> None:
    reader.signsIn(make(preset="lesion detection (FROC)", cases=3))
    reader.presses("9", "9", "9", "Return")
    assert "from 0 to 100" in reader.ui.statusLabel.text
    assert reader.desk.session.answers == {} and reader.desk.form.current.edit.text == ""


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
    from CTEnhanceLib import readerstudy

    watch = Clock()
    opened = module.ReadingSession.open
    monkeypatch.setattr(
        readerstudy.ReadingSession,
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
