"""Random kills over one batch: are all cases there in the end, each once and whole?

    python benchmarks/batch_kills.py [--kills 500] [--cases 200] [--seed 0] [--folder F] [--out results/…md]

Workers, nannies, the scheduler and the command itself are killed by signal 9, at random times. What was
killed is started again, the command as a user would: the same line, but each time either over a cluster in
this machine that it starts itself, or over a scheduler and workers that are there already. The time between
kills is drawn, and longer or shorter as the kills are ahead of the finished cases or behind, so that the last
kill falls near the end of the batch. Then the batch ends in peace, and is checked. With --folder the run can
be interrupted and started again: it goes on with the same batch and the kills that were done.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
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
#: Slices of a case, drawn evenly, and the pixels of a side: from a fraction of a second to a few.
SLICES, SIDE = (2, 24), 192
#: Seconds between kills where they keep pace with the cases: evenly from 0.1 to 1.9 times this.
BETWEEN = 5.0
#: How often a command that has no workers yet is spared: else hardly any gets as far on a busy machine.
SPARED = 0.8
#: How fast that grows or shrinks with the lead of the kills, as a share of all.
PACE = 8.0


def write_cases(folder: Path, number: int) -> None:
    for case in range(number):
        draw = np.random.default_rng(case)
        hu = draw.normal(0, 12, (int(draw.integers(*SLICES, endpoint=True)), SIDE, SIDE))
        hu[:, : SIDE // 4] -= 1000
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
        """The processes to kill, by what they are."""
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
    """The worker processes below a nanny, or below a command with a cluster of its own."""
    found = []
    with contextlib.suppress(psutil.Error):
        for one in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it ended meanwhile
                if "spawn_main" in " ".join(one.cmdline()):
                    found.append(one.pid)
    return found


class Batch:
    """One batch, from an empty folder to the command that ends by itself."""

    def __init__(self, folder: Path, cases: int, kills: int, draw: random.Random) -> None:
        self.source, self.target, self.cases, self.most = folder / "in", folder / "out", cases, kills
        self.cluster, self.draw = Cluster(), draw
        self.record = folder / "record.json"
        self.errors = folder / "errors.txt"
        known = json.loads(self.record.read_text(encoding="utf-8")) if self.record.exists() else {}
        self.kills = Counter(known.get("kills", {}))
        self.starts = Counter(known.get("starts", {}))
        self.sentences = Counter(known.get("sentences", {}))
        self.in_work, self.seconds = known.get("in_work", 0), known.get("seconds", 0.0)

    def _note(self) -> None:
        names = ("kills", "starts", "sentences", "in_work", "seconds")
        self.record.write_text(json.dumps({name: getattr(self, name) for name in names}), encoding="utf-8")

    def run(self) -> None:
        """Kill so many, then let it end in peace."""
        command = None
        of = ""
        began = following = time.monotonic()
        while True:
            self.cluster.keep_up()
            if command is not None and command.poll() is not None:
                if command.returncode == 0:
                    break
                if command.returncode > 0:  # not killed: it ended with a sentence
                    lines = self.errors.read_text(encoding="utf-8").splitlines()
                    last = next((one for one in lines[::-1] if one.startswith("Error")), "nothing said")
                    self.sentences[re.sub(r"'[^']*'", "'…'", last)] += 1
                command = None
            if command is None:
                of = self.draw.choice(("local cluster", "own scheduler"))
                own = ["--workers", "2"] if of == "local cluster" else self.cluster.arguments
                line = ["ctenhance", "batch", str(self.source), str(self.target), *own]
                command = quiet([*line, "--progress", "none"], self.errors)
                self.starts[of] += 1
            time.sleep(0.05)
            if time.monotonic() > following and sum(self.kills.values()) < self.most:
                self._kill(command, of)
                finished = sum(1 for _ in self.target.rglob("*.report.json"))
                lead = sum(self.kills.values()) / self.most - finished / self.cases
                following = time.monotonic() + self.draw.uniform(0.1, 1.9) * BETWEEN * math.exp(PACE * lead)
                self.seconds += time.monotonic() - began
                began = time.monotonic()
                self._note()
                if sum(self.kills.values()) % 10 == 0:
                    print(f"{self.seconds:.0f} s: {dict(self.kills)}, {finished} finished", flush=True)
        self.seconds += time.monotonic() - began
        self._note()

    def _kill(self, command: subprocess.Popen[bytes], of: str) -> None:
        local = of == "local cluster"
        found = {"worker": spawned(command.pid)} if local else self.cluster.victims()
        if not found["worker"] and self.draw.random() < SPARED:
            return
        pids = [(kind, pid) for kind, some in found.items() for pid in some] + [("command", command.pid)]
        kind, pid = self.draw.choice(pids)
        making = self.target / "ctenhance-batch" / "unfinished"
        at_work = making.is_dir() and any(making.iterdir())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.kills[f"{kind}, {of}"] += 1
            self.in_work += at_work
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
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep everything here, and go on from what is there")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "batch_kills.md")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        plain = folder / "plain"
        if not (folder / "record.json").exists():
            write_cases(folder / "in", given.cases)
            quiet(["ctenhance", "batch", str(folder / "in"), str(plain), "--workers", "0"]).wait()
        expected = {path.relative_to(plain).as_posix(): voxels(path) for path in plain.rglob("*.nii.gz")}
        assert len(expected) == given.cases
        batch = Batch(folder, given.cases, given.kills, random.Random(f"{given.seed} {time.time()}"))
        try:
            batch.run()
        finally:
            batch.cluster.end()
        wrong = batch.check(expected)
    number = sum(batch.kills.values())
    text = (
        f"# Random kills over a batch\n\n`python benchmarks/batch_kills.py --kills {given.kills} --cases "
        f"{given.cases}`: {number} kills in one batch of {given.cases} cases, {batch.seconds / 60:.0f} "
        f"minutes, {os.cpu_count()} cores; {batch.in_work} of them while a result was being written. "
        f"**{len(wrong)} faults**: every case looked for exactly once, the very file that was written, its "
        "voxels those of a run without any kill, exactly one line in the manifest, nothing half-made left "
        "behind.\n\n| killed | times |\n|---|---|\n"
        + "".join(f"| {kind} | {count} |\n" for kind, count in sorted(batch.kills.items()))
        + "\n| the command was started over | times |\n|---|---|\n"
        + "".join(f"| {kind} | {count} |\n" for kind, count in sorted(batch.starts.items()))
        + "\nCommands that ended by themselves before all was finished, and were started again:\n\n"
        + ("".join(f"- {count} times: {said}\n" for said, count in batch.sentences.most_common()) or "none\n")
        + ("\nFaults:\n\n" + "".join(f"- {one}\n" for one in wrong[:50]) if wrong else "")
    )
    given.out.write_text(text, encoding="utf-8")
    print(json.dumps({"kills": dict(batch.kills), "faults": wrong[:20]}))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
