"""The maximum of the likelihood for every ray: batched Newton, and a damped solver for the rays that resist.

Most rays take two or three steps in float32 from the polynomial start (the first with Fisher's matrix, which
forgives a start that is far off) and one in float64 with the Hessian of the last: the gradient alone decides
where the steps end, so that the answer has float64's accuracy. Chunks fit the cache; CPU threads take a chunk
each. The rays that are left (starved by bone or metal, at the limits of the box, or with an indefinite
Hessian) go on with Levenberg damping, a descent test and bounds held by projection (Bertsekas, SIAM J Control
20:221, 1982). A ray has converged when less than `tolerance` standard errors are left to go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

from ctenhance.decomposition.solver.compiled import Steps
from ctenhance.decomposition.solver.likelihood import (
    Terms,
    cost,
    downhill,
    moment_tables,
    newton_terms,
    pairs,
    positive_definite,
    second_order_bias,
    solve_symmetric,
    transmissions,
)
from ctenhance.decomposition.solver.quadrature import Quadrature
from ctenhance.decomposition.solver.start import Start
from ctenhance.runtime.progress import Cancellable, Progress, check

T = TypeVar("T")

#: What `Estimate.status` says of a ray.
CONVERGED, AT_LIMIT, STARVED, NOT_CONVERGED = 0, 1, 2, 3
#: Counts in all bins together below which a ray is starved.
STARVED_COUNTS = 20.0

#: Most steps in float32, and then in float64 with the last Hessian.
QUICK_STEPS, EXACT_STEPS = 5, 4
SLOW_STEPS = 80
#: The steps of a chunk end when this share of its rays is left.
LEFT_OVER = 0.02
#: Standard errors to which float32 can lead a ray.
QUICK_LIMIT = 1e-6
#: Rays that are solved at once on a CPU, where they share the cache, and on a GPU.
RAYS_PER_CHUNK = {"cpu": 8192, "cuda": 1 << 20}
SLOW_RAYS = 16384
#: Levenberg damping that a slow ray begins with, and below which it does not shorten a step.
DAMPING, UNDAMPED = 1e-4, 1e-5


@dataclass(frozen=True)
class Estimate:
    """Line integrals `[group, material, ray]` g/cm² float64, `status` `[group, ray]` int8, most steps that a
    ray took."""

    lines: torch.Tensor
    status: torch.Tensor
    steps: int


@dataclass(frozen=True)
class Problem:
    """Rays and model of one solve: `counts` `[group, bin, ray]`, of which those below 0 count as 0; `weights`
    `[group, bin, node]`; `scatter` like the counts or None."""

    counts: torch.Tensor
    weights: torch.Tensor
    scatter: torch.Tensor | None
    quadrature: Quadrature


@dataclass(frozen=True)
class _Model:
    """What counts follow from, in one precision: moment tables `[group, moment * bin, node]`, `attenuation`
    `[material, node]`, counts in `air` `[group, bin, 1]`, the start and the box `[material, 1]`."""

    tables: torch.Tensor
    attenuation: torch.Tensor
    air: torch.Tensor
    start: Start
    lower: torch.Tensor
    upper: torch.Tensor

    @classmethod
    def of(cls, problem: Problem, start: Start, dtype: torch.dtype) -> _Model:
        quadrature = problem.quadrature
        return cls(
            moment_tables(problem.weights, quadrature.attenuation).to(dtype),
            quadrature.attenuation.to(dtype),
            problem.weights.sum(-1, keepdim=True).to(dtype),
            start.to(dtype),
            quadrature.region.lower[:, None].to(dtype),
            quadrature.region.upper[:, None].to(dtype),
        )

    def moments(self, groups: slice, lines: torch.Tensor, rows: int | None = None) -> torch.Tensor:
        """The first `rows` moments `[group, moment * bin, ray]` of lines `[group, material, ray]`."""
        return torch.matmul(self.tables[groups, :rows], transmissions(lines, self.attenuation))

    def moved(self, lines: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """Line integrals after a step that is not too long, unless it is none."""
        longest = 0.2 * (self.upper - self.lower)
        step = torch.nan_to_num(torch.minimum(torch.maximum(step, -longest), longest))
        return lines + step

    def inside(self, lines: torch.Tensor) -> torch.Tensor:
        """The nearest line integrals in the box."""
        return torch.minimum(torch.maximum(lines, self.lower), self.upper)


def solve(
    problem: Problem,
    start: Start,
    tolerance: float = 1e-4,
    correct_bias: bool = False,
    compiled: bool = False,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> Estimate:
    """Maximum-likelihood line integrals of every ray, inside the quadrature's limits.

    Rays with fewer than `STARVED_COUNTS` in all bins together are solved too but marked STARVED.
    `correct_bias` takes the estimate's own bias, to first order in 1 / counts, off the rays that converged.
    `compiled`: by the same steps in numba, on a CPU.
    """
    counts = problem.counts
    n_groups, n_bins, n_rays = counts.shape
    k = len(problem.quadrature.attenuation)
    lines = torch.empty(n_groups, k, n_rays, dtype=torch.float64, device=counts.device)
    status = torch.zeros(n_groups, n_rays, dtype=torch.int8, device=counts.device)
    starved = torch.zeros(n_groups, n_rays, dtype=torch.bool, device=counts.device)
    quick, exact = (_Model.of(problem, start, dtype) for dtype in (torch.float32, torch.float64))
    region = problem.quadrature.region
    steps_of = Steps(exact.tables, exact.attenuation, exact.air, start, region) if compiled else None
    at_once = RAYS_PER_CHUNK.get(counts.device.type, RAYS_PER_CHUNK["cpu"])
    groups_at_once = max(1, at_once // max(1, n_rays))
    chunks = [
        (slice(g, g + groups_at_once), slice(r, r + at_once))
        for g in range(0, n_groups, groups_at_once)
        for r in range(0, n_rays, at_once)
    ]

    def work(chunk: tuple[slice, slice]) -> int:
        check(cancel)
        groups, rays = chunk
        part = _float64(counts[groups, :, rays])
        scatter = None if problem.scatter is None else _float64(problem.scatter[groups, :, rays])
        if steps_of is None:
            part = part.clamp(min=0)
            counted = part.sum(1)
            found, good, took = _fast(part, scatter, groups, quick, exact, problem.quadrature, tolerance)
        else:
            found, good, counted, took = steps_of(part, scatter, groups, tolerance, correct_bias)
        starved[groups, rays] = counted < STARVED_COUNTS
        status[groups, rays] = torch.where(good, CONVERGED, NOT_CONVERGED).to(torch.int8)
        if correct_bias and steps_of is None:
            # a small correction: float32 is enough
            scatter = None if scatter is None else scatter.float()
            bias = second_order_bias(quick.moments(groups, found.float()), n_bins, scatter, k)
            found = found - torch.where(good[:, None], bias.double(), 0.0)
        lines[groups, :, rays] = found
        return took

    steps = 0
    for done, took in enumerate(_side_by_side(work, chunks, counts.device)):
        steps = max(steps, took)
        if progress is not None:
            progress("decompose", done + 1, len(chunks))
    left = (status == NOT_CONVERGED).nonzero()
    for first in range(0, len(left), SLOW_RAYS):
        check(cancel)
        group, ray = left[first : first + SLOW_RAYS].unbind(1)
        slow = _slow(
            problem, exact.tables, group, ray, lines[group, :, ray].T, tolerance, correct_bias, cancel
        )
        lines[group, :, ray] = slow[0].T
        status[group, ray] = slow[1]
        steps = max(steps, QUICK_STEPS + slow[2])
    status[starved] = STARVED
    return Estimate(lines, status, steps)


def _float64(values: torch.Tensor) -> torch.Tensor:
    return values.to(torch.float64, memory_format=torch.contiguous_format)


def _side_by_side(
    work: Callable[[tuple[slice, slice]], T], chunks: Sequence[tuple[slice, slice]], device: torch.device
) -> Iterator[T]:
    """The results of all chunks in their order; on a CPU each thread takes a chunk of its own, since the
    chunks' operations are too small to be shared out one by one."""
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    if threads == 1 or len(chunks) == 1:
        yield from map(work, chunks)
        return

    @torch.no_grad()  # grad mode belongs to a thread
    def quietly(chunk: tuple[slice, slice]) -> T:
        return work(chunk)

    with _single_threaded_operations(), ThreadPoolExecutor(threads) as pool:
        yield from pool.map(quietly, chunks)


