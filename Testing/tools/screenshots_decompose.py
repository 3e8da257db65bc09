"""Write the pictures of CT Decompose: the real panel beside slice views of the real scene.

    python Testing/tools/screenshots_decompose.py [--scan FILE.ctproj.h5] [--out docs/pictures]

Without a scan, that of the drawn chest with contrast medium is simulated. Needs `pip install '.[panel]'`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from screenshots import REPOSITORY, apply, fit, opened, picture

SLICES, VIEWS, COLUMNS, MATRIX = 2, 720, 640, 256
SOFT = 1
FIRST, SECOND = "CTEnhanceBefore", "CTEnhanceAfter"
FOUR = (FIRST, "CTEnhanceAfter", "CTEnhanceDifference", "CTEnhanceFourth")
# Sizes of views beside the panel, in pixels.
OF_TWO, OF_FOUR, OF_ONE = (520, 880), (480, 400), (800, 880)


def main() -> None:
    """Click through the panel and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scan", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "pictures")
    arguments = parser.parse_args()
    app, panel = opened("CTDecompose")
    import slicer

    ui = panel.ui
    ui.kernelSelector.currentIndex = SOFT
    if arguments.scan is not None:
        ui.pathEdit.text = str(arguments.scan)
    else:
        ui.sourceSelector.currentIndex, ui.phantomSelector.currentIndex = 1, 1
        ui.slicesBox.value, ui.viewsBox.value, ui.columnsBox.value = SLICES, VIEWS, COLUMNS
        ui.matrixBox.value = MATRIX
    apply(app, ui)
    ui.materialRangeSlider.value = 8
    ui.spectralMediastinumButton.click()
    fit(app, FOUR, *OF_FOUR)
    picture(app, FOUR, panel.parent, arguments.out / "panel-decompose.png", rows=2)
    ui.spectralModeSelector.currentIndex = 1
    ui.energySlider.value = 50
    fit(app, (FIRST, SECOND), *OF_TWO)
    ui.spectralRegionButton.click()
    for region in slicer.util.getNodesByClass("vtkMRMLMarkupsROINode"):
        region.GetDisplayNode().SetHandlesInteractive(False)  # off the screen they lie beside the box
    for _ in range(5):  # the table needs room
        app.processEvents()
    picture(app, (FIRST, SECOND), panel.parent, arguments.out / "panel-decompose-energies.png")
    ui.lowNoiseBox.click()
    app.processEvents()
    picture(app, (FIRST, SECOND), panel.parent, arguments.out / "panel-decompose-low-noise.png")
    ui.lowNoiseBox.click()
    ui.spectralRegionButton.click()
    ui.spectralModeSelector.currentIndex = 2
    ui.softTissueButton.click()
    fit(app, (FIRST,), *OF_ONE)
    picture(app, (FIRST,), panel.parent, arguments.out / "panel-decompose-overlay.png")


if __name__ == "__main__":
    main()
