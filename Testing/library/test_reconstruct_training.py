"""Training the cascade: drawn scans, the banks, the samplers, and both resumable trainings on a phantom."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.core.volume import CTVolume
from ctenhance.physics.geometry import FanGeometry, ParallelGeometry
from ctenhance.physics.projector import project
from ctenhance.physics.units import hu_to_mu
from ctenhance.reconstruction import bank, conditions, drawing, training
from ctenhance.reconstruction.models import load_image_model, load_projection_model
from ctenhance.reconstruction.projection_pairs import ProjectionSampler, integral_error
from ctenhance.runtime.errors import Cancelled, InputError
from ctenhance.runtime.progress import CancelToken
from ctenhance.training.options import ImageTraining, ProjectionTraining

PIXEL = 4.0


def body(slices: int, seed: int) -> CTVolume:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:56, :64]
    array = np.full((slices, 56, 64), -1000.0, np.float32)
    array[:, ((x - 32) / 28) ** 2 + ((y - 28) / 22) ** 2 < 1] = 30
    for z in range(slices):
        cx, cy = rng.uniform(20, 44), rng.uniform(18, 38)
        array[z, (x - cx) ** 2 + (y - cy) ** 2 < 30] = rng.uniform(-800, 400)
    return CTVolume(array, (PIXEL, PIXEL, 2.0))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    body(3, 1).write(folder / "one.nii.gz")
    body(1, 2).write(folder / "two.nii.gz")
    body(3, 3).write(folder / "heldout.nii.gz")
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with its bank of sinograms."""
    folder = tmp_path_factory.mktemp("run")
    bank.build_sinograms([data / "one.nii.gz", data / "two.nii.gz"], folder / "sinograms")
    return folder


@pytest.fixture(scope="module")
def scans(run: Path) -> list[bank.CleanScan]:
    return bank.load_sinograms(sorted((run / "sinograms").glob("*.safetensors")))


def test_drawn_scanners_see_the_object_whole_and_are_of_all_kinds() -> None:
    hu = body(1, 4).array
    kinds = set()
    for seed in range(60):
        geometry, grid = drawing.draw_scan(np.random.default_rng(seed), hu, PIXEL)
        kinds.add(geometry.shape if isinstance(geometry, FanGeometry) else "parallel")
        corner = max(math.hypot(x * 28 * PIXEL, y * 22 * PIXEL) for x, y in ((1, 0), (0, 1)))
        assert geometry.field_of_view_mm / 2 > corner + math.hypot(*grid.center_mm)
    assert kinds == {"parallel", "flat", "equiangular"}


def test_exposures_cover_the_doses_and_have_the_noise_they_say() -> None:
    geometry = ParallelGeometry(10, 400, 1.0)
    drawn = [drawing.draw_exposure(np.random.default_rng(seed), geometry) for seed in range(200)]
    doses = [float(e.air.max()) / 2.5e5 for e in drawn]
    assert min(doses) < 0.02
    assert max(doses) > 0.5
    assert 0.1 < np.mean([e.electronic == 0 for e in drawn]) < 0.4
    one = drawing.Exposure(torch.full((400,), 5000.0), 50.0)
    counts = drawing.measure(torch.full((1, 500, 400), 5.0), one, torch.Generator().manual_seed(0))
    assert float(counts.mean()) == pytest.approx(5000 * math.exp(-5), rel=0.01)
    assert float(counts.var()) == pytest.approx(5000 * math.exp(-5) + 50, rel=0.02)
    assert float(counts.min()) < 8


def test_the_bank_holds_what_the_scanner_saw(data: Path, run: Path, scans: list[bank.CleanScan]) -> None:
    by_name = {scan.name: scan for scan in scans}
    assert {len(scan.integrals) for scan in scans} == {1, 3}
    one = by_name["one-0"]
    volume = CTVolume.read(data / "one.nii.gz")
    mu = hu_to_mu(torch.from_numpy(volume.array)).clamp(min=0)
    expected = project(mu, one.geometry, one.grid)
    assert float((one.three() - expected).abs().max()) <= bank.STEP
    assert torch.equal(by_name["two-0"].three()[0], by_name["two-0"].three()[2])


