"""The pipeline: a CT volume of any size in, the enhanced volume out.

Slices are taken with their two neighbours and run whole where memory allows (no tile, no seam), in
overlapping tiles blended by a Gaussian window where it does not. The network sees HU within its training
range and its *change* is added to the original, so that metal and padding beyond the range stay what they
were."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from torch import nn

from ctenhance.core.report import ReportBuilder, Result
from ctenhance.core.volume import CTVolume
from ctenhance.enhancement.networks import ARCHITECTURES, SLICES, build
from ctenhance.enhancement.pairs import HU_SCALE, neighbours
from ctenhance.runtime import weights
from ctenhance.runtime.device import halvings, pick_device, with_memory_fallback
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress, check
from ctenhance.runtime.weights import WeightsEntry

#: HU that the networks were trained on; what lies beyond is carried over unchanged. Noise in air reaches
#: well below -1024 where nobody cut it off: to cut it here would shift the mean of air.
LOWEST_HU, HIGHEST_HU = -1400.0, 3071.0
#: What the network sees in place of padding, such as -2000 outside the field of view.
AIR_HU = -1024.0
#: Longest side of a slice (pixels) that is tried whole before it is cut into tiles.
WHOLE_SIDE = 1024
SMALLEST_TILE = 128
#: Where a volume is stored in other planes, the model works on its axial ones unless their pixels are more
#: oblong (long by short side) than this.
MOST_OBLONG = 1.5
TILE_OVERLAP = 0.5
#: Correlation length of the diffusion's noise along z: neighbouring slices get almost the same draw, so
#: that they agree.
NOISE_CORRELATION_MM = 4.0
DEFAULT_STEPS = 4
MOST_STEPS = 50
#: The symmetries of a slice. Each draw sees another one: what a network makes of a turned or mirrored slice
#: errs in another way, so that the mean of a few is better than any of them.
SYMMETRIES = 8
#: Draws that are averaged unless the user says how many: a one-step network can afford four (0.1 dB more
#: PSNR on held-out patients than one; eight add 0.01). A diffusion model takes that many for a spread only.
USUAL_SAMPLES = 4


@dataclass(frozen=True)
class Model:
    """A network with its entry, ready on the CPU."""

    network: nn.Module
    entry: WeightsEntry

    @property
    def stochastic(self) -> bool:
        return bool(self.network.stochastic)

    @property
    def multiple(self) -> int:
        return int(self.network.multiple)  # type: ignore[arg-type]


def load_model(model: str | Path | None = None) -> Model:
    """The network named `model` in the registry, of a weights file, or the default one.

    Raises InputError where the weights are unknown, damaged, or none of an enhancing network.
    """
    tensors, entry = weights.load(weights.default_name("enhance") if model is None else model, ARCHITECTURES)
    network = build(entry.architecture, entry.arguments)
    if not hasattr(network, "stochastic"):
        raise InputError(f"The weights '{entry.name}' are only a part of a model: name a whole one.")
    weights.fill(network, tensors, entry)
    return Model(network.eval(), entry)


class SliceEnhancer:
    """One model on one device with one setting, slice by slice."""

    def __init__(
        self, model: Model, device: torch.device, tile: int, steps: int, seed: int, spacing_mm: float
    ) -> None:
        self.model, self.device, self.tile, self.steps = model, device, tile, steps
        # channels_last is what CPU and tensor cores convolve fastest
        self.network = model.network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.seed = seed
        reach = max(0.0, NOISE_CORRELATION_MM / spacing_mm)
        taps = np.exp(
            -0.5 * (np.arange(-math.ceil(2 * reach), math.ceil(2 * reach) + 1) / max(reach, 1e-3)) ** 2
        )
        self.taps = (taps / np.sqrt((taps**2).sum())).tolist()
        self._planes: dict[tuple[int, int], torch.Tensor] = {}

    def __call__(self, stack: np.ndarray, z: int, draw: int = 0) -> np.ndarray:
        """Slice z of `stack` HU `[z, y, x]`, enhanced, `[y, x]`."""
        seen = neighbours(stack, z)
        x = torch.from_numpy(np.where(seen < LOWEST_HU, np.float32(AIR_HU), seen))
        x = x.clamp_(max=HIGHEST_HU).div_(HU_SCALE)[None]
        rows, columns = x.shape[-2:]
        symmetry = draw % SYMMETRIES
        x = _turn(x, symmetry)
        padded = _pad(x, self.model.multiple).to(self.device, memory_format=torch.channels_last)
        noise = self._noise(z, draw, padded) if self.model.stochastic else None
        half = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            change = self._run(padded, noise)[..., : x.shape[-2], : x.shape[-1]].float().cpu() - x[:, 1:2]
        change = _turn_back(change, symmetry)[0, 0] * HU_SCALE
        middle = torch.from_numpy(np.ascontiguousarray(stack[z]))
        inside = (middle >= LOWEST_HU) & (middle <= HIGHEST_HU)
        assert change.shape == (rows, columns)
        return (middle + change * inside).numpy()

    def _run(self, x: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        if max(x.shape[-2:]) <= self.tile:
            return self.network(x) if noise is None else self.network(x, noise, self.steps)
        if noise is not None:
            # tiles cut slices and noise alike: the noise travels as further channels at full size
            factor = x.shape[-1] // noise.shape[-1]
            x = torch.cat([x, F.interpolate(noise, scale_factor=factor, mode="nearest")], 1)

        def run(part: torch.Tensor) -> torch.Tensor:
            if noise is None:
                return self.network(part)
            return self.network(part[:, :SLICES], part[:, SLICES:, ::factor, ::factor], self.steps)

        return sliding_window_inference(x, (self.tile,) * 2, 1, run, overlap=TILE_OVERLAP, mode="gaussian")

    def _noise(self, z: int, draw: int, x: torch.Tensor) -> torch.Tensor:
        """Unit-variance noise for slice z, correlated along z; the same whatever slab or order it is asked
        in."""
        shape = self.network.latent_shape(x)  # type: ignore[operator]
        reach = len(self.taps) // 2
        for key, kept in list(self._planes.items()):
            if key[0] != draw or abs(key[1] - z) > reach or kept.shape != shape:
                del self._planes[key]
        total = torch.zeros(shape)
        for k, tap in enumerate(self.taps):
            plane = (draw, z + k - reach)
            if plane not in self._planes:
                generator = torch.Generator().manual_seed(_mixed(self.seed, *plane))
                self._planes[plane] = torch.randn(shape, generator=generator)
            total += tap * self._planes[plane]
        return total[None].to(self.device)


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence([n % 2**32 for n in numbers]).generate_state(1, np.uint64)[0] >> 1)


def _turn(x: torch.Tensor, symmetry: int) -> torch.Tensor:
    turned = torch.rot90(x, symmetry % 4, (-2, -1))
    return turned.flip(-1) if symmetry >= 4 else turned


def _turn_back(x: torch.Tensor, symmetry: int) -> torch.Tensor:
    return torch.rot90(x.flip(-1) if symmetry >= 4 else x, -(symmetry % 4), (-2, -1))


def _pad(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Padded at the far sides to whole multiples, by the edge's own values: HU jumps there would ring
    inwards."""
    down, right = (-x.shape[-2] % multiple, -x.shape[-1] % multiple)
    return F.pad(x, (0, right, 0, down), mode="replicate") if down or right else x


