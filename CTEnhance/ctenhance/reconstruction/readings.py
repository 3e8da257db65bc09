"""From a projection file to what the diffusion needs: counts, quanta in air, electronic variance, dose; and
what the beam's spectrum does to line integrals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ctenhance.physics.water import WaterCorrection
from ctenhance.reconstruction.smoothing import SECOND_DIFFERENCES_VARIANCE, second_differences
from ctenhance.reconstruction.spdiff import (
    CLEAN_QUANTA,
    LAST_DIVISOR,
    NORMAL_QUANTA,
    match_level,
    quanta_from_noise,
    schedule,
)
from ctenhance.scan.projections import Projections

#: Below this many quanta in air, "counts" are readings normalised to air: only their noise
#: shows how many there were.
_FEWEST_QUANTA = 100.0
#: More quanta than this are as good as no noise; noise-free simulations have no end of them.
_MOST_QUANTA = 1e8
#: Slices, spread over the scan, that its noise is measured on.
_SLICES_FOR_NOISE = 4
#: Noise is compared with the counts in columns with so many counts, where there are so many such columns.
_FEWEST_COUNTS, _FEWEST_COLUMNS = 30.0, 32
#: The tube current is measured over so many views together, and taken for constant where it differs by less
#: than this factor from its mean; that of a slice, for the scan's where they differ by less than the second
#: (fine structure looks like noise, and slices have more or less of it), and for unknown beyond the third.
_VIEWS_TOGETHER, _CONSTANT = 41, 1.3
_SAME_SLICES, _OTHER_SLICES = 1.6, 8.0
#: Readings whose noise (variance) is not between these multiples of what their counts tell are no such
#: counts but proportional to them: an integrating detector's signal, say. Fine structure adds to the noise:
#: by half in a coarsely sampled scan of normal dose.
_LEAST_NOISE, _MOST_NOISE = 0.5, 4.0


@dataclass(frozen=True)
class Scan:
    """What a scan was measured with: quanta in air `[column]` float32, electronic variance in counts^2,
    whether the quanta were `known` or had to be measured from the noise. `noise` is the measured variance as
    a multiple of what the file's counts tell (None: not measurable); where that is not `plausible`, quanta
    and electronic variance are those that the noise shows."""

    air: torch.Tensor
    electronic: float
    known: bool
    noise: float | None = None

    @property
    def quanta(self) -> float:
        """Quanta in air on the ray that gets most."""
        return float(self.air.max())

    @property
    def beyond_training(self) -> bool:
        """Whether the dose lies below the schedule's end."""
        return self.quanta < CLEAN_QUANTA / LAST_DIVISOR

    @property
    def plausible(self) -> bool:
        """Whether the readings have the noise of such counts."""
        return self.noise is None or _LEAST_NOISE < self.noise < _MOST_NOISE

    def describe(self) -> dict[str, Any]:
        """The dose estimate for the report: `dose` relative to the normal one of 2.5e5 quanta a ray, and the
        nearest level of the published schedule (0 to 9)."""
        return {
            "quanta_in_air": round(self.quanta),
            "dose": self.quanta / NORMAL_QUANTA,
            "schedule_divisor": max(1.0, CLEAN_QUANTA / self.quanta),
            "published_level": match_level(self.quanta, schedule(10, 12.0)),
            "electronic_noise_variance": self.electronic,
            "noise_against_counts": self.noise,
            "from": "air counts" if self.known else "noise of the readings",
        }


