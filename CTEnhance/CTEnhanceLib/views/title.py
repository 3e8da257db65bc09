"""The title of a slice view: lines over the image, at its upper edge.

Not a `vtkCornerAnnotation`: that one looks for the best size of its letters whenever the text changes, which
takes longer than to draw the image, and titles follow the keV slider.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer
import vtk

_POINTS, _LEAST_POINTS = 15, 6
_MARGIN = 4  # pixels
# So dark and so dense is the ground that white letters are read on it, be the image white.
_DARKER, _OPACITY = 0.5, 0.85


class ViewTitle:
    """A title in a view's renderer; where the view is narrow, its letters are smaller."""

    def __init__(self, renderer: Any) -> None:
        self._renderer = renderer
        self._fitted: tuple[str, int, int] | None = None
        self._actor = vtk.vtkTextActor()
        letters = self._actor.GetTextProperty()
        letters.SetBackgroundOpacity(_OPACITY)
        letters.SetJustificationToCentered()
        letters.SetVerticalJustificationToTop()
        slicer.app.applicationLogic().UseCustomFontFile(letters)  # of all languages
        self._actor.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
        renderer.AddViewProp(self._actor)
        renderer.AddObserver(vtk.vtkCommand.StartEvent, self._fit)

    def isIn(self, renderer: Any) -> bool:
        """Whether it is in this renderer: a view may be made anew."""
        return renderer is self._renderer and bool(renderer.HasViewProp(self._actor))

    def show(self, text: str, color: Sequence[float]) -> None:
        """Show this text on a ground of that colour (red, green, blue: 0 to 1), darkened."""
        self._actor.SetInput("\n".join(f" {line} " for line in text.split("\n")))
        self._actor.GetTextProperty().SetBackgroundColor(*(_DARKER * part for part in color))

    def _fit(self, _caller: Any, _event: str) -> None:
        """Make the letters as large as they may be, at the edge, where text or view have changed."""
        text, (width, height) = self._actor.GetInput(), self._renderer.GetSize()
        if (text, width, height) == self._fitted or not (width and height):
            return
        self._fitted = text, width, height
        letters = self._actor.GetTextProperty()
        letters.SetFontSize(_POINTS)
        left, right, _, _ = self._box()
        if right - left > width:
            letters.SetFontSize(max(_LEAST_POINTS, int(_POINTS * width / (right - left))))
        self._actor.SetPosition(0.5, (height - _MARGIN - self._box()[3]) / height)

    def _box(self) -> list[float]:
        """Return where the letters are, in pixels about the actor's position: left, right, bottom, top."""
        found = [0.0] * 4
        self._actor.GetBoundingBox(self._renderer, found)
        return found
