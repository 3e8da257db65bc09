"""Drawn scans and the training of the scatter network without labels."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ctenhance.core.volume import CTVolume
from ctenhance.decomposition import training
from ctenhance.decomposition.scatter import scans as scatter_scans
from ctenhance.decomposition.scatter.amount_training import FACTORS, Table, train_amount
from ctenhance.decomposition.scatter.correction import scatter_method
from ctenhance.decomposition.scatter.network import ARCHITECTURE, FEATURES, SPR_KNOWN, Amount, ScatterNet
from ctenhance.decomposition.scatter.scans import (
    AIR_QUANTA,
    BASIS,
    body_phantom,
    draw_beams,
    draw_scan,
    patient_phantom,
)
from ctenhance.decomposition.solver.layer import Decomposer
from ctenhance.physics.geometry import FanGeometry
from ctenhance.physics.noise import bowtie_fluence
from ctenhance.runtime import weights
from ctenhance.training.loop import Settings
from ctenhance.training.options import ScatterTraining


def test_patients_become_tissues_with_iodine_where_it_can_be() -> None:
    hu = np.full((80, 60), -1000.0, np.float32)
    hu[10:70, 5:55] = 40
    hu[12:20, 10:50] = -100
    hu[30:36, 25:35] = 900
    hu[45:60, 10:25] = -800
    phantom = patient_phantom(hu, 5.0, np.random.default_rng(3))
    assert phantom.densities.shape == (4, 1, 64, 64)
    total = phantom.densities[:3].sum(0)
    assert float(total.max()) < 2.0 and float(phantom.map("iodine").max()) <= 20.001
    assert float(phantom.map("bone").max()) > 700
    assert bool((phantom.map("iodine")[phantom.map("bone") > 0] == 0).all())
    assert bool((phantom.map("iodine")[phantom.map("adipose") > 0] == 0).all())


@pytest.fixture(scope="module")
def drawn_scan():
    some = draw_beams(2, 5)[1]
    rng = np.random.default_rng(1)
    decomposer = Decomposer(BASIS, some.spectra() * AIR_QUANTA, some.detector.energies_kev)
    return draw_scan(body_phantom(rng), some, decomposer, rng, "drawn")


def test_true_scatter_leaves_no_bias_and_the_gradient_is_that_of_the_images(drawn_scan) -> None:
    chain = training.Chain()
    before = chain.bias(chain.images(drawn_scan, 0.2, None), drawn_scan)
    true = 0.2 * drawn_scan.scatter
    after = chain.bias(chain.images(drawn_scan, 0.2, true), drawn_scan)
    assert max(a / b for a, b in zip(after, before, strict=True)) < 0.02

    def error(scale: torch.Tensor) -> torch.Tensor:
        images = chain.images(drawn_scan, 0.2, (scale * true.double()))
        return training.image_error(chain, images.double(), drawn_scan)

    scale = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(error(scale), scale)
    with torch.no_grad():
        finite = (error(scale + 0.02) - error(scale - 0.02)) / 0.04
    assert float(slope) == pytest.approx(float(finite), rel=0.03)
    assert float(slope) < 0  # more correction would be better


@pytest.mark.parametrize("labels", [False, True])
def test_training_learns_resumes_and_its_weights_load(
    tmp_path: Path, labels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scatter_scans, "BEAMS", 1)
    hu = np.full((2, 48, 64), -1000.0, np.float32)
    hu[:, 6:42, 6:58] = 30
    (tmp_path / "data").mkdir()
    CTVolume(hu, (5.0, 5.0, 5.0), (0.0, 0.0, 0.0), np.eye(3)).write(tmp_path / "data" / "one.nii.gz")
    run = tmp_path / "run"

    def train(steps: int) -> Path:
        options = ScatterTraining(labels=labels, steps=steps, batch=1, scans_per_volume=2, device="cpu")
        return training.train_scatter(tmp_path / "data", run, options)

    train(2)
    files = sorted((run / "scans").glob("*.safetensors"))
    made = [file.stat().st_mtime_ns for file in files]
    assert len(files) == 3
    best = train(3)
    assert [file.stat().st_mtime_ns for file in files] == made
    lines = [json.loads(line) for line in (best.parent / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "score" in line] == [2, 3]
    entry = weights.read_entry(best)
    assert entry.trained_on == "one"
    method = scatter_method(best)
    assert method is not None and method.network is not None
    fresh = ScatterNet().state_dict()
    assert any(not torch.equal(value, fresh[name]) for name, value in method.network.state_dict().items())


def test_a_bowtie_changes_neither_images_nor_what_the_network_sees_of_the_object(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its scatter is that of physics: what the middle of the beam throws outside stands out more there."""
    some = draw_beams(2, 5)[1]
    decomposer = Decomposer(BASIS, some.spectra() * AIR_QUANTA, some.detector.energies_kev)
    scans = []
    for strength in (0.0, 0.7):

        def bowtie(_rng: np.random.Generator, geometry: FanGeometry, strength: float = strength):
            return bowtie_fluence(geometry, strength, 150.0).clamp(min=0.02) if strength else None

        monkeypatch.setattr(scatter_scans, "draw_bowtie", bowtie)
        rng = np.random.default_rng(1)
        scans.append(draw_scan(body_phantom(rng), some, decomposer, rng, "drawn"))
    bare, behind = scans
    assert bare.fluence is None and torch.allclose(behind.primary, bare.primary * behind.fluence[:, None])
    assert torch.equal(behind.grid_ratio, bare.grid_ratio) and math.isfinite(float(bare.grid_ratio))
    chain = training.Chain()
    one, other = (chain.images(scan, 0.0, None) for scan in scans)
    assert float((one - other).abs().max()) < 1e-3
    seen = [chain.coarse(scan, 0.0, 1e9, False, np.random.default_rng(1)) for scan in scans]
    assert float((seen[0].features[0] - seen[1].features[0]).abs().max()) < 0.02  # attenuation
    assert bool((seen[1].features[3, 0, [0, -1]] < -0.3).all()) and not bool(seen[0].features[3].any())
    spr = [(scan.scatter.sum((0, 2)) / scan.primary.sum((0, 2)))[[0, -1]] for scan in scans]
    assert bool((spr[1] > 1.5 * spr[0]).all())


