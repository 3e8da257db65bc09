"""What the detail model sharpens, and what it makes up.

    python benchmarks/detail.py ../shared/data/ct --model runs/detail/best.safetensors --out results
    python benchmarks/detail.py ../shared/data/ct --model enhance-twin

Of the middle slices of held-out scans as they are: MTF50 of skin and lung edges, noise in soft tissue and
mean HU by tissue, each beside the input's. Of copies that are blurred, thick-sliced and noisy, whose sharp
original is known: PSNR, MTF50 and noise beside the original's. Of bars: how much of the modulation of a
scanned phantom (`phantom_acr*`, slice 0) and of computed ones is there. Of discs of known HU: how far edges
swing over and under (ringing). Of phantoms whose truth has no noise: structures that are in the image only.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from cases import HELD_OUT
from ctenhance.core.volume import CTVolume
from ctenhance.physics.phantom import chest_phantom
from ctenhance.quality.guide import smoothed_guide
from ctenhance.quality.metrics import psnr
from ctenhance.quality.noise import noise
from ctenhance.quality.sharpness import EDGES, edge_in, sharpness
from ctenhance.quality.tissue import tissue_bias
from ending import one_sentence
from lesions import Process, grain, held_out, invented, lowered, processes
from methods import our_models
from tables import NONE, Table, report

Array = np.ndarray

#: Middles (row, column) of the bars of the scanned phantom, half the side of what is measured of each
#: (pixels), and the width of a bar (mm): GE's quality phantom, whose narrowest two no routine kernel shows.
BARS = {1.6: (187, 308, 9), 1.3: (219, 274, 8), 1.0: (247, 249, 6), 0.8: (274, 226, 5), 0.6: (297, 205, 4)}
#: ... and a flat square beside them, where its noise is measured.
FLAT = (220, 190, 25)
#: Widths (mm) of computed bars, their contrast (HU), the blur (SD, mm) and the noise (SD, HU) on them.
COMPUTED_BARS_MM, CONTRASTS_HU, BLUR_MM, NOISE_HU = (1.4, 1.0, 0.8, 0.7), (1000.0, 250.0, 60.0), 0.5, 15.0
#: Blur (SD, pixels) and thickness (slices) of copies whose sharp original is known, and the dose taken of it.
COPY_BLUR_PX, COPY_SLICES, COPY_DOSE = 0.8, 3, 0.5
#: Pixel of what is computed (mm), its side in pixels, and how much finer it is drawn.
PIXEL_MM, SIDE, FINER = 0.7, 192, 4


def scan(volume: CTVolume, methods: Mapping[str, Process]) -> dict[str, Any]:
    """By method: MTF50 (1/mm) of skin and lung edges, noise and mean HU of a scan `[z, y, x]` as it is."""
    volumes = {name: process(volume.array) for name, process in methods.items()}
    found = _measured(volumes, smoothed_guide({"reference": volume.array}, volume.spacing), volume.spacing)
    guide = smoothed_guide({"reference": volume.array}, volume.spacing)
    for name, image in volumes.items():
        moved = tissue_bias({"before": volume.array, "after": image}, guide, volume.spacing)
        found[name]["hu"] = {tissue: one["change_HU"] for tissue, one in moved.items() if one is not None}
    return found


def copies(volume: CTVolume, methods: Mapping[str, Process], seed: int) -> dict[str, Any]:
    """By method: PSNR, MTF50 and noise of a blurred, thick-sliced and noisy copy, and of its sharp original,
    which is the scan on half of its matrix."""
    cut = [n // 2 * 2 for n in volume.array.shape[1:]]
    half = volume.array[:, : cut[0], : cut[1]]
    half = half.reshape(len(half), cut[0] // 2, 2, cut[1] // 2, 2).mean((2, 4)).astype(np.float32)
    x, y, z = volume.spacing
    spacing = (2 * x, 2 * y, z)
    low = ndimage.gaussian_filter(half, (0, COPY_BLUR_PX, COPY_BLUR_PX))
    low = ndimage.uniform_filter1d(low, COPY_SLICES, axis=0, mode="nearest")
    low = lowered(CTVolume(low, spacing), COPY_DOSE, seed)
    volumes = {name: process(low) for name, process in methods.items()} | {"original": half}
    found = _measured(volumes, smoothed_guide({"reference": half}, spacing), spacing)
    for name, image in volumes.items():
        if name != "original":
            found[name]["psnr"] = float(np.mean([psnr(a, b) for a, b in zip(image, half, strict=True)]))
    return found


def _measured(
    volumes: Mapping[str, Array], guide: Array, spacing: tuple[float, float, float]
) -> dict[str, Any]:
    edges, soft = sharpness(volumes, guide, spacing), noise(volumes, guide, spacing)["soft"]
    return {
        name: {
            "mtf50": {kind: (edges[kind] or {}).get(name, {}).get("mtf50_per_mm") for kind in EDGES},
            "noise_hu": soft and soft[f"{name}_HU"],
        }
        for name in volumes
    }


def modulation(image: Array, middle: tuple[int, int], half: int, noise_hu: float) -> float:
    """The amplitude of bars in a square of a slice HU `[y, x]`: the SD of it less its plane, without the
    noise's share (Droege and Morin 1982)."""
    part = image[middle[0] - half : middle[0] + half + 1, middle[1] - half : middle[1] + half + 1]
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    # within the diamond that bars at 45 degrees fill
    inside = np.abs(y) + np.abs(x) <= half
    basis = np.stack([np.ones(inside.sum()), y[inside], x[inside]], 1)
    values = part[inside].astype(np.float64)
    rest = values - basis @ np.linalg.lstsq(basis, values, rcond=None)[0]
    power = float((rest**2).sum() / (len(values) - 3))
    return math.sqrt(max(power - noise_hu**2, 0.0))


