"""Lines of text over the image of a slice view: a title at its upper edge.

Not a `vtkCornerAnnotation`: that one looks for the best size of its letters whenever the text changes, which
takes longer than to draw the image, and titles follow the keV slider.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import slicer
import vtk

_POINTS, _GOOD_POINTS, _LEAST_POINTS = 15, 12, 10
_MARGIN = 4  # pixels
_FEWEST = 6  # letters
# So dark and so dense is the ground that white letters are read on it, be the image white.
_DARKER, _OPACITY = 0.5, 0.85
_DIGIT = re.compile(r"\d")


class ViewText(ABC):
    """Text in a view's renderer; where the view is narrow it takes more lines, then its letters are smaller,
    and names that are too long even so are cut in their middle."""

    def __init__(self, renderer: Any, points: int) -> None:
        self._renderer, self._points = renderer, points
        self._text = ""
        # How the text was last laid out: in more lines, and these of so many letters (0: as they are).
        self._fitted: tuple[str, int, int] | None = None
        self._breaks, self._length = False, 0
        self._actor = vtk.vtkTextActor()
        letters = self._actor.GetTextProperty()
        letters.SetBackgroundOpacity(_OPACITY)
        slicer.app.applicationLogic().UseCustomFontFile(letters)  # of all languages
        self._actor.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
        renderer.AddViewProp(self._actor)
        renderer.AddObserver(vtk.vtkCommand.StartEvent, self._onFrame)

    def isIn(self, renderer: Any) -> bool:
        """Whether it is in this renderer: a view may be made anew."""
        return renderer is self._renderer and bool(renderer.HasViewProp(self._actor))

    def show(self, text: str, color: Sequence[float]) -> None:
        """Show this text on a ground of that colour (red, green, blue: 0 to 1), darkened."""
        if text != self._text:
            self._text = text
            self._write(self._laid(text))
        self._actor.SetVisibility(bool(text))
        self._actor.GetTextProperty().SetBackgroundColor(*(_DARKER * part for part in color))

    def _onFrame(self, _caller: Any, _event: str) -> None:
        """A frame is about to be drawn."""
        self._fit()

    def _fit(self) -> None:
        """Make the letters as large as they may be, at their place, where text or view have changed."""
        # All digits are equally wide: with another slice or window the text need not be measured again.
        text, (width, height) = self._text, self._renderer.GetSize()
        key = _DIGIT.sub("0", text), width, height
        if key == self._fitted or not (width and height):
            return
        self._fitted, self._breaks, self._length = key, False, 0
        size, room = self._sized(width)
        if size < min(self._points, _GOOD_POINTS) and ", " in text:
            self._breaks = True
            size, room = self._sized(width)
        if room * self._points < size:
            # Letters differ in their widths, and each line has a space at both ends.
            longest = max(map(len, self._laid(text).split("\n"))) + 2
            self._length = max(_FEWEST, int(0.95 * longest * room * self._points / size) - 2)
            self._sized(width)
        self._place(width, height)

    def _laid(self, text: str) -> str:
        text = ",\n".join(text.rsplit(", ", 1)) if self._breaks else text
        return "\n".join(shortened(line, self._length) for line in text.split("\n")) if self._length else text

    def _sized(self, width: int) -> tuple[int, float]:
        """Write the text in letters that are as large as they may be; return their size, and the part of
        the full size that they would have to have."""
        self._write(self._laid(self._text))
        letters = self._actor.GetTextProperty()
        letters.SetFontSize(self._points)
        left, right, _, _ = self._box()
        room = width / max(1.0, right - left)
        if room < 1:
            letters.SetFontSize(max(min(self._points, _LEAST_POINTS), int(self._points * room)))
        return int(letters.GetFontSize()), min(1.0, room)

    def _write(self, text: str) -> None:
        self._actor.SetInput("\n".join(f" {line} " for line in text.split("\n")))

    @abstractmethod
    def _place(self, width: int, height: int) -> None:
        """Put the letters where they belong in a view of so many pixels."""

    def _box(self) -> list[float]:
        """Return where the letters are, in pixels about the actor's position: left, right, bottom, top."""
        found = [0.0] * 4
        self._actor.GetBoundingBox(self._renderer, found)
        return found


def shortened(line: str, length: int) -> str:
    """Return a line with its middle left out, of at most so many letters: names differ at both ends."""
    if len(line) <= length:
        return line
    head = max(1, (length - 1) // 2)
    return f"{line[:head]}…{line[len(line) - max(1, length - 1 - head) :]}"


class ViewTitle(ViewText):
    """A title, in the middle of the upper edge."""

    def __init__(self, renderer: Any) -> None:
        super().__init__(renderer, _POINTS)
        letters = self._actor.GetTextProperty()
        letters.SetJustificationToCentered()
        letters.SetVerticalJustificationToTop()

    def _place(self, width: int, height: int) -> None:
        self._actor.SetPosition(0.5, (height - _MARGIN - self._box()[3]) / height)
