"""Every verb on a graphics card beside the same verb in torch on this machine's CPU, in one run of minutes.

    python benchmarks/gpu.py --out gpu.md                on a machine with a card, under 8 minutes
    python benchmarks/gpu.py --device cpu --tiny         the same script tried on a CPU

For each verb: the rate on the card and on the CPU, their ratio, the card's peak memory; for enhance also the
difference of the results, and for the projector the share of the card's memory bandwidth. The CPU runs
as little as gives a figure. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "CTEnhance"))
import ctenhance
from ctenhance.core.volume import CTVolume
from ctenhance.decomposition.solver.layer import Decomposer
from ctenhance.physics.detector_models import detector_model
from ctenhance.physics.fbp import fbp
from ctenhance.physics.projector import backproject, project
from ctenhance.physics.spectrum import energy_grid, tube_spectrum
from ctenhance.scan.simulate import simulate_projections
from projector import BANDWIDTH, pixels, scan
from speed_memory import body
from tables import Table

#: Stops adding measurements after so many seconds: the card is lent by the minute.
LIMIT_SECONDS = 420.0


def seconds(run: Callable[[], Any], device: torch.device, warm: bool = True) -> tuple[float, Any]:
    """Seconds of one run, after one that is not counted, to the end of all that was queued; its result."""
    if warm:
        run()
    _wait(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    result = run()
    _wait(device)
    return time.perf_counter() - start, result


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak(device: torch.device) -> str:
    """The card's peak memory since the last measurement began."""
    return f"{torch.cuda.max_memory_allocated(device) / 2**30:.2f}" if device.type == "cuda" else "-"


class Run:
    """The measurements of one run, a row each."""

    def __init__(self, device: torch.device, tiny: bool) -> None:
        self.device, self.tiny, self.started = device, tiny, time.perf_counter()
        self.rows: list[tuple[str, ...]] = []

    def row(
        self,
        name: str,
        unit: str,
        work: Callable[[str, int], Callable[[], Any]],
        amounts: tuple[int, int],
        scale: float = 1.0,
        remark: Callable[[float, Any, Any], str] = lambda rate, here, there: "",
    ) -> None:
        """Measure `work(device, amount)` on the card with the first of `amounts`, on the CPU the second."""
        if time.perf_counter() - self.started > LIMIT_SECONDS:
            print(f"{name}: left out, the time is over", flush=True)
            return
        rates, results = [], []
        memory = "-"
        for place, amount in ((self.device, amounts[0]), (torch.device("cpu"), amounts[1])):
            taken, result = seconds(work(str(place), amount), place, warm=place.type != "cpu")
            if place is self.device:
                memory = peak(place)
            rates.append(amount * scale / taken)
            results.append(result)
        note = remark(rates[0], *results)
        figures = (f"{rates[0]:.4g}", f"{rates[1]:.4g}", f"{rates[0] / rates[1]:.1f}", memory)
        self.rows.append((name, unit, *figures, note))
        print(f"{name}: {rates[0]:.4g} {unit}, CPU {rates[1]:.4g}, {memory} GB {note}", flush=True)


def chest(slices: int, size: int) -> CTVolume:
    """Noisy slices of a body."""
    rng = np.random.default_rng(0)
    clean = body(size, size)
    array = np.stack([clean + rng.normal(0, 30, clean.shape) for _ in range(slices)])
    return CTVolume(array.astype(np.float32), (0.7, 0.7, 1.0))


def measure(run: Run) -> None:
    """All verbs."""
    size, few, many = (128, 2, 3) if run.tiny else (512, 4, 256)
    volumes = {n: chest(n, size) for n in {few, many}}

    def enhance(model: str) -> Callable[[str, int], Callable[[], Any]]:
        return lambda device, n: (
            lambda: ctenhance.enhance(volumes[n], model=model, device=device, engine="torch")
        )

    def apart(_rate: float, here: Any, there: Any) -> str:
        both = [result.volumes["enhanced"].array[: few - 1] for result in (here, there)]
        return f"{np.std(both[0] - both[1]):.3f} HU RMS apart, {here.report['engine']['precision']}"

    run.row("enhance, one step", "slices/s", enhance("enhance-twin"), (many, few), remark=apart)
    latent = enhance("enhance-diffusion")
    run.row("enhance, diffusion", "slices/s", latent, (max(few, many // 4), few), remark=apart)

    views, columns, slices = (72, 96, 2) if run.tiny else (1152, 736, 64)
    geometry, grid = scan(views, columns), pixels(size)
    work = views * size * size / 1e9
    images = torch.rand(slices, size, size) * 0.02
    sinograms = project(images[:1], geometry, grid).expand(slices, -1, -1).contiguous()
    name = torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else ""
    bandwidth = next((rate for part, rate in BANDWIDTH.items() if part in name), None)

    def share(rate: float, _here: Any, _there: Any) -> str:
        # one gather and one sum, four bytes each, for every view and voxel
        return "" if bandwidth is None else f"{rate * 1e9 * 8 / bandwidth:.0%} of the bandwidth"

    operators: dict[str, tuple[Callable[..., Any], torch.Tensor]] = {
        "project": (project, images),
        "backproject": (backproject, sinograms),
        "fbp": (fbp, sinograms),
    }
    for label, (operator, values) in operators.items():

        def job(
            device: str, n: int, operator: Any = operator, values: torch.Tensor = values
        ) -> Callable[[], Any]:
            held = values[:n].to(device)
            return lambda: operator(held, geometry, grid)

        run.row(label, "10⁹ views·voxels/s", job, (slices, 1), work, share)

    spread = chest(2 if run.tiny else 8, size)
    projections = simulate_projections(
        spread, dose=0.25, views=views, columns=columns, device=str(run.device), seed=1
    )
    parts = {n: projections.rows(0, n) for n in {1, projections.n_rows}}
    run.row(
        "reconstruct, need",
        "slices/s",
        lambda device, n: (
            lambda: ctenhance.reconstruct(parts[n], method="need", device=device, engine="torch")
        ),
        (projections.n_rows, 1),
    )
    _decompose(run)


def _decompose(run: Run) -> None:
    energies = energy_grid(120)
    thresholds = torch.tensor([20.0, 35.0, 50.0, 65.0, 80.0, 120.0], dtype=torch.float64)
    spectra = detector_model("czt", energies).effective_spectra(
        tube_spectrum(120, energies_kev=energies), thresholds
    )
    spectra = spectra * (5e5 / spectra.sum())
    rays = 2_000 if run.tiny else 2_000_000
    lines = torch.rand(rays, 2, dtype=torch.float64) * torch.tensor([35.0, 0.2], dtype=torch.float64)
    solver = Decomposer(["water", "iodine"], spectra, energies)
    counts = torch.poisson(solver.expected(lines, exact=True), generator=torch.Generator().manual_seed(0))

    def job(device: str, n: int) -> Callable[[], Any]:
        ready, held = solver.to(device), counts[:n].to(device)
        return lambda: ready(held)

    run.row("decompose", "rays/s", job, (rays, rays // 10))


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="next to nothing, to see that all of it runs")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    run = Run(torch.device(asked.device), asked.tiny)
    measure(run)
    card = torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else str(run.device)
    note = (
        f"{card} beside {torch.get_num_threads()} threads of {platform.machine()}, torch "
        f"{torch.__version__}; {time.perf_counter() - run.started:.0f} s in all."
    )
    header = ("verb", "unit", "card", "CPU", "times", "peak GB", "remark")
    text = Table("On a graphics card", header, tuple(run.rows), note).markdown() + "\n"
    print(text)
    if asked.out is not None:
        asked.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
