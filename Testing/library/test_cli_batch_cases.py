"""`ctenhance.commands.batch_cases`: which CTs a folder holds, and where their results go."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from batch_folders import batch, find_cases, names, verb, write_ct, write_index
from synthetic_dicom import hounsfield, write_series

from ctenhance.batch.case import Case
from ctenhance.commands.options import Choice
from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError

__all__ = ["verb"]
LOCALIZER = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def cases_in(tmp_path: Path) -> dict[str, Case]:
    return {case.name: case for case in find_cases(tmp_path / "in", tmp_path / "out").cases}


def test_cases_are_files_and_dicom_series_at_any_depth(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "in" / "out"
    write_ct(source / "a.nii.gz")
    write_ct(source / "deep" / "b.mha")
    write_ct(source / "deep" / "c.mhd")  # what a single `enhance` reads
    write_series(source / "deep" / "series", prefix="IM")
    write_series(source / "other")
    write_ct(target / "old.nii.gz")
    (source / "notes.txt").write_text("no CT")
    write_ct(source / ".hidden" / "c.nii")
    write_ct(source / ".a.partial-1.nii.gz")
    (source / "x.nii.gz.folder").mkdir()
    cases = {case.name: case for case in find_cases(source, target).cases}
    assert sorted(cases) == ["a.nii.gz", "deep/b.mha", "deep/c.mhd", "deep/series", "other"]
    assert cases["deep/b.mha"].output == target / "deep" / "b.nii.gz"
    assert cases["deep/series"].report == target / "deep" / "series.report.json"
    assert len(cases["other"].files) == 4


def test_no_two_cases_share_a_file(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "a.mha", "A.nrrd", "a.nii.nrrd", "b.nii", "c.nii", "a.mha.nii.gz/x.nii"):
        write_ct(tmp_path / "in" / name)
    write_ct(tmp_path / "in" / "\u00fc.nii")  # one letter, and the same as letter and accent
    write_ct(tmp_path / "in" / "u\u0308.mha")
    write_series(tmp_path / "in" / "c")
    write_series(tmp_path / "in" / "d", SeriesInstanceUID="1.1", SeriesNumber=1)
    write_series(tmp_path / "in" / "d", SeriesInstanceUID="1.2", SeriesNumber=2, prefix="b")
    write_ct(tmp_path / "in" / "d" / "series-1.nii")
    outputs = [case.output for case in cases_in(tmp_path).values()]
    assert len({str(path).casefold() for path in outputs}) == len(outputs) == 13
    folders = {str(parent).casefold() for path in outputs for parent in path.parents}
    assert not folders & {str(path).casefold() for path in outputs}


def test_input_folder_that_is_a_series(tmp_path: Path) -> None:
    write_series(tmp_path / "in")
    (case,) = cases_in(tmp_path).values()
    assert len(case.files) == 4 and case.output == tmp_path / "out" / "in.nii.gz"


def test_a_disc_has_one_case_for_each_of_its_folders(tmp_path: Path, verb: object) -> None:
    for place, uid in (("", "1.1"), ("S1", "1.2"), ("S2", "1.3")):
        write_series(tmp_path / "in" / "DICOM" / place, SeriesInstanceUID=uid)
    write_index(tmp_path / "in" / "DICOMDIR")
    write_index(tmp_path / "in" / "DICOM" / "DIRFILE")
    write_index(tmp_path / "in" / "DICOM" / "S1" / "index.dcm")
    assert list(cases_in(tmp_path)) == ["DICOM", "DICOM/S1", "DICOM/S2"]
    # None of them takes the slices of the folders below.
    assert "3 done" in batch(tmp_path / "in", tmp_path / "out").stdout


def test_a_flat_export_is_enhanced_series_by_series(tmp_path: Path, verb: object) -> None:
    write_series(tmp_path / "in" / "study", prefix="x", SeriesInstanceUID="1.2", SeriesNumber=3)
    two = write_series(
        tmp_path / "in" / "study", (0, 2, 4, 6, 8), prefix="y", SeriesInstanceUID="1.1", SeriesNumber=7
    )
    write_series(tmp_path / "in" / "study", (0,), prefix="z", SeriesInstanceUID="1.3", ImageType=LOCALIZER)
    batch(tmp_path / "in", tmp_path / "out")
    assert names(tmp_path / "out") == [
        "study/series-3.nii.gz", "study/series-3.report.json",
        "study/series-7.nii.gz", "study/series-7.report.json",
    ]  # fmt: skip
    made = CTVolume.read(tmp_path / "out" / "study" / "series-7.nii.gz")
    assert (made.array == two + 1).all()

    for wanted in ("7", "1.1"):
        found = find_cases(tmp_path / "in", tmp_path / "out", Choice(wanted))
        # Its name is the same whether the others are enhanced or not.
        assert [case.name for case in found.cases] == ["study (series 7)"]
        assert "series 3: 4 slices" in found.left_out["study (series 3)"]
    told = batch(tmp_path / "in", tmp_path / "out", "--series", 7)
    assert "left out: 'study (series 3)'" in told.stderr and "0 failed, 1 left out." in told.stdout
    refused = batch(tmp_path / "in", tmp_path / "out", "--series", 9, code=2).stderr
    assert "no CT series in" in refused and "series 3: 4 slices" in refused and "series 7" in refused


def test_images_are_chosen_in_every_series(tmp_path: Path, verb: object) -> None:
    for kvp in (80, 140):  # one after the other in one series
        values = hounsfield(4, seed=kvp)
        write_series(tmp_path / "in" / "two", prefix=str(kvp), values=values, KVP=kvp, AcquisitionNumber=kvp)
    one = write_series(tmp_path / "in" / "one", SeriesInstanceUID="1.1", KVP=120, AcquisitionNumber=1)
    write_ct(tmp_path / "in" / "a.nii")
    done = batch(tmp_path / "in", tmp_path / "out", code=1)
    assert "1 of 3 cases failed" in done.stderr and "'two' failed" in done.stderr
    done = batch(tmp_path / "in", tmp_path / "out", "--where", "KVP=80")
    assert "1 done, 1 finished before" in done.stdout and "left out: 'one'" in done.stderr
    assert json.loads((tmp_path / "out" / "two.report.json").read_text())["settings"]["slices"].endswith(
        "KVP=80"
    )
    refused = batch(tmp_path / "in", tmp_path / "out", "--where", "kvp=140", code=2).stderr
    assert "two.nii.gz' was made before with another choice of slices" in refused
    assert (CTVolume.read(tmp_path / "out" / "one.nii.gz").array == one + 1).all()
    refused = batch(tmp_path / "in", tmp_path / "out", "--where", "KVP=90", code=2).stderr
    assert "no slice has KVP=90; choose from: KVP 80 (4 slices) and 140 (4 slices)" in refused
    write_ct(tmp_path / "volumes" / "a.nii")
    refused = batch(tmp_path / "volumes", tmp_path / "x", "--series", 2, code=2).stderr
    assert "in DICOM folders only" in refused


def test_series_that_share_a_uid_are_chosen_by_number(tmp_path: Path, verb: object) -> None:
    """As with the single command: some anonymisers give one SeriesInstanceUID to several series."""
    shared = {"SeriesInstanceUID": "1.1"}
    two = write_series(tmp_path / "in" / "ct", prefix="a", SeriesNumber=2, **shared)
    three = write_series(
        tmp_path / "in" / "ct", prefix="b", values=hounsfield(4, seed=5), SeriesNumber=3, **shared
    )
    write_series(tmp_path / "in" / "other", SeriesInstanceUID="1.4", StudyInstanceUID="1.5", SeriesNumber=3)

    for asked, values, done in ((3, three, 2), (2, two, 1)):
        told = batch(tmp_path / "in", tmp_path / "out", "--series", asked)
        assert f"{done} done, 0 finished before, 0 failed" in told.stdout
        made = CTVolume.read(tmp_path / "out" / "ct" / f"series-{asked}.nii.gz")
        assert (made.array == values + 1).all()
        assert (CTVolume.read(tmp_path / "in" / "ct", series=asked).array == values).all()
    report = json.loads((tmp_path / "out" / "ct" / "series-2.report.json").read_text("utf-8"))
    assert report["settings"]["slices"].endswith("SeriesNumber=2")
    again = batch(tmp_path / "in", tmp_path / "out", "--series", 3)
    assert "2 finished before" in again.stdout and "no case of this run" not in " ".join(again.stderr.split())
    refused = batch(tmp_path / "in", tmp_path / "x", "--series", 4, code=2).stderr
    assert "no CT series in" in refused
    # The UID means all of it, which is two scans.
    assert "'ct' failed" in batch(tmp_path / "in", tmp_path / "y", "--series", "1.1", code=1).stderr


def test_series_without_a_number_of_their_own_are_counted(tmp_path: Path) -> None:
    for uid in ("1.1", "1.2"):  # two studies, each with a series 2
        write_series(tmp_path / "in", prefix=uid, SeriesInstanceUID=uid, StudyInstanceUID=uid)
    assert list(cases_in(tmp_path)) == ["in (series 3)", "in (series 4)"]
    # And each is a series 2 all the same.
    write_series(tmp_path / "in", prefix="c", SeriesInstanceUID="1.3", SeriesNumber=1)
    for chosen, expected in (("2", ["in (series 3)", "in (series 4)"]), ("4", ["in (series 4)"])):
        found = find_cases(tmp_path / "in", tmp_path / "out", Choice(chosen))
        assert [case.name for case in found.cases] == expected
    assert "not asked for" in found.left_out["in (series 3)"]
    assert "number 2 in its header, with 'in/1.10001.dcm'" in found.left_out["in (series 3)"]


def test_a_study_without_the_series_asked_for_and_archives_are_told_at_the_end(tmp_path: Path) -> None:
    for study, numbers in (("p0", (2, 3)), ("p1", (2,)), ("p2", (2, 3))):
        for number in numbers:
            uid = f"1.{study[1]}.{number}"
            folder = tmp_path / "in" / study / f"s{number}"
            own = {"SeriesInstanceUID": uid, "StudyInstanceUID": f"1.{study[1]}", "SeriesNumber": number}
            write_series(folder, PixelSpacing=[0.8, 0.8], **own)
    (tmp_path / "in" / "more.tar.gz").write_bytes(b"\x1f\x8b" + bytes(300))
    done = batch(tmp_path / "in", tmp_path / "out", "--series", 3, "--verb", "degrade")
    said = " ".join(done.output.split())
    assert "2 done" in said and "4 left out" in said
    assert "'p1/s2' (no series 3 in its study but series 2: 4 slices" in said
    assert "'more.tar.gz' (an archive; unpack it" in said
    assert "'p0/s2' (no series" not in said and "'p2/s2' (no series" not in said


def test_what_holds_no_slices_is_no_case(tmp_path: Path) -> None:
    write_series(tmp_path / "in" / "S1", (0,), ImageType=LOCALIZER)
    write_series(tmp_path / "in" / "S2", Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    write_index(tmp_path / "in" / "DIRFILE")
    with pytest.raises(InputError, match=r"no CT in .*'S1' \(it holds localizer.*'S2' \(.*4 MR objects"):
        cases_in(tmp_path)
    write_ct(tmp_path / "in" / "a.nii")
    found = find_cases(tmp_path / "in", tmp_path / "out")
    assert [case.name for case in found.cases] == ["a.nii"] and set(found.left_out) == {"S1", "S2"}


def test_scouts_are_known_by_the_other_series_of_the_study(tmp_path: Path) -> None:
    coronal = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
    write_series(tmp_path / "in" / "S1", (0,), SeriesInstanceUID="1.1", orientation=coronal)
    write_series(tmp_path / "in" / "S2", SeriesInstanceUID="1.2")
    found = find_cases(tmp_path / "in", tmp_path / "out")
    assert [case.name for case in found.cases] == ["S2"] and "scout" in found.left_out["S1"]
    # Of another study nobody knows.
    write_series(
        tmp_path / "in" / "S1", (0,), SeriesInstanceUID="1.1", orientation=coronal, StudyInstanceUID="9"
    )
    assert list(cases_in(tmp_path)) == ["S1", "S2"]


def test_a_series_in_several_folders_is_one_case(tmp_path: Path, verb: object) -> None:
    values = write_series(tmp_path / "all", range(6))
    for depth, place in enumerate(("B/2", "A", "A", "B", "A", "B/2")):  # in no order
        where = tmp_path / "in" / "DICOM" / place
        write_series(where, (depth,), prefix=f"{depth}-", values=values[depth : depth + 1])
    assert list(cases_in(tmp_path)) == ["DICOM"]
    batch(tmp_path / "in", tmp_path / "out")
    made = CTVolume.read(tmp_path / "out" / "DICOM.nii.gz")
    assert (made.array == values + 1).all() and made.spacing[2] == 1


@pytest.mark.parametrize(
    "other",
    [
        {"depths": (0, 2.5, 5)},  # a copy
        {"depths": (0.4, 2.9, 5.4)},  # another scan, whose anonymiser knows one UID only
        {"depths": (7.5, 10), "origin": (-130.0, -90.0, -400.0)},
        {"depths": (7.5, 10), "StudyInstanceUID": "1.5"},
        {"depths": (7.5, 10), "SeriesInstanceUID": None},
    ],
)
def test_what_is_no_single_stack_stays_apart(tmp_path: Path, other: dict) -> None:
    write_series(tmp_path / "in" / "A", (0, 2.5, 5))
    write_series(tmp_path / "in" / "B", **other)
    assert [len(case.files) for case in cases_in(tmp_path).values()] == [3, len(other["depths"])]


def test_a_damaged_file_fails_its_folder_only(tmp_path: Path, verb: object) -> None:
    for place, uid in (("S1", "1.1"), ("S2", "1.2"), ("S3", "1.3")):
        write_series(tmp_path / "in" / place, SeriesInstanceUID=uid)
    (tmp_path / "in" / "S1" / "empty.dcm").write_bytes(b"")
    cut = tmp_path / "in" / "S3" / "image0002.dcm"
    cut.write_bytes(cut.read_bytes()[:600])
    os.symlink("not-fetched", tmp_path / "in" / "S2" / "IM5")
    done = batch(tmp_path / "in", tmp_path / "out", code=1)
    assert "All 3 cases failed; the first, 'S1'" in done.stderr
    for sentence in (
        "'empty.dcm' is empty",
        "'IM5' is a link to a file that is not there",
        "'image0002.dcm'",
    ):
        assert sentence in done.stderr
    (tmp_path / "in" / "S2" / "IM5").unlink()
    done = batch(tmp_path / "in", tmp_path / "out", code=1)
    assert "2 of 3 cases failed" in done.stderr and names(tmp_path / "out")[0] == "S2.nii.gz"


def test_a_slice_without_pixels_fails_its_series_only(tmp_path: Path, verb: object) -> None:
    for number, place in ((1, ""), (2, ""), (3, "a"), (3, "b")):
        write_series(
            tmp_path / "in" / place,
            (0, 1, 2) if place != "b" else (3, 4),
            prefix=str(number),
            SeriesNumber=number,
            SeriesInstanceUID=f"1.{number}",
        )
    without = {"Rows": None, "Columns": None, "PixelData": None}
    for number, place in ((1, ""), (3, "b")):
        depth = (5,)
        write_series(tmp_path / "in" / place, depth, prefix="x", SeriesInstanceUID=f"1.{number}", **without)
    told = batch(tmp_path / "in", tmp_path / "out", code=1).stderr
    assert "'in (series 1)' failed: Cannot read" in told and "'x0001.dcm' has no pixel data" in told
    # Of the series in two folders no half is taken for the whole.
    assert "'in (series 3)' failed" in told and "2 of 3 cases failed" in told
    assert names(tmp_path / "out") == ["in/series-2.nii.gz", "in/series-2.report.json"]
    # Cut off before it says which series it is of.
    write_series(tmp_path / "in", depth, prefix="y", SeriesInstanceUID=None, **without)
    assert "All 2 cases failed" in batch(tmp_path / "in", tmp_path / "out2", code=1).stderr


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write_series(tmp_path / "archive" / "patient")
    write_ct(tmp_path / "archive" / "a.nii")
    source = tmp_path / "in"
    source.mkdir()
    os.symlink(tmp_path / "archive" / "patient", source / "one")
    os.symlink(tmp_path / "archive" / "patient", source / "two")  # the same again
    os.symlink(tmp_path / "archive" / "a.nii", source / "a.nii")
    os.symlink(tmp_path, source / "up")
    os.symlink("gone.nii", source / "b.nii")
    if hasattr(os, "mkfifo"):
        os.mkfifo(source / "pipe.nii")  # to read it would wait for ever
    assert list(cases_in(tmp_path)) == ["a.nii", "b.nii", "one"]
    assert "no file or folder" in batch(source, tmp_path / "out", "--samples", 1, code=1).stderr


def test_a_folder_that_cannot_be_opened_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ct(tmp_path / "in" / "a.nii")
    write_ct(tmp_path / "in" / "locked" / "b.nii")
    scan = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    locked = cases_in(tmp_path)["locked"]
    assert "cannot be opened (Permission denied)" in locked.problem


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="the superuser may read everything")
def test_what_may_not_be_read_is_told(tmp_path: Path, verb: object) -> None:
    for name in ("a.nii", "closed.nii", "listed/b.nii", "locked/c.nii"):
        write_ct(tmp_path / "in" / name)
    closed = {"closed.nii": 0, "listed": 0o644, "locked": 0}
    for name, mode in closed.items():
        (tmp_path / "in" / name).chmod(mode)
    told = batch(tmp_path / "in", tmp_path / "out", code=1)
    for name in closed:
        (tmp_path / "in" / name).chmod(0o755)
    assert "1 done, 0 finished before, 3 failed" in told.stdout
    assert told.stderr.count("cannot be opened (Permission denied); check its permissions.") >= 3


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        ([], "There is no folder"),
        (["in/"], "There is no file in"),
        (["in/readme.txt"], "no DICOM series; give a folder that holds CTs"),
        (["in/export.zip"], "packed files such as 'export.zip'; unpack"),
        (["in"], "is a file; give the folder"),
    ],
)
def test_folders_without_a_case_are_refused(tmp_path: Path, made: list[str], sentence: str) -> None:
    for name in made:
        if name.endswith("/"):
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("something")
    assert sentence in batch(tmp_path / "in", tmp_path / "out", code=2).stderr
    assert not (tmp_path / "out").exists()


def test_results_never_go_among_the_inputs(tmp_path: Path) -> None:
    write_ct(tmp_path / "in" / "in" / "a.nii")
    before = (tmp_path / "in" / "in" / "a.nii").read_bytes()
    for target in (tmp_path / "in", tmp_path / "in" / "." / ""):
        assert "cannot go into the input folder" in batch(tmp_path / "in", target, code=2).stderr
    # Into the folder above, they would.
    assert "would go into the input folder" in batch(tmp_path / "in", tmp_path, code=2).stderr
    assert names(tmp_path) == ["in/in/a.nii"] and (tmp_path / "in" / "in" / "a.nii").read_bytes() == before


def test_results_are_not_enhanced_again(tmp_path: Path, verb: object) -> None:
    write_ct(tmp_path / "in" / "a.nii.gz")
    batch(tmp_path / "in", tmp_path / "in" / "first")
    done = batch(tmp_path / "in", tmp_path / "in" / "second")
    assert "1 done" in done.stdout and "'first/a.nii.gz' (a result of an earlier batch" in done.stderr
    refused = batch(tmp_path / "in" / "first", tmp_path / "x", code=2).stderr
    assert "which is not enhanced again; give the folder that it was made of" in refused
    # Without the batch's folder nothing shows whether originals lie elsewhere.
    shutil.copytree(tmp_path / "in" / "first", tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "ctenhance-batch")
    refused = batch(tmp_path / "bare", tmp_path / "x", "--verb", "degrade", code=2).stderr
    assert "give that batch's folder with 'ctenhance-batch'" in " ".join(refused.split())
    # Any other volume beside a report is an input.
    shutil.copytree(tmp_path / "in" / "first", tmp_path / "other")
    (tmp_path / "other" / "a.report.json").write_text('{"verb": "degrade"}')
    assert "1 done" in batch(tmp_path / "other", tmp_path / "y").stdout
