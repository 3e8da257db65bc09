"""An analytic helical scan in DICOM-CT-PD's own coordinates: a water cylinder with a dense sphere in it.

Written from the format's definition alone (x to the right, y up and z away as seen from the table, phi
counter-clockwise from 12 o'clock, elements counted from 1), so that the package's reader is held against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ctenhance.scan.helix import Helix

WATER = 0.0192


@dataclass
class HelicalScan:
    """Parameters of the scan; lengths in mm, `sphere` (x, y, z) in the format's coordinates."""

    rows: int = 16
    columns: int = 96
    views_per_turn: float = 144
    turns: float = 3.0
    feed: float = 20.0  # mm per turn
    start_z: float = -27.0
    start_phi: float = 0.7
    sense: float = 1.0  # of the rotation
    focal_radius: float = 595.0
    detector_distance: float = 1085.6
    spacing: float = 6.1  # of the columns at the detector
    row_spacing: float = 3.0
    central: tuple[float, float] = (48.75, 8.5)  # column, row; counted from 1
    flat: bool = False
    angle_shifts: tuple[float, ...] = (0.0,)  # taken in turn, view by view
    z_shifts: tuple[float, ...] = (0.0,)
    radius_shifts: tuple[float, ...] = (0.0,)
    per_angle: int = 1  # views that the gantry stands still for
    cylinder_radius: float = 100.0
    cylinder_center: tuple[float, float] = (0.0, 0.0)
    sphere: tuple[float, float, float] = (35.0, 50.0, 3.0)
    sphere_radius: float = 14.0
    sphere_mu: float = 0.5 * WATER  # more than water's
    row_sign: float = -1.0  # the format's row 1 has the greatest z
    photons: np.ndarray | None = field(default=None)

    @property
    def n_views(self) -> int:
        return round(self.views_per_turn * self.turns)

    def focal(self) -> tuple[np.ndarray, np.ndarray]:
        """phi0 and z0 of every view."""
        view = np.arange(self.n_views) // self.per_angle * self.per_angle
        turned = view / self.views_per_turn
        return self.start_phi + self.sense * 2 * math.pi * turned, self.start_z + self.feed * turned

    def shifts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Delta phi, Delta z and Delta rho of every view."""
        view = np.arange(self.n_views)
        all_shifts = (self.angle_shifts, self.z_shifts, self.radius_shifts)
        return tuple(np.asarray(one)[view % len(one)] for one in all_shifts)  # type: ignore[return-value]

    def line_integrals(self, view: int) -> np.ndarray:
        """Float32 [row, column]; row and column 0 are the format's row and column 1."""
        phi, z = (float(one[view]) for one in self.focal())
        d_phi, d_z, d_rho = (float(one[view]) for one in self.shifts())
        rho = self.focal_radius
        source = np.array(
            [-(rho + d_rho) * math.sin(phi + d_phi), (rho + d_rho) * math.cos(phi + d_phi), z + d_z]
        )
        focal = np.array([-rho * math.sin(phi), rho * math.cos(phi), z])
        inward = np.array([math.sin(phi), -math.cos(phi), 0.0])
        # At phi = 0 the detector stands at 6 o'clock and column 1 is leftmost: columns grow to the right.
        right = np.array([math.cos(phi), math.sin(phi), 0.0])
        column = np.arange(1, self.columns + 1) - self.central[0]
        row = np.arange(1, self.rows + 1) - self.central[1]
        if self.flat:
            along = column[:, None] * self.spacing * right + self.detector_distance * inward
        else:
            gamma = column * 2 * math.atan(self.spacing / (2 * self.detector_distance))
            along = self.detector_distance * (
                np.cos(gamma)[:, None] * inward + np.sin(gamma)[:, None] * right
            )
        up = self.row_sign * row[:, None, None] * self.row_spacing * np.array([0.0, 0.0, 1.0])
        element = focal + along[None] + up
        ray = element - source
        return (WATER * self._cylinder(source, ray) + self.sphere_mu * self._sphere(source, ray)).astype(
            np.float32
        )

    def _cylinder(self, source: np.ndarray, ray: np.ndarray) -> np.ndarray:
        start = source[:2] - np.asarray(self.cylinder_center)
        a = (ray[..., :2] ** 2).sum(-1)
        b = (ray[..., :2] * start).sum(-1)
        inside = b * b - a * ((start**2).sum() - self.cylinder_radius**2)
        return 2 * np.sqrt(np.clip(inside, 0, None)) / a * np.sqrt((ray**2).sum(-1))

    def _sphere(self, source: np.ndarray, ray: np.ndarray) -> np.ndarray:
        unit = ray / np.sqrt((ray**2).sum(-1, keepdims=True))
        start = source - np.asarray(self.sphere)
        b = (unit * start).sum(-1)
        inside = b * b - ((start**2).sum() - self.sphere_radius**2)
        return 2 * np.sqrt(np.clip(inside, 0, None))

    def helix(self) -> Helix:
        """For the writer: as a patient on the back, head first."""
        phi, z = self.focal()
        d_phi, d_z, d_rho = self.shifts()
        n = self.n_views
        return Helix(
            load=self.line_integrals,
            n_rows=self.rows,
            n_columns=self.columns,
            focal_angle=-phi,
            focal_z=z,
            focal_radius=np.full(n, self.focal_radius),
            angle_shift=-d_phi,
            z_shift=d_z,
            radius_shift=d_rho,
            detector_distance=np.full(n, self.detector_distance),
            central_column=np.full(n, self.central[0] - 1),
            central_row=self.central[1] - 1,
            flat=self.flat,
            column_pitch=self.spacing
            if self.flat
            else 2 * math.atan(self.spacing / (2 * self.detector_distance)),
            row_pitch_mm=-self.row_spacing,
            water_mu_per_mm=WATER,
            photons=self.photons,
        )
