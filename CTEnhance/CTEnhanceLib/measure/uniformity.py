"""Is what varies in a box noise alone, or is there structure in it, too?

The standard deviation of a box is its noise only where the object is uniform. Three things tell, and all of
them must hold: the means of the box's parts differ no more than noise makes them, the values are spread as
those of noise (neither edges nor small bright or dark things among them), and there are enough independent
values to tell at all. In doubt the answer is no.
"""

from __future__ import annotations

import numpy as np

# So many independent values at least, and so many for finer parts.
_LEAST, _FINER = 40, 90
# Of the variance, the share that may lie between the parts' means (it raises the SD by 6 %), beside what is
# there by chance, parts / independent values, so often; and the most of both.
_BETWEEN, _CHANCES, _MOST_BETWEEN = 0.12, 2.0, 0.25
# How far skewness and kurtosis may be from those of normal values, beside so many of their standard errors.
_SKEWNESS, _KURTOSIS, _ERRORS = 0.1, 0.3, 1.5
# The same of the median deviation, scaled to 1 for normal values, by the SD.
_SPREAD, _NORMAL = 0.05, 1.4826
# Noise of CT has no long waves: neighbours in a slice are no more alike than this; and so many voxels apart,
# values are so much alike at most, beside what follows from the neighbours.
_NEAR, _APART, _ALIKE = 0.88, (3, 4, 5, 6), 0.2


def isUniform(values: np.ndarray, inside: np.ndarray | None = None) -> bool:
    """Say whether a box [slice, row, column] of HU holds noise alone; `inside`: the voxels that count."""
    mask = np.ones(values.shape, bool) if inside is None else inside
    count = int(np.count_nonzero(mask))
    if count < _LEAST:
        return False
    chosen = values[mask].astype(np.float64)
    if chosen.std() == 0:
        return True
    normal = np.zeros(values.shape)
    normal[mask] = (chosen - chosen.mean()) / chosen.std()
    labels = _parts(values.shape, 3)
    # Without the parts' means: what neighbours share because of structure is no correlation of noise.
    sizes = np.maximum(np.bincount(labels[mask], minlength=labels.max() + 1), 1)
    means = np.bincount(labels[mask], normal[mask], labels.max() + 1) / sizes
    independent = count / _together(np.where(mask, normal - means[labels], 0.0), mask)
    if independent < _LEAST or _hasLongWaves(normal, mask):
        return False
    return _isNormal(normal[mask], independent) and all(
        _isEven(normal[mask], _parts(values.shape, across)[mask], independent)
        for across in ((2, 3) if independent >= _FINER else (2,))
    )


def _isNormal(values: np.ndarray, independent: float) -> bool:
    """Say whether values of mean 0 and SD 1 are spread as noise is."""
    error = _ERRORS / np.sqrt(independent)
    spread = _NORMAL * float(np.median(np.abs(values - np.median(values))))
    return (
        abs(float((values**3).mean())) <= _SKEWNESS + error * np.sqrt(6)
        and abs(float((values**4).mean()) - 3) <= _KURTOSIS + error * np.sqrt(24)
        and abs(spread - 1) <= _SPREAD + error
    )


def _isEven(values: np.ndarray, labels: np.ndarray, independent: float) -> bool:
    """Say whether the means of the parts differ no more than noise makes them."""
    counts = np.bincount(labels)
    means = np.bincount(labels, values)[counts > 0] / counts[counts > 0]
    between = float((counts[counts > 0] * means**2).sum() / len(values))
    return between <= min(_BETWEEN + _CHANCES * len(means) / independent, _MOST_BETWEEN)


def _together(values: np.ndarray, mask: np.ndarray) -> float:
    """Return how many voxels of noise go together, by how alike neighbours are (Gaussian correlation).

    values - of mean 0, and 0 outside the mask
    """
    volume, variance = 1.0, float((values[mask] ** 2).mean())
    for axis in range(3):
        alike = _alike(values, mask, axis, 1) / variance if variance > 0 else 0.0
        if alike > 0:
            volume *= max(1.0, float(np.sqrt(np.pi / -np.log(min(alike, 0.999)))))
    return volume


def _hasLongWaves(values: np.ndarray, mask: np.ndarray) -> bool:
    """Say whether values of mean 0 and SD 1 are alike over many voxels along rows or columns."""
    for axis in (1, 2):
        near = max(_alike(values, mask, axis, 1), 0.0)
        far = np.mean([_alike(values, mask, axis, step) - near ** (step**2) for step in _APART])
        if near > _NEAR or far > _ALIKE:
            return True
    return False


def _alike(values: np.ndarray, mask: np.ndarray, axis: int, step: int) -> float:
    """Return the mean product of values so many voxels apart along an axis; 0 where there are none."""
    length = values.shape[axis] - step
    if length < 1:
        return 0.0
    first, second = (
        [each.take(range(start, length + start), axis) for each in (values, mask)] for start in (0, step)
    )
    both = first[1] & second[1]
    return float((first[0] * second[0])[both].mean()) if both.any() else 0.0


def _parts(shape: tuple[int, ...], across: int) -> np.ndarray:
    """Number the voxels by the parts of the box, so many along rows and columns, two along many slices."""
    counts = (2 if shape[0] >= 4 else 1, across, across)
    indices = [np.arange(n) * min(count, n) // n for n, count in zip(shape, counts, strict=True)]
    return np.ravel_multi_index(np.meshgrid(*indices, indexing="ij"), counts)
