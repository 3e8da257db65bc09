"""The tests of CTEnhanceLib on the real MRML scene: an empty one for each test."""

from __future__ import annotations

from typing import Any

import pytest

from panel_packages import MISSING, pytest_pycollect_makemodule

__all__ = ["pytest_pycollect_makemodule"]

if not MISSING:
    import slicerhost

    slicerhost.start()


@pytest.fixture(autouse=True)
def scene() -> Any:
    import slicer

    slicer.mrmlScene.Clear(False)
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear(False)
