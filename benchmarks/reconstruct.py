"""NEED and its stages beside FBP, SIRT-TV, BM3D and a one-dose U-Net, at doses from 50 to 2.5 %, in one run.

    python benchmarks/reconstruct.py                                 whole held-out patients of ../shared/data
    python benchmarks/reconstruct.py --slices 2 --doses 0.25 0.05    a short run
    python benchmarks/reconstruct.py --train-one-dose RUN --sinograms BANK    the one-dose U-Net, beforehand

The reference is the FBP of the same, noise-free projections with the same kernel (NEED's protocol). Prints
tables; `--out FILE.md` writes them. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

import ctenhance
from cases import HELD_OUT, evenly
from ctenhance.commands.support import read_json
from ctenhance.io.projections import Projections
from ctenhance.physics.geometry import FanGeometry, even_angles
from ctenhance.physics.projector import project
from ctenhance.physics.units import MU_WATER_PER_MM, hu_to_mu
from ctenhance.quality.guide import smoothed_guide
from ctenhance.quality.metrics import similarity
from ctenhance.quality.tissue import tissue_bias
from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.files import write_text
from ctenhance.runtime.report import write_report
from ctenhance.volume import CTVolume
from reconstruct_peers import bm3d_on_image, fbp_slice, one_dose_network, sirt_tv, train_one_dose
from tables import NONE, Table, mean

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_DATA = REPOSITORY.parent / "shared" / "data" / "ct"
DOSES = (0.5, 0.25, 0.125, 0.1, 0.05, 0.025)
#: The simulated scanner: quanta a ray, electronic variance, views, columns; lengths in mm.
QUANTA, ELECTRONIC, VIEWS, COLUMNS = 2.5e5, 10.0, 1152, 736
SOURCE, DETECTOR, FIELD = 595.0, 1085.6, 500.0
#: Slices that are simulated at one time, neighbours included.
_BLOCK = 8
METHODS = ("need", "fbp", "one-dose", "bm3d", "sirt-tv")

Array = np.ndarray
Figures = dict[str, Any]


@dataclass(frozen=True)
class Block:
    """Neighbouring slices of a patient: clean line integrals, reference HU, and the slices to measure."""

    clean: torch.Tensor
    reference: Array
    chosen: tuple[int, ...]


def scanner(volume: CTVolume) -> FanGeometry:
    """The scanner, with the volume's own grid as its image."""
    _, rows, columns = volume.array.shape
    pitch = 2 * np.arcsin(FIELD / 2 / SOURCE) / COLUMNS
    angles = even_angles(VIEWS)
    return FanGeometry(
        "equiangular", SOURCE, DETECTOR, float(pitch), COLUMNS, COLUMNS / 2 - 0.25, angles, rows, columns,
        volume.spacing[0],
    )  # fmt: skip


