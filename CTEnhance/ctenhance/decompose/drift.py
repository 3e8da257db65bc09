"""Drift of the energy thresholds: each channel's shifts, from images that are known or should be smooth.

A channel sees the object in every view, so one scan determines its few shifts. Given material images, the
line integrals of every ray follow by projection, and the shifts are those that make the counts most likely:
for each channel a small maximum-likelihood problem in the thresholds (Gauss-Newton on the Poisson deviance).
Known images are a phantom's, or those of a scan before the drift. Without a reference the line integrals are
unknowns too, drawn to those of the scan's own images without their rings (a median filter), round by round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ctenhance.decompose.chain import density_images
from ctenhance.decompose.layer import Decomposer
from ctenhance.decompose.phantom import MaterialPhantom
from ctenhance.decompose.quadrature import REFERENCE_KEV
from ctenhance.decompose.simulate import Beam
from ctenhance.io.projections import Projections
from ctenhance.physics.detector import threshold_windows
from ctenhance.physics.geometry import Geometry
from ctenhance.physics.materials import Material, attenuation_matrix
from ctenhance.physics.projector import project
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress, check, silent

#: Standard deviation of shifts that is expected before anything is known, in keV.
EXPECTED_SHIFT_KEV = 1.0
#: Standard deviation, as attenuation at the reference energy, of what rings and noise do to line integrals.
LOOSE_ATTENUATION = 0.055
STEPS = 8
ROUNDS = 6
#: Side of the median filter that takes thin rings out of an image, in pixels.
MEDIAN_PIXELS = 5
#: Shifts beyond this are no drift: the beam or detector is another.
MOST_SHIFT_KEV = 8.0
_RAYS_AT_ONCE = 16384


def reference_lines(
    images: torch.Tensor, geometry: Geometry, cancel: Cancellable | None = None
) -> torch.Tensor:
    """Line integrals in g/cm² `[..., view, column, material]` of partial densities in g/cm³ `[..., material,
    row, column]`."""
    return project(images, geometry, cancel).movedim(-3, -1).double() * 0.1


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


@dataclass(frozen=True)
class _Channels:
    """The data of one fit: counts `[ray, column, bin]`, the beam and its strength by column, the materials'
    attenuation `[material, energy]`."""

    counts: torch.Tensor
    beam: Beam
    scale: torch.Tensor
    attenuation: torch.Tensor

    def step(
        self,
        lines: torch.Tensor,
        shifts: torch.Tensor,
        offset: torch.Tensor | None = None,
        cancel: Cancellable | None = None,
    ) -> torch.Tensor:
        """The Gauss-Newton step of the shifts `[column, threshold]` at line integrals `[ray, column,
        material]`.

        With `offset`, how far the line integrals are from those that are expected, they are unknowns too,
        eliminated from each ray by its Schur complement; without, they are known."""
        result = torch.zeros_like(shifts)
        at_once = max(1, _RAYS_AT_ONCE // len(self.counts))
        for start in range(0, len(shifts), at_once):
            check(cancel)
            part = slice(start, start + at_once)
            result[part] = self._step(
                part, lines[:, part], shifts[part], None if offset is None else offset[:, part]
            )
        return result

    def _step(
        self, part: slice, lines: torch.Tensor, shifts: torch.Tensor, offset: torch.Tensor | None
    ) -> torch.Tensor:
        detector, scale = self.beam.detector, self.scale[part, None, None]
        # negative line integrals are noise; energies of a few keV, which no tube emits, must not overflow
        exponent = torch.einsum("rck,ke->cre", lines.double(), self.attenuation).clamp(min=-20)
        passed = torch.exp(-exponent)
        pulses = (passed * self.beam.spectrum) @ detector.response * scale  # [column, ray, height]
        thresholds = self.beam.thresholds_kev + shifts
        expected, density = _binned(pulses, thresholds, detector.energies_kev, detector.edge_kev)
        inverse = expected.clamp(min=1e-9).reciprocal()
        excess = self.counts[:, part].double().movedim(0, 1).clamp(min=0) * inverse - 1
        # bin b loses what lies at its lower threshold and gains what lies at its upper one
        slopes = F.pad(torch.diag_embed(density[..., 1:]), (1, 0))[..., : density.shape[-1]]
        slopes = slopes - F.pad(torch.diag_embed(density[..., :-1]), (0, 1))
        weighted = slopes * inverse[..., None]
        information = slopes.mT @ weighted
        gradient = (slopes * excess[..., None]).sum(-2)
        if offset is not None:
            spectra = self.beam.spectra(shifts) * scale
            tilt = -torch.einsum("cre,ke,cje->crjk", passed, self.attenuation, spectra)
            trust = torch.diag((_reference_attenuation(self.attenuation) / LOOSE_ATTENUATION) ** 2)
            own = tilt.mT @ (tilt * inverse[..., None]) + trust
            mixed = weighted.mT @ tilt
            pull = (tilt * excess[..., None]).sum(-2) - offset.movedim(0, 1) @ trust
            solved = torch.linalg.solve(own, torch.cat([mixed.mT, pull[..., None]], -1))
            information = information - mixed @ solved[..., :-1]
            gradient = gradient - (mixed @ solved[..., -1:])[..., 0]
        prior = torch.eye(shifts.shape[1], dtype=torch.float64) / EXPECTED_SHIFT_KEV**2
        right = gradient.sum(1) - shifts / EXPECTED_SHIFT_KEV**2
        return torch.linalg.solve(information.sum(1) + prior, right[..., None])[..., 0].clamp(-1, 1)


def _reference_attenuation(attenuation: torch.Tensor) -> torch.Tensor:
    return attenuation[:, int(REFERENCE_KEV)]


def _binned(
    pulses: torch.Tensor, thresholds: torch.Tensor, energies_kev: torch.Tensor, edge_kev: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts `[column, ray, bin]` of pulse heights `[column, ray, height]` between thresholds `[column, bin +
    1]`, and quanta per keV at each threshold `[column, ray, bin + 1]`."""
    windows = threshold_windows(thresholds, energies_kev, edge_kev)
    half = (energies_kev[1] - energies_kev[0]) / 2
    distance = energies_kev - thresholds[..., None]
    at = torch.sigmoid((distance + half) / edge_kev) - torch.sigmoid((distance - half) / edge_kev)
    return pulses @ windows.mT, pulses @ (at / (2 * half)).mT


