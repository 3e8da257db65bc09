"""To what part a view was fitted, so that it can be fitted again when its size changes, and only then.

Slicer lays views out when it comes to it, and keeps their height in millimetres then: where a view becomes
narrower its image is cut.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from CTEnhanceLib.views import slices
from CTEnhanceLib.views.part import Part

# Of what is seen: less is rounding, not the reader.
_SAME = 1e-3


@dataclass(frozen=True)
class Fitted:
    """The part that a view was asked for, its size then (pixels), and the place that it showed (RAS, mm).

    `axes` [3, 3] and `centre`: the plane's axes as columns, and the middle of what was seen; `extent`: how
    much, across and down.
    """

    part: Part
    size: tuple[int, int]
    axes: np.ndarray
    centre: np.ndarray
    extent: tuple[float, float]

    @classmethod
    def now(cls, node: Any, part: Part) -> Fitted:
        """Return a slice node's state, which has just been fitted to this part."""
        return cls(part, _size(node), *_place(node))

    def isResized(self, node: Any) -> bool:
        """Say whether the view has another size by now."""
        return self.size != _size(node)

    def isMoved(self, node: Any) -> bool:
        """Say whether the view was zoomed, moved or turned since; scrolling does not count."""
        axes, centre, extent = _place(node)
        aside = np.abs(self.axes[:, :2].T @ (centre - self.centre))
        zoomed = not np.allclose(extent, self.extent, rtol=_SAME)
        return (
            zoomed
            or not np.allclose(axes, self.axes, atol=_SAME)
            or bool((aside > _SAME * min(extent)).any())
        )

    def withSize(self, node: Any) -> Fitted:
        """Return the same for the size that the view has now."""
        return dataclasses.replace(self, size=_size(node))

    def scrolled(self, node: Any) -> Part:
        """Return the part in the slice to which the view was scrolled since."""
        normal = self.axes[:, 2]
        way = float(normal @ (_place(node)[1] - self.centre))
        return dataclasses.replace(self.part, centre=self.part.centre + way * normal)


def _size(node: Any) -> tuple[int, int]:
    columns, rows = node.GetDimensions()[:2]
    return columns, rows


def _place(node: Any) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Return a slice node's axes, the middle of what it shows, and how much that is."""
    frame = slices.axes(node)
    width, height, _depth = node.GetFieldOfView()
    return frame[:, :3], frame[:, 3], (width, height)
