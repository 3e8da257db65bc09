"""The section Views (`Resources/UI/ViewSection.ui`): plane, crosshair and slab of whatever a panel shows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from slicer.i18n import tr as _

from CTEnhanceLib.views import crosshair, steering
from CTEnhanceLib.views.history import History
from CTEnhanceLib.views.keys import Keys
from CTEnhanceLib.views.linked import LinkedViews
from CTEnhanceLib.views.part import AXES
from CTEnhanceLib.views.slab import Projection, Slab

_SCROLLS = {"J": -1, "K": 1, "Shift+J": -10, "Shift+K": 10}
# Where plus wants Shift it is the same key as the sign of equality.
_ZOOMS = {"Ctrl++": 1 / steering.ZOOM, "Ctrl+=": 1 / steering.ZOOM, "Ctrl+-": steering.ZOOM}
_WAYS = {
    "Ctrl+Shift+Left": (-1, 0),
    "Ctrl+Shift+Right": (1, 0),
    "Ctrl+Shift+Up": (0, 1),
    "Ctrl+Shift+Down": (0, -1),
}


class ViewSection:
    """Connects the section's widgets.

    views - all linked views that the panel may show
    history - to which changes are added; its key is one of the section's
    """

    def __init__(
        self,
        ui: Any,
        parent: Any,
        views: Sequence[LinkedViews],
        history: History,
    ) -> None:
        self.ui = ui
        self._views, self._history = views, history
        self._crosshair = crosshair.Crosshair()
        self._clicks = crosshair.ClickedPlace(self._onPlace)
        self._slab = Slab()
        self._buttons = {axis: getattr(ui, f"{axis.lower()}Button") for axis in AXES[::-1]}
        for axis, button in self._buttons.items():
            button.connect("clicked()", functools.partial(self.turn, axis))
        ui.crosshairButton.connect("toggled(bool)", self._onCrosshair)
        for projection in Projection:
            ui.slabSelector.addItem(projection.text())
        ui.slabSelector.connect("currentIndexChanged(int)", self._onSlab)
        ui.slabSlider.connect("valueChanged(double)", self._onSlab)
        scrolling = _("One slice back, one on; ten with Shift")
        zooming = _("Zoom in and out")
        walking = _("Move the crosshair, and all views with it")
        self._keys = Keys(
            parent,
            {
                "A": (_("Axial"), functools.partial(self.turn, "Axial")),
                "C": (_("Coronal"), functools.partial(self.turn, "Coronal")),
                "S": (_("Sagittal"), functools.partial(self.turn, "Sagittal")),
                **{key: (scrolling, functools.partial(self._onScroll, by)) for key, by in _SCROLLS.items()},
                **{key: (zooming, functools.partial(self._onZoom, by)) for key, by in _ZOOMS.items()},
                **{key: (walking, functools.partial(self._onWalk, *way)) for key, way in _WAYS.items()},
                "H": (_("Crosshair on or off: a click in one view brings all there"), self._onCrosshairKey),
                "M": (_("Slab: one slice, mean, MIP, MinIP in turn"), self._onSlabKey),
                "U": (_("Undo the last change of layout or window"), self.undo),
            },
        )
        self.refresh()

    def enter(self) -> None:
        """The panel is opened: follow who shows views."""
        if self.refresh not in LinkedViews.listeners:
            LinkedViews.listeners.append(self.refresh)
        self.refresh()

    def exit(self) -> None:
        """The panel is left: its keys and the crosshair are Slicer's own again; what is shown stays."""
        if self.refresh in LinkedViews.listeners:
            LinkedViews.listeners.remove(self.refresh)
        self._keys.enable(False)
        self._clicks.release()
        self._crosshair.remove()

    def keys(self) -> list[tuple[str, str]]:
        """Return the section's keys and what they do."""
        return self._keys.rows()

    def refresh(self) -> None:
        """Show what can be done with the views that are on the screen."""
        ui, shown = self.ui, self._shown()
        turned = shown.turned() if shown is not None else None
        for axis, button in self._buttons.items():
            button.enabled = turned is not None
            button.checked = axis == turned
            button.toolTip = (
                _("Show all views along this axis (key {key}).").format(key=axis[0])
                if turned is not None
                else _("All three planes are shown.")
                if shown is not None
                else _("There is nothing to turn yet: compare or show something.")
            )
        thick = self._slab.projection is not Projection.NONE
        for widget in (ui.crosshairButton, ui.slabSelector):
            widget.enabled = shown is not None
        ui.slabSlider.enabled = shown is not None and thick
        self._keys.enable(shown is not None)
        if shown is not None and ui.crosshairButton.checked:
            self._clicks.watch(shown.widgets())
        else:
            self._clicks.release()
            self._crosshair.remove()

    def turn(self, axis: str) -> None:
        """Show the views along this axis, where they can be turned."""
        shown = self._shown()
        before = shown.turned() if shown is not None else None
        if shown is not None and before is not None and before != axis:
            self._history.add(functools.partial(self.turn, before))
            shown.turn(axis)
        self.refresh()

    def undo(self) -> None:
        """Take the last change of layout or window back."""
        self._history.undo()

    def _shown(self) -> LinkedViews | None:
        return next((views for views in self._views if views.shown), None)

    def _onPlace(self, place: tuple[float, float, float]) -> None:
        shown = self._shown()
        if shown is not None:
            shown.bringTo(place)
            self._crosshair.mark(place)

    def _onScroll(self, by: int) -> None:
        shown, place = self._shown(), self._crosshair.place
        if shown is not None and place is not None:
            self._onPlace(steering.beside(shown, place, on=by))
        elif shown is not None:
            steering.scroll(shown, by)

    def _onZoom(self, factor: float) -> None:
        shown = self._shown()
        if shown is not None:
            steering.zoom(shown, factor)

    def _onWalk(self, right: int, up: int) -> None:
        """Go on from the crosshair, or put it into the middle of the first view."""
        shown, place = self._shown(), self._crosshair.place
        if shown is None:
            return
        self.ui.crosshairButton.checked = True
        place = steering.middle(shown) if place is None else steering.beside(shown, place, right, up)
        self._onPlace(place)
        steering.reveal(shown, place)

    def _onCrosshair(self, _checked: bool) -> None:
        self.refresh()

    def _onCrosshairKey(self) -> None:
        self.ui.crosshairButton.checked = not self.ui.crosshairButton.checked

    def _onSlabKey(self) -> None:
        selector = self.ui.slabSelector
        selector.currentIndex = (selector.currentIndex + 1) % selector.count

    def _onSlab(self, _value: float) -> None:
        before = self._slab
        self._slab = Slab(list(Projection)[self.ui.slabSelector.currentIndex], self.ui.slabSlider.value)
        if self._slab == before:
            return
        dragged = "slab" if self._slab.projection is before.projection else ""
        self._history.add(functools.partial(self._setSlab, before), dragged)
        for views in self._views:
            views.setSlab(self._slab)
        self.refresh()

    def _setSlab(self, slab: Slab) -> None:
        self.ui.slabSlider.value = slab.thickness
        self.ui.slabSelector.currentIndex = list(Projection).index(slab.projection)
