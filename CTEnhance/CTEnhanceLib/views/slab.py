"""Thick slabs: what is shown of several slices at once, in all linked views alike.

Slicer's slice nodes make them, with `vtkImageReslice`. Slicer gives it the spacing of the slices divided by
the node's factor of oversampling; only where that is 1 does it take its fast way, along the volume's own
rows, also for single slices: with Slicer's factor of 2 a slice takes five times as long, and a slab six
times. So the factor is set to the spacing. On the fast way a slab stands half a slice too low: `centre` has
the filter begin half a slice higher.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from dataclasses import dataclass
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

# Thicker by this part, or a slice would be lost by rounding.
_MORE = 1 + 1e-6
# A view is as deep as one slice, so that the filter's steps are slices; in other views they are made so.
_SAME = 1e-6


class Projection(enum.Enum):
    """What is shown of the slices; the value is the mode of vtkImageReslice."""

    NONE = -1
    MEAN = vtk.VTK_IMAGE_SLAB_MEAN
    MAXIMUM = vtk.VTK_IMAGE_SLAB_MAX
    MINIMUM = vtk.VTK_IMAGE_SLAB_MIN

    def text(self) -> str:
        """Return the projection's name for people."""
        return {
            Projection.NONE: _("One slice"),
            Projection.MEAN: _("Mean"),
            Projection.MAXIMUM: _("MIP"),
            Projection.MINIMUM: _("MinIP"),
        }[self]


@dataclass(frozen=True)
class Slab:
    """A projection over so many millimetres; `odd` - of an odd number of slices in any case."""

    projection: Projection = Projection.NONE
    thickness: float = 10.0
    odd: bool = False

    def of(self, spacing: float) -> int:
        """Return the number of slices, `spacing` (mm) apart, that it takes.

        For the brightest and the darkest the number is odd, so that whole slices are compared and none
        between two of them.
        """
        count = max(1, round(self.thickness / spacing)) if self.projection is not Projection.NONE else 1
        return count if self.projection is Projection.MEAN and not self.odd else count | 1

    def ofDifferences(self) -> Slab:
        """Return what a view of differences shows beside it: their mean, over the same slices.

        The brightest of the differences is no difference of the brightest: of noise alone it would say that
        everything became brighter, and the darkest that all became darker.
        """
        if self.projection in (Projection.NONE, Projection.MEAN):
            return self
        return dataclasses.replace(self, projection=Projection.MEAN, odd=True)

    def apply(self, widget: Any) -> None:
        """Have a slice widget show it."""
        node, (count, thickness, factor) = widget.mrmlSliceNode(), self._asked(widget)
        with slicer.util.NodeModify(node):
            node.SetSlabReconstructionEnabled(count > 1)
            node.SetSlabReconstructionOversamplingFactor(factor)
            if count > 1:
                node.SetSlabReconstructionType(self.projection.value)
                node.SetSlabReconstructionThickness(thickness)
        centre(widget.sliceLogic())

    def shownBy(self, widget: Any) -> bool:
        """Say whether a slice widget shows it already."""
        node, (count, thickness, factor) = widget.mrmlSliceNode(), self._asked(widget)
        enabled = bool(node.GetSlabReconstructionEnabled())
        if enabled != (count > 1) or node.GetSlabReconstructionOversamplingFactor() != factor:
            return False
        now = node.GetSlabReconstructionType(), node.GetSlabReconstructionThickness()
        return not enabled or now == (self.projection.value, thickness)

    def _asked(self, widget: Any) -> tuple[int, float, float]:
        """Return of how many slices it is in a widget, its thickness (mm), and the factor of oversampling."""
        spacing = widget.sliceLogic().GetLowestVolumeSliceSpacing()[2]
        depth = widget.mrmlSliceNode().GetFieldOfView()[2]
        if spacing <= 0:
            return 1, 0.0, widget.mrmlSliceNode().GetSlabReconstructionOversamplingFactor()
        count = self.of(spacing)
        # With another depth a slab is `depth / factor` times as thick as was asked for.
        factor = spacing if count == 1 or abs(depth - spacing) < _SAME * spacing else depth * _MORE
        return count, count * spacing * _MORE, factor


def centre(logic: Any) -> None:
    """Have a view's slab stand in its middle, whichever way it is made; asked again before each frame."""
    for layer in (logic.GetBackgroundLayer(), logic.GetForegroundLayer()):
        reslice = layer.GetReslice()
        slab = reslice.GetSlabNumberOfSlices() > 1
        begin = 0.5 if slab and _isFast(reslice) else 0.0
        if reslice.GetOutputOrigin()[2] != begin:
            reslice.SetOutputOrigin(0.0, 0.0, begin)


def _isFast(reslice: Any) -> bool:
    """Say whether the filter takes its way along the volume's own rows."""
    transform = reslice.GetResliceTransform()
    if reslice.GetSlabSliceSpacingFraction() != 1 or not hasattr(transform, "GetMatrix"):
        return False
    matrix = transform.GetMatrix()
    return all(sum(matrix.GetElement(row, column) != 0 for column in range(3)) == 1 for row in range(3))


def text(logic: Any) -> str:
    """Return what a view shows of several slices: 'MIP 9 mm (3 slices)', as its filter does it; empty for
    one slice."""
    node, reslice = logic.GetSliceNode(), logic.GetBackgroundLayer().GetReslice()
    count = reslice.GetSlabNumberOfSlices()
    if count < 2 or not node.GetSlabReconstructionEnabled():
        return ""
    millimetres = count * reslice.GetSlabSliceSpacingFraction() * node.GetFieldOfView()[2]
    kinds, template = _texts()
    kind = kinds.get(node.GetSlabReconstructionType(), "")
    return template.format(kind=kind, millimetres=millimetres, count=count)


@functools.cache
def _texts() -> tuple[dict[int, str], str]:
    """Return the names of the projections, and what is said of a slab: they are written with each frame."""
    kinds = {each.value: each.text() for each in Projection}
    return {**kinds, vtk.VTK_IMAGE_SLAB_SUM: _("Sum")}, _("{kind} {millimetres:.3g} mm ({count} slices)")
