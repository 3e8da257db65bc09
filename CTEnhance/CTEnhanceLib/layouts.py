"""The layouts of all panels: known to Slicer from its start on (see `layoutkeeper`)."""

from __future__ import annotations

import slicer

from CTEnhanceLib.layoutkeeper import keeper


def atStartup() -> None:
    """Have Slicer know all panels' layouts as soon as it has started; each module asks for it."""
    slicer.app.connect("startupCompleted()", _begin)


def _begin() -> None:
    if slicer.app.layoutManager() is not None:  # else started without a window
        keeper.begin(_all())


def _all() -> list[tuple[int, str]]:
    """Return number and description of every panel's layouts."""
    from CTEnhanceLib import compare, readerstudyviews, spectralviews, stages, views

    plain = [(mode.value, mode.views()) for mode in compare.Mode]
    plain += [*stages.layouts(), *readerstudyviews.layouts()]
    return [*((number, views.description(shown)) for number, shown in plain), *spectralviews.layouts()]
