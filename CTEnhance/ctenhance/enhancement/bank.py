"""The bank that training pairs are drawn from: reference slices and projection-domain noise for each of them.

Projecting and filtering a slice takes about a second on a CPU, a training step a third of that for eight
crops. So the noise images are made once: for every slice, `REALISATIONS` times, a quantum and an electronic
noise image of the slice's own anatomy (see `physics.noise.noise_fields`), each time under another drawn
geometry, at full bandwidth. Dose, kernel and slice thickness are applied to them at each draw (`pairs.py`),
so that a few hundred slices give an unlimited number of pairs.

The bank also holds each slice without its noise, as far as non-local means can tell. The difference is the
scan's real noise, to be harvested for other slices of the same scan: simulated noise never has quite the
texture of a scanner's, and a network that can tell them apart learns to take out the one and to leave the
other, which is of no use on real scans (seen: validation fell while the training loss went on falling).

And it holds whole `routine` scans of the volume (`degrade`): what thick slices, motion, beam hardening, rings
and few views do to an image cannot be put together at each draw. They are drawn anew every `ROUTINE_SLICES`
slices, so that few volumes show many of them.

On disk: one safetensors file a volume, `hu` and `clean` int16 `[z, y, x]`, `routine` int16 and `quantum` and
`electronic` float16 `[realisation, z, y, x]`, the noise scaled to SD 1 in soft tissue, and the volume's facts
in the header.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy import ndimage

from ctenhance.core.padding import padding_to_air
from ctenhance.core.volume import CTVolume
from ctenhance.degradation import Chain
from ctenhance.physics.geometry import ParallelGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.noise import bowtie_fluence, noise_fields
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import replace_when_done
from ctenhance.runtime.progress import check
from ctenhance.training.loop import bank_names

#: What stands in the bank for padding; also the lowest value of the stored images.
AIR_HU = -1024.0
_HIGHEST_HU = 3071.0
_TENSORS = ("hu", "clean", "routine", "quantum", "electronic")
REALISATIONS = 2
#: Slices that one draw of the `routine` chain degrades.
ROUTINE_SLICES = 10
#: Shares of the scan's own dose that its `routine` scans have, evenly in the logarithm.
ROUTINE_DOSES = (0.1, 0.45)


@dataclass(frozen=True)
class BankFacts:
    """What a draw needs to know of a volume: SD in soft tissue of its own noise and of what of it was
    harvested (HU), and its grid (mm)."""

    name: str
    noise_hu: float
    harvested_hu: float
    pixel_mm: float
    spacing_mm: float


@dataclass(frozen=True)
class BankVolume:
    """One volume of the bank, in memory."""

    facts: BankFacts
    hu: torch.Tensor
    quantum: torch.Tensor
    electronic: torch.Tensor
    clean: torch.Tensor
    routine: torch.Tensor


def soft_tissue(hu: np.ndarray) -> np.ndarray:
    """Mask of flat soft tissue in a slice or volume `[..., y, x]`, from a smoothed copy (the body where
    there is none)."""
    sigma = (0,) * (hu.ndim - 2) + (2.5, 2.5)
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), sigma)
    flat = np.abs(smooth - ndimage.gaussian_filter(smooth, sigma)) < 12
    mask = (smooth > -20) & (smooth < 120) & flat
    return mask if mask.sum() > 500 else smooth > -300


def _tissue_or_all(image: np.ndarray) -> np.ndarray:
    """`soft_tissue` of a slice, or all of it where there is none: in a gap between parts of a body."""
    mask = soft_tissue(image)
    return mask if mask.any() else np.ones_like(mask)


def own_noise(hu: np.ndarray) -> float:
    """SD in HU of a volume's own noise in soft tissue: the mode of the local SD in 9 x 9 windows, over all
    slices.

    The mode and not the mean: edges and vessels only ever add to a local SD.
    """
    values = []
    for image in hu.astype(np.float32):
        mean = ndimage.uniform_filter(image, 9)
        variance = ndimage.uniform_filter(image * image, 9) - mean * mean
        values.append(np.sqrt(variance.clip(min=0))[soft_tissue(image)])
    sd = np.concatenate(values)
    counts, edges = np.histogram(sd, bins=np.arange(0.5, 150.5, 1.0))
    smooth = ndimage.gaussian_filter1d(counts.astype(float), 1.0)
    return float(edges[int(smooth.argmax())] + 0.5)


def _restoration() -> Any:
    try:
        from skimage import restoration
    except ImportError as error:
        raise InputError(
            "Training needs scikit-image: install it with pip install 'ctenhance[train]'."
        ) from error
    return restoration


def smooth_between_edges(image: np.ndarray, weight: float) -> np.ndarray:
    """A slice smoothed by total variation of strength `weight` (HU), which keeps edges (Rudin 1992)."""
    return _restoration().denoise_tv_chambolle(image, weight, max_num_iter=25)


def without_noise(image: np.ndarray, noise_hu: float) -> np.ndarray:
    """A slice without what non-local means takes for noise (Buades 2005: what it removes looks like noise).

    Where the difference is stronger than in soft tissue it is anatomy, and is scaled down to the noise's SD.
    """
    smooth = _restoration().denoise_nl_means(
        image, patch_size=5, patch_distance=6, h=0.9 * noise_hu, sigma=noise_hu, fast_mode=True
    )
    noise = image - smooth.astype(np.float32)
    typical = 1.1 * noise[_tissue_or_all(image)].std()
    local = np.sqrt(ndimage.uniform_filter(noise * noise, 9).clip(min=0))
    return image - noise * np.minimum(1, typical / np.maximum(local, 1e-3))


def _noise_pair(
    image: torch.Tensor, pixel_mm: float, rng: np.random.Generator, seed: int
) -> list[torch.Tensor]:
    """Quantum and electronic noise of one slice of a drawn scan, each scaled to SD 1 in soft
    tissue."""
    grid = ImageGrid.centred(image.shape, pixel_mm)
    scan = ParallelGeometry.covering(
        grid,
        n_views=int(rng.integers(500, 900)),
        pitch_mm=pixel_mm * float(rng.uniform(0.65, 1.05)),
    )
    bowtie = bowtie_fluence(scan, float(rng.uniform(0.2, 1.0)), float(rng.uniform(120, 180)))
    generator = torch.Generator().manual_seed(seed)
    fields = noise_fields(image[None], scan, grid, "ramp", bowtie, float(rng.uniform(0, 0.6)), generator)
    mask = torch.from_numpy(_tissue_or_all(image.numpy()))
    return [field[0] / field[0][mask].std() for field in fields]


def _routine(volume: CTVolume, rng: np.random.Generator, cancel: Any) -> torch.Tensor:
    """`routine` scans of a volume, int16 `[realisation, z, y, x]`, drawn anew every `ROUTINE_SLICES`."""
    draws = []
    for _ in range(REALISATIONS):
        parts = []
        for z in range(0, len(volume.array), ROUTINE_SLICES):
            part = replace(volume, array=volume.array[z : z + ROUTINE_SLICES])
            dose = float(np.exp(rng.uniform(*np.log(ROUTINE_DOSES))))
            chain = Chain.preset("routine", dose=dose).draw(part, int(rng.integers(2**31)))
            degraded = chain.apply(part, torch.device("cpu"), None, cancel).array
            parts.append(torch.from_numpy(degraded).clamp(-3000, 6000).round().to(torch.int16))
        draws.append(torch.cat(parts))
    return torch.stack(draws)


def write_bank_volume(path: Path, name: str, volume: CTVolume, seed: int, cancel: Any = None) -> None:
    """Make one volume's part of the bank at `path`; see the module's docstring.

    Slices beyond the body are left out: there is no tissue to measure noise by. Raises InputError for a
    volume that has no others.
    """
    body = [z for z, image in enumerate(volume.array) if soft_tissue(image).any()]
    if not body:
        raise InputError(f"'{name}' shows no tissue to train on: leave it out with --exclude {name}.")
    volume = replace(volume, array=volume.array[body[0] : body[-1] + 1].copy())
    padding_to_air(volume.array, AIR_HU)
    pixel_mm, spacing_mm = float(volume.spacing[0]), float(volume.spacing[2])
    rng = np.random.default_rng(seed)
    hu = torch.from_numpy(np.ascontiguousarray(volume.array)).clamp(AIR_HU, _HIGHEST_HU)
    shape = (REALISATIONS, *hu.shape)
    quantum, electronic = torch.empty(shape, dtype=torch.float16), torch.empty(shape, dtype=torch.float16)
    for z in range(hu.shape[0]):
        for r in range(REALISATIONS):
            check(cancel)
            q, e = _noise_pair(hu[z], pixel_mm, rng, int(rng.integers(2**31)))
            quantum[r, z], electronic[r, z] = q.half(), e.half()
    own = own_noise(hu.numpy())
    cleaned = []
    for image in hu.numpy():
        check(cancel)
        cleaned.append(without_noise(image, own))
    clean = torch.from_numpy(np.stack(cleaned))
    masks = torch.from_numpy(np.stack([soft_tissue(image) for image in hu.numpy()]))
    facts = BankFacts(name, own, float((hu - clean)[masks].std()), pixel_mm, spacing_mm)
    tensors = {"hu": hu, "clean": clean}
    tensors = {key: value.round().to(torch.int16) for key, value in tensors.items()}
    tensors |= {"quantum": quantum, "electronic": electronic}
    tensors["routine"] = _routine(volume, rng, cancel)
    with replace_when_done(path) as temporary:
        save_file(tensors, str(temporary), metadata={"facts": json.dumps(asdict(facts))})


def build_bank(
    files: Sequence[Path], folder: Path, seed: int = 0, progress: Any = None, cancel: Any = None
) -> list[Path]:
    """Bank files for all volumes of `files`, made where they do not exist yet; resumes where it was
    stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for i, (name, file) in enumerate(zip(bank_names(files), files, strict=True)):
        path = folder / f"{name}.safetensors"
        if not path.exists():
            write_bank_volume(path, name, CTVolume.read(file), seed + 1000 * i, cancel)
        written.append(path)
        if progress is not None:
            progress("noise bank", i + 1, len(files))
    return written


def load_bank(paths: Iterable[Path]) -> list[BankVolume]:
    """The bank's volumes, in memory. Raises InputError where a file is none of this bank's, or damaged."""
    volumes = []
    for path in paths:
        try:
            with safe_open(str(path), framework="pt") as file:
                facts = BankFacts(**json.loads((file.metadata() or {})["facts"]))
                volumes.append(BankVolume(facts, **{key: file.get_tensor(key) for key in _TENSORS}))
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise InputError(
                f"{path.name} is no file of a noise bank, or damaged: delete it and start the training again."
            ) from error
    if not volumes:
        raise InputError("The training data folder holds no volumes: name one with NIfTI or NRRD files.")
    return volumes
