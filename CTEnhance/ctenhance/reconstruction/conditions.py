"""What the image network is trained on: normal-dose FBP slices with both guides, for drawn doses and kernels.

Each item of the bank is a window of a scan: `low` (l) and `initial` (r) `[3, y, x]`, `reference` `[y, x]`
(the FBP of the clean data with the same kernel), int16 in steps of a quarter HU. Made once, since projection
network and FBP cost seconds; a bank that was begun goes on where it stopped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ctenhance.physics.fbp import fbp
from ctenhance.physics.geometry import ScanGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.units import mu_to_hu
from ctenhance.reconstruction import spdiff
from ctenhance.reconstruction.bank import CleanScan
from ctenhance.reconstruction.dgdiff import HU_SCALE
from ctenhance.reconstruction.drawing import DOSES, Exposure, draw_exposure, measure
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import replace_when_done
from ctenhance.runtime.progress import check
from ctenhance.scan.projections import negative_log

QUARTER = 4.0
#: Side of a window in pixels, and drawn kernels with their shares.
WINDOW = 256
KERNELS = {"standard": 0.35, "hann": 0.15, "ramp": 0.15, "soft": 0.15, "shepp-logan": 0.1, "sharp": 0.1}


@dataclass(frozen=True)
class Condition:
    """One window: int16 `low`, `initial` `[3, y, x]` and `reference` `[y, x]` in quarter HU."""

    name: str
    low: torch.Tensor
    initial: torch.Tensor
    reference: torch.Tensor


def draw_window(rng: np.random.Generator, scan: ScanGeometry, grid: ImageGrid, side: int) -> ImageGrid:
    """A square of `side` pixels somewhere in the slice on `grid`, the pixels somewhat finer or coarser."""
    pixel = min(grid.pixel_mm * float(rng.uniform(0.85, 1.25)), scan.field_of_view_mm / side)
    spare = [max(0.0, n * grid.pixel_mm - side * pixel) / 2 for n in (grid.columns, grid.rows)]
    x, y = (c + float(rng.uniform(-s, s)) for c, s in zip(grid.center_mm, spare, strict=True))
    return ImageGrid(side, side, pixel, (x, y))


def guides(
    network: nn.Module | None,
    counts: torch.Tensor,
    exposure: Exposure,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Line integrals `[guide, slice, view, column]` of l and r from `counts` `[slice, view, column]`.

    Without a projection network there is l alone.
    """
    low = negative_log(counts, exposure.air.numpy())
    if network is None:
        return low[None]
    initial = []
    for z in range(len(counts)):
        measured = spdiff.readings(counts, exposure.air, exposure.electronic, z)
        with torch.inference_mode():
            initial.append(spdiff.sample(network, measured, 1, generator)[0])
    return torch.stack([low, torch.stack(initial)])


