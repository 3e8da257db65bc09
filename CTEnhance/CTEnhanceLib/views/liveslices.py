"""A volume of which only the shown slices are made: hidden, it fills where a view looks.

The volume has the grid of those that it is made of, so that scrolling, linking, fitting and reading values
work as with any other; its voxels are zeros, which take no memory, until a view shows them. When what is to
be shown changes, the shown slices are made again and nothing else. Planes in any direction are found in voxel
indices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from CTEnhanceLib.process.steps import TimedSteps, raiseError
from CTEnhanceLib.scene import placing, volumes
from CTEnhanceLib.views.drawing import oneByOne

# A plane this close to voxel centres, in voxels, is taken to go through them.
_TOLERANCE = 1e-6
# Bytes: the memory of less comes in a moment. Voxels: a step of it, and the least part that comes at once.
_LARGE, _BLOCK, _PAGE = 32 << 20, 1 << 19, 1 << 10

# Array axis, height, slopes and half thickness: see `planeIn`.
_Plane = tuple[int, float, tuple[float, float], float]
# Places in an array, and the values of each source there.
_Sample = tuple[tuple[Any, ...], list[np.ndarray]]


@dataclass
class _Look:
    """What one view looks at, and what was made there last."""

    plane: _Plane
    samples: list[_Sample]
    setting: Any = None


class LiveSlices(ABC):
    """One such volume, `node`, on the grid of the node `like`; `display` is that of another volume to share
    window and level, or None: it has one of its own.

    A kind of them says what is its own: `sources`, `values`, and `setting`, which is changed by `show`.
    Raises MemoryError when there is no room.
    """

    def __init__(self, like: Any, name: str, setting: Any, display: Any = None) -> None:
        self.setting = setting
        self._looks: dict[str, _Look] = {}
        data, self._values = volumes.lazyImage(slicer.util.arrayFromVolume(like).shape)
        self._there = self._values.nbytes < _LARGE
        self._late: dict[str, Any] = {}
        self._steps: TimedSteps | None = None
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
                volumes.copyGrid(like, self.node)
                self.node.SetAndObserveImageData(data)

    @property
    def display(self) -> Any:
        """The node's display."""
        return self.node.GetDisplayNode()

    @abstractmethod
    def sources(self) -> Sequence[np.ndarray]:
        """Return the arrays [slice, row, column] that it is made of."""

    @abstractmethod
    def values(self, samples: Sequence[np.ndarray]) -> np.ndarray:
        """Return what is `setting`, of the sources' values in some voxels."""

    def show(self, sliceNodes: Sequence[Any]) -> None:
        """Make what these views look at, as far as it is not there.

        A view across the rows needs all of a volume's memory, which takes a fifth of a second to come: it is
        not drawn until then.
        """
        filled = False
        for node in sliceNodes:
            name, late = node.GetLayoutName(), not self._there and self._isAcross(node)
            if late:
                self._late[name] = node
                oneByOne.keep(name, self._finish)
            else:
                if self._late.pop(name, None) is not None:
                    oneByOne.release(name)
                filled = self._fill(node) or filled
        if self._late and self._steps is None:
            self._steps = TimedSteps(self._fillLate(), self._over, raiseError)
        if filled:
            slicer.util.arrayFromVolumeModified(self.node)

    def _isAcross(self, sliceNode: Any) -> bool:
        """Say whether what a view looks at is in most pages of the memory."""
        axis, _height, slopes, _half = planeIn(self.node, sliceNode)
        return axis == 2 or any(abs(slope) > _TOLERANCE for slope in slopes)

    def _touched(self) -> Iterator[float]:
        """Have the memory come, in short steps; no value changes."""
        flat = self._values.reshape(-1)
        for begin in range(0, flat.size, _BLOCK):
            flat[begin : begin + _BLOCK : _PAGE] += 0
            yield begin / flat.size

    def _fillLate(self) -> Iterator[float]:
        """Have the memory come, and then make what each view waits for, one a step."""
        yield from self._touched()
        self._there = True
        while self._late:
            name, node = self._late.popitem()
            if slicer.mrmlScene.IsNodePresent(node):
                self.show([node])
            oneByOne.release(name)
            yield 1.0

    def _over(self) -> None:
        self._steps = None

    def _finish(self) -> None:
        """Have it all now."""
        if self._steps is not None:
            self._steps.cancel()
            self._steps = None
            for _part in self._fillLate():
                pass

    def forgetSources(self) -> None:
        """Look for the sources' values anew: they are others now."""
        self._looks.clear()

    def remove(self) -> None:
        """Take the volume out of the scene."""
        if self._steps is not None:
            self._steps.cancel()
            self._steps = None
        for name in self._late:
            oneByOne.release(name)
        self._late = {}
        for node in (self.node, self._ownDisplay):
            if node is not None and slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)

    def _fill(self, sliceNode: Any) -> bool:
        """Make what a view looks at; say whether anything was made."""
        key, plane = sliceNode.GetID(), planeIn(self.node, sliceNode)
        look = self._looks.get(key)
        if look is None or look.plane != plane:
            look = self._looks[key] = _Look(plane, self._samples(plane))
        if look.setting == self.setting:
            return False
        for part, samples in look.samples:
            self._values[part] = self.values(samples)
        look.setting = self.setting
        return bool(look.samples)

    def _samples(self, plane: _Plane) -> list[_Sample]:
        """Return the voxels about a plane: their places, and the maps there."""
        axis, height, slopes, half = plane
        count = self._values.shape[axis]
        corners = height + _across(slopes, [(0, n - 1) for n in np.delete(self._values.shape, axis)])
        if np.ptp(corners) >= 1:
            places = _tilted(self._values.shape, plane)
        else:
            # It stays between two neighbouring slices, or nearly in one.
            low = max(0, int(np.floor(corners.min() - half + _TOLERANCE)))
            high = min(count - 1, int(np.ceil(corners.max() + half - _TOLERANCE)))
            places = [(slice(None),) * axis + (slice(low, high + 1),)] if low <= high else []
        # Copies that lie together: for the next change the sources are not searched through again.
        sources = self.sources()
        return [(place, [np.array(values[place]) for values in sources]) for place in places]


