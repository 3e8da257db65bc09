"""Time: how long somebody really looked, and whether a session may begin yet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ctenhance.runtime.words import counted

IDLE_AFTER_S = 60.0
DAY_S = 86_400.0


class ActivityTimer:
    """Adds up active seconds from signs of activity ('pings': a key, the mouse, a scroll).

    The time between two pings counts up to `idle_after_s`; a longer silence counts as so much only.
    `since_break` adds up likewise and starts again after a silence of `break_s`.
    """

    def __init__(
        self, tick: Callable[[], float], idle_after_s: float = IDLE_AFTER_S, break_s: float = float("inf")
    ) -> None:
        self._tick = tick
        self._idle_after = idle_after_s
        self._break = break_s
        self._last = tick()
        self.active = 0.0
        self.since_break = 0.0

    def ping(self) -> float:
        """Take a sign of activity; return the active seconds so far."""
        now = self._tick()
        silence = max(0.0, now - self._last)
        counted = min(silence, self._idle_after)
        self.active += counted
        self.since_break = 0.0 if silence >= self._break else self.since_break + counted
        self._last = now
        return self.active

    def resume(self) -> None:
        """Go on after a pause, none of which counts; one that is long enough is a break."""
        now = self._tick()
        if now - self._last >= self._break:
            self.since_break = 0.0
        self._last = now

    def silence(self) -> float:
        """Return the seconds since the last ping."""
        return max(0.0, self._tick() - self._last)

    def start(self, active: float) -> None:
        """Begin with another case, of which so many active seconds are known already."""
        self.ping()
        self.active = active


def washout_sentence(session: int, ended: float | None, days: float, now: float) -> str:
    """Return a sentence when less than `days` have passed since the session before `ended`, else ''.

    Times are seconds since 1970; `ended` is None where there was no session before.
    """
    if ended is None or now >= ended + days * DAY_S:
        return ""
    when = datetime.fromtimestamp(ended + days * DAY_S).strftime("%Y-%m-%d %H:%M")
    return (
        f"Session {session} should not begin before {when}, {counted(float(days), 'day')} after the last "
        "one; please come back then."
    )
