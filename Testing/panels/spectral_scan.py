"""A small spectral scan with what the library makes of it, and the panel CT Decompose, for several tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SIDE, SLICES = 40, 6
SMALL = ["--matrix", str(SIDE), "--views", "64", "--columns", "64", "--detector", "ideal"]
# What the library makes of the same scan, to compare with.
ENERGIES = ["--vmi", "50,70,130"]
IMAGES = [*ENERGIES, "--vnc", "--zeff", "--electron-density", "--errors", "--guided-maps"]


@pytest.fixture(scope="session")
def spectral_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan, and what the command line makes of it."""
    folder = tmp_path_factory.mktemp("decompose")
    for arguments in (
        ["simulate", "scan.ctproj.h5", "--slices", str(SLICES), *SMALL],
        ["decompose", "scan.ctproj.h5", "maps", *IMAGES, "--report", "made.json"],
        ["decompose", "scan.ctproj.h5", "quiet", *ENERGIES, "--low-noise"],
        ["simulate", "two.ctproj.h5", "--thresholds", "20", *SMALL],
    ):
        # In a process of its own: PySide6 reads the source of every module that is imported beside it.
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "CTEnhance")}
        command = [sys.executable, "-m", "ctenhance", *arguments, "--progress", "none"]
        subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def spectral_panel(app: Any) -> Iterator[Any]:
    """The panel, opened."""
    from panel_run import close_panel, open_panel

    opened = open_panel("CTDecompose")
    ui = opened.ui
    ui.sourceSelector.currentIndex = 0
    ui.energySlider.value, ui.secondEnergySlider.value = 70, 140
    yield opened
    opened.runSection.kill()
    opened.ui.spectralButton.checked = False
    opened.ui.curveBox.checked = False
    opened.ui.spectralModeSelector.currentIndex = 0
    close_panel(opened)


def widget(view: str) -> Any:
    """Return the widget of a view."""
    import slicer

    return slicer.app.layoutManager().sliceWidget(view)


def shown(view: str) -> Any:
    """Return the volume in the background of a view."""
    import slicer

    return slicer.mrmlScene.GetNodeByID(widget(view).mrmlSliceCompositeNode().GetBackgroundVolumeID())


def exhausted(steps: Any) -> Any:
    """Go through a generator and return what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def resliced(view: str) -> np.ndarray:
    """Return what a view shows of its background, in the units of the volume."""
    from vtk.util import numpy_support

    logic = widget(view).sliceLogic().GetBackgroundLayer()
    reslice = logic.GetReslice()
    reslice.Update()
    values = numpy_support.vtk_to_numpy(reslice.GetOutput().GetPointData().GetScalars())
    return np.array(values, dtype=np.float64)


def compared(view: str, node: Any) -> float:
    """Return the largest difference between what a view shows and another volume in the same view."""
    # A third of a pixel aside: of pixels on the border of two voxels rounding decides which one they show.
    place = widget(view).mrmlSliceNode()
    origin = place.GetXYZOrigin()
    place.SetXYZOrigin(origin[0] + 0.33, origin[1] + 0.33, origin[2])
    own = resliced(view)
    composite = widget(view).mrmlSliceCompositeNode()
    before = composite.GetBackgroundVolumeID()
    composite.SetBackgroundVolumeID(node.GetID())
    other = resliced(view)
    composite.SetBackgroundVolumeID(before)
    place.SetXYZOrigin(*origin)
    assert own.size == other.size and np.ptp(other) > 100
    return float(np.abs(own - other).max())


def shown_result(panel: Any, made: Path, guided: bool = True) -> Any:
    """Place the decomposition of the scan as a run does, and show it; without waiting for a run.

    Without `guided`, it is one of a version that made no guided maps.
    """
    import slicer

    from CTEnhanceLib.decompose.job import DecomposeJob
    from CTEnhanceLib.process import transfer

    job = DecomposeJob(made / "scan.ctproj.h5")
    kinds = ("", "_sd", "_guided") if guided else ("", "_sd")
    names = [f"{material}{kind}" for kind in kinds for material in ("water", "iodine")]
    exhausted(job.load({name: made / "maps" / f"{name}.nii.gz" for name in names}))
    assert transfer.temporaryRoot().is_dir()
    report = json.loads((made / "made.json").read_text(encoding="utf-8"))
    if not guided:
        del report["details"]["viewing"]["quiet_keV"]
    node = job.place(report)
    panel._onResult(node)
    slicer.app.processEvents()
    return node


@pytest.fixture
def spectral_result(spectral_panel: Any, spectral_files: Path) -> Any:
    """The decomposition of the scan as a run places it, shown."""
    return shown_result(spectral_panel, spectral_files)


@pytest.fixture
def reference(spectral_files: Path) -> Callable[..., Any]:
    """Give an image that the library made, as a node of the scene."""

    def load(name: str, folder: str = "maps") -> Any:
        from CTEnhanceLib.process import transfer
        from CTEnhanceLib.scene import placing

        loaded = exhausted(transfer.readNifti(spectral_files / folder / f"{name}.nii.gz"))
        return placing.addVolume(loaded.image, loaded.ijkToRAS, name, [])

    return load
