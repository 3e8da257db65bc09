"""What a region holds: its HU by energy in one of Slicer's plots, and a table of materials."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from CTEnhanceLib.decompose.spectral import Curve, Kind, SpectralImage, SpectralTable
from CTEnhanceLib.scene import placing

PLOT_VIEW = "CTDecomposeCurve"
_BLUE = (0.30, 0.50, 0.75)


def plotView() -> str:
    """Return the view that the curve is drawn in, for a layout; empty where Slicer has no plots."""
    if not hasattr(slicer.modules, "plots"):
        return ""
    properties = f'<property name="viewlabel" action="default">{_("HU")}</property>'
    return f'<view class="vtkMRMLPlotViewNode" singletontag="{PLOT_VIEW}">{properties}</view>'


class CurvePlot:
    """The table, series and chart of one region's curve, in the plot view of `plotView`."""

    def __init__(self) -> None:
        self.table: Any = None
        self._chart: Any = None
        self._nodes: list[Any] = []

    def show(self, curve: Curve) -> None:
        """Draw this curve, with a standard deviation on both sides, in place of the one before."""
        if self.table is None or not slicer.mrmlScene.IsNodePresent(self.table):
            self._make()
        columns = (curve.energies, curve.mean, curve.mean - curve.deviation, curve.mean + curve.deviation)
        slicer.util.updateTableFromArray(self.table, columns, _columns())
        low = _("Spectral curve of the region, low noise")
        self._chart.SetTitle(low if curve.lowNoise else _("Spectral curve of the region"))
        view = slicer.mrmlScene.GetSingletonNode(PLOT_VIEW, "vtkMRMLPlotViewNode")
        if view is not None:
            view.SetPlotChartNodeID(self._chart.GetID())

    def remove(self) -> None:
        """Take all of it out of the scene."""
        for node in reversed(self._nodes):
            if slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)
        self.table = self._chart = None
        self._nodes = []

    def _make(self) -> None:
        with placing.whole() as added:
            self.table = placing.addNode("vtkMRMLTableNode", _("Spectral curve"), added, hidden=True)
            self._chart = placing.addNode("vtkMRMLPlotChartNode", _("Spectral curve"), added, hidden=True)
            energy, *values = _columns()
            for name in values:
                series = placing.addNode("vtkMRMLPlotSeriesNode", name, added, hidden=True)
                series.SetName(name)  # the legend's text, without a number
                series.SetAndObserveTableNodeID(self.table.GetID())
                series.SetXColumnName(energy)
                series.SetYColumnName(name)
                series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
                series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
                mean = name == values[0]
                solid, dashed = (
                    slicer.vtkMRMLPlotSeriesNode.LineStyleSolid,
                    slicer.vtkMRMLPlotSeriesNode.LineStyleDash,
                )
                series.SetLineStyle(solid if mean else dashed)
                series.SetLineWidth(3 if mean else 1)
                series.SetColor(*_BLUE)
                self._chart.AddAndObservePlotSeriesNodeID(series.GetID())
            self._chart.SetXAxisTitle(energy)
            self._chart.SetYAxisTitle(_("HU"))
        self._nodes = added


def _columns() -> list[str]:
    return [_("keV"), _("Mean HU"), _("Mean - SD"), _("Mean + SD")]


def materialTable(
    table: SpectralTable,
    samples: np.ndarray,
    errors: np.ndarray | None,
    images: Sequence[SpectralImage],
    size: str,
) -> str:
    """Return what a region of this size, in words, holds, as a small table in rich text.

    samples - densities in mg/mL, [material, voxel], and after them those of guided maps where `images`, the
    monoenergetic ones to list, are of low noise; errors - standard errors of the maps as the noise of the
    counts makes them expect, [material, voxel], or None
    """
    rows = []
    for index, name in enumerate(table.materials):
        expected = None if errors is None else float(np.sqrt(np.mean(errors[index] ** 2)))
        rows.append(
            (f"{name} (mg/mL)", samples[index], expected, 2 if np.abs(samples[index]).max() < 100 else 1)
        )
    for image in images:
        rows.append((f"{image.text()} (HU)", image.values(table, samples.astype(np.float32)), None, 1))
    head = (_("Mean"), _("SD"), _("SD expected"))
    lines = "".join(
        f"<tr><td>{html.escape(name)}</td>{_cell(float(np.mean(values)), digits)}"
        f"{_cell(float(np.std(values)), digits)}{_cell(expected, digits)}</tr>"
        for name, values, expected, digits in rows
    )
    titles = "".join(f"<th align='right'>&nbsp;{text}</th>" for text in head)
    own = samples[: len(table.materials)]
    means = [mean[None].astype(np.float32) for mean in own.mean(axis=1)]
    z, density = (
        float(SpectralImage(kind).values(table, means)[0])
        for kind in (Kind.Z_EFFECTIVE, Kind.ELECTRON_DENSITY)
    )
    caption = _("{size}, Z-eff {z:.2f}, electron density {density:.3f} of water's").format(
        size=size, z=z, density=density
    )
    return f"<table cellpadding='3'><tr><th></th>{titles}</tr>{lines}</table>{caption}"


def _cell(value: float | None, digits: int) -> str:
    return f"<td align='right'>{'–' if value is None else format(value, f'.{digits}f')}</td>"
