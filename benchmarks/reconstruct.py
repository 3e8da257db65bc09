"""NEED and its stages beside FBP, SIRT-TV, BM3D and a one-dose U-Net, at doses from 50 to 2.5 %, in one run.

    python benchmarks/reconstruct.py --keep FIGURES.json             whole held-out patients of ../shared/data
    python benchmarks/reconstruct.py --slices 2 --doses 0.25 0.05    a short run
    python benchmarks/reconstruct.py --train-one-dose RUN --sinograms BANK    the one-dose U-Net, beforehand

The reference is the FBP of the same, noise-free projections with the same kernel (NEED's protocol). Every
table is the mean over patients of the mean over their slices. Parts of the patients come in turn, so that a
long run may be stopped at any time: with `--keep` it goes on where it was. Prints tables; `--out FILE.md`
writes them. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ctenhance
from cases import HELD_OUT
from ctenhance.commands.support import read_json
from ctenhance.core.report import write_report
from ctenhance.core.volume import CTVolume
from ctenhance.physics.geometry import FanGeometry, even_angles
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.projector import project
from ctenhance.physics.units import MU_WATER_PER_MM, hu_to_mu
from ctenhance.quality.guide import smoothed_guide
from ctenhance.quality.metrics import similarity
from ctenhance.quality.tissue import tissue_bias
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import write_text
from ctenhance.scan.projections import Projections
from ctenhance.scan.rays import ray_fields
from ending import one_sentence
from reconstruct_cases import Part, dice, in_turn
from reconstruct_peers import bm3d_on_image, fbp_slice, one_dose_network, sirt_tv, train_one_dose
from tables import NONE, Table, mean

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_DATA = REPOSITORY.parent / "shared" / "data" / "ct"
DOSES = (0.5, 0.25, 0.125, 0.1, 0.05, 0.025)
#: The simulated scanner: quanta a ray, electronic variance, views, columns; lengths in mm.
QUANTA, ELECTRONIC, VIEWS, COLUMNS = 2.5e5, 10.0, 1152, 736
SOURCE, DETECTOR, FIELD = 595.0, 1085.6, 500.0
METHODS = ("need", "fbp", "one-dose", "bm3d", "sirt-tv")

Array = np.ndarray
Figures = dict[str, Any]


@dataclass(frozen=True)
class Block:
    """Neighbouring slices of a patient: clean line integrals, reference HU, and the slices to measure."""

    clean: torch.Tensor
    reference: Array
    chosen: tuple[int, ...]


def scanner() -> FanGeometry:
    """The scanner's rays."""
    pitch = 2 * np.arcsin(FIELD / 2 / SOURCE) / COLUMNS
    central = COLUMNS / 2 - 0.25
    return FanGeometry("equiangular", SOURCE, DETECTOR, float(pitch), COLUMNS, central, even_angles(VIEWS))


def simulated(volume: CTVolume, part: Part, geometry: FanGeometry, grid: ImageGrid, kernel: str) -> Block:
    """A part's clean projections and their reconstruction."""
    hu = torch.from_numpy(volume.array[part.start : part.stop])
    clean = project(hu_to_mu(hu).clamp(min=0), geometry, grid)
    return Block(clean, fbp_slice(clean, geometry, grid, kernel), part.chosen)


def projections_of(
    counts: torch.Tensor, geometry: FanGeometry, grid: ImageGrid, dose: float, spacing: float
) -> Projections:
    """The measured counts `[slice, view, column]` as a file would hold them."""
    return Projections(
        **ray_fields(geometry),
        counts=counts.permute(1, 0, 2).numpy(),
        air_counts=np.array(QUANTA * dose),
        row_pitch_mm=spacing,
        electronic_noise_variance=ELECTRONIC,
        water_mu_per_mm=MU_WATER_PER_MM,
        image_pixel_mm=grid.pixel_mm,
        image_size=grid.shape,
    )


