"""Which processor computes, how much memory it has free, and what happens when that is not enough."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.memory import free_main_memory, not_enough_memory, says_out_of_memory

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def pick_device(spec: str | torch.device = "auto") -> torch.device:
    """Return the device for `"auto"`, `"cpu"`, `"cuda"`, `"cuda:1"` or `"mps"`.

    `auto` takes the first of CUDA, Apple's MPS and the CPU that is there.
    Raises InputError for an unknown name and for a device that this machine (or its torch build) lacks.
    """
    import torch

    if isinstance(spec, torch.device):
        spec = str(spec)
    if spec == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")
    kind, _, index = spec.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdecimal()) or (index and kind != "cuda"):
        raise InputError(f"There is no device called '{spec}'; choose auto, cpu, cuda, cuda:1 or mps.")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise InputError(
                f"Device '{spec}' is not available: this machine has no CUDA graphics card that its torch "
                "build can use; choose auto or cpu."
            )
        count = torch.cuda.device_count()
        number = int(index) if index else torch.cuda.current_device()
        if number >= count:
            raise InputError(
                f"Device '{spec}' is not available: this machine has cuda:0 to cuda:{count - 1}."
            )
        return torch.device("cuda", number)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError("Device 'mps' is not available: it needs an Apple processor; choose auto or cpu.")
    return torch.device(kind)


def free_memory(device: torch.device) -> int:
    """Return the bytes that a computation on `device` may still take."""
    if device.type == "cpu":
        return free_main_memory()
    import torch

    if device.type == "cuda":
        free, _total = torch.cuda.mem_get_info(device)
        # What torch holds in its own pool without using it is free for us too.
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return free_main_memory()


def describe(device: torch.device) -> str:
    """Return a name for reports, such as 'cuda:0 (NVIDIA H200)' or 'cpu (2 threads)'."""
    # Another engine's device is no torch's: where that is not loaded it has nothing to say.
    torch = sys.modules.get("torch")
    if device.type == "cuda" and torch is not None:
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu" and torch is not None:
        threads = torch.get_num_threads()
        return f"cpu ({threads} thread{'' if threads == 1 else 's'})"
    return str(device)


def halvings(largest: int, smallest: int) -> list[int]:
    """Return `largest`, its half, a quarter … and `smallest`, as sizes for `with_memory_fallback`."""
    if not 1 <= smallest <= largest:
        raise ValueError(f"sizes must satisfy 1 <= smallest <= largest, not {smallest} and {largest}")
    sizes = []
    size = largest
    while size > smallest:
        sizes.append(size)
        size //= 2
    return [*sizes, smallest]


def with_memory_fallback(
    run: Callable[[torch.device, int], T],
    sizes: Iterable[int],
    device: torch.device,
    warn: Callable[[str], None],
) -> T:
    """Return `run(device, size)` for the first of `sizes` (tile or batch sizes, largest first) that fits.

    When memory runs out, the next smaller size is tried; after the smallest the same sizes are tried on the
    CPU. Each step down is told to `warn`, so it stands in the report and the panel: it is never silent.
    Raises CTEnhanceError when even the smallest size does not fit into the CPU's memory.
    """
    ladder = list(sizes)
    if not ladder:
        raise ValueError("with_memory_fallback needs at least one size")
    devices = [device]
    if device.type in ("cuda", "mps"):
        import torch

        devices.append(torch.device("cpu"))
    for place in devices:
        if place != device:
            warn(
                f"The memory of {describe(device)} is too small even for the smallest tile; "
                "the computation ran on the CPU instead, which is slower."
            )
        for size, smaller in zip(ladder, [*ladder[1:], None], strict=True):
            fitted, result = _try(run, place, size)
            if fitted:
                return result  # type: ignore[return-value]
            _release(place)
            if smaller is not None:
                warn(f"The memory of {place} ran out at tile size {size}; went on with {smaller}.")
    raise CTEnhanceError(not_enough_memory(f"the smallest tile size ({ladder[-1]}) does not fit"))


def _try(run: Callable[[torch.device, int], T], device: torch.device, size: int) -> tuple[bool, T | None]:
    # A frame of its own: leaving it drops the exception, whose traceback keeps the failed run's tensors.
    try:
        return True, run(device, size)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return False, None


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether the error means that memory ran out, on any of torch's devices or in numpy."""
    torch = sys.modules.get("torch")
    return says_out_of_memory(error) or (torch is not None and isinstance(error, torch.cuda.OutOfMemoryError))


def _release(device: torch.device) -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if device.type == "cuda" and torch is not None:
        torch.cuda.empty_cache()
    elif device.type == "mps" and torch is not None:
        torch.mps.empty_cache()
