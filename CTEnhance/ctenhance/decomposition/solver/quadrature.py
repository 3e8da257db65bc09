"""Few energies in place of many: a quadrature of polychromatic transmission with a measured error.

Over a box of basis line integrals A, every transmission curve exp(-mu(E) A) is a combination of those at a
few of the energies, the nodes, up to a tolerance: an interpolative decomposition by pivoted QR (Cheng et al.,
SIAM J Sci Comput 26:1389, 2005). The combination is linear, so any spectrum (per channel, with moved
thresholds) becomes node weights by one small product, and gradients with respect to it pass through.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch

from ctenhance.runtime.errors import InputError

REFERENCE_KEV = 70.0
#: Rays are described whose attenuation (natural log) at the reference energy lies between these: noise makes
#: thin rays negative, and behind the most nothing is counted.
LEAST_ATTENUATION, MOST_ATTENUATION = -1.0, 14.0
#: Least attenuation at the lowest energy that counts. Basis materials may be negative (each stands for
#: part of the others), whole rays hardly.
LEAST_AT_LOW_ENERGY = -2.0
#: Energies with less than this part of a bin's greatest spectral density do not become nodes; with less than
#: the second, they are not the lowest that counts.
NEGLIGIBLE, RELEVANT = 1e-9, 1e-4
#: A bin with less than this part of the fullest bin's counts in air is a mistake.
EMPTY = 1e-6
#: A bin that keeps less than this part of its counts in air is empty; its error is measured against this.
FAINT = 1e-7
_FIT_SAMPLES, _CHECK_SAMPLES = 1024, 4096
#: A margin between the tolerance of the pivoted QR and the error that is asked for.
_STRICTER = 0.1


@dataclass(frozen=True)
class Region:
    """Line integrals that are described: a box from `lower` to `upper` g/cm² `[material]`, cut by the least
    and most attenuation at two energies, the reference and the lowest that counts (`guard` cm²/g `[2,
    material]`)."""

    lower: torch.Tensor
    upper: torch.Tensor
    guard: torch.Tensor

    def to(self, device: torch.device | str) -> Region:
        """The same region on a device."""
        return Region(self.lower.to(device), self.upper.to(device), self.guard.to(device))

    def holds(self, lines: torch.Tensor) -> torch.Tensor:
        """Whether each of `[..., material, ray]` lies inside, not on the box's faces: `[..., ray]`."""
        inside = ((lines > self.lower[:, None]) & (lines < self.upper[:, None])).all(-2)
        return inside & self._attenuated(torch.matmul(self.guard, lines))

    def _attenuated(self, exponent: torch.Tensor) -> torch.Tensor:
        reference, low = exponent.unbind(-2)
        return (
            (reference >= LEAST_ATTENUATION) & (reference <= MOST_ATTENUATION) & (low >= LEAST_AT_LOW_ENERGY)
        )

    def sample(self, n: int, seed: int) -> torch.Tensor:
        """At most `n` line integrals `[sample, material]`, crowding towards the faces; the first is air."""
        k = len(self.lower)
        corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * k).reshape(-1, k)
        inside = torch.quasirandom.SobolEngine(k, scramble=True, seed=seed).draw(8 * n, dtype=torch.float64)
        crowded = torch.cat([corners, 0.5 - 0.5 * torch.cos(torch.pi * inside)])
        points = self.lower + crowded * (self.upper - self.lower)
        kept = points[self._attenuated((points @ self.guard.T).T)]
        return torch.cat([torch.zeros(1, k, dtype=torch.float64), kept[: n - 1]])


