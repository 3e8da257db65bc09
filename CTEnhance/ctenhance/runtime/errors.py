"""The failures that a user can act on."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ctenhance.runtime.words import either


class CTEnhanceError(Exception):
    """A failure the user can act on; `str()` is one sentence saying what, where and what to do."""


class InputError(CTEnhanceError):
    """The given data or settings cannot be used."""


class NotCTError(InputError):
    """The image is whole, and says itself that it is no CT but a map of something else."""


class SeveralSeriesError(InputError):
    """A folder holds several series; `series` has the number of each, and what it is in words."""

    def __init__(self, message: str, series: list[tuple[int, str]]) -> None:
        super().__init__(message)
        self.series = series


class Cancelled(CTEnhanceError):  # noqa: N818 (a request that was honoured, not an error)
    """The user asked to stop; nothing half-written is left behind."""

    def __init__(self, message: str = "Cancelled; no output was written.") -> None:
        super().__init__(message)


def require_one_of(name: str, known: Collection[str], what: str) -> None:
    """Raise InputError for a name that is none of the known ones of `what` ('reconstruction kernel')."""
    if name not in known:
        raise InputError(f"There is no {what} '{name}': choose {either(known)}.")


def printable(text: str) -> str:
    """Return a text on one line, without what a terminal would take for a command."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def quoted(value: Any) -> str:
    """Return a value from a file in quotes, short and on one line, for a sentence."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return f"'{' '.join(printable(text).split())[:40]}'"
