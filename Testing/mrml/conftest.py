"""The tests of CTEnhanceLib on the real MRML scene: an empty one for each test."""

from __future__ import annotations

import os
from typing import Any

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("OMP_NUM_THREADS", "1")
pytest.importorskip("slicer", reason="slicer-core is not installed (pip install '.[panel]')")
pytest.importorskip("PySide6", reason="PySide6 is not installed (pip install '.[panel]')")

import slicerhost

slicerhost.start()


@pytest.fixture(autouse=True)
def scene() -> Any:
    import slicer

    slicer.mrmlScene.Clear(False)
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear(False)
