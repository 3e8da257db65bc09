"""How a study is read: sessions, washout, breaks, locking and windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ctenhance.runtime.errors import InputError
from ctenhance.study.fields import Fields

PRESENT = ("pair", "single")
RULES = ("warn", "enforce")
LOCKS = ("case", "session")
HIGHEST_HU = 32767.0


@dataclass(frozen=True)
class Window:
    """A grey-scale window that readers may choose; level and width in HU."""

    name: str
    level: float
    width: float


@dataclass(frozen=True)
class Conduct:
    """The rules of reading.

    present              `pair`: two images side by side; `single`: one image at a time
    sessions             in how many sittings the cases are read (repeats come in one more)
    washout_days         the least time between the end of a session and the start of the next
    break_every_minutes  of active reading, after which a break is due; 0: never
    break_minutes        how long a break lasts
    rules                `warn` or `enforce`: what happens when washout or a break is not kept
    lock                 `case`: answers cannot be changed once the next case is asked for; `session`: once
                         the session is finished
    windows              the window presets; the first is the one at the start
    window_locked        whether readers may only use these; otherwise every change is logged
    """

    present: str = "pair"
    sessions: int = 1
    washout_days: float = 0.0
    break_every_minutes: float = 0.0
    break_minutes: float = 10.0
    rules: str = "warn"
    lock: str = "session"
    windows: tuple[Window, ...] = ()
    window_locked: bool = False

    @classmethod
    def parse(cls, fields: Fields, default_present: str = "pair") -> Conduct:
        """Take the rules from an object's fields; raises InputError naming the one that is wrong."""
        windows = fields.take("windows", list, [])
        return cls(
            present=fields.one_of("present", PRESENT, default_present),
            sessions=fields.number("sessions", 1, 100, 1, kind=int),
            washout_days=fields.number("washout_days", 0, 3650, 0.0),
            break_every_minutes=fields.number("break_every_minutes", 0, 1440, 0.0),
            break_minutes=fields.number("break_minutes", 0, 1440, 10.0),
            rules=fields.one_of("rules", RULES, "warn"),
            lock=fields.one_of("lock", LOCKS, "session"),
            windows=tuple(_window(one, f"Window {count}") for count, one in enumerate(windows, start=1))
            or default_windows(),
            window_locked=fields.take("window_locked", bool, False),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields that `parse` takes."""
        return {
            "present": self.present,
            "sessions": self.sessions,
            "washout_days": self.washout_days,
            "break_every_minutes": self.break_every_minutes,
            "break_minutes": self.break_minutes,
            "rules": self.rules,
            "lock": self.lock,
            "windows": [{"name": one.name, "level": one.level, "width": one.width} for one in self.windows],
            "window_locked": self.window_locked,
        }

    @property
    def enforced(self) -> bool:
        """Whether washout and breaks must be kept."""
        return self.rules == "enforce"


def default_windows() -> tuple[Window, ...]:
    """Return the windows that the project's pictures use: soft tissue first, lung, bone."""
    from ctenhance.core.windows import PRESET_NAMES, PRESETS

    return tuple(Window(PRESET_NAMES[key], *PRESETS[key]) for key in ("soft", "lung", "bone"))


def _window(values: Any, where: str) -> Window:
    fields = Fields(values, where)
    window = Window(
        fields.take("name", str),
        fields.number("level", -HIGHEST_HU, HIGHEST_HU),
        fields.take("width", float),
    )
    fields.done()
    if not 0 < window.width <= 2 * HIGHEST_HU:
        raise InputError(f"'width' in {where} must be above 0 HU, but it is {window.width:g}.")
    return window
