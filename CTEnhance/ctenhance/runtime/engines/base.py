"""What the engines have in common: no torch, no OpenVINO."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

FLOAT32, BFLOAT16 = "float32", "bfloat16"
AUTO, TORCH, OPENVINO = "auto", "torch", "openvino"
#: Devices that OpenVINO has and torch has not.
INTEL_DEVICES = ("gpu", "npu")


#: A network that is ready to run: float32 arrays in, of the sizes that it takes, and a float32 array out.
Network = Callable[..., np.ndarray]


class Engine:
    """What runs the networks of a run; its report names it.

    `device` has `type` (cpu, cuda, mps, gpu, npu) and tells itself as text, as torch's devices do; `threads`
    are those that compute on a CPU, None elsewhere.
    """

    name: str
    version: str
    device: Any
    precision: str
    threads: int | None

    def settle(self, bfloat16: bool) -> None:
        """Fix what `auto` left open of the precision: whether all networks of the run allow bfloat16."""

    def at(self, device: Any) -> Any:
        """Return the same engine on another of its devices."""
        raise NotImplementedError


def in_two_parts(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 values as the sum of what bfloat16 keeps of them and the rest; both are exact."""
    upper = (np.ascontiguousarray(values).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return upper, values - upper


def threads() -> int:
    """Return how many threads an engine on the CPU shall use: `OMP_NUM_THREADS`, or one a physical core."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return 0
