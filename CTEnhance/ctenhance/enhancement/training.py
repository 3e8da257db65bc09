"""The two trainings: the one-step network, and the diffusion round it.

Each takes a folder of reference CTs (read and turned into a noise bank once, see `bank.py`), a run folder,
and where there is one a folder of validation pairs `<name>_degraded.*` / `<name>_reference.*` of patients
that are not among the references. Validation pairs should be made in another way than the training's noise
(real pairs are best): a network goes on learning its simulator's noise long after it has stopped getting
better on anybody else's."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ctenhance.choices import DEFAULT_ENHANCE_STEPS
from ctenhance.core.padding import padding_to_air
from ctenhance.core.volume import CTVolume
from ctenhance.enhancement.bank import AIR_HU, build_bank, load_bank
from ctenhance.enhancement.detail import DetailSampler
from ctenhance.enhancement.models import HU_SCALE
from ctenhance.enhancement.networks import UNIT, ResidualDiffusion, Twin, build
from ctenhance.enhancement.pairs import PairBatch, PairSampler, neighbours
from ctenhance.enhancement.pruning import prune, require_wider
from ctenhance.enhancement.sampler import LARGEST_ANGLE, SMALLEST_ANGLE, fitted
from ctenhance.runtime import weights
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress
from ctenhance.training.loop import (
    Ahead,
    Loss,
    Settings,
    Validate,
    first_process_first,
    fit,
    log_error,
    training_volumes,
    weights_entry,
)
from ctenhance.training.options import DiffusionTraining, TwinTraining

LEAN = [
    [32, 32],
    [48, 48],
    [64, 64],
    [64, 64],
    [48, 48],
    [48, 32, 32],
    [48, 48, 48],
    [48, 48, 64],
    [32, 32, 32],
]
TWIN: dict[str, Any] = {"features": [32, 48, 64, 96, 128, 32]}
#: The sizes of the one-step network. The lean one has of the wide one what does anything (`pruning`).
TWINS: dict[str, dict[str, Any]] = {
    "twin": TWIN,
    "twin-wide": {"features": [32, 64, 128, 192, 256, 32]},
    "twin-lean": {"widths": LEAN},
}
#: The denoiser's features, and the learning rate that it is trained at.
DENOISER = [64, 96, 128, 160, 192, 64]
DIFFUSION_RATE = 4e-4
#: Weight of the scale's likelihood beside the velocity's error.
LIKELIHOOD_WEIGHT = 0.3
#: Pairs that are looked at to tell which channels do anything.
PRUNING_PAIRS = 48
#: Side in pixels of what is looked at of each slice when the diffusion is validated.
VALIDATION_SIDE = 256
#: What is not air around the patient, units of 1000 HU.
BODY = -0.9


def read_pairs(folder: Path) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """All `(name, degraded, reference)` of a folder, HU `[z, y, x]`. Raises InputError where a partner is
    missing."""
    pairs = []
    for degraded in sorted(folder.glob("*_degraded.*")):
        name = degraded.name.split("_degraded.")[0]
        references = sorted(folder.glob(f"{name}_reference.*"))
        if not references:
            raise InputError(f"{degraded.name} has no {name}_reference file beside it: put it there.")
        low, high = CTVolume.read(degraded).array, CTVolume.read(references[0]).array
        for array in (low, high):
            padding_to_air(array, AIR_HU)
        if low.shape != high.shape:
            raise InputError(
                f"{degraded.name} and {references[0].name} differ in shape: make them from one grid."
            )
        pairs.append((name, low, high))
    if not pairs:
        raise InputError(f"{folder} holds no pair <name>_degraded.nii.gz / <name>_reference.nii.gz.")
    return pairs


def pairs_validation(folder: str | Path | None, multiple: int) -> Validate | None:
    """PSNR (dB, +-1000 HU, mean over slices) on the pairs of `folder`: 'score' and one figure a patient."""
    if folder is None:
        return None
    pairs = read_pairs(Path(folder))

    def validate(network: nn.Module, device: torch.device) -> dict[str, float]:
        network.eval()
        figures = {}
        for name, low, high in pairs:
            values = []
            for z in range(len(low))[1:-1:2] or range(len(low)):
                rows, columns = (n // multiple * multiple for n in low.shape[1:])
                x = torch.from_numpy(neighbours(low, z)[:, :rows, :columns].copy())[None].to(device)
                with torch.no_grad():
                    y = network(x / HU_SCALE)[0, 0].float().cpu().numpy() * HU_SCALE
                error = y.clip(-1000, 1000) - high[z, :rows, :columns].clip(-1000, 1000)
                values.append(20 * math.log10(2000 / max(float(np.sqrt(np.mean(error**2))), 1e-6)))
            figures[name] = float(np.mean(values))
        return {"score": float(np.mean(list(figures.values()))), **figures}

    return validate


def middle_of(batch: PairBatch, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The degraded slices of a batch and the middle one of its references."""
    degraded = batch.degraded.to(device, memory_format=torch.channels_last)
    return degraded, batch.reference[:, 1:2].to(device)


