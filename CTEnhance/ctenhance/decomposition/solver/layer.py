"""Decomposition as a differentiable layer: counts in, line integrals of the basis materials out.

The gradient of the maximum-likelihood estimate is that of the implicit function theorem: with g the gradient
and H the Hessian of the cost at the estimate A*, dA*/dθ = -H⁻¹ ∂g/∂θ for counts, spectra (hence thresholds
and air counts) and scatter. Memory does not depend on the solver's steps; nothing of them is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

from ctenhance.decomposition.solver.compiled import MANY_RAYS, installed
from ctenhance.decomposition.solver.likelihood import (
    LEAST_EXPECTED,
    Terms,
    full_matrix,
    moment_tables,
    newton_terms,
    solve_symmetric,
    transmissions,
)
from ctenhance.decomposition.solver.newton import CONVERGED, Estimate, Problem, solve
from ctenhance.decomposition.solver.quadrature import REFERENCE_KEV, Quadrature, spectral_quadrature
from ctenhance.decomposition.solver.start import fit_start
from ctenhance.physics.materials import Material, attenuation_matrix, material
from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable, Progress

MOST_MATERIALS = 3


@dataclass(frozen=True)
class Decomposition:
    """Line integrals `[..., material]` in g/cm² and `status` `[...]` int8 of each ray (see `solver`)."""

    lines: torch.Tensor
    status: torch.Tensor
    steps: int

    def summary(self) -> dict[str, Any]:
        """How the rays ended, as parts of one, and the most steps that one took."""
        names = ("converged", "at_limit", "starved", "not_converged")
        total = max(self.status.numel(), 1)
        return {name: int((self.status == code).sum()) / total for code, name in enumerate(names)} | {
            "most_steps": self.steps
        }


class Decomposer:
    """A prepared maximum-likelihood decomposition for one beam and basis.

    `materials`: one to three names or `Material`s, water first as a rule; `spectra`: expected quanta per keV
    in air, `[bin, energy]`, or `[channel, bin, energy]` where each channel has its own; `energies_kev`
    `[energy]`; `limits`: least and greatest line integrals in g/cm² `[material]`; `tolerance`: relative error
    of the spectral quadrature.
    Raises InputError for fewer bins than materials, bins without counts and basis materials that no spectrum
    can tell apart.
    """

    def __init__(
        self,
        materials: Sequence[str | Material],
        spectra: torch.Tensor,
        energies_kev: torch.Tensor,
        limits: tuple[torch.Tensor, torch.Tensor] | None = None,
        tolerance: float = 1e-6,
    ) -> None:
        self.materials = tuple(material(m) for m in materials)
        names = [m.name for m in self.materials]
        if not 1 <= len(names) <= MOST_MATERIALS or len(set(names)) < len(names):
            raise InputError(
                f"Choose one to {MOST_MATERIALS} different basis materials, not {', '.join(names)}."
            )
        if spectra.ndim not in (2, 3) or spectra.shape[-1] != len(energies_kev):
            raise InputError(
                f"The effective spectra are {tuple(spectra.shape)} for {len(energies_kev)} energies: give "
                "[bin, energy] or [channel, bin, energy]."
            )
        if spectra.shape[-2] < len(names):
            raise InputError(
                f"{spectra.shape[-2]} energy bins cannot tell {len(names)} materials apart: name fewer basis "
                "materials or use data with more bins."
            )
        self.energies_kev = energies_kev.detach().double().cpu()
        self.spectra = spectra.detach().double()
        attenuation = attenuation_matrix(list(self.materials), self.energies_kev)
        reference = attenuation_matrix(list(self.materials), torch.tensor([REFERENCE_KEV]))[:, 0]
        mean = self.spectra.cpu().reshape(-1, *spectra.shape[-2:]).mean(0)
        quadrature = spectral_quadrature(attenuation, mean, self.energies_kev, limits, tolerance)
        self._fit_start(quadrature, mean, reference)
        self.quadrature = quadrature
        self.weights = quadrature.weights(self.spectra.cpu())
        self.compiled = False
        self.to(spectra.device)

    def _fit_start(self, quadrature: Quadrature, spectra: torch.Tensor, reference: torch.Tensor) -> None:
        k = len(reference)
        tables = moment_tables(quadrature.weights(spectra)[None], quadrature.attenuation)

        def moments(lines: torch.Tensor) -> torch.Tensor:
            values = torch.matmul(tables, transmissions(lines.T[None], quadrature.attenuation))[0]
            return values.unflatten(0, (-1, len(spectra)))  # [moment, bin, sample]

        # a typical ray: 20 cm of the first material if that is water, and a trace of the others
        typical = torch.full((1, k), 0.1, dtype=torch.float64) / reference
        typical[0, 0] = 4.0 / reference[0]
        at = moments(typical)[..., 0]
        if k > 1:
            slopes = at[1 : 1 + k]
            information = (slopes / at[0]) @ slopes.T
            scale = information.diagonal().rsqrt()
            if float(torch.linalg.eigvalsh(information * scale[:, None] * scale)[0]) < 1e-10:
                raise InputError(
                    "The energy bins cannot tell the basis materials "
                    f"{', '.join(m.name for m in self.materials)} apart: choose others."
                )
        lines = quadrature.region.sample(4096, 3)
        at_all = moments(lines)
        terms = newton_terms(at_all.flatten(0, 1)[None], at_all[:1].clamp(min=LEAST_EXPECTED), None, k)
        spread = _standard_errors(terms.fisher)[0]
        self.start = fit_start(lines, spread, at_all[0].T, spectra.sum(-1), at[1 : 1 + k].T, at[0])

    def to(self, device: torch.device | str) -> Decomposer:
        """This decomposer, moved to a device."""
        self.spectra, self.weights = self.spectra.to(device), self.weights.to(device)
        self.quadrature, self.start = self.quadrature.to(device), self.start.to(device)
        return self

    def prepare(self, rays: int) -> Decomposer:
        """This decomposer, about to estimate so many rays in all: from `MANY_RAYS` on, on a CPU and where
        numba is installed, by compiled steps. Both ways end at the same maximum, within the tolerance."""
        self.compiled = rays >= MANY_RAYS and self.spectra.device.type == "cpu" and installed()
        return self

    @property
    def solver(self) -> str:
        """What solves: torch, or numba with its version."""
        return f"numba {version('numba')}" if self.compiled else "torch"

    def estimate(
        self,
        counts: torch.Tensor,
        scatter: torch.Tensor | None = None,
        tolerance: float = 1e-4,
        correct_bias: bool = False,
        progress: Progress | None = None,
        cancel: Cancellable | None = None,
    ) -> Decomposition:
        """Line integrals of `counts` `[..., bin]` (`[..., channel, bin]` where spectra are per channel).

        `scatter`: expected scattered quanta, added to the model, of the counts' shape. `correct_bias`: less
        the bias that the estimate itself has at low counts. No gradient; see `__call__`."""
        weights, per_channel = self._group_weights(None)
        rays = _Rays(counts, per_channel, len(weights))
        found = self._solve(
            rays.pack(counts, None),
            weights,
            rays.pack(scatter, None),
            tolerance,
            correct_bias,
            progress,
            cancel,
        )
        return Decomposition(
            rays.unpack(found.lines), rays.unpack(found.status[:, None])[..., 0], found.steps
        )

    def __call__(
        self,
        counts: torch.Tensor,
        spectra: torch.Tensor | None = None,
        scatter: torch.Tensor | None = None,
        tolerance: float = 1e-4,
    ) -> torch.Tensor:
        """Line integrals `[..., material]` in g/cm², of the counts' dtype, differentiable once in `counts`,
        `spectra` and `scatter`.

        `spectra` replaces the decomposer's own: `[bin, energy]` or `[channel, bin, energy]`. Rays at a limit,
        starved or not converged give no gradient."""
        weights, per_channel = self._group_weights(spectra)
        rays = _Rays(counts, per_channel, len(weights))
        lines = _Implicit.apply(rays.pack(counts), weights, rays.pack(scatter), self, tolerance)
        return rays.unpack(lines).to(counts.dtype)

    def expected(self, lines: torch.Tensor, exact: bool = False) -> torch.Tensor:
        """Expected counts `[..., bin]` of line integrals `[..., material]`; differentiable.

        `exact` sums over all energies in place of the nodes."""
        mu = attenuation_matrix(list(self.materials), self.energies_kev).to(lines.device)
        weights = self.spectra if exact else self.weights
        passed = torch.exp(-(lines.double() @ (mu if exact else self.quadrature.attenuation)))
        if weights.ndim == 2:
            return passed @ weights.T
        return torch.einsum("...ce,cje->...cj", passed, weights)

    def fisher(self, lines: torch.Tensor, scatter: torch.Tensor | None = None) -> torch.Tensor:
        """Fisher information `[..., material, material]` in (cm²/g)² at `lines` `[..., material]`.

        Its inverse is the Cramér-Rao bound: the covariance that no unbiased estimate can beat."""
        rays, terms = self._information(lines, scatter)
        matrix = full_matrix(terms.fisher)  # [group, ray, K, K]
        k = len(self.materials)
        return rays.unpack(matrix.flatten(-2).movedim(-1, 1)).unflatten(-1, (k, k))

    def standard_errors(self, lines: torch.Tensor, scatter: torch.Tensor | None = None) -> torch.Tensor:
        """Least possible standard errors `[..., material]` in g/cm² (Cramér-Rao) at `lines`."""
        rays, terms = self._information(lines, scatter)
        return rays.unpack(_standard_errors(terms.fisher).movedim(-1, 1))

    def _information(self, lines: torch.Tensor, scatter: torch.Tensor | None) -> tuple[_Rays, Terms]:
        weights, per_channel = self._group_weights(None)
        rays = _Rays(lines, per_channel, len(weights))
        tables = moment_tables(weights, self.quadrature.attenuation)
        moments = torch.matmul(tables, transmissions(rays.pack(lines), self.quadrature.attenuation))
        # the information does not depend on the counts
        some = moments[:, : weights.shape[1]]
        return rays, newton_terms(moments, some, rays.pack(scatter), len(self.materials))

    def _group_weights(self, spectra: torch.Tensor | None) -> tuple[torch.Tensor, bool]:
        """Node weights `[group, bin, node]`, and whether the groups are detector channels."""
        weights = self.weights if spectra is None else self.quadrature.weights(spectra.double())
        return (weights, True) if weights.ndim == 3 else (weights[None], False)

    def _solve(
        self,
        counts: torch.Tensor,
        weights: torch.Tensor,
        scatter: torch.Tensor | None,
        tolerance: float,
        correct_bias: bool = False,
        progress: Progress | None = None,
        cancel: Cancellable | None = None,
    ) -> Estimate:
        if counts.shape[1] != weights.shape[1]:
            raise InputError(
                f"The counts have {counts.shape[1]} bins but the effective spectra {weights.shape[1]}: a bin "
                "is missing, or the spectra are of other thresholds."
            )
        if not bool(torch.isfinite(counts.sum())):  # is finite only if all are
            raise InputError("The counts hold values that are no numbers; mark dead pixels as 0.")
        problem = Problem(counts.detach(), weights.detach(), scatter, self.quadrature)
        return solve(
            problem,
            self.start,
            tolerance,
            correct_bias=correct_bias,
            compiled=self.compiled and counts.device.type == "cpu",
            progress=progress,
            cancel=cancel,
        )


def _standard_errors(fisher: list[torch.Tensor]) -> torch.Tensor:
    """Square roots of the Cramér-Rao bound `[..., material]` from the Fisher information's upper triangle."""
    k = {1: 1, 3: 2, 6: 3}[len(fisher)]
    bounds = []
    for i in range(k):
        unit = [torch.full_like(fisher[0], float(i == j)) for j in range(k)]
        bounds.append(solve_symmetric(fisher, unit)[i])
    return torch.stack(bounds, -1).clamp(min=0).sqrt()


