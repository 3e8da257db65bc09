"""The way of a CT through a command: no function calls back up to a higher part of the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from reconstruct_scan import measured

from ctenhance.core.volume import CTVolume


def passed(repository: Path, folder: Path, *arguments: str) -> tuple[list[str], list[list[str]]]:
    """The functions that the data pass, and the calls back up."""
    script = repository / "Testing" / "tools" / "functions_passed.py"
    done = subprocess.run(
        [sys.executable, str(script), *arguments, "--progress", "none", "--device", "cpu"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(repository / "CTEnhance")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    listed, _, rest = done.stdout.partition("\n{")
    return listed.splitlines(), json.loads("{" + rest)["back up"]


@pytest.mark.parametrize(
    ("arguments", "stations"),
    [
        (
            ("degrade", "ct.nii.gz", "out.nii.gz", "--preset", "sumi-paper-validation"),
            ["files/ct.py: read", "degradation/__init__.py: degrade", "files/volumes.py: write_image_file"],
        ),
        (
            ("reconstruct", "scan.ctproj.h5", "out.nii.gz", "--method", "fbp"),
            ["files/ctproj.py: read_file", "reconstruction/inference.py: reconstruct", "physics/fbp.py: fbp"],
        ),
    ],
)
def test_nothing_calls_back_up(
    repository: Path, tmp_path: Path, arguments: tuple[str, ...], stations: list[str]
) -> None:
    rng = np.random.default_rng(0)
    CTVolume(rng.normal(-500, 300, (2, 80, 80)), (1.0, 1.0, 2.0)).write(tmp_path / "ct.nii.gz")
    measured(rows=2).write(tmp_path / "scan.ctproj.h5")
    functions, upward = passed(repository, tmp_path, *arguments)
    assert upward == []
    places = [functions.index(station) for station in stations]
    assert places == sorted(places)
