"""Chains: drawing, applying, reports and replay, refusals, cancelling."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ctenhance
from ctenhance.core.report import write_report
from ctenhance.core.volume import CTVolume
from ctenhance.degradation import PRESETS, Chain, DrawnChain
from ctenhance.degradation.source_noise import measure
from ctenhance.options import DegradeOptions
from ctenhance.runtime.errors import Cancelled, InputError
from ctenhance.runtime.progress import CancelToken
from ctenhance.scan.simulate import simulate_projections


def body(slices: int = 4, rows: int = 64, columns: int = 80, noise: float = 12.0) -> CTVolume:
    """A water body with a spine, in air; white noise of its own."""
    y, x = np.indices((rows, columns), dtype=np.float64)
    y, x = (y - (rows - 1) / 2) / rows, (x - (columns - 1) / 2) / columns
    image = np.where(np.hypot(x, y) < 0.45, 40.0, -1000.0)
    image[np.hypot(x, y - 0.25) < 0.08] = 700
    grain = np.random.default_rng(0).normal(0, noise, (slices, rows, columns))
    return CTVolume((image + grain).astype(np.float32), (1.5, 1.5, 1.0), (-10, 5, 100))


def drawn_with_every_step(volume: CTVolume, seed: int = 3) -> DrawnChain:
    every = tuple(replace(d, probability=1.0) for d in Chain.preset("routine", dose=0.25).distributions)
    return Chain("routine", every, True).draw(volume, seed)


def test_the_module_is_the_verb_and_keeps_the_grid() -> None:
    source = body()
    before = source.array.copy()
    result = ctenhance.degrade(source, dose=0.25, seed=1, device="cpu")
    degraded = result.volumes["degraded"]
    np.testing.assert_array_equal(source.array, before)
    assert degraded.array.dtype == np.float32 and degraded.array.shape == source.array.shape
    assert degraded.spacing == source.spacing and degraded.origin == source.origin
    assert np.isfinite(degraded.array).all() and (degraded.array != before).any()
    assert degraded.array.min() < -1024  # noise in air is not clipped unless asked for
    assert result.report["seed"] == 1 and result.report["settings"]["preset"] == "routine"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_report_replays_to_the_same_bytes(preset: str, tmp_path: Path) -> None:
    source = body(3)
    first = ctenhance.degrade(source, preset=preset, seed=5, device="cpu")
    write_report(tmp_path / "report.json", first.report)
    recorded = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    again = ctenhance.degrade(source, replay=recorded, device="cpu")
    assert again.volumes["degraded"].array.tobytes() == first.volumes["degraded"].array.tobytes()
    assert again.report["details"] == first.report["details"] and again.report["seed"] == 5


def test_every_step_replays_from_plain_json() -> None:
    source = body(3)
    chain = drawn_with_every_step(source)
    assert [step.name for step, _ in chain.steps] == [
        "slice-thickness",
        "motion",
        "beam-hardening",
        "dose",
        "ring",
        "sparse-views",
        "kernel",
    ]
    copy = DrawnChain.from_report(json.loads(json.dumps(chain.to_report(), allow_nan=False)))
    assert copy == chain
    assert copy.apply(source).array.tobytes() == chain.apply(source).array.tobytes()


def test_seeds_decide() -> None:
    source = body(2)
    draw = Chain.preset("routine", dose=0.25).draw
    same, again, other = (draw(source, seed) for seed in (1, 1, 2))
    assert same == again and same != other
    assert not np.array_equal(same.apply(source).array, other.apply(source).array)


def test_a_slice_does_not_depend_on_the_slices_after_it() -> None:
    """Streams belong to slices: part of a volume degrades as it does within the whole."""
    source = body(4)
    chain = Chain.preset("sumi-paper").draw(source, 4)
    part = CTVolume(source.array[:2].copy(), source.spacing)
    np.testing.assert_array_equal(chain.apply(part).array, chain.apply(source).array[:2])
    whole = drawn_with_every_step(source)
    assert whole.steps[0][0].name == "slice-thickness"
    scan = replace(whole, steps=whole.steps[1:])
    np.testing.assert_array_equal(scan.apply(part).array, scan.apply(source).array[:2])


def test_a_series_and_the_nifti_file_converted_from_it_have_the_same_quanta(tmp_path: Path) -> None:
    """NIfTI holds spacings as float32, 1e-8 beside DICOM's."""
    series = CTVolume(body(2, 96, 96).array, (0.7, 0.7, 2.1))
    series.write(tmp_path / "a.nii")
    converted = CTVolume.read(tmp_path / "a.nii")
    assert converted.spacing != series.spacing
    for seed in range(4):
        one, other = (
            ctenhance.degrade(volume, dose=0.25, seed=seed).volumes["degraded"].array
            for volume in (series, converted)
        )
        np.testing.assert_array_equal(one, other)
        scans = [simulate_projections(volume, views=300, seed=seed) for volume in (series, converted)]
        np.testing.assert_array_equal(scans[0].counts, scans[1].counts)


