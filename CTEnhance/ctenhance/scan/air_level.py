"""Do rays through air read zero, and do counts lie between zero and those in air?

Air counts that are too low, or line integrals with an offset, leave opposite rays in agreement, but all
values of the image are off. They show at the detector's ends, beside the body. Too high air counts look there
like a body that reaches beyond the detector; but such a body's line integrals fall steeply outwards, and
differ from view to view and from end to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ctenhance.physics.truncation import TRUNCATED
from ctenhance.scan.projections import Projections
from ctenhance.scan.some_rows import Row

#: Columns of an end that are looked at (and the largest part of all), and views that are taken together.
_COLUMNS, _PART, _VIEWS = 12, 8, 9
#: Rays through air read less than zero by this, and by so many SE of how their columns differ.
_TOO_LOW, _SE = 0.03, 4.0
#: So much at most a bin reads through air that others are held against; of a bin that is off by its air
#: counts both ends, and their columns, read the same to such a part.
_READS_ZERO, _ALIKE = 0.015, 0.2
#: An offset is no larger than this; both ends, the halves of an end, and nearly all views agree on it to such
#: parts of it.
_LARGEST, _ENDS, _FLAT, _SAME = 1.5, 0.1, 0.1, 0.2
#: Counts that overflowed 16 bits: neighbours differ by 2^16 within this part of it, in such a part of rays.
_WORD, _NEAR, _OVERFLOWED = 65536.0, 0.25, 1e-3
#: Counts are clipped where more than this part of them are the same, the largest, and that lies below this
#: part of those in air.
_CLIPPED, _BELOW_AIR = 0.02, 0.95
#: Readings lie on so few levels, of which a step is more than this part of counts that are low, or than this
#: in line integrals; noise changes neighbouring views by this part of what quanta would, or of a step.
_MOST_LEVELS, _UNEVEN, _LOW, _OF_LOW, _OF_LINE, _OF_NOISE = 4096, 0.02, 0.1, 0.25, 0.05, 0.5
#: A row reads otherwise than those beside it by this through air, in so many rays (and part of all); views
#: that are looked at.
_ROW_OFF, _FEWEST_RAYS, _RAYS, _SOME_VIEWS, _IN_AIR = 0.02, 50, 0.02, 24, 0.1
_NAMED = 8


def air_offset(line_integrals: torch.Tensor) -> float | None:
    """What rays `[view, column]` through air read, by the detector's ends: below zero, or, where both ends
    have the same, above 0.1; None where neither is certain."""
    n = max(1, min(_COLUMNS, line_integrals.shape[1] // _PART))
    sides = [x.double().numpy() for x in (line_integrals[:, :n], line_integrals[:, -n:])]
    columns = [np.median(side, 0) for side in sides]
    levels = [float(column.mean()) for column in columns]
    least = max(_TOO_LOW, _SE * max(float(column.std()) for column in columns) / n**0.5)
    in_air = [level for level in levels if level < TRUNCATED]
    if in_air:
        return max(in_air) if max(in_air) < -least else None
    level = sum(levels) / 2
    if level > _LARGEST or abs(levels[1] - levels[0]) > _ENDS * level:
        return None
    for side, column in zip(sides, columns, strict=True):
        several = len(side) // _VIEWS * _VIEWS
        views = side[:several].mean(1).reshape(-1, _VIEWS).mean(1) if several else side.mean(1)
        low, high = np.quantile(views, (0.05, 0.9))
        half = max(1, n // 2)
        if high - low > _SAME * level or abs(column[:half].mean() - column[-half:].mean()) > _FLAT * level:
            return None
    return level


def air_warning(rows: Sequence[Row]) -> str | None:
    """A warning where rays through air read less than zero in one of these rows; None where none do."""
    found = {row.number: air_offset(row.line_integrals) for row in rows}
    low = {row: offset for row, offset in found.items() if offset is not None and offset < 0}
    if not low:
        return None
    row = min(low, key=lambda one: low[one])
    why = "the line integrals have an offset"
    if rows[0].alone.counts is not None:
        why = f"the air counts are {np.exp(-low[row]):.3g} times too low"
    return (
        f"Rays through air read {low[row]:.2g} and not 0 (row {row}, from 0): probably {why}, or scatter was "
        "not taken off. All values of the image are then wrong, the body's too low."
    )


def bin_air_warning(rows: Sequence[Row]) -> str | None:
    """A warning where single energy bins read otherwise through air than a bin that reads zero, in one of
    these rows; None where none do."""
    for row in rows:
        p = row.alone
        if p.counts is None or p.n_bins is None:
            break
        counts = np.asarray(p.counts, dtype=np.float64)[:, 0]
        air = np.stack([np.broadcast_to(p.air(b), p.n_columns) for b in range(p.n_bins)], -1)
        n = max(1, min(_COLUMNS, p.n_columns // _PART))
        ends, uneven = [], np.zeros(p.n_bins)
        for end in (slice(None, n), slice(-n, None)):
            part = counts[:, end].sum(1) / np.maximum(air[end].sum(0), 1e-9)
            ends.append(-np.log(np.median(part, axis=0).clip(min=1e-9)))
            columns = counts[:, end].mean(0) / np.maximum(air[end], 1e-9)
            uneven = np.maximum(uneven, np.log(columns.clip(min=1e-9)).std(0))
        levels, apart = (ends[0] + ends[1]) / 2, np.abs(ends[0] - ends[1])
        # thresholds drift by column; a body that reaches beyond the detector attenuates all bins
        off = np.flatnonzero(
            (np.abs(levels) > _TOO_LOW) & (np.maximum(apart, uneven) < _ALIKE * np.abs(levels))
        )
        if off.size and float((np.abs(levels) + apart).min()) < _READS_ZERO:
            which = int(off[np.abs(levels[off]).argmax()])
            factor = float(np.exp(-abs(levels[which])))
            how = f"{1 / factor:.3g} times too {'low' if levels[which] < 0 else 'high'}"
            return (
                f"Rays through air read {levels[which]:.2g} and not 0 in energy bin {which} (from 0, row "
                f"{row.number}), while other bins read 0: probably its '/air_counts' are {how} (of another "
                "exposure), or its thresholds drifted. Maps and images are wrong over the whole body: give "
                "the air counts of this scan."
            )
    return None


def counts_warning(rows: Sequence[Row]) -> str | None:
    """A warning where counts in these rows overflowed 16 bits or were clipped, or readings have few levels;
    None where they did not."""
    for row in rows:
        p = row.alone
        if p.counts is None:
            break
        counts = np.asarray(p.counts)[:, 0]
        for b in range(p.n_bins or 1):
            read = counts if p.n_bins is None else counts[..., b]
            air = float(np.min(p.air(None if p.n_bins is None else b)))
            where = f"in row {row.number}" + ("" if p.n_bins is None else f" and bin {b}") + " (from 0)"
            lowest, highest = float(read.min()), float(read.max())
            jump = np.abs(np.abs(np.diff(read, axis=1)) - _WORD) < _NEAR * _WORD
            fits = any(start <= lowest and highest <= start + _WORD for start in (0.0, -_WORD / 2))
            if fits and air > _WORD / 2 and jump.mean() > _OVERFLOWED:
                return (
                    f"Counts overflowed 16 bits {where}: neighbouring columns differ by about 65536 in "
                    f"{np.count_nonzero(jump)} places, and none reads more than {highest:.6g} where air "
                    f"counts are {air:.6g}. The image means nothing: store them as float32 or with 32 bits."
                )
            share = float(np.mean(read == highest))
            if share > _CLIPPED and highest < _BELOW_AIR * air:
                return (
                    f"{share:.0%} of the counts {where} are {highest:.6g} exactly and none is more, where "
                    f"air counts are {air:.6g}: they were clipped, or the air counts are of another scan. "
                    "Values are wrong in the whole image."
                )
    return levels_warning(rows)


def levels_warning(rows: Sequence[Row]) -> str | None:
    """A warning where readings in these rows lie on few levels, as of files that lost their lower bits; None
    where they do not, or as quanta do that are few."""
    for row in rows:
        p = row.alone
        readings = np.asarray(p.readings)[:, 0]
        for b in range(p.n_bins or 1):
            read = (readings if p.n_bins is None else readings[..., b]).astype(np.float64)
            step = _step(read)
            low = float(np.quantile(read, _LOW))
            if step is None or step <= (_OF_LINE if p.counts is None else _OF_LOW * max(low, 0.0)):
                continue
            # Where most quanta come through their noise is the most beside a step.
            bright = read >= (read.min() if p.counts is None else 0.5 * read.max())
            change = np.abs(np.diff(read, axis=0)[bright[1:] & bright[:-1]])
            of_quanta = step if p.counts is None else float(np.sqrt(step * read[bright].mean()))
            if change.size and float(np.median(change)) >= _OF_NOISE * of_quanta:
                continue
            where = f"in row {row.number}" + ("" if p.n_bins is None else f" and bin {b}") + " (from 0)"
            what = "Line integrals" if p.counts is None else "Counts"
            lowest = "" if p.counts is None else f", and a tenth of them are {low:g} or less"
            return (
                f"{what} {where} are all in steps of {step:.4g}{lowest}: their lower bits were lost, as "
                "where they were stored in too few. Values are wrong in the whole image: store them as "
                "float32."
            )
    return None


def _step(read: np.ndarray) -> float | None:
    """The step between the levels that all readings lie on; None where these are many or uneven."""
    levels = np.unique(read)
    if not 2 < len(levels) <= _MOST_LEVELS:
        return None
    steps = np.diff(levels)
    step = float(steps.min())
    return step if np.abs(steps / step - np.round(steps / step)).max() < _UNEVEN else None


def rows_warning(projections: Projections) -> str | None:
    """A warning where single rows read otherwise through air than the rows beside them, or are copies; None
    where none do."""
    p = projections
    if p.n_rows < 3:
        return None
    every = max(1, p.n_views // _SOME_VIEWS)
    name = "line_integrals" if p.counts is None else "counts"
    few: Projections = replace(p, **{name: p.readings[::every]}, view_angles=p.view_angles[::every])  # type: ignore[arg-type]
    known: dict[bytes, int] = {}
    lines = np.empty((p.n_rows, len(few.view_angles), p.n_columns), np.float32)
    for row in range(p.n_rows):
        lines[row] = few.rows(row, row + 1).to_line_integrals()[0].numpy()
        same = known.setdefault(lines[row].tobytes(), row)
        if same != row and lines[row].min() < lines[row].max():
            return (
                f"Rows {same} and {row} (from 0) read exactly the same, as no two of a scan do: one was "
                "written twice, and another may be lost."
            )
    off = {}
    for row in range(p.n_rows):
        beside = lines[[one for one in (row - 1, row + 1) if 0 <= one < p.n_rows]]
        if row in (0, p.n_rows - 1):
            beside = lines[[1, 2] if row == 0 else [-2, -3]]
        in_air = np.abs(beside).max(0) < _IN_AIR
        if in_air.sum() >= max(_FEWEST_RAYS, _RAYS * in_air.size):
            off[row] = float(np.median(lines[row][in_air]) - np.median(beside.mean(0)[in_air]))
    odd = [
        row
        for row, by in off.items()
        # Of neighbours each finds the other odd: the odder one is meant.
        if abs(by) > _ROW_OFF and all(abs(by) > 1.5 * abs(off.get(one, 0.0)) for one in (row - 1, row + 1))
    ]
    if not odd or 2 * len(odd) > p.n_rows:
        return None
    row = max(odd, key=lambda one: abs(off[one]))
    named = ", ".join(map(str, odd[:_NAMED])) + (", …" if len(odd) > _NAMED else "")
    return (
        f"{'Row' if len(odd) == 1 else 'Rows'} {named} of {p.n_rows} (from 0) read otherwise through air "
        f"than the rows beside (by {off[row]:.2g} in row {row}): probably wrong air counts or a wrong gain "
        "there. The values of these slices, and of those made with them, are then wrong."
    )
