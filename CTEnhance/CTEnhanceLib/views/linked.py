"""A row of slice views in place of Slicer's layout: linked, on one scale, and the way back.

Scrolling, zooming and panning are linked by Slicer itself (hot-linked views of one group); window and level
are shared where volumes have one display node. Whoever shows views takes them from whoever did before.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import qt
import slicer
import vtk

from CTEnhanceLib.views import annotations, crosshair, slices
from CTEnhanceLib.views.drawing import oneByOne, useFewThreads
from CTEnhanceLib.views.fitted import Fitted
from CTEnhanceLib.views.layoutkeeper import keeper
from CTEnhanceLib.views.part import Part, holds, orientationOf
from CTEnhanceLib.views.slab import Slab
from CTEnhanceLib.views.view import VIEW_GROUP, View, description

# Of views that are not shown: as part of the other group they would follow every slice, which takes its time.
_HIDDEN_GROUP = 72
# What the names of the panels' views begin with.
_OURS = ("CTEnhance", "CTReaderStudy", "CTReconstruct", "CTDecompose")
# Pixels: a row is parted where its views would be narrower, and no view asks for more than the least. By
# itself each asks for the width of its bar, some 330, so four of them for a window wider than many screens.
_GOOD_WIDTH, _LEAST_WIDTH = 300, 140
# Seconds, within which Slicer sets views back that are new on the screen, on a busy computer late. What moves
# them meanwhile is the reader only if Slicer says that somebody is at it.
_SETTLING = 5.0


def sliceWidget(name: str) -> Any:
    """Return the widget of a view, or None when it is not there."""
    return slicer.app.layoutManager().sliceWidget(name)


def shownViews() -> tuple[View, ...]:
    """Return the views that a panel shows now, in their order."""
    owner = LinkedViews._owner
    return () if owner is None else owner._views


class LinkedViews:
    """Shows rows of views; `leave` brings the layout back that was there before any of them."""

    # Among all panels: who shows views now, and who is to be called when that changes.
    _owner: LinkedViews | None = None
    _last: LinkedViews | None = None
    listeners: list[Callable[[], None]] = []  # noqa: RUF012 (one list for all)

    def __init__(self) -> None:
        # Called when the user has chosen another layout, in which these views are not, or others take them.
        self.onLeft: Callable[[], None] = lambda: None
        self._views: tuple[View, ...] = ()
        self._slab = Slab()
        self._layout = 0
        # The volume last fitted, and the views that show it.
        self._fitted: tuple[Any, tuple[View, ...]] | None = None
        # What was on the screen, by axis, before the row was changed last: Slicer sets views back when it
        # lays them out.
        self._before: dict[str, Part] = {}
        self._tags: list[tuple[Any, int]] = []
        # By the views' nodes: how they were fitted, and which of them the reader has zoomed or moved since.
        self._fits: dict[str, Fitted] = {}
        self._moved: set[str] = set()
        self._fittedAt = 0.0
        self._aligning = self._resizing = False
        self._apart = False  # not linked yet

    @property
    def shown(self) -> bool:
        """Whether these views are the ones on the screen (unless the user chose another layout since)."""
        return LinkedViews._owner is self

    @annotations.kept()
    def show(self, layout: int, views: Sequence[View], rows: int = 0, below: str = "") -> None:
        """Show these views from left to right, in so many rows (0: as many as the window's width asks for);
        `layout` is their number, `below` another view's description under them."""
        self._before = self._onScreen()
        former, last = LinkedViews._owner, LinkedViews._last
        LinkedViews._owner, LinkedViews._last, self._views = self, self, tuple(views)
        if former is not None and former is not self:
            former.onLeft()  # before anything is shown: what it has put over the views goes
        if layout != self._layout:  # the same views, too, are laid out anew
            self._layout, self._fitted = layout, None
        self._unobserve()
        self._apart = True
        qt.QTimer.singleShot(0, self._join)
        oneByOne.hold((view.name for view in views), laidOut=True)
        keeper.onLeft = self.onLeft
        keeper.show(layout, description(views, rows or _rowsFor(len(views)), below))
        names = [view.name for view in views]
        for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            if node.GetViewGroup() == VIEW_GROUP and node.GetLayoutName() not in names:
                node.SetViewGroup(_HIDDEN_GROUP)
        for view in views:
            widget = sliceWidget(view.name)
            if widget is not None:
                widget.minimumWidth = _LEAST_WIDTH
                # A layout gives these to new views only; views that a loaded scene brought have others.
                node = widget.mrmlSliceNode()
                with slicer.util.NodeModify(node):
                    node.SetSaveWithScene(True)  # one that was made ahead is not
                    node.SetViewGroup(VIEW_GROUP)
                    node.SetLayoutLabel(view.label[:1])
                    node.SetLayoutColor(*view.rgb())
                    # Another panel may have turned it; what is on the screen stays as it is.
                    plane = view.orientation or ("Axial" if former is None and last is not self else "")
                    if plane and orientationOf(node) != plane:
                        node.SetOrientation(plane)
                self._tags.append((node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onSlice, 1.0)))
                _link(widget, False)  # until they are fitted: each change would be passed on to all others
                if view.titled:
                    view.showTitle(widget, view.label, view.rgb())
        self._tell()

    def leave(self) -> None:
        """Bring the user's layout back, unless others show their views meanwhile."""
        if self.shown:
            keeper.leave()
        self.forget()

    def widgets(self) -> list[Any]:
        """Return the slice widgets of the views, while they are shown."""
        found = [sliceWidget(view.name) for view in self._views] if self.shown else []
        return [widget for widget in found if widget is not None]

    def hold(self) -> None:
        """Have all views drawn one a turn from now on: they are about to change."""
        oneByOne.hold(view.name for view in self._views if self.shown)

    def readers(self) -> None:
        """The reader has zoomed or moved the views by keys of the panel: leave them so."""
        self._moved.update(widget.mrmlSliceNode().GetID() for widget in self.widgets())

    def setSlab(self, slab: Slab) -> None:
        """Show so many slices as one, in all views of CT images alike, also in those that come."""
        self._slab = slab
        self.hold()
        self._applySlab()

    @annotations.kept()
    def bringTo(self, place: tuple[float, float, float]) -> None:
        """Bring all views to the slices that hold this place (RAS)."""
        self.hold()
        self._aligning = True  # none is zoomed or moved aside by that
        try:
            crosshair.bringTo(place, VIEW_GROUP, self._volume())
        finally:
            self._aligning = False

    def turned(self) -> str | None:
        """Return along which axis those views look that may be turned; None where there are none."""
        widgets = self._planes().get("", ()) if self.shown else ()
        return orientationOf(widgets[0].mrmlSliceNode()) if widgets else None

    def _applySlab(self) -> None:
        found = [(sliceWidget(view.name), self._slabOf(view)) for view in self._views if self.shown]
        changed = [
            (widget, slab) for widget, slab in found if widget is not None and not slab.shownBy(widget)
        ]
        # The bar of each view would have all others follow, one after another.
        for widget, _slab in () if self._apart else changed:
            _link(widget, False)
        for widget, slab in changed:
            slab.apply(widget)
        for widget, _slab in () if self._apart else changed:
            _link(widget, True)

    def _slabOf(self, view: View) -> Slab:
        if not view.captioned:
            return Slab()
        return self._slab.ofDifferences() if view.signed else self._slab

    def _join(self) -> None:
        """Link the views that have been laid out."""
        if self._apart:
            self._apart = False
            for widget in self.widgets():
                _link(widget, True)

    def _onSlice(self, node: Any, _event: str) -> None:
        """A view was scrolled, turned or zoomed, and the others follow: each is drawn once, when all have."""
        oneByOne.hold([node.GetLayoutName()])
        fitted = None if self._aligning else self._fits.get(node.GetID())
        if fitted is None:
            return
        if fitted.isResized(node):
            if not self._resizing:  # when all of them have their sizes
                self._resizing = True
                qt.QTimer.singleShot(0, self._onResized)
        elif self._isReaders() or time.monotonic() > self._fittedAt + _SETTLING:
            (self._moved.add if fitted.isMoved(node) else self._moved.discard)(node.GetID())

    def _isReaders(self) -> bool:
        """Say whether somebody is at one of the views, with the mouse, a key or its bar: others follow it."""
        return any(node.GetInteracting() for node, _tag in self._tags)

    @annotations.kept()
    def _onResized(self) -> None:
        """Slicer has laid views out, perhaps late: fit those anew that the reader has left as they were."""
        self._resizing = False
        volume = self._volume()
        for widget in self.widgets() if volume is not None else ():
            node = widget.mrmlSliceNode()
            fitted = self._fits.get(node.GetID())
            if fitted is None or not fitted.isResized(node):
                continue
            if node.GetID() in self._moved:
                self._fits[node.GetID()] = fitted.withSize(node)
            else:
                self.hold()
                self._fit(widget, volume, fitted.scrolled(node))
        self._applySlab()

    def _unobserve(self) -> None:
        for node, tag in self._tags:
            node.RemoveObserver(tag)
        self._tags = []

    @staticmethod
    def _tell() -> None:
        for listener in tuple(LinkedViews.listeners):
            listener()

    def forget(self) -> None:
        """Let go (the scene closes); the layout stays."""
        was, self._fitted, self._before = self.shown, None, {}
        self._unobserve()
        if was:
            LinkedViews._owner = None
            keeper.forget()
            self._tell()

    @staticmethod
    def leaveAll() -> None:
        """Bring the user's layout back, whoever shows views."""
        LinkedViews._owner = None
        keeper.leave()
        LinkedViews._tell()

    @annotations.kept()
    def setLayers(self, view: str, background: Any, foreground: Any = None, opacity: float = 0.0) -> None:
        """Show these volume nodes (or None) in a view; cheap where nothing changes.

        Slicer passes the opacity of one linked view on to all of them, also when a program sets it. So a view
        without a foreground leaves it alone: it would hide the foregrounds of the others.
        """
        widget = sliceWidget(view)
        if widget is not None and self.shown:
            _layer(widget, background, foreground, opacity)
            self._applySlab()  # its steps are those of the volume

    @annotations.kept()
    def setLayersAhead(
        self, view: str, background: Any, foreground: Any = None, opacity: float = 0.0
    ) -> None:
        """The same, in a turn before a view is shown; of one that nobody shows now."""
        widget = sliceWidget(view)
        if widget is not None and not widget.mrmlSliceNode().IsMappedInLayout():
            _layer(widget, background, foreground, opacity)

    def fit(self, volume: Any, anew: bool = False) -> None:
        """Show a volume in every view at the same scale: the part that was on the screen before, in these
        views or in those that the reader came from, if it lies in the volume; otherwise, or if it is to begin
        `anew`, all of the volume, in its middle."""
        # Slicer takes views elsewhere when it loads another volume.
        kept = all(slices.within(each.sliceLogic(), volume) for each in self.widgets()[:1])
        if kept and not anew and self._fitted == (volume, self._views):
            self._join()
            return
        before = {} if anew else self._before
        parts = {axis: part for axis, part in before.items() if holds(volume, part.centre)}
        self._fitted = (volume, self._views)
        self._align(parts)
        # Again when Slicer has laid the new views out, and has set them back to where they began; where that
        # comes later it is told by their sizes.
        qt.QTimer.singleShot(0, lambda: self._settle(parts))

    def _settle(self, parts: Mapping[str, Part]) -> None:
        self._align(parts)
        self._join()

    def turn(self, orientation: str) -> None:
        """Turn those views that may be turned: Axial, Coronal or Sagittal; show all of the volume."""
        nodes = [widget.mrmlSliceNode() for widget in self._planes().get("", ())]
        if any(orientationOf(node) != orientation for node in nodes):
            self.hold()
            for node in nodes:
                node.SetOrientation(orientation)
            self._align({})
            self._tell()

    def setLabel(self, name: str, text: str, like: View | None = None) -> None:
        """Write another title over a view's image; letter and colour of its bar are as in the view `like`."""
        widget = sliceWidget(name)
        for view in self._views if widget is not None and self.shown else ():
            if view.name == name:
                like = like or view
                node = widget.mrmlSliceNode()
                with slicer.util.NodeModify(node):
                    node.SetLayoutLabel(like.label[:1])
                    node.SetLayoutColor(*like.rgb())
                view.showTitle(widget, text, like.rgb())
                widget.sliceView().scheduleRender()

    def _planes(self) -> dict[str, list[Any]]:
        """Return the widgets of the views that are there, by orientation."""
        found: dict[str, list[Any]] = {}
        for view in self._views:
            widget = sliceWidget(view.name)
            if widget is not None:
                found.setdefault(view.orientation, []).append(widget)
        return found

    def _volume(self) -> Any:
        """Return the volume to which the views are fitted, or None."""
        volume = self._fitted[0] if self._fitted is not None and self.shown else None
        return volume if volume is not None and slicer.mrmlScene.IsNodePresent(volume) else None

    @annotations.kept()
    def _align(self, parts: Mapping[str, Part]) -> None:
        """Bring the views to these parts, by axis, or to all of the volume."""
        volume = self._volume()
        if volume is None:
            return
        for orientation, widgets in self._planes().items():
            self.hold()
            leader = widgets[0].mrmlSliceNode()
            part = parts.get(orientation or orientationOf(leader))
            if part is None and not orientation:
                part = next(iter(parts.values()), None)
            if part is None:
                part = Part.all(widgets[0], volume)
            for widget in widgets:
                self._fit(widget, volume, part)
        self._fittedAt = time.monotonic()
        self._applySlab()

    def _fit(self, widget: Any, volume: Any, part: Part) -> None:
        """Have a view show a part of a volume."""
        self._aligning = True
        try:
            part.show(widget, volume)
        finally:
            self._aligning = False
        node = widget.mrmlSliceNode()
        self._fits[node.GetID()] = Fitted.now(node, part)
        self._moved.discard(node.GetID())

    def _onScreen(self) -> dict[str, Part]:
        """Return what the views on the screen show of their volumes, the first view along each axis.

        A view of another shape shows more than was asked for. Until the reader zooms, the extent asked for
        counts, or the image would shrink with each change of the layout.
        """
        found: dict[str, Part] = {}
        for name in slicer.app.layoutManager().sliceViewNames():
            widget = sliceWidget(name)
            node, volume = widget.mrmlSliceNode(), widget.sliceLogic().GetBackgroundLayer().GetVolumeNode()
            if not node.IsMappedInLayout() or volume is None or volume.GetImageData() is None:
                continue
            part = Part.of(widget, volume)
            fitted = self._fits.get(node.GetID())
            if self.shown and fitted is not None and np.allclose(part.extent, fitted.extent, rtol=1e-3):
                part = dataclasses.replace(part, extent=fitted.part.extent)
            found.setdefault(orientationOf(node), part)
        return found