def _tilted(shape: tuple[int, ...], plane: _Plane) -> list[tuple[Any, ...]]:
    """Return the voxels about a tilted plane, column by column along the axis that it crosses steepest."""
    axis, height, slopes, half = plane
    others = [index for index in range(3) if index != axis]
    heights = height + _across(slopes, [np.arange(shape[index]) for index in others])
    # Interpolation in the plane uses neighbouring columns, where it lies higher or lower.
    reach = half + abs(slopes[0]) + abs(slopes[1])
    lowest = np.floor(heights - reach).astype(int)
    places = []
    for step in range(int(np.ceil(2 * reach)) + 2):
        index = lowest + step
        inside = (index >= 0) & (index < shape[axis])
        if inside.any():
            place: list[Any] = [None, None, None]
            place[axis] = index[inside]
            place[others[0]], place[others[1]] = np.nonzero(inside)
            places.append(tuple(place))
    return places


def _across(slopes: tuple[float, float], indices: Sequence[Any]) -> np.ndarray:
    """Return how much higher the plane is than at the first corner, for all pairs of these indices."""
    first, second = (np.asarray(each) for each in indices)
    return slopes[0] * first[:, None] + slopes[1] * second[None, :]


def planeIn(volumeNode: Any, sliceNode: Any) -> _Plane:
    """Return the plane of a view in the volume's voxels: axis, height, slopes, half thickness.

    Its index along array axis `axis` [slice, row, column] is height + slopes . indices along the two others,
    in their order; half the thickness of a thick slab is in voxels along the axis.
    """
    toWorldFromVoxel, world = volumes.ijkToRAS(volumeNode), volumes.toWorld(volumeNode)
    if world is not None:
        toWorldFromVoxel = world @ toWorldFromVoxel
    sliceToWorld = slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())
    inVoxels = np.linalg.inv(toWorldFromVoxel) @ sliceToWorld
    # Reversed: array axes are slice, row, column.
    across, down, origin = (inVoxels[2::-1, column] for column in (0, 1, 3))
    normal = np.cross(across, down)
    axis = int(np.argmax(np.abs(normal)))
    first, second = (index for index in range(3) if index != axis)
    slopes = (float(-normal[first] / normal[axis]), float(-normal[second] / normal[axis]))
    height = float(origin[axis] - slopes[0] * origin[first] - slopes[1] * origin[second])
    half = 0.0
    if sliceNode.GetSlabReconstructionEnabled():
        step = toWorldFromVoxel[:3, 2 - axis] @ sliceToWorld[:3, 2]
        half = 0.5 * sliceNode.GetSlabReconstructionThickness() / max(abs(float(step)), 1e-6)
    return axis, round(height, 9), slopes, half
