"""Training: the bank's noise, the drawn pairs, and a resumable loop, on a small phantom."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy import ndimage

from ctenhance.enhance import bank as bank_module
from ctenhance.enhance import training
from ctenhance.enhance.bank import build_bank, load_bank, own_noise, soft_tissue, write_bank_volume
from ctenhance.enhance.inference import load_model
from ctenhance.enhance.networks import LatentDiffusion, build
from ctenhance.enhance.pairs import HU_SCALE, PairSampler, kernel_gain, matching_cutoff
from ctenhance.enhance.training import pairs_validation, read_pairs
from ctenhance.runtime import weights
from ctenhance.runtime.errors import Cancelled, CTEnhanceError, InputError
from ctenhance.runtime.fit import Ahead, Settings, bank_names, fit, training_volumes
from ctenhance.runtime.progress import CancelToken
from ctenhance.volume import CTVolume


def body(slices: int, noise: float, seed: int) -> CTVolume:
    """Soft tissue with some structure in air, and noise with a kernel."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:180, :200]
    array = np.full((slices, 180, 200), -1000.0, np.float32)
    inside = ((x - 100) / 85) ** 2 + ((y - 90) / 70) ** 2 < 1
    array[:, inside] = 45
    array[:, (x - 60) ** 2 + (y - 80) ** 2 < 400] = -850
    white = ndimage.gaussian_filter(rng.normal(size=array.shape), (0, 0.8, 0.8))
    array[:, inside] += (white / white.std() * noise)[:, inside]
    return CTVolume(array.round(), (0.8, 0.8, 2.0))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    body(5, 12, 1).write(folder / "one.nii.gz")
    body(1, 20, 2).write(folder / "two.nii.gz")
    body(5, 12, 3).write(folder / "heldout.nii.gz")
    return folder


