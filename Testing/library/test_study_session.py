"""Reading: order, answers, resuming, locking, breaks, washout and time; then closing and unblinding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from study_arms import write_arms

from ctenhance.runtime.errors import InputError
from ctenhance.study import ReadingSession, Study, answers, create, design_from_folders, unblind
from ctenhance.study.conduct import Conduct
from ctenhance.study.key import Key
from ctenhance.study.timing import ActivityTimer
from ctenhance.study.unblinding import status

DAY = 86400.0


class Clock:
    """Wall clock and stop-watch of a reader, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1_750_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(
    tmp_path: Path, preset: str = "preference", cases: int = 3, readers: int = 1, **conduct: Any
) -> Study:
    write_arms(tmp_path, cases=cases)
    names = ("ann", "bob", "cat")[:readers]
    design, _ = design_from_folders(tmp_path / "before", tmp_path / "after", names, preset, seed=4, **conduct)
    return create(design, tmp_path / "study")


def sign_in(study: Study, clock: Clock, reader: str = "ann") -> ReadingSession:
    return ReadingSession.open(study.folder, reader, now=clock, tick=clock)


def read_all(session: ReadingSession, value: Any = 1) -> None:
    while not session.can_finish:
        for question, side in session.missing:
            session.answer(question.id, value, side)
        session.next()


def test_a_reader_goes_through_and_resumes(tmp_path: Path, clock: Clock) -> None:
    study = make(tmp_path, "image quality")
    with sign_in(study, clock) as session:
        assert session.progress == "Case 1 of 3" and session.state == "reading"
        case = session.case
        assert case is not None and len(case.images) == 2 and all(path.is_file() for path in case.images)
        assert len(session.missing) == 12 and len(session.upcoming) == 2
        with pytest.raises(InputError, match="Answer 'Image noise' for the left image before going on"):
            session.next()
        session.answer("noise", 4, "left")
        session.answer("noise", 2, "left")
        with pytest.raises(InputError, match="left or right"):
            session.answer("noise", 4)
        with pytest.raises(InputError, match="asks no question"):
            session.answer("nose", 4, "left")
        with pytest.raises(InputError, match="takes one of"):
            session.answer("noise", 9, "left")
        for question, side in session.missing:
            session.answer(question.id, 3, side)
        session.next()
        assert session.progress == "Case 2 of 3" and session.answers == {}
        session.answer("noise", 5, "right")
        session.previous()
        assert session.answers["noise", "left"] == 2
        session.previous()
        session.next()
        with pytest.raises(InputError, match="2 cases of this session are not read"):
            session.finish()
    with sign_in(study, clock) as session:
        assert session.progress == "Case 2 of 3" and session.answers == {("noise", "right"): 5}
        read_all(session, 3)
        assert session.progress == "Case 3 of 3"
        session.finish()
        assert session.state == "finished" and session.case is None and session.upcoming == ()
        with pytest.raises(InputError, match="You have read every case"):
            session.answer("noise", 1, "left")
    (state,) = status(study.folder)
    assert (state.done, state.total, state.finished, state.problems) == (3, 3, True, ())


def test_a_killed_window_leaves_every_answer(tmp_path: Path, clock: Clock) -> None:
    study = make(tmp_path)
    session = sign_in(study, clock)
    session.answer("preference", -2)
    with pytest.raises(InputError, match="another window"):
        sign_in(study, clock)
    session._records.close()  # the records are all that is left of a killed window
    with sign_in(study, clock) as session:
        assert session.answers == {("preference", "pair"): -2}


@pytest.mark.parametrize("lock", ["case", "session"])
def test_locking(tmp_path: Path, clock: Clock, lock: str) -> None:
    study = make(tmp_path, lock=lock)
    with sign_in(study, clock) as session:
        session.answer("preference", 1)
        session.next()
        session.previous()
        case = session.case
        assert case is not None and case.locked == (lock == "case")
        if lock == "case":
            with pytest.raises(InputError, match="locked"):
                session.answer("preference", 2)
        else:
            session.answer("preference", 2)
        read_all(session)
        session.finish()
    unblind(study.folder, tmp_path / "study-key.json")
    first = answers(study.folder, tmp_path / "study-key.json")[0]
    assert first.changes == (lock == "session") and abs(first.first_value) == 1


