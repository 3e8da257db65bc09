"""The fields of projections, which `checks` looks at and `Projections` is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

GEOMETRIES = ("parallel", "fan_equiangular", "fan_flat")


@dataclass(eq=False, repr=False)
class ScanFields:
    """The readings of one scan, as a file holds them (see `Projections`).

    geometry            "parallel", "fan_equiangular" or "fan_flat"
    view_angles         float64 [view], rad, strictly growing or falling
    central_column      0-based, fractional column that the isocentre projects to
    counts              [view, row, column] or [view, row, column, bin], detected quanta; negative ones are
                        legitimate where `electronic_noise_variance` is positive.  Or
    line_integrals      of the same shapes, dimensionless (exactly one of the two is given).  Either
                        may be mapped from a file: use `rows` to have a part of it in memory
    air_counts          quanta without an object: [] or [column]; with bins [], [bin] or [column, bin]
    column_pitch_mm     parallel: at the isocentre; fan_flat: at the detector
    column_pitch_rad    fan_equiangular: angle between neighbouring columns as the source sees them
    source_to_isocenter_mm, source_to_detector_mm    fan only
    row_pitch_mm        distance of the slices, z growing with the row; with `view_z_mm`: of the detector's
                        rows at the detector
    view_z_mm           float64 [view]: the source's z on a helix; the rows are then a cone-beam detector
    electronic_noise_variance   counts^2, 0 where none is declared
    water_mu_per_mm     what 0 HU is
    image_pixel_mm, image_size  the suggested image: side of a pixel; pixels along one or (rows, columns)
    effective_spectra   float64 [bin, energy], relative detected quanta per keV in air, on `energies_keV`
                        [energy]; `thresholds_keV` [bin + 1]
    isocenter_mm        where the isocentre of row 0 lies in the patient, LPS
    direction           3 x 3, columns as in CTVolume: axes of the reconstructed image (identity: axial, LPS)
    meta                what the source says of the scan (`kvp`, `manufacturer`, ...) and `notes`: sentences,
                        free of identifiers, on what a reader assumed or changed
    """

    geometry: str
    view_angles: np.ndarray
    central_column: float
    counts: np.ndarray | None = None
    line_integrals: np.ndarray | None = None
    air_counts: np.ndarray | None = None
    column_pitch_mm: float | None = None
    column_pitch_rad: float | None = None
    source_to_isocenter_mm: float | None = None
    source_to_detector_mm: float | None = None
    row_pitch_mm: float | None = None
    view_z_mm: np.ndarray | None = None
    electronic_noise_variance: float = 0.0
    water_mu_per_mm: float | None = None
    image_pixel_mm: float | None = None
    image_size: int | tuple[int, int] | None = None
    effective_spectra: np.ndarray | None = None
    energies_keV: np.ndarray | None = None  # noqa: N815 (the unit's name, as in the file)
    thresholds_keV: np.ndarray | None = None  # noqa: N815
    isocenter_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: np.ndarray = field(default_factory=lambda: np.eye(3))
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def readings(self) -> np.ndarray:
        """The counts, or the line integrals where there are none."""
        return self.line_integrals if self.counts is None else self.counts  # type: ignore[return-value]

    @property
    def shape(self) -> tuple[int, ...]:
        """(views, rows, columns) or (views, rows, columns, bins)."""
        return tuple(self.readings.shape)

    @property
    def n_views(self) -> int:
        return self.shape[0]

    @property
    def n_rows(self) -> int:
        return self.shape[1]

    @property
    def n_columns(self) -> int:
        return self.shape[2]

    @property
    def n_bins(self) -> int | None:
        """Number of energy bins, None for readings without a bin axis."""
        return self.shape[3] if len(self.shape) == 4 else None

    @property
    def helical(self) -> bool:
        """Whether the rows are a cone-beam detector on a helix, not slices of their own."""
        return self.view_z_mm is not None
