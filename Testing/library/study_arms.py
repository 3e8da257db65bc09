"""Two folders of images whose arms differ in whatever could tell them apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ctenhance.core.volume import CTVolume

ARMS = ("before", "after")


def write_arms(root: Path, cases: int = 4, seed: int = 0) -> None:
    """Two folders that differ in whatever could tell them apart: type, padding, noise, origin's last
    digit.
    """
    rng = np.random.default_rng(seed)
    for arm, sd in zip(ARMS, (30, 8), strict=True):
        (root / arm).mkdir(parents=True)
        for number in range(cases):
            array = rng.normal(40, sd, (3, 40, 40))
            array[:, :8] = rng.normal(-1000, sd, (3, 8, 40))
            if arm == "before":
                array = np.round(array)
                array[:, :3] = -2000  # outside of the scanned field
            spacing = (0.7, 0.7, 1.5)
            origin = (-10.0, 5.0, number + (1e-5 if arm == "after" else 0.0))
            CTVolume(array.astype(np.float32), spacing, origin).write(root / arm / f"Miller {number}.nii.gz")