def test_idle_time_does_not_count(tmp_path: Path, clock: Clock) -> None:
    study = make(tmp_path)
    with sign_in(study, clock) as session:
        for _ in range(10):
            clock.seconds += 5
            session.activity()
        clock.seconds += 3600
        session.answer("preference", 1)
        assert session.active_seconds == 50 + 60
        session.next()
        clock.seconds += 7
        session.previous()
        clock.seconds += 8
        session.activity()
        assert session.active_seconds == 118
        session.next()
        assert session.active_seconds == 7
    unblinded = status(study.folder)[0]
    assert unblinded.active_minutes == round(125 / 60, 1)


def test_timer_counts_from_the_first_ping() -> None:
    moments = iter([0.0, 10.0, 10.0, 200.0, 190.0])
    timer = ActivityTimer(lambda: next(moments), idle_after_s=60, break_s=100)
    assert timer.ping() == 10
    assert timer.ping() == 10
    assert timer.ping() == 70 and timer.since_break == 0, "a silence of 190 s is a break"
    assert timer.ping() == 70, "a stop-watch that goes back counts nothing"


@pytest.mark.parametrize("rules", ["warn", "enforce"])
def test_breaks(tmp_path: Path, clock: Clock, rules: str) -> None:
    study = make(tmp_path, break_every_minutes=1.0, break_minutes=5.0, rules=rules)
    with sign_in(study, clock) as session:
        for _ in range(2):
            clock.seconds += 40
            session.activity()
        assert "more than 1 minute: please rest your eyes for 5 minutes." in session.break_due
        if rules == "warn":
            session.answer("preference", 1)
            session.next()
            assert len(session.warnings) == 1
            return
        with pytest.raises(InputError, match="rest your eyes"):
            session.answer("preference", 1)
        clock.seconds += 200
        session.activity()  # looking at the panel does not begin the break again
    with sign_in(study, clock) as session:
        assert session.break_due, "signing in again is no break"
        clock.seconds += 300
        assert session.break_due == ""
        session.answer("preference", 1)
        assert session.break_due == ""


@pytest.mark.parametrize("rules", ["warn", "enforce"])
def test_washout(tmp_path: Path, clock: Clock, rules: str) -> None:
    study = make(tmp_path, "lesion detection", sessions=2, washout_days=14, rules=rules)
    with sign_in(study, clock) as session:
        assert session.progress == "Case 1 of 3, session 1 of 2"
        read_all(session, 10)
        session.finish()
        assert session.state == "waiting" and "14 days" in session.message
    clock.seconds += 13 * DAY
    with sign_in(study, clock) as session:
        assert session.state == "waiting" and session.case is None
        if rules == "enforce":
            with pytest.raises(InputError, match="should not begin before"):
                session.begin()
            clock.seconds += DAY
        session.begin()
        assert session.progress == "Case 1 of 3, session 2 of 2"
        assert len(session.warnings) == (rules == "warn")
    with sign_in(study, clock) as session:
        assert session.state == "reading", "a session that has begun goes on"
        with pytest.raises(InputError, match="no session to begin"):
            session.begin()


def test_windows_are_logged_or_locked(tmp_path: Path, clock: Clock) -> None:
    study = make(tmp_path, window_locked=True)
    with sign_in(study, clock) as session:
        window = study.conduct.windows[1]
        session.window(window.level, window.width)
        with pytest.raises(InputError, match="allows only the windows Soft tissue, Lung, Bone"):
            session.window(0, 100)
        with pytest.raises(InputError, match="above 0"):
            session.window(0, 0)
        logged = [row.data for row in session._records.rows if row.kind == "window"]
    assert logged == [{"trial": 1, "level": -600.0, "width": 1500.0}]


def test_strangers_and_missing_images(tmp_path: Path, clock: Clock) -> None:
    study = make(tmp_path)
    with pytest.raises(InputError, match="'eve' is no reader"):
        sign_in(study, clock, "eve")
    with sign_in(study, clock) as session:
        name = study.trials("ann")[0].images[0]
        study.image_path(name).unlink()
        with pytest.raises(InputError, match=f"'{name}' of the study is missing"):
            _ = session.case


