"""How much main memory this process may still take: what the machine has free, and what it is allowed.

Containers and batch systems (control groups), and shells (`ulimit -v`, `ulimit -d`), allow less than the
machine has, and end or refuse what asks for more.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ctenhance.runtime.errors import CTEnhanceError

# As torch, its oneDNN ("could not create a primitive") and ITK say it.
_OUT_OF_MEMORY = re.compile(
    r"out of memory|not enough memory|can't allocate memory|could not create a primitive|bad_alloc"
    r"|failed to allocate|cannot allocate memory|failed to map segment",
    re.IGNORECASE,
)
# Address space that numerical libraries and ITK take before anything is computed, with torch and without, and
# each of their threads for its stack and heap (measured with torch 2.13 on Linux: 1.1 GB with two threads).
_WITH_TORCH, _WITHOUT_TORCH, _A_THREAD = 1.1 * 2**30, 0.5 * 2**30, 72 * 2**20
_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
# Of version 2 and 1: the files with the limit and with what is used, and what of that is a file cache that
# the system gives back before it refuses anything.
_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def free_main_memory() -> int:
    """Return the bytes that this process may still take; raises ImportError without psutil."""
    import psutil

    process = psutil.Process().memory_info()
    allowed = [*_under_control_groups(), *_under_limits(process.vms, getattr(process, "data", 0))]
    return max(0, min([psutil.virtual_memory().available, *allowed]))


def says_out_of_memory(error: BaseException) -> bool:
    """Say whether an error of Python or of one of the libraries means that memory ran out."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | ImportError | OSError)
        and _OUT_OF_MEMORY.search(str(error)) is not None
    )


def not_enough_memory(what: str) -> str:
    """Return the sentence to say when memory ran out; `what` did not fit."""
    try:
        left = f" into the {free_main_memory() / 2**30:.1f} GB that this process may still take"
    except Exception:  # where there is none left, not even this can be found out
        left = ""
    return (
        f"There is not enough memory: {what}{left}; close other programs, allow it more (ulimit, the "
        "container, the batch job), or crop the volume."
    )


def require_memory(needed: float, what: str) -> None:
    """Raise CTEnhanceError where `what` needs more bytes than this process may still take."""
    if needed > free_main_memory():
        raise CTEnhanceError(not_enough_memory(f"{what} ({needed / 2**30:.1f} GB) does not fit"))


def require_address_space(with_torch: bool = True) -> None:
    """Raise CTEnhanceError where a shell's limit leaves less than the libraries need, before they are loaded.

    Without room they do not fail in one way: some say that a package is missing, others end the process.
    """
    limits = list(_under_limits(0, 0))
    if not limits:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    said = os.environ.get("OMP_NUM_THREADS", "")
    threads = min(int(said), cores) if said.isdecimal() and int(said) > 0 else cores
    needed = (_WITH_TORCH if with_torch else _WITHOUT_TORCH) + _A_THREAD * threads
    if min(limits) < needed:
        raise CTEnhanceError(
            f"There is not enough memory: this process may take {min(limits) / 2**30:.2f} GB (ulimit), and "
            f"the libraries need {needed / 2**30:.2f} GB before anything is computed; allow it more"
            f"{', or set OMP_NUM_THREADS=1' if threads > 1 else ''}."
        )


def _under_control_groups() -> Iterator[int]:
    """Yield what each of the groups that hold this process, one within the other, has left."""
    for controller, place in _own_groups():
        limit_name, used_name, cache_name = _FILES[controller]
        root = _CONTROL_GROUPS / controller
        below = root.joinpath(place.lstrip("/"))
        # Within a container the outer groups' names stand there, but their files do not: the root is its own.
        for folder in dict.fromkeys([below, *below.parents, root]):
            if folder != root and root not in folder.parents:
                continue
            with contextlib.suppress(OSError, ValueError):  # no such group here, or no limit ("max")
                left = int((folder / limit_name).read_text()) - int((folder / used_name).read_text())
                yield left + _cache(folder / "memory.stat", cache_name)


def _own_groups() -> Iterator[tuple[str, str]]:
    try:
        lines = _OWN_GROUPS.read_text().splitlines()
    except OSError:
        lines = []
    places: dict[str, str] = {}
    for line in lines:
        _, controllers, place = line.split(":", 2)
        places |= dict.fromkeys(controllers.split(","), place)
    yield "", places.get("", "/")
    yield "memory", places.get("memory", "/")


def _cache(statistics: Path, name: str) -> int:
    with contextlib.suppress(OSError):
        found = re.search(rf"^{name} (\d+)$", statistics.read_text(), re.MULTILINE)
        return int(found[1]) if found else 0
    return 0


def _under_limits(address_space: int, data: int) -> Iterator[int]:
    try:
        import resource
    except ImportError:  # Windows
        return
    for name, used in (("RLIMIT_AS", address_space), ("RLIMIT_DATA", data)):
        number = getattr(resource, name, None)
        soft = resource.RLIM_INFINITY if number is None else resource.getrlimit(number)[0]
        if soft != resource.RLIM_INFINITY:
            yield soft - used
