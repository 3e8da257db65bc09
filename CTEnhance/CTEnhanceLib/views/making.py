"""Slice views that are made before they are shown, piece by piece: all of a layout's at once take long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import slicer

_KIND = "vtkMRMLSliceNode"
# Pixels: out of sight, above and left of the window.
_AWAY, _SIZE = -4000, 300


def nodeOf(view: Any) -> Any:
    """Return the node of a `linked.View`, or None while there is none."""
    return slicer.mrmlScene.GetSingletonNode(view.name, _KIND)


def make(view: Any) -> Any:
    """Have a view's node, for which Slicer makes the widget at once, as a layout would; return it."""
    node = nodeOf(view)
    if node is None:
        node = slicer.mrmlScene.CreateNodeByClass(_KIND)
        node.UnRegister(None)
        node.SetSingletonTag(view.name)
        node.SetName(view.name)
        node.SetLayoutName(view.name)
        node.SetLayoutLabel(view.label[:1])
        node.SetLayoutColor(*view.rgb())
        node.SetDefaultOrientation(view.orientation or "Axial")
        node.SetOrientation(view.orientation or "Axial")
        node.SetSaveWithScene(False)  # until it is shown
        node = slicer.mrmlScene.AddNode(node)
    return node


def makePlot(name: str) -> Iterator[float]:
    """Have node and widget of a plot view of this name, as a layout would, in short steps."""
    kind = "vtkMRMLPlotViewNode"
    if hasattr(slicer.modules, "plots") and slicer.mrmlScene.GetSingletonNode(name, kind) is None:
        node = slicer.mrmlScene.CreateNodeByClass(kind)
        node.UnRegister(None)
        node.SetSingletonTag(name)
        node.SetName(name)
        node.SetLayoutName(name)
        node.SetSaveWithScene(False)
        node = slicer.mrmlScene.AddNode(node)
        yield 0.5
        manager = slicer.app.layoutManager()
        for index in range(getattr(manager, "plotViewCount", 0)):
            widget = manager.plotWidget(index)
            if widget.mrmlPlotViewNode() is node:
                yield from _prepared(widget, node)
    yield 1.0


def ahead(views: Iterable[Any]) -> Iterator[float]:
    """Make what is missing of these views, in short steps; they stay hidden."""
    views = list(views)
    for number, view in enumerate(views):
        if nodeOf(view) is None:
            make(view)
            yield number / len(views)
            widget = slicer.app.layoutManager().sliceWidget(view.name)
            if widget is not None:
                yield from _prepared(widget, widget.mrmlSliceNode())
    yield 1.0


def _prepared(widget: Any, node: Any) -> Iterator[float]:
    """Have the widget's graphics begin where nobody sees it, which they do when it is shown first."""
    widget.move(_AWAY, _AWAY)
    widget.resize(_SIZE, _SIZE)
    widget.show()
    yield 0.0
    if not node.IsMappedInLayout():  # else a layout has it by now
        widget.hide()
    yield 0.0
