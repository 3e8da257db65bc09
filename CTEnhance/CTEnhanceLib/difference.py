"""The map of after minus before, computed once for a result and in turns, and its diverging colours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from CTEnhanceLib import placing, volumes
from CTEnhanceLib.steps import TimedSteps

COLORS_TAG = "CTEnhanceDiverging"
# Which voxels a difference map was computed from.
_STAMP = "CTEnhanceVoxels"
_INT16 = np.iinfo(np.int16)


class DifferenceMap:
    """Has the map of a result computed where it is not there yet; then calls `onReady()`."""

    def __init__(self, onReady: Callable[[], None]) -> None:
        self._onReady = onReady
        self._steps: TimedSteps | None = None

    @property
    def busy(self) -> bool:
        """Whether it is being computed."""
        return self._steps is not None

    def cancel(self) -> None:
        """Drop what is being computed."""
        if self._steps is not None:
            self._steps.cancel()
        self._steps = None

    def request(self, result: Any) -> None:
        """Have the difference of this result, as hidden node `placing.differenceOf(result)`."""
        before, full = placing.inputOf(result), placing.fullEffectOf(result)
        node = placing.differenceOf(result)
        if before is None or self.busy:
            return
        # Of the full effect: at another strength only its colour scale changes.
        after = result if full is None else full
        stamp = str(max(each.GetImageData().GetMTime() for each in (before, after)))
        if node is not None and node.GetAttribute(_STAMP) == stamp:
            return
        image, values = volumes.newImage(slicer.util.arrayFromVolume(before).shape, np.int16)

        def done() -> None:
            self._steps = None
            target = node or _addNode(result)
            volumes.copyGrid(before, target)
            target.SetAndObserveImageData(image)
            target.SetAttribute(_STAMP, stamp)
            self._onReady()

        def failed(error: Exception) -> None:
            self._steps = None
            raise error

        self._steps = TimedSteps(_difference(before, after, values), done, failed)


def scale(result: Any, hounsfield: float, strength: float) -> None:
    """Let the map of this result reach full colour at this difference, at this strength."""
    node = placing.differenceOf(result)
    if node is not None and node.GetDisplayNode() is not None:
        node.GetDisplayNode().SetWindowLevel(2 * hounsfield / max(strength, 0.01), 0.0)


def _addNode(result: Any) -> Any:
    node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
    node.UnRegister(None)
    node.SetName(f"{result.GetName()} difference")
    placing.hide(node)
    slicer.mrmlScene.AddNode(node)
    display = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScalarVolumeDisplayNode")
    display.UnRegister(None)
    display.SetAutoWindowLevel(False)
    display.SetSaveWithScene(False)
    display.SetAndObserveColorNodeID(divergingColors().GetID())
    slicer.mrmlScene.AddNode(display)
    node.SetAndObserveDisplayNodeID(display.GetID())
    placing.referToHidden(result, placing.DIFFERENCE_ROLE, node)
    return node


def _difference(before: Any, after: Any, target: np.ndarray) -> Iterator[float]:
    """Fill `target` with after - before in whole HU, a few slices a step."""
    first, second = slicer.util.arrayFromVolume(before), slicer.util.arrayFromVolume(after)
    for slab in volumes.slabs(first):
        difference = second[slab] - first[slab].astype(np.float32)
        target[slab] = np.clip(np.rint(difference), _INT16.min, _INT16.max)
        yield slab.stop / len(first)


def divergingColors() -> Any:
    """Return the colour node blue - white - red, the same one each time; white stands for no difference."""
    found = slicer.mrmlScene.GetSingletonNode(COLORS_TAG, "vtkMRMLColorTableNode")
    if found is not None:
        return found
    node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLColorTableNode")
    node.UnRegister(None)
    node.SetName(_("CT difference"))
    node.SetSingletonTag(COLORS_TAG)
    node.SetTypeToUser()
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    # An odd number, so that one colour, white, stands in the very middle.
    count = 255
    node.SetNumberOfColors(count)
    ends = np.array([[0.13, 0.29, 0.67], [0.70, 0.10, 0.16]])
    for index in range(count):
        place = 2 * index / (count - 1) - 1
        red, green, blue = 1 - abs(place) * (1 - ends[int(place > 0)])
        node.SetColor(index, float(red), float(green), float(blue), 1.0)
    return slicer.mrmlScene.AddNode(node)
