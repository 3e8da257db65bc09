"""The Poisson likelihood of energy-binned counts and its derivatives, for batches of rays.

Rays lie along the last axis: line integrals `A` `[group, material, ray]` in g/cm², counts `[group, bin,
ray]`. A group shares one set of node weights `[group, bin, node]` (all rays, or one detector channel).
Expected counts y_j = Σ_q W_jq exp(-mu_q A) + s_j; cost ℓ = Σ_j y_j - n_j ln y_j (Roessl & Proksa, Phys Med
Biol 52:4679, 2007).
"""

from __future__ import annotations

from typing import NamedTuple

import torch

#: Expected counts below this are taken as this, so that ratios stay finite.
LEAST_EXPECTED = 1e-30


def pairs(k: int) -> list[tuple[int, int]]:
    """Index pairs of the upper triangle of a symmetric k x k matrix, row by row."""
    return [(i, j) for i in range(k) for j in range(i, k)]


def moment_tables(weights: torch.Tensor, attenuation: torch.Tensor) -> torch.Tensor:
    """Rows `[group, moment * bin, node]` whose product with exp(-mu A) gives the expected counts and their
    derivatives: moments 1, mu_k, mu_k mu_l (upper triangle)."""
    k = len(attenuation)
    factors = [
        torch.ones_like(attenuation[0]),
        *attenuation,
        *(attenuation[i] * attenuation[j] for i, j in pairs(k)),
    ]
    return (weights[:, None] * torch.stack(factors)[:, None, :]).flatten(1, 2)


def transmissions(lines: torch.Tensor, attenuation: torch.Tensor) -> torch.Tensor:
    """exp(-mu A) at the nodes, `[group, node, ray]`, of line integrals `[group, material, ray]`."""
    return torch.exp(torch.matmul(-attenuation.T, lines))


class Terms(NamedTuple):
    """What a Newton step needs; each entry `[group, ray]`, matrices as lists of their upper triangle."""

    downhill: list[torch.Tensor]  # minus the gradient, by material
    fisher: list[torch.Tensor]
    hessian: list[torch.Tensor]


def newton_terms(
    moments: torch.Tensor, counts: torch.Tensor, scatter: torch.Tensor | None, n_materials: int
) -> Terms:
    """Gradient, Fisher information and Hessian of the cost from moments `[group, moment * bin, ray]`."""
    values = moments.unflatten(1, (-1, counts.shape[1]))  # [group, moment, bin, ray]
    inverse = _inverse(values[:, 0], scatter)[:, None]
    ratio = counts[:, None] * inverse
    pulled = ((1 - ratio) * values[:, 1:]).sum(2)
    slopes = values[:, 1 : 1 + n_materials]
    relative = slopes * inverse
    products = torch.stack([relative[:, i] * slopes[:, j] for i, j in pairs(n_materials)], 1)
    hessian = pulled[:, n_materials:] + (products * ratio).sum(2)
    return Terms(
        list(pulled[:, :n_materials].unbind(1)), list(products.sum(2).unbind(1)), list(hessian.unbind(1))
    )


def downhill(moments: torch.Tensor, counts: torch.Tensor, scatter: torch.Tensor | None) -> list[torch.Tensor]:
    """Minus the gradient of the cost, by material `[group, ray]`, from the moments 1 and mu_k alone."""
    values = moments.unflatten(1, (-1, counts.shape[1]))
    excess = 1 - counts * _inverse(values[:, 0], scatter)
    return list((excess[:, None] * values[:, 1:]).sum(2).unbind(1))


def _inverse(primary: torch.Tensor, scatter: torch.Tensor | None) -> torch.Tensor:
    """One over the expected counts, which are kept from zero."""
    expected = primary if scatter is None else primary + scatter
    return expected.clamp(min=LEAST_EXPECTED).reciprocal()


