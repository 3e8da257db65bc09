"""Realistic steps on the image: slice thickness and reconstruction kernel."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctenhance.degradation.image_steps import KERNELS, Kernel, SliceThickness, kernel_gain
from ctenhance.degradation.reconstruction import Reconstruction
from ctenhance.degradation.source_noise import OwnNoise, overlap_thickness, overlap_weights
from ctenhance.degradation.steps import VolumeInfo, stream


def info(slices: int = 40, spacing: float = 1.0, thickness: float | None = None) -> VolumeInfo:
    array = np.zeros((slices, 8, 8), dtype=np.float32)
    return VolumeInfo(
        array, (0.7, 0.7, spacing), thickness or spacing, OwnNoise(0, (), 0, ()), Reconstruction(720, 0.4)
    )


def no_tick(done: int, total: int) -> None:
    pass


@given(
    st.floats(0.4, 3),
    st.floats(1, 5),
    st.floats(0, 0.5),
    st.floats(1, 3),
)
def test_profile_is_a_symmetric_average_of_the_right_width(
    spacing: float, thickness: float, slope: float, overlap: float
) -> None:
    own = spacing * overlap
    step = SliceThickness.fit(info(40, spacing, own), thickness, slope)
    weights = np.array(step.weights)
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    np.testing.assert_allclose(weights, weights[::-1], atol=1e-12)
    at = (np.arange(len(weights)) - len(weights) // 2) * spacing
    added = max(0.0, thickness**2 - own**2) / 12
    assert float(weights @ at**2) == pytest.approx(added, abs=1e-6 * spacing**2)


def test_thicker_slices_keep_the_mean_and_average_the_noise() -> None:
    step = SliceThickness.fit(info(), 4.0, 0.2)
    array = np.random.default_rng(0).normal(50, 20, (40, 50, 40)).astype(np.float32)
    thick = array.copy()
    step.apply(thick, no_tick)
    assert thick.mean() == pytest.approx(50, abs=0.5)
    inner = slice(len(step.weights), -len(step.weights))
    expected = 20 * math.sqrt(sum(w * w for w in step.weights))
    assert thick[inner].std() == pytest.approx(expected, rel=0.02)
    assert expected < 12


def test_a_plane_spreads_by_the_profile_and_the_ends_repeat() -> None:
    step = SliceThickness.fit(info(), 3.0, 0.0)
    np.testing.assert_allclose(step.weights, [1 / 3] * 3)
    array = np.zeros((9, 20, 5), dtype=np.float32)
    array[4], array[0] = 300, 600
    step.apply(array, no_tick)
    np.testing.assert_allclose(array[:, 3, 3], [400, 200, 0, 100, 100, 100, 0, 0, 0], atol=1e-3)


@pytest.mark.parametrize(
    "source", [info(slices=1), info(spacing=5.0), info(spacing=1.0, thickness=4.0)], ids=str
)
def test_thickness_without_effect_is_recorded(source: VolumeInfo) -> None:
    step = SliceThickness.fit(source, 3.0, 0.3)
    assert step.weights == (1.0,) and "no effect" in step.note
    array = np.arange(2 * 8 * 8, dtype=np.float32).reshape(2, 8, 8)
    before = array.copy()
    step.apply(array, no_tick)
    np.testing.assert_array_equal(array, before)
    assert step.after(source) is source


def test_noise_of_overlapping_slices_is_mixed_to_the_measured_correlation() -> None:
    assert overlap_thickness(1.0, 0.05) == 1.0
    weights = np.array(overlap_weights(1.5, 3.0))
    assert weights @ weights == pytest.approx(1)
    assert weights[1:] @ weights[:-1] == pytest.approx(0.5)
    thick = SliceThickness.fit(info(), 3.0, 0.0).after(replace(info(), axial_weights=tuple(weights)))
    assert thick.thickness_mm == 3.0 and len(thick.axial_weights) == 4


def edge_mtf50(kernel: Kernel, pixel_mm: float) -> float:
    """MTF50 of what the step does to a straight edge."""
    image = np.zeros((64, 256), dtype=np.float32)
    image[:, 128:] = 1000
    profile = kernel.apply(image, (pixel_mm, pixel_mm), stream(0, 0))[32]
    mtf = np.abs(np.fft.rfft(np.diff(profile), 8192))
    mtf /= mtf[0]
    frequency = np.fft.rfftfreq(8192, pixel_mm)
    below = int(np.argmax(mtf < 0.5))
    return float(np.interp(0.5, [mtf[below], mtf[below - 1]], [frequency[below], frequency[below - 1]]))


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(("strength", "edge"), [(0.0, 1.0), (0.5, 0.0), (1.0, 0.5)])
def test_kernel_has_the_recorded_transfer_function(name: str, strength: float, edge: float) -> None:
    step = Kernel.fit(info(), kernel=name, strength=strength, edge=edge)
    (low, high), (least, most) = KERNELS[name]
    assert low <= step.mtf50_per_mm <= high and least <= step.enhancement <= most
    assert edge_mtf50(step, 0.35) == pytest.approx(step.mtf50_per_mm, rel=0.05)


def test_sharp_kernels_raise_mid_frequencies_and_soft_ones_do_not() -> None:
    f = np.linspace(0, 2, 400)
    assert kernel_gain(f, 0.9, 5.0).max() > 1.2
    assert kernel_gain(f, 0.9, 0.0).max() == 1
    assert kernel_gain(np.array([0.9]), 0.9, 5.0)[0] == pytest.approx(0.5)


@pytest.mark.parametrize("shape", [(41, 31), (64, 50), (7, 90)])
def test_kernel_keeps_flat_images_and_shapes(shape: tuple[int, int]) -> None:
    flat = np.full(shape, -123.0, dtype=np.float32)
    filtered = Kernel("sharp", 0.9, 4.0).apply(flat, (0.7, 0.7), stream(0, 0))
    assert filtered.dtype == np.float32 and filtered.shape == shape
    np.testing.assert_allclose(filtered, flat, atol=1e-2)


def test_kernel_blurs_by_millimetres_where_pixels_are_oblong() -> None:
    image = np.zeros((101, 101), dtype=np.float32)
    image[50, 50] = 1000
    spread = Kernel("soft", 0.15, 0.0).apply(image, (0.5, 1.0), stream(0, 0))
    at = np.arange(101) - 50
    along_x, along_y = (spread.sum(axis) / spread.sum() @ at**2 for axis in (0, 1))
    assert along_x / along_y == pytest.approx(4, rel=0.05)
