"""What thousands of CTs cost on many machines: measured here, and played through with Dask's own scheduler.

    python benchmarks/batch_plan.py [--scans 17316] [--slices 320] [--simulate 64] [--out FILE]

Measures, of one worker with one thread: seconds of processor a slice for reading, the network, writing and
the rest of `ctenhance batch`, and bytes in and out, on a drawn chest with noise, 512 x 512 pixels. From that
follow the hours, the storage and the network of a cluster, and what limits it. Then so many workers are
played through on this machine: the batch's own loop, Dask's scheduler, messages over loopback, tasks that
wait instead of computing, in a shorter time; it says whether all workers stay busy.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import ctenhance
from ctenhance.batch import cluster, worker
from ctenhance.batch.case import DONE, Case, Outcome
from ctenhance.batch.pictures import figures, thumbnail
from ctenhance.batch.verbs import Degrade
from ctenhance.core.volume import CTVolume
from ctenhance.enhancement import models
from ctenhance.files.finished import file_sha256
from ctenhance.options import DegradeOptions
from ctenhance.runtime.progress import CancelToken, silent

SIDE = 512
#: Clusters of the table: name, cores, cards, network of the storage in Gbit/s.
CLUSTERS = (
    ("this machine's kind, 2 cores", 2, 0, 1),
    ("8 nodes of 16 cores", 128, 0, 10),
    ("8 nodes of 64 cores", 512, 0, 10),
    ("8 cards, 64 cores", 64, 8, 10),
)


@dataclass(frozen=True)
class Costs:
    """Seconds of one core, and bytes, a slice; `once` are seconds of processor a scan."""

    read: float
    network: float
    write: float
    rest: float
    once: float
    bytes_in: float
    bytes_out: float

    def processor(self, slices: int, with_network: bool = True) -> float:
        """Seconds of one core a scan."""
        each = self.read + self.write + self.rest + (self.network if with_network else 0.0)
        return slices * each + self.once


def chest(slices: int) -> CTVolume:
    """A body with lungs and a scanner's noise, on which packing depends."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    body = np.where((x / 230) ** 2 + (y / 165) ** 2 < 1, 40.0, -1000.0)
    for centre in (-95, 95):
        body[((x - centre) / 75) ** 2 + (y / 115) ** 2 < 1] = -850.0
    noise = np.random.default_rng(0).normal(0, 25, (slices, SIDE, SIDE))
    return CTVolume(np.round(np.maximum(body + noise, -1024)).astype(np.float32), (0.7, 0.7, 1.0))


def measured(slices: int) -> Costs:
    """Processor time (not affected by what else runs), one thread."""
    models.keep_networks()
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary, "in.nii.gz"), Path(temporary, "out.nii.gz")
        chest(slices).write(source)
        ctenhance.enhance(chest(2))  # loads libraries and network
        times = [time.process_time()]
        volume = ctenhance.read(source)
        times.append(time.process_time())
        result = ctenhance.enhance(volume)
        times.append(time.process_time())
        enhanced = result.volumes["enhanced"]
        ctenhance.write(enhanced, target)
        times.append(time.process_time())
        volume.identity()
        file_sha256(target)
        times.append(time.process_time())
        figures(volume, enhanced)
        thumbnail(volume, enhanced)
        times.append(time.process_time())
        read, network, write, rest, once = np.diff(times)
        sizes = source.stat().st_size, target.stat().st_size
    return Costs(
        read / slices,
        network / slices,
        write / slices,
        rest / slices,
        once,
        sizes[0] / slices,
        sizes[1] / slices,
    )


def waiting(job: worker.Job, case: Case) -> Outcome:
    """The simulated work: what a case takes, waited for."""
    began = time.perf_counter()
    time.sleep(float(case.slices))
    return Outcome(DONE, seconds=time.perf_counter() - began)


