"""Is a scan's geometry what the file says? Opposite rays answer that, and the geometry with which they agree
says what is wrong: the order of the columns or the direction of rotation, the central column, the columns'
spacing, the shape of the detector, the steps of the view angles, exchanged axes.

Nothing is claimed unless another geometry makes the rays agree much better than the file's. Noise, scatter,
dead columns, lost views and bodies beyond the detector harm the agreement in every geometry alike. What no
readings can show: mirrored columns and a reversed rotation together (a mirror image), either of them with
parallel rays, the first view's angle, lengths that are all wrong by one factor, and the order of the slices.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ctenhance.core.report import ReportBuilder
from ctenhance.physics.opposite_rays import UNKNOWN, OppositeRays, Supposed
from ctenhance.runtime.progress import Cancellable, check
from ctenhance.scan.air_level import air_warning, counts_warning, rows_warning
from ctenhance.scan.attenuation_level import attenuation_level, image_warning, level_warning
from ctenhance.scan.geometry_fault import COLUMNS, GeometryFault, another_geometry, percent, unexplained
from ctenhance.scan.order_check import lost_views, unlike, wrong_order
from ctenhance.scan.projections import Projections
from ctenhance.scan.row_check import odd_rows
from ctenhance.scan.view_check import odd_readings

#: Slices that are looked at, evenly spread.
_SLICES = 4
#: Columns to which they are binned, by how rough (noisy) they may be; the last for rougher ones.
_FINE, _ROUGH = ((384, 0.003), (192, 0.01)), 96
#: Columns and views for looking far.
_COARSE, _COARSE_VIEWS = 32, 24
#: Views with less than this part of the typical transmission were lost, and a few that differ by more than
#: the second from those so many before and after them are not looked at.
_LOST, _ODD, _NEAR_VIEWS = 0.3, 0.2, 5
#: Rays that differ by less agree; where something may be very wrong they differ by more than the second, or,
#: of rough readings, the third.
_AGREE, _DIFFER, _DIFFER_ROUGH = 0.002, 0.01, 0.03
#: Another geometry is believed if its rays differ by less than this part of what they do in the file's, and
#: by less than `_GOOD`. Patients who move resemble another central column somewhat.
_BETTER, _BETTER_CENTRE, _GOOD = 0.5, 0.4, 0.25
#: Where fewer rays than this part have an opposite, the first and the last view alone are compared. Between
#: such a geometry and one with many pairs the difference has to be larger.
_FEW, _BETTER_OTHERS = 0.05, 0.2
#: Where hardly any ray has an opposite, another central column is believed if with it they differ by less.
_BETTER_UNKNOWN = 0.1
#: Rays that differ more than this, although readings are smooth, agree in no geometry; more than the last,
#: they may also be divided by a wrong air.
_NO_AGREEMENT, _SMOOTH, _UNEXPLAINED = 0.5, 0.1, 0.12
#: A last view that should repeat the first is a step off if it differs in the way (correlation) and, within a
#: factor, as much as neighbouring views do; in columns so broad that views are alike.
_SAME_STEP, _ONE_STEP, _BROAD, _SOMEWHAT_BETTER = 0.55, 4.0, 48, 0.95
#: The least changes that are reported beside those of `COLUMNS`: of the columns' spacing, relative to it; of
#: the angles, in steps at the end of the scan.
_SPACING, _STEPS_LOST = 0.02, 0.5
#: Where opposite rays differ by more than this, readings may lie in another order; it is believed at once if
#: they then differ by less than this part. More readings than these are not looked at so.
#: So must neighbours.
_MUCH, _BETTER_LIE, _MOST_READINGS, _SMOOTHER = 0.1, 0.2, 2**29, 0.6
#: A view that differs so many times more than is usual from the one before is out of order; so many are
#: listed.
_JUMP, _MOST_JUMPS, _ORDER_LOST = 8.0, 0.03, 0.04
#: Smooth views no farther apart than this that differ so much are in no order at all, if opposite rays differ
#: by more than the last.
_STEP, _NEIGHBOURS, _SMOOTH_VIEWS, _NO_ORDER = math.radians(4), 0.15, 0.03, 0.1
#: How far is looked nearby, and what is tried beyond that.
_NEAR_COLUMNS, _NEAR_SPACING, _NEAR_STEP = 4.0, 0.12, 0.02
_SPACINGS = [float(k) for k in np.geomspace(0.08, 12, 60)]
_STEPS = [float(k) for k in np.geomspace(0.2, 5, 80)] + [0.25, 1 / 3, 0.5, 2 / 3, 1.5, 2.0, 3.0, 4.0]
_WIDEST_FAN, _LEAST_ARC = 2.6, 0.99 * math.pi
_GOLDEN = (math.sqrt(5) - 1) / 2


def check_geometry(
    projections: Projections, cancel: Cancellable | None = None
) -> tuple[GeometryFault | None, dict[str, Any]]:
    """What is likely wrong with a scan's geometry, None where nothing is known against it; and for the report
    `opposite_rays_differ`, None where hardly any ray has an opposite, and what is likely instead, as fields
    and as the `geometry_warning`; this alone where they differ much and nothing tried explains it.

    Raises Cancelled when asked to stop."""
    search = _Search(projections, cancel)
    fault = search.fault()
    facts: dict[str, Any] = {"opposite_rays_differ": search.differ if search.differ < UNKNOWN else None}
    if fault is not None:
        facts |= {
            "opposite_rays_differ_if": fault.differ_if,
            "likely_geometry": fault.likely,
            "geometry_warning": fault.sentence,
        }
    elif _UNEXPLAINED < search.differ < UNKNOWN and not search.few and search.rays.fine.roughness < _SMOOTH:
        facts["geometry_warning"] = unexplained(search.differ)
    return fault, facts


def tell_geometry(
    projections: Projections, report: ReportBuilder, cancel: Cancellable | None = None
) -> dict[str, Any]:
    """Check the geometry, the counts and what the body attenuates, warn, and return the fields of
    `check_geometry`, a `counts_warning`, and whether all is `consistent` with geometry and air counts."""
    with report.stage("geometry"):
        fault, facts = check_geometry(projections, cancel)
        rows = _some_rows(projections)
        level, bad_counts = attenuation_level(projections, rows), counts_warning(projections, rows)
        of_air = air_warning(projections, rows) or rows_warning(projections)
        warnings = [bad_counts, of_air, *odd_readings(projections, rows), image_warning(projections)]
    warnings.append(facts.get("geometry_warning"))
    if fault is None and level is not None:
        warnings.append(level_warning(level, projections))
    if bad_counts is not None:
        facts["counts_warning"] = bad_counts
    consistent = bad_counts is None and "geometry_warning" not in facts
    for warning in filter(None, warnings):
        report.warn(warning)
    return {"consistent": consistent, "attenuation_level_hu": level} | facts


def _some_rows(projections: Projections) -> list[int]:
    return sorted({(2 * k + 1) * projections.n_rows // (2 * _SLICES) for k in range(_SLICES)})


def _with(supposed: Supposed, name: str, value: float) -> Supposed:
    return replace(supposed, **{name: value})  # type: ignore[arg-type]


def _least(f: Callable[[float], float], low: float, high: float, precision: float) -> float:
    """Where `f`, which has one minimum between `low` and `high`, is least, by golden sections."""
    a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_a, at_b = f(a), f(b)
    while high - low > precision:
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - _GOLDEN * (high - low)
            at_a = f(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + _GOLDEN * (high - low)
            at_b = f(b)
    return a if at_a < at_b else b


class _Rays:
    """Readings of some slices, finely and coarsely binned."""

    def __init__(self, projections: Projections) -> None:
        p = projections
        through = torch.cat([p.rows(row, row + 1).transmission() for row in _some_rows(p)])
        angles = torch.from_numpy(p.view_angles)
        level = through.clamp(min=0).mean((0, 2))
        sound = level >= _LOST * level.median()
        # some in which the tube arced
        near = F.pad(level[None], (_NEAR_VIEWS, _NEAR_VIEWS), mode="replicate")[0]
        near = near.unfold(0, 2 * _NEAR_VIEWS + 1, 1).median(1).values
        shape = F.avg_pool1d(through.clamp(min=0), max(1, through.shape[-1] // 8)).mean(0)
        shape = shape / shape.mean(1, keepdim=True).clamp(min=1e-9)
        jump = torch.cat([shape[1:2] - shape[:1], shape.diff(dim=0)]).abs().mean(1)
        odd, jump = (level - near).abs() > _ODD * near, jump > _JUMP * jump.median()
        if float(odd.double().mean()) < _FEW and float(jump.double().mean()) < _MOST_JUMPS:
            sound &= ~odd | jump
        through, angles = through[:, sound], angles[sound]
        #: The whole scan was kept, from the first view to the last.
        self.whole = bool(sound[0] and sound[-1])
        self.through, self.angles = through, angles
        root = F.avg_pool1d(through, max(1, through.shape[-1] // _ROUGH)).clamp(min=0).sqrt()
        step = angles.diff().abs()
        change = root.diff(dim=1).abs().mean((0, 2))
        variation = (root - root.mean((1, 2), keepdim=True)).abs().mean().clamp(min=1e-9)
        #: Angle between neighbouring views, and how far their readings differ, as `differ` has it.
        self.step, self.neighbours = float(step.median()), float(change.median() / variation)
        #: The part of the views that do not follow the one before.
        # (of another shape: the tube's current alone may jump)
        shape = root / root.mean((0, 2), keepdim=True).clamp(min=1e-9)
        turned = shape.diff(dim=1).abs().mean((0, 2)) / step
        jumps = turned > _JUMP * turned.median()
        self.out_of_order = float(jumps.double().mean())
        for columns, limit in _FINE:
            self.fine = OppositeRays(through, angles, columns)
            self.rough = self.fine.roughness > limit
            if not self.rough:
                break
        else:
            self.fine = OppositeRays(through, angles, _ROUGH)
        self.coarse = OppositeRays(through, angles, _COARSE, _COARSE_VIEWS)

    def last_is_another(self, mirrored: bool, central: float) -> bool:
        """Whether the last view, which should repeat the first (or `mirrored` about the `central` column, its
        opposite), is one step before it: as the third is from the second, so is the first from the last."""
        together = max(1, self.through.shape[-1] // _BROAD)
        views = F.avg_pool1d(self.through[:, [0, 1, 2, -1]], together)
        views = F.avg_pool1d(views, 3, 1).clamp(min=0).sqrt()
        columns = views.shape[-1]
        first, second, third, last = views.unbind(1)
        if mirrored:
            at = 2 * ((central - (together - 1) / 2) / together - 1) - torch.arange(columns)
            measured = (at >= 0) & (at <= columns - 1)
            left = at.floor().long().clamp(0, columns - 2)
            last = torch.lerp(last[:, left], last[:, left + 1], at - left)
            first, second, third, last = (one[:, measured] for one in (first, second, third, last))
        jump, trend = first - last, third - second
        alike, square = float((jump * trend).sum()), float(trend.square().sum())
        if not alike > _SAME_STEP * math.sqrt(float(jump.square().sum()) * square):
            return False
        return 1 / _ONE_STEP < alike / square < _ONE_STEP

    def differ(self, supposed: Supposed, among: Supposed | None = None) -> float:
        return self.fine.disagreement(supposed, among)


@dataclass(frozen=True)
class _Found:
    """Another geometry, how far its opposite rays differ, and what is `exchanged`: two axes of the readings,
    or all three, as they lie in memory."""

    supposed: Supposed
    differ: float
    exchanged: tuple[int, ...] | None = None


class _Search:
    """Looks for the geometry in which opposite rays agree."""

    def __init__(self, projections: Projections, cancel: Cancellable | None) -> None:
        p = self.projections = projections
        self.cancel = cancel
        self.rays = _Rays(p)
        flat = p.geometry == "fan_flat"
        if flat:
            per_column = float(p.column_pitch_mm or 0) / float(p.source_to_detector_mm or 1)
        else:
            per_column = float(p.column_pitch_rad or 0)
        self.claimed = Supposed(p.central_column, per_column, flat)
        self.differ = self.rays.differ(self.claimed)
        self.few = self.rays.fine.measured_twice(self.claimed) < _FEW

    def fault(self) -> GeometryFault | None:
        """See `check_geometry`."""
        if self.differ > _MUCH:
            for one in self._exchanged(lie=True):
                if self._believed(one, self.differ) and one.differ < _BETTER_LIE * min(self.differ, 1.0):
                    return self._fault_of(one)
        fault = odd_rows(self.projections, self.claimed, self.cancel)
        fault = fault or wrong_order(self.rays.through, self.rays.angles, self.claimed, self.cancel)
        return fault or self._other_geometry()

    def _other_geometry(self) -> GeometryFault | None:
        if self.differ < _AGREE:
            return self._last_view()
        candidates = list(self._nearby())
        if self.differ > (_DIFFER_ROUGH if self.rays.rough else _DIFFER):
            candidates += self._far()
            candidates += self._exchanged()
        # a change of anything else has to do more than another central column does
        moved = min(one.differ for one in candidates if self._moved(one))
        believed = [one for one in candidates if self._believed(one, min(self.differ, moved))]
        if believed:
            best = min(one.differ for one in believed)
            # of those that are about as good, the simplest, which stand first
            chosen = next(one for one in believed if one.differ < 1.1 * best + 1e-4)
            return self._fault_of(self._needed(chosen))
        lost = lost_views(self.rays.through, self.rays.angles, self.claimed)
        return self._last_view() or lost or self._disorder()

    def _last_view(self) -> GeometryFault | None:
        """The warning where the angles say that the last view repeats the first, and it does not."""
        angles, s = self.projections.view_angles, self.claimed
        half_turns = abs(float(angles[-1] - angles[0])) / math.pi
        n = round(half_turns)
        off = abs(half_turns - n) * math.pi > 0.1 * self.rays.step
        if off or n == 0 or (n % 2 == 1 and s.per_column) or not self.rays.whole or len(angles) < 8:
            return None
        if not self.rays.last_is_another(n % 2 == 1, s.central):
            return None
        other = replace(s, turn=(len(angles) - 1) / len(angles))
        found = _Found(other, self.rays.differ(other))
        return self._fault_of(found) if found.differ < _SOMEWHAT_BETTER * self.differ else None

    def _disorder(self) -> GeometryFault | None:
        """The warning where no other geometry helps, but the order of the views may be wrong."""
        rays, differ = self.rays, percent(self.differ)
        no_order = rays.neighbours > _NEIGHBOURS and rays.step < _STEP and rays.fine.roughness < _SMOOTH_VIEWS
        if self.differ > _ORDER_LOST and rays.out_of_order > _MOST_JUMPS:
            how, likely = (
                f"{percent(rays.out_of_order)} of them differ far more than usual",
                rays.out_of_order,
            )
        elif self.differ > _NO_ORDER and no_order:
            how, likely = "most of them differ much", 1.0
        elif _NO_AGREEMENT < self.differ < UNKNOWN and not self.few and rays.fine.roughness < _SMOOTH:
            return GeometryFault(
                f"Opposite rays, which should read the same, differ by {differ} of what rays vary by, and no "
                "simple change of the geometry mends that: check the order of views and columns, "
                "'/view_angles', and that every view is divided by its own air.",
                self.differ,
                None,
            )
        else:
            return None
        return GeometryFault(
            "The views are likely not in the order of '/view_angles' (files sorted by name come as 1, 10, "
            f"100, 2): {how} from the one before, and opposite rays, which should read the same, by {differ} "
            "of what rays vary by.",
            self.differ,
            None,
            {"views_out_of_order": likely},
        )

    def _fault_of(self, found: _Found) -> GeometryFault:
        p, s = self.projections, found.supposed
        # a body that looks alike from both sides, or parallel rays, show where the centre is, and nothing
        # else
        alike = self.rays.differ(replace(s, turn=-s.turn)) < 1.2 * found.differ + 1e-3
        either = alike and abs(p.n_columns - 1 - s.central - self.claimed.central) < COLUMNS
        return another_geometry(p, self.claimed, s, self.differ, found.differ, found.exchanged, either)

    def _moved(self, found: _Found) -> bool:
        """Whether nothing but the central column is another one."""
        return (
            found.exchanged is None and _with(found.supposed, "central", self.claimed.central) == self.claimed
        )

    def _believed(self, found: _Found, centred: float) -> bool:
        one = found.supposed
        if found.differ > _GOOD or not self._tellable(found):
            return False
        if found.exchanged is not None:
            return found.differ < _BETTER * min(self.differ, 1.0)
        here = replace(one, central=self.claimed.central, turn=1.0) == self.claimed and abs(one.turn) == 1
        if self.differ == UNKNOWN:
            near = one.turn == 1 and abs(one.central - self.claimed.central) < _NEAR_COLUMNS
            return here and not near and found.differ < _BETTER_UNKNOWN
        limit = _BETTER_CENTRE * self.differ if self._moved(found) else _BETTER * centred
        few = self.rays.fine.measured_twice(one) < _FEW
        if few != self.few:
            limit = _BETTER_OTHERS * centred if self.differ > _GOOD / 2 else 0.0
        elif few and not self._moved(found):
            return False
        # others than these rays may have differed
        same = min(1.0, self.rays.differ(self.claimed, among=one))
        return found.differ < min(limit, _BETTER * same)

    def _tellable(self, found: _Found) -> bool:
        """Whether it is another geometry at all."""
        one, other = found.supposed, self.claimed
        return (
            found.exchanged is not None
            or one.flat != other.flat
            or abs(one.central - other.central) >= COLUMNS
            or abs(one.turn - 1) * self.projections.n_views >= _STEPS_LOST
            or abs(one.per_column - other.per_column) > _SPACING * other.per_column
        )

    def _needed(self, found: _Found) -> _Found:
        """The same without changes that hardly matter, as that of a detector's shape where much is noise."""
        for name in ("central", "per_column", "flat"):
            without = _with(found.supposed, name, getattr(self.claimed, name))
            if found.exchanged is None and without != self.claimed:
                differ = self.rays.differ(without)
                if differ < 1.1 * found.differ + 1e-4:
                    found = replace(found, supposed=without, differ=differ)
        return found

    def _nearby(self) -> Iterable[_Found]:
        s = self.claimed
        yield self._refined(s, "central", _NEAR_COLUMNS, 0.01)
        if s.per_column and not self.few:
            yield self._refined(s, "per_column", _NEAR_SPACING * s.per_column, 2e-4 * s.per_column)
            yield self._centred(replace(s, flat=not s.flat))
            yield self._centred(replace(s, turn=-1.0))
        if not self.few:
            yield self._refined(s, "turn", _NEAR_STEP, 1e-4)

    def _far(self) -> Iterable[_Found]:
        s, columns = self.claimed, self.projections.n_columns
        places = [float(c) for c in np.linspace(0.1 * columns, 0.9 * columns, 72)]
        yield self._centred(self._best(s, "central", places))
        if s.per_column:
            others = [*places, columns - 1 - s.central]
            yield self._centred(self._best(replace(s, turn=-1.0), "central", others))
            spacings = [0.0, *(k * s.per_column for k in _SPACINGS)]
        else:
            spacings = [float(k) / columns for k in np.linspace(-2, 2, 80)]
        spacings = [k for k in spacings if abs(k) * columns < _WIDEST_FAN]
        yield self._spaced(self._best(s, "per_column", spacings))
        angles = self.projections.view_angles
        arc = abs(float(angles[-1] - angles[0])) * len(angles) / (len(angles) - 1)
        steps = [k for k in (*_STEPS, math.pi / arc, 2 * math.pi / arc) if abs(k - 1) > _NEAR_STEP]
        steps = [k for k in steps if k * arc > _LEAST_ARC]
        best = self._best(s, "turn", steps)
        yield self._centred(self._refined(best, "turn", 0.025 * best.turn, 2e-4).supposed)

    def _exchanged(self, lie: bool = False) -> Iterable[_Found]:
        """Readings with exchanged axes, which are as smooth before; or that `lie` in another order."""
        p = self.projections
        shape = p.shape[:3]
        tried = [tuple(axis for axis in range(3) if shape[axis] > 1)]
        if p.readings.size > _MOST_READINGS:
            return
        for axes in itertools.permutations(range(3)):
            if (long := tuple(axis for axis in axes if shape[axis] > 1)) in tried:
                continue
            tried.append(long)
            moved = tuple(sorted(axis for axis in range(3) if shape[axis] > 1 and axes[axis] != axis))
            alike = len(moved) == 2 and shape[moved[0]] == shape[moved[1]]
            if alike == lie:
                continue
            readings = p.readings.reshape(*(shape[axis] for axis in axes), *p.shape[3:])
            other = self._with(readings.transpose(*np.argsort(axes), *range(3, readings.ndim)))
            if alike or unlike(other) < _SMOOTHER * unlike(p):
                yield _Found(self.claimed, _Rays(other).differ(self.claimed), moved if alike else axes)
        if lie and p.n_columns < p.n_rows and (p.air_counts is None or np.ndim(p.air_counts) == 0):
            central = self.claimed.central + (p.n_rows - p.n_columns) / 2
            other = replace(self._with(p.readings.swapaxes(1, 2)), central_column=central)
            turned = replace(self.claimed, central=central)
            yield _Found(turned, _Rays(other).differ(turned), (1, 2))

    def _with(self, readings: np.ndarray) -> Projections:
        name = "line_integrals" if self.projections.counts is None else "counts"
        return replace(self.projections, row_pitch_mm=1.0, **{name: readings})  # type: ignore[arg-type]

    def _best(self, start: Supposed, name: str, values: Iterable[float]) -> Supposed:
        check(self.cancel)
        every = [_with(start, name, value) for value in values]
        return min(every, key=self.rays.coarse.disagreement)

    def _refined(self, start: Supposed, name: str, reach: float, precision: float) -> _Found:
        check(self.cancel)
        middle = getattr(start, name)
        least = _least(
            lambda value: self.rays.differ(_with(start, name, value)),
            middle - reach,
            middle + reach,
            precision,
        )
        found = [_Found(one, self.rays.differ(one)) for one in (start, _with(start, name, least))]
        return min(found, key=lambda one: one.differ)

    def _centred(self, start: Supposed) -> _Found:
        return self._refined(start, "central", max(_NEAR_COLUMNS, self.projections.n_columns / 50), 0.01)

    def _spaced(self, start: Supposed) -> _Found:
        reach = 0.06 * abs(start.per_column)
        refined = self._refined(start, "per_column", reach, 0.005 * reach) if reach else None
        return self._centred(refined.supposed if refined else start)