def build_conditions(
    scans: Sequence[CleanScan],
    network: nn.Module | None,
    folder: Path,
    draws: int,
    seed: int = 0,
    doses: tuple[float, float] = DOSES,
    progress: Any = None,
    cancel: Any = None,
) -> list[Path]:
    """Reconstruct `draws` windows of every scan into `folder`; returns the files. Those that are there stay.

    Raises Cancelled when asked to stop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    total = draws * len(scans)
    for number in range(total):
        # every scan once, then every scan again: an unfinished bank shows all patients
        draw, index = divmod(number, len(scans))
        target = folder / f"{scans[index].name}-{draw}.safetensors"
        files.append(target)
        if not target.exists():
            check(cancel)
            rng = np.random.default_rng((seed, 1, index, draw))
            _write(target, _condition(rng, scans[index], network, doses))
        if progress is not None:
            progress("guides", number + 1, total)
    return files


def _condition(
    rng: np.random.Generator, scan: CleanScan, network: nn.Module | None, doses: tuple[float, float]
) -> dict[str, torch.Tensor]:
    window = draw_window(rng, scan.geometry, scan.grid, WINDOW)
    kernel = str(rng.choice(list(KERNELS), p=list(KERNELS.values())))
    exposure = draw_exposure(rng, scan.geometry, doses)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    clean = scan.three()[: len(scan.integrals)]
    both = guides(network, measure(clean, exposure, generator), exposure, generator)
    sinograms = torch.cat([both.flatten(0, 1), clean[len(clean) // 2][None]])
    images = mu_to_hu(fbp(sinograms, scan.geometry, window, kernel))
    low, initial = (images[part * len(clean) :][: len(clean)] for part in (0, len(both) - 1))
    return {"low": low.expand(3, -1, -1), "initial": initial.expand(3, -1, -1), "reference": images[-1]}


def _write(target: Path, images: dict[str, torch.Tensor]) -> None:
    stored = {
        name: (image * QUARTER).round().clamp(-32768, 32767).to(torch.int16).contiguous()
        for name, image in images.items()
    }
    with replace_when_done(target) as temporary:
        save_file(stored, os.fspath(temporary))


def load_conditions(files: Sequence[Path]) -> list[Condition]:
    """The bank's windows, in memory. Raises InputError where a file is damaged or none is there."""
    conditions = []
    for path in files:
        try:
            with safe_open(os.fspath(path), framework="pt") as file:
                images = [file.get_tensor(name) for name in ("low", "initial", "reference")]
        except (SafetensorError, OSError) as error:
            raise InputError(f"The guides {path.name} in the bank are damaged: delete the file.") from error
        conditions.append(Condition(path.stem, *images))
    if not conditions:
        raise InputError("The bank of guides is empty: give volumes to train on.")
    return conditions


@dataclass(frozen=True)
class ImageBatch:
    """Guides `low`, `initial` `[batch, 3, y, x]` and `reference` `[batch, 1, y, x]` in units of 1000 HU;
    `noise` of unit variance like the reference, and the diffusion's relative `level` `[batch, 1, 1, 1]`, 1
    where the state starts from r."""

    low: torch.Tensor
    initial: torch.Tensor
    reference: torch.Tensor
    noise: torch.Tensor
    level: torch.Tensor


class ImageSampler:
    """Draws batches of crops, turned and mirrored. A batch depends on the seed, the bank and its step."""

    #: Share of draws that stand where sampling starts; the others are anywhere below.
    start = 0.7

    def __init__(self, conditions: Sequence[Condition], crop: int = 128, seed: int = 0) -> None:
        self.conditions, self.crop, self.seed = list(conditions), crop, seed

    def batch(self, size: int, step: int, rank: int = 0) -> ImageBatch:
        """The batch of `size` crops of training step `step` on process `rank`."""
        rng = np.random.default_rng((self.seed, step, rank))
        drawn = torch.stack([self._draw(rng) for _ in range(size)])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        noise = torch.randn(drawn[:, :1].shape, generator=generator)
        level = np.where(rng.random(size) < self.start, 1.0, rng.uniform(0.05, 1.0, size))
        levels = torch.tensor(level, dtype=torch.float32)[:, None, None, None]
        return ImageBatch(drawn[:, :3], drawn[:, 3:6], drawn[:, 6:], noise, levels)

    def _draw(self, rng: np.random.Generator) -> torch.Tensor:
        one = self.conditions[int(rng.integers(len(self.conditions)))]
        rows, columns = one.reference.shape
        side = min(self.crop, rows, columns)
        y, x = int(rng.integers(rows - side + 1)), int(rng.integers(columns - side + 1))
        order = [0, 1, 2] if rng.random() < 0.5 else [2, 1, 0]
        stack = torch.cat([one.low[order], one.initial[order], one.reference[None]])
        crop = stack[:, y : y + side, x : x + side].float() / (QUARTER * HU_SCALE)
        crop = torch.rot90(crop, int(rng.integers(4)), (1, 2))
        return crop.flip(2) if rng.random() < 0.5 else crop
