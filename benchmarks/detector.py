"""A lesion detector before and after enhancement: does enhancement help a machine find what is there?

    python benchmarks/detector.py train DATA RUN --minutes 60 --validation PAIRS --exclude NAME …
    python benchmarks/detector.py run ../shared/data/ct RUN/best.safetensors --doses 1 0.25

The detector is a small U-Net (MONAI) that gives each pixel of the middle of three slices the odds that a
lesion is centred there. It is trained on lesions that are drawn into the training patients' pairs
(`lesions.py`), degraded and full-dose ones alike, and resumes where it was stopped. `run` draws lesions into
held-out patients before the dose is lowered, and marks each scan as it is and enhanced: sensitivity at one
false mark a scan, the best F1, and the free-response figure of merit (wAFROC) of the study package. Without
lesions the same scans are the normal cases.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.nets import BasicUNet
from scipy import ndimage
from torch import nn

from cases import HELD_OUT
from ctenhance.core.volume import CTVolume
from ctenhance.enhancement.training import course_of, read_pairs
from ctenhance.quality.guide import smoothed_guide
from ctenhance.runtime import weights
from ctenhance.runtime.errors import CTEnhanceError
from ctenhance.runtime.files import write_text
from ctenhance.study.design import Lesion as Truth
from ctenhance.study.statistics.roc import figure_of_merit, scored_marks, wafroc_kernel
from ctenhance.training.loop import Settings
from ctenhance.training.options import TwinTraining
from kept import Store, digest
from lesions import (
    DIAMETERS_MM,
    KINDS,
    Array,
    Lesion,
    Process,
    held_out,
    lowered,
    places,
    processes,
    weight,
)
from methods import our_models
from tables import Table

#: Pixel and slice distance (mm) that lesions are drawn for in training crops, whose own are not known.
NOMINAL_MM = (0.75, 0.75, 2.5)
#: SD in pixels of the target round a lesion's centre, the share of crops without any lesion, and the weight
#: of the few pixels that are one.
TARGET_PX, EMPTY, POSITIVE = 2.0, 0.3, 30.0
#: A mark hits within the lesion's radius and this (mm); marks below these odds are none.
TOLERANCE_MM, LEAST_ODDS = 3.0, 0.02
SCALE = 1000.0


class Detector(nn.Module):
    """Log odds `[batch, 1, y, x]` that a lesion is centred at a pixel of the middle of three slices."""

    def __init__(self, features: Sequence[int] = (16, 24, 32, 48, 64, 16)) -> None:
        super().__init__()
        self.body = BasicUNet(2, 3, 1, tuple(features), norm="instance")  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) - 4.0  # lesions are rare


def with_lesions(x: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Slices HU `[3, y, x]` with a lesion of any kind and size drawn in, or none, and the target `[y, x]`."""
    target = np.zeros(x.shape[1:], np.float32)
    smooth = ndimage.gaussian_filter(x[1], 2.0)
    kind = str(rng.choice(list(KINDS)))
    (low, high), contrast = KINDS[kind]
    where = np.argwhere(
        ndimage.uniform_filter(((smooth > low) & (smooth < high)).astype(np.float32), 7) > 0.9
    )
    if rng.random() < EMPTY or not len(where):
        return x, target
    y, column = (int(v) for v in where[rng.integers(len(where))])
    diameter = float(np.exp(rng.uniform(math.log(DIAMETERS_MM[0]), math.log(DIAMETERS_MM[-1]))))
    lesion = Lesion(kind, (1, y, column), diameter, int(rng.integers(2**31)))
    drawn = contrast * float(rng.uniform(0.7, 1.6)) * weight(lesion, x.shape, NOMINAL_MM)
    rows, columns = np.mgrid[: x.shape[1], : x.shape[2]]
    target = np.exp(-((rows - y) ** 2 + (columns - column) ** 2) / (2 * TARGET_PX**2))
    return x + drawn, target.astype(np.float32)


