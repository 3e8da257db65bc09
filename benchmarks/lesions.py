"""What enhancement does to lesions that are known, since they were drawn.

    python benchmarks/lesions.py ../shared/data/ct --doses 0.5 0.25 0.1 --slices 8
    python benchmarks/lesions.py ../shared/data/ct --model enhance-twin enhance-diffusion --out results

Nodules and liver lesions of drawn shape, diameter and contrast are put into held-out patients' scans *before*
the dose is lowered. Then, by diameter and dose, for the scan itself and for each model:

- detectability: the area under the ROC curve of a channelised Hotelling observer, trained and tested on other
  places, for places with a lesion against places without one;
- contrast kept: the change that the lesion makes to the image, over the change that it made to the scan, with
  the same noise in both; and the share of lesions lost, which keep less than half of it;
- structures invented: on a phantom whose truth has no noise, blobs of 3 mm and more per slice that are in the
  image and not in the truth.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from cases import HELD_OUT, middle_slices
from ctenhance.core.volume import CTVolume
from ctenhance.degradation.chain import Chain
from ctenhance.degradation.dose import Dose
from ctenhance.physics.phantom import chest_phantom
from ctenhance.quality.guide import smoothed_guide
from ctenhance.quality.observer import area, ratings
from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.files import write_text
from ctenhance.study.statistics.roc import auc_kernel, figure_of_merit
from methods import our_models
from tables import Table

Array = np.ndarray

#: Range of the smoothed scan (HU) that a lesion lies in, and its contrast to that.
KINDS = {"liver": ((60.0, 140.0), -25.0), "lung": ((-950.0, -780.0), 350.0)}
DIAMETERS_MM = (4.0, 6.0, 10.0)
#: Side in mm of the images that the observer sees; places lie so far apart in a slice, and along z.
PATCH_MM, COLUMN_MM = 18.0, 13.0
#: Blur of a lesion's edge (SD, mm), and by how much its radius varies with direction.
EDGE_MM, BUMPS = 0.5, 0.2
#: Below this share of its contrast a lesion is lost.
LOST = 0.5
#: A blob: so far from the truth (HU) after smoothing by this SD (mm), over an area of a disc of 3 mm.
INVENTED_HU, SMOOTH_MM, BLOB_MM2 = 30.0, 1.0, 7.0

#: From a volume HU `[z, y, x]` to the enhanced one.
Process = Callable[[Array], Array]


@dataclass(frozen=True)
class Lesion:
    """A lesion at a voxel `[z, y, x]` of a scan."""

    kind: str
    place: tuple[int, int, int]
    diameter_mm: float
    seed: int


def weight(lesion: Lesion, shape: Sequence[int], spacing: tuple[float, float, float]) -> Array:
    """The share of each voxel `[z, y, x]` that the lesion fills (`spacing` x, y, z in mm).

    A ball whose radius varies smoothly with direction, with a blurred edge, and of the volume of a ball of
    its diameter; voxels are sampled three times an axis, so that thick slices show partial volumes."""
    rng = np.random.default_rng(lesion.seed)
    directions = rng.normal(size=(4, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    heights = rng.uniform(-BUMPS, BUMPS, 4) / 2
    reach = lesion.diameter_mm / 2 * (1 + BUMPS) + 3 * EDGE_MM
    step = np.array(spacing[::-1])
    margin = [math.ceil(reach / s) + 1 for s in step]
    fine = [(np.arange(-3 * m - 1, 3 * m + 2) / 3) * s for m, s in zip(margin, step, strict=True)]
    z, y, x = np.meshgrid(*fine, indexing="ij")
    distance = np.sqrt(z**2 + y**2 + x**2)
    unit = np.stack([z, y, x], -1) / np.maximum(distance, 1e-6)[..., None]
    bumps = 1 + ((unit @ directions.T) ** 2 * heights).sum(-1)
    radius, target = lesion.diameter_mm / 2, math.pi / 6 * lesion.diameter_mm**3
    for _ in range(4):  # the blur and the bumps add volume
        filled = 1 / (1 + np.exp((distance - radius * bumps) / (EDGE_MM / 1.7)))
        radius *= (target / (filled.sum() * np.prod(step / 3))) ** (1 / 3)
    size = [2 * m + 1 for m in margin]
    voxels = filled.reshape(size[0], 3, size[1], 3, size[2], 3).mean((1, 3, 5))
    whole = np.zeros(shape, np.float32)
    low = [p - m for p, m in zip(lesion.place, margin, strict=True)]
    there = tuple(slice(max(0, a), min(n, a + k)) for a, n, k in zip(low, shape, size, strict=True))
    whole[there] = voxels[tuple(slice(s.start - a, s.stop - a) for s, a in zip(there, low, strict=True))]
    return whole


def places(
    guide: Array, spacing: tuple[float, float, float], kind: str, seed: int
) -> list[tuple[int, int, int]]:
    """Voxels `[z, y, x]` with room for a patch in one tissue, as many as fit beside each other, mixed.

    Slices are staggered, so that neither lesions nor patches of one column come nearer than `COLUMN_MM`."""
    (low, high), _ = KINDS[kind]
    half = round(PATCH_MM / spacing[0] / 2)
    found = []
    for number, z in enumerate(range(0, len(guide), max(1, math.ceil(COLUMN_MM / 4 / spacing[2])))):
        inside = ((guide[z] > low) & (guide[z] < high)).astype(np.float32)
        # a quarter of the patch may be something else: vessels are what lesions are to be told from
        good = (ndimage.uniform_filter(inside, 2 * half) > 0.75) & (
            ndimage.uniform_filter(inside, half) > 0.95
        )
        down, right = ((0, 0), (half, half), (half, 0), (0, half))[number % 4]
        for y in range(half + down, len(inside) - half, 2 * half):
            for x in range(half + right, inside.shape[1] - half, 2 * half):
                if good[y, x]:
                    found.append((z, y, x))
    return [found[k] for k in np.random.default_rng(seed).permutation(len(found))]


def lowered(volume: CTVolume, dose: float, seed: int) -> Array:
    """The scan at this share of its dose and nothing else, HU."""
    if dose >= 1:
        return volume.array
    whole = Chain.preset("routine", dose)
    steps = tuple(one for one in whole.distributions if one.step is Dose)
    return Chain("dose", steps, True).draw(volume, seed).apply(volume).array


def patches(array: Array, at: Sequence[tuple[int, int, int]], side: int) -> Array:
    """Squares `[place, side, side]` round voxels."""
    half = side // 2
    return np.stack([array[z, y - half : y - half + side, x - half : x - half + side] for z, y, x in at])


def kept_contrast(changed: Array, drawn: Array, lesion: Array) -> float:
    """The change that lesions made to an image, over what they made to the scan (`drawn`): the slope of one
    on the other over the voxels that one `lesion` fills by half and more."""
    inside = np.abs(lesion) > 0.5 * np.abs(lesion).max()
    return float((changed[inside] * drawn[inside]).sum() / np.square(drawn[inside]).sum())


def invented(image: Array, truth: Array, pixel_mm: float) -> int:
    """Blobs in a slice HU `[y, x]` that its noise-free truth has not, away from the truth's edges."""
    smooth = SMOOTH_MM / pixel_mm
    difference = ndimage.gaussian_filter(image - truth, smooth)
    edges = ndimage.maximum_filter(ndimage.gaussian_gradient_magnitude(truth, smooth), round(3 / pixel_mm))
    blobs = (np.abs(difference) > INVENTED_HU) & (edges < 15) & (truth > -950)
    labels, count = ndimage.label(blobs)
    if not count:
        return 0
    sizes = ndimage.sum_labels(blobs, labels, np.arange(1, count + 1))
    return int(np.sum(np.asarray(sizes) * pixel_mm**2 >= BLOB_MM2))


