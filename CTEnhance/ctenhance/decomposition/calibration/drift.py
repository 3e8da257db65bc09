"""Drift of the energy thresholds: each channel's shifts, from images that are known or should be smooth.

A channel sees the object in every view, so one scan determines its few shifts (`drift_fit`). Three references
can be had: a phantom whose images are known, so that the line integrals of every ray follow by projection; an
earlier scan of the same object, ray by ray; or none.

Without a reference the line integrals are unknowns too. Then as many combinations of a channel's shifts as
there are materials look like a little more or less of these and cannot be seen in its counts. What remains
of them is what makes rings: the part of the images that follows circles about the axis is taken out of the
expected line integrals, round by round. Rings show how near channels differ. What many neighbours have in
common of these combinations nothing shows; it stays at what is expected beforehand, none, which is nearly
right where drift is each channel's own. Channels that see air beside the object are known wholly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from ctenhance.decomposition.calibration.drift_fit import EXPECTED_SHIFT_KEV, Channels, fit_shifts
from ctenhance.decomposition.calibration.rings import rings_of
from ctenhance.decomposition.chain import density_images
from ctenhance.decomposition.phantom import MaterialPhantom
from ctenhance.decomposition.solver.beam import Beam
from ctenhance.decomposition.solver.layer import Decomposer
from ctenhance.decomposition.solver.quadrature import REFERENCE_KEV
from ctenhance.physics.geometry import ScanGeometry
from ctenhance.physics.image_grid import ImageGrid
from ctenhance.physics.materials import Material, attenuation_matrix, material
from ctenhance.physics.projector import project
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress, silent
from ctenhance.scan.projections import Projections

#: Attenuation at the reference energy (SD) by which a ray may differ from the images without their rings, one
#: through air from none at all, and one of which nothing is known from the first guess.
LOOSE_RAY, LOOSE_AIR, LOOSE_UNKNOWN = 0.02, 0.005, 10.0
ROUNDS, STEPS_A_ROUND = 12, 2
#: Rings come out weaker than they are, by the median and by arcs: so much more is taken out. What channels
#: have in common over more than this, in pixels (SD), is not found from rings.
MORE, SLOW_PIXELS = 1.5, 10.0
#: Pixels count as matter above this part of water's attenuation, and as matter's surroundings so near to it.
LEAST_MATTER, AROUND_PIXELS = 0.1, 5
#: Larger shifts mean another beam or detector, not drift.
MOST_SHIFT_KEV = 8.0
#: What shifts can be found from, as calibration files name it.
PHANTOM, EARLIER_SCAN, NOTHING = "phantom", "earlier scan", "none"


@dataclass(frozen=True)
class ThresholdShifts:
    """`shifts` and their standard `errors` in keV `[column, threshold]`, and what they were found from. An
    error near 1 keV, what is expected beforehand, means that the counts do not determine this shift."""

    shifts: torch.Tensor
    errors: torch.Tensor
    reference: str


def reference_lines(
    images: torch.Tensor, scan: ScanGeometry, grid: ImageGrid, cancel: Cancellable | None = None
) -> torch.Tensor:
    """Line integrals in g/cm² `[..., view, column, material]` of partial densities in g/cm³ `[..., material,
    row, column]`."""
    return project(images, scan, grid, cancel).movedim(-3, -1).double() * 0.1


def channel_scale(projections: Projections, beam: Beam) -> torch.Tensor:
    """Quanta in air relative to the beam's, `[column]`.

    Raises InputError where the scan's own effective spectra are not those of the beam.
    """
    nominal = beam.spectra()
    if projections.n_bins != len(nominal):
        raise InputError(
            f"The projections have {projections.n_bins or 'no'} energy bins but the thresholds make "
            f"{len(nominal)}: give the scan's own thresholds."
        )
    if projections.effective_spectra is not None and projections.energies_keV is not None:
        given = torch.from_numpy(np.asarray(projections.effective_spectra, dtype=np.float64))
        energies = beam.detector.energies_kev.numpy()
        if given.shape != nominal.shape or not np.allclose(projections.energies_keV, energies):
            raise InputError("The scan's effective spectra lie on another energy grid than the beam's.")
        difference = (
            (given / given.sum(1, keepdim=True) - nominal / nominal.sum(1, keepdim=True)).abs().sum(1)
        )
        if float(difference.max()) > 0.05:
            raise InputError(
                f"The scan's effective spectra are not those of {beam.kvp:g} kV with the detector "
                f"'{beam.detector.name}': name the tube voltage, filters and detector of the scan."
            )
    air = torch.from_numpy(np.broadcast_to(projections.air(), projections.n_columns).astype(np.float64))
    return air / nominal.sum()


def _channels(projections: Projections, beam: Beam, materials: Sequence[str | Material]) -> Channels:
    """Raises InputError where there are no counts in bins or the beam is not the scan's."""
    if projections.counts is None or projections.n_bins is None:
        raise InputError(
            "Drift is found from counts in energy bins; these projections hold none ('/counts'): give "
            "a photon-counting scan."
        )
    counts = torch.from_numpy(np.array(projections.counts)).movedim(1, 0).flatten(0, 1)
    mu = attenuation_matrix(list(materials), beam.detector.energies_kev)
    return Channels(counts, beam, channel_scale(projections, beam), mu)


