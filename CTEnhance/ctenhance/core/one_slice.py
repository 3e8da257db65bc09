"""Is one slice of a stack off by some HU throughout, or far smoother or noisier than those beside it?

So is one that lost its rescaling, was compressed or filtered alone, or came from another reconstruction. A
body changes from slice to slice as well, but not by one value everywhere, and its noise changes little.
"""

from __future__ import annotations

import numpy as np

from ctenhance.core.blocks import block_means

_FEWEST, _FEWEST_PIXELS = 5, 300
#: HU by which nearly all blocks of a slice are off against the mean of its neighbours, within a part of it,
#: and against what is usual.
_OFF_HU, _NEARLY_ALL, _WITHIN, _TIMES_TYPICAL = 12.0, 0.75, 0.4, 8.0
#: Of noise, by second differences along every so manieth row where tissue is: times as much or as little.
_ROWS, _TISSUE_HU, _TIMES = 4, (-200.0, 200.0), 2.0


def doubt_of_one_slice(array: np.ndarray, means: np.ndarray | None = None) -> str:
    """Return the note on single slices of HU [z, y, x] that are off, smooth or noisy; '' for others.

    `means`: those of blocks of 8 x 8 pixels [z, y, x], where they are known.
    """
    if len(array) < _FEWEST:
        return ""
    if means is None:
        means = np.stack([block_means(plane) for plane in array])
    return _off(means, len(array)) or _other_noise(array)


def _off(means: np.ndarray, count: int) -> str:
    if means.shape[1] * means.shape[2] < 16:
        return ""
    apart = (means[1:-1] - (means[:-2] + means[2:]) / 2).reshape(count - 2, -1)
    by = np.median(apart, axis=1)
    typical = float(np.median(np.abs(by)))
    alike = np.mean(np.abs(apart - by[:, None]) <= _WITHIN * np.abs(by)[:, None], axis=1)
    odd = np.flatnonzero((np.abs(by) >= max(_OFF_HU, _TIMES_TYPICAL * typical)) & (alike >= _NEARLY_ALL))
    at = int(np.abs(by).argmax())
    beside = [one for one in (at - 1, at + 1) if 0 <= one < len(by)]
    # The slices on either side are then off the other way, by half as much.
    halves = all(abs(by[one] + by[at] / 2) <= _WITHIN * abs(by[at]) / 2 for one in beside)
    if at not in odd or not halves or not set(odd.tolist()) <= {at, *beside}:
        return ""
    return (
        f"slice {at + 2} of {count} (counted as they are stored) lies {by[at]:+.0f} HU from both its "
        "neighbours nearly everywhere, as where it was rescaled otherwise: make sure that its values are "
        "right"
    )


def _other_noise(array: np.ndarray) -> str:
    noise = np.array([_noise(plane) for plane in array])
    before, own, behind = noise[:-2], noise[1:-1], noise[2:]
    with np.errstate(invalid="ignore"):
        smooth = own * _TIMES < np.minimum(before, behind)
        rough = own > _TIMES * np.maximum(before, behind)
        alike = np.maximum(before, behind) < _TIMES / 1.4 * np.minimum(before, behind)
    odd = np.flatnonzero((smooth | rough) & alike)
    if len(odd) != 1:
        return ""
    at = int(odd[0])
    how = "smoother" if smooth[at] else "noisier"
    return (
        f"slice {at + 2} of {len(array)} (counted as they are stored) is much {how} than its neighbours, as "
        "where it was compressed or filtered, or made up, or is of another reconstruction: look at it before "
        "you use the result"
    )


def _noise(plane: np.ndarray) -> float:
    """Return the median second difference of tissue along the rows of a slice [y, x]; NaN of too little."""
    some = plane[::_ROWS].astype(np.float32)
    inner = some[:, 1:-1]
    tissue = (inner > _TISSUE_HU[0]) & (inner < _TISSUE_HU[1])
    if np.count_nonzero(tissue) < _FEWEST_PIXELS:
        return float("nan")
    return float(np.median(np.abs(some[:, 2:] - 2 * inner + some[:, :-2])[tissue]))
