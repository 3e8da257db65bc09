"""Many scans at once: the window Batch of CT Enhance, over a folder and over the DICOM database."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import slicer
from test_out import Database, database

import slicerhost
from panel_run import temporaries

__all__ = ["database"]

SECONDS = 300.0


def scan(seed: int) -> Any:
    from ctenhance.core.volume import CTVolume

    image = np.full((3, 40, 48), -1000.0)
    image[:, 6:34, 6:42] = 40
    noise = np.random.default_rng(seed).normal(0, 20, image.shape)
    return CTVolume((image + noise).round().astype(np.float32), (0.8, 0.8, 2.5), (1.0, 2.0, float(seed)))


def series(folder: Path, seed: int, name: str) -> Path:
    from ctenhance.files.dicom.writing import write_series

    write_series(scan(seed), folder)
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.PatientName, header.PatientID, header.ImageType = name, name, ["ORIGINAL", "PRIMARY", "AXIAL"]
        header.StudyInstanceUID = f"1.2.826.0.1.3680043.10.{seed}"
        header.save_as(path)
    return folder


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two CTs as files and one as DICOM, and something that is none."""
    folder = tmp_path / "scans"
    (folder / "ward").mkdir(parents=True)
    scan(1).write(folder / "one.nii.gz")
    scan(2).write(folder / "ward" / "two.nrrd")
    series(folder / "three", 3, "Doe^Jane")
    (folder / "broken.nii.gz").write_bytes(b"nothing")
    return folder


class Window:
    """The window, and a user who clicks in it."""

    def __init__(self, panel: Any, user: Any) -> None:
        panel.ui.batchButton.click()
        self.panel, self._user = panel, user
        self.window, self.ui = panel.batchWindow, panel.batchWindow.ui

    def rows(self) -> dict[str, tuple[str, str]]:
        table = self.ui.batchTable
        # Rows are written a few at a time; a series of the database has a name only, until it is worked on.
        items = [[table.item(row, column) for column in range(4)] for row in range(table.rowCount)]
        cells = [[item.text() if item else "" for item in row] for row in items if row[0]]
        return {name: (state, why) for name, state, _time, why in cells}

    def starts(self, source: Path | None, target: Path) -> None:
        if source is not None:
            self.ui.batchSourceEdit.text = str(source)
        self.ui.batchTargetEdit.text = str(target)
        assert self.ui.batchStartButton.enabled, self.ui.batchStartButton.toolTip
        self.ui.batchStartButton.click()
        assert self.ui.batchStartButton.text == "Cancel"

    def ends(self) -> str:
        self._user.waits(lambda: self.ui.batchStartButton.text == "Start", SECONDS)
        return str(self.ui.batchStatusLabel.text)

    def opens(self, name: str) -> Any:
        """Double click on a case, and wait until it is compared."""
        row = list(self.rows()).index(name)
        self.ui.batchTable.selectRow(row)
        assert self.ui.batchOpenButton.enabled
        self.ui.batchTable.cellDoubleClicked(row, 0)
        self._user.waits(lambda: not self.panel.runSection.running, SECONDS)
        assert not slicerhost.messages, slicerhost.messages
        return self.panel.parameters.result


@pytest.fixture
def window(panel: Any, user: Any) -> Window:
    return Window(panel, user)


def test_a_folder_case_by_case(window: Window, panel: Any, user: Any, scans: Path, tmp_path: Path) -> None:
    assert not window.ui.batchStartButton.enabled and "with the scans" in window.ui.batchStartButton.toolTip
    assert "tiny" in window.ui.batchSettingsLabel.text and "100 %" in window.ui.batchSettingsLabel.text
    seen: set[str] = set()
    panel.parameters.strength = 0.5
    window.starts(scans, tmp_path / "out")
    assert not window.ui.batchSourceEdit.enabled and not window.ui.batchOpenButton.enabled

    def over() -> bool:
        seen.update(state for state, _why in window.rows().values())
        return bool(window.ui.batchStartButton.text == "Start")

    user.waits(over, SECONDS)
    rows = window.rows()
    assert {name: state for name, (state, _why) in rows.items()} == {
        "one.nii.gz": "done", "ward/two.nrrd": "done", "three": "done", "broken.nii.gz": "failed",
    }  # fmt: skip
    assert rows["broken.nii.gz"][1]
    assert "1 of 4 cases failed" in window.ui.batchStatusLabel.text
    assert "waiting" in seen and any(state.startswith("Enhancing") for state in seen)
    assert (tmp_path / "out" / "ward" / "two.nii.gz").is_file() and panel.ui.batchButton.text == "Batch…"
    # Again: nothing is to be done but the one that failed.
    (scans / "broken.nii.gz").unlink()
    window.starts(scans, tmp_path / "out")
    assert window.ends() == "Finished: 3 finished before."