def measure_patient(
    volume: CTVolume, dose: float, methods: dict[str, Process], seed: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """By method and by 'kind diameter': patches with and without lesions, and contrasts kept."""
    guide = smoothed_guide({"reference": volume.array}, volume.spacing)
    side = round(PATCH_MM / volume.spacing[0])
    drawn = np.zeros_like(volume.array)
    groups: dict[str, tuple[list[tuple[int, int, int]], list[tuple[int, int, int]], list[Array]]] = {}
    for kind, (_, contrast) in KINDS.items():
        free = places(guide, volume.spacing, kind, seed)
        parts = np.array_split(np.arange(len(free)), 2 * len(DIAMETERS_MM))
        for number, diameter in enumerate(DIAMETERS_MM):
            with_lesion, without = ([free[k] for k in parts[2 * number + j]] for j in (0, 1))
            if not with_lesion or not without:
                continue
            ones = []
            for k, place in enumerate(with_lesion):
                lesion = Lesion(kind, place, diameter, 1000 * seed + 100 * number + k)
                ones.append(contrast * weight(lesion, drawn.shape, volume.spacing))
                drawn += ones[-1]
            groups[f"{kind} {diameter:g} mm"] = with_lesion, without, ones
    bare, full = (lowered(volume.with_array(volume.array + more), dose, seed) for more in (0 * drawn, drawn))
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for name, process in methods.items():
        before, after = process(bare), process(full)
        result[name] = {
            group: {
                "present": patches(after, with_lesion, side),
                "absent": patches(after, without, side),
                "kept": [kept_contrast(after - before, drawn, one) for one in ones],
            }
            for group, (with_lesion, without, ones) in groups.items()
        }
    return result


def summary(found: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """By 'kind diameter' over patients: the observer's area with its interval, contrast kept, share lost."""
    result: dict[str, dict[str, Any]] = {}
    for group in dict.fromkeys(name for one in found for name in one):
        parts = [one[group] for one in found if group in one]
        side = min(part["present"].shape[-1] for part in parts)
        present, absent = (
            np.concatenate([_cut(part[key], side) for part in parts]) for key in ("present", "absent")
        )
        kept = np.concatenate([part["kept"] for part in parts])
        result[group] = {
            "lesions": len(kept),
            "kept": float(np.median(kept)),
            "lost": float(np.mean(kept < LOST)),
        }
        try:
            rated = ratings(present, absent)
        except InputError:
            continue  # too few places for the observer
        limits = figure_of_merit(auc_kernel(rated[1], rated[0]))
        result[group] |= {"area": area(*rated), "limits": [limits.low, limits.high]}
    return result


def _cut(images: Array, side: int) -> Array:
    start = (images.shape[-1] - side) // 2
    return images[:, start : start + side, start : start + side]


def held_out(data: Path, only: Sequence[str], slices: int) -> list[CTVolume]:
    """The middle slices of the scans of a folder that have these parts in their names, one each."""
    volumes = []
    for part in only:
        files = sorted(data.glob(f"*{part}*.nii.gz"))
        if len(files) != 1:
            raise InputError(f"{data.name} holds {len(files)} scans with '{part}' in the name, not 1.")
        volumes.append(middle_slices(CTVolume.read(files[0]), slices))
    return volumes


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("data", type=Path)
    add("--only", nargs="+", default=HELD_OUT, help="parts of the names of the scans to use")
    add("--doses", type=float, nargs="+", default=[1.0, 0.5, 0.25, 0.1])
    add("--slices", type=int, default=8, help="of the middle of each scan")
    add("--model", nargs="*", default=["enhance-twin"])
    add("--phantoms", type=int, default=2, help="phantoms for invented structures")
    add("--seed", type=int, default=3)
    add("--out", type=Path)
    try:
        _run(parser.parse_args())
    except CTEnhanceError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _run(given: argparse.Namespace) -> None:
    volumes = held_out(given.data, given.only, given.slices)
    models = our_models([], None, given.model, 1)
    results: dict[str, Any] = {}
    rows = []
    for dose in given.doses:
        by_method: dict[str, list[Any]] = {}
        for number, volume in enumerate(volumes):
            methods = processes(models, volume.spacing[2])
            for name, one in measure_patient(volume, dose, methods, given.seed + number).items():
                by_method.setdefault(name, []).append(one)
        for name, found in by_method.items():
            figures = summary(found)
            results.setdefault(f"{dose:g}", {})[name] = figures
            for group, values in figures.items():
                limits = values.get("limits")
                shown = "–" if limits is None else f"{values['area']:.3f}"
                if limits is not None and limits[0] is not None:
                    shown += f" [{limits[0]:.3f}, {limits[1]:.3f}]"
                kept = (f"{values['kept']:.2f}", f"{values['lost']:.0%}")
                rows.append((f"{group}, dose {dose:g}: {name}", str(values["lesions"]), shown, *kept))
    header = ("lesions: method", "number", "area under the ROC curve", "contrast kept", "lost")
    print(Table("Lesions drawn into held-out patients", header, tuple(rows)).text())
    results["invented"] = _invented(given, models)
    blobs = tuple((name, f"{count:.2f}") for name, count in results["invented"].items())
    print(Table("Structures invented, a slice", ("method at a quarter of the dose", "blobs"), blobs).text())
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        write_text(given.out / "lesions.json", json.dumps(results, indent=1) + "\n")


def processes(models: Sequence[Any], spacing_mm: float) -> dict[str, Process]:
    """What is done to a volume, by name: nothing, and each model."""

    def whole(ours: Any) -> Process:
        enhancer = ours.for_volume(spacing_mm)
        return lambda array: np.stack([enhancer(array, z) for z in range(len(array))])

    return {"scan itself": lambda array: array} | {ours.label: whole(ours) for ours in models}


def _invented(given: argparse.Namespace, models: Sequence[Any]) -> dict[str, float]:
    """Blobs a slice on phantoms at a quarter of a dose that leaves 15 HU."""
    counts: dict[str, list[int]] = {}
    for seed in range(given.phantoms):
        truth = chest_phantom(384, 384, 3, 0.9, 2.0, seed=10 + seed)
        rng = np.random.default_rng(seed)
        noisy = truth.with_array(truth.array + _grain(rng, truth.array.shape, 15.0))
        low = lowered(noisy, 0.25, seed)
        for name, process in processes(models, truth.spacing[2]).items():
            image = process(low)
            counts.setdefault(name, []).append(invented(image[1], truth.array[1], truth.spacing[0]))
    return {name: float(np.mean(values)) for name, values in counts.items()}


def _grain(rng: np.random.Generator, shape: Sequence[int], sd: float) -> Array:
    """Noise as a kernel leaves it, so that the scan's own dose can be told from it."""
    noise = rng.standard_normal(shape)
    noise = ndimage.gaussian_filter(noise, (0, 0.7, 0.7)) - ndimage.gaussian_filter(noise, (0, 2.5, 2.5))
    return (noise * (sd / noise.std())).astype(np.float32)


if __name__ == "__main__":
    main()
