"""Noise, sharpness, HU by tissue and flicker: planted values come back, and each measure sees its defect."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ctenhance.quality.flicker import flicker
from ctenhance.quality.guide import gradient, slope, smoothed_guide
from ctenhance.quality.metrics import similarity
from ctenhance.quality.noise import detrended, find_regions, noise, noise_sd, power_spectrum
from ctenhance.quality.sharpness import edge_width, mtf50, sharpness
from ctenhance.quality.tissue import tissue_bias
from ctenhance.runtime.errors import Cancelled
from ctenhance.runtime.progress import CancelToken

SPACING = (0.7, 0.7, 1.5)
SHAPE = (10, 256, 256)
Volumes = dict[str, np.ndarray]


def white(sd: float, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sd, shape).astype(np.float32)


@pytest.fixture(scope="module")
def body() -> np.ndarray:
    """Without noise: an ellipse of soft tissue in air, with a rim of fat, lungs, bone and fine vessels."""
    z, y, x = np.mgrid[: SHAPE[0], -128:128, -128:128].astype(np.float32)
    x, y = x * SPACING[0], y * SPACING[1]
    inside = [np.hypot(x / a, y / b) for a, b in ((80, 66), (70, 56))]
    hu = np.full(SHAPE, -1000, np.float32)
    hu[inside[0] < 1] = -100
    hu[inside[1] < 1] = 50
    for side in (-1, 1):
        lung = np.hypot((x - side * 38) / 22, y / 36) < 1
        hu[lung] = -860
        hu[lung & (np.hypot(x % 14 - 7, (y + z) % 14 - 7) < 1.2)] = 0
    hu[np.hypot(x, y - 40) < 9] = 400
    return np.stack([ndimage.gaussian_filter(plane, 0.8) for plane in hu])


def measured(volumes: Volumes) -> dict:
    return noise(volumes, smoothed_guide(volumes, SPACING), SPACING)


def test_noise_that_was_planted_is_found(body: np.ndarray) -> None:
    found = measured({"before": body + white(30), "after": body + white(12, seed=1), "reference": body})
    for tissue, tolerance in (("soft", 0.03), ("lung", 0.10), ("air", 0.03)):
        assert found[tissue]["before_HU"] == pytest.approx(30, rel=tolerance), tissue
        assert found[tissue]["after_HU"] == pytest.approx(12, rel=2 * tolerance), tissue
    assert found["soft"]["reference_HU"] < 0.2
    # The same without a reference: the average of both says where to look.
    found = measured({"before": body + white(30), "after": body + white(12, seed=1)})
    assert found["soft"]["before_HU"] == pytest.approx(30, rel=0.03)


def test_correlated_noise_is_found_and_has_its_spectrum(body: np.ndarray) -> None:
    smooth = np.stack([ndimage.gaussian_filter(plane, 0.8) for plane in white(1)])
    smooth *= 20 / smooth.std()
    found = measured({"before": body + smooth, "after": body + white(20, seed=3)})
    assert found["soft"]["before_HU"] == pytest.approx(20, rel=0.07)
    spectrum = found["nps"]
    assert spectrum["before"]["mean_per_mm"] < 0.8 * spectrum["after"]["mean_per_mm"]
    # Gaussian smoothing of SD s multiplies the spectrum by exp(-4π² s² f²).
    frequency, values = np.array(spectrum["frequency_per_mm"]), np.array(spectrum["before"]["nps_HU2mm2"])
    one, two = 1, 4
    ratio = np.exp(-4 * np.pi**2 * (0.8 * 0.7) ** 2 * (frequency[two] ** 2 - frequency[one] ** 2))
    assert values[two] / values[one] == pytest.approx(ratio, rel=0.25)


def test_the_spectrum_of_white_noise_is_flat_and_its_integral_is_the_variance() -> None:
    squares = detrended(white(10, shape=(300, 32, 32)).astype(float))
    found = power_spectrum(squares, (0.5, 0.8, 1.0))
    level = 100 * 0.5 * 0.8
    assert found["nps_HU2mm2"] == pytest.approx([level] * len(found["nps_HU2mm2"]), rel=0.08)
    assert found["variance_HU2"] == pytest.approx(noise_sd_of_all(squares) ** 2, rel=0.002)
    assert found["variance_HU2"] == pytest.approx(100, rel=0.02)
    assert max(found["frequency_per_mm"]) <= 0.5 / 0.8


def noise_sd_of_all(squares: np.ndarray) -> float:
    """By the degrees of freedom that a plane leaves."""
    return float(np.sqrt((squares**2).sum((1, 2)).mean() / (squares[0].size - 3)))


def test_the_peak_of_a_spectrum_is_where_the_noise_was_put() -> None:
    frequency = np.hypot(np.fft.fftfreq(32, 0.7)[:, None], np.fft.fftfreq(32, 0.7)[None])
    ring = np.exp(-0.5 * ((frequency - 0.35) / 0.06) ** 2)
    squares = np.fft.ifft2(np.fft.fft2(white(10, shape=(400, 32, 32))) * ring).real
    found = power_spectrum(detrended(squares), (0.7, 0.7, 1.0))
    assert found["peak_per_mm"] == pytest.approx(0.35, abs=0.02)
    assert found["mean_per_mm"] == pytest.approx(0.35, abs=0.02)


def test_shading_is_no_noise() -> None:
    v, u = np.mgrid[:24, :24] / 24
    squares = np.tile(30 * u - 20 * v + 7, (8, 1, 1))
    assert noise_sd(detrended(squares)) < 1e-9


def test_regions_keep_away_from_edges(body: np.ndarray) -> None:
    guide = smoothed_guide({"before": body}, SPACING)
    corners = find_regions(guide, (-10, 150), 16)
    assert len(corners) > 20
    assert all(np.ptp(body[z, y : y + 16, x : x + 16]) < 30 for z, y, x in corners)
    assert find_regions(guide, (1500, 1600), 16).shape == (0, 3)
    assert find_regions(guide[:, :8], (-10, 150), 16).shape == (0, 3)


def disc(sd_mm: float, inside: float, outside: float, pixel: float = 0.7) -> np.ndarray:
    """Slices of a disc of radius 62 mm, blurred by a Gaussian of that SD (sampled finely, then at pixels)."""
    fine = 5
    half = 128 * fine
    axis = (np.arange(-half, half) + 0.5) * pixel / fine
    edge = 62 - np.hypot(axis[None, :] + 0.3, axis[:, None])
    sharp = np.clip(0.5 + edge * fine / pixel, 0, 1)
    blurred = ndimage.gaussian_filter(sharp, sd_mm * fine / pixel)[fine // 2 :: fine, fine // 2 :: fine]
    return np.tile((outside + (inside - outside) * blurred).astype(np.float32), (3, 1, 1))


@pytest.mark.parametrize(
    ("kind", "outside"), [("skin_air", -1000.0), ("lung_soft", -850.0)], ids=["skin", "lung"]
)
def test_the_width_of_a_blurred_edge_is_found_within_five_percent(kind: str, outside: float) -> None:
    wide, narrow = 1.1, 0.55
    volumes = {
        "before": disc(wide, 50, outside) + white(25, shape=(3, 256, 256)),
        "after": disc(narrow, 50, outside) + white(5, seed=1, shape=(3, 256, 256)),
    }
    found = sharpness(volumes, smoothed_guide(volumes, SPACING), SPACING)[kind]
    for name, sd in (("before", wide), ("after", narrow)):
        assert found[name]["width_mm"] == pytest.approx(2.5631 * sd, rel=0.05), name
        assert found[name]["mtf50_per_mm"] == pytest.approx(0.18739 / sd, rel=0.05), name


def test_edge_figures_of_an_exact_profile() -> None:
    from scipy.special import erf

    x = np.arange(-80, 81) * 0.1
    profile = -1000 + 525 * (1 + erf(x / (np.sqrt(2) * 0.8)))
    assert edge_width(profile) == pytest.approx(2.5631 * 0.8, rel=0.01)
    assert mtf50(profile) == pytest.approx(0.18739 / 0.8, rel=0.02)
    assert edge_width(np.zeros(161)) is None
    assert mtf50(np.zeros(161)) is None


def test_edges_that_are_too_few_or_oblique_are_not_measured(body: np.ndarray) -> None:
    flat = {"before": white(10), "after": white(10, seed=1)}
    assert sharpness(flat, smoothed_guide(flat, SPACING), SPACING) == {"skin_air": None, "lung_soft": None}
    # A cone that opens quickly along z crosses slices obliquely, so its border is blurred by the slice.
    y, x = np.mgrid[-128:128, -128:128] * 0.7
    cone = np.stack([np.where(np.hypot(x, y) < 30 + 8 * k, 50, -1000) for k in range(6)]).astype(np.float32)
    volumes = {"before": cone, "after": cone}
    assert sharpness(volumes, smoothed_guide(volumes, SPACING), SPACING)["skin_air"] is None


def test_a_change_of_hounsfield_units_is_found_by_tissue_and_noise_makes_none(body: np.ndarray) -> None:
    planted = {"air": 0.0, "lung": 4.0, "fat": -3.0, "soft": 2.0, "bone": -10.0}
    changed = body.copy()
    for tissue, (low, high) in {
        "lung": (-1000, -500),
        "fat": (-150, -50),
        "soft": (0, 150),
        "bone": (250, 500),
    }.items():
        changed[(body > low) & (body < high)] += planted[tissue]
    before = body + white(60)
    for volumes in (
        {"before": before, "after": changed + white(6, 1)},
        {"before": before, "after": changed + white(6, 1), "reference": body},
    ):
        found = tissue_bias(volumes, smoothed_guide(volumes, SPACING), SPACING)
        for tissue, change in planted.items():
            assert found[tissue]["change_HU"] == pytest.approx(change, abs=1.2), tissue
    assert found["soft"]["after_bias_HU"] == pytest.approx(2, abs=0.3)
    assert found["soft"]["change_sd_HU"] == pytest.approx(np.hypot(60, 6), rel=0.02)
    assert found["soft"]["volume_ml"] == pytest.approx(found["soft"]["voxels"] * 0.7 * 0.7 * 1.5 / 1000)


def test_tissue_that_is_not_there_is_none(body: np.ndarray) -> None:
    soft = np.full(SHAPE, 40, np.float32)
    found = tissue_bias({"before": soft, "after": soft}, soft, SPACING)
    assert found["lung"] is None
    assert found["bone"] is None
    assert found["soft"]["voxels"] == soft.size


def test_flicker_that_was_planted_is_found(body: np.ndarray) -> None:
    tall = np.concatenate([body] * 4)
    offsets = np.random.default_rng(5).normal(0, 4, (len(tall), 1, 1)).astype(np.float32)
    volumes = {"before": tall, "after": tall + offsets}
    found = flicker(volumes, smoothed_guide(volumes, SPACING, "before"), SPACING)
    expected = np.std(offsets[1:-1] - (offsets[:-2] + offsets[2:]) / 2) / np.sqrt(1.5)
    assert found["added_HU"] == pytest.approx(expected, rel=0.1)
    assert found["after_HU"] == pytest.approx(expected, rel=0.35)
    assert found["before_HU"] < 1
    clean = flicker(
        {"before": tall + white(30, shape=tall.shape), "after": tall, "reference": tall},
        smoothed_guide({"reference": tall}, SPACING),
        SPACING,
    )
    assert clean["ratio"] < 0.5
    assert clean["added_HU"] == 0


def test_a_gradual_change_along_z_is_no_flicker() -> None:
    ramp = np.full(SHAPE, 40, np.float32) + 3 * np.arange(SHAPE[0], dtype=np.float32)[:, None, None]
    volumes = {"before": np.full(SHAPE, 40, np.float32), "after": ramp}
    found = flicker(volumes, smoothed_guide(volumes, SPACING), SPACING)
    assert found["added_HU"] < 1e-4
    assert found["ratio"] is None  # before has none at all
    short = {name: volume[:3] for name, volume in volumes.items()}
    assert flicker(short, short["before"], SPACING) is None


def test_the_guide_is_the_reference_or_the_average() -> None:
    one, two, three = (np.full((3, 32, 32), value, np.float32) for value in (0, 100, 7))
    assert smoothed_guide({"before": one, "after": two}, SPACING).mean() == pytest.approx(50)
    with_reference = {"before": one, "after": two, "reference": three}
    assert smoothed_guide(with_reference, SPACING).mean() == pytest.approx(7)
    assert smoothed_guide(with_reference, SPACING, "after").mean() == pytest.approx(100)
    metal = np.full((1, 16, 16), 30000, np.float32)
    assert smoothed_guide({"before": metal, "after": metal}, SPACING).max() <= 3071.5


@pytest.mark.parametrize("fill", [-1024, -2000, -3024])
def test_what_lies_outside_the_field_of_view_is_not_measured(body: np.ndarray, fill: int) -> None:
    y, x = np.mgrid[-128:128, -128:128]
    outside = np.hypot(y, x) > 140
    noisy = [body + white(12), body + white(6, seed=1)]
    circles = [np.where(outside, np.float32(fill), volume) for volume in noisy]
    # A method may change what it does not know to be fill.
    circles[1] = circles[1] + white(0.1, seed=2)
    square, circle = (dict(zip(("before", "after"), pair, strict=True)) for pair in (noisy, circles))
    guides = [smoothed_guide(volumes, SPACING) for volumes in (square, circle)]
    found = noise(circle, guides[1], SPACING)["air"]
    assert found["before_HU"] == pytest.approx(12, rel=0.05)
    assert found["after_HU"] == pytest.approx(6, rel=0.05)
    air = tissue_bias(circle, guides[1], SPACING)["air"]
    assert air["before_HU"] == pytest.approx(-1000, abs=1.5)
    edges = [sharpness(*pair, SPACING)["skin_air"] for pair in zip((square, circle), guides, strict=True)]
    assert edges[1]["edges"] > 0.8 * edges[0]["edges"]
    assert edges[1]["before"]["width_mm"] == pytest.approx(edges[0]["before"]["width_mm"], rel=0.05)


def test_air_that_the_scale_cuts_off_is_measured(body: np.ndarray) -> None:
    cut = np.maximum(body + white(40), -1024)
    found = measured({"before": cut, "after": cut})["air"]
    assert found["before_HU"] == pytest.approx(np.maximum(white(40), -24).std(), rel=0.05)


def test_every_measure_can_be_stopped_at_any_slice(body: np.ndarray) -> None:
    volumes = {"before": body, "after": body + 1}
    guide = smoothed_guide(volumes, SPACING)
    token = CancelToken()
    token.cancel()
    for measure in (noise, sharpness, tissue_bias, flicker):
        with pytest.raises(Cancelled):
            measure(volumes, guide, SPACING, token)
    with pytest.raises(Cancelled):
        smoothed_guide(volumes, SPACING, cancel=token)
    with pytest.raises(Cancelled):
        similarity(body, body, token)


def test_slopes_are_in_hounsfield_units_a_millimetre() -> None:
    y, x = np.mgrid[:20, :30].astype(float)
    plane = 3 * x * 0.5 + 4 * y * 0.8
    assert slope(plane, (0.5, 0.8, 1.0)) == pytest.approx(np.full((20, 30), 5.0))
    along_y, along_x = gradient(plane[:1], (0.5, 0.8, 1.0))
    assert along_y.max() == 0
    assert along_x == pytest.approx(np.full((1, 30), 3.0))
