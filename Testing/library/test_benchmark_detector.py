"""The lesion detector of the benchmark: its marks, its free-response figures, and that it can learn."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from enhance_body import body
from scipy import ndimage

from ctenhance.study.design import Lesion

pytest.importorskip("skimage", reason="the benchmarks need scikit-image")


@pytest.fixture
def detector(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    import detector

    return detector


def test_marks_are_where_the_odds_are_highest(detector: ModuleType) -> None:
    odds = np.zeros((6, 64, 64), np.float32)
    odds[2, 10, 20], odds[2, 12, 21], odds[4, 50, 40], odds[5, 5, 60] = 0.9, 0.7, 0.4, 0.003
    found = detector.marks(odds, (0.5, 0.5, 2.0))
    assert [mark["point"] for mark in found] == [[10.0, 5.0, 4.0], [20.0, 25.0, 8.0]]
    assert [mark["confidence"] for mark in found] == pytest.approx([90, 40])


def test_free_response_by_hand(detector: ModuleType) -> None:
    def mark(x: float, confidence: float) -> dict:
        return {"point": [x, 0.0, 0.0], "confidence": confidence}

    truths = [[Lesion((0.0, 0.0, 0.0), 5.0), Lesion((50.0, 0.0, 0.0), 5.0)], [Lesion((0.0, 0.0, 0.0), 5.0)]]
    normal = [[mark(10, 30), mark(20, 20)], [mark(70, 60)]]
    diseased = [[mark(1, 80), mark(52, 25), mark(90, 70)], [mark(-2, 40)]]
    found = detector.froc(normal, diseased, truths)
    # two false marks on two normal scans: those of 60 and 30; lesions rated 80 and 40 are above the third
    assert found["lesions"] == 3
    assert found["sensitivity"] == pytest.approx(1)  # 25 is above 20, too
    assert detector.froc([[mark(1, 30), mark(2, 28), mark(3, 27)], [mark(7, 60)]], diseased, truths)[
        "sensitivity"
    ] == pytest.approx(2 / 3)
    assert found["f1"] == pytest.approx(2 * 3 / (3 + 1 + 3))
    # highest false marks 30 and 60: lesions (80, 25) and (40)
    assert found["wafroc"] == pytest.approx(np.mean([[(1 + 0) / 2, (1 + 0) / 2], [1, 0]]))
    nothing = detector.froc([[], []], [[], []], truths)
    assert nothing["sensitivity"] == 0 and nothing["wafroc"] == pytest.approx(0.5)


def test_lesions_are_drawn_where_their_tissue_is(detector: ModuleType) -> None:
    rng, several = np.random.default_rng(1), 0
    x = body(3, 5, 1).array
    smooth = ndimage.gaussian_filter(x[1], 2.0)
    for _ in range(20):
        drawn, target = detector.with_lesions(x, rng)
        assert target.shape == (2, 90, 100)
        changed = np.abs(drawn - x)[1]
        centres = np.argwhere(target > detector.CENTRE)
        if not len(centres):
            assert not changed.any()
            continue
        far = np.full(changed.shape, np.inf)
        for kind, y, column in centres:
            rows, columns = np.mgrid[:180, :200] - np.array([2 * y, 2 * column])[:, None, None]
            far = np.minimum(far, np.hypot(rows, columns))
            low, high = list(detector.KINDS.values())[kind][0]
            assert low - 20 < smooth[2 * y, 2 * column] < high + 20
            assert changed[2 * y - 2 : 2 * y + 3, 2 * column - 2 : 2 * column + 3].max() > 10
        several += len(np.unique(ndimage.label((target > detector.CENTRE).any(0))[0])) > 2
        assert changed[far > 18].max() < 0.1
    assert several  # more than one in a crop


def test_the_detector_learns_and_is_read_again(detector: ModuleType, tmp_path: Path) -> None:
    from ctenhance.runtime.errors import InputError
    from ctenhance.training.options import TwinTraining

    data = tmp_path / "data"
    data.mkdir()
    body(5, 12, 1).write(data / "one.nii.gz")
    options = TwinTraining(steps=3, batch=2, crop=64, device="cpu")
    best = detector.train(data, tmp_path / "run", options)
    network = detector.load(best)
    odds = detector.odds_of(network, body(3, 12, 2).array[:, :50, :70])
    assert odds.shape == (2, 3, 25, 35) and odds.min() >= 0 and odds.max() <= 1
    with pytest.raises(InputError, match="architecture"):
        detector.load(
            __import__("ctenhance.runtime.weights", fromlist=["x"]).EMBEDDED / "enhance-twin.safetensors"
        )
    # its loss falls on one and the same batch
    torch.manual_seed(0)
    fresh, rng = detector.Detector(), np.random.default_rng(2)
    pairs = [detector.with_lesions(body(3, 8, k).array[:, 32:160, 32:160], rng) for k in range(4)]
    x = torch.from_numpy(np.stack([pair[0] for pair in pairs]).astype(np.float32)) / 1000
    y = torch.from_numpy(np.stack([pair[1] for pair in pairs]))
    optimiser = torch.optim.Adam(fresh.parameters(), 5e-3)
    losses = []
    for _ in range(12):
        loss = detector.focal(fresh(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert math.isfinite(losses[-1]) and losses[-1] < 0.8 * losses[0]


def test_a_scan_is_marked_with_and_without_lesions(
    detector: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Odds that are highest where the scan was changed: all lesions found, no mark without."""
    from ctenhance.core.volume import CTVolume

    array = np.full((4, 128, 128), 100, np.float32)
    volume = CTVolume(array, (0.75, 0.75, 3.0), (0, 0, 0), np.eye(3), {})

    def odds_of(network: object, image: np.ndarray) -> np.ndarray:
        odds = np.clip(ndimage.gaussian_filter(np.abs(image - 100), (0, 1.5, 1.5)) / 20, 0, 1)[:, ::2, ::2]
        return np.stack([odds, 0 * odds])

    monkeypatch.setattr(detector, "odds_of", odds_of)
    methods = {"scan itself": lambda array: array, "blind": lambda array: np.full_like(array, 100)}
    scan = detector.read_scan(volume, 1.0, None, methods, 1)
    assert len(scan["lesions"]["liver"]) >= 3 and scan["lesions"]["lung"] == []
    contrasts = {lesion[5] for lesion in scan["lesions"]["liver"]}
    assert contrasts <= {-60.0, -42.5, -25.0}
    assert scan["normal"] == {name: {"liver": [], "lung": []} for name in methods}
    found = detector.measure([scan, scan])  # no lung in them: no figure for it
    assert list(found) == ["liver: scan itself", "liver: blind"]
    seen = found["liver: scan itself"]
    assert seen["sensitivity"] == 1 and seen["lesions"] == 2 * len(scan["lesions"]["liver"])
    assert found["liver: blind"]["sensitivity"] == 0 and found["liver: blind"]["curve"] == 7 * [0.0]
    results = {f"{name}, dose {dose}": one for name, one in found.items() for dose in (1, 0.25)}
    table = detector._table(results, [1.0, 0.25]).text()
    assert "-1.000 [-1.000, -1.000]" in table
    detector.draw_curves(results, tmp_path / "froc.png")
    assert (tmp_path / "froc.png").stat().st_size > 5000
