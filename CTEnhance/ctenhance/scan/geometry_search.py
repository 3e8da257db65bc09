"""Looks for the geometry of a scan in which opposite rays agree."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from ctenhance.physics.opposite_rays import UNKNOWN, Supposed
from ctenhance.runtime.progress import Cancellable, check
from ctenhance.scan.aside_search import ANOTHER_SPACING, AsideSearch, Place
from ctenhance.scan.geometry_fault import COLUMNS, GeometryFault, another_geometry, percent, unexplained
from ctenhance.scan.geometry_rays import MOST_JUMPS, Rays
from ctenhance.scan.order_check import lost_views, unlike, wrong_order
from ctenhance.scan.projections import Projections
from ctenhance.scan.row_check import odd_rows
from ctenhance.scan.some_rows import Row, read_rows
from ctenhance.scan.uneven_angles import partly_mended, uneven_angles, uneven_fault

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
#: A last view that should not repeat the first is believed if rays then differ by less than this part.
_SOMEWHAT_BETTER = 0.95
#: The least changes that are reported beside those of `COLUMNS`: of the columns' spacing, relative to it; of
#: the angles, in steps at the end of the scan.
_SPACING, _STEPS_LOST = 0.02, 0.5
#: Where opposite rays differ by more than this, readings may lie in another order; it is believed at once if
#: they then differ by less than this part. More readings than these are not looked at so.
#: So must neighbours.
_MUCH, _BETTER_LIE, _MOST_READINGS, _SMOOTHER = 0.1, 0.2, 2**29, 0.6
#: Where opposite rays differ by more than this, views that differ much from the one before are out of order.
_ORDER_LOST = 0.04
#: Smooth views no farther apart than this that differ so much are in no order at all, if opposite rays differ
#: by more than the last.
_STEP, _NEIGHBOURS, _SMOOTH_VIEWS, _NO_ORDER = math.radians(4), 0.15, 0.03, 0.1
#: A detector stands aside whose centre is off its middle by this part of half its columns.
_ASIDE = 0.2
#: Angles that make so much of a turn may be those of a whole one.
_MOST_OF_A_TURN = 0.9
#: Arcs (rad) that scans usually make. After a step that makes no such arc opposite rays differ by no more
#: than the first, or so many times their noise.
_ARC, _AGREE_ROUGHLY, _LEFT = math.pi / 2, 0.008, 2.0
#: How far is looked nearby, and what is tried beyond that.
_NEAR_COLUMNS, _NEAR_SPACING, _NEAR_STEP = 4.0, 0.12, 0.02
_SPACINGS = [float(k) for k in np.geomspace(0.08, 12, 60)]
_STEPS = [float(k) for k in np.geomspace(0.2, 5, 80)] + [0.25, 1 / 3, 0.5, 2 / 3, 1.5, 2.0, 3.0, 4.0]
_WIDEST_FAN, _LEAST_ARC = 2.6, 0.99 * math.pi
_GOLDEN = (math.sqrt(5) - 1) / 2


def _rays_of(projections: Projections, rows: Sequence[Row] | None = None) -> Rays:
    transmission = torch.cat([row.transmission for row in rows or read_rows(projections)])
    return Rays(transmission, torch.from_numpy(projections.view_angles))


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


@dataclass(frozen=True)
class _Found:
    """Another geometry, how far its opposite rays differ, and what is `exchanged`: two axes of the readings,
    or all three, as they lie in memory."""

    supposed: Supposed
    differ: float
    exchanged: tuple[int, ...] | None = None


class Search:
    """Looks for the geometry in which opposite rays agree. `rows`: some of the scan's."""

    def __init__(self, projections: Projections, rows: Sequence[Row], cancel: Cancellable | None) -> None:
        p = self.projections = projections
        self.cancel = cancel
        self.rays = _rays_of(p, rows)
        flat = p.geometry == "fan_flat"
        if flat:
            per_column = float(p.column_pitch_mm or 0) / float(p.source_to_detector_mm or 1)
        else:
            per_column = float(p.column_pitch_rad or 0)
        self.claimed = Supposed(p.central_column, per_column, flat)
        self.differ = self.rays.differ(self.claimed)
        #: The same of the rays through the middle of the body, where they alone are measured from both sides.
        self.aside = UNKNOWN
        self._doubt: str | None = None
        last = p.n_columns - 1
        self._stands_aside = abs(2 * p.central_column - last) > _ASIDE * last
        # these would differ with another spacing of the columns
        self._spacing_shows = False
        # they agree, whatever columns do that read the same in all views
        self._sound = False
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

    def unexplained(self) -> str | None:
        """A warning where opposite rays differ much and `fault` has found nothing that explains it, or where
        those of a detector that stands aside do not tell."""
        if self._doubt:
            return self._doubt
        much = _UNEXPLAINED < self.differ < UNKNOWN and not self.few and not self._sound
        return unexplained(self.differ) if much and self.rays.fine.roughness < _SMOOTH else None

    def spacing_checked(self) -> bool:
        """Whether opposite rays would differ far more with other spacings of a fan's columns; False where
        hardly a ray has an opposite, or noise is all that they differ by."""
        if self._spacing_shows:
            return True
        s = self.claimed
        others = [
            replace(s, per_column=(1 + by) * s.per_column) for by in (-ANOTHER_SPACING, ANOTHER_SPACING)
        ]
        return self.differ < _BETTER * min(min(1.0, self.rays.differ(one)) for one in others)

    def unchecked(self, spacing_checked: bool) -> str | None:
        """A sentence on what of a fan's geometry these readings cannot show; None where they show it."""
        what = "the detector's shape (flat or curved) is"
        if not spacing_checked:
            what = "the columns' spacing, the distances and the detector's shape are"
        elif not self._stands_aside:
            return None
        return (
            f"The readings do not show whether {what} right; sizes and HU follow: compare with the scanner's "
            "record."
        )

    def _other_geometry(self) -> GeometryFault | None:
        if self.differ < _AGREE:
            return self._last_view()
        if self.differ == UNKNOWN and (rays := self._aside_rays).whole:
            self.aside = rays.here.differ
            if fault := self._fault_aside(rays, rays.likely()):
                return fault
            self._doubt = rays.doubt()
            lost = lost_views(self.rays.through, self.rays.angles, self.claimed)
            return self._last_view() or lost or self._disorder()
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
            if (
                self._moved_or_turned(chosen)
                and abs(chosen.supposed.central - self.claimed.central) > _NEAR_COLUMNS
            ):
                # to where fewer rays, and these within the body, are measured twice
                chosen = self._aside(self.rays.fine.disagreement(self.claimed, within=True)) or chosen
            chosen = self._needed(chosen)
            turns = abs(chosen.supposed.turn) != 1 and chosen.exchanged is None
            return (self._step_alone(chosen) if turns else None) or self._fault_of(chosen)
        if aside := self._aside(self.rays.fine.disagreement(self.claimed, within=True)):
            return self._fault_of(aside)
        s = self.claimed
        if self._stands_aside and (rays := self._aside_rays).whole:
            if fault := self._fault_aside(rays, rays.nearby()):
                return fault
            self._sound = rays.sound
        lost = lost_views(self.rays.through, self.rays.angles, s)
        fault = self._last_view() or lost or (None if self._sound else self._disorder())
        return fault or self._uneven(moved)

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

    def _step_alone(self, chosen: _Found) -> GeometryFault | None:
        """The warning in place of that of another step of the angles, which explains a part alone; None where
        it explains all, or makes an arc that is likely of itself."""
        if uneven := self._uneven(chosen.differ):
            return uneven
        if self._stands_aside and (rays := self._aside_rays).whole and (found := rays.uneven()):
            return uneven_fault(*found)
        angles, turn = self.projections.view_angles, abs(chosen.supposed.turn)
        step = turn * float(np.median(np.abs(np.diff(angles))))
        arc = turn * abs(float(angles[-1] - angles[0]))
        # views of a whole arc, or the first repeated
        likely = any(abs(arc + k * step - round((arc + k * step) / _ARC) * _ARC) < step / 4 for k in (0, 1))
        left = chosen.differ > max(_AGREE_ROUGHLY, _LEFT * self.rays.fine.noise(chosen.supposed))
        return partly_mended(self.differ, chosen.differ) if left and not likely else None

    def _uneven(self, even: float) -> GeometryFault | None:
        """The warning where the views of a whole turn advance unevenly; `even`: how far rays differ in the
        best even geometry."""
        turned = abs(float(self.rays.angles[-1] - self.rays.angles[0]))
        if self.few or turned < _MOST_OF_A_TURN * 2 * math.pi:
            return None
        return uneven_angles(self.rays.fine, self.claimed, self.differ, even)

    def _disorder(self) -> GeometryFault | None:
        """The warning where no other geometry helps, but the order of the views may be wrong."""
        rays, differ = self.rays, percent(self.differ)
        no_order = rays.neighbours > _NEIGHBOURS and rays.step < _STEP and rays.fine.roughness < _SMOOTH_VIEWS
        if self.differ > _ORDER_LOST and rays.out_of_order > MOST_JUMPS:
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
                "'central_column', '/view_angles', and that every view is divided by its own air.",
                self.differ,
                None,
                certain=False,
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

    def _fault_of(
        self, found: _Found, differ: float | None = None, over_noise: tuple[float, float] | None = None
    ) -> GeometryFault:
        p, s = self.projections, found.supposed
        # a body that looks alike from both sides, or parallel rays, show where the centre is, and nothing
        # else
        alike = self.rays.differ(replace(s, turn=-s.turn)) < 1.2 * found.differ + 1e-3
        either = alike and abs(p.n_columns - 1 - s.central - self.claimed.central) < COLUMNS
        differ = self.differ if differ is None else differ
        return another_geometry(p, self.claimed, s, differ, found.differ, found.exchanged, either, over_noise)

    def _moved(self, found: _Found) -> bool:
        """Whether nothing but the central column is another one."""
        return (
            found.exchanged is None and _with(found.supposed, "central", self.claimed.central) == self.claimed
        )

    def _moved_or_turned(self, found: _Found) -> bool:
        """Whether nothing but the central column and the direction is another one."""
        return abs(found.supposed.turn) == 1 and self._moved(
            replace(found, supposed=replace(found.supposed, turn=1.0))
        )

    def _believed(self, found: _Found, centred: float) -> bool:
        one = found.supposed
        if found.differ > _GOOD or not self._tellable(found):
            return False
        if found.exchanged is not None:
            return found.differ < _BETTER * min(self.differ, 1.0)
        if self.differ == UNKNOWN:
            near = one.turn == 1 and abs(one.central - self.claimed.central) < _NEAR_COLUMNS
            return self._moved_or_turned(found) and not near and found.differ < _BETTER_UNKNOWN
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

    def _aside(self, differ: float) -> _Found | None:
        """Another central column, so far off that no rays but those within the body are measured from both
        sides, as by a detector that stands aside to see more (half-fan); None where none is sure."""
        if not _GOOD < differ < UNKNOWN:
            return None
        best = self._aside_rays.far()
        return None if best is None else _Found(best.supposed, best.compared.differ)

    def _fault_aside(self, rays: AsideSearch, place: Place | None) -> GeometryFault | None:
        """The fault of a detector that stands aside and has its centre at another place, if there is one, or
        columns of another spacing."""
        self._spacing_shows = rays.shows_spacing()
        over_noise = None
        if spaced := rays.spaced(place):
            over_noise = (rays.here.excess**0.5, spaced.compared.excess**0.5)
        place = spaced or place
        if place is None:
            return uneven_fault(*found) if (found := rays.uneven()) else None
        other = _Found(place.supposed, place.compared.differ)
        return self._fault_of(other, rays.here.differ, over_noise)

    @cached_property
    def _aside_rays(self) -> AsideSearch:
        return AsideSearch(self.rays, self.claimed, self.projections.n_columns, self.cancel)

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
                yield _Found(self.claimed, _rays_of(other).differ(self.claimed), moved if alike else axes)
        if lie and p.n_columns < p.n_rows and (p.air_counts is None or np.ndim(p.air_counts) == 0):
            central = self.claimed.central + (p.n_rows - p.n_columns) / 2
            other = replace(self._with(p.readings.swapaxes(1, 2)), central_column=central)
            turned = replace(self.claimed, central=central)
            yield _Found(turned, _rays_of(other).differ(turned), (1, 2))

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
