"""A sinogram of ASTRA's fan beam, written as docs/projections.md says, is the project's own scan."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import ctenhance
from ctenhance.core.volume import CTVolume
from ctenhance.files.projections import read_projections
from ctenhance.physics.geometry import FanGeometry
from ctenhance.physics.units import MU_WATER_PER_MM
from ctenhance.scan.simulate import (
    SOURCE_TO_DETECTOR_MM,
    SOURCE_TO_ISOCENTER_MM,
    clinical_scan,
    simulate_projections,
)

h5py = pytest.importorskip("h5py")
astra = pytest.importorskip("astra", reason="astra-toolbox is not installed")

SIZE, PIXEL, VIEWS, COLUMNS = 128, 2.0, 360, 300


def phantom() -> tuple[np.ndarray, dict[str, tuple[np.ndarray, float]]]:
    """HU `[y, x]` of an oval body, off-centre, with bone left and in front and lung right and behind; the
    cores of its parts with their HU."""
    y, x = (np.indices((SIZE, SIZE)) - (SIZE - 1) / 2) * PIXEL
    hu = np.full((SIZE, SIZE), -1000.0, np.float32)
    places = {"body": (6, -4, 95, 40.0), "bone": (48, -30, 16, 800.0), "lung": (-34, 28, 24, -850.0)}
    cores = {}
    for name, (cx, cy, radius, value) in places.items():
        distance = np.hypot(x - cx, y - cy)
        hu[distance < radius] = value
        cores[name] = (distance < radius - 8, value)
    for name in ("bone", "lung"):
        cx, cy, radius, _ = places[name]
        cores["body"][0][np.hypot(x - cx, y - cy) < radius + 8] = False
    return hu, cores


def of_astra(hu: np.ndarray, geometry: FanGeometry) -> np.ndarray:
    """Line integrals `[view, column]` by ASTRA, in its own order."""
    half = SIZE * PIXEL / 2
    volume = astra.create_vol_geom(SIZE, SIZE, -half, half, -half, half)
    beam = astra.create_proj_geom(
        "fanflat",
        geometry.column_pitch,
        COLUMNS,
        math.pi - np.arange(VIEWS) * 2 * math.pi / VIEWS,
        SOURCE_TO_ISOCENTER_MM,
        SOURCE_TO_DETECTOR_MM - SOURCE_TO_ISOCENTER_MM,
    )
    projector = astra.create_projector("line_fanflat", beam, volume)
    identity, sinogram = astra.create_sino(MU_WATER_PER_MM * (1 + hu / 1000), projector)
    astra.data2d.delete(identity)
    astra.projector.delete(projector)
    return np.asarray(sinogram)


def test_astras_fan_beam_reconstructs_as_the_projects_own(tmp_path: Path) -> None:
    hu, cores = phantom()
    geometry = clinical_scan("fan-flat", VIEWS, COLUMNS)
    assert isinstance(geometry, FanGeometry)
    with h5py.File(tmp_path / "astra.ctproj.h5", "w") as f:
        f.attrs.update(
            format="ctproj",
            version=1,
            geometry="fan_flat",
            source_to_isocenter_mm=SOURCE_TO_ISOCENTER_MM,
            source_to_detector_mm=SOURCE_TO_DETECTOR_MM,
            column_pitch_mm=geometry.column_pitch,
            central_column=(COLUMNS - 1) / 2,
            water_mu_per_mm=MU_WATER_PER_MM,
            image_pixel_mm=PIXEL,
            image_size=SIZE,
        )
        f["view_angles"] = np.arange(VIEWS) * 2 * np.pi / VIEWS
        # ASTRA's columns run the other way
        f["line_integrals"] = of_astra(hu, geometry)[:, None, ::-1].astype("float32")
    volume = CTVolume(hu[None], (PIXEL, PIXEL, 1.0))
    scan = {"views": VIEWS, "columns": COLUMNS, "device": "cpu"}
    own = simulate_projections(volume, "fan-flat", photons=None, **scan)  # type: ignore[arg-type]
    theirs = read_projections(tmp_path / "astra.ctproj.h5")
    images = [
        ctenhance.reconstruct(p, method="fbp", kernel="soft", device="cpu").volumes["reconstruction"].array[0]
        for p in (own, theirs)
    ]
    for name, (core, value) in cores.items():
        for image in images:
            assert image[core].mean() == pytest.approx(value, abs=2, rel=0.005), name
        # pixel by pixel, the two ways of crossing square pixels differ by streaks
        assert abs((images[1] - images[0])[core].mean()) < 2, name
