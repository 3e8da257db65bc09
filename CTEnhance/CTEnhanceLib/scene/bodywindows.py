"""The window that the reader had last, kept by body part in Slicer's settings, and a scan's own one."""

from __future__ import annotations

import re
from typing import Any

import slicer

from CTEnhanceLib.scene import windows

_SETTINGS = "CTEnhance/Windows"
_BODY_PART = "0018,0015"
# Beyond these nobody has set it: a display that was never shown, or nonsense in the settings.
_MOST = 20000.0
# By nodes: when their voxels changed last, and the window that suits these.
_found: dict[str, tuple[int, str]] = {}


def bodyPart(node: Any) -> str:
    """Return what of the body a CT shows: its DICOM headers' word, in capitals; without one CONTENT-LUNG or
    CONTENT-MEDIASTINUM, by its voxels."""
    first = (node.GetAttribute("DICOM.instanceUIDs") or "").split()[:1]
    database = getattr(slicer, "dicomDatabase", None)
    if first and database is not None and database.isOpen:
        words = re.sub(r"[^A-Z0-9]", "", str(database.instanceValue(first[0], _BODY_PART) or "").upper())
        if words:
            return words
    return byContent(_suitable(node))


def byContent(window: str) -> str:
    """Return what stands for the part of the body whose voxels ask for this window of WINDOWS."""
    return f"CONTENT-{window.upper()}"


def _suitable(node: Any) -> str:
    """Return `windows.suitable` of a node's voxels, looked for once as long as they stay."""
    key = node.GetID(), node.GetImageData().GetMTime()
    if _found.get(key[0], (0, ""))[0] != key[1]:
        _found[key[0]] = key[1], windows.suitable(slicer.util.arrayFromVolume(node))
    return _found[key[0]][1]


def remember(node: Any) -> None:
    """Keep the window that a CT is shown in, for the next one of the same part of the body."""
    display = node.GetDisplayNode()
    if display is not None and node.GetImageData() is not None and not display.GetAutoWindowLevel():
        rememberFor(bodyPart(node), display.GetWindow(), display.GetLevel())


def rememberFor(part: str, window: float, level: float) -> None:
    """Keep a window for a part of the body, named as by `bodyPart`."""
    slicer.app.userSettings().setValue(f"{_SETTINGS}/{part}", f"{window:g} {level:g}")


def remembered(node: Any) -> tuple[float, float] | None:
    """Return window and level that were kept for the part of the body that a CT shows, or None."""
    return rememberedFor(bodyPart(node))


def rememberedFor(part: str) -> tuple[float, float] | None:
    """Return window and level that were kept for a part of the body, or None."""
    text = slicer.app.userSettings().value(f"{_SETTINGS}/{part}")
    try:
        window, level = (float(part) for part in str(text or "").split())
    except ValueError:
        return None
    return (window, level) if 0 < window < _MOST and abs(level) < _MOST else None


def ownWindow(node: Any) -> tuple[float, float]:
    """Return window and level that a CT came with; where it came with none, those that suit its content."""
    display = node.GetDisplayNode()
    if display is not None and display.GetNumberOfWindowLevelPresets() > 0:
        return display.GetWindowPreset(0), display.GetLevelPreset(0)
    return windows.WINDOWS[_suitable(node)]


def begin(node: Any) -> None:
    """Give a CT that is shown first the window kept for its part of the body, or that which suits it.

    A window that the reader has set is kept: any but an automatic one, and but that of the scan's header.
    """
    display = node.GetDisplayNode()
    if node.GetImageData() is None:
        return
    now = display.GetWindow(), display.GetLevel()
    fromHeader = display.GetNumberOfWindowLevelPresets() > 0 and now == ownWindow(node)
    if not (display.GetAutoWindowLevel() or fromHeader):
        return
    kept = remembered(node)
    if kept is not None or not fromHeader:
        windows.setValues(node, *(kept or ownWindow(node)))
