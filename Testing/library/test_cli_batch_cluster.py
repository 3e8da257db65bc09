"""`ctenhance batch` over Dask, with real workers: its results are those of one process, and survive kills."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import pytest
from batch_folders import names, write_ct
from typer.testing import CliRunner

from ctenhance.batch.case import DONE, Case, Outcome
from ctenhance.batch.cluster import Connection, over_dask
from ctenhance.cli import app
from ctenhance.core.volume import CTVolume
from ctenhance.files.finished import Finished

pytest.importorskip("distributed", reason="Dask is not installed (the extra [batch])")
PATIENCE = 240
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ctenhance", "batch", *(str(one) for one in arguments)]
    return subprocess.Popen(
        [*command, "--progress", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**ENVIRONMENT, **environment},
    )


def ended(process: subprocess.Popen[str]) -> tuple[list[dict[str, Any]], str]:
    out, error = process.communicate(timeout=PATIENCE)
    return [json.loads(line) for line in out.splitlines()], error


def case_events(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "case":
            yield event


def whole(target: Path) -> list[str]:
    """The names of the results that are the very files that were written; nothing half-made beside them."""
    assert not any("partial" in path.name for path in target.rglob("*"))
    assert not (target / "ctenhance-batch" / "unfinished").exists()
    results = sorted(target.rglob("*.nii.gz"))
    assert all(Finished(path).whole() for path in results)
    return [path.relative_to(target).as_posix() for path in results]


def manifest(target: Path) -> dict[str, str]:
    with sqlite3.connect(target / "ctenhance-batch" / "manifest.sqlite") as base:
        return dict(base.execute("SELECT name, state FROM cases"))


def test_workers_give_what_one_process_gives(tmp_path: Path) -> None:
    for number in range(4):
        write_ct(tmp_path / "in" / f"Müller {number}.nii.gz", number)
    (tmp_path / "in" / "broken.nii.gz").write_bytes(b"nonsense")
    events, error = ended(start(tmp_path / "in", tmp_path / "two", "--workers", 2))
    cases = {event["name"]: event["state"] for event in events if event["event"] == "case"}
    assert sorted(cases.values()) == ["done"] * 4 + ["failed"], error
    assert events[-1]["event"] == "error" and "1 of 5 cases failed" in events[-1]["text"]
    assert cases == manifest(tmp_path / "two")
    with sqlite3.connect(tmp_path / "two" / "ctenhance-batch" / "manifest.sqlite") as base:
        workers = {row[0] for row in base.execute("SELECT worker FROM cases")}
    assert {worker.rpartition("/")[2] for worker in workers} == {"0", "1"}

    assert (
        CliRunner()
        .invoke(app, ["batch", str(tmp_path / "in"), str(tmp_path / "one"), "--workers", "0"])
        .exit_code
        == 1
    )
    for name in whole(tmp_path / "one"):
        one, two = (CTVolume.read(tmp_path / folder / name) for folder in ("one", "two"))
        assert np.abs(one.array - two.array).max() <= 1e-3
    assert names(tmp_path / "one") == names(tmp_path / "two")


def test_killed_workers_lose_nothing(tmp_path: Path) -> None:
    for number in range(8):
        write_ct(tmp_path / "in" / f"{number}.nii.gz", number)
    process = start(tmp_path / "in", tmp_path / "out", "--workers", 2)
    kills = 0
    for event in case_events(process):
        assert event["state"] == "done"
        if kills < 2:
            victims = [
                one for one in psutil.Process(process.pid).children() if "spawn_main" in str(one.cmdline())
            ]
            victims[kills % len(victims)].kill()
            kills += 1
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and kills == 2
    assert whole(tmp_path / "out") == [f"{number}.nii.gz" for number in range(8)]
    assert set(manifest(tmp_path / "out").values()) == {"done"}


def test_a_killed_command_goes_on_where_it_was(tmp_path: Path) -> None:
    for number in range(6):
        write_ct(tmp_path / "in" / f"{number}.nii.gz", number)
    process = start(tmp_path / "in", tmp_path / "out", "--workers", 2)
    next(case_events(process))
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=PATIENCE)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive  # workers do not outlive their command
    events, error = ended(start(tmp_path / "in", tmp_path / "out", "--workers", 2))
    counts = events[-1]["counts"]
    assert counts["done"] + counts["finished_before"] == 6 and counts["finished_before"] >= 1, error
    assert len(whole(tmp_path / "out")) == 6


def test_cancelling_stops_the_workers_and_leaves_nothing_half_made(tmp_path: Path) -> None:
    for number in range(6):
        write_ct(tmp_path / "in" / f"{number}.nii.gz", number)
    process = start(tmp_path / "in", tmp_path / "out", "--workers", 2)
    next(case_events(process))
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "of 6 cases finished; their results stay" in error
    assert not psutil.wait_procs(children, timeout=20)[1]
    assert whole(tmp_path / "out")


#: A library that breaks down on one of the inputs, as if memory ran out: the process is ended.
DEADLY = """
import os, sys
import ctenhance
read = ctenhance.read
def reading(files, **given):
    if "deadly" in str(files):
        os.kill(os.getpid(), 9)
    return read(files, **given)
