"""Are the columns and the views of a scan in their order, and is every view another one?"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from ctenhance.physics.opposite_rays import UNKNOWN, OppositeRays, Supposed
from ctenhance.runtime.progress import Cancellable, check
from ctenhance.scan.dead_columns import constant_columns
from ctenhance.scan.element_order import Order, come_as, other_order
from ctenhance.scan.geometry_fault import GeometryFault, out_of_order, percent
from ctenhance.scan.projections import Projections

#: Views by which columns are compared, columns (binned) by which views are, and columns of opposite rays.
_VIEWS, _COLUMNS, _FINE = 48, 48, 192
#: Another order is believed if opposite rays differ in it by less than this part of what they do as it is,
#: or by no more than the second; where none were measured, by less than the third. Where fewer rays than this
#: part have an opposite, they say little: they must not contradict it.
_BETTER, _AGREE, _GOOD, _FEW, _NO_WORSE = 0.8, 0.02, 0.25, 0.05, 1.5
#: Columns are in no order if neighbours differ so much, and so many times more than neighbouring views.
_NO_ORDER, _THAN_VIEWS = 0.15, 4.0
#: So many steps short of it is a whole turn. Views that are so much less evenly apart are of several turns.
_NEARLY, _UNEVEN, _MOST_TURNS = 3.0, 1.4, 4
#: Views that are looked at with the next.
_PAIRS = 8
#: Roots of transmissions of air.
_AIR = 0.9
#: Views that repeat others exactly are reported if the others differ by more than this.
_ANOTHER = 1e-3
#: Views were lost where two neighbours differ so many times more than this many around, if opposite rays then
#: differ by less than this part of what they do; so many numbers of views are tried, up to a third of all.
_LEAP, _AROUND, _MUCH_BETTER, _NUMBERS = 2.5, 5, 0.4, 24


def wrong_order(
    through: torch.Tensor, angles: torch.Tensor, claimed: Supposed, cancel: Cancellable | None = None
) -> GeometryFault | None:
    """What is likely wrong with the order of columns or views, None where nothing is known against it.

    `through`: transmissions `[slice, view, column]`. Raises Cancelled when asked to stop."""
    root = through.clamp(min=0).sqrt()
    variation = max(float((root - root.mean((1, 2), keepdim=True)).abs().mean()), 1e-9)
    fault = _repeated(root, variation)
    if fault is not None:
        return fault
    rays = OppositeRays(through, angles, _FINE)
    before = rays.disagreement(claimed)
    allowed = (_NO_WORSE if rays.measured_twice(claimed) < _FEW else _BETTER) * before
    allowed = _GOOD if before == UNKNOWN else max(allowed, _AGREE)
    columns = root[:, :: max(1, root.shape[1] // _VIEWS)].flatten(0, 1).T.contiguous()
    _fill_constant(columns.numpy(), root)
    views = F.avg_pool1d(root, max(1, root.shape[2] // _COLUMNS)).transpose(0, 1).flatten(1)
    for what, axis, elements in (("columns", 2, columns), ("views", 1, views)):
        check(cancel)
        found = other_order(elements.contiguous().numpy(), between_air=what == "columns")
        if found is None or (what == "views" and _in_turns(found.order, elements, angles)):
            continue
        order = _agreeing(found, through, angles, claimed, axis, allowed)
        if order is not None:
            begins = int(order[0]) if _one_cut(order) and what == "views" and claimed.per_column else None
            return out_of_order(
                what, come_as(np.argsort(order)), found.before / variation, found.after / variation, begins
            )
    beside = float((columns[1:] - columns[:-1]).abs().mean(1).median()) / variation
    following = float((views[1:] - views[:-1]).abs().mean(1).median()) / variation
    if beside > _NO_ORDER and beside > _THAN_VIEWS * following and before > _GOOD:
        return GeometryFault(
            f"The columns are likely in no order: those side by side differ by {percent(beside)} of what "
            f"rays vary by, views that follow each other by {percent(following)}.",
            before,
            None,
            {"columns_out_of_order": 1.0},
        )
    return None


def lost_views(through: torch.Tensor, angles: torch.Tensor, claimed: Supposed) -> GeometryFault | None:
    """The fault of a scan that lost views side by side, while its angles are spread over the whole arc."""
    n = len(angles)
    step = float(angles.diff().median())
    if n < 4 * _AROUND or step == 0:
        return None
    root = through.clamp(min=0).sqrt()
    views = F.avg_pool1d(root, max(1, root.shape[2] // _COLUMNS)).transpose(0, 1).flatten(1)
    apart = (views[1:] - views[:-1]).abs().mean(1).double() / angles.diff().abs()
    at = int(apart.argmax())
    around = torch.cat([apart[max(0, at - _AROUND) : at], apart[at + 1 : at + 1 + _AROUND]])
    if float(apart[at]) < _LEAP * float(around.median()):
        return None
    after = torch.arange(n) > at
    arc = float(angles[-1] - angles[0]) + step

    def differ(lost: int) -> float:
        gap = lost * step
        other = angles[0] + (angles - angles[0] + after * gap) * (arc / (arc + gap))
        return OppositeRays(through, other, _FINE).disagreement(claimed)

    tried = sorted({max(1, round(float(lost))) for lost in np.geomspace(1, n / 3, _NUMBERS)})
    found = {lost: differ(lost) for lost in tried}
    best = min(found, key=lambda lost: found[lost])
    # those between the two beside it
    place = tried.index(best)
    low, high = tried[max(0, place - 1)], tried[min(len(tried) - 1, place + 1)]
    for lost in range(low, high + 1, max(1, (high - low) // _AROUND)):
        found[lost] = found.get(lost) or differ(lost)
    best = min(found, key=lambda lost: found[lost])
    before = differ(0)
    if before == UNKNOWN or found[best] > min(_MUCH_BETTER * before, _GOOD):
        return None
    return GeometryFault(
        f"About {best} views were likely lost after number {at} (from 0, of those that can be used), while "
        "'/view_angles' go on evenly: the next one differs far more than others do, and opposite rays, which "
        f"should read the same, differ by {percent(before)} of what rays vary by, but by "
        f"{percent(found[best])} with a gap there. Give every view its own angle.",
        before,
        found[best],
        {"views_lost": best, "views_lost_after": at},
    )


def unlike(p: Projections) -> float:
    """How far neighbouring views, rows and columns differ together, in some views."""
    some = np.linspace(0, p.n_views - 2, min(_PAIRS, p.n_views - 1)).astype(int)
    pairs = []
    for view in (some, some + 1):
        values = np.asarray(p.readings[view], dtype=np.float32)
        values = values if p.n_bins is None or p.counts is None else values.sum(-1)
        through = np.exp(-values) if p.counts is None else values / p.air().astype(np.float32)
        pairs.append(np.sqrt(through.clip(0)))
    total = float(np.abs(pairs[1] - pairs[0]).mean())
    for axis in (1, 2):
        if pairs[0].shape[axis] > 1:
            total += float(np.abs(np.diff(pairs[0], axis=axis)).mean())
    return total


def _fill_constant(columns: np.ndarray, root: torch.Tensor) -> None:
    """Give columns `[column, feature]` that read the same in all views, as dead ones do, what lies between
    those beside them: they fit elsewhere, as in air, but belong where they stand."""
    slices = root.numpy()
    dead = np.all([constant_columns(one, np.median(one, axis=0) > _AIR) for one in slices], axis=0)
    sound = np.flatnonzero(~dead)
    for feature in columns.T if dead.any() else ():
        feature[dead] = np.interp(np.flatnonzero(dead), sound, feature[sound])


def _in_turns(order: np.ndarray, views: torch.Tensor, angles: torch.Tensor) -> bool:
    """Whether these are views of whole turns from another one on, where a gap is no fault; or those of more
    turns than one, whose positions are the same, while those that came interleaved are evenly apart."""
    ordered = views[torch.from_numpy(order)]
    apart = (ordered[1:] - ordered[:-1]).abs().mean(1)
    for turns in range(2, _MOST_TURNS + 1):
        mean = [float(apart[first::turns].mean()) for first in range(turns)]
        if max(mean) > _UNEVEN * min(mean) and np.count_nonzero(np.diff(order) != 1) > len(order) / 2:
            return True
    steps = angles.diff().abs()
    whole = float(steps.sum() + steps.median()) / (2 * np.pi)
    closed = round(whole) > 0 and abs(whole - round(whole)) * 2 * np.pi < _NEARLY * float(steps.median())
    return closed and _one_cut(order)


def _one_cut(order: np.ndarray) -> bool:
    return np.count_nonzero(np.diff(order) != 1) == 1


def _agreeing(
    found: Order, through: torch.Tensor, angles: torch.Tensor, claimed: Supposed, axis: int, allowed: float
) -> np.ndarray | None:
    """The order, or that backwards, if opposite rays differ by no more than is allowed, or none is known."""
    differ = []
    orders = [found.order, found.order[::-1].copy()]
    for order in orders:
        other = through.index_select(axis, torch.from_numpy(order))
        differ.append(OppositeRays(other, angles, _FINE).disagreement(claimed))
    best = int(np.argmin(differ)) if min(differ) < 0.9 * max(differ) else 0
    return orders[best] if differ[best] <= allowed else None


def _repeated(root: torch.Tensor, variation: float) -> GeometryFault | None:
    """Views that are the one before once more."""
    change = (root[:, 1:] - root[:, :-1]).abs().mean((0, 2)) / variation
    same = change == 0
    again = int(same.sum())
    if not 0 < again < len(same) or float(change[~same].median()) < _ANOTHER:
        return None
    first = int(same.nonzero()[0, 0]) + 1
    which = f"View {first} repeats" if again == 1 else f"{again} views (the first: {first}) repeat"
    return GeometryFault(
        f"{which} the readings of the view before exactly, though '/view_angles' says another angle: views "
        "were written twice, and others are missing or stand at wrong angles.",
        0.0,
        None,
        {"repeated_views": again},
    )
