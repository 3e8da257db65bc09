"""`compare` as a whole: its refusals, its JSON, its table, and what it says of real CTs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from ctenhance import quality
from ctenhance.core.volume import CTVolume
from ctenhance.quality.compare import Row, rows
from ctenhance.runtime.errors import Cancelled, InputError
from ctenhance.runtime.progress import CancelToken


def noisy(volume: CTVolume, sd: float, seed: int = 0, blur: float = 0.0) -> CTVolume:
    values = volume.array
    if blur:
        values = np.stack([ndimage.gaussian_filter(plane, blur) for plane in values])
    return volume.with_array(values + np.random.default_rng(seed).normal(0, sd, values.shape))


@pytest.fixture(scope="module")
def phantom() -> CTVolume:
    from ctenhance.physics.phantom import chest_phantom

    return chest_phantom(rows=256, columns=256, slices=6, pixel_mm=1.4, spacing_mm=1.25)


@pytest.fixture(scope="module")
def metrics(phantom: CTVolume) -> dict:
    return quality.compare(noisy(phantom, 40, blur=0.9), noisy(phantom, 8, seed=1), phantom)


def test_an_enhanced_phantom_is_nearer_quieter_sharper_and_keeps_its_hu(metrics: dict) -> None:
    json.dumps(metrics, allow_nan=False)
    near, noise, tissue = metrics["similarity"], metrics["noise"], metrics["tissue"]
    assert near["against"] == "reference"
    for window in ("full", "lung", "soft"):
        assert near["after"][window]["psnr_dB"] > near["before"][window]["psnr_dB"] + 5
        assert near["after"][window]["ssim"] > near["before"][window]["ssim"]
    assert noise["soft"]["before_HU"] == pytest.approx(40, rel=0.06)
    assert noise["soft"]["after_HU"] == pytest.approx(8, rel=0.08)
    skin = metrics["sharpness"]["skin_air"]
    assert skin["after"]["width_mm"] < 0.7 * skin["before"]["width_mm"]
    assert skin["after"]["width_mm"] == pytest.approx(skin["reference"]["width_mm"], rel=0.03)
    for name in ("air", "fat", "soft"):
        assert abs(tissue[name]["change_HU"]) < 1.5, name
        assert abs(tissue[name]["after_bias_HU"]) < 0.3, name
    assert metrics["flicker"]["ratio"] < 1


def test_the_table_says_it_in_plain_text(metrics: dict) -> None:
    text = quality.table(metrics)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert "before" in lines[0]
    assert "reference" in lines[0]
    for word in ("PSNR, ±1000 HU", "SD in soft tissue", "NOISE", "SHARPNESS", "Flicker", "Bone"):
        assert word in text, word
    assert "-0.0 " not in text.replace("-0.00", "")
    noise = next(row for row in rows(metrics) if row.label == "SD in soft tissue")
    assert noise.change in ("-79 %", "-80 %", "-81 %")


def test_of_nothing_there_are_no_percent() -> None:
    row = Row("Noise", "SD in air", "HU", 1, {"before": 6e-13, "after": 0.2}, relative=True)
    assert row.change == ""
    assert replace(row, values={"before": 0.1, "after": 0.2}).change == "+100 %"
    assert replace(row, values={"before": 10.0, "after": 9.99}).change == "+0 %"


def test_without_a_reference_the_change_is_measured(phantom: CTVolume) -> None:
    before = noisy(phantom, 20)
    found = quality.compare(before, before)
    assert found["similarity"]["against"] == "before"
    assert "before" not in found["similarity"]
    assert found["similarity"]["after"]["full"]["psnr_dB"] is None
    assert found["similarity"]["after"]["full"]["ssim"] == pytest.approx(1)
    assert found["tissue"]["soft"]["change_HU"] == 0
    assert found["flicker"]["ratio"] == pytest.approx(1)
    assert "reference" not in quality.table(found).splitlines()[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"array": np.zeros((6, 255, 256))}, "256×255×6 voxels"),
        ({"spacing": (1.4, 1.4, 2.5)}, "a spacing of 1.4 × 1.4 × 2.5 mm"),
        ({"origin": (0.0, 0.0, 40.0)}, "its origin at 0 × 0 × 40 mm"),
        ({"direction": np.diag([-1.0, -1.0, 1.0])}, "other axis directions"),
    ],
    ids=["shape", "spacing", "origin", "direction"],
)
def test_other_grids_are_refused_and_named(phantom: CTVolume, change: dict, words: str) -> None:
    parts = {
        "array": phantom.array,
        "spacing": phantom.spacing,
        "origin": phantom.origin,
        "direction": phantom.direction,
    }
    other = CTVolume(**{**parts, **change})
    for arguments, name in (((phantom, other), "after"), ((phantom, phantom, other), "reference")):
        with pytest.raises(InputError) as refusal:
            quality.compare(*arguments)
        message = str(refusal.value)
        assert words in message
        assert f"resample '{name}' onto the grid of 'before'" in message


def test_what_is_measured_does_not_depend_on_the_order_of_axes(phantom: CTVolume) -> None:
    def sagittal(volume: CTVolume) -> CTVolume:
        x, y, z = volume.spacing
        return CTVolume(
            volume.array.transpose(2, 0, 1), (y, z, x), volume.origin, volume.direction[:, [1, 2, 0]]
        )

    pair = noisy(phantom, 20), noisy(phantom, 5, seed=1)
    expected, found = quality.compare(*pair), quality.compare(*map(sagittal, pair))
    assert found["grid"] == {"shape": [256, 6, 256], "spacing_mm": [1.4, 1.25, 1.4]}
    assert {**found, "grid": None} == {**expected, "grid": None}


def test_grids_that_differ_by_rounding_are_one(phantom: CTVolume) -> None:
    close = CTVolume(
        phantom.array,
        tuple(float(np.float32(length) * 1.00001) for length in phantom.spacing),
        tuple(place + 1e-4 for place in phantom.origin),
        phantom.direction,
    )
    assert quality.compare(phantom, close)["grid"]["shape"] == [6, 256, 256]


def test_one_tiny_slice_gives_what_can_be_given() -> None:
    small = CTVolume(np.full((1, 8, 8), 30.0))
    found = quality.compare(small, small)
    json.dumps(found, allow_nan=False)
    assert found["similarity"]["after"]["full"]["ssim"] is None
    assert found["flicker"] is None
    assert found["sharpness"] == {"skin_air": None, "lung_soft": None}
    assert quality.table(found)


def test_progress_is_told_and_a_cancelled_comparison_stops(phantom: CTVolume) -> None:
    told: list[tuple[str, int, int]] = []
    token = CancelToken()

    def progress(stage: str, done: int, total: int) -> None:
        told.append((stage, done, total))
        if done == 2:
            token.cancel()

    with pytest.raises(Cancelled):
        quality.compare(phantom, phantom, progress=progress, cancel=token)
    assert told == [("compare", 0, 6), ("compare", 1, 6), ("compare", 2, 6)]
    told.clear()
    quality.compare(phantom, phantom, progress=progress)
    assert told[-1] == ("compare", 6, 6)


@pytest.mark.parametrize(
    ("name", "noise_hu"),
    [
        ("abdomen_CRLM_CT-1004_GE-LightSpeed16_STANDARD", 10.5),
        ("chest_LIDC-IDRI_0002_GE-LightSpeed16_STANDARD", 12.5),
        ("chest_lungdx_A0001_philips_kernelL", 38.5),
    ],
)
def test_the_noise_of_real_scans_is_that_of_their_data_sheet(
    shared_data: Path, name: str, noise_hu: float
) -> None:
    path = shared_data / "ct" / f"{name}.nii.gz"
    if not path.exists():
        pytest.skip(f"{name} is not among the real CTs on this machine")
    whole = CTVolume.read(path)
    volume = CTVolume(whole.array[:10], whole.spacing, whole.origin, whole.direction)
    smooth = volume.with_array(np.stack([ndimage.gaussian_filter(plane, 1.0) for plane in volume.array]))
    found = quality.compare(volume, smooth)
    assert found["noise"]["soft"]["before_HU"] == pytest.approx(noise_hu, rel=0.15)
    assert found["noise"]["soft"]["after_HU"] < 0.65 * noise_hu
    # Smoothing blurs edges and lowers the noise's frequency, and means stay what they were.
    skin, spectrum = found["sharpness"]["skin_air"], found["noise"]["nps"]
    assert skin["after"]["width_mm"] > 1.15 * skin["before"]["width_mm"]
    assert skin["after"]["mtf50_per_mm"] < 0.9 * skin["before"]["mtf50_per_mm"]
    assert spectrum["after"]["mean_per_mm"] < 0.75 * spectrum["before"]["mean_per_mm"]
    for tissue, limit in (("fat", 1.5), ("soft", 0.5), ("lung", 2.0)):
        assert abs(found["tissue"][tissue]["change_HU"]) < limit, tissue
