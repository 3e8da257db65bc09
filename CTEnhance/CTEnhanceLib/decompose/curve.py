"""What a region holds: its HU by energy in one of Slicer's plots, and a table of materials."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from CTEnhanceLib.decompose.spectral import Curve, Kind, SpectralImage, SpectralTable
from CTEnhanceLib.views import plot

PLOT_VIEW = "CTDecomposeCurve"
_BLUE = "#2C5F9E"


def plotView() -> str:
    """Return the view that the curve is drawn in, for a layout; empty where Slicer has no plots."""
    return plot.plotView(PLOT_VIEW, _("HU"))


class CurvePlot:
    """One region's curve, in the plot view of `plotView`."""

    def __init__(self) -> None:
        self._plot = plot.Plot(PLOT_VIEW)

    @property
    def table(self) -> Any:
        """The table that is drawn; None: nothing is."""
        return self._plot.table

    def show(self, curve: Curve) -> None:
        """Draw this curve, with a standard deviation on both sides, in place of the one before."""
        low = _("Spectral curve of the region, low noise")
        title = low if curve.lowNoise else _("Spectral curve of the region")
        curves = {
            _("Mean HU"): curve.mean,
            _("Mean - SD"): curve.mean - curve.deviation,
            _("Mean + SD"): curve.mean + curve.deviation,
        }
        lines = [plot.Line(_BLUE), *[plot.Line(_BLUE, dashed=True)] * 2]
        self._plot.show((title, _("keV"), _("HU")), curve.energies, curves, lines)

    def remove(self) -> None:
        """Take all of it out of the scene."""
        self._plot.remove()


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
        digits = 2 if np.abs(samples[index]).max() < 100 else 1
        rows.append((_("{name} (mg/mL)").format(name=name), samples[index], expected, digits))
    for image in images:
        values = image.values(table, samples.astype(np.float32))
        rows.append((_("{name} (HU)").format(name=image.text()), values, None, 1))
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
