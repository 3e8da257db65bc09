"""Films of the shown views, for a slide: before and after in turn, or through the slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from CTEnhanceLib.out import pictures
from CTEnhanceLib.process.run import Job
from CTEnhanceLib.views import slices

FLICKER_SECONDS, SCROLL_SECONDS = 0.6, 0.1
MOST_SLICES = 60


@dataclass
class FilmJob(Job):
    """Takes a picture after each of `moves`, and makes a film (GIF) of them; `back` sets the views back.

    `result` is what the views show; the scene is not changed.
    """

    result: Any
    path: Path
    moves: Sequence[Callable[[], None]]
    back: Callable[[], None]
    seconds: float

    stages = {"write": 100}  # noqa: RUF012

    def problem(self) -> str:
        """Say that there is nothing to take, if so."""
        if not pictures.shownWidgets():
            return _("There are no images on the screen: show the comparison first.")
        return ""

    def prepare(self, folder: Path) -> Iterator[float]:
        """Take the pictures in steps: views are moved, read one by one, and the picture is written."""
        frames = folder / "frames"
        frames.mkdir()
        try:
            for number, move in enumerate(self.moves):
                move()
                image = yield from pictures.takenInSteps()
                yield number / len(self.moves)
                pictures.write(image, frames / f"{number:04d}.png", level=1)
                yield (number + 1) / len(self.moves)
        finally:
            self.back()
            pictures.showNames()

    def arguments(self, folder: Path) -> list[str]:
        """Ask for the film."""
        return ["film", str(folder / "frames"), str(self.path), "--seconds", f"{self.seconds:g}"]

    def place(self, report: dict[str, Any]) -> Any:
        """Change nothing in the scene."""
        return self.result


def scrolling() -> tuple[list[Callable[[], None]], Callable[[], None]]:
    """Return what brings each slice of the shown volume into the views, and what brings the one that is shown
    now back. Of many slices some are left out, evenly; views across the others stay."""
    widgets = pictures.shownWidgets()
    if not widgets:
        return [], lambda: None
    lead = widgets[0].sliceLogic()
    normal = _normal(lead)
    logics = [one.sliceLogic() for one in widgets if abs(_normal(one.sliceLogic()) @ normal) > 1 - 1e-6]
    low, high = slices.bounds(lead)
    position = slices.position(lead)
    count = min(MOST_SLICES, 1 if position is None else position[1])
    now = [logic.GetSliceOffset() for logic in logics]

    def go(offsets: Sequence[float]) -> None:
        for logic, offset in zip(logics, offsets, strict=True):
            logic.SetSliceOffset(offset)

    # A view may look along the same axis from the other side.
    signs = [float(np.sign(_normal(logic) @ normal)) for logic in logics]
    moves = [
        (lambda offset=float(offset): go([offset * sign for sign in signs]))
        for offset in np.linspace(low, high, count)
    ]
    return moves, lambda: go(now)


def _normal(logic: Any) -> np.ndarray:
    matrix = logic.GetSliceNode().GetSliceToRAS()
    return np.array([matrix.GetElement(row, 2) for row in range(3)])
