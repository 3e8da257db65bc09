"""After minus before, at the strength that is shown: HU, sources where a view looks, on diverging colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from CTEnhanceLib.scene import colortables, placing, units
from CTEnhanceLib.views.colorscale import ColorScale
from CTEnhanceLib.views.liveslices import LiveSlices


class LiveDifference(LiveSlices):
    """`setting` is the strength: a voxel reads that part of the full effect."""

    def __init__(self, before: Any, after: Any, name: str, strength: float) -> None:
        super().__init__(before, name, strength)
        self._sources = [slicer.util.arrayFromVolume(node) for node in (before, after)]
        self.display.SetAndObserveColorNodeID(colortables.differences().GetID())
        units.setUnits(self.node, units.ATTENUATION)

    def sources(self) -> Sequence[np.ndarray]:
        """Return before and after."""
        return self._sources

    def values(self, samples: Sequence[np.ndarray]) -> np.ndarray:
        """Return their difference as float32."""
        before, after = (each.astype(np.float32) for each in samples)
        return np.float32(self.setting) * (after - before)


class DifferenceView:
    """The difference of a result in one slice widget, with the scale of its colours."""

    def __init__(self) -> None:
        self._live: LiveDifference | None = None
        self._sources: tuple[Any, ...] = ()
        self._scale: ColorScale | None = None

    def show(self, widget: Any, result: Any, strength: float, hounsfield: float) -> Any:
        """Make the difference that the widget looks at, with full colour at so many HU; return its node.

        Raises MemoryError when there is no room.
        """
        before, full = placing.inputOf(result), placing.fullEffectOf(result)
        after, strength = (result, 1.0) if full is None else (full, strength)
        sources = tuple((node.GetID(), node.GetImageData().GetMTime()) for node in (before, after))
        if self._live is None or sources != self._sources:
            self.remove()
            name = _("{name} difference").format(name=result.GetName())
            self._live, self._sources = LiveDifference(before, after, name, strength), sources
            self._scale = ColorScale(
                widget.sliceView(), colortables.differences(), -hounsfield, hounsfield, "%.0f HU"
            )
        self._live.display.SetWindowLevel(2 * hounsfield, 0.0)
        if self._scale is not None:
            self._scale.setRange(-hounsfield, hounsfield)
        self._live.setting = strength
        self._live.show([widget.mrmlSliceNode()])
        return self._live.node

    def follow(self, sliceNode: Any) -> None:
        """Make what the view looks at now, as it is shown already."""
        if self._live is not None:
            self._live.show([sliceNode])

    def remove(self) -> None:
        """Take it out of the view and of the scene."""
        if self._scale is not None:
            self._scale.remove()
        if self._live is not None:
            self._live.remove()
        self._live, self._scale = None, None
