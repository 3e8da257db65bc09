"""Words of sentences that depend on a number."""

from __future__ import annotations

from collections.abc import Iterable


def noun(number: float, one: str, several: str = "") -> str:
    """Return the noun after a number: `one` after 1, else `several` (by itself `one` with an s)."""
    return one if number == 1 else several or f"{one}s"


def counted(number: float, one: str, several: str = "") -> str:
    """Return a number with its noun: '1 reader', '12 readers', '1.5 minutes'."""
    shown = f"{number:g}" if isinstance(number, float) else str(number)
    return f"{shown} {noun(number, one, several)}"


def either(words: Iterable[str]) -> str:
    """Return what may be chosen, as sentences list it: 'a', 'a or b', 'a, b or c'."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