@dataclasses.dataclass(frozen=True)
class Course:
    """What the trainings have in common: data, settings of the loop, progress and cancelling."""

    sampler: PairSampler
    pairs: Ahead[PairBatch]
    settings: Settings
    run_dir: Path
    progress: Progress | None
    cancel: Cancellable | None

    def run(
        self,
        network: nn.Module,
        loss: Loss,
        architecture: str,
        arguments: dict[str, Any],
        validate: Validate | None,
    ) -> Path:
        names = [volume.facts.name for volume in self.sampler.volumes]
        entry = weights_entry(architecture, arguments, names)
        return fit(network, loss, self.run_dir, self.settings, entry, validate, self.progress, self.cancel)


def course_of(
    data_dir: str | Path,
    run_dir: str | Path,
    options: TwinTraining | DiffusionTraining,
    settings: Settings,
    progress: Progress | None,
    cancel: Cancellable | None,
    kind: type[PairSampler] = PairSampler,
) -> Course:
    """What a training on the volumes of a folder needs; the noise bank is made where it is not there yet."""
    torch.manual_seed(options.seed)
    run_dir = Path(run_dir)
    references = training_volumes(Path(data_dir), options.exclude)
    with first_process_first():
        bank = build_bank(references, run_dir / "bank", options.seed, progress, cancel)
    sampler = kind(load_bank(bank), options.crop, options.seed)
    return Course(sampler, Ahead(sampler.batch), settings, run_dir, progress, cancel)