@pytest.fixture(scope="module")
def bank(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return build_bank([data / "one.nii.gz", data / "two.nii.gz"], tmp_path_factory.mktemp("bank"))


@pytest.fixture(scope="module")
def validation(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("validation")
    reference = CTVolume.read(data / "heldout.nii.gz")
    rng = np.random.default_rng(0)
    degraded = reference.array + rng.normal(0, 25, reference.array.shape)
    reference.write(folder / "held_reference.nii.gz")
    reference.with_array(degraded.round().astype(np.float32)).write(folder / "held_degraded.nii.gz")
    return folder


def test_own_noise_is_the_noise_that_was_put_in() -> None:
    # a window of 9 pixels takes a little of the correlated noise for its mean
    assert own_noise(body(3, 12, 0).array) == pytest.approx(12, rel=0.12)
    assert own_noise(body(3, 30, 0).array) == pytest.approx(30, rel=0.12)


def test_bank_noise_has_unit_sd_in_soft_tissue(bank: list[Path]) -> None:
    volumes = load_bank(bank)
    assert [v.facts.name for v in volumes] == ["one", "two"]
    assert volumes[0].facts.noise_hu == pytest.approx(12, abs=1.5)
    mask = torch.from_numpy(soft_tissue(volumes[0].hu[2].numpy()))
    for field in (volumes[0].quantum, volumes[0].electronic):
        assert float(field[0, 2].float()[mask].std()) == pytest.approx(1, abs=0.02)
    assert abs(float((volumes[0].quantum[0, 2] * volumes[0].quantum[1, 2]).float()[mask].mean())) < 0.1


def test_harvested_noise_is_the_scans_own(bank: list[Path]) -> None:
    volume = load_bank(bank)[0]
    noise = (volume.hu - volume.clean).float()
    mask = torch.from_numpy(np.stack([soft_tissue(image) for image in volume.hu.numpy()]))
    assert float(noise[mask].std()) == pytest.approx(volume.facts.harvested_hu, rel=0.02)
    assert 0.5 < volume.facts.harvested_hu / 12 < 1.1
    # what is left of the noise in the cleaned image is little, and its mean has not moved
    assert float(volume.clean.float()[mask].std()) < 6
    assert abs(float(noise[mask].mean())) < 0.3
    # the lung's edge, 900 HU high, is not taken for noise
    edge = torch.from_numpy(ndimage.gaussian_gradient_magnitude(volume.hu[2].numpy().astype(float), 1) > 150)
    assert float(noise[2][edge].std()) < 2 * volume.facts.harvested_hu


def test_bank_resumes_and_refuses_other_files(data: Path, bank: list[Path], tmp_path: Path) -> None:
    times = [p.stat().st_mtime_ns for p in bank]
    assert build_bank([data / "one.nii.gz", data / "two.nii.gz"], bank[0].parent) == bank
    assert [p.stat().st_mtime_ns for p in bank] == times
    other = tmp_path / "other.safetensors"
    weights.save(other, {"a": torch.zeros(1)}, weights.WeightsEntry("a", "", "", "", "", "twin", {}, "1", ""))
    with pytest.raises(InputError, match="no file of a noise bank"):
        load_bank([other])
    with pytest.raises(InputError, match="holds no volumes"):
        load_bank([])


def test_patients_with_the_same_file_name_all_come_into_the_bank(tmp_path: Path) -> None:
    for patient, noise in (("p1", 5), ("p2", 15)):
        (tmp_path / "data" / patient).mkdir(parents=True)
        body(1, noise, 1).write(tmp_path / "data" / patient / "ct.nii.gz")
    files = training_volumes(tmp_path / "data", [])
    volumes = load_bank(build_bank(files, tmp_path / "bank"))
    assert [v.facts.name for v in volumes] == ["p1__ct", "p2__ct"]
    assert volumes[0].facts.noise_hu < volumes[1].facts.noise_hu
    # Patients are held out by their folder, too.
    assert training_volumes(tmp_path / "data", ["p2"]) == [tmp_path / "data" / "p1" / "ct.nii.gz"]
    assert bank_names([tmp_path / "a.b.nii.gz"]) == ["a.b"]
    assert bank_names([tmp_path / "a.nii.gz", tmp_path / "a.mha"]) == ["a.nii.gz", "a.mha"]


def test_slices_beyond_the_body_come_not_into_the_bank(tmp_path: Path) -> None:
    volume = body(4, 12, 1)
    for z in (1, 3):  # a gap between two parts, and what lies beyond the head
        volume.array[z] = np.round(np.random.default_rng(z).normal(-1000, 8, volume.array[z].shape))
    volume.write(tmp_path / "one.nii.gz")
    (made,) = load_bank(build_bank([tmp_path / "one.nii.gz"], tmp_path / "bank"))
    assert len(made.hu) == 3
    assert abs(float(made.clean[1].float().mean()) + 1000) < 2
    assert torch.isfinite(made.quantum.float()).all() and torch.isfinite(made.electronic.float()).all()
    pairs = PairSampler([made], 64, seed=0).batch(12, 0)
    assert torch.isfinite(pairs.degraded).all() and torch.isfinite(pairs.reference).all()
    with pytest.raises(InputError, match="'air' shows no tissue to train on: leave it out with --exclude"):
        air = volume.with_array(np.repeat(volume.array[3:], 4, axis=0))
        write_bank_volume(tmp_path / "air.safetensors", "air", air, 0)


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


def test_the_slow_part_of_the_bank_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token, seen = CancelToken(), []

    def clean(image: np.ndarray, _noise: float) -> np.ndarray:
        seen.append(image)
        token.cancel()
        return image

    monkeypatch.setattr(bank_module, "without_noise", clean)
    with pytest.raises(Cancelled):
        write_bank_volume(tmp_path / "one.safetensors", "one", body(3, 12, 1), 0, token)
    assert len(seen) == 1
    assert not list(tmp_path.iterdir())


def test_padding_is_air_in_bank_and_validation(tmp_path: Path) -> None:
    plain = body(2, 12, 1)
    padded = plain.with_array(plain.array.copy())
    padded.array[:, :10] = -3024
    for name in ("held_reference", "held_degraded"):
        padded.write(tmp_path / f"{name}.nii.gz")
    ((_, low, high),) = read_pairs(tmp_path)
    assert low.min() >= -1500 and high.min() >= -1500
    (volume,) = load_bank(build_bank([tmp_path / "held_reference.nii.gz"], tmp_path / "bank"))
    assert float(volume.routine.min()) > -1500
    # Two slices have no inner one; a score there is all the same.
    validate = pairs_validation(tmp_path, 8, round_trip=False)
    assert validate is not None
    assert validate(torch.nn.Identity(), torch.device("cpu"))["score"] > 0


def test_a_batch_depends_on_its_step_alone(bank: list[Path]) -> None:
    one, two = PairSampler(load_bank(bank), 64, seed=5), PairSampler(load_bank(bank), 64, seed=5)
    one.batch(3, 0)
    ahead = Ahead(one.batch)
    for step in (1, 2, 7):
        first, second = ahead(3, step), two.batch(3, step)
        assert torch.equal(first.degraded, second.degraded)
        assert torch.equal(first.reference, second.reference)
    assert not torch.equal(two.batch(3, 1).degraded, two.batch(3, 2).degraded)
    assert not torch.equal(two.batch(3, 1, rank=1).degraded, two.batch(3, 1).degraded)


def test_added_noise_has_the_sd_that_the_draw_says(bank: list[Path]) -> None:
    sampler = PairSampler(load_bank(bank), 96, seed=1)
    ratios = []
    for step in range(60):
        drawn = sampler.batch(2, step)
        for i in range(2):
            difference = (drawn.degraded[i, 1] - drawn.reference[i, 1]) * HU_SCALE
            mask = torch.from_numpy(soft_tissue(drawn.reference[i, 1].numpy() * HU_SCALE))
            sd = float(drawn.noise_hu[i])
            if sd > 10 and mask.sum() > 3000 and float(drawn.reference[i, 1].max()) < 0.5:
                ratios.append(float(difference[mask].std()) / sd)
    # softer kernels and thicker slices take some of it away, so the middle lies a little below one
    assert len(ratios) > 10
    assert 0.6 < float(np.median(ratios)) < 1.25


def test_references_are_scans_and_some_pairs_are_clean(bank: list[Path]) -> None:
    sampler = PairSampler(load_bank(bank), 64, seed=2)
    drawn = [sampler.batch(8, step) for step in range(12)]
    levels = torch.cat([d.noise_hu for d in drawn])
    assert levels.min() < 4
    assert levels.max() > 50
    assert all(torch.isfinite(d.degraded).all() for d in drawn)
    values = torch.cat([d.reference.flatten() for d in drawn]) * HU_SCALE
    assert float(values.min()) >= -1100
    assert float(values.max()) < 400


def test_matching_cutoff_inverts_the_kernel() -> None:
    """Noise made with a cut-off gives that cut-off back through its neighbour correlation."""
    rng = np.random.default_rng(0)
    pixel = 0.7
    fy, fx = np.fft.fftfreq(512, pixel)[:, None], np.fft.rfftfreq(512, pixel)[None]
    frequency = torch.from_numpy(np.hypot(fy, fx))
    for cutoff in (0.3, 0.5):
        gain = (frequency.sqrt() * kernel_gain(frequency, cutoff)).numpy()
        noise = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(512, 512))) * gain)
        detail = noise - ndimage.gaussian_filter(noise, 2.0)
        correlation = float((detail[:, 1:] * detail[:, :-1]).mean() / (detail**2).mean())
        assert matching_cutoff(correlation, pixel) == pytest.approx(cutoff, rel=0.08)


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "TWIN", {"features": [8, 8, 8, 8, 8, 8]})
    monkeypatch.setattr(training, "AUTOENCODER", {"channels": [16, 16], "latents": 2})
    monkeypatch.setattr(training, "DENOISER_CHANNELS", [16, 16])


def tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(str(path), framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


SETTINGS = {"exclude": ["heldout"], "batch": 2, "crop": 64, "device": "cpu"}


def test_a_cancelled_run_resumes_to_the_same_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    whole = training.train_twin(data, tmp_path / "whole", steps=6, **SETTINGS)
    token = CancelToken()
    original = Ahead.__call__

    def stop_at_three(self: Ahead, size: int, step: int, rank: int = 0):  # type: ignore[no-untyped-def]
        if step == 3:
            token.cancel()
        return original(self, size, step, rank)

    monkeypatch.setattr(Ahead, "__call__", stop_at_three)
    with pytest.raises(Cancelled):
        training.train_twin(data, tmp_path / "parts", steps=6, cancel=token, **SETTINGS)
    monkeypatch.setattr(Ahead, "__call__", original)
    resumed = training.train_twin(data, tmp_path / "parts", steps=6, **SETTINGS)
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
    training.train_twin(data, tmp_path, steps=3, validation=validation, **SETTINGS)
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
    ("train", "given"),
    [
        ("train_twin", {"validation": "none"}),
        ("train_twin", {"start": "none.safetensors"}),
        ("train_autoencoder", {"validation": "none"}),
        ("train_enhance", {"autoencoder": "none.safetensors"}),
    ],
)
def test_what_is_missing_is_told_before_the_bank_is_made(
    data: Path, tmp_path: Path, train: str, given: dict[str, str]
) -> None:
    missing = {name: tmp_path / value for name, value in given.items()}
    with pytest.raises(InputError, match="none"):
        getattr(training, train)(data, tmp_path / "run", steps=2, **SETTINGS, **missing)
    assert not (tmp_path / "run" / "bank").exists()


