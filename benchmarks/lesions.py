"""What enhancement does to lesions that are known, since they were drawn.

    python benchmarks/lesions.py ../shared/data/ct --doses 0.5 0.25 0.1 --slices 8
    python benchmarks/lesions.py ../shared/data/ct --model enhance-twin enhance-diffusion --out results

Nodules and liver lesions of drawn shape, diameter and contrast are put into held-out patients' scans *before*
the dose is lowered. Then, by diameter and dose, for the scan itself and for each model:

- detectability: the area under the ROC curve of a channelised Hotelling observer, trained and tested on other
  places, for places with a lesion against the same places without it; and how far above the scan's own;
- contrast kept: the change that the lesion makes to the image, over the change that it made to the scan, with
  the same noise in both; the share of lesions lost, which keep less than half of it; and the same by spatial
  frequency, the task transfer function at this contrast and noise;
- structures invented: on phantoms whose truth has no noise, blobs of 3 mm and more per slice that are in the
  image and not in the truth, those of them that are not in the scan either, and those of scans of other dose.

With `--out` each scan's results are kept at each dose and method: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from cases import HELD_OUT, middle_slices
from ctenhance.core.blend import with_faint_kept
from ctenhance.core.volume import CTVolume
from ctenhance.degradation.chain import Chain
from ctenhance.degradation.dose import Dose
from ctenhance.physics.phantom import chest_phantom
from ctenhance.quality.guide import smoothed_guide
from ctenhance.quality.metrics import psnr
from ctenhance.quality.observer import area, ratings
from ctenhance.runtime.errors import InputError
from ctenhance.study.statistics.roc import auc_kernel, figure_of_merit
from ending import one_sentence
from kept import Store, digest
from methods import our_models
from tables import Table, report

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
#: Bands of spatial frequency (cycles/mm) that the transfer is given for.
BANDS = ((0.05, 0.15), (0.15, 0.25), (0.25, 0.35), (0.35, 0.45))
RESAMPLES = 1000
WHOLE = "whole slices"
#: A blob: so far from the truth (HU) after smoothing by this SD (mm), over an area of a disc of 3 mm.
INVENTED_HU, SMOOTH_MM, BLOB_MM2 = 30.0, 1.0, 7.0

NOTE = (
    "Area: of a channelised Hotelling observer, with its jackknife interval over places; above the scan's: "
    "on the same places, by bootstrap. Kept: median share of a lesion's contrast; lost: lesions that keep "
    "less than half. Last columns: share of what a lesion adds to the scan that is kept, by frequency."
)

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


def invented(image: Array, truth: Array, pixel_mm: float, scan: Array | None = None) -> int:
    """Blobs in a slice HU `[y, x]` that its noise-free truth has not, away from the truth's edges; with the
    `scan` that the image was made of only those of which it shows nothing: less than half of the blob's own
    difference, on the mean."""
    smooth = SMOOTH_MM / pixel_mm
    difference = ndimage.gaussian_filter(image - truth, smooth)
    edges = ndimage.maximum_filter(ndimage.gaussian_gradient_magnitude(truth, smooth), round(3 / pixel_mm))
    blobs = (np.abs(difference) > INVENTED_HU) & (edges < 15) & (truth > -950)
    labels, count = ndimage.label(blobs)
    if not count:
        return 0
    every = np.arange(1, count + 1)
    found = np.asarray(ndimage.sum_labels(blobs, labels, every)) * pixel_mm**2 >= BLOB_MM2
    if scan is not None:
        own = ndimage.gaussian_filter(scan - truth, smooth)
        in_scan, in_image = (np.asarray(ndimage.mean(part, labels, every)) for part in (own, difference))
        found &= in_scan / in_image < 0.5
    return int(found.sum())


def transfers(changed: Array, drawn: Array, pixel_mm: float) -> Array:
    """What is to be summed over lesions for their transfer by band `[2, band]`: the cross spectrum of what
    they made of the image and of the scan (patches `[y, x]`), and the spectrum of the latter."""
    f = np.fft.fftfreq(drawn.shape[-1], pixel_mm)
    radius = np.hypot(f[:, None], f[None, :])
    truth = np.fft.fft2(drawn)
    both = (np.fft.fft2(changed) * truth.conj()).real, np.abs(truth) ** 2
    return np.array([[part[(radius >= a) & (radius < b)].sum() for a, b in BANDS] for part in both])


#: By 'kind diameter': patches with and without lesions, contrasts kept, `transfers`; under `WHOLE` the PSNR.
Groups = dict[str, dict[str, Array]]


def measure_patient(
    volume: CTVolume,
    dose: float,
    methods: Mapping[str, Process],
    seed: int,
    store: Store | None = None,
    keys: Mapping[str, Any] | None = None,
) -> dict[str, Groups]:
    """By method (and, for `store`, its key): what its images show of the lesions that are drawn."""
    guide = smoothed_guide({"reference": volume.array}, volume.spacing)
    side = round(PATCH_MM / volume.spacing[0])
    drawn = np.zeros_like(volume.array)
    groups: dict[str, tuple[list[tuple[int, int, int]], list[Array]]] = {}
    for kind, (_, contrast) in KINDS.items():
        free = places(guide, volume.spacing, kind, seed)
        for number, diameter in enumerate(DIAMETERS_MM):
            at = free[number :: len(DIAMETERS_MM)]
            ones = []
            for k, place in enumerate(at):
                lesion = Lesion(kind, place, diameter, 1000 * seed + 100 * number + k)
                ones.append(contrast * weight(lesion, drawn.shape, volume.spacing))
                drawn += ones[-1]
            if at:
                groups[f"{kind} {diameter:g} mm"] = at, ones

    @cache
    def inputs() -> tuple[Array, Array]:
        bare, full = (lowered(volume.with_array(volume.array + m), dose, seed) for m in (0 * drawn, drawn))
        return bare, full

    def run(process: Process) -> dict[str, Array]:
        before, after = (process(array) for array in inputs())
        found: dict[str, Array] = {}
        for group, (at, ones) in groups.items():
            images = {"present": patches(after, at, side), "absent": patches(before, at, side)}
            changed, truth = images["present"] - images["absent"], patches(drawn, at, side)
            pairs = zip(changed, truth, strict=True)
            images["transfer"] = np.array([transfers(one, other, volume.spacing[0]) for one, other in pairs])
            images["kept"] = np.array([kept_contrast(after - before, drawn, one) for one in ones])
            found |= {f"{group}|{name}": values for name, values in images.items()}
        found[f"{WHOLE}|psnr"] = np.array([psnr(*pair) for pair in zip(before, volume.array, strict=True)])
        return found

    store, facts = store or Store(None), {"data": digest(volume.array, drawn), "dose": dose, "seed": seed}
    result: dict[str, Groups] = {}
    for name, process in methods.items():
        flat = store.arrays({**facts, "method": (keys or {}).get(name, name)}, lambda p=process: run(p))
        found: Groups = {}
        for key, values in flat.items():
            group, _, what = key.partition("|")
            found.setdefault(group, {})[what] = values
        result[name] = found
    return result


def summary(found: Sequence[Groups], base: Mapping[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """By 'kind diameter' over patients: the observer's area with its interval, and how far it is above that
    of `base` (the `summary` of another method on the same places); contrast kept, share lost, transfer."""
    result: dict[str, dict[str, Any]] = {}
    for group in dict.fromkeys(name for one in found for name in one if name != WHOLE):
        parts = [one[group] for one in found if group in one]
        side = min(part["present"].shape[-1] for part in parts)
        present, absent = (
            np.concatenate([_cut(part[key], side) for part in parts]) for key in ("present", "absent")
        )
        kept = np.concatenate([part["kept"] for part in parts])
        cross, power = np.concatenate([part["transfer"] for part in parts]).sum(0)
        result[group] = {
            "lesions": len(kept),
            "kept": float(np.median(kept)),
            "lost": float(np.mean(kept < LOST)),
            "transfer": (cross / power).tolist(),
        }
        try:
            rated = ratings(present, absent)
        except InputError:
            continue  # too few places for the observer
        limits = figure_of_merit(auc_kernel(rated[1], rated[0]))
        result[group] |= {"area": area(*rated), "limits": [limits.low, limits.high], "ratings": rated}
        if base is not None:
            result[group]["gain"] = _gain(rated, base[group]["ratings"])
    return result


def _gain(rated: tuple[Array, Array], other: tuple[Array, Array]) -> list[float]:
    """The area of ratings less that of others of the same places, and its 95 % limits by bootstrap over
    places."""
    rng, count = np.random.default_rng(0), len(rated[0])
    drawn = []
    for _ in range(RESAMPLES):
        at = rng.integers(count, size=count)
        drawn.append(area(rated[0][at], rated[1][at]) - area(other[0][at], other[1][at]))
    return [area(*rated) - area(*other), *(float(v) for v in np.quantile(drawn, (0.025, 0.975)))]


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
    add("--slices", type=int, default=24, help="of the middle of each scan")
    add("--model", nargs="*", default=["enhance-twin"])
    add("--phantoms", type=int, default=8, help="phantoms for invented structures")
    add("--seed", type=int, default=3)
    add("--out", type=Path)
    with one_sentence():
        _run(parser.parse_args())


def _run(given: argparse.Namespace) -> None:
    volumes = held_out(given.data, given.only, given.slices)
    models = our_models([], None, given.model, 1)
    keys = {ours.label: ours.key() for ours in models}
    store = Store(None if given.out is None else given.out / "kept")
    results: dict[str, Any] = {"doses": {}}
    rows, likeness = [], []
    for dose in given.doses:
        by_method: dict[str, list[Groups]] = {}
        for number, volume in enumerate(volumes):
            methods = processes(models, volume.spacing[2])
            measured = measure_patient(volume, dose, methods, given.seed + number, store, keys)
            print(f"dose {dose:g}: scan {number + 1} of {len(volumes)}", file=sys.stderr, flush=True)
            for name, one in measured.items():
                by_method.setdefault(name, []).append(one)
        first = next(iter(by_method))
        base = summary(by_method[first])
        for name, found in by_method.items():
            figures = base if name == first else summary(found, base)
            rows += [
                (f"{group}, dose {dose:g}: {name}", *_cells(values)) for group, values in figures.items()
            ]
            results["doses"].setdefault(f"{dose:g}", {})[name] = figures
            if dose < 1:  # at full dose the scan is its own reference
                values = [float(one[WHOLE]["psnr"].mean()) for one in found]
                results.setdefault("psnr", {}).setdefault(f"{dose:g}", {})[name] = values
                likeness.append((f"dose {dose:g}: {name}", *(f"{value:.2f}" for value in values)))
    for figures in (one for found in results["doses"].values() for one in found.values()):
        for values in figures.values():
            values.pop("ratings", None)
    bands = [f"{(a + b) / 2:g}/mm" for a, b in BANDS]
    header = (
        "lesions: method",
        "number",
        "area under the ROC curve",
        "above the scan's",
        "kept",
        "lost",
        *bands,
    )
    tables = [Table("Lesions drawn into held-out patients", header, tuple(rows), NOTE)]
    tables.append(Table("PSNR without lesions, dB", ("dose: method", *given.only), tuple(likeness)))
    results["invented"] = _invented(given, models)
    blobs = tuple((name, *(f"{n:.2f}" for n in counts)) for name, counts in results["invented"].items())
    header = ("dose: method", "blobs", "not in the scan either")
    tables.append(Table("Structures invented, a slice", header, blobs))
    report(results, tables, given.out, "lesions")


def _cells(values: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of the table, but for its name."""

    def shown(value: float, limits: Sequence[float | None], sign: str = "") -> str:
        there = all(limit is not None for limit in limits)
        return f"{value:{sign}.3f}" + (f" [{limits[0]:{sign}.3f}, {limits[1]:{sign}.3f}]" if there else "")

    return (
        str(values["lesions"]),
        shown(values["area"], values["limits"]) if "area" in values else "–",
        shown(values["gain"][0], values["gain"][1:], "+") if "gain" in values else "–",
        f"{values['kept']:.2f}",
        f"{values['lost']:.1%}",
        *(f"{value:.2f}" for value in values["transfer"]),
    )


