"""The decimal comma in fields for numbers.

Slicer shows numbers with a point on every computer, and its fields refuse a comma without a word: who types
0,7 as at home would get 0 or 7.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import qt
import slicer


def takeCommas(widgets: Iterable[Any]) -> None:
    """Take a comma that is typed into the fields for numbers among and in these widgets for a point."""
    for widget in widgets:
        own = [widget] if isinstance(widget, qt.QDoubleSpinBox) else []
        for box in [*own, *widget.findChildren(qt.QDoubleSpinBox)]:
            box.installEventFilter(_filter())


class _Comma(qt.QObject):
    def eventFilter(self, box: Any, event: Any) -> bool:
        """Type a point instead; anything else goes on."""
        if event.type() != qt.QEvent.KeyPress or event.text() != ",":
            return False
        point = qt.QKeyEvent(qt.QEvent.KeyPress, qt.Qt.Key_Period, qt.Qt.NoModifier, ".")
        qt.QApplication.sendEvent(box, point)
        return True


@functools.cache
def _filter() -> Any:
    """Return the one that all fields share: it has to be held, or Python's part of it goes."""
    return _Comma(slicer.app)
