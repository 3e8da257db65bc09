"""What the scatter network sees and says: a coarse scan of any geometry and any bins, free of both.

The network works on cells of `CELL_MM` by `CELL_RAD`. It sees what a decomposition of the averaged logarithms
finds there, where the cell lies, how much of the redundant bins' misfit and of the excess over air looks like
scatter, how much the scanner scatters where that is known (`water_spr`: scatter by primary counts behind the
middle of 300 mm of water, which is what kernel methods are calibrated with), and whether its anti-scatter
grid is. It says how far scatter is from that of a reference scanner (`scatter.reference`): by a factor, and
by another that grows with a bin's energy. Every bin of any detector gets its scatter from these two maps."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.export import Dim

from ctenhance.decomposition.phantom import MaterialPhantom
from ctenhance.decomposition.scatter.physics import view_arc
from ctenhance.decomposition.scatter.reference import ROUGH, ReferenceScatter, few_rays
from ctenhance.decomposition.solver.layer import Decomposer
from ctenhance.decomposition.solver.likelihood import LEAST_EXPECTED
from ctenhance.physics.geometry import ScanGeometry
from ctenhance.physics.materials import material
from ctenhance.runtime.engines.export import ExportForm

CELL_MM, CELL_RAD = 10.0, 2 * math.pi / 32
#: Widths in mm at the isocentre over which forward scatter is spread; the kernel method scales the middle
#: one, by the median over the training scans of a reference scanner.
SPREADS_MM, KERNEL_FACTOR = (15.0, 45.0, 120.0), 0.044
#: Quanta in air that the coarse decomposition is given: a scale, since its counts are means of logarithms.
_AIR = 1e7
#: Scatter is at most this part of the counts.
MOST_OF_COUNTS = 0.9
#: Mean energy of a bin behind so much water (g/cm²), in these units, tilts its scatter.
_BEHIND, _MIDDLE_KEV, _SPREAD_KEV = 20.0, 65.0, 20.0
#: Relative error of the counts that calibration leaves, and the g/cm² below which misfit says nothing.
_CALIBRATED, _THIN = 3e-3, 3.0
FEATURES = 18
#: Which of them says whether the scanner's SPR is known.
SPR_KNOWN = 15
#: Channels of the image that the network sees: water and iodine, and what the reference scanner's scatter
#: changes in either; in g/cm³ these are one.
IMAGE_UNITS = (1.0, 0.02, 0.1, 0.002)
#: The scanner's SPR behind 300 mm of water where it is not known.
REFERENCE_SPR = 0.12
ARCHITECTURE = "scatter-amount-and-place"


@dataclass(frozen=True)
class CoarseScan:
    """A scan on the coarse grid: `features` float32 `[feature, view, cell]`; `counts` `[bin, view, cell]`
    relative to the mean air counts of all bins; likewise the scatter of a `reference` scanner (times what
    this one scatters more, where that is known), but of all rays `[view, column, bin]`; `image` float32
    `[channel, row, column]` (`IMAGE_UNITS`) of what is left without that one, and what it changes there;
    `tilt` `[bin]`; `full_turn`: whether the last view is beside the first."""

    features: torch.Tensor
    counts: torch.Tensor
    reference: torch.Tensor
    image: torch.Tensor
    tilt: torch.Tensor
    full_turn: bool


@dataclass(frozen=True)
class _Cells:
    """The decomposed cells of a scan: `counts` `[bin, view, cell]` relative to the mean air counts of all
    bins and, alike, those in `air`; what of the spectra `passed`; `lines` in g/cm² `[view, cell, material]`;
    the `kernel` method's scatter and the attenuated counts it is made of, spread over each of
    `SPREADS_MM`."""

    counts: torch.Tensor
    air: torch.Tensor
    passed: torch.Tensor
    lines: torch.Tensor
    spread: list[torch.Tensor]
    kernel: torch.Tensor


class CoarseModel:
    """The coarse decomposition of one beam: `spectra` expected quanta in air `[bin, energy]` or `[column,
    bin, energy]`, on `energies_kev`."""

    def __init__(self, spectra: torch.Tensor, energies_kev: torch.Tensor) -> None:
        spectra = spectra.detach().double().cpu()
        mean = spectra if spectra.ndim == 2 else spectra.mean(0)
        self.air = spectra.sum(-1)  # [bin] or [column, bin]
        self.mean_air = mean.sum(-1)
        basis = ["water", "iodine"][: len(mean)]
        self.decomposer = Decomposer(basis, mean * (_AIR / self.mean_air.sum()), energies_kev)
        self.reference = ReferenceScatter(self.decomposer)
        water = material("water").mass_attenuation(energies_kev)
        behind = mean * torch.exp(-_BEHIND * water)
        energy = (behind @ energies_kev) / behind.sum(1)
        self.tilt = ((energy - _MIDDLE_KEV) / _SPREAD_KEV).float()

    def with_fluence(self, fluence: torch.Tensor) -> CoarseModel:
        """The same beam behind a bowtie that leaves this part of each column's quanta, `[column]`."""
        changed = copy(self)
        changed.air = self.mean_air * fluence.double()[:, None]
        changed.mean_air = changed.air.mean(0)
        return changed

    def kernel(
        self, counts: torch.Tensor, geometry: ScanGeometry, water_spr: float | None = None
    ) -> torch.Tensor:
        """Scatter of `counts` `[view, column, bin]` by the kernel method, `[bin, view, cell]` relative to the
        mean air counts of all bins."""
        return self._cells(_clean(counts), geometry, water_spr or REFERENCE_SPR).kernel.float()

    def __call__(
        self,
        counts: torch.Tensor,
        geometry: ScanGeometry,
        water_spr: float | None = None,
        grid_ratio: float | None = None,
    ) -> CoarseScan:
        """The coarse scan of `counts` `[view, column, bin]`; `grid_ratio`: height by gap of the anti-scatter
        grid."""
        spr, counts = water_spr or REFERENCE_SPR, _clean(counts)
        cells = self._cells(counts, geometry, spr)
        every, image = self._reference(counts, cells.kernel, geometry, spr, grid_ratio)
        lines, relative, bowtie = cells.lines, cells.counts, cells.air
        n_views, n_cells = relative.shape[1:]
        reference = pooled(every, n_views, n_cells)
        rays = counts.shape[0] * counts.shape[1] / (n_views * n_cells)
        counted = relative * (rays * self.mean_air.sum())
        misfit = self._misfit(lines, cells.passed, reference / relative, counted)
        amount = lines[..., 0].clamp(min=0) / 20
        iodine = lines[..., 1] if lines.shape[-1] > 1 else torch.zeros_like(amount)
        own, expected, kernel, *total = (
            values.sum(0).clamp(min=1e-12) for values in (relative, reference, cells.kernel, *cells.spread)
        )
        features = [
            amount - 1,
            (20 * iodine).clamp(-3, 3),
            (cell_positions_mm(geometry, n_cells) / 100).expand(n_views, -1),
            torch.log(bowtie.sum(0)).expand(n_views, -1),
            torch.log(total[1] / own) / 2,
            torch.log(total[0] / total[1]).clamp(min=-2),
            torch.log(total[2] / total[1]).clamp(max=2),
            torch.log(own) / 4 + 1,
            torch.log(expected / own) / 2,
            torch.log(expected / kernel).clamp(-3, 3),
            (300 * (own / bowtie.sum(0) - 1)).clamp(-2, 2),
            *misfit,
            torch.full_like(amount, float(water_spr is not None)),
            torch.full_like(amount, math.log(spr / REFERENCE_SPR)),
            torch.full_like(amount, float(grid_ratio is not None)),
        ]
        full_turn = coarse_shape(geometry)[2]
        return CoarseScan(
            torch.stack(features).float(), relative.float(), every.float(), image, self.tilt, full_turn
        )

    def _cells(self, counts: torch.Tensor, geometry: ScanGeometry, spr: float) -> _Cells:
        n_views, n_cells, _ = coarse_shape(geometry)
        # half a count makes the logarithm of Poisson counts nearly unbiased down to a few; logarithms, not
        # counts, are averaged, so that edges of the object do not look like scatter
        logs = torch.log(self.air) - torch.log(counts + 0.5)
        left = torch.exp(-pooled(logs, n_views, n_cells))
        air = self._bowtie(n_cells)[:, None]
        relative = air * left
        passed = self.decomposer.spectra.sum(-1)[:, None, None] * left
        lines = self.decomposer.estimate(passed.permute(1, 2, 0)).lines
        source = relative * (lines[..., 0].clamp(min=0) / 20)
        spread = [_blurred(source, geometry, n_cells, width) for width in SPREADS_MM]
        kernel = limited(KERNEL_FACTOR * (spr / REFERENCE_SPR) * spread[1], relative)
        return _Cells(relative, air, passed, lines, spread, kernel)

    def _reference(
        self,
        counts: torch.Tensor,
        kernel: torch.Tensor,
        geometry: ScanGeometry,
        spr: float,
        grid_ratio: float | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scatter of a reference scanner of that SPR behind water for all rays `[view, column, bin]`,
        relative to air, and the network's `image`. The image of counts with scatter is too thin where it
        matters: what the `kernel` method finds cleans the counts for a first image, and what that scatters
        cleans them for the second."""
        unit = self.mean_air.sum()
        few, few_scan, few_grid = few_rays(counts + 0.5, geometry)
        few = few / unit
        fluence = few_fluence = None
        if self.air.ndim == 2:
            fluence = (self.air.sum(1) / unit).clamp(min=1e-6)
            few_fluence = F.adaptive_avg_pool1d(fluence[None, None], few.shape[1])[0, 0]

        def image(known: torch.Tensor) -> MaterialPhantom:
            primary = torch.maximum(few - known, (1 - MOST_OF_COUNTS) * few)
            return self.reference.image(primary * _AIR, few_fluence, few_scan, few_grid)

        first = image(full_size(kernel, few.shape[0], few.shape[1], coarse_shape(geometry)[2]))
        found = self.reference.scatter(first, few_fluence, few_scan, ROUGH, grid_ratio)
        second = image(spr / _AIR * found)
        every = spr / _AIR * self.reference.scatter(second, fluence, geometry, grid_ratio=grid_ratio)
        return every, _image(second.densities[:, 0], image(torch.zeros_like(few)).densities[:, 0])

    def _bowtie(self, n_cells: int) -> torch.Tensor:
        """Air counts `[bin, cell]` relative to those of all bins in the mean column."""
        if self.air.ndim == 1:
            return (self.air / self.mean_air.sum())[:, None].expand(-1, n_cells)
        return F.adaptive_avg_pool1d((self.air / self.mean_air.sum()).T[None], n_cells)[0]

    def _misfit(
        self, lines: torch.Tensor, passed: torch.Tensor, share: torch.Tensor, counted: torch.Tensor
    ) -> list[torch.Tensor]:
        """What the misfit of redundant bins says of scatter, `[view, cell]` each: its part along forward
        scatter and along counts alike in all bins, then the scale of either that explains it over the scan.
        Zero where no bin is redundant.

        The scale is that of weighted least squares after the line integrals' own part is projected out;
        `share`: forward scatter by counts; `counted`: counts in a cell, `[bin, view, cell]` both."""
        n_bins, k = len(passed), lines.shape[-1]
        nothing = torch.zeros_like(lines[..., 0])
        if n_bins <= k:
            return [nothing] * 4
        expected = self.decomposer.expected(lines).clamp(min=LEAST_EXPECTED)  # [view, cell, bin]
        slopes = self._slopes(lines) / expected[..., None]
        weight = expected / expected.sum(-1, keepdim=True)
        residual = passed.permute(1, 2, 0) / expected - 1
        normal = torch.einsum("...jk,...j,...jl->...kl", slopes, weight, slopes)
        scale = normal.diagonal(dim1=-1, dim2=-2).clamp(min=1e-30).rsqrt()
        normal = normal * scale[..., None] * scale[..., None, :] + 1e-9 * torch.eye(k, dtype=normal.dtype)
        # noise of the counts, and what calibration leaves
        trust = _CALIBRATED**2 / (_CALIBRATED**2 + 1 / counted.sum(0).clamp(min=1e-3))
        trust = torch.where(lines[..., 0] > _THIN, trust, nothing)
        forward = share.permute(1, 2, 0).clamp(max=5)
        found, pooled = [], []
        for direction in (forward, forward.mean(-1, keepdim=True).expand_as(forward)):
            right = torch.einsum("...jk,...j,...j->...k", slopes, weight, direction) * scale
            part = torch.linalg.solve(normal, right[..., None])[..., 0] * scale
            free = direction - torch.einsum("...jk,...k->...j", slopes, part)
            along = trust * (free * weight * residual).sum(-1)
            able = trust * (free * weight * free).sum(-1)
            found.append((along / _CALIBRATED**2).clamp(-4, 4))
            best = along.sum() / able.sum().clamp(min=_CALIBRATED**2)
            pooled.append(best.clamp(-3, 3).expand_as(nothing))
        return found + pooled

    def _slopes(self, lines: torch.Tensor) -> torch.Tensor:
        """Derivatives of the expected counts `[view, cell, bin, material]`."""
        nodes = self.decomposer.quadrature.attenuation
        passed = torch.exp(-(lines @ nodes))
        return -torch.einsum("vcq,jq,kq->vcjk", passed, self.decomposer.weights, nodes)


def _clean(counts: torch.Tensor) -> torch.Tensor:
    return counts.detach().double().cpu().clamp(min=0)


def _image(without: torch.Tensor, bare: torch.Tensor) -> torch.Tensor:
    """The network's image of maps in g/cm³ `[material, row, column]` without scatter and with it."""
    channels = torch.zeros(len(IMAGE_UNITS), *bare.shape[1:])
    channels[: len(bare)] = without
    channels[2 : 2 + len(bare)] = without - bare
    return F.avg_pool2d(channels / torch.tensor(IMAGE_UNITS)[:, None, None], 2).clamp(-5, 5)


def coarse_shape(geometry: ScanGeometry) -> tuple[int, int, bool]:
    """Views and cells of the coarse grid, and whether its views close a full turn."""
    arc, full_turn = view_arc(geometry)
    centre = geometry.ray_offsets_mm()
    width = abs(float(centre[-1] - centre[0])) + geometry.isocenter_pitch_mm
    n_views = min(geometry.n_views, max(1, round(arc / CELL_RAD)))
    n_cells = min(geometry.n_columns, max(1, round(width / CELL_MM)))
    return n_views, n_cells, full_turn


def cell_positions_mm(geometry: ScanGeometry, n_cells: int) -> torch.Tensor:
    """Distance of the cells' middles from the isocentre in mm, `[cell]`."""
    return F.adaptive_avg_pool1d(geometry.ray_offsets_mm()[None, None], n_cells)[0, 0]


def _blurred(values: torch.Tensor, geometry: ScanGeometry, n_cells: int, width_mm: float) -> torch.Tensor:
    """Values `[..., cell]` spread by a Gaussian of that standard deviation along the detector."""
    centre = cell_positions_mm(geometry, n_cells)
    kernel = torch.exp(-0.5 * ((centre[:, None] - centre) / width_mm) ** 2)
    return values @ (kernel / kernel.sum(1).amax())


class Amount(nn.Module):
    """How much a scanner scatters whose SPR is not known: the logarithm of the factor on a reference
    scanner's scatter `[batch]`, from the `summary` `[batch, 3 * FEATURES]` of a scan and its image.

    Soft tissue that is too thin in the middle, counts above those in air, and the redundant bins' misfit tell
    it, each a little. `mean` and `spread` are those of the summaries in training."""

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3 * FEATURES))
        self.register_buffer("spread", torch.ones(3 * FEATURES))
        self.look = nn.Sequential(
            *(nn.Conv2d(len(IMAGE_UNITS), width, 3, 2, 1), nn.SiLU()),
            *(nn.Conv2d(width, 2 * width, 3, 2, 1), nn.SiLU()),
            *(nn.Conv2d(2 * width, 2 * width, 3, 1, 1), nn.SiLU()),
        )
        self.judge = nn.Sequential(nn.Linear(4 * width + 3 * FEATURES, 64), nn.SiLU(), nn.Linear(64, 1))
        for start in self.judge[-1].parameters():
            nn.init.zeros_(start)

    def forward(self, summary: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        maps = self.look(image)
        summary = ((summary - self.mean) / self.spread).clamp(-4, 4)
        found = self.judge(torch.cat([maps.mean((2, 3)), maps.amax((2, 3)), summary], 1))[:, 0]
        return 2 * torch.tanh(found / 2)


def summary(features: torch.Tensor) -> torch.Tensor:
    """What `Amount` starts from, of features `[batch, FEATURES, view, cell]`."""
    return torch.cat([features.mean((2, 3)), features.std((2, 3)), features.amax((2, 3))], 1)


class ScatterNet(nn.Module):
    """Two maps `[batch, 2, view, cell]` from features `[batch, FEATURES, view, cell]`: the logarithm of the
    factor on a reference scanner's scatter, and its slope with a bin's energy.

    A U-Net of three levels with the mean over the whole scan at the lowest says where, `Amount` how much if
    that is not known; `widths`: channels by level."""

    def __init__(self, widths: tuple[int, int, int] = (24, 32, 48)) -> None:
        super().__init__()
        a, b, c = widths
        self.amount = Amount()
        self.enter = _Block(FEATURES, a)
        self.down = _Block(a, b)
        self.low = _Block(b, c)
        self.whole = nn.Sequential(nn.Linear(c, c), nn.SiLU(), nn.Linear(c, c))
        self.deep = _Block(c, c)
        self.up = _Block(c + b, b)
        self.leave = _Block(b + a, a)
        self.out = nn.Conv2d(a, 2, 1)
        for start in self.out.parameters():  # as a reference scanner scatters
            nn.init.zeros_(start)

    def forward(
        self, features: torch.Tensor, image: torch.Tensor, full_turn: bool | torch.Tensor = True
    ) -> torch.Tensor:
        fine = self.enter(features, full_turn)
        half = self.down(_halved(fine), full_turn)
        low = self.low(_halved(half), full_turn)
        low = self.deep(low + self.whole(low.mean((2, 3)))[:, :, None, None], full_turn)
        half = self.up(torch.cat([_resized(low, half), half], 1), full_turn)
        fine = self.leave(torch.cat([_resized(half, fine), fine], 1), full_turn)
        factor, slope = self.out(fine).unbind(1)
        unknown = 1 - features[:, SPR_KNOWN]
        factor = 3 * torch.tanh(factor / 3) + unknown * self.amount(summary(features), image)[:, None, None]
        return torch.stack([factor, torch.tanh(slope)], 1)


class _Block(nn.Module):
    """Two 3 x 3 convolutions with SiLU; views join at a full turn, edges are repeated elsewhere."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3)
        self.second = nn.Conv2d(outputs, outputs, 3)

    def forward(self, x: torch.Tensor, full_turn: bool | torch.Tensor) -> torch.Tensor:
        x = F.silu(self.first(_padded(x, full_turn)))
        return F.silu(self.second(_padded(x, full_turn)))


def _padded(x: torch.Tensor, full_turn: bool | torch.Tensor) -> torch.Tensor:
    x = F.pad(x, (1, 1, 0, 0), mode="replicate")
    first, last = x[:, :, :1], x[:, :, -1:]
    if isinstance(full_turn, torch.Tensor):  # 0 or 1: an exported network takes it as a number
        before, after = first + full_turn * (last - first), last + full_turn * (first - last)
    else:
        before, after = (last, first) if full_turn else (first, last)
    return torch.cat([before, x, after], 2)


def _halved(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(x, 2, ceil_mode=True)


def _resized(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


def export_form(network: ScatterNet) -> ExportForm:
    """What of the network is exported: one scan of any size; `full_turn` is 1 or 0."""
    views, cells, rows, columns = (
        Dim(name, min=8, max=2048) for name in ("views", "cells", "rows", "columns")
    )
    inputs = {
        "features": torch.zeros(1, FEATURES, 32, 50),
        "image": torch.zeros(1, len(IMAGE_UNITS), 40, 44),
        "full_turn": torch.ones(1),
    }
    return ExportForm(network, inputs, [{2: views, 3: cells}, {2: rows, 3: columns}, {}])


def network_scatter(
    network: Callable[..., torch.Tensor], scan: CoarseScan, device: torch.device
) -> torch.Tensor:
    """Scatter relative to the mean air counts of all bins, `[view, column, bin]` on the CPU, differentiable
    in the network, which is on `device`."""
    inputs = (values[None].to(device) for values in (scan.features, scan.image))
    factor, slope = network(*inputs, scan.full_turn)[0].float().cpu()
    n_views, n_columns = scan.reference.shape[:2]
    reference = pooled(scan.reference, *scan.counts.shape[1:]).clamp(min=1e-12)
    judged = reference * torch.exp(factor + slope * scan.tilt[:, None, None])
    factors = limited(judged, scan.counts) / reference
    return scan.reference * full_size(factors, n_views, n_columns, scan.full_turn)


def pooled(values: torch.Tensor, n_views: int, n_cells: int) -> torch.Tensor:
    """Means of `[view, column, bin]` in the cells, `[bin, view, cell]`."""
    return F.adaptive_avg_pool2d(values.permute(2, 0, 1)[None], (n_views, n_cells))[0]


def limited(scatter: torch.Tensor, counts: torch.Tensor, most: float = MOST_OF_COUNTS) -> torch.Tensor:
    """Scatter that stays below that part of the counts, smoothly, so that a gradient is left."""
    highest = most * counts.clamp(min=1e-9)
    return scatter / (1 + (scatter / highest) ** 6) ** (1 / 6)


def full_size(coarse: torch.Tensor, n_views: int, n_columns: int, full_turn: bool) -> torch.Tensor:
    """Coarse scatter `[bin, view, cell]` interpolated to `[view, column, bin]`; differentiable."""
    logs = torch.log(coarse.clamp(min=1e-12))[None]
    wrapped = F.pad(logs, (0, 0, 1, 1), mode="circular" if full_turn else "replicate")
    views = (torch.arange(n_views, dtype=logs.dtype) + 0.5) / n_views * coarse.shape[1] - 0.5 + 1
    columns = (torch.arange(n_columns, dtype=logs.dtype) + 0.5) / n_columns * coarse.shape[2] - 0.5
    # positions for grid_sample with align_corners: -1 and 1 are the middles of the outermost cells
    y = 2 * views / (wrapped.shape[2] - 1) - 1
    x = 2 * columns / max(1, wrapped.shape[3] - 1) - 1
    where = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[None].to(logs)
    fine = F.grid_sample(wrapped, where, mode="bilinear", padding_mode="border", align_corners=True)
    return torch.exp(fine[0]).permute(1, 2, 0)
