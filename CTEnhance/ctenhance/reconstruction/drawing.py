"""Scanners and exposures as training draws them: everything that a file may bring, so that nothing of it is
learned by heart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ctenhance.physics.geometry import FanGeometry, ParallelGeometry, ScanGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.noise import bowtie_fluence
from ctenhance.reconstruction.spdiff import NORMAL_QUANTA

#: Doses that training covers, as shares of the normal one, evenly in the logarithm.
DOSES = (0.015, 0.7)
#: Electronic variance in counts^2 of energy-integrating detectors, drawn evenly in the logarithm; a
#: quarter of the scans have none, as photon counters.
ELECTRONIC, PHOTON_COUNTING = (1.0, 60.0), 0.25
#: What is above this (HU) belongs to the patient or the table, and every view sees it whole.
_OBJECT_HU = -600.0
_LEAST_RADIUS_MM, _MARGIN_MM = 110.0, 12.0


def _object_radius(hu: np.ndarray, pixel_mm: float) -> float:
    """Distance of the farthest part of the object from the image centre, `hu` `[y, x]` or `[z, y, x]`."""
    solid = (hu > _OBJECT_HU).reshape(-1, *hu.shape[-2:]).any(0)
    y, x = np.nonzero(solid)
    if len(y) == 0:
        return 0.0
    middle = (np.array(solid.shape) - 1) / 2
    return float(np.hypot(y - middle[0], x - middle[1]).max() + 1) * pixel_mm


def draw_scan(rng: np.random.Generator, hu: np.ndarray, pixel_mm: float) -> tuple[ScanGeometry, ImageGrid]:
    """A scanner that sees the object in `hu` `[z, y, x]` whole, and the image, a little off centre.

    Equiangular and flat fans of clinical distances and parallel rays; full and short scans.
    """
    rows, columns = hu.shape[-2:]
    reach = _object_radius(hu, pixel_mm)
    shift = (float(rng.uniform(-15, 15)), float(rng.uniform(-15, 15)))
    least = max(_LEAST_RADIUS_MM, reach + math.hypot(*shift) + _MARGIN_MM)
    radius = max(least, float(rng.uniform(160, 260)))
    n_columns = min(max(round(2 * radius / float(rng.uniform(0.55, 1.05))), 448), 920)
    central = (n_columns - 1) / 2 + float(rng.choice([0.0, 0.25, -0.25, rng.uniform(-2, 2)]))
    start = float(rng.uniform(0, 2 * math.pi))
    grid = ImageGrid(rows, columns, pixel_mm, shift)
    kind = rng.random()
    if kind < 0.2:
        half = rng.random() < 0.7
        arc, views = (math.pi, rng.integers(420, 900)) if half else (2 * math.pi, rng.integers(576, 1160))
        return ParallelGeometry(int(views), n_columns, 2 * radius / n_columns, arc), grid
    distance = float(rng.uniform(535, 630))
    detector = distance + float(rng.uniform(390, 500))
    opening = math.asin(min(0.95, radius / distance))
    short = rng.random() < 0.12
    arc = math.pi + 2 * opening + float(rng.uniform(0.1, 0.6)) if short else 2 * math.pi
    n_views = round(float(rng.integers(576, 1160)) * arc / (2 * math.pi))
    flat = kind < 0.45
    pitch = 2 * detector * math.tan(opening) / n_columns if flat else 2 * opening / n_columns
    # the end of a full turn is its beginning, that of a short scan is not
    angles = start + np.arange(n_views) * (arc / (n_views - 1 if short else n_views))
    scan = FanGeometry(
        "flat" if flat else "equiangular",
        distance,
        detector,
        pitch,
        n_columns,
        central,
        tuple(angles.tolist()),
    )
    return scan, grid


@dataclass(frozen=True)
class Exposure:
    """Quanta in air `[column]` (float32) and electronic variance in counts^2."""

    air: torch.Tensor
    electronic: float


def draw_exposure(
    rng: np.random.Generator, geometry: ScanGeometry, doses: tuple[float, float] = DOSES
) -> Exposure:
    """A dose, a bowtie (in most scans) and an electronic variance."""
    dose = float(np.exp(rng.uniform(np.log(doses[0]), np.log(doses[1]))))
    air = torch.full((geometry.n_columns,), NORMAL_QUANTA * dose)
    if rng.random() < 0.6:
        air = air * drawn_bowtie(rng, geometry)
    low, high = np.log(ELECTRONIC)
    electronic = 0.0 if rng.random() < PHOTON_COUNTING else float(np.exp(rng.uniform(low, high)))
    return Exposure(air, electronic)


def drawn_bowtie(rng: np.random.Generator, geometry: ScanGeometry) -> torch.Tensor:
    """Relative fluence `[column]` of a body or head filter of any strength."""
    radius = geometry.field_of_view_mm / 2
    strength, cylinder = float(rng.uniform(0.2, 0.9)), float(rng.uniform(0.55, 0.9)) * radius
    columns, pitch = geometry.n_columns, geometry.isocenter_pitch_mm
    rays = ParallelGeometry(1, columns, pitch, central_column=geometry.central_column)
    return bowtie_fluence(rays, strength, cylinder).float()


def measure(
    integrals: torch.Tensor, exposure: Exposure, generator: torch.Generator, scale: float = 1.0
) -> torch.Tensor:
    """Detected counts `[slice, view, column]` (electronic noise included, so some may be negative)."""
    counts = torch.poisson(exposure.air * torch.exp(-scale * integrals), generator=generator)
    if exposure.electronic > 0:
        counts += torch.randn(counts.shape, generator=generator) * exposure.electronic**0.5
    return counts
