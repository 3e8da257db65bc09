"""`ctenhance.commands.batch`: resuming, failures that stop no other case, and what is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_folders import StandIn, batch, names, verb, write_ct
from synthetic_dicom import hounsfield, write_series

import ctenhance
from ctenhance.core.volume import CTVolume
from ctenhance.files import finished
from ctenhance.files.finished import sole_writer
from ctenhance.runtime.errors import CTEnhanceError
from ctenhance.runtime.files import DISK_FULL

__all__ = ["verb"]
TWIN = "enhance-twin"
# Takes the lock of a folder and ends without giving it back.
HOLDER = """
import os, sys
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire(timeout=0)
os._exit(9)
"""


@pytest.fixture
def folders(tmp_path: Path, verb: StandIn) -> tuple[Path, Path]:
    """Two CTs and their results."""
    source, target = tmp_path / "in", tmp_path / "out"
    write_ct(source / "a.nii.gz", 1)
    write_ct(source / "b.nii.gz", 2)
    batch(source, target)
    verb.calls.clear()
    return source, target


@pytest.mark.parametrize(
    "option", [("--model", "nobody"), ("--device", "tpu"), ("--samples", "9"), ("--steps", "3")]
)
def test_what_no_case_could_use_is_refused_at_once(tmp_path: Path, option: tuple[str, str]) -> None:
    write_ct(tmp_path / "in" / "a.nii.gz")
    done = batch(tmp_path / "in", tmp_path / "out", *option, code=2)
    assert (option[1] if option[0] in ("--model", "--device") else option[0]) in done.stderr
    assert not (tmp_path / "out").exists()


def test_batch_writes_volume_and_report_and_resumes(tmp_path: Path, verb: StandIn) -> None:
    one = write_ct(tmp_path / "in" / "one.nii.gz", 1)
    write_ct(tmp_path / "in" / "sub" / "two.mha", 2)
    options = ("--strength", 0.5, "--seed", 4, "--model", TWIN)
    assert "2 done, 0 finished before, 0 failed." in batch(tmp_path / "in", tmp_path / "out", *options).stdout
    given = {
        name: getattr(verb.calls[0]["options"], name)
        for name in ("strength", "seed", "model", "samples", "steps", "device")
    }
    assert given == {
        "strength": 0.5, "seed": 4, "model": TWIN, "samples": None, "steps": None, "device": "auto",
    }  # fmt: skip
    enhanced = CTVolume.read(tmp_path / "out" / "one.nii.gz")
    assert np.array_equal(enhanced.array, CTVolume.read(one).array + 1)
    assert json.loads((tmp_path / "out" / "sub" / "two.report.json").read_text())["seed"] == 4

    (tmp_path / "out" / "one.report.json").unlink()  # as if it had been stopped in between
    # The defaults, named.
    again = ("--strength", 0.5, "--seed", 4, "--samples", 1, "--steps", 1)
    assert "1 done, 1 finished before" in batch(tmp_path / "in", tmp_path / "out", *again).stdout
    assert len(verb.calls) == 3


@pytest.mark.parametrize(
    ("option", "difference"),
    [
        (("--strength", "0.5"), "another strength (1.0, not 0.5)"),
        (("--seed", "1"), "another seed (0, not 1)"),
        (("--keep-faint", "1"), "another share of faint structures kept (0.0, not 1.0)"),
        (("--samples", "2"), "another number of samples (1, not 2)"),
        (
            ("--model", "enhance-diffusion"),
            "another model (enhance-twin, not enhance-diffusion)",
        ),
    ],
)
def test_results_of_other_settings_are_not_mixed(
    folders: tuple[Path, Path], verb: StandIn, option: tuple[str, str], difference: str
) -> None:
    source, target = folders
    write_ct(source / "new.nii.gz", 3)
    refused = batch(source, target, *option, code=2).stderr
    assert f"a.nii.gz' and 1 more were made before with {difference}" in refused
    assert not verb.calls and "new.nii.gz" not in names(target)
    assert "3 done, 0 finished before" in batch(source, target, *option, "--overwrite").stdout
    assert "3 finished before" in batch(source, target, *option).stdout


def test_results_from_before_faint_structures_could_be_kept_stay_finished(folders: tuple[Path, Path]) -> None:
    source, target = folders
    for file in target.glob("*.report.json"):
        report = json.loads(file.read_text(encoding="utf-8"))
        assert report["settings"].pop("keep_faint") == 0
        file.write_text(json.dumps(report), encoding="utf-8")
    assert "2 finished before" in batch(source, target).stdout
    refused = batch(source, target, "--keep-faint", 1, code=2).stderr
    assert "(0.0, not 1.0)" in refused


def test_other_weights_of_the_same_name_are_another_setting(folders: tuple[Path, Path]) -> None:
    source, target = folders
    report = json.loads((target / "a.report.json").read_text(encoding="utf-8"))
    report["model"]["sha256"] = "0" * 64
    (target / "a.report.json").write_text(json.dumps(report), encoding="utf-8")
    assert "another weights file (000000000000…, not " in batch(source, target, code=2).stderr


def put_back_time(path: Path, change: Callable[[], object]) -> None:
    """Change a file as programs do that copy times along."""
    before = path.stat()
    change()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "replace",
    [
        lambda path: write_ct(path, 7),
        lambda path: write_ct(path, 1, spacing=(0.7, 0.7, 2.0)),  # the same voxels elsewhere
        lambda path: write_ct(path, 1, origin=(5.0, 0.0, 0.0)),
        lambda path: write_ct(path, 1, direction=np.diag([-1.0, -1.0, 1.0])),
        lambda path: put_back_time(path, lambda: write_ct(path, 7)),
        lambda path: shutil.copy2(path.with_name("b.nii.gz"), path),
    ],
)
def test_a_replaced_input_is_done_again(
    folders: tuple[Path, Path], verb: StandIn, replace: Callable[[Path], object]
) -> None:
    source, target = folders
    replace(source / "a.nii.gz")
    assert "1 done, 1 finished before" in batch(source, target).stdout
    now, made = CTVolume.read(source / "a.nii.gz"), CTVolume.read(target / "a.nii.gz")
    assert np.array_equal(made.array, now.array + 1) and made.spacing == now.spacing
    assert made.origin == now.origin and np.allclose(made.direction, now.direction)
    assert "2 finished before" in batch(source, target).stdout


def test_values_in_another_file_are_looked_at(tmp_path: Path, verb: StandIn) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    header = write_ct(source / "a.mhd", 1)
    batch(source, target)
    kept = header.read_bytes()
    put_back_time(source / "a.raw", lambda: write_ct(header, 2))
    assert header.read_bytes() == kept
    assert "1 done" in batch(source, target).stdout
    assert np.array_equal(CTVolume.read(target / "a.nii.gz").array, CTVolume.read(header).array + 1)


def test_changed_and_further_slices_are_noticed(tmp_path: Path, verb: StandIn) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    write_series(source / "S1")
    batch(source, target)
    write_series(tmp_path / "other", values=hounsfield(4, seed=9))
    put_back_time(
        source / "S1" / "image0003.dcm",
        lambda: shutil.copy(tmp_path / "other" / "image0003.dcm", source / "S1"),
    )
    assert "1 done" in batch(source, target).stdout
    write_series(source / "S1", (10,), prefix="more")
    assert "1 done" in batch(source, target).stdout
    now, made = CTVolume.read(source / "S1"), CTVolume.read(target / "S1.nii.gz")
    assert len(made.array) == 5 and np.array_equal(made.array, now.array + 1)
    assert "1 finished before" in batch(source, target).stdout


def test_nothing_is_read_to_find_what_is_finished(
    tmp_path: Path, verb: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ct(tmp_path / "in" / "a.nii.gz")
    write_ct(tmp_path / "in" / "b.mha")
    write_series(tmp_path / "in" / "S1")
    for file in (tmp_path / "in").rglob("*.*"):
        os.utime(file, (1e9, 1e9))
    batch(tmp_path / "in", tmp_path / "out")
    monkeypatch.setattr(ctenhance, "read", lambda *given, **named: 1 / 0)
    monkeypatch.setattr(finished, "file_sha256", lambda path: 1 / 0)
    assert "3 finished before" in batch(tmp_path / "in", tmp_path / "out").stdout


def test_a_young_file_is_read_again(tmp_path: Path) -> None:
    path = write_ct(tmp_path / "a.nii.gz")
    assert not finished.settled([path])
    os.utime(path, (1e9, 1e9))
    assert finished.settled([path])


def test_a_moved_or_packed_anew_input_stays_finished(folders: tuple[Path, Path], verb: StandIn) -> None:
    source, target = folders
    shutil.copytree(source, source.with_name("copy"))
    shutil.copytree(target, target.with_name("results"))
    done = batch(source.with_name("copy"), target.with_name("results"))
    assert "2 finished before" in done.stdout and not verb.calls


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-50]),
        lambda path: put_back_time(path, lambda: path.write_bytes(path.read_bytes()[::-1])),
        lambda path: shutil.copy(path.with_name("b.nii.gz"), path),
        lambda path: shutil.copy(path.with_name("b.report.json"), path.with_name("a.report.json")),
        lambda path: path.with_name("a.report.json").unlink(),
        lambda path: path.with_name("a.report.json").write_text('{"verb": "enhance", '),
        lambda path: path.with_name("a.report.json").write_text("[1]"),
        lambda path: path.with_name("a.report.json").write_text("{}"),
        lambda path: path.with_name("a.report.json").write_text('{"input": 1, "output": [], "model": ""}'),
    ],
)
def test_a_result_that_is_not_whole_is_made_again(
    folders: tuple[Path, Path], verb: StandIn, spoil: Callable[[Path], object]
) -> None:
    source, target = folders
    right = (target / "a.nii.gz").read_bytes()
    spoil(target / "a.nii.gz")
    assert "1 done, 1 finished before" in batch(source, target).stdout
    assert (target / "a.nii.gz").read_bytes() == right and len(verb.calls) == 1
    assert "2 finished before" in batch(source, target).stdout


@pytest.mark.parametrize("name", ["a.nii.gz", "a.report.json"])
def test_a_folder_in_place_of_a_result_is_told(folders: tuple[Path, Path], name: str) -> None:
    source, target = folders
    (target / name).unlink()
    (target / name).mkdir()
    done = batch(source, target, code=1)
    assert f"{name}' is a folder where a file has to go" in done.stderr
    assert "1 of 2 cases failed, the others are in" in done.stderr


def test_an_output_folder_that_is_a_file_is_refused_at_once(tmp_path: Path, verb: StandIn) -> None:
    write_ct(tmp_path / "in" / "a.nii")
    (tmp_path / "out").write_text("")
    assert "it is a file, not a folder" in batch(tmp_path / "in", tmp_path / "out", code=2).stderr
    assert not verb.calls


def test_failing_cases_stop_no_other(tmp_path: Path, verb: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a_broken.nii.gz").write_bytes(b"nonsense")
    write_ct(tmp_path / "in" / "b.nii.gz")
    write_ct(tmp_path / "in" / "c.nii.gz")
    write_ct(tmp_path / "in" / f"{'d' * 245}.nii")  # its report's name is too long for the file system
    write = ctenhance.write

    def failing(volume: CTVolume, path: Path) -> None:
        if Path(path).name == "b.nii.gz":
            raise CTEnhanceError("It did not come out whole.")
        write(volume, path)

    monkeypatch.setattr(ctenhance, "write", failing)
    report = tmp_path / "out" / "batch.json"  # its folder is made by the batch itself
    done = batch(tmp_path / "in", tmp_path / "out", "--report", report, "--progress", "json", code=1)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    failed = json.loads(report.read_text(encoding="utf-8"))["failed"]
    assert [name[:3] for name in sorted(failed)] == ["a_b", "b.n", "ddd"]
    assert failed["b.nii.gz"] == "It did not come out whole." and "255 bytes" in failed[sorted(failed)[2]]
    assert [line["event"] for line in lines if line["event"] in ("log", "result", "error")] == [
        "log", "log", "log", "result", "error",
    ]  # fmt: skip
    assert lines[-1]["text"].startswith("3 of 4 cases failed, the others are in")
    assert names(tmp_path / "out") == ["batch.json", "c.nii.gz", "c.report.json"]
    assert len(verb.calls) == 2  # the one with the long name was not computed in vain
    monkeypatch.undo()


def test_an_old_result_of_a_failed_case_is_told(folders: tuple[Path, Path]) -> None:
    source, target = folders
    (source / "b.nii.gz").write_bytes(b"")
    told = batch(source, target, code=1).stderr
    assert "'b.nii.gz' failed" in told and "('b.nii.gz' there is of an earlier run.)" in told


def test_a_result_whose_report_cannot_be_written_goes_with_it(
    tmp_path: Path, verb: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, report: Any) -> None:
        raise CTEnhanceError(f"Cannot write '{path}': the disk is full.")

    write_ct(tmp_path / "in" / "a.nii.gz")
    monkeypatch.setattr(finished, "write_report", full)

    told = batch(tmp_path / "in", tmp_path / "out", code=1).stderr

    assert "the disk is full" in told and "of an earlier run" not in told
    assert not names(tmp_path / "out")


def test_unexpected_failure_is_a_failed_case(tmp_path: Path, verb: StandIn) -> None:
    write_ct(tmp_path / "in" / "a.nii.gz")
    verb.before = lambda volume, given: 1 / 0  # type: ignore[func-returns-value]
    told = batch(tmp_path / "in", tmp_path / "out", code=1).stderr
    assert "'a.nii.gz' failed: Something unexpected happened (ZeroDivisionError" in told
    assert "The only case, 'a.nii.gz', failed" in told


def test_an_input_that_changes_while_it_is_read_fails(
    tmp_path: Path, verb: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_ct(tmp_path / "in" / "a.nii.gz", 1)
    read = ctenhance.read

    def changing(*given: Any, **named: Any) -> CTVolume:
        volume = read(*given, **named)
        write_ct(path, 2)
        return volume

    monkeypatch.setattr(ctenhance, "read", changing)
    assert "changed while they were read" in batch(tmp_path / "in", tmp_path / "out", code=1).stderr
    assert not names(tmp_path / "out")


def test_an_input_that_changes_while_it_is_enhanced_is_done_again(tmp_path: Path, verb: StandIn) -> None:
    path = write_ct(tmp_path / "in" / "a.nii.gz", 1)
    verb.before = lambda volume, given: write_ct(path, 2)
    batch(tmp_path / "in", tmp_path / "out")
    verb.before = lambda volume, given: None
    assert "1 done" in batch(tmp_path / "in", tmp_path / "out").stdout
    assert np.array_equal(CTVolume.read(tmp_path / "out" / "a.nii.gz").array, CTVolume.read(path).array + 1)


def test_a_result_that_vanishes_meanwhile_is_a_failure(tmp_path: Path, verb: StandIn) -> None:
    write_ct(tmp_path / "in" / "a.nii.gz", 1)
    write_ct(tmp_path / "in" / "b.nii.gz", 2)

    def remove(volume: CTVolume, given: dict[str, Any]) -> None:
        if len(verb.calls) == 2:
            (tmp_path / "out" / "a.nii.gz").unlink()

    verb.before = remove
    told = batch(tmp_path / "in", tmp_path / "out", code=1)
    assert (
        "1 done, 0 finished before, 1 failed" in told.stdout and "changed or removed meanwhile" in told.stderr
    )


def test_cancel_keeps_what_is_finished(tmp_path: Path, verb: StandIn) -> None:
    for name in ("a", "b", "c"):
        write_ct(tmp_path / "in" / f"{name}.nii.gz")
    verb.before = lambda volume, given: given["cancel"].cancel() if len(verb.calls) == 2 else None
    done = batch(tmp_path / "in", tmp_path / "out", code=130)
    assert "Cancelled with 1 of 3 cases finished; their results stay" in done.stderr
    assert names(tmp_path / "out") == ["a.nii.gz", "a.report.json"]
    assert "2 done, 1 finished before, 0 failed." in batch(tmp_path / "in", tmp_path / "out").stdout


def test_only_one_batch_writes_into_a_folder(folders: tuple[Path, Path]) -> None:
    source, target = folders
    with sole_writer(target):
        assert "Another batch is writing into" in batch(source, target, code=2).stderr
        # So it is for another process, and an ended one holds nothing, however it ended.
        held = [sys.executable, "-c", HOLDER, str(target / finished.LOCK)]
        assert subprocess.run(held, capture_output=True).returncode == 1
    assert subprocess.run(held, capture_output=True).returncode == 9
    batch(source, target)


def test_the_report_of_a_batch_is_none_of_a_case(folders: tuple[Path, Path]) -> None:
    source, target = folders
    told = batch(source, target, "--report", target / "a.report.json", code=2).stderr
    assert "is the report of a case; choose another name" in told


def test_notes_and_warnings_of_a_case_are_told(tmp_path: Path, verb: StandIn) -> None:
    padded = write_series(tmp_path / "other").astype(np.int16)
    padded[:, :2, :2] = -2000
    write_series(tmp_path / "in" / "S1", values=padded, PixelRepresentation=1, RescaleIntercept=0)
    assert "Note: 'S1': " in batch(tmp_path / "in", tmp_path / "out").stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_text_are_told_and_stop_no_other(tmp_path: Path, verb: StandIn) -> None:
    write_ct(tmp_path / "in" / "M.nii")
    os.rename(tmp_path / "in" / "M.nii", os.fsencode(tmp_path / "in") + b"/M\xfcller.nii")
    write_ct(tmp_path / "in" / "[" / "b].nii")  # no markup of the progress bar
    report = tmp_path / "batch.json"
    done = batch(tmp_path / "in", tmp_path / "out", "--report", report, code=1)
    told = json.loads(report.read_text(encoding="utf-8"))
    assert told["done"] == ["[/b].nii"] and list(told["failed"]) == ["M?ller.nii"]
    assert "other than UTF-8" in done.stderr


def test_a_full_disk_stops_the_batch_and_the_next_goes_on(
    tmp_path: Path, verb: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcd":
        write_ct(tmp_path / "in" / f"{name}.nii.gz")
    write = ctenhance.write

    def until_full(volume: CTVolume, path: Path) -> None:
        if Path(path).name == "b.nii.gz":
            raise CTEnhanceError(f"Cannot write '{path}': {DISK_FULL}; free some space or choose another.")
        write(volume, path)

    with monkeypatch.context() as patch:
        patch.setattr(ctenhance, "write", until_full)
        error = batch(tmp_path / "in", tmp_path / "out", code=1).stderr
    assert "Stopped at 'b.nii.gz', since the disk is full: 1 of 4 cases are finished" in error
    assert "unexpected" not in error and len(verb.calls) == 2
    assert names(tmp_path / "out") == ["a.nii.gz", "a.report.json"]

    assert "3 done, 1 finished before" in batch(tmp_path / "in", tmp_path / "out").stdout


def test_a_map_among_the_series_is_left_out_and_no_failure(tmp_path: Path, verb: StandIn) -> None:
    series = {"ct": {}, "iodine": {"RescaleType": "MGML"}, "flow": {"SeriesDescription": "CBF [ml/100g/min]"}}
    for number, (name, change) in enumerate(series.items(), start=1):
        write_series(
            tmp_path / "in" / name, SeriesNumber=number, SeriesInstanceUID=f"1.2.3.{number}", **change
        )

    done = batch(tmp_path / "in", tmp_path / "out", "--report", tmp_path / "batch.json")

    assert "1 done, 0 finished before, 0 failed, 2 left out." in done.stdout
    assert "left out: 'iodine': Cannot read" in done.stderr and "values in mg/ml" in done.stderr
    report = json.loads((tmp_path / "batch.json").read_text(encoding="utf-8"))
    assert sorted(report["left_out"]) == ["flow", "iodine"] and not report["failed"]

    shutil.rmtree(tmp_path / "in" / "ct")
    error = batch(tmp_path / "in", tmp_path / "other", code=2).stderr
    assert "There is no CT in" in error and "values in ml/100g/min" in error
