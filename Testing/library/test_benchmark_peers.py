"""The benchmark: peers denoise, the oracle finds the best strength, verdicts follow from the figures."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("skimage", reason="the peers need scikit-image")

NOISE_HU = 40.0


@pytest.fixture
def peers(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    import peers

    return peers


def disc() -> tuple[np.ndarray, np.ndarray]:
    """A noisy slice and its truth, HU."""
    y, x = np.mgrid[:48, :48] - 23.5
    truth = np.where(np.hypot(x, y) < 15, 60.0, -900.0).astype(np.float32)
    noise = np.random.default_rng(3).normal(0, NOISE_HU, truth.shape)
    return (truth + noise).astype(np.float32), truth


@pytest.mark.parametrize("peak", [0.05, 0.7, 1.0, 1.3, 9.0])
def test_tuning_finds_the_peak_of_a_score(peers: ModuleType, peak: float) -> None:
    tried = []

    def score(strength: float) -> float:
        tried.append(strength)
        return -(math.log(strength / peak) ** 2)

    strength, value = peers.tune(score, 1.0)
    assert strength == pytest.approx(peak, rel=0.02)
    assert value == max(-(math.log(each / peak) ** 2) for each in tried)
    assert len(tried) == len(set(tried)) <= peers.MOST_EVALUATIONS


def test_tuning_ends_where_there_is_no_peak(peers: ModuleType) -> None:
    assert peers.tune(lambda strength: strength, 1.0)[0] > 10
    assert peers.tune(lambda strength: 5.0, 1.0) == (1.0, 5.0)


@pytest.mark.parametrize("name", ["Gaussian", "TV", "NLM"])
def test_peer_denoises_and_its_strength_is_the_best(peers: ModuleType, name: str) -> None:
    (peer,) = (known for known in peers.all_peers(1) if known.name == name)
    noisy, truth = disc()
    best = peers.tuned(peer, [noisy], [truth], NOISE_HU)
    found = peers.psnr(best(noisy), truth)
    assert found > peers.psnr(noisy, truth) + (0 if name == "Gaussian" else 3)
    for factor in (0.5, 2.0):
        other = best.filter(noisy, best.strength * factor, NOISE_HU)
        assert peers.psnr(other, truth) < found
    assert abs(float(best(noisy)[20:28, 20:28].mean()) - 60) < 15


def test_bm3d_takes_and_gives_hu(peers: ModuleType) -> None:
    pytest.importorskip("bm3d", reason="BM3D is a benchmark's dependency")
    noisy, truth = disc()
    found = peers.block_matching(1)(noisy, 1.0, NOISE_HU)
    assert peers.psnr(found, truth) > peers.psnr(noisy, truth) + 3


def test_both_benchmarks_give_bm3d_the_same_hu(peers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authors' package, replaced by one that tells what it was given."""
    import reconstruct_peers

    given: list[tuple[np.ndarray, float]] = []
    package = ModuleType("bm3d")

    class Profile:
        num_threads = 0

    def bm3d(image: np.ndarray, sd: float, profile: Profile) -> np.ndarray:
        given.append((image, sd))
        return image.astype(np.float64)

    package.BM3DProfile, package.bm3d = Profile, bm3d  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bm3d", package)
    noisy, truth = disc()
    peers.block_matching(1)(noisy, 1.0, 30.0)
    reconstruct_peers.bm3d_on_image(noisy, truth)
    assert len(given) == 1 + len(reconstruct_peers.BM3D_FACTORS)
    assert all(np.array_equal(image, noisy) for image, _sd in given)
    assert given[0][1] == 30.0
    sds = [sd / factor for (_, sd), factor in zip(given[1:], reconstruct_peers.BM3D_FACTORS, strict=True)]
    assert all(sd == pytest.approx(NOISE_HU, rel=0.05) for sd in sds)


def test_psnr_is_that_of_the_range(peers: ModuleType) -> None:
    reference = np.zeros((8, 8), np.float32)
    assert peers.psnr(reference + 20, reference) == pytest.approx(40.0)
    # what lies beyond ±1000 HU does not count
    assert peers.psnr(reference + 3000, reference + 1200) == pytest.approx(peers.psnr(reference, reference))


def case(ours: float, rival: float, moved: float) -> dict[str, Any]:
    """A patient's figures as `measure_case` gives them: PSNR of a model and of a peer, HU moved in fat."""

    def record(kind: str, psnr: dict[str, float]) -> dict[str, Any]:
        bias = {"fat": {"to_input": moved, "to_reference": 2 * moved}}
        return {"kind": kind, "psnr": psnr, "ssim": psnr, "seconds_per_512": 1.5, "bias": bias}

    model = record("ours", {"1": ours, "4": 99.0})
    model |= {"clean": {"change_sd_hu": 7.0}, "quiet": {"change_sd_hu": None}}
    methods = {"input": record("input", {"1": 30.0, "4": 30.0})}
    return {"methods": methods | {"slow peer": record("peer", {"1": rival}), "model": model}}


def test_verdicts_follow_from_the_figures(peers: ModuleType) -> None:
    import tables

    # slice 4, which the peer was not run on, must not count
    cases = [case(40.0, 39.0, 1.0), case(40.0, 42.0, -2.0)]
    found = {verdict["target"]: verdict for verdict in tables.verdicts(cases)}
    likeness = found["PSNR above the best peer's"]
    assert likeness["value"] == pytest.approx(-0.5) and likeness["verdict"] == "MISS"
    assert "best in 1 of 2 patients" in likeness["shown"]
    moved = found["mean HU of fat within 3 of the input's"]
    assert moved["value"] == -2.0 and moved["verdict"] == "PASS"
    assert found["mean HU of fat within 3 of the reference's"]["verdict"] == "MISS"
    assert found["mean HU of bone within 8 of the input's"]["verdict"] == "not measured"
    verdicts = [found[target]["verdict"] for target in found if "enhanced" in target]
    assert verdicts == ["MISS", "not measured"]
    assert found["at most 1.5 s a 512² slice"]["verdict"] == "PASS"