def test_dose_lowers_and_artefacts_are_occasional() -> None:
    """A typical draw is noise, mostly with thicker slices and another kernel; artefacts are rare."""
    source = body(3, 24, 32, noise=0)
    chain = Chain.preset("routine")
    counts: Counter[str] = Counter()
    doses = []
    draws = 250
    for seed in range(draws):
        entries = chain.draw(source, seed).to_report()["steps"]
        counts.update(entry["step"] for entry in entries)
        doses += [entry["parameters"]["dose"] for entry in entries if entry["step"] == "dose"]
    assert counts["dose"] == draws
    expected = {
        "slice-thickness": 0.6,
        "kernel": 0.7,
        "motion": 0.1,
        "beam-hardening": 0.1,
        "ring": 0.1,
        "sparse-views": 0.05,
    }
    for name, probability in expected.items():
        spread = 4 * (probability * (1 - probability) / draws) ** 0.5
        assert counts[name] / draws == pytest.approx(probability, abs=spread)
    assert min(doses) >= 0.05 and max(doses) <= 0.6
    assert np.log(doses).mean() == pytest.approx(np.log(0.05 * 0.6) / 2, abs=0.15)


def test_slices_are_axial_however_the_volume_is_stored() -> None:
    axial = body(4)
    x, y, z = axial.spacing
    sagittal = CTVolume(
        axial.array.transpose(2, 0, 1), (y, z, x), axial.origin, axial.direction[:, [1, 2, 0]]
    )
    expected, found = (
        ctenhance.degrade(volume, dose=0.25, seed=2, device="cpu") for volume in (axial, sagittal)
    )
    np.testing.assert_array_equal(
        found.volumes["degraded"].array, expected.volumes["degraded"].array.transpose(2, 0, 1)
    )
    assert found.volumes["degraded"].spacing == sagittal.spacing
    assert found.report["details"] == expected.report["details"]


def test_padding_stays_padding_and_counts_as_air(tmp_path: Path) -> None:
    source = body(3)
    outside = np.zeros(source.array.shape, bool)
    outside[:, :12] = outside[:, -12:] = True
    padded, plain = (source.with_array(np.where(outside, fill, source.array)) for fill in (-3024, -1000))
    for make in (drawn_with_every_step, lambda volume: Chain.preset("sumi-paper-3d").draw(volume, 2)):
        chain = make(plain)
        found, expected = chain.apply(padded).array, chain.apply(plain).array
        np.testing.assert_array_equal(found[~outside], expected[~outside])
        clips = chain.name != "routine"
        np.testing.assert_array_equal(found[outside], expected[outside] if clips else -3024)
    # What comes out is a CT again, which no more of it than the padding lies beyond.
    degraded = ctenhance.degrade(padded, dose=0.25, seed=1, device="cpu")
    degraded.volumes["degraded"].write(tmp_path / "degraded.nii.gz")
    assert CTVolume.read(tmp_path / "degraded.nii.gz").array.min() == -3024


def test_full_dose_leaves_the_noise_out() -> None:
    names = [d.step.name for d in Chain.preset("routine", dose=1.0).distributions if d.probability > 0]
    assert "dose" not in names and "kernel" in names


def test_photons_and_clip_can_be_set() -> None:
    source = body(2)
    result = ctenhance.degrade(source, dose=0.2, photons=5e4, clip=(-1024, 3071), seed=0, device="cpu")
    steps = {e["step"]: e["parameters"] for e in result.report["details"]["degradation"]["steps"]}
    assert steps["dose"]["photons_per_ray"] == 5e4
    assert steps["clip"] == {"low": -1024.0, "high": 3071.0}
    assert result.volumes["degraded"].array.min() >= -1024


def test_thickness_stands_in_the_meta_data_of_the_result() -> None:
    source = body(2)
    chain = drawn_with_every_step(source)
    assert chain.apply(source).meta["slice_thickness_mm"] == chain.steps[0][0].thickness_mm  # type: ignore[attr-defined]


def test_a_single_slice_and_an_empty_one() -> None:
    single = body(1)
    chain = drawn_with_every_step(single)
    assert "no effect" in chain.to_report()["steps"][0]["note"]
    assert chain.apply(single).array.shape == single.array.shape
    air = CTVolume(np.full((1, 40, 40), -1000, np.float32), (1, 1, 1))
    assert np.isfinite(drawn_with_every_step(air).apply(air).array).all()


def test_a_non_square_matrix_of_clinical_size() -> None:
    source = body(1, 312, 412)
    result = Chain.preset("routine", dose=0.25).draw(source, 3).apply(source)
    assert result.array.shape == (1, 312, 412) and np.isfinite(result.array).all()


def test_oblong_pixels_are_refused_where_projections_are_simulated() -> None:
    oblong = CTVolume(body(1).array, (1.5, 1.2, 1))
    with pytest.raises(InputError, match="resample"):
        Chain.preset("routine").draw(oblong)
    with pytest.raises(InputError, match="square"):
        drawn_with_every_step(body(1)).apply(oblong)


