"""Keys of a panel that do something to its views: taken while it is open, given back when it is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qt
import slicer

#: What Slicer's own slice views and main window do something with; no panel takes one of them.
OF_SLICER = frozenset(
    "g t f b v r [ ] { } space Left Right Up Down Delete Backspace Home End PgUp PgDown Tab "
    "Ctrl+0 Ctrl+1 Ctrl+2 Ctrl+3 Ctrl+4 Ctrl+5 Ctrl+6 Ctrl+` "
    "Ctrl+b Ctrl+c Ctrl+f Ctrl+g Ctrl+h Ctrl+Left Ctrl+o "
    "Ctrl+p Ctrl+Right Ctrl+s Ctrl+v Ctrl+w Ctrl+x Ctrl+y Ctrl+z".lower().split()
)


class Keys:
    """Single keys of the main window, by what they are: each with what it is for and what it calls."""

    def __init__(self, parent: Any, actions: Mapping[str, tuple[str, Callable[[], None]]]) -> None:
        self._rows = [(key, text) for key, (text, _action) in actions.items()]
        self._shortcuts: dict[str, Any] = {}
        for key, (_text, action) in actions.items():
            shortcut = qt.QShortcut(qt.QKeySequence(key), slicer.util.mainWindow() or parent)
            shortcut.connect("activated()", action)
            shortcut.enabled = False
            self._shortcuts[key] = shortcut

    def rows(self) -> list[tuple[str, str]]:
        """Return the keys and what they do."""
        return list(self._rows)

    def enable(self, enabled: bool) -> None:
        """Take the keys, or give them back."""
        for shortcut in self._shortcuts.values():
            shortcut.enabled = enabled
