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
# Below this part of the range a map is not shown.
SIGNED_CLEAR, UNSIGNED_CLEAR = 0.5, 0.1


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
    """Blue far below zero, red far above, nothing between, where it may be noise."""
    place = np.linspace(-1, 1, _COUNT)[:, None]
    full = np.where(place > 0, _RED, _BLUE)
    strength = np.clip((np.abs(place) - SIGNED_CLEAR) / (1 - SIGNED_CLEAR), 0, 1)
    colors = 1 - (0.5 + 0.5 * strength) * (1 - full)
    return table(
        "CTEnhanceSignedOverlay", _("CT signed overlay"), _clear(colors, np.abs(place), SIGNED_CLEAR)
    )


def unsignedOverlay() -> Any:
    """Nothing near zero, then yellow, then red."""
    place = np.linspace(0, 1, _COUNT)[:, None]
    colors = (1 - place) * np.array(_YELLOW) + place * np.array(_RED)
    return table("CTEnhanceUnsignedOverlay", _("CT overlay"), _clear(colors, place, UNSIGNED_CLEAR))


def _clear(colors: np.ndarray, size: np.ndarray, below: float) -> np.ndarray:
    """Return the colours with an alpha: slice views know clear and not clear, nothing between."""
    return np.column_stack([colors, size >= below])
