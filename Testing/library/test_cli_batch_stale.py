"""`ctenhance batch`: results of earlier runs that belong to no case any more are named and stay."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from batch_folders import StandIn, batch, names, verb, write_ct
from synthetic_dicom import write_series

__all__ = ["verb"]


def said(done: object) -> str:
    return " ".join(done.stderr.split())  # type: ignore[attr-defined]


@pytest.fixture
def folders(tmp_path: Path, verb: StandIn) -> tuple[Path, Path]:
    return tmp_path / "in", tmp_path / "out"


def test_a_case_without_its_twin_leaves_a_result_that_is_named(folders: tuple[Path, Path]) -> None:
    source, target = folders
    write_ct(source / "a.nii.gz", 1)
    write_ct(source / "a.mha", 2)
    assert "no case of this run" not in said(batch(source, target))
    before = names(target)
    assert "a.nii.gz.nii.gz" in before

    (source / "a.mha").unlink()
    report = target / "batch.json"
    told = batch(source, target, "--report", report)

    assert "2 results of earlier runs" in said(told) and "'a.mha.nii.gz', 'a.nii.gz.nii.gz'" in said(told)
    assert "Nothing was deleted" in said(told) and set(before) < set(names(target))
    assert json.loads(report.read_text(encoding="utf-8"))["of_no_case"] == ["a.mha.nii.gz", "a.nii.gz.nii.gz"]
    for page in ("ctenhance-batch/summary.html", "README.md"):
        assert "2 results of earlier runs are in the folder, too" in (target / page).read_text("utf-8")
    # As long as they are there.
    for stem in ("a.mha", "a.nii.gz"):
        (target / f"{stem}.nii.gz").unlink()
    assert "no case of this run" not in said(batch(source, target))
    assert "of earlier runs" not in (target / "README.md").read_text("utf-8")


def test_a_removed_and_a_renamed_input_leave_results_that_are_named(folders: tuple[Path, Path]) -> None:
    source, target = folders
    for seed, name in enumerate(("a", "b", "c")):
        write_ct(source / f"{name}.nii.gz", seed)
    batch(source, target)
    (source / "a.nii.gz").unlink()
    (source / "b.nii.gz").rename(source / "new.nii.gz")
    told = said(batch(source, target))
    assert "2 results of earlier runs" in told and "'a.nii.gz', 'b.nii.gz'" in told


def test_a_folder_that_holds_one_series_less_names_the_old_results(folders: tuple[Path, Path]) -> None:
    source, target = folders
    write_series(source / "s", prefix="x", SeriesInstanceUID="1.1", SeriesNumber=1)
    write_series(source / "s", prefix="y", SeriesInstanceUID="1.2", SeriesNumber=2)
    batch(source, target)
    for file in (source / "s").glob("y*"):
        file.unlink()
    told = said(batch(source, target))
    assert "'s/series-1.nii.gz', 's/series-2.nii.gz'" in told


def test_an_input_that_is_no_ct_any_more_names_the_old_result(folders: tuple[Path, Path]) -> None:
    source, target = folders
    write_ct(source / "a.nii.gz")
    write_series(source / "s")
    batch(source, target)
    shutil.rmtree(source / "s")
    write_series(source / "s", RescaleType="MGML")
    told = said(batch(source, target))
    assert "1 result of earlier runs" in told and "belongs to no case of this run: 's.nii.gz'" in told


def test_what_was_not_chosen_or_lies_elsewhere_is_no_stale_result(folders: tuple[Path, Path]) -> None:
    source, target = folders
    write_series(source / "s", prefix="x", SeriesInstanceUID="1.1", SeriesNumber=1)
    write_series(source / "s", prefix="y", SeriesInstanceUID="1.2", SeriesNumber=2)
    batch(source, target)
    assert "no case of this run" not in said(batch(source, target, "--series", 2))
    write_ct(source.with_name("more") / "z.nii.gz")  # another input folder, the same results' folder
    assert "no case of this run" not in said(batch(source.with_name("more"), target))
    assert "no case of this run" not in said(batch(source, target))
    # Nor after the folders were moved.
    for folder in (source, target):
        folder.rename(folder.with_name(f"moved-{folder.name}"))
    done = batch(source.with_name("moved-in"), target.with_name("moved-out"))
    assert "2 finished before" in done.stdout and "no case of this run" not in said(done)


def test_another_verb_has_results_of_its_own(folders: tuple[Path, Path]) -> None:
    source, target = folders
    for seed, name in enumerate(("a", "b")):
        write_ct(source / f"{name}.nii.gz", seed)
    batch(source, target, "--verb", "compare", "--after", source)
    (source / "a.nii.gz").unlink()
    assert "no case of this run" not in said(batch(source, target))
    told = said(batch(source, target, "--verb", "compare", "--after", source))
    assert "'a.metrics.json'" in told


def test_a_manifest_of_an_earlier_version_knows_its_results(folders: tuple[Path, Path]) -> None:
    source, target = folders
    for seed, name in enumerate(("a", "b")):
        write_ct(source / f"{name}.nii.gz", seed)
    batch(source, target)
    base = sqlite3.connect(target / "ctenhance-batch" / "manifest.sqlite")
    base.execute("DROP TABLE results")
    base.commit()
    base.close()
    (source / "b.nii.gz").unlink()
    assert "belongs to no case of this run: 'b.nii.gz'" in said(batch(source, target))
