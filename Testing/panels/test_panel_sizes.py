"""All panels have one width and reach their buttons; what they say is read on light and on dark themes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from panel_run import close_panel, lower_edge, open_panel

PANELS = ("CTEnhance", "CTReconstruct", "CTDecompose", "CTReaderStudy")
# In a window of 1000 pixels menus, tool bars, the panel's head and the Data Probe take the rest.
HEIGHT = 700
# Below them nothing has to be pressed.
BUTTONS = {
    "CTEnhance": ("applyButton", "compareButton", "flickerButton", "squareButton"),
    "CTReconstruct": ("applyButton", "stagesButton", "compareButton", "squareButton"),
    "CTDecompose": ("applyButton", "spectralButton", "spectralRegionButton", "addVolumeButton"),
    "CTReaderStudy": ("signInButton",),
}
DARK = {
    "Window": "#353535",
    "WindowText": "#F0F0F0",
    "Base": "#2A2A2A",
    "Text": "#F0F0F0",
    "Button": "#353535",
    "ButtonText": "#F0F0F0",
    "Highlight": "#4BA6FF",
    "HighlightedText": "#FFFFFF",
}


@pytest.fixture
def opened(app: Any) -> Iterator[Any]:
    """Open a panel, laid out in its own width, as in a scene that no other test has left anything in."""
    import slicer

    panels = []
    for node in list(slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")):
        slicer.mrmlScene.RemoveNode(node)
    slicer.mrmlScene.Clear(0)

    def open_(name: str) -> Any:
        panel = open_panel(name)
        panels.append(panel)
        widget = panel.parent
        width = QtWidgets.QWidget.minimumSizeHint(widget).width()
        layout = QtWidgets.QWidget.layout(widget)
        QtWidgets.QWidget.resize(widget, width, layout.totalHeightForWidth(width))
        for _ in range(3):
            app.processEvents()
        return panel

    yield open_
    for panel in panels:
        close_panel(panel)


def test_one_width_for_all(opened: Any) -> None:
    widths = set()
    for name in PANELS:
        widget = opened(name).parent
        hints = QtWidgets.QWidget.minimumSizeHint(widget), QtWidgets.QWidget.sizeHint(widget)
        margins = QtWidgets.QWidget.layout(widget).contentsMargins()  # the application has none
        widths |= {hint.width() - margins.left() - margins.right() for hint in hints}
    assert widths == {420}


@pytest.mark.parametrize("name", PANELS)
def test_nothing_is_cut_in_that_width(opened: Any, name: str) -> None:
    panel = opened(name)
    children = QtWidgets.QWidget.findChildren(panel.parent, QtWidgets.QWidget)
    seen = [child for child in children if QtWidgets.QWidget.isVisible(child)]
    assert len(seen) > 5
    for child in seen:
        if isinstance(child, QtWidgets.QPushButton | QtWidgets.QLabel):
            text = QtWidgets.QLabel.text(child) if isinstance(child, QtWidgets.QLabel) else child.text
            if isinstance(child, QtWidgets.QLabel) and QtWidgets.QLabel.wordWrap(child):
                continue
            needed = QtGui.QFontMetrics(QtWidgets.QWidget.font(child)).horizontalAdvance(text)
            assert QtWidgets.QWidget.width(child) >= needed, text


@pytest.mark.parametrize("name", PANELS)
def test_buttons_are_reached_without_scrolling(opened: Any, app: Any, name: str) -> None:
    panel = opened(name)
    if name == "CTReconstruct":  # while the sample is offered, the lower ones cannot be pressed yet
        panel.ui.pathEdit.text = "scan.ctproj.h5"
        app.processEvents()
        assert not panel.ui.sampleButton.visible
    for button in BUTTONS[name]:
        assert lower_edge(panel, getattr(panel.ui, button)) <= HEIGHT, button


def contrast(one: QtGui.QColor, other: QtGui.QColor) -> float:
    """Return the ratio of WCAG 2 between two colours."""

    def light(color: QtGui.QColor) -> float:
        parts = np.array([color.redF(), color.greenF(), color.blueF()])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_said_can_be_read(app: Any, theme: str) -> None:
    import qt

    from CTEnhanceLib.panel import styles

    kept = QtWidgets.QApplication.palette()
    palette = QtGui.QPalette(kept)
    for role, color in DARK.items() if theme == "dark" else ():
        palette.setColor(getattr(QtGui.QPalette.ColorRole, role), QtGui.QColor(color))
    QtWidgets.QApplication.setPalette(palette)
    try:
        ground = palette.color(QtGui.QPalette.ColorRole.Window)
        for style in (styles.warning(), styles.failure(), styles.current()):
            color = QtGui.QColor(style.partition("color: ")[2].partition(";")[0])
            assert contrast(color, ground) >= 4.5, style
        root = qt.QWidget()
        kinds = (qt.QLineEdit, qt.QSpinBox, qt.QPushButton, qt.QLabel)
        field, box, button, label = made = [kind() for kind in kinds]
        for widget in made:
            QtWidgets.QWidget.setParent(widget, root)
        styles.prepareColors([root], [field])
        roles, off = QtGui.QPalette.ColorRole, QtGui.QPalette.ColorGroup.Disabled
        shown = QtWidgets.QWidget.palette(field)
        assert contrast(shown.color(roles.PlaceholderText), shown.color(roles.Base)) >= 4.5
        assert contrast(shown.color(roles.HighlightedText), shown.color(roles.Highlight)) >= 4.5
        words = {field: roles.Text, box: roles.Text, button: roles.ButtonText, label: roles.WindowText}
        for widget, role in words.items():
            shown = QtWidgets.QWidget.palette(widget)
            for place in (roles.Window, roles.Button, roles.Base):
                if role is not roles.WindowText or place is roles.Window:
                    assert contrast(shown.color(off, role), palette.color(place)) >= 4.5, (widget, place)
            assert shown.color(off, role) != palette.color(role)  # it is seen to be off all the same
    finally:
        QtWidgets.QApplication.setPalette(kept)


def test_a_pressed_button_looks_pressed(app: Any) -> None:
    import qt

    from CTEnhanceLib.panel import styles

    button = qt.QPushButton("Compare")
    button.checkable = True
    styles.prepareWidgets([button])
    button.resize(120, 30)

    def looks() -> np.ndarray:
        image = QtWidgets.QWidget.grab(button).toImage().convertToFormat(QtGui.QImage.Format.Format_RGB888)
        data = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
        return data[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).astype(float).copy()

    released = looks()
    button.checked = True
    pressed = looks()
    assert np.abs(pressed[15, 8] - released[15, 8]).max() > 80
    words, ground = (pick(pressed.reshape(-1, 3), axis=0) for pick in (np.max, np.median))
    assert contrast(*(QtGui.QColor(*color.astype(int).tolist()) for color in (words, ground))) >= 4.5


def test_tab_reaches_lists_of_nodes(app: Any) -> None:
    """As in the application, a list of nodes has its focus given to a widget that takes none."""
    import qt

    from CTEnhanceLib.panel import styles

    nodes, box = slicer.qMRMLNodeComboBox(), qt.QComboBox()
    QtWidgets.QWidget.setParent(box, nodes)
    QtWidgets.QWidget.setFocusProxy(box, nodes)
    styles.prepareWidgets([nodes])
    assert QtWidgets.QWidget.focusProxy(box) is None


@pytest.mark.parametrize("typed", ["0,7", "0.7"])
def test_a_decimal_comma_is_a_point(app: Any, typed: str) -> None:
    import qt
    from PySide6 import QtTest

    from CTEnhanceLib.panel import styles

    box = qt.QDoubleSpinBox()
    QtWidgets.QWidget.setLocale(box, QtCore.QLocale.c())  # as Slicer has it
    styles.prepareWidgets([box])
    box.value = 1.0
    QtWidgets.QDoubleSpinBox.selectAll(box)
    QtTest.QTest.keyClicks(box, typed)
    QtTest.QTest.keyClick(box, QtCore.Qt.Key.Key_Return)
    assert box.value == pytest.approx(0.7)


def test_titles_are_read_on_any_image() -> None:
    """White letters, also where the image below is white: its ground is dark and dense enough."""
    from CTEnhanceLib.compare.modes import Mode
    from CTEnhanceLib.decompose.views import Mode as Spectral
    from CTEnhanceLib.reconstruct import stages
    from CTEnhanceLib.views import title

    views = [view for mode in Mode for view in mode.views()]
    views += [view for mode in Spectral for view in mode.views("iodine")]
    views += [*stages.stageViews().values(), stages.sinogramView()]
    for view in views:
        dark = [title._DARKER * part * title._OPACITY + 1 - title._OPACITY for part in view.rgb()]
        assert contrast(QtGui.QColor("white"), QtGui.QColor.fromRgbF(*dark)) >= 4.5, view
