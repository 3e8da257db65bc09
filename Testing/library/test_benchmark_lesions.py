"""Drawn lesions: their size and partial volumes, what is kept of them, and what was invented."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("skimage", reason="the benchmarks need scikit-image")


@pytest.fixture
def lesions(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    import lesions

    return lesions


@pytest.mark.parametrize("spacing", [(0.7, 0.7, 0.7), (0.6, 0.6, 3.0)])
@pytest.mark.parametrize("diameter", [4.0, 10.0])
def test_a_lesion_has_its_volume_on_any_grid(
    lesions: ModuleType, spacing: tuple[float, float, float], diameter: float
) -> None:
    shape = (24, 48, 48)
    volumes = []
    for seed in range(6):
        one = lesions.Lesion("liver", (12, 24, 24), diameter, seed)
        found = lesions.weight(one, shape, spacing)
        assert found.min() >= 0 and found.max() <= 1
        volumes.append(found.sum() * math.prod(spacing))
        centre = ndimage.center_of_mass(found)
        np.testing.assert_allclose(centre, (12, 24, 24), atol=0.35)
    assert np.mean(volumes) == pytest.approx(math.pi / 6 * diameter**3, rel=0.04)
    shapes = {
        lesions.weight(lesions.Lesion("liver", (12, 24, 24), 9, k), shape, spacing).tobytes() for k in (0, 1)
    }
    assert len(shapes) == 2
    cut = lesions.weight(lesions.Lesion("liver", (0, 1, 46), 8, 0), shape, spacing)  # at a corner
    assert cut.shape == shape and 0 < cut.sum() * math.prod(spacing) < math.pi / 6 * 8**3


def test_contrast_kept_and_lost(lesions: ModuleType) -> None:
    one = -25 * lesions.weight(lesions.Lesion("liver", (2, 16, 16), 6.0, 1), (5, 32, 32), (0.7, 0.7, 2.0))
    assert lesions.kept_contrast(one, one, one) == pytest.approx(1)
    assert lesions.kept_contrast(0.3 * one, one, one) == pytest.approx(0.3)
    assert lesions.kept_contrast(0 * one, one, one) == 0


def test_what_was_invented_is_counted(lesions: ModuleType) -> None:
    truth = np.full((96, 96), 50.0)
    truth[:20] = -1000
    y, x = np.mgrid[:96, :96]
    image = truth.copy()
    image[np.hypot(y - 60, x - 30) < 4] += 60  # a blob of 5.6 mm
    image[np.hypot(y - 60, x - 70) < 4] -= 60
    image[np.hypot(y - 40, x - 50) < 1] += 60  # far too small
    image[18:22] += 200  # an edge that was moved is none
    assert lesions.invented(image, truth, 0.7) == 2
    assert lesions.invented(truth, truth, 0.7) == 0
    noise = np.random.default_rng(0).normal(0, 15, truth.shape)
    assert lesions.invented(truth + noise, truth, 0.7) == 0


def test_a_sharp_and_a_blunt_method_are_told_apart(
    lesions: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lesions in uniform tissue with white noise: smoothing by their size helps the observer little and takes
    contrast; removing them is seen."""
    from ctenhance.core.volume import CTVolume

    monkeypatch.setattr(lesions, "lowered", lambda volume, dose, seed: volume.array + noise)
    rng = np.random.default_rng(1)
    shape = (12, 288, 288)
    noise = rng.normal(0, 25, shape).astype(np.float32)
    volume = CTVolume(np.full(shape, 100, np.float32), (0.75, 0.75, 3.0))
    methods = {
        "itself": lambda array: array,
        "blunt": lambda array: ndimage.gaussian_filter(array, (0, 2.5, 2.5)),
        "removed": lambda array: np.full_like(array, 100) + noise,
    }
    found = lesions.measure_patient(volume, 0.25, methods, 1)
    figures = {name: lesions.summary([one]) for name, one in found.items()}
    group = "liver 10 mm"
    assert set(figures["itself"]) == {f"liver {d:g} mm" for d in lesions.DIAMETERS_MM}
    assert figures["itself"][group]["kept"] == pytest.approx(1, abs=1e-4)
    assert figures["itself"][group]["lost"] == 0 and figures["removed"][group]["lost"] == 1
    assert figures["blunt"]["liver 4 mm"]["kept"] < 0.5 < figures["blunt"][group]["kept"] < 0.95
    assert figures["itself"][group]["area"] > 0.9
    low, high = figures["removed"][group]["limits"]
    assert low - 0.05 < 0.5 < high + 0.05
