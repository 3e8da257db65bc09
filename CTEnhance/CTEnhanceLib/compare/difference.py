"""Second minus first, at the strength that is shown: HU, made where a view looks, on diverging colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from ctenhance.core.blend import blend
from CTEnhanceLib.compare.pair import Pair
from CTEnhanceLib.scene import colortables, placing, units
from CTEnhanceLib.views.colorscale import ColorScale
from CTEnhanceLib.views.liveslices import LiveSlices


class LiveDifference(LiveSlices):
    """The difference of a pair; `setting` is the strength of its result, where that can be chosen."""

    def __init__(self, pair: Pair, name: str, strength: float) -> None:
        super().__init__(pair.result, name, strength)
        before, full = _effect(pair.result)
        self._sign = np.float32(-1 if pair.swapped else 1)
        self._ofInput, self._blends = pair.ofInput, full is not None
        nodes = [pair.other] if full is None or not pair.ofInput else []
        nodes += [pair.result] if full is None else [before, full]
        self._sources = [slicer.util.arrayFromVolume(node) for node in nodes]
        self.display.SetAndObserveColorNodeID(colortables.differences().GetID())
        units.setUnits(self.node, units.ATTENUATION)

    def sources(self) -> Sequence[np.ndarray]:
        """Return what it is made of: the other one unless that is the input; the result, or the input and
        the full effect of which it is blended."""
        return self._sources

    def values(self, samples: Sequence[np.ndarray]) -> np.ndarray:
        """Return their difference as float32."""
        parts = [each.astype(np.float32) for each in samples]
        if not self._blends:
            return self._sign * (parts[1] - parts[0])
        if self._ofInput:
            return self._sign * np.float32(self.setting) * (parts[1] - parts[0])
        return self._sign * (blend(parts[1], parts[2], self.setting) - parts[0])


def _effect(result: Any) -> tuple[Any, Any]:
    """Return input and full effect of a result, where its strength can be chosen, or None twice."""
    before, full = placing.inputOf(result), placing.fullEffectOf(result)
    return (before, full) if before is not None and full is not None else (None, None)


class DifferenceView:
    """The difference of a pair in one slice widget, with the scale of its colours."""

    def __init__(self) -> None:
        self._live: LiveDifference | None = None
        self._sources: tuple[Any, ...] = ()
        self._scale: ColorScale | None = None

    def show(self, widget: Any, pair: Pair, strength: float, hounsfield: float) -> Any:
        """Make the difference that the widget looks at, with full colour at so many HU; return its node.

        Raises MemoryError when there is no room.
        """
        nodes = [pair.other, pair.result, *_effect(pair.result)]
        sources = (
            pair,
            *((node.GetID(), node.GetImageData().GetMTime()) for node in nodes[:1] + nodes[2:] if node),
        )
        if nodes[3] is None:  # else its voxels follow the strength, and are not looked at
            sources += (pair.result.GetImageData().GetMTime(),)
        if self._live is None or sources != self._sources:
            self.remove()
            name = _("{name} difference").format(name=pair.result.GetName())
            self._live, self._sources = LiveDifference(pair, name, strength), sources
            self._scale = ColorScale(
                widget.sliceView(), colortables.differences(), -hounsfield, hounsfield, "%.4g HU"
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
