"""The ceiling of the PSNR against a noisy reference, on noise and anatomy that are known."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError

pytest.importorskip("skimage", reason="the benchmarks need scikit-image")

SHAPE, SPACING = (12, 160, 160), (0.8, 0.8, 1.0)
#: Where both noises are stronger and weaker, as behind a body.
PLACES = 0.6 + 0.8 * np.exp(-(np.hypot(*np.mgrid[-1:1:160j, -1:1:160j]) ** 2))


@pytest.fixture
def ceiling(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    import ceiling

    return ceiling


def gain(softness: float, across: float) -> np.ndarray:
    """Amplitude by frequency `[z, y, x]` of a noise: a ramp under a Gaussian kernel, correlated along z."""
    z, y, x = np.meshgrid(*(np.fft.fftfreq(n) for n in SHAPE), indexing="ij")
    radius = np.hypot(y, x)
    return np.sqrt(radius) * np.exp(-((radius / softness) ** 2)) * np.exp(-((across * z) ** 2) / 2)


def noises(sd: float, amplitude: np.ndarray, seed: int) -> np.ndarray:
    white = np.random.default_rng(seed).standard_normal(SHAPE)
    noise = np.fft.ifftn(np.fft.fftn(white) * amplitude).real
    return sd * noise / noise.std()


def anatomy() -> np.ndarray:
    """Soft tissue with vessels and bone, the same on all slices."""
    y, x = np.mgrid[:160, :160]
    plane = np.full((160, 160), 60.0)
    for row, column, radius, hu in (
        (40, 50, 12, 120),
        (100, 110, 16, 20),
        (120, 40, 8, 500),
        (20, 130, 5, 200),
    ):
        plane[np.hypot(y - row, x - column) < radius] = hu
    return np.broadcast_to(ndimage.gaussian_filter(plane, 0.7), SHAPE)


def scan(ceiling: ModuleType, kinds: tuple[tuple[float, float], tuple[float, float]], seed: int = 0):
    """A case with own noise of 15 HU and added noise of 26 HU of these kernels, and the PSNR of the one who
    knows the anatomy and the spectra."""
    from cases import Case

    gains = [gain(*kind) for kind in kinds]
    own, added = (noises(sd, one, seed + k) for k, (sd, one) in enumerate(zip((15, 26), gains, strict=True)))
    powers = [np.square(one) * sd**2 / np.square(one).mean() for one, sd in zip(gains, (15, 26), strict=True)]
    wiener = powers[0] / (sum(powers) + 1e-9)
    guess = np.fft.ifftn(np.fft.fftn(own + added) * wiener).real
    error = np.square(PLACES * (guess - own)).mean()
    reference = anatomy() + PLACES * own
    case = Case("one", reference + PLACES * added, reference, SPACING, (2, 5, 8))
    return case, -10 * np.log10(error / 2000**2)


@pytest.mark.parametrize(
    "kinds",
    [
        ((0.35, 0.0), (0.35, 0.0)),  # of one kernel
        ((0.5, 0.0), (0.25, 0.0)),  # the added noise is softer
        ((0.35, 4.0), (0.35, 0.0)),  # slices share the scan's own noise
    ],
)
def test_the_ceiling_is_what_one_reaches_who_knows_the_anatomy(
    ceiling: ModuleType, kinds: tuple[tuple[float, float], tuple[float, float]]
) -> None:
    case, best = scan(ceiling, kinds)
    found = ceiling.measured(case)
    mean = np.mean(list(found["ceiling"].values()))
    assert mean == pytest.approx(best, abs=0.25)
    generous = np.mean(list(found["generous"].values()))
    assert generous > best - 0.25
    if kinds[0][1]:  # what slices share is not to be guessed then
        assert generous > best + 0.5
    if kinds[0] == kinds[1]:
        assert np.mean(list(found["one texture"].values())) == pytest.approx(best, abs=0.25)
    assert found["own_over_added"][0] == pytest.approx((15 / 26) ** 2, rel=0.12)


def test_telling_kernels_apart_and_neighbours_raises_it(ceiling: ModuleType) -> None:
    """By as much as it does for the one who knows."""
    alike, soft, thick = (
        scan(ceiling, kinds)
        for kinds in (((0.35, 0), (0.35, 0)), ((0.5, 0), (0.25, 0)), ((0.35, 4.0), (0.35, 0)))
    )
    base = np.mean(list(ceiling.measured(alike[0])["ceiling"].values())) - alike[1]
    for case, best in (soft, thick):
        assert best > alike[1] + 0.5
        assert np.mean(list(ceiling.measured(case)["ceiling"].values())) - best == pytest.approx(
            base, abs=0.3
        )


def test_what_the_window_cuts_off(ceiling: ModuleType) -> None:
    rng = np.random.default_rng(0)
    for mean in (-1030.0, -1000.0, -985.0, 40.0, 995.0):
        said, unsaid = rng.normal(0, 6, (400, 1)), rng.normal(0, 10, (400, 5000))
        truth = (mean + said + unsaid).clip(-1000, 1000)
        by_chance = truth.var(1).mean()
        computed = ceiling.in_window(np.array([mean]), np.array([36.0]), np.array([100.0]))[0]
        assert computed == pytest.approx(by_chance, rel=0.08, abs=0.05)


def test_weighting_changes_the_power_as_asked(ceiling: ModuleType) -> None:
    noise = np.random.default_rng(1).standard_normal((97, 64))
    frequency = np.linspace(0.02, 0.5, 20)
    assert np.square(ceiling.weighted(noise, frequency, np.full(20, 0.25))).mean() == pytest.approx(
        0.25 * np.square(noise).mean(), rel=0.05
    )


def test_the_command_tells_how_far_below_methods_are(
    ceiling: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case, _ = scan(ceiling, ((0.35, 0), (0.35, 0)))
    for kind, array in (("degraded", case.degraded), ("reference", case.reference)):
        volume = CTVolume(array.astype(np.float32), SPACING, (0.0, 0.0, 0.0), np.eye(3), {})
        volume.write(tmp_path / f"one_{kind}.nii.gz")
    psnr = {str(z): 30.0 for z in (2, 6, 10)}
    results = {"sources": [{"cases": [{"name": "one", "methods": {"blur": {"psnr": psnr}}}]}]}
    (tmp_path / "results.json").write_text(json.dumps(results))
    line = ["ceiling.py", "--pairs", str(tmp_path), "--slices", "3", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", [*line, "--results", str(tmp_path / "results.json")])
    ceiling.main()
    found = json.loads((tmp_path / "out" / "ceiling.json").read_text())
    below = np.mean(list(found[0]["ceiling"].values())) - 30
    assert f"{below:.2f}" in capsys.readouterr().out
    results["sources"][0]["cases"][0]["name"] = "another"
    (tmp_path / "results.json").write_text(json.dumps(results))
    with pytest.raises(SystemExit):
        ceiling.main()
    assert "no patient one" in capsys.readouterr().err


def test_errors_are_told_by_tissue(ceiling: ModuleType) -> None:
    guide = np.full((1, 80, 80), 50.0)
    guide[:, :, 40:] = -1000.0
    error = np.where(guide > 0, 4.0, 1.0)[0]
    error[:, 37:43] = 100.0
    found = ceiling._by_tissue(guide, {"method": {0: error}, "ceiling": {0: 0.25 * error}})
    assert set(found) == {"air", "soft", "edges"}
    assert found["soft"]["method"] == pytest.approx(4) and found["air"]["ceiling"] == pytest.approx(0.25)
    assert 40 < found["edges"]["method"] < 100
    assert found["edges"]["ceiling"] == pytest.approx(found["edges"]["method"] / 4)
    assert sum(part["pixels"] for part in found.values()) == pytest.approx(1, abs=0.1)


def test_too_little_to_measure_is_said(ceiling: ModuleType) -> None:
    from cases import Case

    flat = np.full((2, 64, 64), -1000.0)
    with pytest.raises(InputError, match="2 slices"):
        ceiling.spectra_of(Case("one", flat, flat, SPACING, (0,)))
    flat = np.full((6, 64, 64), -1000.0)
    with pytest.raises(InputError, match="soft tissue"):
        ceiling.spectra_of(Case("one", flat, flat, SPACING, (0,)))
