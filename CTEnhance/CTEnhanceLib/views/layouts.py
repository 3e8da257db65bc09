"""The panels' layouts: known to Slicer from its start on (see `layoutkeeper`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import slicer

from CTEnhanceLib.views.layoutkeeper import keeper

Layouts = Callable[[], Iterable[tuple[int, str]]]


def atStartup(*layouts: Layouts) -> None:
    """Have Slicer know a panel's layouts as soon as it has started; each module asks for its own.

    layouts - each gives the number and the description of every layout that it may show
    """
    slicer.app.connect("startupCompleted()", lambda: _begin(layouts))


def _begin(layouts: Iterable[Layouts]) -> None:
    if slicer.app.layoutManager() is not None:  # else started without a window
        keeper.begin(one for each in layouts for one in each())
