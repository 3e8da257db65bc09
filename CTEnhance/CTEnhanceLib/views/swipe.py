"""A swipe: in one slice view the background left of a line and the foreground right of it.

Slicer blends the two layers of a view and has no mask between them. So both are drawn by actors of our own
over the view's image: they are fed by the outputs of the view's own layers, so that slice, zoom, window and
colours are those of the view at any time, whatever the opacity of the foreground, which linked views share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import vtk

from CTEnhanceLib.views.drawing import imageRenderer

_COLOR = (1.0, 0.85, 0.2)
_REACH = 8  # pixels from the line, within which the mouse takes hold of it


class Swipe:
    """The swipe of one view, while it is shown; `onDrag(part)`: the mouse has brought its line there."""

    def __init__(self, onDrag: Callable[[float], None]) -> None:
        self._onDrag = onDrag
        self._part = 0.5
        self._widget: Any = None
        self._dragging = False
        self._tags: list[tuple[Any, int]] = []
        self._images = [_image() for _layer in range(2)]
        self._ends, lines = vtk.vtkLineSource(), vtk.vtkPolyDataMapper2D()
        lines.SetInputConnection(self._ends.GetOutputPort())
        self._line = vtk.vtkActor2D()
        self._line.SetMapper(lines)
        self._line.GetProperty().SetColor(*_COLOR)
        self._line.GetProperty().SetLineWidth(2)

    def show(self, widget: Any, part: float) -> None:
        """Draw the line at this part of the view's width, 0 on the left."""
        self._part = part
        if widget is not self._widget:
            self.remove()
            self._widget = widget
            view = widget.sliceView()
            renderer, interactor = imageRenderer(view), view.renderWindow().GetInteractor()
            for actor in (*self._images, self._line):
                renderer.AddViewProp(actor)
            for owner, event, slot in (
                (renderer, vtk.vtkCommand.StartEvent, self._onFrame),
                (interactor, vtk.vtkCommand.LeftButtonPressEvent, self._onPress),
                (interactor, vtk.vtkCommand.MouseMoveEvent, self._onMove),
                (interactor, vtk.vtkCommand.LeftButtonReleaseEvent, self._onRelease),
            ):
                # Before Slicer's own, which may let no other one have the event.
                self._tags.append((owner, owner.AddObserver(event, slot, 1.0)))
        widget.sliceView().scheduleRender()

    def remove(self) -> None:
        """Take it out of the view."""
        for owner, tag in self._tags:
            owner.RemoveObserver(tag)
        self._tags, self._dragging = [], False
        if self._widget is not None:
            for actor in (*self._images, self._line):
                imageRenderer(self._widget.sliceView()).RemoveViewProp(actor)
            for image in self._images:
                image.GetMapper().SetInputConnection(None)
            self._widget.sliceView().scheduleRender()
        self._widget = None

    def _onFrame(self, renderer: Any, _event: str) -> None:
        """A frame is about to be drawn: in the view's size, of the layers as they are."""
        # While a view changes its size, its image may still have the former one.
        sizes = zip(renderer.GetSize(), self._widget.mrmlSliceNode().GetDimensions(), strict=False)
        width, height = (min(pair) for pair in sizes)
        logic = self._widget.sliceLogic()
        layers = logic.GetBackgroundLayer(), logic.GetForegroundLayer()
        x = min(max(round(self._part * width), 0), width)
        for image, layer, (begin, end) in zip(self._images, layers, ((0, x), (x, width)), strict=True):
            source, mapper = layer.GetImageDataConnection(), image.GetMapper()
            image.SetVisibility(source is not None and begin < end)
            if source is None or begin >= end:
                continue
            if mapper.GetNumberOfInputConnections(0) == 0 or mapper.GetInputConnection(0, 0) != source:
                mapper.SetInputConnection(source)
            mapper.SetCustomDisplayExtents([begin, end - 1, 0, height - 1])
            image.SetPosition(begin, 0)
        self._line.SetVisibility(x < width)
        self._ends.SetPoint1(x, 0, 0)
        self._ends.SetPoint2(x, height, 0)

    def _onPress(self, caller: Any, _event: str) -> None:
        width = imageRenderer(self._widget.sliceView()).GetSize()[0]
        self._dragging = abs(caller.GetEventPosition()[0] - self._part * width) <= _REACH

    def _onMove(self, caller: Any, _event: str) -> None:
        width = imageRenderer(self._widget.sliceView()).GetSize()[0]
        if self._dragging and width:
            self._onDrag(min(max(caller.GetEventPosition()[0] / width, 0.0), 1.0))

    def _onRelease(self, _caller: Any, _event: str) -> None:
        self._dragging = False


def _image() -> Any:
    """Return an actor that draws a part of a layer's picture, below titles, crosshair and regions."""
    mapper, actor = vtk.vtkImageMapper(), vtk.vtkActor2D()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    mapper.UseCustomExtentsOn()
    actor.SetMapper(mapper)
    actor.GetProperty().SetDisplayLocationToBackground()
    return actor
