"""A small fan-beam scan of four slices, and small untrained networks as weights files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctenhance.physics.geometry import FanGeometry, even_angles
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.projector import project
from ctenhance.physics.units import MU_WATER_PER_MM, hu_to_mu
from ctenhance.reconstruction.networks import build
from ctenhance.runtime import weights
from ctenhance.runtime.weights import WeightsEntry
from ctenhance.scan.projections import Projections
from ctenhance.scan.rays import ray_fields

SIDE, PIXEL, VIEWS, COLUMNS = 64, 4.0, 120, 96
ROWS, QUANTA = 4, 20_000.0
GRID = ImageGrid(SIDE, SIDE, PIXEL)
SMALL = [4, 4, 4, 4, 4, 4]


def anatomy() -> torch.Tensor:
    """HU `[row, y, x]`: a body of water, different inserts in every slice."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    hu = np.full((ROWS, SIDE, SIDE), -1000.0, np.float32)
    hu[:, (x / 26) ** 2 + (y / 20) ** 2 < 1] = 0
    for row in range(ROWS):
        hu[row, (x - 8 + 2 * row) ** 2 + (y + 5) ** 2 < 16] = 60 * row - 100
    return torch.from_numpy(hu)


def geometry() -> FanGeometry:
    pitch = 2 * math.asin(135 / 595) / COLUMNS
    return FanGeometry("equiangular", 595.0, 1085.0, pitch, COLUMNS, (COLUMNS - 1) / 2, even_angles(VIEWS))


def measured(seed: int = 0, rows: int = ROWS, **changes: Any) -> Projections:
    g = geometry()
    clean = project(hu_to_mu(anatomy()), g, GRID)[:rows]
    counts = torch.poisson(QUANTA * torch.exp(-clean), generator=torch.Generator().manual_seed(seed))
    fields: dict[str, Any] = {
        **ray_fields(g),
        "counts": counts.permute(1, 0, 2).numpy().astype(np.float32),
        "air_counts": np.array(QUANTA),
        "row_pitch_mm": 2.5,
        "water_mu_per_mm": MU_WATER_PER_MM,
        "image_pixel_mm": PIXEL,
        "image_size": SIDE,
    }
    return Projections(**{**fields, **changes})


def small_models(folder: Path) -> dict[str, Path]:
    """Weights files of both networks by the arguments of `reconstruct` that name them."""
    torch.manual_seed(1)
    made = {}
    for name, architecture in (("model_projection", "spdiff-compact"), ("model_image", "doubly-guided")):
        network = build(architecture, {"features": SMALL})
        entry = WeightsEntry(name, "", "", "none", "nothing", architecture, {"features": SMALL}, "1", "")
        made[name] = folder / f"{name}.safetensors"
        weights.save(made[name], network.state_dict(), entry)
    return made
