"""What a region says of an image and of what was done to it: paired difference, noise spectrum, edge.

Neighbouring voxels of a CT are alike, so that a region holds fewer independent values than voxels. Intervals
take that into account: the variance of a mean is the sum of the region's own autocovariance over those
neighbours that are positively correlated (Priestley, Spectral Analysis and Time Series, 1981, eq. 5.3.5, in
three dimensions), and their number follows from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft, special

from ctenhance.quality import noise, sharpness
from ctenhance.quality.guide import smoothed_guide
from ctenhance.runtime.errors import InputError

Array = np.ndarray
Spacing = tuple[float, float, float]

CONFIDENCE = 0.95
FEWEST_INDEPENDENT = 6.0
# Correlation is looked for in so many voxels at most, about the middle of the region.
MOST_LOOKED_AT = 60_000
# Of all pairs of voxels in the region, the part at most that may be taken to be correlated.
MOST_CORRELATED = 0.3
ENOUGH_SQUARES = 8
#: In the slice; what `edge` needs around a region to follow an edge to both sides, in mm.
MARGIN_MM = sharpness.REACH_MM + 2.0


@dataclass(frozen=True)
class Difference:
    """A difference of means (HU), its 95 % interval, and how many independent values it rests on.

    `low` and `high` are None where the region is too small, or too much alike, to tell.
    """

    mean: float
    low: float | None
    high: float | None
    independent: float | None


def paired_difference(before: Array, after: Array, inside: Array | None = None) -> Difference:
    """Return the mean of `after - before` (HU [z, y, x], the same voxels) with its interval.

    inside - the voxels that count; None: all

    The interval is Student's t on the voxelwise differences, whose correlation is estimated from the region.
    """
    mask = np.ones(before.shape, bool) if inside is None else inside
    change = np.where(mask, after.astype(np.float64) - before.astype(np.float64), 0.0)
    mean = float(change[mask].mean())
    error, independent = mean_error(change, mask)
    return _interval(mean, error, independent)


def unpaired_difference(before: tuple[Array, Array], after: tuple[Array, Array]) -> Difference:
    """Return the difference of the means of two regions (each HU [z, y, x] and its mask) of unlike voxels.

    The interval is Welch's, with each region's correlation taken into account.
    """
    means, errors, counts = [], [], []
    for values, mask in (before, after):
        error, independent = mean_error(np.where(mask, values.astype(np.float64), 0.0), mask)
        means.append(float(values[mask].mean(dtype=np.float64)))
        errors.append(error)
        counts.append(independent)
    mean = means[1] - means[0]
    known = [
        (error**2, count)
        for error, count in zip(errors, counts, strict=True)
        if error is not None and count is not None
    ]
    if len(known) < 2:
        return Difference(mean, None, None, None)
    both = sum(square for square, _count in known)
    parts = sum(square**2 / (count - 1) for square, count in known)
    freedom = both**2 / parts if parts > 0 else min(count for _square, count in known) - 1
    return _interval(mean, float(np.sqrt(both)), freedom + 1)


def _interval(mean: float, error: float | None, independent: float | None) -> Difference:
    if error is None or independent is None:
        return Difference(mean, None, None, None)
    reach = float(special.stdtrit(independent - 1, 0.5 + CONFIDENCE / 2)) * error
    return Difference(mean, mean - reach, mean + reach, independent)


def mean_error(values: Array, mask: Array) -> tuple[float | None, float | None]:
    """Return the standard error of the mean of `values[mask]` ([z, y, x], 0 elsewhere), and how many
    independent values there are; None twice where that cannot be told."""
    found = mask[_middle(mask.shape)]
    independent = _independent(values[_middle(mask.shape)], found)
    if independent is None:
        return None, None
    count = int(np.count_nonzero(mask))
    independent *= count / int(np.count_nonzero(found))
    variance = float(np.square(values[mask] - values[mask].mean()).sum() / (count - count / independent))
    return float(np.sqrt(variance / independent)), independent


def _middle(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the middle of a box, of no more than `MOST_LOOKED_AT` voxels."""
    lengths = list(shape)
    while np.prod(lengths) > MOST_LOOKED_AT:
        longest = int(np.argmax(lengths))
        lengths[longest] -= max(1, lengths[longest] // 8)
    return tuple(
        slice((n - kept) // 2, (n - kept) // 2 + kept) for n, kept in zip(shape, lengths, strict=True)
    )


def _independent(values: Array, mask: Array) -> float | None:
    """Return how many independent values there are in `values[mask]`; None where that cannot be told."""
    count = int(np.count_nonzero(mask))
    if count < FEWEST_INDEPENDENT:
        return None
    rest = np.where(mask, values - values[mask].mean(), 0.0)
    variance = float(np.square(rest).sum() / count)
    if variance <= 1e-12 * max(1.0, float(np.abs(values[mask]).max())) ** 2:
        return float(count)
    shape = [fft.next_fast_len(2 * n - 1, real=True) for n in mask.shape]
    products, pairs = (
        fft.irfftn(np.square(np.abs(fft.rfftn(each, shape))), shape) for each in (rest, mask.astype(float))
    )
    pairs = np.rint(pairs)
    covariance = np.divide(products, pairs, out=np.zeros_like(products), where=pairs > 0)
    near = np.ix_(*(_lags(covariance, pairs, axis) for axis in range(3)))
    correlated = pairs[near].sum() / count**2
    if correlated > MOST_CORRELATED:
        return None
    # Subtracting the mean has taken its own variance from each covariance.
    squared = float((pairs[near] * covariance[near]).sum()) / count**2 / (1 - correlated)
    squared = max(squared, variance / count)  # noise whose neighbours differ more than by chance: not less
    independent = (variance + squared) / squared
    return float(independent) if independent >= FEWEST_INDEPENDENT else None


def _lags(covariance: Array, pairs: Array, axis: int) -> Array:
    """Return how far along an axis, to both sides, values are positively correlated with their neighbours."""
    along = tuple(slice(None) if each == axis else 0 for each in range(3))
    values, counts = covariance[along], pairs[along]
    half = len(values) // 2 + 1
    # Below the scatter of a correlation that is estimated from so many pairs, it is none.
    chance = values[0] / np.sqrt(np.maximum(pairs[0, 0, 0], 1))
    away = np.flatnonzero((values[:half] <= chance) | (counts[:half] == 0))
    reach = int(away[0]) if len(away) else half
    return np.unique(np.arange(-reach + 1, reach) % len(values)) if reach > 1 else np.array([0])


def noise_in(volumes: Mapping[str, Array], inside: Array, spacing: Spacing) -> dict[str, Any]:
    """Measure the noise power spectrum of a region of `volumes` (by name, each HU [z, y, x]).

    inside - the region's voxels; spacing - x, y, z in mm

    Returns `squares` (how many, each wholly in the region), `side_mm`, `frequency_per_mm`, and for each name
    what `noise.power_spectrum` tells. Raises InputError where no square of 8 pixels fits.
    """
    least, most = noise.SIDE_LIMITS_PX
    corners: Array = np.empty((0, 3), int)
    for side in range(min(most, *inside.shape[1:]), least - 1, -1):
        found = noise.corners_in(inside, side)
        if len(found):
            corners = found
            if len(found) >= ENOUGH_SQUARES:
                break
    else:
        side = least
    if not len(corners):
        raise InputError(
            f"The region is too small for a noise spectrum: a square of {least} pixels has to fit into it."
        )
    squares = {name: noise.detrended(noise.cut(volume, corners, side)) for name, volume in volumes.items()}
    spectra: dict[str, Any] = {
        name: noise.power_spectrum(values, spacing) for name, values in squares.items()
    }
    frequency = [spectrum.pop("frequency_per_mm") for spectrum in spectra.values()].pop()
    return {
        "squares": len(corners),
        "side_mm": side * spacing[0],
        "frequency_per_mm": frequency,
        **spectra,
    }


def edge_in(volumes: Mapping[str, Array], inside: Array, spacing: Spacing) -> dict[str, Any]:
    """Measure the edge that runs through a region, as `sharpness.edge_in` does, in the same places of all.

    The volumes should reach `MARGIN_MM` beyond the region in the slice. Raises InputError where there is no
    edge.
    """
    found = sharpness.edge_in(volumes, smoothed_guide(volumes, spacing), inside, spacing)
    if found is None:
        raise InputError(
            "No edge runs through the region: lay it across one border, straight or gently curved, with even "
            f"ground for {sharpness.PLATEAU_MM[1]:g} mm on both sides."
        )
    return found
