"""Whether a scan's body reaches beyond its detector, in a sentence for the user."""

from __future__ import annotations

import numpy as np

from ctenhance.physics.geometry import ScanGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.truncation import MOST_TRUNCATED, truncated_share
from ctenhance.scan.projections import Projections

#: Slices, evenly spread, that are looked at.
_SLICES = 8


def truncation_warning(projections: Projections, scan: ScanGeometry, grid: ImageGrid) -> str | None:
    """A warning where the body goes on beyond the detector's ends, so that rays have to be extrapolated by
    `physics.truncation`; None where all was measured."""
    rows = np.unique(np.linspace(0, projections.n_rows - 1, _SLICES).round().astype(int)).tolist()
    share = max(truncated_share(projections.rows(z, z + 1).to_line_integrals(), scan, grid) for z in rows)
    if share <= MOST_TRUNCATED:
        return None
    return (
        f"Body or table reach beyond the detector in up to {share:.0%} of a slice's views: outside of the "
        f"{scan.field_of_view_mm:.0f} mm that every view sees values mean nothing, and near that edge "
        "they are rough."
    )
