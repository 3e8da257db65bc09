"""A first estimate of line integrals from the logarithms of grouped bins.

The bins are joined to as many groups as there are materials, the grouping that keeps most information, and a
polynomial of the groups' log attenuations is fitted over the box (Cardinal & Fenster, Med Phys 17:327, 1990).
Its variables are their mean and their differences: the logarithms themselves are all but proportional, and a
fit in them would live on terms that cancel.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement, pairwise

import torch

#: Degree of the polynomial; its error is then below that of the noise in most rays.
DEGREE = {1: 6, 2: 6, 3: 5}
#: No ray is asked for a closer fit than this part of the typical one's noise, or thin rays decide alone.
CLOSEST = 0.01
RIDGE = 1e-9
#: Fewer expected quanta in a group count as these: behind most material the quadrature's may be below zero.
LEAST_EXPECTED = 1e-5


@dataclass(frozen=True)
class Start:
    """`groups` 0/1 `[material, bin]`, `coefficients` `[material, term]`, the range `least`, `most`
    `[material]` of the variables (mean and differences of log attenuations) that was fitted."""

    groups: torch.Tensor
    coefficients: torch.Tensor
    least: torch.Tensor
    most: torch.Tensor

    def to(self, target: torch.device | str | torch.dtype) -> Start:
        """The same start on a device, or in another precision."""
        return Start(
            self.groups.to(target), self.coefficients.to(target), self.least.to(target), self.most.to(target)
        )

    def __call__(self, primary: torch.Tensor, air: torch.Tensor) -> torch.Tensor:
        """Line integrals `[group, material, ray]` from counts less scatter `[group, bin, ray]` and counts in
        air `[group, bin, 1]`."""
        open_beam = self.groups @ air
        counted = (self.groups @ primary).clamp(min=0.5)
        variables = _variables(torch.log(open_beam / counted), dim=1)
        least, most = self.least[:, None], self.most[:, None]
        variables = torch.minimum(torch.maximum(variables, least), most)
        return self.coefficients @ _terms(variables / torch.maximum(-least, most), dim=1)


def _variables(logs: torch.Tensor, dim: int) -> torch.Tensor:
    """The mean of the log attenuations along `dim`, and how each differs from the next."""
    return torch.cat([logs.mean(dim, keepdim=True), -logs.diff(dim=dim)], dim)


def exponents(k: int) -> list[tuple[int, ...]]:
    """Every term of the polynomial as the variables that are multiplied, shorter ones first."""
    return [term for n in range(1, DEGREE[k] + 1) for term in combinations_with_replacement(range(k), n)]


def _terms(variables: torch.Tensor, dim: int) -> torch.Tensor:
    """The polynomial's terms, in place of the axis `dim` of variables; each is a shorter one times a
    variable."""
    parts = variables.unbind(dim)
    monomials: dict[tuple[int, ...], torch.Tensor] = {}
    for term in exponents(len(parts)):
        monomials[term] = monomials[term[:-1]] * parts[term[-1]] if len(term) > 1 else parts[term[0]]
    return torch.stack(list(monomials.values()), dim)


def best_groups(slopes: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Grouping 0/1 `[material, bin]` of neighbouring bins with the greatest Fisher information.

    `slopes` `[bin, material]` derivatives of, and `expected` `[bin]`, counts of a typical ray."""
    n_bins, k = slopes.shape
    best, chosen = -1.0, torch.eye(k, n_bins, dtype=torch.float64)
    for cuts in combinations(range(1, n_bins), k - 1):
        edges = [0, *cuts, n_bins]
        groups = torch.zeros(k, n_bins, dtype=torch.float64)
        for row, (first, last) in enumerate(pairwise(edges)):
            groups[row, first:last] = 1
        joined = groups @ slopes
        information = float(torch.det(joined.T @ (joined / (groups @ expected)[:, None])))
        if information > best:
            best, chosen = information, groups
    return chosen


def fit_start(
    lines: torch.Tensor,
    spread: torch.Tensor,
    expected: torch.Tensor,
    air: torch.Tensor,
    slopes: torch.Tensor,
    typical: torch.Tensor,
) -> Start:
    """The polynomial for line integrals `[sample, material]` with noise-free counts `[sample, bin]`.

    `spread` `[sample, material]`: standard errors, by which the misfit is weighed; `air` `[bin]`; `slopes`
    `[bin, material]` and `typical` `[bin]` counts of a typical ray choose the groups.
    """
    groups = best_groups(slopes, typical)
    counted = (expected @ groups.T).clamp(min=LEAST_EXPECTED)
    variables = _variables(torch.log((groups @ air) / counted), dim=1)
    least, most = variables.amin(0), variables.amax(0)
    terms = _terms(variables / torch.maximum(-least, most), dim=1)
    ridge = RIDGE * torch.eye(terms.shape[1], dtype=terms.dtype)
    coefficients = []
    for values, error in zip(lines.T, spread.T, strict=True):
        weight = 1 / error.clamp(min=CLOSEST * float(error.median()))
        weighted = terms * weight[:, None]
        normal = weighted.T @ weighted
        normal = normal + ridge * normal.diagonal().mean()
        coefficients.append(torch.linalg.solve(normal, weighted.T @ (values * weight)))
    return Start(groups, torch.stack(coefficients), least, most)
