"""Scrolling a panel to what matters now: on small screens that may lie below its lower edge."""

from __future__ import annotations

from typing import Any

_ROOM = 40  # pixels left below


def bringUp(*widgets: Any) -> None:
    """Have these widgets be seen, the last one above all, as far as there is room."""
    for widget in widgets:
        area = widget.parent()
        # Not `isinstance`: to Python no Qt class derives from another in some builds of the application.
        while area is not None and not area.inherits("QScrollArea"):
            area = area.parent()
        if area is not None:
            area.ensureWidgetVisible(widget, 0, _ROOM)