def second_order_bias(
    moments: torch.Tensor, n_bins: int, scatter: torch.Tensor | None, n_materials: int
) -> torch.Tensor:
    """Mean error `[group, material, ray]` of the maximum-likelihood estimate to first order in 1 / counts.

    Cox & Snell (J R Stat Soc B 30:248, 1968) for independent Poisson bins, where it becomes
    ½ F⁻¹ Σ_j (-∂y_j/∂A) tr(F⁻¹ ∂²y_j/∂A²) / y_j: the curvature of attenuation makes noisy rays read high.
    Zero where it would be more than a standard error of any material: the series in 1 / counts is of no use
    there, and may be wrong by hundreds of metres of water.
    """
    values = moments.unflatten(1, (-1, n_bins))
    inverse = _inverse(values[:, 0], scatter)
    slopes, curves = values[:, 1 : 1 + n_materials], values[:, 1 + n_materials :]
    relative = slopes * inverse[:, None]
    fisher = [(relative[:, i] * slopes[:, j]).sum(1) for i, j in pairs(n_materials)]
    covariance = []
    for k in range(n_materials):
        unit = [torch.full_like(fisher[0], float(i == k)) for i in range(n_materials)]
        covariance.append(solve_symmetric(fisher, unit))
    trace = torch.zeros_like(inverse)
    for (i, j), curve in zip(pairs(n_materials), curves.unbind(1), strict=True):
        trace = trace + (1.0 if i == j else 2.0) * covariance[i][j][:, None] * curve
    right = (0.5 * relative * trace[:, None]).sum(2)
    bias = torch.stack(solve_symmetric(fisher, list(right.unbind(1))), 1)
    variance = torch.stack([covariance[k][k] for k in range(n_materials)], 1)
    return torch.where((bias.square() <= variance).all(1, keepdim=True), bias, 0.0)  # not a number: 0 too


def cost(moments: torch.Tensor, counts: torch.Tensor, scatter: torch.Tensor | None) -> torch.Tensor:
    """Negative log-likelihood `[group, ray]` up to a constant, from moments (the first is enough)."""
    n_bins = counts.shape[1]
    expected = moments[:, :n_bins] if scatter is None else moments[:, :n_bins] + scatter
    expected = expected.clamp(min=LEAST_EXPECTED)
    return (expected - counts * expected.log()).sum(1)


def positive_definite(matrix: list[torch.Tensor], fisher: list[torch.Tensor]) -> torch.Tensor:
    """Whether each symmetric matrix (upper triangle, K <= 3) is safely positive definite, against the Fisher
    information of the same ray."""
    margin = 1e-3
    if len(matrix) == 1:
        return matrix[0] > margin * fisher[0]
    if len(matrix) == 3:
        a, b, c = matrix
        fa, fb, fc = fisher
        return (a > margin * fa) & (a * c - b * b > margin * (fa * fc - fb * fb))
    a, b, _, d, _, _ = matrix
    fa, fb, _, fd, _, _ = fisher
    return (
        (a > margin * fa)
        & (a * d - b * b > margin * (fa * fd - fb * fb))
        & (determinant(matrix) > margin * determinant(fisher))
    )


def determinant(m: list[torch.Tensor]) -> torch.Tensor:
    """Determinant of symmetric matrices up to 3 x 3, given as their upper triangle."""
    if len(m) == 1:
        return m[0]
    if len(m) == 3:
        return m[0] * m[2] - m[1] * m[1]
    a, b, c, d, e, f = m
    return a * (d * f - e * e) - b * (b * f - c * e) + c * (b * e - c * d)


def solve_symmetric(m: list[torch.Tensor], right: list[torch.Tensor]) -> list[torch.Tensor]:
    """Solution of symmetric systems up to 3 x 3 in closed form; matrices as their upper triangle."""
    scale = determinant(m).reciprocal()
    if len(m) == 1:
        return [right[0] * scale]
    if len(m) == 3:
        return [(m[2] * right[0] - m[1] * right[1]) * scale, (m[0] * right[1] - m[1] * right[0]) * scale]
    a, b, c, d, e, f = m
    x, y, z = right
    ab, ac, bc = c * e - b * f, b * e - c * d, b * c - a * e
    return [
        ((d * f - e * e) * x + ab * y + ac * z) * scale,
        (ab * x + (a * f - c * c) * y + bc * z) * scale,
        (ac * x + bc * y + (a * d - b * b) * z) * scale,
    ]


def full_matrix(m: list[torch.Tensor]) -> torch.Tensor:
    """The symmetric matrix `[..., K, K]` of an upper triangle."""
    k = {1: 1, 3: 2, 6: 3}[len(m)]
    index = [[pairs(k).index((min(i, j), max(i, j))) for j in range(k)] for i in range(k)]
    return torch.stack([torch.stack([m[index[i][j]] for j in range(k)], -1) for i in range(k)], -2)
