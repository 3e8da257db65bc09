"""A study and a reader with a keyboard, for the tests of CT Reader Study."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MAKER = Path(__file__).with_name("study_maker.py")
VIEWS = ("CTReaderStudyFirst", "CTReaderStudySecond")
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
    import slicer

    import slicerhost

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
    import slicer

    composite = slicer.app.layoutManager().sliceWidget(view).mrmlSliceCompositeNode()
    node = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID())
    return (int(slicer.util.arrayFromVolume(node)[0, 0, 0]) - 100) // 10
