"""torch: networks on CUDA, MPS and CPUs, built from the weights themselves."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ctenhance.runtime.engines.base import BFLOAT16, FLOAT32, TORCH, Engine


class TorchEngine(Engine):
    """One device for all networks of a run; bfloat16 on the graphics cards that have it."""

    name = TORCH
    version = torch.__version__

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.half = device.type == "cuda" and torch.cuda.is_bf16_supported()
        self.precision = BFLOAT16 if self.half else FLOAT32
        self.threads = torch.get_num_threads()

    def at(self, device: torch.device) -> TorchEngine:
        """The same on another device."""
        return TorchEngine(device)

    def network(self, module: nn.Module) -> TorchNetwork:
        """Return a network on the device."""
        return TorchNetwork(module, self)


class TorchNetwork:
    """A module with its device. Arrays go over pinned memory where there is a graphics card, so that the copy
    overlaps with what the card computes."""

    def __init__(self, module: nn.Module, engine: TorchEngine) -> None:
        # channels_last is what CPU and tensor cores convolve fastest
        self.module = module.eval().to(engine.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.engine = engine

    def on_device(self, values: np.ndarray) -> torch.Tensor:
        """Return an array as a tensor on the device."""
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        if self.engine.device.type == "cuda":
            return tensor.pin_memory().to(
                self.engine.device, non_blocking=True, memory_format=torch.channels_last
            )
        return tensor.to(self.engine.device, memory_format=torch.channels_last)

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        """Return the output of the inputs."""
        return self.run(*(self.on_device(values) for values in inputs)).float().cpu().numpy()

    def run(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return the output of tensors that lie on the device, there."""
        with (
            torch.inference_mode(),
            torch.autocast(self.engine.device.type, torch.bfloat16, enabled=self.engine.half),
        ):
            return self.module(*inputs)
