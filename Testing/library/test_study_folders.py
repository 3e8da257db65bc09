"""A study from two folders: what is matched, lesions from a table, names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from study_arms import write_arms
from synthetic_dicom import hounsfield, write_series
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.core.volume import CTVolume
from ctenhance.runtime.errors import InputError
from ctenhance.study import create, design_from_folders
from ctenhance.study.design import _case
from ctenhance.study.folders import match, read_lesions
from ctenhance.study.images import read_case


@pytest.mark.parametrize("name", ["Miller 3.nii (1).gz", ".Miller 3.nii.gz.icloud"])
def test_a_case_whose_name_hides_it_is_not_left_out(tmp_path: Path, name: str) -> None:
    """As the second copy of a download, and what iCloud leaves of a file, in both arms."""
    write_arms(tmp_path)
    for arm in ("before", "after"):
        (tmp_path / arm / "Miller 3.nii.gz").rename(tmp_path / arm / name)
    with pytest.raises(InputError, match=r"Miller 3.* would be left out: it .*call it|download it first"):
        match(tmp_path / "before", tmp_path / "after")


def test_folders_are_matched_by_name(tmp_path: Path) -> None:
    write_arms(tmp_path)
    (tmp_path / "before" / "Miller 3.nii.gz").unlink()
    (tmp_path / "before" / "extra.nrrd").touch()
    (tmp_path / "before" / "notes.txt").touch()
    matched = match(tmp_path / "before", tmp_path / "after")
    assert list(matched.pairs) == ["Miller 0", "Miller 1", "Miller 2"]
    assert (matched.only_before, matched.only_after) == (("extra",), ("Miller 3",))
    assert "'before' has them: extra" in matched.sentences()[0]
    with pytest.raises(InputError, match="Both folders are"):
        match(tmp_path / "before", tmp_path / "before")
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="There is no image"):
        match(tmp_path / "before", tmp_path / "other")
    (tmp_path / "other" / "x.mha").touch()
    with pytest.raises(InputError, match="No file name is in both"):
        match(tmp_path / "before", tmp_path / "other")
    (tmp_path / "other" / "x.nii").touch()
    with pytest.raises(InputError, match="two images called 'x'"):
        match(tmp_path / "before", tmp_path / "other")


def test_lesions_come_from_a_table(tmp_path: Path) -> None:
    path = tmp_path / "lesions.csv"
    path.write_text("case,x,y,z,radius_mm\np 1,1,2,3,5\np 1,4,5,6,5\n")
    lesions = read_lesions(path, {"p 1", "p 2"})
    assert [lesion.point for lesion in lesions["p 1"]] == [(1, 2, 3), (4, 5, 6)]
    write_arms(tmp_path, cases=2)
    path.write_text("case,x,y,z,radius_mm\nMiller 1,1,2,3,5\n")
    design, _ = design_from_folders(
        tmp_path / "before", tmp_path / "after", ("ann",), "lesion detection", lesions=path, sessions=2
    )
    assert [case.diseased for case in design.cases] == [False, True]
    # As a spreadsheet writes it where numbers have a decimal comma.
    path.write_text("\ufeffCase; x;y;z;radius_mm\np 1;1,5;-2,25;3;5\n", encoding="utf-8")
    assert read_lesions(path, {"p 1"})["p 1"][0].point == (1.5, -2.25, 3)
    path.write_text("case,x,y,z,radius_mm\np 1.nii.gz,1,2,3,5\n")
    assert list(read_lesions(path, {"p 1"})) == ["p 1"], "the file's whole name is known, too"
    for text, sentence in (
        ("", "holds no lesion"),
        ("case,x,y,z,radius_mm\n", "holds no lesion"),
        ("case,x,y,z\np 1,1,2,3\n", "no 'radius_mm'"),
        ("case,x,y,z,radius_mm\np 9,1,2,3,5\n", "none of the matched"),
        ("case,x,y,z,radius_mm\np 1,a,2,3,5\n", "must be a number"),
        ("case,x,y,z,radius_mm\np 1,nan,2,3,5\n", "finite"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=sentence):
            read_lesions(path, {"p 1"})


def test_lesions_outside_of_the_image_are_refused(tmp_path: Path) -> None:
    write_arms(tmp_path, cases=2)
    path = tmp_path / "lesions.csv"
    for x, fits in ((17.6, True), (17.7, False)):  # the last pixel ends at -10 + 39.5 * 0.7 mm
        path.write_text(f"case,x,y,z,radius_mm\nMiller 1,{x},6,2.5,5\n")
        design, _ = design_from_folders(
            tmp_path / "before", tmp_path / "after", ("ann",), "lesion detection", lesions=path
        )
        if fits:
            create(design, tmp_path / "study")
            continue
        with pytest.raises(InputError, match=r"lesion 1 at \(17.7, 6, 2.5\) mm lies outside"):
            create(design, tmp_path / "other")
        assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("reader", ["../ann", "a/b", "a,b", "", "Dr. Ann"])
def test_names_are_checked_from_folders_too(tmp_path: Path, reader: str) -> None:
    write_arms(tmp_path, cases=1)
    with pytest.raises(InputError, match="cannot be a name"):
        design_from_folders(tmp_path / "before", tmp_path / "after", ("bob", reader))


def _two_series(folder: Path) -> dict[int, np.ndarray]:
    """Write two CT series into one folder; return their HU by series number."""
    return {
        number: write_series(
            folder,
            values=hounsfield(4, 24, 24, seed=number),
            prefix=f"s{number}-",
            SeriesNumber=number,
            SeriesInstanceUID=f"1.2.3.{number}",
        )
        for number in (2, 5)
    }


def test_a_series_of_dicom_folders_is_chosen_for_both_arms(tmp_path: Path) -> None:
    for arm in ("before", "after"):
        _two_series(tmp_path / arm / "p1")
    asked = [
        "study",
        "from-folders",
        *map(str, (tmp_path / "before", tmp_path / "after", tmp_path / "study")),
    ]
    asked += ["--reader", "ann", "--progress", "none"]
    refused = CliRunner().invoke(app, asked)
    assert refused.exit_code == 2 and "--series 2" in refused.output

    done = CliRunner().invoke(app, [*asked, "--series", "5"])
    assert done.exit_code == 0, done.output
    values = hounsfield(4, 24, 24, seed=5)
    for path in (tmp_path / "study" / "images").iterdir():
        np.testing.assert_array_equal(CTVolume.read(path).array, values)


def test_a_choice_among_volume_files_is_refused(tmp_path: Path) -> None:
    write_arms(tmp_path, cases=2)
    with pytest.raises(InputError, match="can be chosen in DICOM folders only"):
        design_from_folders(tmp_path / "before", tmp_path / "after", ("ann",), choice={"series": 3})


def test_a_design_says_which_series_of_each_image_is_meant(tmp_path: Path) -> None:
    values = _two_series(tmp_path / "p1")
    image = {"path": "p1", "series": 5, "where": {"KVP": 120}}
    images = {"a": image, "b": {"path": "p1", "series": 2}}
    case = _case({"name": "p1", "images": images}, "", ("a", "b"), tmp_path)
    read = read_case(case)
    np.testing.assert_array_equal(read["a"].array, values[5])
    np.testing.assert_array_equal(read["b"].array, values[2])
    for wrong in ({"path": "p1", "series": 1.5}, {"path": "p1", "serie": 2}, {"series": 2}):
        with pytest.raises(InputError):
            _case({"name": "p1", "images": {"a": wrong}}, "", ("a",), tmp_path)


def test_what_a_batch_tells_of_itself_is_no_image(tmp_path: Path) -> None:
    write_arms(tmp_path, cases=2)
    (tmp_path / "after" / "ctenhance-batch").mkdir()
    (tmp_path / "after" / "README.md").write_text("a card")
    assert not match(tmp_path / "before", tmp_path / "after").sentences()


def write_bodies(root: Path, exchanged: bool) -> None:
    """Three cases with bodies of their own, noisy before, quiet after; two files exchanged, if asked for."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:48, :48] - 23.5
    for case in range(3):
        body = np.where(np.hypot(x / (14 + 3 * case), (y - 2 * case) / (20 - 4 * case)) < 1, 40.0, -1000.0)
        body[20 + 4 * case : 30, 15:22] = -800
        for arm, sd in (("before", 60), ("after", 6)):
            name = f"p{case}" if arm == "before" or not exchanged else f"p{(0, 2, 1)[case]}"
            noisy = body + rng.normal(0, sd, (4, 48, 48))
            (root / arm).mkdir(parents=True, exist_ok=True)
            CTVolume(noisy.astype(np.float32), (0.8, 0.8, 2.0), (0, 0, 0)).write(root / arm / f"{name}.nrrd")


@pytest.mark.parametrize("exchanged", [False, True])
def test_images_of_a_case_that_show_two_bodies_are_told(tmp_path: Path, exchanged: bool) -> None:
    write_bodies(tmp_path, exchanged)
    result = CliRunner().invoke(
        app,
        ["study", "from-folders", str(tmp_path / "before"), str(tmp_path / "after"), str(tmp_path / "study"),
         "--reader", "ann"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    told = " ".join(result.output.split())
    assert ("hardly look like one body" in told) == exchanged
    if exchanged:
        assert "'before' and 'after' of case 'p1' hardly" in told and "looks like 'before' of 'p2'" in told
        assert "case 'p0'" not in told