@contextmanager
def _single_threaded_operations() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _newton_matrix(terms: Terms) -> list[torch.Tensor]:
    """The Hessian where it is safely positive definite, Fisher's information elsewhere."""
    use = positive_definite(terms.hessian, terms.fisher)
    return [torch.where(use, h, f) for h, f in zip(terms.hessian, terms.fisher, strict=True)]


def _length(step: torch.Tensor, slope: list[torch.Tensor]) -> torch.Tensor:
    """Length of a Newton step in standard errors; not a number for one that leads uphill."""
    return (step * torch.stack(slope, 1)).sum(1).sqrt()


def _fast(
    counts: torch.Tensor,
    scatter: torch.Tensor | None,
    groups: slice,
    quick: _Model,
    exact: _Model,
    quadrature: Quadrature,
    tolerance: float,
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Undamped Newton on a chunk: line integrals, which of them converged inside the box, and the steps."""
    k, n_bins = len(quadrature.attenuation), counts.shape[1]
    most_left = LEFT_OVER * counts[:, 0].numel()
    some = counts.float()
    known = None if scatter is None else scatter.float()
    primary = some if known is None else some - known
    lines = quick.inside(quick.start(primary, quick.air[groups]))
    length = torch.zeros_like(lines[:, 0])
    taken = 0
    while taken < QUICK_STEPS:
        taken += 1
        terms = newton_terms(quick.moments(groups, lines), some, known, k)
        matrix = terms.fisher if taken == 1 else _newton_matrix(terms)
        step = torch.stack(solve_symmetric(matrix, terms.downhill), 1)
        before, length = length, _length(step, terms.downhill)
        lines = quick.inside(quick.moved(lines, step))
        # Newton's steps shrink by their square, s -> s (s / s_before)²; those with this step's matrix shrink
        # by twice that ratio each, and are given twice as much again
        rate = 4 * (length / before) ** 2
        ahead = rate**2 * length / 4
        if int((~(ahead <= max(tolerance, QUICK_LIMIT))).sum()) <= most_left:
            break
    lines, rate = lines.double(), rate.clamp(max=1).double()
    matrix = [entry.double() for entry in matrix]
    good = torch.zeros_like(counts[:, 0], dtype=torch.bool)
    for _ in range(EXACT_STEPS):
        taken += 1
        slope = downhill(exact.moments(groups, lines, (1 + k) * n_bins), counts, scatter)
        step = torch.stack(solve_symmetric(matrix, slope), 1)
        lines = exact.moved(lines, step)
        good = (rate * _length(step, slope) <= tolerance) & quadrature.region.holds(lines)
        lines = exact.inside(lines)
        if int((~good).sum()) <= most_left:
            break
    return lines, good, taken


def _slow(
    problem: Problem,
    all_tables: torch.Tensor,
    group: torch.Tensor,
    ray: torch.Tensor,
    lines: torch.Tensor,
    tolerance: float,
    correct_bias: bool,
    cancel: Cancellable | None,
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Damped Newton with bounds for single rays: line integrals `[material, ray]`, status, steps."""
    quadrature = problem.quadrature
    k = len(quadrature.attenuation)
    lower, upper = quadrature.region.lower[:, None], quadrature.region.upper[:, None]
    # every ray brings the table of its group, or all share the only one
    shared = len(all_tables) == 1
    counts = problem.counts[group, :, ray].T[None].double().clamp(min=0)
    scatter = None if problem.scatter is None else problem.scatter[group, :, ray].T[None].double()
    tables = all_tables if shared else all_tables[group]

    def moments_at(at: torch.Tensor) -> torch.Tensor:
        passed = transmissions(at[None], quadrature.attenuation)  # [1, node, ray]
        if shared:
            return torch.matmul(tables, passed)
        return torch.einsum("rtq,qr->tr", tables, passed[0])[None]

    damping = torch.full_like(lines[0], DAMPING)
    status = torch.full(lines.shape[1:], NOT_CONVERGED, dtype=torch.int8, device=lines.device)
    moments = moments_at(lines)
    value = cost(moments, counts, scatter)[0]
    taken = 0
    while taken < SLOW_STEPS:
        taken += 1
        check(cancel)
        terms = newton_terms(moments, counts, scatter, k)
        slope = torch.stack([g[0] for g in terms.downhill])
        # a material at its bound that wants to go further stays there
        held = ((lines <= lower) & (slope < 0)) | ((lines >= upper) & (slope > 0))
        step = _damped_step(terms, slope, held, damping)
        decrement = (step * slope).sum(0)
        finished = decrement <= tolerance**2
        trial = torch.minimum(torch.maximum(lines + step, lower), upper)
        trial_moments = moments_at(trial)
        trial_value = cost(trial_moments, counts, scatter)[0]
        accepted = trial_value <= value + 1e-13 * value.abs()
        lines = torch.where(accepted, trial, lines)
        moments = torch.where(accepted, trial_moments, moments)
        value = torch.where(accepted, trial_value, value)
        # a small step counts as arrival only where damping did not make it small
        arrived = finished & accepted & (damping <= UNDAMPED)
        free = quadrature.region.holds(lines)
        status[arrived] = torch.where(free, CONVERGED, AT_LIMIT).to(torch.int8)[arrived]
        if bool((status != NOT_CONVERGED).all()):
            break
        damping = torch.where(accepted, (damping / 10).clamp(min=1e-12), (damping * 10).clamp(max=1e10))
    if correct_bias:
        bias = second_order_bias(moments, counts.shape[1], scatter, k)[0]
        lines = lines - torch.where(status == CONVERGED, bias, 0.0)
    return lines, status, taken


def _damped_step(
    terms: Terms, slope: torch.Tensor, held: torch.Tensor, damping: torch.Tensor
) -> torch.Tensor:
    """Levenberg-Marquardt step `[material, ray]`, zero in held materials."""
    k = len(slope)
    matrix = []
    for (i, j), whole in zip(pairs(k), _newton_matrix(terms), strict=True):
        entry = whole[0]
        if i == j:
            entry = torch.where(held[i], torch.ones_like(entry), entry * (1 + damping) + 1e-300)
        else:
            entry = torch.where(held[i] | held[j], torch.zeros_like(entry), entry)
        matrix.append(entry)
    right = [torch.where(held[i], torch.zeros_like(slope[i]), slope[i]) for i in range(k)]
    return torch.stack(solve_symmetric(matrix, right))
