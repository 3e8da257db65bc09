"""The three trainings: the fast twin, the autoencoder, the latent diffusion with its detail decoder.

Each takes a folder of reference CTs (read and turned into a noise bank once, see `bank.py`), a run folder,
and where there is one a folder of validation pairs `<name>_degraded.*` / `<name>_reference.*` of patients
that are not among the references. Validation pairs should be made in another way than the training's noise
(real pairs are best): a network goes on learning its simulator's noise long after it has stopped getting
better on anybody else's."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from ctenhance.core.hounsfield import padding_to_air
from ctenhance.core.volume import CTVolume
from ctenhance.enhancement.bank import AIR_HU, build_bank, load_bank
from ctenhance.enhancement.models import HU_SCALE
from ctenhance.enhancement.networks import Autoencoder, LatentDiffusion, Twin, build
from ctenhance.enhancement.pairs import PairBatch, PairSampler, neighbours
from ctenhance.enhancement.schedule import TRAIN_STEPS
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
    training_device,
    training_volumes,
    weights_entry,
)
from ctenhance.training.options import AutoencoderTraining, DiffusionTraining, TwinTraining

TWIN: dict[str, Any] = {"features": [32, 48, 64, 96, 128, 32]}
#: The sizes of the one-step network. The wide one costs hardly more time a slice (0.099 against 0.087 s on
#: one core), since its further channels are on the coarse grids.
TWINS: dict[str, dict[str, Any]] = {"twin": TWIN, "twin-wide": {"features": [32, 64, 128, 192, 256, 32]}}
AUTOENCODER: dict[str, Any] = {"channels": [32, 64], "latents": 4, "residual_blocks": 1}
DENOISER_CHANNELS = [32, 64, 96]
#: Weight of the Kullback-Leibler term (METHODS A.5: 1e-8 in 2-D, 1e-7 in 3-D, of larger latents).
KL_WEIGHT = 1e-7
#: Errors well below this (in units of 1000 HU) count squared, above it plainly: noisy draws must not rule
#: the rest.
SOFT_ERROR = 0.02


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


def pairs_validation(folder: str | Path | None, multiple: int, round_trip: bool = False) -> Validate | None:
    """PSNR (dB, +-1000 HU, mean over slices) on the pairs of `folder`: 'score' and one figure a patient.

    With `round_trip` the network is an autoencoder: it gets the reference and shall give it back.
    """
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
                three = neighbours(high if round_trip else low, z)[:, :rows, :columns]
                x = torch.from_numpy(three)[None].to(device) / HU_SCALE
                # a network that draws shall draw alike at every validation, without moving the training's
                # own draws
                with torch.no_grad(), torch.random.fork_rng():
                    torch.manual_seed(z)
                    image = network(x)[0][:, 1:2] if round_trip else network(x)
                y = image[0, 0].float().cpu().numpy() * HU_SCALE
                error = y.clip(-1000, 1000) - high[z, :rows, :columns].clip(-1000, 1000)
                values.append(20 * math.log10(2000 / max(float(np.sqrt(np.mean(error**2))), 1e-6)))
            figures[name] = float(np.mean(values))
        return {"score": float(np.mean(list(figures.values()))), **figures}

    return validate


def soft_l1(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Charbonnier loss, mean of sqrt(error^2 + SOFT_ERROR^2) - SOFT_ERROR."""
    return ((output.float() - target).square() + SOFT_ERROR**2).sqrt().mean() - SOFT_ERROR


