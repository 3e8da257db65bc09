"""The stages of a reconstruction side by side, with an overlay on the last one and the measured sinogram."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from CTEnhanceLib.reconstruct.job import ROLES, Method, settingsText
from CTEnhanceLib.scene import colortables, placing
from CTEnhanceLib.scene.windows import sparse
from CTEnhanceLib.views.linked import LinkedViews
from CTEnhanceLib.views.view import FREE_VIEWS, View, description

# Layouts are numbered from here, by which of the views they have: a layout that is on the screen is not built
# anew.
_FIRST_LAYOUT = 7200
_FBP_VIEW, _PROJECTION_VIEW, _NEED_VIEW, SINOGRAM_VIEW = FREE_VIEWS


class Overlay(enum.Enum):
    """A map that lies over the result; the value is its name among the roles of a result."""

    NONE = ""
    RESIDUAL = "residual"
    UNCERTAINTY = "uncertainty"

    def text(self) -> str:
        """Return the map's name for people."""
        return {
            Overlay.NONE: _("No overlay"),
            Overlay.RESIDUAL: _("Residual: measured, not shown"),
            Overlay.UNCERTAINTY: _("Uncertainty (SD)"),
        }[self]

    def of(self, result: Any) -> Any:
        """Return this map of the result, or None."""
        return result.GetNodeReference(ROLES[self.value]) if result is not None and self.value else None


def methodOf(result: Any) -> Method | None:
    """Return the method that a result was made with, by its report; None: it is no reconstruction."""
    report = placing.reportOf(result) or {}
    try:
        return Method(report["settings"]["method"]) if report.get("verb") == "reconstruct" else None
    except (KeyError, TypeError, ValueError):
        return None


def sinogramOf(result: Any) -> Any:
    """Return the hidden node with the measured sinograms, or None."""
    return placing.hiddenNode(result, placing.SINOGRAM_ROLE)


def stageViews() -> dict[Method, View]:
    """Return the view of each stage."""
    return {
        Method.FBP: View(_FBP_VIEW, Method.FBP.stage(), "#8C8C8C"),
        Method.PROJECTION: View(_PROJECTION_VIEW, Method.PROJECTION.stage(), "#4C7FBF"),
        Method.NEED: View(_NEED_VIEW, Method.NEED.stage(), "#4CA64C"),
    }


def sinogramView() -> View:
    """Return the view of the measured sinogram."""
    # It has one plane: readings by view and channel.
    name = _("Measured sinogram of the slice")
    return View(SINOGRAM_VIEW, name, "#B08A3C", "Axial", captioned=False)


def layouts() -> Iterator[tuple[int, str]]:
    """Yield number and description of every layout that a result may need."""
    for number, views in _choices():
        yield number, description(views)


def _choices() -> Iterator[tuple[int, list[View]]]:
    """Yield the layouts' numbers and views: every choice of the stages and the sinogram."""
    known = [*stageViews().values(), sinogramView()]
    for number in range(1, 1 << len(known)):
        yield _FIRST_LAYOUT + number, [view for place, view in enumerate(known) if number >> place & 1]


def stagesOf(result: Any) -> list[tuple[View, Any]]:
    """Return the stages that are in the scene, each with the view that shows it; the result is the last."""
    views, method = stageViews(), methodOf(result)
    if method is None:
        return []
    before = [
        (views[each], result.GetNodeReference(ROLES[each.value])) for each in (Method.FBP, Method.PROJECTION)
    ]
    return [*((view, node) for view, node in before if node is not None), (views[method], result)]


def comparedNames(result: Any) -> tuple[str, str]:
    """Return what a result is compared with, and what it is itself: stages, or the CT that was scanned."""
    method = methodOf(result)
    if method is None:
        return _("Reference"), _("Reconstruction")
    reference = placing.inputOf(result)
    ofFBP = reference is not None and reference is result.GetNodeReference(ROLES["fbp"])
    return Method.FBP.stage() if ofFBP else _("Scanned CT"), method.stage()


class StageViews:
    """Shows the stages of a result in linked views; `hide` brings the former layout back."""

    def __init__(self) -> None:
        self.result: Any = None
        self.views = LinkedViews()
        self._sinogram = False
        self._overlay, self._range, self._opacity = Overlay.NONE, 50.0, 0.6

    @property
    def active(self) -> bool:
        """Whether the stages are on the screen."""
        return self.result is not None and self.views.shown

    def show(self, result: Any) -> None:
        """Show the stages of this result."""
        self.result = result
        stages = stagesOf(result)
        views = [view for view, _node in stages]
        if self._sinogram and sinogramOf(result) is not None:
            views.append(sinogramView())
        self.views.show(next(number for number, known in _choices() if known == views), views)
        self._update()
        self.views.fit(result)

    def hide(self) -> None:
        """Go back to the layout that was there before, unless others show their views meanwhile."""
        self.views.leave()
        self.result = None

    def setSinogram(self, shown: bool) -> None:
        """Show the sinogram in a view of its own, or don't."""
        self._sinogram = shown
        if self.active:
            self.show(self.result)

    def setOverlay(self, overlay: Overlay) -> None:
        """Lay this map over the result."""
        self._overlay = overlay
        self._update()

    def suggestedRange(self) -> float | None:
        """Return a range in HU at which the overlay shows what stands out of its map; None: no map."""
        node = self._overlay.of(self.result)
        if node is None:
            return None
        values = slicer.util.arrayFromVolume(node)
        some = values[sparse(values.shape)]
        # Noise reaches twice its SD, below which a residual is clear.
        signed = self._overlay is Overlay.RESIDUAL
        found = 4 * some.std() if signed else np.percentile(some, 99)
        return float(max(1, round(float(found))))

    def setOverlayRange(self, hounsfield: float) -> None:
        """Reach full colour at this value."""
        self._range = hounsfield
        self._update()

    def setOverlayOpacity(self, opacity: float) -> None:
        """Let more or less of the image through."""
        self._opacity = opacity
        self._update()

    def _update(self) -> None:
        """Tell each view which volumes it shows; cheap where nothing changed."""
        if not self.active:
            return
        report = placing.reportOf(self.result)
        for view, node in stagesOf(self.result):
            over = self._overlay.of(self.result) if node is self.result else None
            if over is not None:
                self._color(over)
            self.views.setLayers(view.name, node, over, self._opacity if over is not None else 0.0)
            name = node.GetName()
            self.views.setLabel(view.name, f"{view.label}\n{name}{settingsText(report, name)}")
        if self._sinogram:
            self.views.setLayers(SINOGRAM_VIEW, sinogramOf(self.result))

    def _color(self, node: Any) -> None:
        signed = self._overlay is Overlay.RESIDUAL
        display = node.GetDisplayNode()
        with slicer.util.NodeModify(display):
            colors = colortables.signedOverlay() if signed else colortables.unsignedOverlay()
            display.SetAndObserveColorNodeID(colors.GetID())
            display.SetAutoWindowLevel(False)
            low = -self._range if signed else 0.0
            display.SetWindowLevel(self._range - low, (self._range + low) / 2)