def _channels(projections: Projections, beam: Beam, materials: Sequence[str | Material]) -> _Channels:
    """Raises InputError where there are no counts in bins or the beam is not the scan's."""
    if projections.counts is None or projections.n_bins is None:
        raise InputError(
            "Drift is found from counts in energy bins; these projections hold none ('/counts')."
        )
    counts = torch.from_numpy(np.array(projections.counts)).movedim(1, 0).flatten(0, 1)
    mu = attenuation_matrix(list(materials), beam.detector.energies_kev)
    return _Channels(counts, beam, channel_scale(projections, beam), mu)


def _fit_known(
    channels: _Channels, lines: torch.Tensor, stage: str, progress: Progress, cancel: Cancellable | None
) -> torch.Tensor:
    """Most likely shifts `[column, threshold]` where the line integrals are known."""
    shifts = torch.zeros(channels.counts.shape[1], len(channels.beam.thresholds_kev), dtype=torch.float64)
    for done in range(STEPS):
        shifts = shifts + channels.step(lines, shifts, cancel=cancel)
        progress(stage, done + 1, STEPS)
    return shifts


def _plausible(shifts: torch.Tensor) -> torch.Tensor:
    worst = float(shifts.abs().max())
    if not worst <= MOST_SHIFT_KEV:
        raise InputError(
            f"The thresholds would have to be shifted by {worst:.1f} keV, which is no drift: check the tube "
            "voltage, the detector, and that the reference shows this object in this place."
        )
    return shifts


