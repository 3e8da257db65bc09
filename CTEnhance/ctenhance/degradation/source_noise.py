"""The noise that a volume already has: how much, how rough in plane, how alike from slice to slice.

Added noise has to fit it: `photons per ray` of the volume's own scan is the flux at which simulated noise
is as strong as the measured one in the same flat soft tissue, and the kernel of the simulated reconstruction
is the one whose noise has the same texture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

#: Side of the window (pixels) for local means and standard deviations.
WINDOW = 9
#: Distances in pixels at which texture is measured: noise of all kernels is independent at the last.
LAGS = (1, 2, 3, 4, 6)
#: A volume with less noise than this (HU) counts as noiseless: a phantom, or anatomy that was denoised to
#: nothing.
LEAST_NOISE_HU = 1.0
# Flat pixels that a measurement needs, in all slices looked at.
_LEAST_PIXELS = 400
_SLICES_LOOKED_AT = 5
# Slices next to one another whose noise correlates less than this count as independent (anatomy correlates
# a little).
_LEAST_AXIAL_CORRELATION = 0.2


def local_statistics(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Local mean and standard deviation of `[rows, columns]` in windows of 9 x 9 pixels."""
    image = image.astype(np.float64)
    mean = ndimage.uniform_filter(image, WINDOW)
    variance = ndimage.uniform_filter(image * image, WINDOW) - mean * mean
    return mean, np.sqrt(np.maximum(variance, 0) * (WINDOW**2 / (WINDOW**2 - 1)))


def mode(values: np.ndarray) -> float:
    """The most frequent value: the densest half of the sample, halved until little is left."""
    x = np.sort(np.asarray(values, dtype=np.float64).ravel())
    while x.size > 64:
        half = x.size // 2
        start = int(np.argmin(x[half:] - x[: x.size - half]))
        x = x[start : start + half]
    return float(x.mean())


def texture(image: np.ndarray, flat: np.ndarray) -> tuple[float, ...]:
    """Mean squared differences of pixels that are `LAGS` apart, in `flat`, over their own mean.

    Of ratios, since any SD near them has anatomy in it: noise that was compared with the local SD came out 4
    % (a phantom) to 27 % (a chest) too smooth."""
    squared = []
    for lag in LAGS:
        across = ((image[:, lag:] - image[:, :-lag]) ** 2)[flat[:, lag:] & flat[:, :-lag]]
        down = ((image[lag:] - image[:-lag]) ** 2)[flat[lag:] & flat[:-lag]]
        # medians of chi-squared values, so that a vessel in a flat region does not count; one for each
        # direction, since the noise of a long body is rougher across its length
        squared.append(float(np.median(across) + np.median(down)) if len(across) and len(down) else 0.0)
    total = sum(squared)
    return tuple(value / total * len(LAGS) if total else 1.0 for value in squared)


def _soft_tissue(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mask of windows that lie in soft tissue entirely, judged on a smoothed copy, and the local SD."""
    mean, deviation = local_statistics(image)
    smooth = ndimage.uniform_filter(mean, 3)
    soft = (smooth > -60) & (smooth < 180)
    soft = ndimage.binary_erosion(soft, iterations=WINDOW // 2)
    return soft, deviation


@dataclass(frozen=True)
class FlatSlice:
    """One slice and the pixels of it in which the local SD is that of the noise."""

    index: int
    image: np.ndarray
    flat: np.ndarray


@dataclass(frozen=True)
class OwnNoise:
    """`sd_hu` in flat soft tissue (0 where none was found), `texture`, and where it was measured."""

    sd_hu: float
    texture: tuple[float, ...]
    axial_correlation: float
    slices: tuple[FlatSlice, ...] = field(repr=False)

    @property
    def measurable(self) -> bool:
        return self.sd_hu >= LEAST_NOISE_HU


def measure(array: np.ndarray) -> OwnNoise:
    """Measure the noise of HU `[z, y, x]` in a few slices spread over the middle of the volume."""
    n_slices = array.shape[0]
    spread = np.linspace(0.15, 0.85, _SLICES_LOOKED_AT) * (n_slices - 1)
    indices = sorted({round(float(z)) for z in spread})
    looked_at = [(z, *_soft_tissue(array[z])) for z in indices]
    deviations = np.concatenate([deviation[soft] for _, soft, deviation in looked_at])
    if deviations.size < _LEAST_PIXELS:
        return OwnNoise(0.0, (), 0.0, ())
    sd = mode(deviations)
    slices = tuple(
        FlatSlice(z, array[z], soft & (deviation < 1.35 * sd))
        for z, soft, deviation in looked_at
        if np.count_nonzero(soft & (deviation < 1.35 * sd)) >= _LEAST_PIXELS // 4
    )
    if sd < LEAST_NOISE_HU or not slices:
        return OwnNoise(sd if slices else 0.0, (), 0.0, slices)
    found = np.median([texture(s.image.astype(np.float32), s.flat) for s in slices], axis=0)
    return OwnNoise(sd, tuple(float(value) for value in found), _axial_correlation(array, slices), slices)


def _axial_correlation(array: np.ndarray, slices: tuple[FlatSlice, ...]) -> float:
    """Correlation of the noise of slices next to one another."""
    found = []
    for s in slices:
        if s.index + 1 >= array.shape[0]:
            continue
        mean, deviation = local_statistics(array[s.index + 1])
        both = s.flat & (deviation < 1.5 * np.median(deviation[s.flat]))
        if np.count_nonzero(both) < _LEAST_PIXELS // 4:
            continue
        here = (s.image - local_statistics(s.image)[0])[both]
        above = (array[s.index + 1] - mean)[both]
        found.append(float(np.mean(here * above) / (here.std() * above.std())))
    return float(np.median(found)) if found else 0.0


def overlap_thickness(spacing_mm: float, axial_correlation: float) -> float:
    """Thickness in mm of slices at `spacing_mm` whose noise correlates so: a box of T has 1 - spacing / T."""
    if axial_correlation < _LEAST_AXIAL_CORRELATION:
        return spacing_mm
    return spacing_mm / (1 - min(axial_correlation, 0.75))


def overlap_weights(spacing_mm: float, thickness_mm: float) -> tuple[float, ...]:
    """How a slice's noise is mixed from independent noise of the slices around it; the squares sum to 1.

    A box of the slices' thickness from the edge of one slice on: the shift by less than a slice does not
    matter to noise, and whole ratios have exactly the correlation 1 - spacing / thickness.
    """
    ratio = max(1.0, thickness_mm / spacing_mm)
    steps = np.arange(math.ceil(ratio - 1e-9))
    weights = np.minimum(steps + 1, ratio) - steps
    return tuple(float(w) for w in weights / np.linalg.norm(weights))
