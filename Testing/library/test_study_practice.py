"""Practice before the first case, a pause, and the plane of a question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from study_arms import write_arms
from test_study_session import Clock, read_all, sign_in

from ctenhance.runtime.errors import InputError
from ctenhance.study import Design, Study, answers, create, design_from_folders, unblind
from ctenhance.study.key import Key
from ctenhance.study.records import verify
from ctenhance.study.unblinding import status

KEY = "study-key.json"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(
    tmp_path: Path, cases: int = 5, practice: int = 2, readers: tuple[str, ...] = ("ann",), **more
) -> Study:
    write_arms(tmp_path, cases=cases)
    design, _ = design_from_folders(
        tmp_path / "before", tmp_path / "after", readers, practice=practice, seed=4, **more
    )
    return create(design, tmp_path / "study", salt="same")


def test_practice_comes_first_and_counts_nowhere(tmp_path: Path, clock: Clock) -> None:
    study = make(tmp_path, sessions=1)
    key = Key.read(tmp_path / KEY, study.key_sha256)
    practised = {image for case in key.practice for image in case.images.values()}
    assert len(key.cases) == 3 and len(key.practice) == 2 and len(practised) == 4
    assert study.title.endswith("3 cases")
    with sign_in(study, clock) as session:
        assert session.progress == "Practice case 1 of 2: its answers do not count"
        for _ in range(2):
            case = session.case
            assert case is not None and case.practice and {path.name for path in case.images} <= practised
            session.answer("preference", 2)
            session.next()
        session.finish()
        assert session.state == "waiting" and "count from now on" in session.message
        session.begin()
        case = session.case
        assert session.progress == "Case 1 of 3" and case is not None and not case.practice
        assert not {path.name for path in case.images} & practised
        assert status(study.folder)[0].done == 0 and status(study.folder)[0].total == 3
        read_all(session, -1)
        session.finish()
        assert session.state == "finished"
    assert status(study.folder)[0].done == 3 and status(study.folder)[0].finished
    unblind(study.folder, tmp_path / KEY)
    found = answers(study.folder, tmp_path / KEY)
    assert len(found) == 3 and {abs(one.value) for one in found} == {1}
    assert {one.case for one in found} == {case.name for case in key.cases}
    assert not any(one.repeat for one in found)


def test_practice_does_not_move_the_cases(tmp_path: Path) -> None:
    """The order and the sides of what counts are the same with and without it."""
    with_it, without = tmp_path / "a", tmp_path / "b"
    with_it.mkdir()
    without.mkdir()
    first = make(with_it, cases=6, practice=2, readers=("ann", "bob"), repeats=2)
    write_arms(without, cases=6)
    for folder in ("before", "after"):
        for _number in range(2):
            min((without / folder).iterdir()).unlink()
    design, _ = design_from_folders(without / "before", without / "after", ("ann", "bob"), seed=4, repeats=2)
    second = create(design, without / "study", salt="same")

    def order(study: Study, key: Path, reader: str) -> list[list[tuple[str, str]]]:
        where = Key.read(key, study.key_sha256).where()
        return [
            [(where[image][0].name, where[image][1]) for image in trial.images]
            for trial in study.trials(reader)
            if trial.counts
        ]

    for reader in ("ann", "bob"):
        assert order(first, with_it / KEY, reader) == order(second, without / KEY, reader)
    assert json.loads((first.folder / "study.json").read_text())["version"] == 2
    assert json.loads((second.folder / "study.json").read_text())["version"] == 1
    # Either way round a third of the pairs may stand; over readers the sides of the practice differ, too.
    assert all(sum(not trial.counts for trial in first.trials(reader)) == 2 for reader in ("ann", "bob"))


def test_washout_is_between_sessions_that_count(tmp_path: Path, clock: Clock) -> None:
    study = make(tmp_path, sessions=2, washout_days=7, rules="enforce", practice=1)
    with sign_in(study, clock) as session:
        read_all(session)
        session.finish()
        session.begin()  # at once
        read_all(session)
        session.finish()
        with pytest.raises(InputError, match="7 days after"):
            session.begin()


@pytest.mark.parametrize("practice", [5, 6, -1])
def test_something_has_to_count(tmp_path: Path, practice: int) -> None:
    with pytest.raises(InputError, match="at least one has to count"):
        make(tmp_path, practice=practice)


def test_single_images_are_practised_once_each(tmp_path: Path, clock: Clock) -> None:
    study = make(tmp_path, preset_name="lesion detection", practice=3)
    trials = study.trials("ann")
    assert [trial.session for trial in trials[:4]] == [0, 0, 0, 1]
    assert all(len(trial.images) == 1 for trial in trials)
    assert len({trial.images for trial in trials[:3]}) == 3 and len(trials) == 3 + 4


def test_names_of_cases_differ_from_those_of_practice(tmp_path: Path) -> None:
    write_arms(tmp_path, cases=1)
    (image,) = (tmp_path / "before").iterdir()
    case = {"name": "one", "images": {"a": str(image), "b": str(image)}}
    values = {
        "title": "T", "arms": ["a", "b"], "readers": ["ann"], "preset": "preference",
        "cases": [case], "practice": [case],
    }  # fmt: skip
    with pytest.raises(InputError, match="cases"):
        Design.parse(values, tmp_path)


def test_a_pause_hides_and_does_not_count(tmp_path: Path, clock: Clock) -> None:
    study = make(tmp_path, practice=0, break_every_minutes=30, break_minutes=10)
    with sign_in(study, clock) as session:
        clock.seconds += 20
        session.activity()
        clock.seconds += 10
        session.pause()
        assert session.paused and session.active_seconds == 30
        for refused in (
            lambda: session.answer("preference", 1),
            session.next,
            session.previous,
            session.finish,
        ):
            with pytest.raises(InputError, match="paused"):
                refused()
        with pytest.raises(InputError, match="paused"):
            session.window(40, 400)
        clock.seconds += 50
        session.activity()  # moving the mouse
        assert session.active_seconds == 30
        session.resume()
        clock.seconds += 5
        session.activity()
        assert not session.paused and session.active_seconds == 35
        session.answer("preference", 1)
        session.pause()
    with sign_in(study, clock) as session:  # signing in again ends it
        assert not session.paused
        session.answer("preference", 2)
    rows, problems = verify(study.record_path("ann"), study.sha256, "ann")
    assert not problems
    kinds = [row.kind for row in rows]
    assert kinds.count("pause") == 2 and kinds.count("resume") == 1


def test_a_long_pause_is_a_break(tmp_path: Path, clock: Clock) -> None:
    study = make(tmp_path, practice=0, break_every_minutes=1, break_minutes=10, rules="enforce")
    with sign_in(study, clock) as session:
        for _ in range(8):
            clock.seconds += 10
            session.activity()
        assert session.break_due
        session.pause()
        clock.seconds += 300
        session.resume()
        assert session.break_due  # too short
        session.pause()
        clock.seconds += 600
        session.resume()
        assert not session.break_due
        session.answer("preference", 1)


def test_questions_may_name_a_plane(tmp_path: Path) -> None:
    from ctenhance.study.questions import Question

    values = {"id": "flow", "kind": "yes-no", "text": "Stripes?", "plane": "coronal"}
    question = Question.parse(values, "Question 1")
    assert question.plane == "coronal" and question.to_json()["plane"] == "coronal"
    assert Question.parse(question.to_json(), "Question 1") == question
    assert "plane" not in Question.parse({**values, "plane": ""}, "Question 1").to_json()
    with pytest.raises(InputError, match="plane"):
        Question.parse({**values, "plane": "oblique"}, "Question 1")
