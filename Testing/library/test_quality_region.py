"""A region's paired difference, noise spectrum and edge, against what was put into it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ctenhance.quality import region, sharpness
from ctenhance.runtime.errors import InputError

SPACING = (0.7, 0.7, 2.0)


def disc(side: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return (y * y + x * x <= radius * radius)[None]


def noise(rng: np.random.Generator, shape: tuple[int, ...], width: float) -> np.ndarray:
    """Noise of SD 1 whose neighbours in a slice are alike over so many pixels."""
    values = rng.normal(size=(shape[0], shape[1] + 32, shape[2] + 32))
    if width:
        values = ndimage.gaussian_filter(values, (0, width, width))
    return values[:, 16:-16, 16:-16] / values.std()


@pytest.mark.parametrize("width", [0.0, 0.7, 1.2])
def test_the_interval_holds_the_true_difference_in_95_of_100(width: float) -> None:
    """Where it held the voxels for independent, it would do so in 50 to 70 of 100 (see the last line)."""
    rng, mask = np.random.default_rng(3), disc(34, 12)
    held, naive, trials, silent = 0, 0, 300, 0
    for _ in range(trials):
        before = 40 + 20 * noise(rng, mask.shape, width)
        after = before + 3.0 + 8 * noise(rng, mask.shape, width)
        found = region.paired_difference(before, after, mask)
        if found.low is None or found.high is None:
            silent += 1
        else:
            held += found.low <= 3.0 <= found.high
        change = (after - before)[mask]
        naive += abs(change.mean() - 3.0) <= 1.96 * change.std() / np.sqrt(change.size)
    assert silent <= 0.1 * trials and 0.90 <= held / (trials - silent) <= 0.985
    assert width == 0 or naive / trials < 0.8


def test_a_pair_tells_more_than_two_regions() -> None:
    rng, mask = np.random.default_rng(0), disc(30, 11)
    before = 20 * noise(rng, mask.shape, 0.7)
    after = before + 1.0 + 2 * noise(rng, mask.shape, 0.7)
    paired, unpaired = (
        region.paired_difference(before, after, mask),
        region.unpaired_difference((before, mask), (after, mask)),
    )
    assert paired.mean == pytest.approx(unpaired.mean)
    widths = [each.high - each.low for each in (paired, unpaired)]
    assert widths[0] < 0.3 * widths[1]


def test_what_cannot_be_told_has_no_interval() -> None:
    rng = np.random.default_rng(0)
    tiny = np.ones((1, 2, 2), bool)
    assert region.paired_difference(tiny * 1.0, tiny * 2.0, tiny).low is None
    mask = disc(24, 5)
    slow = 10 * noise(rng, mask.shape, 6.0)  # not one independent value in it
    found = region.paired_difference(0 * slow, slow, mask)
    assert found.low is None and found.independent is None and found.mean == pytest.approx(slow[mask].mean())
    same = region.paired_difference(np.zeros((1, 9, 9)), np.full((1, 9, 9), 5.0))
    assert (same.low, same.mean, same.high) == (5.0, 5.0, 5.0)


def test_large_regions_are_as_good_as_small_ones() -> None:
    rng = np.random.default_rng(1)
    before = np.zeros((4, 200, 200))
    after = 10 * noise(rng, before.shape, 1.0)
    whole = region.paired_difference(before, after)
    # Patches of 4 pi voxels.
    assert whole.independent == pytest.approx(before.size / (4 * np.pi), rel=0.25)


def test_the_spectrum_of_a_region_is_that_of_its_noise() -> None:
    rng = np.random.default_rng(2)
    inside = np.repeat(disc(80, 36), 12, axis=0)
    white = 12 * noise(rng, inside.shape, 0.0)
    volumes = {"before": 40 + white, "after": 40 + 0.5 * white}
    volumes["before"][~inside] = 900  # what lies outside does not matter
    found = region.noise_in(volumes, inside, SPACING)
    assert found["before"]["variance_HU2"] == pytest.approx(144, rel=0.08)
    assert found["after"]["variance_HU2"] == pytest.approx(36, rel=0.08)
    assert found["squares"] >= 8
    level = 144 * SPACING[0] * SPACING[1]
    assert np.allclose(found["before"]["nps_HU2mm2"], level, rtol=0.35)
    with pytest.raises(InputError, match="8 pixels"):
        region.noise_in(volumes, np.repeat(disc(80, 4), 12, axis=0), SPACING)


@pytest.mark.parametrize("contrast", [300.0, -120.0])
def test_the_edge_of_a_region_is_that_of_the_object(contrast: float) -> None:
    """A disc whose border was blurred by a known Gaussian, crossed by a small region."""
    sharp, blurred = 1.0, 1.8  # SD, in pixels
    y, x = np.mgrid[:120, :120] - 59.5
    fine = np.kron(np.hypot(y, x) < 40, np.ones((5, 5)))[None] * contrast
    volumes = {}
    for name, width in (("before", sharp), ("after", blurred)):
        image = ndimage.gaussian_filter(fine[0], 5 * width).reshape(120, 5, 120, 5).mean((1, 3))
        volumes[name] = 50 + np.repeat(image[None], 3, axis=0)
    inside = np.zeros((3, 120, 120), bool)
    inside[:, 50:70, 92:107] = True
    found = region.edge_in(volumes, inside, SPACING)
    for name, width in (("before", sharp), ("after", blurred)):
        sd = width * SPACING[0]
        assert found[name]["width_mm"] == pytest.approx(2.563 * sd, rel=0.1)
        assert found[name]["mtf50_per_mm"] == pytest.approx(0.1874 / sd, rel=0.1)
        half = np.interp(0.1874 / sd, found[name]["frequency_per_mm"], found[name]["mtf"])
        assert half == pytest.approx(0.5, abs=0.06)
    for nowhere in (np.s_[:, 55:65, 55:65], np.s_[:, 2:12, 2:12]):
        inside = np.zeros((3, 120, 120), bool)
        inside[nowhere] = True
        with pytest.raises(InputError, match="No edge"):
            region.edge_in(volumes, inside, SPACING)


def test_the_transfer_function_is_that_of_a_gaussian() -> None:
    distance = sharpness.distances()
    line = np.exp(-0.5 * (distance / 0.6) ** 2)
    profile = np.cumsum(line) / line.sum()
    frequency, values = sharpness.transfer(profile)
    expected = np.exp(-2 * (np.pi * frequency * 0.6) ** 2)
    assert np.allclose(values[frequency < 1], expected[frequency < 1], atol=0.01)
    assert sharpness.transfer(profile[::-1] * 0) is None
