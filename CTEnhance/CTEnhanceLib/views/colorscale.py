"""The colours of a volume and the values that they stand for, at the right edge of a slice view."""

from __future__ import annotations

from typing import Any

import vtk

from CTEnhanceLib.views.drawing import imageRenderer

# Parts of the view's width and height.
_WIDTH, _HEIGHT, _RIGHT, _BOTTOM = 0.1, 0.4, 0.995, 0.3
_LABELS, _POINTS, _BAR, _GROUND = 5, 12, 0.25, 0.7


class ColorScale:
    """A scale in a view, from `low` to `high`, with its `numbers` so written; it stays until `remove`."""

    def __init__(
        self, sliceView: Any, colorNode: Any, low: float, high: float, numbers: str = "%.1f"
    ) -> None:
        self._view = sliceView
        self._renderer = imageRenderer(sliceView)
        self._colors = vtk.vtkLookupTable()
        self._colors.DeepCopy(colorNode.GetLookupTable())
        actor = self._actor = vtk.vtkScalarBarActor()
        actor.SetLookupTable(self._colors)
        actor.SetNumberOfLabels(_LABELS)
        actor.SetLabelFormat(numbers)
        actor.SetBarRatio(_BAR)
        actor.SetTextPositionToPrecedeScalarBar()
        actor.SetUnconstrainedFontSize(True)
        actor.GetLabelTextProperty().SetFontSize(_POINTS)
        actor.GetLabelTextProperty().SetShadow(False)
        actor.GetLabelTextProperty().SetItalic(False)
        actor.GetLabelTextProperty().SetBold(False)
        actor.SetDrawBackground(True)  # numbers are read over any image
        actor.GetBackgroundProperty().SetColor(0.0, 0.0, 0.0)
        actor.GetBackgroundProperty().SetOpacity(_GROUND)
        actor.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
        actor.SetPosition(_RIGHT - _WIDTH, _BOTTOM)
        actor.SetPosition2(_WIDTH, _HEIGHT)
        self.setRange(low, high)
        self._renderer.AddViewProp(actor)

    def setRange(self, low: float, high: float) -> None:
        """Let the scale go from here to there."""
        self._colors.SetRange(low, high)
        self._view.scheduleRender()

    def remove(self) -> None:
        """Take the scale out of the view."""
        self._renderer.RemoveViewProp(self._actor)
        self._view.scheduleRender()
