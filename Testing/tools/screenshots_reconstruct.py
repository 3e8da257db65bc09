"""Write the pictures of CT Reconstruct: the real panel beside slice views of the real scene.

    python Testing/tools/screenshots_reconstruct.py [--projection-model FILE --image-model FILE] [--ct FILE]

A scan of the middle slices of the sample phantom (or of a CT) is simulated at a tenth of the dose and
reconstructed, by the default models where none are given. Needs `pip install '.[panel]'`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from screenshots import REPOSITORY, SAMPLE, apply, fit, opened, picture

DOSE_PERCENT, SLICES = 10, 3
STAGES = ("CTEnhanceBefore", "CTEnhanceAfter", "CTEnhanceDifference")
SINOGRAM = "CTEnhanceFourth"
# With the sinogram there is less width for each view; the height is that of the panel.
OF_THREE, OF_FOUR, HEIGHT = 400, 330, 860


def middle(node: Any, slices: int) -> Any:
    """Return a volume node with the middle slices only."""
    import slicer

    array = slicer.util.arrayFromVolume(node)
    first = (len(array) - slices) // 2
    few = slicer.util.addVolumeFromArray(array[first : first + slices].copy(), name="Chest CT")
    few.CopyOrientation(node)
    few.CreateDefaultDisplayNodes()
    return few


def main() -> None:
    """Click through the panel and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ct", type=Path, default=SAMPLE)
    parser.add_argument("--projection-model", type=Path, default=None)
    parser.add_argument("--image-model", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "pictures")
    arguments = parser.parse_args()
    app, panel = opened("CTReconstruct")
    import qt
    import slicer

    ui = panel.ui
    for model, button in (
        (arguments.projection_model, ui.projectionModelBrowseButton),
        (arguments.image_model, ui.imageModelBrowseButton),
    ):
        if model is not None:
            qt.QFileDialog.chosen = str(model)
            button.click()
    ui.sourceSelector.currentIndex = 1
    ui.inputSelector.setCurrentNode(middle(slicer.util.loadVolume(str(arguments.ct)), SLICES))
    ui.doseSlider.value = DOSE_PERCENT
    apply(app, ui)
    ui.mediastinumButton.click()
    fit(app, STAGES, OF_THREE, HEIGHT)
    picture(app, STAGES, panel.parent, arguments.out / "panel-reconstruct.png")
    ui.sinogramBox.checked = True
    ui.overlaySelector.currentIndex = 1
    fit(app, (*STAGES, SINOGRAM), OF_FOUR, HEIGHT)
    picture(app, (*STAGES, SINOGRAM), panel.parent, arguments.out / "panel-reconstruct-checked.png")


if __name__ == "__main__":
    main()
