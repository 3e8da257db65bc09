"""Seconds a slice and peak memory of `ctenhance enhance`, through the command line in a process of its own.

    python benchmarks/speed_memory.py --model enhance-twin       512 x 512 x 600, as the target says
    python benchmarks/speed_memory.py --model runs/twin/best.safetensors --slices 8

The volume is synthetic: an elliptic body with lungs and noise; what it shows changes neither time nor memory.
Peak memory is the largest resident set of the child, as the operating system counted it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROWS = COLUMNS = 512
SLICES = 600
PIXEL_MM, SPACING_MM = 0.7, 1.0
SECONDS_LIMIT, MEMORY_LIMIT_GB = 1.5, 4.0
PACKAGE = Path(__file__).resolve().parents[1] / "CTEnhance"


def body(rows: int, columns: int) -> np.ndarray:
    """A slice through an elliptic body with two lungs, HU `[y, x]`."""
    y, x = np.mgrid[:rows, :columns]
    v, u = (y - rows / 2) / (0.36 * rows), (x - columns / 2) / (0.46 * columns)
    hu = np.where(u * u + v * v < 1, 40.0, -1000.0)
    for side in (-0.45, 0.45):
        hu[((u - side) / 0.32) ** 2 + (v / 0.6) ** 2 < 1] = -850.0
    return hu.astype(np.float32)


def write_volume(path: Path, slices: int, seed: int = 0) -> None:
    """Write an int16 MetaImage slice by slice.

    The volume never stands in this process: on Linux a child's peak starts from what its parent held.
    """
    header = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "0 0 0",
        "ElementSpacing": f"{PIXEL_MM} {PIXEL_MM} {SPACING_MM}",
        "DimSize": f"{COLUMNS} {ROWS} {slices}",
        "ElementType": "MET_SHORT",
        "ElementDataFile": "LOCAL",
    }
    rng = np.random.default_rng(seed)
    clean = body(ROWS, COLUMNS)
    with path.open("wb") as file:
        file.write("".join(f"{key} = {value}\n" for key, value in header.items()).encode())
        for _ in range(slices):
            noisy = clean + rng.normal(0, 30, clean.shape)
            file.write(np.clip(np.rint(noisy), -1024, 3071).astype("<i2").tobytes())


def peak_gb() -> float | None:
    """Largest resident set of all children so far, in GB; None where no system call tells (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9


def measure(model: str | None, slices: int, threads: int | None, steps: int | None) -> dict[str, Any]:
    """Enhance a synthetic volume in a child process.  Raises CalledProcessError when that fails."""
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE), environment.get("PYTHONPATH")]))
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, target, report = (folder / file for file in ("in.mha", "out.mha", "report.json"))
        write_volume(source, slices)
        command = [sys.executable, "-m", "ctenhance", "enhance", str(source), str(target)]
        command += ["--device", "cpu", "--progress", "none", "--report", str(report)]
        command += ["--model", model] if model else []
        command += ["--steps", str(steps)] if steps else []
        start = time.perf_counter()
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        whole = time.perf_counter() - start
        written = json.loads(report.read_text(encoding="utf-8"))
    return {
        "model": written["model"]["name"],
        "slices": slices,
        "cpus": os.cpu_count(),
        "threads": environment.get("OMP_NUM_THREADS"),
        "seconds_per_slice": written["seconds"]["enhance"] / slices,
        "seconds_whole_command": whole,
        "peak_gb": peak_gb(),
        "warnings": written["warnings"],
    }


def show(figures: dict[str, Any]) -> str:
    """The figures and the verdicts as text.  The memory's verdict needs the size that its target names."""
    seconds, peak, slices = (figures[key] for key in ("seconds_per_slice", "peak_gb", "slices"))
    speed = "PASS" if seconds <= SECONDS_LIMIT else "MISS"
    if peak is None:
        memory = "not measured on this system"
    elif slices != SLICES:
        memory = f"{peak:.2f} GB for {slices} slices (no verdict: the target is for {SLICES})"
    else:
        memory = (
            f"{peak:.2f} GB, target below {MEMORY_LIMIT_GB:g}: {'PASS' if peak < MEMORY_LIMIT_GB else 'MISS'}"
        )
    where = f"{figures['cpus']} CPUs, {figures['threads'] or 'all'} threads"
    lines = [
        f"{figures['model']} on 512 x 512 x {slices}, {where}",
        f"  {seconds:.2f} s a slice, target {SECONDS_LIMIT:g}: {speed}",
        f"  whole command, reading and writing included: {figures['seconds_whole_command']:.0f} s",
        f"  peak resident memory: {memory}",
    ]
    return "\n".join(lines + [f"  warning: {text}" for text in figures["warnings"]])


def main() -> None:
    """Measure each model that is named, or the default one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="weights by name or path (default: the registry's default)")
    parser.add_argument(
        "--slices", type=int, default=SLICES, help=f"fewer for a quick look (default {SLICES})"
    )
    parser.add_argument("--steps", type=int, help="diffusion steps (default: the model's)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    asked = parser.parse_args()
    if asked.slices < 1:
        parser.error("--slices must be at least 1")
    try:
        figures = measure(asked.model, asked.slices, asked.threads, asked.steps)
    except subprocess.CalledProcessError as error:
        # its own last line has said why
        raise SystemExit(error.returncode) from None
    print(show(figures))
    if asked.json is not None:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
