"""SUMI's published degradation: order, ranges and each step's property (METHODS A.3, A.4)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ctenhance.core.volume import CTVolume
from ctenhance.degradation import Chain, DrawnChain
from ctenhance.degradation.steps import stream
from ctenhance.degradation.sumi_steps import (
    DirectionalStreak,
    FewViewReconstruction,
    GaussianNoise,
    PoissonNoise,
    Resolution,
    Zoom,
    area_down,
    from_unit,
    linear_resize,
    to_unit,
)

PIXEL = (0.7, 0.7)


def disc(rows: int = 96, columns: int = 96, radius: float = 0.4) -> np.ndarray:
    """Soft tissue with a bone and an air hole, in air, HU."""
    y, x = np.indices((rows, columns), dtype=np.float64)
    y, x = (y - (rows - 1) / 2) / rows, (x - (columns - 1) / 2) / columns
    image = np.where(np.hypot(x, y) < radius, 40.0, -1000.0)
    image[np.hypot(x - 0.15, y) < 0.06] = 800
    image[np.hypot(x + 0.15, y - 0.1) < 0.08] = -850
    return image.astype(np.float32)


def volume(slices: int = 3, rows: int = 48, columns: int = 48) -> CTVolume:
    return CTVolume(np.repeat(disc(rows, columns)[None], slices, axis=0), (0.7, 0.7, 1.0))


def drawn(preset: str, draws: int = 800) -> list[dict[str, dict]]:
    small = volume(1, 8, 8)
    chains = (Chain.preset(preset).draw(small, seed).to_report()["steps"] for seed in range(draws))
    return [{entry["step"]: entry["parameters"] for entry in steps} for steps in chains]


def test_paper_chain_has_the_published_order() -> None:
    order = [
        "clip",
        "sumi-resolution",
        "sumi-poisson",
        "sumi-gaussian",
        "sumi-streak",
        "sumi-sparse-view",
        "clip",
    ]
    assert [d.step.name for d in Chain.preset("sumi-paper").distributions] == order
    assert [d.step.name for d in Chain.preset("sumi-paper-3d").distributions] == [
        "clip",
        "sumi-zoom",
        "sumi-poisson",
        "sumi-gaussian",
        "clip",
    ]


def test_paper_chain_draws_the_published_ranges() -> None:
    draws = drawn("sumi-paper")
    size = np.array([d["sumi-resolution"]["scale"] * 512 for d in draws])
    assert np.allclose(size, np.round(size)) and size.min() >= 200 and size.max() <= 499
    assert size.mean() == pytest.approx(349.5, abs=4 * 86.6 / len(draws) ** 0.5)
    assert {d["sumi-poisson"]["counts"] for d in draws} == {1e5}
    sigma = np.array([d["sumi-gaussian"]["sigma"] for d in draws])
    assert sigma.min() >= 0 and sigma.max() <= 0.2 and sigma.mean() == pytest.approx(0.1, abs=0.009)
    streaks = [d["sumi-streak"] for d in draws if "sumi-streak" in d]
    assert len(streaks) / len(draws) == pytest.approx(0.1, abs=0.045)
    assert {s["thickness"] for s in streaks} == {1, 2}
    assert all(0.05 <= s["brightness"] <= 0.15 and 0.25 <= s["reach"] <= 0.5 for s in streaks)
    assert all(0 <= s["angle_deg"] <= 180 for s in streaks)
    views = np.array([d["sumi-sparse-view"]["n_views"] for d in draws if "sumi-sparse-view" in d])
    assert len(views) / len(draws) == pytest.approx(0.5, abs=0.07)
    assert views.min() >= 80 and views.max() <= 199


def test_validation_and_3d_presets_draw_the_published_ranges() -> None:
    draws = drawn("sumi-paper-validation", 300)
    factor = np.array([1 / d["sumi-resolution"]["scale"] for d in draws])
    assert factor.min() >= 2 and factor.max() <= 4
    assert all(d["sumi-poisson"]["counts"] == 3e4 for d in draws)
    assert all(0.005 <= d["sumi-gaussian"]["sigma"] <= 0.03 for d in draws)
    assert all("sumi-streak" not in d and 80 <= d["sumi-sparse-view"]["n_views"] < 200 for d in draws)
    draws = drawn("sumi-paper-3d", 300)
    assert all(0.3 <= d["sumi-zoom"]["scale"] <= 0.8 for d in draws)
    assert all(0 <= d["sumi-gaussian"]["sigma"] <= 0.08 for d in draws)


@pytest.mark.parametrize(("x", "sd_hu"), [(0.1, 2.0), (0.5, 4.5), (0.9, 6.0)])
def test_poisson_noise_has_the_published_size(x: float, sd_hu: float) -> None:
    """METHODS A.3: 2 to 6 HU over x = 0.1 to 0.9; the closed form is 2000 sqrt(x / 1e5)."""
    flat = from_unit(np.full((200, 200), x, dtype=np.float32))
    noise = PoissonNoise(1e5).apply(flat, PIXEL, stream(1, 0)) - flat
    assert noise.std() == pytest.approx(2000 * (x / 1e5) ** 0.5, rel=0.03)
    assert noise.std() == pytest.approx(sd_hu, abs=0.06)
    assert abs(noise.mean()) < 4 * noise.std() / 200


def test_gaussian_noise_is_white_and_independent_in_every_slice() -> None:
    flat = np.zeros((200, 200), dtype=np.float32)
    first, second = (GaussianNoise(0.05).apply(flat, PIXEL, stream(1, z)) for z in (0, 1))
    assert first.std() == pytest.approx(100, rel=0.02)
    power = np.abs(np.fft.fft2(first)) ** 2
    low, high = power[1:20, 1:20].mean(), power[80:120, 80:120].mean()
    assert low / high == pytest.approx(1, abs=0.25)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02


def test_area_and_linear_operators_agree_with_torch() -> None:
    values = np.random.default_rng(0).normal(size=(1, 1, 60)).astype(np.float32)
    down = torch.nn.functional.interpolate(torch.from_numpy(values), 20, mode="area").numpy()[0, 0]
    np.testing.assert_allclose(area_down(60, 20) @ values[0, 0], down, atol=1e-5)
    for n, m in ((60, 41), (41, 60), (60, 4), (1, 5)):
        source = torch.from_numpy(values[..., :n])
        expected = torch.nn.functional.interpolate(source, m, mode="linear", align_corners=False)
        np.testing.assert_allclose(linear_resize(n, m) @ values[0, 0, :n], expected.numpy()[0, 0], atol=1e-5)


@pytest.mark.parametrize("scale", [0.4, 0.63, 0.97])
def test_area_down_keeps_the_mean_at_any_ratio(scale: float) -> None:
    operator = area_down(97, max(1, round(97 * scale)))
    np.testing.assert_allclose(operator.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(operator.sum(axis=0), operator.shape[0] / 97, atol=1e-5)


def test_resolution_blurs_edges_and_leaves_flat_regions() -> None:
    image = disc(96, 72)
    blurred = Resolution(0.4).apply(image, PIXEL, stream(0, 0))
    assert blurred.shape == image.shape and blurred.dtype == np.float32
    np.testing.assert_allclose(blurred[:6, :6], -1000, atol=1e-2)
    assert blurred.mean() == pytest.approx(image.mean(), abs=3)
    assert np.abs(np.diff(blurred, axis=1)).max() < 0.8 * np.abs(np.diff(image, axis=1)).max()


def test_streak_is_a_line_of_the_drawn_brightness_and_direction() -> None:
    step = DirectionalStreak(0.5, 0.5, 0.0, 0.4, 2, 0.1)
    added = step.apply(np.zeros((128, 160), dtype=np.float32), PIXEL, stream(0, 0))
    assert added.max() == pytest.approx(200, rel=1e-5) and added.min() >= 0
    rows, columns = np.nonzero(added > 100)
    assert np.ptp(columns) > 5 * np.ptp(rows)  # angle 0 runs along a row
    assert abs(np.ptp(columns) - 2 * 0.4 * 128) < 12
    turned = DirectionalStreak(0.5, 0.5, 90.0, 0.4, 2, 0.1).pattern(128, 160)
    rows, columns = np.nonzero(turned > 0.5)
    assert np.ptp(rows) > 5 * np.ptp(columns)


def test_few_views_make_more_artefacts_than_many_and_match_an_independent_fbp() -> None:
    transform = pytest.importorskip("skimage.transform")
    image = disc(96, 96, radius=0.35)

    def error(n_views: int) -> float:
        result = FewViewReconstruction(n_views).apply(image, PIXEL, stream(0, 0))
        assert result.min() >= -1000 and result.max() <= 1000
        return float(np.sqrt(np.mean((result - image) ** 2)))

    errors = [error(n) for n in (20, 60, 199)]
    assert errors[0] > errors[1] > errors[2]
    angles = np.linspace(0, 180, 60, endpoint=False)
    sinogram = transform.radon(to_unit(image), angles, circle=False)
    other = from_unit(transform.iradon(sinogram, angles, circle=False, output_size=96).clip(0, 1))
    assert errors[1] == pytest.approx(np.sqrt(np.mean((other - image) ** 2)), rel=0.25)


def test_zoom_acts_on_all_three_axes_as_trilinear_interpolation_does() -> None:
    array = np.random.default_rng(0).normal(0, 100, (12, 20, 16)).astype(np.float32)
    zoomed = array.copy()
    Zoom(0.5).apply(zoomed, lambda done, total: None)
    resize = torch.nn.functional.interpolate
    small = resize(torch.from_numpy(array)[None, None], (6, 10, 8), mode="trilinear", align_corners=False)
    expected = resize(small, (12, 20, 16), mode="trilinear", align_corners=False).numpy()[0, 0]
    np.testing.assert_allclose(zoomed, expected, atol=1e-3)


@pytest.mark.parametrize("preset", ["sumi-paper", "sumi-paper-validation", "sumi-paper-3d"])
def test_paper_chains_stay_within_the_paper_range_for_any_matrix(preset: str) -> None:
    source = CTVolume(np.stack([disc(41, 31) * 3] * 2), (0.7, 0.9, 2.0))  # up to 2400 HU, oblong pixels
    for seed in range(4):
        result = Chain.preset(preset).draw(source, seed).apply(source)
        assert result.array.shape == (2, 41, 31) and np.isfinite(result.array).all()
        assert result.array.min() >= -1000 and result.array.max() <= 1000


def test_a_single_slice_can_be_zoomed() -> None:
    single = CTVolume(disc(40, 40)[None], (1, 1, 1))
    chain = Chain.preset("sumi-paper-3d").draw(single, 1)
    assert isinstance(chain, DrawnChain) and chain.apply(single).array.shape == (1, 40, 40)
