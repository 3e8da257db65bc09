"""Write the pictures of the panels: the real panel beside slice views of the real scene.

    python Testing/tools/screenshots.py [--ct FILE] [--model FILE] [--out docs/pictures]

Without a CT the sample phantom is shown, with more noise; without a model the default one, or where none is
installed an untrained network (the panel is what the picture is about). Needs `pip install '.[panel]'`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "Testing"), str(REPOSITORY / "CTEnhance")]
PANEL_WIDTH, SECONDS = 440, 900
VIEW_HEIGHT = 600
SAMPLE = REPOSITORY / "CTEnhance" / "Resources" / "SampleData" / "CTEnhanceChestPhantom.nrrd"


def wait(app: Any, until: Callable[[], bool]) -> None:
    """Let the application go on until it is so. Raises TimeoutError after a quarter of an hour."""
    end = time.monotonic() + SECONDS
    while not until():
        if time.monotonic() > end:
            raise TimeoutError("The panel did not finish; run it with a smaller CT.")
        app.processEvents()
        time.sleep(0.01)


def opened(name: str) -> tuple[Any, Any]:
    """Open a panel in the test host; return the application and the panel."""
    import slicer

    from panel_run import open_panel

    panel = open_panel(name)
    return slicer.app, panel


def apply(app: Any, ui: Any) -> None:
    """Press Apply and wait for the result; where there is none, end with the sentence that says why."""
    import slicerhost

    if not ui.applyButton.enabled:
        sys.exit(ui.applyButton.toolTip)
    ui.applyButton.click()
    wait(app, lambda: ui.applyButton.text == "Apply")
    if slicerhost.messages:
        sys.exit(slicerhost.messages[0][0])


def untrained(folder: Path) -> Path:
    """Write a small network that blurs a little (all its weights are small), as a weights file."""
    import torch

    from ctenhance.enhancement.networks import build
    from ctenhance.runtime import weights
    from ctenhance.runtime.weights import WeightsEntry

    torch.manual_seed(0)
    arguments = {"features": [8, 8, 8, 8, 8, 8]}
    path = folder / "untrained.safetensors"
    entry = WeightsEntry("untrained", "", "", "Apache-2.0", "nothing", "twin", arguments, "1", "")
    weights.save(path, build("twin", arguments).state_dict(), entry)
    return path


def grabbed(widget: Any, height: int) -> np.ndarray:
    """Return a widget's picture `[row, column, RGB]`."""
    from PySide6 import QtGui

    widget.resize(PANEL_WIDTH, height)
    image = widget.grab().toImage().convertToFormat(QtGui.QImage.Format.Format_RGB888)
    rows, columns, stride = image.height(), image.width(), image.bytesPerLine()
    data = np.frombuffer(image.constBits(), np.uint8, rows * stride).reshape(rows, stride)
    return data[:, : 3 * columns].reshape(rows, columns, 3).copy()


def labelled(view: Any) -> np.ndarray:
    """Return a slice view's picture under a bar in its colour with its label, as the application has it."""
    from PySide6 import QtCore, QtGui

    from view_pixels import pixels

    node, pixels = view.mrmlSliceNode(), np.ascontiguousarray(pixels(view))
    rows, columns, _ = pixels.shape
    bar = 24
    image = QtGui.QImage(columns, rows + bar, QtGui.QImage.Format.Format_RGB888)
    image.fill(QtGui.QColor.fromRgbF(*node.GetLayoutColor()))
    painter = QtGui.QPainter(image)
    painter.drawImage(0, bar, QtGui.QImage(pixels.data, columns, rows, 3 * columns, image.format()))
    painter.setPen(QtCore.Qt.GlobalColor.white)
    painter.drawText(8, 17, node.GetLayoutLabel())
    painter.end()
    data = np.frombuffer(image.constBits(), np.uint8).reshape(rows + bar, image.bytesPerLine())
    return data[:, : 3 * columns].reshape(rows + bar, columns, 3).copy()


def picture(app: Any, names: tuple[str, ...], widget: Any, path: Path, rows: int = 1) -> None:
    """Write the panel's widget with these views to its right, in so many rows."""
    from PIL import Image

    for _ in range(10):  # each turn, a widget tells the next one that its rows have changed
        app.processEvents()
    views = [labelled(app.layoutManager().sliceWidget(name).sliceView()) for name in names]
    if rows > 1:  # columns of views, with a gap between the rows
        spaced = [np.pad(view, ((0, 4), (0, 0), (0, 0))) for view in views]
        count = len(views) // rows
        views = [np.concatenate(spaced[column::count], axis=0) for column in range(count)]
    tiles = [grabbed(widget, views[0].shape[0]), *views]
    height = max(tile.shape[0] for tile in tiles)
    padded = [np.pad(tile, ((0, height - tile.shape[0]), (0, 4), (0, 0))) for tile in tiles]
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.concatenate(padded, axis=1))
    image.quantize(255, dither=Image.Dither.NONE).save(path, optimize=True)  # a third of the size
    print(path)


def noisy(node: Any) -> None:
    """Give the phantom the noise of a routine scan."""
    import slicer

    array = slicer.util.arrayFromVolume(node)
    noise = np.random.default_rng(0).normal(0, 35, array.shape)
    array[...] = np.clip(array + noise * (array > -1000), -1024, 3071)
    slicer.util.arrayFromVolumeModified(node)


def main() -> None:
    """Click through the panel and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ct", type=Path, default=None)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "pictures")
    arguments = parser.parse_args()
    app, panel = opened("CTEnhance")
    import qt
    import slicer

    ui = panel.ui
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or (None if ui.modelSelector.count else untrained(Path(folder)))
        if model is not None:
            qt.QFileDialog.chosen = str(model)
            ui.modelBrowseButton.click()
        node = slicer.util.loadVolume(str(arguments.ct or SAMPLE))
        node.SetName("Chest CT")
        if arguments.ct is None:
            noisy(node)
        ui.inputSelector.setCurrentNode(node)
        apply(app, ui)
        wait(app, lambda: not panel.runSection.running)
    names = ("CTEnhanceBefore", "CTEnhanceAfter", "CTEnhanceDifference")
    ui.viewModeSelector.currentIndex = 1
    ui.lungButton.click()
    fit(app, names, 440)
    picture(app, names, panel.parent, arguments.out / "panel-difference.png")
    ui.viewModeSelector.currentIndex = 0
    ui.mediastinumButton.click()
    fit(app, names[:2], 600)
    ui.squareButton.click()
    for region in slicer.util.getNodesByClass("vtkMRMLMarkupsROINode"):
        # Off the screen their size would be wrong: it follows the monitor's.
        region.GetDisplayNode().SetHandlesInteractive(False)
        # Into the left ventricle of the phantom.
        region.SetSize([20, 20, region.GetSize()[2]])
        region.SetCenter([a + b for a, b in zip(region.GetCenter(), (-40, 22, 0), strict=True)])
    wait(app, lambda: not panel.compareSection.measuring.pending)
    picture(app, names[:2], panel.parent, arguments.out / "panel-compare.png")


def fit(app: Any, names: tuple[str, ...], width: int, height: int = VIEW_HEIGHT) -> None:
    """Give the views their size and let the volume fill them, in the middle of the volume."""
    app.processEvents()  # a changed layout keeps its part of the volume once more when it is laid out
    for name in names:
        logic = app.layoutManager().sliceWidget(name).sliceLogic()
        logic.ResizeSliceNode(width, height)
        logic.FitSliceToBackground()
    app.processEvents()


if __name__ == "__main__":
    main()