def played(workers: int, cases: int, seconds: float) -> tuple[float, float]:
    """The share of the time in which workers were busy, and cases a second, of so many cases."""
    import dask
    from distributed import LocalCluster

    draw = np.random.default_rng(0)
    # Scans differ in length: by a third around the mean.
    lengths = draw.gamma(9, seconds / 9, cases)
    listed = (Case(str(k), (), Path(str(k)), slices=str(length)) for k, length in enumerate(lengths))
    job = worker.Job(Degrade(DegradeOptions(), {}), Path())
    real = cluster.on_worker
    with dask.config.set({"distributed.worker.memory.terminate": False}):
        local = LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=False, protocol="tcp://", host="127.0.0.1",
            dashboard_address="127.0.0.1:0", memory_limit=0, silence_logs=50,
        )  # fmt: skip
        connection = cluster.Connection(local, None, workers)
        connection.open()
        cluster.on_worker = waiting
        began, work = time.perf_counter(), 0.0
        try:
            for _, outcome in cluster.over_dask(connection, job, listed, silent, CancelToken()):
                work += outcome.seconds
        finally:
            cluster.on_worker = real
            took = time.perf_counter() - began
            connection.close()
            local.close()
    return work / (workers * took), cases / took


def table(costs: Costs, scans: int, slices: int, card_slices: float) -> list[str]:
    """One line for each cluster: hours, and what limits it."""
    moved = slices * (costs.bytes_in + costs.bytes_out)
    lines = [
        "| cluster | hours by processors | hours by cards | hours by a shared network | hours | limited by |",
        "|---|---|---|---|---|---|",
    ]
    for name, cores, cards, gigabits in CLUSTERS:
        by_cores = scans * costs.processor(slices, not cards) / cores / 3600
        by_cards = scans * slices / (cards * card_slices) / 3600 if cards else 0.0
        by_network = scans * moved * 8 / (gigabits * 1e9) / 3600
        hours = {"processors": by_cores, "cards": by_cards, "network": by_network}
        limit = max(hours, key=lambda key: hours[key])
        shown = f"{by_cards:.1f}" if cards else "–"
        lines.append(
            f"| {name}, {gigabits} Gbit/s | {by_cores:.1f} | {shown} | {by_network:.1f} | "
            f"**{hours[limit]:.1f}** | {limit} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scans", type=int, default=17_316)
    parser.add_argument("--slices", type=int, default=320, help="of a scan")
    parser.add_argument("--measure", type=int, default=24, help="slices that are measured")
    parser.add_argument("--card", type=float, default=200.0, help="slices a second of one card (assumed)")
    parser.add_argument("--simulate", type=int, default=64, help="workers that are played through")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    lines: list[str] = []

    def say(*texts: Any) -> None:
        lines.extend(map(str, texts))
        print(*texts, sep="\n", flush=True)

    costs = measured(given.measure)
    say(
        f"One thread, {given.measure} slices of {SIDE} x {SIDE}, load {os.getloadavg()[0]:.0f}:\n",
        "| read (.nii.gz) | network | write (.nii.gz) | hashes | pictures and figures a scan | in | out |",
        "|---|---|---|---|---|---|---|",
        f"| {1e3 * costs.read:.1f} ms | {1e3 * costs.network:.0f} ms | {1e3 * costs.write:.1f} ms | "
        f"{1e3 * costs.rest:.1f} ms | {costs.once:.1f} s | {costs.bytes_in / 2**20:.2f} MB | "
        f"{costs.bytes_out / 2**20:.2f} MB |\n",
    )
    scan, total = costs.processor(given.slices), given.scans * given.slices
    say(
        f"A scan of {given.slices} slices: {scan:.0f} s of one core; {given.scans} of them: "
        f"{given.scans * scan / 3600:.0f} core hours, {total * costs.bytes_in / 1e12:.2f} TB in, "
        f"{total * costs.bytes_out / 1e12:.2f} TB out.\n"
    )
    say(*table(costs, given.scans, given.slices, given.card), "")
    say("| workers | a case (s) | busy | cases a second |", "|---|---|---|---|")
    for seconds in (8.0, 4.0, 2.0):
        number = min(given.cases, int(given.simulate * 40 / seconds))
        busy, rate = played(given.simulate, number, seconds)
        say(f"| {given.simulate} | {seconds:g} | {100 * busy:.0f} % | {rate:.1f} |")
    if given.out is not None:
        head = (__doc__ or "").splitlines()[0]
        given.out.write_text(f"# {head}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
