"""What is wrong with a study though every file of it can be read: images twice, lesions in the air, scales
that are turned."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from study_arms import ARMS, write_arms
from test_quality_likeness import BEFORE, body
from test_study_report import answer, chosen, detected, graded, preferred

from ctenhance.core.volume import CTVolume
from ctenhance.quality import doubts_of_pair
from ctenhance.runtime.errors import InputError
from ctenhance.study import create, design_from_folders
from ctenhance.study.design import Case, Lesion
from ctenhance.study.folders import read_lesions
from ctenhance.study.gathered import Gathered
from ctenhance.study.remarks import remarks
from ctenhance.study.truth import require_lesions_in


def _doubts(root: Path) -> list[str]:
    design, _ = design_from_folders(root / "before", root / "after", ("ann",))
    doubts: list[str] = []
    create(design, root / "study", doubts=doubts)
    return doubts


def test_images_that_are_there_twice_are_told(tmp_path: Path) -> None:
    write_arms(tmp_path)
    shutil.copy(tmp_path / "before" / "Miller 3.nii.gz", tmp_path / "after" / "Miller 3.nii.gz")
    for arm in ARMS:
        shutil.copy(tmp_path / arm / "Miller 0.nii.gz", tmp_path / arm / "Miller 2.nii.gz")
    within, between = _doubts(tmp_path)
    assert "'before' and 'after' of case 'Miller_3' are the same, voxel for voxel" in within
    assert "Cases 'Miller_0' and 'Miller_2' have the same image ('before' and 'after')" in between


def test_arms_that_do_not_lie_on_each_other_are_told(tmp_path: Path) -> None:
    arms = {"p1": np.flip(body(1), 2), "p2": np.roll(body(1), 3, 2), "p3": body(1)}
    for name, after in arms.items():
        for arm, array in (("before", BEFORE + len(name)), ("after", after)):
            (tmp_path / arm).mkdir(exist_ok=True)
            shifted = np.ascontiguousarray(array) + 0.1 * int(name[1])
            CTVolume(shifted.astype(np.float32), (0.8, 0.8, 2)).write(tmp_path / arm / f"{name}.nrrd")
    first, second = (said for said in _doubts(tmp_path) if "lie on" in said or "turned" in said)
    assert "'before' and 'after' of case 'p1' are alike once one is turned left to right" in first
    assert "of case 'p2' do not lie on each other: one is 2.4 mm aside (+0 rows, +3 columns)" in second


def test_other_images_raise_no_doubt(tmp_path: Path) -> None:
    write_arms(tmp_path)
    assert _doubts(tmp_path) == []


def test_an_image_after_that_is_the_one_before_is_told() -> None:
    rng = np.random.default_rng(0)
    before = CTVolume(rng.normal(40, 20, (4, 32, 32)).astype(np.float32), (1, 1, 3))
    changed = before.array.copy()
    changed[2, 3, 4] += 1
    assert "the same, voxel for voxel" in doubts_of_pair(before, before)[0]
    assert doubts_of_pair(before, CTVolume(changed, (1, 1, 3))) == []


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (("1,2,3,5", "9,9,9,5", "1,2,3,5"), r"Lines 2 and 4 of .* are the same lesion"),
        (("1,2,3,6", "2,2,3,12"), r"Lines 2 and 3 of .* lie within each other \(1 mm apart"),
        (("1,2,3,5", "1.4,2,3,5"), "the same lesion"),
        (("1,2,3,10", "9,2,3,10"), ""),  # two, though a mark between them would do for either
        (("1,2,3,1", "2,2,3,1"), ""),
    ],
)
def test_a_lesion_twice_is_refused_by_its_lines(
    tmp_path: Path, lines: tuple[str, ...], sentence: str
) -> None:
    path = tmp_path / "lesions.csv"
    path.write_text("\n".join(["case,x,y,z,radius_mm", *(f"p,{line}" for line in lines)]))
    if not sentence:
        assert len(read_lesions(path, {"p"})["p"]) == len(lines)
        return
    with pytest.raises(InputError, match=sentence):
        read_lesions(path, {"p"})


def _body() -> CTVolume:
    """A body of 80 mm off the centre of its field, with a lung (noise throughout)."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[-100:100:2.0, -100:100:2.0]
    plane = np.where(np.hypot(x - 50, y + 30) < 40, 40.0, -1000.0)
    plane[np.hypot(x - 50, y + 30) < 20] = -870
    array = plane + rng.normal(0, 40, (5, 100, 100))
    return CTVolume(array.astype(np.float32), (2, 2, 5), (-100, -100, -10))


