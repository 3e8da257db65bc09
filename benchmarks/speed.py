"""How fast and how small this build is beside an older one, in one run by turns; every figure with its ratio.

    git worktree add /somewhere cdf2be5
    python benchmarks/speed.py --before /somewhere --out benchmarks/results/speed.md

Builds run by turns, each time in a process of its own, so that whatever else the machine does meets both; the
table has medians. The peers (non-local means of scikit-image in its fast form; BM3D once, where it is
installed) run on the same slices in the same run. What the default gains in speed it must not lose in
quality: `--pairs`, folders of `<name>_degraded.*` and `<name>_reference.*` of held-out patients
(`make_pairs.py`), are enhanced by both builds as well. `--only` chooses parts; all of them take some seven
minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parents[1]
#: Slices of the chest that are enhanced (enough for what is done once a run, such as compiling the network,
#: to count as little as in a scan), and reconstructed.
SLICES, NEED_SLICES = 48, 8
PARTS = ("enhance", "quality", "start", "memory", "need", "decompose", "peers")
#: What PSNR (dB) and SSIM may fall by.
PSNR_LIMIT, SSIM_LIMIT = 0.02, 0.0002
#: Rays that are decomposed in one go: those of a row of a scan with 1000 views.
RAYS = 1_000_000

PEERS = """
import importlib.util, json, sys, time
import SimpleITK
from skimage.restoration import denoise_nl_means
array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(sys.argv[1])).astype("float32")
plane = array[len(array) // 2]
def timed(run):
    start = time.perf_counter(); run(); return time.perf_counter() - start
settings = {"patch_size": 5, "patch_distance": 6, "h": 30.0, "fast_mode": True}
found = {"nlm": timed(lambda: denoise_nl_means(plane, **settings))}
if sys.argv[2] == "bm3d" and importlib.util.find_spec("bm3d"):
    import bm3d
    found["bm3d"] = timed(lambda: bm3d.bm3d(plane, 30.0, profile="np"))
print(json.dumps(found))
"""

#: Rays a second of the solver as `decompose` calls it, after a first run that is told alone (compiled code is
#: made or loaded then), and how far the results lie from the maximum, in standard errors.
DECOMPOSE = """
import json, sys, time
import torch
try:
    from ctenhance.decomposition.solver.layer import Decomposer
except ImportError:  # as older builds have it
    from ctenhance.decompose.layer import Decomposer
from ctenhance.physics.detector_models import detector_model
from ctenhance.physics.spectrum import energy_grid, tube_spectrum
energies = energy_grid(120)
thresholds = torch.tensor([20.0, 35.0, 50.0, 65.0, 80.0, 120.0], dtype=torch.float64)
tube = tube_spectrum(120, energies_kev=energies)
spectra = detector_model("czt", energies).effective_spectra(tube, thresholds)
solver = Decomposer(["water", "iodine"], spectra * (5e5 / spectra.sum()), energies)
solver_of = lambda: getattr(solver, "solver", "torch")
if hasattr(solver, "prepare"):
    solver.prepare(int(sys.argv[2]))
draws, n = torch.Generator().manual_seed(0), int(sys.argv[1])
lines = torch.rand(n, 2, dtype=torch.float64, generator=draws) * torch.tensor([35.0, 0.2]).double()
counts = torch.poisson(solver.expected(lines, exact=True), generator=draws).float()
def timed():
    start = time.perf_counter()
    found = solver.estimate(counts, correct_bias=True)
    return time.perf_counter() - start, found
first, _ = timed()
best = min(timed()[0] for _ in range(2))
some = counts[: n // 20]
end = solver.estimate(some, tolerance=1e-10).lines
away = (solver.estimate(some).lines - end).abs() / solver.standard_errors(end)
print(json.dumps({"rate": n / best, "first": first, "solver": solver_of(), "away": float(away.max())}))
"""


def child(build: Path, code: str, *arguments: str, threads: int) -> dict[str, Any]:
    """What a script printed last, run on the package of a build."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment(build, threads),
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def environment(build: Path, threads: int) -> dict[str, str]:
    """The environment in which `ctenhance` is that of a build."""
    return {**os.environ, "PYTHONPATH": str(build / "CTEnhance"), "OMP_NUM_THREADS": str(threads)}


def reported(
    build: Path, stage: str, slices: int, folder: Path, *arguments: str, threads: int
) -> dict[str, Any]:
    """Seconds a slice of a stage of a command, as its own report says, the engine that it used, and the wall
    time of the whole command."""
    report = folder / "report.json"
    wall, _peak = command(build, *arguments, "--progress", "none", "--report", str(report), threads=threads)
    written = json.loads(report.read_text(encoding="utf-8"))
    engine = written.get("engine") or {"name": "torch", "precision": "float32"}
    return {
        "seconds": written["seconds"][stage] / slices,
        "wall": wall,
        "engine": f"{engine['name']}, {engine['precision']}",
    }


def command(build: Path, *arguments: str, threads: int) -> tuple[float, float]:
    """Seconds of wall time, and peak memory in GB, of a command of a build."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "ctenhance", *arguments],
        env=environment(build, threads),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"ctenhance {' '.join(arguments)} of {build} failed")
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    return time.perf_counter() - start, peak


def first_event(build: Path, source: Path, target: Path, threads: int) -> float:
    """Seconds from the shell to the first progress event of `enhance`."""
    start = time.perf_counter()
    arguments = ["enhance", str(source), str(target), "--progress", "json"]
    with subprocess.Popen(
        [sys.executable, "-m", "ctenhance", *arguments],
        env=environment(build, threads),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seconds = time.perf_counter() - start
        process.terminate()
    return seconds


class Table:
    """Rows of before, after and their ratio; medians over the rounds."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    def add(
        self,
        name: str,
        before: list[float],
        after: list[float],
        unit: str,
        least: float,
        more_is_better: bool = False,
    ) -> None:
        """A row; `least`: the least factor by which it shall be better."""
        one, two = statistics.median(before), statistics.median(after)
        factor = two / one if more_is_better else one / two
        verdict = "hit" if factor >= least else "**missed**"
        self.rows.append(
            f"| {name} | {one:.4g} {unit} | {two:.4g} {unit} | {factor:.2f} | ≥ {least:g} | {verdict} |"
        )
        print(self.rows[-1], flush=True)

    def add_difference(self, name: str, before: float, after: float, limit: float) -> None:
        """A row of what may fall by no more than `limit`."""
        verdict = "hit" if after - before > -limit else "**missed**"
        self.rows.append(
            f"| {name} | {before:.5g} | {after:.5g} | {after - before:+.2g} | > -{limit:g} | {verdict} |"
        )
        print(self.rows[-1], flush=True)

    def text(self) -> str:
        """The table in Markdown."""
        head = "| what | before | this build | times better | wanted | |\n|---|---:|---:|---:|---:|---|"
        return "\n".join([head, *self.rows])


def by_turns(rounds: int, *runs: Callable[[], Any]) -> list[list[Any]]:
    """The results of each run, round by round."""
    found: list[list[Any]] = [[] for _ in runs]
    for _ in range(rounds):
        for kept, run in zip(found, runs, strict=True):
            kept.append(run())
    return found


def measure(
    before: Path, source: Path | None, pairs: list[Path], parts: set[str], rounds: int, threads: int
) -> str:
    """All parts that are asked for, as a table with what was measured on what."""
    from ctenhance.physics.phantom import chest_phantom

    table, notes = Table(), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chest = folder / "chest.mha"
        whole = _chest(source, chest_phantom)
        whole.write(chest)
        builds = (before, HERE)
        seconds: list[float] = []
        if parts & {"enhance", "peers"}:
            asked = ("enhance", len(whole.array), folder, "enhance", str(chest), str(folder / "enhanced.mha"))
            old, new = by_turns(rounds, *(partial(reported, b, *asked, threads=threads) for b in builds))
            seconds = [one["seconds"] for one in new]
            table.add("enhance, s a 512² slice", [one["seconds"] for one in old], seconds, "s", 10)
            table.add("... whole command", *([one["wall"] for one in run] for run in (old, new)), "s", 1)
            notes.append(f"{len(whole.array)} slices are enhanced, {NEED_SLICES} reconstructed.")
            notes.append(f"enhance: before {old[0]['engine']}; this build {new[0]['engine']}.")
        if "peers" in parts:
            peers = [
                child(HERE, PEERS, str(chest), "bm3d" if k == 0 else "", threads=threads)
                for k in range(rounds)
            ]
            table.add("... beside non-local means", [one["nlm"] for one in peers], seconds, "s", 5)
            if "bm3d" in peers[0]:
                table.add("... beside BM3D", [peers[0]["bm3d"]], seconds, "s", 200)
        if "quality" in parts and pairs:
            for place in pairs:
                old, new = (quality(build, place, folder, threads) for build in builds)
                table.add_difference(f"PSNR, {place.name}, dB", old[0], new[0], PSNR_LIMIT)
                table.add_difference(f"SSIM, {place.name}", old[1], new[1], SSIM_LIMIT)
        if "start" in parts:
            one, out = folder / "one.nii.gz", folder / "out.nii.gz"
            type(whole)(whole.array[:1], whole.spacing).write(one)
            arguments = ("enhance", str(one), str(out), "--progress", "none")
            runs = by_turns(rounds, *(partial(command, b, *arguments, threads=threads) for b in builds))
            table.add("one slice, shell to file", *([wall for wall, _ in run] for run in runs), "s", 4)
            events = by_turns(rounds, *(partial(first_event, b, one, out, threads) for b in builds))
            table.add("shell to first progress", *events, "s", 1)
        if "memory" in parts:
            _memory(table, builds, folder, threads)
        if "need" in parts:
            scan = folder / "scan.ctproj.h5"
            few = folder / "few.mha"
            type(whole)(whole.array[:NEED_SLICES], whole.spacing).write(few)
            arguments = ("--dose", "0.25", "--seed", "1", "--progress", "none")
            command(before, "project", str(few), str(scan), *arguments, threads=threads)
            asked = ("reconstruct", NEED_SLICES, folder, "reconstruct", str(scan), str(folder / "need.mha"))
            old, new = by_turns(
                max(1, rounds // 2), *(partial(reported, b, *asked, threads=threads) for b in builds)
            )
            walls = ([one["seconds"] for one in run] for run in (old, new))
            table.add("reconstruct need, s a slice", *walls, "s", 2.5)
            table.add("... whole command", *([one["wall"] for one in run] for run in (old, new)), "s", 1)
            notes.append(f"need: before {old[0]['engine']}; this build {new[0]['engine']}.")
        if "decompose" in parts:
            asked = (DECOMPOSE, str(RAYS), str(64 * RAYS))  # as of a scan with 64 rows
            old, new = by_turns(
                max(1, rounds // 2), *(partial(child, b, *asked, threads=threads) for b in builds)
            )
            rates = ([one["rate"] for one in run] for run in (old, new))
            table.add("decompose, rays a second", *rates, "", 2.5, more_is_better=True)
            notes.append(
                f"decompose: before {old[0]['solver']}; this build {new[0]['solver']}, whose first run took "
                f"{max(one['first'] for one in new):.1f} s; {old[0]['away']:.1e} and {new[0]['away']:.1e} "
                "standard errors at most from the maximum."
            )
    load = os.getloadavg()
    head = (
        f"{threads} threads, {os.cpu_count()} CPUs, {rounds} rounds by turns; load at the end: {load[0]:.1f}."
    )
    return "\n\n".join(["# Speed beside an older build", head, table.text(), " ".join(notes)]) + "\n"


def _chest(source: Path | None, phantom: Callable[..., Any]) -> Any:
    """Some 512² slices of a chest with the noise of a low dose: from a scan, or drawn."""
    from ctenhance.core.volume import CTVolume

    if source is not None:
        volume = CTVolume.read(source)
        middle = len(volume.array) // 2
        array = volume.array[max(0, middle - SLICES // 2) :][:SLICES, :512, :512]
        room = [(0, 0), *((0, 512 - n) for n in array.shape[1:])]  # cropped scans: air around them
        return CTVolume(np.pad(array, room, constant_values=-1000), volume.spacing)
    volume = phantom(512, 512, SLICES)
    noise = np.random.default_rng(0).normal(0, 30, volume.array.shape)
    return volume.with_array(np.clip(volume.array + noise, -1024, 3071).round().astype(np.float32))


def quality(build: Path, pairs: Path, folder: Path, threads: int) -> tuple[float, float]:
    """PSNR (dB) and SSIM of a build's default on the pairs, at +-1000 HU: means over patients of the means
    over their slices but the two at the ends."""
    from ctenhance.core.volume import CTVolume
    from ctenhance.quality.metrics import WINDOWS, psnr, ssim, to_window

    means = []
    for degraded in sorted(pairs.glob("*_degraded.*")):
        (reference,) = pairs.glob(degraded.name.split("_degraded.")[0] + "_reference.*")
        target = folder / "enhanced.nii.gz"
        command(build, "enhance", str(degraded), str(target), "--progress", "none", threads=threads)
        result, truth = CTVolume.read(target).array[1:-1], CTVolume.read(reference).array[1:-1]
        planes = list(zip(result, truth, strict=True))
        alike = [ssim(*(to_window(plane, *WINDOWS["full"]) for plane in both)) or 0.0 for both in planes]
        means.append((statistics.mean(psnr(*both) for both in planes), statistics.mean(alike)))
        target.unlink()
    if not means:
        raise SystemExit(f"{pairs} holds no pairs")
    return statistics.mean(one for one, _ in means), statistics.mean(one for _, one in means)


def _memory(table: Table, builds: tuple[Path, Path], folder: Path, threads: int) -> None:
    from speed_memory import write_volume

    large, out = folder / "large.mha", folder / "large_out.mha"
    write_volume(large, 600)
    peaks = []
    for build in builds:
        seconds, peak = command(build, "enhance", str(large), str(out), "--progress", "none", threads=threads)
        peaks.append((seconds, peak))
        out.unlink()
    table.add("peak memory, 512 × 512 × 600", [peaks[0][1]], [peaks[1][1]], "GB", 2.5)
    table.add("... whole command", [peaks[0][0]], [peaks[1][0]], "s", 1)


def main() -> None:
    """Measure what is asked for, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the older build")
    parser.add_argument(
        "--source", type=Path, help="a chest CT, of at most 512 × 512 pixels (default: a drawn one)"
    )
    parser.add_argument("--pairs", type=Path, nargs="+", default=[], help="folders of pairs, one or more")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    sys.path.insert(0, str(HERE / "CTEnhance"))
    text = measure(
        asked.before.resolve(), asked.source, asked.pairs, set(asked.only), asked.rounds, asked.threads
    )
    print(text)
    if asked.out is not None:
        asked.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
