"""Peers of the package's maximum-likelihood decomposition: a plain batched Newton, and scipy ray by ray."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize

from ctenhance.decomposition.solver.likelihood import newton_terms, positive_definite, solve_symmetric
from ctenhance.decomposition.solver.newton import LEFT_OVER

CHUNK = 8192


def plain_newton(
    counts: torch.Tensor, spectra: torch.Tensor, mu: torch.Tensor, tolerance: float
) -> torch.Tensor:
    """The peer: batched Newton (Fisher where the Hessian is indefinite) on every energy, from water alone.

    Chunks, matrices and the rule to stop are the package's: a ray is done when what its last two steps leave
    to go, with the same margin, is below `tolerance` standard errors; the last of a chunk go on alone."""
    tables = [torch.ones_like(mu[0]), *mu, mu[0] * mu[0], mu[0] * mu[1], mu[1] * mu[1]]
    rows = (spectra[None] * torch.stack(tables)[:, None]).flatten(0, 1)[None]
    air = spectra.sum()
    least, most = torch.tensor([[-5.0], [-0.1]]).double(), torch.tensor([[73.0], [1.4]]).double()
    found = []
    for part in counts.split(CHUNK):
        n = part.T[None].double()
        water = torch.log(air / part.sum(-1).clamp(min=1).double()) / 0.2
        lines = torch.stack([water, torch.zeros_like(water)])[None]
        whole, active = lines[0], torch.arange(len(part))
        length = torch.zeros_like(water)[None]
        for _ in range(30):
            terms = newton_terms(rows @ torch.exp(-(mu.T @ lines)), n, None, 2)
            use = positive_definite(terms.hessian, terms.fisher)
            matrix = [torch.where(use, h, f) for h, f in zip(terms.hessian, terms.fisher, strict=True)]
            step = torch.stack(solve_symmetric(matrix, terms.downhill), 1)
            lines = torch.minimum(torch.maximum(lines + step, least), most)
            before, length = length, (step * torch.stack(terms.downhill, 1)).sum(1).sqrt()
            left = ~(2 * (length / before) ** 2 * length <= tolerance)[0]
            if int(left.sum()) <= LEFT_OVER * len(left):
                whole[:, active] = lines[0]
                active, n, lines, length = active[left], n[..., left], lines[..., left], length[:, left]
                if len(active) == 0:
                    break
        whole[:, active] = lines[0]
        found.append(whole.T)
    return torch.cat(found)


def by_scipy(counts: np.ndarray, spectra: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """The peer: one ray after the other with scipy's trust-region Newton and exact derivatives."""
    scale = np.array([1.0, 1 / 20])
    found = []
    for n in counts:

        def parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            passed = spectra * np.exp(-(x * scale) @ mu)
            return passed.sum(1), passed

        def cost(x: np.ndarray, n: np.ndarray = n) -> float:
            y = parts(x)[0]
            return float((y - n * np.log(y)).sum())

        def slope(x: np.ndarray, n: np.ndarray = n) -> np.ndarray:
            y, passed = parts(x)
            return -((1 - n / y)[:, None] * (passed @ mu.T)).sum(0) * scale

        def curvature(x: np.ndarray, n: np.ndarray = n) -> np.ndarray:
            y, passed = parts(x)
            first = passed @ mu.T
            second = np.einsum("je,ke,le->jkl", passed, mu, mu)
            whole = np.einsum("j,jk,jl->kl", n / y**2, first, first) + np.einsum(
                "j,jkl->kl", 1 - n / y, second
            )
            return whole * scale[:, None] * scale

        water = np.log(spectra.sum() / max(n.sum(), 1)) / 0.2
        best = minimize(cost, [water, 0.0], jac=slope, hess=curvature, method="trust-exact")
        found.append(best.x * scale)
    return np.array(found)
