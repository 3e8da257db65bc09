"""The maximum of the likelihood for every ray: batched Newton, and a damped solver for the rays that resist.

Most rays take three or four Newton steps from the polynomial start, in chunks that fit the cache. The rest
(starved by bone or metal, at the limits of the box, or with an indefinite Hessian) go on with Levenberg
damping, a descent test and bounds held by projection (Bertsekas, SIAM J Control 20:221, 1982). A ray has
converged when the Newton step is below `tolerance` standard errors: steps shrink quadratically, so what is
left is far below that.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ctenhance.decompose.likelihood import (
    Terms,
    cost,
    moment_tables,
    newton_terms,
    pairs,
    positive_definite,
    second_order_bias,
    solve_symmetric,
    transmissions,
)
from ctenhance.decompose.quadrature import Quadrature
from ctenhance.decompose.start import Start
from ctenhance.runtime.progress import Cancellable, Progress, check

#: What `Estimate.status` says of a ray.
CONVERGED, AT_LIMIT, STARVED, NOT_CONVERGED = 0, 1, 2, 3

FAST_STEPS = 6
SLOW_STEPS = 80
#: The fast phase ends when this share of a chunk's rays is left.
LEFT_OVER = 0.02
RAYS_PER_CHUNK = 8192
SLOW_RAYS = 16384


@dataclass(frozen=True)
class Estimate:
    """Line integrals `[group, material, ray]` g/cm² float64, `status` `[group, ray]` int8, most steps that a
    ray took."""

    lines: torch.Tensor
    status: torch.Tensor
    steps: int


@dataclass(frozen=True)
class Problem:
    """Rays and model of one solve: `counts` `[group, bin, ray]` float64, not negative; `weights` `[group,
    bin, node]`; `scatter` like the counts or None."""

    counts: torch.Tensor
    weights: torch.Tensor
    scatter: torch.Tensor | None
    quadrature: Quadrature


def solve(
    problem: Problem,
    start: Start,
    tolerance: float = 1e-4,
    starved_counts: float = 20.0,
    correct_bias: bool = False,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Estimate:
    """Maximum-likelihood line integrals of every ray, inside the quadrature's limits.

    Rays with fewer than `starved_counts` in all bins together are solved too but marked STARVED.
    `correct_bias` takes the estimate's own bias, to first order in 1 / counts, off the rays that converged.
    """
    counts, quadrature = problem.counts, problem.quadrature
    n_groups, _, n_rays = counts.shape
    k = len(quadrature.attenuation)
    lines = counts.new_empty(n_groups, k, n_rays)
    status = torch.zeros(n_groups, n_rays, dtype=torch.int8, device=counts.device)
    tables = moment_tables(problem.weights, quadrature.attenuation)
    steps = 0
    groups_at_once = max(1, RAYS_PER_CHUNK // n_rays)
    chunks = [
        (slice(g, g + groups_at_once), slice(r, r + RAYS_PER_CHUNK))
        for g in range(0, n_groups, groups_at_once)
        for r in range(0, n_rays, RAYS_PER_CHUNK)
    ]
    for done, (groups, rays) in enumerate(chunks):
        check(cancel)
        part = counts[groups, :, rays].contiguous()
        scatter = None if problem.scatter is None else problem.scatter[groups, :, rays].contiguous()
        found, good, took = _fast(
            part, scatter, problem.weights[groups], tables[groups], quadrature, start, tolerance
        )
        steps = max(steps, took)
        lines[groups, :, rays] = found
        status[groups, rays] = torch.where(good, CONVERGED, NOT_CONVERGED).to(torch.int8)
        if progress is not None:
            progress("decompose", done + 1, len(chunks))
    left = (status == NOT_CONVERGED).nonzero()
    for first in range(0, len(left), SLOW_RAYS):
        check(cancel)
        group, ray = left[first : first + SLOW_RAYS].unbind(1)
        slow = _slow(problem, tables, group, ray, lines[group, :, ray].T, tolerance, cancel)
        lines[group, :, ray] = slow[0].T
        status[group, ray] = slow[1]
        steps = max(steps, FAST_STEPS + slow[2])
    status[counts.sum(1) < starved_counts] = STARVED
    if correct_bias:
        for groups, rays in chunks:
            check(cancel)
            scatter = None if problem.scatter is None else problem.scatter[groups, :, rays]
            moments = torch.matmul(
                tables[groups], transmissions(lines[groups, :, rays], quadrature.attenuation)
            )
            bias = second_order_bias(moments, counts.shape[1], scatter, k)
            sound = (status[groups, rays] == CONVERGED)[:, None] & torch.isfinite(bias)
            lines[groups, :, rays] -= torch.where(sound, bias, torch.zeros_like(bias))
    return Estimate(lines, status, steps)


def _direction(terms: Terms) -> list[torch.Tensor]:
    """Newton's step where the Hessian is safely positive definite, Fisher's elsewhere."""
    use = positive_definite(terms.hessian, terms.fisher)
    matrix = [torch.where(use, h, f) for h, f in zip(terms.hessian, terms.fisher, strict=True)]
    return solve_symmetric(matrix, terms.downhill)


def _fast(
    counts: torch.Tensor,
    scatter: torch.Tensor | None,
    weights: torch.Tensor,
    tables: torch.Tensor,
    quadrature: Quadrature,
    start: Start,
    tolerance: float,
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Undamped Newton on a chunk: line integrals, which of them converged inside the box, and the steps."""
    k = len(quadrature.attenuation)
    lower, upper = quadrature.region.lower[:, None], quadrature.region.upper[:, None]
    longest = 0.2 * (upper - lower)
    primary = counts if scatter is None else counts - scatter
    lines = start(primary, weights.sum(-1, keepdim=True))
    lines = torch.minimum(torch.maximum(lines, lower), upper)
    good = torch.zeros_like(counts[:, 0], dtype=torch.bool)
    taken = 0
    while taken < FAST_STEPS:
        taken += 1
        moments = torch.matmul(tables, transmissions(lines, quadrature.attenuation))
        terms = newton_terms(moments, counts, scatter, k)
        step = torch.stack(_direction(terms), 1)
        decrement = (step * torch.stack(terms.downhill, 1)).sum(1)
        lines = lines + torch.minimum(torch.maximum(step, -longest), longest)
        inside = quadrature.region.holds(lines)
        lines = torch.minimum(torch.maximum(lines, lower), upper)
        # the decrement is the squared length of the step in standard errors
        good = inside & (decrement >= 0) & (decrement <= tolerance**2)
        if int((~good).sum()) <= LEFT_OVER * good.numel():
            break
    return lines, good, taken


