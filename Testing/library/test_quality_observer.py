"""The channelised Hotelling observer against areas that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ctenhance.quality.observer import area, channels, ratings
from ctenhance.runtime.errors import InputError

SIDE = 24


def signal() -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    return np.exp(-(x**2 + y**2) / (2 * 2.5**2))


def images(count: int, amplitude: float, seed: int, smooth: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, SIDE, SIDE))
    if smooth:
        f = np.fft.fftfreq(SIDE)
        gain = np.exp(-((np.hypot(f[:, None], f[None]) / smooth) ** 2))
        noise = np.fft.ifft2(np.fft.fft2(noise) * gain).real
    return noise + amplitude * signal()


def known_area(amplitude: float, smooth: float = 0.0) -> float:
    """Of the best linear observer of the channels, from the exact covariance."""
    eye = channels(SIDE)
    f = np.fft.fftfreq(SIDE)
    gain = np.exp(-((np.hypot(f[:, None], f[None]) / smooth) ** 2)) if smooth else np.ones((SIDE, SIDE))
    through = np.fft.ifft2(np.fft.fft2(eye) * gain).real.reshape(len(eye), -1)
    mean = eye.reshape(len(eye), -1) @ (amplitude * signal()).ravel()
    squared = mean @ np.linalg.solve(through @ through.T, mean)
    return float(stats.norm.cdf(np.sqrt(squared / 2)))


@pytest.mark.parametrize(("amplitude", "smooth"), [(0.15, 0.0), (0.3, 0.0), (0.1, 0.2)])
def test_the_area_is_that_of_the_best_linear_observer(amplitude: float, smooth: float) -> None:
    rated = ratings(images(3000, amplitude, 1, smooth), images(3000, 0, 2, smooth))
    assert area(*rated) == pytest.approx(known_area(amplitude, smooth), abs=0.025)


def test_no_signal_is_a_guess_and_a_constant_is_not_seen() -> None:
    assert area(*ratings(images(400, 0, 3), images(400, 0, 4))) == pytest.approx(0.5, abs=0.06)
    raised = images(400, 0, 5) + 1000
    assert area(*ratings(raised, images(400, 0, 6))) == pytest.approx(0.5, abs=0.06)
    assert np.abs(channels(SIDE).sum((1, 2))).max() < 1e-9


def test_area_counts_pairs() -> None:
    present, absent = np.array([3.0, 1.0, 2.0]), np.array([0.0, 2.0, 2.0])
    expected = np.mean([[1.0 if p > a else 0.5 if p == a else 0 for a in absent] for p in present])
    assert area(present, absent) == pytest.approx(expected)


def test_refusals() -> None:
    with pytest.raises(InputError, match="at least"):
        ratings(images(10, 1, 0), images(500, 0, 1))
    with pytest.raises(InputError, match="square images of one size"):
        ratings(np.zeros((100, 8, 9)), np.zeros((100, 8, 9)))
