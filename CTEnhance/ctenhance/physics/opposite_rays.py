"""Do opposite rays agree? A fan's ray at view angle b and angle g from the central ray runs along the same
line as the ray at (b + pi - 2 g, -g); a parallel ray, as the one at b + pi on the other side of the central
column. Where the two readings differ, the geometry is not that of the scan, and the one with which they agree
shows what is wrong with it.

Compared are square roots of transmissions, whose noise is the same everywhere: starved rays, and with them
scatter, count for little, the body's outline for much. What harms both rays alike, as beam hardening does,
cancels, and what lies beyond the detector is not needed. Differences are not squared, so that a broken column
or a lost view does not stand for the whole scan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

#: More views are averaged in groups: noise falls, and views that have turned on by a degree are still alike.
_ENOUGH_VIEWS = 240
#: A ray this many steps before the first or after the last view is continued from the nearest two of them: at
#: half a turn of parallel rays this is so for all that have an opposite.
_BEYOND = 1.5
#: Between views that are farther apart than so many steps some are missing.
_GAP = 2.5
#: Fewer pairs than this part of a view's columns mean nothing,
_FEWEST_PAIRS = 0.5
#: nor do pairs beside the body, which vary by less than this part of what all rays do. Within the body, where
#: less than this part of what is usual comes through (square root), they may vary by less than all do.
_LEAST_VARIATION, _WITHIN, _LEAST_WITHIN = 0.3, 0.85, 0.03
#: The disagreement of rays of which nothing is known.
UNKNOWN = math.inf


@dataclass(frozen=True)
class Supposed:
    """How a scan may have been made. `central`: the isocentre's column; `per_column`: angle in rad from a ray
    to the next one at the centre, 0 for parallel rays; `flat` detector or one about the source; `turn`: what
    the view angles have to be multiplied by; `lost`: columns that are missing before column `lost_at` of the
    readings (fewer than 0: are too many), which `central` counts."""

    central: float
    per_column: float
    flat: bool = False
    turn: float = 1.0
    lost: float = 0.0
    lost_at: float = 0.0


class OppositeRays:
    """Readings of some slices, to be compared under one supposition after the other.

    `transmission` `[slice, view, column]`; `angles` `[view]` in rad, growing or falling. Columns are averaged
    in groups until about `columns` are left, and the rays of `views` views are compared."""

    def __init__(
        self, transmission: torch.Tensor, angles: torch.Tensor, columns: int = 96, views: int = 48
    ) -> None:
        slices, all_views, all_columns = transmission.shape
        together = max(1, all_views // _ENOUGH_VIEWS)
        self._together = max(1, round(all_columns / columns))
        self._views, self._columns = all_views // together, all_columns // self._together
        means = F.avg_pool2d(transmission, (together, self._together))
        # without this, rays between two columns would have less noise than others
        kernel = torch.tensor([[[0.25, 0.5, 0.25]]]).to(means)
        means = F.conv1d(F.pad(means.reshape(-1, 1, self._columns), (1, 1), mode="replicate"), kernel)
        root = means.clamp(min=0).sqrt().reshape(slices, self._views, self._columns)
        self._root = root.permute(1, 2, 0).contiguous()
        self._angles = angles.double()[: self._views * together].reshape(-1, together).mean(1)
        self._compared = torch.linspace(0, self._views - 1, min(views, self._views)).round().long()
        self._variation = float((root - root.mean((1, 2), keepdim=True)).abs().mean())
        second = (root[..., :-2] - 2 * root[..., 1:-1] + root[..., 2:]).abs()
        #: How rough the readings are: 0 for smooth ones, about 1 for nothing but noise.
        self.roughness = float(second.median()) / max(self._variation, 1e-9)

    def measured_twice(self, supposed: Supposed) -> float:
        """The part of the compared rays whose opposite was measured, too."""
        return float(self._pairs(supposed)[-2].double().mean())

    def disagreement(self, supposed: Supposed, among: Supposed | None = None, within: bool = False) -> float:
        """Mean difference of opposite rays, as a part of what the rays vary by: 0 to about 1; `UNKNOWN` where
        hardly a ray was measured from both sides. `among`: of rays alone that have an opposite there, too;
        `within`: rays through the body's middle are enough, which vary less than all do."""
        compared = self._differences(supposed, among)
        if compared is None:
            return UNKNOWN
        differences, own, _, _ = compared
        variation = float((own - own.mean(0)).abs().mean())
        inside = within and float(own.mean()) < _WITHIN * float(self._root.mean())
        if variation < (_LEAST_WITHIN if inside else _LEAST_VARIATION) * self._variation:
            return UNKNOWN
        return float(differences.abs().mean()) / max(variation, 1e-9)

    def noise(self, supposed: Supposed) -> float:
        """What the disagreement is at least, from how rough the differences are along the columns; `UNKNOWN`
        where hardly a ray has an opposite."""
        compared = self._differences(supposed)
        if compared is None:
            return UNKNOWN
        signed, own, _, place = compared
        beside = (place[2:] - place[:-2]) == 2
        rough = (signed[2:] - 2 * signed[1:-1] + signed[:-2]).abs()[beside]
        variation = float((own - own.mean(0)).abs().mean())
        return float(rough.mean()) / max(variation, 1e-9) if len(rough) else UNKNOWN

    def by_slice(self, supposed: Supposed) -> torch.Tensor:
        """The same of each slice, `[slice]`, `UNKNOWN` where it is not known."""
        compared = self._differences(supposed)
        if compared is None:
            return torch.full((self._root.shape[-1],), UNKNOWN)
        differences, own, _, _ = compared
        variation = (own - own.mean(0)).abs().mean(0)
        differ = differences.abs().mean(0) / variation.clamp(min=1e-9)
        return torch.where(variation < _LEAST_VARIATION * self._variation, UNKNOWN, differ)

    def disagreement_by_direction(
        self, supposed: Supposed, lag: float, parts: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same of lines that run in different directions, `[part]` of a turn, and how many of all rays
        these are, `[part]`, where the opposite of every ray was measured by `lag` (rad) later than the view
        angles say. Empty where hardly a ray has an opposite."""
        compared = self._differences(supposed, lag=lag)
        if compared is None:
            return torch.zeros(0), torch.zeros(0)
        differences, own, direction, _ = compared
        part = (direction % (2 * math.pi) / (2 * math.pi) * parts).long().clamp(max=parts - 1)
        count = torch.zeros(parts, dtype=torch.float64).index_add_(0, part, torch.ones_like(direction))
        total = torch.zeros(parts, dtype=torch.float64).index_add_(
            0, part, differences.abs().double().mean(1)
        )
        variation = float((own - own.mean(0)).abs().mean())
        return total / count.clamp(min=1) / max(variation, 1e-9), count / len(direction)

    def _binned(self, column: float) -> float:
        """The place of a column among those that are compared."""
        return (column - (self._together - 1) / 2) / self._together

    def slopes(self, supposed: Supposed) -> tuple[torch.Tensor, torch.Tensor]:
        """How rays of each column differ from their opposites and how that changes with where these lie: the
        mean squares and products `[column, 3, 3]` of the difference, its slope by a column of the opposite
        and its slope by a rad of the opposite's angle; and the numbers of the columns `[column]` as they were
        measured. Empty where hardly a ray has an opposite."""
        step = float(self._angles.diff().abs().median()) / 2
        moved = [replace(supposed, central=supposed.central + by * self._together / 4) for by in (-1, 1)]
        found = [self._differences(one) for one in (supposed, *moved)]
        found += [self._differences(supposed, lag=by * step) for by in (-1, 1)]
        number = torch.arange(self._columns) * self._together + (self._together - 1) / 2
        size = len(self._compared) * 2 * self._columns
        each, measured = [], torch.ones(size, dtype=torch.bool)
        for one in found:
            if one is None:
                return torch.zeros(0, 3, 3), number
            each.append(torch.zeros(size, one[0].shape[1]).index_copy_(0, one[3], one[0]))
            measured &= torch.zeros(size, dtype=torch.bool).index_fill_(0, one[3], True)
        here, less, more, early, late = each
        three = torch.stack([here, (more - less) / self._together, (late - early) / (2 * step)], -1)
        three = (three * measured[:, None, None]).reshape(len(self._compared), 2 * self._columns, -1, 3)
        rays = three[:, : self._columns].permute(1, 0, 2, 3).flatten(1, 2).double()
        return rays.transpose(1, 2) @ rays / max(1, int(measured.sum()) * here.shape[1]), number

    def _differences(
        self, supposed: Supposed, among: Supposed | None = None, lag: float = 0.0
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor] | None:
        """How far rays are from their opposites, and the rays, both `[ray, slice]`; the direction of the line
        in rad and the ray's place among all, both `[ray]`; None of hardly a pair."""
        opposite, first, second, share, measured, direction = self._pairs(supposed, lag)
        if among is not None:
            measured = measured & self._pairs(among)[-2]
        view, column = measured.nonzero(as_tuple=True)
        if len(view) < _FEWEST_PAIRS * self._columns:
            return None
        left = opposite.floor().long().clamp(0, self._columns - 2)
        between = (opposite - left).to(self._root)[column, None]
        left, share = left[column], share[view, column].to(self._root)[:, None]
        table = self._root.flatten(0, 1)
        own = table[self._compared[view] * self._columns + column]
        before, after = (
            torch.lerp(table[at + left], table[at + left + 1], between)
            for at in (nearest[view, column] * self._columns for nearest in (first, second))
        )
        # continued rays have more noise than those between two views
        noise = ((1 + (1 - share).square() + share.square()) / 2).sqrt()
        apart = (own - torch.lerp(before, after, share)) / noise
        return apart, own, direction[view, column], view * (2 * self._columns) + column

    def _pairs(self, supposed: Supposed, lag: float = 0.0) -> tuple[torch.Tensor, ...]:
        """The column `[column]` of each ray's opposite; of every compared ray `[view, column]` the two views
        about its opposite, the share of the second of them, whether all this was measured, and the direction
        of its line. `lag`: rad by which the opposite comes later."""
        central = self._binned(supposed.central)
        number = torch.arange(self._columns, dtype=torch.float64)
        lost, lost_at = supposed.lost / self._together, self._binned(supposed.lost_at - 0.5)
        number = number + lost * (number > lost_at)
        mirrored = 2 * central - number
        opposite = mirrored - lost * (mirrored > lost_at + lost / 2)
        fan = (number - central) * (supposed.per_column * self._together)
        fan = torch.atan(fan) if supposed.flat else fan
        angles, order = self._angles * supposed.turn, torch.arange(self._views)
        opposite_angle = angles[self._compared, None] + math.pi - 2 * fan
        direction = angles[self._compared, None] - fan
        if float(angles[-1]) < float(angles[0]):
            angles, opposite_angle = -angles, -opposite_angle
        opposite_angle = opposite_angle + lag
        step = float(angles.diff().median())
        closed = angles[:1] + 2 * math.pi
        if float(closed) - _GAP * step < float(angles[-1]) < float(closed):
            angles, order = torch.cat([angles, closed]), torch.cat([order, order[:1]])
        lowest = float(angles[0]) - _BEYOND * step
        opposite_angle = lowest + (opposite_angle - lowest) % (2 * math.pi)
        after = torch.searchsorted(angles, opposite_angle).clamp(1, len(angles) - 1)
        before = angles[after - 1]
        gap = angles[after] - before
        measured = (opposite_angle <= float(angles[-1]) + _BEYOND * step) & (gap < _GAP * step)
        measured &= (opposite >= 0) & (opposite <= self._columns - 1)
        if lost > 0:
            measured &= (mirrored - (lost_at + lost / 2)).abs() > lost / 2
        return opposite, order[after - 1], order[after], (opposite_angle - before) / gap, measured, direction
