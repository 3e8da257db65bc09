"""When views are drawn after a change that all of them share: one after another, each in a turn of its own.

By itself a view draws itself for every change once its last picture is a sixtieth of a second old: a dozen
times while a layout is set up, and all views in one turn, during which nothing else is answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import qt
import slicer


class OneByOne:
    """Views that wait to be drawn; `hold` them before they are changed."""

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._timer: Any = None

    @property
    def waiting(self) -> bool:
        """Whether a view is still to be drawn."""
        return bool(self._waiting)

    def hold(self, names: Iterable[str]) -> None:
        """Draw these views (by name; others are none of the layout's) no more in this turn, and one a turn
        from the next one on."""
        for name in names:
            view = None if name in self._waiting else _view(name)
            if view is not None:
                view.pauseRender()
                self._waiting.append(name)
        if self._waiting:
            if self._timer is None:
                self._timer = qt.QTimer(slicer.app)
                self._timer.setInterval(0)
                self._timer.connect("timeout()", self._next)
            self._timer.start()

    def holdAll(self) -> None:
        """Hold all views there are, also those of three dimensions."""
        manager = slicer.app.layoutManager()
        count = getattr(manager, "threeDViewCount", 0)
        self.hold([*manager.sliceViewNames(), *(f"{_SOLID}{index}" for index in range(count))])

    def finish(self) -> None:
        """Draw now what waits: a picture is to be taken."""
        while self._waiting:
            self._next()

    def _next(self) -> None:
        if self._waiting:
            view = _view(self._waiting.pop(0))
            if view is not None:
                # In this order, or it would be drawn twice: by itself a view that may draw again does so.
                view.forceRender()
                view.resumeRender()
        if not self._waiting and self._timer is not None:
            self._timer.stop()


# Before the number of a view of three dimensions; no slice view is called so.
_SOLID = "3D:"


def _view(name: str) -> Any:
    manager = slicer.app.layoutManager()
    if name.startswith(_SOLID):
        widget = manager.threeDWidget(int(name[len(_SOLID) :]))
        return None if widget is None else widget.threeDView()
    widget = manager.sliceWidget(name)
    return None if widget is None else widget.sliceView()


oneByOne = OneByOne()
