"""Training: a resumable loop, what it is given and what it keeps, on a small phantom."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from enhance_body import body
from safetensors import safe_open

from ctenhance.core.volume import CTVolume
from ctenhance.enhancement import training
from ctenhance.enhancement.inference import load_model
from ctenhance.enhancement.networks import build
from ctenhance.runtime import weights
from ctenhance.runtime.errors import Cancelled, CTEnhanceError, InputError
from ctenhance.runtime.progress import CancelToken
from ctenhance.training.loop import Ahead, Settings, fit
from ctenhance.training.options import DiffusionTraining, TrainOptions, TwinTraining


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    body(5, 12, 1).write(folder / "one.nii.gz")
    body(1, 20, 2).write(folder / "two.nii.gz")
    body(5, 12, 3).write(folder / "heldout.nii.gz")
    return folder


@pytest.fixture(scope="module")
def validation(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("validation")
    reference = CTVolume.read(data / "heldout.nii.gz")
    rng = np.random.default_rng(0)
    degraded = reference.array + rng.normal(0, 25, reference.array.shape)
    reference.write(folder / "held_reference.nii.gz")
    reference.with_array(degraded.round().astype(np.float32)).write(folder / "held_degraded.nii.gz")
    return folder


def test_a_loss_that_is_no_number_does_not_reach_the_weights(tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 1)
    entry = weights.WeightsEntry("a", "", "", "", "", "twin", {}, "1", "")

    def loss(bad: set[int]):  # type: ignore[no-untyped-def]
        def at(model: torch.nn.Module, step: int, rank: int, where: torch.device) -> torch.Tensor:
            return model(torch.ones(1, 2)).square().mean() * (math.nan if step in bad else 1)

        return at

    settings = Settings(steps=40, report_every=5, device="cpu")
    best = fit(network, loss({0, 3, 4, 17}), tmp_path / "some", settings, entry)
    assert all(torch.isfinite(value).all() for value in tensors(best).values())
    for line in (tmp_path / "some" / "log.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
    with pytest.raises(CTEnhanceError, match="stopped at step 30: the loss was no number 20 times in a row"):
        fit(network, loss(set(range(10, 40))), tmp_path / "all", settings, entry)
    kept = tensors(tmp_path / "all" / "checkpoint.safetensors")
    assert all(torch.isfinite(value.float()).all() for value in kept.values())


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "TWIN", {"features": [8, 8, 8, 8, 8, 8]})
    monkeypatch.setitem(training.TWINS, "twin", training.TWIN)
    monkeypatch.setattr(training, "DENOISER", [8, 8, 8, 8, 8, 8])


def tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(str(path), framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


SETTINGS: dict[str, Any] = {"exclude": ["heldout"], "batch": 2, "crop": 64, "device": "cpu"}


def test_a_cancelled_run_resumes_to_the_same_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    whole = training.train_twin(data, tmp_path / "whole", TwinTraining(steps=6, **SETTINGS))
    token = CancelToken()
    original = Ahead.__call__

    def stop_at_three(self: Ahead, size: int, step: int, rank: int = 0):  # type: ignore[no-untyped-def]
        if step == 3:
            token.cancel()
        return original(self, size, step, rank)

    monkeypatch.setattr(Ahead, "__call__", stop_at_three)
    with pytest.raises(Cancelled):
        training.train_twin(data, tmp_path / "parts", TwinTraining(steps=6, **SETTINGS), cancel=token)
    monkeypatch.setattr(Ahead, "__call__", original)
    resumed = training.train_twin(data, tmp_path / "parts", TwinTraining(steps=6, **SETTINGS))
    first, second = tensors(whole), tensors(resumed)
    assert first.keys() == second.keys()
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=0, atol=1e-6)
    entry = load_model(resumed).entry
    assert entry.trained_on == "one, two"


def test_validation_decides_which_state_is_kept(
    data: Path, validation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    training.train_twin(data, tmp_path, TwinTraining(steps=3, validation=validation, **SETTINGS))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    scored = [line for line in lines if "score" in line]
    assert scored
    assert 20 < scored[-1]["score"] < 60
    assert scored[-1]["held"] == pytest.approx(scored[-1]["score"])


def test_validation_pairs_must_be_whole(validation: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no pair"):
        training.read_pairs(tmp_path)
    CTVolume.read(validation / "held_degraded.nii.gz").write(tmp_path / "lone_degraded.nii.gz")
    with pytest.raises(InputError, match="lone_reference"):
        training.read_pairs(tmp_path)


@pytest.mark.parametrize(
    ("train", "options", "given"),
    [
        ("train_twin", TwinTraining, {"validation": "none"}),
        ("train_twin", TwinTraining, {"start": "none.safetensors"}),
        ("train_enhance", DiffusionTraining, {"validation": "none"}),
        ("train_enhance", DiffusionTraining, {"twin": "none.safetensors"}),
    ],
)
def test_what_is_missing_is_told_before_the_bank_is_made(
    data: Path, tmp_path: Path, train: str, options: type[TrainOptions], given: dict[str, str]
) -> None:
    missing = {name: tmp_path / value for name, value in given.items()}
    with pytest.raises(InputError, match="none"):
        getattr(training, train)(data, tmp_path / "run", options(steps=2, **SETTINGS, **missing))
    assert not (tmp_path / "run" / "bank").exists()


def test_data_folder_without_volumes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no NIfTI, NRRD or MHA"):
        training.train_twin(tmp_path, tmp_path / "run", TwinTraining(steps=1))


def test_torchrun_trains_one_network(data: Path, repository: Path, tmp_path: Path) -> None:
    # alone on its machine, so that it takes a port that is free
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "ctenhance", "train", "twin", str(data), str(tmp_path / "run"), "--steps", "2"]
    command += ["--batch", "1", "--device", "cpu", "--exclude", "heldout", "--exclude", "one"]
    environment = {**os.environ, "PYTHONPATH": str(repository / "CTEnhance")}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert load_model(tmp_path / "run" / "best.safetensors").entry.trained_on == "two"
    assert done.stdout.count("best.safetensors") == 1  # one process speaks for both


def test_a_checkpoint_of_another_network_or_damaged_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    training.train_twin(data, tmp_path, TwinTraining(steps=1, **SETTINGS))
    monkeypatch.setitem(training.TWINS, "twin", {"features": [16, 8, 8, 8, 8, 8]})
    with pytest.raises(InputError, match="belongs to another network"):
        training.train_twin(data, tmp_path, TwinTraining(steps=2, **SETTINGS))
    checkpoint = tmp_path / "checkpoint.safetensors"
    for damaged in (checkpoint.read_bytes()[:1000], (tmp_path / "best.safetensors").read_bytes()):
        checkpoint.write_bytes(damaged)
        with pytest.raises(InputError, match="is damaged, or of another program: remove it"):
            training.train_twin(data, tmp_path, TwinTraining(steps=2, **SETTINGS))


def test_the_diffusion_is_trained_round_a_one_step_network(
    data: Path, validation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    twin = training.train_twin(data, tmp_path / "twin", TwinTraining(steps=2, **SETTINGS))
    options = DiffusionTraining(twin=twin, validation=validation, steps=60, **SETTINGS)
    final = training.train_enhance(data, tmp_path / "enhance", options)
    assert load_model(final).stochastic
    trained, frozen = tensors(final), tensors(twin)
    for key, value in frozen.items():
        assert torch.equal(trained[f"twin.{key}"], value)
    lines = [json.loads(line) for line in (tmp_path / "enhance" / "log.jsonl").read_text().splitlines()]
    scored = [line for line in lines if "score" in line]
    assert scored[-1]["loss"] == pytest.approx(
        scored[-1]["velocity"] + training.LIKELIHOOD_WEIGHT * scored[-1]["likelihood"]
    )
    assert 0.05 < float(trained["amplitude"]) < 20 and float(trained["amplitude"]) != 1
    # it learns: the scale alone, from far too small a one, within these steps
    torch.manual_seed(0)
    fresh = build("residual-diffusion", load_model(final).entry.arguments)
    fresh.twin.load_state_dict(frozen)  # type: ignore[union-attr, operator]
    validate = training._diffusion_validation(validation)
    assert validate is not None
    assert scored[-1]["loss"] < validate(fresh, torch.device("cpu"))["loss"] - 0.1


def test_the_angles_trained_at_are_the_samplers_and_others() -> None:
    angles = training._angles(4000, torch.Generator().manual_seed(0))
    assert float(angles.min()) > 0.02 and float(angles.max()) < math.pi / 2
    own = torch.tensor(training.fitted(4).angles)
    near = (angles[:, None] - own).abs().amin(1) <= 0.02
    assert 0.5 < float(near.float().mean()) < 0.65


def test_an_odd_crop_is_refused() -> None:
    with pytest.raises(InputError, match="multiple of 64"):
        DiffusionTraining(crop=100)


def test_a_larger_network_starts_as_what_the_smaller_one_was() -> None:
    old, new = [8, 12, 16, 24, 32, 8], [8, 16, 24, 32, 48, 10]
    small, large = build("twin", {"features": old}), build("twin", {"features": new})
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)) / 10
    with torch.no_grad():
        assert (small(x) - large(x)).abs().max() > 1e-3
        training.grow(large, small.state_dict(), old, new)
        assert (small(x) - large(x)).abs().max() < 1e-6
    # the further channels can be trained: a gradient reaches what will listen to them
    large(x).square().mean().backward()
    listeners = large.get_parameter("body.down_2.convs.conv_0.conv.weight").grad
    assert listeners is not None and float(listeners[:16, 12:].abs().max()) > 0
    with pytest.raises(InputError, match="belong to a larger network"):
        training.grow(small, large.state_dict(), new, old)


def test_an_unknown_size_is_refused_before_the_bank_is_made(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no size 'huge' of the one-step network: choose twin, twin-wide"):
        training.train_twin(data, tmp_path / "run", TwinTraining(architecture="huge", device="cpu"))
    assert not (tmp_path / "run").exists()


def test_log_error_is_the_psnr_turned_round() -> None:
    target = torch.zeros(2, 1, 8, 8)
    output = torch.stack([torch.full((1, 8, 8), 0.02), torch.full((1, 8, 8), 0.2)])
    psnr = [20 * math.log10(2 / e) for e in (0.02, 0.2)]
    expected = math.log(2) - sum(psnr) / 2 / 20 * math.log(10)
    assert float(training.log_error(output, target)) == pytest.approx(expected, abs=0.01)
    assert math.isfinite(float(training.log_error(target, target)))


def test_a_pruned_network_is_trained_from_a_larger_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    widths = [[7, 6], *[[6, 7]] * 4, *[[4, 6, 7]] * 4]
    monkeypatch.setitem(training.TWINS, "twin-lean", {"widths": widths})
    large = training.train_twin(data, tmp_path / "large", TwinTraining(steps=1, **SETTINGS))
    options = TwinTraining(steps=1, architecture="twin-lean", start=large, **SETTINGS)
    lean = training.train_twin(data, tmp_path / "lean", options)
    model = load_model(lean)
    assert model.entry.arguments == {"widths": widths}
    # the kernels are those of channels of the large network, moved by one step at most
    own, other = tensors(lean)["body.conv_0.conv_0.conv.bias"], tensors(large)["body.conv_0.conv_0.conv.bias"]
    assert (own[:, None] - other).abs().amin(1).max() < 1e-3
    again = TwinTraining(steps=1, architecture="twin-lean", start=lean, **SETTINGS)
    assert training.train_twin(data, tmp_path / "again", again).exists()
    with pytest.raises(InputError, match="pruned network, which cannot be grown"):
        training.train_twin(data, tmp_path / "grown", TwinTraining(steps=1, start=lean, **SETTINGS))
    assert not (tmp_path / "grown").exists()
