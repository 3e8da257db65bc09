"""Long work of the main thread, cut into steps: a generator that is resumed by a timer.

Python threads starve beside Qt's event loop, and the scene may be changed by the main thread only. So what
has to be done there (filling a volume of 300 MB) goes on in short turns, and the user can scroll meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import qt
import slicer

TURN_SECONDS = 0.02
#: Without a pause of this two steps may fall into one turn.
APART_MILLISECONDS = 10
# So many views are drawn before steps that wait have their turn, too.
_MOST_DRAWN = 12
# Seconds: a turn so short has room for what comes last.
_SHORT = 0.005


class Turns:
    """Whose turn it is: one piece of work in a pass of the event loop, which several would hold for their
    sum. Views that are to be drawn come first, then steps, one after another."""

    def __init__(self) -> None:
        #: Draws a view, where one waits; says whether one did.
        self.draw: Callable[[], bool] = lambda: False
        self._waiting: list[TimedSteps] = []
        self._drawn = 0
        self._timer: Any = None

    def add(self, steps: TimedSteps) -> None:
        """Give these steps their turns, until they are removed."""
        self._waiting.append(steps)
        self.begin()

    def remove(self, steps: TimedSteps) -> None:
        """They have ended."""
        if steps in self._waiting:
            self._waiting.remove(steps)

    def begin(self) -> None:
        """There is something to do from the next turn on."""
        if self._timer is None:
            # With a parent: without one PythonQt deletes it when we let go of it.
            self._timer = qt.QTimer(slicer.app)
            self._timer.connect("timeout()", self._next)
        self._timer.setInterval(0)
        self._timer.start()

    def _next(self) -> None:
        now = time.monotonic()
        due = [steps for steps in self._waiting if steps.due <= now]
        if (not due or self._drawn < _MOST_DRAWN) and self.draw():
            self._drawn += 1
        elif due:
            self._drawn = 0
            self._waiting.remove(due[0])
            self._waiting.append(due[0])
            due[0].work()
        elif self._waiting:
            self._timer.setInterval(max(1, int(1e3 * (min(each.due for each in self._waiting) - now))))
        else:
            self._timer.stop()


turns = Turns()


class TimedSteps:
    """Runs `steps` to its end, so many `seconds` at a time (0: one step), with a pause of so many
    `milliseconds`; then calls `onDone()`, in a turn of its own, or `onFailed(error)`."""

    def __init__(
        self,
        steps: Iterator[float],
        onDone: Callable[[], None],
        onFailed: Callable[[Exception], None],
        onProgress: Callable[[float], None] | None = None,
        seconds: float = TURN_SECONDS,
        milliseconds: int = 0,
    ) -> None:
        self._steps, self._seconds, self._pause = steps, seconds, milliseconds / 1e3
        self._onDone, self._onFailed, self._onProgress = onDone, onFailed, onProgress
        self.active, self._over = True, False
        #: When (time.monotonic) the next turn may be.
        self.due = time.monotonic() + self._pause
        turns.add(self)

    def cancel(self) -> None:
        """Stop where it is; neither callback is called."""
        if self.active:
            self._stop()

    def _stop(self) -> None:
        self.active = False
        turns.remove(self)
        self._steps.close()

    def work(self) -> None:
        """Take a turn."""
        begun = time.monotonic()
        try:
            if not self._over:
                fraction = next(self._steps)
                while time.monotonic() < begun + self._seconds:
                    fraction = next(self._steps)
        except StopIteration:
            self._over = True
        except Exception as error:
            self._stop()
            self._onFailed(error)
            return
        ended = time.monotonic()
        self.due = ended + self._pause
        if not self._over:
            if self._onProgress is not None:
                self._onProgress(fraction)
        elif ended < begun + _SHORT:
            self._stop()
            self._onDone()


def inTurns(pieces: Iterable[Callable[[], object]]) -> None:
    """Do these one a turn, in their order: nodes take long to go, whose views and lists are told of each."""

    def steps() -> Iterator[float]:
        for piece in pieces:
            piece()
            yield 0.0

    TimedSteps(steps(), lambda: None, raiseError, seconds=0.0)


def restTimer(milliseconds: int, slot: Callable[[], object], parent: Any = None) -> Any:
    """Return a timer that calls `slot()` once, so many milliseconds after it was last started; it goes with
    its `parent` (None: Slicer)."""
    # With a parent: without one PythonQt deletes it when we let go of it.
    timer = qt.QTimer(slicer.app if parent is None else parent)
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.connect("timeout()", slot)
    return timer


def raiseError(error: Exception) -> None:
    """Let an error of steps be one of the main thread, for steps that nothing else follows."""
    raise error
