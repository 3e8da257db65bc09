"""Readers who copy with a step, copy most cases, or always prefer one side of the screen; and who do not."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from study_arms import write_arms
from test_study_report import ARMS, answer, cases, chosen, graded, preferred

from ctenhance.study import ReadingSession, answers, create, design_from_folders, unblind
from ctenhance.study.gathered import Gathered
from ctenhance.study.key import Key
from ctenhance.study.questions import preset
from ctenhance.study.remarks import remarks


def _by_dan(whole: Gathered, step: int = 0, own: int = 0, most: int = 5) -> Gathered:
    """A fourth reader with ann's grades plus a step, but for the first `own` cases."""
    rng = np.random.default_rng(9)
    texts = {one.id: one for one in whole.questions}
    given = tuple(
        answer(
            texts[one.question],
            "dan",
            one.case,
            int(rng.integers(1, most + 1))
            if int(one.case[1:]) <= own
            else min(max(one.value + step, 1), most),
            arm=one.arm,
        )
        for one in whole.answers
        if one.reader == "ann" and not one.repeat
    )
    return replace(whole, answers=(*whole.answers, *given))


@pytest.mark.parametrize("step", [1, -1])
def test_grades_that_are_anothers_plus_a_step_are_pointed_out(step: int) -> None:
    (said,) = remarks(_by_dan(graded(), step))
    sign = "plus" if step > 0 else "minus"
    assert said.startswith(f"dan's answers to 6 questions are ann's {sign} 1 (288 of 288 answers). Where one")


def test_a_copy_but_for_some_cases_is_pointed_out() -> None:
    whole = _by_dan(graded(count=12), own=2)
    two = replace(whole, answers=tuple(one for one in whole.answers if one.reader in ("ann", "dan")))
    (said,) = remarks(two)
    assert "ann and dan gave the same answers to all questions in 10 of 12 cases, and to " in said
    half = _by_dan(graded(count=12), own=6)
    assert not [one for one in remarks(half) if "dan" in one]


@pytest.mark.parametrize(("copied", "named"), [(3, False), (5, True)])
def test_five_of_seven_cases_of_varied_answers_are_a_copy(copied: int, named: bool) -> None:
    rng = np.random.default_rng(4)
    questions = preset("image quality").questions
    found = []
    for case, arm, question in itertools.product(range(7), ARMS, questions):
        ann, own = (int(value) for value in rng.integers(1, 6, 2))
        for reader, value in (("ann", ann), ("bob", ann if case < copied else own)):
            found.append(answer(question, reader, f"c{case + 1}", value, arm=arm))
    said = remarks(Gathered("Seven", ARMS, questions, cases(7), tuple(found)))
    assert any("the same answers to all questions in 5 of 7 cases" in one for one in said) == named


def _independent(rng: np.random.Generator, noise: float, offset: float, halo: float) -> Gathered:
    """Two readers of 12 cases who see the same qualities, each with that noise (grades) of their own; the
    second is milder by `offset`. `halo`: share of the variance that all questions have in common."""
    questions = preset("image quality").questions
    common, own = rng.normal(0, 0.9, (12, 1)), rng.normal(0, 0.9, (12, len(questions)))
    seen = 3 + halo**0.5 * common + (1 - halo) ** 0.5 * own
    found = []
    for row, reader in enumerate(("ann", "bob")):
        for better, arm in enumerate(ARMS):
            level = seen + 0.4 * better + offset * row + rng.normal(0, noise, seen.shape)
            for (case, number), value in np.ndenumerate(np.clip(np.round(level), 1, 5).astype(int)):
                found.append(answer(questions[number], reader, f"c{case + 1}", int(value), arm=arm))
    return Gathered("Independent", ARMS, questions, cases(12), tuple(found))


@pytest.mark.parametrize(("noise", "offset", "halo"), [(0.25, 0, 0.9), (0.25, 1, 0.0), (0.4, 1, 0.9)])
def test_readers_who_agree_well_are_not_called_copies(noise: float, offset: float, halo: float) -> None:
    """Noise 0.25 gives kappa 0.7 (without the offset), more than readers of image quality have."""
    for seed in range(5):
        said = remarks(_independent(np.random.default_rng(seed), noise, offset, halo))
        assert not [one for one in said if "plus" in one or "minus" in one or "cases" in one]


def test_a_question_that_is_alike_by_chance_is_not_called_a_copy() -> None:
    """Of six questions some one has 23 or 24 of 24 answers alike in half of the studies at kappa 0.8."""
    questions, root = preset("image quality").questions, 0.8**0.5
    for seed in range(12):
        rng = np.random.default_rng(seed)
        truth, anew = rng.integers(1, 6, (6, 2, 12)), rng.integers(1, 6, (2, 6, 2, 12))
        given = np.where(rng.random(anew.shape) < root, truth, anew)
        found = tuple(
            answer(questions[number], ("ann", "bob")[reader], f"c{case + 1}", int(value), arm=ARMS[arm])
            for (reader, number, arm, case), value in np.ndenumerate(given)
        )
        assert remarks(Gathered("Good readers", ARMS, questions, cases(12), found)) == []


def test_a_single_question_that_was_copied_is_pointed_out() -> None:
    whole, copy = graded(), _by_dan(graded())
    first = whole.questions[0]
    rng = np.random.default_rng(1)
    own = tuple(
        replace(one, value=int(np.clip(one.value + rng.integers(-1, 2), 1, 5)))
        if one.reader == "dan" and one.question != first.id
        else one
        for one in copy.answers
    )
    (said,) = remarks(replace(whole, answers=own))
    assert said.startswith(f"ann and dan gave the same answers to '{first.text}' (48 answers). Where one")


@pytest.mark.parametrize("way", ["left", "after", "none"])
def test_a_reader_who_answers_by_the_side_is_pointed_out(tmp_path: Path, way: str) -> None:
    write_arms(tmp_path, cases=12)
    design, _ = design_from_folders(tmp_path / "before", tmp_path / "after", ("ann",), seed=4)
    study = create(design, tmp_path / "study")
    key = tmp_path / "study-key.json"
    read = Key.read(key, study.key_sha256)
    where = read.where()
    with ReadingSession.open(study.folder, "ann") as session:
        while (case := session.case) is not None:
            right = where[case.images[1].name][1] == "after"
            session.answer("preference", {"left": -2, "after": 2 if right else -2, "none": 0}[way])
            last = case.number == case.total
            session.next()
            if last:
                break
        session.finish()
    unblind(study.folder, key)
    found = answers(study.folder, key)
    gathered = Gathered("Sides", ARMS, study.questions, read.cases, tuple(found))
    said = [one for one in remarks(gathered) if "side of the screen" in one]
    assert bool(said) is (way == "left")
    assert not said or "all 12 times for the image on the left" in said[0]


def test_a_forced_choice_by_the_side_is_pointed_out() -> None:
    whole = chosen()
    rng = np.random.default_rng(3)
    shown = [replace(one, arm_on_right=bool(rng.random() < 0.5)) for one in whole.answers]
    assert not [one for one in remarks(replace(whole, answers=tuple(shown))) if "side of" in one]
    right = [
        replace(one, value=(rng.random() < 0.95) == one.arm_on_right) if one.reader == "cat" else one
        for one in shown
    ]
    (said,) = [one for one in remarks(replace(whole, answers=tuple(right))) if "side of" in one]
    assert said.startswith("cat answered ") and "of 40 times for the image on the right" in said


def test_sides_that_are_not_known_say_nothing() -> None:
    assert remarks(preferred()) == []
