"""Colours: tables of our own, each once in a scene, hidden; saved where a saved volume is shown in them:
without them its slices are noise, also in a Slicer without the panels."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

# An odd number, so that one colour stands in the very middle.
_COUNT = 255
_ROUNDED = 0.01  # a table has bytes
_BLUE, _RED = (0.13, 0.29, 0.67), (0.70, 0.10, 0.16)
_YELLOW = (1.0, 0.87, 0.25)
# Red, green and blue by place.
_HEAT_PLACES = (0.35, 0.7, 1.0)
_HEAT = ((0.25, 0.85, 1.0, 1.0), (0.0, 0.25, 0.75, 1.0), (0.0, 0.05, 0.2, 0.9))
_SPECTRUM_PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)
_SPECTRUM = ((0.15, 0.10, 0.20, 0.95, 0.85), (0.20, 0.65, 0.75, 0.80, 0.10), (0.65, 0.80, 0.25, 0.15, 0.10))
# The atomic numbers that have colours of their own; what is less has the first one.
Z_LEAST, Z_MOST = 6.0, 14.0
_CHANGE_PLACES = (-1.0, -0.5, 0.0, 0.5, 1.0)
_CHANGE = ((0.70, 0.20, 0.10, 0.85, 1.00), (0.90, 0.50, 0.10, 0.30, 0.85), (1.00, 0.95, 0.10, 0.15, 0.60))
# Below this part of the range a map is not shown.
SIGNED_CLEAR, UNSIGNED_CLEAR, DENSITY_CLEAR, TRUST_CLEAR = 0.5, 0.1, 0.25, 0.6


def rgb(color: str) -> tuple[float, ...]:
    """Return red, green and blue of a colour as #RRGGBB, each 0 to 1, as VTK has them."""
    return tuple(int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))


def table(tag: str, name: str, colors: np.ndarray, saved: bool = False) -> Any:
    """Return the colour node with this singleton tag; made of RGBA rows in 0..1 where there is none yet."""
    node = slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLColorTableNode")
    if node is not None and _has(node, colors):
        return node
    if node is None:
        fresh = slicer.mrmlScene.CreateNodeByClass("vtkMRMLColorTableNode")
        fresh.UnRegister(None)
        fresh.SetName(name)
        fresh.SetSingletonTag(tag)
        fresh.SetHideFromEditors(True)
        _fill(fresh, colors)
        node = slicer.mrmlScene.AddNode(fresh)
    else:  # of a scene that was saved without the file of its colours
        _fill(node, colors)
    node.SetSaveWithScene(saved)
    for display in slicer.util.getNodesByClass("vtkMRMLVolumeDisplayNode"):
        if display.GetColorNodeID() == node.GetID():  # a scene without its tables: this comes too late for it
            display.SetAndObserveColorNodeID("")
            display.SetAndObserveColorNodeID(node.GetID())
    return node


def _has(node: Any, colors: np.ndarray) -> bool:
    """Say whether a table has these colours and knows that it has: others are not written to its file."""
    if node.GetNumberOfColors() != len(colors):
        return False
    found = [0.0] * 4
    for index in range(0, len(colors), len(colors) // 8):
        node.GetColor(index, found)
        if not node.GetColorDefined(index) or np.abs(np.subtract(found, colors[index])).max() > _ROUNDED:
            return False
    return True


def _fill(node: Any, colors: np.ndarray) -> None:
    with slicer.util.NodeModify(node):  # told of once: what shows it is drawn anew each time
        node.SetTypeToUser()
        node.SetNumberOfColors(len(colors))
        for index, color in enumerate(colors.tolist()):
            node.SetColor(index, *color)
            node.SetColorDefined(index, True)  # else one of zeros is none, for that is what is there before


def signedOverlay() -> Any:
    """Blue far below zero, red far above, nothing between, where it may be noise."""
    place = np.linspace(-1, 1, _COUNT)[:, None]
    full = np.where(place > 0, _RED, _BLUE)
    strength = np.clip((np.abs(place) - SIGNED_CLEAR) / (1 - SIGNED_CLEAR), 0, 1)
    colors = 1 - (0.5 + 0.5 * strength) * (1 - full)
    rows = _clear(colors, np.abs(place), SIGNED_CLEAR)
    return table("CTEnhanceSignedOverlay", _("CT signed overlay"), rows, saved=True)


def unsignedOverlay() -> Any:
    """Nothing near zero, then yellow, then red."""
    place = np.linspace(0, 1, _COUNT)[:, None]
    colors = (1 - place) * np.array(_YELLOW) + place * np.array(_RED)
    rows = _clear(colors, place, UNSIGNED_CLEAR)
    return table("CTEnhanceUnsignedOverlay", _("CT overlay"), rows, saved=True)


def trust() -> Any:
    """Nothing where the expected error is small, so that the image is seen there; then yellow, then red."""
    place = np.linspace(0, 1, _COUNT)[:, None]
    part = np.clip((place - TRUST_CLEAR) / (1 - TRUST_CLEAR), 0, 1)
    # Black below, where the image is seen: a scale shows no clearness.
    colors = ((1 - part) * np.array(_YELLOW) + part * np.array(_RED)) * (place >= TRUST_CLEAR)
    return table("CTEnhanceTrust", _("CT trust map"), _clear(colors, place, TRUST_CLEAR), saved=True)


def differences() -> Any:
    """Dark where nothing changed, over blue to light where it became less, over red to light where more."""
    place = np.linspace(-1, 1, _COUNT)
    colors = [np.interp(place, _CHANGE_PLACES, row) for row in _CHANGE]
    return table("CTEnhanceDifferences", _("CT difference"), np.column_stack([*colors, np.ones(_COUNT)]))


def densities() -> Any:
    """Nothing near zero, which may be noise, then dark red to white: how much of a material there is."""
    place = np.linspace(0, 1, _COUNT)[:, None]
    colors = np.column_stack([np.interp(place, (0.0, *_HEAT_PLACES), row) for row in _HEAT])
    return table("CTEnhanceDensities", _("CT material"), _clear(colors, place, DENSITY_CLEAR), saved=True)


def atomicNumbers() -> Any:
    """Blue up to Z_LEAST, over green to red at Z_MOST; nothing at 0, where there is no matter.

    From 0 on, so that noise below Z_LEAST is not taken for no matter.
    """
    number = np.linspace(0, Z_MOST, _COUNT)[:, None]
    colors = _spectrum((number - Z_LEAST) / (Z_MOST - Z_LEAST))
    return table("CTEnhanceAtomicNumbers", _("CT effective atomic number"), _clear(colors, number, 0.5))


def atomicNumberScale() -> Any:
    """The colours from Z_LEAST to Z_MOST, for the scale beside an image."""
    place = np.linspace(0, 1, _COUNT)[:, None]
    colors = _clear(_spectrum(place), place, 0)
    return table("CTEnhanceAtomicNumberScale", _("CT atomic number scale"), colors)


def _spectrum(place: np.ndarray) -> np.ndarray:
    """Return the colours at these places, in one column; before 0 the first one."""
    return np.column_stack([np.interp(place, _SPECTRUM_PLACES, row) for row in _SPECTRUM])


def _clear(colors: np.ndarray, size: np.ndarray, below: float) -> np.ndarray:
    """Return the colours with an alpha: slice views know clear and not clear, nothing between."""
    return np.column_stack([colors, size >= below])
