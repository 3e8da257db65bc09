"""Thick slabs: what is shown of several slices at once, in all linked views alike.

Slicer's slice nodes make them. Their factor of oversampling has to be set to the depth of a view in mm: with
any other one a slab is `depth / factor` times as thick as was asked for. With exactly the depth VTK takes
another way through its filter, by which the slab stands half a slice too low; so it is a millionth more.
"""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

_MORE = 1 + 1e-6


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
    """A projection over so many millimetres."""

    projection: Projection = Projection.NONE
    thickness: float = 10.0

    def of(self, spacing: float) -> int:
        """Return the number of slices, `spacing` (mm) apart, that it takes.

        For the brightest and the darkest the number is odd, so that whole slices are compared and none
        between two of them.
        """
        count = max(1, round(self.thickness / spacing)) if self.projection is not Projection.NONE else 1
        return count if self.projection is Projection.MEAN else count | 1

    def apply(self, widget: Any) -> None:
        """Have a slice widget show it."""
        node, (count, thickness, factor) = widget.mrmlSliceNode(), self._asked(widget)
        with slicer.util.NodeModify(node):
            node.SetSlabReconstructionEnabled(count > 1)
            if count > 1:
                node.SetSlabReconstructionType(self.projection.value)
                node.SetSlabReconstructionThickness(thickness)
                node.SetSlabReconstructionOversamplingFactor(factor)

    def shownBy(self, widget: Any) -> bool:
        """Say whether a slice widget shows it already."""
        node, (count, thickness, factor) = widget.mrmlSliceNode(), self._asked(widget)
        if count < 2:
            return not node.GetSlabReconstructionEnabled()
        now = (
            node.GetSlabReconstructionEnabled(),
            node.GetSlabReconstructionType(),
            node.GetSlabReconstructionThickness(),
            node.GetSlabReconstructionOversamplingFactor(),
        )
        return bool(now == (True, self.projection.value, thickness, factor))

    def _asked(self, widget: Any) -> tuple[int, float, float]:
        """Return of how many slices it is in a widget, its thickness (mm), and the factor of oversampling."""
        spacing = widget.sliceLogic().GetLowestVolumeSliceSpacing()[2]
        count = self.of(spacing) if spacing > 0 else 1
        return count, count * spacing * _MORE, widget.mrmlSliceNode().GetFieldOfView()[2] * _MORE


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
