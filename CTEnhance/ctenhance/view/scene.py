"""Slicer's scene and slice views without its application: by slicer-core and trame-slicer, drawn
offscreen."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    # Else VTK looks for a display first, and complains that there is none.
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

import slicer
import vtk
from trame_slicer.core import SlicerApp
from trame_slicer.views import SliceView
from trame_slicer.views.render_scheduler import NoScheduleRendering
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ctenhance.view.planes import Plane
from ctenhance.view.shared import SharedVolume

# Of diverging colours: blue is darker than before, red brighter, as in the project's figures.
_BLUE, _BLACK, _RED = (0.25, 0.55, 1.0), (0.0, 0.0, 0.0), (1.0, 0.3, 0.2)


class Scene:
    """One scene and what it shows."""

    def __init__(self) -> None:
        vtk.vtkObject.GlobalWarningDisplayOff()
        self.app = SlicerApp()
        # SlicerApp sends VTK's messages to standard error, which names files there.
        vtk.vtkObject.GlobalWarningDisplayOff()
        self._held: list[Any] = []  # arrays that VTK looks into

    def add_volume(self, volume: SharedVolume, array: np.ndarray, display: Any) -> Any:
        """Return a volume node that looks into `array`, the voxels of the volume as mapped, without a
        copy."""
        self._held.append(array)
        return self._add(_image(array), volume.ijk_to_ras(), display)

    def add_slice(self, display: Any) -> Any:
        """Return a volume node for a single slice, which `put_slice` fills."""
        return self._add(None, np.eye(4), display)

    def put_slice(
        self, node: Any, values: np.ndarray, volume: SharedVolume, plane: Plane, index: int
    ) -> None:
        """Show values [row, column] of a slice of the volume's grid, float32, in a node of one slice."""
        stack = np.ascontiguousarray(np.expand_dims(values, plane.axis), np.float32)
        matrix = volume.ijk_to_ras()
        matrix[:3, 3] = plane.corner + index * plane.step
        was = node.StartModify()
        node.SetIJKToRASMatrix(_matrix(matrix))
        # VTK keeps the array that it was made of.
        node.SetAndObserveImageData(_image(stack))
        node.EndModify(was)

    def remove(self, *nodes: Any) -> None:
        """Take nodes out of the scene."""
        for node in nodes:
            display = node.GetDisplayNode()
            for each in (node, display):  # Slicer takes the display along with the last of its volumes
                if each is not None and self.app.scene.IsNodePresent(each):
                    self.app.scene.RemoveNode(each)

    def forget_arrays(self) -> None:
        """Let go of the voxels of volumes that were removed."""
        self._held.clear()

    def add_display(self, color: Any = None) -> Any:
        """Return a display for volumes: grey, or by a colour node."""
        display = self.app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
        display.SetAutoWindowLevel(False)
        name = "vtkMRMLColorTableNodeGrey" if color is None else color.GetID()
        display.SetAndObserveColorNodeID(name)
        return display

    def add_colors(self, kind: str) -> Any:
        """Return a colour node: `difference` (blue, black, red) or `heat` (nothing, red, yellow)."""
        node = self.app.scene.AddNewNodeByClass("vtkMRMLColorTableNode")
        node.SetTypeToUser()
        steps = np.linspace(0, 1, 256)
        node.SetNumberOfColors(len(steps))
        for number, step in enumerate(steps):
            if kind == "difference":
                end, share = (_RED, 2 * step - 1) if step > 0.5 else (_BLUE, 1 - 2 * step)
                color = [black + share * (full - black) for black, full in zip(_BLACK, end, strict=True)]
            else:
                color = [min(1.0, 2 * step), max(0.0, 2 * step - 1), 0.0]
            # What is small lets through what it lies over.
            node.SetColor(number, *color, 1.0 if kind == "difference" else min(1.0, 2 * step))
        node.NamesInitialisedOn()
        return node

    def _add(self, image: Any, matrix: np.ndarray, display: Any) -> Any:
        node = slicer.vtkMRMLScalarVolumeNode()
        node.SetIJKToRASMatrix(_matrix(matrix))
        if image is not None:
            node.SetAndObserveImageData(image)
        self.app.scene.AddNode(node)
        node.SetAndObserveDisplayNodeID(display.GetID())
        return node


class Cell:
    """One slice view: what it shows behind and in front, and where it looks."""

    def __init__(self, scene: Scene, name: str) -> None:
        # From the start: else it would be drawn some twenty times while it is made, which takes 0.2 s.
        still = NoScheduleRendering()
        self._view = SliceView(scene.app.scene, scene.app.app_logic, name, scheduled_render_strategy=still)
        window = self._view.render_window()
        window.SetMultiSamples(0)
        self._image = vtk.vtkImageData()
        self._size = (0, 0)
        self._view.get_view_node().SetSliceEdgeVisibility3D(False)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._size

    def resize(self, width: int, height: int) -> None:
        """Make pictures of so many pixels."""
        if (width, height) != self._size:
            self._size = (width, height)
            self._view.update_size(width, height)
            self._view.render_window().SetSize(width, height)

    def show(self, behind: Any, front: Any = None, opacity: float = 0.0) -> None:
        """Show a volume node, and another one over it."""
        for set_id, get_id, node in (
            (self._view.set_background_volume_id, self._view.get_background_volume_id, behind),
            (self._view.set_foreground_volume_id, self._view.get_foreground_volume_id, front),
        ):
            node_id = None if node is None else node.GetID()
            if get_id() != node_id:
                set_id(node_id)
        if self._view.get_foreground_opacity() != opacity:
            self._view.set_foreground_opacity(opacity)

    def look(self, plane: Plane, centre: np.ndarray, mm_per_pixel: float, thickness: float) -> None:
        """Look at the point `centre` (RAS) in the middle of the picture."""
        node = self._view.get_view_node()
        width, height = self._size
        was = node.StartModify()
        to_ras = np.eye(4)
        to_ras[:3, :3] = np.stack([plane.right, plane.up, plane.normal], 1)
        to_ras[:3, 3] = centre
        node.GetSliceToRAS().DeepCopy(_matrix(to_ras))
        node.SetDimensions(width, height, 1)
        node.SetFieldOfView(width * mm_per_pixel, height * mm_per_pixel, thickness)
        node.SetXYZOrigin(0.0, 0.0, 0.0)
        node.UpdateMatrices()
        node.EndModify(was)

    def picture(self) -> np.ndarray:
        """Draw it and return the picture [row, column, RGB], uint8."""
        window = self._view.render_window()
        window.Render()
        slicer.vtkMRMLLayerDisplayableManager.RenderWindowBufferToImage(window, self._image)
        columns, rows, _one = self._image.GetDimensions()
        return vtk_to_numpy(self._image.GetPointData().GetScalars()).reshape(rows, columns, -1)[::-1]

    def close(self) -> None:
        """Free what it draws with."""
        self._view.finalize()


def _image(array: np.ndarray) -> Any:
    image = vtk.vtkImageData()
    image.SetDimensions(*array.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(array.reshape(-1)))
    return image


def _matrix(values: np.ndarray) -> Any:
    matrix = vtk.vtkMatrix4x4()
    for row in range(4):
        for column in range(4):
            matrix.SetElement(row, column, float(values[row, column]))
    return matrix