def measure(clean: torch.Tensor, dose: float, seed: int) -> torch.Tensor:
    """Counts with Poisson and electronic noise."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.poisson(QUANTA * dose * torch.exp(-clean.double()), generator=generator)
    normal = torch.randn(counts.shape, generator=generator, dtype=torch.float64)
    return (counts + ELECTRONIC**0.5 * normal).float()


def images_at(
    block: Block,
    geometry: FanGeometry,
    grid: ImageGrid,
    dose: float,
    seed: int,
    spacing: float,
    asked: argparse.Namespace,
) -> dict[str, tuple[Array, float | None]]:
    """The slices `[chosen, y, x]` in HU of every method that was asked for, and its seconds a slice: those of
    the processor, which other work beside the benchmark leaves alone."""
    projections = projections_of(measure(block.clean, dose, seed), geometry, grid, dose, spacing)
    integrals = projections.to_line_integrals()
    chosen = list(block.chosen)
    found: dict[str, tuple[Array, float | None]] = {}

    def timed(name: str, slices: int, work: Callable[[], Array]) -> Array:
        begun = time.process_time()
        image = work()
        found[name] = (image, (time.process_time() - begun) / slices)
        return image

    begun = time.process_time()
    low = fbp_slice(integrals, geometry, grid, asked.kernel)
    seconds_low = (time.process_time() - begun) / len(low)
    reference = block.reference[chosen]
    if "need" in asked.methods:

        def cascade() -> Array:
            result = ctenhance.reconstruct(
                projections,
                kernel=asked.kernel,
                all_stages=True,
                device="cpu",
                model_projection=asked.model_projection,
                model_image=asked.model_image,
                projection_steps=asked.projection_steps,
                image_steps=asked.image_steps,
            )
            found["projection stage"] = (result.volumes["projection"].array[chosen], None)
            return result.volumes["reconstruction"].array[chosen]

        timed("NEED", len(block.clean), cascade)
    if "fbp" in asked.methods:
        found[f"FBP {asked.kernel}"] = (low[chosen], seconds_low)
        for kernel in (k for k in ("ramp", "hann") if k != asked.kernel):
            timed(f"FBP {kernel}", len(chosen), partial(fbp_slice, integrals[chosen], geometry, grid, kernel))
    if "one-dose" in asked.methods and asked.one_dose is not None:
        run = one_dose_network(asked.one_dose)
        last = len(low) - 1
        near = [low[[max(z - 1, 0), z, min(z + 1, last)]] for z in chosen]
        timed("U-Net 25 %", len(chosen), lambda: np.stack([run(three) for three in near]))
    if "bm3d" in asked.methods:
        pairs = list(zip(low[chosen], reference, strict=True))
        timed("BM3D", len(chosen), lambda: np.stack([bm3d_on_image(a, b) for a, b in pairs]))
    if "sirt-tv" in asked.methods:
        expected = (QUANTA * dose * torch.exp(-integrals)).clamp(min=0.5)
        weight = expected.square() / (expected + ELECTRONIC)
        start = fbp_slice(integrals, geometry, grid, "hann")
        cases = [
            (integrals[z], weight[z], start[z], truth) for z, truth in zip(chosen, reference, strict=True)
        ]
        timed(
            "SIRT-TV",
            len(chosen),
            lambda: np.stack([sirt_tv(p, w, geometry, grid, s, t) for p, w, s, t in cases]),
        )
    return found


def figures(image: Array, reference: Array, guide: Array, spacing: tuple[float, float, float]) -> Figures:
    """Likeness to the reference, HU drift by tissue, Dice by mask, of slices `[z, y, x]`."""
    full = similarity(image, reference)["full"]
    bias = tissue_bias({"before": reference, "after": image}, guide, spacing)
    each = [dice(a, b, spacing[0]) for a, b in zip(image, reference, strict=True)]
    return {
        "psnr": full["psnr_dB"],
        "ssim": full["ssim"],
        "rmse": full["rmse_HU"],
        **{f"HU {name}": value and value["change_HU"] for name, value in bias.items()},
        **{f"Dice {name}": mean(d[name] for d in each) for name in ("lung", "bone", "airway")},
    }


def run(asked: argparse.Namespace) -> None:
    """Everything, from the command line's settings to the printed tables."""
    if asked.train_one_dose is not None:
        if asked.sinograms is None:
            raise InputError("Training the one-dose U-Net needs --sinograms, the bank of 'train projection'.")
        best = train_one_dose(
            asked.sinograms, asked.train_one_dose, asked.minutes, asked.start, asked.validation
        )
        print(best)
        return
    gathered = read_json(asked.keep)["figures"] if asked.keep is not None and asked.keep.exists() else []
    done = {(f["scan"], f["part"], f["dose"]) for f in gathered}
    for scan, part in in_turn(asked.data, asked.only, asked.slices):
        doses = [dose for dose in asked.doses if (scan.name, part.number, dose) not in done]
        if not doses:
            continue
        volume = scan.volume
        # the volume's own pixels
        geometry, grid = scanner(), ImageGrid.centred(volume.array.shape, volume.spacing[0])
        block = simulated(volume, part, geometry, grid, asked.kernel)
        reference = block.reference[list(block.chosen)]
        guide = smoothed_guide({"reference": reference}, volume.spacing)
        for dose in doses:
            say(f"{scan.name}, part {part.number + 1}, {100 * dose:g} %")
            seed = 1000 * part.number + asked.doses.index(dose)
            found = images_at(block, geometry, grid, dose, seed, volume.spacing[2], asked)
            where = {"scan": scan.name, "part": part.number, "dose": dose, "slices": len(reference)}
            for name, (image, seconds) in found.items():
                values = figures(image, reference, guide, volume.spacing)
                gathered.append({"method": name, **where, **values, "seconds": seconds})
            if asked.keep is not None:
                write_report(asked.keep, {"figures": gathered})
    tables = all_tables(gathered, asked.doses)
    print("\n\n".join(table.text() for table in tables))
    if asked.out is not None:
        page = [
            "# Reconstruction against its peers", "", about(asked, gathered), "",
            *(f"{t.markdown()}\n" for t in tables),
        ]  # fmt: skip
        write_text(asked.out, "\n".join(page))