def _middle(batch: PairBatch, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    degraded = batch.degraded.to(device, memory_format=torch.channels_last)
    return degraded, batch.reference[:, 1:2].to(device)


@dataclasses.dataclass(frozen=True)
class _Course:
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


def _course(
    data_dir: str | Path,
    run_dir: str | Path,
    options: TwinTraining | AutoencoderTraining | DiffusionTraining,
    settings: Settings,
    progress: Progress | None,
    cancel: Cancellable | None,
) -> _Course:
    torch.manual_seed(options.seed)
    run_dir = Path(run_dir)
    references = training_volumes(Path(data_dir), options.exclude)
    with first_process_first():
        bank = build_bank(references, run_dir / "bank", options.seed, progress, cancel)
    sampler = PairSampler(load_bank(bank), options.crop, options.seed)
    return _Course(sampler, Ahead(sampler.batch), settings, run_dir, progress, cancel)


def train_twin(
    data_dir: str | Path,
    run_dir: str | Path,
    options: TwinTraining,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Path:
    """Train the one-step network on the volumes of `data_dir`; returns the weights file of its best state.

    `options.validation` is a folder of pairs (see the module). Raises InputError where nothing can be
    trained on, Cancelled when asked to stop."""
    # What may be missing is looked at before the bank is made, which takes long.
    validate = pairs_validation(options.validation, Twin.multiple)
    arguments = TWINS[options.architecture]
    first = None
    if options.start is not None:
        tensors, entry = weights.load(options.start, ["twin"])
        first = tensors, entry.arguments["features"]
        grow(build("twin", arguments), *first, arguments["features"])
    course = _course(data_dir, run_dir, options, Settings.of(options), progress, cancel)
    network = build("twin", arguments)
    if first is not None:
        grow(network, *first, arguments["features"])

    def loss(model: nn.Module, step: int, rank: int, where: torch.device) -> torch.Tensor:
        degraded, target = _middle(course.pairs(options.batch, step, rank), where)
        return log_error(model(degraded), target)

    return course.run(network, loss, "twin", arguments, validate)


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


def train_autoencoder(
    data_dir: str | Path,
    run_dir: str | Path,
    options: AutoencoderTraining,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Path:
    """Train the KL autoencoder on references and degraded slices alike, since both get encoded in use.

    The validation figure is the PSNR of the references' round trip.  All else as in `train_twin`.
    """
    batch = options.batch
    validate = pairs_validation(options.validation, Autoencoder.multiple, round_trip=True)
    course = _course(data_dir, run_dir, options, Settings.of(options), progress, cancel)
    network = build("autoencoder", AUTOENCODER)

    def loss(model: nn.Module, step: int, rank: int, where: torch.device) -> torch.Tensor:
        drawn = course.pairs(batch, step, rank)
        half = batch // 2
        x = torch.cat([drawn.reference[: batch - half], drawn.degraded[batch - half :]]).to(where)
        image, mean, sd = model(x)
        divergence = 0.5 * (mean.square() + sd.square() - 2 * sd.clamp(min=1e-8).log() - 1)
        return soft_l1(image, x) + KL_WEIGHT * divergence.flatten(1).sum(1).mean()

    return course.run(network, loss, "autoencoder", AUTOENCODER, validate)


def train_enhance(
    data_dir: str | Path,
    run_dir: str | Path,
    options: DiffusionTraining,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Path:
    """Train the latent diffusion and then its detail decoder, each for half of `steps` and `minutes`.

    The weights of `options.autoencoder` stay frozen; with `options.twin` the detail decoder begins at the
    one-step network's quality. All else as in `train_twin`."""
    run_dir, batch, seed = Path(run_dir), options.batch, options.seed
    settings = Settings.of(options, steps=options.steps // 2, minutes=options.minutes / 2)
    validate = pairs_validation(options.validation, LatentDiffusion.multiple)
    tensors, entry = weights.load(options.autoencoder, ["autoencoder"])
    detail_start = None if options.twin is None else weights.load(options.twin, ["twin"])[0]
    course = _course(data_dir, run_dir, options, settings, progress, cancel)
    arguments = {"autoencoder": entry.arguments, "channels": DENOISER_CHANNELS, "features": TWIN["features"]}
    network = build("latent-diffusion", arguments)
    assert isinstance(network, LatentDiffusion)
    network.autoencoder.load_state_dict(tensors)
    network.to(training_device(options.device))
    if detail_start is not None:
        start_from_twin(network, detail_start)

    prior = dataclasses.replace(course, run_dir=run_dir / "diffusion")
    _train_only(network, network.denoiser)
    _measure_scale(network.autoencoder, course.sampler)

    def diffusion_loss(model: nn.Module, step: int, rank: int, where: torch.device) -> torch.Tensor:
        drawn = course.pairs(batch, step, rank)
        generator = torch.Generator().manual_seed(seed + 7919 * step + rank)
        with torch.no_grad():
            encode = network.autoencoder.encode
            z, condition = encode(drawn.reference.to(where)), encode(drawn.degraded.to(where))
        time = torch.randint(TRAIN_STEPS, (len(z),), generator=generator).to(where)
        noise = torch.randn(z.shape, generator=generator).to(where)
        schedule = network.scheduler(1)
        noisy = schedule.add_noise(z, noise, time)
        v = model(torch.cat([noisy, condition], 1), time)
        return torch.nn.functional.mse_loss(v.float(), schedule.velocity(z, noise, time))

    best = prior.run(network.denoiser, diffusion_loss, "denoiser", {}, None)
    network.denoiser.load_state_dict(load_file(str(best)))

    detail = dataclasses.replace(course, run_dir=run_dir / "detail")
    _train_only(network, network.detail)

    def detail_loss(model: nn.Module, step: int, rank: int, where: torch.device) -> torch.Tensor:
        degraded, target = _middle(course.pairs(batch, step, rank), where)
        generator = torch.Generator().manual_seed(seed + 7919 * step + rank)
        noise = torch.randn((len(degraded), *network.latent_shape(degraded)), generator=generator).to(where)
        # any step count that a user may ask for
        return log_error(model(degraded, noise, int(2 ** (step % 3))), target)

    return detail.run(network, detail_loss, "latent-diffusion", arguments, validate)


def start_from_twin(network: LatentDiffusion, tensors: dict[str, torch.Tensor]) -> None:
    """Give the detail decoder the twin's weights; the prior's input channels start at zero."""
    own = network.detail.state_dict()
    for name, value in tensors.items():
        key = name.removeprefix("body.")
        if key not in own:
            raise InputError(
                f"The twin's weights do not fit the detail decoder ('{name}'): train both alike."
            )
        if own[key].shape == value.shape:
            own[key] = value
        else:  # the first convolution: the degraded slices' channels come first, then the prior's
            own[key] = torch.zeros_like(own[key])
            own[key][:, : value.shape[1]] = value
    network.detail.load_state_dict(own)


def _train_only(network: nn.Module, part: nn.Module) -> None:
    network.requires_grad_(False)
    part.requires_grad_(True)


def _measure_scale(autoencoder: Autoencoder, sampler: PairSampler) -> None:
    """Set the latents' scale to 1 / SD over reference crops (the diffusion's schedule is made for unit
    variance)."""
    with torch.no_grad():
        mean, _ = autoencoder.posterior(sampler.batch(32, 0).reference.to(autoencoder.scale.device))
        autoencoder.scale.copy_(1 / mean.std())
