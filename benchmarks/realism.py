"""A machine's judgement of the degradation: can simulated noise be told from real noise?

    python benchmarks/realism.py ../shared/data/ct --out realism

Patches of real noise are what flat soft tissue of a scan has over its smooth course. Simulated noise is what
`degrade` adds to flat soft tissue of the same scan (the difference of the degraded and the given scan, at a
dose that adds as much as there was). Both are brought to one SD. A classifier (a small convolutional network,
trained on some of the scans and asked about the others) rates each patch; the area under its ROC curve is
0.5 where the texture is perfect. It is stated for each scan, with its kernel, and beside it the area of one
plain figure, the noise's mean frequency, and the distance of the two power spectra. What of a scan's fine
structure stays in its patches gives real ones away, too, so the area says at most how far the noise is off.
Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import nn

from cases import middle_slices
from ctenhance.core.volume import CTVolume
from ctenhance.degradation.chain import Chain
from ctenhance.degradation.dose import Dose
from ctenhance.quality.guide import smoothed_guide
from ctenhance.quality.noise import detrended, find_regions
from ctenhance.quality.observer import area
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import write_text
from ending import one_sentence
from measure import shape_distance
from tables import Table

Array = np.ndarray

#: Side of a patch in pixels, the tissue that it lies in (HU of the smoothed scan), and the fewest of a scan.
SIDE, TISSUE_HU, FEWEST = 24, (-10.0, 150.0), 24
FOLDS, STEPS, BATCH = 4, 400, 32


@dataclass(frozen=True)
class Patches:
    """Real and simulated noise of one scan `[patch, SIDE, SIDE]`, each patch of SD 1."""

    name: str
    real: Array
    simulated: Array


def scan_patches(volume: CTVolume, name: str, dose: float, slices: int, seed: int) -> Patches | None:
    """The patches of the middle slices of a scan; None where it has too few flat places."""
    volume = middle_slices(volume, slices)
    guide = smoothed_guide({"reference": volume.array}, volume.spacing)
    corners = find_regions(guide, TISSUE_HU, SIDE)
    if len(corners) < 2 * FEWEST:
        return None
    whole = Chain.preset("routine", dose)
    only_dose = Chain("dose", tuple(one for one in whole.distributions if one.step is Dose), True)
    added = only_dose.draw(volume, seed).apply(volume).array - volume.array
    # real and simulated noise from other places: their anatomy is not to give them away
    order = np.random.default_rng(seed).permutation(len(corners))
    halves = [corners[order[k::2]] for k in (0, 1)]
    real, simulated = (
        normalised(np.stack([array[z, y : y + SIDE, x : x + SIDE] for z, y, x in at]))
        for array, at in ((volume.array, halves[0]), (added, halves[1]))
    )
    return Patches(name, real, simulated)


def normalised(squares: Array) -> Array:
    """Less their smooth course, SD 1."""
    flat = detrended(squares.astype(np.float64))
    flat = flat - ndimage.gaussian_filter(flat, (0, 6, 6))
    return (flat / flat.std((1, 2), keepdims=True).clip(1e-6)).astype(np.float32)


class Judge(nn.Module):
    """Tells patches apart by their texture; blind to where in a patch it is."""

    def __init__(self, channels: int = 24) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, 5), nn.ReLU(), nn.Conv2d(channels, channels, 3), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, dilation=2), nn.ReLU(),
        )  # fmt: skip
        self.last = nn.Linear(2 * channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.layers(x)
        return self.last(torch.cat([found.mean((2, 3)), found.square().mean((2, 3)).sqrt()], 1))[:, 0]


def judged(
    train: Sequence[Patches], test: Sequence[Patches], steps: int, seed: int
) -> list[tuple[Array, Array]]:
    """Ratings (greater: more like simulated) of each of `test`'s real and simulated patches, by a judge that
    was trained on `train`, each scan and kind alike often."""
    torch.manual_seed(seed)
    judge, rng = Judge(), np.random.default_rng(seed)
    optimiser = torch.optim.Adam(judge.parameters(), 2e-3)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * (1 - step / steps)
        patches, kinds = [], []
        for _ in range(BATCH):
            scan, kind = train[rng.integers(len(train))], int(rng.integers(2))
            source = scan.simulated if kind else scan.real
            patch = np.rot90(source[rng.integers(len(source))], int(rng.integers(4)))
            patches.append(patch[:, ::-1] if rng.random() < 0.5 else patch)
            kinds.append(kind)
        x = torch.from_numpy(np.stack(patches)[:, None].copy())
        loss = F.binary_cross_entropy_with_logits(judge(x), torch.tensor(kinds, dtype=torch.float32))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.inference_mode():
        return [
            tuple(judge(torch.from_numpy(values[:, None])).numpy() for values in (scan.real, scan.simulated))  # type: ignore[misc]
            for scan in test
        ]


def mean_frequency(squares: Array) -> Array:
    """Of each patch, cycles a pixel, weighted by its power."""
    power = np.abs(np.fft.fft2(squares)) ** 2
    f = np.fft.fftfreq(squares.shape[-1])
    radius = np.hypot(f[:, None], f[None, :])
    return (power * radius).sum((1, 2)) / power.sum((1, 2))


def spectrum_distance(some: Array, others: Array) -> float:
    """Of the radial noise power spectra of two sets of patches, as `measure.shape_distance` has it."""
    window = np.hanning(SIDE)[:, None] * np.hanning(SIDE)
    f = np.fft.fftfreq(SIDE)
    ring = np.minimum(np.hypot(f[:, None], f[None, :]) * SIDE, SIDE / 2 + 1).astype(int)
    both = [(np.abs(np.fft.fft2(squares * window)) ** 2).mean(0) for squares in (some, others)]
    return shape_distance(*(np.bincount(ring.ravel(), power.ravel()) for power in both))


def judge_all(
    scans: Sequence[Patches], steps: int = STEPS, seed: int = 0
) -> list[dict[str, float | str | int]]:
    """Each scan's areas, by judges that were not trained on it."""
    order = np.random.default_rng(seed).permutation(len(scans))
    rows: dict[int, dict[str, float | str | int]] = {}
    folds = min(FOLDS, len(scans))
    for fold in range(folds):
        asked = [int(k) for k in order[fold::folds]]
        known = [scan for k, scan in enumerate(scans) if k not in asked]
        for k, (real, simulated) in zip(
            asked, judged(known, [scans[k] for k in asked], steps, seed), strict=True
        ):
            real_patches, simulated_patches = scans[k].real, scans[k].simulated
            plain = area(mean_frequency(simulated_patches), mean_frequency(real_patches))
            rows[k] = {
                "scan": scans[k].name,
                "patches": len(real),
                "area": area(simulated, real),
                "mean_frequency_area": max(plain, 1 - plain),
                "nps_distance": spectrum_distance(real_patches, simulated_patches),
            }
    return [rows[k] for k in sorted(rows)]


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("data", type=Path)
    add("--only", nargs="+", default=[""], help="parts of the names of the scans to use")
    add("--without", nargs="*", default=["phantom"], help="parts of the names of the scans to leave out")
    add("--slices", type=int, default=12, help="of the middle of each scan")
    add("--dose", type=float, default=0.5, help="which adds as much noise as there is (default 0.5)")
    add("--steps", type=int, default=STEPS)
    add("--seed", type=int, default=0)
    add("--out", type=Path)
    with one_sentence():
        _run(parser.parse_args())


def _run(given: argparse.Namespace) -> None:
    scans = []
    for path in sorted(given.data.glob("*.nii.gz")):
        if not any(part in path.name for part in given.only) or any(
            part in path.name for part in given.without
        ):
            continue
        name = path.name.removesuffix(".nii.gz")
        found = scan_patches(CTVolume.read(path), name, given.dose, given.slices, given.seed)
        if found is None:
            print(f"{name}: too few flat places", file=sys.stderr)
        else:
            scans.append(found)
    if len(scans) < 2:
        raise InputError("Fewer than two scans have enough flat soft tissue: give more, or more slices.")
    rows = judge_all(scans, given.steps, given.seed)
    shown = tuple(
        (
            str(row["scan"]),
            str(row["patches"]),
            *(f"{row[key]:.3f}" for key in ("area", "mean_frequency_area", "nps_distance")),
        )
        for row in rows
    )
    note = (
        "0.5: not to be told apart. The judge was trained on other scans; the mean frequency is that of the "
        "same scan's real and simulated patches."
    )
    header = ("scan with its kernel", "patches of each kind", "judge", "mean frequency", "NPS distance")
    print(Table("Simulated against real noise: area under the ROC curve", header, shown, note).text())
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        write_text(given.out / "realism.json", json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
