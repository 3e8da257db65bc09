"""Before and after in slice views of their own: layouts, linking, fade, flicker, difference, window presets.

Scrolling, zooming and panning are linked by Slicer itself (hot-linked views of one group); window and level
are shared because both volumes have one display node. Nothing here is computed a frame: a changed strength is
shown by the opacity of the full effect over the input, the difference map is computed once.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from CTEnhanceLib import placing, volumes
from CTEnhanceLib.steps import TimedSteps

BEFORE_VIEW, AFTER_VIEW, DIFFERENCE_VIEW = "CTEnhanceBefore", "CTEnhanceAfter", "CTEnhanceDifference"
_VIEW_GROUP = 71
_COLORS = {BEFORE_VIEW: "#8C8C8C", AFTER_VIEW: "#4CA64C", DIFFERENCE_VIEW: "#C26BB3"}
COLORS_TAG = "CTEnhanceDiverging"
# Which voxels a difference map was computed from.
_STAMP = "CTEnhanceVoxels"
_INT16 = np.iinfo(np.int16)

# Window and level in HU, as in common reading protocols.
WINDOWS = {"lung": (1500, -600), "mediastinum": (350, 50), "bone": (2000, 500), "liver": (150, 90)}


class Mode(enum.Enum):
    """What is shown: the value is the number of the layout. Numbers below 100 are Slicer's own."""

    SIDE_BY_SIDE = 7101
    WITH_DIFFERENCE = 7102
    FADE = 7103

    def text(self) -> str:
        """Return the mode's name for people."""
        return {
            Mode.SIDE_BY_SIDE: _("Side by side"),
            Mode.WITH_DIFFERENCE: _("Side by side and difference"),
            Mode.FADE: _("Fade or flicker in one view"),
        }[self]

    def views(self) -> tuple[str, ...]:
        """Return the names of the mode's views, from left to right."""
        return {
            Mode.SIDE_BY_SIDE: (BEFORE_VIEW, AFTER_VIEW),
            Mode.WITH_DIFFERENCE: (BEFORE_VIEW, AFTER_VIEW, DIFFERENCE_VIEW),
            Mode.FADE: (AFTER_VIEW,),
        }[self]

    def layout(self) -> str:
        """Return the layout as Slicer's layout manager reads it."""
        labels = {BEFORE_VIEW: _("Before"), AFTER_VIEW: _("After"), DIFFERENCE_VIEW: _("Difference")}
        items = "".join(
            f'<item><view class="vtkMRMLSliceNode" singletontag="{view}">'
            '<property name="orientation" action="default">Axial</property>'
            f'<property name="viewlabel" action="default">{labels[view]}</property>'
            f'<property name="viewcolor" action="default">{_COLORS[view]}</property>'
            f'<property name="viewgroup" action="default">{_VIEW_GROUP}</property>'
            "</view></item>"
            for view in self.views()
        )
        return f'<layout type="horizontal" split="true">{items}</layout>'


def setWindow(node: Any, name: str) -> None:
    """Give the volume's display, and so all volumes that share it, a window of WINDOWS."""
    window, level = WINDOWS[name]
    display = node.GetDisplayNode()
    with slicer.util.NodeModify(display):
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(window, level)


