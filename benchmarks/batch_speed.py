"""What sharing out costs and gains: overhead of a tiny case, and two workers against one.

    python benchmarks/batch_speed.py [--tiny 10000] [--cases 24] [--slices 20] [--rounds 3] [--out FILE]

Overhead: so many cases that do nothing go over two workers, from the manifest and back into it; the time for
each is what the batch itself costs. Two against one: the same cases of 256 x 256 pixels by `ctenhance batch`
with one worker of one thread and with two, by turns; the time of starting, which an empty batch takes, is
taken off. Two workers need two cores that nothing else uses.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ctenhance.batch import cluster, worker
from ctenhance.batch.case import Case
from ctenhance.batch.manifest import Manifest
from ctenhance.batch.verbs import Degrade
from ctenhance.core.volume import CTVolume
from ctenhance.options import DegradeOptions
from ctenhance.runtime.progress import CancelToken, silent

#: Tiny cases before the clock runs.
WARM = 10


def overhead(number: int) -> tuple[float, float]:
    """Milliseconds a case that is refused at once, and the growth of this process in MB."""
    import psutil

    job_verb = Degrade(DegradeOptions(), {"verb": "degrade"})
    with tempfile.TemporaryDirectory() as temporary, Manifest(Path(temporary)) as manifest:
        # A case with a problem is the least that a worker can be given: it comes back with its sentence.
        cases = (Case(f"{k:06}", (), Path(temporary, f"{k:06}.nii.gz"), "nothing") for k in range(number))
        manifest.begin("degrade", {})
        manifest.add(list(cases))
        job = worker.Job(job_verb, Path(temporary), version="")
        with cluster.connected(2, None, False, lambda text, level: None) as connection:
            before = psutil.Process().memory_info().rss
            began = time.perf_counter()
            ended = 0
            stream = cluster.over_dask(connection, job, manifest.cases(), silent, CancelToken())
            for case, outcome in stream:
                manifest.ended(case, outcome)
                ended += 1
                if ended == WARM:  # each worker has loaded its libraries
                    began = time.perf_counter()
            seconds = time.perf_counter() - began
            grown = psutil.Process().memory_info().rss - before
        assert ended == number == manifest.count("failed")
    return 1e3 * seconds / (number - WARM), grown / 2**20


def seconds(source: Path, workers: int) -> float:
    with tempfile.TemporaryDirectory() as temporary:
        line = ["batch", str(source), str(Path(temporary, "out")), "--workers", str(workers)]
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "ctenhance", *line, "--progress", "none"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return time.perf_counter() - began


def write(folder: Path, number: int, slices: int) -> None:
    folder.mkdir()
    y, x = np.mgrid[:256, :256] - 128
    body = np.where((x / 110) ** 2 + (y / 80) ** 2 < 1, 40.0, -1000.0)
    for case in range(number):
        noise = np.random.default_rng(case).normal(0, 20, (slices, 256, 256))
        values = np.round(np.maximum(body + noise, -1024)).astype(np.float32)
        CTVolume(values, (1.5, 1.5, 2.0)).write(folder / f"{case:03}.nii.gz")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tiny", type=int, default=10_000)
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--slices", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    lines = []

    def say(text: str) -> None:
        lines.append(text)
        print(text, flush=True)

    say(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the beginning.\n")
    each, grown = overhead(given.tiny)
    say(f"Overhead at {given.tiny} tiny cases: {each:.2f} ms a case; the command grew by {grown:.0f} MB.\n")
    with tempfile.TemporaryDirectory() as temporary:
        cases, empty = Path(temporary, "cases"), Path(temporary, "empty")
        write(cases, given.cases, given.slices)
        write(empty, 1, 1)
        say("| round | start, 1 (s) | start, 2 (s) | 1 worker (s) | 2 workers (s) | times as fast | load |")
        say("|---|---|---|---|---|---|---|")
        gains = []
        for number in range(given.rounds):
            starts = [seconds(empty, workers) for workers in (1, 2)]
            both = [seconds(cases, workers) for workers in (1, 2)]
            gains.append((both[0] - starts[0]) / (both[1] - starts[1]))
            times = " | ".join(f"{value:.1f}" for value in (*starts, *both))
            say(f"| {number + 1} | {times} | {gains[-1]:.2f} | {os.getloadavg()[0]:.1f} |")
        say(f"\nTwo workers are {statistics.median(gains):.2f} times as fast as one (median).")
    if given.out is not None:
        head = (__doc__ or "").splitlines()[0]
        given.out.write_text(f"# {head}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
