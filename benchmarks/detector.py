"""A lesion detector before and after enhancement: does enhancement help a machine find what is there?

    python benchmarks/detector.py train DATA RUN --minutes 60 --exclude NAME …
    python benchmarks/detector.py run ../shared/data/ct RUN/best.safetensors --doses 1 0.25

The detector is a small U-Net (MONAI) that gives, at every second pixel of the middle of three slices, the
odds that a lesion of each kind is centred there. It is trained on faint lesions (`CONTRASTS`) drawn into the
training patients' slices: full-dose, degraded, and degraded and enhanced ones in turn, so that none is
strange to it; it resumes where it was stopped. `run` draws lesions into held-out patients before the dose is
lowered, and marks each scan as it is and enhanced: the free-response curve, sensitivity at one false mark a
scan, the best F1, and the figure of merit (wAFROC) of the study package. Without lesions the same scans are
the normal cases.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
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
from ctenhance.enhancement.models import HU_SCALE
from ctenhance.enhancement.networks import build
from ctenhance.enhancement.training import course_of
from ctenhance.quality.guide import smoothed_guide
from ctenhance.runtime import weights
from ctenhance.runtime.files import replace_when_done, write_text
from ctenhance.study.design import Lesion as Truth
from ctenhance.study.statistics.roc import figure_of_merit, scored_marks, wafroc_kernel
from ctenhance.training.loop import Ahead, Settings
from ctenhance.training.options import TwinTraining
from ending import one_sentence
from kept import Store, digest
from lesions import (
    DIAMETERS_MM,
    KINDS,
    RESAMPLES,
    Array,
    Lesion,
    Process,
    faint_kept,
    held_out,
    lowered,
    places,
    processes,
    weight,
)
from methods import our_models
from tables import Table

#: What the detector is to find, by kind (`lesions.KINDS`): contrasts (HU) at which the dose decides.
CONTRASTS = {"liver": (-60.0, -25.0), "lung": (100.0, 350.0)}
#: Pixel and slice distance (mm) that lesions are drawn for in training crops, whose own are not known.
PIXELS_MM, SLICES_MM = (0.6, 1.0), (1.0, 5.0)
#: Lesions drawn into a crop at most, pixels between them, shapes that are drawn once, share of empty crops.
MOST, APART, SHAPES, EMPTY = 5, 20, 240, 0.25
#: The odds are given at every second pixel; SD in these of the target round a lesion's centre.
STRIDE, TARGET_PX = 2, 1.5
#: Of the target, what only the pixels round a centre have: one to four, as it lies on or between them.
CENTRE = 0.85
#: A mark hits within the lesion's radius and this (mm); marks below these odds are none.
TOLERANCE_MM, LEAST_ODDS = 3.0, 0.005
#: The method that is none, as `lesions.processes` calls it.
SCAN = "scan itself"
#: False marks a scan that sensitivities are given at; lesions of a kind that are drawn into a scan at most.
FALSE_MARKS, MOST_DRAWN = (0.25, 0.5, 1, 2, 4, 8, 16), 45
NOTE = (
    "Above: the difference of the sensitivities on the same lesions, with its 95 % limits by bootstrap over "
    "lesions, at each one's own threshold; sensitivity by diameter; wAFROC with its interval (jackknife)."
)
#: Middle and half width (HU) of the windows that the network sees slices through.
WINDOWS = ((80.0, 200.0), (-850.0, 400.0))


class Detector(nn.Module):
    """Log odds `[batch, kind, y / STRIDE, x / STRIDE]` that a lesion is centred there in the middle of three
    slices in units of 1000 HU. Its norms keep the statistics of the training: a whole slice with its air is
    seen as crops were."""

    def __init__(self, features: Sequence[int] = (24, 32, 48, 64, 96, 24)) -> None:
        super().__init__()
        inputs = 3 * len(WINDOWS) * STRIDE**2
        self.body = BasicUNet(2, inputs, len(CONTRASTS), tuple(features), norm="batch")  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        windowed = [((x * HU_SCALE - middle) / half).clamp(-1, 1) for middle, half in WINDOWS]
        return self.body(F.pixel_unshuffle(torch.cat(windowed, 1), STRIDE)) - 4.0  # lesions are rare


@cache
def shapes(seed: int) -> list[Array]:
    """Lesions `[3, y, x]` of all sizes, the share of each voxel that they fill, to be drawn from."""
    rng, found = np.random.default_rng(seed), []
    for number in range(SHAPES):
        diameter = float(np.exp(rng.uniform(math.log(DIAMETERS_MM[0]), math.log(DIAMETERS_MM[-1]))))
        pixel, distance = rng.uniform(*PIXELS_MM), np.exp(rng.uniform(*np.log(SLICES_MM)))
        one = Lesion("", (1, 16, 16), diameter, number)
        found.append(weight(one, (3, 33, 33), (pixel, pixel, float(distance))))
    return found


def with_lesions(x: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Slices HU `[3, y, x]` with some lesions drawn in, or none, and the target
    `[kind, y / STRIDE, x / STRIDE]`."""
    drawn = np.zeros(x.shape, np.float32)
    size = [n // STRIDE for n in x.shape[1:]]
    target = np.zeros((len(CONTRASTS), *size), np.float32)
    rows, columns = np.mgrid[: size[0], : size[1]]
    if rng.random() < EMPTY:
        return x, target
    smooth = ndimage.gaussian_filter(x[1], 2.0)
    taken = np.zeros(smooth.shape, bool)
    half = 16
    for number, (kind, contrasts) in enumerate(CONTRASTS.items()):
        (low, high), _ = KINDS[kind]
        inside = ndimage.uniform_filter(((smooth > low) & (smooth < high)).astype(np.float32), 7) > 0.9
        for _ in range(int(rng.integers(1, MOST + 1))):
            free = np.argwhere(inside & ~taken)
            if not len(free):
                break
            y, column = (int(v) for v in free[rng.integers(len(free))])
            shape = np.rot90(shapes(0)[rng.integers(SHAPES)], int(rng.integers(4)), (1, 2))
            top, left = max(0, y - half), max(0, column - half)
            part = drawn[:, top : y + half + 1, left : column + half + 1]
            start = (top - y + half, left - column + half)
            part += (
                rng.uniform(*contrasts)
                * shape[:, start[0] :, start[1] :][:, : part.shape[1], : part.shape[2]]
            )
            near = np.hypot(rows - y / STRIDE, columns - column / STRIDE)
            target[number] = np.maximum(target[number], np.exp(-(near**2) / (2 * TARGET_PX**2)))
            taken[max(0, y - APART) : y + APART, max(0, column - APART) : column + APART] = True
    return x + drawn, target


def train(data: Path, run: Path, options: TwinTraining, progress: Any = None) -> Path:
    """Train the detector on full-dose, degraded and enhanced slices in turn, so that each is what it knows;
    the last state is kept."""
    settings = replace(Settings.of(options), learning_rate=2e-3, validate_every=200)
    taught = course_of(data, run, options, settings, progress, None)
    enhance = weights.load_model(weights.default_name("enhance"), ["twin"], build).network

    def draw(size: int, step: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        drawn = taught.sampler.batch(size, step, rank)
        rng = np.random.default_rng((options.seed, step, rank))
        images, targets = [], []
        for k in range(size):
            full = (k + step) % 3 == 0
            stack = (drawn.reference if full else drawn.degraded)[k].numpy() * HU_SCALE
            image, target = with_lesions(stack, rng)
            x = torch.from_numpy(image.astype(np.float32)) / HU_SCALE
            if (k + step) % 3 == 2:
                with torch.no_grad():
                    near = torch.stack([x[[max(z - 1, 0), z, min(z + 1, 2)]] for z in range(3)])
                    x = enhance(near)[:, 0]
            images.append(x)
            targets.append(torch.from_numpy(target))
        return torch.stack(images), torch.stack(targets)

    ahead = Ahead(draw)

    def loss(model: nn.Module, step: int, rank: int, where: torch.device) -> torch.Tensor:
        x, y = ahead(options.batch, step, rank)
        return focal(model(x.to(where)), y.to(where))

    return taught.run(Detector(), loss, "lesion-detector", {}, None)


def focal(odds: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The penalty-reduced focal loss of centre heat maps (Law and Deng 2018, equation 1; a lesion's
    centre is where the target is above `CENTRE`), a pixel of a centre."""
    centre = target > CENTRE
    true, false = F.logsigmoid(odds.float()), F.logsigmoid(-odds.float())
    found = (false.exp().square() * true)[centre].sum()
    missed = ((1 - target) ** 4 * true.exp().square() * false)[~centre].sum()
    return -(found + missed) / centre.sum().clamp(min=1)


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
    """Of marks on cases without and with lesions: the sensitivities at `FALSE_MARKS` a (normal) scan, the
    best F1 over thresholds, and the wAFROC figure of merit with its jackknife interval; `found`: of each
    lesion whether it is marked at one false mark a scan."""
    false = [np.array([mark["confidence"] for mark in one], float) for one in normal]
    scored = [scored_marks(list(one), list(lesions)) for one, lesions in zip(diseased, truths, strict=True)]
    rated = np.concatenate([found for found, _ in scored])
    everything = np.sort(np.concatenate(false))[::-1]

    def above(marks_a_scan: float) -> Array:
        allowed = round(marks_a_scan * len(normal))
        threshold = everything[allowed] if len(everything) > allowed else -np.inf
        return np.isfinite(rated) & (rated > threshold)

    wrong = np.concatenate([more for _, more in scored])
    best = 0.0
    for level in np.unique(rated[np.isfinite(rated)]):
        true = int(np.sum(rated >= level))
        best = max(best, 2 * true / (true + int(np.sum(wrong >= level)) + len(rated)))
    highest = np.array([values.max() if len(values) else -np.inf for values in false])
    merit = figure_of_merit(wafroc_kernel(highest, [found for found, _ in scored]))
    return {
        "lesions": len(rated),
        "sensitivity": float(above(1).mean()),
        "curve": [float(above(count).mean()) for count in FALSE_MARKS],
        "found": above(1).tolist(),
        "f1": best,
        "wafroc": merit.value,
        "limits": [merit.low, merit.high],
    }


def odds_of(detector: nn.Module, array: Array) -> Array:
    """Of a whole volume HU `[z, y, x]`, from 0 to 1: `[kind, z, y / STRIDE, x / STRIDE]`."""
    rows, columns = (-(-n // STRIDE) for n in array.shape[1:])
    result = np.zeros((len(CONTRASTS), len(array), rows, columns), np.float32)
    down, right = (-n % (16 * STRIDE) for n in array.shape[1:])
    with torch.inference_mode():
        for z in range(len(array)):
            near = array[[max(z - 1, 0), z, min(z + 1, len(array) - 1)]] / HU_SCALE
            near = np.pad(near, ((0, 0), (0, down), (0, right)), mode="edge")
            found = detector(torch.from_numpy(near[None].astype(np.float32))).sigmoid()
            result[:, z] = found[0, :, :rows, :columns].numpy()
    return result


def read_scan(
    volume: CTVolume, dose: float, detector: nn.Module, methods: Mapping[str, Process], seed: int
) -> dict[str, Any]:
    """Marks by kind and method on a scan as it is and with lesions of all kinds, sizes and contrasts, and
    where these are."""
    guide = smoothed_guide({"reference": volume.array}, volume.spacing)
    drawn = np.zeros_like(volume.array)
    lesions: dict[str, list[list[float]]] = {kind: [] for kind in CONTRASTS}
    for kind, contrasts in CONTRASTS.items():
        for k, place in enumerate(places(guide, volume.spacing, kind, seed)[:MOST_DRAWN]):
            diameter = DIAMETERS_MM[k % len(DIAMETERS_MM)]
            contrast = float(np.linspace(*contrasts, 3)[k // len(DIAMETERS_MM) % 3])
            one = Lesion(kind, place, diameter, 100 * seed + k)
            drawn += contrast * weight(one, drawn.shape, volume.spacing)
            x, y, z = np.array(place[::-1]) * np.array(volume.spacing)
            reach = diameter / 2 + TOLERANCE_MM
            lesions[kind].append([float(x), float(y), float(z), reach, diameter, contrast])
    found: dict[str, Any] = {"lesions": lesions}
    step = (STRIDE * volume.spacing[0], STRIDE * volume.spacing[1], volume.spacing[2])
    for group, more in (("normal", 0 * drawn), ("diseased", drawn)):
        low = lowered(volume.with_array(volume.array + more), dose, seed)
        found[group] = {}
        for name, process in methods.items():
            odds = odds_of(detector, process(low))
            found[group][name] = {kind: marks(one, step) for kind, one in zip(CONTRASTS, odds, strict=True)}
    return found


def measure(scans: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """FROC figures by 'kind: method', of what `read_scan` found on several scans; those without a place for a
    lesion of the kind are left out."""
    result = {}
    for kind in CONTRASTS:
        with_any = [scan for scan in scans if scan["lesions"][kind]]
        truths = [
            [Truth((x, y, z), reach) for x, y, z, reach, *_ in scan["lesions"][kind]] for scan in with_any
        ]
        for name in scans[0]["normal"] if with_any else ():
            groups = ([scan[group][name][kind] for scan in with_any] for group in ("normal", "diseased"))
            result[f"{kind}: {name}"] = froc(*groups, truths)
            sizes = [lesion[4] for scan in with_any for lesion in scan["lesions"][kind]]
            result[f"{kind}: {name}"]["sizes"] = sizes
    return result


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
    one.add_argument("--exclude", nargs="*", default=[])
    one.add_argument("--minutes", type=float, default=math.inf)
    one.add_argument("--steps", type=int, default=20000)
    one.add_argument("--batch", type=int, default=9)
    two = kinds.add_parser("run")
    two.add_argument("data", type=Path)
    two.add_argument("detector", type=Path)
    two.add_argument("--only", nargs="+", default=HELD_OUT)
    two.add_argument("--doses", type=float, nargs="+", default=[1.0, 0.25])
    two.add_argument("--slices", type=int, default=16)
    two.add_argument("--model", nargs="*", default=["enhance-twin"])
    two.add_argument("--keep-faint", type=float, nargs="*", default=[], help="shares to try beside none")
    two.add_argument("--seed", type=int, default=3)
    two.add_argument("--repeats", type=int, default=2, help="other places and noise on each scan")
    two.add_argument("--out", type=Path)
    given = parser.parse_args()
    with one_sentence():
        _train(given) if given.what == "train" else _run(given)


def _train(given: argparse.Namespace) -> None:
    names = ("exclude", "minutes", "steps", "batch")
    options = TwinTraining(device="cpu", **{name: getattr(given, name) for name in names})
    print(train(given.data, given.run, options))


def _run(given: argparse.Namespace) -> None:
    volumes = held_out(given.data, given.only, given.slices)
    detector, models = load(given.detector), our_models([], None, given.model, 1)
    store = Store(None if given.out is None else given.out / "kept")
    entry = weights.load(given.detector, ["lesion-detector"])[1]
    keys: dict[str, Any] = {"detector": entry.sha256, "models": [ours.key() for ours in models]}
    keys |= {"faint": given.keep_faint} if given.keep_faint else {}
    results: dict[str, dict[str, Any]] = {}
    for dose in given.doses:
        scans = []
        for number, volume in enumerate(volumes):
            methods = processes(models, volume.spacing[2])
            for share, ours in itertools.product(given.keep_faint, models):
                kept = faint_kept(methods[ours.label], share, volume.spacing)
                methods[f"{ours.label}, faint kept {share:g}"] = kept
            for seed in range(given.seed, given.seed + given.repeats):
                print(f"dose {dose:g}: scan {number + 1} of {len(volumes)}", file=sys.stderr, flush=True)
                key = {**keys, "data": digest(volume.array), "dose": dose, "seed": seed}
                scans.append(store.facts(key, partial(read_scan, volume, dose, detector, methods, seed)))
        results |= {f"{name}, dose {dose:g}": one for name, one in measure(scans).items()}
    table = _table(results, given.doses)
    print(table.text())
    if given.out is not None:
        write_text(given.out / "detector.json", json.dumps(results, indent=1) + "\n")
        write_text(given.out / "detector.md", table.markdown() + "\n")
        draw_curves(results, given.out / "froc.png")


def _table(results: Mapping[str, Mapping[str, Any]], doses: Sequence[float]) -> Table:
    rows = []
    for name, one in results.items():
        kind = name.partition(":")[0]
        base = [
            f"{kind}: {SCAN}, dose {dose:g}"
            for dose in (name.rpartition(" ")[2], max(doses))
            for dose in [float(dose)]
        ]
        gains = ["–" if other == name else _gain(one["found"], results[other]["found"]) for other in base]
        sizes, found = np.array(one["sizes"]), np.array(one["found"])
        by_size = " / ".join(f"{found[sizes == size].mean():.2f}" for size in DIAMETERS_MM)
        merit = f"{one['wafroc']:.3f}"
        if one["limits"][0] is not None:
            merit += f" [{one['limits'][0]:.3f}, {one['limits'][1]:.3f}]"
        rows.append(
            (
                name,
                str(one["lesions"]),
                f"{one['sensitivity']:.3f}",
                *gains,
                by_size,
                f"{one['f1']:.3f}",
                merit,
            )
        )
    sizes = " / ".join(f"{size:g}" for size in DIAMETERS_MM)
    header = ("kind: method", "lesions", "sensitivity at 1 false mark a scan", "above the scan of that dose",
              "above full dose", f"{sizes} mm", "best F1", "wAFROC")  # fmt: skip
    return Table("The detector before and after", header, tuple(rows), NOTE)


def _gain(found: Sequence[bool], other: Sequence[bool]) -> str:
    """The sensitivity above another one on the same lesions, with its 95 % limits by bootstrap over them."""
    change = np.array(found, float) - np.array(other, float)
    rng = np.random.default_rng(0)
    drawn = [change[rng.integers(len(change), size=len(change))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{change.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def draw_curves(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """The FROC curves as a picture, one field a kind of lesion."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(CONTRASTS), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for number, kind in enumerate(CONTRASTS):
        axes = figure.add_subplot(1, len(CONTRASTS), number + 1)
        mine = [name for name in results if name.startswith(f"{kind}: ")]
        doses = sorted({name.rpartition(" ")[2] for name in mine}, key=float, reverse=True)
        for name in mine:
            color = f"C{doses.index(name.rpartition(' ')[2])}"
            style = "-" if f": {SCAN}," in name else "--"
            axes.plot(FALSE_MARKS, results[name]["curve"], style, color=color, marker="o", ms=3,
                      label=name.partition(": ")[2])  # fmt: skip
        axes.set(xscale="log", xticks=FALSE_MARKS, xticklabels=[f"{n:g}" for n in FALSE_MARKS], ylim=(0, 1),
                 xlabel="false marks a scan", ylabel="sensitivity", title=kind)  # fmt: skip
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        if mine:
            axes.legend(fontsize=8)
    with replace_when_done(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


if __name__ == "__main__":
    main()
