"""Projector, adjoint and FBP beside ASTRA's fan beam on the CPU, on the same data in the same run.

    python benchmarks/projector.py                                64 slices, 736 columns x 1,152 views -> 512²
    python benchmarks/projector.py --slices 8 --views 144         smaller
    python benchmarks/projector.py --device cuda                  without ASTRA: views · voxels a second

Figures are CPU seconds of the process (what other programs on the machine do hardly changes them), and wall
seconds beside them. ASTRA's CPU code runs on one thread, so the figures that compare are made on `--threads`
1; ASTRA's slices are independent and equal, so a few stand for all. On a GPU, wall seconds count.
"""

from __future__ import annotations

import argparse
import math
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "CTEnhance"))
from ctenhance.physics.fbp import fbp
from ctenhance.physics.geometry import FanGeometry, even_angles
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.projector import backproject, project
from tables import NONE, Table

SID, SDD, PITCH = 595.0, 1085.6, 1.2858
#: Memory bandwidth (bytes/s) of GPUs whose share is printed, by a part of their name.
BANDWIDTH = {"H200": 4.8e12, "H100": 3.35e12, "A100": 1.94e12, "RTX 4090": 1.01e12, "T4": 3.2e11}


@dataclass(frozen=True)
class Cost:
    """CPU and wall seconds of one run over `slices`."""

    cpu: float
    wall: float
    slices: int

    def rate(self, work: float, on_gpu: bool) -> str:
        """10⁹ of `work` (views · voxels a slice) a second: of CPU time, or on a GPU by the clock."""
        return f"{work * self.slices / (self.wall if on_gpu else self.cpu) / 1e9:.2f}"

    def cells(self) -> tuple[str, str]:
        return f"{self.cpu / self.slices:.3f}", f"{self.wall / self.slices:.3f}"


def measured(run: Callable[[], object], slices: int, device: torch.device) -> Cost:
    """One run, after none: every operator has been called on little data before."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return Cost(time.process_time() - cpu, time.perf_counter() - wall, slices)


def scan(views: int, columns: int, shape: str = "flat") -> FanGeometry:
    """The benchmark's fan, which always covers the same field."""
    pitch = PITCH * 736 / columns / (1.0 if shape == "flat" else SDD)
    return FanGeometry(shape, SID, SDD, pitch, columns, (columns - 1) / 2, even_angles(views))


def pixels(size: int) -> ImageGrid:
    """The benchmark's image: all sizes show the same field."""
    return ImageGrid(size, size, 0.7 * 512 / size)


def astra_costs(images: np.ndarray, geometry: FanGeometry, grid: ImageGrid) -> dict[str, Cost]:
    """ASTRA's projection and backprojection of each image; empty where ASTRA is not installed."""
    try:
        import astra
    except ImportError:
        return {}
    half = grid.columns * grid.pixel_mm / 2
    volume = astra.create_vol_geom(*grid.shape, -half, half, -half, half)
    angles = math.pi - geometry.angles().numpy()
    beam = astra.create_proj_geom(
        "fanflat", geometry.column_pitch, geometry.n_columns, angles, SID, SDD - SID
    )
    projector = astra.create_projector("line_fanflat", beam, volume)
    sinograms: list[np.ndarray] = []
    cpu = torch.device("cpu")

    def forward() -> None:
        for image in images:
            identity, sinogram = astra.create_sino(image, projector)
            astra.data2d.delete(identity)
            sinograms.append(sinogram)

    def back() -> None:
        for sinogram in sinograms:
            identity, _ = astra.create_backprojection(sinogram, projector)
            astra.data2d.delete(identity)

    return {name: measured(run, len(images), cpu) for name, run in (("project", forward), ("back", back))}