def _plausible(shifts: torch.Tensor, covariance: torch.Tensor, reference: str) -> ThresholdShifts:
    worst = float(shifts.abs().max())
    if not worst <= MOST_SHIFT_KEV:
        raise InputError(
            f"The thresholds would have to be shifted by {worst:.1f} keV, which is no drift: check the tube "
            "voltage, the detector, and that the reference shows this object in this place."
        )
    return ThresholdShifts(shifts, covariance.diagonal(dim1=-2, dim2=-1).sqrt(), reference)


def calibrate_with_phantom(
    projections: Projections,
    beam: Beam,
    phantom: MaterialPhantom,
    progress: Progress = silent,
    cancel: Cancellable | None = None,
) -> ThresholdShifts:
    """Threshold shifts from a scan of a known phantom, whose middle lay at the isocentre."""
    densities = phantom.densities.movedim(1, 0)
    if len(densities) not in (1, projections.n_rows):
        raise InputError(f"The phantom has {len(densities)} slices but the scan {projections.n_rows} rows.")
    channels = _channels(projections, beam, phantom.materials)
    lines = reference_lines(densities, projections.scan_geometry(), phantom.grid, cancel)
    lines = lines.expand(projections.n_rows, -1, -1, -1).flatten(0, 1)
    return _plausible(*fit_shifts(channels, lines, progress=progress, cancel=cancel), PHANTOM)


def calibrate_with_scan(
    projections: Projections,
    before: Projections,
    beam: Beam,
    materials: Sequence[str | Material],
    progress: Progress = silent,
    cancel: Cancellable | None = None,
) -> ThresholdShifts:
    """Threshold shifts since a scan of the same object in the same place, ray by ray.

    The materials need only describe the object well enough for how steeply a bin's counts follow its
    thresholds: the counts themselves are compared with those of the earlier scan."""
    if before.shape != projections.shape or not np.allclose(before.view_angles, projections.view_angles):
        raise InputError(
            f"The scan before the drift is {before.shape} and this one {projections.shape}, or their view "
            "angles differ: scan the same object in the same way."
        )
    now, then = _channels(projections, beam, materials), _channels(before, beam, materials)
    spectra = beam.spectra() * then.scale[:, None, None]
    decomposer = Decomposer(materials, spectra, beam.detector.energies_kev)
    lines = decomposer.estimate(then.counts, cancel=cancel).lines
    found = fit_shifts(replace(now, before=then), lines, progress=progress, cancel=cancel)
    return _plausible(*found, EARLIER_SCAN)


