"""What figure and page share: windows, the way up, which slice and which detail to show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ctenhance.core.volume import CTVolume
from ctenhance.quality.metrics import to_window
from ctenhance.runtime.errors import InputError

Array = np.ndarray
Window = tuple[float, float]

PRESETS: dict[str, Window] = {  # level, width in HU
    "lung": (-600.0, 1500.0),
    "soft": (40.0, 400.0),
    "bone": (400.0, 1800.0),
    "full": (0.0, 2000.0),
}
PRESET_NAMES = {"lung": "Lung", "soft": "Soft tissue", "bone": "Bone", "full": "±1000 HU"}
NOTICE = "For research use only. Not for diagnosis."
LUNG_PART = 0.12  # of the body's section, from which on a slice is shown in the lung window
DETAIL_MM = (75.0, 58.0)  # width and height
BODY_HU = -400.0


@dataclass(frozen=True)
class Upright:
    """How to turn index axes so that x runs to the patient's left, y to posterior, z to the head."""

    flips: tuple[slice, slice, slice]
    letters: tuple[tuple[str, str], tuple[str, str], tuple[str, str]]  # ends of x, y, z after turning

    @classmethod
    def of(cls, volume: CTVolume) -> Upright:
        """Read it from the volume's direction; axes are flipped, never exchanged, and named as they lie."""
        ends = (("R", "L"), ("A", "P"), ("I", "S"))
        flips, letters = [], []
        for axis in range(3):
            cosines = np.asarray(volume.direction, float)[:, axis]
            main = int(np.argmax(np.abs(cosines)))
            backward = bool(cosines[main] < 0)
            flips.append(slice(None, None, -1) if backward else slice(None))
            letters.append(ends[main])
        return cls((flips[2], flips[1], flips[0]), (letters[0], letters[1], letters[2]))

    def turn(self, array: Array) -> Array:
        """Return a view [z, y, x] that is the right way up."""
        return array[self.flips]


def chosen_window(window: str | Window | None, plane: Array) -> tuple[str, Window]:
    """Return name and (level, width) of a preset, of a pair, or of what suits the slice when None.

    Raises InputError for an unknown name and for a width that is not positive.
    """
    if window is None:
        window = "lung" if _lung_part(plane) > LUNG_PART else "soft"
    if isinstance(window, str):
        if window not in PRESETS:
            raise InputError(
                f"There is no window '{window}'; choose {', '.join(PRESETS)} or (level, width) in HU."
            )
        return PRESET_NAMES[window], PRESETS[window]
    level, width = (float(value) for value in window)
    if not width > 0:
        raise InputError(f"The window's width must be above 0 HU, but it is {width:g}.")
    return "Window", (level, width)


def _lung_part(plane: Array) -> float:
    smooth = ndimage.gaussian_filter(np.asarray(plane, np.float32), 2)
    body = ndimage.binary_fill_holes(smooth > BODY_HU)
    lung = (smooth > -960) & (smooth < -600) & body
    return float(lung.sum() / max(int(body.sum()), 1))


def body_box(plane: Array, margin: int) -> tuple[slice, slice]:
    """Rows and columns of the largest thing that is not air, and a margin (pixels); all of an empty slice."""
    labels, count = ndimage.label(ndimage.gaussian_filter(np.asarray(plane, np.float32), 2) > BODY_HU)
    if count == 0:
        return slice(0, plane.shape[0]), slice(0, plane.shape[1])
    largest = int(np.argmax(np.bincount(labels.ravel())[1:])) + 1
    rows, columns = ndimage.find_objects((labels == largest).astype(np.uint8))[0]
    return (
        slice(max(rows.start - margin, 0), min(rows.stop + margin, plane.shape[0])),
        slice(max(columns.start - margin, 0), min(columns.stop + margin, plane.shape[1])),
    )


def best_slice(volume: Array, window: Window) -> int:
    """Index of the slice with the most detail in the window, among the middle half."""
    depth = len(volume)
    first, last = depth // 4, max(depth - depth // 4, depth // 4 + 1)
    tried = np.unique(np.linspace(first, last - 1, min(last - first, 24)).astype(int))
    return int(tried[np.argmax([_detail(volume[k], window).mean() for k in tried])])


def detail_box(plane: Array, window: Window, spacing: tuple[float, ...]) -> tuple[slice, slice]:
    """Rows and columns of the part of 75 × 58 mm that holds the most detail in the window."""
    sides = [
        int(np.clip(round(DETAIL_MM[axis] / spacing[axis]), 8, plane.shape[1 - axis])) for axis in (1, 0)
    ]
    sums = ndimage.uniform_filter(_detail(plane, window), sides, mode="constant")
    rows, columns = (side // 2 for side in sides)
    inner = sums[
        rows : plane.shape[0] - (sides[0] - rows) + 1, columns : plane.shape[1] - (sides[1] - columns) + 1
    ]
    y, x = np.unravel_index(int(np.argmax(inner)), inner.shape)
    return slice(int(y), int(y) + sides[0]), slice(int(x), int(x) + sides[1])


def _detail(plane: Array, window: Window) -> Array:
    """Edges of what the window shows; strong ones are held back, as many fine ones are meant."""
    shown = ndimage.gaussian_filter(to_window(plane, *window), 1.0)
    return np.minimum(np.hypot(*(ndimage.sobel(shown, axis) for axis in (0, 1))), 0.3)


def difference_limit(difference: Array) -> float:
    """A round limit (HU) of the colour scale that 98 % of the differences stay below."""
    needed = float(np.percentile(np.abs(difference), 98))
    steps = [base * 10**power for power in range(0, 4) for base in (1, 2, 5)]
    return float(next((step for step in steps if step >= needed), steps[-1]))
