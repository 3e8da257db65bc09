"""Maximum likelihood of partial densities from the values of images, voxel by voxel, made differentiable.

With values y = A ρ + noise of covariance C, the estimate is the minimum of (y - Aρ)ᵀ C⁻¹ (y - Aρ), where
asked for with Σ ρ/density = 1 (volumes add up to the voxel's), ρ >= 0, and few materials in one voxel. For
each set of materials that are not zero it is an affine function of y, and the best of those that keep the
conditions is the minimum. As many images as materials without conditions is the exact algebra, whatever
the noise.

The gradient is that of the implicit function theorem, as for the rays of a scan (`solver.layer`): with g the
gradient of the cost and H its Hessian in the materials that are not zero, dρ/dθ = -H⁻¹ ∂g/∂θ.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch

from ctenhance.runtime.errors import InputError

#: Voxels whose sets are searched together.
_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class _Affine:
    """ρ = `gain` y + `offset` for the materials of `members`, others 0; `inverse`: that of the Hessian
    there, `[material, material]` in all materials; `rest`: C^-1/2 (y - Aρ) = `rest` y - `shift`."""

    members: tuple[int, ...]
    gain: torch.Tensor
    offset: torch.Tensor
    inverse: torch.Tensor
    rest: torch.Tensor
    shift: torch.Tensor


class ImageDecomposer:
    """A prepared estimate for one set of images and one basis.

    `attenuation` `[image, material]`: values per g/cm³; `covariance` `[image, image]` of the values' noise;
    `densities` `[material]` in g/cm³ where volume is conserved; `nonnegative`: no density below zero;
    `at_most`: so many materials in one voxel, the likeliest ones.
    Raises InputError for shapes that do not fit and a covariance that is none.
    """

    def __init__(
        self,
        attenuation: torch.Tensor,
        covariance: torch.Tensor,
        densities: torch.Tensor | None = None,
        nonnegative: bool = False,
        at_most: int | None = None,
    ) -> None:
        self.attenuation = attenuation.detach().double().cpu()
        self.covariance = covariance.detach().double().cpu()
        n_images, n_materials = self.attenuation.shape
        if self.covariance.shape != (n_images, n_images):
            raise InputError(
                f"The noise covariance is {tuple(self.covariance.shape)} for {n_images} images: give one row "
                "and column for each."
            )
        symmetric = torch.allclose(self.covariance, self.covariance.T, rtol=1e-6, atol=0)
        if not symmetric or float(torch.linalg.eigvalsh(self.covariance)[0]) <= 0:
            raise InputError("The noise covariance must be symmetric and positive definite.")
        self.shares = None if densities is None else 1 / densities.detach().double().cpu()
        self.nonnegative = nonnegative
        factor = torch.linalg.cholesky(self.covariance)
        self.white = torch.linalg.inv(factor)  # C^-1 = whiteᵀ white
        everything = tuple(range(n_materials))
        if at_most is not None and at_most < 1:
            raise InputError(f"A voxel cannot hold at most {at_most} materials: give 1 or more.")
        self.most = n_materials if at_most is None else min(at_most, n_materials)
        self._sets = [self._affine(everything)]
        if nonnegative or self.most < n_materials:
            least = 0 if self.shares is None else 1
            sizes = range(min(self.most, n_materials - 1), least - 1, -1)
            chosen = itertools.chain.from_iterable(itertools.combinations(everything, n) for n in sizes)
            self._sets += [self._affine(members) for members in chosen]

    @property
    def spare(self) -> int:
        """How many images more there are than unknowns."""
        unknown = self.attenuation.shape[1] - (self.shares is not None)
        return len(self.attenuation) - unknown

    def _affine(self, members: tuple[int, ...]) -> _Affine:
        n_images, n_materials = self.attenuation.shape
        chosen = self.attenuation[:, list(members)]
        whitened = self.white @ chosen
        hessian = whitened.T @ whitened
        count = len(members)
        gain, offset = torch.zeros(n_materials, n_images), torch.zeros(n_materials)
        gain, offset = gain.double(), offset.double()
        inverse = torch.zeros(n_materials, n_materials, dtype=torch.float64)
        if count:
            part, fixed = self._solved(hessian, members)
            index = torch.tensor(members)
            inverse[index[:, None], index] = part
            gain[index] = part @ whitened.T @ self.white
            offset[index] = fixed
        rest = self.white - self.white @ self.attenuation @ gain
        return _Affine(members, gain, offset, inverse, rest, self.white @ self.attenuation @ offset)

    def _solved(self, hessian: torch.Tensor, members: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """The inverse Hessian, in the plane of conserved volume where there is one, and ρ where A ρ = 0."""
        count = len(members)
        scale = hessian.diagonal().rsqrt()
        scaled = hessian * scale[:, None] * scale
        if self.shares is None:
            return torch.linalg.inv(scaled) * scale[:, None] * scale, torch.zeros(count, dtype=torch.float64)
        row = self.shares[list(members)] * scale
        size = row.norm()
        bordered = torch.zeros(count + 1, count + 1, dtype=torch.float64)
        bordered[:count, :count] = scaled
        bordered[count, :count] = bordered[:count, count] = row / size
        whole = torch.linalg.inv(bordered)
        return whole[:count, :count] * scale[:, None] * scale, whole[:count, count] * scale / size

    def estimate(self, values: torch.Tensor) -> torch.Tensor:
        """Partial densities in g/cm³ `[material, ...]` of values `[image, ...]`; no gradient."""
        return self.estimate_sets(values)[0]

    def estimate_sets(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Partial densities `[material, ...]`, and which set of materials each voxel holds `[...]` int8."""
        with torch.no_grad():
            found, sets = self._estimate(values)
        return found, sets.reshape(values.shape[1:])

    def __call__(self, values: torch.Tensor, attenuation: torch.Tensor | None = None) -> torch.Tensor:
        """Partial densities `[material, ...]`, differentiable once in the values and in `attenuation`
        `[image, material]`, which must have the values that this was made of."""
        mass = self.attenuation if attenuation is None else attenuation
        if not torch.equal(mass.detach().double().cpu(), self.attenuation):
            raise InputError("The attenuation has other values than those of the decomposer: make a new one.")
        flat = values.flatten(1)
        found = _Implicit.apply(flat, mass, self)
        return found.reshape(-1, *values.shape[1:]).to(values.dtype)

    def standard_errors(self, covariance: torch.Tensor | None = None) -> torch.Tensor:
        """Standard errors in g/cm³ `[set, material]` of each set of materials, all of them first; those that
        are not in a set have the errors of all.

        With the covariance of the model this is the Fisher information's bound; `covariance`: that of the
        noise, where the model's holds more than noise."""
        noise = self.covariance if covariance is None else covariance.detach().double().cpu()
        rows: list[torch.Tensor] = []
        for one in self._sets:
            errors = (one.gain @ noise @ one.gain.T).diagonal().clamp(min=0).sqrt()
            members = torch.zeros(len(errors), dtype=torch.bool)
            members[list(one.members)] = True
            rows.append(torch.where(members, errors, rows[0]) if rows else errors)
        return torch.stack(rows)

    def residual(self, values: torch.Tensor, densities: torch.Tensor) -> torch.Tensor:
        """Values less what the densities explain, `[image, ...]`."""
        return values - torch.tensordot(self.attenuation.to(values), densities.to(values), 1)

    def misfit(self, values: torch.Tensor, densities: torch.Tensor) -> torch.Tensor:
        """The residual's size in standard deviations of the noise, by the root of the images to spare
        `[...]`: about 1 where noise explains it. Raises InputError where none is to spare."""
        if self.spare < 1:
            raise InputError(
                "There is no residual with as many unknowns as images: give more energies or fewer materials."
            )
        white = torch.tensordot(self.white.to(values), self.residual(values, densities), 1)
        return (white.square().sum(0) / self.spare).sqrt()

    def _estimate(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Densities and for each voxel the index of its set of materials."""
        flat = values.flatten(1)
        found = _applied(self._sets[0], flat)
        chosen = torch.zeros(flat.shape[1], dtype=torch.int8, device=flat.device)
        if self.most < len(found):
            where = torch.arange(flat.shape[1], device=flat.device)
        elif self.nonnegative:
            where = (found < 0).any(0).nonzero()[:, 0]
        else:
            where = torch.arange(0)
        for start in range(0, len(where), _AT_ONCE):
            part = where[start : start + _AT_ONCE]
            found[:, part], chosen[part] = self._best(flat[:, part])
        return found.reshape(-1, *values.shape[1:]), chosen

    def _best(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The likeliest densities of sets smaller than all, and the index of the set `[voxel]`."""
        best = torch.full_like(values[0], torch.inf)
        found = torch.zeros(self.attenuation.shape[1], values.shape[1]).to(values)
        chosen = torch.zeros(values.shape[1], dtype=torch.int8, device=values.device)
        for index, one in enumerate(self._sets[1:], start=1):
            tried = _applied(one, values)
            cost = (one.rest.to(values) @ values - one.shift.to(values)[:, None]).square().sum(0)
            better = cost < best
            if self.nonnegative:
                better &= (tried >= 0).all(0)
            best = torch.where(better, cost, best)
            found = torch.where(better, tried, found)
            chosen = torch.where(better, torch.full_like(chosen, index), chosen)
        return found, chosen


def _applied(one: _Affine, flat: torch.Tensor) -> torch.Tensor:
    return torch.addmm(one.offset.to(flat)[:, None], one.gain.to(flat), flat)


class _Implicit(torch.autograd.Function):
    """The estimate with the derivative of the implicit function theorem."""

    @staticmethod
    def forward(ctx: Any, values, attenuation, decomposer) -> torch.Tensor:  # type: ignore[override]
        exact = values.detach().double()
        found, chosen = decomposer._estimate(exact)
        ctx.decomposer, ctx.dtypes = decomposer, (values.dtype, attenuation.dtype)
        ctx.save_for_backward(exact, found, chosen)
        return found.to(values.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor):  # type: ignore[override]
        values, found, chosen = ctx.saved_tensors
        one: ImageDecomposer = ctx.decomposer
        adjoint = torch.zeros_like(found)  # H⁻¹ v, 0 for materials at zero
        for index in chosen.unique().tolist():
            here = chosen == index
            adjoint[:, here] = one._sets[index].inverse.to(found) @ upstream.double()[:, here]
        weight = (one.white.T @ one.white).to(values)
        along = weight @ (one.attenuation.to(values) @ adjoint)
        pulled = weight @ (one.attenuation.to(values) @ found - values)
        of_attenuation = -(pulled @ adjoint.T) - along @ found.T
        return along.to(ctx.dtypes[0]), of_attenuation.to(ctx.dtypes[1]), None
