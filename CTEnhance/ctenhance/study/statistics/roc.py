"""ROC and free-response figures of merit, as means of a kernel over pairs of cases.

The area under the empirical ROC curve and the weighted AFROC area both have the form mean of K[i, j] over
normal cases i and diseased cases j. `mrmc` needs nothing else of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from ctenhance.study.design import Lesion
from ctenhance.study.statistics.estimate import ALPHA, Estimate

UNMARKED = -np.inf


def auc_kernel(normal: np.ndarray, diseased: np.ndarray) -> np.ndarray:
    """Return [normal, diseased]: 1 where the diseased case is rated higher, 0.5 where alike, else 0.

    Its mean is the trapezoidal area under the ROC curve (Bamber 1975).
    """
    higher = np.greater.outer(diseased, normal).T
    return higher + 0.5 * np.equal.outer(diseased, normal).T


def roc_points(normal: np.ndarray, diseased: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return false- and true-positive fractions at every threshold, from (0, 0) to (1, 1)."""
    thresholds = np.unique(np.concatenate([normal, diseased]))[::-1]
    false = [0.0, *((normal >= threshold).mean() for threshold in thresholds)]
    true = [0.0, *((diseased >= threshold).mean() for threshold in thresholds)]
    return np.array(false), np.array(true)


def scored_marks(marks: Sequence[dict], lesions: Sequence[Lesion]) -> tuple[np.ndarray, np.ndarray]:
    """Return the ratings of a case's lesions [lesion] and those of the marks that hit none [mark].

    A mark hits the nearest lesion whose radius it lies within. A lesion is rated by the most confident mark
    on it; `UNMARKED` where there is none. Marks are `{"point": [x, y, z], "confidence": c}` in mm (LPS).
    """
    rated = np.full(len(lesions), UNMARKED)
    false = []
    for mark in marks:
        distances = [float(np.linalg.norm(np.subtract(mark["point"], lesion.point))) for lesion in lesions]
        hits = [number for number, lesion in enumerate(lesions) if distances[number] <= lesion.radius_mm]
        if hits:
            nearest = min(hits, key=lambda number: distances[number])
            rated[nearest] = max(rated[nearest], mark["confidence"])
        else:
            false.append(mark["confidence"])
    return rated, np.array(false, float)


def wafroc_kernel(normal: np.ndarray, lesions: Sequence[np.ndarray]) -> np.ndarray:
    """Return [normal case, diseased case] whose mean is the weighted AFROC figure of merit.

    normal   the highest rating of a false mark on each normal case, `UNMARKED` where there is none
    lesions  for each diseased case the ratings of its lesions; they have equal weights, 1 / their number, so
             that a case with many lesions counts no more than one with a single one
    Chakraborty & Zhai (2016), "On the meaning of the weighted alternative free-response operating
    characteristic figure of merit"; false marks on diseased cases do not count.
    """
    return np.stack([auc_kernel(normal, ratings).mean(axis=1) for ratings in lesions], axis=1)


def figure_of_merit(kernel: np.ndarray) -> Estimate:
    """Return one reader's figure of merit with its jackknife interval over cases.

    Normal on the logit scale, which keeps it within 0 and 1 and holds for figures near them, too (Pepe 2003,
    The Statistical Evaluation of Medical Tests, section 5.2). No interval at 0 and 1, and none of a single
    case of either kind.
    """
    value = float(kernel.mean())
    if min(kernel.shape) < 2:
        return Estimate.of(value, why="no interval: of a single case of one kind the scatter is not known")
    error = math.sqrt(jackknife_covariance(kernel[None, None])[0, 0])
    if not 0 < value < 1:
        return Estimate.of(value, why="no interval at 0 and 1, where nothing shows how the value scatters")
    if not error > 0:
        return Estimate.of(value, why="no interval: no single case changes the value")
    reach = stats.norm.ppf(1 - ALPHA / 2) * error / (value * (1 - value))
    low, high = special.expit(special.logit(value) + np.array([-reach, reach]))
    return Estimate.of(value, low, high)


def jackknife_covariance(kernels: np.ndarray) -> np.ndarray:
    """Return the covariances [m, m] of all figures of merit of kernels [modality, reader, normal, diseased].

    The delete-one jackknife over all N cases of both kinds, (N - 1) / N * sum of products of the deviations
    of the leave-one-out values from their mean (Efron & Stein 1981), m = modality * readers + reader.
    """
    modalities, readers, normal, diseased = kernels.shape
    flat = kernels.reshape(modalities * readers, normal, diseased)
    total = flat.sum(axis=(1, 2), keepdims=True)[:, :, 0]
    pieces = []
    if normal > 1:
        pieces.append((total - flat.sum(axis=2)) / ((normal - 1) * diseased))
    if diseased > 1:
        pieces.append((total - flat.sum(axis=1)) / (normal * (diseased - 1)))
    left_out = np.concatenate(pieces, axis=1)
    deviations = left_out - left_out.mean(axis=1, keepdims=True)
    cases = left_out.shape[1]
    return (cases - 1) / cases * deviations @ deviations.T
