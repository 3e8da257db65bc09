"""The machine's judgement of simulated noise: it sees another texture, and no difference where none is."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("skimage", reason="the benchmarks need scikit-image")


@pytest.fixture
def realism(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    import realism

    return realism


def noise(realism: ModuleType, count: int, blur: float, seed: int) -> np.ndarray:
    white = np.random.default_rng(seed).normal(size=(count, 40, 40))
    return realism.normalised(ndimage.gaussian_filter(white, (0, blur, blur))[:, 8:32, 8:32])


def test_another_texture_is_told_and_the_same_is_not(realism: ModuleType) -> None:
    def scans(blur: float) -> list:
        return [
            realism.Patches(str(k), noise(realism, 60, 0.9, 10 + k), noise(realism, 60, blur, 20 + k))
            for k in range(3)
        ]

    other = realism.judge_all(scans(0.7), steps=120)
    same = realism.judge_all(scans(0.9), steps=120)
    assert [row["scan"] for row in other] == ["0", "1", "2"]
    assert min(float(row["area"]) for row in other) > 0.8
    assert min(float(row["mean_frequency_area"]) for row in other) > 0.8
    assert np.mean([float(row["area"]) for row in same]) == pytest.approx(0.5, abs=0.1)


def test_patches_are_of_sd_one_and_flat(realism: ModuleType) -> None:
    _, x = np.mgrid[:24, :24]
    squares = 30 + 4.0 * x + np.random.default_rng(0).normal(0, 12, (5, 24, 24))
    found = realism.normalised(squares)
    np.testing.assert_allclose(found.std((1, 2)), 1, rtol=1e-4)
    assert np.abs(found.mean(0) - found.mean()).mean() < 0.6  # no slope is left
    assert abs(float(np.corrcoef(found.mean(0).ravel(), x.ravel())[0, 1])) < 0.2


def test_a_scan_gives_real_and_added_noise(realism: ModuleType) -> None:
    from enhance_body import body

    from ctenhance.core.volume import CTVolume

    found = realism.scan_patches(body(8, 15, 1), "one", 0.5, 8, 0)
    assert found is not None and min(len(found.real), len(found.simulated)) >= realism.FEWEST
    assert found.real.shape[1:] == found.simulated.shape[1:] == (24, 24)
    small = CTVolume(body(1, 15, 1).array[:, 50:130, 80:160], (0.8, 0.8, 2.0))
    assert realism.scan_patches(small, "few", 0.5, 1, 0) is None


def test_spectra_are_as_far_apart_as_their_textures(realism: ModuleType) -> None:
    rng = np.random.default_rng(3)
    white, again = rng.normal(size=(2, 400, realism.SIDE, realism.SIDE))
    smooth = ndimage.gaussian_filter(white, (0, 1.0, 1.0))
    assert realism.spectrum_distance(white, again) < 0.02
    assert realism.spectrum_distance(white, 3 * again) < 0.02  # of the shape alone
    assert realism.spectrum_distance(white, smooth) > 0.4
