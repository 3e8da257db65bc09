"""Long work of the main thread, cut into steps: a generator that is resumed by a timer.

Python threads starve beside Qt's event loop, and the scene may be changed by the main thread only. So what
has to be done there (filling a volume of 300 MB) goes on in short turns, and the user can scroll meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import qt
import slicer

TURN_SECONDS = 0.03


class TimedSteps:
    """Runs `steps` to its end, so many `seconds` at a time (0: one step), with a pause of so many
    `milliseconds`; then calls `onDone()`, or `onFailed(error)`."""

    def __init__(
        self,
        steps: Iterator[float],
        onDone: Callable[[], None],
        onFailed: Callable[[Exception], None],
        onProgress: Callable[[float], None] | None = None,
        seconds: float = TURN_SECONDS,
        milliseconds: int = 0,
    ) -> None:
        self._steps, self._seconds = steps, seconds
        self._onDone, self._onFailed, self._onProgress = onDone, onFailed, onProgress
        self.active = True
        # With a parent: without one PythonQt deletes it when we let go of it, in the middle of its signal.
        self._timer = qt.QTimer(slicer.app)
        self._timer.setInterval(milliseconds)
        self._timer.connect("timeout()", self._turn)
        self._timer.start()

    def cancel(self) -> None:
        """Stop where it is; neither callback is called."""
        if self.active:
            self._stop()

    def _stop(self) -> None:
        self.active = False
        self._timer.stop()
        self._timer.disconnect("timeout()", self._turn)
        self._timer.deleteLater()
        self._steps.close()

    def _turn(self) -> None:
        if not self.active:
            return
        end = time.monotonic() + self._seconds
        try:
            fraction = next(self._steps)
            while time.monotonic() < end:
                fraction = next(self._steps)
        except StopIteration:
            self._stop()
            self._onDone()
        except Exception as error:
            self._stop()
            self._onFailed(error)
        else:
            if self._onProgress is not None:
                self._onProgress(fraction)