def calibrate_with_phantom(
    projections: Projections,
    beam: Beam,
    phantom: MaterialPhantom,
    geometry: Geometry,
    progress: Progress = silent,
    cancel: Cancellable | None = None,
) -> torch.Tensor:
    """Threshold shifts in keV `[column, threshold]` from a scan of a known phantom on the geometry's grid."""
    densities = phantom.densities.movedim(1, 0)
    if len(densities) not in (1, projections.n_rows):
        raise InputError(f"The phantom has {len(densities)} slices but the scan {projections.n_rows} rows.")
    channels = _channels(projections, beam, phantom.materials)
    lines = reference_lines(densities, geometry, cancel).expand(projections.n_rows, -1, -1, -1).flatten(0, 1)
    return _plausible(_fit_known(channels, lines, "fit thresholds", progress, cancel))


def calibrate_with_scan(
    projections: Projections,
    before: Projections,
    beam: Beam,
    materials: Sequence[str | Material],
    geometry: Geometry,
    progress: Progress = silent,
    cancel: Cancellable | None = None,
) -> torch.Tensor:
    """Threshold shifts in keV `[column, threshold]` since a scan of the same object in the same place.

    Both scans are fitted to the projected images of the earlier one: what these images lack is the same for
    both and drops out of the difference."""
    if before.shape != projections.shape or not np.allclose(before.view_angles, projections.view_angles):
        raise InputError(
            f"The scan before the drift is {before.shape} and this one {projections.shape}, or their view "
            "angles differ: scan the same object in the same way."
        )
    now, then = _channels(projections, beam, materials), _channels(before, beam, materials)
    images, _ = _images(then, torch.zeros(1, 1), before, materials, geometry, cancel)
    lines = reference_lines(images, geometry, cancel).flatten(0, 1)
    earlier = _fit_known(then, lines, "fit the scan before", progress, cancel)
    return _plausible(_fit_known(now, lines, "fit thresholds", progress, cancel) - earlier)


def calibrate_without_reference(
    projections: Projections,
    beam: Beam,
    materials: Sequence[str | Material],
    geometry: Geometry,
    rounds: int = ROUNDS,
    progress: Progress = silent,
    cancel: Cancellable | None = None,
) -> torch.Tensor:
    """Threshold shifts in keV `[column, threshold]` from the scan alone.

    Its redundant bins (more than materials) and the absence of rings from its images decide. Shifts that
    change neither stay near zero: images get right, single thresholds need not."""
    channels = _channels(projections, beam, materials)
    shifts = torch.zeros(projections.n_columns, len(beam.thresholds_kev), dtype=torch.float64)
    for done in range(rounds):
        images, lines = _images(channels, shifts, projections, materials, geometry, cancel)
        rings = reference_lines(images - median_filtered(images), geometry, cancel).flatten(0, 1)
        shifts = shifts + channels.step(lines, shifts, rings, cancel)
        progress("remove rings", done + 1, rounds)
    return _plausible(shifts)


def _images(
    channels: _Channels,
    shifts: torch.Tensor,
    projections: Projections,
    materials: Sequence[str | Material],
    geometry: Geometry,
    cancel: Cancellable | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Material images g/cm³ `[row, material, y, x]` under the shifts, and line integrals `[ray, column,
    material]`."""
    spectra = channels.beam.spectra(shifts.expand(projections.n_columns, -1)) * channels.scale[:, None, None]
    decomposer = Decomposer(materials, spectra, channels.beam.detector.energies_kev)
    lines = decomposer.estimate(channels.counts, cancel=cancel).lines
    sinograms = lines.unflatten(0, (projections.n_rows, projections.n_views))
    return density_images(sinograms.float(), geometry, "standard", cancel), lines


def median_filtered(images: torch.Tensor, side: int = MEDIAN_PIXELS) -> torch.Tensor:
    """Images `[..., row, column]` through a median filter: thin rings go, edges stay."""
    flat = images.reshape(-1, 1, *images.shape[-2:])
    padded = F.pad(flat, (side // 2,) * 4, mode="replicate")
    windows = padded.unfold(2, side, 1).unfold(3, side, 1)
    return windows.flatten(-2).median(-1).values.reshape(images.shape)