def test_data_folder_without_volumes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no NIfTI, NRRD or MHA"):
        training.train_twin(tmp_path, tmp_path / "run", steps=1)


def test_torchrun_trains_one_network(data: Path, repository: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        "29617",
    ]
    command += ["-m", "ctenhance", "train", "twin", str(data), str(tmp_path / "run"), "--steps", "2"]
    command += ["--batch", "1", "--device", "cpu", "--exclude", "heldout", "--exclude", "one"]
    environment = {**os.environ, "PYTHONPATH": str(repository / "CTEnhance")}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert load_model(tmp_path / "run" / "best.safetensors").entry.trained_on == "two"
    assert done.stdout.count("best.safetensors") == 1  # one process speaks for both


def test_a_checkpoint_of_another_network_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    training.train_twin(data, tmp_path, steps=1, **SETTINGS)
    monkeypatch.setattr(training, "TWIN", {"features": [16, 8, 8, 8, 8, 8]})
    with pytest.raises(InputError, match="belongs to another network"):
        training.train_twin(data, tmp_path, steps=2, **SETTINGS)


def test_the_whole_chain_of_trainings(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    twin = training.train_twin(data, tmp_path / "twin", steps=2, **SETTINGS)
    autoencoder = training.train_autoencoder(data, tmp_path / "autoencoder", steps=2, **SETTINGS)
    final = training.train_enhance(
        data, tmp_path / "enhance", autoencoder=autoencoder, twin=twin, steps=4, **SETTINGS
    )
    model = load_model(final)
    assert model.stochastic
    trained, frozen = tensors(final), tensors(autoencoder)
    for key, value in frozen.items():
        if key != "scale":
            assert torch.equal(trained[f"autoencoder.{key}"], value)
    assert float(trained["autoencoder.scale"]) != 1.0


def test_the_detail_decoder_starts_at_the_twin(tmp_path: Path) -> None:
    torch.manual_seed(0)
    twin = build("twin", {"features": [8, 8, 8, 8, 8, 8]})
    network = build(
        "latent-diffusion",
        {"autoencoder": {"channels": [16, 16]}, "channels": [16, 16], "features": [8, 8, 8, 8, 8, 8]},
    )
    assert isinstance(network, LatentDiffusion)
    training.start_from_twin(network, twin.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(x, steps=1), twin(x), atol=1e-5, rtol=1e-4)
    other = build("twin", {"features": [16, 8, 8, 8, 8, 8]})
    with pytest.raises((InputError, RuntimeError)):
        training.start_from_twin(network, {"nowhere.weight": torch.zeros(1), **other.state_dict()})


def test_log_error_is_the_psnr_turned_round() -> None:
    target = torch.zeros(2, 1, 8, 8)
    output = torch.stack([torch.full((1, 8, 8), 0.02), torch.full((1, 8, 8), 0.2)])
    psnr = [20 * math.log10(2 / e) for e in (0.02, 0.2)]
    expected = math.log(2) - sum(psnr) / 2 / 20 * math.log(10)
    assert float(training.log_error(output, target)) == pytest.approx(expected, abs=0.01)
    assert math.isfinite(float(training.log_error(target, target)))


def test_soft_l1_is_square_then_plain() -> None:
    zero = torch.zeros(4)
    assert float(training.soft_l1(zero, zero)) == pytest.approx(0, abs=1e-7)
    assert float(training.soft_l1(zero + 1, zero)) == pytest.approx(1, abs=0.03)
    small_error = 1e-3
    expected = math.hypot(small_error, training.SOFT_ERROR) - training.SOFT_ERROR
    assert float(training.soft_l1(zero + small_error, zero)) == pytest.approx(expected, rel=0.01)
