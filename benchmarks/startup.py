"""How long `ctenhance --help` takes, against another state of the tree (`git worktree add ../before COMMIT`).

    python benchmarks/startup.py ../before/CTEnhance CTEnhance

Both are run in turn, so that what else the machine does weighs on both alike; processor time counts, and the
medians are compared.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path


def seconds(package: Path) -> float:
    """Processor time of one run of the command in the tree that holds `package`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(package)}
    command = [sys.executable, "-m", "ctenhance", "--help"]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="the folder that holds the package `ctenhance` before")
    parser.add_argument("after", type=Path, help="… and after")
    parser.add_argument("--runs", type=int, default=31)
    asked = parser.parse_args()
    trees = (asked.before.resolve(), asked.after.resolve())
    for tree in trees:
        seconds(tree)  # compiles the files
    runs = [[seconds(tree) for tree in trees] for _ in range(asked.runs)]
    before, after = (statistics.median(column) for column in zip(*runs, strict=True))
    ratio = statistics.median(b / a for a, b in runs)
    print("| runs each | before, ms | after, ms | ratio of medians | median of the pairs' ratios |")
    print("|---|---|---|---|---|")
    print(f"| {asked.runs} | {1e3 * before:.0f} | {1e3 * after:.0f} | {after / before:.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
