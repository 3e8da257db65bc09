"""Do single columns of the detector read otherwise than those beside them: nothing, the same, or too much?

Opposite rays hardly notice a few such columns, but each makes a ring in the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctenhance.scan.dead_columns import constant_columns, noise_alone
from ctenhance.scan.some_rows import Row

#: Line integrals of air; a column is dead where so many of its readings are nothing.
_AIR, _NOTHING = 0.2, 0.9
#: It is off where its median differs from the mean of its neighbours' by this, by so many times what is
#: usual, and by so many times what noise can make.
_OFF, _TIMES_USUAL, _FEWEST, _SURELY = 0.05, 15.0, 16, 6.0
_NAMED = 6


def column_warning(rows: Sequence[Row]) -> str | None:
    """A warning on columns that are dead or off in one of these rows; None where none are."""
    for row in rows:
        one, values = row.alone, row.lines
        if values.shape[1] < _FEWEST:
            return None
        nothing = np.zeros(values.shape[1], bool)
        if one.counts is not None:
            counts = np.asarray(one.counts)  # of several bins the sum
            counts = counts.reshape(*values.shape, -1).sum(axis=2)
            total, square = (x.sum(axis=0, dtype=np.float64)[None] for x in (counts, np.square(counts)))
            nothing = np.mean(counts <= 0, axis=0) >= _NOTHING
            nothing |= noise_alone(total, square, len(counts), one.electronic_noise_variance)[0]
        same = constant_columns(values, np.abs(np.median(values, axis=0)) <= _AIR, ~nothing)
        dead = nothing | same
        if dead.any() and not dead.all():
            return (
                f"{named('Column', np.flatnonzero(dead))} of the detector (counted from 0) read nothing, or "
                f"the same, in all views (row {row.number}): rings, and wrong values near them; fill them "
                "from the columns beside them first."
            )
        differences = values[:, 1:-1] - (values[:, :-2] + values[:, 2:]) / 2
        middle = np.median(differences, axis=0)
        # Behind a thick body few quanta are left, and medians are off by noise alone.
        of_noise = _SURELY * differences.std(axis=0) / np.sqrt(len(values))
        typical = float(np.median(np.abs(middle - np.median(middle))))
        least = np.maximum(of_noise, max(_OFF, _TIMES_USUAL * typical))
        # At the edge of a round body its neighbours differ, too; beside one that is off they are two that
        # seem to be so, by half as much.
        across = np.abs(np.median(values[:, 2:] - values[:, :-2], axis=0))
        off = np.flatnonzero((np.abs(middle) > least) & (np.abs(middle) > 2 * across)) + 1
        if 0 < off.size <= max(1, values.shape[1] // 10):
            by = middle[off - 1]
            largest = float(by[np.abs(by).argmax()])
            return (
                f"{named('Column', off)} of the detector (counted from 0) read otherwise than those beside "
                f"them in all views, by up to {largest:+.2g} (row {row.number}): rings; calibrate the "
                "detector anew, or fill them from the columns beside them first."
            )
    return None


def named(what: str, places: np.ndarray) -> str:
    """Return 'Column 3', or 'Columns 3, 5 to 8': `what` with its places, which grow, runs of them joined."""
    runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    some = ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs[:_NAMED])
    some += ", …" if len(runs) > _NAMED else ""
    return f"{what}{'' if len(places) == 1 else 's'} {some}"
