"""Pairs for a second task: inputs that are blurred by a routine kernel and thick slices, references that are
not.

Beside less noise the network is then to give back what the softer kernel and the slice thickness took, as far
as the noise allows. References are half-matrix copies, whose edges are as sharp as their grid holds, and
whose noise is low. (Scans as they are would teach that an edge of a usual kernel is sharp enough: with a
quarter of them MTF50 rose by a fifth only.) Where a matrix is too small for that, it is the scan as it is."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ctenhance.enhancement.pairs import MARGIN, PairSampler, frequency_of

#: SD in mm of the softer kernel's blur: MTF50 of a scan with 0.4 cycles/mm falls to 0.36 … 0.22.
BLUR_MM = (0.25, 0.75)
#: Share of draws with thick slices, and how thick (mm).
THICK, THICKNESS_MM = 0.7, (2.0, 6.0)
#: Added noise as a share of the reference's own: the task is to sharpen, under a routine scan's noise.
ADDED = (0.6, 2.0)


class DetailSampler(PairSampler):
    """Draws pairs whose input is blurred in the slice, and mostly along z."""

    whole_scans = 0.0

    def pooled_share(self, noise_hu: float) -> float:
        return 1.0

    def _added_noise(self, own: float) -> float:
        return own * float(self.rng.uniform(*ADDED))

    def _profiles(self, alone: bool, spacing_mm: float) -> tuple[torch.Tensor, torch.Tensor]:
        thin = self._profile(1.0)
        if alone or self.rng.random() > THICK:
            return thin, thin
        thick = self._profile(max(1.0, float(self.rng.uniform(*THICKNESS_MM)) / spacing_mm))
        return thick, thick

    def _change_kernel(
        self, hu: torch.Tensor, noise: torch.Tensor, pixel_mm: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        both = F.pad(torch.cat([hu, noise]), (MARGIN,) * 4, mode="reflect")
        frequency = frequency_of(both.shape[-2], both.shape[-1], pixel_mm)
        gain = torch.exp(-2 * (math.pi * frequency * float(self.rng.uniform(*BLUR_MM))) ** 2)
        both = torch.fft.irfft2(torch.fft.rfft2(both) * gain, s=both.shape[-2:])
        both = both[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
        return both[:3], both[3:]
