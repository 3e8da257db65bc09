"""By keyboard alone: Tab reaches all that can be used, line by line, and each has a name to be read out; keys
scroll, zoom and walk through the patient, and measure there."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import slicer
from PySide6 import QtCore, QtGui, QtTest, QtWidgets
from reading import Maker, Reader
from test_enhance_viewing import AFTER, BEFORE, SPACING, addCT, addResult, choose, widget

from panel_run import close_panel, open_panel, press_key

PANELS = ("CTEnhance", "CTReconstruct", "CTDecompose")
USED = (
    QtWidgets.QAbstractButton,
    QtWidgets.QComboBox,
    QtWidgets.QLineEdit,
    QtWidgets.QAbstractSpinBox,
    QtWidgets.QSlider,
    QtWidgets.QTextEdit,
    QtWidgets.QAbstractItemView,
)
MOST = 150  # presses of Tab


def usable(root: Any) -> list[Any]:
    """Return what can be used of a window now, but for the parts of which lists and fields are made."""
    found = []
    for each in QtWidgets.QWidget.findChildren(root, QtWidgets.QWidget):
        parent = QtWidgets.QWidget.parentWidget(each)
        inner = isinstance(parent, QtWidgets.QComboBox | QtWidgets.QAbstractSpinBox | QtWidgets.QTableView)
        there = QtWidgets.QWidget.isVisible(each) and QtWidgets.QWidget.isEnabled(each)
        if isinstance(each, USED) and there and not inner:
            found.append(each)
    return found


def walked(user: Any, root: Any) -> list[Any]:
    """Press Tab from the first widget on until it has the focus again; return all that had it."""
    QtWidgets.QWidget.activateWindow(root)
    user.waits(lambda: QtWidgets.QWidget.isActiveWindow(root), 60)
    first = usable(root)[0]
    QtWidgets.QWidget.setFocus(first)
    found: list[Any] = [first]
    for _ in range(MOST):
        QtTest.QTest.keyClick(QtWidgets.QApplication.focusWidget(), QtCore.Qt.Key.Key_Tab)
        focused = QtWidgets.QApplication.focusWidget()
        if focused is first:
            return found
        found.append(focused)
    raise AssertionError(f"Tab never came back: {found[-5:]}")


def spoken(each: Any) -> str:
    """Return what a screen reader says of a widget."""
    return QtGui.QAccessible.queryAccessibleInterface(each).text(QtGui.QAccessible.Text.Name)


def place(each: Any, root: Any) -> tuple[int, int]:
    middle = QtWidgets.QWidget.rect(each).center()
    at = QtWidgets.QWidget.mapTo(each, root, middle)
    return at.y(), at.x()


def check(user: Any, root: Any) -> None:
    """Tab reaches all that can be used, in reading order, and each has its own name."""
    reached, needed = walked(user, root), usable(root)
    assert len(needed) > 2
    missed = [each for each in needed if each not in reached]
    assert not missed, [QtCore.QObject.objectName(each) for each in missed]
    for each in needed:
        assert len(spoken(each).strip()) > 1, QtCore.QObject.objectName(each)
    order = [place(each, root) for each in reached if each in needed]
    line = 12  # pixels: what stands beside one another
    for one, other in itertools.pairwise(order):
        assert other[0] > one[0] + line or (abs(other[0] - one[0]) <= line and other[1] > one[1]), order


@pytest.fixture
def opened(app: Any, user: Any) -> Iterator[Any]:
    """Open panels as high as they are."""
    panels = []

    def open_(name: str) -> Any:
        panel = open_panel(name)
        panels.append(panel)
        return panel

    yield open_
    for panel in panels:
        close_panel(panel)


def laidOut(panel: Any, app: Any) -> Any:
    whole = panel.parent
    for _ in range(3):
        app.processEvents()
        width = QtWidgets.QWidget.minimumSizeHint(whole).width()
        QtWidgets.QWidget.resize(whole, width, QtWidgets.QWidget.layout(whole).totalHeightForWidth(width))
    return whole


@pytest.mark.parametrize("name", PANELS)
def test_tab_reaches_all_of_an_empty_panel(opened: Any, app: Any, user: Any, name: str) -> None:
    check(user, laidOut(opened(name), app))


def test_a_study_is_begun_and_left_by_keys(reader: Reader, make: Maker, app: Any, user: Any) -> None:
    ui = reader.ui
    ui.folderEdit.currentPath = str(make(cases=2))
    ui.readerSelector.currentIndex = 1
    app.processEvents()
    check(user, reader.panel.parent)
    QtWidgets.QWidget.setFocus(ui.folderEdit)
    reader.presses("Tab", "Tab", "Space")
    reader.sees()
    assert reader.desk.session is not None
    for name in ("windowSelector", "previousButton", "nextButton", "pauseButton", "signOutButton"):
        assert len(spoken(getattr(ui, name)).strip()) > 1, name  # each has a key of its own
    reader.presses("Ctrl+Shift+Return")
    assert reader.desk.session is None and ui.signInSection.visible


@pytest.mark.parametrize("source", [0, 1, 2])
def test_tab_reaches_the_rows_of_each_source(opened: Any, app: Any, user: Any, source: int) -> None:
    panel = opened("CTDecompose")
    panel.ui.sourceSelector.currentIndex = source
    panel.ui.advancedCollapsibleButton.collapsed = False
    try:
        check(user, laidOut(panel, app))
    finally:  # other tests find the panel as it was
        panel.ui.sourceSelector.currentIndex = 0
        panel.ui.advancedCollapsibleButton.collapsed = True


@pytest.fixture
def compared(panel: Any, user: Any) -> Any:
    """Two results beside their input, of two scans, the first one shown."""
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetSingletonTag("default")  # the application has one
    slicer.mrmlScene.AddNode(crosshair)
    ct = addCT()
    user.turn()
    result = addResult(ct)
    addResult(ct, "two")
    choose(panel, user, result)
    panel.ui.viewModeSelector.currentIndex = 0
    panel.ui.compareButton.click()
    user.rests(0.4)
    yield result
    panel.ui.crosshairButton.checked = True
    panel.ui.viewModeSelector.currentIndex = 0


@pytest.mark.parametrize("mode", range(5))
def test_tab_reaches_all_of_a_comparison(panel: Any, app: Any, user: Any, compared: Any, mode: int) -> None:
    panel.ui.viewModeSelector.currentIndex = mode
    for key in ("O", "Q"):
        press_key(user, key)
    panel.ui.slabSelector.currentIndex = 1
    user.rests(0.2)
    check(user, laidOut(panel, app))
    panel.ui.slabSelector.currentIndex = 0


def test_tab_reaches_all_of_the_batch(panel: Any, app: Any, user: Any) -> None:
    panel.ui.batchButton.click()
    window = panel.batchWindow.dialog
    app.processEvents()
    check(user, window)
    window.hide()


def offset(view: str) -> float:
    return float(widget(view).sliceLogic().GetSliceOffset())


def test_keys_scroll_and_zoom_all_views(panel: Any, user: Any, compared: Any) -> None:
    begun, fields = offset(BEFORE), widget(AFTER).mrmlSliceNode().GetFieldOfView()
    for key, slices in (("K", 1), ("K", 2), ("J", 1), ("Shift+K", 6), ("Shift+J", -4)):
        press_key(user, key)
        steps = [(offset(view) - begun) / SPACING[2] for view in (BEFORE, AFTER)]
        assert steps[0] == steps[1]
        assert steps[0] == pytest.approx(slices) or abs(slices) > 3  # the volume ends there
    press_key(user, "Ctrl++")
    assert widget(AFTER).mrmlSliceNode().GetFieldOfView()[0] == pytest.approx(fields[0] / 1.25)
    press_key(user, "Ctrl+-")
    for view in (BEFORE, AFTER):
        assert widget(view).mrmlSliceNode().GetFieldOfView() == pytest.approx(fields)


def test_a_region_begins_where_keys_have_led(panel: Any, user: Any, compared: Any) -> None:
    from CTEnhanceLib.measure import shapes
    from CTEnhanceLib.views import crosshair

    node = widget(BEFORE).mrmlSliceNode()
    middle = np.array(slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())[:3, 3])
    step = 0.02 * node.GetFieldOfView()[0]
    keys = ["Up"] + ["Right"] * 4 + ["Down"] * 2
    for key in keys:  # the first one puts the crosshair into the middle
        press_key(user, f"Ctrl+Shift+{key}")
    press_key(user, "K")
    right, up, on = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())[:3, :3].T
    expected = middle + 4 * step * right - 2 * step * up + SPACING[2] * on
    found = crosshair.shownIn(node)
    assert found is not None and panel.ui.crosshairButton.checked
    np.testing.assert_allclose(found, expected, atol=0.6 * SPACING[2])
    np.testing.assert_allclose(found @ right, expected @ right, atol=0.1)
    press_key(user, "O")
    (region,) = shapes.regions()
    centre = slicer.util.arrayFromMarkupsControlPoints(region).mean(axis=0)
    np.testing.assert_allclose(centre, found, atol=1e-3)
    before = centre.copy()
    for key in ("Shift+Right", "Shift+Up"):
        press_key(user, key)
    moved = slicer.util.arrayFromMarkupsControlPoints(region).mean(axis=0) - before
    np.testing.assert_allclose(moved, 0.01 * node.GetFieldOfView()[0] * (right + up), atol=1e-3)
    press_key(user, "H")
    assert crosshair.shownIn(node) is None
    press_key(user, "Q")  # without a crosshair in the middle of the view, in the slice that is shown
    square = shapes.regions()[1]
    assert abs((np.array(square.GetCenter()) - middle) @ right) < 40


def test_walking_stays_in_the_volume_and_in_sight(panel: Any, user: Any, compared: Any) -> None:
    from CTEnhanceLib.views import crosshair

    for _ in range(4):
        press_key(user, "Ctrl++")
    for _ in range(20):
        press_key(user, "Ctrl+Shift+Right")
        assert crosshair.shownIn(widget(BEFORE).mrmlSliceNode()) is not None
        assert crosshair.shownIn(widget(AFTER).mrmlSliceNode()) is not None
    bounds = [0.0] * 6
    compared.GetRASBounds(bounds)
    for _ in range(40):
        press_key(user, "Ctrl+Shift+Right")
    place = crosshair.shownIn(widget(BEFORE).mrmlSliceNode())
    assert place is not None and bounds[0] < place[0] < bounds[1]
    for _ in range(20):
        press_key(user, "K")
    place = crosshair.shownIn(widget(BEFORE).mrmlSliceNode())
    assert place is not None and bounds[4] < place[2] < bounds[5]


def test_a_free_region_is_drawn_by_keys(panel: Any, user: Any, compared: Any) -> None:
    from CTEnhanceLib.measure import roi, shapes

    press_key(user, "I")
    assert not shapes.regions()  # where there is no crosshair there is no point
    press_key(user, "Ctrl+Shift+Up")
    corners = [(), ("Right",) * 5, ("Down",) * 5, ("Left",) * 5]
    for way in corners:
        for key in way:
            press_key(user, f"Ctrl+Shift+{key}")
        press_key(user, "I")
    (region,) = shapes.regions()
    assert region.GetNumberOfControlPoints() == 4
    user.waits(lambda: not panel.compareSection.measuring.pending, 30)
    side = 5 * 0.02 * widget(BEFORE).mrmlSliceNode().GetFieldOfView()[0]
    assert roi.areaOf(region) > 0.9 * side**2 and "free" in panel.ui.regionTable.text
    press_key(user, "Shift+I")
    assert [each.GetNumberOfControlPoints() for each in shapes.regions()] == [4, 1]


SILENT = (QtGui.QAccessible.Role.NoRole, QtGui.QAccessible.Role.Client, QtGui.QAccessible.Role.Pane)


@pytest.mark.parametrize("name", [*PANELS, "CTReaderStudy"])
def test_all_that_a_panel_has_says_what_it_is_to_a_screen_reader(opened: Any, app: Any, name: str) -> None:
    """Also what cannot be used now, or is folded away; and what fills up while a run goes on."""
    panel = opened(name)
    window = getattr(panel, "batchWindow", None)
    roots = [panel.parent, *([] if window is None else [window.dialog])]
    for root in roots:
        controls = [
            each
            for each in QtWidgets.QWidget.findChildren(root, QtWidgets.QWidget)
            if isinstance(each, (*USED, QtWidgets.QProgressBar)) and not isPart(each)
        ]
        assert len(controls) > 5
        lacking = []
        for each in controls:
            found = QtGui.QAccessible.queryAccessibleInterface(each)
            if found.role() in SILENT or len(found.text(QtGui.QAccessible.Text.Name).strip()) < 2:
                lacking.append((QtCore.QObject.objectName(each), type(each).__name__))
        assert not lacking


def test_no_class_of_qt_is_taken_for_derived_from_another() -> None:
    """It is not, to the application's PythonQt, though it is here: `inherits` knows."""
    from CTEnhanceLib.process.worker import PACKAGE_FOLDER

    files = [*PACKAGE_FOLDER.glob("CT*.py"), *(PACKAGE_FOLDER / "CTEnhanceLib").rglob("*.py")]
    assert len(files) > 50
    bases = re.compile(r"isinstance\([^)]*qt\.(QAbstract\w+|QWidget|QObject|QFrame|QLayout)\b")
    assert not [path.name for path in files if bases.search(path.read_text(encoding="utf-8"))]


def test_names_for_screen_readers_are_whole_phrases(opened: Any) -> None:
    ui = opened("CTReconstruct").ui
    assert ui.matrixBox.accessibleName == "Matrix" and ui.seedBox.accessibleName == "Seed"
    assert ui.columnsBox.accessibleName == "Detector columns of the simulated scan"
    assert ui.fileButton.accessibleName == "Choose a projection file"


def isPart(each: Any) -> bool:
    """Say whether a widget is a part of a list, field or table that speaks for it."""
    whole = QtWidgets.QComboBox | QtWidgets.QAbstractSpinBox | QtWidgets.QAbstractItemView
    while not QtWidgets.QWidget.isWindow(each):
        each = QtWidgets.QWidget.parentWidget(each)
        if each is None or isinstance(each, whole):
            return each is not None
    return bool(
        QtWidgets.QWidget.windowFlags(each) & QtCore.Qt.WindowType.Popup == QtCore.Qt.WindowType.Popup
    )
