"""PSNR, SSIM and RMSE against closed forms, scikit-image and MONAI."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from ctenhance.quality.metrics import WINDOWS, psnr, similarity, ssim, to_window


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """A structured image and a noisy one, 0…1."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:70, :90]
    image = (0.5 + 0.3 * np.sin(x / 5) * np.cos(y / 7)).astype(np.float32)
    noisy = np.clip(image + generator.normal(0, 0.05, image.shape), 0, 1).astype(np.float32)
    return noisy, image


def test_ssim_is_that_of_scikit_image(pair: tuple[np.ndarray, np.ndarray]) -> None:
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    expected = structural_similarity(
        *(image.astype(float) for image in pair),
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(*pair) == pytest.approx(expected, abs=1e-5)
    assert 0.3 < expected < 0.95


def test_ssim_is_that_of_monai(pair: tuple[np.ndarray, np.ndarray]) -> None:
    import torch
    from monai.metrics.regression import SSIMMetric

    batch = [torch.from_numpy(image)[None, None] for image in pair]
    expected = SSIMMetric(spatial_dims=2, data_range=1.0)(*batch).item()
    assert ssim(*pair) == pytest.approx(expected, abs=1e-5)


def test_psnr_and_rmse_of_a_known_error() -> None:
    reference = np.zeros((3, 20, 20), np.float32)
    image = reference + np.array([10, 20, 40], np.float32)[:, None, None]
    found = similarity(image, reference)
    errors = np.array([10.0, 20, 40])
    for name, (_, width) in WINDOWS.items():
        assert found[name]["rmse_HU"] == pytest.approx(errors.mean(), rel=1e-4)
        assert found[name]["rmse_volume_HU"] == pytest.approx(math.sqrt((errors**2).mean()), rel=1e-4)
        assert found[name]["psnr_dB"] == pytest.approx((20 * np.log10(width / errors)).mean(), rel=1e-4)
        volume = 10 * math.log10(width**2 / (errors**2).mean())
        assert found[name]["psnr_volume_dB"] == pytest.approx(volume, rel=1e-4)
        assert psnr(image, reference, name) == pytest.approx(volume, rel=1e-4)
    assert psnr(image, image) == math.inf


def test_what_lies_outside_the_window_does_not_count() -> None:
    reference = np.full((1, 16, 16), -900, np.float32)
    found = similarity(reference - 90, reference)
    assert found["soft"]["psnr_dB"] is None  # both are black there
    assert found["soft"]["ssim"] == pytest.approx(1)
    assert found["lung"]["rmse_HU"] == pytest.approx(90, rel=1e-4)


def test_identical_images_give_no_infinity_and_slices_that_differ_count() -> None:
    image = np.random.default_rng(0).normal(0, 100, (2, 24, 24)).astype(np.float32)
    same = similarity(image, image)
    json.dumps(same, allow_nan=False)
    assert same["full"]["psnr_dB"] is None
    assert same["full"]["ssim"] == pytest.approx(1)
    assert same["full"]["rmse_HU"] == 0
    other = image.copy()
    other[1] += 20
    assert similarity(other, image)["full"]["psnr_dB"] == pytest.approx(40, abs=0.1)


def test_worse_images_score_worse(pair: tuple[np.ndarray, np.ndarray]) -> None:
    noisy, image = pair
    worse = np.clip(image + 2 * (noisy - image), 0, 1)
    assert ssim(worse, image) < ssim(noisy, image) < 1


def test_ssim_needs_eleven_pixels() -> None:
    small = np.zeros((1, 10, 40), np.float32)
    assert similarity(small + 5, small)["full"]["ssim"] is None
    assert similarity(small + 5, small)["full"]["rmse_HU"] == pytest.approx(5, rel=1e-4)


def test_a_window_maps_its_ends_to_zero_and_one() -> None:
    assert to_window(np.array([-1400, -1350, -600, 150, 900]), -600, 1500).tolist() == [0, 0, 0.5, 1, 1]
