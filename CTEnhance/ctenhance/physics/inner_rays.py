"""Opposite rays of a detector that stands aside of the isocentre (half-fan): only those of its shorter side
are measured twice, and all of them run through the middle of the body, where little of the beam is left and
rays vary by far less than all do. `opposite_rays` looks at some views and at all columns; here every view
counts, and of the columns those alone that have an opposite. What stays the same in all views (gains of
columns, the mean of what a body attenuates) is taken out, and noise is known from the differences themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from ctenhance.physics.opposite_rays import UNKNOWN, Supposed

#: Columns and views that are kept at most.
_COLUMNS, _VIEWS = 384, 240
#: Fewer columns than these mean nothing.
_FEWEST = 5
#: A column that passes so many times less or more than those about it in all views together is broken.
_BROKEN, _ABOUT = 2.0, 16
#: Arcs of views that each tell the centre, and how far it is moved for that, in columns as they are compared.
_ARCS, _MOVED = 12, 0.5
#: By what part the columns' spacing is changed for the same.
_SPACED = 0.02
#: Between views that are farther apart than so many steps some are missing.
_GAP = 2.5
#: Less than this part of the rays measured from both sides is no whole turn.
_MOST_MEASURED = 0.3
#: Rays beside the body vary by at least this part of what all do, or mean nothing; those within it, where
#: less than the second part of what is usual comes through (square root), by far less.
_LEAST, _INSIDE, _LEAST_INSIDE = 0.3, 0.85, 1e-3
#: How far noise makes rays differ that are off by a column, as they are compared, as a part of what it does
#: to those that are not (white noise behind the smoothing below).
_NOISE_BY_COLUMN = 0.58
_TINY = 1e-12


@dataclass(frozen=True)
class Compared:
    """How far rays are from their opposites. `differ`: as a part of what they vary by from view to view, 0 to
    about 1.4; `noise`: what it is at least, from how rough the differences are; `by_arc`: `differ` of each
    arc of the scan, empty of nothing."""

    differ: float
    noise: float
    by_arc: tuple[float, ...] = ()

    @property
    def excess(self) -> float:
        """The square of what is more than noise."""
        return UNKNOWN if self.differ == UNKNOWN else max(0.0, self.differ**2 - self.noise**2)


#: Of rays of which nothing is known.
NOTHING = Compared(UNKNOWN, UNKNOWN)


class InnerRays:
    """Readings of some slices over whole turns, to be compared under one supposition after the other.

    `transmission` `[slice, view, column]`; `angles` `[view]` in rad, growing or falling."""

    def __init__(self, transmission: torch.Tensor, angles: torch.Tensor) -> None:
        # the first of several turns, and no view that repeats the first
        turned = (angles - angles[0]).abs()
        once = turned < 2 * math.pi - 0.5 * float(turned.diff().abs().median())
        transmission, angles = transmission[:, once], angles[once]
        slices, views, columns = transmission.shape
        some, self._together = max(1, views // _VIEWS), max(1, round(columns / _COLUMNS))
        means = F.avg_pool2d(transmission, (some, self._together))
        self._views, self._columns = means.shape[1:]
        # without this, rays between two columns would have less noise than others
        kernel = torch.tensor([[[0.25, 0.5, 0.25]]]).to(means)
        means = F.conv1d(F.pad(means.reshape(-1, 1, self._columns), (1, 1), mode="replicate"), kernel)
        root = means.clamp(min=0).sqrt().reshape(slices, self._views, self._columns)
        self._root = root.permute(1, 2, 0).contiguous()
        self._mean = float(root.mean())
        self._variation = float((root - root.mean((1, 2), keepdim=True)).abs().mean())
        angles = angles.double()[: self._views * some].reshape(-1, some).mean(1)
        self._sign = 1.0 if float(angles[-1]) > float(angles[0]) else -1.0
        self._angles = angles * self._sign
        self._step = float(self._angles.diff().median())
        self._sound = self._sound_columns(transmission)
        #: Whether the views go all the way round.
        self.whole = float(self._angles[-1] - self._angles[0]) > 2 * math.pi - _GAP * self._step

    def _sound_columns(self, transmission: torch.Tensor) -> torch.Tensor:
        """Which columns, as they are compared, have no broken one in them or beside them, `[column]`."""
        level = transmission.clamp(min=0).mean((0, 1))
        about = F.pad(level[None, None], (_ABOUT, _ABOUT), mode="replicate")[0, 0]
        about = about.unfold(0, 2 * _ABOUT + 1, 1).median(1).values
        broken = (level * _BROKEN < about) | (level > _BROKEN * about)
        broken = F.max_pool1d(broken[None].float(), self._together)
        return F.max_pool1d(broken, 3, 1, 1)[0] < 0.5

    def compare(self, supposed: Supposed, every: int = 1, lag: float = 0.0) -> Compared:
        """Opposite rays of `every` so many views, where opposites were measured by `lag` (rad) later than the
        view angles say; `NOTHING` of hardly a column that was measured twice."""
        found = self._differences(supposed, every, lag)
        if found is None or (vary := self._vary(found)) is None:
            return NOTHING
        differences, _, measured, _ = found
        count = measured.sum() * differences.shape[-1]
        differ = _varying(differences, measured).abs()
        three = measured[:, 2:] * measured[:, 1:-1] * measured[:, :-2]
        rough = (differences[:, 2:] - 2 * differences[:, 1:-1] + differences[:, :-2]).abs() * three
        noise = float(rough.sum() / (three.sum().clamp(min=1) * differences.shape[-1]))
        by_arc = torch.stack([one.sum() for one in differ.tensor_split(_ARCS)])
        counts = torch.stack([one.sum() for one in measured.tensor_split(_ARCS)]) * differences.shape[-1]
        by_arc = by_arc / counts.clamp(min=1) / vary
        return Compared(float(differ.sum() / count) / vary, noise / vary, tuple(by_arc.tolist()))

    def noise_by_column(self, compared: Compared) -> float:
        """How far noise alone would make rays differ that are off by a column."""
        return _NOISE_BY_COLUMN * min(compared.noise, compared.differ) / self._together

    def _vary(self, found: tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]) -> float | None:
        """By how much rays vary from view to view; None of too few, or of hardly anything but air."""
        _, own, measured, _ = found
        count = measured.sum() * own.shape[-1]
        if float(measured.mean()) < _MOST_MEASURED:
            return None
        vary = float(_varying(own, measured).abs().sum() / count)
        inside = float((own * measured).sum() / count) < _INSIDE * self._mean
        return None if vary < (_LEAST_INSIDE if inside else _LEAST) * self._variation else vary

    def centres(self, supposed: Supposed) -> tuple[torch.Tensor, float]:
        """By how many columns the centre is another one, as each arc of the scan has it, `[arc]`; empty where
        they do not know it. And how far rays differ, as `Compared` has it, that are off by a column."""
        found = self._slopes(supposed, ("central",))
        if found is None:
            return torch.zeros(0), 0.0
        differences, (slope,), count, vary = found
        along = (differences * slope).sum((1, 2)).tensor_split(_ARCS)
        square = slope.square().sum((1, 2)).tensor_split(_ARCS)
        off = -torch.stack([a.sum() / s.sum().clamp(min=_TINY) for a, s in zip(along, square, strict=True)])
        return off, float(slope.abs().sum() / count) / vary

    def spacing(self, supposed: Supposed) -> tuple[float, float] | None:
        """By what part of it the columns' spacing is another one, and the standard error of that as the arcs
        of the scan have it; None where they do not know it. Each arc may have a centre of its own, so that a
        patient who moves is not taken for a spacing."""
        found = self._slopes(supposed, ("central", "per_column")) if supposed.per_column else None
        if found is None:
            return None
        differences, (central, spacing), _, _ = found
        along, square = [], []
        for d, c, k in zip(
            *(one.double().tensor_split(_ARCS) for one in (differences, central, spacing)), strict=True
        ):
            k = k - c * ((c * k).sum() / c.square().sum().clamp(min=_TINY))
            along.append(float((d * k).sum()))
            square.append(float(k.square().sum()))
        half = _ARCS // 2  # every line is measured in two arcs
        above, below = (np.add(one[:half], one[half:]) for one in (along, square))
        if not float(below.min()) > 0:
            return None
        by = -above.sum() / below.sum()
        without = -(above.sum() - above) / (below.sum() - below)
        return float(by), math.sqrt((half - 1) / half * float(np.square(without - by).sum()))

    def _slopes(
        self, supposed: Supposed, names: Sequence[str]
    ) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor, float] | None:
        """How far rays are from their opposites and how that changes with each of these, by a column or by
        the whole of the spacing, `[view, column, slice]` of those that are measured in all; how many these
        are, and by how much rays vary. None where too few are."""
        here = self._differences(supposed)
        vary = None if here is None else self._vary(here)
        if here is None or vary is None:
            return None
        found, steps = [here], []
        for name in names:
            middle = getattr(supposed, name)
            step = _MOVED * self._together if name == "central" else _SPACED * middle
            steps.append(step if name == "central" else _SPACED)
            for by in (-step, step):
                other = self._differences(replace(supposed, **{name: middle + by}))
                if other is None:
                    return None
                found.append(other)
        first = max(one[3] for one in found)
        last = min(one[3] + one[0].shape[1] for one in found)
        if last - first < _FEWEST:
            return None
        each = [one[0][:, first - one[3] : last - one[3]] for one in found]
        measured = torch.stack([one[2][:, first - one[3] : last - one[3]] for one in found]).amin(0)
        slopes = [
            _varying(each[2 * k + 2] - each[2 * k + 1], measured) / (2 * step) for k, step in enumerate(steps)
        ]
        count = measured.sum().clamp(min=1) * each[0].shape[-1]
        return _varying(each[0], measured), slopes, count, vary

    def _differences(
        self, supposed: Supposed, every: int = 1, lag: float = 0.0
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int] | None:
        """How far rays are from their opposites, and the rays, both `[view, column, slice]`; whether both
        were measured, `[view, column, 1]`; and the first of these columns. None of hardly a column."""
        central = (supposed.central - (self._together - 1) / 2) / self._together
        last = self._columns - 1
        low, high = max(0, math.ceil(2 * central - last)), min(last, math.floor(2 * central))
        if high - low + 1 < _FEWEST:
            return None
        number = torch.arange(low, high + 1, dtype=torch.float64)
        opposite = 2 * central - number
        fan = (number - central) * (supposed.per_column * self._together)
        fan = torch.atan(fan) if supposed.flat else fan
        turned = math.copysign(1.0, supposed.turn)
        angles, order = self._angles * abs(supposed.turn), torch.arange(self._views)
        meets = angles[::every, None] + math.pi - 2 * fan * self._sign * turned + lag
        closed = angles[:1] + 2 * math.pi
        angles, order = torch.cat([angles, closed]), torch.cat([order, order[:1]])
        meets = angles[0] + (meets - angles[0]) % (2 * math.pi)
        after = torch.searchsorted(angles, meets).clamp(1, self._views)
        before = angles[after - 1]
        gap = angles[after] - before
        share = ((meets - before) / gap).float()[..., None]
        left = opposite.floor().long().clamp(0, last - 1)
        between = (opposite - left).float()[:, None]
        fits = self._sound[low : high + 1] & self._sound[left] & self._sound[left + 1]
        measured = ((gap > 0) & (gap < _GAP * self._step) & fits).float()[..., None]
        table = self._root.flatten(0, 1)
        first, second = (
            torch.lerp(table[at + left], table[at + left + 1], between)
            for at in (order[after - 1] * self._columns, order[after] * self._columns)
        )
        own = self._root[::every, low : high + 1]
        return (own - torch.lerp(first, second, share)) * measured, own, measured, low


def _varying(values: torch.Tensor, measured: torch.Tensor) -> torch.Tensor:
    """What varies from view to view of values `[view, column, slice]`, 0 where nothing was measured."""
    mean = (values * measured).sum(0) / measured.sum(0).clamp(min=1)
    return (values - mean) * measured
