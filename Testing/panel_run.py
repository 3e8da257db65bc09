"""What tests and pictures of several panels do alike: open, press Apply, see what is left behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtWidgets

import slicerhost

REPOSITORY = Path(__file__).resolve().parents[1]


def open_panel(name: str) -> Any:
    """Open a module in the test host, as its selector does; return the panel."""
    slicerhost.start()
    if not hasattr(slicer.modules, name.lower()):
        slicerhost.addModule(REPOSITORY / "CTEnhance" / f"{name}.py")
    representation = getattr(slicer.modules, name.lower()).widgetRepresentation()
    representation._enter(True)
    representation.show()
    return representation.self()


def close_panel(panel: Any) -> None:
    """Open another module, as it were."""
    panel.parent._enter(False)


@contextlib.contextmanager
def low(height: int) -> Iterator[None]:
    """Show the panel in a scroll area of so many pixels, as Slicer does on small screens."""
    window = slicer.util.mainWindow()
    area = QtWidgets.QScrollArea()
    area.setWidgetResizable(True)
    area.setWidget(window.takeCentralWidget())
    window.setCentralWidget(area)
    area.setFixedHeight(height)
    try:
        yield
    finally:
        window.setCentralWidget(area.takeWidget())


def is_seen(widget: Any) -> bool:
    """Say whether all of a widget is in sight."""
    return bool(QtWidgets.QWidget.visibleRegion(widget).boundingRect().height() == widget.height)


def nodes() -> set[str]:
    """Identify what is in the scene, but for what each view and module keeps of its own."""
    found = slicer.util.getNodesByClass("vtkMRMLDisplayableNode") + slicer.util.getNodesByClass(
        "vtkMRMLTextNode"
    )
    kept = ("vtkMRMLModelNode", "vtkMRMLLinearTransformNode", "vtkMRMLCameraNode")
    return {node.GetID() for node in found if node.GetClassName() not in kept}


def temporaries() -> list[Path]:
    return list(Path(slicer.app.temporaryPath).glob("ctenhance-*"))


def press_apply(panel: Any, user: Any, *seconds: float) -> None:
    """Press Apply and wait until the run has ended well."""
    assert panel.ui.applyButton.enabled, panel.ui.applyButton.toolTip
    panel.ui.applyButton.click()
    assert panel.ui.applyButton.text == "Cancel"
    user.waits(lambda: panel.ui.applyButton.text == "Apply", *seconds)
    assert not slicerhost.messages, slicerhost.messages


def lower_edge(panel: Any, widget: Any) -> int:
    """Lay a panel out in its own width; return how far below its top a widget ends, in pixels."""
    from PySide6 import QtCore, QtWidgets

    whole = panel.parent
    width = QtWidgets.QWidget.minimumSizeHint(whole).width()
    for _ in range(3):  # each turn, a widget tells the next one that its rows have changed
        slicer.app.processEvents()
        height = QtWidgets.QWidget.layout(whole).totalHeightForWidth(width)
        QtWidgets.QWidget.resize(whole, width, height)
    assert QtWidgets.QWidget.isVisible(widget)
    place = QtCore.QPoint(0, QtWidgets.QWidget.height(widget))
    return int(QtWidgets.QWidget.mapTo(widget, whole, place).y())


def press_key(user: Any, key: str) -> None:
    """Press a key in the application's window."""
    from PySide6 import QtGui, QtTest, QtWidgets

    window = slicer.util.mainWindow()
    QtWidgets.QWidget.show(window)
    QtWidgets.QWidget.activateWindow(window)
    user.waits(lambda: QtWidgets.QWidget.isActiveWindow(window), 60)
    pressed = QtGui.QKeySequence(key)[0]
    QtTest.QTest.keyClick(window, pressed.key(), pressed.keyboardModifiers())
    user.turn()


def press_in(user: Any, widget: Any, key: str) -> None:
    """Press a key in a list, field or box that Tab has come to."""
    from PySide6 import QtGui, QtTest, QtWidgets

    QtWidgets.QWidget.setFocus(widget)
    pressed = QtGui.QKeySequence(key)[0]
    QtTest.QTest.keyClick(widget, pressed.key(), pressed.keyboardModifiers())
    user.turn()


def save_scene(path: Path) -> None:
    """Save the scene with all that has files of its own, as the application's dialog does."""
    endings = {"Volume": "nrrd", "Text": "txt", "Markups": "mrk.json", "Table": "tsv", "Color": "csv"}
    for node in slicer.util.getNodesByClass("vtkMRMLStorableNode"):
        ending = next((end for kind, end in endings.items() if node.IsA(f"vtkMRML{kind}Node")), None)
        if node.GetSaveWithScene() and ending is not None:
            node.AddDefaultStorageNode()
            if node.GetStorageNode() is None:  # short texts stand in the scene's own file
                continue
            name = node.GetName().replace("/", "_")
            node.GetStorageNode().SetFileName(str(path.with_name(f"{name}.{ending}")))
            assert node.GetStorageNode().WriteData(node)
    slicer.mrmlScene.SetRootDirectory(str(path.parent))
    assert slicer.mrmlScene.Commit(str(path)) and path.is_file()
