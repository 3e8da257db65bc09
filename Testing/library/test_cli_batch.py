"""`ctenhance.commands.batch`: which cases there are, resuming, and failures that stop no other case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_dicom import dataset, hounsfield, save, write_series
from typer.testing import CliRunner

import ctenhance
from ctenhance.cli import app
from ctenhance.commands.batch import find_cases
from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.progress import check
from ctenhance.runtime.report import Result
from ctenhance.volume import CTVolume

runner = CliRunner()
TWIN = "enhance-twin"


def write_ct(path: Path, seed: int = 0) -> Path:
    noise = np.random.default_rng(seed).normal(0, 12, (3, 16, 16))
    noise[:, :4] -= 1000
    path.parent.mkdir(parents=True, exist_ok=True)
    CTVolume(np.round(noise).astype(np.float32)).write(path)
    return path


def write_dicom_like(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(128) + b"DICM")
    return path


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the stand-in for `enhance` was called with."""
    calls: list[dict[str, Any]] = []

    def verb(volume: CTVolume, **given: Any) -> Result:
        calls.append(given)
        given["progress"]("tiles", 1, 1)
        check(given["cancel"])
        settings = {"strength": given["strength"], "samples": given["samples"] or 4}
        report = {"verb": "enhance", "settings": settings, "seed": given["seed"]}
        return Result({"enhanced": volume.with_array(volume.array + 1)}, {}, report)

    monkeypatch.setattr(ctenhance, "enhance", verb, raising=False)
    return calls


def batch(*arguments: object, code: int = 0) -> Any:
    done = runner.invoke(app, ["batch", *(str(argument) for argument in arguments)])
    assert done.exit_code == code, done.output
    return done


def test_cases_are_files_and_dicom_folders_at_any_depth(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "in" / "out"
    write_ct(source / "a.nii.gz")
    write_ct(source / "deep" / "b.mha")
    write_dicom_like(source / "deep" / "series" / "IM0001")
    write_dicom_like(source / "other" / "x.dcm")
    write_ct(target / "old.nii.gz")
    (source / "notes.txt").write_text("no CT")
    write_ct(source / ".hidden" / "c.nii")
    write_ct(source / ".a.partial-1.nii.gz")
    (source / "x.nii.gz.folder").mkdir()
    cases = {case.name: case for case in find_cases(source, target)}
    assert sorted(cases) == ["a.nii.gz", "deep/b.mha", "deep/series", "other"]
    assert cases["deep/b.mha"].output == target / "deep" / "b.nii.gz"
    assert cases["deep/series"].report == target / "deep" / "series.report.json"


def test_equal_names_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "a.mha", "A.nrrd", "b.nii", "c/IM1"):
        (write_dicom_like if name.startswith("c/") else write_ct)(tmp_path / "in" / name)
    write_ct(tmp_path / "in" / "c.nii")
    outputs = [case.output for case in find_cases(tmp_path / "in", tmp_path / "out")]
    assert len({str(path).casefold() for path in outputs}) == len(outputs) == 6


def test_input_folder_that_is_a_series(tmp_path: Path) -> None:
    write_dicom_like(tmp_path / "series" / "IM1")
    (case,) = find_cases(tmp_path / "series", tmp_path / "out")
    assert case.source == (tmp_path / "series" / "IM1",) and case.output == tmp_path / "out" / "series.nii.gz"


def test_a_disc_has_one_case_for_each_of_its_folders(tmp_path: Path, seen: list[dict[str, Any]]) -> None:
    for place, uid in (("", "1.1"), ("S1", "1.2"), ("S2", "1.3")):
        write_series(tmp_path / "disc" / "DICOM" / place, SeriesInstanceUID=uid)
    save(dataset(hounsfield()[0], (0, 0, 0)), tmp_path / "disc" / "DICOMDIR")
    names = [case.name for case in find_cases(tmp_path / "disc", tmp_path / "out")]
    assert names == ["DICOM", "DICOM/S1", "DICOM/S2"]
    # None of them takes the slices of the folders below.
    assert "3 done" in batch(tmp_path / "disc", tmp_path / "out").stdout


@pytest.mark.parametrize("option", [("--model", "nobody"), ("--device", "tpu")])
def test_what_no_case_could_use_is_refused_at_once(tmp_path: Path, option: tuple[str, str]) -> None:
    write_ct(tmp_path / "in" / "a.nii.gz")
    assert option[1] in batch(tmp_path / "in", tmp_path / "out", *option, code=2).stderr
    assert not (tmp_path / "out").exists()


