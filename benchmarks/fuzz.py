"""Thousands of damaged and hostile files for every parser, each trial in a process that can be ended.

    python benchmarks/fuzz.py [--trials 10000] [--minutes 30] [--targets dicom ctproj …] [--first 0]

`Testing/library/fuzzing.py` says what is tried and what may come of it. A trial that takes more than 10 s is
a fault (a hang), as is one that ends its process. Faults are printed with their number: `--first N
--trials 1` makes that trial again.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[1] / "Testing" / "library"
sys.path[:0] = [str(LIBRARY), str(LIBRARY.parent)]
#: Seconds of processor time that a trial may take, seconds that it is waited for, and its address space.
LONGEST, WAIT, MEMORY = 10.0, 60.0, 8 << 30


def serve(name: str, seeds: Path, work: Path) -> None:
    """The process of the trials: a number in, how it ended out."""
    import resource

    from fuzzing import TARGETS, spoil, tried

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        spoil(TARGETS[name], seeds, work, int(line))
        began = time.process_time()
        print(json.dumps([tried(TARGETS[name], work), time.process_time() - began]), file=out, flush=True)


class Child:
    """A process of trials; a new one when it ended or was ended."""

    def __init__(self, name: str, seeds: Path, work: Path) -> None:
        self.line = [sys.executable, __file__, "--serve", name, str(seeds), str(work)]
        self.process: subprocess.Popen[str] | None = None

    def trial(self, number: int) -> tuple[str, float]:
        if self.process is None:
            self.process = subprocess.Popen(
                self.line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            assert self.process.stdout is not None
            assert self.process.stdout.readline() == "ready\n"
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        # Other work on the machine is no hang: the child measures its own processor time.
        ready, _, _ = select.select([self.process.stdout], [], [], WAIT)
        if not ready:
            self.end()
            return f"hang: more than {WAIT:.0f} s", WAIT
        answer = self.process.stdout.readline()
        if not answer:
            code = self.process.wait()
            self.process = None
            return f"crash: the process ended with {code}", 0.0
        ended, seconds = json.loads(answer)
        if seconds > LONGEST:
            ended = f"hang: {seconds:.0f} s; {ended}"
        return ended, seconds

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def main() -> None:
    from fuzzing import TARGETS

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000, help="of each target")
    parser.add_argument("--minutes", type=float, default=1e9, help="of each target, at most")
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    lines = [
        "| parser | trials | read | refused | faults | longest (s) | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    faults: list[str] = []
    for name in given.targets:
        with tempfile.TemporaryDirectory() as temporary:
            seeds, work = Path(temporary, "seeds"), Path(temporary, "work")
            seeds.mkdir()
            TARGETS[name].write(seeds)
            child = Child(name, seeds, work)
            ends: Counter[str] = Counter()
            longest, began = 0.0, time.monotonic()
            for number in range(given.first, given.first + given.trials):
                ended, seconds = child.trial(number)
                longest = max(longest, seconds)
                ends[ended if ended in ("read", "refused") else "fault"] += 1
                if ended not in ("read", "refused"):
                    faults.append(f"{name} {number}: {ended}")
                    print(faults[-1], flush=True)
                if time.monotonic() - began > 60 * given.minutes:
                    break
            child.end()
            minutes = (time.monotonic() - began) / 60
            row = [
                name,
                ends.total(),
                ends["read"],
                ends["refused"],
                ends["fault"],
                f"{longest:.1f}",
                f"{minutes:.1f}",
            ]
            lines.append(f"| {' | '.join(map(str, row))} |")
            print(lines[-1], flush=True)
    if given.out is not None:
        said = "\n".join(f"- {fault}" for fault in faults) or "None."
        head = (__doc__ or "").splitlines()[0]
        given.out.write_text(
            f"# {head}\n\n`python benchmarks/fuzz.py --trials {given.trials} --first {given.first}`\n\n"
            + "\n".join(lines)
            + f"\n\nFaults: {said}\n",
            encoding="utf-8",
        )
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
