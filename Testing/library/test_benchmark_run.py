"""The harness of the benchmark: what is kept is not done again; samplers and networks of others."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("skimage", reason="the peers need scikit-image")


@pytest.fixture
def bench(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    import cases
    import measure
    import methods
    import tables
    import train_peers

    class Modules:
        pass

    found = Modules()
    for module in (cases, measure, methods, tables, train_peers):
        setattr(found, module.__name__, module)
    return found


def patient(bench: Any, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :96] - 47.5
    truth = np.where(np.hypot(x, y) < 40, 50.0, -1000.0).astype(np.float32)
    high = (truth + rng.normal(0, 10, (4, 96, 96))).astype(np.float32)
    low = (high + rng.normal(0, 30, high.shape)).astype(np.float32)
    return bench.cases.Case("one", low, high, (0.7, 0.7, 2.0), (1, 2))


def test_what_was_done_is_not_done_again(bench: Any, tmp_path: Path) -> None:
    methods, case = bench.methods, patient(bench)
    (gaussian,) = (peer for peer in __import__("peers").all_peers(1) if peer.name == "Gaussian")
    runs = []

    class Counted(methods.Filtered):
        def run(self, case: Any) -> Any:
            runs.append(self.label)
            return super().run(case)

    def measured(case: Any, *chosen: Any) -> Any:
        return bench.measure.measure_case("here", case, chosen, methods.Kept(tmp_path))

    first, images = measured(case, methods.Input(), Counted(gaussian))
    second, again = measured(case, methods.Input(), Counted(gaussian))
    assert runs == ["Gaussian, slice-tuned"]
    assert second["methods"]["input"]["psnr"] == first["methods"]["input"]["psnr"]
    np.testing.assert_array_equal(again["Gaussian, slice-tuned"][1], images["Gaussian, slice-tuned"][1])
    # another strength, and other voxels under the same name, are done anew
    fixed = methods.tuned_on(gaussian, [case])
    third, _ = measured(case, methods.Input(), Counted(gaussian, None, fixed), Counted(gaussian))
    measured(patient(bench, 1), methods.Input(), Counted(gaussian))
    assert runs == ["Gaussian, slice-tuned", "Gaussian", "Gaussian, slice-tuned"]
    kinds = {name: record["kind"] for name, record in third["methods"].items()}
    assert kinds == {"input": "input", "Gaussian": "peer", "Gaussian, slice-tuned": "ceiling"}
    assert bench.tables.all_tables([first])


def test_likeness_and_coverage_by_hand(bench: Any) -> None:
    case = patient(bench)
    error = np.random.default_rng(5).normal(0, 10, case.reference.shape).astype(np.float32)
    done = bench.methods.Done(
        {z: case.reference[z] + error[z] for z in case.chosen},
        spread={z: np.full(case.reference[z].shape, 10.0) for z in case.chosen},
    )
    found = bench.measure.Measuring(case).figures(bench.methods.Input(), done)
    for key, low, high in (("psnr", -1000, 1000), ("psnr_abdomen", -160, 240)):
        shown = done.images[1].clip(low, high) - case.reference[1].clip(low, high)
        expected = 20 * math.log10((high - low) / np.sqrt(np.mean(shown.astype(float) ** 2)))
        assert found[key]["1"] == pytest.approx(expected, abs=0.01)
    levels = found["coverage"]["levels"]
    for level, share in levels.items():
        assert share == pytest.approx(float(level), abs=0.02)
    assert found["coverage"]["factor_90"] == pytest.approx(1, abs=0.03)
    assert bench.measure.shape_distance([1, 2, 1], [10, 20, 10]) == pytest.approx(0)
    assert bench.measure.shape_distance([1, 0], [0, 3]) == pytest.approx(1)


def test_plain_samplers_come_near_with_many_steps(bench: Any) -> None:
    """Gaussian data and their exact velocity: DDIM and DDPM keep more of the power with more steps."""
    power = torch.tensor([0.2, 1.0]).view(1, 2, 1, 1)
    noise = torch.randn(1, 2, 200, 200, generator=torch.Generator().manual_seed(1))

    def velocity(z: torch.Tensor, angle: float) -> torch.Tensor:
        cos, sin = math.cos(angle), math.sin(angle)
        return (cos * z - power * cos / (power * cos**2 + sin**2) * z) / sin

    kept = {}
    for fresh in (False, True):
        for steps in (8, 200):
            found = bench.methods.Plain.of(steps, fresh).draw(velocity, noise)
            kept[fresh, steps] = (found.square().mean((0, 2, 3)) / power.flatten()).tolist()
        assert all(
            abs(1 - many) < abs(1 - few) for many, few in zip(kept[fresh, 200], kept[fresh, 8], strict=True)
        )
        assert all(0.85 < share < 1.05 for share in kept[fresh, 200])
    assert [str(bench.methods.Plain.of(50, fresh)) for fresh in (False, True)] == ["DDIM 50", "DDPM 50"]


def test_intervals_over_patients(bench: Any) -> None:
    values = [40.0, 41.0, 43.0, 44.5, 41.5]
    low, high = bench.tables.interval(values)
    half = 2.776 * np.std(values, ddof=1) / math.sqrt(5)
    assert low < np.mean(values) < high
    assert high - low == pytest.approx(2 * half, rel=0.35)
    assert bench.tables.interval([1.0, 2.0]) is None


@pytest.mark.parametrize("name", ["red-cnn", "plain-unet"])
def test_networks_of_others_can_be_trained_and_run(
    bench: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from enhance_body import body

    from ctenhance.training.options import TwinTraining

    data = tmp_path / "data"
    data.mkdir()
    body(5, 12, 1).write(data / "one.nii.gz")
    options = TwinTraining(steps=2, batch=1, crop=64, device="cpu")
    best = bench.train_peers.train(name, data, tmp_path / "run", options)
    method = bench.methods.Trained(best)
    assert method.label == name and method.kind == "trained peer"
    done = method.run(patient(bench))
    assert {z: image.shape for z, image in done.images.items()} == {1: (96, 96), 2: (96, 96)}
    assert all(np.isfinite(image).all() for image in done.images.values())


def test_red_cnn_has_its_published_form(bench: Any) -> None:
    network = bench.train_peers.RedCnn()
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == 1848865  # ten layers of 5 x 5 with 96 channels
    x = torch.zeros(1, 3, 64, 64)
    x[0, 1] = 0.3
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        torch.testing.assert_close(network(x), x[:, 1:2])  # the shortcut from input to output


def test_a_mistake_is_one_sentence(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from enhance_body import body

    import run

    def said(*more: str) -> str:
        monkeypatch.setattr(sys, "argv", ["run.py", "--pairs", str(tmp_path), *more])
        with pytest.raises(SystemExit) as ended:
            run.main()
        assert ended.value.code == 2
        return capsys.readouterr().err

    assert "holds no pair" in said()
    for kind in ("degraded", "reference"):
        body(5, 12, 1).write(tmp_path / f"a_{kind}.nii.gz")
    assert said("--draws", "0") == "Error: --draws must be at least 1.\n"


def test_strengths_of_the_validation_are_found_once(bench: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    (nlm,) = (peer for peer in __import__("peers").all_peers(1) if peer.name == "NLM")
    case, kept = patient(bench), bench.methods.Kept(tmp_path)
    first = bench.methods.tuned_on(nlm, [case], kept)

    def never(*_: Any) -> Any:
        raise AssertionError("searched again")

    deaf = replace(nlm, variants=dict.fromkeys(nlm.variants, never))
    again = bench.methods.tuned_on(deaf, [case], kept)
    assert (again.strength, again.setting) == (first.strength, first.setting)
    with pytest.raises(AssertionError, match="again"):
        bench.methods.tuned_on(deaf, [patient(bench, 1)], kept)


def test_images_of_others_are_measured_as_they_are(bench: Any, tmp_path: Path) -> None:
    from ctenhance.core.volume import CTVolume
    from ctenhance.runtime.errors import InputError

    case, methods = patient(bench), bench.methods
    found = methods.Given("older build", tmp_path)
    with pytest.raises(InputError, match=r"holds no one\.nii\.gz"):
        found.run(case)
    before = found.key()
    CTVolume(np.round(case.reference), case.spacing, (0, 0, 0), np.eye(3), {}).write(tmp_path / "one.nii.gz")
    assert found.key() != before
    np.testing.assert_array_equal(found.run(case).images[2], np.round(case.reference[2]))
    facts, _ = bench.measure.measure_case("here", case, [methods.Input(), found], methods.Kept(None))
    record = facts["methods"]["older build"]
    assert record["kind"] == "other program" and min(record["psnr"].values()) > 60
    CTVolume(case.reference[:2], case.spacing, (0, 0, 0), np.eye(3), {}).write(tmp_path / "one.nii.gz")
    with pytest.raises(InputError, match="same input"):
        found.run(case)


def test_gains_are_by_pairs_of_patients(bench: Any) -> None:
    def person(name: str, mine: float, other: float) -> dict[str, Any]:
        ours = {"kind": "ours", "psnr": {"1": mine, "2": mine + 2}, "clean": {}}
        return {
            "name": name,
            "methods": {"input": {"kind": "input", "psnr": {"2": other}}, "model": ours},
        }

    patients = [person("a", 40.0, 41.0), person("b", 30.0, 33.0), person("c", 35.0, 34.0)]
    table = bench.tables.gains(patients)
    assert table.header == ("over", "model")
    (name, cell), (_, own) = table.rows
    assert name == "input" and cell.startswith("+1.00 [") and cell.endswith("2 of 3") and own == "–"


def test_degraded_patients_are_kept(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from enhance_body import body

    body(3, 12, 1).write(tmp_path / "someone.nii.gz")
    kept = bench.methods.Kept(tmp_path / "kept")
    first = bench.cases.held_out_source(tmp_path, ["someone"], 2, 0.5, 1, kept).load("someone")
    monkeypatch.setattr(bench.cases, "degrade", None)
    again = bench.cases.held_out_source(tmp_path, ["someone"], 2, 0.5, 1, kept).load("someone")
    np.testing.assert_array_equal(again.degraded, first.degraded)
    with pytest.raises(TypeError):
        bench.cases.held_out_source(tmp_path, ["someone"], 2, 0.5, 2, kept).load("someone")


def test_shares_of_texture_have_limits_that_hold_the_truth(bench: Any) -> None:
    """White noise beside two blurs of it: the share of the milder blur's distance, known from many slices."""
    from scipy import ndimage

    def measured(seed: int, slices: int) -> Any:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:96, :96] - 47.5
        body = np.where(np.hypot(x, y) < 44, 50.0, -1000.0).astype(np.float32)
        reference = (body + rng.normal(0, 10, (slices, 96, 96))).astype(np.float32)
        case = bench.cases.Case("one", reference, reference, (0.7, 0.7, 2.0), tuple(range(slices)))
        white = rng.normal(0, 10, reference.shape)
        records = {}
        for name, sigma in {"base": 0.8, "better": 0.55}.items():
            images = {z: body + ndimage.gaussian_filter(white[z], sigma) for z in range(slices)}
            measuring = bench.measure.Measuring(case)
            records[name] = measuring._noise_and_edges(images) | {
                "kind": "ours",
                "nps_distance_without": measuring._left_out(images),
            }
        return {"name": "one", "methods": records}

    truth = bench.tables.share_of_texture(measured(0, 40), "better", "base")[0]
    shares = [bench.tables.share_of_texture(measured(seed, 5), "better", "base") for seed in range(1, 9)]
    assert 0.3 < truth < 0.9
    assert sum(low < truth < high for _, low, high in shares) >= 6
    assert all(high / low < 2 for _, low, high in shares)
    few = measured(1, 3)
    assert bench.tables.share_of_texture(few, "better", "base") is None
    assert bench.tables.texture_shares([few], "base") is None
    patients = [measured(seed, 5) for seed in (1, 2, 3)]
    *rows, (_, whole) = bench.tables.texture_shares(patients, "base").rows
    assert [row[0] for row in rows] == ["one"] * 3 and whole.startswith("0.") and "[" in whole
