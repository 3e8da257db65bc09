"""Devices, free memory, and what happens when memory runs out (with memory that runs out on demand)."""

from __future__ import annotations

import gc
import itertools
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ctenhance.runtime import device as devices
from ctenhance.runtime.device import (
    describe,
    free_memory,
    halvings,
    is_out_of_memory,
    pick_device,
    with_memory_fallback,
)
from ctenhance.runtime.errors import Cancelled, CTEnhanceError, InputError

CPU = torch.device("cpu")
MPS = torch.device("mps")  # only named here, never used


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)


def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch, no_accelerator: None) -> None:
    assert pick_device() == CPU
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == MPS
    assert pick_device("mps") == MPS


def test_auto_prefers_cuda(two_cards: None) -> None:
    assert pick_device("auto") == torch.device("cuda", 0)
    assert pick_device("cuda") == torch.device("cuda", 0)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    assert pick_device(torch.device("cuda:1")) == torch.device("cuda", 1)
    with pytest.raises(InputError, match="cuda:0 to cuda:1"):
        pick_device("cuda:2")


def test_absent_devices_are_refused(no_accelerator: None) -> None:
    for spec, sentence in [("cuda", "no CUDA"), ("cuda:0", "no CUDA"), ("mps", "Apple")]:
        with pytest.raises(InputError, match=sentence):
            pick_device(spec)


@given(st.text(max_size=12))
def test_unknown_devices_are_refused(spec: str) -> None:
    known = spec in ("auto", "cpu", "cuda", "mps") or (spec.startswith("cuda:") and spec[5:].isdecimal())
    if not known:
        with pytest.raises(InputError, match="no device called"):
            pick_device(spec)


@pytest.mark.parametrize("spec", ["cpu:0", "gpu", "cuda:", "cuda:-1", "CUDA", "", "mps:0"])
def test_near_misses_are_refused(spec: str, two_cards: None) -> None:
    if spec == "cuda:":  # nothing after the colon: the card in use
        assert pick_device(spec) == torch.device("cuda", 0)
        return
    with pytest.raises(InputError, match="choose auto, cpu"):
        pick_device(spec)


def test_free_memory_and_name_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < free_memory(CPU) < 1 << 50
    monkeypatch.setattr(devices, "free_main_memory", lambda: 3000)
    assert free_memory(CPU) == 3000
    assert describe(CPU).startswith("cpu (")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA graphics card here")
def test_real_card() -> None:
    card = pick_device("cuda")
    assert free_memory(card) > 1 << 28
    assert describe(card).startswith("cuda:")
    with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8, device=card)
    assert is_out_of_memory(caught.value)
    warnings: list[str] = []

    def run(place: torch.device, size: int) -> str:
        if place.type == "cuda":
            torch.empty(1 << 50, dtype=torch.uint8, device=place)
        return str(place)

    assert with_memory_fallback(run, [8, 4], card, warnings.append) == "cpu"
    assert any("CPU" in warning for warning in warnings)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_halvings(one: int, other: int) -> None:
    smallest, largest = sorted((one, other))
    sizes = halvings(largest, smallest)
    assert sizes[0] == largest and sizes[-1] == smallest
    assert all(larger > smaller >= larger // 2 for larger, smaller in itertools.pairwise(sizes))


def test_halvings_refuses_nonsense() -> None:
    for largest, smallest in [(4, 8), (4, 0)]:
        with pytest.raises(ValueError, match="smallest"):
            halvings(largest, smallest)


class Memory:
    """A computation that fits when the size is at most what the device holds."""

    def __init__(self, error: Exception | None = None, **holds: int) -> None:
        self.holds = holds
        self.error = error or torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        self.tried: list[tuple[str, int]] = []

    def __call__(self, device: torch.device, size: int) -> str:
        self.tried.append((device.type, size))
        if size > self.holds.get(device.type, 0):
            raise self.error
        return f"{device.type} {size}"


def test_fits_at_once() -> None:
    warnings: list[str] = []
    assert with_memory_fallback(Memory(cpu=64), [64, 32], CPU, warnings.append) == "cpu 64"
    assert not warnings


def test_halves_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: None)
    run = Memory(mps=16)
    assert with_memory_fallback(run, [64, 32, 16], MPS, warnings.append) == "mps 16"
    assert run.tried == [("mps", 64), ("mps", 32), ("mps", 16)]
    assert [("64" in warnings[0], "32" in warnings[0]), ("32" in warnings[1], "16" in warnings[1])] == [
        (True, True),
        (True, True),
    ]


def test_falls_back_to_the_cpu_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: None)
    run = Memory(mps=0, cpu=32)
    assert with_memory_fallback(run, [64, 32], MPS, warnings.append) == "cpu 32"
    assert run.tried == [("mps", 64), ("mps", 32), ("cpu", 64), ("cpu", 32)]
    assert any("ran on the CPU instead" in warning for warning in warnings)


def test_gives_up_with_a_sentence() -> None:
    with pytest.raises(CTEnhanceError, match="not enough memory: the smallest tile size"):
        with_memory_fallback(Memory(cpu=0), [8, 4], CPU, lambda _text: None)


@pytest.mark.parametrize("error", [ValueError("wrong shape"), RuntimeError("size mismatch"), Cancelled()])
def test_other_errors_pass_through(error: Exception) -> None:
    run = Memory(error, cpu=0)
    with pytest.raises(type(error)):
        with_memory_fallback(run, [8, 4], CPU, lambda _text: None)
    assert run.tried == [("cpu", 8)]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_mean_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_real_cpu_allocation_failure_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_failed_run_gives_its_memory_back() -> None:
    kept: list[weakref.ref[torch.Tensor]] = []

    def run(_device: torch.device, size: int) -> bool:
        if size == 8:
            big = torch.zeros(1000)
            kept.append(weakref.ref(big))
            raise MemoryError
        gc.collect()
        return kept[0]() is None

    assert with_memory_fallback(run, [8, 4], CPU, lambda _text: None)


def test_needs_a_size() -> None:
    with pytest.raises(ValueError, match="at least one size"):
        with_memory_fallback(Memory(), [], CPU, lambda _text: None)
