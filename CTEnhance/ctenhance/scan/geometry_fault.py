"""What is likely wrong with a scan's geometry, in a sentence for the user and in fields for the report."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ctenhance.physics.opposite_rays import UNKNOWN, Supposed
from ctenhance.scan.projections import Projections

#: A central column that is closer to the file's is taken for it.
COLUMNS = 0.15
#: Where readers keep what they found wrong with the geometry, and what they could not check, in `meta`.
WARNING, NOTE = "geometry_warning", "geometry_note"
_AXES = ("views", "rows", "columns")


@dataclass(frozen=True)
class GeometryFault:
    """What is likely wrong: a sentence for the user; for the report how far opposite rays differ (0 to 1) as
    the file has it and, `differ_if`, as is likely (None where no geometry helps), and the `likely` fields.
    Not `certain`: what the views show beside each other explains it better, if they do."""

    sentence: str
    differ: float
    differ_if: float | None
    likely: dict[str, Any] = field(default_factory=dict)
    certain: bool = True


def percent(share: float) -> str:
    """A share in per cent, to two figures."""
    return f"{float(f'{100 * share:.2g}'):g} %"


def unexplained(differ: float) -> str:
    """A sentence on opposite rays that differ much, as no geometry that was tried explains."""
    return (
        f"The readings of opposite rays, which should be the same, differ by {percent(differ)} of what rays "
        "vary by, and no simple change of the geometry mends that. Either angles or geometry are not what "
        "the file says (views lost while '/view_angles' go on evenly, for one), or the readings are not "
        "divided by their own air (the tube's current, gains, dead columns), or the patient moved far."
    )


def out_of_order(
    what: str, come_as: str, before: float, after: float, missing_before: int | None = None
) -> GeometryFault:
    """Rows, columns or views that are not in their order, or where some may be missing."""
    by_name = come_as.startswith(("0, 1, 10, 100", "0, 9, 99"))
    hint = " (as files sorted by name do: 1, 10, 100, 2)" if by_name else ""
    if missing_before is not None:
        hint = f" (or some are missing between views {missing_before - 1} and {missing_before})"
    return GeometryFault(
        f"The {what} are likely not in their order: they come as {come_as}{hint}. Beside each other they "
        f"differ by {percent(before)} of what rays vary by, and by {percent(after)} once put in order.",
        before,
        after,
        {f"{what}_come_as": come_as},
    )


def another_geometry(
    p: Projections,
    claimed: Supposed,
    s: Supposed,
    differ: float,
    differ_if: float,
    exchanged: tuple[int, ...] | None,
    either: bool,
    over_noise: tuple[float, float] | None = None,
) -> GeometryFault:
    """The fault of a scan that was made as `s` says, and not as `claimed`; `exchanged`: two axes that
    are, or all three as they lie in memory, the slowest first.

    `either`: columns in the reverse order would explain another central column, too; `over_noise`: by how
    much more than their noise opposite rays differ, now and then, to be said in place of both."""
    columns = p.n_columns
    likely: dict[str, Any] = {}
    changes = []
    moved = abs(s.central - claimed.central) >= COLUMNS
    if exchanged is not None:
        changes.append(_lie_as(p, exchanged, likely))
    if s.turn < 0:
        likely["reversed"] = "view_angles or columns"
        changes.append(_reversed(claimed, s, columns))
    elif moved:
        likely["central_column"] = round(s.central, 2)
        text = f"'central_column' is changed from {claimed.central:g} to {s.central:.2f}"
        or_else = []
        if either:
            or_else.append("the columns are in the reverse order")
        arc = abs(float(p.view_angles[-1] - p.view_angles[0]))
        if exchanged is None and arc < 2 * math.pi - 3 * arc / (p.n_views - 1):
            or_else.append("the patient moved between the first and the last view")
        changes.append(text + (f" (or {', or '.join(or_else)})" if or_else else ""))
    changes += _columns_changed(p, claimed, s, likely)
    if abs(s.turn) != 1:
        step = math.degrees(abs(float(np.median(np.diff(p.view_angles)))))
        likely["view_angle_factor"] = round(abs(s.turn), 5)
        once_too_few = abs((1 - abs(s.turn)) * p.n_views - 1) < 0.1
        repeated = " (the last view does not repeat the first)" if once_too_few else ""
        changes.append(
            f"the views advance by {abs(s.turn) * step:.4g} degrees instead of {step:.4g}, "
            f"{abs(s.turn) * step * p.n_views:.4g} in all{repeated}"
        )
    what = " and ".join(changes)
    if differ < UNKNOWN:
        before, after = over_noise or (differ, differ_if)
        beyond = " beyond their noise" if over_noise else ""
        sentence = (
            "The geometry is likely wrong: opposite rays, which should read the same, differ by "
            f"{percent(before)} of what rays vary by{beyond}, but by {percent(after)} once {what}."
        )
    else:
        sentence = (
            "The geometry is likely wrong: hardly any ray is measured from both sides, but many are, and "
            f"agree within {percent(differ_if)} of what rays vary by, once {what}."
        )
    return GeometryFault(sentence, differ, differ_if, likely)


def _reversed(claimed: Supposed, s: Supposed, columns: int) -> str:
    """Which of the two has to be reversed, the one first that needs no other central column."""
    options = []
    for what, central in (
        ("the columns are put into the reverse order", columns - 1 - s.central),
        ("'/view_angles' change their sign", s.central),
    ):
        away = abs(central - claimed.central)
        also = f" and 'central_column' becomes {central:.2f}" if away >= COLUMNS else ""
        options.append((away >= COLUMNS, f"{what}{also}"))
    options.sort(key=lambda option: option[0])
    return (
        f"{options[0][1]} (or {options[1][1]}: these are mirror images of each other, and no readings tell "
        "which is the patient)"
    )


def _lie_as(p: Projections, axes: tuple[int, ...], likely: dict[str, Any]) -> str:
    """How readings lie whose axes are exchanged, or that were reshaped in another order than they lie in."""
    if len(axes) == 2:
        names = [_AXES[axis] for axis in axes]
        likely["exchanged_axes"] = names
        return f"the axes of {names[0]} and {names[1]} are exchanged"
    likely["axes_lie_as"] = [_AXES[axis] for axis in axes]
    lengths, back = tuple(p.shape[axis] for axis in axes), tuple(np.argsort(axes).tolist())
    one, two, three = likely["axes_lie_as"]
    return (
        f"they are taken as they lie, {three} following each other first, then {two}, then {one} (numpy: "
        f"readings.reshape{lengths}.transpose{back})"
    )


def _columns_changed(p: Projections, claimed: Supposed, s: Supposed, likely: dict[str, Any]) -> list[str]:
    """What the columns' spacing and the detector's shape are instead of the file's."""
    if s.flat == claimed.flat and abs(s.per_column - claimed.per_column) <= 1e-9:
        return []
    if not claimed.per_column:
        likely["geometry"] = "fan"
        return [f"'geometry' is changed to a fan, with {abs(s.per_column):.4g} rad between columns"]
    if not s.per_column:
        likely["geometry"] = "parallel"
        return ["'geometry' is changed to parallel"]
    if s.flat != claimed.flat:
        shape = "fan_flat" if s.flat else "fan_equiangular"
        distance = float(p.source_to_detector_mm or 1)
        name, pitch = (
            ("column_pitch_mm", s.per_column * distance) if s.flat else ("column_pitch_rad", s.per_column)
        )
        likely |= {"geometry": shape, name: pitch}
        return [f"'geometry' is changed to {shape}, with '{name}' {pitch:.4g}"]
    factor = s.per_column / claimed.per_column
    if not s.flat:
        likely["column_pitch_rad"] = s.per_column
        return [f"'column_pitch_rad' is changed from {claimed.per_column:.4g} to {s.per_column:.4g}"]
    pitch, distance = float(p.column_pitch_mm or 0), float(p.source_to_detector_mm or 0)
    likely["column_pitch_mm"] = pitch * factor
    text = f"'column_pitch_mm' is changed from {pitch:.4g} to {pitch * factor:.4g}"
    if distance / factor > float(p.source_to_isocenter_mm or 0):
        text += f", or 'source_to_detector_mm' from {distance:.4g} to {distance / factor:.4g}"
    return [text]