def blocks(volume: CTVolume, geometry: FanGeometry, slices: int | None, kernel: str) -> Iterator[Block]:
    """The patient in parts: all slices, or single ones with their neighbours."""
    depth = len(volume.array)
    if slices is None or slices >= depth:
        parts = [(a, min(a + _BLOCK, depth)) for a in range(0, depth, _BLOCK)]
    else:
        parts = [(max(z - 1, 0), min(z + 2, depth)) for z in evenly(depth, slices)]
    for start, stop in parts:
        clean = project(hu_to_mu(torch.from_numpy(volume.array[start:stop])).clamp(min=0), geometry)
        chosen = tuple(range(stop - start)) if slices is None else ((stop - start) // 2,)
        yield Block(clean, fbp_slice(clean, geometry, kernel), chosen)


def projections_of(counts: torch.Tensor, geometry: FanGeometry, dose: float, spacing: float) -> Projections:
    """The measured counts `[slice, view, column]` as a file would hold them."""
    return Projections(
        geometry="fan_equiangular",
        view_angles=np.array(geometry.view_angles),
        central_column=geometry.central_column,
        counts=counts.permute(1, 0, 2).numpy(),
        air_counts=np.array(QUANTA * dose),
        column_pitch_rad=geometry.column_pitch,
        source_to_isocenter_mm=geometry.source_to_isocenter_mm,
        source_to_detector_mm=geometry.source_to_detector_mm,
        row_pitch_mm=spacing,
        electronic_noise_variance=ELECTRONIC,
        water_mu_per_mm=MU_WATER_PER_MM,
        image_pixel_mm=geometry.pixel_mm,
        image_size=(geometry.rows, geometry.columns),
    )


def measure(clean: torch.Tensor, dose: float, seed: int) -> torch.Tensor:
    """Counts with Poisson and electronic noise."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.poisson(QUANTA * dose * torch.exp(-clean.double()), generator=generator)
    normal = torch.randn(counts.shape, generator=generator, dtype=torch.float64)
    return (counts + ELECTRONIC**0.5 * normal).float()


def masks(plane: Array, pixel_mm: float) -> dict[str, Array]:
    """Lung, bone and airways of a slice by thresholds on a slightly smoothed copy."""
    smooth = ndimage.gaussian_filter(plane, 0.8 / pixel_mm)
    body = ndimage.binary_fill_holes(smooth > -400)
    labels, count = ndimage.label(body)
    if count:
        sizes = np.bincount(labels.ravel())[1:]
        body = ndimage.binary_fill_holes(labels == 1 + int(sizes.argmax()))
    inside = ndimage.binary_erosion(body, iterations=3)
    return {
        "lung": inside & (smooth < -500) & (smooth > -940),
        "bone": inside & (smooth > 220),
        "airway": inside & (smooth <= -940),
    }


def dice(image: Array, reference: Array, pixel_mm: float) -> dict[str, float | None]:
    """Dice of each mask; None where the reference shows less than 100 pixels of it."""
    found, truth = masks(image, pixel_mm), masks(reference, pixel_mm)
    return {
        name: 2 * float((found[name] & mask).sum()) / float(found[name].sum() + mask.sum())
        if mask.sum() >= 100
        else None
        for name, mask in truth.items()
    }


def images_at(
    block: Block, geometry: FanGeometry, dose: float, seed: int, spacing: float, asked: argparse.Namespace
) -> dict[str, tuple[Array, float | None]]:
    """The slices `[chosen, y, x]` in HU of every method that was asked for, and its seconds a slice."""
    projections = projections_of(measure(block.clean, dose, seed), geometry, dose, spacing)
    integrals = projections.to_line_integrals()
    chosen = list(block.chosen)
    found: dict[str, tuple[Array, float | None]] = {}

    def timed(name: str, slices: int, work: Callable[[], Array]) -> Array:
        begun = time.perf_counter()
        image = work()
        found[name] = (image, (time.perf_counter() - begun) / slices)
        return image

    low = fbp_slice(integrals, geometry, asked.kernel)
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
        for kernel in dict.fromkeys((asked.kernel, "ramp", "hann")):
            timed(f"FBP {kernel}", len(chosen), partial(fbp_slice, integrals[chosen], geometry, kernel))
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
        start = fbp_slice(integrals, geometry, "hann")
        cases = [
            (integrals[z], weight[z], start[z], truth) for z, truth in zip(chosen, reference, strict=True)
        ]
        timed(
            "SIRT-TV", len(chosen), lambda: np.stack([sirt_tv(p, w, geometry, s, t) for p, w, s, t in cases])
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
    for part in asked.only:
        files = sorted(asked.data.glob(f"*{part}*.nii.gz"))
        if len(files) != 1:
            raise InputError(f"{asked.data.name} holds {len(files)} scans with '{part}' in the name, not 1.")
        volume = CTVolume.read(files[0])
        geometry = scanner(volume)
        for number, block in enumerate(blocks(volume, geometry, asked.slices, asked.kernel)):
            reference = block.reference[list(block.chosen)]
            guide = smoothed_guide({"reference": reference}, volume.spacing)
            for index, dose in enumerate(asked.doses):
                say(f"{files[0].name}, part {number + 1}, {100 * dose:g} %")
                found = images_at(block, geometry, dose, 1000 * number + index, volume.spacing[2], asked)
                for name, (image, seconds) in found.items():
                    values = figures(image, reference, guide, volume.spacing)
                    where = {"method": name, "dose": dose, "scan": part, "part": number}
                    gathered.append({**where, **values, "seconds": seconds})
                if asked.keep is not None:  # a long run that is stopped leaves what it has
                    write_report(asked.keep, {"figures": gathered})
    tables = all_tables(gathered, asked.doses)
    print("\n\n".join(table.text() for table in tables))
    if asked.out is not None:
        page = [
            "# Reconstruction against its peers", "", about(asked), "",
            *(f"{t.markdown()}\n" for t in tables),
        ]  # fmt: skip
        write_text(asked.out, "\n".join(page))


def about(asked: argparse.Namespace) -> str:
    """What was measured, on what."""
    amount = "all slices" if asked.slices is None else f"slices a patient: {asked.slices}"
    return (
        f"{len(asked.only)} held-out patients ({', '.join(asked.only)}), {amount}; equiangular fan, {VIEWS} "
        f"views x {COLUMNS} columns, {QUANTA:g} quanta a ray, electronic variance {ELECTRONIC:g}. "
        f"Reference: FBP ({asked.kernel}) of the noise-free projections, the scans' own noise included. PSNR "
        f"and SSIM within +-1000 HU. {os.cpu_count()} CPUs ({platform.machine()}), {torch.get_num_threads()} "
        "threads. FBP ramp and hann differ from the reference's kernel; SIRT-TV and BM3D have their strength "
        "chosen on the reference. Seconds of NEED are those of the whole cascade."
    )


def all_tables(gathered: list[Figures], doses: list[float]) -> list[Table]:
    """A table a figure: methods down, doses across."""
    names = list(dict.fromkeys(f["method"] for f in gathered))
    header = ("method", *(f"{100 * dose:g} %" for dose in doses))
    wanted = {
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
        "seconds": ("seconds a slice", "{:.1f}"),
    }
    tables = []
    for key, (title, form) in wanted.items():
        rows = []
        for name in names:
            values = [
                mean(f[key] for f in gathered if f["method"] == name and f["dose"] == dose) for dose in doses
            ]
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
    try:
        run(arguments())
    except CTEnhanceError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
