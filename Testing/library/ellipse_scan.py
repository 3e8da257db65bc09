"""Scans of a body of ellipses by closed form, from the convention of docs/projections.md alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ctenhance.scan.projections import Projections

MU = 0.0192
#: x, y, half axes (mm), turned by (rad), attenuation relative to water: body, lungs, spine, heart, a rib.
BODY = [
    (6.0, -4.0, 150.0, 100.0, 0.1, 1.0),
    (-64.0, -12.0, 44.0, 58.0, 0.2, -0.75),
    (72.0, -8.0, 40.0, 60.0, -0.15, -0.72),
    (4.0, 62.0, 20.0, 16.0, 0.0, 0.9),
    (26.0, -30.0, 34.0, 24.0, 0.6, 0.1),
    (-110.0, 40.0, 6.0, 12.0, 0.4, 0.8),
]
DISC = [(0.0, 0.0, 90.0, 90.0, 0.0, 1.0)]
SID, SDD, COLUMNS, VIEWS = 595.0, 1085.6, 180, 300
FIELD = 360.0  # diameter that the detector sees, mm


def integrals(
    sources: np.ndarray,
    directions: np.ndarray,
    ellipses: list[tuple[float, ...]],
    moved: np.ndarray | float = 0,
) -> np.ndarray:
    """Line integrals along unit `directions` `[..., 2]` from points on the rays; the body is `moved` (mm)."""
    total = np.zeros(directions.shape[:-1])
    for x, y, a, b, turned, mu in ellipses:
        c, s = math.cos(turned), math.sin(turned)
        axes = np.array([[c / a, s / a], [-s / b, c / b]])  # to the unit circle
        start = (sources - (np.array([x, y]) + moved)) @ axes.T
        along = directions @ axes.T
        square = (along**2).sum(-1)
        inside = (start * along).sum(-1) ** 2 - square * ((start**2).sum(-1) - 1)
        total = total + mu * MU * 2 * np.sqrt(np.clip(inside, 0, None)) / square
    return total


def scan(
    geometry: str = "fan_flat",
    ellipses: list[tuple[float, ...]] | None = None,
    quanta: float | None = None,
    columns: int = COLUMNS,
    views: int = VIEWS,
    arc: float | None = None,
    offset: float = 0.0,
    field: float = FIELD,
    move: Any = None,
    rows: int = 2,
    seed: int = 0,
) -> Projections:
    """The body's scan: noise-free line integrals, or counts of so many `quanta` in air with electronic noise.

    `offset`: of the detector in columns; `move(part of the scan)`: where the body is then (x, y in mm)."""
    ellipses = BODY if ellipses is None else ellipses
    arc = arc or (math.pi if geometry == "parallel" else 2 * math.pi)
    angles = np.arange(views) * arc / views
    central = (columns - 1) / 2 + offset
    at = np.arange(columns) - central
    e = np.stack([np.cos(angles), np.sin(angles)], -1)[:, None]
    d = np.stack([-np.sin(angles), np.cos(angles)], -1)[:, None]
    fields: dict[str, Any] = {}
    if geometry == "parallel":
        pitch = field / columns
        sources, directions = e * (at * pitch)[:, None] - 1000 * d, np.broadcast_to(d, (views, columns, 2))
        fields["column_pitch_mm"] = pitch
    else:
        half = math.asin(field / 2 / SID)
        if geometry == "fan_flat":
            pitch = 2 * SDD * math.tan(half) / columns
            gamma = np.arctan(at * pitch / SDD)
            fields["column_pitch_mm"] = pitch
        else:
            pitch = 2 * half / columns
            gamma = at * pitch
            fields["column_pitch_rad"] = pitch
        sources = -SID * d
        directions = np.cos(gamma)[:, None] * d + np.sin(gamma)[:, None] * e
        fields |= {"source_to_isocenter_mm": SID, "source_to_detector_mm": SDD}
    moved = 0.0 if move is None else np.array([move(v / views) for v in range(views)])[:, None]
    p = integrals(sources, directions, ellipses, moved)
    readings = np.repeat(p[:, None], rows, axis=1).astype(np.float32)
    if quanta is None:
        fields["line_integrals"] = readings
    else:
        draw = np.random.default_rng(seed)
        counts = draw.poisson(quanta * np.exp(-readings)) + draw.normal(0, 10**0.5, readings.shape)
        fields |= {
            "counts": counts.astype(np.float32),
            "air_counts": np.array(quanta),
            "electronic_noise_variance": 10.0,
        }
    return Projections(
        geometry=geometry,
        view_angles=angles,
        central_column=central,
        row_pitch_mm=2.0,
        water_mu_per_mm=MU,
        image_pixel_mm=4.0,
        image_size=96,
        **fields,
    )
