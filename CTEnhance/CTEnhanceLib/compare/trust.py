"""The trust map of a result: the error that is to be expected, laid over the views that show the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer

from CTEnhanceLib.scene import colortables, placing
from CTEnhanceLib.scene.windows import sparse
from CTEnhanceLib.views.colorscale import ColorScale
from CTEnhanceLib.views.linked import sliceWidget

OPACITY = 0.5


def suggestedRange(result: Any) -> float | None:
    """Return the HU at which the colours show what stands out of a result's trust map; None: it has none."""
    node = placing.trustMapOf(result)
    if node is None:
        return None
    values = slicer.util.arrayFromVolume(node)
    some = values[sparse(values.shape)]
    some = some[some > 0]  # the patient
    return 50.0 if not some.size else float(max(5, 5 * round(float(np.percentile(some, 99)) / 5)))


class TrustOverlay:
    """The map over views, and in each of them the scale of its colours, from 0 to `setRange`."""

    def __init__(self) -> None:
        self.shown = False
        self._range = 50.0
        self._scales: dict[str, ColorScale] = {}

    def setRange(self, hounsfield: float) -> None:
        """Reach full colour at this expected error."""
        self._range = hounsfield

    def over(self, result: Any) -> Any:
        """Return the node to lay over this result, with its colours; None: none is to be shown."""
        node = placing.trustMapOf(result) if self.shown else None
        if node is not None:
            display = node.GetDisplayNode()
            with slicer.util.NodeModify(display):
                display.SetAndObserveColorNodeID(colortables.trust().GetID())
                display.SetAutoWindowLevel(False)
                display.SetWindowLevel(self._range, self._range / 2)
        return node

    def scale(self, views: Sequence[str]) -> None:
        """Have the scale in these views and in no other."""
        for name in set(self._scales) - set(views):
            self._scales.pop(name).remove()
        for name in views:
            widget = sliceWidget(name)
            if name in self._scales:
                self._scales[name].setRange(0.0, self._range)
            elif widget is not None:
                colors = colortables.trust()
                self._scales[name] = ColorScale(widget.sliceView(), colors, 0.0, self._range, "±%.4g HU")