@pytest.mark.parametrize(("name", "seed"), [("one.nii.gz", 1), ("three", 3)])
def test_a_double_click_compares(
    window: Window, panel: Any, scans: Path, tmp_path: Path, name: str, seed: int
) -> None:
    window.starts(scans, tmp_path / "out")
    window.ends()
    result = window.opens(name)
    from CTEnhanceLib.scene import placing

    assert placing.inputOf(result).GetName() == name.removesuffix(".nii.gz")
    before = slicer.util.arrayFromVolume(placing.inputOf(result))
    assert np.array_equal(before, scan(seed).array)
    from ctenhance.core.volume import CTVolume

    written = CTVolume.read(tmp_path / "out" / f"{name.removesuffix('.nii.gz')}.nii.gz")
    assert np.array_equal(slicer.util.arrayFromVolume(result), written.array)
    assert panel.compareSection.comparison.active and placing.reportOf(result)["verb"] == "enhance"
    assert panel.compareSection.comparison.pair.other is placing.inputOf(result)
    from CTEnhanceLib.out.patient import studyOf

    study = studyOf(placing.inputOf(result))  # an export of it joins the patient's study
    assert (study is not None) == (name == "three")
    assert study is None or {file.parent for file in study.files} == {scans / "three"}
    nodes = len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))
    assert window.opens(name) is result  # it is there already
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == nodes and not temporaries()


def test_another_case_begins_in_its_middle(window: Window, panel: Any, scans: Path, tmp_path: Path) -> None:
    """The slice that was looked at is another patient's."""
    from CTEnhanceLib.views import slices

    window.starts(scans, tmp_path / "out")
    window.ends()
    window.opens("ward/two.nrrd")
    views = panel.compareSection.comparison.views.widgets()
    for view in views:
        view.sliceLogic().SetSliceOffset(2.0)
    assert {slices.position(view.sliceLogic()) for view in views} == {(1, 3)}
    window.opens("one.nii.gz")
    assert {slices.position(view.sliceLogic()) for view in views} == {(2, 3)}


def test_the_window_makes_room_for_the_images(window: Window, panel: Any, app: Any) -> None:
    """On a screen that has no room for both it lies over the panel, and the images stay free."""
    import qt

    main = slicer.util.mainWindow()
    images = qt.QWidget(main)
    main.setCentralWidget(images)
    main.setGeometry(0, 0, 1280, 800)
    main.setContentsMargins(480, 0, 0, 0)  # where the panel is
    main.show()
    dialog = panel.batchWindow.dialog
    dialog.move(200, 100)
    try:
        app.processEvents()
        panel.batchWindow._stepAside()
        app.processEvents()
        left = images.mapToGlobal(qt.QPoint(0, 0)).x()
        assert left >= 480 and dialog.frameGeometry.right() < left and dialog.visible
        assert dialog.height <= 400 and dialog.width > 400
        before = dialog.pos
        panel.batchWindow._stepAside()  # there is room already
        assert dialog.pos == before
    finally:
        main.setContentsMargins(0, 0, 0, 0)
        main.takeCentralWidget()
        main.hide()


def test_a_stage_with_its_percentage_fits(panel: Any) -> None:
    from PySide6 import QtGui, QtWidgets

    table = panel.batchWindow.ui.batchTable
    panel.batchWindow._fitColumns(900)
    margin = 2 * (QtWidgets.QWidget.style(table).pixelMetric(QtWidgets.QStyle.PM_FocusFrameHMargin) + 1)
    font = QtGui.QFontMetrics(QtWidgets.QWidget.font(table))
    assert QtWidgets.QTableWidget.columnWidth(table, 1) >= font.horizontalAdvance("Enhancing 100 %") + margin


