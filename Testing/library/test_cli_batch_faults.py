"""`ctenhance batch` where memory, the disk, the scheduler or the inputs give way."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from batch_folders import StandIn, batch, names, verb, write_ct
from disks import remount, small_disk
from synthetic_dicom import write_series

from ctenhance.batch import manifest
from ctenhance.core.volume import CTVolume
from ctenhance.files.finished import Finished

__all__ = ["small_disk", "verb"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
PATIENCE = 240


def command(*arguments: object, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", "ctenhance", "batch", *map(str, arguments), "--progress", "json"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=PATIENCE,
        preexec_fn=limited,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the system limits address space in its own way")
def test_a_case_too_large_for_the_memory_fails_alone(tmp_path: Path) -> None:
    write_ct(tmp_path / "in" / "a.nii")
    write_ct(tmp_path / "in" / "large.nii")
    write_ct(tmp_path / "in" / "z.nii")
    with (tmp_path / "in" / "large.nii").open("r+b") as stream:  # 4,000 slices, a file with a hole
        stream.seek(40)
        stream.write(np.array([3, 512, 512, 4000, 1, 1, 1, 1], "<i2").tobytes())
        stream.truncate(352 + 2 * 512 * 512 * 4000)
    for workers in (0, 1):
        target = tmp_path / f"out{workers}"
        ran = command(tmp_path / "in", target, "--workers", workers, "--verb", "degrade", limit=5 << 29)
        states = {
            event["name"]: (event["state"], event["why"])
            for event in map(json.loads, ran.stdout.splitlines())
            if event["event"] == "case"
        }
        assert ran.returncode == 1 and "Traceback" not in ran.stderr, ran.stderr
        assert [states[name][0] for name in ("a.nii", "large.nii", "z.nii")] == ["done", "failed", "done"]
        assert "not enough memory" in states["large.nii"][1], states
        assert names(target) == ["a.nii.gz", "a.report.json", "z.nii.gz", "z.report.json"]


def test_a_disk_that_is_really_full_and_one_that_is_read_only(
    tmp_path: Path, small_disk: Path, verb: StandIn
) -> None:
    for number in range(9):
        noise = np.random.default_rng(number).normal(0, 100, (4, 64, 64)).astype(np.float32)
        (tmp_path / "in").mkdir(exist_ok=True)
        CTVolume(noise).write(tmp_path / "in" / f"{number}.nii.gz")
    target = small_disk / "out"
    told = batch(tmp_path / "in", target, code=1).stderr
    assert "the disk is full" in told and "run the same command again" in told and "Traceback" not in told
    results = list(target.glob("*.nii.gz"))
    assert 0 < len(results) < 9 and all(Finished(path).whole() for path in results)
    assert not (target / "ctenhance-batch" / "unfinished").exists()
    before = names(target)

    remount(small_disk, "ro")
    told = batch(tmp_path / "in", target, code=2).stderr
    assert "Cannot write into" in told and "Traceback" not in told, told
    told = batch(tmp_path / "in", small_disk / "new", code=2).stderr
    assert "Error: Cannot" in told and "Traceback" not in told, told
    assert names(target) == before

    remount(small_disk, "rw,size=20m")
    assert "0 failed" in batch(tmp_path / "in", target).stdout
    assert len([path for path in target.glob("*.nii.gz") if Finished(path).whole()]) == 9


def test_a_killed_scheduler_is_waited_for(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed (the extra [batch])")
    for number in range(6):
        write_ct(tmp_path / "in" / f"{number}.nii.gz", number)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def process(*line: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", *line], stdout=-3, stderr=-3, env=ENVIRONMENT, start_new_session=True
        )

    def scheduler() -> subprocess.Popen[bytes]:
        return process(
            "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"
        )

    def worker() -> subprocess.Popen[bytes]:
        line = ["distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1"]
        return process(*line, "--no-dashboard", "--no-nanny")

    running = {"scheduler": scheduler(), "worker": worker()}
    told = tmp_path / "told.jsonl"
    with told.open("wb") as stream:
        running["command"] = subprocess.Popen(
            [
                *(sys.executable, "-m", "ctenhance", "batch", str(tmp_path / "in"), str(tmp_path / "out")),
                *("--scheduler", f"tcp://127.0.0.1:{port}", "--progress", "json"),
            ],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
        )
        try:
            until = time.monotonic() + PATIENCE
            while b'"case"' not in told.read_bytes() and time.monotonic() < until:
                time.sleep(0.02)
            running["scheduler"].kill()
            running["scheduler"].wait()
            running["scheduler"] = scheduler()
            while running["command"].poll() is None and time.monotonic() < until:
                if running["worker"].poll() is not None:  # it goes with its scheduler, after a while
                    running["worker"] = worker()
                time.sleep(0.05)
            assert running["command"].returncode == 0, told.read_text(encoding="utf-8")
        finally:
            for one in running.values():
                one.kill()
                one.wait()
    results = sorted((tmp_path / "out").glob("*.nii.gz"))
    assert len(results) == 6 and all(Finished(path).whole() for path in results)


def test_two_thousand_slices_take_little_more_than_their_voxels(tmp_path: Path) -> None:
    slices = 2000
    noise = np.random.default_rng(0).normal(0, 12, (1, 64, 64))
    noise[:, :16] -= 1000
    (tmp_path / "in").mkdir()
    CTVolume(np.repeat(np.round(noise), slices, 0).astype(np.float32)).write(tmp_path / "in" / "long.nii.gz")
    write_ct(tmp_path / "few" / "a.nii")
    most = {}
    for folder in ("few", "in"):
        line = [sys.executable, "-m", "ctenhance", "batch", str(tmp_path / folder), str(tmp_path / "out")]
        process = psutil.Popen([*line, "--workers", "0", "--verb", "degrade"], stderr=-3, env=ENVIRONMENT)
        most[folder] = 0
        while process.poll() is None:
            try:
                most[folder] = max(most[folder], process.memory_info().rss)
            except psutil.Error:
                break
            time.sleep(0.02)
        assert process.wait(PATIENCE) == 0
    made = CTVolume.read(tmp_path / "out" / "long.nii.gz", check_hu=False)
    assert made.array.shape == (slices, 64, 64)
    assert most["in"] - most["few"] < 10 * made.array.nbytes


def test_cut_inputs_and_strange_names_harm_no_other(tmp_path: Path, verb: StandIn) -> None:
    source = tmp_path / "in"
    whole = write_ct(source / "患者 Ünïcode ✓" / "thorax é.nii.gz")
    for part in (0.02, 0.5, 0.98):
        (source / f"cut{part}.nii.gz").write_bytes(whole.read_bytes()[: int(part * whole.stat().st_size)])
    write_ct(source / "<script>alert(1)<" / "line\nbreak;rm -rf $HOME `x`.nii.gz")
    write_ct(source / "-rf.nii.gz")
    write_series(source / "uid", SeriesInstanceUID="../../../../evil", StudyInstanceUID="/etc/passwd")
    write_series(source / "two", SeriesInstanceUID="..", SeriesNumber=1)
    write_series(source / "two", SeriesInstanceUID="../x", SeriesNumber=2, prefix="b", StudyInstanceUID="..")
    write_series(source / "cut")
    cut = sorted((source / "cut").glob("*.dcm"))[1]
    cut.write_bytes(cut.read_bytes()[:-100])
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    told = batch(source, tmp_path / "out", code=1)
    assert "6 done, 0 finished before, 4 failed" in told.stdout, told.stdout + told.stderr
    new = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert all((tmp_path / "out") in path.parents for path in new)
    assert [name for name in names(tmp_path / "out") if name.endswith(".nii.gz")] == sorted(
        [
            "-rf.nii.gz", "<script>alert(1)</line\nbreak;rm -rf $HOME `x`.nii.gz", "two/series-1.nii.gz",
            "two/series-2.nii.gz", "uid.nii.gz", "患者 Ünïcode ✓/thorax é.nii.gz",
        ]
    )  # fmt: skip
    page = (tmp_path / "out" / "ctenhance-batch" / "summary.html").read_text(encoding="utf-8")
    assert "<script" not in page and "evil" not in page


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_shown_alike_stop_no_batch(tmp_path: Path, verb: StandIn) -> None:
    right = write_ct(tmp_path / "in" / "right.nii.gz")
    for last in (b"\xe0", b"\xe1", b"\xe2"):
        shutil.copy(right, os.fsencode(tmp_path / "in") + b"/scan\xff" + last + b".nii.gz")
    told = batch(tmp_path / "in", tmp_path / "out", code=1)
    assert "1 done, 0 finished before, 3 failed" in told.stdout
    assert told.stderr.count("rename the file") >= 3, told.stderr


def test_a_manifest_in_use_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ct(tmp_path / "in" / "a.nii.gz")
    batch(tmp_path / "in", tmp_path / "out", "--verb", "degrade")
    path = tmp_path / "out" / "ctenhance-batch" / "manifest.sqlite"
    monkeypatch.setattr(manifest, "_PATIENCE_SECONDS", 0.2)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        told = batch(tmp_path / "in", tmp_path / "out", "--verb", "degrade", code=1)
    assert "database is locked; close what else has it open" in told.stderr, told.stderr
    assert "1 finished before" in batch(tmp_path / "in", tmp_path / "out", "--verb", "degrade").stdout


@pytest.mark.parametrize("which", ["in", "out"])
def test_a_drive_that_goes_away_ends_the_batch_in_one_sentence(
    tmp_path: Path, verb: StandIn, which: str
) -> None:
    """Nothing is made in its place, nothing counts as failed, and the same command goes on."""
    for number in range(6):
        write_ct(tmp_path / "in" / f"{number}.nii.gz", number)

    def leave(*_: object) -> None:
        if len(verb.calls) == 3:
            (tmp_path / which).rename(tmp_path / "away")

    verb.before = leave
    done = batch(tmp_path / "in", tmp_path / "out", code=1)
    folder = tmp_path / which
    assert f"Error: Stopped, since the folder '{folder}' is not there any more" in done.stderr
    assert "failed" not in done.stderr and "Traceback" not in done.stderr
    assert not folder.exists() and len(verb.calls) == 3
    (tmp_path / "away").rename(folder)
    kept = 3 if which == "in" else 2  # of the third the result could not be written
    said = batch(tmp_path / "in", tmp_path / "out").stdout
    assert f"{6 - kept} done, {kept} finished before, 0 failed" in said
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 6
