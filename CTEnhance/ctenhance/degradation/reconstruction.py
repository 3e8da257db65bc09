"""How errors of projections become an error of the image, and what that does to white noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy import fft

from ctenhance.degradation.source_noise import LAGS, WINDOW
from ctenhance.physics.fbp import fbp
from ctenhance.physics.geometry import ParallelGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.units import MU_WATER_PER_MM

#: Views of a simulated scan; photons per ray mean these views.
VIEWS = 720
#: Frequencies at which a kernel's noise is summed.
FREQUENCIES = 512
# Roll-offs (cycles/mm) that a measured texture is looked for among, from smoother than any kernel to a bone
# kernel, and orders, from a gradual fall, as most scanners' kernels have it, to a steep one.
_ROLL_OFFS = np.geomspace(0.1, 1.5, 60)
_ORDERS = (1.0, 1.5, 2.0, 3.0, 4.0)


@dataclass(frozen=True)
class Reconstruction:
    """How errors are reconstructed: `views` over [0, pi) on columns of one pixel; an apodised ramp.

    `roll_off_per_mm` is the frequency in cycles/mm at which the kernel falls to one half, `order` how steeply
    (2: a Gaussian).
    """

    views: int
    roll_off_per_mm: float
    order: float = 2.0

    def kernel(self, frequency: torch.Tensor) -> torch.Tensor:
        """Gain at `frequency` in cycles/mm."""
        return torch.exp(-math.log(2) * (frequency.abs() / self.roll_off_per_mm) ** self.order)

    def image(self, line_integrals: torch.Tensor, scan: ParallelGeometry, grid: ImageGrid) -> torch.Tensor:
        """Image in HU (differences: air is 0) of line integrals `[view, column]`."""
        return fbp(line_integrals, scan, grid, self.kernel) * (1000 / MU_WATER_PER_MM)

    def variance_per_view(self, column_pitch_mm: float) -> float:
        """Variance in HU^2 that one view gives a pixel, for white line integrals of variance 1.

        FBP adds up pi / V q(view) with q the projection filtered by the ramp |f| times the kernel, up to
        the detector's Nyquist frequency; white noise then has the variance 2 pitch * integral of (f
        kernel)^2 (Parseval).
        """
        f, step = _frequencies(0.5 / column_pitch_mm)
        filtered = 2 * column_pitch_mm * float(np.sum((f * self._gain(f)) ** 2) * step)
        return filtered * (math.pi / self.views * 1000 / MU_WATER_PER_MM) ** 2

    def texture(self, pixel_mm: float) -> tuple[float, ...]:
        """Texture of the noise, as `source_noise` measures it."""
        spectra = _spectra(pixel_mm)
        squared = spectra.differences @ self._power(spectra)
        return tuple(float(value) for value in squared / squared.mean())

    def inside(self, pixel_mm: float) -> float:
        """The share of the noise's variance that is inside a window of `source_noise`."""
        spectra = _spectra(pixel_mm)
        power = self._power(spectra)
        return float(spectra.inside @ power / (spectra.count @ power))

    def _power(self, spectra: _Spectra) -> np.ndarray:
        """The noise power spectrum of white projections: |f| times the kernel squared."""
        return spectra.frequency * self._gain(spectra.frequency) ** 2

    def _gain(self, frequency: np.ndarray) -> np.ndarray:
        return np.exp(-math.log(2) * (frequency / self.roll_off_per_mm) ** self.order)


@dataclass(frozen=True)
class _Spectra:
    """By bins of `frequency` (cycles/mm) up to Nyquist's: how many frequencies of an image's are in it, the
    sum of their shares inside a window, and for each lag `[lag, bin]` of what they give to squared
    differences."""

    frequency: np.ndarray
    count: np.ndarray
    inside: np.ndarray
    differences: np.ndarray


@lru_cache(maxsize=8)
def _spectra(pixel_mm: float, n: int = 128) -> _Spectra:
    f = fft.fftfreq(n, pixel_mm)
    radius = np.hypot(f[:, None], f[None])
    there = radius <= 0.5 / pixel_mm
    number = np.minimum((radius[there] * 2 * pixel_mm * n).astype(int), n - 1)

    def binned(values: np.ndarray) -> np.ndarray:
        return np.bincount(number, np.broadcast_to(values, radius.shape)[there], n)

    box = np.sinc(f * pixel_mm * WINDOW) / np.sinc(f * pixel_mm)
    inside = (1 - (box[:, None] * box[None]) ** 2) * WINDOW**2 / (WINDOW**2 - 1)
    differences = [binned(4 * np.sin(np.pi * f * pixel_mm * lag)[None] ** 2) for lag in LAGS]
    count = binned(np.ones(1))
    frequency = binned(radius) / np.maximum(count, 1)
    return _Spectra(frequency, count, binned(inside), np.stack(differences))


def _frequencies(highest: float) -> tuple[np.ndarray, float]:
    """Evenly spaced frequencies from 0 to the highest, in its unit, and their distance."""
    step = highest / FREQUENCIES
    return (np.arange(FREQUENCIES) + 0.5) * step, step


def matching(texture: Sequence[float], pixel_mm: float) -> Reconstruction:
    """The reconstruction whose noise has the measured texture, or the most similar one."""
    candidates = [Reconstruction(VIEWS, float(r), order) for r in _ROLL_OFFS for order in _ORDERS]
    found = np.log(np.array([candidate.texture(pixel_mm) for candidate in candidates]))
    distance = found - np.log(np.maximum(texture, 1e-6))
    return candidates[int(np.argmin(distance.var(1)))]
