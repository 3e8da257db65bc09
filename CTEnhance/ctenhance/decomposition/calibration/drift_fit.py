"""The most likely threshold shifts of every detector channel, from its counts and line integrals.

A channel's shifts are few and the rays that it sees many: Fisher scoring on the Poisson likelihood of all
bins of all rays. Where an earlier scan of the same rays is given, the likelihood is that of the counts given
the sum of both scans' (binomial): how bright a ray is in a bin drops out, and with it whatever the basis
materials do not describe. Line integrals that are not known are unknowns of each ray, eliminated by a Schur
complement. A last threshold at the tube voltage is none of the detector's and stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from ctenhance.decomposition.solver.beam import Beam
from ctenhance.decomposition.solver.quadrature import REFERENCE_KEV
from ctenhance.physics.detector import threshold_windows
from ctenhance.runtime.progress import Cancellable, Progress, check

#: Standard deviation of shifts that is expected before anything is known, in keV.
EXPECTED_SHIFT_KEV = 1.0
#: The same of a last threshold at the tube voltage.
HELD_KEV = 1e-4
STEPS = 8
#: A step of the shifts is no longer than this, and one of a line integral than that (attenuation).
LONGEST_KEV, LONGEST_ATTENUATION = 1.0, 0.5
#: Rays of a channel that are looked at, far more than its few shifts need; and of channels together.
MOST_RAYS, _RAYS_AT_ONCE = 8192, 16384


@dataclass(frozen=True)
class Channels:
    """Counts `[ray, column, bin]` that `beam` made, its strength by column relative to the nominal (`scale`
    `[column]`), the basis materials' `attenuation` cm²/g `[material, energy]`, and the same rays in a scan
    `before`, with the beam's nominal thresholds, or None."""

    counts: torch.Tensor
    beam: Beam
    scale: torch.Tensor
    attenuation: torch.Tensor
    before: Channels | None = None

    def thinned(self, every: int) -> Channels:
        """Every so many of the rays."""
        before = None if self.before is None else self.before.thinned(every)
        return replace(self, counts=self.counts[::every], before=before)


