"""CT Reader Study as a reader uses it, by keyboard, on the real MRML scene; and what it must not tell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from reading import ARMS, REPOSITORY, VIEWS, Maker, Reader, given, shownCase

import slicerhost


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
        reader.ui.readerSelector.currentText = "ann"
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
    view = slicer.app.layoutManager().sliceWidget("CTReaderStudyFirst")
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


def test_nobody_reads_as_another(reader: Reader, make: Maker) -> None:
    folder, ui = make(cases=3, readers=["ann", "bob"]), reader.ui
    ui.folderEdit.currentPath = ""
    assert not ui.readerSelector.enabled and ui.signInButton.toolTip == "Choose a study first."
    ui.folderEdit.currentPath = str(folder)
    for _ in range(2):
        offered = [ui.readerSelector.itemText(index) for index in range(ui.readerSelector.count)]
        assert offered == ["Choose your name", "ann", "bob"]
        assert ui.readerSelector.currentIndex == 0 and not ui.signInButton.enabled
        assert ui.signInButton.toolTip == "Choose your name first."
        ui.signInButton.click()
        assert reader.desk.session is None
        # Signed in and out again, or opened at another time: the name of who read last is not chosen.
        reader.signsIn(folder, "ann")
        assert reader.desk.session.reader == "ann"
        ui.signOutButton.click()


def test_who_signs_in_sees_what_to_do_and_no_other_panels_views(reader: Reader, make: Maker) -> None:
    from CTEnhanceLib.views.linked import LinkedViews
    from CTEnhanceLib.views.view import View

    other, layout = LinkedViews(), slicer.app.layoutManager().layout
    module = slicer.modules.ctreaderstudy.widgetRepresentation()
    module._enter(False)
    other.show(7190, (View("HostFirst", "Secret", "#8C8C8C"),))
    module._enter(True)
    assert slicer.app.layoutManager().layout == layout and not other.shown
    assert "own name" in reader.ui.signInHintLabel.text
    assert reader.ui.researchLabel.visible and "research use only" in reader.ui.researchLabel.text
    reader.signsIn(make(cases=3))
    assert "keys 1, 2" in reader.ui.statusLabel.text
    reader.presses("3")
    assert reader.ui.statusLabel.text == "All answered. Page Down goes to the next case."


def test_the_slice_number_follows(reader: Reader, make: Maker) -> None:
    reader.signsIn(make(cases=3))  # of six slices
    assert reader.ui.sliceLabel.text in ("Slice 3 of 6", "Slice 4 of 6")
    reader.presses(*["Down"] * 6)
    assert reader.ui.sliceLabel.text == "Slice 1 of 6"
    reader.presses("Up")
    assert reader.ui.sliceLabel.text == "Slice 2 of 6"
    right = slicer.app.layoutManager().sliceWidget(VIEWS[1])
    right.sliceController().setSliceOffsetValue(right.sliceLogic().GetSliceOffset() + 2.5)
    assert reader.ui.sliceLabel.text == "Slice 3 of 6"
    reader.presses("Shift+Up")
    assert reader.ui.sliceLabel.text == "Slice 6 of 6"
    reader.ui.signOutButton.click()


def test_reloaded_the_panel_reads_on(reader: Reader, make: Maker, user: Any) -> None:
    folder = make(cases=3)
    reader.signsIn(folder)
    reader.presses("4")
    slicer.util.reloadScriptedModule("CTReaderStudy")
    panel = slicer.modules.ctreaderstudy.widgetRepresentation().self()
    assert panel is not reader.panel and reader.desk.session is None
    again = Reader(panel, user, slicer.util.mainWindow())
    again.signsIn(folder)
    assert again.desk.views.shown and again.ui.progressLabel.text == "Case 1 of 3"
    assert again.desk.session.answers == {("preference", "pair"): 1}
    again.presses("5")
    assert again.desk.session.answers == {("preference", "pair"): 2}
    again.desk.signOut()


def test_a_wrong_number_is_refused(reader: Reader, make: Maker) -> None:
    reader.signsIn(make(preset="lesion detection (FROC)", cases=3))
    reader.presses("9", "9", "9", "Return")
    assert "from 0 to 100" in reader.ui.statusLabel.text
    assert reader.desk.session.answers == {} and reader.desk.form.current.edit.text == ""


def test_long_words_of_answers_take_a_second_line(reader: Reader, make: Maker) -> None:
    """In a narrow panel the last ones would be cut off."""
    import qt

    reader.signsIn(make(preset="preference"))
    labels = reader.ui.questionsWidget.findChildren(qt.QLabel)
    words = next(label for label in labels if "·" in label.text)
    assert words.sizePolicy.hasHeightForWidth() and words.heightForWidth(200) > words.heightForWidth(2000)