def test_unblinding_turns_sides_into_arms(tmp_path: Path, clock: Clock) -> None:
    """A reader who always prefers the arm 'after' (+2), knowing the key as nobody does."""
    study = make(tmp_path, cases=4, readers=2)
    key_path = tmp_path / "study-key.json"
    where = Key.read(key_path, study.key_sha256).where()
    with pytest.raises(InputError, match="still blinded"):
        answers(study.folder, key_path)
    with pytest.raises(InputError, match="Not all readers have finished"):
        unblind(study.folder, key_path)
    for reader in study.readers:
        with sign_in(study, clock, reader) as session:
            while not session.can_finish:
                case = session.case
                assert case is not None
                session.answer("preference", 2 if where[case.images[1].name][1] == "after" else -2)
                session.next()
            session.finish()
    closed = unblind(study.folder, key_path)
    assert set(closed["heads"]) == {"ann", "bob"}
    found = answers(study.folder, key_path)
    assert len(found) == 8
    assert all((one.arm, one.versus, one.value) == ("after", "before", 2) for one in found)
    assert {one.case for one in found} == {f"Miller_{number}" for number in range(4)}
    with pytest.raises(InputError, match="no more answers are taken"):
        sign_in(study, clock)
    with pytest.raises(InputError, match="unblinded already"):
        unblind(study.folder, key_path)


def test_realism_answers_are_right_or_wrong(tmp_path: Path, clock: Clock) -> None:
    study = make(tmp_path, "realism", cases=4)
    key_path = tmp_path / "study-key.json"
    where = Key.read(key_path, study.key_sha256).where()
    with sign_in(study, clock) as session:
        read_all(session, "left")
        session.finish()
    unblind(study.folder, key_path)
    for one in answers(study.folder, key_path):
        left = where[study.trials("ann")[one.trial - 1].images[0]][1]
        assert one.correct == (left == "before") and one.value == (left == "after")


def test_only_whole_untouched_records_are_analysed(tmp_path: Path, clock: Clock) -> None:
    study = make(tmp_path, readers=3)
    key_path = tmp_path / "study-key.json"
    for reader in ("ann", "bob"):
        with sign_in(study, clock, reader) as session:
            read_all(session)
            session.finish()
    record = study.record_path("bob")
    record.write_bytes(record.read_bytes().replace(b'"value":1', b'"value":2'))
    with pytest.raises(InputError, match="records of 'bob' cannot be used"):
        unblind(study.folder, key_path)
    with pytest.raises(InputError, match=r"Not all readers have finished \(cat\)"):
        unblind(study.folder, key_path, without=["bob"])
    with pytest.raises(InputError, match="is no reader"):
        unblind(study.folder, key_path, without=["eve"])
    closed = unblind(study.folder, key_path, without=["bob"], unfinished=True)
    assert list(closed["heads"]) == ["ann"] and closed["unfinished"] == ["cat"]
    assert {one.reader for one in answers(study.folder, key_path)} == {"ann"}
    record = study.record_path("ann")
    record.write_bytes(record.read_bytes().replace(b'"value":1', b'"value":2'))
    with pytest.raises(InputError, match="changed after unblinding"):
        answers(study.folder, key_path)


def test_repeats_are_marked(tmp_path: Path, clock: Clock) -> None:
    write_arms(tmp_path, cases=3)
    design, _ = design_from_folders(tmp_path / "before", tmp_path / "after", ("ann",), repeats=2)
    assert replace(design, conduct=Conduct(break_minutes=1)).repeats == 2
    study = create(design, tmp_path / "study")
    assert [trial.session for trial in study.trials("ann")] == [1, 1, 1, 2, 2]
    with sign_in(study, clock) as session:
        for _ in range(2):
            read_all(session)
            session.finish()
            if session.state == "waiting":
                session.begin()
    unblind(study.folder, tmp_path / "study-key.json")
    assert [one.repeat for one in answers(study.folder, tmp_path / "study-key.json")] == [False] * 3 + [
        True
    ] * 2
