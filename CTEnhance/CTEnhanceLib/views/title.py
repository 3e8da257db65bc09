"""Lines of text over the image of a slice view: a title at its upper edge.

Not a `vtkCornerAnnotation`: that one looks for the best size of its letters whenever the text changes, which
takes longer than to draw the image, and titles follow the keV slider.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import slicer
import vtk

_POINTS, _LEAST_POINTS = 15, 6
_MARGIN = 4  # pixels
# So dark and so dense is the ground that white letters are read on it, be the image white.
_DARKER, _OPACITY = 0.5, 0.85
_DIGIT = re.compile(r"\d")


class ViewText:
    """Text in a view's renderer; where the view is narrow, its letters are smaller."""

    def __init__(self, renderer: Any, points: int) -> None:
        self._renderer, self._points = renderer, points
        self._fitted: tuple[str, int, int] | None = None
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
        self._actor.SetInput("\n".join(f" {line} " for line in text.split("\n")))
        self._actor.SetVisibility(bool(text))
        self._actor.GetTextProperty().SetBackgroundColor(*(_DARKER * part for part in color))

    def _onFrame(self, _caller: Any, _event: str) -> None:
        """A frame is about to be drawn."""
        self._fit()

    def _fit(self) -> None:
        """Make the letters as large as they may be, at their place, where text or view have changed."""
        # All digits are equally wide: with another slice or window the text need not be measured again.
        text, (width, height) = _DIGIT.sub("0", self._actor.GetInput()), self._renderer.GetSize()
        if (text, width, height) == self._fitted or not (width and height):
            return
        self._fitted = text, width, height
        letters = self._actor.GetTextProperty()
        letters.SetFontSize(self._points)
        left, right, _, _ = self._box()
        if right - left > width:
            letters.SetFontSize(max(_LEAST_POINTS, int(self._points * width / (right - left))))
        self._place(width, height)

    def _place(self, width: int, height: int) -> None:
        """Put the letters where they belong in a view of so many pixels."""
        raise NotImplementedError

    def _box(self) -> list[float]:
        """Return where the letters are, in pixels about the actor's position: left, right, bottom, top."""
        found = [0.0] * 4
        self._actor.GetBoundingBox(self._renderer, found)
        return found


class ViewTitle(ViewText):
    """A title, in the middle of the upper edge."""

    def __init__(self, renderer: Any) -> None:
        super().__init__(renderer, _POINTS)
        letters = self._actor.GetTextProperty()
        letters.SetJustificationToCentered()
        letters.SetVerticalJustificationToTop()

    def _place(self, width: int, height: int) -> None:
        self._actor.SetPosition(0.5, (height - _MARGIN - self._box()[3]) / height)