@pytest.mark.parametrize(
    ("preset", "options", "words"),
    [
        ("clinical", {}, "choose routine, sumi-paper"),
        ("routine", {"dose": 0.0}, "fraction"),
        ("routine", {"dose": 1.5}, "fraction"),
        ("routine", {"dose": float("nan")}, "fraction"),
        ("routine", {"photons": -3}, "photons"),
        ("routine", {"clip": (100, -100)}, "lower end first"),
        ("sumi-paper", {"dose": 0.25}, "choose routine"),
    ],
)
def test_impossible_settings_are_refused(preset: str, options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Chain.preset(preset, **options)


def broken(change: object) -> dict:
    report = drawn_with_every_step(body(1)).to_report()
    change(report)
    return report


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ({}, "no whole degradation"),
        ([], "no whole degradation"),
        ({"details": {"degradation": {"version": 99}}}, "version 99"),
        (broken(lambda r: r["steps"][0].update(step="x-ray")), "no degradation step 'x-ray'"),
        (broken(lambda r: r["steps"][1]["parameters"].pop("onset")), "'motion'"),
        (broken(lambda r: r["steps"][2]["parameters"].update(strength={"a": 1})), "'strength'"),
        (broken(lambda r: r["steps"][2]["parameters"].update(strength="strong")), "'strength'"),
        (broken(lambda r: r["steps"][3]["parameters"].update(axial_weights=[])), "'axial_weights'"),
        (broken(lambda r: r["steps"][5]["parameters"].update(n_views=0)), "'n_views'"),
        (broken(lambda r: r.pop("reconstruction")), "no whole degradation"),
    ],
    ids=range(10),
)
def test_reports_that_cannot_be_replayed_are_refused(report: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        DrawnChain.from_report(report)


def test_a_report_gives_the_settings_to_do_it_again() -> None:
    source = body(2)
    result = ctenhance.degrade(source, dose=0.25, clip=(-1000, 2000), device="cpu", seed=6)
    options = DegradeOptions.from_report(result.report)
    assert (options.dose, options.clip, options.seed) == (0.25, (-1000, 2000), 6)
    again = ctenhance.degrade(source, options=options)
    assert np.array_equal(again.volumes["degraded"].array, result.volumes["degraded"].array)
    replayed = ctenhance.degrade(source, replay=result.report, device="cpu")
    third = ctenhance.degrade(source, options=DegradeOptions.from_report(replayed.report))
    assert np.array_equal(third.volumes["degraded"].array, result.volumes["degraded"].array)


@pytest.mark.parametrize(
    "given", [{"dose": 0.5}, {"photons": 1e5}, {"clip": (-1, 1)}, {"preset": "sumi-paper"}]
)
def test_a_replay_takes_no_other_settings(given: dict) -> None:
    recorded = Chain.preset("routine", dose=0.25).draw(body(1), 1).to_report()
    with pytest.raises(InputError, match="from its report: leave them out"):
        ctenhance.degrade(body(1), replay=recorded, **given)


def test_cancelling_midway_stops() -> None:
    source = body(8)
    chain = drawn_with_every_step(source)
    token = CancelToken()
    seen: list[tuple[str, int, int]] = []

    def progress(stage: str, done: int, total: int) -> None:
        seen.append((stage, done, total))
        if stage == "slices" and done == 3:
            token.cancel()

    with pytest.raises(Cancelled):
        chain.apply(source, progress=progress, cancel=token)
    assert seen[-1] == ("slices", 3, 8)
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        chain.apply(source, cancel=token)


def test_progress_runs_from_start_to_end_of_every_stage() -> None:
    source = body(5)
    seen: dict[str, list[tuple[int, int]]] = {}
    drawn_with_every_step(source).apply(
        source, progress=lambda stage, done, total: seen.setdefault(stage, []).append((done, total))
    )
    assert set(seen) == {"slice-thickness", "slices"}
    for events in seen.values():
        assert events == sorted(events) and events[-1][0] == events[-1][1]


def test_quarter_dose_doubles_the_noise_of_a_real_scan(shared_data: Path) -> None:
    volume = CTVolume.read(shared_data / "ct" / "abdomen_CRLM_CT-1004_GE-LightSpeed16_STANDARD.nii.gz")
    part = CTVolume(volume.array[12:17].copy(), volume.spacing)
    chain = Chain.preset("routine", dose=0.25).draw(part, 0)
    dose = tuple(entry for entry in chain.steps if entry[0].name == "dose")
    lowered = DrawnChain("routine", 0, dose, chain.reconstruction).apply(part)
    own, after = measure(part.array), measure(lowered.array)
    # the drawn chain may have thickened the slices; the noise to add is then that of thicker ones
    weights = np.array(dose[0][0].axial_weights)  # type: ignore[attr-defined]
    expected = own.sd_hu * np.sqrt(1 + 3 * float(weights @ weights))
    assert after.sd_hu == pytest.approx(expected, rel=0.08)
    assert after.texture == pytest.approx(own.texture, rel=0.15)
