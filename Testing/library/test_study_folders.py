"""A study from two folders: what is matched, lesions from a table, names."""

from __future__ import annotations

from pathlib import Path

import pytest
from study_arms import write_arms

from ctenhance.runtime.errors import InputError
from ctenhance.study import create, design_from_folders
from ctenhance.study.folders import match, read_lesions


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
