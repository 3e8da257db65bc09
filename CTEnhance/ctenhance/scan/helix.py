"""A multi-row scan, usually a helix: geometry in LPS, and views that are read when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress
from ctenhance.scan.dead_columns import fill_in, notes_of
from ctenhance.scan.projections import Projections, negative_log


@dataclass(eq=False)
class Helix:
    """A scan of many detector rows, view by view.

    The detector is fixed to the focal centre, a point on the gantry.  The source stands there or, with a
    flying focal spot, a little off it; every ray goes from the source where it truly is to the element.

    load                view index -> line integrals float32 [row, column]
    focal_angle         [view] rad: angle beta of the focal centre (convention of `Projections`)
    focal_z             [view] mm: its z, which is that of detector row `central_row`
    focal_radius        [view] mm: its distance from the isocentre
    angle_shift, z_shift, radius_shift   [view]: of the source from the focal centre
    detector_distance   [view] mm: from the focal centre to the detector
    central_column      [view]: 0-based column on the line from the focal centre through the isocentre
    central_row         0-based
    flat                flat detector (`column_pitch` in mm) or an arc about the focal centre (rad)
    row_pitch_mm        at the detector; negative where z falls with the row
    row_direction_sure  whether the source of the data leaves no doubt on that sign
    photons             [column] or None: quanta in air of one reading
    water_mu_per_mm, image_pixel_mm, isocenter_xy_mm, meta   as in `Projections`
    """

    load: Callable[[int], np.ndarray]
    n_rows: int
    n_columns: int
    focal_angle: np.ndarray
    focal_z: np.ndarray
    focal_radius: np.ndarray
    angle_shift: np.ndarray
    z_shift: np.ndarray
    radius_shift: np.ndarray
    detector_distance: np.ndarray
    central_column: np.ndarray
    central_row: float
    flat: bool
    column_pitch: float
    row_pitch_mm: float
    row_direction_sure: bool = True
    water_mu_per_mm: float | None = None
    image_pixel_mm: float | None = None
    photons: np.ndarray | None = None
    isocenter_xy_mm: tuple[float, float] = (0.0, 0.0)
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def n_views(self) -> int:
        return len(self.focal_angle)

    @property
    def source_angle(self) -> np.ndarray:
        """[view] rad: where the source truly stands."""
        return self.focal_angle + self.angle_shift

    @property
    def source_z(self) -> np.ndarray:
        """[view] mm."""
        return self.focal_z + self.z_shift

    @property
    def source_radius(self) -> np.ndarray:
        """[view] mm."""
        return self.focal_radius + self.radius_shift

    def note(self, sentence: str) -> None:
        """Keep a sentence for the user."""
        self.meta["notes"] = [*self.meta.get("notes", []), sentence]

    def fan(self, view: int) -> tuple[np.ndarray, np.ndarray]:
        """Fan angle (rad) and in-plane distance (mm) of the columns, `[column]`, from the view's true source.

        In axes turned so that the focal centre stands at 12 o'clock, at (0, -radius).
        """
        along = np.arange(self.n_columns) - self.central_column[view]
        along = along * self.column_pitch
        distance, radius = self.detector_distance[view], self.focal_radius[view]
        if self.flat:
            x, y = along, np.full_like(along, distance - radius)
        else:
            x, y = distance * np.sin(along), distance * np.cos(along) - radius
        shift, source = self.angle_shift[view], self.source_radius[view]
        x, y = x - source * np.sin(shift), y + source * np.cos(shift)
        inward, sideward = -np.sin(shift) * x + np.cos(shift) * y, np.cos(shift) * x + np.sin(shift) * y
        return np.arctan2(sideward, inward), np.hypot(x, y)


def helix_of(
    projections: Projections, progress: Progress | None = None, cancel: Cancellable | None = None
) -> Helix:
    """Return the helix in a projection file with `view_z_mm`; its detector rows are centred on the source.

    Reads all counts once, to find dead columns. Raises InputError for parallel rays and for energy bins,
    which have no helix here; Cancelled when asked to stop.
    """
    p = projections
    if p.view_z_mm is None or p.geometry == "parallel" or p.n_bins is not None:
        raise InputError(
            "Only fan-beam projections of one energy ('geometry' fan_equiangular or fan_flat, no bins) with "
            "'/view_z_mm' can be rebinned from a helix."
        )
    air = None if p.air_counts is None else np.broadcast_to(p.air(), p.n_columns)
    dead = p.dead_columns(progress, cancel)

    def load(view: int) -> np.ndarray:
        values = np.array(p.readings[view], dtype=np.float32)
        if dead.any():
            fill_in(values[None], dead, np.broadcast_to(p.air(), p.n_columns))
        return values if p.counts is None else negative_log(torch.from_numpy(values), p.air()).numpy()

    flat = p.geometry == "fan_flat"
    nothing = np.zeros(p.n_views)
    return Helix(
        load=load,
        n_rows=p.n_rows,
        n_columns=p.n_columns,
        focal_angle=p.view_angles,
        focal_z=p.view_z_mm,
        focal_radius=np.full(p.n_views, p.source_to_isocenter_mm),
        angle_shift=nothing,
        z_shift=nothing,
        radius_shift=nothing,
        detector_distance=np.full(p.n_views, p.source_to_detector_mm),
        central_column=np.full(p.n_views, p.central_column),
        central_row=(p.n_rows - 1) / 2,
        flat=flat,
        column_pitch=float((p.column_pitch_mm if flat else p.column_pitch_rad) or 0),
        row_pitch_mm=float(p.row_pitch_mm or 1.0),
        water_mu_per_mm=p.water_mu_per_mm,
        image_pixel_mm=p.image_pixel_mm,
        photons=air,
        isocenter_xy_mm=p.isocenter_mm[:2],
        meta={**p.meta, "notes": [*p.readers_notes, *notes_of(dead)]},
    )
