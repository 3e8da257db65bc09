"""The command as a process of its own, as a panel starts it: real events, real signals, real verbs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from ctenhance.core.volume import CTVolume
from ctenhance.runtime.weights import EMBEDDED

ROOT = Path(__file__).resolve().parents[2] / "CTEnhance"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

# `enhance` replaced by a loop that does nothing but report and look at its token, for ten seconds.
SLOW = """
import sys, time
import ctenhance
from ctenhance.cli import main
from ctenhance.runtime.progress import check

def slow(volume, progress, cancel, **settings):
    for step in range(200):
        progress("slow", step, 200)
        check(cancel)
        time.sleep(0.05)

ctenhance.enhance = slow
sys.argv[0] = "ctenhance"
main()
"""

# As above, but it looks at nothing, in the middle of writing a file.
DEAF = """
import sys, time
import ctenhance
from ctenhance.cli import main
from ctenhance.runtime import files, parent

parent.GRACE_SECONDS = 1.0

def deaf(volume, **settings):
    with files.replace_when_done(sys.argv[3]) as temporary:
        temporary.write_bytes(b"half")
        temporary.with_name(f"{files.stem_of(temporary)}-values.raw").write_bytes(b"half")
        print("slow", file=sys.stderr, flush=True)
        time.sleep(100)

ctenhance.enhance = deaf
sys.argv[0] = "ctenhance"
main()
"""
# A program that starts a command through a launcher and then does nothing more, as a Slicer that is killed.
PARENT = """
import os, subprocess, sys, threading

with open(sys.argv[1], "wb") as log:
    os.environ["CTENHANCE_PARENT"] = str(os.getpid())
    launcher = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])"]
    subprocess.Popen([*launcher, sys.executable, "-c", *sys.argv[2:]], stdout=log, stderr=log)