def scanned_bars(file: Path, methods: Mapping[str, Process]) -> dict[str, dict[str, float]]:
    """By method: noise, and by bar width the modulation, HU, of the scanned phantom's first slice."""
    plane = CTVolume.read(file).array[:1]
    result = {}
    for name, process in methods.items():
        image = process(plane)[0]
        y, x, half = FLAT
        own = float(image[y - half : y + half, x - half : x + half].std())
        result[name] = {"noise": own}
        for width, (row, column, reach) in BARS.items():
            result[name][f"{width:g} mm"] = modulation(image, (row, column), reach, own)
    return result


def _pooled(fine: Array) -> Array:
    rows, columns = (n // FINER for n in fine.shape)
    return fine.reshape(rows, FINER, columns, FINER).mean((1, 3)).astype(np.float32)


def computed(shape: str, size: float, contrast: float, seed: int) -> tuple[Array, Array]:
    """A slice HU `[1, y, x]` and its noise-free, unblurred truth: `bars` of this width (mm) at 45 degrees, or
    a `disc` of this radius, in soft tissue of 40 HU."""
    axis = (np.arange(SIDE * FINER) - SIDE * FINER / 2 + 0.5) * PIXEL_MM / FINER
    y, x = np.meshgrid(axis, axis, indexing="ij")
    if shape == "bars":
        inside = (
            (np.abs(x + y) < 17) & (np.abs(x - y) < 17) & (np.floor((x + y) / math.sqrt(2) / size) % 2 == 0)
        )
    else:
        inside = np.hypot(x, y) < size
    truth = 40 + contrast * inside.astype(np.float64)
    blurred = ndimage.gaussian_filter(truth, BLUR_MM * FINER / PIXEL_MM)
    rng = np.random.default_rng(seed)
    return _pooled(blurred)[None] + grain(rng, (1, SIDE, SIDE), NOISE_HU), _pooled(truth)[None]


def computed_bars(methods: Mapping[str, Process]) -> dict[str, dict[str, float]]:
    """By method: the modulation of computed bars, as a share of the truth's, by width and contrast."""
    result: dict[str, dict[str, float]] = {name: {} for name in methods}
    middle, half = (SIDE // 2, SIDE // 2), 14
    for contrast in CONTRASTS_HU:
        for width in COMPUTED_BARS_MM:
            noisy, truth = computed("bars", width, contrast, 1)
            whole = modulation(truth[0], middle, half, 0.0)
            for name, process in methods.items():
                image = process(noisy)[0]
                own = float(image[8:40, 8:40].std())
                result[name][f"{width:g} mm, {contrast:g} HU"] = modulation(image, middle, half, own) / whole
    return result


def ringing(methods: Mapping[str, Process]) -> dict[str, dict[str, dict[str, float | None]]]:
    """By method and contrast (HU): how far the mean profile of a disc's edge goes beyond its plateaus, within
    4 mm, as a share of the contrast, and its MTF50 (1/mm)."""
    result: dict[str, dict[str, dict[str, float | None]]] = {name: {} for name in methods}
    for contrast in (*CONTRASTS_HU, -900.0):
        noisy, _ = computed("disc", 35.0, contrast, 2)
        volumes = {name: process(noisy) for name, process in methods.items()}
        spacing = (PIXEL_MM, PIXEL_MM, 3.0)
        guide = smoothed_guide({"reference": noisy}, spacing)
        found = edge_in(volumes, guide, np.ones(noisy.shape, bool), spacing)
        for name in methods:
            if found is None:
                continue
            at, profile = np.array(found["distance_mm"]), np.array(found[name]["profile_HU"])
            low, high = (profile[(side * at > 4.5) & (side * at < 7)].mean() for side in (-1, 1))
            near = profile[np.abs(at) < 4]
            result[name][f"{contrast:g} HU"] = {
                "over": float((near.max() - high) / (high - low)),
                "under": float((low - near.min()) / (high - low)),
                "mtf50": found[name]["mtf50_per_mm"],
            }
    return result


def inventions(models: Sequence[Any], phantoms: int) -> dict[str, dict[str, float]]:
    """By method: blobs a slice that the truth of computed chests has not, of scans with little noise (15 HU)
    and of the truth itself."""
    counts: dict[str, dict[str, list[int]]] = {}
    for seed in range(phantoms):
        truth = chest_phantom(384, 384, 5, 0.9, 2.0, seed=10 + seed)
        noisy = truth.array + grain(np.random.default_rng(seed), truth.array.shape, NOISE_HU)
        for name, process in processes(models, truth.spacing[2]).items():
            for kind, array in {"of noise of 15 HU": noisy, "of the truth": truth.array}.items():
                pairs = zip(process(array)[1:-1], truth.array[1:-1], strict=True)
                found = [invented(one, other, truth.spacing[0]) for one, other in pairs]
                counts.setdefault(name, {}).setdefault(kind, []).extend(found)
    return {name: {kind: float(np.mean(v)) for kind, v in one.items()} for name, one in counts.items()}


def _shown(value: float | None, digits: int = 3) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _ratio(value: float | None, other: float | None) -> str:
    return NONE if value is None or not other else f"{value / other:.2f}"


def tables(results: Mapping[str, Any]) -> list[Table]:
    """All that `main` measured."""
    rows, copied = [], []
    for patient, found in results["scans"].items():
        first = found["scan itself"]
        for name, one in found.items():
            mtf = [f"{_shown(one['mtf50'][k])} ({_ratio(one['mtf50'][k], first['mtf50'][k])})" for k in EDGES]
            moved = [_shown(one["hu"].get(t), 1) for t in ("fat", "soft", "lung", "air", "bone")]
            rows.append((f"{patient}: {name}", *mtf, _shown(one["noise_hu"], 1), *moved))
    for patient, found in results["copies"].items():
        truth = found["original"]
        for name, one in found.items():
            mtf = [f"{_shown(one['mtf50'][k])} ({_ratio(one['mtf50'][k], truth['mtf50'][k])})" for k in EDGES]
            copied.append(
                (f"{patient}: {name}", _shown(one.get("psnr"), 2), *mtf, _shown(one["noise_hu"], 1))
            )
    header = ("patient: method", "MTF50 skin (x input)", "MTF50 lung (x input)", "noise HU")
    shown = [
        Table(
            "Held-out scans as they are",
            (*header, "fat", "soft", "lung", "air", "bone"),
            tuple(rows),
            "MTF50 in 1/mm, on the scan's own edges. Last columns: mean HU of tissues less the scan's.",
        ),
        Table(
            "Blurred, thick-sliced, noisy copies of known originals",
            ("patient: method", "PSNR dB", "MTF50 skin (x original)", "MTF50 lung (x original)", "noise HU"),
            tuple(copied),
        ),
    ]
    for title, key in (("Scanned bars: modulation, HU", "scanned bars"), ("Computed bars: share", "bars")):
        found = results.get(key)
        if found:
            columns = tuple(next(iter(found.values())))
            digits = 1 if key == "scanned bars" else 2
            lines = tuple((name, *(_shown(one[c], digits) for c in columns)) for name, one in found.items())
            shown.append(Table(title, ("method", *columns), lines))
    lines = tuple(
        (f"{contrast}: {name}", f"{one['over']:.1%}", f"{one['under']:.1%}", _shown(one["mtf50"]))
        for name, found in results["ringing"].items()
        for contrast, one in found.items()
    )
    shown.append(Table("Edges of discs", ("contrast: method", "over", "under", "MTF50 1/mm"), lines))
    lines = tuple((name, *(_shown(v, 2) for v in one.values())) for name, one in results["invented"].items())
    kinds = tuple(next(iter(results["invented"].values()), {}))
    shown.append(Table("Structures invented, a slice", ("method", *kinds), lines))
    return shown


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("data", type=Path)
    add("--only", nargs="+", default=HELD_OUT, help="parts of the names of the scans to use")
    add("--model", nargs="+", default=["enhance-detail"], help="registered models or weights files")
    add("--slices", type=int, default=8, help="of the middle of each scan")
    add("--phantoms", type=int, default=3, help="phantoms for invented structures")
    add("--out", type=Path)
    given = parser.parse_args()
    with one_sentence():
        models = our_models(
            [m for m in given.model if Path(m).suffix],
            None,
            [m for m in given.model if not Path(m).suffix],
            1,
        )
        results: dict[str, Any] = {"scans": {}, "copies": {}}
        for number, volume in enumerate(held_out(given.data, given.only, given.slices)):
            methods = processes(models, volume.spacing[2])
            name = given.only[number]
            print(name, file=sys.stderr, flush=True)
            results["scans"][name] = scan(volume, methods)
            results["copies"][name] = copies(volume, methods, number)
        methods = processes(models, 3.0)
        files = sorted(given.data.glob("phantom_acr*.nii.gz"))
        if files:
            results["scanned bars"] = scanned_bars(files[0], methods)
        results["bars"], results["ringing"] = computed_bars(methods), ringing(methods)
        results["invented"] = inventions(models, given.phantoms)
    found = tables(results)
    report(results, found, given.out, "detail")


if __name__ == "__main__":
    main()
