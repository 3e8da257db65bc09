"""Do single views read otherwise than those beside them in all columns, as where the tube arced?

A tube that arcs, or whose voltage or current drops for a moment, leaves some views with fewer quanta in every
column, those through air too. Bodies change from view to view as well, but upwards in some columns and
downwards in others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ctenhance.scan.column_check import named
from ctenhance.scan.geometry_fault import GeometryFault
from ctenhance.scan.some_rows import Row

# The figures in the reasons below are of the simulated ellipses and discs of the tests: without noise, with
# 1e5 and with 300 quanta, fans and parallel beams of 60 to 300 views.
#: Parts of the detector that are compared: each averages 16 columns or more of a usual detector, so that
#: noise hardly shows, and a body still reaches some of them only.
_PARTS = 32
#: Views on either side that a view is held against, or this part of all where that is more: wider than the
#: few views of an arc, which the median then passes over, and within 6 degrees of a full turn, over which the
#: outline of a body hardly changes. With fewer views than the last these are no neighbours.
_BESIDE, _PART_OF_ALL, _FEWEST = 7, 60, 30
#: A view is odd where its line integrals are off by this (5 % of the quanta; sound scans reach 0.034 with 300
#: quanta and 0.0014 with 1e5, a tube that arced 0.4 and more) and by so many times the median of all views
#: (where noise sets it, sound scans reach 13).
_OFF, _TIMES_USUAL = 0.05, 15.0
#: In so many of the parts by at least such a share of it: noise and bodies, which add in some columns and
#: lack in others, reach 0.75 of them, failing tubes 0.94 and more. The share
#: leaves room for a dropped voltage, which takes less from air than from behind the body.
_ALIKE, _SHARE = 0.7, 0.3
#: More odd views than this part of all are no accidents, but another way to scan, such as a current that
#: pulses.
_MOST = 0.1
#: Columns that are averaged before a slope is taken: noise falls by half and more, an edge of a body stays
#: one.
_SMOOTH = 5
#: Columns by which every second view is aside at least, and so many times its standard error: sound scans
#: reach 0.07 columns (300 quanta) and 3.5 standard errors, and a focal spot that moves to and fro does so by
#: 0.25 or 0.5.
_LEAST_ASIDE, _TIMES_SE = 0.12, 6.0
#: A central column is that of one half of the views, to so many columns, if it is half of that aside.
_OF_ONE_HALF = 0.2


def views_aside(rows: Sequence[Row], differ: float, centre: float | None = None) -> GeometryFault | None:
    """The fault of a scan in which every second view lies aside of the others; None where none does.

    `differ`: how far opposite rays differ, for the report; `centre`: the central column with which they agree
    best, where it is not the file's."""
    for row in rows:
        if aside := abs(aside_in_turn(row.lines)):
            claimed, likely, between = row.alone.central_column, {"views_aside_in_turn": round(aside, 2)}, ""
            if centre is not None:
                between = f" In the middle between both the central column is {centre:.2f}"
                of_one_half = abs(abs(centre - claimed) - aside / 2) < _OF_ONE_HALF
                between += f"; the file's, {claimed:g}, is that of one half of them." if of_one_half else "."
                likely |= {} if of_one_half else {"central_column": centre}
            return GeometryFault(
                f"Every second view lies {aside:.2g} columns aside of the others (row {row.number}), as with "
                "a focal spot that moves to and fro, of which the file tells nothing: edges are unsharp and "
                "doubled. Put the columns of each two views together, one from each in turn, into one of "
                f"twice as many columns, or shift them onto each other.{between}",
                differ,
                None,
                likely,
            )
    return None


def aside_in_turn(line_integrals: np.ndarray) -> float:
    """By how many columns every second view of line integrals [view, column] lies aside; 0 where none does.

    What a view is off the mean of its neighbours is then its slope along the columns, of one sign in turn.
    """
    if len(line_integrals) < _FEWEST or line_integrals.shape[1] < _PARTS:
        return 0.0
    # Noise is less, and the slope the same, in the mean of neighbouring columns.
    smooth = ndimage.uniform_filter1d(line_integrals, _SMOOTH, axis=1, mode="nearest")
    off = smooth[1:-1] - (smooth[:-2] + smooth[2:]) / 2
    slope = np.gradient(smooth, axis=1)[1:-1]
    # A body that the detector cuts off slopes to one side, as which other gains in turn would pass.
    off, slope = (one - one.mean(axis=1, keepdims=True) for one in (off, slope))
    power = np.maximum(np.sum(slope**2, axis=1), 1e-12)
    aside = np.sum(off * slope, axis=1) / power * np.where(np.arange(len(off)) % 2, 1.0, -1.0)
    middle, error = float(np.median(aside)), 1.25 * float(aside.std()) / len(aside) ** 0.5
    return middle if abs(middle) > max(_LEAST_ASIDE, _TIMES_SE * error) else 0.0


def view_offsets(line_integrals: np.ndarray) -> np.ndarray:
    """By how much each view of line integrals [view, column] is off in all columns; 0 where it is not."""
    found = np.zeros(len(line_integrals))
    if len(line_integrals) < _FEWEST:
        return found
    parts = np.array_split(line_integrals, min(_PARTS, line_integrals.shape[1]), axis=1)
    binned = np.stack([part.mean(axis=1) for part in parts], axis=1)
    beside = max(_BESIDE, len(binned) // _PART_OF_ALL)
    apart = binned - ndimage.median_filter(binned, size=(2 * beside + 1, 1), mode="nearest")
    offsets = np.median(apart, axis=1)
    least = max(_OFF, _TIMES_USUAL * float(np.median(np.abs(offsets))))
    alike = np.mean(apart * np.sign(offsets)[:, None] > _SHARE * np.abs(offsets)[:, None], axis=1)
    odd = (np.abs(offsets) > least) & (alike >= _ALIKE)
    if odd.any() and odd.mean() <= _MOST:
        off, sound = np.flatnonzero(odd), np.flatnonzero(~odd)
        between = np.stack([np.interp(off, sound, part) for part in binned[sound].T], axis=1)
        found[off] = np.median(binned[off] - between, axis=1)
    return found


def view_warning(rows: Sequence[Row]) -> str | None:
    """A warning on views in which the tube failed in one of these rows; None where none are."""
    for row in rows:
        offsets = view_offsets(row.lines)
        odd = np.flatnonzero(offsets)
        if odd.size:
            largest = float(offsets[odd][np.abs(offsets[odd]).argmax()])
            how = f"count up to {np.exp(abs(largest)):.3g} times {'less' if largest > 0 else 'more'} than"
            if row.alone.counts is None:
                how = f"have line integrals off by up to {largest:+.2g} from"
            return (
                f"{named('View', odd)} (counted from 0) {how} those beside them, in all columns (row "
                f"{row.number}): probably the tube arced, or its voltage or current dropped. They make "
                "streaks: leave them out, of the readings and of '/view_angles', or divide them by their own "
                "air."
            )
    return None
