"""The windows of the page, and the one in which a volume is shown first: no VTK, as the server finds it."""

from __future__ import annotations

import numpy as np

from ctenhance.core.windows import PRESET_NAMES, PRESETS, chosen_window, difference_limit
from ctenhance.view.planes import AXIAL, Plane
from ctenhance.view.shared import SharedVolume

#: Level and width in HU; the first four are those of the project's figures.
WINDOWS = {**PRESETS, "liver": (90.0, 150.0), "brain": (40.0, 80.0)}
WINDOW_NAMES = {**PRESET_NAMES, "liver": "Liver", "brain": "Brain"}
_SAMPLE = 1 << 20  # voxels that a window is found from


def first_window(volume: SharedVolume) -> tuple[float, float]:
    """Return level and width that show tissue, whatever fills the outside of the field of view.

    For HU it is the preset that suits the middle axial slice; of other values the span of what is not the
    most frequent one (the background of a map).
    """
    array = volume.array()
    if volume.hounsfield:
        plane = Plane.of(volume, AXIAL)
        _name, window = chosen_window(None, array.take(plane.count // 2, plane.axis))
        return window
    low, high = span(array)
    return (low + high) / 2, max(high - low, 1e-6)


def span(array: np.ndarray) -> tuple[float, float]:
    """Return where the values lie, without their most frequent one and the outermost of the rest."""
    step = max(1, array.size // _SAMPLE)
    sample = np.asarray(array.reshape(-1)[::step], np.float64)
    values, counts = np.unique(sample, return_counts=True)
    rest = sample[sample != values[counts.argmax()]] if len(values) > 1 else sample
    low, high = (float(value) for value in np.percentile(rest, [0.5, 99.5]))
    return (low, high) if high > low else (float(sample.min()), float(sample.max()))


def limit_of(before: np.ndarray, after: np.ndarray, plane: Plane) -> float:
    """Return a round number of HU at which the difference map is of full colour."""
    index = plane.count // 2
    change = after.take(index, plane.axis).astype(np.float32) - before.take(index, plane.axis)
    return difference_limit(change) or 1.0
