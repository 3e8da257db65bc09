"""Images at several energies for the tests: an elliptic body with rods, of tabulated attenuation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ctenhance.core.volume import CTVolume
from ctenhance.physics.materials import material, solution

PIXEL_MM = 1.0
SIZE = 128
RODS = {"iodine 2": (-30, -20), "iodine 10": (30, -20), "iodine 20": (0, 25), "plain": (0, -5)}
_CONTENTS = {"iodine 2": ("iodine", 2.0), "iodine 10": ("iodine", 10.0), "iodine 20": ("iodine", 20.0)}
RADIUS = 9


def rod(name: str, part: float = 0.8) -> np.ndarray:
    """The pixels of a rod."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    left, down = RODS[name]
    return (x - left) ** 2 + (y - down) ** 2 < (part * RADIUS) ** 2


def body() -> np.ndarray:
    """The pixels of the body."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    return (x / 55) ** 2 + (y / 45) ** 2 < 1


def hounsfield(of: str, mg_per_ml: float, kev: float) -> float:
    """HU of a solution in water at an energy, by the tables."""
    at = torch.tensor([kev], dtype=torch.float64)
    water = material("water").linear_attenuation(at)
    return float(1000 * (solution(of, mg_per_ml).linear_attenuation(at) / water - 1))


def image(kev: float, slices: int = 2, others: dict[str, tuple[str, float]] | None = None) -> np.ndarray:
    """The noise-free image in HU [z, y, x]: air, a body of water, rods of iodine (or of `others`)."""
    plane = np.where(body(), 0.0, -1000.0)
    for name, (of, amount) in {**_CONTENTS, **(others or {})}.items():
        plane[rod(name, 1.0)] = hounsfield(of, amount, kev)
    return np.repeat(plane[None], slices, 0)


def scan(
    kevs: Sequence[float],
    noise_hu: Sequence[float] | None = None,
    correlation: float = -0.5,
    slices: int = 2,
    seed: int = 0,
    others: dict[str, tuple[str, float]] | None = None,
) -> dict[float, CTVolume]:
    """Images by keV with Gaussian noise, that of neighbours correlated so much."""
    draw = np.random.default_rng(seed)
    sizes = np.array(noise_hu if noise_hu is not None else [0.0] * len(kevs))
    ones = np.eye(len(kevs)) + correlation * (np.eye(len(kevs), k=1) + np.eye(len(kevs), k=-1))
    factor = np.linalg.cholesky(ones)
    white = draw.normal(size=(len(kevs), slices, SIZE, SIZE))
    noise = np.einsum("ij,jzyx->izyx", factor, white) * sizes[:, None, None, None]
    spacing = (PIXEL_MM, PIXEL_MM, 2.0)
    return {
        kev: CTVolume((image(kev, slices, others) + noise[i]).astype(np.float32), spacing)
        for i, kev in enumerate(kevs)
    }