def train(data: Path, run: Path, options: TwinTraining, progress: Any = None) -> Path:
    """Train the detector; on validation its loss on drawn lesions decides."""
    held = [] if options.validation is None else read_pairs(Path(options.validation))
    taught = course_of(data, run, options, replace(Settings.of(options), learning_rate=1e-3), progress, None)

    def batch(stacks: Sequence[Array], seed: Any) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng(seed)
        pairs = [with_lesions(stack, rng) for stack in stacks]
        x, y = (np.stack([pair[k] for pair in pairs]).astype(np.float32) for k in (0, 1))
        return torch.from_numpy(x) / SCALE, torch.from_numpy(y)[:, None]

    def loss(model: nn.Module, step: int, rank: int, where: torch.device) -> torch.Tensor:
        drawn = taught.pairs(options.batch, step, rank)
        both = torch.cat([drawn.degraded[::2], drawn.reference[1::2]]).numpy() * SCALE
        x, y = batch(list(both), (options.seed, step, rank))
        return _loss(model(x.to(where)), y.to(where))

    def validate(model: nn.Module, device: torch.device) -> dict[str, float]:
        model.eval()
        found = []
        for number, (_, low, high) in enumerate(held):
            for z in range(1, len(low) - 1, 2):
                rows, columns = ((n - n % 32) for n in low.shape[1:])
                stacks = [volume[z - 1 : z + 2, :rows, :columns] for volume in (low, high)]
                x, y = batch(stacks, (number, z))
                with torch.no_grad():
                    found.append(float(_loss(model(x.to(device)), y.to(device))))
        return {"score": -float(np.mean(found))}

    return taught.run(Detector(), loss, "lesion-detector", {}, validate if held else None)


