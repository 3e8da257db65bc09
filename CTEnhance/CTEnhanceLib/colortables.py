"""Colour tables of our own, each once in a scene, hidden and not saved."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

# An odd number, so that one colour stands in the very middle.
_COUNT = 255
_BLUE, _RED = (0.13, 0.29, 0.67), (0.70, 0.10, 0.16)
_YELLOW = (1.0, 0.87, 0.25)


def table(tag: str, name: str, colors: np.ndarray) -> Any:
    """Return the colour node with this singleton tag; made of RGBA rows in 0..1 where there is none yet."""
    found = slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLColorTableNode")
    if found is not None:
        return found
    node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLColorTableNode")
    node.UnRegister(None)
    node.SetName(name)
    node.SetSingletonTag(tag)
    node.SetTypeToUser()
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    node.SetNumberOfColors(len(colors))
    for index, color in enumerate(colors.tolist()):
        node.SetColor(index, *color)
    return slicer.mrmlScene.AddNode(node)


def signedOverlay() -> Any:
    """Blue below zero, red above, nothing at zero: for a map that lies over an image."""
    place = np.linspace(-1, 1, _COUNT)
    colors = np.where(place[:, None] > 0, _RED, _BLUE)
    return table("CTEnhanceSignedOverlay", _("CT signed overlay"), np.column_stack([colors, np.abs(place)]))


def unsignedOverlay() -> Any:
    """Nothing at zero, then yellow, then red."""
    place = np.linspace(0, 1, _COUNT)[:, None]
    colors = (1 - place) * np.array(_YELLOW) + place * np.array(_RED)
    return table("CTEnhanceUnsignedOverlay", _("CT overlay"), np.column_stack([colors, place]))
