"""Slices on several threads: the same results in the same order, torch's setting as it was, errors raised."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from reconstruct_scan import measured

import ctenhance
from ctenhance.reconstruction.abreast import Abreast
from ctenhance.runtime.engines.choice import installed
from ctenhance.runtime.errors import Cancelled
from ctenhance.runtime.progress import CancelToken


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def seen_by_a_new_thread() -> int:
    found: list[int] = []
    one = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    one.start()
    one.join()
    return found[0]


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(("threads", "each"), [(1, 4), (2, 2), (3, 1), (8, 1)])
def test_threads_share_those_of_torch_and_leave_its_setting_alone(threads: int, each: int):
    with Abreast(threads) as abreast:
        counted = list(abreast.map(lambda _item: torch.get_num_threads(), range(20)))
        assert counted == [each] * 20
        assert (torch.get_num_threads(), seen_by_a_new_thread()) == (4, 4)
    assert (torch.get_num_threads(), seen_by_a_new_thread()) == (4, 4)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("inference", [False, True])
def test_results_come_in_order_made_in_the_mode_of_who_asks(threads: int, inference: bool):
    ended = threading.Event()

    def work(item: int) -> torch.Tensor:
        if item == 0 and threads > 1:
            assert ended.wait(30)  # the first is done last
        if item == 1:
            ended.set()
        return torch.full((1,), float(item)) + 0

    with torch.inference_mode(inference), Abreast(threads) as abreast:
        found = list(abreast.map(work, range(6)))
    assert [float(one) for one in found] == [0, 1, 2, 3, 4, 5]
    assert all(one.is_inference() == inference for one in found)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_ends_what_waits(threads: int):
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 1:
            raise MemoryError("no room")
        time.sleep(0.005)
        return item

    with pytest.raises(MemoryError, match="no room"), Abreast(threads) as abreast:
        for _one in abreast.map(work, range(1000)):
            pass
    assert len(begun) < 1000
    assert threading.active_count() < 50


@pytest.mark.skipif(not installed("openvino"), reason="OpenVINO is not installed")
def test_two_threads_give_the_image_of_one(monkeypatch: pytest.MonkeyPatch):
    found = []
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        told: list[tuple[str, int]] = []
        result = ctenhance.reconstruct(
            measured(), uncertainty=True, samples=2, all_stages=True, device="cpu", engine="openvino:float32",
            progress=lambda stage, done, _total, told=told: told.append((stage, done)),
        )  # fmt: skip
        rows = measured().n_rows
        assert told[-rows - 1 :] == [("reconstruct", done) for done in range(rows + 1)]
        found.append((result.volumes | result.maps, result.report["details"]["data_consistency"]))
    (one, agrees), (two, agrees_too) = found
    for name in one:
        np.testing.assert_allclose(one[name].array, two[name].array, atol=0.02)
    assert agrees["departure"] == pytest.approx(agrees_too["departure"], rel=1e-4)
    assert agrees["worst_row"] == agrees_too["worst_row"]


@pytest.mark.skipif(not installed("openvino"), reason="OpenVINO is not installed")
def test_two_threads_stop_when_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    cancel = CancelToken()

    def stop(stage: str, done: int, _total: int) -> None:
        if (stage, done) == ("reconstruct", 1):
            cancel.cancel()

    with pytest.raises(Cancelled):
        ctenhance.reconstruct(
            measured(), device="cpu", engine="openvino:float32", progress=stop, cancel=cancel
        )


@pytest.mark.skipif(not installed("openvino"), reason="OpenVINO is not installed")
def test_exported_networks_need_no_monai_and_stand_ready_before_the_slices():
    """MONAI takes longer to load than some slices to reconstruct."""
    code = """
import sys
sys.modules["monai"] = None
import ctenhance
from reconstruct_scan import measured
result = ctenhance.reconstruct(measured(), device="cpu", engine="openvino:float32")
print(result.report["engine"]["name"], result.volumes["reconstruction"].array.std() > 0)
"""
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(ctenhance.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.stdout.split() == ["openvino", "True"], done.stderr