def processes(models: Sequence[Any], spacing_mm: float) -> dict[str, Process]:
    """What is done to a volume, by name: nothing, and each model."""

    def whole(ours: Any) -> Process:
        enhancer = ours.for_volume(spacing_mm)
        return lambda array: np.stack([enhancer(array, z) for z in range(len(array))])

    return {"scan itself": lambda array: array} | {ours.label: whole(ours) for ours in models}


def faint_kept(process: Process, share: float, spacing: tuple[float, float, float]) -> Process:
    """The same with `--keep-faint` of this share."""
    return lambda array: array + with_faint_kept(process(array) - array, share, spacing)


def _invented(given: argparse.Namespace, models: Sequence[Any]) -> dict[str, list[float]]:
    """Blobs a slice on phantoms at a quarter and at half of a dose that leaves 15 HU, and how many of them
    are not in the scan either. Noise alone makes some: scans of other doses say how to read them."""
    counts: dict[str, list[tuple[int, int]]] = {}
    for seed in range(given.phantoms):
        truth = chest_phantom(384, 384, 5, 0.9, 2.0, seed=10 + seed)
        rng = np.random.default_rng(seed)
        noisy = truth.with_array(truth.array + grain(rng, truth.array.shape, 15.0))
        images = {"full dose": (noisy.array, noisy.array)}
        for dose in (0.5, 0.25):
            low = lowered(noisy, dose, seed)
            enhanced = {name: process(low) for name, process in processes(models, truth.spacing[2]).items()}
            images |= {f"dose {dose:g}: {name}": (image, low) for name, image in enhanced.items()}
        for name, parts in images.items():
            inner = (array[1:-1] for array in (*parts, truth.array))
            for image, low, other in zip(*inner, strict=True):
                found = (
                    invented(image, other, truth.spacing[0]),
                    invented(image, other, truth.spacing[0], low),
                )
                counts.setdefault(name, []).append(found)
    return {name: [float(value) for value in np.mean(found, 0)] for name, found in counts.items()}


def grain(rng: np.random.Generator, shape: Sequence[int], sd: float) -> Array:
    """Noise as a kernel leaves it, so that the scan's own dose can be told from it."""
    noise = rng.standard_normal(shape)
    noise = ndimage.gaussian_filter(noise, (0, 0.7, 0.7)) - ndimage.gaussian_filter(noise, (0, 2.5, 2.5))
    return (noise * (sd / noise.std())).astype(np.float32)


if __name__ == "__main__":
    main()
