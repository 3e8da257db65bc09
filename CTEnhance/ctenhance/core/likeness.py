"""Do two images show one body, and does one lie on the other?

Images of one scan, however noisy, sharp or smooth, are alike in their larger parts, and their edges lie on
each other. Scans of two patients, even of one region, are not.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ctenhance.core.volume import CTVolume
from ctenhance.runtime.words import counted

#: Slices, rows and columns of the small picture by which images are compared, and its range, HU.
_SHAPE, _RANGE_HU = (8, 24, 24), (-1000.0, 300.0)
#: Pictures of one body correlate more than this (0.985 with 60 HU of noise), and of two less (0.88 at most,
#: of 210 pairs). Without so much in them (SD, HU) nothing is said.
ONE_BODY, _LEAST_SD_HU = 0.93, 80.0
#: Slices that are looked at; they agree on how far they are apart within a pixel, so many of them.
_MOST_SLICES, _AGREE, _OFTEN, _SHIFTED_PIXELS = 5, 1.0, 0.6, 1.5
_ANATOMY_HU = (-1000.0, 300.0)
_AXES = {"left to right": 2, "front to back": 1, "head to foot": 0}
#: So many slices aside are looked for, and more where it gets better from one to the next; what is left of
#: the unlikeness where a volume is turned, or so many slices aside, and how much of it there has to be.
_MOST_ASIDE, _LEFT, _LEAST_UNLIKE = 3, 0.5, 1e-4
#: Of volumes on two grids so many slices and pixels are compared, and no fewer.
_SLICES, _PIXELS, _LEAST_SLICES, _LEAST_PIXELS = 48, 256, 3, 32


def small_picture(array: np.ndarray) -> np.ndarray:
    """Return means of parts [z, y, x] of an image in HU, as many as 8 x 24 x 24 or its voxels."""
    parts = [
        np.array_split(np.arange(length), min(length, count))
        for length, count in zip(array.shape, _SHAPE, strict=True)
    ]
    rows, columns = ([one[0] for one in axis] for axis in parts[1:])
    size = np.outer([len(one) for one in parts[1]], [len(one) for one in parts[2]])
    slices = []
    for some in parts[0]:
        plane = np.clip(array[some[len(some) // 2]], *_RANGE_HU).astype(np.float64)
        slices.append(np.add.reduceat(np.add.reduceat(plane, rows, axis=0), columns, axis=1) / size)
    return np.stack(slices)


def alike(one: np.ndarray, other: np.ndarray, unknown: float = 1.0) -> float:
    """Return how small pictures correlate; `unknown` where there is too little in them to say."""
    if one.shape != other.shape or min(one.std(), other.std()) < _LEAST_SD_HU:
        return unknown
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def in_common(reference: CTVolume, volume: CTVolume) -> tuple[np.ndarray, np.ndarray, int]:
    """Return what both show [z, y, x] of the part that they share, on some slices of the volume and every so
    many of its pixels, and that number; nothing where they share too little."""
    from scipy import ndimage

    step = max(1, max(volume.array.shape[1:]) // _PIXELS)
    to_reference = (reference.direction / reference.spacing).T
    matrix = (to_reference @ (volume.direction * volume.spacing))[::-1, ::-1]
    low, high = (np.round(one).astype(int) for one in extent(reference, volume))
    first, last = max(0, int(low[2])), min(len(volume.array), int(high[2]) + 1)
    middle = max(first, (first + last - _SLICES) // 2)
    other = np.asarray(volume.array[middle : min(last, middle + _SLICES), ::step, ::step], np.float32)
    if not other.size:
        return other, other, step
    offset = (to_reference @ np.subtract(volume.origin, reference.origin))[::-1] + matrix[:, 0] * middle
    one = ndimage.affine_transform(
        reference.array, matrix * (1, step, step), offset, other.shape, np.float32, order=1, cval=np.nan
    )
    shared = np.isfinite(one)
    if not shared.any():
        return one[:0], other[:0], step
    for axis in range(3):
        some = shared.mean(axis=tuple({0, 1, 2} - {axis}))
        keep = np.flatnonzero(some > 0.5 * some.max())
        one, other, shared = (np.take(array, keep, axis) for array in (one, other, shared))
    if len(one) < _LEAST_SLICES or min(one.shape[1:]) < _LEAST_PIXELS:
        return one[:0], other[:0], step
    return np.where(shared, one, _RANGE_HU[0]), np.where(shared, other, _RANGE_HU[0]), step


def extent(volume: CTVolume, reference: CTVolume) -> tuple[np.ndarray, np.ndarray]:
    """Return the volume's outer corners as (x, y, z) indices of the reference's grid: lowest and highest."""
    ends = [(-0.5, size - 0.5) for size in reversed(volume.array.shape)]
    corners = np.array(np.meshgrid(*ends)).reshape(3, -1).T * volume.spacing @ volume.direction.T
    indices = (corners + volume.origin - reference.origin) @ reference.direction / reference.spacing
    return indices.min(0), indices.max(0)


def shift_between(one: np.ndarray, other: np.ndarray) -> np.ndarray | None:
    """Rows and columns by which `other` is displaced against `one`; None where nothing shows it.

    From the correlation of both slices' edges, its peak refined by parabolas."""
    edges = [edges_of(image) for image in (one, other)]
    if min(float(edge.std()) for edge in edges) < 1.0:
        return None
    a, b = (np.fft.rfft2(edge) for edge in edges)
    correlation = np.fft.irfft2(a.conj() * b, s=one.shape)
    peak = np.unravel_index(int(correlation.argmax()), correlation.shape)
    found = []
    for axis, at in enumerate(peak):
        size = one.shape[axis]
        place = list(peak)
        around = []
        for step in (-1, 0, 1):
            place[axis] = (int(at) + step) % size
            around.append(float(correlation[tuple(place)]))
        bend = around[0] - 2 * around[1] + around[2]
        part = 0.5 * (around[0] - around[2]) / bend if bend else 0.0
        whole = int(at) - size if int(at) > size // 2 else int(at)
        found.append(whole + part)
    return np.array(found)


