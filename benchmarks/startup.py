"""How soon a command answers, and what it loads for that, against another state of the tree.

    git worktree add ../before COMMIT
    python benchmarks/startup.py ../before/CTEnhance CTEnhance

For the help of each verb and for the first progress event of `enhance` (a volume of one slice): processor and
wall time, run by turns so that what else the machine does weighs on both alike, as medians; and which of the
large packages this state of the tree had loaded by then.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK

VERBS = ("", "enhance", "batch", "degrade", "compare", "project", "reconstruct", "decompose", "weights")
LARGE = ("torch", "monai", "openvino", "scipy", "matplotlib", "SimpleITK", "pydicom", "h5py", "numba")
_IMPORTED = re.compile(rf"\|\s*({'|'.join(LARGE)})$", re.MULTILINE)


def run(package: Path, arguments: list[str], until_event: bool = False) -> tuple[float, float]:
    """Processor and wall seconds of a command of the tree that holds `package`, to its end or, with
    `until_event`, to its first progress event (wall alone: it is ended then)."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "ctenhance", *arguments],
        env={**os.environ, "PYTHONPATH": str(package)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        if until_event:
            process.stdout.readline()
            wall = time.perf_counter() - start
            process.terminate()
        else:
            process.stdout.read()
            wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (wall if until_event else used), wall


def loaded(package: Path, arguments: list[str]) -> list[str]:
    """The large packages that a command loads, as Python tells its imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ctenhance", *arguments],
        env={**os.environ, "PYTHONPATH": str(package)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return sorted(set(_IMPORTED.findall(done.stderr)))


def main() -> None:
    """Measure both trees, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="the folder that holds the package `ctenhance` before")
    parser.add_argument("after", type=Path, help="… and after")
    parser.add_argument("--runs", type=int, default=7)
    asked = parser.parse_args()
    trees = (asked.before.resolve(), asked.after.resolve())
    print(f"{asked.runs} runs each, by turns, medians.\n")
    print("| command | before, ms | after, ms | ratio | wall after, ms | loads |")
    print("|---|---:|---:|---:|---:|---|")
    with tempfile.TemporaryDirectory() as name:
        one, out = f"{name}/one.nii.gz", f"{name}/out.nii.gz"
        noise = np.random.default_rng(0).normal(0, 30, (1, 128, 128)).astype(np.int16)
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(noise), one)
        rows = [(f"{verb} --help".strip(), [*verb.split(), "--help"], False) for verb in VERBS]
        rows.append(("enhance, to the first event (wall)", ["enhance", one, out, "--progress", "json"], True))
        for label, arguments, until_event in rows:
            for tree in trees:
                run(tree, arguments, until_event)  # compiles the files
            runs = [[run(tree, arguments, until_event) for tree in trees] for _ in range(asked.runs)]
            before, after = (statistics.median(pair[k][0] for pair in runs) for k in (0, 1))
            wall = statistics.median(pair[1][1] for pair in runs)
            what = ", ".join(loaded(trees[1], arguments)) or "none of the large packages"
            figures = f"{1e3 * before:.0f} | {1e3 * after:.0f} | {after / before:.2f} | {1e3 * wall:.0f}"
            print(f"| {label} | {figures} | {what} |", flush=True)


if __name__ == "__main__":
    main()
