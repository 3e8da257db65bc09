"""A small spectral scan with what the library makes of it, and the panel CT Decompose, for several tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SIDE, SLICES = 40, 6
SMALL = ["--matrix", str(SIDE), "--views", "64", "--columns", "64", "--detector", "ideal"]
# What the library makes of the same scan, to compare with.
IMAGES = ["--vmi", "50,70,130", "--vnc", "--zeff", "--electron-density", "--errors"]


@pytest.fixture(scope="session")
def spectral_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan, and what the command line makes of it."""
    folder = tmp_path_factory.mktemp("decompose")
    for arguments in (
        ["simulate", "scan.ctproj.h5", "--slices", str(SLICES), *SMALL],
        ["decompose", "scan.ctproj.h5", "maps", *IMAGES, "--report", "made.json"],
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
    ui.sourceSelector.currentIndex = ui.orientationSelector.currentIndex = 0
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
