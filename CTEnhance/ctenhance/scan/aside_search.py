"""The geometry of a scan whose detector stands aside of the isocentre (half-fan), behind a body that is wider
than its shorter side: all rays that are measured from both sides run within the body there."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ctenhance.physics.inner_rays import NOTHING, Compared, InnerRays
from ctenhance.physics.opposite_rays import UNKNOWN, Supposed
from ctenhance.runtime.progress import Cancellable, check
from ctenhance.scan.geometry_fault import COLUMNS, percent
from ctenhance.scan.geometry_rays import Rays

#: Rays that differ by less than the first agree but for the patient, scatter and the like; so do those that
#: differ by no more than so many times their noise. Far off, these must differ by less than the last.
_AGREE, _NOISE, _NOISY = 0.1, 1.5, 0.6
#: Another geometry is believed if what is left over noise (its square) is less than this part of before, or
#: if nothing is; and if the arcs of the scan say the same to this part of it.
_BETTER, _ALIKE = 0.2, 0.3
#: One direction is better than the other if its rays differ by less than this part, and by so many times the
#: error of that, as the arcs of the scan have it.
_TURNED, _SURE = 0.97, 3.0
#: One far off is believed if no other place, and the other direction, is nearly as good.
_ALONE, _ALONE_TURNED = 2.0, 1.2
#: Less than this part of what rays vary by is what scatter, gains and the like do to them.
_LEAST = 0.015
#: Columns by which the centre is off where nothing but noise is left.
_DRAWN = 0.5
#: Columns by which the centre may be uncertain (standard error), of a detector of so many or fewer.
_UNCERTAIN, _OF_COLUMNS = 0.5, 300
#: The columns' spacing is another one if it is so by this part of it (right ones: 0.013, of scatter three
#: times the primaries 0.029), by so many times its standard error, and if what is left over noise is less
#: than this part of before, or where it is far off less than the last part. Right scans with scatter, gains,
#: drifts or patients who move keep 0.87 and more of it.
_SPACING, _ERRORS, _EXPLAINED, _EXPLAINED_FAR = 0.02, 5.0, 0.6, 0.2
#: A spacing that is as far off as this should show. And those that are tried far off.
ANOTHER_SPACING = 0.06
_SPACINGS = (0.5, 0.67, 0.8, 1.0, 1.25, 1.5, 2.0)
#: Views turn unevenly if rays differ by so many times their noise, and by less than these parts of that (and
#: of the square over noise) once each arc's opposites may be late (rad) by one of these; and if arcs differ
#: by so much. Uneven ones by 1 to 4 degrees keep 0.21 to 0.81, of the square 0.00; patients who move, drifts,
#: ripples, arcs and scatter 0.84 and 0.70 or more.
_OVER, _LATE_DIFFER, _LATE_EXCESS, _LATE = 1.3, 0.75, 0.3, 0.01
_LAGS, _EVERY_LAG = np.linspace(-0.16, 0.16, 33), 2
#: Rays that differ by more fit no geometry that was tried.
_UNEXPLAINED = 0.35
#: Rays that are off by a column differ by so many times what noise alone makes of it (1.3), or tell nothing.
_OVER_NOISE = 1.42
#: Places that are looked at, and how many views are left out there.
_PLACES, _EVERY = 145, 4
_STEPS, _SETTLED, _FARTHEST = 15, 0.01, 0.12


@dataclass(frozen=True)
class Place:
    """A geometry, how far opposite rays differ in it, by how many columns the arcs of the scan disagree on
    its centre (standard deviation; infinite where they find none), and how far rays differ that are off by
    a column."""

    supposed: Supposed
    compared: Compared
    spread: float = math.inf
    by_column: float = 0.0

    @property
    def fits(self) -> bool:
        """Whether rays agree as well as their noise lets them."""
        c = self.compared
        return math.isfinite(self.spread) and (c.differ < _AGREE or c.differ < _NOISE * c.noise)

    def beats(self, other: Place) -> bool:
        """Whether all of the scan fits better than the `other` place."""
        one, two = self.compared, other.compared
        if not one.by_arc or not two.by_arc:
            return bool(one.by_arc)
        better = np.subtract(two.by_arc, one.by_arc)
        # every line is measured in two arcs
        error = float(better.std()) / math.sqrt(len(better) / 2)
        return one.differ < _TURNED * two.differ and float(better.mean()) > _SURE * error


class AsideSearch:
    """What the rays through the middle of the body say of the `claimed` geometry of a detector of so many
    `columns`. Raises Cancelled when asked to stop."""

    def __init__(
        self, rays: Rays, claimed: Supposed, columns: int, cancel: Cancellable | None = None
    ) -> None:
        self._inner = InnerRays(rays.through, rays.angles)
        self._claimed, self._columns, self._cancel = claimed, columns, cancel
        self._fan = bool(claimed.per_column)
        #: Whether the views go all the way round; nothing is known otherwise.
        self.whole = self._inner.whole
        self.here = self._inner.compare(claimed)
        self._near = self._settled(claimed)
        self._turned = self._settled(replace(claimed, turn=-claimed.turn)) if self._fan else None

    def likely(self) -> Place | None:
        """The geometry that is likely instead of the claimed one; None where that may be right."""
        near, turned = self._near, self._turned
        fits = near.fits or (turned is not None and turned.fits)
        return self.nearby() if fits else self.far()

    def nearby(self) -> Place | None:
        """The same with the centre not far from where it is claimed to be."""
        near, turned = self._near, self._turned
        if turned is not None and self._better(turned, near):
            return turned
        return near if near.fits and self._moved(near) else None

    def spaced(self, place: Place | None = None) -> Place | None:
        """This place, or that near the claimed one, with another spacing of the columns that explains what is
        left; None where the claimed one may be right."""
        start = place or self._near
        if not self._fan or start.compared.excess in (0.0, UNKNOWN):
            return None
        check(self._cancel)
        claimed = start.supposed.per_column
        every = [replace(start.supposed, per_column=factor * claimed) for factor in _SPACINGS]
        one = min(every, key=lambda one: self._inner.compare(one).differ)
        error = math.inf
        for _ in range(_STEPS):  # noise makes every step too short
            if (found := self._inner.spacing(one)) is None:
                return None
            by, error = found
            by = min(max(by, -_FARTHEST), _FARTHEST)
            one = replace(one, per_column=(1 + by) * one.per_column)
            if abs(by) < _SETTLED / 10:
                break
        off = abs(one.per_column / claimed - 1)
        if off < _SPACING or off < _ERRORS * error:
            return None
        spaced = self._settled(one)
        explained = _EXPLAINED if off < _FARTHEST else _EXPLAINED_FAR
        if not spaced.fits or spaced.compared.differ > _NOISY:
            return None
        return spaced if spaced.compared.excess < explained * start.compared.excess else None

    def uneven(self) -> tuple[float, float] | None:
        """How far rays differ, and by how much once the opposites of each arc of the scan are taken to have
        been measured later or earlier, if that explains it; None where the views may turn as they are said
        to."""
        near = self._near
        here = near.compared
        if here == NOTHING or here.differ < _OVER * here.noise:
            return None
        check(self._cancel)
        found = [self._inner.compare(near.supposed, _EVERY_LAG, float(lag)).by_arc for lag in _LAGS]
        if not all(found):
            return None
        by_arc = np.asarray(found)
        left = float(by_arc.min(0).mean())
        explained = left**2 - here.noise**2 < _LATE_EXCESS * here.excess
        lags = _LAGS[by_arc.argmin(0)]
        late = float(lags.std()) > _LATE and left < _LATE_DIFFER * here.differ
        return (here.differ, left) if explained and late else None

    def shows_spacing(self) -> bool:
        """Whether `spaced` would have found another spacing of the columns."""
        if not (self._fan and self._near.fits):
            return False
        s = self._near.supposed
        others = [
            replace(s, per_column=(1 + by) * s.per_column) for by in (-ANOTHER_SPACING, ANOTHER_SPACING)
        ]
        least = min(self._inner.compare(one).excess for one in others)
        return self._near.compared.excess < _EXPLAINED * least

    def doubt(self) -> str | None:
        """A sentence where the claimed geometry does not fit, or readings cannot tell whether it does."""
        near, turned, here = self._near, self._turned, self.here
        if here == NOTHING or near.compared == NOTHING:
            return _CANNOT.format("where the centre is or which way the scanner turned")
        noisy = near.compared.differ < _NOISE * near.compared.noise
        if not near.fits and not noisy and near.compared.differ > _UNEXPLAINED:
            return _MISFIT.format(percent(here.differ))
        if not near.fits and not noisy and math.isfinite(near.spread):
            return None
        uncertain = near.spread / math.sqrt(6)
        if noisy:
            if near.by_column < _OVER_NOISE * self._inner.noise_by_column(near.compared):
                return _CANNOT.format("where the centre is")
            # the centre is elsewhere, or noise has drawn it there
            uncertain = max(uncertain, abs(near.supposed.central - self._claimed.central))
        if uncertain > _UNCERTAIN * max(1.0, self._columns / _OF_COLUMNS):
            return _CANNOT.format("where the centre is")
        if turned is not None and not near.beats(turned):
            return _CANNOT.format(
                "which way the scanner turned, or whether the columns are in the reverse order"
            )
        return None

    @property
    def sound(self) -> bool:
        """Whether the claimed geometry fits, and no other does."""
        turned = self._turned
        return self._near.fits and self.nearby() is None and (turned is None or self._near.beats(turned))

    def far(self) -> Place | None:
        """The best of all places on the detector and both directions; None where none is sure."""
        places = [float(at) for at in np.linspace(0.02 * self._columns, 0.98 * self._columns, _PLACES)]
        found = []
        for turn in (1.0, -1.0) if self._fan else (1.0,):
            check(self._cancel)
            every = [replace(self._claimed, central=at, turn=turn * self._claimed.turn) for at in places]
            differ = [self._inner.compare(one, _EVERY).differ for one in every]
            least = int(np.argmin(differ))
            # the next best that is none beside it
            others = [k for k in range(_PLACES) if abs(k - least) > _PLACES // 12]
            found += [self._settled(every[k]) for k in (least, min(others, key=lambda k: differ[k]))]
        best = min(found, key=lambda one: one.compared.differ)
        if not best.fits or best.compared.differ > _NOISY or not self._other(best.supposed):
            return None
        for one in found:
            turned = one.supposed.turn != best.supposed.turn
            if not turned and abs(one.supposed.central - best.supposed.central) < self._columns / 24:
                continue
            if one.compared.differ < (_ALONE_TURNED if turned else _ALONE) * best.compared.differ:
                return None
        return best if best.compared.excess < _BETTER * self._near.compared.excess else None

    def _settled(self, start: Supposed) -> Place:
        """The centre near this one on which most arcs of the scan agree."""
        check(self._cancel)
        reach, supposed = max(4.0, self._columns / 50), start
        for _ in range(_STEPS):
            off, by_column = self._inner.centres(supposed)
            if not len(off):
                break
            by = float(off.median())
            central = supposed.central + min(max(by, -reach), reach)
            if not 0 <= central <= self._columns - 1:
                break
            supposed = replace(supposed, central=central)
            if abs(by) < _SETTLED:
                return Place(supposed, self._inner.compare(supposed), float(off.std()), by_column)
        return Place(start, self._inner.compare(start))

    def _other(self, one: Supposed) -> bool:
        return one.turn != self._claimed.turn or abs(one.central - self._claimed.central) >= COLUMNS

    def _moved(self, near: Place) -> bool:
        """Whether the centre is another one, and all arcs say so."""
        by = abs(near.supposed.central - self._claimed.central)
        explained = (
            near.compared.differ < _NOISE * near.compared.noise
            or near.compared.excess < _BETTER * self.here.excess
        )
        # noise that is uneven between columns draws the centre aside, too
        error = math.hypot(near.spread, _DRAWN * near.compared.noise**2)
        shows = near.by_column * by > _LEAST
        return by >= COLUMNS and shows and error < _ALIKE * by and explained

    def _better(self, turned: Place, near: Place) -> bool:
        """Whether the other direction is the right one."""
        explained = turned.compared.excess < _BETTER * near.compared.excess
        return turned.fits and explained and turned.beats(near)


_CANNOT = (
    "Nothing shows whether the geometry is right: the detector stands aside, the rays that it measures from "
    "both sides are too few, too noisy or too much alike, and they do not tell {}. Look at the image for "
    "doubled edges, arcs and streaks, and for the side of the liver."
)
_MISFIT = (
    "The readings of opposite rays, which should be the same, differ by {} of what rays vary by in the "
    "middle of the body, where alone a detector that stands aside measures them from both sides, and no "
    "other central column or direction mends that: the columns' spacing, the detector's shape or "
    "'/view_angles' are not what the file says, or the patient moved."
)
