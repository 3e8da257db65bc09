"""What a panel makes ready while nothing else is done, so that nobody waits for it: views and libraries."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import slicer

from CTEnhanceLib.process.steps import APART_MILLISECONDS, TimedSteps, restTimer
from CTEnhanceLib.views import making
from CTEnhanceLib.views.view import View

#: Of the user's settings: whether nothing is made ahead.
NOTHING_AHEAD_SETTING = "CTEnhance/nothingAhead"
# After so long in the panel, when it is on the screen.
_REST_MILLISECONDS = 300
#: What measuring needs, in pieces that take no longer than a turn may; SciPy loads the first ones.
MEASURING = (
    "numpy.testing",
    "numpy.f2py",
    "numpy.ma",
    "scipy._lib._array_api",
    "scipy.special",
    "scipy.fft",
    "scipy.ndimage",
    "ctenhance.quality.compare",
    "ctenhance.quality.region",
)


class Ahead:
    """Makes `views()` and `plots` (views' names), and loads `libraries`, once the panel is open for a moment;
    `stop` when it is left."""

    def __init__(
        self, views: Callable[[], Sequence[View]], plots: Sequence[str], libraries: Sequence[str]
    ) -> None:
        self._views, self._plots, self._libraries = views, plots, libraries
        self._steps: TimedSteps | None = None
        self._rest = restTimer(_REST_MILLISECONDS, self._begin)

    @property
    def pending(self) -> bool:
        """Whether something is still to be made."""
        return bool(self._rest.active) or self._steps is not None

    def start(self) -> None:
        """Begin in a moment."""
        self.stop()
        if not slicer.app.userSettings().value(NOTHING_AHEAD_SETTING):
            self._rest.start()

    def stop(self) -> None:
        """Leave it where it is."""
        self._rest.stop()
        if self._steps is not None:
            self._steps.cancel()
            self._steps = None

    def _begin(self) -> None:
        # One a turn: a view may take most of what a turn may take.
        self._steps = TimedSteps(
            self._pieces(), self._over, self._failed, seconds=0.0, milliseconds=APART_MILLISECONDS
        )

    def _pieces(self) -> Iterator[float]:
        yield from making.ahead(self._views())
        for name in self._plots:
            yield from making.makePlot(name)
        for name in self._libraries:
            with contextlib.suppress(ImportError):  # who needs it says so
                importlib.import_module(name)
            yield 1.0

    def _over(self) -> None:
        self._steps = None

    def _failed(self, error: Exception) -> Any:
        self._steps = None
        raise error
