"""A reader of a study at work in a page: what `ReadingSession` decides, with its images, by its rules.

The page is told nothing that the study keeps from readers: no file names, arms or keys, and of other readers
nothing at all, since every reader has a process and records of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.study import ReadingSession
from ctenhance.study.copy_header import read_header
from ctenhance.study.questions import Question
from ctenhance.study.session import FINISHED, READING, WAITING, ReadingCase
from ctenhance.view.shared import RAS_TO_LPS, SharedVolume
from ctenhance.view.viewer import Viewer

_WINDOW_SECONDS = 0.3
_LOOKING = ("sizes", "scroll", "slice", "pan", "zoom", "home", "refresh")
PAUSED = "Paused: the images are hidden, and no time counts."
_BLOCK = 1 << 22
_START_CONFIDENCE = 50.0
UNSHOWN = "An image of this case is missing or damaged; tell the owner of the study."
CLOSED = "The study cannot be read now; tell its owner."


class ReaderDesk:
    """One reader at one study; raises InputError as `ReadingSession.open` does."""

    def __init__(self, folder: Path, reader: str) -> None:
        try:
            self.session = ReadingSession.open(folder, reader)
        except CTEnhanceError as error:
            # Sentences for the owner name places on this machine.
            raise InputError(CLOSED if str(folder) in str(error) else str(error)) from error
        self._views: Viewer | None = None
        self._shelf = Shelf(lambda path: self.session.study.images[path.name][0])
        self._case: ReadingCase | None = None
        self._shown: int | None = None
        self._problem = ""
        self._window: tuple[float, float, float] | None = None
        self._last_tick: Any = None
        self._enter()

    @property
    def viewer(self) -> Viewer | None:
        """The images of the case, once they are there and while they may be seen."""
        return self._views if self._shown is not None and not self._covered else None

    def ask(self, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """Answer, go on, look."""
        operation = asked.get("op")
        self.session.activity()
        if operation in _LOOKING:
            return None if self.viewer is None else self.viewer.apply(asked)
        actions: dict[Any, Callable[[Mapping[str, Any]], None]] = {
            "answer": self._answer,
            "mark": self._mark,
            "window": self._set_window,
            "next": lambda _asked: self._go(ReadingSession.next),
            "previous": lambda _asked: self._go(ReadingSession.previous),
            "go on": self._go_on,
            "plane": self._turn,
            "pause": lambda _asked: self.session.resume() if self.session.paused else self.session.pause(),
        }
        if operation not in actions:
            raise InputError("The page asked for something that a study does not offer; reload it.")
        self._problem = ""
        actions[operation](asked)
        return None

    def state(self) -> dict[str, Any]:
        """Return how the reading stands, and how the images do."""
        session = self.session
        reading = session.state == READING
        case = self._case
        study = session.study
        reading_state = {
            "state": session.state,
            "progress": session.progress if reading else session.message,
            "questions": [_question_json(question, side) for question, side in session.asked],
            "answers": [[*key, value] for key, value in session.answers.items()] if reading else [],
            "missing": [[one.id, side] for one, side in session.missing] if reading else [],
            "number": None if case is None else case.number,
            "total": None if case is None else case.total,
            "locked": case is not None and case.locked,
            "finish": session.can_finish,
            "loading": case is not None and self._shown is None and not self._covered and not self._problem,
            "cover": PAUSED if session.paused else session.break_due if self._covered else "",
            "paused": session.paused,
            "practice": case is not None and case.practice,
            "warnings": self._warnings(),
            "problem": self._problem,
            "windows": [[one.name, one.level, one.width] for one in study.conduct.windows],
            "window_locked": study.conduct.window_locked,
            "marks": self._marks(),
        }
        viewer = self.viewer
        return {**({} if viewer is None else viewer.state()), "study": reading_state}

    def tick(self) -> bool:
        """Show what has been loaded, note a window that was left, and tell of breaks."""
        self._note_window(time.monotonic() - _WINDOW_SECONDS)
        before = self._shown
        self._show()
        now = (self._covered, self._warnings(), self._problem)
        changed = before != self._shown or now != self._last_tick
        self._last_tick = now
        return changed

    @property
    def pause(self) -> float:
        """Seconds until `tick` is to be called again."""
        return 0.05 if self._case is not None and self._shown is None and not self._problem else 0.5

    def close(self) -> None:
        """End the sitting; every answer is saved already."""
        self._note_window(math.inf)
        self.session.close()
        self._shelf.close()

    # The reader's way ----------------------------------------------------------------------------------

    def _answer(self, asked: Mapping[str, Any]) -> None:
        if self._shown is None:
            raise InputError("The images are not there yet; answer when they are.")
        self.session.answer(str(asked.get("question")), asked.get("value"), asked.get("side"))

    def _mark(self, asked: Mapping[str, Any]) -> None:
        """Add a mark at a pixel of one image."""
        viewer = self.viewer
        if viewer is None:
            raise InputError("The images are not there yet; mark when they are.")
        side = str(asked.get("side"))
        name, point = viewer.point(asked)
        if name != side:
            raise InputError("Mark a point in the image that the question is about.")
        given = self.session.answers.get((str(asked.get("question")), side)) or []
        mark = {"point": (RAS_TO_LPS @ point).tolist(), "confidence": _START_CONFIDENCE}
        self.session.answer(str(asked.get("question")), [*given, mark], side)

    def _set_window(self, asked: Mapping[str, Any]) -> None:
        viewer, conduct = self.viewer, self.session.study.conduct
        if viewer is None:
            return
        number = asked.get("number")
        if isinstance(number, int) and 0 <= number < len(conduct.windows):
            window = conduct.windows[number]
            viewer.set_window(window.level, window.width)
        elif conduct.window_locked:
            names = ", ".join(one.name for one in conduct.windows)
            raise InputError(f"This study allows only the windows {names}.")
        else:
            viewer.apply({"op": "window", "level": asked.get("level"), "width": asked.get("width")})
        self._window = (*viewer.window, time.monotonic())

    def _turn(self, asked: Mapping[str, Any]) -> None:
        """Turn the views to a plane."""
        if self.viewer is not None:
            self.viewer.apply({"op": "arrange", "layout": asked.get("plane")})

    def _note_window(self, before: float) -> None:
        if self._window is not None and self._window[2] < before:
            level, width, _when = self._window
            self._window = None
            with contextlib.suppress(CTEnhanceError):  # the case was left meanwhile
                self.session.window(level, width)

    def _go_on(self, _asked: Mapping[str, Any]) -> None:
        """Finish the session, or begin the next one: whatever comes now."""
        if self.session.state == WAITING:
            self._go(ReadingSession.begin)
        elif self.session.state != FINISHED and self.session.can_finish:
            self._go(ReadingSession.finish)

    def _go(self, step: Callable[[ReadingSession], None]) -> None:
        self._note_window(math.inf)
        step(self.session)
        self._enter()

    # Images --------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        """The session stands at a case, perhaps another one than before."""
        self._case, self._problem = None, ""
        try:
            self._case = self.session.case
        except InputError:
            self._problem = UNSHOWN
        if self._case is None or self._case.trial != self._shown:
            self._shown = None
        if self._case is not None:
            ahead: tuple[Path, ...] = ()
            with contextlib.suppress(InputError):  # one that is missing is told of when it is its turn
                ahead = self.session.upcoming
            self._shelf.request((*self._case.images, *ahead))
            self._show()

    def _show(self) -> None:
        """Show the images of the case as soon as they are there and while they may be seen."""
        if self._case is None or self._shown is not None or self._problem or self._covered:
            return
        try:
            images = self._shelf.get(self._case.images)
        except InputError:
            self._problem = UNSHOWN
            return
        if images is None:
            return
        volumes = dict(zip(self.session.study.sides, images, strict=True))
        if self._views is None:
            self._views = Viewer(volumes)
        else:
            self._views.show(volumes)
        first = self.session.study.conduct.windows[0]
        self._views.set_window(first.level, first.width)
        self._shown = self._case.trial
        self.session.activity()

    @property
    def _covered(self) -> bool:
        session = self.session
        due = session.study.conduct.enforced and bool(session.break_due)
        return session.state == READING and (due or session.paused)

    def _warnings(self) -> list[str]:
        due = self.session.break_due if self.session.state == READING else ""
        return [*([due] if due else []), *(one for one in self.session.warnings if one != due)]

    def _marks(self) -> dict[str, list[list[Any]]]:
        """Where marks are in each cell that shows their slice: [x, y, words]."""
        found: dict[str, list[list[Any]]] = {}
        viewer = self.viewer
        if viewer is None or self.session.state != READING:
            return found
        for (question, side), value in self.session.answers.items():
            if self.session.study.question(question).kind != "marks":
                continue
            for count, mark in enumerate(value, start=1):
                place = viewer.pixel(side, RAS_TO_LPS @ np.array(mark["point"]))
                if place is not None:
                    cell, x, y = place
                    found.setdefault(cell, []).append([x, y, f"{count}: {mark['confidence']:.0f} %"])
        return found


class Shelf:
    """The images of the case that is read and of those beside it, looked through ahead in a thread."""

    def __init__(self, digest: Callable[[Path], str]) -> None:
        self._digest = digest
        self._threads = ThreadPoolExecutor(1)
        self._found: dict[Path, Future[SharedVolume]] = {}

    def request(self, paths: tuple[Path, ...]) -> None:
        """Look for these, in their order, and forget others."""
        for path in list(self._found):
            if path not in paths:
                self._found.pop(path).cancel()
        for path in paths:
            if path not in self._found:
                self._found[path] = self._threads.submit(checked_image, path, self._digest(path))

    def get(self, paths: tuple[Path, ...]) -> list[SharedVolume] | None:
        """Return the images, None while one is not there yet; raises InputError for one that is damaged."""
        if not all(path in self._found and self._found[path].done() for path in paths):
            return None
        return [self._found[path].result() for path in paths]

    def close(self) -> None:
        """Stop looking."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def checked_image(path: Path, sha256: str) -> SharedVolume:
    """Return an image of a study (.mha, int16), to be mapped from its own file.

    Raises InputError when it cannot be read or is not the file that the study names by its hash.
    """
    try:
        with path.open("rb") as stream:
            digest = hashlib.sha256()
            header = read_header(stream, digest)
            while block := stream.read(_BLOCK):
                digest.update(block)
        if digest.hexdigest() != sha256 or path.stat().st_size != header.end:
            raise ValueError("another content")
    except (OSError, ValueError) as error:
        raise InputError(f"The image '{path.name}' of the study is damaged; copy the study again.") from error
    direction = tuple((x, y, z) for x, y, z in header.direction.tolist())
    return SharedVolume(
        str(path), header.start, "<i2", header.shape, header.spacing, header.origin, direction
    )


def _question_json(question: Question, side: str) -> dict[str, Any]:
    return {
        "id": question.id,
        "side": side,
        "kind": question.kind,
        "text": question.text,
        "required": question.required,
        "plane": question.plane,
        "choices": [list(one) for one in question.choices],
        "low": question.low,
        "high": question.high,
    }