def _loss(odds: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(odds.float(), target, 1 + POSITIVE * target)


def marks(odds: Array, spacing: tuple[float, float, float]) -> list[dict[str, Any]]:
    """The local maxima of odds `[z, y, x]` from 0 to 1 as marks (mm, confidence to 100), greatest first; one
    within the reach of a greater one is none."""
    reach = [max(1, round(4.0 / s)) for s in spacing[::-1]]
    top = ndimage.maximum_filter(odds, [2 * n + 1 for n in reach])
    at = np.argwhere((odds == top) & (odds > LEAST_ODDS))
    found = [
        {
            "point": [float(v) for v in index[::-1] * np.array(spacing)],
            "confidence": 100 * float(odds[tuple(index)]),
        }
        for index in at
    ]
    return sorted(found, key=lambda mark: -mark["confidence"])


def froc(
    normal: Sequence[Sequence[dict[str, Any]]],
    diseased: Sequence[Sequence[dict[str, Any]]],
    truths: Sequence[Sequence[Truth]],
) -> dict[str, Any]:
    """Of marks on cases without and with lesions: sensitivity at one false mark a (normal) scan, the best F1
    over thresholds, and the wAFROC figure of merit with its jackknife interval."""
    false = [np.array([mark["confidence"] for mark in one], float) for one in normal]
    scored = [scored_marks(list(one), list(lesions)) for one, lesions in zip(diseased, truths, strict=True)]
    rated = np.concatenate([found for found, _ in scored])
    everything = np.sort(np.concatenate(false))[::-1]
    allowed = len(normal)
    threshold = everything[allowed] if len(everything) > allowed else -np.inf
    hit = np.isfinite(rated) & (rated > threshold)
    wrong = np.concatenate([more for _, more in scored])
    best = 0.0
    for level in np.unique(rated[np.isfinite(rated)]):
        true = int(np.sum(rated >= level))
        best = max(best, 2 * true / (true + int(np.sum(wrong >= level)) + len(rated)))
    highest = np.array([values.max() if len(values) else -np.inf for values in false])
    merit = figure_of_merit(wafroc_kernel(highest, [found for found, _ in scored]))
    return {
        "lesions": len(rated),
        "sensitivity": float(hit.mean()),
        "f1": best,
        "wafroc": merit.value,
        "limits": [merit.low, merit.high],
    }


def odds_of(detector: nn.Module, array: Array) -> Array:
    """Of a whole volume HU `[z, y, x]`, from 0 to 1."""
    result = np.zeros(array.shape, np.float32)
    rows, columns = array.shape[1:]
    with torch.inference_mode():
        for z in range(len(array)):
            near = array[[max(z - 1, 0), z, min(z + 1, len(array) - 1)]] / SCALE
            near = np.pad(near, ((0, 0), (0, -rows % 32), (0, -columns % 32)), mode="edge")
            found = detector(torch.from_numpy(near[None].astype(np.float32))).sigmoid()
            result[z] = found[0, 0, :rows, :columns].numpy()
    return result


def read_scan(
    volume: CTVolume, dose: float, detector: nn.Module, methods: Mapping[str, Process], seed: int
) -> dict[str, Any]:
    """Marks by method on a scan as it is and with lesions of all kinds and sizes, and where these are."""
    guide = smoothed_guide({"reference": volume.array}, volume.spacing)
    drawn, lesions = np.zeros_like(volume.array), []
    for kind, (_, contrast) in KINDS.items():
        for k, place in enumerate(places(guide, volume.spacing, kind, seed)[:12]):
            diameter = DIAMETERS_MM[k % len(DIAMETERS_MM)]
            one = Lesion(kind, place, diameter, 100 * seed + k)
            drawn += contrast * weight(one, drawn.shape, volume.spacing)
            x, y, z = np.array(place[::-1]) * np.array(volume.spacing)
            lesions.append([float(x), float(y), float(z), diameter / 2 + TOLERANCE_MM])
    found: dict[str, Any] = {"lesions": lesions}
    for group, more in (("normal", 0 * drawn), ("diseased", drawn)):
        low = lowered(volume.with_array(volume.array + more), dose, seed)
        found[group] = {
            name: marks(odds_of(detector, process(low)), volume.spacing) for name, process in methods.items()
        }
    return found


def measure(scans: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """FROC figures by method, of what `read_scan` found on several scans."""
    truths = [[Truth((x, y, z), radius) for x, y, z, radius in scan["lesions"]] for scan in scans]
    return {
        name: froc(*([scan[group][name] for scan in scans] for group in ("normal", "diseased")), truths)
        for name in scans[0]["normal"]
    }


def load(path: Path) -> nn.Module:
    """A trained detector. Raises InputError where the file is none."""
    tensors, entry = weights.load(path, ["lesion-detector"])
    network = Detector()
    weights.fill(network, tensors, entry)
    return network.eval()


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="what", required=True)
    one = kinds.add_parser("train")
    one.add_argument("data", type=Path)
    one.add_argument("run", type=Path)
    one.add_argument("--validation", type=Path)
    one.add_argument("--exclude", nargs="*", default=[])
    one.add_argument("--minutes", type=float, default=math.inf)
    one.add_argument("--steps", type=int, default=20000)
    one.add_argument("--batch", type=int, default=6)
    two = kinds.add_parser("run")
    two.add_argument("data", type=Path)
    two.add_argument("detector", type=Path)
    two.add_argument("--only", nargs="+", default=HELD_OUT)
    two.add_argument("--doses", type=float, nargs="+", default=[1.0, 0.25])
    two.add_argument("--slices", type=int, default=16)
    two.add_argument("--model", nargs="*", default=["enhance-twin"])
    two.add_argument("--seed", type=int, default=3)
    two.add_argument("--out", type=Path)
    given = parser.parse_args()
    try:
        _train(given) if given.what == "train" else _run(given)
    except CTEnhanceError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _train(given: argparse.Namespace) -> None:
    names = ("validation", "exclude", "minutes", "steps", "batch")
    options = TwinTraining(device="cpu", **{name: getattr(given, name) for name in names})
    print(train(given.data, given.run, options))


def _run(given: argparse.Namespace) -> None:
    volumes = held_out(given.data, given.only, given.slices)
    detector, models = load(given.detector), our_models([], None, given.model, 1)
    store = Store(None if given.out is None else given.out / "kept")
    entry = weights.load(given.detector, ["lesion-detector"])[1]
    keys = {"detector": entry.sha256, "models": [ours.key() for ours in models], "seed": given.seed}
    results, rows = {}, []
    for dose in given.doses:
        scans = []
        for number, volume in enumerate(volumes):
            print(f"dose {dose:g}: scan {number + 1} of {len(volumes)}", file=sys.stderr, flush=True)
            methods = processes(models, volume.spacing[2])
            key = {**keys, "data": digest(volume.array), "dose": dose}
            scans.append(store.facts(key, partial(read_scan, volume, dose, detector, methods, given.seed)))
        results[f"{dose:g}"] = found = measure(scans)
        for name, one in found.items():
            merit = f"{one['wafroc']:.3f}"
            if one["limits"][0] is not None:
                merit += f" [{one['limits'][0]:.3f}, {one['limits'][1]:.3f}]"
            figures = (str(one["lesions"]), f"{one['sensitivity']:.3f}", f"{one['f1']:.3f}", merit)
            rows.append((f"dose {dose:g}: {name}", *figures))
    header = ("dose: method", "lesions", "sensitivity at 1 false mark a scan", "best F1", "wAFROC")
    table = Table("The detector before and after", header, tuple(rows))
    print(table.text())
    if given.out is not None:
        write_text(given.out / "detector.json", json.dumps(results, indent=1) + "\n")
        write_text(given.out / "detector.md", table.markdown() + "\n")


if __name__ == "__main__":
    main()
