"""The pipeline: a CT volume of any size in, the enhanced volume out.

Slices are taken with their two neighbours and run whole where memory allows (no tile, no seam), in
overlapping tiles blended by a Gaussian window where it does not. The network sees HU within its training
range and its *change* is added to the original, so that metal and padding beyond the range stay what they
were."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference

from ctenhance.choices import DEFAULT_ENHANCE_STEPS, SPREAD_SAMPLES
from ctenhance.core.blend import blend
from ctenhance.core.report import ReportBuilder, Result
from ctenhance.core.volume import CTVolume
from ctenhance.enhancement.networks import ARCHITECTURES, SLICES, build
from ctenhance.enhancement.pairs import HU_SCALE, neighbours
from ctenhance.options import EnhanceOptions, chosen
from ctenhance.runtime import weights
from ctenhance.runtime.device import halvings, pick_device, with_memory_fallback
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress, check
from ctenhance.runtime.seeds import generator

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
#: The symmetries of a slice. Each draw sees another one: what a network makes of a turned or mirrored slice
#: errs in another way, so that the mean of a few is better than any of them.
SYMMETRIES = 8


class Model(weights.Model):
    """An enhancing network with its entry, ready on the CPU."""

    @property
    def stochastic(self) -> bool:
        """Whether it draws: a diffusion model, not a one-step network."""
        return bool(self.network.stochastic)

    @property
    def multiple(self) -> int:
        """The sides of its input are multiples of this many pixels."""
        return int(self.network.multiple)  # type: ignore[arg-type]


def load_model(model: str | Path | None = None) -> Model:
    """The network named `model` in the registry, of a weights file, or the default one.

    Raises InputError where the weights are unknown, damaged, or none of an enhancing network.
    """
    name = weights.default_name("enhance") if model is None else model
    loaded = weights.load_model(name, ARCHITECTURES, build)
    if not hasattr(loaded.network, "stochastic"):
        raise InputError(f"The weights '{loaded.entry.name}' are only a part of a model: name a whole one.")
    return Model(loaded.network, loaded.entry)


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
        three = neighbours(stack, z)
        x = torch.from_numpy(np.where(three < LOWEST_HU, np.float32(AIR_HU), three))
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
                self._planes[plane] = torch.randn(shape, generator=generator(self.seed, *plane))
            total += tap * self._planes[plane]
        return total[None].to(self.device)


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


def default_samples(model: Model, uncertainty: bool = False) -> int:
    """The draws that are averaged unless the user says how many."""
    return SPREAD_SAMPLES if uncertainty else 1


def decide(options: EnhanceOptions) -> tuple[Model, EnhanceOptions]:
    """The model, and the options with the numbers of steps and samples that follow from it.

    Raises InputError for a model that is not there and for what it cannot do.
    """
    model = load_model(options.model)
    samples = default_samples(model, options.uncertainty) if options.samples is None else options.samples
    if not model.stochastic and samples > SYMMETRIES:
        raise InputError(
            f"The one-step model '{model.entry.name}' has only {SYMMETRIES} distinct samples "
            "(turned and mirrored slices): lower --samples or choose a diffusion model."
        )
    if not model.stochastic and options.steps not in (None, 1):
        raise InputError(
            f"The model '{model.entry.name}' works in one step: leave --steps out, or choose another model."
        )
    steps = (options.steps or DEFAULT_ENHANCE_STEPS) if model.stochastic else 1
    return model, replace(options, steps=steps, samples=samples)


def enhance(
    volume: CTVolume,
    *,
    model: str | Path | None = None,
    strength: float = 1.0,
    steps: int | None = None,
    samples: int | None = None,
    uncertainty: bool = False,
    device: str = "auto",
    seed: int = 0,
    options: EnhanceOptions | None = None,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Result:
    """Enhance a CT: `.volumes["enhanced"]`, with `uncertainty` also `.maps["uncertainty"]` (SD in HU).

    `model`: registry name or weights file; `strength` blends input (0) and enhanced (1) after the fact;
    `steps`: of a diffusion model, 1 to 50;
    `samples` draws are averaged (default: one, and four where `uncertainty` is asked for), and their
    voxelwise SD is the uncertainty. Each draw turns and mirrors the slices, and a diffusion model draws its
    noise. The model works on axial slices (`CTVolume.axial`), however the volume is stored. `options`: all
    of these in one object, in place of the keywords. Raises InputError for settings that cannot be,
    Cancelled when asked to stop."""
    options = chosen(
        options,
        EnhanceOptions(
            model=model,
            strength=strength,
            steps=steps,
            samples=samples,
            uncertainty=uncertainty,
            device=device,
            seed=seed,
        ),
    )
    volume.require_hu()
    selected = pick_device(options.device)
    loaded, options = decide(options)
    report = ReportBuilder("enhance", options.settings(), selected, options.seed)
    report.model(loaded.entry)
    report.input = volume.input_report()
    if selected.type == "cpu" and options.device == "auto":
        report.details["note"] = "No graphics card was used: none is available to torch."
    stack = _slices_to_work_on(volume, report)

    def run(where: torch.device, tile: int) -> dict[str, np.ndarray]:
        report.device = where
        enhancer = SliceEnhancer(loaded, where, tile, options.steps or 1, options.seed, stack.spacing[2])
        return _all_slices(stack.array, enhancer, options, progress, cancel)

    longest = max(SMALLEST_TILE, min(WHOLE_SIDE, max(stack.array.shape[1:]) + loaded.multiple))
    longest = math.ceil(longest / loaded.multiple) * loaded.multiple
    with report.stage("enhance"):
        arrays = with_memory_fallback(run, halvings(longest, SMALLEST_TILE), selected, report.warn)
    if stack is not volume:
        arrays = {name: volume.from_axial(values) for name, values in arrays.items()}
    maps = {name: volume.with_array(values) for name, values in arrays.items()}
    return Result({"enhanced": maps.pop("enhanced")}, maps, report.finish())


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
    options: EnhanceOptions,
    progress: Progress | None,
    cancel: Cancellable | None,
) -> dict[str, np.ndarray]:
    """The enhanced volume, and the SD of its draws where it is asked for."""
    names = ("enhanced", "uncertainty") if options.uncertainty else ("enhanced",)
    images = {name: np.empty(array.shape, np.float32) for name in names}
    samples = options.samples or 1
    for z in range(len(array)):
        mean, squares = np.zeros(array.shape[1:], np.float64), np.zeros(array.shape[1:], np.float64)
        for draw in range(samples):
            check(cancel)
            value = enhancer(array, z, draw)
            delta = value - mean
            mean += delta / (draw + 1)
            squares += delta * (value - mean)
        images["enhanced"][z] = blend(array[z], mean, options.strength)
        if options.uncertainty:
            images["uncertainty"][z] = options.strength * np.sqrt(squares / (samples - 1))
        if progress is not None:
            progress("enhance", z + 1, len(array))
    return images
