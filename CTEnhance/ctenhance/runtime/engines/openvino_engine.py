"""OpenVINO: exported networks on a CPU (or Intel's graphics), without torch.

What was measured and is minded here: it computes in bfloat16 by itself where the processor has it, so the
precision is always asked for by name; its ReLU makes 0 of NaN, so that one bad pixel would shift its
neighbours without a word: inputs are looked at before; exported files no longer pad to whole multiples: the
caller does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import openvino

from ctenhance.runtime.engines.base import AUTO, BFLOAT16, FLOAT32, OPENVINO, Engine, threads
from ctenhance.runtime.errors import CTEnhanceError, InputError

_HINTS = {FLOAT32: "f32", BFLOAT16: "bf16"}

# openvino looks up numpy's types at their first use. Two threads that do so at once may wait for each other
# for ever (2026.4: four of twelve tries), so it is done here, while the module is imported.
openvino.Type.f32.to_dtype()
openvino.Tensor(np.zeros(1, np.float32))


@dataclass(frozen=True)
class Processor:
    """Where an engine other than torch computes; `type` and `str()` as torch's devices have them."""

    type: str = "cpu"

    def __str__(self) -> str:
        return self.type


class OpenVinoEngine(Engine):
    """One device with one precision for all networks of a run."""

    name = OPENVINO

    def __init__(self, device: str, precision: str) -> None:
        self.core = openvino.Core()
        self.device = Processor(device)
        self.precision = precision
        self.version = openvino.__version__.split("-")[0]
        self.threads = None
        if device == "cpu":
            own = int(self.core.get_property("CPU", "INFERENCE_NUM_THREADS"))
            self.threads = threads() or own or _physical_cores()

    @classmethod
    def on(cls, device: str, precision: str) -> OpenVinoEngine:
        """Return the engine for the command line's device; InputError where this machine lacks it.

        `precision` auto is settled by `network`, which knows what the weights allow.
        """
        engine = cls("cpu" if device == AUTO else device, precision)
        if engine._ov_name not in {name.split(".")[0] for name in engine.core.available_devices}:
            raise InputError(f"Device '{device}' is not available to OpenVINO on this machine; choose cpu.")
        if precision == BFLOAT16 and not engine.has_bfloat16:
            raise InputError(
                "This processor does not compute in bfloat16: choose --engine openvino or openvino:float32."
            )
        return engine

    @property
    def _ov_name(self) -> str:
        return self.device.type.upper()

    @property
    def has_bfloat16(self) -> bool:
        """Whether the device itself computes in bfloat16."""
        return "BF16" in self.core.get_property(self._ov_name, "OPTIMIZATION_CAPABILITIES")

    def at(self, _device: object) -> OpenVinoEngine:
        """This engine: it has one device only."""
        return self

    def settle(self, bfloat16: bool) -> None:
        """Fix an open precision: bfloat16 where the device has it and all networks of the run allow it."""
        if self.precision == AUTO:
            self.precision = BFLOAT16 if bfloat16 and self.has_bfloat16 else FLOAT32

    def network(self, path: Path, name: str, at_once: int = 1) -> OpenVinoNetwork:
        """Return an exported network, compiled; raises CTEnhanceError where the file cannot be run.

        It may be called from `at_once` threads together, whose calls then share the processor's threads:
        calls of one thread each never wait for each other within a layer.
        """
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "PERFORMANCE_HINT": "LATENCY",
        }
        if at_once > 1:
            settings["NUM_STREAMS"] = at_once
        if self.device.type == "cpu" and threads():
            settings["INFERENCE_NUM_THREADS"] = threads()
            # Several such processes would all sit on the first cores.
            settings["ENABLE_CPU_PINNING"] = False
        try:
            compiled = self.core.compile_model(self.core.read_model(path), self._ov_name, settings)
        except RuntimeError as error:
            raise CTEnhanceError(
                f"OpenVINO cannot run the exported weights '{name}' ({str(error).strip().splitlines()[-1]}): "
                "export them again, or choose --engine torch."
            ) from error
        return OpenVinoNetwork(compiled, at_once)


class OpenVinoNetwork:
    """A compiled network; each call runs it to its end, `at_once` of them side by side."""

    def __init__(self, compiled: Any, at_once: int = 1) -> None:
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(at_once):
            self._free.put(compiled.create_infer_request())

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        """Return the output of the inputs. Raises ValueError for values that are not finite."""
        for values in inputs:
            # A sum over each row is finite only if all of it is, and much faster than looking at each.
            if not np.isfinite(values.sum(-1)).all():
                raise ValueError("a network's input holds values that are no finite numbers")
        whole = {number: np.ascontiguousarray(values) for number, values in enumerate(inputs)}
        request = self._free.get()
        try:
            return request.infer(whole, share_inputs=True)[0]
        finally:
            self._free.put(request)


def _physical_cores() -> int:
    import psutil

    return psutil.cpu_count(logical=False) or 1
