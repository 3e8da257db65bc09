"""`ctenhance batch` with each verb, with label maps, and what it says of itself."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from batch_folders import StandIn, batch, names, verb, write_ct
from enhance_body import body
from reconstruct_scan import measured
from synthetic_dicom import write_series
from typer.testing import CliRunner

import ctenhance
from ctenhance.batch.case import Case
from ctenhance.batch.manifest import Manifest
from ctenhance.batch.summary import CASES_A_PAGE, without_names
from ctenhance.cli import app
from ctenhance.core.volume import CTVolume

__all__ = ["verb"]


def single(*arguments: object) -> None:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output


def report_of(path: Path) -> dict:
    return json.loads(path.with_name(f"{path.name.split('.')[0]}.report.json").read_text(encoding="utf-8"))


def test_degrading_draws_each_case_anew_and_each_again_alike(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        body(3, 10, seed).write(make(tmp_path / "in" / f"{name}.nii.gz"))
    options = ("--verb", "degrade", "--dose", 0.3, "--seed", 5)
    batch(tmp_path / "in", tmp_path / "out", *options)
    reports = [report_of(tmp_path / "out" / f"{name}.nii.gz") for name in "ab"]
    assert reports[0]["seed"] != reports[1]["seed"]
    single(
        "degrade",
        tmp_path / "in" / "a.nii.gz",
        tmp_path / "a.nii.gz",
        "--dose",
        0.3,
        "--seed",
        reports[0]["seed"],
    )
    made_alone, of_batch = (CTVolume.read(path / "a.nii.gz") for path in (tmp_path, tmp_path / "out"))
    assert np.array_equal(made_alone.array, of_batch.array)
    # under another name, beside others: the same again
    (tmp_path / "other").mkdir()
    shutil.copy(tmp_path / "in" / "a.nii.gz", tmp_path / "other" / "renamed.nii.gz")
    batch(tmp_path / "other", tmp_path / "out2", *options)
    assert np.array_equal(CTVolume.read(tmp_path / "out2" / "renamed.nii.gz").array, of_batch.array)
    assert "2 finished before" in batch(tmp_path / "in", tmp_path / "out", *options).stdout
    refused = batch(tmp_path / "in", tmp_path / "out", *options[:4], "--seed", 6, code=2).stderr
    assert "with another seed (5, not 6)" in refused
    refused = batch(tmp_path / "in", tmp_path / "out", "--verb", "enhance", code=0)
    assert "2 done" in refused.stdout  # the result of another verb is none of this one


def test_what_a_batch_has_degraded_is_enhanced_and_compared_by_further_ones(tmp_path: Path) -> None:
    body(3, 10, 1).write(make(tmp_path / "in" / "p" / "a.nii.gz"))
    write_series(tmp_path / "in" / "series", PixelSpacing=[0.8, 0.8])
    routine, enhanced, measures = (tmp_path / name for name in ("routine", "enhanced", "measures"))
    batch(tmp_path / "in", routine, "--verb", "degrade", "--dose", 0.3)
    assert "2 done, 0 finished before, 0 failed." in batch(routine, enhanced, "--uncertainty").stdout
    compared = ("--after", enhanced, "--reference", tmp_path / "in")
    assert "2 done" in batch(routine, measures, "--verb", "compare", *compared).stdout
    assert {"p/a.metrics.json", "series.metrics.json"} <= set(names(measures))
    # A part of the folder, and from what has further images.
    assert "1 done" in batch(routine / "p", tmp_path / "part").stdout
    back = batch(enhanced, tmp_path / "back", "--verb", "compare", "--after", routine)
    assert "2 done, 0 finished before, 0 failed, 2 left out." in back.stdout
    assert ".uncertainty.nii.gz' (a further image of an earlier result) and 1 more" in back.stderr


def rows_of(target: Path) -> list[dict[str, str]]:
    with (target / "ctenhance-batch" / "summary.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def make(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_comparing_finds_each_partner_by_its_name(tmp_path: Path) -> None:
    for name in ("p/a.nii.gz", "b.nii.gz", "alone.nii.gz"):
        body(3, 20, 1).write(make(tmp_path / "before" / name))
    body(3, 10, 1).write(make(tmp_path / "after" / "p" / "a.mha"))
    write_series(tmp_path / "after" / "b")  # on another grid
    options = ("--verb", "compare", "--after", tmp_path / "after")
    done = batch(tmp_path / "before", tmp_path / "out", *options, code=1)
    assert "2 of 3 cases failed" in done.stderr and "There is no 'alone' in" in done.stderr
    assert "Cannot compare volumes on different grids" in done.stderr
    metrics = json.loads((tmp_path / "out" / "p" / "a.metrics.json").read_text(encoding="utf-8"))
    single(
        "compare", tmp_path / "before" / "p" / "a.nii.gz", tmp_path / "after" / "p" / "a.mha",
        "--json", tmp_path / "alone.json",
    )  # fmt: skip
    assert metrics == json.loads((tmp_path / "alone.json").read_text(encoding="utf-8"))
    table = list(
        csv.DictReader((tmp_path / "out" / "ctenhance-batch" / "summary.csv").open(encoding="utf-8"))
    )
    column = "Noise, SD in soft tissue, after (HU)"
    found = [row for row in table if row["state"] == "done"]
    assert len(found) == 1 and float(found[0][column]) == pytest.approx(10, rel=0.3)
    # A partner that changed is another input.
    assert "1 finished before" in batch(tmp_path / "before", tmp_path / "out", *options, code=1).stdout
    body(3, 5, 1).write(tmp_path / "after" / "p" / "a.mha")
    assert "1 done" in batch(tmp_path / "before", tmp_path / "out", *options, code=1).stdout
    assert "needs --after" in batch(tmp_path / "before", tmp_path / "x", "--verb", "compare", code=2).stderr


def test_reconstructing_projections(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("deep/b", 2)):
        measured(seed).write(make(tmp_path / "in" / f"{name}.ctproj.h5"))
    write_ct(tmp_path / "in" / "no_projections.nii.gz")
    options = ("--verb", "reconstruct", "--method", "fbp", "--kernel", "soft", "--matrix", 48)
    assert "2 done" in batch(tmp_path / "in", tmp_path / "out", *options).stdout
    assert names(tmp_path / "out") == ["a.nii.gz", "a.report.json", "deep/b.nii.gz", "deep/b.report.json"]
    single("reconstruct", tmp_path / "in" / "a.ctproj.h5", tmp_path / "a.nii.gz", *options[2:])
    first, second = (CTVolume.read(path / "a.nii.gz") for path in (tmp_path, tmp_path / "out"))
    assert np.array_equal(first.array, second.array)
    assert "2 finished before" in batch(tmp_path / "in", tmp_path / "out", *options).stdout
    refused = batch(tmp_path / "in", tmp_path / "out", *options[:-1], 64, code=2).stderr
    assert "were made before with another asked" in refused
    measured(7).write(tmp_path / "in" / "a.ctproj.h5")
    assert "1 done, 1 finished before" in batch(tmp_path / "in", tmp_path / "out", *options).stdout
    mended = measured(7)  # the same readings
    mended.column_pitch_rad *= 1.01
    mended.write(tmp_path / "in" / "a.ctproj.h5")
    assert "1 done, 1 finished before" in batch(tmp_path / "in", tmp_path / "out", *options).stdout
    mended.write(tmp_path / "in" / "a.ctproj.h5")  # anew, as it was
    assert "2 finished before" in batch(tmp_path / "in", tmp_path / "out", *options).stdout
    refused = batch(tmp_path / "in", tmp_path / "out", *options, "--series", 2, code=2).stderr
    assert "among CTs only" in refused


def test_decomposing_gives_a_folder_of_maps_a_case(tmp_path: Path) -> None:
    small = ["--matrix", "48", "--views", "60", "--slices", "1"]
    make(tmp_path / "in" / "p1" / "x")
    single("simulate", tmp_path / "in" / "p1" / "bins.ctproj.h5", *small)
    options = ("--verb", "decompose", "--vmi", "50,70", "--matrix", 48)
    assert "1 done" in batch(tmp_path / "in", tmp_path / "out", *options).stdout
    maps = [f"p1/bins/{name}.nii.gz" for name in ("iodine", "vmi_050keV", "vmi_070keV", "water")]
    assert names(tmp_path / "out") == ["p1/bins.report.json", *maps]
    assert "1 finished before" in batch(tmp_path / "in", tmp_path / "out", *options).stdout
    (tmp_path / "out" / maps[0]).write_bytes(b"")  # one map of several
    assert "1 done" in batch(tmp_path / "in", tmp_path / "out", *options).stdout
    assert (tmp_path / "out" / maps[0]).stat().st_size > 100
    (tmp_path / "in" / "broken.ctproj.h5").write_bytes(b"nonsense")
    batch(tmp_path / "in", tmp_path / "out", *options, code=1)
    assert not (tmp_path / "out" / "broken").exists()  # a case that fails leaves no folder


def test_options_of_another_verb_are_refused(tmp_path: Path) -> None:
    write_ct(tmp_path / "in" / "a.nii.gz")
    for options, sentence in (
        (("--dose", 0.5), "--dose is for --verb degrade only, not for enhance"),
        (("--verb", "degrade", "--strength", 0.5), "--strength is for --verb enhance only"),
        (("--verb", "paint"), "There is no verb 'paint' for a batch: choose enhance,"),
        (("--verb", "reconstruct", "--labels", tmp_path), "go along with --verb enhance and degrade only"),
        (("--verb", "decompose", "--basis", "cheese"), "cheese"),
        (("--verb", "degrade", "--dose", 3), "no fraction"),
        (("--labels", tmp_path / "nowhere"), "There is no folder"),
    ):
        assert sentence in batch(tmp_path / "in", tmp_path / "out", *options, code=2).stderr
        assert not (tmp_path / "out").exists()


def test_a_setting_of_zero_is_a_setting(tmp_path: Path, verb: StandIn) -> None:
    write_ct(tmp_path / "in" / "a.nii.gz")
    batch(tmp_path / "in", tmp_path / "out", "--strength", 0)
    assert verb.calls[0]["options"].strength == 0
    report = json.loads((tmp_path / "out" / "a.report.json").read_text(encoding="utf-8"))
    assert report["settings"]["strength"] == 0


def label_map(path: Path, of: CTVolume, dtype: type = np.uint8, shift: float = 0.0) -> bytes:
    image = SimpleITK.GetImageFromArray((of.array > 0).astype(dtype) * dtype(3))
    image.SetSpacing(of.spacing)
    image.SetOrigin([of.origin[0] + shift, *of.origin[1:]])
    image.SetDirection(of.direction.ravel().tolist())
    SimpleITK.WriteImage(image, str(make(path)), useCompression=True)
    return path.read_bytes()


def test_label_maps_go_along_with_their_images(tmp_path: Path, verb: StandIn) -> None:
    for name in ("p/a.nii.gz", "b.nii.gz", "c.nii.gz", "d.nii.gz"):
        write_ct(tmp_path / "in" / name, len(name))
    image = CTVolume.read(tmp_path / "in" / "p" / "a.nii.gz")
    kept = label_map(tmp_path / "masks" / "p" / "a.nrrd", image)
    label_map(tmp_path / "masks" / "b.nii.gz", image, shift=5.0)
    half = np.full(image.array.shape, 0.5, np.float32)
    image.with_array(half).write(tmp_path / "masks" / "c.mha")
    options = ("--labels", tmp_path / "masks")
    told = batch(tmp_path / "in", tmp_path / "out", *options, code=1).stderr
    assert "The label map 'b.nii.gz' lies on another grid than its image" in told
    assert "'c.mha' is no label map: its values are no whole numbers" in told
    assert (tmp_path / "out" / "labels" / "p" / "a.nrrd").read_bytes() == kept
    assert names(tmp_path / "out") == [
        "d.nii.gz", "d.report.json", "labels/p/a.nrrd", "p/a.nii.gz", "p/a.report.json",
    ]  # fmt: skip
    assert "1 of 2 cases has a label map" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    label_map(tmp_path / "masks" / "p" / "a_seg.nrrd", image)
    told = batch(tmp_path / "in", tmp_path / "out", *options, code=1).stderr
    assert "1 of the label maps" in told and "belongs to no case, such as 'p/a_seg'" in told
    (tmp_path / "masks" / "p" / "a_seg.nrrd").unlink()
    # The label map is part of the result, and of what it was made of.
    assert "2 finished before" in batch(tmp_path / "in", tmp_path / "out", *options, code=1).stdout
    (tmp_path / "out" / "labels" / "p" / "a.nrrd").unlink()
    assert "1 done, 1 finished before" in batch(tmp_path / "in", tmp_path / "out", *options, code=1).stdout
    changed = label_map(tmp_path / "masks" / "p" / "a.nrrd", image.with_array(-image.array), np.int16)
    assert "1 done, 1 finished before" in batch(tmp_path / "in", tmp_path / "out", *options, code=1).stdout
    assert (tmp_path / "out" / "labels" / "p" / "a.nrrd").read_bytes() == changed != kept
    label_map(tmp_path / "masks" / "p" / "a.mha", image)
    assert "are both of 'p/a': keep one" in batch(tmp_path / "in", tmp_path / "out", *options, code=2).stderr


def test_what_is_sent_on_names_no_patient(tmp_path: Path) -> None:
    body(3, 20, 1).write(make(tmp_path / "in" / "Doe^Jane 1950" / "Doe.nii.gz"))
    (tmp_path / "in" / "O'Neil (Doe).nii.gz").write_bytes(b"nonsense")
    done = batch(tmp_path / "in", tmp_path / "out", "--verb", "degrade", "--dose", 0.1, code=1)
    assert "O'Neil (Doe).nii.gz' failed" in done.stderr
    own = tmp_path / "out" / "ctenhance-batch"
    for path in (own / "summary.csv", own / "summary.html", tmp_path / "out" / "README.md"):
        text = path.read_text(encoding="utf-8")
        assert "Doe" not in text and "Neil" not in text and str(tmp_path) not in text, path
    page = (own / "summary.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 1 and "damaged" in page
    rows = {row["state"]: row for row in rows_of(tmp_path / "out")}
    assert rows.keys() == {"done", "failed"}
    done_row = rows["done"]
    assert float(done_row["noise_soft_after_HU"]) > float(done_row["noise_soft_before_HU"]) > 10
    (tmp_path / "out" / "README.md").write_text("mine")
    batch(tmp_path / "in", tmp_path / "out", "--verb", "degrade", "--dose", 0.1, code=1)
    assert (tmp_path / "out" / "README.md").read_text() == "mine"


@pytest.mark.parametrize(
    ("sentence", "left"),
    [
        ("Cannot read '/a/Doe/x.nii': it is damaged.", "Cannot read '…': it is damaged."),
        ("'Doe' there, and 'b c.nii' here", "'…' there, and '…' here"),
        ("The scan's kernel", "The scan's kernel"),
        ("Cannot read '/a/O'Neil (x)/y.nii': it is empty.", "Cannot read '…': it is empty."),
    ],
)
def test_names_in_sentences(sentence: str, left: str) -> None:
    assert without_names(sentence) == left
    assert without_names("cut off, and Ann cannot", "cut_1/Ann") == "cut off, and … cannot"
    assert without_names("Jane_Doe is in a' b.nii", "Jane_Doe/a' b.nii") == "… is in …"


def test_the_manifest_keeps_numbers_and_survives_damage(tmp_path: Path, verb: StandIn) -> None:
    for name in "bc":
        write_ct(tmp_path / "in" / f"{name}.nii.gz", ord(name))
    batch(tmp_path / "in", tmp_path / "out")
    write_ct(tmp_path / "in" / "a.nii.gz", 1)
    batch(tmp_path / "in", tmp_path / "out")
    path = tmp_path / "out" / "ctenhance-batch" / "manifest.sqlite"
    with sqlite3.connect(path) as base:
        rows = base.execute("SELECT number, name, state FROM cases ORDER BY number").fetchall()
        runs = base.execute("SELECT verb, how FROM runs").fetchall()
    assert rows == [
        (1, "b.nii.gz", "finished before"), (2, "c.nii.gz", "finished before"), (3, "a.nii.gz", "done"),
    ]  # fmt: skip
    assert runs == [("enhance", "whole")] * 2
    path.write_bytes(b"no database at all, but long enough to look at" * 100)
    done = batch(tmp_path / "in", tmp_path / "out")
    assert "3 finished before" in done.stdout and "The manifest was damaged" in done.stderr
    assert len(list(path.parent.glob("damaged-*"))) == 1


def test_cases_stream_from_the_manifest_and_pages_are_short(tmp_path: Path) -> None:
    number = 3 * CASES_A_PAGE - 1
    cases = (
        Case(f"{k:05}", (Path(f"/in/{k}"),), tmp_path / f"{k}.nii.gz", where={"KVP": "80"})
        for k in range(number)
    )
    with Manifest(tmp_path) as manifest:
        manifest.begin("enhance", {})
        manifest.add(list(cases))
        assert manifest.count() == number
        found = list(manifest.cases())
        assert [case.name for case in found] == [f"{k:05}" for k in range(number)]
        assert found[7] == Case("00007", (Path("/in/7"),), tmp_path / "7.nii.gz", where={"KVP": "80"})
        from ctenhance.batch import summary
        from ctenhance.batch.verbs import Degrade

        summary.write(manifest, tmp_path, Degrade.of(ctenhance.DegradeOptions()))
    pages = sorted((tmp_path / "ctenhance-batch").glob("summary*.html"))
    assert len(pages) == 3
    assert sum(page.read_text(encoding="utf-8").count("<tr><td>") for page in pages) == number


def test_maps_and_stages_of_each_case_are_those_of_the_single_command(tmp_path: Path) -> None:
    measured(1, rows=1).write(make(tmp_path / "in" / "p.1" / "a.b.ctproj.h5"))
    options = ("--verb", "reconstruct", "--method", "projection", "--matrix", 32, "--projection-steps", 1)
    wanted = ("--all", "--uncertainty", "--residual", "--samples", 2)
    assert "1 done" in batch(tmp_path / "in", tmp_path / "out", *options, *wanted).stdout
    further = [f"p.1/a.b.{name}.nii.gz" for name in ("fbp", "projection", "residual", "uncertainty")]
    assert names(tmp_path / "out") == sorted(["p.1/a.b.nii.gz", "p.1/a.b.report.json", *further])
    alone = tmp_path / "alone"
    alone.mkdir()
    single(
        "reconstruct", tmp_path / "in" / "p.1" / "a.b.ctproj.h5", alone / "a.nii.gz", *options[2:], "--all",
        "--uncertainty", alone / "uncertainty.nii.gz", "--residual", alone / "residual.nii.gz",
        "--samples", 2,
    )  # fmt: skip
    for name, path in (("a.b", "a"), ("a.b.fbp", "a_fbp"), ("a.b.uncertainty", "uncertainty"),
                       ("a.b.residual", "residual")):  # fmt: skip
        made, own = (
            CTVolume.read(one, check_hu=False)
            for one in (tmp_path / "out" / "p.1" / f"{name}.nii.gz", alone / f"{path}.nii.gz")
        )
        assert np.array_equal(made.array, own.array), name
    assert "1 finished before" in batch(tmp_path / "in", tmp_path / "out", *options, *wanted).stdout
    (tmp_path / "out" / further[3]).unlink()  # a map is part of the result
    assert "1 done" in batch(tmp_path / "in", tmp_path / "out", *options, *wanted).stdout
    refused = batch(tmp_path / "in", tmp_path / "out", *options, "--all", code=2).stderr
    assert "'uncertainty': True" in refused and "take --overwrite" in refused


def test_a_case_by_the_name_of_another_s_map_is_refused(tmp_path: Path) -> None:
    for name in ("a", "a.uncertainty"):
        body(2, 20, 1).write(make(tmp_path / "in" / f"{name}.nii.gz"))
    options = ("--uncertainty", "--samples", 2, "--workers", 0)
    told = batch(tmp_path / "in", tmp_path / "out", *options, code=1).stderr
    assert "'a.uncertainty.nii.gz' failed: Its result" in told
    assert "would have the name of another case's further image ('.uncertainty')" in told
    assert names(tmp_path / "out") == ["a.nii.gz", "a.report.json", "a.uncertainty.nii.gz"]
    assert json.loads((tmp_path / "out" / "a.report.json").read_text())["settings"]["uncertainty"] is True
