"""Whether a scan's body reaches beyond its detector, in a sentence for the user."""

from __future__ import annotations

import numpy as np

from ctenhance.physics.geometry import ScanGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.redundancy import measured_field_mm
from ctenhance.physics.truncation import MOST_TRUNCATED, truncated_share
from ctenhance.scan.air_level import air_offset
from ctenhance.scan.projections import Projections
from ctenhance.scan.view_check import view_offsets

#: Slices, evenly spread, that are looked at.
_SLICES = 8


def truncation_warning(projections: Projections, scan: ScanGeometry, grid: ImageGrid) -> str | None:
    """A warning where the body goes on beyond the detector's ends, so that rays have to be extrapolated by
    `physics.truncation`; None where all was measured."""
    rows = np.unique(np.linspace(0, projections.n_rows - 1, _SLICES).round().astype(int)).tolist()
    lines = [projections.rows(z, z + 1).to_line_integrals() for z in rows]
    for of_row in lines:  # instead of views in which the tube failed, or that are blank, the next one counts
        sound = np.flatnonzero(view_offsets(of_row[0].numpy()) == 0)
        nearest = np.searchsorted(sound, np.arange(of_row.shape[1])).clip(max=len(sound) - 1)
        of_row[0] = of_row[0, sound[nearest]].clone()
    shares = [truncated_share(of_row, scan, grid) for of_row in lines]
    share = max(shares)
    if share <= MOST_TRUNCATED:
        return None
    warning = (
        f"Body or table reach beyond the detector in up to {share:.0%} of a slice's views: outside of the "
        f"{measured_field_mm(scan):.0f} mm that the scan measures whole values mean nothing, and near that "
        "edge they are rough."
    )
    offsets = [
        air_offset(of_row[0]) for of_row, cut in zip(lines, shares, strict=True) if cut > MOST_TRUNCATED
    ]
    if (offset := max((one or 0.0 for one in offsets), default=0.0)) > 0:
        why = "the line integrals have an offset"
        if projections.counts is not None:
            why = f"the air counts are {np.exp(offset):.3g} times too high, or counts were clipped"
        warning += (
            f" Or else {why}: in nearly all views the rays at both ends read about {offset:.2g}, as no body "
            "that is cut off makes them. Then all values are too high."
        )
    return warning
