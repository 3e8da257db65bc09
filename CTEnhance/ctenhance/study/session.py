"""Reading a study: everything that a panel shows and asks, without the panel.

The panel calls `activity()` at every key press, click and scroll, shows `progress`, `message`, `break_due`
and `warnings`, and loads `upcoming` ahead. Order, sides, locking, breaks and washout are decided here.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import ctenhance
from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.runtime.words import counted
from ctenhance.study.questions import Question
from ctenhance.study.records import Records, Row
from ctenhance.study.standing import (
    ANSWER,
    DONE,
    FINISH,
    LEAVE,
    NOTE,
    OPEN,
    PAUSE,
    RESUME,
    SHOW,
    WINDOW,
    Standing,
)  # fmt: skip
from ctenhance.study.study_file import PRACTICE, Study, Trial
from ctenhance.study.timing import ActivityTimer, washout_sentence

READING, WAITING, FINISHED = "reading", "waiting", "finished"


@dataclass(frozen=True)
class ReadingCase:
    """What is shown: one or two `images` from left to right; `number` of `total` in the session.

    `practice`: it is a case to practise with, whose answers do not count.
    """

    trial: int
    number: int
    total: int
    session: int
    images: tuple[Path, ...]
    locked: bool
    practice: bool = False


class ReadingSession:
    """One reader's sitting at one study; only one can be open for a reader at a time.

    state     `reading`: there is a `case`; `waiting`: the next session has not begun, see `begin`; `finished`
    message   a sentence for the reader about the state
    warnings  sentences on rules that were not kept (washout, breaks), in this sitting
    """

    def __init__(
        self,
        study: Study,
        reader: str,
        records: Records,
        tick: Callable[[], float] = time.monotonic,
    ) -> None:
        self.study = study
        self.reader = reader
        self.state = READING
        self.message = ""
        self.warnings: list[str] = []
        self._records = records
        self._trials = study.trials(reader)
        self._standing = Standing.of(records.rows)
        conduct = study.conduct
        self._timer = ActivityTimer(tick, break_s=conduct.break_minutes * 60)
        self._position = 0
        self._open = True
        self._paused = False
        before = self._standing.last_time
        now = self._append(OPEN, ctenhance=ctenhance.__version__).time
        if before is not None and now - before < conduct.break_minutes * 60:
            self._timer.since_break = self._standing.since_break
        self._enter_session()

    @classmethod
    def open(
        cls,
        folder: str | Path,
        reader: str,
        *,
        now: Callable[[], float] = time.time,
        tick: Callable[[], float] = time.monotonic,
    ) -> ReadingSession:
        """Sign in as a reader and go on where that reader stopped.

        Raises InputError for a folder without a study, an edited one, somebody who is no reader, a study that
        was unblinded, records that were changed, and when the study is open for this reader in another
        window.
        """
        study = Study.read(folder)
        study.trials(reader)
        if study.closed:
            raise InputError(
                f"The study '{study.title}' was unblinded and is closed: no more answers are taken."
            )
        records = Records(study.record_path(reader), study.sha256, reader, now)
        try:
            return cls(study, reader, records, tick)
        except BaseException:
            records.close()
            raise

    def close(self) -> None:
        """End the sitting; every answer is saved already. May be called again."""
        if self._open and self.state == READING:
            # On a full disk only the time since the last answer is lost.
            with contextlib.suppress(CTEnhanceError):
                self._leave()
        self._open = False
        self._records.close()

    def __enter__(self) -> ReadingSession:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def case(self) -> ReadingCase | None:
        """What is to be read now; None unless the state is `reading`.

        Raises InputError when an image file is missing or has another size than it had.
        """
        if self.state != READING:
            return None
        trial = self._trial
        number, total = self._place()
        return ReadingCase(
            trial=trial.number,
            number=number,
            total=total,
            session=trial.session,
            images=tuple(self.study.image_path(name) for name in trial.images),
            locked=self._locked(trial),
            practice=not trial.counts,
        )

    @property
    def progress(self) -> str:
        """For the reader: 'Case 7 of 40', with the session where there are several."""
        if self.state != READING:
            return self.message
        if not self._trial.counts:
            return "Practice case {} of {}: its answers do not count".format(*self._place())
        text = "Case {} of {}".format(*self._place())
        last = self._trials[-1].session
        return text if last == 1 else f"{text}, session {self._trial.session} of {last}"

    @property
    def asked(self) -> tuple[tuple[Question, str], ...]:
        """The questions to show, each with 'left', 'right', 'image' or 'pair'."""
        return self.study.asked()

    @property
    def answers(self) -> dict[tuple[str, str], Any]:
        """The answers to this case as they stand, by (question, side)."""
        number = self._trial.number
        return {
            (question, side): given.value
            for (trial, question, side), given in self._standing.answers.items()
            if trial == number
        }

    @property
    def missing(self) -> tuple[tuple[Question, str], ...]:
        """What must still be answered before the next case."""
        given = self.answers
        return tuple((one, side) for one, side in self.asked if one.required and (one.id, side) not in given)

    @property
    def can_finish(self) -> bool:
        """Whether every case of the session is done, so that `finish` may be called."""
        return self.state == READING and all(
            trial.number in self._standing.done for trial in self._session_trials(self._trial.session)
        )

    @property
    def upcoming(self) -> tuple[Path, ...]:
        """The images to load ahead: of the next case, then of the one before."""
        if self.state != READING:
            return ()
        session = self._session_trials(self._trial.session)
        near = (self._position + 1, self._position - 1)
        trials = [self._trials[one] for one in near if 0 <= one < len(self._trials)]
        return tuple(
            self.study.image_path(name) for trial in trials if trial in session for name in trial.images
        )

    @property
    def active_seconds(self) -> float:
        """Seconds of active reading of this case, over all visits."""
        return self._timer.active

    @property
    def break_due(self) -> str:
        """A sentence when a break is due, else ''. The break is over when nothing was done for its length."""
        conduct = self.study.conduct
        waited = self._timer.silence()
        if not conduct.break_every_minutes or self._timer.since_break < conduct.break_every_minutes * 60:
            return ""
        if waited >= conduct.break_minutes * 60:
            return ""
        return (
            f"You have read for more than {counted(conduct.break_every_minutes, 'minute')}: please rest your "
            f"eyes for {counted(conduct.break_minutes, 'minute')}."
        )

    @property
    def paused(self) -> bool:
        """Whether the reader has paused: no image is to be seen, and no time counts."""
        return self._paused

    def pause(self) -> None:
        """Stop for a while; raises InputError unless there is something to read. Signing out ends it, too."""
        trial = self._require_reading()
        self._timer.ping()
        self._append(PAUSE, trial=trial.number, **self._seconds())
        self._paused = True

    def resume(self) -> None:
        """Go on after a pause; a long one counts as a break."""
        if self._paused:
            self._paused = False
            self._timer.resume()
            self._append(RESUME, trial=self._trial.number, **self._seconds())

    def activity(self) -> None:
        """Tell that the reader is there: called at every key press, click, scroll and window change."""
        if self._paused:
            return
        # While a break is being kept, moving the mouse does not start it anew.
        if not (self.study.conduct.enforced and self.break_due):
            self._timer.ping()

    def answer(self, question: str, value: Any, side: str | None = None) -> None:
        """Save an answer to this case, or change it; it is on the disk when this returns.

        `side` is 'left', 'right', 'image' or 'pair'; it may be left out where the question has only one.
        Raises InputError for an answer that the question does not take, a locked case and an enforced break;
        CTEnhanceError when it cannot be saved (disk full).
        """
        trial = self._require_open()
        asked = self.study.question(question)
        sides = [one for found, one in self.asked if found is asked]
        if side is None and len(sides) == 1:
            side = sides[0]
        if side not in sides:
            raise InputError(f"'{question}' is answered for {' or '.join(sides)}, not for {side!r}.")
        checked = asked.checked(value)
        self.activity()
        self._append(
            ANSWER, trial=trial.number, question=question, side=side, value=checked, **self._seconds()
        )

    def next(self) -> None:
        """Go to the next case; the one left is then done. On the last case of the session it stays there.

        Raises InputError while a required answer is missing, and during an enforced break.
        """
        self._require_reading()
        if self.missing:
            question, side = self.missing[0]
            where = "" if side in ("pair", "image") else f" for the {side} image"
            raise InputError(f"Answer '{question.text}'{where} before going on.")
        self._require_no_break()
        self.activity()
        if self._trial.number not in self._standing.done:
            self._append(DONE, trial=self._trial.number, **self._seconds())
        if self._trial != self._session_trials(self._trial.session)[-1]:
            self._show(self._position + 1)

    def previous(self) -> None:
        """Go back to the case before in this session; on the first one it stays there."""
        self._require_reading()
        if self._position > 0 and self._trials[self._position - 1].session == self._trial.session:
            self.activity()
            self._show(self._position - 1)

    def finish(self) -> None:
        """Finish the session: all its answers are locked. The next one begins with `begin` or a new sign-in.

        Raises InputError while a case of the session is not done.
        """
        self._require_reading()
        if not self.can_finish:
            left = [
                one
                for one in self._session_trials(self._trial.session)
                if one.number not in self._standing.done
            ]
            cases = counted(len(left), "case")
            be, them = ("is", "it") if len(left) == 1 else ("are", "them")
            raise InputError(f"{cases} of this session {be} not read yet; read {them} before finishing.")
        session = self._trial.session
        self._append(FINISH, session=session)
        if self._next_session() is None:
            self._enter_session()
            return
        self.state = WAITING
        if session == PRACTICE:
            self.message = "The practice is over; the answers count from now on."
            return
        early = self._too_early(session + 1)
        self.message = early or f"Session {session} is finished; session {session + 1} can begin."

    def begin(self) -> None:
        """Begin the next session from `waiting`; before its time only where the rules just warn.

        Raises InputError when the washout is enforced and not over yet.
        """
        session = self._next_session()
        if self.state != WAITING or session is None:
            raise InputError("There is no session to begin.")
        early = self._too_early(session)
        if early and self.study.conduct.enforced:
            self.message = early
            raise InputError(early)
        if early:
            self.warnings.append(early)
            self._append(NOTE, text="washout not kept", session=session)
        self._start(session)

    def window(self, level: float, width: float) -> None:
        """Log that the window was changed (HU); raises InputError for one that the study does not allow."""
        trial = self._require_reading()
        if not (math.isfinite(level) and math.isfinite(width) and width > 0):
            raise InputError(f"A window needs a finite level and a width above 0, not {level} and {width}.")
        allowed = self.study.conduct.windows
        if self.study.conduct.window_locked and not any(
            (one.level, one.width) == (level, width) for one in allowed
        ):
            raise InputError(f"This study allows only the windows {', '.join(one.name for one in allowed)}.")
        self._append(WINDOW, trial=trial.number, level=float(level), width=float(width))

    @property
    def _trial(self) -> Trial:
        return self._trials[self._position]

    def _place(self) -> tuple[int, int]:
        trials = self._session_trials(self._trial.session)
        return trials.index(self._trial) + 1, len(trials)

    def _session_trials(self, session: int) -> tuple[Trial, ...]:
        return tuple(trial for trial in self._trials if trial.session == session)

    def _locked(self, trial: Trial) -> bool:
        finished = trial.session in self._standing.finished
        return finished or (self.study.conduct.lock == "case" and trial.number in self._standing.done)

    def _seconds(self) -> dict[str, float]:
        return {"active_s": round(self._timer.active, 2), "since_break_s": round(self._timer.since_break, 2)}

    def _append(self, kind: str, **data: Any) -> Row:
        row = self._records.append(kind, **data)
        self._standing.take(row)
        return row

    def _require_reading(self) -> Trial:
        if self.state != READING:
            raise InputError(self.message)
        if self._paused:
            raise InputError("The reading is paused; go on first.")
        return self._trial

    def _require_open(self) -> Trial:
        trial = self._require_reading()
        if self._locked(trial):
            raise InputError("The answers to this case are locked and cannot be changed any more.")
        self._require_no_break()
        return trial

    def _require_no_break(self) -> None:
        due = self.break_due
        if not due:
            return
        if self.study.conduct.enforced:
            raise InputError(due)
        if due not in self.warnings:
            self.warnings.append(due)

    def _leave(self) -> None:
        """Note the time spent on the case, unless it stands in the last row already."""
        seconds = self._seconds()
        if self._standing.active.get(self._trial.number, 0.0) != seconds["active_s"]:
            self._append(LEAVE, trial=self._trial.number, **seconds)

    def _show(self, position: int) -> None:
        if position != self._position:
            self._leave()
        self._position = position
        trial = self._trial
        self._timer.start(self._standing.active.get(trial.number, 0.0))
        self._append(SHOW, trial=trial.number, session=trial.session)

    def _next_session(self) -> int | None:
        return next((t.session for t in self._trials if t.session not in self._standing.finished), None)

    def _enter_session(self) -> None:
        """Stand where the reader stopped, or say why there is nothing to read now."""
        session = self._next_session()
        if session is None:
            self.state = FINISHED
            self.message = "You have read every case of this study. Thank you."
            return
        early = "" if session in self._standing.started else self._too_early(session)
        if early:
            self.state, self.message = WAITING, early
        else:
            self._start(session)

    def _start(self, session: int) -> None:
        self.state, self.message = READING, ""
        trials = self._session_trials(session)
        shown = [trial for trial in trials if trial.number == self._standing.shown]
        undone = [trial for trial in trials if trial.number not in self._standing.done]
        self._show((shown or undone or list(trials))[0].number - 1)

    def _too_early(self, session: int) -> str:
        """Return a sentence when the washout before the session is not over, else ''."""
        ended = None if session == PRACTICE + 1 else self._standing.finished.get(session - 1)
        return washout_sentence(session, ended, self.study.conduct.washout_days, self._records.now())
