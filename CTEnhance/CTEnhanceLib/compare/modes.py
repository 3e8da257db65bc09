"""In which views two volumes are compared: side by side, in three planes, with the difference, in one."""

from __future__ import annotations

import enum
from collections.abc import Iterator

from slicer.i18n import tr as _

from CTEnhanceLib.views.part import AXES
from CTEnhanceLib.views.view import FREE_VIEWS, View, description

BEFORE_VIEW, AFTER_VIEW, DIFFERENCE_VIEW, _NONE = FREE_VIEWS
BEFORE_COLOR, AFTER_COLOR, DIFFERENCE_COLOR = "#8C8C8C", "#4CA64C", "#C26BB3"


class Side(enum.Enum):
    """What a view shows: the first of the two, the second, or second minus first."""

    FIRST = BEFORE_VIEW
    SECOND = AFTER_VIEW
    DIFFERENCE = DIFFERENCE_VIEW


class Mode(enum.Enum):
    """What is shown: the value is the number of the layout."""

    SIDE_BY_SIDE = 7101
    WITH_DIFFERENCE = 7102
    FADE = 7103
    PLANES = 7104
    SWIPE = 7105

    def text(self) -> str:
        """Return the mode's name for people."""
        return {
            Mode.SIDE_BY_SIDE: _("Side by side"),
            Mode.WITH_DIFFERENCE: _("Side by side and difference"),
            Mode.FADE: _("Fade or flicker in one view"),
            Mode.PLANES: _("Side by side in three planes"),
            Mode.SWIPE: _("Swipe in one view"),
        }[self]

    @property
    def rows(self) -> int:
        """In how many rows its views are; 0: as many as the window's width asks for."""
        return 2 if self is Mode.PLANES else 0

    @property
    def single(self) -> bool:
        """Whether both are in one view."""
        return self in (Mode.FADE, Mode.SWIPE)

    def places(self, names: tuple[str, str] | None = None) -> tuple[tuple[Side, View], ...]:
        """Return what is shown, and in which views, row by row; `names` are those of first and second."""
        first, second = names or (_("Before"), _("After"))
        before = Side.FIRST, View(BEFORE_VIEW, first, BEFORE_COLOR)
        after = Side.SECOND, View(AFTER_VIEW, second, AFTER_COLOR)
        change = Side.DIFFERENCE, View(DIFFERENCE_VIEW, _("Difference"), DIFFERENCE_COLOR, signed=True)
        if self is Mode.PLANES:
            return tuple(
                (side, View(f"{view.name}{axis}", view.label, view.color, axis))
                for side, view in (before, after)
                for axis in AXES[::-1]
            )
        return {
            Mode.SIDE_BY_SIDE: (before, after),
            Mode.WITH_DIFFERENCE: (before, after, change),
        }.get(self, (after,))

    def views(self, names: tuple[str, str] | None = None) -> tuple[View, ...]:
        """Return the mode's views, row by row."""
        return tuple(view for _side, view in self.places(names))


def allViews() -> list[View]:
    """Return the views of all modes, each once, those that are shown first in front."""
    found = {view.name: view for mode in Mode for view in mode.views()}
    return list(found.values())


# Added to the number of a layout with something below the views.
WITH_PLOT = 10


def layouts(below: str = "") -> Iterator[tuple[int, str]]:
    """Yield number and description of every layout that a comparison may need."""
    for mode in Mode:
        for number, under in ((mode.value, ""), (mode.value + WITH_PLOT, below)):
            yield number, description(mode.views(), mode.rows or 1, under)
