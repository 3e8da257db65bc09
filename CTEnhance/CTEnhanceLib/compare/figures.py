"""The noise spectrum or the edge of a region, in both volumes of a comparison: measured, and in a plot."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from ctenhance.runtime.errors import InputError
from CTEnhanceLib.compare import modes
from CTEnhanceLib.measure import roi
from CTEnhanceLib.scene.plural import plural
from CTEnhanceLib.views import plot

PLOT_VIEW = "CTEnhanceRegionPlot"
# Of before and after: near the colours of their views, but told apart by lightness and dashes, too, also
# where one lies over the other.
_LINES = (plot.Line("#333333"), plot.Line("#237A23", dashed=True))
_SPACINGS = (2, 1, 0)  # of array axes slice, row, column
_CLEARLY = 0.7
_MOST_PER_MM = 1.5  # beyond which no CT resolves anything


class Figure(enum.Enum):
    """What can be drawn of a region."""

    NONE = ""
    NOISE = "noise"
    EDGE = "edge"
    TRANSFER = "transfer"

    def text(self) -> str:
        """Return its name for people."""
        return {
            Figure.NONE: _("No plot"),
            Figure.NOISE: _("Noise power spectrum (NPS)"),
            Figure.EDGE: _("Edge (ESF)"),
            Figure.TRANSFER: _("Edge: transfer function (MTF)"),
        }[self]


def plotView() -> str:
    """Return the view that figures are drawn in, for a layout; empty where Slicer has no plots."""
    return plot.plotView(PLOT_VIEW, _("R"))


def layouts() -> Iterator[tuple[int, str]]:
    """Yield number and description of every layout of a comparison, with and without a plot."""
    return modes.layouts(plotView())


class FigurePlot:
    """Draws one figure of one region at a time."""

    def __init__(self) -> None:
        self._plot = plot.Plot(PLOT_VIEW)

    @property
    def table(self) -> Any:
        """The table that is drawn; None: nothing is."""
        return self._plot.table

    def show(self, figure: Figure, region: Any, nodes: tuple[Any, Any], names: tuple[str, str]) -> str:
        """Draw a figure of a region in two volume nodes on one grid; return what it says, in a sentence.

        Raises InputError where it cannot be measured.
        """
        from ctenhance.quality import region as quality  # brings SciPy, which is slow to load

        margin = 0.0 if figure is Figure.NOISE else quality.MARGIN_MM
        (before, after), inside, spacing = _flat(region, nodes, margin)
        volumes = {"first": before, "second": after}
        title = f"{region.GetName()}: {figure.text()}"
        if figure is Figure.NOISE:
            found = quality.noise_in(volumes, inside, spacing)
            curves = {name: found[key]["nps_HU2mm2"] for name, key in zip(names, volumes, strict=True)}
            self._plot.show(
                (title, _("Frequency (1/mm)"), _("HU² mm²")), found["frequency_per_mm"], curves, _LINES
            )
            text = _noiseText(found, names)
            if not all(roi.statistics(region, node).uniform for node in nodes):
                text += " " + _("The region is not uniform: what is drawn is not noise alone.")
            return text
        found = quality.edge_in(volumes, inside, spacing)
        if figure is Figure.EDGE:
            curves = {name: found[key]["profile_HU"] for name, key in zip(names, volumes, strict=True)}
            self._plot.show((title, _("Distance (mm)"), _("HU")), found["distance_mm"], curves, _LINES)
            return _edgeText(found, names)
        if found["first"]["mtf"] is None or found["second"]["mtf"] is None:
            raise InputError(_("The edge has too little contrast for a transfer function."))
        frequency = np.array(found["first"]["frequency_per_mm"])
        kept = frequency <= min(_MOST_PER_MM, 0.5 / min(spacing[:2]))
        curves = {name: np.array(found[key]["mtf"])[kept] for name, key in zip(names, volumes, strict=True)}
        self._plot.show((title, _("Frequency (1/mm)"), _("MTF")), frequency[kept], curves, _LINES)
        return _edgeText(found, names)

    def prepare(self) -> None:
        """Make what `show` fills, in a turn before that."""
        self._plot.prepare(len(_LINES))

    def remove(self) -> None:
        """Take it away."""
        self._plot.remove()


def _flat(
    region: Any, nodes: tuple[Any, Any], margin: float
) -> tuple[list[np.ndarray], np.ndarray, tuple[float, float, float]]:
    """Return the voxels of both about a region, with so many mm around it in its plane, which of them are in
    it, and their spacing (x, y, z): turned so that the region lies along rows and columns."""
    where, inside = roi.place(region, nodes[0])
    start = [each.start for each in where]
    spacing = nodes[0].GetSpacing()
    steps = [spacing[axis] for axis in _SPACINGS]
    extents = [n * step for n, step in zip(inside.shape, steps, strict=True)]
    # In the scan's own slices, unless the region is clearly one of another plane.
    across = int(np.argmin(extents))
    across = across if extents[across] < _CLEARLY * extents[0] else 0
    shape = slicer.util.arrayFromVolume(nodes[0]).shape
    pads = [0 if axis == across else round(margin / steps[axis]) for axis in range(3)]
    low = [max(0, a - pad) for a, pad in zip(start, pads, strict=True)]
    high = [min(n, a + m + pad) for n, a, m, pad in zip(shape, start, inside.shape, pads, strict=True)]
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    mask = np.zeros([b - a for a, b in zip(low, high, strict=True)], bool)
    mask[tuple(slice(a - b, a - b + n) for a, b, n in zip(start, low, inside.shape, strict=True))] = inside
    arrays = [np.asarray(slicer.util.arrayFromVolume(node)[part], np.float32) for node in nodes]
    row, column = (axis for axis in range(3) if axis != across)
    turned = [np.ascontiguousarray(np.moveaxis(each, across, 0)) for each in (*arrays, mask)]
    return turned[:2], turned[2], (steps[column], steps[row], steps[across])


def _noiseText(found: dict[str, Any], names: tuple[str, str]) -> str:
    parts = []
    for name, key in zip(names, ("first", "second"), strict=True):
        spectrum = found[key]
        text = _("{name}: SD {deviation:.1f} HU").format(name=name, deviation=spectrum["variance_HU2"] ** 0.5)
        if spectrum["mean_per_mm"] is not None:
            text += _(", mean frequency {mean:.2f}/mm").format(mean=spectrum["mean_per_mm"])
        parts.append(text)
    one, several = _("1 square of {side:.0f} mm"), _("{count} squares of {side:.0f} mm")
    squares = plural(found["squares"], one, several, side=found["side_mm"])
    return "; ".join([*parts, squares]) + "."


def _edgeText(found: dict[str, Any], names: tuple[str, str]) -> str:
    parts = []
    for name, key in zip(names, ("first", "second"), strict=True):
        width, half = found[key]["width_mm"], found[key]["mtf50_per_mm"]
        if width is None or half is None:
            parts.append(_("{name}: no edge").format(name=name))
        else:
            parts.append(
                _("{name}: 10-90 % in {width:.2f} mm, MTF50 {half:.2f}/mm").format(
                    name=name, width=width, half=half
                )
            )
    return "; ".join([*parts, plural(found["edges"], _("1 profile"), _("{count} profiles"))]) + "."
