"""Regions as Slicer's own markups: a box, a circle, and a curve that the user draws."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from CTEnhanceLib.measure import roi
from CTEnhanceLib.views import crosshair, slices

#: The attribute by which a markup is known as a region, in saved scenes, too; its value is the shape's.
ATTRIBUTE = "CTEnhance.Region"
#: The attribute of the region that was chosen last; its value is of no matter.
_CHOSEN = "CTEnhance.ChosenRegion"
_RADIUS_MM = 12.0
# Where regions are put beside each other: so many mm apart, in this order.
_APART_MM = 36.0
_GRID = sorted(
    ((y, x) for y in range(-2, 3) for x in range(-2, 3)), key=lambda at: (at[0] ** 2 + at[1] ** 2, at)
)
# A circle's points, every fourth of which the user can take hold of.
_POINTS, _HANDLE = 16, 4
_ROUND = 1e-3  # of its radius: how far a circle's points may be off it
_GLYPH_PER_CENT, _TEXT_PER_CENT = 1.2, 2.5
_COLORS = ((1.0, 0.85, 0.2), (0.35, 0.8, 1.0), (1.0, 0.55, 0.35), (0.6, 0.95, 0.45), (0.95, 0.6, 0.95))


class Shape(enum.Enum):
    """What a region is like."""

    ROUND = "round"
    SQUARE = "square"
    FREE = "free"

    def text(self) -> str:
        """Return the shape's name for people."""
        return {Shape.ROUND: _("round"), Shape.SQUARE: _("square"), Shape.FREE: _("free")}[self]


def shapeOf(node: Any) -> Shape | None:
    """Return the shape of a region; None: the node is none."""
    try:
        return Shape(node.GetAttribute(ATTRIBUTE) or "")
    except ValueError:
        return None


def regions() -> list[Any]:
    """Return the regions in the scene, in its order."""
    return [node for node in slicer.util.getNodesByClass("vtkMRMLMarkupsNode") if shapeOf(node) is not None]


def choose(node: Any, among: Sequence[Any]) -> None:
    """Remember with the scene that this region (None: none of them) is the chosen one."""
    for each in among:
        mark = "1" if each is node else None
        if each.GetAttribute(_CHOSEN) != mark:
            each.SetAttribute(_CHOSEN, mark)


def chosen(among: Sequence[Any]) -> int:
    """Return the number of the region that was chosen last, the first one's where none was."""
    return next((index for index, node in enumerate(among) if node.GetAttribute(_CHOSEN)), 0)


def geometry(node: Any) -> tuple[Any, ...]:
    """Return what tells whether a region has changed: its name, place, size and form. (Points that move do
    not change a markup's time of modification.)"""
    points = slicer.util.arrayFromMarkupsControlPoints(node, world=True)
    known = node.GetName(), np.asarray(points, float).tobytes()
    if node.IsA("vtkMRMLMarkupsROINode"):
        matrix = slicer.util.arrayFromVTKMatrix(node.GetObjectToWorldMatrix())
        return (*known, tuple(node.GetSize()), matrix.tobytes())
    return (*known, node.GetCurveType())


def add(shape: Shape, sliceNode: Any, volumeNode: Any) -> Any:
    """Return a new region about the middle of a view, beside those that are there; a free one is to be drawn,
    and has no points yet."""
    count = 1 + max(
        (int("0" + node.GetName().lstrip("R")) for node in regions() if _numbered(node)), default=0
    )
    matrix = slices.axes(sliceNode)
    centre = _free(matrix, sliceNode)
    if shape is Shape.SQUARE:
        node = roi.addRegion(sliceNode, volumeNode)
        node.SetCenter(*centre)
    else:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsClosedCurveNode")
        node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    with slicer.util.NodeModify(node), slicer.util.NodeModify(display):
        node.SetName(f"R{count}")
        node.SetAttribute(ATTRIBUTE, shape.value)
        _prepareDisplay(display, _COLORS[(count - 1) % len(_COLORS)])
        if shape is Shape.ROUND:
            _setCircle(node, centre, matrix[:, 0], matrix[:, 1], _RADIUS_MM)
            for index in range(_POINTS):
                if index % _HANDLE:
                    node.SetNthControlPointVisibility(index, False)
            display.SetHandlesInteractive(True)  # the arrows move all of it
    return node


def _free(matrix: np.ndarray, sliceNode: Any) -> np.ndarray:
    """Return the place (RAS) in a view's plane, nearest to the crosshair or else to the view's middle, at
    which no region begins yet."""
    start = crosshair.placeIn(sliceNode)
    taken = [node for node in regions() if node.GetNumberOfControlPoints()]
    centres = [np.mean(slicer.util.arrayFromMarkupsControlPoints(node, world=True), axis=0) for node in taken]
    step = min(_APART_MM, min(sliceNode.GetFieldOfView()[:2]) / 6)
    places = [start + step * (x * matrix[:, 0] + y * matrix[:, 1]) for y, x in _GRID]
    for place in places:
        if all(np.linalg.norm(place - centre) > step / 2 for centre in centres):
            return place
    return places[0]