def read_scan(projections: Projections) -> Scan:
    """The scan's quanta: those that the file declares, or, where it holds line integrals or normalised
    readings alone, those that its noise shows."""
    n = projections.n_rows
    spread = sorted({(2 * k + 1) * n // (2 * _SLICES_FOR_NOISE) for k in range(_SLICES_FOR_NOISE)})
    parts = [projections.rows(row, row + 1) for row in spread]
    if projections.air_counts is not None:
        air = np.asarray(projections.air(), dtype=np.float32)
        if air.max() >= _FEWEST_QUANTA:
            columns = torch.from_numpy(np.broadcast_to(air, projections.n_columns).copy())
            # every bin of a reading brings its own
            electronic = float(projections.electronic_noise_variance) * (projections.n_bins or 1)
            detected = torch.cat([part.transmission() for part in parts]) * columns
            relative, known = _noise_by_view(detected, electronic)
            noise = float(relative[known].median()) if bool(known.any()) else None
            scan = Scan(columns, electronic, True, noise)
            if scan.plausible:
                return scan
            unit = max(noise or 0.0, float(columns.max()) / _MOST_QUANTA)  # of the file, in quanta
            return Scan(columns / unit, electronic / unit**2, False, noise)
    quanta = min(quanta_from_noise(torch.cat([part.to_line_integrals() for part in parts])), _MOST_QUANTA)
    return Scan(torch.full((projections.n_columns,), quanta), 0.0, False)


def water_correction(projections: Projections, mu_water: float) -> WaterCorrection | None:
    """What takes the cup out of readings whose spectrum the file knows; None where it knows none.

    Energy bins count together, as many quanta each as arrive in air."""
    p = projections
    if p.effective_spectra is None or p.energies_keV is None:
        return None
    spectra = p.effective_spectra
    if p.n_bins is not None and p.air_counts is not None:
        quanta = np.asarray(p.air_counts, dtype=np.float64)
        by_bin = np.broadcast_to(quanta, (p.n_columns, p.n_bins)).mean(0)
        spectra = spectra / spectra.sum(1, keepdims=True) * by_bin[:, None]
    return WaterCorrection(p.energies_keV, spectra.sum(0), mu_water)


@dataclass(frozen=True)
class Counts:
    """Detected quanta `[slice, view, column]` with their noise as it is, and the quanta in air of the same
    rays, broadcastable to them: what a Poisson process of its own for every ray has counted."""

    detected: torch.Tensor
    air: torch.Tensor

    def of(self, rows: slice) -> Counts:
        """Those of some slices."""
        return Counts(self.detected[rows], self.air[rows])

    @classmethod
    def of_all(cls, parts: Sequence[Counts]) -> Counts:
        """Those of several parts, one after the other."""
        return cls(torch.cat([one.detected for one in parts]), torch.cat([one.air for one in parts]))


def counts_of(projections: Projections, scan: Scan, device: torch.device) -> Counts:
    """The counts of these rows on a device.

    A scanner that modulates its tube current divides each view by it before the file is written. What was
    divided by shows in the noise, is measured there and multiplied back, in the air's counts as well.
    """
    air = scan.air.to(device)
    detected = projections.transmission().to(device) * air
    typical = scan.noise if scan.noise and scan.plausible else 1.0
    current = relative_current(detected, scan.electronic, typical)[..., None]
    return Counts(detected * current, air * current)


def _noise_by_view(detected: torch.Tensor, electronic: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Variance of readings as a multiple of their mean, `[slice, view]`, and where it is known.

    Second differences along views and columns leave noise alone, and the median over columns keeps edges
    out of it. The first and the last view are those beside them."""
    variance = second_differences(detected).square() / SECOND_DIFFERENCES_VARIANCE
    mean = F.avg_pool2d(detected[:, None], 3, 1)[:, 0]
    enough = mean > max(_FEWEST_COUNTS, 10 * electronic)
    relative = torch.where(enough, variance / mean.clamp(min=1e-6), torch.nan).nanmedian(-1).values
    known = (enough.sum(-1) >= _FEWEST_COLUMNS) & (relative > 0)
    # 0.4549: the median of a chi-squared variable with one degree of freedom
    relative = torch.where(known, relative / 0.4549, torch.ones_like(relative))
    ends = [(x[:, :1], x, x[:, -1:]) for x in (relative, known)]
    return torch.cat(ends[0], 1), torch.cat(ends[1], 1)


def relative_current(detected: torch.Tensor, electronic: float, typical_noise: float = 1.0) -> torch.Tensor:
    """Tube current `[slice, view]` relative to the scan's, from the noise of `[slice, view, column]`.

    Readings divided by a current c have the variance mean / c; `typical_noise` is the scan's own variance as
    a multiple of what its counts tell. Where the noise is not at all that of the counts nothing can be said
    of the current, and it is taken for constant."""
    constant = torch.ones_like(detected[..., 0])
    if min(detected.shape[1:]) < 3:
        return constant
    relative, known = _noise_by_view(detected, electronic)
    half = min(_VIEWS_TOGETHER, detected.shape[1]) // 2
    sums = [
        F.avg_pool1d(F.pad(x[:, None], (half, half), mode="replicate"), 2 * half + 1, 1)[:, 0]
        for x in (-relative.log(), known.to(relative))
    ]
    current = (sums[0] / sums[1].clamp(min=1e-3)).exp()
    of_slice = current.mean(1, keepdim=True)
    level = of_slice * typical_noise
    plausible = (level > 1 / _OTHER_SLICES) & (level < _OTHER_SLICES)
    level = torch.where((level > 1 / _SAME_SLICES) & (level < _SAME_SLICES), torch.ones_like(level), level)
    within = current / of_slice
    varies = (within.amax(1) > _CONSTANT * within.amin(1) * _CONSTANT)[:, None]
    within = torch.where(varies, within, constant)
    return torch.where(plausible & known.any(1, keepdim=True), level * within, constant)
