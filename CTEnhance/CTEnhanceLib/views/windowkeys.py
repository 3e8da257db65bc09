"""The keys 1 to 8: the windows of reading protocols, in the order of their buttons."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from CTEnhanceLib.scene.windows import WINDOWS, label


class WindowKeys:
    """Calls `onWindow(name)` for the keys while enabled; in a field that is typed into they are digits."""

    def __init__(self, parent: Any, onWindow: Callable[[str], None]) -> None:
        self._shortcuts = []
        for number, name in enumerate(WINDOWS, start=1):
            shortcut = qt.QShortcut(qt.QKeySequence(str(number)), slicer.util.mainWindow() or parent)
            shortcut.connect("activated()", functools.partial(onWindow, name))
            shortcut.enabled = False
            self._shortcuts.append(shortcut)

    @staticmethod
    def rows() -> list[tuple[str, str]]:
        """Return the keys and what they do."""
        text = _("Window: {name}")
        return [(str(number), text.format(name=label(name))) for number, name in enumerate(WINDOWS, 1)]

    def enable(self, enabled: bool) -> None:
        """Take the keys, or give them back to whoever else wants them."""
        for shortcut in self._shortcuts:
            shortcut.enabled = enabled