threading.Event().wait()
"""


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).normal(0, 15, (3, 64, 64))
    disc = np.hypot(*(np.mgrid[:64, :64] - 31.5)) < 24
    array = np.where(disc, 40, -1000) + noise
    path = tmp_path / "ct.nii.gz"
    CTVolume(np.round(array).astype(np.float32), (0.8, 0.8, 2.5)).write(path)
    return path


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ctenhance", *(str(argument) for argument in arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of this kind need a POSIX system")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_process_and_leaves_nothing(
    ct: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out.nii.gz"
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW, "enhance", str(ct), str(out), "--progress", "json"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    try:
        assert child.stdout is not None
        for line in child.stdout:  # events arrive while it works, not at its end
            if json.loads(line).get("stage") == "slow":
                break
        start = time.monotonic()
        child.send_signal(number)
        rest, errors = child.communicate(timeout=30)
        assert time.monotonic() - start < 5
    finally:
        child.kill()
    assert child.returncode == 130, errors
    assert events(rest)[-1]["event"] == "error"
    assert errors == "Cancelled; no output was written.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nii.gz"]


@pytest.mark.parametrize("script", [SLOW.replace("range(200)", "range(2000)"), DEAF])
def test_a_command_ends_with_the_program_that_waits_for_it(ct: Path, tmp_path: Path, script: str) -> None:
    log, out = tmp_path / "log", tmp_path / "out.nii.gz"
    arguments = ["enhance", str(ct), str(out), "--progress", "json"]
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(log), script, *arguments], env=ENVIRONMENT)
    try:
        deadline = time.monotonic() + 60
        while not log.is_file() or b"slow" not in log.read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        started = psutil.Process(parent.pid).children(recursive=True)
        assert len(started) == 2 and all(process.is_running() for process in started)
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(started, timeout=40)  # by itself either would go on for longer
    assert not alive
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct.nii.gz", "log"]


def test_a_command_whose_parent_is_gone_already_ends(ct: Path, tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    done = subprocess.run(
        [sys.executable, "-c", SLOW, "enhance", str(ct), str(tmp_path / "out.nii.gz")],
        env={**ENVIRONMENT, "CTENHANCE_PARENT": str(gone.pid)},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 130 and b"Cancelled; no output was written." in done.stderr


def test_degrade_and_replay(ct: Path, tmp_path: Path) -> None:
    report = tmp_path / "a.json"
    options = ["--dose", "0.25", "--seed", "3", "--device", "cpu", "--progress", "json"]
    done = command("degrade", ct, tmp_path / "a.nii.gz", *options, "--report", report)
    assert done.returncode == 0, done.stderr
    lines = events(done.stdout)
    assert lines[-1]["event"] == "result" and lines[-1]["outputs"]["degraded"] == str(tmp_path / "a.nii.gz")
    assert any(line["event"] == "progress" for line in lines)
    degraded = CTVolume.read(tmp_path / "a.nii.gz")
    before = CTVolume.read(ct)
    assert degraded.array.shape == before.array.shape and not np.array_equal(degraded.array, before.array)
    recorded = json.loads(report.read_text(encoding="utf-8"))
    assert recorded["seed"] == 3 and recorded["input"]["sha256"] == before.identity()["sha256"]

    again = command("degrade", ct, tmp_path / "b.nii.gz", "--replay", report, "--device", "cpu")
    assert again.returncode == 0, again.stderr
    assert np.array_equal(CTVolume.read(tmp_path / "b.nii.gz").array, degraded.array)


def test_compare(ct: Path, tmp_path: Path) -> None:
    before = CTVolume.read(ct)
    noise = np.random.default_rng(1).normal(0, 20, before.array.shape)
    before.with_array((before.array + noise).astype(np.float32)).write(tmp_path / "noisy.nii.gz")
    figure, page = tmp_path / "f.png", tmp_path / "p.html"
    done = command(
        "compare", tmp_path / "noisy.nii.gz", ct, "--reference", ct, "--figure", figure, "--page", page,
        "--json", tmp_path / "m.json", "--progress", "json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = events(done.stdout)[-1]
    assert result["event"] == "result" and set(result["outputs"]) == {"figure", "page", "metrics"}
    assert json.loads((tmp_path / "m.json").read_text(encoding="utf-8")) == result["metrics"]
    assert figure.read_bytes()[:4] == b"\x89PNG"
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")

    CTVolume(before.array[:, :32], before.spacing).write(tmp_path / "half.nii.gz")
    differs = command("compare", ct, tmp_path / "half.nii.gz", "--progress", "none")
    assert differs.returncode == 2 and differs.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_utf8_is_one_sentence(ct: Path, tmp_path: Path) -> None:
    bad = os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.nii.gz")
    os.rename(ct, bad)
    done = command("degrade", bad, tmp_path / "out.nii.gz", "--dose", 1)
    assert done.returncode == 2, done.stderr
    assert "other than UTF-8" in done.stderr
    assert "Traceback" not in done.stderr


def test_degrade_refuses(ct: Path, tmp_path: Path) -> None:
    done = command("degrade", ct, tmp_path / "a.nii", "--preset", "nonsense", "--progress", "none")
    assert done.returncode == 2 and "nonsense" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "a.nii").exists()


@pytest.mark.skipif(not list(EMBEDDED.glob("*.safetensors")), reason="no weights are embedded yet")
def test_enhance(ct: Path, tmp_path: Path) -> None:
    done = command("enhance", ct, tmp_path / "e.nii.gz", "--device", "cpu", "--report", tmp_path / "e.json")
    assert done.returncode == 0, done.stderr
    before, after = CTVolume.read(ct), CTVolume.read(tmp_path / "e.nii.gz")
    assert after.array.shape == before.array.shape and after.spacing == before.spacing
    report = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    assert len(report["model"]["sha256"]) == 64
    again = command("enhance", ct, tmp_path / "f.nii.gz", "--device", "cpu", "--progress", "none")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "f.nii.gz").read_bytes() == (tmp_path / "e.nii.gz").read_bytes()
    none = command("enhance", ct, tmp_path / "g.nii.gz", "--strength", "0", "--device", "cpu")
    assert none.returncode == 0, none.stderr
    assert np.array_equal(CTVolume.read(tmp_path / "g.nii.gz").array, before.array)


@pytest.mark.skipif(not list(EMBEDDED.glob("*.safetensors")), reason="no weights are embedded yet")
def test_the_number_of_threads_changes_rounding_only(ct: Path, tmp_path: Path) -> None:
    made = {}
    for run, threads in enumerate((1, 2, 2)):
        out, report = tmp_path / f"{run}.nii", tmp_path / f"{run}.json"
        done = subprocess.run(
            [sys.executable, "-m", "ctenhance", "enhance", ct, out, "--device", "cpu", "--report", report],
            env={**ENVIRONMENT, "OMP_NUM_THREADS": str(threads)},
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(report.read_text(encoding="utf-8"))["threads"] == threads
        made[run] = CTVolume.read(out).array
    assert np.array_equal(made[1], made[2])  # as the report says, so it comes again
    assert np.abs(made[0] - made[1]).max() < 1e-3  # what is promised in README.md


@pytest.mark.skipif(not list(EMBEDDED.glob("*.safetensors")), reason="no weights are embedded yet")
def test_enhance_refuses_a_map_of_one_draw(ct: Path, tmp_path: Path) -> None:
    done = command("enhance", ct, tmp_path / "e.nii", "--samples", 1, "--uncertainty", tmp_path / "sd.nii")
    assert done.returncode == 2 and "--samples" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nii.gz"]


def test_enhance_refuses_unknown_weights(ct: Path, tmp_path: Path) -> None:
    done = command("enhance", ct, tmp_path / "e.nii.gz", "--model", "nonsense", "--progress", "none")
    assert done.returncode == 2 and "nonsense" in done.stderr