def fit_shifts(
    channels: Channels,
    lines: torch.Tensor,
    loose: torch.Tensor | None = None,
    centre: torch.Tensor | None = None,
    shifts: torch.Tensor | None = None,
    steps: int = STEPS,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Threshold shifts of all channels in keV `[column, threshold]`, and the covariance of their errors
    `[column, threshold, threshold]`.

    `lines` `[ray, column, material]` are the line integrals of the rays, known; or with `loose` a first guess
    of unknowns, which lie within so much attenuation (SD at the reference energy, `[ray, column]`) of
    `centre` `[ray, column, material]`, or of the guess. `shifts`: the first guess of these. Of very many rays
    some are left out, evenly."""
    n_columns, every = lines.shape[1], max(1, len(lines) // MOST_RAYS)
    found = torch.zeros(n_columns, len(channels.beam.thresholds_kev), dtype=torch.float64)
    if shifts is not None:
        found = shifts.clone()
    covariance, channels = torch.zeros(*found.shape, found.shape[1]).double(), channels.thinned(every)
    first = lines[::every].double()
    middle = first if centre is None else centre[::every].double()
    at_once = max(1, _RAYS_AT_ONCE // len(first))
    for start in range(0, n_columns, at_once):
        part = slice(start, start + at_once)
        own, around = (x[:, part].transpose(0, 1).contiguous() for x in (first, middle))
        free = None if loose is None else loose[::every, part].T
        some, moved = _Part(channels, part, free, around), found[part]
        for _ in range(steps):
            check(cancel)
            own, moved, _ = some.step(own, moved)
        covariance[part] = torch.linalg.inv(some.step(own, moved)[2])
        found[part] = moved
        if progress is not None:
            progress("fit thresholds", min(start + at_once, n_columns), n_columns)
    return found, covariance


@dataclass(frozen=True)
class _Part:
    """Some channels' part of a fit; `loose` is `[column, ray]` here, line integrals and their `centre`
    `[column, ray, material]`."""

    channels: Channels
    part: slice
    loose: torch.Tensor | None
    centre: torch.Tensor

    def step(
        self, lines: torch.Tensor, shifts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Line integrals and shifts `[column, threshold]` after a step, and the information on the shifts,
        what is expected of them included, before it."""
        attenuation = self.channels.attenuation
        # energies of a few keV, which no tube emits, must not overflow behind negative line integrals
        passed = torch.exp(-(lines @ attenuation).clamp(min=-20))
        slopes, weight, excess = self._slopes(passed, shifts)
        flat = slopes.flatten(1, 2)  # [column, ray * bin, threshold]
        prior = torch.full_like(shifts[0], EXPECTED_SHIFT_KEV**-2)
        prior[self.channels.beam.thresholds_kev >= self.channels.beam.kvp] = HELD_KEV**-2
        information = (slopes * weight[..., None]).flatten(1, 2).mT @ flat
        information = information + torch.diag(prior)
        gradient = (flat.mT @ excess.flatten(1)[..., None])[..., 0] - prior * shifts
        if self.loose is None:
            return lines, shifts + _solved(information, gradient), information
        # below a tube voltage of 70 kV that of the highest energy
        away = (self.channels.beam.detector.energies_kev - REFERENCE_KEV).abs()
        reference = attenuation[:, int(away.argmin())]
        trust = (reference / self.loose[..., None]) ** 2  # [column, ray, material]
        tilts = self._tilts(passed, shifts)
        weighted = (tilts * weight[..., None]).mT  # [column, ray, material, bin]
        pull = (tilts.mT @ excess[..., None])[..., 0] + (self.centre - lines) * trust
        # what each ray's own line integrals explain: with their information L Lᵀ, the rows of L⁻¹ mixed
        factor = torch.linalg.cholesky(weighted @ tilts + torch.diag_embed(trust))
        both = torch.cat([weighted @ slopes, pull[..., None]], -1)
        both = torch.linalg.solve_triangular(factor, both, upper=False)
        mixed = both[..., :-1].flatten(1, 2)  # [column, ray * material, threshold]
        lost = mixed.mT @ both.flatten(1, 2)
        information, gradient = information - lost[..., :-1], gradient - lost[..., -1]
        moved = _solved(information, gradient)
        left = both[..., -1:] - both[..., :-1] @ moved[:, None, :, None]
        turned = torch.linalg.solve_triangular(factor.mT, left, upper=True)[..., 0]
        longest = LONGEST_ATTENUATION / reference
        return lines + torch.minimum(torch.maximum(turned, -longest), longest), shifts + moved, information

    def _slopes(
        self, passed: torch.Tensor, shifts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Derivatives of the expected counts with respect to thresholds `[column, ray, bin, threshold]`,
        their weight in the information and the relative excess of what was counted `[column, ray, bin]`."""
        beam, detector = self.channels.beam, self.channels.beam.detector
        before, scale = self.channels.before, self.channels.scale[self.part, None, None]
        pulses = (passed * beam.spectrum) @ detector.response * scale
        thresholds = beam.thresholds_kev + shifts
        windows = threshold_windows(thresholds, detector.energies_kev, detector.edge_kev)
        half = (detector.energies_kev[1] - detector.energies_kev[0]) / 2
        distance = detector.energies_kev - thresholds[..., None]
        at = torch.sigmoid((distance + half) / detector.edge_kev)
        at = at - torch.sigmoid((distance - half) / detector.edge_kev)
        density = pulses @ (at / (2 * half)).mT  # quanta per keV at each threshold
        # bin b loses what lies at its lower threshold and gains what lies at its upper one
        slopes = F.pad(torch.diag_embed(density[..., 1:]), (1, 0))
        slopes = slopes - F.pad(torch.diag_embed(density[..., :-1]), (0, 1))
        expected = (pulses @ windows.mT).clamp(min=1e-9)
        counts = self._counted(self.channels)
        if before is None:
            return slopes, 1 / expected, counts / expected - 1
        nominal = threshold_windows(beam.thresholds_kev, detector.energies_kev, detector.edge_kev)
        earlier = (pulses @ nominal.mT).clamp(min=1e-9) * (before.scale[self.part, None, None] / scale)
        both = counts + self._counted(before)
        share = expected / (expected + earlier)
        weight = both * share * (1 - share) / expected**2
        return slopes, weight, (counts - both * share) / expected

    def _counted(self, channels: Channels) -> torch.Tensor:
        return channels.counts[:, self.part].double().transpose(0, 1).clamp(min=0)

    def _tilts(self, passed: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
        """Derivatives of the expected counts with respect to lines `[column, ray, bin, material]`."""
        weights = self.channels.beam.spectra(shifts) * self.channels.scale[self.part, None, None]
        return torch.stack([-(passed @ (weights * mu).mT) for mu in self.channels.attenuation], -1)


def _solved(information: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    step = torch.linalg.solve(information, gradient[..., None])[..., 0]
    return step.clamp(-LONGEST_KEV, LONGEST_KEV)
