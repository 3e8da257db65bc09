"""The dose step: the noise that a scan gains when its dose is lowered, made in the projections.

Derivation.  A ray with N photons in air, of which the share T = f exp(-p) arrives (f: bowtie and tube
current relative to the central ray, p: line integral), counts  n = Poisson(N T) + Normal(0, s2),  s2 the
electronic variance.  To first order its line integral -ln(n / (N f)) has the variance

    V(N) = 1 / (N T) + s2 / (N T)^2.

At dose d the same ray has d N photons, so that V(dN) = 1 / (d N T) + s2 / (d N T)^2.  The volume already
has the noise V(N) in it; noise of different origin adds in variance, so the noise to add is

    V(dN) - V(N) = (1/d - 1) / (N T) + (1/d^2 - 1) s2 / (N T)^2.

It vanishes for d = 1.  Filtering and backprojection are linear, so the noise's texture and direction come
of themselves. `noise_fields` gives the same two terms as two images for one photon a ray.

Slices.  If the chain has thickened the slices with weights w, the volume's own noise was averaged with
them.  A low-dose scan would have had the noise V(dN) in each thin slice and the same averaging; so the
added noise is mixed from independent noise of the slices around with the same w.  If the volume's own
slices overlap, its noise correlates from slice to slice already; independent noise is first mixed with
weights o (squares summing to 1) of the same correlation. `axial_weights` is the convolution of o and w.

Rays with hardly any photons left are not Gaussian, and scanners smooth them: they get the noise of a floor
of photons.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch

from ctenhance.degradation.exposure import Exposure, photons_per_ray, reference_path
from ctenhance.degradation.slice_scan import SliceScan
from ctenhance.degradation.steps import ProjectionStep, VolumeInfo, stream
from ctenhance.physics.noise import noise_fields

__all__ = ["Dose", "noise_fields"]

#: Fewest photons that a ray's noise is computed for; or twice the electronic SD, where that is more.
FEWEST_PHOTONS = 3.0


@dataclass(frozen=True)
class Dose(ProjectionStep):
    """Lowers the dose to the fraction `dose` of the volume's own scan; see the module's derivation.

    `photons_per_ray`: photons on the central ray in air at full dose, for 720 views, columns of one pixel
    and the slices as they are.  `electronic_sd`: in photons.  The next four are those of `Exposure`, the
    last as derived above.
    """

    name: ClassVar[str] = "dose"
    dose: float
    photons_per_ray: float
    electronic_sd: float
    bowtie_strength: float
    bowtie_radius_mm: float
    modulation: float
    reference_path: float
    axial_weights: tuple[float, ...]

    @classmethod
    def fit(  # type: ignore[override]
        cls,
        info: VolumeInfo,
        dose: float,
        photons: float | None,
        electronic_sd: float,
        bowtie_strength: float,
        bowtie_radius_mm: float,
        modulation: float,
    ) -> Dose:
        """`photons` None: as many as follow from the volume's own noise."""
        own = info.own_noise
        slices = [s.image for s in own.slices] or [info.array[info.array.shape[0] // 2]]
        path = reference_path(slices, info.pixel_mm)
        exposure = Exposure(bowtie_strength, bowtie_radius_mm, modulation, path)
        if photons is None:
            photons = photons_per_ray(
                own, info.pixel_mm, info.thickness_mm, info.reconstruction, exposure, electronic_sd
            )
        return cls(
            dose,
            photons,
            electronic_sd,
            bowtie_strength,
            bowtie_radius_mm,
            modulation,
            path,
            info.axial_weights,
        )

    @property
    def exposure(self) -> Exposure:
        return Exposure(self.bowtie_strength, self.bowtie_radius_mm, self.modulation, self.reference_path)

    def variance(self, scan: SliceScan) -> torch.Tensor:
        """Variance `[view, column]` to add to the line integrals of a scan."""
        d, n = self.dose, self.photons_per_ray
        floor = max(FEWEST_PHOTONS, 2 * self.electronic_sd)
        # photons at full dose; the floor is one at the reduced dose
        inverse = (self.exposure.inverse_photons(scan.clean, scan.geometry) / n).clamp(max=d / floor)
        return (1 / d - 1) * inverse + (1 / d**2 - 1) * (self.electronic_sd * inverse) ** 2

    def apply(self, scan: SliceScan, seed: int, index: int) -> None:
        g = scan.geometry
        mixed = np.zeros((g.n_views, g.n_columns), dtype=np.float32)
        for offset, weight in enumerate(self.axial_weights):
            thin = _white(seed, index + offset - len(self.axial_weights) // 2, g.n_views, g.n_columns)
            mixed += np.float32(weight) * thin
        scan.error += torch.from_numpy(mixed).to(scan.clean) * self.variance(scan).sqrt()


@lru_cache(maxsize=24)
def _white(seed: int, index: int, n_views: int, n_columns: int) -> np.ndarray:
    """Unit white noise of one thin slice; kept for the slices around it (2 MB each for 720 x 727)."""
    noise = stream(seed, index).standard_normal((n_views, n_columns), dtype=np.float32)
    noise.flags.writeable = False
    return noise
