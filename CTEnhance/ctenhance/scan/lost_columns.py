"""Are columns missing in the middle of the detector, as where its halves or modules have a gap between them
that the file leaves out, or does one stand there twice?

Both are seen twice. The readings leap there from one column to the next, in all views, by more than on either
side (or not at all); so they do at the edge of a round body, too. And rays that are measured from both sides
run elsewhere than the file says on one side of that place: not all by the same, as with another central
column, nor the more the farther out they are, as with another spacing, which explain most of it otherwise.
Parallel rays over half a turn are not measured twice; of these the sum of a view is the same in all views,
and its centroid goes to and fro as a sine (Helgason and Ludwig), unless columns are missing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage

from ctenhance.physics.opposite_rays import UNKNOWN, OppositeRays, Supposed
from ctenhance.runtime.progress import Cancellable, check
from ctenhance.scan.geometry_fault import GeometryFault, percent
from ctenhance.scan.geometry_rays import Rays

#: Views that are looked at, of which each may be the mean of some; how many columns beside a place are.
_VIEWS, _BESIDE = 240, 2
#: Readings leap where they change so many times more than beside it, or by less than this part; so many
#: places are looked at and a few tried, none so near the ends. (Sound scans reach 1.1 to 1.6
#: and 0.71, 2 beside metal and 8 at the edge of a round body; a missing column 1.3 to 2, one that stands
#: there twice 0.0 to 0.1.)
_LEAP, _NO_LEAP, _PLACES, _TRIED, _ENDS = 1.12, 0.8, 12, 5, 12
#: Within the body, line integrals are at least this part of their largest, means of all views; at its edge
#: at least the second.
_WITHIN, _AT_EDGE = 0.25, 0.08
#: Columns by which the place and the centre are changed at a time, and when they are settled.
_STRIDE, _STEPS, _SETTLED = 4.0, 10, 0.02
#: So many columns are missing at least, as it seems at first and in the end; more than the last are no gap.
_LEAST_AT_FIRST, _LEAST, _MOST = 0.3, 0.6, 32
#: Missing columns are believed if what opposite rays then differ by beyond their noise, which is at most this
#: part of it, is less than the second part of that in any other geometry; than the third, where they differ
#: by more than so many times their noise, as of patients who move.
_NOISE, _BETTER, _FAR_BETTER, _MUCH = 0.95, 0.6, 0.35, 1.5
#: A column that hardly differs from the one before is believed to be that if they differ by no more than so.
_TWICE, _AS_GOOD = 0.25, 1.05
#: Readings leap by less than so many times what columns are missing; of parallel rays by less or more than
#: so. The numbers that sums and centroids have differ by less than this, or this part; less than this part of
#: what these are not to be is left. Readings in air at the ends, those of hardly a quantum, and how near the
#: centre is that opposite rays have, of which a few are measured.
_FARTHEST, _SURE, _ALIKE, _LEFT = 1.5, (0.5, 1.3), 0.35, 0.8
_AIR, _STARVED, _NEAR = 0.05, 1e-4, 1.0
#: Faults that missing columns look like.
_MIMICKED = {
    "central_column", "column_pitch_mm", "column_pitch_rad", "geometry", "view_angle_factor", "view_angles"
}  # fmt: skip
#: A column that changes from view to view by less than this part of those around it is dead.
_DEAD, _AROUND = 0.2, 9
_TINY = 1e-12


def lost_columns(
    rays: Rays,
    claimed: Supposed,
    differ: float,
    fault: GeometryFault | None,
    cancel: Cancellable | None = None,
) -> GeometryFault | None:
    """The fault of a scan in which columns are missing in the middle, or one stands there twice; None where
    nothing speaks for that, or the `fault` that was found explains as much. `differ`: how far opposite rays
    differ as is `claimed`. Raises Cancelled when asked to stop."""
    if fault is not None and fault.certain and not set(fault.likely) <= _MIMICKED:
        return None
    if _has_dead(rays.through):
        return None  # readings leap there, and views' sums and opposite rays change
    places = _leaps(rays.through)
    found: tuple[Supposed, float | None] | None = None
    if differ != UNKNOWN:
        found = _by_opposite_rays(rays, claimed, places, differ, fault, cancel)
    if found is None and not claimed.per_column:
        found = _by_moments(rays, places)
    return None if found is None else _fault(*found, differ)


def _by_opposite_rays(
    rays: Rays,
    claimed: Supposed,
    places: dict[int, float],
    differ: float,
    fault: GeometryFault | None,
    cancel: Cancellable | None,
) -> tuple[Supposed, float | None] | None:
    """The columns that are missing at one of these places, and how far opposite rays then differ."""
    found = []
    # with the centre that explains most, if one does
    claimed = replace(claimed, central=(fault.likely if fault else {}).get("central_column", claimed.central))
    slopes = rays.fine.slopes(claimed)
    starts = []
    for place in places:
        start = replace(claimed, lost_at=float(place))
        by = _changes(slopes, start)
        if by is not None and abs(by[1]) > _LEAST_AT_FIRST:
            starts.append((start, places[place]))
    for start, leap in starts[:_TRIED]:
        check(cancel)
        one = _settled(rays.fine, start)
        if one is not None and _leaps_by(one.lost, leap):
            one = _whole(rays.fine, one)
            found.append((rays.differ(one), one))
    if not found:
        return None
    differ_if, best = min(found, key=lambda one: one[0])
    other = differ if fault is None or fault.differ_if is None else min(differ, fault.differ_if)
    if best.lost < 0 and places[round(best.lost_at)] < _TWICE and differ_if < _AS_GOOD * other:
        return best, differ_if
    noise, within = rays.fine.noise(best), _within(rays.through, round(best.lost_at))
    if differ_if > _MUCH * noise and not within:
        return None
    better = _BETTER if differ_if < _MUCH * noise and within else _FAR_BETTER
    noise = min(noise, _NOISE * differ_if)
    if differ_if**2 - noise**2 > better**2 * max(0.0, other**2 - noise**2):
        return None
    return best, differ_if


def _by_moments(rays: Rays, places: dict[int, float]) -> tuple[Supposed, None] | None:
    """The columns that are missing at one of these places, as the sums and the centroids of the views of
    parallel rays have it."""
    lines = -rays.through.double().clamp(min=_STARVED).log().numpy()
    if float(lines[..., [0, 1, -2, -1]].mean()) > _AIR:
        return None
    number, angles = np.arange(lines.shape[2]), rays.angles.double().numpy()
    one = np.ones(len(angles))
    best: tuple[float, Supposed] | None = None
    for place, leap in places.items():
        if not _within(rays.through, place):
            continue
        missing = (lines[..., place - 1] + lines[..., place]) / 2
        sums = _missing(lines.sum(2), missing, one[:, None])
        lost = sums[0]
        beyond = lines[..., place:].sum(2) + missing * (place + (lost - 1) / 2)
        centroids = _missing(lines @ number, beyond, np.stack([one, np.cos(angles), np.sin(angles)], 1))
        alike = abs(lost - centroids[0]) < max(_ALIKE, _ALIKE * abs(lost))
        leaps = _leaps_by(lost, leap) and not _SURE[0] < leap < _SURE[1]
        left = max(sums[1], centroids[1])
        if alike and leaps and left < _LEFT and (best is None or left < best[0]):
            central = centroids[2] / sums[2]
            best = left, Supposed(central, 0.0, lost=float(round(lost)), lost_at=float(place))
    if best is None:
        return None
    centred = _centred(rays.fine, best[1])
    return (centred if abs(centred.central - best[1].central) < _NEAR else best[1]), None


def _missing(moment: np.ndarray, by_column: np.ndarray, may: np.ndarray) -> tuple[float, float, float]:
    """How many times `by_column` has to be added to a moment `[slice, view]` for it to be a sum of what it
    `may` be, `[view, part]`; which part of all that it is not is left then, and the first of these."""
    to = np.linalg.pinv(may)

    def beyond(values: np.ndarray) -> np.ndarray:
        return values - (values @ to.T) @ may.T

    is_not, changed = beyond(moment), beyond(by_column)
    times = -float((is_not * changed).sum()) / max(float(np.square(changed).sum()), _TINY)
    left = float(np.square(is_not + times * changed).sum()) / max(float(np.square(is_not).sum()), _TINY)
    return times, left, float(((moment + times * by_column) @ to.T)[:, 0].sum())


def _leaps_by(lost: float, leap: float) -> bool:
    """Whether readings that leap so many times more than beside it may be missing so many columns there."""
    if not _LEAST <= abs(lost) <= _MOST:
        return False
    return leap < _NO_LEAP if lost < 0 else _LEAP < leap < _FARTHEST * (1 + lost)


def _profile(through: torch.Tensor) -> np.ndarray:
    """Mean line integrals of transmissions `[slice, view, column]`, `[column]`."""
    return -through.clamp(min=_STARVED).log().mean((0, 1)).double().numpy()


def _has_dead(through: torch.Tensor) -> bool:
    """Whether a column of transmissions `[slice, view, column]` hardly changes from view to view beside those
    around it."""
    changes = through.std(1).mean(0).double().numpy()
    return bool((changes < _DEAD * ndimage.median_filter(changes, _AROUND)).any())


def _within(through: torch.Tensor, place: int) -> bool:
    """Whether a column lies well within the body."""
    lines = _profile(through)
    return bool(lines[place] > _WITHIN * lines.max())


def _leaps(through: torch.Tensor) -> dict[int, float]:
    """Columns of transmissions `[slice, view, column]` between which and the one before readings change by
    far more or less than beside it, the most likely first, and how many times more that is."""
    together = max(1, through.shape[1] // _VIEWS)
    views = through[:, : through.shape[1] // together * together]
    root = views.unflatten(1, (-1, together)).mean(2).clamp(min=0).sqrt()
    # a column's gain does the same in all views, or what follows the reading
    root = root - root.mean(1, keepdim=True)
    change, level = root.diff(dim=-1), (root[..., 1:] + root[..., :-1]) / 2
    along = (change * level).sum((0, 1)) / level.square().sum((0, 1)).clamp(min=_TINY)
    size = (change - along * level).square().mean((0, 1)).sqrt().clamp(min=_TINY).double().numpy()
    if len(size) <= 2 * _ENDS:
        return {}
    inside = np.arange(_ENDS, len(size) - _ENDS)
    beside = np.stack([size[inside + by] for by in range(-_BESIDE, _BESIDE + 1) if by])
    more, less = size[inside] / beside.max(0), size[inside] / beside.min(0)
    leap = np.where(less < _NO_LEAP, less, more)
    # beside the body and at its edge readings leap, and hardly depend on what is missing there
    lines = _profile(through)
    within = lines[inside] > _AT_EDGE * lines.max()
    strength = np.where(within & ((less < _NO_LEAP) | (more > _LEAP)), np.abs(np.log(leap)), 0.0)
    first = np.argsort(-strength)[:_PLACES]
    return {int(inside[at]) + 1: float(leap[at]) for at in first if strength[at] > 0}


def _settled(rays: OppositeRays, start: Supposed) -> Supposed | None:
    """The number of columns missing at this place, and the centre, with which opposite rays agree best; None
    where that is not known."""
    one = start
    for _ in range(_STEPS):
        by = _changes(rays.slopes(one), one)
        if by is None:
            return None
        moved, lost = np.clip(by, -_STRIDE, _STRIDE).tolist()
        one = replace(one, central=one.central + moved, lost=one.lost + lost)
        if max(abs(moved), abs(lost)) < _SETTLED:
            break
    return one


def _whole(rays: OppositeRays, one: Supposed) -> Supposed:
    """The same with a whole number of columns; noise makes the least changes seem larger."""
    near = round(one.lost)
    found = []
    for lost in sorted({near - 1, near, near + 1} - {0}):
        found.append(_centred(rays, replace(one, lost=float(lost))))
    return min(found, key=rays.disagreement)


def _centred(rays: OppositeRays, one: Supposed) -> Supposed:
    """The same with the centre near it with which opposite rays agree best."""
    for _ in range(3):
        by = _changes(rays.slopes(one), one, centre_alone=True)
        one = one if by is None else replace(one, central=one.central + float(by[0]))
    return one


def _changes(
    slopes: tuple[torch.Tensor, torch.Tensor], s: Supposed, centre_alone: bool = False
) -> np.ndarray | None:
    """By how many columns the centre is another one, and how many more are missing, `[2]`, by least squares
    of the slopes of opposite rays; None where these do not tell."""
    if not len(slopes[0]):
        return None
    products, at = (one.double().numpy() for one in slopes)
    after = at > s.lost_at - 0.5
    at = at + s.lost * after
    mirrored = 2 * s.central - at > s.lost_at - 0.5 + s.lost / 2
    u = s.per_column * (at - s.central)
    fan = s.per_column / (1 + u**2) if s.flat else s.per_column
    # by how many columns and rad the opposite of each column's rays lies elsewhere
    centre = np.stack([np.full(len(at), 2.0), np.full(len(at), 2.0) * fan], -1)
    lost = -np.stack([after.astype(float) + mirrored, 2.0 * after * fan], -1)
    changed = np.stack([centre, lost][: 1 if centre_alone else 2])
    square = np.einsum("aci,cij,bcj->ab", changed, products[:, 1:, 1:], changed)
    along = np.einsum("aci,ci->a", changed, products[:, 0, 1:])
    if not np.linalg.det(square) > 1e-6 * np.prod(np.diag(square)):
        return None
    return -np.linalg.solve(square, along)


def _fault(found: Supposed, differ_if: float | None, differ: float) -> GeometryFault:
    lost, at = round(found.lost), round(found.lost_at)
    many = "A column is" if abs(lost) == 1 else f"About {abs(lost)} columns are"
    done = f"{'one' if abs(lost) == 1 else 'as many'} {'left out' if lost < 0 else 'put in'}"
    if lost < 0:
        likely = {"columns_too_many": -lost, "columns_too_many_at": at}
        what = (
            f"{many} likely too many in the detector, about column {at} (counted from 0): it hardly differs "
            "from the one before"
        )
    else:
        likely = {"columns_lost": lost, "columns_lost_before": at}
        done += ", interpolated between those two"
        what = (
            f"{many} likely missing between columns {at - 1} and {at} (counted from 0), as of a gap between "
            "a detector's halves or modules that the file leaves out: readings leap there"
        )
    if differ_if is None:
        how = "the views' sums and centroids, which should be constant and follow a sine, do so far better"
    else:
        how = (
            f"opposite rays, which should read the same, differ by {percent(differ)} of what rays vary by, "
            f"but by {percent(differ_if)}"
        )
    return GeometryFault(
        f"{what}, and {how} with {done}, and 'central_column' {found.central:.2f}.",
        differ,
        differ_if,
        {**likely, "central_column": round(found.central, 2)},
    )