def own_costs(images: torch.Tensor, shape: str, views: int, columns: int) -> dict[str, Cost]:
    """The project's operators on `images` `[slice, rows, columns]`."""
    geometry, grid = scan(views, columns, shape), pixels(images.shape[-1])
    n, device = len(images), images.device
    sinogram = images.new_empty(n, views, columns)
    return {
        "project": measured(lambda: sinogram.copy_(project(images, geometry, grid)), n, device),
        "adjoint": measured(lambda: backproject(sinogram, geometry, grid), n, device),
        "fbp": measured(lambda: fbp(sinogram, geometry, grid), n, device),
    }


def rows_of(
    name: str, costs: dict[str, Cost], peer: dict[str, Cost], work: float, on_gpu: bool
) -> list[tuple[str, ...]]:
    """A row an operator: seconds a slice, ratio to the peer's matching operator, updates a second."""
    rows = []
    for operator, cost in costs.items():
        other = peer.get("project" if operator == "project" else "back")
        ratio = f"{(other.cpu / other.slices) / (cost.cpu / cost.slices):.1f}" if other else NONE
        rows.append((f"{name}: {operator}", *cost.cells(), ratio, cost.rate(work, on_gpu)))
    return rows


def bandwidth_note(costs: dict[str, Cost], work: float, name: str) -> str:
    """Share of the GPU's memory bandwidth that the least traffic needs: 4 bytes gathered an update."""
    known = [value for part, value in BANDWIDTH.items() if part in name]
    if not known:
        return f"{name}: its bandwidth is not in the list, so no share is given."
    shares = [
        f"{operator} {4 * work * cost.slices / cost.wall / known[0]:.0%}" for operator, cost in costs.items()
    ]
    return (
        f"{name}, {known[0] / 1e12:.2f} TB/s; bytes gathered a second as a share of it: {', '.join(shares)}."
    )


def main() -> None:
    """Measure and print; with --out also write a Markdown file."""
    parser = argparse.ArgumentParser(description="Projector and FBP beside ASTRA on the CPU.")
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--views", type=int, default=1152)
    parser.add_argument("--columns", type=int, default=736)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peer-slices", type=int, default=2, help="slices that ASTRA is measured on")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    on_gpu = device.type == "cuda"
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(given.slices, given.size, given.size, generator=generator) * 0.02
    own_costs(images[:2, ::8, ::8].contiguous().to(device), "flat", 16, 92)  # what is loaded once

    flat = scan(given.views, given.columns), pixels(given.size)
    peer = astra_costs(images[: given.peer_slices].numpy(), *flat) if device.type == "cpu" else {}
    work = given.views * given.size**2
    own = images.to(device)
    rows: list[tuple[str, ...]] = []
    for name, cost in peer.items():
        rows.append((f"ASTRA line_fanflat: {name}", *cost.cells(), "1", cost.rate(work, on_gpu)))
    notes = []
    for shape in ("flat", "equiangular"):
        costs = own_costs(own, shape, given.views, given.columns)
        rows += rows_of(shape, costs, peer, work, on_gpu)
        if on_gpu:
            notes.append(f"{shape}: " + bandwidth_note(costs, work, torch.cuda.get_device_name(device)))
    single = own_costs(own[:1], "flat", given.views, given.columns)
    rows += rows_of("flat, one slice alone", single, peer, work, on_gpu)
    table = Table(
        f"{given.slices} slices, {given.columns} × {given.views} rays, {given.size}² pixels; {device}",
        ("operator", "CPU s/slice", "wall s/slice", "times as fast as ASTRA", "10⁹ views·voxels/s"),
        tuple(rows),
        " ".join(notes),
    )
    machine = f"{platform.machine()}, torch {torch.__version__}, {given.threads} thread(s)"
    print(table.text(), machine, sep="\n")
    if given.out:
        heading = (
            "# Projector and reconstruction\n\nResearch use only. FBP is held against ASTRA's backprojection."
        )
        command = f"`python benchmarks/projector.py {' '.join(sys.argv[1:])}`; {machine}."
        given.out.write_text(f"{heading}\n\n{command}\n\n{table.markdown()}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