def train_detail(
    data_dir: str | Path,
    run_dir: str | Path,
    options: TwinTraining,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Path:
    """Train the one-step network for the second task (`detail`): sharper, too. All else as in `train_twin`;
    validation pairs should be of a soft and a sharp kernel, or of thick and thin slices."""
    return train_twin(data_dir, run_dir, options, progress, cancel, DetailSampler)


def train_twin(
    data_dir: str | Path,
    run_dir: str | Path,
    options: TwinTraining,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
    kind: type[PairSampler] = PairSampler,
) -> Path:
    """Train the one-step network on the volumes of `data_dir`; returns the weights file of its best state.

    `options.validation` is a folder of pairs (see the module). Raises InputError where nothing can be
    trained on, Cancelled when asked to stop."""
    # What may be missing is looked at before the bank is made, which takes long.
    validate = pairs_validation(options.validation, Twin.multiple)
    arguments = TWINS[options.architecture]
    source = None
    if options.start is not None:
        source = weights.load_model(options.start, ["twin"], build)
        _take_over(build("twin", arguments), source, arguments)
    course = course_of(data_dir, run_dir, options, Settings.of(options), progress, cancel, kind)
    network = build("twin", arguments)
    if source is not None:
        slices = course.sampler.batch(PRUNING_PAIRS, 0).degraded if "widths" in arguments else None
        _take_over(network, source, arguments, slices)

    def loss(model: nn.Module, step: int, rank: int, where: torch.device) -> torch.Tensor:
        degraded, target = middle_of(course.pairs(options.batch, step, rank), where)
        return log_error(model(degraded), target)

    return course.run(network, loss, "twin", arguments, validate)


def _take_over(
    network: nn.Module,
    source: weights.Model,
    arguments: dict[str, Any],
    slices: torch.Tensor | None = None,
) -> None:
    """Give a one-step network of `arguments` the weights of another size: grown, or pruned as seen on
    `slices` (None: only look whether it can be). Raises InputError where neither can be."""
    old = source.entry.arguments
    assert isinstance(network, Twin) and isinstance(source.network, Twin)
    if arguments == old:
        network.load_state_dict(source.network.state_dict())
    elif "widths" in arguments:
        require_wider(source.network, network)
        if slices is not None:
            prune(network, source.network, slices)
    elif "widths" in old:
        raise InputError(
            "The weights to start from are of a pruned network, which cannot be grown: choose its size "
            "(--architecture twin-lean), or other weights."
        )
    else:
        features = old.get("features", TWIN["features"])
        grow(network, source.network.state_dict(), features, arguments["features"])


def grow(
    network: nn.Module, tensors: dict[str, torch.Tensor], old: Sequence[int], new: Sequence[int]
) -> None:
    """Give a one-step network of `new` features the weights of one of `old`: it then computes the same.

    Its further channels start as they were drawn, and nothing that was there listens to them yet (the aim of
    Net2Net, Chen et al. 2016). Raises InputError where the old network is wider at some level."""
    if len(old) != len(new) or any(o > n for o, n in zip(old, new, strict=False)):
        raise InputError(
            "The weights to start from belong to a larger network: choose its size, or other weights."
        )
    own = network.state_dict()
    for name, value in tensors.items():
        target = own[name]
        joins = re.match(r"body\.upcat_(\d)\.convs\.conv_0\.conv\.weight", name)
        # where a skip joins, its channels come first, then those from below
        skip = int(joins[1]) - 1 if joins else None
        outputs = 1 if name.endswith("deconv.weight") else 0
        kept = [torch.arange(n) for n in value.shape]
        if skip is not None:
            places = torch.arange(value.shape[1])
            kept[1] = torch.where(places < old[skip], places, places - old[skip] + new[skip])
        if value.ndim > 1:
            listening = [slice(None)] * value.ndim
            listening[outputs] = slice(value.shape[outputs])
            target[tuple(listening)] = 0
        grid = torch.meshgrid(*kept, indexing="ij")
        target[grid] = value
    network.load_state_dict(own)


def train_enhance(
    data_dir: str | Path,
    run_dir: str | Path,
    options: DiffusionTraining,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Path:
    """Train the diffusion round the one-step network of `options.twin`, which stays as it is.

    Validation tells the loss at the sampler's own angles; the last state is kept. At the end the draws'
    amplitude is measured on the same pairs. All else as in `train_twin`."""
    validate = _diffusion_validation(options.validation)
    twin = weights.default_name("enhance") if options.twin is None else options.twin
    tensors, entry = weights.load(twin, ["twin"])
    arguments = {"twin": entry.arguments, "features": DENOISER}
    settings = Settings.of(options, learning_rate=DIFFUSION_RATE)
    course = course_of(data_dir, run_dir, options, settings, progress, cancel)
    network = build("residual-diffusion", arguments)
    assert isinstance(network, ResidualDiffusion)
    network.twin.load_state_dict(tensors)
    network.twin.requires_grad_(False)

    def loss(model: nn.Module, step: int, rank: int, where: torch.device) -> torch.Tensor:
        degraded, target = middle_of(course.pairs(options.batch, step, rank), where)
        generator = torch.Generator().manual_seed(options.seed + 7919 * step + rank)
        angle = _angles(len(degraded), generator).to(where)
        noise = torch.randn(target.shape, generator=generator).to(where)
        return _weighted(model(degraded, noise, reference=target, angle=angle))

    best = course.run(network, loss, "residual-diffusion", arguments, validate)
    if options.validation is not None:
        tensors, entry = weights.load(best)
        network.load_state_dict(tensors)
        network.amplitude.fill_(amplitude(network.eval(), Path(options.validation)))
        weights.save(best, network.state_dict(), entry)
    return best


def amplitude(network: ResidualDiffusion, folder: Path) -> float:
    """What draws are to be multiplied by, so that they have the power of what the mean leaves of held-out
    patients: a scale that was learned on other pairs is off by some tenths.

    The geometric mean over the patients of `folder` of the root of both powers' ratio, in the patient."""
    device = network.amplitude.device
    generator = torch.Generator().manual_seed(2)
    ratios = []
    for _, low, high in read_pairs(folder):
        powers = torch.zeros(2)
        for z in range(len(low))[2:-1:4] or range(len(low)):
            sides = [_middle_part(length) for length in low.shape[1:]]
            x = torch.from_numpy(neighbours(low, z)[:, sides[0], sides[1]].copy())[None].to(device) / HU_SCALE
            y = torch.from_numpy(high[z][sides[0], sides[1]].copy())[None, None].to(device) / HU_SCALE
            body = torch.nn.functional.avg_pool2d(y, UNIT) > BODY
            noise = torch.randn(y.shape, generator=generator).to(device)
            with torch.no_grad():
                mean = network.twin(x)
                scale = network.scale(x, mean)
                drawn = network.encode(network(x, noise) - mean, scale) / network.amplitude
                left = network.encode(y - mean, scale)
            for k, latents in enumerate((left, drawn)):
                powers[k] += (latents.square().mean(1, keepdim=True) * body).sum().cpu()
        ratios.append(math.log(float(powers[0] / powers[1])) / 2)
    return math.exp(float(np.mean(ratios)))


def _middle_part(length: int) -> slice:
    """The middle of a side, at most `VALIDATION_SIDE` long, a whole multiple of what the network takes."""
    side = min(VALIDATION_SIDE, length // ResidualDiffusion.multiple * ResidualDiffusion.multiple)
    return slice((length - side) // 2, (length - side) // 2 + side)


def _angles(count: int, generator: torch.Generator) -> torch.Tensor:
    """Angles to train at: half of them those of the usual sampler, or close by, half any."""
    own = torch.tensor(fitted(DEFAULT_ENHANCE_STEPS).angles)
    near = own[torch.randint(len(own), (count,), generator=generator)]
    near = near + 0.04 * (torch.rand(count, generator=generator) - 0.5)
    free = SMALLEST_ANGLE + (LARGEST_ANGLE - SMALLEST_ANGLE) * torch.rand(count, generator=generator)
    return torch.where(torch.rand(count, generator=generator) < 0.5, near, free)


def _weighted(losses: torch.Tensor) -> torch.Tensor:
    return losses[0] + LIKELIHOOD_WEIGHT * losses[1]


def _diffusion_validation(folder: str | Path | None) -> Validate | None:
    """The loss at the sampler's angles in the middle of every fourth slice of the pairs of `folder`, and its
    parts; the 'score' is the time."""
    if folder is None:
        return None
    crops = []
    for _, low, high in read_pairs(Path(folder)):
        sides = [_middle_part(length) for length in low.shape[1:]]
        for z in range(len(low))[2:-1:4] or range(len(low)):
            low_crop = neighbours(low, z)[:, sides[0], sides[1]]
            crops.append([torch.from_numpy(a.copy()) for a in (low_crop, high[z][sides[0], sides[1]])])

    def validate(network: nn.Module, device: torch.device) -> dict[str, float]:
        network.eval()
        generator = torch.Generator().manual_seed(1)
        found = []
        for low, high in crops:
            x, y = low[None].to(device) / HU_SCALE, high[None, None].to(device) / HU_SCALE
            for angle in fitted(DEFAULT_ENHANCE_STEPS).angles:
                noise = torch.randn(y.shape, generator=generator).to(device)
                with torch.no_grad():
                    found.append(network(x, noise, reference=y, angle=torch.tensor([angle], device=device)))
        velocity, likelihood = torch.stack(found).float().cpu().mean(0)
        loss = float(_weighted(torch.stack([velocity, likelihood])))
        # The velocity's error is in units of a scale that is learned itself: a state with too large a scale
        # would look better than it is. So the last state is kept, not the one of the least loss.
        parts = {"velocity": float(velocity), "likelihood": float(likelihood)}
        return {"score": time.time(), "loss": loss, **parts}

    return validate
