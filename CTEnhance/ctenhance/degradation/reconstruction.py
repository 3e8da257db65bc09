"""How errors of projections become an error of the image, and what that does to white noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import fft

from ctenhance.degradation.source_noise import WINDOW
from ctenhance.physics.fbp import fbp
from ctenhance.physics.geometry import ParallelGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.units import MU_WATER_PER_MM

#: Views of a simulated scan; photons per ray mean these views.
VIEWS = 720
# Roll-offs that a measured texture is looked for among, cycles/mm: from smoother than any kernel to a bone
# kernel.
_ROLL_OFFS = np.geomspace(0.15, 1.5, 60)


@dataclass(frozen=True)
class Reconstruction:
    """How errors are reconstructed: `views` over [0, pi) on columns of one pixel; a Gaussian-apodised ramp.

    `roll_off_per_mm` is the frequency in cycles/mm at which the kernel falls to one half.
    """

    views: int
    roll_off_per_mm: float

    def kernel(self, frequency: torch.Tensor) -> torch.Tensor:
        """Gain at `frequency` in cycles/mm."""
        return torch.exp(-math.log(2) * (frequency / self.roll_off_per_mm) ** 2)

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

    def texture(self, pixel_mm: float) -> tuple[float, float]:
        """(Roughness, share of the variance that is inside a window) of the noise, as `source_noise`
        measures them.

        The noise power spectrum of white projections is |f| times the kernel squared.
        """
        n = 128
        f = fft.fftfreq(n, pixel_mm)
        radius = np.hypot(f[:, None], f[None])
        power = np.where(radius <= 0.5 / pixel_mm, radius * self._gain(radius) ** 2, 0)
        power /= power.sum()
        phase = np.pi * f * pixel_mm
        box = np.sinc(f * pixel_mm * WINDOW) / np.sinc(f * pixel_mm)
        inside = float(np.sum(power * (1 - (box[:, None] * box[None]) ** 2))) * WINDOW**2 / (WINDOW**2 - 1)
        step = float(np.sum(power * 2 * np.sin(phase)[None] ** 2))
        return step / inside, inside

    def _gain(self, frequency: np.ndarray) -> np.ndarray:
        return np.exp(-math.log(2) * (frequency / self.roll_off_per_mm) ** 2)


def _frequencies(highest: float, n: int = 512) -> tuple[np.ndarray, float]:
    step = highest / n
    return (np.arange(n) + 0.5) * step, step


def matching(roughness: float, pixel_mm: float) -> Reconstruction:
    """The reconstruction whose noise is as rough as measured (the nearest, where none is)."""
    candidates = [Reconstruction(VIEWS, float(r)) for r in _ROLL_OFFS]
    found = [candidate.texture(pixel_mm)[0] for candidate in candidates]
    return Reconstruction(VIEWS, float(np.exp(np.interp(roughness, found, np.log(_ROLL_OFFS)))))
