"""Which engine runs the networks of a run."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import sys
from typing import TYPE_CHECKING

from ctenhance.runtime.engines.base import AUTO, INTEL_DEVICES, OPENVINO, TORCH
from ctenhance.runtime.errors import InputError

if TYPE_CHECKING:
    from ctenhance.runtime.engines.openvino_engine import OpenVinoEngine
    from ctenhance.runtime.engines.torch_engine import TorchEngine


def installed(engine: str) -> bool:
    """Say whether an engine's library is there, without loading it."""
    try:
        return importlib.util.find_spec(engine) is not None
    except (ImportError, ValueError):  # a finder that refuses it, a module without a specification
        return False


def pick_engine(spec: str, device: str, exported: bool, why_not: str = "") -> TorchEngine | OpenVinoEngine:
    """Return the engine that `--engine` and `--device` mean, for networks with an `exported` form or without,
    `why_not` (a sentence with what to do) where it is not that none was made yet.

    `auto` takes torch where a graphics card is there or asked for, else OpenVINO where it is installed and
    the networks are exported, else torch. Raises InputError for a device that
    there is not, and where neither library is installed.
    """
    name, _, precision = spec.partition(":")
    if name == AUTO:
        name = TORCH if not exported or not installed(OPENVINO) or torch_is_better(device) else OPENVINO
    if name == OPENVINO:
        _require_openvino(device, exported, why_not)
        from ctenhance.runtime.engines.openvino_engine import OpenVinoEngine

        return OpenVinoEngine.on(device, precision or AUTO)
    if not installed(TORCH):
        raise InputError(_NO_TORCH if exported else f"{why_not or _NOT_EXPORTED} {_NO_TORCH}")
    from ctenhance.runtime.device import pick_device
    from ctenhance.runtime.engines.torch_engine import TorchEngine

    return TorchEngine(pick_device(device))


_NOT_EXPORTED = (
    "These weights have no exported form for OpenVINO: make it with 'ctenhance weights export NAME' (which "
    "needs torch), or choose --engine torch."
)
_NO_TORCH = (
    "PyTorch is not installed: install it (pip install torch monai), or OpenVINO (pip install openvino), "
    "which is enough on a processor without a graphics card."
)


def _require_openvino(device: str, exported: bool, why_not: str) -> None:
    if not installed(OPENVINO):
        raise InputError(
            "OpenVINO is not installed: install it (pip install openvino), or choose --engine torch."
        )
    if device not in (AUTO, "cpu", *INTEL_DEVICES):
        raise InputError(
            f"OpenVINO has no device called '{device}': choose auto, cpu, {' or '.join(INTEL_DEVICES)}, or "
            "--engine torch."
        )
    if not exported:
        raise InputError(why_not or _NOT_EXPORTED)


def torch_is_better(device: str) -> bool:
    """Whether a graphics card that torch can use is asked for, or there where none is."""
    if device != AUTO:
        return device not in ("cpu", *INTEL_DEVICES)
    if not installed(TORCH):
        return False
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if "torch" not in sys.modules and not _has_cuda_driver():
        return False
    import torch

    return torch.cuda.is_available()


def _has_cuda_driver() -> bool:
    """Whether the driver knows a card; torch takes seconds to say the same."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
        count = ctypes.c_int(0)
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except (OSError, AttributeError):
        return False