def about(asked: argparse.Namespace, gathered: list[Figures]) -> str:
    """What was measured, on what."""
    slices = {(f["scan"], f["part"]): f["slices"] for f in gathered}
    amounts = [
        f"{name}: {sum(count for (scan, _), count in slices.items() if scan == name)}" for name in asked.only
    ]
    return (
        f"{len(asked.only)} held-out patients (slices of each: {', '.join(amounts)}); equiangular "
        f"fan, {VIEWS} views x {COLUMNS} columns, {QUANTA:g} quanta a ray, electronic variance "
        f"{ELECTRONIC:g}. Reference: FBP ({asked.kernel}) of the noise-free projections, with the scans' own "
        "noise. Means over patients of the means over their slices, PSNR and SSIM within +-1000 HU. "
        f"{os.cpu_count()} CPUs ({platform.machine()}), {torch.get_num_threads()} threads. FBP ramp and hann "
        "differ from the reference's kernel; SIRT-TV and BM3D have their strength chosen on the reference. "
        "Seconds of NEED are those of the whole cascade."
    )


def over_patients(gathered: list[Figures], method: str, dose: float, key: str) -> float | None:
    """Mean over patients of a figure's mean over their slices; None where it is nowhere known."""
    known = [f for f in gathered if f["method"] == method and f["dose"] == dose and f[key] is not None]
    each = []
    for scan in dict.fromkeys(f["scan"] for f in known):
        of_scan = [f for f in known if f["scan"] == scan]
        each.append(sum(f[key] * f["slices"] for f in of_scan) / sum(f["slices"] for f in of_scan))
    return mean(each)


def all_tables(gathered: list[Figures], doses: list[float]) -> list[Table]:
    """A table a figure: methods down, doses across."""
    names = list(dict.fromkeys(f["method"] for f in gathered))
    header = ("method", *(f"{100 * dose:g} %" for dose in doses))
    columns = {
        "psnr": ("PSNR (dB)", "{:.2f}"),
        "ssim": ("SSIM", "{:.4f}"),
        "rmse": ("RMSE (HU)", "{:.1f}"),
        "HU soft": ("HU drift, soft tissue", "{:+.2f}"),
        "HU lung": ("HU drift, lung", "{:+.2f}"),
        "HU fat": ("HU drift, fat", "{:+.2f}"),
        "HU bone": ("HU drift, bone", "{:+.2f}"),
        "Dice lung": ("Dice, lung", "{:.4f}"),
        "Dice bone": ("Dice, bone", "{:.4f}"),
        "Dice airway": ("Dice, airways", "{:.4f}"),
        "seconds": ("seconds a slice, all of one core", "{:.1f}"),
    }
    tables = []
    for key, (title, form) in columns.items():
        rows = []
        for name in names:
            values = [over_patients(gathered, name, dose, key) for dose in doses]
            rows.append((name, *(NONE if v is None else form.format(v) for v in values)))
        tables.append(Table(title, header, tuple(rows)))
    return tables


def say(text: str) -> None:
    """One line on how far it is, beside the tables and not in them."""
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, default=DEFAULT_DATA, help="folder with the held-out scans")
    add("--only", nargs="+", default=list(HELD_OUT), help="parts of the names of the scans")
    add("--doses", nargs="+", type=float, default=list(DOSES), help="shares of the full dose")
    add("--slices", type=int, help="slices a patient, with their neighbours (default: all)")
    add("--methods", nargs="+", default=list(METHODS), choices=METHODS, help="what to run (default: all)")
    add("--keep", type=Path, help="JSON file that figures are added to; the tables are made of all in it")
    add("--kernel", default="standard", help="reconstruction kernel of reference and methods")
    add("--model-projection", help="weights of the projection stage")
    add("--model-image", help="weights of the image stage")
    add("--projection-steps", type=int, default=1)
    add("--image-steps", type=int, default=1)
    add("--one-dose", type=Path, help="weights of the one-dose U-Net")
    add(
        "--train-one-dose", type=Path, metavar="RUN", help="train the one-dose U-Net in this folder, and stop"
    )
    add("--sinograms", type=Path, help="bank of clean sinograms to train it on")
    add("--validation", type=Path, help="bank of clean sinograms of other patients")
    add("--start", help="weights of the one-step enhancing network to start it from")
    add("--minutes", type=float, default=30.0, help="how long to train it")
    add("--out", type=Path, help="write the tables to this Markdown file")
    return parser.parse_args()


def main() -> None:
    """Run; a problem that the user can mend is one sentence and exit code 2."""
    with one_sentence():
        run(arguments())


if __name__ == "__main__":
    main()
