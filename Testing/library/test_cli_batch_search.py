"""The search of `ctenhance batch`: cases before it ends, little in memory, and nothing taken for a whole that
is a part."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path

import pytest
from batch_folders import StandIn, batch, find_cases, names, verb, write_ct
from synthetic_dicom import write_series

from ctenhance.batch.case import Case
from ctenhance.batch.manifest import Manifest
from ctenhance.commands import batch_feed
from ctenhance.commands.batch_cases import CaseSearch, Partners
from ctenhance.commands.batch_feed import Feed
from ctenhance.commands.batch_search import LATER
from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import CancelToken

__all__ = ["verb"]
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def patients(folder: Path, number: int, first: int = 0) -> None:
    for k in range(first, first + number):
        own = {"SeriesInstanceUID": f"1.2.{k}", "StudyInstanceUID": f"1.1.{k}"}
        write_series(folder / f"p{k:03}", (0, 1), **own)


def test_cases_are_given_before_all_folders_are_known(tmp_path: Path) -> None:
    patients(tmp_path / "in", 2 * LATER)
    write_ct(tmp_path / "in" / "p000" / "a.nii")
    search = CaseSearch(tmp_path / "in", tmp_path / "out")
    seen: list[tuple[str, int]] = [(one.name, search.folders) for one in search]  # type: ignore[union-attr]
    assert seen[0] == ("p000/a.nii", 2)  # a volume file at once
    assert seen[1] == ("p000", LATER + 3) and seen[-1] == (f"p{2 * LATER - 1:03}", 2 * LATER + 1)
    assert len(seen) == len(set(seen)) == 2 * LATER + 1


def test_a_series_in_folders_far_apart_is_one_case_and_no_half_stays(tmp_path: Path, verb: StandIn) -> None:
    own = {"SeriesInstanceUID": "1.2.999", "StudyInstanceUID": "1.1.999"}
    values = write_series(tmp_path / "all", range(6))
    write_series(tmp_path / "in" / "a", range(3), values=values[:3], **own)
    write_series(tmp_path / "in" / "z", range(3, 6), values=values[3:], **own)
    patients(tmp_path / "in", LATER + 2)
    found = find_cases(tmp_path / "in", tmp_path / "out")
    assert "a" in found.withdrawn and "part of a series" in found.withdrawn["a"]
    assert {case.name: len(case.files) for case in found.cases if "p0" not in case.name} == {"in": 6}
    done = batch(tmp_path / "in", tmp_path / "out")
    assert f"{LATER + 3} done, 0 finished before, 0 failed" in done.stdout
    made = [name for name in names(tmp_path / "out") if not name.startswith("p0")]
    assert made == ["in.nii.gz", "in.report.json"]
    assert (CTVolume.read(tmp_path / "out" / "in.nii.gz").array == values + 1).all()
    # The next run ends in the same state.
    assert f"{LATER + 3} finished before" in batch(tmp_path / "in", tmp_path / "out").stdout
    assert [name for name in names(tmp_path / "out") if not name.startswith("p0")] == made


def test_a_half_that_was_done_before_the_rest_was_found_goes_again(
    tmp_path: Path, verb: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"SeriesInstanceUID": "1.2.999", "StudyInstanceUID": "1.1.999"}
    write_series(tmp_path / "in" / "a", range(3), **own)
    write_series(tmp_path / "in" / "z", range(3, 6), **own)
    patients(tmp_path / "in", LATER + 2)
    # The search goes no further than each case needs.
    monkeypatch.setattr(batch_feed, "AHEAD", 0.0)
    monkeypatch.setattr(batch_feed, "_AT_ONCE", 1)
    halves = []
    verb.before = lambda volume, given: halves.append((tmp_path / "out" / "a.nii.gz").exists())
    done = batch(tmp_path / "in", tmp_path / "out")
    assert any(halves)  # it was there while others were made
    assert f"{LATER + 3} done" in done.stdout and "left out: 'a'" in done.stderr
    assert [name for name in names(tmp_path / "out") if not name.startswith("p0")] == [
        "in.nii.gz", "in.report.json",
    ]  # fmt: skip


def test_a_scout_far_from_its_study_is_left_out(tmp_path: Path) -> None:
    own = {"StudyInstanceUID": "1.1.999"}
    write_series(tmp_path / "in" / "a", (0,), SeriesInstanceUID="1.2.1", orientation=CORONAL, **own)
    write_series(tmp_path / "in" / "z", SeriesInstanceUID="1.2.2", **own)
    patients(tmp_path / "in", LATER + 2)
    found = find_cases(tmp_path / "in", tmp_path / "out")
    assert found.withdrawn.keys() == {"a"} and "z" in {case.name for case in found.cases}
    assert "scout" in found.left_out["a"]


def test_what_lies_apart_and_is_no_stack_stays_as_it_was_found(tmp_path: Path) -> None:
    own = {"SeriesInstanceUID": "1.2.999", "StudyInstanceUID": "1.1.999"}
    for place in "az":
        write_series(tmp_path / "in" / place, **own)  # a copy
    patients(tmp_path / "in", LATER + 2)
    found = find_cases(tmp_path / "in", tmp_path / "out")
    assert not found.withdrawn and {"a", "z"} < {case.name for case in found.cases}
    assert len(found.cases) == LATER + 4


def test_a_file_beside_a_folder_of_its_name_has_the_same_place_in_each_run(tmp_path: Path) -> None:
    for name in ("a.nii", "b.nii", "b.nii.gz/c.nii", "d/e.nii", "d.nii"):
        write_ct(tmp_path / "in" / name)
    write_series(tmp_path / "in" / "a")
    places = {case.name: case.output.name for case in find_cases(tmp_path / "in", tmp_path / "out").cases}
    assert places == {
        "a": "a.nii.gz", "a.nii": "a.nii.nii.gz", "b.nii": "b.nii.nii.gz", "b.nii.gz/c.nii": "c.nii.gz",
        "d.nii": "d.nii.gz", "d/e.nii": "e.nii.gz",
    }  # fmt: skip


def test_the_own_folder_of_an_earlier_batch_and_label_maps_inside_are_no_input(tmp_path: Path) -> None:
    write_ct(tmp_path / "in" / "a.nii")
    write_ct(tmp_path / "in" / "ctenhance-batch" / "unfinished" / "1234" / "a.nii.gz")
    labelled = write_ct(tmp_path / "in" / "masks" / "a.nii.gz")
    search = CaseSearch(tmp_path / "in", tmp_path / "out", partners=Partners(labels=labelled.parent))
    (case,) = search
    assert isinstance(case, Case) and case.name == "a.nii" and case.beside["labels"] == labelled
    write_ct(tmp_path / "in" / "Labels" / "a.nii.gz")
    search = CaseSearch(tmp_path / "in", tmp_path / "out", partners=Partners(labels=labelled.parent))
    problems = {case.name: case.problem for case in search if isinstance(case, Case)}
    assert "is where label maps go" in problems["Labels/a.nii.gz"] and not problems["a.nii"]


def test_the_thread_of_a_feed_tells_its_error_and_ends(tmp_path: Path) -> None:
    write_ct(tmp_path / "in" / "a.nii")

    def refuse(case: Case) -> None:
        raise InputError("not this one")

    search = CaseSearch(tmp_path / "in", tmp_path / "out")
    (tmp_path / "out").mkdir()
    with Manifest(tmp_path / "out") as manifest:
        manifest.begin("enhance", {})
        with Feed(search, search, manifest, refuse, CancelToken()) as feed:
            feed.start()
            with pytest.raises(InputError, match="not this one"):
                list(feed.waiting())
        with Feed(search, iter_for_ever(), manifest, lambda case: None, CancelToken()) as feed:
            feed.start()
            assert next(feed.waiting()) is None or feed.number
    assert "search" not in {thread.name for thread in threading.enumerate()}


def iter_for_ever():
    number = 0
    while True:
        number += 1
        yield Case(f"{number}", (), Path(f"{number}.nii.gz"))


def test_a_manifest_of_an_earlier_version_is_taken_further(tmp_path: Path, verb: StandIn) -> None:
    write_ct(tmp_path / "in" / "a.nii")
    batch(tmp_path / "in", tmp_path / "out")
    path = tmp_path / "out" / "ctenhance-batch" / "manifest.sqlite"
    with sqlite3.connect(path) as base:
        base.execute("DROP INDEX cases_found")
        base.execute("ALTER TABLE cases DROP COLUMN found")
    assert "1 finished before" in batch(tmp_path / "in", tmp_path / "out").stdout
    report = json.loads((tmp_path / "out" / "a.report.json").read_text(encoding="utf-8"))
    assert report["verb"] == "enhance"
