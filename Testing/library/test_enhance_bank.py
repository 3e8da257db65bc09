"""What trainings draw from: the bank's noise, what comes into it, and the drawn pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from enhance_body import body
from scipy import ndimage

from ctenhance.enhancement import bank as bank_module
from ctenhance.enhancement import pairs, training
from ctenhance.enhancement.bank import build_bank, load_bank, own_noise, soft_tissue, write_bank_volume
from ctenhance.enhancement.detail import DetailSampler
from ctenhance.enhancement.models import HU_SCALE
from ctenhance.enhancement.pairs import PairSampler, kernel_gain, matching_cutoff
from ctenhance.enhancement.training import pairs_validation, read_pairs
from ctenhance.runtime import weights
from ctenhance.runtime.errors import Cancelled, InputError
from ctenhance.runtime.progress import CancelToken
from ctenhance.training.loop import Ahead, bank_names, training_volumes
from ctenhance.training.options import TwinTraining


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    body(5, 12, 1).write(folder / "one.nii.gz")
    body(1, 20, 2).write(folder / "two.nii.gz")
    return folder


@pytest.fixture(scope="module")
def bank(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return build_bank([data / "one.nii.gz", data / "two.nii.gz"], tmp_path_factory.mktemp("bank"))


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
    for _ in ("of another kind", "cut off"):
        with pytest.raises(InputError, match="no file of a noise bank, or damaged"):
            load_bank([other])
        other.write_bytes(other.read_bytes()[:50])
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
    validate = pairs_validation(tmp_path, 8)
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


def test_finer_draws_have_smoother_noise_of_the_same_level(
    bank: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a finer matrix the same kernel's noise reaches over more pixels."""

    def correlation(finest: float) -> tuple[float, float]:
        monkeypatch.setattr(pairs, "FINER", float(finest > 1))
        monkeypatch.setattr(pairs, "FINEST", finest)
        sampler = PairSampler(load_bank(bank)[:1], 64, seed=3)
        products, sd = [], []
        for step in range(200):
            drawn = sampler.batch(1, step)
            noise = (drawn.degraded[0, 1] - drawn.reference[0, 1]) * HU_SCALE
            mask = torch.from_numpy(soft_tissue(drawn.reference[0, 1].numpy() * HU_SCALE))
            if float(drawn.noise_hu) > 15 and mask.float().mean() > 0.6:
                both = mask[:, 1:] & mask[:, :-1]
                products.append(
                    float((noise[:, 1:] * noise[:, :-1])[both].mean() / noise[mask].square().mean())
                )
                sd.append(float(noise[mask].std() / drawn.noise_hu))
        assert len(products) > 5
        return float(np.median(products)), float(np.median(sd))

    for name in ("ROUTINE", "ITERATIVE"):
        monkeypatch.setattr(pairs, name, 0.0)
    plain, finer = correlation(1.0), correlation(2.0)
    assert finer[0] > plain[0] + 0.1
    assert finer[1] == pytest.approx(plain[1], rel=0.3)


def test_iterative_draws_keep_edges_and_lose_fine_grain(bank: list[Path]) -> None:
    sampler = PairSampler(load_bank(bank), 96, seed=3)
    generator = torch.Generator().manual_seed(0)
    step = torch.zeros(3, 96, 96)
    step[..., 48:] = 400
    noisy = step + 30 * torch.randn(step.shape, generator=generator)
    made = sampler._iterative(noisy, 30)
    assert 0.1 < float((made - step).std()) / 30 < 0.9
    assert float(made[..., 60:].mean() - made[..., :36].mean()) == pytest.approx(400, abs=8)
    grain = float((made[..., 1:] - made[..., :-1])[..., :40].std())
    assert grain < 0.8 * float((noisy[..., 1:] - noisy[..., :-1])[..., :40].std())


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


def test_references_of_the_detail_task_are_sharper_than_their_inputs(bank: list[Path]) -> None:
    """In every draw the steepest edges are steeper by what the blur took, and less noise is added."""

    def steepness(image: torch.Tensor) -> float:
        smooth = torch.from_numpy(ndimage.gaussian_filter(image.numpy(), 0.5))
        across = torch.hypot(smooth[1:, :-1] - smooth[:-1, :-1], smooth[:-1, 1:] - smooth[:-1, :-1])
        return float(across.flatten().topk(60).values.mean())

    ratios, noise = [], []
    sampler = DetailSampler(load_bank(bank), crop=96, seed=3)
    for step in range(12):
        batch = sampler.batch(2, step)
        for low, high in zip(batch.degraded[:, 1], batch.reference[:, 1], strict=True):
            if float(high.max() - high.min()) > 0.9:  # it holds an edge of the body
                ratios.append(steepness(high) / steepness(low))
        noise += batch.noise_hu.tolist()
    assert len(ratios) > 8
    assert float(np.median(ratios)) > 1.25 and min(ratios) > 1.0
    usual = PairSampler(load_bank(bank), crop=96, seed=3)
    assert np.mean(noise) < np.mean([float(n) for k in range(12) for n in usual.batch(2, k).noise_hu])
    again = DetailSampler(load_bank(bank), crop=96, seed=3).batch(2, 11)
    assert torch.equal(again.degraded, batch.degraded)


def test_the_detail_task_is_trained_as_the_other(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    original = DetailSampler.batch
    monkeypatch.setattr(
        DetailSampler, "batch", lambda self, *asked: drawn.append(asked) or original(self, *asked)
    )
    monkeypatch.setitem(training.TWINS, "twin", {"features": [8, 8, 8, 8, 8, 8]})
    options = TwinTraining(steps=2, batch=1, crop=64, device="cpu")
    best = training.train_detail(data, tmp_path / "run", options)
    assert weights.read_entry(best).architecture == "twin" and len(drawn) >= 2
