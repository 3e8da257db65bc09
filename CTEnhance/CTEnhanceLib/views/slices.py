"""Which slice of its volume a view shows, and where in the patient."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

#: The patient's directions along R, A and S, and against them.
_LETTERS = (("R", "L"), ("A", "P"), ("S", "I"))


def bounds(logic: Any) -> tuple[float, float]:
    """Return the lowest and the highest slice offset of the volume in a view (mm)."""
    found = [0.0] * 6
    logic.GetLowestVolumeSliceBounds(found)
    half = logic.GetLowestVolumeSliceSpacing()[2] / 2
    return found[4] + half, found[5] - half


def position(logic: Any) -> tuple[int, int] | None:
    """Return the number of the slice in a view, from 1 on against the offset's lower end, and how many there
    are; None without a volume."""
    if logic.GetBackgroundLayer().GetVolumeNode() is None:
        return None
    low, high = bounds(logic)
    step = logic.GetLowestVolumeSliceSpacing()[2]
    count = round((high - low) / step) + 1
    return min(max(round((logic.GetSliceOffset() - low) / step) + 1, 1), count), count


def within(logic: Any, volume: Any) -> bool:
    """Say whether a view's plane cuts through a volume node."""
    found = [0.0] * 6
    logic.GetVolumeSliceBounds(volume, found)
    return bool(found[4] <= logic.GetSliceOffset() <= found[5])


def place(sliceNode: Any) -> str:
    """Return where the slice is in the patient: 'S 34.5 mm', along the axis that it is most across."""
    matrix = sliceNode.GetSliceToRAS()
    axis = max(range(3), key=lambda each: abs(matrix.GetElement(each, 2)))
    millimetres = matrix.GetElement(axis, 3)
    return f"{_LETTERS[axis][millimetres < 0]} {abs(millimetres):.1f} mm"


def axes(sliceNode: Any) -> np.ndarray:
    """Return where a view's right, up and next slice point to, and its middle (RAS), as columns [3, 4]."""
    matrix = np.array(slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())[:3])
    matrix[:, 3] += matrix[:, :3] @ sliceNode.GetXYZOrigin()  # how far the image was moved in the view
    return matrix
