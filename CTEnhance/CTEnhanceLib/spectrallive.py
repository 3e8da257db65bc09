"""A spectral image of which only the shown slices are made: a hidden volume that fills where a view looks.

The volume has the grid of the maps, so that scrolling, linking, fitting and reading values work as with any
other; its voxels are zeros, which take no memory, until a view shows them. When the energy changes, the shown
slices are made again and nothing else. Planes in any direction are found in voxel indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import vtk

from CTEnhanceLib import placing, volumes
from CTEnhanceLib.spectral import SpectralImage, SpectralTable

# A plane this close to voxel centres, in voxels, is taken to go through them.
_TOLERANCE = 1e-6


class LiveImage:
    """One such volume, `node`; `display` is that of another to share window and level, or None.

    Raises MemoryError when there is no room.
    """

    def __init__(
        self, table: SpectralTable, maps: Sequence[Any], image: SpectralImage, name: str, display: Any = None
    ) -> None:
        self.image = image
        self._table = table
        self._maps = [slicer.util.arrayFromVolume(node) for node in maps]
        self._filled: dict[str, Any] = {}
        first = maps[0]
        data, self._values = volumes.lazyImage(self._maps[0].shape)
        with placing.whole() as added:
            self.node = placing.addNode("vtkMRMLScalarVolumeNode", name, added, hidden=True)
            self.node.SetName(name)  # without the number that makes it unique: views show it
            if display is None:
                self._ownDisplay = placing.addFixedDisplay(self.node, added)
                self._ownDisplay.SetSaveWithScene(False)
            else:
                self._ownDisplay = None
                self.node.SetAndObserveDisplayNodeID(display.GetID())
            with slicer.util.NodeModify(self.node):
                volumes.copyGrid(first, self.node)
                self.node.SetAndObserveImageData(data)

    @property
    def display(self) -> Any:
        """The node's display."""
        return self.node.GetDisplayNode()

    def setImage(self, image: SpectralImage, sliceNodes: Sequence[Any]) -> None:
        """Show another image, or energy, in these views."""
        if image != self.image:
            self.image = image
            self._filled.clear()
        self.show(sliceNodes)

    def show(self, sliceNodes: Sequence[Any]) -> None:
        """Make what these views look at, as far as it is not there."""
        made = [self._fill(node) for node in sliceNodes]
        if any(made):
            slicer.util.arrayFromVolumeModified(self.node)

    def remove(self) -> None:
        """Take the volume out of the scene."""
        for node in (self.node, self._ownDisplay):
            if node is not None and slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)

    def _fill(self, sliceNode: Any) -> bool:
        plane = planeIn(self.node, sliceNode)
        if self._filled.get(sliceNode.GetID()) == plane:
            return False
        self._filled[sliceNode.GetID()] = plane
        axis, height, slopes, half = plane
        corners = height + _across(slopes, [(0, n - 1) for n in np.delete(self._values.shape, axis)])
        if np.ptp(corners) >= 1:
            return self._fillOblique(axis, height, slopes, half)
        # It stays between two neighbouring slices, or nearly in one.
        low = max(0, int(np.floor(corners.min() - half + _TOLERANCE)))
        high = min(self._values.shape[axis] - 1, int(np.ceil(corners.max() + half - _TOLERANCE)))
        part = (slice(None),) * axis + (slice(low, high + 1),)
        if low <= high:
            self._values[part] = self._made(part)
        return low <= high

    def _fillOblique(self, axis: int, height: float, slopes: tuple[float, float], half: float) -> bool:
        """Make the voxels about a tilted plane, column by column along the axis that it crosses steepest."""
        others = [index for index in range(3) if index != axis]
        heights = height + _across(slopes, [np.arange(self._values.shape[index]) for index in others])
        # Interpolation in the plane uses neighbouring columns, where it lies higher or lower.
        reach = half + abs(slopes[0]) + abs(slopes[1])
        lowest = np.floor(heights - reach).astype(int)
        made = False
        for step in range(int(np.ceil(2 * reach)) + 2):
            index = lowest + step
            inside = (index >= 0) & (index < self._values.shape[axis])
            if not inside.any():
                continue
            made = True
            rows, columns = np.nonzero(inside)
            place: list[Any] = [None, None, None]
            place[axis], place[others[0]], place[others[1]] = index[inside], rows, columns
            self._values[tuple(place)] = self._made(tuple(place))
        return made

    def _made(self, part: tuple[Any, ...]) -> np.ndarray:
        return self.image.values(self._table, [values[part] for values in self._maps])


def _across(slopes: tuple[float, float], indices: Sequence[Any]) -> np.ndarray:
    """Return how much higher the plane is than at the first corner, for all pairs of these indices."""
    first, second = (np.asarray(each) for each in indices)
    return slopes[0] * first[:, None] + slopes[1] * second[None, :]


def planeIn(volumeNode: Any, sliceNode: Any) -> tuple[int, float, tuple[float, float], float]:
    """Return the plane of a view in the volume's voxels: axis, height, slopes, half thickness.

    Its index along array axis `axis` [slice, row, column] is height + slopes . indices along the two others,
    in their order; half the thickness of a thick slab is in voxels along the axis.
    """
    toRAS, toWorld = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(toRAS)
    transform = volumeNode.GetParentTransformNode()
    if transform is not None and transform.IsTransformToWorldLinear():
        transform.GetMatrixTransformToWorld(toWorld)
    matrices = [slicer.util.arrayFromVTKMatrix(m) for m in (toWorld, toRAS, sliceNode.GetSliceToRAS())]
    toWorldFromVoxel = matrices[0] @ matrices[1]
    inVoxels = np.linalg.inv(toWorldFromVoxel) @ matrices[2]
    # Reversed: array axes are slice, row, column.
    across, down, origin = (inVoxels[2::-1, column] for column in (0, 1, 3))
    normal = np.cross(across, down)
    axis = int(np.argmax(np.abs(normal)))
    first, second = (index for index in range(3) if index != axis)
    slopes = (float(-normal[first] / normal[axis]), float(-normal[second] / normal[axis]))
    height = float(origin[axis] - slopes[0] * origin[first] - slopes[1] * origin[second])
    half = 0.0
    if sliceNode.GetSlabReconstructionEnabled():
        step = toWorldFromVoxel[:3, 2 - axis] @ matrices[2][:3, 2]
        half = 0.5 * sliceNode.GetSlabReconstructionThickness() / max(abs(float(step)), 1e-6)
    return axis, round(height, 9), slopes, half
