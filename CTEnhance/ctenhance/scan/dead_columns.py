"""Detector columns that count nothing: found over the whole scan, and filled in from their neighbours.

A column without a count in any view is broken (or, in one energy bin, its counter is). Left alone it makes a
ring that spoils the whole image, since behind the logarithm nothing stands for the most attenuation there is.
Wider runs of such columns are left as they are: something stands in their way, or no beam reaches them
(`column_check` tells of them).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ctenhance.core.arrays import blocks
from ctenhance.runtime.progress import Cancellable, Progress, check

#: Most columns side by side that are filled in.
MOST_TOGETHER = 3
#: What a dead column counts in all views together lies within so many SD of the electronics' noise.
_NOISE_SD = 6.0
#: Those beside it count so many times as much at least.
_FAR_MORE = 3.0
#: A column reads the same where it varies by less than this part of what is usual; those beside it see the
#: body where they vary by more than the second.
_CONSTANT, _BODY = 0.01, 0.1


def dead_columns(
    counts: np.ndarray,
    electronic_variance: float,
    progress: Progress | None = None,
    cancel: Cancellable | None = None,
) -> np.ndarray:
    """Whether columns of `[view, row, column(, bin)]` count nothing in any view, `[row, column(, bin)]`.

    Reads all counts, in blocks of views. Raises Cancelled when asked to stop."""
    total, square = np.zeros(counts.shape[1:]), np.zeros(counts.shape[1:])
    for part in blocks(counts.shape):
        check(cancel)
        if progress is not None:
            progress("check", part.start, counts.shape[0])
        values = np.asarray(counts[part])
        total += values.sum(0, dtype=np.float64)
        if electronic_variance:
            square += np.square(values, dtype=np.float32).sum(0, dtype=np.float64)
    if progress is not None:
        progress("check", counts.shape[0], counts.shape[0])
    dead = noise_alone(total, square, counts.shape[0], electronic_variance)
    run = np.ones((1, MOST_TOGETHER + 1, 1)[: dead.ndim], dtype=bool)
    return dead & ~ndimage.binary_opening(dead, run)


def noise_alone(total: np.ndarray, square: np.ndarray, views: int, electronic_variance: float) -> np.ndarray:
    """Whether columns of `[row, column(, bin)]` read the electronics' noise alone, those beside them more.

    `total`, `square`: their counts, and the squares of these, added up over so many views. Behind a thick
    body little more than noise is left, too, but it grows less from column to column."""
    # and of what is read itself: the variance may be in another unit, as of readings normalised to air
    most = _NOISE_SD * np.sqrt(np.minimum(views * electronic_variance, square))
    found = total <= most
    along = np.zeros((3,) * total.ndim, bool)
    along[(1, slice(None), 1)[: total.ndim]] = True
    for run in ndimage.find_objects(ndimage.label(found, along)[0]) if electronic_variance else []:
        row, columns, *energy_bin = run
        beside = (row, [x for x in (columns.start - 1, columns.stop) if 0 <= x < total.shape[1]], *energy_bin)
        if (total[beside] <= _FAR_MORE * most[run].max()).any():
            found[run] = False
    return found


def constant_columns(values: np.ndarray, air: np.ndarray, of: np.ndarray | None = None) -> np.ndarray:
    """Whether columns of `[view, column]` read the same in all views, though others beside them do not.

    `air`: of each column whether it reads what air does, as it may beside the body, but not within it: in
    half a turn all that lies nearer to the axis than some of the body sees it, too. `of`: the columns of
    which the usual variation is taken."""
    spread = values.std(axis=0)
    typical = spread if of is None or not of.any() else spread[of]
    reference = float(np.median(typical))
    same = spread < _CONSTANT * reference
    varying, body = np.flatnonzero(~same), np.flatnonzero(spread > _BODY * reference)
    # At the ends counts were clipped, or an offset is there, of which others tell.
    same[: varying.min(initial=same.size)] = same[varying.max(initial=-1) + 1 :] = False
    for column in np.flatnonzero(same & air):
        at = np.searchsorted(varying, column)
        same[column] = bool(np.isin(varying[[at - 1, at]], body).all())
    return same


def notes_of(dead: np.ndarray) -> list[str]:
    """A sentence for the user on the dead columns; empty where there are none."""
    if not dead.any():
        return []
    row, column = np.argwhere(dead)[0][:2].tolist()
    return [
        f"{np.count_nonzero(dead)} of the detector's {dead.size} elements count nothing in any view (the "
        f"first in row {row}, column {column}, from 0): they were filled in from their neighbours."
    ]


def fill_in(counts: np.ndarray, dead: np.ndarray, air: np.ndarray) -> None:
    """Give the dead columns of `[view, row, column(, bin)]`, in place, transmissions between those of their
    neighbours; `air` `[column(, bin)]`: quanta without an object."""
    for row, column, *energy_bin in np.argwhere(dead).tolist():
        read, broken, quanta = counts[:, row], dead[row], air
        if energy_bin:
            read, broken, quanta = (x[..., energy_bin[0]] for x in (read, broken, quanta))
        sound = np.flatnonzero(~broken)
        ends = [*sound[sound < column][-1:].tolist(), *sound[sound > column][:1].tolist()]
        if ends:
            first, last = (read[:, end] / quanta[end] for end in (ends[0], ends[-1]))
            share = (column - ends[0]) / (ends[-1] - ends[0]) if len(ends) > 1 else 0.0
            read[:, column] = (first + share * (last - first)) * quanta[column]
