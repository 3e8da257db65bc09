"""Projections and their files for the tests of the format."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ctenhance.scan.projections import Projections

VIEWS, ROWS, COLUMNS, BINS = 40, 3, 24, 2
AIR = 2e4


def angles(views: int = VIEWS) -> np.ndarray:
    return np.arange(views) * (2 * math.pi / views)


def path_lengths(bins: int | None = None, seed: int = 0) -> np.ndarray:
    """Line integrals of something round, float32 [view, row, column] (, bin)."""
    t = np.linspace(-1.2, 1.2, COLUMNS)
    chord = 4 * np.sqrt(np.clip(1 - t**2, 0, None))
    draw = np.random.default_rng(seed)
    p = chord * draw.uniform(0.9, 1.1, (VIEWS, ROWS, 1))
    return (p if bins is None else p[..., None] * np.linspace(1.2, 0.8, bins)).astype(np.float32)


def fan(**changes: Any) -> Projections:
    """Counts of a fan beam; `changes` replace fields."""
    draw = np.random.default_rng(1)
    fields: dict[str, Any] = {
        "geometry": "fan_equiangular",
        "view_angles": angles(),
        "central_column": 11.75,
        "counts": draw.poisson(AIR * np.exp(-path_lengths())).astype(np.float32),
        "air_counts": np.asarray(AIR),
        "column_pitch_rad": 0.03,
        "source_to_isocenter_mm": 595.0,
        "source_to_detector_mm": 1085.6,
        "row_pitch_mm": 1.5,
        "electronic_noise_variance": 10.0,
        "water_mu_per_mm": 0.0192,
        "image_pixel_mm": 0.8,
        "image_size": 256,
    }
    return Projections(**{**fields, **changes})


def spectral(**changes: Any) -> Projections:
    """Counts in energy bins, with all that the decomposition needs."""
    energies = np.arange(20, 121, dtype=np.float64)
    spectra = np.stack([np.exp(-(((energies - e) / 15) ** 2)) for e in (45, 80)])
    fields = {
        "counts": (AIR * np.exp(-path_lengths(BINS))).astype(np.float32),
        "air_counts": np.full((COLUMNS, BINS), AIR),
        "energies_keV": energies,
        "effective_spectra": spectra,
        "thresholds_keV": np.array([20.0, 65.0, 120.0]),
    }
    return fan(**{**fields, **changes})


def saved(path: Path, projections: Projections, **changes: Any) -> Path:
    """Write the file, then set (or with None delete) attributes and '/datasets' in it."""
    projections.write(path)
    with h5py.File(path, "r+") as stored:
        for name, value in changes.items():
            if name in stored:
                del stored[name]
                if value is not None:
                    stored[name] = value
            elif value is None:
                stored.attrs.pop(name)
            elif name in ("counts", "line_integrals", "view_z_mm", "energies_keV"):
                stored[name] = value
            else:
                stored.attrs[name] = value
    return path
