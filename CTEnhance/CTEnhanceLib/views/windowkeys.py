"""The keys 1 to 9: the windows of reading protocols, in their buttons' order, and the scan's own one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from CTEnhanceLib.scene.windows import WINDOWS, label

#: What key 9 asks for.
OWN = ""


class WindowKeys:
    """Calls `onWindow(name)` for the keys while enabled; in a field that is typed into they are digits.

    name - one of WINDOWS, or OWN
    """

    def __init__(self, parent: Any, onWindow: Callable[[str], None]) -> None:
        self._shortcuts = []
        for number, name in enumerate((*WINDOWS, OWN), start=1):
            shortcut = qt.QShortcut(qt.QKeySequence(str(number)), slicer.util.mainWindow() or parent)
            shortcut.connect("activated()", functools.partial(onWindow, name))
            shortcut.enabled = False
            self._shortcuts.append(shortcut)

    @staticmethod
    def rows() -> list[tuple[str, str]]:
        """Return the keys and what they do."""
        count, names = len(WINDOWS), ", ".join(map(label, WINDOWS))
        return [
            (_("1 to {count}").format(count=count), _("Window: {name}").format(name=names)),
            (str(count + 1), _("Window: the scan's own, or what suits it")),
        ]

    def enable(self, enabled: bool) -> None:
        """Take the keys, or give them back to whoever else wants them."""
        for shortcut in self._shortcuts:
            shortcut.enabled = enabled