def usual_samples(model: Model, uncertainty: bool = False) -> int:
    """The draws that are averaged unless the user says how many."""
    return 1 if model.stochastic and not uncertainty else USUAL_SAMPLES


def _check_settings(
    model: Model, strength: float, steps: int | None, samples: int | None, uncertainty: bool
) -> tuple[int, int]:
    """The numbers of diffusion steps and of draws; InputError for what cannot be done."""
    if samples is None:
        samples = usual_samples(model, uncertainty)
    if not 0 <= strength <= 1:
        raise InputError(f"The strength is {strength:g}: choose it between 0 (input) and 1 (fully enhanced).")
    if samples < 1 or (uncertainty and samples < 2):
        raise InputError(
            f"An uncertainty map needs at least 2 samples, and {samples} were asked for: raise --samples."
        )
    if not model.stochastic and samples > SYMMETRIES:
        raise InputError(
            f"The one-step model '{model.entry.name}' has only {SYMMETRIES} distinct samples "
            "(turned and mirrored slices): lower --samples or choose a diffusion model."
        )
    if not model.stochastic and steps not in (None, 1):
        raise InputError(
            f"The model '{model.entry.name}' works in one step: leave --steps out, or choose another model."
        )
    if steps is not None and not 1 <= steps <= MOST_STEPS:
        raise InputError(
            f"The number of steps is {steps}: choose 1 to {MOST_STEPS} (default {DEFAULT_STEPS})."
        )
    return (steps or DEFAULT_STEPS) if model.stochastic else 1, samples


