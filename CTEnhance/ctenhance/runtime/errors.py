"""The failures that a user can act on."""

from __future__ import annotations


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
