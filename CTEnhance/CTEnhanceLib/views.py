"""A row of slice views in place of Slicer's layout: linked, on one scale, and the way back.

Scrolling, zooming and panning are linked by Slicer itself (hot-linked views of one group); window and level
are shared where volumes have one display node. Whoever shows views takes them from whoever did before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

import qt
import slicer
import vtk

from CTEnhanceLib.layouts import keeper
from CTEnhanceLib.viewtitle import ViewTitle

_VIEW_GROUP = 71
# Pixels: a row is parted where its views would be narrower, and no view asks for more than the least. By
# itself each asks for the width of its bar, some 330, so four of them for a window wider than many screens.
_GOOD_WIDTH, _LEAST_WIDTH = 300, 140
# By the names of the views: their titles.
_titles: dict[str, ViewTitle] = {}

# Window and level in HU, as in common reading protocols.
WINDOWS = {"lung": (1500, -600), "mediastinum": (350, 50), "bone": (2000, 500), "liver": (150, 90)}


@dataclass(frozen=True)
class View:
    """A slice view: its name in Slicer (one node each), its title and colour (#RRGGBB).

    The title stands in the image, if `titled`: the view's bar has room for its first letter only.
    Views of one `orientation` show the same plane; an empty one begins as axial and may be turned.
    """

    name: str
    label: str
    color: str
    orientation: str = ""
    titled: bool = True

    def item(self) -> str:
        """Return the view as Slicer's layout descriptions have it."""
        properties = {
            "orientation": self.orientation or "Axial",
            "viewlabel": self.label[:1],
            "viewcolor": self.color,
            "viewgroup": _VIEW_GROUP,
        }
        lines = "".join(
            f'<property name="{name}" action="default">{escape(str(value))}</property>'
            for name, value in properties.items()
        )
        view = f'<view class="vtkMRMLSliceNode" singletontag="{self.name}">{lines}</view>'
        # Without a size Slicer would make new views smaller than those that are there already.
        return _sized(view, 500)

    def showTitle(self, sliceView: Any, text: str) -> None:
        """Write a title over the image, at its upper edge."""
        renderer = sliceView.renderWindow().GetRenderers().GetFirstRenderer()
        title = _titles.get(self.name)
        if title is None or not title.isIn(renderer):
            red, green, blue = (int(self.color[place : place + 2], 16) / 255 for place in (1, 3, 5))
            title = _titles[self.name] = ViewTitle(renderer, (red, green, blue))
        title.setText(text)


@dataclass(frozen=True)
class _Part:
    """What a view shows of the scene: the plane, the scale (mm a pixel), the depth and the shift (mm)."""

    plane: Any
    scale: float
    depth: float
    shift: tuple[float, ...]

    @classmethod
    def of(cls, node: Any) -> _Part:
        """Return what the slice node shows now."""
        plane = vtk.vtkMatrix4x4()
        plane.DeepCopy(node.GetSliceToRAS())
        width, _, depth = node.GetFieldOfView()
        return cls(plane, width / max(1, node.GetDimensions()[0]), depth, tuple(node.GetXYZOrigin()))

    def show(self, node: Any) -> None:
        """Have the slice node show it, whatever the size of its view."""
        columns, rows = node.GetDimensions()[:2]
        node.GetSliceToRAS().DeepCopy(self.plane)
        node.SetFieldOfView(self.scale * columns, self.scale * rows, self.depth)
        node.SetXYZOrigin(*self.shift)
        node.UpdateMatrices()


def setWindow(node: Any, name: str) -> None:
    """Give the volume's display, and so all volumes that share it, a window of WINDOWS."""
    window, level = WINDOWS[name]
    display = node.GetDisplayNode()
    with slicer.util.NodeModify(display):
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(window, level)


def sliceWidget(name: str) -> Any:
    """Return the widget of a view, or None when it is not there."""
    return slicer.app.layoutManager().sliceWidget(name)


class LinkedViews:
    """Shows rows of views; `leave` brings the layout back that was there before any of them."""

    # Among all panels: who shows views now.
    _owner: LinkedViews | None = None

    def __init__(self) -> None:
        self._views: tuple[View, ...] = ()
        # The volume last fitted, and the views that show it.
        self._fitted: tuple[Any, tuple[View, ...]] | None = None
        # What they showed, by orientation, before the row was changed last: Slicer sets views back when it
        # lays them out.
        self._before: dict[str, _Part] = {}

    @property
    def shown(self) -> bool:
        """Whether these views are the ones on the screen (unless the user chose another layout since)."""
        return LinkedViews._owner is self

    def show(self, layout: int, views: Sequence[View], rows: int = 0, below: str = "") -> None:
        """Show these views from left to right, in so many rows (0: as many as the window's width asks for);
        `layout` is their number, `below` another view's description under them."""
        self._before = {
            orientation: _Part.of(widgets[0].mrmlSliceNode())
            for orientation, widgets in (self._planes() if self.shown else {}).items()
        }
        LinkedViews._owner, self._views = self, tuple(views)
        keeper.show(layout, description(views, rows or _rowsFor(len(views)), below))
        for view in views:
            widget = sliceWidget(view.name)
            if widget is not None:
                widget.minimumWidth = _LEAST_WIDTH
                composite = widget.mrmlSliceCompositeNode()
                composite.SetLinkedControl(True)
                composite.SetHotLinkedControl(True)
                if view.titled:
                    view.showTitle(widget.sliceView(), view.label)

    def leave(self) -> None:
        """Bring the user's layout back, unless others show their views meanwhile."""
        if self.shown:
            keeper.leave()
        self.forget()

    def forget(self) -> None:
        """Let go (the scene closes); the layout stays."""
        if self.shown:
            LinkedViews._owner = None
            keeper.forget()
        self._fitted, self._before = None, {}

    @staticmethod
    def leaveAll() -> None:
        """Bring the user's layout back, whoever shows views."""
        LinkedViews._owner = None
        keeper.leave()

    def setLayers(self, view: str, background: Any, foreground: Any = None, opacity: float = 0.0) -> None:
        """Show these volume nodes (or None) in a view; cheap where nothing changes.

        Slicer passes the opacity of one linked view on to all of them, also when a program sets it. So a view
        without a foreground leaves it alone: it would hide the foregrounds of the others.
        """
        widget = sliceWidget(view)
        if widget is None or not self.shown:
            return
        composite = widget.mrmlSliceCompositeNode()
        with slicer.util.NodeModify(composite):
            composite.SetBackgroundVolumeID(None if background is None else background.GetID())
            composite.SetForegroundVolumeID(None if foreground is None else foreground.GetID())
            if foreground is not None:
                composite.SetForegroundOpacity(opacity)
            composite.SetLabelVolumeID(None)

    def fit(self, volume: Any, anew: bool = False) -> None:
        """Show all of a new volume, in every view the same part at the same scale.

        Of a volume that was shown already the part stays, and new views follow, unless `anew` says that it
        holds another image now.
        """
        same = not anew and self._fitted is not None and self._fitted[0] is volume
        if same and self._fitted[1] == self._views:
            return
        parts = self._before if same else {}
        self._fitted = (volume, self._views)
        self._align(parts)
        # Once more when the new views have got their sizes, and Slicer has set them back to where they began.
        qt.QTimer.singleShot(0, lambda: self._align(parts))

    def turn(self, orientation: str) -> None:
        """Turn those views that may be turned: Axial, Coronal or Sagittal; show all of the volume."""
        nodes = [widget.mrmlSliceNode() for widget in self._planes().get("", ())]
        if any(node.GetOrientation() != orientation for node in nodes):
            for node in nodes:
                node.SetOrientation(orientation)
            self._align({})

    def setLabel(self, name: str, text: str) -> None:
        """Write another title over a view's image."""
        widget = sliceWidget(name)
        for view in self._views if widget is not None and self.shown else ():
            if view.name == name:
                view.showTitle(widget.sliceView(), text)
                widget.sliceView().scheduleRender()

    def _planes(self) -> dict[str, list[Any]]:
        """Return the widgets of the views that are there, by orientation."""
        found: dict[str, list[Any]] = {}
        for view in self._views:
            widget = sliceWidget(view.name)
            if widget is not None:
                found.setdefault(view.orientation, []).append(widget)
        return found

    def _align(self, parts: Mapping[str, _Part]) -> None:
        """Bring all views of an orientation to its part, or to all of the volume."""
        volume = self._fitted[0] if self._fitted is not None and self.shown else None
        if volume is None or not slicer.mrmlScene.IsNodePresent(volume):
            return
        for orientation, widgets in self._planes().items():
            part = parts.get(orientation)
            if part is None:
                # Along the volume's own slices, which need not be axial to the hundredth of a degree.
                leader = widgets[0].mrmlSliceNode()
                leader.RotateToVolumePlane(volume)
                widgets[0].sliceLogic().FitSliceToAll()
                part = _Part.of(leader)
            for widget in widgets:
                part.show(widget.mrmlSliceNode())


def description(views: Sequence[View], rows: int = 1, below: str = "") -> str:
    """Return Slicer's description of a layout: views from left to right, in so many rows, over another."""
    items = [view.item() for view in views]
    length = -(-len(items) // rows)
    lines = [_stack("horizontal", items[start : start + length]) for start in range(0, len(items), length)]
    whole = lines[0] if len(lines) == 1 else _stack("vertical", [_sized(line, 500) for line in lines])
    # Each with a size: by themselves plots take all the height there is, and leave slits of the images.
    return _stack("vertical", [_sized(whole, 700), _sized(below, 300)]) if below else whole


def _stack(kind: str, items: Sequence[str]) -> str:
    return f'<layout type="{kind}" split="true">{"".join(items)}</layout>'


def _sized(content: str, size: int) -> str:
    return f'<item splitSize="{size}">{content}</item>'


def _rowsFor(count: int) -> int:
    """Return in how many rows so many views are wide enough where there is room for them now."""
    viewport = slicer.app.layoutManager().viewport()
    across = max(1, viewport.width // _GOOD_WIDTH)
    return -(-count // min(count, across)) if count else 1
