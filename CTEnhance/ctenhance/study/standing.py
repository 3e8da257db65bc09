"""What a reader's rows amount to: the answers as they stand, what is done and locked, and the time spent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ctenhance.study.records import Row

OPEN, SHOW, LEAVE, ANSWER, DONE = "open", "show", "leave", "answer", "done"
FINISH, WINDOW, NOTE = "finish", "window", "note"
PAUSE, RESUME = "pause", "resume"

Asked = tuple[int, str, str]
"""A trial's number, a question's id, and 'left', 'right', 'image' or 'pair'."""


@dataclass
class Given:
    """An answer as it stands: its value, the first one given, and how often it was changed."""

    value: Any
    first: Any
    changes: int
    time: float


@dataclass
class Standing:
    """The state that a reader's rows lead to."""

    answers: dict[Asked, Given] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    finished: dict[int, float] = field(default_factory=dict)
    active: dict[int, float] = field(default_factory=dict)
    shown: int | None = None
    started: dict[int, float] = field(default_factory=dict)
    since_break: float = 0.0
    last_time: float | None = None

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Standing:
        """Return the state after the rows."""
        standing = cls()
        for row in rows:
            standing.take(row)
        return standing

    def take(self, row: Row) -> None:
        """Go on by one row."""
        data = row.data
        if row.kind == SHOW:
            self.shown = data["trial"]
            self.started.setdefault(data["session"], row.time)
        elif row.kind == ANSWER:
            asked = (data["trial"], data["question"], data["side"])
            before = self.answers.get(asked)
            if before is None:
                self.answers[asked] = Given(data["value"], data["value"], 0, row.time)
            else:
                changed = before.changes + (data["value"] != before.value)
                self.answers[asked] = Given(data["value"], before.first, changed, row.time)
        elif row.kind == DONE:
            self.done.add(data["trial"])
        elif row.kind == FINISH:
            self.finished[data["session"]] = row.time
        if "active_s" in data:
            self.active[data["trial"]] = data["active_s"]
        if "since_break_s" in data:
            self.since_break = data["since_break_s"]
        self.last_time = row.time
