"""Realistic degradations that act on the projections, by the difference principle.

Each step adds its error to a slice's line integrals; only the sum of the errors is reconstructed and added
to the image: image + FBP(corrupted - clean).  So artefacts and noise have the shape that a scan gives them,
while the anatomy keeps its own resolution and never passes through our projector and FBP.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ctenhance.degradation import beam_hardening
from ctenhance.degradation.slice_scan import SliceScan
from ctenhance.degradation.steps import ProjectionStep, VolumeInfo, stream
from ctenhance.physics.geometry import ParallelGeometry
from ctenhance.physics.image_grid import ImageGrid


@dataclass(frozen=True)
class Motion(ProjectionStep):
    """The patient moves during part of the half rotation: those views see a shifted image.

    The displacement (in mm, towards `direction_deg`) rises from 0 to `amplitude_mm` and falls back over the
    fraction `duration` of the views, smoothly, from the fraction `onset` on; slices see it later by
    `lag_per_slice` each, since the tube has turned on.  Its mean is taken off, so that the image does not
    shift as a whole.
    """

    name: ClassVar[str] = "motion"
    needs_detail: ClassVar[bool] = True
    amplitude_mm: float
    direction_deg: float
    onset: float
    duration: float
    lag_per_slice: float

    def displacement(self, n_views: int, index: int) -> np.ndarray:
        """Displacement in mm `[view]` in slice `index`; mean 0."""
        phase = (np.arange(n_views) / n_views - self.onset - self.lag_per_slice * index) % 1
        moved = np.where(phase < self.duration, 0.5 - 0.5 * np.cos(2 * np.pi * phase / self.duration), 0)
        return self.amplitude_mm * (moved - moved.mean())

    def apply(self, scan: SliceScan, seed: int, index: int) -> None:
        g = scan.geometry
        moved = torch.from_numpy(self.displacement(g.n_views, index)).to(scan.angles)
        along_detector = moved * torch.cos(scan.angles - math.radians(self.direction_deg))
        # a parallel projection of a shifted image is the shifted projection; by Fourier, it blurs nothing
        n = 1 << math.ceil(math.log2(g.n_columns + 32))
        frequency = torch.fft.rfftfreq(n, g.column_pitch_mm, device=scan.hu.device)
        turn = -2 * math.pi * along_detector[:, None] * frequency
        spectrum = torch.fft.rfft(scan.clean, n) * torch.polar(torch.ones_like(turn), turn)
        scan.error += torch.fft.irfft(spectrum, n)[:, : g.n_columns] - scan.clean


@dataclass(frozen=True)
class BeamHardening(ProjectionStep):
    """What a correction for water leaves of beam hardening behind bone: dark bands, streaks.

    `strength` 1 is a 120 kVp beam without any correction for bone: some 10 HU in a chest. Less is a scanner
    that corrects for a part, more a softer beam or more mineral than the clipped HU scale shows (40 HU at 4).
    """

    name: ClassVar[str] = "beam-hardening"
    strength: float

    def apply(self, scan: SliceScan, seed: int, index: int) -> None:
        bone = scan.smooth_projection(beam_hardening.bone_hu(scan.hu)).clamp(min=0)
        scan.error += self.strength * beam_hardening.water_corrected_error(scan.clean.clamp(min=0), bone)


@dataclass(frozen=True)
class Ring(ProjectionStep):
    """Detector channels whose gain is slightly off: rings about the isocentre.

    `amplitude_hu`: SD of the rings between 20 and 100 mm from the centre.  Channels share their error over
    `width_mm`; the pattern changes from slice to slice, wholly every `slices_alike` slices (other detector
    rows); during the rotation it grows and fades by the fraction `drift`.
    """

    name: ClassVar[str] = "ring"
    amplitude_hu: float
    width_mm: float
    slices_alike: int
    drift: float

    @classmethod
    def fit(  # type: ignore[override]
        cls, info: VolumeInfo, amplitude_hu: float, width_mm: float, alike_mm: float, drift: float
    ) -> Ring:
        return cls(amplitude_hu, width_mm, max(1, round(alike_mm / info.spacing_mm[2])), drift)

    def apply(self, scan: SliceScan, seed: int, index: int) -> None:
        error = torch.from_numpy(self._gain_error(scan.geometry, seed, index)).to(scan.clean)
        # a full turn sees every point from t and from -t, so that a channel's error makes a full circle
        error = (error + error.flip(0)) / 2
        error = error * (self.amplitude_hu / self._ring_sd(error, scan))
        phase = float(stream(seed, -1).uniform(0, 2 * math.pi))
        scan.error += error * (1 + self.drift * torch.cos(2 * scan.angles - phase))[:, None]

    def _gain_error(self, geometry: ParallelGeometry, seed: int, index: int) -> np.ndarray:
        """Relative gain errors `[column]` of slice `index`: one group of slices turns into the next."""
        group, member = divmod(index, self.slices_alike)
        turn = member / self.slices_alike * math.pi / 2
        white = [stream(seed, g).standard_normal(geometry.n_columns) for g in (group, group + 1)]
        spread = max(self.width_mm / geometry.column_pitch_mm / 2, 0.3)
        taps = np.exp(-0.5 * (np.arange(-12, 13) / spread) ** 2)
        mixed = math.cos(turn) * white[0] + math.sin(turn) * white[1]
        return np.convolve(mixed, taps, mode="same").astype(np.float32)

    @staticmethod
    def _ring_sd(error: torch.Tensor, scan: SliceScan) -> torch.Tensor:
        """SD in HU of the rings of `error` `[column]`, alike in all views, on a row through the centre."""
        pixel = scan.grid.pixel_mm
        row = ImageGrid(1, 2 * math.ceil(100 / pixel) + 1, pixel)
        sinogram = error.expand(scan.geometry.n_views, -1)
        image = scan.reconstruction.image(sinogram, scan.geometry, row)[0]
        radius = (torch.arange(row.columns, device=error.device) - (row.columns - 1) / 2).abs() * pixel
        return image[radius >= 20].std()


@dataclass(frozen=True)
class SparseViews(ProjectionStep):
    """Only `n_views` of the views are measured, evenly spread: streaks from every sharp edge, and more noise.

    Last of the projection steps, since the views that are left out take their errors with them.
    """

    name: ClassVar[str] = "sparse-views"
    needs_detail: ClassVar[bool] = True
    n_views: int

    def apply(self, scan: SliceScan, seed: int, index: int) -> None:
        total = scan.geometry.n_views
        kept = np.unique(np.arange(min(self.n_views, total)) * total // min(self.n_views, total))
        # each view stands for the arc halfway to its neighbours; after half a turn the first one comes again
        gaps = np.diff(np.r_[kept, kept[0] + total])
        weight = np.zeros(total, dtype=np.float32)
        weight[kept] = (gaps + np.roll(gaps, 1)) / 2
        measured = torch.from_numpy(weight).to(scan.clean)[:, None] * (scan.clean + scan.error)
        scan.error = measured - scan.clean