def default_limits(reference: torch.Tensor, low: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Least and greatest line integral in g/cm² `[material]`, from mass attenuation at the reference energy
    and at 40 keV.

    The first material (usually water) may fill the whole attenuation, others half of it."""
    most = torch.full_like(reference, MOST_ATTENUATION / 2)
    most[0] = MOST_ATTENUATION
    least = 2 * LEAST_ATTENUATION / low
    least[0] = LEAST_ATTENUATION / reference[0]
    return least, most / reference


@dataclass(frozen=True)
class Quadrature:
    """Nodes: `attenuation` cm²/g `[material, node]`; `projection` `[energy, node]` turns spectra `[..., bin,
    energy]` into node weights `[..., bin, node]`; `region` holds the rays that are described; `error` is the
    greatest relative error of expected counts that was seen on a dense check of it."""

    attenuation: torch.Tensor
    projection: torch.Tensor
    region: Region
    error: float

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return self.attenuation.shape[1]

    def to(self, device: torch.device | str) -> Quadrature:
        """The same nodes on a device."""
        return Quadrature(
            self.attenuation.to(device), self.projection.to(device), self.region.to(device), self.error
        )

    def weights(self, spectra: torch.Tensor) -> torch.Tensor:
        """Node weights `[..., bin, node]` of absolute spectra `[..., bin, energy]`; differentiable."""
        return spectra @ self.projection


def spectral_quadrature(
    attenuation: torch.Tensor,
    spectra: torch.Tensor,
    energies_kev: torch.Tensor,
    limits: tuple[torch.Tensor, torch.Tensor] | None = None,
    tolerance: float = 1e-6,
) -> Quadrature:
    """The fewest nodes whose expected counts err by less than `tolerance`, relative, in every bin.

    `attenuation` cm²/g `[material, energy]`; `spectra` `[bin, energy]` any scale; `energies_kev` `[energy]`;
    `limits` least and greatest line integrals in g/cm² `[material]`.
    Raises InputError where a bin counts nothing in air.
    """
    mu = attenuation.double().cpu()
    shapes = spectra.detach().double().cpu()
    if shapes.ndim != 2 or shapes.shape[1] != mu.shape[1]:
        raise InputError(
            f"The spectra are {tuple(spectra.shape)} but the energies are {mu.shape[1]}: give [bin, energy]."
        )
    totals = shapes.sum(1, keepdim=True)
    if bool((shapes < 0).any()):
        raise InputError("The effective spectra hold negative quanta.")
    empty = (totals[:, 0] <= EMPTY * totals.max()).nonzero()
    if len(empty):
        raise InputError(
            f"Energy bin {int(empty[0]) + 1} counts nothing in air: the thresholds do not fit the spectrum."
        )
    shapes = shapes / totals
    importance = shapes.amax(0)
    used = importance > NEGLIGIBLE * importance.max()
    lowest = int((importance > RELEVANT * importance.max()).nonzero()[0])
    at_reference, at_40 = (mu[:, int((energies_kev - kev).abs().argmin())] for kev in (REFERENCE_KEV, 40.0))
    lower, upper = limits or default_limits(at_reference, at_40)
    region = Region(lower, upper, torch.stack([at_reference, mu[:, lowest]]))
    fit = region.sample(_FIT_SAMPLES, 1)
    transmission = torch.exp(-(fit @ mu[:, used]))  # [sample, energy]
    # relative to the bin that counts least, which is the one that is hardest to keep
    scale = 1 / (transmission @ shapes[:, used].T + FAINT).amin(1, keepdim=True)
    matrix = (transmission * scale * importance[used]).numpy()
    triangle, order = scipy.linalg.qr(matrix, mode="r", pivoting=True)
    check = region.sample(_CHECK_SAMPLES, 2)
    # the clamp concerns energies of a few keV, which no tube emits, under negative line integrals
    fine = torch.exp(-(check @ mu).clamp(min=-80))
    exact = fine @ shapes.T
    sizes = np.abs(np.diag(triangle))
    first = max(int((sizes > tolerance * _STRICTER).sum()) - 6, len(mu) + 1)
    columns = np.flatnonzero(used.numpy())
    for count in range(min(first, len(columns)), len(columns) + 1):
        mixing = scipy.linalg.solve_triangular(triangle[:count, :count], triangle[:count, count:])
        projection = torch.zeros(mu.shape[1], count, dtype=torch.float64)
        nodes = columns[order[:count]]
        projection[nodes, torch.arange(count)] = 1.0
        others = columns[order[count:]]
        ratio = importance[nodes][None] / importance[others][:, None]
        projection[others] = torch.from_numpy(mixing.T) * ratio
        quick = fine[:, nodes] @ (shapes @ projection).T
        error = float(((quick - exact).abs() / (exact + FAINT)).max())
        if error <= tolerance or count == len(columns):
            return Quadrature(mu[:, nodes].contiguous(), projection, region, error)
    raise AssertionError("the loop ends with all energies as nodes")
