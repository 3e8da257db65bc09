"""MRML volumes <-> CTVolume.

MRML stores the grid in RAS, CTVolume in LPS (as DICOM does): x and y change their sign. Voxel order is the
same in both, [slice, row, column].
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util import numpy_support

from ctenhance.core.volume import CTVolume
from ctenhance.files.damage import NIFTI, nifti_header
from ctenhance.files.nifti_grid import grid_of_nifti
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.files import suffix_of
from ctenhance.runtime.memory import free_main_memory

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
_INT16 = np.iinfo(np.int16)
_STEP_BYTES = 2 << 20


def requireScalarVolume(node: Any) -> None:
    """Raise InputError, naming the node, unless it holds a 3-D image with one real number a voxel.

    And unless the application shows it where its file says (`gridNotes`).
    """
    if node is None:
        raise InputError(_("Choose a CT volume as input."))
    image = node.GetImageData()
    if image is None or min(image.GetDimensions()) < 1 or image.GetPointData().GetScalars() is None:
        raise InputError(_("'{name}' holds no image: load a CT volume first.").format(name=node.GetName()))
    if image.GetNumberOfScalarComponents() != 1:
        raise InputError(
            _("'{name}' is a colour image; choose a CT volume with one value a voxel.").format(
                name=node.GetName()
            )
        )
    gridNotes(node)


def gridNotes(node: Any) -> list[str]:
    """Return what the NIfTI file that a volume node came from says of its grid besides; [] for other nodes.

    A node changed since then has the grid it was given. Raises InputError, naming the node, for a grid that
    the application shows as another one than the file's (`nifti_grid`).
    """
    storage = node.GetStorageNode()
    name = (storage.GetFileName() or "") if storage is not None else ""
    if suffix_of(name) not in NIFTI or node.GetModifiedSinceRead():
        return []
    try:
        notes = _notesOfFile(name, os.stat(name).st_mtime_ns)
    except InputError as error:
        raise InputError(f"'{node.GetName()}': {error}") from error
    except (OSError, EOFError, zlib.error, struct.error):  # gone, or another file by now
        return []
    return [f"'{node.GetName()}': {note}." for note in notes]


@functools.lru_cache(maxsize=64)
def _notesOfFile(name: str, _changed: int) -> tuple[str, ...]:
    return tuple(grid_of_nifti(nifti_header(Path(name))).notes)


def localGrid(node: Any) -> tuple[tuple[float, ...], tuple[float, ...], np.ndarray]:
    """Return spacing (mm), origin (mm, LPS) and direction (3 x 3, LPS) of a volume node, transforms aside."""
    directions = vtk.vtkMatrix4x4()
    node.GetIJKToRASDirectionMatrix(directions)
    ras = np.array([[directions.GetElement(row, column) for column in range(3)] for row in range(3)])
    origin = RAS_TO_LPS @ np.array(node.GetOrigin())
    return tuple(node.GetSpacing()), tuple(origin.tolist()), RAS_TO_LPS @ ras


def ijkToRAS(node: Any) -> np.ndarray:
    """Return the matrix [4, 4] from voxels (column, row, slice) to RAS (mm), transforms aside."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array(slicer.util.arrayFromVTKMatrix(matrix))


def toWorld(node: Any) -> np.ndarray | None:
    """Return the matrix [4, 4] of a node's parent transforms (RAS, mm); None for transforms that bend."""
    transform = node.GetParentTransformNode()
    matrix = vtk.vtkMatrix4x4()
    if transform is not None:
        if not transform.IsTransformToWorldLinear():
            return None
        transform.GetMatrixTransformToWorld(matrix)
    return np.array(slicer.util.arrayFromVTKMatrix(matrix))


def volumeFromNode(node: Any) -> CTVolume:
    """Return the volume of a node, where it stands in the world.

    A linear parent transform is applied to the grid (as hardening would, but the node is not changed); one
    that bends or shears is refused, because it would need resampling. Raises InputError, naming the node.
    """
    requireScalarVolume(node)
    spacing, origin, direction = localGrid(node)
    if node.GetParentTransformNode() is not None:
        world = toWorld(node)
        if world is None:
            raise InputError(
                _("'{name}' stands under a transform that bends it: harden that transform first.").format(
                    name=node.GetName()
                )
            )
        axes = world[:3, :3] @ RAS_TO_LPS @ direction * np.array(spacing)
        origin = tuple((RAS_TO_LPS @ (world @ np.append(RAS_TO_LPS @ np.array(origin), 1.0))[:3]).tolist())
        lengths = np.linalg.norm(axes, axis=0)
        spacing, direction = tuple(lengths.tolist()), RAS_TO_LPS @ axes / lengths
    try:
        # A copy: the volume must not change when the node does.
        array = np.array(slicer.util.arrayFromVolume(node), dtype=np.float32)
        return CTVolume(array, spacing, origin, direction)
    except InputError as error:
        raise InputError(f"'{node.GetName()}': {error}") from error