def test_what_has_gone_is_said(window: Window, panel: Any, user: Any, scans: Path, tmp_path: Path) -> None:
    window.starts(scans, tmp_path / "out")
    window.ends()
    (tmp_path / "out" / "one.nii.gz").unlink()
    window.ui.batchTable.selectRow(list(window.rows()).index("one.nii.gz"))
    window.ui.batchOpenButton.click()
    assert "run the batch again" in slicerhost.messages[0][0]
    window.ui.batchTable.selectRow(list(window.rows()).index("broken.nii.gz"))
    assert not window.ui.batchOpenButton.enabled


def test_cancel_keeps_what_is_finished(
    window: Window, panel: Any, user: Any, scans: Path, tmp_path: Path, children: Callable[[], list[Any]]
) -> None:
    window.starts(scans, tmp_path / "out")
    user.waits(lambda: any(state == "done" for state, _why in window.rows().values()), SECONDS)
    window.ui.batchStartButton.click()
    said = window.ends()
    assert said.startswith("Cancelled with") and not children()
    assert not any(state.startswith("Enhancing") for state, _why in window.rows().values())


def test_another_module_and_the_end(
    window: Window, panel: Any, user: Any, scans: Path, tmp_path: Path, children: Callable[[], list[Any]]
) -> None:
    """It goes on while another module is open, and ends with its own."""
    window.starts(scans, tmp_path / "out")
    panel.exit()
    user.waits(lambda: any(state == "done" for state, _why in window.rows().values()), SECONDS)
    panel.batchWindow.kill()
    end = time.monotonic() + 30
    user.waits(lambda: not children() or time.monotonic() > end)
    assert not children()


def test_settings_that_differ_are_refused_in_a_sentence(
    window: Window, panel: Any, scans: Path, tmp_path: Path
) -> None:
    (scans / "broken.nii.gz").unlink()
    window.starts(scans, tmp_path / "out")
    window.ends()
    panel.parameters.strength = 0.25
    window.window.refresh()
    assert "25 %" in window.ui.batchSettingsLabel.text
    window.starts(scans, tmp_path / "out")
    assert "another strength" in window.ends()
    panel.parameters.keepFaint = True
    window.window.refresh()
    assert "faint structures kept" in window.ui.batchSettingsLabel.text


def test_over_the_dicom_database(
    window: Window, panel: Any, user: Any, database: Database, tmp_path: Path
) -> None:
    for seed, name in ((4, "Doe^Jane"), (5, "Roe^Richard")):
        for path in sorted(series(tmp_path / f"series{seed}", seed, name).iterdir()):
            database.insert(str(path), False, False)
    for path in sorted((tmp_path / "series5").iterdir()):  # a series that we have made
        header = pydicom.dcmread(path)
        header.ImageType, header.SeriesInstanceUID = ["DERIVED", "SECONDARY", "AXIAL"], "1.2.3"
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"{header.SOPInstanceUID}.1"
        (tmp_path / "derived").mkdir(exist_ok=True)
        header.save_as(tmp_path / "derived" / path.name)
        database.insert(str(tmp_path / "derived" / path.name), False, False)
    window.ui.batchSourceSelector.currentIndex = 1
    user.waits(lambda: window.ui.batchStatusLabel.text == "3 CT series.", SECONDS)
    names = list(window.rows())
    assert "Doe Jane" in names[0] and "Roe Richard" in names[1] and "3 images" in names[0]
    states = [int(window.ui.batchTable.item(row, 0).checkState().value) for row in range(3)]
    assert states == [2, 2, 0]
    window.starts(None, tmp_path / "out")
    assert window.ends() == "Finished: 2 done." and not temporaries()
    written = [path.name for path in (tmp_path / "out").glob("*.nii.gz")]
    assert len(written) == 2 and not any("Doe" in name or "Jane" in name for name in written)
    result = window.opens(names[1])
    from CTEnhanceLib.out.patient import studyOf
    from CTEnhanceLib.scene import placing

    source = placing.inputOf(result)
    assert np.array_equal(slicer.util.arrayFromVolume(source), scan(5).array)
    assert "database" in panel.ui.outStudyEdit.placeholderText
    assert studyOf(source).files[0].parent == tmp_path / "series5"