def showInOwn(layers: tuple[Any, Any, float], before: Any, isResult: Callable[[Any], Any]) -> Iterator[float]:
    """Have the views of the user's own layouts show a result, one view a step: those that show nothing, what
    it was made of (`before`), or another result. A saved scene opens with these views.

    layers - background, foreground (or None) and its opacity
    """
    for name in slicer.app.layoutManager().sliceViewNames():
        logic = sliceWidget(name).sliceLogic()
        there = logic.GetBackgroundLayer().GetVolumeNode()
        # By their names: a loaded scene has other groups.
        if name.startswith(_OURS) or not slicer.mrmlScene.IsNodePresent(layers[0]):
            continue
        if there is None or there in (before, layers[0]) or isResult(there):
            oneByOne.hold([name])
            _layer(sliceWidget(name), *layers)
            if there is None or not slices.within(logic, layers[0]):
                Part.all(sliceWidget(name), layers[0])
            yield 0.0


def _layer(widget: Any, background: Any, foreground: Any, opacity: float) -> None:
    composite = widget.mrmlSliceCompositeNode()
    with slicer.util.NodeModify(composite):
        composite.SetBackgroundVolumeID(None if background is None else background.GetID())
        composite.SetForegroundVolumeID(None if foreground is None else foreground.GetID())
        if foreground is not None:
            composite.SetForegroundOpacity(opacity)
        composite.SetLabelVolumeID(None)
    useFewThreads(widget.sliceLogic())


def _link(widget: Any, linked: bool) -> None:
    composite = widget.mrmlSliceCompositeNode()
    with slicer.util.NodeModify(composite):
        composite.SetLinkedControl(linked)
        composite.SetHotLinkedControl(linked)


def _rowsFor(count: int) -> int:
    """Return in how many rows so many views are wide enough where there is room for them now.

    Two always stand side by side, for that is how they are called.
    """
    viewport = slicer.app.layoutManager().viewport()
    across = max(2, viewport.width // _GOOD_WIDTH)
    return -(-count // min(count, across)) if count else 1
