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
    scan = truth + 0.8 * (image - truth) * (np.arange(truth.shape[1]) < 50)  # has one of the two
    assert lesions.invented(image, truth, 0.7, scan) == 1
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
    assert figures["removed"][group]["area"] == pytest.approx(0.5, abs=0.02)
    gain = lesions.summary([found["removed"]], figures["itself"])[group]["gain"]
    assert gain[1] <= gain[0] <= gain[2] < -0.3
    assert lesions.summary([found["itself"]], figures["itself"])[group]["gain"] == [0, 0, 0]


def test_transfer_by_frequency(lesions: ModuleType) -> None:
    """A Gaussian blur of SD s keeps exp(-2 (pi f s)^2) of a lesion at the frequency f."""
    one = 100 * lesions.weight(lesions.Lesion("liver", (0, 16, 16), 4.0, 1), (1, 32, 32), (0.6, 0.6, 6.0))[0]
    blurred = ndimage.gaussian_filter(one, 1.5, mode="wrap", truncate=6)
    cross, power = lesions.transfers(blurred, one, 0.6)
    f = np.fft.fftfreq(32, 0.6)
    radius = np.hypot(f[:, None], f[None, :])
    truth = np.abs(np.fft.fft2(one)) ** 2
    for (low, high), found in zip(lesions.BANDS, cross / power, strict=True):
        band = (radius >= low) & (radius < high)
        kept = np.average(np.exp(-2 * (np.pi * radius * 0.9) ** 2)[band], weights=truth[band])
        assert found == pytest.approx(kept, abs=0.01)
    cross, power = lesions.transfers(one, one, 0.6)
    np.testing.assert_allclose(cross, power)


def test_a_run_that_was_stopped_goes_on(
    lesions: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ctenhance.core.volume import CTVolume

    rng = np.random.default_rng(2)
    volume = CTVolume(
        (100 + rng.normal(0, 8, (4, 128, 128))).astype(np.float32),
        (0.75, 0.75, 3.0),
        (0, 0, 0),
        np.eye(3),
        {},
    )
    store = lesions.Store(tmp_path)
    first = lesions.measure_patient(volume, 1.0, {"itself": lambda array: array}, 1, store)

    def never(array: np.ndarray) -> np.ndarray:
        raise AssertionError("run again")

    again = lesions.measure_patient(volume, 1.0, {"itself": never}, 1, store)
    assert again["itself"].keys() == first["itself"].keys()
    for group, values in first["itself"].items():
        assert {name: one.tolist() for name, one in values.items()} == {
            name: one.tolist() for name, one in again["itself"][group].items()
        }
    with pytest.raises(AssertionError, match="again"):
        lesions.measure_patient(volume, 1.0, {"itself": never}, 2, store)
