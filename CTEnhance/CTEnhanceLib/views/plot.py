"""Curves in one of Slicer's plots: a table, its series and a chart, all hidden and gone with `remove`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from CTEnhanceLib.scene import placing


@dataclass(frozen=True)
class Line:
    """How a curve is drawn: its colour (red, green, blue: 0 to 1), dashed and thin or solid."""

    color: tuple[float, float, float]
    dashed: bool = False


def plotView(tag: str, label: str) -> str:
    """Return the view that curves are drawn in, for a layout; empty where Slicer has no plots."""
    if not hasattr(slicer.modules, "plots"):
        return ""
    properties = f'<property name="viewlabel" action="default">{label}</property>'
    return f'<view class="vtkMRMLPlotViewNode" singletontag="{tag}">{properties}</view>'


class Plot:
    """The curves of one plot view, by its tag."""

    def __init__(self, tag: str) -> None:
        self.table: Any = None
        self._tag = tag
        self._chart: Any = None
        self._head: tuple[Any, ...] = ()
        self._nodes: list[Any] = []

    def show(
        self,
        titles: tuple[str, str, str],
        abscissa: np.ndarray | Sequence[float],
        curves: Mapping[str, np.ndarray | Sequence[float]],
        lines: Sequence[Line],
    ) -> None:
        """Draw these curves, by their names, in place of those before.

        titles - of the chart, the abscissa and the ordinate; lines - one a curve
        """
        title, across, up = titles
        head = (across, tuple(curves), tuple(lines))
        if self.table is None or not slicer.mrmlScene.IsNodePresent(self.table) or head != self._head:
            self.remove()
            self._makeTable(title)
            self._head = head
        arrays = tuple(np.asarray(each, float) for each in (abscissa, *curves.values()))
        slicer.util.updateTableFromArray(self.table, arrays, [across, *curves])
        if self._chart is None:  # once the table has the columns that it asks for
            self._makeChart(title, across, dict(zip(curves, lines, strict=True)))
        self._chart.SetTitle(title)
        self._chart.SetXAxisTitle(across)
        self._chart.SetYAxisTitle(up)
        view = slicer.mrmlScene.GetSingletonNode(self._tag, "vtkMRMLPlotViewNode")
        if view is not None:
            view.SetPlotChartNodeID(self._chart.GetID())

    def remove(self) -> None:
        """Take all of it out of the scene."""
        for node in reversed(self._nodes):
            if slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)
        self.table = self._chart = None
        self._nodes = []

    def _makeTable(self, title: str) -> None:
        self.table = placing.addNode("vtkMRMLTableNode", title, self._nodes, hidden=True)

    def _makeChart(self, title: str, across: str, curves: Mapping[str, Line]) -> None:
        kind = slicer.vtkMRMLPlotSeriesNode
        with placing.whole() as added:
            self._chart = placing.addNode("vtkMRMLPlotChartNode", title, added, hidden=True)
            for name, line in curves.items():
                series = placing.addNode("vtkMRMLPlotSeriesNode", name, added, hidden=True)
                series.SetName(name)  # the legend's text, without a number
                series.SetXColumnName(across)
                series.SetYColumnName(name)
                series.SetAndObserveTableNodeID(self.table.GetID())
                series.SetPlotType(kind.PlotTypeScatter)
                series.SetMarkerStyle(kind.MarkerStyleNone)
                series.SetLineStyle(kind.LineStyleDash if line.dashed else kind.LineStyleSolid)
                series.SetLineWidth(1 if line.dashed else 3)
                series.SetColor(*line.color)
                self._chart.AddAndObservePlotSeriesNodeID(series.GetID())
        self._nodes += added
