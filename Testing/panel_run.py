"""What the tests of several panels do alike: press Apply, wait, see what is left in scene and on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

import slicerhost


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
