"""What faint lesions lose against the noise that is left: filters at an asked-for noise, and the rows."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("skimage", reason="the benchmarks need scikit-image")


@pytest.fixture
def lost(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    import lost

    return lost


def liver(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (3, 160, 160))
    noise = ndimage.gaussian_filter(noise, (0, 0.7, 0.7))
    return (100 + 20 * noise / noise.std()).astype(np.float32)


def test_noise_left_is_the_noise_that_is_there(lost: ModuleType) -> None:
    at = [(z, y, x) for z in range(3) for y in (30, 80, 130) for x in (30, 80, 130)]
    squares = lost.patches(liver(0), at, 24)
    assert lost.noise_left(squares) == pytest.approx(20, rel=0.1)
    squares[0, 5:9, 5:9] += 300  # a vessel in one
    assert lost.noise_left(squares) == pytest.approx(20, rel=0.1)


@pytest.mark.parametrize("name", ["Gaussian", "TV", "NLM"])
@pytest.mark.parametrize("wanted", [4.0, 9.0])
def test_a_filter_leaves_the_noise_that_was_asked_for(lost: ModuleType, name: str, wanted: float) -> None:
    low = liver(1)
    at = [(z, y, x) for z in range(3) for y in (30, 80, 130) for x in (30, 80, 130)]
    peer = next(peer for peer in lost.all_peers(1) if peer.name == name)
    at = [(0, y, x) for y in (30, 80, 130) for x in (30, 80, 130)]

    def left(image: np.ndarray) -> float:
        return lost.noise_left(lost.patches(image[None], at, 24))

    process, setting = lost.at_noise(peer, low[1], left, wanted, 20.0)
    assert left(process(low)[1]) == pytest.approx(wanted, rel=0.1), setting
    assert process(low).shape == low.shape


def test_rows_tell_what_is_lost(lost: ModuleType) -> None:
    """Half of the contrast kept: nothing lost; a quarter: all."""
    low = liver(2)
    at = [(1, y, x) for y in (30, 80, 130) for x in (30, 80, 130)]
    absent = lost.patches(low, at, 24)
    disc = np.hypot(*np.mgrid[-12:12, -12:12]) < 4
    groups = {lost.WHOLE: {"psnr": np.array([40.0])}}
    for number, diameter in enumerate(lost.DIAMETERS_MM):
        kept = (0.2, 0.6, 0.9)[number]
        groups[f"liver {diameter:g} mm"] = {
            "absent": absent,
            "present": absent - 25 * kept * disc,
            "kept": np.full(9, kept),
            "transfer": np.ones((9, 2, 4)),
        }
    cells, facts = lost.row("method", [groups, {lost.WHOLE: {"psnr": np.array([42.0])}}])
    assert cells[0] == "method" and float(cells[1]) == pytest.approx(20, rel=0.15)
    assert (
        cells[2:8] == ("0.20", "100%", "0.60", "0%", "0.90", "0%") and cells[-1] == "40.00"
    )  # of those with lesions
    assert facts["4"]["lost"] == 1


def test_blobs_of_noise_are_counted_for_each_method(lost: ModuleType) -> None:
    def for_volume(spacing_mm: float) -> object:
        return lambda array, z, draw=0: array[z]

    model = SimpleNamespace(label="nothing", draws=1, for_volume=for_volume)
    peers = [peer for peer in lost.all_peers(1) if peer.name == "Gaussian"]
    other = SimpleNamespace(label="other", slice_of=lambda stack, z: stack[z] + 0)
    found = lost.blobs([model], peers, 0.25, 1, [other])
    names = [f"nothing, strength {strength:g}" for strength in lost.STRENGTHS]
    names += [f"nothing, faint kept {share:g}" for share in lost.KEPT]
    assert list(found) == [
        lost.FULL_DOSE,
        "scan itself",
        *names,
        "nothing",
        "other",
        "Gaussian, as much noise",
    ]
    assert found["other"] == found["scan itself"]
    assert found[lost.FULL_DOSE][0] < found["scan itself"][0]
    assert found["scan itself"][0] > 1 and found["nothing"] == found["scan itself"]
    assert found["Gaussian, as much noise"][0] == pytest.approx(found["scan itself"][0], abs=3)
    assert found["scan itself"][1] == 0  # what is in the scan is not invented
