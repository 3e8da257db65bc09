"""Simulated scans: the counts' statistics, the geometry, and that they reconstruct to the volume's HU."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ctenhance.core.volume import CTVolume
from ctenhance.physics.fbp import fbp
from ctenhance.physics.projector import project
from ctenhance.physics.units import MU_WATER_PER_MM, hu_to_mu, mu_to_hu
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancelled, CancelToken
from ctenhance.scan import simulate
from ctenhance.scan.projections import Projections
from ctenhance.scan.simulate import simulate_projections

SMALL = {"views": 96, "columns": 120, "device": "cpu"}
SIZE, PIXEL = 64, 4.0


def disc(
    slices: int = 2, hu: float = 0.0, bone_hu: float | None = None, radius_mm: float = 90.0, **fields: object
) -> CTVolume:
    """A disc of soft tissue, off-centre, with a small dense disc in it on request."""
    y, x = (np.indices((SIZE, SIZE)) - (SIZE - 1) / 2) * PIXEL
    array = np.full((slices, SIZE, SIZE), -1000.0)
    array[:, np.hypot(x, y) < radius_mm] = hu
    if bone_hu is not None:
        for side in (-50, 50):
            array[:, np.hypot(x - side, y) < 22] = bone_hu
    return CTVolume(array.astype(np.float32), **{"spacing": (PIXEL, PIXEL, 3.0), **fields})  # type: ignore[arg-type]


def hu_of(projections: Projections, kernel: str = "hann") -> np.ndarray:
    lines, scan, grid = projections.to_line_integrals(), projections.scan_geometry(), projections.image_grid()
    return mu_to_hu(fbp(lines, scan, grid, kernel), projections.water_mu_per_mm or MU_WATER_PER_MM).numpy()


@pytest.mark.parametrize("name", ["fan-equiangular", "fan-flat", "parallel"])
def test_reconstructs_to_the_volume(name: str) -> None:
    volume = disc(origin=(10.0, 20.0, -7.0))
    p = simulate_projections(volume, name, photons=None, **SMALL)
    image = hu_of(p)
    middle = image[:, 26:38, 26:38]
    assert middle.mean() == pytest.approx(0, abs=4)
    assert image[:, :4].mean() == pytest.approx(-1000, abs=8)
    back = p.volume(image, p.image_grid())
    assert back.origin == pytest.approx(volume.origin) and back.spacing == volume.spacing
    assert p.geometry == name.replace("-", "_")


def test_counts_have_the_asked_statistics() -> None:
    volume = disc(slices=12)
    p = simulate_projections(volume, photons=4e4, dose=0.25, electronic_variance=30.0, seed=3, **SMALL)
    assert p.air_counts.shape == () and float(p.air_counts) == 1e4 and p.electronic_noise_variance == 30.0
    mu = hu_to_mu(torch.from_numpy(volume.array[:1])).clamp(min=0)
    clean = project(mu, p.scan_geometry(), p.image_grid())[0]
    expected = 1e4 * np.exp(-clean.numpy().astype(np.float64))
    counts = np.asarray(p.counts, dtype=np.float64)  # [view, row, column]; rows are repetitions
    deviation = (counts - expected[:, None]) / np.sqrt(expected[:, None] + 30)
    samples = deviation.size
    assert abs(deviation.mean()) < 5 / math.sqrt(samples)
    assert deviation.var() == pytest.approx(1, abs=5 * math.sqrt(2 / samples))
    # slices are independent
    pair = deviation[:, 0].ravel() @ deviation[:, 1].ravel() / deviation[:, 0].size
    assert abs(pair) < 5 / math.sqrt(deviation[:, 0].size)


def test_the_seed_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = disc(slices=3)
    one = simulate_projections(volume, seed=5, **SMALL)
    same = simulate_projections(volume, seed=5, **SMALL)
    other = simulate_projections(volume, seed=6, **SMALL)
    assert np.array_equal(one.counts, same.counts) and not np.array_equal(one.counts, other.counts)
    # slices in batches of their own, without noise: the same but for rounding
    whole = simulate_projections(volume, photons=None, **SMALL)
    monkeypatch.setattr(simulate, "_BATCH", 1)
    single = simulate_projections(volume, photons=None, **SMALL)
    assert np.allclose(whole.line_integrals, single.line_integrals, atol=1e-5)


def test_starved_readings_may_be_negative() -> None:
    p = simulate_projections(disc(), photons=1e3, dose=0.2, electronic_variance=60.0, **SMALL)
    assert (np.asarray(p.counts) < 0).any()
    p.check_values()
    assert torch.isfinite(p.to_line_integrals()).all()


def test_bowtie_and_modulation() -> None:
    volume = disc(slices=1)
    p = simulate_projections(volume, photons=1e6, bowtie=0.7, modulation=0.5, **SMALL)
    assert p.air_counts.shape == (120,)
    assert p.air_counts[60] == pytest.approx(1e6, rel=1e-3) and p.air_counts[0] < 0.5e6
    clean = simulate_projections(volume, photons=None, **SMALL)
    difference = (p.to_line_integrals() - clean.to_line_integrals()).numpy()
    assert abs(difference.mean()) < 1e-3 and np.abs(difference).max() < 0.05


def test_polychromatic_hardens_the_beam() -> None:
    water = simulate_projections(disc(), photons=None, polychromatic=True, **SMALL)
    image = hu_of(water)
    assert 0.6 * MU_WATER_PER_MM < water.water_mu_per_mm < 1.4 * MU_WATER_PER_MM
    assert image[0, 28:36, 28:36].mean() == pytest.approx(0, abs=30)
    # cupping: the rim reads higher than the middle
    assert image[0, 31:33, 12:14].mean() > image[0, 31:33, 31:33].mean() + 5
    # between two bones a monochromatic beam shows soft tissue as it is, a polychromatic one darker
    assert _between(False) == pytest.approx(0, abs=12)
    assert _between(True) < _between(False) - 20


def _between(polychromatic: bool) -> float:
    bones = disc(slices=1, bone_hu=1200.0)
    image = hu_of(simulate_projections(bones, photons=None, polychromatic=polychromatic, **SMALL))
    plain = hu_of(simulate_projections(disc(slices=1), photons=None, polychromatic=polychromatic, **SMALL))
    return float((image - plain)[0, 31:33, 30:34].mean())


def test_mirrored_volumes_are_scanned_as_they_lie() -> None:
    volume = disc(bone_hu=None)
    volume.array[:, 20:26, 36:44] = 800
    volume.array[1] += 5
    mirrored = CTVolume(
        volume.array[::-1, ::-1, ::-1],
        volume.spacing,
        tuple((np.array(volume.array.shape[::-1]) - 1) * volume.spacing),  # type: ignore[arg-type]
        -np.eye(3),
    )
    p = simulate_projections(volume, photons=None, **SMALL)
    q = simulate_projections(mirrored, photons=None, **SMALL)
    assert np.allclose(p.line_integrals, q.line_integrals, atol=1e-5)
    assert q.isocenter_mm == pytest.approx(p.isocenter_mm) and np.array_equal(q.direction, np.eye(3))


def test_body_outside_the_field_of_view() -> None:
    wide = CTVolume(np.zeros((1, 16, 150), dtype=np.float32), (PIXEL, PIXEL, 3.0))
    p = simulate_projections(wide, **SMALL)
    (note,) = p.meta["notes"]
    assert "outside the scanner's field of view of 502 mm" in note
    assert simulate_projections(disc(), **SMALL).meta["notes"] == []


def test_refusals() -> None:
    volume = disc()
    for settings, part in [
        ({"geometry": "spiral"}, "no geometry 'spiral'"),
        ({"dose": 0.0}, "dose cannot be 0.0"),
        ({"dose": math.nan}, "dose cannot be nan"),
        ({"photons": -1.0}, "photons cannot be -1"),
        ({"electronic_variance": -1.0}, "electronic variance cannot be"),
        ({"views": 3}, "20 to 20000 views, not 3"),
        ({"columns": 10_001}, "16 to 10000 columns, not 10001"),
        ({"polychromatic": True, "kvp": 9}, "9"),
    ]:
        with pytest.raises(InputError, match=part):
            simulate_projections(volume, **{**SMALL, **settings})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="only square ones"):
        simulate_projections(replace(volume, spacing=(1.0, 1.2, 1.0)), "parallel", **SMALL)
    sagittal = CTVolume(volume.array, volume.spacing, direction=np.eye(3)[:, [1, 2, 0]])
    with pytest.raises(InputError, match="not axial"):
        simulate_projections(sagittal, **SMALL)
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        simulate_projections(volume, cancel=token, **SMALL)