ctenhance.read = reading
"""


def test_the_case_that_ends_its_workers_is_named_and_no_other(tmp_path: Path) -> None:
    for name in ("a", "b", "deadly", "x", "y"):
        write_ct(tmp_path / "in" / f"{name}.nii.gz", ord(name[0]))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(DEADLY)
    path = os.pathsep.join([str(tmp_path / "site"), *sys.path])
    events, error = ended(start(tmp_path / "in", tmp_path / "out", "--workers", 2, PYTHONPATH=path))
    states = {event["name"]: event["state"] for event in events if event["event"] == "case"}
    assert states == {f"{name}.nii.gz": "done" for name in "abxy"} | {"deadly.nii.gz": "failed"}, error
    assert "'deadly.nii.gz' failed: It ended the process that worked on it each time" in str(events)


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """A scheduler and a worker of their own, as on a cluster; the worker in another folder."""
    line = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    file = tmp_path / "scheduler.json"
    processes = [
        subprocess.Popen([sys.executable, *line, "--scheduler-file", str(file)], stderr=-3, env=ENVIRONMENT)
    ]
    try:
        until = time.monotonic() + 60
        while not (file.exists() and file.stat().st_size) and time.monotonic() < until:
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        worker = ["-m", "distributed.cli.dask_worker", address, "--nthreads", "2", "--no-dashboard"]
        folder = tmp_path / "elsewhere"
        folder.mkdir()
        processes.append(
            subprocess.Popen([sys.executable, *worker], stderr=-3, stdout=-3, env=ENVIRONMENT, cwd=folder)
        )
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(20)


def test_a_scheduler_of_its_own(tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        write_ct(tmp_path / "in" / f"{number}.nii.gz", number)
    monkeypatch.chdir(tmp_path)  # paths are those of the command's folder
    events, error = ended(start("in", "out", "--scheduler", scheduler))
    assert events[-1]["counts"]["done"] == 3, error
    assert whole(tmp_path / "out") == ["0.nii.gz", "1.nii.gz", "2.nii.gz"]


def test_a_result_that_went_with_its_worker_is_waited_for() -> None:
    """Where the machine is busy it takes longer to be made again than is waited for at once."""
    import distributed

    class Future:
        key, waits = "k", [0, 0]

        def done(self) -> bool:
            return not self.waits

        def add_done_callback(self, call: Any) -> None:
            call(self)  # once, as Dask has it: when the first result was there

        def result(self, timeout: float) -> Outcome:
            if self.waits:
                self.waits.pop()
                raise distributed.TimeoutError
            return Outcome(DONE)

        def release(self) -> None:
            pass

    class Client:
        status = "running"
        nthreads = dict.fromkeys(["only worker"]).copy

        def subscribe_topic(self, topic: str, handler: Any) -> None:
            pass

        def submit(self, *_: Any, pure: bool) -> Future:
            return Future()

    connection = Connection("here", None)
    connection.client = Client()
    looks = iter(range(20))

    class Cancel:
        cancelled = property(lambda _: next(looks, None) is None)  # else a failure would be a wait for ever

    case = Case("a", (), Path("a.nii.gz"))
    job, cancel = cast(Any, None), cast(Any, Cancel())
    assert list(over_dask(connection, job, [case], lambda *_: None, cancel)) == [(case, Outcome(DONE))]


def test_a_scheduler_that_is_not_there(tmp_path: Path) -> None:
    write_ct(tmp_path / "in" / "a.nii.gz")
    process = start(tmp_path / "in", tmp_path / "out", "--scheduler", "tcp://127.0.0.1:9")
    _, error = ended(process)
    assert process.returncode == 2 and "does not answer" in error and "unexpected" not in error
    both = [
        "batch",
        str(tmp_path),
        str(tmp_path / "out"),
        "--scheduler",
        "tcp://127.0.0.1:9",
        "--workers",
        "2",
    ]
    assert CliRunner().invoke(app, both).exit_code == 2


def test_without_dask_one_process_does_all(tmp_path: Path) -> None:
    write_ct(tmp_path / "in" / "a.nii.gz")
    (tmp_path / "site").mkdir()
    hidden = "import sys; sys.modules['distributed'] = None"
    (tmp_path / "site" / "sitecustomize.py").write_text(hidden)
    path = os.pathsep.join([str(tmp_path / "site"), *sys.path])
    events, error = ended(start(tmp_path / "in", tmp_path / "out", PYTHONPATH=path))
    assert events[-1]["counts"]["done"] == 1 and "Dask is not installed" in str(events), error
    process = start(tmp_path / "in", tmp_path / "out2", "--workers", 2, PYTHONPATH=path)
    _, error = ended(process)
    assert process.returncode == 2 and "pip install 'ctenhance[batch]'" in error
