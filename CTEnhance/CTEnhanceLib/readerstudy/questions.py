"""The questions of a study as widgets: one row for each answer, all of them to be given by keyboard alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from ctenhance.study.questions import Question
from CTEnhanceLib.panel import styles
from CTEnhanceLib.process.steps import restTimer
from CTEnhanceLib.views import scrolling

# The key of the first answer, of the second, ...; a scale has at most so many points.
CHOICE_KEYS = "1234567890-"
# Answers of so few letters stand on their buttons, longer ones in a line below the question.
_SHORT = 12
_BUTTON_WIDTH = 24
_TEXT_MILLISECONDS = 1000

Answer = Callable[[Question, str, Any], bool]
"""Saves an answer (None is never given) and says whether it was taken."""


def sideText(side: str) -> str:
    """Return the name of a side for people; empty where there is only one."""
    return {"left": _("Left"), "right": _("Right")}.get(side, "")


class Row:
    """One answer: to one question, for one side. `widget` is what is shown of it."""

    def __init__(self, question: Question, side: str, answer: Answer) -> None:
        self.question, self.side, self._answer = question, side, answer
        # Called when the user has answered; True: all that there is to answer here.
        self.onUsed: Callable[[Row, bool], None] = lambda row, complete: None
        self.widget = qt.QWidget()
        self.line = qt.QHBoxLayout(self.widget)
        self.line.setContentsMargins(0, 0, 0, 0)
        self._label = qt.QLabel(sideText(side))
        self._label.minimumWidth = 56
        self.line.addWidget(self._label)

    def setCurrent(self, current: bool) -> None:
        """Mark it as the one that the keys are for."""
        self._label.text = ("▸ " if current else "") + sideText(self.side)
        self._label.styleSheet = styles.current() if current else ""

    def set(self, value: Any) -> None:
        """Show an answer; None: there is none yet."""
        raise NotImplementedError

    def press(self, index: int) -> None:
        """Take the key `CHOICE_KEYS[index]`."""

    def focus(self) -> None:
        """Let the user type, where there is something to type into."""

    def flush(self) -> None:
        """Save what was typed and is not saved yet."""


class ChoiceRow(Row):
    """Buttons, one for each possible answer."""

    def __init__(self, question: Question, side: str, answer: Answer) -> None:
        super().__init__(question, side, answer)
        self._buttons = []
        short = isShort(question)
        for index, (_value, words) in enumerate(question.choices):
            button = qt.QPushButton(f"{CHOICE_KEYS[index]}  {words}" if short else CHOICE_KEYS[index])
            button.checkable = True
            button.toolTip = _("{words} (key {key})").format(words=words, key=CHOICE_KEYS[index])
            button.focusPolicy = qt.Qt.NoFocus
            if not short:
                button.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)
                button.minimumWidth = _BUTTON_WIDTH
            button.connect("clicked()", functools.partial(self.press, index))
            self.line.addWidget(button)
            self._buttons.append(button)
        styles.prepareWidgets(self._buttons)

    def set(self, value: Any) -> None:
        """Show which button was pressed."""
        for button, (own, _words) in zip(self._buttons, self.question.choices, strict=True):
            button.checked = value is not None and value == own

    def press(self, index: int) -> None:
        """Give this answer."""
        if index < len(self._buttons):
            taken = self._answer(self.question, self.side, self.question.choices[index][0])
            self.onUsed(self, taken)


class NumberRow(Row):
    """A field for a number."""

    def __init__(self, question: Question, side: str, answer: Answer) -> None:
        super().__init__(question, side, answer)
        self._shown = ""
        self.edit = qt.QLineEdit()
        self.edit.placeholderText = _("{low:g} to {high:g}").format(low=question.low, high=question.high)
        self.edit.connect("editingFinished()", self.flush)
        self.edit.connect("returnPressed()", self._onReturn)
        self.line.addWidget(self.edit)

    def set(self, value: Any) -> None:
        """Show the number."""
        self._shown = "" if value is None else f"{value:g}"
        self.edit.text = self._shown

    def press(self, index: int) -> None:
        """Begin to type."""
        self.edit.setFocus()
        self.edit.text = CHOICE_KEYS[index]

    def focus(self) -> None:
        """Let the user type."""
        self.edit.setFocus()
        self.edit.selectAll()

    def flush(self) -> None:
        """Save the number, as far as it is another one."""
        text = self.edit.text.strip().replace(",", ".")
        if text == self._shown or not text:
            self.edit.text = self._shown
            return
        try:
            value: Any = float(text)
        except ValueError:
            value = text  # the study says in a sentence why it does not take this
        self._answer(self.question, self.side, value)

    def _onReturn(self) -> None:
        self.flush()
        self.edit.clearFocus()  # letters are keys again
        self.onUsed(self, self._shown != "")


class TextRow(Row):
    """A field for some lines; saved when the typing rests."""

    def __init__(self, question: Question, side: str, answer: Answer) -> None:
        super().__init__(question, side, answer)
        self._shown = ""
        self.edit = qt.QPlainTextEdit()
        self.edit.maximumHeight = 64
        self.edit.tabChangesFocus = True
        self.line.addWidget(self.edit)
        self._rest = restTimer(_TEXT_MILLISECONDS, self.flush, self.widget)
        self.edit.connect("textChanged()", self._onText)

    def set(self, value: Any) -> None:
        """Show the text."""
        self._shown = value or ""
        if self.edit.plainText != self._shown:
            self.edit.setPlainText(self._shown)
        self._rest.stop()

    def focus(self) -> None:
        """Let the user type."""
        self.edit.setFocus()

    def flush(self) -> None:
        """Save the text, if it is another one."""
        self._rest.stop()
        text = self.edit.plainText
        if text != self._shown:
            self._shown = text
            self._answer(self.question, self.side, text)

    def _onText(self) -> None:
        if self.edit.plainText != self._shown:
            self._rest.start()


def _wrapped(text: str) -> Any:
    """Return a label that takes the width it gets: Slicer's panel is as wide as the widest asks for, and the
    room is for the images."""
    label = qt.QLabel(text)
    label.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Preferred)
    label.wordWrap = True  # after the policy, which would make it one line high
    return label


def isShort(question: Question) -> bool:
    """Say whether the answers' words are short enough for their buttons."""
    choices = question.choices
    return len(choices) <= 3 and all(len(words) <= _SHORT for _value, words in choices)


