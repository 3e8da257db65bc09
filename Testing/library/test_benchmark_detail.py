"""What the benchmark of the detail task takes for sharp, for ringing, and for there."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("skimage", reason="the benchmarks need scikit-image")


@pytest.fixture
def detail(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    import detail

    return detail


def same(array: np.ndarray) -> np.ndarray:
    return array


def blurred(array: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(array, (0, 0.8, 0.8))


def overdone(array: np.ndarray) -> np.ndarray:
    return array + 2.0 * (array - ndimage.gaussian_filter(array, (0, 1.2, 1.2)))


def test_modulation_is_that_of_the_bars_without_slope_and_noise(detail: ModuleType) -> None:
    y, x = np.mgrid[:64, :64]
    bars = 50 * np.sin(2 * np.pi * (x + y) / 8)
    noise = np.random.default_rng(0).normal(0, 20, bars.shape)
    expected = 50 / np.sqrt(2)
    assert detail.modulation(bars + 3 * y + 40, (32, 32), 20, 0.0) == pytest.approx(expected, rel=0.05)
    assert detail.modulation(bars + noise, (32, 32), 20, 20.0) == pytest.approx(expected, rel=0.1)
    assert detail.modulation(0.4 * noise, (32, 32), 20, 20.0) == 0


def test_bars_tell_a_blurred_image_from_a_sharpened_one(detail: ModuleType) -> None:
    found = detail.computed_bars({"same": same, "blurred": blurred, "overdone": overdone})
    for width in ("1.4 mm, 1000 HU", "1 mm, 1000 HU"):
        assert found["blurred"][width] < 0.8 * found["same"][width]
        assert found["overdone"][width] > 1.2 * found["same"][width]
    assert found["same"]["1.4 mm, 1000 HU"] > found["same"]["0.8 mm, 1000 HU"]


def test_ringing_and_sharpness_of_edges(detail: ModuleType) -> None:
    found = detail.ringing({"same": same, "blurred": blurred, "overdone": overdone})
    for contrast in ("1000 HU", "-900 HU"):
        one = {name: found[name][contrast] for name in found}
        assert abs(one["same"]["over"]) < 0.02 and abs(one["same"]["under"]) < 0.02
        assert one["overdone"]["over"] > 0.1 and one["overdone"]["under"] > 0.1
        assert one["blurred"]["mtf50"] < 0.9 * one["same"]["mtf50"]
        # a blur of 0.5 mm and pixels of 0.7 mm
        assert one["same"]["mtf50"] == pytest.approx(0.36, rel=0.1)
