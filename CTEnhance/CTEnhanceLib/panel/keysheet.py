"""One sheet of all keys of a panel, shown by F1 while the panel is open."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from html import escape
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

KEY = "F1"


class KeySheet:
    """Shows what `rows()` gives, pairs of keys and what they do, while it is enabled."""

    def __init__(self, parent: Any, title: str, rows: Callable[[], Iterable[tuple[str, str]]]) -> None:
        self._title, self._rows = title, rows
        self._shortcut = qt.QShortcut(qt.QKeySequence(KEY), slicer.util.mainWindow() or parent)
        self._shortcut.connect("activated()", self.show)
        self._shortcut.enabled = False

    def enable(self, enabled: bool) -> None:
        """Take the key, or give it back."""
        self._shortcut.enabled = enabled

    def show(self) -> None:
        """Show the sheet."""
        rows = [*self._rows(), (KEY, _("This sheet"))]
        lines = "".join(
            f"<tr><td>{_together([keys for keys, _text in some])}</td>"
            f"<td style='padding-left: 12px'>{escape(text)}</td></tr>"
            for text, some in itertools.groupby(rows, lambda row: row[1])
        )
        slicer.util.infoDisplay(
            f"<table>{lines}</table>", windowTitle=_("Keys of {panel}").format(panel=self._title)
        )


def _together(keys: list[str]) -> str:
    """Return keys that do alike: four arrows as one."""
    arrows = [key.rpartition("+")[0] for key in keys if key.endswith(("+Left", "+Right", "+Up", "+Down"))]
    if len(arrows) == len(keys) == 4:
        return escape(_("{keys}+arrows").format(keys=arrows[0]))
    return escape(", ".join(keys))