class QuestionForm:
    """All rows, below each other in `layout`. One is the current one: the keys are for it.

    `standing()` returns the answers to this case as they stand, by (question, side); `answer` saves one.
    `special` makes the rows of kinds that are no plain widgets (marks): kind -> function of question, side
    and answer. `onCurrent(question)`: the keys are for this one now.
    """

    def __init__(
        self,
        layout: Any,
        asked: Sequence[tuple[Question, str]],
        standing: Callable[[], Mapping[tuple[str, str], Any]],
        answer: Answer,
        special: Mapping[str, Callable[[Question, str, Answer], Row]],
        onCurrent: Callable[[Question], None],
    ) -> None:
        self._onCurrent = onCurrent
        self._layout, self._standing, self._save = layout, standing, answer
        self.rows: list[Row] = []
        self._current = 0
        self._box = qt.QWidget()
        column = qt.QVBoxLayout(self._box)
        column.setContentsMargins(0, 0, 0, 0)
        makers = {"number": NumberRow, "text": TextRow, **special}
        for question, side in asked:
            if not self.rows or self.rows[-1].question is not question:
                self._addHeading(column, question)
            row = makers.get(question.kind, ChoiceRow)(question, side, self._answer)
            row.onUsed = self._onUsed
            column.addWidget(row.widget)
            self.rows.append(row)
        layout.addWidget(self._box)

    @property
    def current(self) -> Row:
        """The row that the keys are for."""
        return self.rows[self._current]

    @property
    def enabled(self) -> bool:
        """Whether answers are taken now."""
        return self._box.enabled

    def show(self, enabled: bool) -> None:
        """Show the answers as they stand, and take others or not."""
        self._box.enabled = enabled
        given = self._standing()
        for row in self.rows:
            row.set(given.get((row.question.id, row.side)))
        self._mark()

    def start(self) -> None:
        """Make the first row the current one that lacks its answer."""
        self._become(self._firstMissing())

    def press(self, index: int) -> None:
        """Give the key to the current row."""
        if self.enabled:
            self.current.press(index)

    def move(self, rows: int) -> None:
        """Make the next row (or the one before) the current one."""
        self._become((self._current + rows) % len(self.rows))
        if isinstance(self.current, TextRow):
            self.current.focus()

    def flush(self) -> None:
        """Save all that was typed."""
        for row in self.rows:
            row.flush()

    def remove(self) -> None:
        """Take the widgets out of the panel."""
        self._layout.removeWidget(self._box)
        self._box.hide()
        self._box.deleteLater()

    def _addHeading(self, column: Any, question: Question) -> None:
        text = "{text}" if question.required else _("{text} (optional)")
        # No style sheet: with one it would not follow the panel's colours.
        heading = _wrapped(text.format(text=question.text))
        font = heading.font
        font.setBold(True)
        heading.font = font
        column.addWidget(heading)
        if question.choices and not isShort(question):
            words = "  ·  ".join(
                f"{key} {text}".replace(" ", "\u00a0")  # no break within an answer
                for key, (_value, text) in zip(CHOICE_KEYS, question.choices, strict=False)
            )
            column.addWidget(_wrapped(words))

    def _answer(self, question: Question, side: str, value: Any) -> bool:
        row = next(one for one in self.rows if (one.question, one.side) == (question, side))
        taken = self._save(question, side, value)
        row.set(self._standing().get((question.id, side)))
        return taken

    def _onUsed(self, row: Row, complete: bool) -> None:
        index = self.rows.index(row)
        self._become(self._firstMissing(index) if complete else index)

    def _firstMissing(self, otherwise: int = 0) -> int:
        given = self._standing()
        for index, row in enumerate(self.rows):
            if row.question.required and (row.question.id, row.side) not in given:
                return index
        return otherwise

    def _become(self, index: int) -> None:
        self._current = index
        self._mark()
        scrolling.bringUp(self.current.widget)
        self._onCurrent(self.current.question)

    def _mark(self) -> None:
        for index, row in enumerate(self.rows):
            row.setCurrent(index == self._current)