class _Rays:
    """Bring `[..., bin]` (or `[..., channel, bin]`) to `[group, bin, ray]`, in float64 unless said otherwise,
    and back."""

    def __init__(self, like: torch.Tensor, per_channel: bool, n_groups: int) -> None:
        self.per_channel = per_channel
        if per_channel and (like.ndim < 2 or like.shape[-2] != n_groups):
            raise InputError(
                f"There are spectra of {n_groups} detector channels but counts of shape {tuple(like.shape)}: "
                "give [..., channel, bin]."
            )
        self.leading = like.shape[: -2 if per_channel else -1]

    def pack(self, values: Any, dtype: torch.dtype | None = torch.float64) -> Any:
        if values is None:
            return None
        values = values if dtype is None else values.to(dtype)
        if self.per_channel:
            return values.reshape(-1, *values.shape[-2:]).permute(1, 2, 0)
        return values.reshape(-1, values.shape[-1]).T[None]

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        if self.per_channel:
            rays = packed.permute(2, 0, 1)  # [ray, channel, value]
            return rays.reshape(*self.leading, *rays.shape[1:])
        return packed[0].T.reshape(*self.leading, packed.shape[1])


class _Implicit(torch.autograd.Function):
    """The solver with the derivative of the implicit function theorem."""

    @staticmethod
    def forward(ctx: Any, counts, weights, scatter, decomposer: Decomposer, tolerance: float) -> torch.Tensor:  # type: ignore[override]
        found = decomposer._solve(counts, weights, scatter, tolerance)
        ctx.attenuation = decomposer.quadrature.attenuation
        ctx.save_for_backward(counts, weights, scatter, found.lines, found.status)
        return found.lines

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor):  # type: ignore[override]
        counts, weights, scatter, lines, status = ctx.saved_tensors
        counts = counts.clamp(min=0)
        mu = ctx.attenuation
        k, n_bins = len(mu), counts.shape[1]
        passed = transmissions(lines, mu)
        moments = torch.matmul(moment_tables(weights, mu), passed)
        terms = newton_terms(moments, counts, scatter, k)
        interior = (status == CONVERGED)[:, None]
        adjoint = torch.stack(solve_symmetric(terms.hessian, list(upstream.unbind(1))), 1)
        adjoint = torch.where(interior, adjoint, torch.zeros_like(adjoint))  # H⁻¹ v, [group, material, ray]
        slopes = moments[:, n_bins : (1 + k) * n_bins].unflatten(1, (k, n_bins))  # minus ∂y/∂A
        along = -(slopes * adjoint[:, :, None]).sum(1)  # J·u, [group, bin, ray]
        expected = moments[:, :n_bins] if scatter is None else moments[:, :n_bins] + scatter
        inverse = expected.clamp(min=LEAST_EXPECTED).reciprocal()
        grad_counts = along * inverse
        grad_scatter = -grad_counts * counts * inverse
        grad_weights = None
        if ctx.needs_input_grad[1]:
            moved = passed * torch.matmul(mu.T, adjoint)
            grad_weights = torch.matmul(grad_scatter, passed.transpose(1, 2)) + torch.matmul(
                1 - counts * inverse, moved.transpose(1, 2)
            )
        return grad_counts, grad_weights, None if scatter is None else grad_scatter, None, None
