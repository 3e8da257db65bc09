"""The two trainings: the projection network, then the image network on what the first one gives.

Both learn from normal-dose volumes alone: these are projected by drawn scanners once (`bank.py`), and doses,
bowties and electronics are drawn as training goes on. Validation is on patients of a folder of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ctenhance.physics.fbp import fbp
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.units import mu_to_hu
from ctenhance.quality.metrics import psnr
from ctenhance.reconstruction import dgdiff, spdiff
from ctenhance.reconstruction.bank import CleanScan, build_sinograms, load_sinograms
from ctenhance.reconstruction.conditions import (
    QUARTER,
    Condition,
    ImageSampler,
    build_conditions,
    load_conditions,
)
from ctenhance.reconstruction.dgdiff import HU_SCALE
from ctenhance.reconstruction.drawing import Exposure, measure
from ctenhance.reconstruction.models import load_projection_model
from ctenhance.reconstruction.networks import DoublyGuided, build
from ctenhance.reconstruction.projection_pairs import ProjectionSampler, integral_error
from ctenhance.runtime import weights
from ctenhance.runtime.progress import Cancellable, Progress
from ctenhance.training.loop import (
    Ahead,
    Settings,
    Validate,
    first_process_first,
    fit,
    log_error,
    training_volumes,
    weights_entry,
)
from ctenhance.training.options import ImageTraining, ProjectionTraining

PROJECTION: dict[str, Any] = {"features": [24, 32, 48, 64, 96, 24]}
IMAGE: dict[str, Any] = {"features": [32, 48, 64, 96, 128, 32]}
#: Windows of every scan in the bank of guides.
DRAWS = 3
#: Doses and electronic variance of validation, and the side of the image that is looked at.
VALIDATION_DOSES, VALIDATION_ELECTRONIC, VALIDATION_SIDE = (0.5, 0.1, 0.025), 10.0, 256


def _sinograms(
    folder: str | Path,
    target: Path,
    exclude: Sequence[str],
    seed: int,
    progress: Progress | None,
    cancel: Cancellable | None,
) -> list[CleanScan]:
    with first_process_first():
        volumes = training_volumes(Path(folder), exclude)
        files = build_sinograms(volumes, target, seed, progress=progress, cancel=cancel)
    return load_sinograms(files)


def projection_validation(scans: Sequence[CleanScan]) -> Validate:
    """PSNR of the initial reconstructions of held-out scans at three doses: 'score' and one figure a dose."""

    def validate(network: nn.Module, device: torch.device) -> dict[str, float]:
        network.eval()
        values: dict[str, list[float]] = {f"{dose:g}": [] for dose in VALIDATION_DOSES}
        for index, scan in enumerate(scans):
            g = scan.geometry
            pixel = min(1.25 * scan.grid.pixel_mm, g.field_of_view_mm / VALIDATION_SIDE)
            grid = ImageGrid(VALIDATION_SIDE, VALIDATION_SIDE, pixel)
            clean = scan.three()
            reference = mu_to_hu(fbp(clean[1], g, grid, "hann"))
            for dose in VALIDATION_DOSES:
                exposure = Exposure(
                    torch.full((g.n_columns,), spdiff.NORMAL_QUANTA * dose), VALIDATION_ELECTRONIC
                )
                counts = measure(clean, exposure, torch.Generator().manual_seed(index))
                measured = spdiff.readings(counts, exposure.air, exposure.electronic, 1).to(device)
                with torch.inference_mode():
                    integrals = spdiff.denoise(network, measured)[0].cpu()
                image = mu_to_hu(fbp(integrals, g, grid, "hann"))
                values[f"{dose:g}"].append(psnr(image.numpy(), reference.numpy()))
        figures = {dose: sum(v) / len(v) for dose, v in values.items()}
        return {"score": sum(figures.values()) / len(figures), **figures}

    return validate


def train_projection(
    data_dir: str | Path,
    run_dir: str | Path,
    options: ProjectionTraining,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Path:
    """Train the projection network on the volumes of `data_dir`; returns the weights file of its best state.

    `options.validation` is a folder of volumes of other patients. Raises InputError where nothing can be
    trained on, Cancelled when asked to stop."""
    run_dir, architecture, seed = Path(run_dir), options.architecture, options.seed
    torch.manual_seed(seed)
    scans = _sinograms(data_dir, run_dir / "sinograms", options.exclude, seed, progress, cancel)
    validate = None
    if options.validation is not None:
        held_out = _sinograms(options.validation, run_dir / "validation", (), seed, progress, cancel)
        validate = projection_validation(held_out[:: max(1, len(held_out) // 6)])
    drawn_ahead = Ahead(ProjectionSampler(scans, options.crop, seed).batch)
    arguments = PROJECTION if architecture == "spdiff-compact" else {}
    network = build(architecture, arguments)
    if options.start is not None:
        network.load_state_dict(weights.load(options.start, [architecture])[0])

    def loss(model: nn.Module, step: int, rank: int, where: torch.device) -> torch.Tensor:
        drawn = drawn_ahead(options.batch, step, rank)
        integrals = spdiff.denoise(model, drawn.readings.to(where))
        return integral_error(integrals, drawn.integrals.to(where), drawn.scale.to(where))

    entry = weights_entry(architecture, arguments, sorted({scan.name for scan in scans}))
    return fit(network, loss, run_dir, Settings.of(options), entry, validate, progress, cancel)


def image_validation(conditions: Sequence[Condition]) -> Validate:
    """PSNR of held-out windows, and of the guides they were made from: 'score', 'initial' and 'low'."""
    before = {}
    for name in ("initial", "low"):
        guides = [(getattr(one, name)[1], one.reference) for one in conditions]
        figures = [psnr((guide / QUARTER).numpy(), (true / QUARTER).numpy()) for guide, true in guides]
        before[name] = sum(figures) / len(figures)

    def validate(network: nn.Module, device: torch.device) -> dict[str, float]:
        network.eval()
        values = []
        for index, one in enumerate(conditions):
            initial, low = (
                (image[None].float() / (QUARTER * HU_SCALE)).to(device) for image in (one.initial, one.low)
            )
            generator = torch.Generator().manual_seed(index)
            noise = torch.randn((1, 1, 1, *one.reference.shape), generator=generator)
            with torch.inference_mode():
                image = dgdiff.sample(network, initial, low, 1, noise.to(device))[0, 0].cpu() * HU_SCALE
            values.append(psnr(image.numpy(), (one.reference / QUARTER).numpy()))
        return {"score": sum(values) / len(values), **before}

    return validate


def train_image(
    data_dir: str | Path,
    run_dir: str | Path,
    options: ImageTraining,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Path:
    """Train the image network on guides that the projection network makes; returns its best weights' file.

    The clean sinograms are those of a `train_projection` in the same run folder, where there was one. All
    else as in `train_projection`."""
    run_dir, seed = Path(run_dir), options.seed
    torch.manual_seed(seed)
    chosen = load_projection_model(options.projection)
    scans = _sinograms(data_dir, run_dir / "sinograms", options.exclude, seed, progress, cancel)
    with first_process_first():
        files = build_conditions(
            scans, chosen.network, run_dir / "guides", DRAWS, seed, progress=progress, cancel=cancel
        )
    drawn_ahead = Ahead(ImageSampler(load_conditions(files), options.crop, seed).batch)
    validate = None
    if options.validation is not None:
        held_out = _sinograms(options.validation, run_dir / "validation", (), seed, progress, cancel)
        with first_process_first():
            kept = build_conditions(
                held_out, chosen.network, run_dir / "validation-guides", 1, seed, cancel=cancel
            )
        validate = image_validation(load_conditions(kept))
    network = build("doubly-guided", IMAGE)
    assert isinstance(network, DoublyGuided)
    if options.start is not None:
        tensors, entry = weights.load(options.start, ["doubly-guided", "twin"])
        if entry.architecture == "twin":
            dgdiff.start_from_enhancer(network, tensors)
        else:
            network.load_state_dict(tensors)

    def loss(model: nn.Module, step: int, rank: int, where: torch.device) -> torch.Tensor:
        drawn = drawn_ahead(options.batch, step, rank)
        low, initial, clean = (x.to(where) for x in (drawn.low, drawn.initial, drawn.reference))
        sd = dgdiff.noise_level(low[:, 1:2], initial[:, 1:2])
        level, noise = drawn.level.to(where), drawn.noise.to(where)
        state = torch.where(level == 1, initial[:, 1:2], clean) + level * sd * noise
        return log_error(model(dgdiff.network_input(initial, low, state, sd, level)), clean)

    entry = weights_entry("doubly-guided", IMAGE, sorted({scan.name for scan in scans}))
    return fit(network, loss, run_dir / "image", Settings.of(options), entry, validate, progress, cancel)