def calibrate_without_reference(
    projections: Projections,
    beam: Beam,
    materials: Sequence[str | Material],
    grid: ImageGrid,
    progress: Progress = silent,
    cancel: Cancellable | None = None,
) -> ThresholdShifts:
    """Threshold shifts from the scan alone: from its redundant bins (more than materials), from air beside
    the object, and from the absence of rings in the images on `grid`.

    Images get right, single thresholds behind the object need not: their errors are those of line integrals
    that are not determined, since rings show only how neighbouring channels differ."""
    channels = _channels(projections, beam, materials)
    scan = projections.scan_geometry()
    shifts = torch.zeros(projections.n_columns, len(beam.thresholds_kev), dtype=torch.float64)
    for done in range(ROUNDS):
        images, lines = _images(channels, shifts, projections, materials, grid, cancel)
        matter = _relative_attenuation(images, materials)
        if done == 0:
            air = _air_rays(matter, scan, grid, cancel)
            unknown = torch.where(air, LOOSE_AIR, LOOSE_UNKNOWN).double()
            loose = torch.where(air, LOOSE_AIR, LOOSE_RAY).double()
        rings = torch.stack([rings_of(*row) for row in zip(images, matter, strict=True)])
        ring_lines = MORE * reference_lines(rings, scan, grid, cancel).flatten(0, 1)
        first = torch.where(air[..., None], torch.zeros_like(lines), lines)
        centre = torch.where(air[..., None], first, lines - ring_lines)
        found, _ = fit_shifts(channels, first, loose, centre, shifts, STEPS_A_ROUND, cancel=cancel)
        _, covariance = fit_shifts(channels, first, unknown, first, found, 0, cancel=cancel)
        unconstrained = torch.einsum("cij,cj->ci", covariance / EXPECTED_SHIFT_KEV**2, found - shifts)
        # else it would wander, as each round starts from the last one's images
        shifts = found - _slow(unconstrained, SLOW_PIXELS * grid.pixel_mm / scan.isocenter_pitch_mm)
        progress("remove rings", done + 1, ROUNDS)
    return _plausible(shifts, covariance, NOTHING)


def _slow(values: torch.Tensor, width: float) -> torch.Tensor:
    """Averages of `[column, threshold]` over columns by a Gaussian of that standard deviation."""
    position = torch.arange(len(values), dtype=values.dtype)
    kernel = torch.exp(-0.5 * ((position[:, None] - position) / width) ** 2)
    return kernel @ values / kernel.sum(1, keepdim=True)


def _relative_attenuation(images: torch.Tensor, materials: Sequence[str | Material]) -> torch.Tensor:
    """Attenuation at the reference energy relative to water's, `[row, y, x]`, of images in g/cm³ `[row,
    material, y, x]`: less noisy than any of them."""
    at = torch.tensor([REFERENCE_KEV], dtype=torch.float64)
    weights = attenuation_matrix(list(materials), at)[:, 0] / material("water").mass_attenuation(at)
    return torch.einsum("rkyx,k->ryx", images, weights.to(images))


def _air_rays(
    matter: torch.Tensor, scan: ScanGeometry, grid: ImageGrid, cancel: Cancellable | None
) -> torch.Tensor:
    """Which rays `[ray, column]` pass none of the matter in `[row, y, x]`; none do where it may go on beyond
    the field of view."""
    dense = F.avg_pool2d(matter[:, None], 5, 1, 2, count_include_pad=False)
    near = F.max_pool2d((dense > LEAST_MATTER).float(), 2 * AROUND_PIXELS + 1, 1, AROUND_PIXELS)
    crossed = reference_lines(near, scan, grid, cancel).flatten(0, 1)[..., 0]
    y, x = ((torch.arange(n) - (n - 1) / 2).square() for n in matter.shape[-2:])
    rim = (y[:, None] + x).sqrt() > min(matter.shape[-2:]) / 2 - 1
    truncated = bool(((dense[:, 0] > 0.5) & rim).any())
    return (crossed <= 0) & (not truncated)


def _images(
    channels: Channels,
    shifts: torch.Tensor,
    projections: Projections,
    materials: Sequence[str | Material],
    grid: ImageGrid,
    cancel: Cancellable | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Material images g/cm³ `[row, material, y, x]` under the shifts, and line integrals `[ray, column,
    material]`."""
    spectra = channels.beam.spectra(shifts) * channels.scale[:, None, None]
    decomposer = Decomposer(materials, spectra, channels.beam.detector.energies_kev)
    lines = decomposer.estimate(channels.counts, cancel=cancel).lines
    sinograms = lines.unflatten(0, (projections.n_rows, projections.n_views))
    return density_images(sinograms.float(), projections.scan_geometry(), grid, cancel=cancel), lines
