"""The measured projections as a picture: line integrals, one sinogram a slice."""

from __future__ import annotations

import numpy as np

from ctenhance.core.volume import CTVolume
from ctenhance.runtime.progress import Cancellable, check
from ctenhance.scan.projections import Projections

#: Of scans with more views, only every second (third, …) is shown: a screen has no more lines.
MOST_VIEWS = 1024
_SLICES_AT_ONCE = 8


def sinogram(projections: Projections, cancel: Cancellable | None = None) -> CTVolume:
    """The line integrals (dimensionless) as a volume `[slice, view, column]`, one voxel a reading.

    Its spacing is 1 along columns and views, the slices' distance in mm along z. Raises InputError where the
    readings have no line integrals (see `Projections.to_line_integrals`), Cancelled when asked to stop.
    """
    step = -(-projections.n_views // MOST_VIEWS)
    views = len(range(0, projections.n_views, step))
    values = np.empty((projections.n_rows, views, projections.n_columns), np.float32)
    for start in range(0, projections.n_rows, _SLICES_AT_ONCE):
        check(cancel)
        stop = min(start + _SLICES_AT_ONCE, projections.n_rows)
        values[start:stop] = projections.rows(start, stop).to_line_integrals()[:, ::step].numpy()
    return CTVolume(values, (1.0, 1.0, projections.row_pitch_mm or 1.0))
