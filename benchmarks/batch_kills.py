"""Random kills over a batch: are all cases there in the end, each once and whole?

    python benchmarks/batch_kills.py [--kills 500] [--cases 200] [--seed 0] [--out results/batch_kills.md]

Workers, the scheduler and the command itself are killed by signal 9, at random times. Rounds alternate
between a cluster in this machine that the command starts (victims: a worker, the command with its scheduler)
and a scheduler and workers of their own (victims: a worker, its nanny, the scheduler, the command). What was
killed is started again, the command as a user would: the same line. A round is a fresh batch and ends when a
command says that all is finished. Nearly all kills fall when a case was finished since the last one, since a
command takes seconds to start, and nothing can be lost then; one in ten falls anywhere.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil

from ctenhance.core.volume import CTVolume
from ctenhance.files.finished import Finished

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
SHAPE = (3, 64, 64)
#: Seconds between kills, drawn evenly.
BETWEEN = (0.4, 2.4)


def write_cases(folder: Path, number: int) -> None:
    for case in range(number):
        hu = np.random.default_rng(case).normal(0, 12, SHAPE)
        hu[:, :16] -= 1000
        path = folder / f"p{case % 7}" / f"case{case:03}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        CTVolume(np.round(hu).astype(np.float32)).write(path)


def voxels(path: Path) -> str:
    return hashlib.sha256(CTVolume.read(path).array.tobytes()).hexdigest()


def quiet(arguments: list[str], errors: Path | None = None) -> subprocess.Popen[bytes]:
    with contextlib.ExitStack() as stack:
        stream = subprocess.DEVNULL if errors is None else stack.enter_context(errors.open("wb"))
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=stream,
            start_new_session=True,
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.wait()


class Cluster:
    """A scheduler and two workers of their own; each is started again when it is gone."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes] | None] = [None, None]

    @property
    def arguments(self) -> list[str]:
        return ["--scheduler", f"tcp://127.0.0.1:{self.port}"]

    def keep_up(self) -> None:
        if self.scheduler is None or self.scheduler.poll() is not None:
            line = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port)]
            self.scheduler = quiet([*line, "--no-dashboard"])
        for number, worker in enumerate(self.workers):
            if worker is None or worker.poll() is not None:
                line = ["distributed.cli.dask_worker", f"tcp://127.0.0.1:{self.port}", "--nthreads", "1"]
                self.workers[number] = quiet([*line, "--no-dashboard", "--memory-limit", "0"])

    def victims(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {"worker": [], "nanny": [], "scheduler": []}
        if self.scheduler is not None:
            found["scheduler"].append(self.scheduler.pid)
        for worker in self.workers:
            if worker is not None:
                found["nanny"].append(worker.pid)
                found["worker"] += spawned(worker.pid)
        return found

    def end(self) -> None:
        for process in [self.scheduler, *self.workers]:
            if process is not None:
                for child in spawned(process.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
                kill(process)


def spawned(pid: int) -> list[int]:
    """The worker processes below a nanny."""
    try:
        children = psutil.Process(pid).children(recursive=True)
        return [one.pid for one in children if "spawn_main" in " ".join(one.cmdline())]
    except psutil.Error:
        return []


class Round:
    """One batch, from an empty folder to the command that ends by itself."""

    def __init__(self, source: Path, target: Path, cluster: Cluster | None, draw: random.Random) -> None:
        self.source, self.target, self.cluster, self.draw = source, target, cluster, draw
        self.kills: Counter[str] = Counter()
        self.commands, self.finished = 0, 0
        self.sentences: Counter[str] = Counter()
        self.errors = target.with_suffix(".errors")

    def run(self, most: int) -> None:
        """Kill at most so many, then let it end in peace."""
        command = None
        following = time.monotonic() + 1
        while True:
            if self.cluster is not None:
                self.cluster.keep_up()
            if command is not None and command.poll() is not None:
                if command.returncode == 0:
                    return
                if command.returncode > 0:  # not killed: it ended with a sentence
                    last = self.errors.read_text(encoding="utf-8").strip().splitlines()[-1:]
                    self.sentences[re.sub(r"'[^']*'", "'…'", last[0]) if last else "nothing said"] += 1
                command = None
            if command is None:
                own = ["--workers", "2"] if self.cluster is None else self.cluster.arguments
                line = ["ctenhance", "batch", str(self.source), str(self.target), *own]
                command = quiet([*line, "--progress", "none"], self.errors)
                self.commands += 1
            time.sleep(0.05)
            if time.monotonic() > following and sum(self.kills.values()) < most:
                following = time.monotonic() + self.draw.uniform(*BETWEEN)
                self._kill(command)

    def _kill(self, command: subprocess.Popen[bytes]) -> None:
        found = {"worker": spawned(command.pid)} if self.cluster is None else self.cluster.victims()
        finished = sum(1 for _ in self.target.rglob("*.report.json"))
        at_work = finished > self.finished or self.draw.random() < 0.1
        if not at_work:
            return
        self.finished = finished
        kind = self.draw.choice([kind for kind, pids in found.items() if pids] + ["command"])
        pid = command.pid if kind == "command" else self.draw.choice(found[kind])
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.kills[kind] += 1
        if kind == "command":
            command.wait()

    def check(self, expected: dict[str, str]) -> list[str]:
        """What is wrong in the end; nothing, if all is well."""
        wrong = []
        results = {path.relative_to(self.target).as_posix(): path for path in self.target.rglob("*.nii.gz")}
        wrong += [f"missing: {name}" for name in expected.keys() - results.keys()]
        wrong += [f"too many: {name}" for name in results.keys() - expected.keys()]
        for name, path in results.items():
            if not Finished(path).whole():
                wrong.append(f"not whole: {name}")
            elif voxels(path) != expected.get(name):
                wrong.append(f"other voxels: {name}")
        wrong += [f"left behind: {path}" for path in self.target.rglob("*partial*")]
        wrong += [f"left behind: {path}" for path in self.target.rglob("unfinished")]
        with sqlite3.connect(self.target / "ctenhance-batch" / "manifest.sqlite") as base:
            rows = base.execute("SELECT name, state, count(*) FROM cases GROUP BY name").fetchall()
        wrong += [
            f"manifest: {row}" for row in rows if row[1] not in ("done", "finished before") or row[2] != 1
        ]
        wrong += ["manifest: not every case"] if {row[0] for row in rows} != expected.keys() else []
        return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--first", type=int, choices=(0, 1), default=0, help="1: begin with own scheduler")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "batch_kills.md")
    given = parser.parse_args()
    draw = random.Random(given.seed)
    began = time.monotonic()
    kills: Counter[str] = Counter()
    sentences: Counter[str] = Counter()
    lines, wrong = [], []
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary, "in")
        write_cases(source, given.cases)
        plain = Path(temporary, "plain")
        quiet(["ctenhance", "batch", str(source), str(plain), "--workers", "0"]).wait()
        expected = {path.relative_to(plain).as_posix(): voxels(path) for path in plain.rglob("*.nii.gz")}
        assert len(expected) == given.cases
        number = given.first
        while sum(kills.values()) < given.kills:
            cluster = Cluster() if number % 2 else None
            one = Round(source, Path(temporary, f"out{number}"), cluster, draw)
            try:
                one.run(given.kills - sum(kills.values()))
            finally:
                if cluster is not None:
                    cluster.end()
            kills += one.kills
            sentences += one.sentences
            found = one.check(expected)
            wrong += found
            of = "own scheduler" if cluster else "local cluster"
            killed = ", ".join(f"{count} {kind}" for kind, count in sorted(one.kills.items()))
            lines.append(f"| {len(lines) + 1} | {of} | {killed} | {one.commands} | {len(found)} |")
            print(lines[-1], *found[:5], sep="\n", flush=True)
            number += 1
    minutes = (time.monotonic() - began) / 60
    killed = ", ".join(f"{count} {kind}" for kind, count in sorted(kills.items()))
    text = (
        f"# Random kills over a batch\n\n`python benchmarks/batch_kills.py --kills {given.kills} --cases "
        f"{given.cases} --seed {given.seed}`: {sum(kills.values())} kills ({killed}) in {len(lines)} batches "
        f"of {given.cases} cases, {minutes:.0f} minutes, {os.cpu_count()} cores. **{len(wrong)} faults**: "
        "every case looked for exactly once, the very file that was written, its voxels those of a run "
        "without any kill, exactly one line in the manifest, nothing half-made left behind.\n\n"
        "| batch | cluster | killed | starts of the command | faults |\n|---|---|---|---|---|\n"
        + "\n".join(lines)
        + "\n\nCommands that ended by themselves before all was finished, and were started again:\n\n"
        + "\n".join(f"- {count} times: {sentence}" for sentence, count in sentences.most_common())
        + "\n"
    )
    given.out.write_text(text, encoding="utf-8")
    print(json.dumps({"kills": dict(kills), "faults": wrong[:20], "minutes": round(minutes, 1)}))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