def _numbered(node: Any) -> bool:
    name = node.GetName() or ""
    return name.startswith("R") and name[1:].isdigit()


def _prepareDisplay(display: Any, color: tuple[float, float, float]) -> None:
    display.SetSelectedColor(*color)
    display.SetColor(*color)
    display.SetFillVisibility(False)
    display.SetPropertiesLabelVisibility(True)  # its name
    display.SetPointLabelsVisibility(False)
    display.SetGlyphScale(_GLYPH_PER_CENT)
    display.SetTextScale(_TEXT_PER_CENT)
    display.SetInteractionHandleScale(_GLYPH_PER_CENT)
    display.SetRotationHandleVisibility(False)
    display.SetScaleHandleVisibility(display.IsA("vtkMRMLMarkupsROIDisplayNode"))


def _setCircle(node: Any, centre: np.ndarray, across: np.ndarray, down: np.ndarray, radius: float) -> None:
    angles = 2 * np.pi * np.arange(_POINTS)[:, None] / _POINTS
    _setPoints(node, centre + radius * (np.cos(angles) * across + np.sin(angles) * down))


def keepRound(node: Any) -> None:
    """Make a circle of a round region again, one of whose points was dragged: it is its radius now."""
    if shapeOf(node) is not Shape.ROUND or node.GetNumberOfControlPoints() != _POINTS:
        return
    places = np.array(slicer.util.arrayFromMarkupsControlPoints(node, world=True), dtype=float)
    half = _POINTS // 2
    centre = np.median((places[:half] + places[half:]) / 2, axis=0)  # whichever point was dragged
    away = np.linalg.norm(places - centre, axis=1)
    radius = float(np.median(away))
    moved = int(np.argmax(np.abs(away - radius)))
    if radius <= 0 or abs(away[moved] - radius) <= _ROUND * radius:
        return
    # Axes from a pair of points that nobody has touched.
    first = next(k for k in range(half) if k not in {moved % half, (moved + _POINTS // 4) % half})
    across, up = (places[k] - places[k + half] for k in (first, (first + _POINTS // 4) % half))
    if first + _POINTS // 4 >= half:
        up = -up
    across, up = across / np.linalg.norm(across), up / np.linalg.norm(up)
    turned = -2 * np.pi * first / _POINTS
    _setCircle(
        node,
        centre,
        np.cos(turned) * across + np.sin(turned) * up,
        -np.sin(turned) * across + np.cos(turned) * up,
        float(away[moved]),
    )


def move(node: Any, by: np.ndarray) -> None:
    """Move a region by so much (mm, RAS)."""
    if node.IsA("vtkMRMLMarkupsROINode"):
        node.SetCenter(*(np.array(node.GetCenter()) + by))
    else:
        _setPoints(node, slicer.util.arrayFromMarkupsControlPoints(node, world=True) + by)


def enlarge(node: Any, factor: float) -> None:
    """Make a region so many times as wide and high in its plane, about its middle."""
    if node.IsA("vtkMRMLMarkupsROINode"):
        size = np.array(node.GetSize())
        size[np.arange(3) != np.argmin(size)] *= factor
        node.SetSize(*size)
    elif node.GetNumberOfControlPoints():
        points = slicer.util.arrayFromMarkupsControlPoints(node, world=True)
        centre = points.mean(axis=0)
        _setPoints(node, centre + factor * (points - centre))


def addPoint(node: Any, place: np.ndarray) -> None:
    """Add a point (RAS) to a free region."""
    node.AddControlPointWorld(vtk.vtkVector3d(*place))


def _setPoints(node: Any, points: np.ndarray) -> None:
    places = vtk.vtkPoints()
    for point in points:
        places.InsertNextPoint(*point)
    node.SetControlPointPositionsWorld(places)


def beginDrawing(node: Any) -> None:
    """Let the user's clicks in the views be the points of a free region, until a double click or Escape."""
    selection = slicer.app.applicationLogic().GetSelectionNode()
    selection.SetReferenceActivePlaceNodeClassName(node.GetClassName())
    selection.SetActivePlaceNodeID(node.GetID())
    # Not the markups logic's own way, which has points of a list placed instead.
    slicer.app.applicationLogic().GetInteractionNode().SwitchToSinglePlaceMode()


def endDrawing() -> None:
    """Let clicks be what they are otherwise."""
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    if interaction is not None and interaction.GetCurrentInteractionMode() == interaction.Place:
        interaction.SetCurrentInteractionMode(interaction.ViewTransform)
