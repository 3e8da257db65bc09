"""The keys that move a region and change its size, for who has no mouse."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from CTEnhanceLib.measure import shapes
from CTEnhanceLib.views.linked import sliceWidget

# By one press: the part of a view's width that a region moves, and the factor of its size.
_MOVE, _STEP = 0.01, 1.1
_WAYS = {"Left": (-1, 0), "Right": (1, 0), "Up": (0, 1), "Down": (0, -1)}


def regionKeys(
    region: Callable[[], Any], view: Callable[[], str]
) -> dict[str, tuple[str, Callable[[], None]]]:
    """Return keys as `views.keys.Keys` takes them; region(): the markup, None: there is none; view(): the
    name of the slice view in whose plane it moves."""

    def move(right: float, up: float) -> None:
        node, widget = region(), sliceWidget(view())
        if node is not None and widget is not None:
            plane = widget.mrmlSliceNode()
            axes = slicer.util.arrayFromVTKMatrix(plane.GetSliceToRAS())[:3, :2]
            shapes.move(node, axes @ (right, up) * plane.GetFieldOfView()[0] * _MOVE)

    def enlarge(factor: float) -> None:
        node = region()
        if node is not None:
            shapes.enlarge(node, factor)

    sizing = _("Enlarge or shrink the chosen region")
    return {
        **{
            f"Shift+{key}": (_("Move the chosen region"), functools.partial(move, *way))
            for key, way in _WAYS.items()
        },
        "Shift+PgUp": (sizing, functools.partial(enlarge, _STEP)),
        "Shift+PgDown": (sizing, functools.partial(enlarge, 1 / _STEP)),
    }