def test_the_amount_is_learned_from_tables_of_errors(tmp_path: Path) -> None:
    """The image tells a factor; the errors are least there."""
    rng = np.random.default_rng(0)
    tables = []
    for factor in rng.uniform(-1.5, 1.5, 200).astype(np.float32).tolist():
        image = torch.from_numpy(rng.normal(0, 0.3, (4, 16, 16)).astype(np.float32))
        image[2] += factor
        errors = (torch.tensor(FACTORS) - factor).abs().float()
        tables.append(
            Table(torch.from_numpy(rng.normal(0, 1, 3 * FEATURES).astype(np.float32)), image, errors)
        )
    amount, settings = Amount(), Settings(steps=300, seed=1, device="cpu")
    entry = weights.WeightsEntry("amount", "", "", "", "", ARCHITECTURE, {}, "1", "")
    train_amount(amount, tables[:150], tmp_path, settings, entry, None, None)
    amount.load_state_dict(weights.load(tmp_path / "best.safetensors", [ARCHITECTURE])[0])
    with torch.no_grad():
        found = amount(
            *(torch.stack([getattr(t, name) for t in tables[150:]]) for name in ("summary", "image"))
        )
    truth = torch.stack([torch.tensor(FACTORS)[table.errors.argmin()] for table in tables[150:]])
    assert float(truth.abs().mean()) > 0.6
    assert float((found - truth).abs().mean()) < 0.4


def test_what_is_told_of_the_ratio_is_not_judged_again(drawn_scan) -> None:
    torch.manual_seed(0)
    network, chain = ScatterNet().eval(), training.Chain()
    torch.nn.init.constant_(network.amount.judge[-1].bias, 0.7)
    factors = []
    for known in (True, False):
        seen = chain.coarse(drawn_scan, 0.15, 3e7, known, np.random.default_rng(0))
        assert bool((seen.features[SPR_KNOWN] == float(known)).all())
        with torch.no_grad():
            maps = network(seen.features[None], seen.image[None])[0]
        factors.append(float(maps[0].mean()))
        assert float(maps[0].std()) < 1e-6 and not bool(maps[1].any())
    assert factors[0] == 0 and factors[1] == pytest.approx(2 * math.tanh(0.35), rel=1e-5)
