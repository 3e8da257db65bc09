"""The enhancement pipeline with small random networks: what must hold whatever the weights are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

import ctenhance
from ctenhance.choices import SPREAD_SAMPLES
from ctenhance.core.blend import with_faint_kept
from ctenhance.core.volume import CTVolume
from ctenhance.enhancement.models import load_model
from ctenhance.enhancement.networks import Twin, build
from ctenhance.enhancement.slices import SliceEnhancer
from ctenhance.enhancement.symmetry import SYMMETRIES, turned, turned_back
from ctenhance.options import EnhanceOptions
from ctenhance.runtime import weights
from ctenhance.runtime.errors import Cancelled, InputError
from ctenhance.runtime.progress import CancelToken
from ctenhance.runtime.weights import WeightsEntry

SMALL = {
    "twin": {"features": [8, 8, 8, 8, 8, 8]},
    "residual-diffusion": {"twin": {"features": [8] * 6}, "features": [8] * 6},
}


def save_model(folder: Path, architecture: str, fill: float | None = None) -> Path:
    torch.manual_seed(0)
    network = build(architecture, SMALL[architecture])
    if fill is not None:
        for parameter in network.parameters():
            torch.nn.init.constant_(parameter, fill)
    path = folder / f"{architecture}.safetensors"
    entry = WeightsEntry(
        architecture, "", "", "Apache-2.0", "nothing", architecture, SMALL[architecture], "1", ""
    )
    weights.save(path, network.state_dict(), entry)
    return path


@pytest.fixture(params=["twin", "residual-diffusion"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return save_model(tmp_path, request.param)


@pytest.fixture
def twin(tmp_path: Path) -> Path:
    return save_model(tmp_path, "twin")


@pytest.fixture
def diffusion(tmp_path: Path) -> Path:
    return save_model(tmp_path, "residual-diffusion")


def scan(slices: int = 3, rows: int = 70, columns: int = 45, spacing: float = 2.0) -> CTVolume:
    rng = np.random.default_rng(0)
    array = rng.normal(0, 30, (slices, rows, columns)).astype(np.float32)
    array[:, :10] = -1000
    return CTVolume(array, (0.7, 0.7, spacing), (1.0, 2.0, 3.0))


def enhancer_of(model: Path, tile: int = 2048, seed: int = 0, spacing: float = 1.0) -> SliceEnhancer:
    """The model at work slice by slice, in torch on the CPU."""
    loaded = load_model(model)
    steps = 4 if loaded.stochastic else 1
    return SliceEnhancer(loaded, loaded.on(loaded.engine("torch", "cpu", steps), steps), tile, seed, spacing)


def enhanced(volume: CTVolume, model: Path, **settings: object) -> np.ndarray:
    return ctenhance.enhance(volume, model=model, device="cpu", **settings).volumes["enhanced"].array


def test_grid_and_report(model: Path) -> None:
    volume = scan()
    result = ctenhance.enhance(volume, model=model, device="cpu", seed=4)
    after = result.volumes["enhanced"]
    assert after.array.shape == volume.array.shape
    assert (after.spacing, after.origin) == (volume.spacing, volume.origin)
    assert np.isfinite(after.array).all()
    assert not np.array_equal(after.array, volume.array)
    report = result.report
    assert report["model"]["sha256"] == weights.read_entry(model).sha256
    assert report["seed"] == 4
    assert report["settings"]["strength"] == 1.0
    assert "enhance" in report["seconds"]


def test_the_stored_share_of_the_finest_part_is_added(model: Path, tmp_path: Path) -> None:
    tensors, entry = weights.load(model)
    sharper = tmp_path / "sharper.safetensors"
    weights.save(sharper, tensors, replace(entry, sharpen=0.4))
    volume = scan(3, 96, 96)
    volume.array[0, 40:44, 40:44] = 4000  # metal beyond the network's range stays as it was
    plain, after = enhanced(volume, model), enhanced(volume, sharper)
    finest = plain - ndimage.gaussian_filter(plain, (0, 0.7, 0.7))
    inside = (slice(1, None), slice(20, 76), slice(20, 76))  # clear of the far sides' padding, and the metal
    np.testing.assert_allclose(after[inside], (plain + 0.4 * finest)[inside], atol=0.01)
    np.testing.assert_array_equal(after[0, 40:44, 40:44], 4000)
    assert weights.read_entry(sharper).sharpen == 0.4 and weights.read_entry(model).sharpen == 0


@pytest.mark.parametrize("shape", [(1, 64, 64), (2, 33, 31), (5, 8, 100), (1, 1, 1)])
def test_any_number_of_slices_and_any_matrix(model: Path, shape: tuple[int, int, int]) -> None:
    assert enhanced(scan(*shape), model).shape == shape


def stored_otherwise(volume: CTVolume, order: tuple[int, ...], flips: tuple[int, ...]) -> CTVolume:
    """The same voxels at the same places, with axes [z, y, x] in this order and some of them mirrored."""
    array = volume.array[tuple(slice(None, None, flip) for flip in flips)]
    ends = np.array([(n - 1) * (flip < 0) for n, flip in zip(volume.array.shape, flips, strict=True)])[::-1]
    origin = np.array(volume.origin) + volume.direction @ (ends * volume.spacing)
    axes = [2 - axis for axis in reversed(order)]
    x, y, z = np.array(volume.spacing)[axes].tolist()
    direction = (volume.direction * flips[::-1])[:, axes]
    return CTVolume(array.transpose(order), (x, y, z), tuple(origin.tolist()), direction)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (0, 2, 1)])
@pytest.mark.parametrize("flips", [(1, -1, 1), (1, 1, -1), (-1, -1, -1)])
@pytest.mark.parametrize("verb", [ctenhance.enhance, ctenhance.degrade])
def test_a_scan_stored_otherwise_gives_the_same_voxels(
    model: Path, verb: Any, order: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    volume = scan(3, 70, 70)
    other = stored_otherwise(volume, order, flips)
    settings: dict[str, Any] = {"device": "cpu", "seed": 3}
    settings |= {"model": model} if verb is ctenhance.enhance else {"dose": 0.25}
    here, there = (verb(one, **settings).volumes for one in (volume, other))
    (first,), (second,) = here.values(), there.values()
    assert not np.array_equal(first.array, volume.array)
    np.testing.assert_array_equal(stored_otherwise(first, order, flips).array, second.array)
    np.testing.assert_array_equal(second.direction, other.direction)


def test_slices_are_axial_however_the_volume_is_stored(model: Path) -> None:
    axial = scan()
    stored = stored_otherwise(axial, (2, 0, 1), (1, 1, 1))
    settings = {"model": model, "device": "cpu", "samples": 2, "uncertainty": True}
    expected, found = ctenhance.enhance(axial, **settings), ctenhance.enhance(stored, **settings)
    for kind, name in (("volumes", "enhanced"), ("maps", "uncertainty")):
        there, here = getattr(expected, kind)[name], getattr(found, kind)[name]
        np.testing.assert_array_equal(stored_otherwise(there, (2, 0, 1), (1, 1, 1)).array, here.array)
        assert here.spacing == stored.spacing
        np.testing.assert_array_equal(here.direction, stored.direction)
    assert found.report["warnings"] == expected.report["warnings"]  # none of planes
    # A thick reformat has no axial slices that a model knows.
    thick = CTVolume(stored.array, (*stored.spacing[:2], 3.0), stored.origin, stored.direction)
    kept = ctenhance.enhance(thick, **settings)
    assert "not axial" in kept.report["warnings"][0]
    assert not np.array_equal(kept.volumes["enhanced"].array, found.volumes["enhanced"].array)


def test_strength_blends_after_the_fact(model: Path) -> None:
    volume = scan()
    full = enhanced(volume, model)
    np.testing.assert_array_equal(enhanced(volume, model, strength=0.0), volume.array)
    half = enhanced(volume, model, strength=0.5)
    np.testing.assert_allclose(half, (volume.array + full) / 2, atol=2e-3)


def test_what_is_kept_of_faint_structures_is_the_coarse_part_of_what_was_taken_away(model: Path) -> None:
    volume = scan()
    volume.array[1, 10:13, 10:13] = 4000.0  # metal, which models leave as it is
    change = enhanced(volume, model) - volume.array
    sigma = (0, 1.5 / volume.spacing[1], 1.5 / volume.spacing[0])
    coarse = ndimage.gaussian_filter(change, sigma, truncate=3.0)
    for share in (0.5, 1.0):
        found = enhanced(volume, model, keep_faint=share)
        np.testing.assert_allclose(found, volume.array + change - share * coarse * (change != 0), atol=2e-3)
        assert (found[1, 10:13, 10:13] == 4000).all()
    assert np.abs(coarse).max() > 0.01
    # strength is taken of what is left
    half = enhanced(volume, model, keep_faint=1.0, strength=0.5)
    np.testing.assert_allclose(half, (volume.array + found) / 2, atol=2e-3)


def test_a_faint_lesion_that_was_taken_away_comes_back_and_noise_does_not() -> None:
    spacing = (0.8, 0.8, 2.0)
    y, x = np.mgrid[-40:40, -40:40] * 0.8
    lesion = -25.0 * ndimage.gaussian_filter((np.hypot(y, x) < 2.5).astype(np.float32), 0.6)
    noise = np.random.default_rng(0).normal(0, 1, (80, 80))
    noise = 20 * (noise - ndimage.gaussian_filter(noise, 2.0))
    taken = (-lesion - noise)[None].astype(np.float32)  # all of both
    left = with_faint_kept(taken, 1.0, spacing)[0] - taken[0]
    inside, outside = np.hypot(y, x) < 2, np.hypot(y, x) > 8
    assert left[inside].mean() / lesion[inside].mean() > 0.55
    assert left[outside].std() < 0.15 * noise[outside].std()
    assert not with_faint_kept(np.zeros((1, 80, 80), np.float32), 1.0, spacing).any()


def test_the_uncertainty_does_not_tell_of_what_is_kept(model: Path) -> None:
    settings = {"model": model, "samples": 2, "uncertainty": True, "device": "cpu"}
    found = ctenhance.enhance(scan(), keep_faint=0.5, **settings).report
    assert any("keeping faint" in text for text in found["warnings"])
    assert found["settings"]["keep_faint"] == 0.5
    assert not any(
        "keeping faint" in text for text in ctenhance.enhance(scan(), **settings).report["warnings"]
    )


def test_same_seed_same_bytes(model: Path) -> None:
    volume = scan()
    assert enhanced(volume, model, seed=3).tobytes() == enhanced(volume, model, seed=3).tobytes()


def test_another_seed_is_another_draw_of_the_diffusion(diffusion: Path) -> None:
    volume = scan()
    assert not np.array_equal(enhanced(volume, diffusion, seed=3), enhanced(volume, diffusion, seed=4))


def test_a_slice_depends_on_its_neighbours_only(model: Path) -> None:
    volume = scan(slices=9)
    whole = enhanced(volume, model)
    part = volume.array.copy()
    part[:3], part[6:] = 500, 500
    changed = enhanced(volume.with_array(part), model)
    np.testing.assert_array_equal(changed[4], whole[4])
    assert not np.array_equal(changed[3], whole[3])


def test_what_lies_beyond_the_range_stays_as_it_was(model: Path) -> None:
    volume = scan()
    array = volume.array.copy()
    array[1, 40, 20], array[1, 41, 21], array[1, 2, 2] = 20000, 3072, -2000
    after = enhanced(volume.with_array(array), model)
    assert after[1, 40, 20] == 20000
    assert after[1, 41, 21] == 3072
    assert after[1, 2, 2] == -2000


@pytest.mark.parametrize("architecture", ["twin", "residual-diffusion"])
def test_tiles_leave_no_seam(architecture: str, tmp_path: Path) -> None:
    """A network of small reach gives the same image tiled and whole; where tiles meet nothing shows."""
    model = save_model(tmp_path, architecture)
    volume = scan(slices=3, rows=320, columns=288)

    def run(tile: int) -> np.ndarray:
        return enhancer_of(model, tile)(volume.array, 1) - volume.array[1]

    whole, tiled = run(2048), run(160)
    change = float(np.std(whole))
    jump_rows = np.abs(np.diff(tiled - whole, axis=0)).mean(1)
    assert float(np.std(tiled - whole)) < 0.35 * change
    # no line at which the tiled image steps: the blend is smooth
    assert jump_rows.max() < 0.25 * change


@pytest.mark.parametrize("draw", [0, 2, 5])
def test_work_only_where_the_patient_is(draw: int, tmp_path: Path) -> None:
    """Nothing around the patient changes by it, whatever lies beyond the box that is worked on."""
    model = save_model(tmp_path, "twin")
    rng = np.random.default_rng(3)
    array = rng.normal(-1000, 20, (4, 544, 608)).astype(np.float32)
    array[0, 200:280, 260:330] += 1040
    array[3] -= 5  # air alone, and so is what lies below it
    whole, boxed = enhancer_of(model), enhancer_of(model)
    whole.kind = replace(whole.kind, reach=1 << 20)
    first = [enhancer.changes(array, 0, 1, draw)[0] for enhancer in (whole, boxed)]
    rows, columns = boxed.find_patient(array).box
    assert (rows.start, columns.start) == (0, 32)  # whole multiples
    assert 280 + 224 <= rows.stop < 544 and 330 + 224 <= columns.stop < 608
    np.testing.assert_allclose(first[1][200:280, 260:330], first[0][200:280, 260:330], atol=1e-3)
    outside = np.ones(first[1].shape, bool)
    outside[rows, columns] = False
    assert outside.any() and not first[1][outside].any() and first[0][outside].any()
    assert not boxed.changes(array, 2, 4, draw).any()
    # emphysema is not air
    array[3, 100:200, 100:200] += 60
    assert enhancer_of(model).changes(array, 3, 4, draw).any()


def test_noise_along_z_is_unit_correlated_and_independent_of_order(diffusion: Path) -> None:
    enhancer = enhancer_of(diffusion, seed=9)
    size = (256, 256)
    planes = [enhancer.noise(z, 0, size) for z in (4, 5, 40)]
    for plane in planes:
        assert float(plane.std()) == pytest.approx(1, abs=0.03)
    corr = [float((planes[0] * other).mean()) for other in planes[1:]]
    assert corr[0] > 0.9  # neighbours 1 mm apart agree
    assert abs(corr[1]) < 0.05
    np.testing.assert_array_equal(enhancer_of(diffusion, seed=9).noise(5, 0, size), planes[1])
    assert enhancer.noise(5, 0, (64, 128)).shape == (1, 64, 128)  # another matrix
    thick = enhancer_of(diffusion, seed=9, spacing=50.0)
    assert abs(float((thick.noise(4, 0, size) * thick.noise(5, 0, size)).mean())) < 0.05


def test_samples_are_averaged_and_their_spread_is_the_uncertainty(model: Path) -> None:
    volume = scan(slices=2, rows=40, columns=40)
    result = ctenhance.enhance(volume, model=model, samples=4, uncertainty=True, device="cpu", seed=1)
    stochastic = load_model(model).stochastic
    enhancer = enhancer_of(model, seed=1, spacing=2.0)
    draws = np.stack([enhancer(volume.array, 1, draw) for draw in range(4)])
    np.testing.assert_allclose(result.volumes["enhanced"].array[1], draws.mean(0), atol=2e-3)
    variance = draws.var(0, ddof=1)
    if stochastic:
        halves, means = (draws[1::2] - draws[::2]) / 2, (draws[1::2] + draws[::2]) / 2
        variance = (halves**2).mean(0) + means.var(0, ddof=1)
    expected = np.sqrt(ndimage.uniform_filter(variance, 5, mode="nearest"))
    np.testing.assert_allclose(result.maps["uncertainty"].array[1], expected, atol=5e-3)
    assert result.maps["uncertainty"].array.max() > 0


def test_the_registry_s_factor_makes_the_spread_tell_of_errors(model: Path, tmp_path: Path) -> None:
    volume = scan(slices=1, rows=40, columns=40)
    tensors, entry = weights.load(model)
    told = tmp_path / "told.safetensors"
    weights.save(told, tensors, replace(entry, spread={"2": 3.0, "4": 1.5}))
    plain, other = (
        ctenhance.enhance(volume, model=path, samples=5, uncertainty=True, device="cpu")
        for path in (model, told)
    )
    np.testing.assert_allclose(
        other.maps["uncertainty"].array, 1.5 * plain.maps["uncertainty"].array, rtol=1e-5
    )
    np.testing.assert_array_equal(other.volumes["enhanced"].array, plain.volumes["enhanced"].array)
    calibrated = [one.report["details"]["uncertainty_calibrated"] for one in (plain, other)]
    warned = [any("never compared" in text for text in one.report["warnings"]) for one in (plain, other)]
    assert calibrated == [False, True] and warned == [True, False]
    assert (plain.report["details"]["uncertainty_factor"], other.report["details"]["uncertainty_factor"]) == (
        1,
        1.5,
    )
    assert [weights.read_entry(told).spread_factor(n) for n in (1, 2, 3, 4, 8)] == [1.0, 3.0, 3.0, 1.5, 1.5]
    for bad in ({"two": 1.0}, {"2": -1.0}, {"2": "1"}, {"2": float("inf")}):
        with pytest.raises(InputError, match="spread factor"):
            weights.save(tmp_path / "bad.safetensors", tensors, replace(entry, spread=bad))  # type: ignore[arg-type]


def test_usual_number_of_draws(model: Path) -> None:
    volume = scan(slices=1, rows=40, columns=40)
    usual = ctenhance.enhance(volume, model=model, device="cpu")
    assert usual.report["settings"]["samples"] == 1
    same = ctenhance.enhance(volume, model=model, samples=1, device="cpu")
    np.testing.assert_array_equal(usual.volumes["enhanced"].array, same.volumes["enhanced"].array)
    spread = ctenhance.enhance(volume, model=model, uncertainty=True, device="cpu")
    assert spread.report["settings"]["samples"] == SPREAD_SAMPLES


def test_symmetries_turn_back() -> None:
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    seen = set()
    for symmetry in range(SYMMETRIES):
        one = turned(x, symmetry)
        np.testing.assert_array_equal(turned(x.numpy(), symmetry), one)  # arrays and tensors alike
        assert torch.equal(turned_back(one, symmetry), x)
        np.testing.assert_array_equal(turned_back(turned(x.numpy(), symmetry), symmetry), x)
        seen.add((one.shape, tuple(one.flatten().tolist())))
    assert len(seen) == SYMMETRIES


def test_a_report_gives_the_settings_to_do_it_again(model: Path) -> None:
    volume = scan()
    asked = EnhanceOptions(model=model, strength=0.5, samples=2, uncertainty=True, device="cpu", seed=4)
    result = ctenhance.enhance(volume, options=asked)
    options = EnhanceOptions.from_report(result.report)
    assert options.model == model.stem  # the registry's name: a report names no path
    again = ctenhance.enhance(volume, options=replace(options, model=model, device="cpu"))
    assert np.array_equal(again.volumes["enhanced"].array, result.volumes["enhanced"].array)
    assert np.array_equal(again.maps["uncertainty"].array, result.maps["uncertainty"].array)
    assert again.report["settings"] == result.report["settings"]


def test_cancel_stops_at_once(model: Path) -> None:
    token = CancelToken()

    def progress(stage: str, done: int, total: int) -> None:
        if done == 2:
            token.cancel()

    told: list[int] = []
    with pytest.raises(Cancelled):
        ctenhance.enhance(
            scan(slices=30),
            model=model,
            device="cpu",
            cancel=token,
            progress=lambda s, d, t: (told.append(d), progress(s, d, t)),  # type: ignore[func-returns-value]
        )
    assert told == [1, 2]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"strength": 1.5}, "between 0"),
        ({"keep_faint": 1.5}, "between 0 and 1"),
        (
            {"keep_faint": 0.5, "strength": 0.0},
            "At strength 0 the input stays as it is, faint structures too",
        ),
        ({"keep_faint": float("nan")}, "between 0 and 1"),
        ({"samples": 0}, "at least 2 samples|samples"),
        ({"uncertainty": True, "samples": 1}, "at least 2 samples"),
        ({"samples": 9}, "only 8 distinct"),
        ({"steps": 4}, "one step"),
        ({"device": "tpu"}, "no device called 'tpu'"),
    ],
)
def test_refusals(twin: Path, settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        ctenhance.enhance(scan(), model=twin, **settings)


@pytest.mark.parametrize(("steps", "sentence"), [(9, "more than 8"), (2, "draw takes 3, 4, 5, 8 steps")])
def test_refuses_steps_that_there_is_no_sampler_for(diffusion: Path, steps: int, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        ctenhance.enhance(scan(), model=diffusion, steps=steps)


def test_refuses_weights_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    entry = WeightsEntry("odd", "", "", "", "", "twin", {"features": [16] * 6}, "1", "")
    weights.save(path, build("twin", SMALL["twin"]).state_dict(), entry)
    with pytest.raises(InputError, match="do not fit their architecture"):
        ctenhance.enhance(scan(), model=path)


def test_out_of_memory_goes_to_smaller_tiles_and_says_so(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = scan(slices=2, rows=300, columns=300)
    run = SliceEnhancer._run

    def starved(self: SliceEnhancer, x: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        if self.tile > 200:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: out of memory")
        return run(self, x, noise)

    monkeypatch.setattr(SliceEnhancer, "_run", starved)
    result = ctenhance.enhance(volume, model=model, device="cpu")
    assert any("ran out" in warning for warning in result.report["warnings"])
    assert result.volumes["enhanced"].array.shape == volume.array.shape


def test_the_twin_sees_its_neighbours_and_keeps_hu_scale() -> None:
    torch.manual_seed(0)
    network = Twin(features=(8, 8, 8, 8, 8, 8))
    x = torch.randn(1, 3, 64, 64, requires_grad=True)
    network(x).square().sum().backward()
    assert x.grad is not None
    assert all(float(x.grad[0, k].abs().sum()) > 0 for k in range(3))