def plan(
    model: str | Path | None = None,
    strength: float = 1.0,
    steps: int | None = None,
    samples: int | None = None,
    uncertainty: bool = False,
) -> tuple[Model, dict[str, Any]]:
    """The model and the settings of `enhance` as its report names them, with what was left open decided.

    Raises InputError for settings that cannot be.
    """
    chosen = load_model(model)
    count, draws = _check_settings(chosen, strength, steps, samples, uncertainty)
    return chosen, {"strength": strength, "steps": count, "samples": draws, "uncertainty": uncertainty}


def enhance(
    volume: CTVolume,
    model: str | Path | None = None,
    strength: float = 1.0,
    steps: int | None = None,
    samples: int | None = None,
    uncertainty: bool = False,
    device: str = "auto",
    seed: int = 0,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Result:
    """Enhance a CT: `.volumes["enhanced"]`, with `uncertainty` also `.maps["uncertainty"]` (SD in HU).

    `model`: registry name or weights file; `strength` blends input (0) and enhanced (1) after the fact;
    `samples` draws are averaged (default: four of a one-step model, one of a diffusion model), and their
    voxelwise SD is the uncertainty. Each draw turns and mirrors the slices, and a diffusion model draws its
    noise. The model works on axial slices (`CTVolume.axial`), however the volume is stored. Raises InputError
    for settings that cannot be, Cancelled when asked to stop."""
    volume.require_hu()
    place = pick_device(device)
    chosen, settings = plan(model, strength, steps, samples, uncertainty)
    count, draws = settings["steps"], settings["samples"]
    report = ReportBuilder("enhance", settings, place, seed)
    report.model(chosen.entry)
    report.input = volume.input_report()
    if place.type == "cpu" and device == "auto":
        report.details["note"] = "No graphics card was used: none is available to torch."

    seen = _slices_to_work_on(volume, report)

    def run(where: torch.device, tile: int) -> tuple[np.ndarray, np.ndarray | None]:
        report.device = where
        enhancer = SliceEnhancer(chosen, where, tile, count, seed, float(seen.spacing[2]))
        return _all_slices(seen.array, enhancer, strength, draws, uncertainty, progress, cancel)

    longest = max(SMALLEST_TILE, min(WHOLE_SIDE, max(seen.array.shape[1:]) + chosen.multiple))
    longest = math.ceil(longest / chosen.multiple) * chosen.multiple
    with report.stage("enhance"):
        image, spread = with_memory_fallback(run, halvings(longest, SMALLEST_TILE), place, report.warn)
    named = {"enhanced": image} if spread is None else {"enhanced": image, "uncertainty": spread}
    if seen is not volume:
        named = {name: volume.from_axial(values) for name, values in named.items()}
    made = {name: volume.with_array(values) for name, values in named.items()}
    return Result({"enhanced": made.pop("enhanced")}, made, report.finish())


def _slices_to_work_on(volume: CTVolume, report: ReportBuilder) -> CTVolume:
    """The volume with axial slices; as it is stored, and with a warning, where their pixels are far from
    square: a thick reformat in another plane."""
    axial = volume.axial()
    x, y, _ = axial.spacing
    if axial is volume or max(x, y) <= MOST_OBLONG * min(x, y):
        return axial
    report.warn(
        f"The slices are not axial, and axial planes would have pixels of {x:.2f} x {y:.2f} mm: the model, "
        "trained on axial slices, worked on those of the file. Give the axial series if there is one."
    )
    return volume


def _all_slices(
    array: np.ndarray,
    enhancer: SliceEnhancer,
    strength: float,
    samples: int,
    uncertainty: bool,
    progress: Progress | None,
    cancel: Cancellable | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    image = np.empty(array.shape, np.float32)
    spread = np.empty(array.shape, np.float32) if uncertainty else None
    for z in range(len(array)):
        mean, squares = np.zeros(array.shape[1:], np.float64), np.zeros(array.shape[1:], np.float64)
        for value, number in _draws(array, enhancer, z, samples, cancel):
            delta = value - mean
            mean += delta / number
            squares += delta * (value - mean)
        image[z] = array[z] + strength * (mean - array[z])
        if spread is not None:
            spread[z] = strength * np.sqrt(squares / (samples - 1))
        if progress is not None:
            progress("enhance", z + 1, len(array))
    return image, spread


def _draws(
    array: np.ndarray, enhancer: SliceEnhancer, z: int, samples: int, cancel: Cancellable | None
) -> Iterator[tuple[np.ndarray, int]]:
    for draw in range(samples):
        check(cancel)
        yield enhancer(array, z, draw), draw + 1
