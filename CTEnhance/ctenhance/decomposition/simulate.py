"""Photon-counting projections of a phantom: bins, noise, scatter, drift of thresholds, pile-up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from ctenhance.core.arrays import scratch
from ctenhance.decomposition.phantom import MaterialPhantom
from ctenhance.decomposition.scatter.correction import GRID_ENTRY, SPR_ENTRY
from ctenhance.decomposition.scatter.simulation import ScanScatter
from ctenhance.decomposition.solver.beam import Beam, expected_counts
from ctenhance.physics.detector import PileUp
from ctenhance.physics.geometry import ScanGeometry
from ctenhance.physics.units import MU_WATER_PER_MM
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress, check, silent
from ctenhance.scan.projections import Projections
from ctenhance.scan.rays import ray_fields

_VIEWS_AT_ONCE = 64


@dataclass(frozen=True)
class Imperfections:
    """How a scan differs from an ideal one.

    `spr`: scatter by primary counts behind the middle of the object (see `ScanScatter`);
    `drift_kev`: threshold shifts `[column, bin + 1]`; `correlation`: part of the counts that one quantum
    makes in two bins at once (pixels joined from sub-pixels that share charge), 0 to 0.5; `pile_up`: count
    loss.
    """

    spr: float = 0.0
    drift_kev: torch.Tensor | None = None
    correlation: float = 0.0
    pile_up: PileUp | None = None


def random_drift(
    n_columns: int, n_thresholds: int, sd_kev: float, smooth_kev: float = 0.0, seed: int = 0
) -> torch.Tensor:
    """Threshold shifts in keV `[column, threshold]`: independent ones, and a wave along the detector."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(n_columns, n_thresholds, generator=generator, dtype=torch.float64) * sd_kev
    phase = torch.rand(n_thresholds, generator=generator, dtype=torch.float64)
    position = torch.arange(n_columns, dtype=torch.float64)[:, None] / n_columns
    return white + smooth_kev * torch.sin(2 * torch.pi * (position + phase)) * 2**0.5


def noisy_counts(expected: torch.Tensor, correlation: float, generator: torch.Generator) -> torch.Tensor:
    """Poisson counts `[..., bin]`; with `correlation` c, pairs of bins a, b share quanta at a mean of
    c · y_a y_b / Σ y, which is their covariance, while every bin keeps its mean and variance."""
    if not 0 <= correlation <= 0.5:
        raise InputError(f"The correlation of bins is {correlation}: choose 0 to 0.5.")
    if correlation == 0:
        return torch.poisson(expected, generator=generator)
    n_bins = expected.shape[-1]
    total = expected.sum(-1).clamp(min=1e-30)
    alone, counts = expected.clone(), torch.zeros_like(expected)
    for a in range(n_bins):
        for b in range(a + 1, n_bins):
            mean = correlation * expected[..., a] * expected[..., b] / total
            shared = torch.poisson(mean, generator=generator)
            for index in (a, b):
                alone[..., index] -= mean
                counts[..., index] += shared
    return counts + torch.poisson(alone.clamp(min=0), generator=generator)


def simulate(
    phantom: MaterialPhantom,
    scan: ScanGeometry,
    beam: Beam,
    imperfections: Imperfections | None = None,
    noise: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Projections:
    """A photon-counting scan `[view, row, column, bin]` of the phantom, with the beam's nominal spectra.

    The air counts and spectra in it are those before the drift, as a calibration would have left them. With
    scatter, `meta` holds the scanner's SPR behind water and its grid ratio. Raises InputError for a phantom
    that scatters nothing where scatter is asked for, Cancelled when asked to stop."""
    flaws = imperfections or Imperfections()
    nominal = beam.spectra()
    drifted = nominal if flaws.drift_kev is None else beam.spectra(flaws.drift_kev)
    if drifted.ndim == 3 and len(drifted) != scan.n_columns:
        raise InputError(
            f"There are shifts for {len(drifted)} columns but the detector has {scan.n_columns}."
        )
    energies = beam.detector.energies_kev
    tell = progress or silent
    meta: dict[str, Any] = {"kvp": beam.kvp, "detector": beam.detector.name, "simulated": True}
    scatter = None
    if flaws.spr != 0:
        scatter = ScanScatter(phantom, scan, beam, flaws.spr, tell, cancel)
        meta[SPR_ENTRY], meta[GRID_ENTRY] = scatter.water_spr, scatter.grid_ratio
    # thresholds that drift change the scatter in a column as they change its air counts, or nearly so
    changed = drifted.sum(-1) / nominal.sum(-1).clamp(min=1e-30)
    generator = torch.Generator().manual_seed(seed)
    n_slices = phantom.densities.shape[1]
    counts = scratch((scan.n_views, n_slices, scan.n_columns, len(nominal)))
    for index in range(n_slices):
        one = replace(phantom, densities=phantom.densities[:, index : index + 1])
        expected = expected_counts(one, scan, drifted, energies, cancel=cancel)[0]
        if scatter is not None:
            expected += scatter(index) * changed
        for start in range(0, scan.n_views, _VIEWS_AT_ONCE):
            check(cancel)
            views = slice(start, start + _VIEWS_AT_ONCE)
            counts[views, index] = _registered(expected[views], flaws, generator if noise else None)
        tell("project", index + 1, n_slices)
    return Projections(
        counts=counts,
        air_counts=nominal.sum(-1).numpy(),
        effective_spectra=nominal.numpy(),
        energies_keV=energies.numpy(),
        thresholds_keV=beam.thresholds_kev.numpy(),
        image_pixel_mm=phantom.pixel_mm,
        image_size=phantom.grid.shape,
        row_pitch_mm=phantom.slice_mm,
        water_mu_per_mm=MU_WATER_PER_MM,
        meta=meta,
        **ray_fields(scan),
    )


def _registered(
    expected: torch.Tensor, flaws: Imperfections, generator: torch.Generator | None
) -> torch.Tensor:
    """Counts drawn from the expected ones `[..., bin]` after pile-up; their mean without a generator."""
    if flaws.pile_up is not None:
        expected = flaws.pile_up.observed(expected)
    return expected if generator is None else noisy_counts(expected, flaws.correlation, generator)