def test_folders_without_a_case_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        find_cases(tmp_path / "none", tmp_path / "out")
    with pytest.raises(InputError, match="There is no CT in"):
        find_cases(tmp_path, tmp_path / "out")
    write_ct(tmp_path / "a.nii")
    with pytest.raises(InputError, match="cannot go into the input folder"):
        find_cases(tmp_path, tmp_path / "." / "")
    assert "cannot go into" in batch(tmp_path, tmp_path, code=2).stderr


def test_batch_writes_volume_and_report_and_resumes(tmp_path: Path, seen: list[dict[str, Any]]) -> None:
    one = write_ct(tmp_path / "in" / "one.nii.gz", 1)
    write_ct(tmp_path / "in" / "sub" / "two.mha", 2)
    done = batch(tmp_path / "in", tmp_path / "out", "--strength", 0.5, "--seed", 4, "--model", TWIN)
    assert "2 done, 0 finished before, 0 failed." in done.stdout
    assert {name: seen[0][name] for name in ("strength", "seed", "model", "samples", "steps", "device")} == {
        "strength": 0.5, "seed": 4, "model": TWIN, "samples": None, "steps": None, "device": "auto",
    }  # fmt: skip
    enhanced = CTVolume.read(tmp_path / "out" / "one.nii.gz")
    assert np.array_equal(enhanced.array, CTVolume.read(one).array + 1)
    assert json.loads((tmp_path / "out" / "sub" / "two.report.json").read_text())["seed"] == 4

    (tmp_path / "out" / "one.report.json").unlink()  # as if it had been stopped in between
    again = ("--strength", 0.5, "--seed", 4, "--samples", 4)
    assert "1 done, 1 finished before" in batch(tmp_path / "in", tmp_path / "out", *again).stdout
    assert len(seen) == 3
    other = batch(tmp_path / "in", tmp_path / "out", "--seed", 4, code=1).stderr
    assert "'one.nii.gz' was made before with another strength (0.5, not 1.0)" in other
    assert len(seen) == 3
    assert "2 done, 0 finished before" in batch(tmp_path / "in", tmp_path / "out", "--overwrite").stdout


def test_failing_cases_stop_no_other(
    tmp_path: Path, seen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a_broken.nii.gz").write_bytes(b"nonsense")
    write_ct(tmp_path / "in" / "b.nii.gz")
    write_ct(tmp_path / "in" / "c.nii.gz")
    write = CTVolume.write

    def failing(self: CTVolume, path: Path) -> None:
        if Path(path).name == "b.nii.gz":
            raise CTEnhanceError("The disk is full.")
        write(self, path)

    monkeypatch.setattr(CTVolume, "write", failing)
    report = tmp_path / "batch.json"
    done = batch(tmp_path / "in", tmp_path / "out", "--report", report, "--progress", "json", code=1)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    failed = json.loads(report.read_text(encoding="utf-8"))["failed"]
    assert sorted(failed) == ["a_broken.nii.gz", "b.nii.gz"] and failed["b.nii.gz"] == "The disk is full."
    assert [line["event"] for line in lines if line["event"] in ("log", "result", "error")] == [
        "log", "log", "result", "error",
    ]  # fmt: skip
    assert lines[-1]["text"].startswith("2 of 3 cases failed")
    assert (tmp_path / "out" / "c.nii.gz").exists() and not (tmp_path / "out" / "b.nii.gz").exists()
    monkeypatch.undo()


def test_unexpected_failure_is_a_failed_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ct(tmp_path / "in" / "a.nii.gz")

    def verb(_volume: CTVolume, **_given: Any) -> Result:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(ctenhance, "enhance", verb, raising=False)
    done = batch(tmp_path / "in", tmp_path / "out", code=1)
    assert "'a.nii.gz' failed: Something unexpected happened (ZeroDivisionError: odd)." in done.stderr


def test_cancel_keeps_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        write_ct(tmp_path / "in" / f"{name}.nii.gz")
    count = 0

    def verb(volume: CTVolume, **given: Any) -> Result:
        nonlocal count
        count += 1
        if count == 2:
            given["cancel"].cancel()
        check(given["cancel"])
        return Result({"enhanced": volume}, {}, {"verb": "enhance"})

    monkeypatch.setattr(ctenhance, "enhance", verb, raising=False)
    batch(tmp_path / "in", tmp_path / "out", code=130)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a.nii.gz", "a.report.json"]
    assert "2 done, 1 finished before, 0 failed." in batch(tmp_path / "in", tmp_path / "out").stdout