@pytest.mark.parametrize(
    ("point", "refused", "doubted"),
    [
        ((80, -30, 0), "", 0),
        ((-80, 30, 0), r"lies in the air beside the body, and \(80, -30\) in it; give points in LPS", 0),
        ((50, -30, 0), "", 0),  # in the lung
        ((-80, -60, 0), "", 1),  # in the air, whichever way it is read
        ((130, 0, 0), "outside of the image; give points in LPS", 0),
    ],
)
def test_a_lesion_in_the_air_is_told(point: tuple[float, float, float], refused: str, doubted: int) -> None:
    case = Case("p", {}, True, (Lesion(point, 6.0),))
    if refused:
        with pytest.raises(InputError, match=refused):
            require_lesions_in(case, _body())
        return
    assert len(require_lesions_in(case, _body())) == doubted


def test_lesions_larger_than_the_image_or_twice_in_a_design_are_refused() -> None:
    lesion = Lesion((80, -30, 0), 6.0)
    with pytest.raises(InputError, match="larger than the image"):
        require_lesions_in(Case("p", {}, True, (replace(lesion, radius_mm=120.0),)), _body())
    with pytest.raises(InputError, match="Lesions 1 and 2 of case 'p' are the same lesion"):
        require_lesions_in(Case("p", {}, True, (lesion, lesion)), _body())
    near = Lesion((78, -30, 0), 6.0)
    (said,) = require_lesions_in(Case("p", {}, True, (lesion, near)), _body())
    assert "the lesions 1 and 2 are 2 mm apart" in said


def _turned(gathered: Gathered, reader: str, questions: set[str], most: float) -> Gathered:
    answers = tuple(
        replace(one, value=most - one.value) if one.reader == reader and one.question in questions else one
        for one in gathered.answers
    )
    return replace(gathered, answers=answers)


def test_a_reader_whose_scale_is_turned_is_pointed_out() -> None:
    whole = graded()
    every = {question.id for question in whole.questions}
    (said,) = remarks(_turned(whole, "cat", every, 6))
    assert said.startswith("cat's answers to 6 of 6 questions run against those of ann, bob (correlation -0.")
    one = whole.questions[0]
    (said,) = remarks(_turned(whole, "bob", {one.id}, 6))
    assert said.startswith(f"bob's answers to '{one.text}' run against those of ann, cat")
    rating = detected().questions[1]
    said, truth = remarks(_turned(detected(), "ann", {rating.id}, 100))
    assert said.startswith("ann's answers to") and "without a lesion than with one" in truth
    two = replace(whole, answers=tuple(one for one in whole.answers if one.reader != "ann"))
    (said,) = remarks(_turned(two, "cat", every, 6))
    assert said.startswith("bob's and cat's answers to 6 of 6 questions run against each other")


def test_a_reader_against_the_truth_is_pointed_out() -> None:
    guessing = chosen(count=30)
    assert remarks(guessing) == []
    wrong = tuple(
        replace(one, correct=one.case in ("c1", "c2")) if one.reader == "bob" else one
        for one in guessing.answers
    )
    (said,) = remarks(replace(guessing, answers=wrong))
    assert said.startswith("bob's answers to ") and "are wrong 28 times of 30" in said
    rating = detected().questions[1]
    alone = replace(detected(), answers=tuple(one for one in detected().answers if one.reader == "ann"))
    assert remarks(alone) == []
    (said,) = remarks(_turned(alone, "ann", {rating.id}, 100))
    assert said.startswith(f"ann's answers to '{rating.text}' are higher without a lesion than with one")


@pytest.mark.parametrize("make", [graded, preferred, detected])
def test_readers_with_little_agreement_are_not(make: Callable[..., Gathered]) -> None:
    for seed in range(4):
        assert remarks(make(seed, 12)) == []


def test_a_reader_who_likes_the_other_arm_better_is_not() -> None:
    """All agree on which cases are hard, and one grades the arm 'before' better."""
    whole = graded()
    answers = tuple(
        replace(one, value=one.value + 3 * ((one.arm == "after") != (one.reader == "cat")))
        for one in whole.answers
    )
    assert remarks(replace(whole, answers=answers)) == []


def test_a_reader_without_any_variation_runs_against_nobody() -> None:
    whole = graded()
    same = tuple(
        answer(question, "dan", f"c{number}", 3, arm=arm)
        for question in whole.questions
        for arm in ARMS
        for number in range(1, 25)
    )
    (remark,) = remarks(replace(whole, answers=(*whole.answers, *same)))
    assert remark.startswith("dan gave the same answer every time")
