"""The keys of a reader: what each does, as shortcuts of the main window and as rows of the sheet."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import qt
from slicer.i18n import tr as _

from CTEnhanceLib.readerstudy.questions import CHOICE_KEYS

MOST_WINDOWS = 9
WINDOW_KEY = "Ctrl+{number}"
PLANE_KEYS = {"A": "axial", "C": "coronal", "S": "sagittal"}


class StudyKeys:
    """Shortcuts that are on or off together; `pressed(slot)` gets what a key is to do."""

    def __init__(
        self, parent: Any, keys: Mapping[str, Callable[[], None]], pressed: Callable[[Any], None]
    ) -> None:
        self._shortcuts = []
        for key, slot in keys.items():
            shortcut = qt.QShortcut(qt.QKeySequence(key), parent)
            shortcut.connect("activated()", functools.partial(pressed, slot))
            shortcut.enabled = False
            self._shortcuts.append(shortcut)

    def enable(self, enabled: bool) -> None:
        """Take the keys, or give them back."""
        for shortcut in self._shortcuts:
            shortcut.enabled = enabled


def rows() -> list[tuple[str, str]]:
    """Return the keys and what they do, for the sheet."""
    return [
        (f"{CHOICE_KEYS[0]} … {CHOICE_KEYS[-2]}, {CHOICE_KEYS[-1]}", _("An answer of the row with ▸")),
        (_("Tab, Shift+Tab"), _("The next row, the one before")),
        (_("Page Down, Page Up"), _("The next case, the one before")),
        (_("Up, Down"), _("One slice on or back; ten with Shift")),
        (", ".join(PLANE_KEYS), _("Axial, coronal, sagittal")),
        (_("Ctrl with + or -"), _("Zoom")),
        (_("Ctrl with an arrow"), _("Move the images")),
        (_("Home"), _("The whole image, in its middle slice")),
        (_("W, Ctrl+1 …"), _("The next window; the first, the second …")),
        (_("M, Delete"), _("Mark a point, remove the chosen mark")),
        ("P", _("Pause: hides the images; go on")),
        (_("Esc"), _("Leave a field: letters and digits are keys again")),
        (_("Ctrl+Return"), _("Finish the session, begin the next one")),
        (_("Ctrl+Shift+Return"), _("Sign out; all answers are saved")),
    ]
