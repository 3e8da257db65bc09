"""How many photons reach the detector, and how strong the image noise is that follows from their number."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ctenhance.degradation.reconstruction import Reconstruction
from ctenhance.degradation.source_noise import FlatSlice, OwnNoise
from ctenhance.physics.geometry import ParallelGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.noise import attenuation_sinogram, bowtie_fluence, tube_modulation
from ctenhance.physics.pixels import backproject_pixels

#: Photons in air on the central ray, per mm of column and mm of slice, for 720 views, of a scan whose noise
#: cannot be measured (noiseless phantoms): about the median of 27 scans measured in this way (1e4 to 5e5).
TYPICAL_PHOTONS_PER_MM2 = 1.5e5
#: The range that a measured number is held in.
LEAST_PHOTONS_PER_MM2, MOST_PHOTONS_PER_MM2 = 5e3, 2e6
# Larger line integrals carry no information: exp(-12) is less than one photon in a hundred thousand.
_LONGEST_PATH = 12.0
# Views for noise levels: the variance is smooth in angle.
_FEW_VIEWS = 90


@dataclass(frozen=True)
class Exposure:
    """Bowtie and tube-current modulation.

    `bowtie_strength`, `bowtie_radius_mm`: as in `physics.noise.bowtie_fluence`.  `modulation`: how strongly
    the tube current follows attenuation, by angle and along z; a slice whose views' longest line integrals
    average to `reference_path` has the nominal current.
    """

    bowtie_strength: float
    bowtie_radius_mm: float
    modulation: float
    reference_path: float

    def inverse_photons(self, line_integrals: torch.Tensor, geometry: ParallelGeometry) -> torch.Tensor:
        """1 / T: photons in air on the central ray per photon that arrives, `[view, column]`."""
        p = line_integrals.clamp(0, _LONGEST_PATH)
        fluence = bowtie_fluence(geometry, self.bowtie_strength, self.bowtie_radius_mm).to(p)
        current = tube_modulation(p, self.modulation) * math.exp(
            self.modulation * (float(longest_path(p)) - self.reference_path)
        )
        return torch.exp(p) / (fluence * current[:, None])


def longest_path(line_integrals: torch.Tensor) -> torch.Tensor:
    """Mean over the views of the longest line integral, of `[view, column]`."""
    return line_integrals.amax(-1).mean()


def _few_views(hu: np.ndarray, grid: ImageGrid) -> tuple[torch.Tensor, ParallelGeometry]:
    geometry = ParallelGeometry.covering(grid, n_views=_FEW_VIEWS)
    image = torch.from_numpy(np.clip(hu, -1000, 4000).astype(np.float32))
    return attenuation_sinogram(image[None], geometry, grid)[0], geometry


def reference_path(slices: list[np.ndarray], pixel_mm: float) -> float:
    """Longest line integral, averaged over views and slices (HU `[rows, columns]`)."""
    paths = [longest_path(_few_views(hu, ImageGrid.centred(hu.shape, pixel_mm))[0]) for hu in slices]
    return float(np.mean([float(path) for path in paths]))


def noise_variance(
    hu: np.ndarray, pixel_mm: float, reconstruction: Reconstruction, exposure: Exposure
) -> tuple[np.ndarray, np.ndarray]:
    """Variance in HU^2 of the quantum and the electronic noise, `[rows, columns]`, for one photon a ray.

    At N photons and electronic variance s2 the image noise has the variance  quantum / N + electronic s2 /
    N^2.  In closed form: each pixel gathers the variances of the rays through it.
    """
    grid = ImageGrid.centred(hu.shape, pixel_mm)
    p, geometry = _few_views(hu, grid)
    inverse = exposure.inverse_photons(p, geometry)
    scale = reconstruction.variance_per_view(geometry.column_pitch_mm) * reconstruction.views / _FEW_VIEWS
    maps = backproject_pixels(torch.stack([inverse, inverse**2]), geometry, grid) * scale
    return maps[0].numpy(), maps[1].numpy()


def photons_per_ray(
    own: OwnNoise,
    pixel_mm: float,
    thickness_mm: float,
    reconstruction: Reconstruction,
    exposure: Exposure,
    electronic_sd: float,
) -> float:
    """Photons on the central ray in air at which simulated noise is as strong as `own`, in the same flat
    pixels.

    For the views of `reconstruction` and columns of one pixel.  A typical number where there is no noise to
    measure.
    """
    area = pixel_mm * thickness_mm
    if not own.measurable:
        return TYPICAL_PHOTONS_PER_MM2 * area
    maps = [(s, noise_variance(s.image, pixel_mm, reconstruction, exposure)) for s in own.slices]
    quantum, electronic = (_in_flat(maps, term) for term in (0, 1))
    # the local SD sees only the share of the variance that varies within its window
    variance = own.sd_hu**2 / reconstruction.inside(pixel_mm)
    b = electronic * electronic_sd**2
    inverse = variance / quantum if b == 0 else (math.sqrt(quantum**2 + 4 * b * variance) - quantum) / (2 * b)
    return float(np.clip(1 / inverse, LEAST_PHOTONS_PER_MM2 * area, MOST_PHOTONS_PER_MM2 * area))


def _in_flat(maps: list[tuple[FlatSlice, tuple[np.ndarray, np.ndarray]]], term: int) -> float:
    return float(np.median(np.concatenate([pair[term][s.flat] for s, pair in maps])))
