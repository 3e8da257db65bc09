"""A reader at work: signs in, looks, answers, goes on; everything by keyboard, every answer saved at once.

What is shown when, what may be answered and whether a break is due is decided by `ctenhance.study`; this is
its face in Slicer. Nothing of it is kept in the scene, so closing the scene loses no answer.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.study import ReadingSession
from ctenhance.study.questions import Question
from ctenhance.study.session import FINISHED, READING, WAITING, ReadingCase
from CTEnhanceLib.panel import styles
from CTEnhanceLib.process.steps import restTimer
from CTEnhanceLib.readerstudy.images import ImageShelf
from CTEnhanceLib.readerstudy.keys import MOST_WINDOWS, PLANE_KEYS, WINDOW_KEY, StudyKeys
from CTEnhanceLib.readerstudy.marks import MarksRow, cursor, middle
from CTEnhanceLib.readerstudy.questions import CHOICE_KEYS, QuestionForm
from CTEnhanceLib.readerstudy.views import StudyViews
from CTEnhanceLib.views.linked import LinkedViews

_TICK_MILLISECONDS = 1000
_WINDOW_MILLISECONDS = 300


class ReadingDesk:
    """Connects the widgets of the panel (`ui`) with a reading session.

    `present`: the module is open; while it is not, nothing of the study is in the scene or on the screen.
    """

    def __init__(self, ui: Any, parent: Any) -> None:
        self.ui = ui
        self.session: ReadingSession | None = None
        self.form: QuestionForm | None = None
        self.views = StudyViews(self._onWindow, self._onActivity)
        self.shelf = ImageShelf(lambda path: self.session.study.images[path.name][0], self._update)
        self._present = False
        self._case: ReadingCase | None = None
        self._shown: int | None = None
        self._covered = False
        self._problem = ""
        self._windowNow: tuple[float, float] | None = None
        ui.signOutButton.connect("clicked()", self.signOut)
        ui.previousButton.connect("clicked()", self.previous)
        ui.nextButton.connect("clicked()", self.next)
        ui.goOnButton.connect("clicked()", self.goOn)
        ui.pauseButton.connect("clicked()", self.pause)
        ui.windowSelector.connect("activated(int)", self._onPreset)
        self._shortcuts = StudyKeys(slicer.util.mainWindow() or parent, self._keys(), self._onKey)
        self._clock = qt.QTimer(slicer.app)
        self._clock.setInterval(_TICK_MILLISECONDS)
        self._clock.connect("timeout()", self._onTick)
        self._windowRest = restTimer(_WINDOW_MILLISECONDS, self._logWindow)
        self._update()

    # The reader's way ----------------------------------------------------------------------------------

    def signIn(self, folder: Path, reader: str) -> None:
        """Begin, or go on where this reader stopped; raises CTEnhanceError when that cannot be."""
        self.signOut()
        session = ReadingSession.open(folder, reader)
        self.session = session
        self.form = QuestionForm(
            self.ui.questionsWidget.layout(),
            session.asked,
            lambda: session.answers,
            self._answer,
            {"marks": MarksRow},
            self._onQuestion,
        )
        self.ui.windowSelector.clear()
        for window in session.study.conduct.windows:
            self.ui.windowSelector.addItem(window.name)
        self._clock.start()
        self._enterCase()

    def signOut(self) -> None:
        """End the sitting; everything is saved."""
        if self.session is None:
            return
        self.flush()
        self._clock.stop()
        self._clear()
        self.views.leave()
        self.shelf.clear()
        self.form.remove()
        self.session.close()
        self.session = self.form = self._case = None
        self._problem, self._covered = "", False
        self._update()

    def next(self) -> None:
        """Go to the next case, if all that is required is answered."""
        self._go(ReadingSession.next)

    def previous(self) -> None:
        """Go to the case before."""
        self._go(ReadingSession.previous)

    def goOn(self) -> None:
        """Finish the session, begin the next one, or sign out after the last: whatever comes now."""
        session = self.session
        if session is None:
            return
        if session.state == FINISHED:
            self.signOut()
        elif session.state == WAITING:
            self._go(ReadingSession.begin)
        elif session.can_finish:
            self._go(ReadingSession.finish)

    def pause(self) -> None:
        """Hide the images, while no time counts, or go on."""
        session = self.session
        if session is None or session.state != READING:
            return
        try:
            if session.paused:
                session.resume()
            else:
                self.flush()
                session.pause()
        except CTEnhanceError as error:
            self._tell(error)
            return
        self._problem = ""
        self._update()

    def flush(self) -> None:
        """Save what was typed, and the window that was set, and is not saved yet."""
        if self.form is not None:
            self.form.flush()
        if self._windowRest.active:
            self._logWindow()

    # The module's life ---------------------------------------------------------------------------------

    def enter(self) -> None:
        """The module is opened."""
        self._present = True
        if self.session is None:
            LinkedViews.leaveAll()  # another panel's views say nothing to who signs in
        self._update()

    def exit(self) -> None:
        """Another module is opened: take everything off the screen, the session stays."""
        self.flush()
        self._present = False
        self._clear()
        self.views.leave()
        self._update()

    def sceneCloses(self) -> None:
        """All nodes are about to go; `enter` shows them again."""
        self.flush()
        self._present = False
        self._clear()
        self.views.forget()

    # Inside --------------------------------------------------------------------------------------------

    def _go(self, step: Any) -> None:
        """Take a step of the session and show where it leads, or say why it cannot be taken."""
        session = self.session
        if session is None:
            return
        self.flush()
        try:
            step(session)
        except CTEnhanceError as error:
            self._tell(error)
            return
        self._enterCase()

    def _enterCase(self) -> None:
        """The session stands at a case, perhaps another one than before."""
        self._problem = ""
        self._case = None
        try:
            self._case = self.session.case
        except InputError as error:
            self._problem = str(error)
        if self._case is None or self._case.trial != self._shown:
            self._clear()
        if self._case is not None:
            ahead: tuple[Path, ...] = ()
            with contextlib.suppress(InputError):  # a missing one is reported when its turn comes
                ahead = self.session.upcoming
            self.shelf.request(self._case.images, ahead)
        self._update()

    def _update(self) -> None:
        """Show what there is to show now."""
        session = self.session
        self.ui.signInSection.visible = session is None
        self.ui.readingSection.visible = session is not None
        reading = session is not None and session.state == READING
        self._shortcuts.enable(self._present and session is not None)
        if session is None:
            return
        self._showImages()
        locked = self._case is not None and self._case.locked
        paused = session.paused
        ready = reading and self._shown is not None and not self._covered and not paused
        self.form.show(ready and not locked)
        ui = self.ui
        ui.progressLabel.text = session.progress if reading else session.message
        ui.progressBar.visible = reading
        if self._case is not None:
            ui.progressBar.maximum, ui.progressBar.value = self._case.total, self._case.number
        rows = (ui.questionsWidget, ui.sliceLabel, ui.windowRow, ui.keysLabel)
        for widget in (*rows, ui.previousButton, ui.nextButton, ui.pauseButton):
            widget.visible = reading
        for widget in (ui.nextButton, ui.previousButton, ui.windowRow):
            widget.enabled = not self._covered and not paused
        ui.pauseButton.text = _("Go on (P)") if paused else _("Pause (P)")
        text = {FINISHED: _("Sign out"), WAITING: _("Begin the next session")}
        ui.goOnButton.text = text.get(session.state, _("Finish the session")) + _("  (Ctrl+Return)")
        ui.goOnButton.visible = not reading or (session.can_finish and not paused)
        ui.signOutButton.visible = session.state != FINISHED
        self._saySlice()
        self._say(locked)

    def _say(self, locked: bool) -> None:
        ui, session = self.ui, self.session
        loading = self._case is not None and self._shown is None and not self._covered
        if self._problem:
            text = self._problem
        elif session.paused:
            text = _("Paused: no image is shown and no time counts. P goes on.")
        elif loading:
            text = _("Loading the images…")
        elif locked:
            text = _("The answers to this case are locked.")
        elif session.state == READING and session.can_finish and self._case.practice:
            text = _("The practice is done. Finish it, and go on to the cases that count.")
        elif session.state == READING and session.can_finish:
            text = _("Every case is read. Finishing locks all answers of this session.")
        else:
            text = self._whatNow()
        ui.statusLabel.styleSheet = styles.failure() if self._problem else ""
        ui.statusLabel.text = text
        self._warn()

    def _whatNow(self) -> str:
        """Return what the reader is to do, while there is something to answer."""
        if self._shown is None or self._covered:
            return ""
        if self.session.missing:
            return _("Answer with the keys 1, 2, …: the row with ▸ takes them.")
        return _("All answered. Page Down goes to the next case.")

    def _saySlice(self) -> None:
        number, count = self.views.position() or (0, 0)
        text = _("Slice {number} of {count}").format(number=number, count=count)
        self.ui.sliceLabel.text = text if count else ""

    def _warn(self) -> None:
        session = self.session
        due = session.break_due if session.state == READING else ""
        others = [one for one in session.warnings if one != due]
        text = " ".join([*([due] if due else []), *others])
        self.ui.warningLabel.styleSheet = styles.warning()
        self.ui.warningLabel.text = text
        self.ui.warningLabel.visible = bool(text)

    def _showImages(self) -> None:
        """Bring the case on the screen, once its images are there and while it may be seen."""
        if not self._present or self._case is None or self._covered:
            self._clear()
            return
        if self.session.paused:
            self.views.blank()
            self._showMarks(False)
            return
        if self._shown == self._case.trial:
            if self.views.unblank():
                self._showMarks(True)
            return
        try:
            images = self.shelf.get(self._case.images)
        except CTEnhanceError as error:
            self.views.blank()
            self._problem = str(error)
            return
        if images is None:
            self.views.blank()  # not the case before, beside the questions on this one
            return
        first = self.session.study.conduct.windows[0]
        self.views.show(images, first.level, first.width)
        self.ui.windowSelector.currentIndex = 0
        self._shown = self._case.trial
        self._showMarks(True)
        self.form.show(True)
        self.form.start()
        self.ui.questionsWidget.setFocus()  # out of any field: digits and letters are keys
        self.session.activity()

    def _clear(self) -> None:
        """Take the images off the screen and out of the scene."""
        self._shown = None
        self._showMarks(False)
        if self._case is None or not self._present or self._covered:
            self.views.remove()

    def _showMarks(self, shown: bool) -> None:
        for row in self._markRows():
            row.showNode(self._case.locked) if shown else row.removeNode()

    def _markRows(self) -> list[MarksRow]:
        return [row for row in self.form.rows if isinstance(row, MarksRow)] if self.form is not None else []

    def _answer(self, question: Question, side: str, value: Any) -> bool:
        session = self.session
        try:
            session.answer(question.id, value, side)
        except CTEnhanceError as error:
            self._tell(error)
            return False
        self._problem = ""
        self._say(False)
        return True

    def _tell(self, error: CTEnhanceError) -> None:
        """Say what was refused; what could not be saved is said so that it cannot be overlooked."""
        self._problem = str(error)
        self._say(False)
        if not isinstance(error, InputError):
            slicer.util.errorDisplay(str(error))

    def _onQuestion(self, question: Question) -> None:
        """Another question is the current one: it may be about a plane."""
        if question.plane and self._shown is not None:
            self.views.turn(question.plane)

    def _onActivity(self) -> None:
        if self.session is not None:
            self.session.activity()
            self._saySlice()

    def _onTick(self) -> None:
        session = self.session
        covered = session.state == READING and session.study.conduct.enforced and bool(session.break_due)
        if covered != self._covered:
            self._covered = covered
            self._update()
        self._warn()

    # Windows -------------------------------------------------------------------------------------------

    def _onPreset(self, index: int) -> None:
        if self._shown is None or not 0 <= index < len(self.session.study.conduct.windows):
            return
        window = self.session.study.conduct.windows[index]
        self.ui.windowSelector.currentIndex = index
        self.views.setWindow(window.level, window.width)
        self._windowNow = (window.level, window.width)
        self._logWindow()

    def _nextWindow(self) -> None:
        count = self.ui.windowSelector.count
        if count:
            self._onPreset((self.ui.windowSelector.currentIndex + 1) % count)

    def _onWindow(self, level: float, width: float) -> None:
        """The user changed the window with the mouse: logged when it rests, or taken back."""
        if self.session is None or self._shown is None:
            return
        conduct = self.session.study.conduct
        if conduct.window_locked:
            window = conduct.windows[max(0, self.ui.windowSelector.currentIndex)]
            self.views.setWindow(window.level, window.width)
            return
        self._windowNow = (level, width)
        self._windowRest.start()

    def _logWindow(self) -> None:
        self._windowRest.stop()
        if self._windowNow is not None and self._shown is not None:
            level, width = self._windowNow
            self._windowNow = None
            try:
                self.session.activity()
                self.session.window(level, width)
            except CTEnhanceError as error:
                self._tell(error)

    # Keys ----------------------------------------------------------------------------------------------

    def _keys(self) -> dict[str, Any]:
        keys: dict[str, Any] = {
            "PgDown": self.next,
            "PgUp": self.previous,
            "Ctrl+Return": self.goOn,
            "Ctrl+Shift+Return": self.signOut,
            "Tab": lambda: self.form.move(1),
            "Shift+Tab": lambda: self.form.move(-1),
            "Escape": self._leaveField,
            **self.views.keys,
            "W": self._nextWindow,
            "M": self._mark,
            "Delete": self._removeMark,
            "P": self.pause,
        }
        for index, key in enumerate(CHOICE_KEYS):
            keys[key] = lambda index=index: self.form.press(index)
        for index in range(MOST_WINDOWS):
            keys[WINDOW_KEY.format(number=index + 1)] = lambda index=index: self._onPreset(index)
        for key, plane in PLANE_KEYS.items():
            keys[key] = lambda plane=plane: self.views.turn(plane)
        return keys

    def _onKey(self, slot: Any) -> None:
        if self.session is not None and (slot == self.pause or not self.session.paused):
            self.session.activity()
            slot()

    def _leaveField(self) -> None:
        self.flush()
        self.ui.questionsWidget.setFocus()

    def _mark(self) -> None:
        """Mark the point below the mouse, or the middle of the view of the current row."""
        rows = {row.viewName: row for row in self._markRows()}
        if not rows or self._shown is None or not self.form.enabled:
            return
        below = cursor()
        if below is not None and below[0] in rows:
            rows[below[0]].add(below[1])
            return
        row = self.form.current if isinstance(self.form.current, MarksRow) else next(iter(rows.values()))
        row.add(middle(row.viewName))

    def _removeMark(self) -> None:
        if self.form.enabled and isinstance(self.form.current, MarksRow):
            self.form.current.removeChosen()