def _slow(
    problem: Problem,
    all_tables: torch.Tensor,
    group: torch.Tensor,
    ray: torch.Tensor,
    lines: torch.Tensor,
    tolerance: float,
    cancel: Cancellable | None,
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Damped Newton with bounds for single rays: line integrals `[material, ray]`, status, steps."""
    quadrature = problem.quadrature
    k = len(quadrature.attenuation)
    lower, upper = quadrature.region.lower[:, None], quadrature.region.upper[:, None]
    # every ray brings the table of its group, or all share the only one
    shared = len(all_tables) == 1
    counts = problem.counts[group, :, ray].T[None]
    scatter = None if problem.scatter is None else problem.scatter[group, :, ray].T[None]
    tables = all_tables if shared else all_tables[group]

    def moments_at(at: torch.Tensor) -> torch.Tensor:
        passed = transmissions(at[None], quadrature.attenuation)  # [1, node, ray]
        if shared:
            return torch.matmul(tables, passed)
        return torch.einsum("rtq,qr->tr", tables, passed[0])[None]

    damping = torch.full_like(lines[0], 1e-3)
    status = torch.full(lines.shape[1:], NOT_CONVERGED, dtype=torch.int8, device=lines.device)
    moments = moments_at(lines)
    value = cost(moments, counts, scatter)[0]
    taken = 0
    while taken < SLOW_STEPS:
        taken += 1
        check(cancel)
        terms = newton_terms(moments, counts, scatter, k)
        downhill = torch.stack([g[0] for g in terms.downhill])
        # a material at its bound that wants to go further stays there
        held = ((lines <= lower) & (downhill < 0)) | ((lines >= upper) & (downhill > 0))
        step = _damped_step(terms, downhill, held, damping)
        decrement = (step * downhill).sum(0)
        finished = decrement <= tolerance**2
        trial = torch.minimum(torch.maximum(lines + step, lower), upper)
        trial_moments = moments_at(trial)
        trial_value = cost(trial_moments, counts, scatter)[0]
        accepted = trial_value <= value + 1e-13 * value.abs()
        lines = torch.where(accepted, trial, lines)
        moments = torch.where(accepted, trial_moments, moments)
        value = torch.where(accepted, trial_value, value)
        # a small step counts as arrival only where damping did not make it small
        arrived = finished & accepted & (damping <= 1e-7)
        free = quadrature.region.holds(lines)
        status[arrived] = torch.where(free, CONVERGED, AT_LIMIT).to(torch.int8)[arrived]
        if bool((status != NOT_CONVERGED).all()):
            break
        damping = torch.where(accepted, (damping / 10).clamp(min=1e-12), (damping * 10).clamp(max=1e10))
    return lines, status, taken


def _damped_step(
    terms: Terms, downhill: torch.Tensor, held: torch.Tensor, damping: torch.Tensor
) -> torch.Tensor:
    """Levenberg-Marquardt step `[material, ray]`, zero in held materials."""
    k = len(downhill)
    use = positive_definite(terms.hessian, terms.fisher)
    matrix = [torch.where(use, h, f)[0] for h, f in zip(terms.hessian, terms.fisher, strict=True)]
    made = []
    for (i, j), entry in zip(pairs(k), matrix, strict=True):
        if i == j:
            entry = torch.where(held[i], torch.ones_like(entry), entry * (1 + damping) + 1e-300)
        else:
            entry = torch.where(held[i] | held[j], torch.zeros_like(entry), entry)
        made.append(entry)
    right = [torch.where(held[i], torch.zeros_like(downhill[i]), downhill[i]) for i in range(k)]
    return torch.stack(solve_symmetric(made, right))