class Comparison:
    """Shows a result beside its input; `hide` brings the layout back that was there before."""

    def __init__(self) -> None:
        self.mode = Mode.SIDE_BY_SIDE
        self.result: Any = None
        self._previousLayout: int | None = None
        self._fitted: Any = None
        self._fade = 1.0
        self._flicker = False
        self._preview: float | None = None
        self._range = 50.0
        self._steps: TimedSteps | None = None

    @property
    def active(self) -> bool:
        """Whether the comparison is on the screen."""
        return self.result is not None

    def show(self, result: Any, mode: Mode | None = None) -> None:
        """Show this result and its input, in this mode or the one before."""
        self.result = result
        self.mode = mode or self.mode
        layoutNode = slicer.app.layoutManager().layoutLogic().GetLayoutNode()
        if self._previousLayout is None:
            self._previousLayout = layoutNode.GetViewArrangement()
        for each in Mode:
            if not layoutNode.IsLayoutDescription(each.value):
                layoutNode.AddLayoutDescription(each.value, each.layout())
        layoutNode.SetViewArrangement(self.mode.value)
        if self.mode is Mode.WITH_DIFFERENCE:
            self._makeDifference()
        self._update()
        before = placing.inputOf(result)
        for view in self.mode.views():
            self._link(view)
        if self._fitted != (before, self.mode):
            self._fitted = (before, self.mode)
            self._fitAll()
            # Once more when the new views have got their sizes.
            qt.QTimer.singleShot(0, self._fitAll)

    def hide(self) -> None:
        """Go back to the layout that was there before."""
        if self.active and self._previousLayout is not None:
            layoutNode = slicer.app.layoutManager().layoutLogic().GetLayoutNode()
            layoutNode.SetViewArrangement(self._previousLayout)
        self.forget()

    def forget(self) -> None:
        """Let go of all nodes (the scene closes); the layout stays."""
        if self._steps is not None:
            self._steps.cancel()
        self._steps = self._previousLayout = self._fitted = self.result = self._preview = None
        self._flicker = False

    def setFade(self, fade: float) -> None:
        """In one view: 0 shows before, 1 after."""
        self._fade = fade
        self._update()

    def setFlicker(self, before: bool) -> None:
        """Show before in place of after, or after again."""
        self._flicker = before
        self._update()

    def setStrengthPreview(self, strength: float | None) -> None:
        """Show after as it would be at this strength; None: show its voxels again."""
        self._preview = strength
        self._update()

    def setDifferenceRange(self, hounsfield: float) -> None:
        """Reach full colour at this difference."""
        self._range = hounsfield
        self._update()

    def sliceNode(self, view: str = AFTER_VIEW) -> Any:
        """Return the slice node of a view, or None when it is not there."""
        widget = slicer.app.layoutManager().sliceWidget(view)
        return None if widget is None else widget.mrmlSliceNode()

    def _update(self) -> None:
        """Tell each view which volumes it shows; cheap where nothing changed."""
        if not self.active:
            return
        before, full = placing.inputOf(self.result), placing.fullEffectOf(self.result)
        if before is None:
            return
        preview = self._preview if full is not None else None
        if self.mode is not Mode.FADE:
            self._layers(BEFORE_VIEW, before)
        if self.mode is Mode.WITH_DIFFERENCE:
            difference = placing.differenceOf(self.result)
            self._layers(DIFFERENCE_VIEW, difference if self._steps is None else None)
            self._scaleDifference(difference)
        fade = self._fade if self.mode is Mode.FADE else 1.0
        if self.mode is Mode.FADE or preview is not None:
            over, opacity = (self.result, fade) if preview is None else (full, fade * preview)
            self._layers(AFTER_VIEW, before, over, 0.0 if self._flicker else opacity)
        else:
            # One layer is a third faster to scroll than two.
            self._layers(AFTER_VIEW, before if self._flicker else self.result)

    def _layers(self, view: str, background: Any, foreground: Any = None, opacity: float = 0.0) -> None:
        widget = slicer.app.layoutManager().sliceWidget(view)
        if widget is None:
            return
        composite = widget.mrmlSliceCompositeNode()
        with slicer.util.NodeModify(composite):
            composite.SetBackgroundVolumeID(None if background is None else background.GetID())
            composite.SetForegroundVolumeID(None if foreground is None else foreground.GetID())
            composite.SetForegroundOpacity(opacity)
            composite.SetLabelVolumeID(None)

    def _link(self, view: str) -> None:
        widget = slicer.app.layoutManager().sliceWidget(view)
        if widget is not None:
            composite = widget.mrmlSliceCompositeNode()
            composite.SetLinkedControl(True)
            composite.SetHotLinkedControl(True)

    def _fitAll(self) -> None:
        """Show all of the volume, in every view the same part of it at the same scale."""
        before = placing.inputOf(self.result)
        manager = slicer.app.layoutManager()
        widgets = [manager.sliceWidget(view) for view in self.mode.views()] if before is not None else []
        first, *others = [widget for widget in widgets if widget is not None] or [None]
        if first is None:
            return
        # Along the volume's own slices, which need not be axial to the hundredth of a degree.
        node = first.mrmlSliceNode()
        node.RotateToVolumePlane(before)
        first.sliceLogic().FitSliceToAll()
        millimetres = node.GetFieldOfView()[0] / max(1, node.GetDimensions()[0])
        for widget in others:
            other = widget.mrmlSliceNode()
            columns, rows = other.GetDimensions()[:2]
            other.GetSliceToRAS().DeepCopy(node.GetSliceToRAS())
            other.SetFieldOfView(millimetres * columns, millimetres * rows, node.GetFieldOfView()[2])
            other.SetXYZOrigin(*node.GetXYZOrigin())
            other.UpdateMatrices()

    def _makeDifference(self) -> None:
        """Have the difference of this result computed, in turns, unless it is there already."""
        before, full = placing.inputOf(self.result), placing.fullEffectOf(self.result)
        node = placing.differenceOf(self.result)
        if before is None or self._steps is not None:
            return
        # Of the full effect: at another strength only its colour scale changes.
        after = self.result if full is None else full
        stamp = str(max(each.GetImageData().GetMTime() for each in (before, after)))
        if node is not None and node.GetAttribute(_STAMP) == stamp:
            return
        image, values = volumes.newImage(slicer.util.arrayFromVolume(before).shape, np.int16)

        def done() -> None:
            self._steps = None
            target = node or self._addDifferenceNode()
            volumes.copyGrid(before, target)
            target.SetAndObserveImageData(image)
            target.SetAttribute(_STAMP, stamp)
            self._update()

        def failed(error: Exception) -> None:
            self._steps = None
            raise error

        self._steps = TimedSteps(_difference(before, after, values), done, failed)

    def _addDifferenceNode(self) -> Any:
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
        node.UnRegister(None)
        node.SetName(f"{self.result.GetName()} difference")
        placing.hide(node)
        slicer.mrmlScene.AddNode(node)
        display = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScalarVolumeDisplayNode")
        display.UnRegister(None)
        display.SetAutoWindowLevel(False)
        display.SetSaveWithScene(False)
        display.SetAndObserveColorNodeID(divergingColors().GetID())
        slicer.mrmlScene.AddNode(display)
        node.SetAndObserveDisplayNodeID(display.GetID())
        placing.referToHidden(self.result, placing.DIFFERENCE_ROLE, node)
        return node

    def _scaleDifference(self, node: Any) -> None:
        if node is None or node.GetDisplayNode() is None:
            return
        strength = self._preview
        if strength is None:
            strength = placing.strengthOf(self.result)
        node.GetDisplayNode().SetWindowLevel(2 * self._range / max(strength, 0.01), 0.0)


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