def edges_of(image: np.ndarray) -> np.ndarray:
    """Return how steep a slice [y, x] in HU is, less its mean; bone and air count as their neighbours."""
    from scipy import ndimage

    clipped = np.clip(image, -400, 250).astype(np.float32)
    edge = ndimage.gaussian_gradient_magnitude(clipped, 1.5)
    return np.asarray(edge - edge.mean())


def how_displaced(before: np.ndarray, after: np.ndarray, spacing: Sequence[float], step: int = 1) -> str:
    """Return how images [z, y, x] of one grid, `spacing` (x, y, z) in mm, do not lie on each other.

    `step`: they are every so many rows and columns of that grid.

    Such as 'are alike once one is turned head to foot', or 'do not lie on each other: one is 2.4 mm aside (+0
    rows, +3 columns), …'; '' where they do, or show two bodies.
    """
    one = small_picture(before)
    found = alike(one, small_picture(after))
    likely: dict[str, float] = {}
    for count in range(1, len(_AXES) + 1):
        for names in itertools.combinations(_AXES, count):
            turned = np.flip(after, tuple(_AXES[name] for name in names))
            likely[_once_turned(names)] = alike(one, small_picture(turned), unknown=0.0)
    for sign, one_end, other_end in (("+", before, after), ("-", after, before)):
        last = -1.0
        for by in range(1, len(before) // 2 + 1):
            fit = alike(small_picture(one_end[:-by]), small_picture(other_end[by:]), unknown=0.0)
            if by > _MOST_ASIDE and (fit <= last or (3 * by > len(before) and fit < ONE_BODY)):
                break
            last = fit
            if 3 * by <= len(before) or by > _MOST_ASIDE:
                likely[_aside(f"{by * spacing[2]:.2g} mm aside ({sign}{counted(by, 'slice')})")] = fit
    best = max(likely, key=lambda how: likely[how])
    if 1 - found < _LEAST_UNLIKE or 1 - likely[best] > _LEFT * (1 - found) or likely[best] < ONE_BODY:
        best = ""
    rows, columns = _apart(before, after)
    if np.hypot(rows, columns) >= _SHIFTED_PIXELS:
        back = np.roll(after, (-round(rows), -round(columns)), (1, 2))
        if alike(one, small_picture(back)) >= max(ONE_BODY, likely.get(best, 0.0)):
            return _beside(rows * step, columns * step, spacing)
    if not best and found < ONE_BODY:  # cut out of the middle of one that is turned
        return _turned_elsewhere(before, after, one)
    return best


def _turned_elsewhere(before: np.ndarray, after: np.ndarray, picture: np.ndarray) -> str:
    """Return how `after` is turned about a place that is not its middle; '' where it is not."""
    for names in (("left to right",), ("front to back",), ("left to right", "front to back")):
        turned = np.flip(after, tuple(_AXES[name] for name in names))
        rows, columns = _apart(before, turned)
        back = np.roll(turned, (-round(rows), -round(columns)), (1, 2))
        kept = np.s_[:, slice(*_kept(rows, before.shape[1])), slice(*_kept(columns, before.shape[2]))]
        shows = min(picture.std(), small_picture(after).std()) >= _LEAST_SD_HU
        if not shows or back[kept].size < before.size / 4:
            continue
        if alike(small_picture(before[kept]), small_picture(back[kept]), unknown=0.0) >= ONE_BODY:
            return _once_turned(names)
    return ""


def _kept(moved: float, size: int) -> tuple[int, int]:
    """Return what of an axis is still there once it is rolled back by so much."""
    return max(0, -round(moved)), size - max(0, round(moved))


def _once_turned(names: Sequence[str]) -> str:
    return f"are alike once one is turned {' and '.join(names)}"


def _beside(rows: float, columns: float, spacing: Sequence[float]) -> str:
    length = np.hypot(rows * spacing[1], columns * spacing[0])
    return _aside(f"{length:.2g} mm aside ({round(rows):+d} rows, {round(columns):+d} columns)")


def _aside(how: str) -> str:
    return f"do not lie on each other: one is {how}, though their headers say the same"


def _apart(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return by how many rows and columns `other` [z, y, x] is displaced; 0, 0 where slices do not agree."""
    planes = np.unique(np.linspace(0, len(one) - 1, _MOST_SLICES).astype(int))
    moved = [shift_between(*(np.clip(some[z], *_ANATOMY_HU) for some in (one, other))) for z in planes]
    known = np.array([found for found in moved if found is not None])
    if not len(known):
        return 0.0, 0.0
    middle = np.median(known, axis=0)
    if np.mean(np.hypot(*(known - middle).T) < _AGREE) < _OFTEN:
        return 0.0, 0.0
    return float(middle[0]), float(middle[1])
