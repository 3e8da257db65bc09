"""The way back from the last change of layout or window, by one key."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import vtk

_MOST = 30
# Seconds: changes of one kind that follow each other faster are one, as while a window is dragged.
_ONE_CHANGE = 0.7


class History:
    """What would undo the last changes, the latest last."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], None]] = []
        self._kind, self._last = "", 0.0
        self._undoing = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to undo."""
        return not self._steps

    def add(self, undo: Callable[[], None], kind: str = "") -> None:
        """A change was done, which `undo` takes back; quick ones of one `kind`, if that is given, are one."""
        now = time.monotonic()
        again = bool(kind) and kind == self._kind and now - self._last < _ONE_CHANGE
        self._kind, self._last = kind, now
        if not self._undoing and not again:
            self._steps = [*self._steps, undo][-_MOST:]

    def undo(self) -> None:
        """Take the last change back."""
        if self._steps:
            step, self._undoing, self._kind = self._steps.pop(), True, ""
            try:
                step()
            finally:
                self._undoing, self._kind = False, ""

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Add nothing meanwhile: what changes is no choice of the reader."""
        before, self._undoing = self._undoing, True
        try:
            yield
        finally:
            self._undoing = before

    def clear(self) -> None:
        """Forget all (the nodes go)."""
        self._steps = []


class WindowHistory:
    """Adds changes of window and level of one display to a history, whoever makes them."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._display: Any = None
        self._tag = 0
        self._window = (0.0, 0.0)

    def follow(self, display: Any) -> None:
        """Follow this display (None: none)."""
        if display is self._display:
            return
        if self._display is not None:
            self._display.RemoveObserver(self._tag)
        self._display = display
        if display is not None:
            self._window = display.GetWindow(), display.GetLevel()
            self._tag = display.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onDisplay)

    def _onDisplay(self, display: Any, _event: str) -> None:
        now, before = (display.GetWindow(), display.GetLevel()), self._window
        if now != before:
            self._window = now
            self._history.add(lambda: display.SetWindowLevel(*before), "window")