def newImage(shape: tuple[int, ...], dtype: Any) -> tuple[vtk.vtkImageData, np.ndarray]:
    """Return image data of the shape [slice, row, column] and its voxels, unset, as an array to fill.

    Raises MemoryError when it has no room; VTK, asked for too much, would end the application.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with contextlib.suppress(ImportError):  # psutil comes with what Apply installs
        if free_main_memory() < size:
            raise MemoryError
    np.empty(size, np.uint8)  # given back at once
    image = vtk.vtkImageData()
    image.SetDimensions(*reversed(shape))
    image.AllocateScalars(numpy_support.get_vtk_array_type(np.dtype(dtype).type), 1)
    return image, voxels(image)


def lazyImage(shape: tuple[int, ...]) -> tuple[vtk.vtkImageData, np.ndarray]:
    """Return float32 image data of zeros, and its voxels, that take memory only where they are written."""
    # Not numpy's own: on Linux that takes 2 MB at a time, so that one row of each slice would take all of it.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    try:
        memory = mmap.mmap(-1, 4 * int(np.prod(shape)), **private)
    except OSError as error:
        raise MemoryError(str(error)) from error
    array = np.frombuffer(memory, np.float32).reshape(shape)
    image = vtk.vtkImageData()
    image.SetDimensions(*reversed(shape))
    # The VTK array keeps the numpy one alive.
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(array.ravel()))
    return image, array


def voxels(image: vtk.vtkImageData) -> np.ndarray:
    """Return the voxels [slice, row, column] of image data; no copy, so writing into it changes the image."""
    shape = tuple(reversed(image.GetDimensions()))
    return numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape)


def updateNodeFromVolume(node: Any, volume: CTVolume) -> None:
    """Give the node the volume's values and grid.

    The voxels become int16 when all are whole numbers in its range, else float32: nothing is lost. The grid
    is in world coordinates: a parent transform of the node is taken off.
    """
    array = volume.array
    whole = array.min() >= _INT16.min and array.max() <= _INT16.max and np.array_equal(array, np.rint(array))
    directions = RAS_TO_LPS @ volume.direction
    matrix = vtk.vtkMatrix4x4()
    for row in range(3):
        for column in range(3):
            matrix.SetElement(row, column, float(directions[row, column]))
    image, values = newImage(array.shape, np.int16 if whole else np.float32)
    values[...] = array
    with slicer.util.NodeModify(node):
        node.SetAndObserveTransformNodeID(None)
        node.SetIJKToRASDirectionMatrix(matrix)
        node.SetSpacing(*volume.spacing)
        node.SetOrigin(*(RAS_TO_LPS @ np.array(volume.origin)).tolist())
        node.SetAndObserveImageData(image)


def nodeFromVolume(volume: CTVolume, name: str) -> Any:
    """Return a new scalar volume node in the scene, with a display, that shows the volume."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    updateNodeFromVolume(node, volume)
    node.CreateDefaultDisplayNodes()
    return node


def copyGrid(source: Any, target: Any) -> None:
    """Put the target on the source's grid and under its transform: with any transform, both stay aligned."""
    target.CopyOrientation(source)
    target.SetAndObserveTransformNodeID(source.GetTransformNodeID())


def sameGrid(first: Any, second: Any) -> bool:
    """Say whether two volume nodes have the same voxels in the same places."""
    if first.GetImageData() is None or second.GetImageData() is None:
        return False
    if first.GetImageData().GetDimensions() != second.GetImageData().GetDimensions():
        return False
    return np.allclose(ijkToRAS(first), ijkToRAS(second), rtol=0, atol=1e-4) and (
        first.GetTransformNodeID() == second.GetTransformNodeID()
    )


def slabs(array: np.ndarray) -> Iterator[slice]:
    """Yield slices along the first axis that hold a few megabytes each."""
    thickness = max(1, _STEP_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), thickness):
        yield slice(start, min(start + thickness, len(array)))


def middleSlices(node: Any) -> Any:
    """Return a node, in no scene, with the two slices in the middle of a volume."""
    array = slicer.util.arrayFromVolume(node)
    start = max(0, len(array) // 2 - 1)
    part = array[start : start + 2]
    image, values = newImage(part.shape, part.dtype if part.dtype != np.int64 else np.float64)
    values[...] = part
    few = slicer.vtkMRMLScalarVolumeNode()
    few.SetName(node.GetName())
    few.CopyOrientation(node)
    few.SetAndObserveImageData(image)
    return few


def imageSize(node: Any) -> tuple[int, int, int] | None:
    """Return how many columns, rows and slices a volume has; None: it holds no image."""
    image = None if node is None else node.GetImageData()
    return None if image is None else image.GetDimensions()
