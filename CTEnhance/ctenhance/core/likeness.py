"""Do two images show one body, and does one lie on the other?

Images of one scan, however noisy, sharp or smooth, are alike in their larger parts, and their edges lie on
each other. Scans of two patients, even of one region, are not.
"""

from __future__ import annotations

import numpy as np

#: Slices, rows and columns of the small picture by which images are compared, and its range, HU.
_SHAPE, _RANGE_HU = (8, 24, 24), (-1000.0, 300.0)
#: Pictures of one body correlate more than this (0.985 with 60 HU of noise), and of two less (0.88 at most,
#: of 210 pairs). Without so much in them (SD, HU) nothing is said.
ONE_BODY, _LEAST_SD_HU = 0.93, 80.0


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


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Return how small pictures correlate; 1 where there is too little in them to say."""
    if one.shape != other.shape or min(one.std(), other.std()) < _LEAST_SD_HU:
        return 1.0
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


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
