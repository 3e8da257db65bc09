"""Curves in one of Slicer's plots: a table, its series and a chart, all hidden and gone with `remove`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import qt
import slicer

from CTEnhanceLib.process.steps import inTurns
from CTEnhanceLib.scene import colortables, placing


@dataclass(frozen=True)
class Line:
    """How a curve is drawn: its colour (#RRGGBB), dashed or solid.

    Slicer's plots are cream-coloured on every theme; colours stand out of that by 4.5 : 1 or more.
    """

    color: str
    dashed: bool = False

    def rgb(self) -> tuple[float, ...]:
        """Return red, green and blue of its colour, 0 to 1."""
        return colortables.rgb(self.color)


def plotView(tag: str, label: str) -> str:
    """Return the view that curves are drawn in, for a layout; empty where Slicer has no plots."""
    if not hasattr(slicer.modules, "plots"):
        return ""
    properties = f'<property name="viewlabel" action="default">{label}</property>'
    return f'<view class="vtkMRMLPlotViewNode" singletontag="{tag}">{properties}</view>'


class Plot:
    """The curves of one plot view, by its tag."""

    def __init__(self, tag: str) -> None:
        #: What is drawn; None: nothing is.
        self.table: Any = None
        self._table: Any = None
        self._tag = tag
        self._chart: Any = None
        self._nodes: list[Any] = []
        self._series: list[Any] = []

    def prepare(self, count: int) -> None:
        """Make what so many curves need, where it is not there: the nodes take longer than what they show."""
        if not self._has(count):
            self.remove()
            self._make(self._tag, count)

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
        self.prepare(len(curves))
        self.table = self._table
        arrays = tuple(np.asarray(each, float) for each in (abscissa, *curves.values()))
        with contextlib.ExitStack() as changes:  # told of when columns and series fit each other again
            for node in self._nodes:
                changes.enter_context(slicer.util.NodeModify(node))
            slicer.util.updateTableFromArray(self.table, arrays, [across, *curves])
            for series, name, line in zip(self._series, curves, lines, strict=True):
                _describe(series, across, name, line)
            self.table.SetName(title)
            self._chart.SetTitle(title)
            self._chart.SetXAxisTitle(across)
            self._chart.SetYAxisTitle(up)
        view = self._view()
        if view is not None and view.GetPlotChartNodeID() != self._chart.GetID():
            # Not now: what is measured and what is drawn of it for the first time take a turn each.
            qt.QTimer.singleShot(0, self._showChart)

    def remove(self) -> None:
        """Take all of it out of the scene: the chart now, and in turns what it was drawn of."""
        if self._chart is not None:
            _remove(self._chart)
            rest = [node for node in self._nodes if node is not self._chart]
            inTurns([functools.partial(_remove, node) for node in rest])
        self.table = self._table = self._chart = None
        self._nodes, self._series = [], []

    def _has(self, count: int) -> bool:
        """Say whether there is what so many curves need; to make it anew takes longer than to draw it."""
        return len(self._series) == count and all(map(slicer.mrmlScene.IsNodePresent, self._nodes))

    def _make(self, title: str, count: int) -> None:
        with placing.whole() as added:
            self._table = placing.addNode("vtkMRMLTableNode", title, added, hidden=True)
            self._chart = placing.addNode("vtkMRMLPlotChartNode", title, added, hidden=True)
            for _number in range(count):
                series = placing.addNode("vtkMRMLPlotSeriesNode", title, added, hidden=True)
                series.SetAndObserveTableNodeID(self._table.GetID())
                self._series.append(series)
                self._chart.AddAndObservePlotSeriesNodeID(series.GetID())
        self._nodes = added

    def _view(self) -> Any:
        return slicer.mrmlScene.GetSingletonNode(self._tag, "vtkMRMLPlotViewNode")

    def _showChart(self) -> None:
        view = self._view()
        if view is not None and self._chart is not None and slicer.mrmlScene.IsNodePresent(self._chart):
            view.SetPlotChartNodeID(self._chart.GetID())


def _remove(node: Any) -> None:
    if slicer.mrmlScene.IsNodePresent(node):
        slicer.mrmlScene.RemoveNode(node)


def _describe(series: Any, across: str, name: str, line: Line) -> None:
    kind = slicer.vtkMRMLPlotSeriesNode
    series.SetName(name)  # the legend's text, without a number
    series.SetXColumnName(across)
    series.SetYColumnName(name)
    series.SetPlotType(kind.PlotTypeScatter)
    series.SetMarkerStyle(kind.MarkerStyleNone)
    series.SetLineStyle(kind.LineStyleDash if line.dashed else kind.LineStyleSolid)
    series.SetLineWidth(3)
    series.SetColor(*line.rgb())
