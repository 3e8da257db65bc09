"""What is written at the upper edge of a slice view's image: for tests of several panels."""

from __future__ import annotations

from typing import Any

import slicer
import vtk

import slicerhost  # noqa: F401 (it brings qt, whichever test file is first)
from CTEnhanceLib.views.drawing import oneByOne


def titles(view: str) -> list[str]:
    """Return what is written at the upper edge of a view's image."""
    return [actor.GetInput().strip() for actor in titleActors(view)]


def captions(view: str) -> list[str]:
    """Return what is written at the lower edge of a view's image, in the frame that is drawn now."""
    oneByOne.finish()
    slicer.app.layoutManager().sliceWidget(view).sliceView().forceRender()
    actors = titleActors(view, vtk.VTK_TEXT_BOTTOM)
    return [
        line.strip() for actor in actors if actor.GetVisibility() for line in actor.GetInput().split("\n")
    ]


def titleActors(view: str, edge: int = vtk.VTK_TEXT_TOP) -> list[Any]:
    """Return what writes there."""
    renderers = slicer.app.layoutManager().sliceWidget(view).sliceView().renderWindow().GetRenderers()
    props = renderers.GetFirstRenderer().GetViewProps()
    found = [props.GetItemAsObject(index) for index in range(props.GetNumberOfItems())]
    return [
        prop
        for prop in found
        if prop.IsA("vtkTextActor") and prop.GetTextProperty().GetVerticalJustification() == edge
    ]
