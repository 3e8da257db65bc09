"""Are the energy bins of one scan in step? All of them see the edges of the same body at the same time, so
that a bin that fits the others better some views or columns aside, mirrored, or backwards was not read with
them.

Edges are compared and not levels: how much a bin is attenuated differs with its energies, where edges lie
does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy import ndimage

from ctenhance.physics.opposite_rays import OppositeRays, Supposed
from ctenhance.runtime.progress import Cancellable, check
from ctenhance.scan.geometry_fault import GeometryFault, percent
from ctenhance.scan.some_rows import Row

#: Edges are what is left of means over so many columns less those over more.
_NARROW, _WIDE = 3, 13
#: A bin that lies farther aside than this part of all views or columns correlates as it is by less than the
#: second part of what it does there, one that is mirrored by less than the third; and there by more than the
#: last of what noise allows.
_FAR, _UNLIKE, _UNLIKE_MIRRORED, _SAME = 0.05, 0.5, 0.75, 0.93
#: The median of second differences of noise, in its SD.
_MEDIAN_OF_SECOND = 0.6745 * 6**0.5
#: Bins are alike from this correlation on, and no other place is looked for from the second on.
_ALIKE, _SURELY = 0.1, 0.97
#: A bin fits better elsewhere if less than this part of what differs is left there; or if the gain is so many
#: times its error, by views and by so many arcs of the scan.
_HALF, _TIMES_SE, _TIMES_SE_ARCS, _ARCS = 0.5, 7.0, 5.0, 12


@dataclass(frozen=True)
class _Aside:
    """Where one `bin` fits: so many `views` and `columns` after another, with what is `reversed` in it; its
    correlation there and as it is, and whether that is `sure`."""

    bin: int
    views: float
    columns: float
    reversed: str | None
    fits: float
    fits_now: float
    sure: bool

    def said(self, step_deg: float) -> str:
        """This in words; `step_deg`: degrees from view to view."""
        parts = [f"has its {self.reversed} in the reverse order"] if self.reversed else []
        views, columns = abs(self.views), abs(self.columns)
        if views >= 0.5:
            when = "late" if self.views > 0 else "early"
            parts.append(f"comes {views:.3g} views ({views * step_deg:.3g} degrees) too {when}")
        if columns >= 0.5:
            end = "last" if self.columns > 0 else "first"
            parts.append(f"lies {columns:.3g} columns too far towards the {end}")
        return f"bin {self.bin} {' and '.join(parts)}"


def bins_out_of_step(
    rows: Sequence[Row], claimed: Supposed, cancel: Cancellable | None = None
) -> GeometryFault | None:
    """What is wrong with single energy bins of a scan beside the others; None where nothing is known against
    them.

    `rows`: some of the scan's, of which the one in the middle is looked at; `claimed`: the geometry as the
    file has it. Raises Cancelled when asked to stop."""
    p = rows[len(rows) // 2].alone
    if p.counts is None or (p.n_bins or 1) < 2:
        return None
    counts = torch.from_numpy(np.asarray(p.counts, dtype=np.float32))[:, 0]
    air = torch.stack([torch.as_tensor(p.air(b)).expand(p.n_columns) for b in range(counts.shape[-1])], -1)
    through = (counts / air.clamp(min=1e-9)).float().permute(2, 0, 1)
    steps = np.diff(p.view_angles)
    turns = abs(float(steps.sum() + np.median(steps))) / (2 * math.pi)
    whole = round(turns) > 0 and abs(turns - round(turns)) * len(counts) < 0.5
    bins = {}
    for b in air.mean(0).argsort(descending=True).tolist():
        check(cancel)
        if (edges := _Edges.of(through[b].numpy(), whole)) is not None:
            bins[b] = edges
    found, reference = _fewest(bins, cancel)
    if not found:
        return None
    known = ""
    if len(bins) == 2:
        turned = bins[reference].aside_of(bins[found[0].bin], reference)
        rays = OppositeRays(through, torch.from_numpy(p.view_angles))
        known = " (or the other bin by as much the other way: no readings tell which of the two is right)"
        by = [_nearer(one, rays, claimed, p.n_columns) for one in (found[0], turned or found[0])]
        if max(by) > 0 > min(by):
            known = " (opposite rays agree in the other bin)"
            if turned is not None and by[1] > 0:
                found, reference = [turned], found[0].bin
    step = math.degrees(float(np.median(np.abs(steps))))
    likely: dict[str, list[float] | list[str | None]] = {
        "views_late": [one.views for one in found],
        "columns_aside": [one.columns for one in found],
        "reversed": [one.reversed for one in found],
    }
    differ_now = 1 - max(min(one.fits_now for one in found), 0.0)
    differ_if = 1 - min(one.fits for one in found)
    return GeometryFault(
        f"The energy bins of the scan do not belong together: beside bin {reference} (counted from 0) "
        f"{'; '.join(one.said(step) for one in found)}{known}. The body's edges, which all bins see at one "
        f"place, correlate by {percent(1 - differ_now)} there as the file has them, and by "
        f"{percent(1 - differ_if)} once that is undone. Maps and images are wrong: put '/counts' right, or "
        "leave out what is not in step.",
        differ_now,
        None,  # not by opposite rays
        {"bins": [one.bin for one in found]} | {name: each for name, each in likely.items() if any(each)},
    )


def _fewest(bins: dict[int, _Edges], cancel: Cancellable | None) -> tuple[list[_Aside], int]:
    """The bins that surely fit another one elsewhere, and that one: such that few seem to."""
    best: tuple[list[_Aside], int] = [], 0
    for reference, edges in bins.items():
        found = []
        for b in sorted(bins):
            check(cancel)
            if b != reference and (one := bins[b].aside_of(edges, b)) is not None:
                found.append(one)
        if any(one.sure for one in found) and (not best[0] or len(found) < len(best[0])):
            best = found, reference
        if not best[0] or 2 * len(found) < len(bins) - 1 or len(bins) == 2:
            break
    found, reference = best
    sure = [one for one in found if one.sure]
    if len(bins) > 2 and 2 * len(found) > len(bins) - 1:  # it is the reference that is aside
        other = max(sure, key=lambda one: one.fits).bin
        if (one := bins[reference].aside_of(bins[other], reference)) is not None:
            return [one], other
    return sure, reference


def _nearer(one: _Aside, rays: OppositeRays, claimed: Supposed, columns: int) -> float:
    """By how much the opposite rays of a bin agree better if it lies aside as is found; below 0: worse."""
    central, turn = claimed.central + one.columns, claimed.turn
    if one.reversed:
        turn = turn if "and" in one.reversed else -turn
        central = columns - 1 - central if "columns" in one.reversed else central
    aside = replace(claimed, central=central, turn=turn)
    return float(rays.by_slice(claimed)[one.bin] - rays.by_slice(aside)[one.bin])


class _Edges:
    """The edges in a bin, `[view, column]`, of unit length together, of whose square `noise` is this part;
    the views make a `whole` turn, or whole turns."""

    def __init__(self, values: torch.Tensor, whole: bool, noise: float) -> None:
        self.values, self.whole, self.noise = values, whole, noise
        views, columns = values.shape
        self.size = (views if whole else 2 * views, 2 * columns)

    @classmethod
    def of(cls, through: np.ndarray, whole: bool) -> _Edges | None:
        """Of transmissions `[view, column]`; None where there are none."""
        if min(through.shape) < _ARCS:
            return None
        root = np.sqrt(np.maximum(through, 0))  # which has the same noise everywhere
        edges = ndimage.uniform_filter1d(root, _NARROW, axis=1, mode="nearest")
        edges -= ndimage.uniform_filter1d(root, _WIDE, axis=1, mode="nearest")
        edges -= edges.mean(0)  # gains and dead columns
        power = float(np.square(edges, dtype=np.float64).sum())
        if not power > 0:
            return None
        sd = float(np.median(np.abs(np.diff(root, 2, axis=1)))) / _MEDIAN_OF_SECOND
        noise = sd**2 * (1 / _NARROW - 1 / _WIDE) * edges.size / power
        return cls(torch.from_numpy(edges / power**0.5), whole, min(noise, 1.0))

    @cached_property
    def spectrum(self) -> torch.Tensor:
        """Fourier coefficients, as of edges that nothing surrounds."""
        return torch.fft.rfft2(self.values, self.size)

    def turned(self, axes: tuple[int, ...]) -> _Edges:
        """These with the order of views, columns or both reversed."""
        return _Edges(self.values.flip(axes), self.whole, self.noise)

    def aside_of(self, other: _Edges, number: int) -> _Aside | None:
        """Where these edges, of bin `number`, fit the `other` ones best; None where that is as they are, or
        nowhere."""
        here = (0.0, 0.0, 0.0)
        best, turned, back = self.best(other), self, None
        if best[0] < _SURELY:
            for axes, what in (((1,), "columns"), ((0,), "views"), ((0, 1), "columns and views")):
                one = self.turned(axes)
                place = one.best(other)
                if place[0] > best[0] and one.better(other, place, turned, best):
                    best, turned, back = place, one, what
        correlation, views, columns = best
        if correlation < _ALIKE or not (back or round(views) or round(columns)):
            return None
        now = float((self.values * other.values).sum())
        n, m = self.values.shape
        sure = turned.better(other, best, self, here)
        if back or abs(views) > _FAR * n or abs(columns) > _FAR * m:
            # rods of other contrasts in each bin may look alike after some turn, but not the same
            most = ((1 - self.noise) * (1 - other.noise)) ** 0.5
            unlike = _UNLIKE_MIRRORED if back else _UNLIKE
            sure = sure and now < unlike * correlation and correlation > _SAME * most
        return _Aside(number, round(views, 1), round(columns, 1), back, correlation, now, sure)

    def best(self, other: _Edges) -> tuple[float, float, float]:
        """The correlation with the `other` ones where they fit best, and by how many views and columns that
        is aside."""
        found = torch.fft.irfft2(self.spectrum * other.spectrum.conj(), self.size)
        n, m = self.size
        i, j = divmod(int(found.argmax()), m)
        peak = float(found[i, j])

        def between(before: torch.Tensor, after: torch.Tensor) -> float:
            bend = float(before + after) - 2 * peak
            return 0.5 * float(before - after) / bend if bend < 0 else 0.0

        views = i + between(found[i - 1, j], found[(i + 1) % n, j])
        columns = j + between(found[i, j - 1], found[i, (j + 1) % m])
        return peak, views - n * (i > n // 2), columns - m * (j > m // 2)

    def better(
        self,
        other: _Edges,
        place: tuple[float, float, float],
        than: _Edges,
        than_place: tuple[float, float, float],
    ) -> bool:
        """Whether views and arcs of the scan, where edges tell the two apart, agree that these fit the
        `other` ones better there."""
        there, here = self.on(place), than.on(than_place)
        fits, fits_here = (float((one * other.values).sum()) for one in (there, here))
        if 1 - fits < _HALF * (1 - fits_here):
            return True
        gain = ((there - here) * other.values).sum(1).double().numpy()
        tells = (there - here).square().sum(1).double().numpy()
        for parts, times in ((len(gain), _TIMES_SE), (_ARCS, _TIMES_SE_ARCS)):
            x, y = (np.array([part.sum() for part in np.array_split(one, parts)]) for one in (tells, gain))
            slope = float(x @ y) / max(float(x @ x), 1e-30)
            if slope * np.linalg.norm(x) <= times * np.linalg.norm(y - slope * x) / (parts - 1) ** 0.5:
                return False
        return True

    def on(self, place: tuple[float, float, float]) -> torch.Tensor:
        """The edges so many views and columns on."""
        (n, m), values = self.values.shape, self.values
        i, j = round(place[1]), round(place[2])
        if self.whole:
            values, i = values.roll(-i, 0), 0
        there = torch.zeros_like(values)
        there[max(0, -i) : n - max(0, i), max(0, -j) : m - max(0, j)] = values[
            max(0, i) : n - max(0, -i), max(0, j) : m - max(0, -j)
        ]
        return there