def test_a_begun_bank_goes_on(data: Path, tmp_path: Path) -> None:
    cancel = CancelToken()

    def stop(_stage: str, _done: int, _total: int) -> None:
        cancel.cancel()

    volumes = [data / "two.nii.gz", data / "one.nii.gz"]
    with pytest.raises(Cancelled):
        bank.build_sinograms(volumes, tmp_path, progress=stop, cancel=cancel)
    first = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    assert first
    files = bank.build_sinograms(volumes, tmp_path)
    assert len(files) > len(first)
    assert all(path.stat().st_mtime_ns == before for path, before in first.items())


def test_every_volume_has_its_own_scans_whatever_its_name(data: Path, tmp_path: Path) -> None:
    for name in ("1.2.3", "1.2.4", "a", "a-2", "p1/ct", "p2/ct"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        CTVolume.read(data / "two.nii.gz").write(tmp_path / f"{name}.nii.gz")
    volumes = sorted(tmp_path.rglob("*.nii.gz"))
    files = bank.build_sinograms(volumes, tmp_path / "sinograms")
    assert len(files) == len(set(files)) == len(volumes) * bank.SCANS_PER_SLICE


def test_refuses_a_damaged_bank(tmp_path: Path) -> None:
    (tmp_path / "bad-0.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="bad-0"):
        bank.load_sinograms([tmp_path / "bad-0.safetensors"])
    with pytest.raises(InputError, match="bad-0"):
        conditions.load_conditions([tmp_path / "bad-0.safetensors"])
    with pytest.raises(InputError, match="empty"):
        bank.load_sinograms([])


def test_projection_batches_depend_on_their_step_alone(scans: list[bank.CleanScan]) -> None:
    first, second = ProjectionSampler(scans, 64, 1), ProjectionSampler(scans, 64, 1)
    second.batch(4, 7)
    one, again = first.batch(4, 3), second.batch(4, 3)
    assert torch.equal(one.readings.shifted, again.readings.shifted)
    assert torch.equal(one.integrals, again.integrals)
    assert not torch.equal(one.integrals, first.batch(4, 4).integrals)
    assert one.readings.shifted.shape == one.readings.air.shape == (4, 3, 64, 64)
    assert (one.scale > 0).all()


def test_readings_belong_to_their_line_integrals(scans: list[bank.CleanScan]) -> None:
    drawn = ProjectionSampler(scans, 96, 2).batch(24, 0)
    middle = drawn.readings.shifted[:, 1] - drawn.readings.electronic[:, 0]
    expected = drawn.readings.air[:, 1] * torch.exp(-drawn.integrals)
    ratio = middle.sum((1, 2)) / expected.sum((1, 2))
    assert float((ratio - 1).abs().max()) < 0.01


def test_the_loss_weighs_what_filtering_amplifies() -> None:
    target = torch.zeros(1, 8, 64)
    shift = torch.full_like(target, 0.1)
    ripple = 0.1 * torch.tensor([1.0, -1.0]).repeat(32).expand(1, 8, 64)
    one = torch.ones(1)
    assert float(integral_error(ripple, target, one)) > 4 * float(integral_error(shift, target, one))
    assert float(integral_error(shift, target, one)) > 0
    assert float(integral_error(shift, target, 2 * one)) == pytest.approx(
        float(integral_error(shift, target, one)) / 2
    )


SETTINGS: dict[str, Any] = {"exclude": ["heldout"], "batch": 2, "crop": 64, "device": "cpu"}


@pytest.fixture(scope="module")
def projection(data: Path, run: Path) -> Path:
    return training.train_projection(data, run, ProjectionTraining(steps=3, **SETTINGS))


def test_the_projection_training_gives_usable_weights_and_resumes(
    data: Path, run: Path, projection: Path
) -> None:
    model = load_projection_model(projection)
    assert model.entry.architecture == "spdiff-compact"
    assert "heldout" not in model.entry.trained_on
    again = training.train_projection(data, run, ProjectionTraining(steps=5, **SETTINGS))
    steps = [
        json.loads(line)["step"] for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert again == projection
    assert steps == [3, 5]


def test_the_published_network_trains_too_and_resumes(data: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "sinograms").symlink_to(run / "sinograms")
    changed = []
    for steps in (1, 2):
        options = ProjectionTraining(
            architecture="spdiff-published", exclude=["heldout"], steps=steps, batch=1, crop=16
        )
        best = training.train_projection(data, tmp_path, options)
        model = load_projection_model(best)
        assert model.entry.architecture == "spdiff-published"
        changed.append(model.network.state_dict()["last.weight"])
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    assert not torch.equal(*changed)


def test_validation_looks_at_held_out_images_at_three_doses(
    scans: list[bank.CleanScan], projection: Path
) -> None:
    network = load_projection_model(projection).network
    validate = training.projection_validation(scans[:1])
    figures = validate(network, torch.device("cpu"))
    assert figures == validate(network, torch.device("cpu"))
    assert figures["0.5"] > figures["0.1"] > figures["0.025"]


def test_the_image_training_sees_guides_of_its_projection_network(
    data: Path, run: Path, projection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "DRAWS", 1)
    monkeypatch.setattr(conditions, "WINDOW", 64)
    options = ImageTraining(projection=projection, steps=2, **{**SETTINGS, "crop": 48})
    best = training.train_image(data, run, options)
    assert load_image_model(best).entry.architecture == "doubly-guided"
    files = sorted((run / "guides").glob("*.safetensors"))
    for one in conditions.load_conditions(files):
        assert one.low.shape == one.initial.shape == (3, *one.reference.shape)
        assert not torch.equal(one.low, one.initial)


def test_image_batches_depend_on_their_step_alone(run: Path, projection: Path) -> None:
    stack = torch.arange(4 * 3 * 40 * 40, dtype=torch.int16).reshape(4, 3, 40, 40)
    items = [conditions.Condition(str(k), s, s + 1, s[1] + 2) for k, s in enumerate(stack)]
    sampler = conditions.ImageSampler(items, 32, 5)
    one, again = sampler.batch(6, 2), conditions.ImageSampler(items, 32, 5).batch(6, 2)
    assert torch.equal(one.low, again.low)
    assert torch.equal(one.noise, again.noise)
    assert not torch.equal(one.low, sampler.batch(6, 3).low)
    # turned and mirrored alike
    step = 1 / (conditions.QUARTER * 1000)
    assert torch.allclose(one.initial - one.low, torch.full_like(one.low, step), atol=1e-6)
    assert torch.allclose(
        one.reference - one.low[:, 1:2], torch.full_like(one.reference, 2 * step), atol=1e-6
    )
    assert (one.level > 0).all()
    assert (one.level <= 1).all()


def test_refuses_what_is_no_projection_network(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no projection network"):
        training.train_projection(data, tmp_path, ProjectionTraining(architecture="doubly-guided"))


def test_refuses_a_folder_without_volumes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no"):
        training.train_projection(tmp_path, tmp_path / "run", ProjectionTraining())


def test_the_command_names_the_network(data: Path, tmp_path: Path) -> None:
    words = ["train", "projection", str(data), str(tmp_path / "run"), "--architecture", "doubly-guided"]
    done = CliRunner().invoke(app, [*words, "--device", "cpu"])
    assert done.exit_code == 2
    assert "no projection network 'doubly-guided': choose spdiff-compact" in done.stderr
    words[1] = "image"
    assert not (tmp_path / "run").exists()
    assert "No such option: --architecture" in CliRunner().invoke(app, words).stderr
