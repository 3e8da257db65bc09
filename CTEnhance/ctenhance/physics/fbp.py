"""Filtered backprojection.

The band-limited ramp is built in space (Kak & Slaney 1988, eq. 3.61), so that its zero frequency is right,
and is multiplied by a window: the reconstruction kernel. Filtering and refinement to a finer column grid
share one pair of FFTs."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ctenhance.physics.geometry import ParallelGeometry
from ctenhance.physics.projector import REFINE, backproject_pixels
from ctenhance.runtime.errors import InputError

#: A reconstruction window: gain as a function of frequency in cycles/mm, or one of the names below.
Window = str | Callable[[torch.Tensor], torch.Tensor]


def window_gain(window: Window, frequency: torch.Tensor, pitch_mm: float) -> torch.Tensor:
    """Gain at `frequency` (cycles/mm). Named windows end at the detector's Nyquist frequency 1 / (2
    pitch)."""
    if callable(window):
        return window(frequency)
    relative = frequency * (2 * pitch_mm)
    if window == "ramp":
        return torch.ones_like(frequency)
    if window == "shepp-logan":
        return torch.sinc(relative / 2)
    if window == "hann":
        return 0.5 + 0.5 * torch.cos(math.pi * relative.clamp(max=1))
    raise InputError(f"There is no reconstruction window '{window}': choose ramp, shepp-logan or hann.")


def _ramp_response(n: int, pitch_mm: float, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Frequency response `[n // 2 + 1]` of the band-limited ramp, in mm^-1, times the pitch (a discrete
    convolution)."""
    k = torch.arange(n, device=device, dtype=torch.float64)
    k = torch.minimum(k, n - k)
    taps = torch.where(k % 2 == 1, -1.0 / (math.pi * k.clamp(min=1) * pitch_mm) ** 2, torch.zeros_like(k))
    taps[0] = 1 / (4 * pitch_mm**2)
    return (torch.fft.rfft(taps).real * pitch_mm).to(dtype)


def fbp(sinogram: torch.Tensor, geometry: ParallelGeometry, window: Window = "ramp") -> torch.Tensor:
    """Image `[..., rows, columns]` in mm^-1 from line integrals `[..., view, column]` of a parallel geometry.

    Differentiable.  Raises InputError where the sinogram does not have the geometry's shape.
    """
    g = geometry
    if tuple(sinogram.shape[-2:]) != (g.n_views, g.n_columns):
        raise InputError(
            f"The sinogram has {tuple(sinogram.shape[-2:])} views and columns but the geometry says "
            f"{(g.n_views, g.n_columns)}: use the geometry that the projections were made with."
        )
    # zero padding to twice the width keeps the circular convolution from wrapping round
    n = 1 << math.ceil(math.log2(2 * g.n_columns))
    offset = (n - g.n_columns) // 2
    frequency = torch.arange(n // 2 + 1, device=sinogram.device, dtype=sinogram.dtype) / (
        n * g.column_pitch_mm
    )
    response = _ramp_response(n, g.column_pitch_mm, sinogram.device, sinogram.dtype)
    response = response * window_gain(window, frequency, g.column_pitch_mm)
    padded = torch.nn.functional.pad(sinogram, (offset, n - g.n_columns - offset))
    spectrum = torch.fft.rfft(padded) * response
    fine = torch.fft.irfft(spectrum, n=n * REFINE) * REFINE
    return backproject_pixels(fine, g, REFINE, offset) * (math.pi / g.n_views)
