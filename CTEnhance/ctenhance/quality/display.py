"""What figure and page share: the way up, which slice and which detail to show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ctenhance.core.volume import CTVolume
from ctenhance.core.windows import BODY_HU, Window
from ctenhance.quality.metrics import to_window

Array = np.ndarray

NOTICE = "For research use only. Not for diagnosis."
DETAIL_MM = (75.0, 58.0)  # width and height
#: A thing this large, as a share of the largest one, is of the patient: arms, legs; not the table.
LARGE = 0.1


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


def body(plane: Array) -> Array:
    """Where the patient is in a slice HU [y, x]: the large things that are not air, and what they enclose;
    all of an empty slice. Found on every second pixel."""
    coarse = np.asarray(plane[::2, ::2], np.float32)
    labels, count = ndimage.label(ndimage.gaussian_filter(coarse, 1) > BODY_HU)
    if count == 0:
        return np.ones(plane.shape, bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    around, _ = ndimage.label(~(sizes >= LARGE * sizes.max())[labels])
    border = np.unique(np.concatenate([around[0], around[-1], around[:, 0], around[:, -1]]))
    outside = np.isin(around, border[border > 0])
    return ~np.repeat(np.repeat(outside, 2, 0), 2, 1)[: plane.shape[0], : plane.shape[1]]


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
