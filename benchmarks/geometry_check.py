"""Does the check of the geometry find what is wrong, and is it silent where nothing is?

    python benchmarks/geometry_check.py --out benchmarks/results/geometry_check.md     real anatomy
    python benchmarks/geometry_check.py --order --views 360 --columns 256 --patients 3 \\
        --out benchmarks/results/geometry_order.md      rows, columns and views out of place

Three slices of each scan are projected by the product and, where it is installed, by ASTRA (a library of its
own: `pip install astra-toolbox`), get noise, are told with a wrong geometry and checked; then with the right
geometry and bad readings. A fault counts as found if the warning names it (and a central column is right to
0.3 of a column); everything said of a right geometry is a false alarm.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "CTEnhance"))
from ctenhance.scan.geometry_check import check_geometry
from ctenhance.scan.projections import Projections
from ctenhance.scan.simulate import (
    SOURCE_TO_DETECTOR_MM,
)
from geometry_scans import (
    DOSES,
    ELECTRONIC,
    KINDS,
    OFFSET,
    PATIENTS,
    QUANTA,
    Body,
    Scanner,
    astra,
    bad_readings,
    bodies,
    changed,
)
from tables import NONE, Table

Wrong = Callable[[Projections], Projections]
Named = Callable[[dict[str, Any], Projections], bool]
RIGHT_WITHIN = 0.3


def _centre(found: dict[str, Any], p: Projections) -> bool:
    return set(found) == {"central_column"} and abs(found["central_column"] - p.central_column) < RIGHT_WITHIN


def off_by(columns: float) -> tuple[Wrong, Named]:
    return lambda p: replace(p, central_column=p.central_column + columns), _centre


def half_fan(p: Projections) -> Projections:
    """Two fifths of the columns cut off one side, as by a detector that stands aside to see more."""
    cut = 2 * p.n_columns // 5
    return changed(p, lambda r: r[:, :, cut:], central_column=p.central_column - cut)


def half_fan_off_by(columns: float) -> tuple[Wrong, Named]:
    wrong, right = off_by(columns)
    return lambda p: wrong(half_fan(p)), lambda found, p: right(found, half_fan(p))


def named(*keys: str) -> Named:
    return lambda found, _p: set(found) == set(keys)


def faults(kind: str) -> dict[str, tuple[Wrong, Named]]:
    """What is told wrong, and whether what was found is that."""
    every: dict[str, tuple[Wrong, Named]] = {
        f"central column off by {off:g}": off_by(off) for off in (0.25, 0.5, 1, 2, 8, 40)
    }
    order = sorted(range(10_000), key=str)
    every["views in the order of their files' names"] = (
        lambda p: changed(p, lambda r: r[[k for k in order if k < len(r)]]),
        lambda found, _p: set(found) <= {"views_out_of_order", "views_come_as"},
    )
    if kind == "parallel":
        every["half a turn told as a whole one"] = (
            lambda p: replace(p, view_angles=2 * p.view_angles),
            named("view_angle_factor"),
        )
        return every
    reverse = named("reversed")
    every |= {
        "columns in the reverse order": (lambda p: changed(p, lambda r: r[:, :, ::-1]), reverse),
        "rotation the other way": (lambda p: replace(p, view_angles=-p.view_angles), reverse),
        "steps of twice the angle": (
            lambda p: replace(p, view_angles=2 * p.view_angles),
            named("view_angle_factor"),
        ),
        "called parallel": (_parallel, named("geometry")),
        "views and columns exchanged": (_exchanged, named("exchanged_axes")),
    }
    every |= {f"half-fan, central column off by {off:g}": half_fan_off_by(off) for off in (0.5, 1, 3, 10, 30)}
    every["half-fan, rotation the other way"] = (
        lambda p: replace(half_fan(p), view_angles=-p.view_angles),
        reverse,
    )
    spacing = "column_pitch_mm" if kind == "fan-flat" else "column_pitch_rad"

    def spaced(factor: float) -> Wrong:
        return lambda p: replace(p, **{spacing: factor * getattr(p, spacing)})

    for factor, what in ((0.548, "as at the isocentre"), (0.1, "in cm"), (0.95, "5 % too small")):
        every[f"columns' spacing {what}"] = (spaced(factor), named(spacing))
    every["half-fan, columns' spacing 5 % too small"] = (
        lambda p: spaced(0.95)(half_fan(p)),
        lambda found, p: set(found) == {spacing} and abs(found[spacing] / getattr(p, spacing) - 1) < 0.02,
    )
    if kind == "fan-flat":
        every["detector called curved"] = (_curved, named("geometry", "column_pitch_mm"))
    return every


def _parallel(p: Projections) -> Projections:
    pitch = p.column_pitch_mm or p.column_pitch_rad * SOURCE_TO_DETECTOR_MM
    return replace(p, geometry="parallel", column_pitch_mm=pitch, column_pitch_rad=None)


def _curved(p: Projections) -> Projections:
    rad = p.column_pitch_mm / p.source_to_detector_mm
    return replace(p, geometry="fan_equiangular", column_pitch_mm=None, column_pitch_rad=rad)


def _exchanged(p: Projections) -> Projections:
    some = np.arange(p.n_columns) * p.n_views // p.n_columns
    square = changed(p, lambda r: r[some], view_angles=p.view_angles[some])
    return changed(square, lambda r: np.swapaxes(r, 0, 2))


def displaced(_kind: str) -> dict[str, tuple[Wrong, Named]]:
    """Elements of a stack of twelve slices that are not where they belong."""

    def in_row(r: np.ndarray, row: int, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        r = r.copy()
        r[:, row] = change(r[:, row])
        return r

    def quarters(r: np.ndarray) -> np.ndarray:
        return np.concatenate([np.split(r, 4, 2)[k] for k in (0, 2, 1, 3)], 2)

    rows, columns, views = named("rows_come_as"), named("columns_come_as"), named("views_come_as")
    lie = named("axes_lie_as")
    swapped = [0, 1, 9, 3, 4, 5, 6, 7, 8, 2, 10, 11]
    changes: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Named]] = {
        "one row mirrored": (
            lambda r: in_row(r, 5, lambda one: one[:, ::-1]),
            lambda found, _p: found.get("rows") == [5] and "reversed" in found,
        ),
        "one row off by 2 columns": (
            lambda r: in_row(r, 5, lambda one: np.roll(one, 2, 1)),
            lambda found, _p: found.get("rows") == [5] and "central_columns" in found,
        ),
        "two rows exchanged": (lambda r: r[:, swapped], rows),
        "rows interleaved": (lambda r: np.concatenate([r[:, ::2], r[:, 1::2]], 1), rows),
        "rows and columns mixed": (lambda r: r.swapaxes(1, 2).reshape(r.shape), lie),
        "Fortran's order for C's": (lambda r: np.reshape(r.ravel(order="F"), r.shape), lie),
        "halves exchanged": (lambda r: np.roll(r, r.shape[2] // 2, 2), columns),
        "modules exchanged": (quarters, columns),
        "columns interleaved": (lambda r: np.concatenate([r[:, :, ::2], r[:, :, 1::2]], 2), columns),
        "views interleaved": (lambda r: np.concatenate([r[::2], r[1::2]]), views),
        "a part of the views backwards": (
            lambda r: np.concatenate([r[:100], r[149:99:-1], r[150:]]),
            views,
        ),
        "every second view twice": (lambda r: np.repeat(r[::2], 2, 0), named("repeated_views")),
    }
    return {
        label: (lambda p, change=change: changed(p, change), right)
        for label, (change, right) in changes.items()
    }


def found_table(
    scanners: Sequence[Scanner],
    people: Sequence[Body],
    projector: str,
    say: Callable[[str], None],
    faults: Callable[[str], dict[str, tuple[Wrong, Named]]] = faults,
) -> Table:
    """Faults found of all, by dose, for every geometry."""
    rows: dict[str, list[list[int]]] = {}
    header = [f"{s.kind} {100 * dose:g} %" for s in scanners for dose in DOSES]
    for column, scanner in enumerate(scanners):
        for body in people:
            lines = scanner.of_astra(body) if projector == "ASTRA" else scanner.integrals(body)
            for number, dose in enumerate(DOSES):
                p = scanner.scan(torch.exp(-lines), dose, seed=number)
                say(f"{projector} {scanner.kind} {body.name} {dose:g}")
                for label, (wrong, right) in faults(scanner.kind).items():
                    fault, _ = check_geometry(wrong(p))
                    cells = rows.setdefault(label, [[0, 0] for _ in header])
                    cell = cells[column * len(DOSES) + number]
                    cell[0] += fault is not None and right(fault.likely, p)
                    cell[1] += 1
    return Table(
        f"Faults that are found and named right, projections by {projector}",
        ("told wrong", *header),
        tuple((label, *(f"{a} of {b}" if b else NONE for a, b in cells)) for label, cells in rows.items()),
    )


def alarm_table(scanners: Sequence[Scanner], people: Sequence[Body], say: Callable[[str], None]) -> Table:
    """False alarms, and by how much opposite rays differ at most."""
    rows: dict[str, list[list[float]]] = {}
    for column, scanner in enumerate(scanners):
        for seed, body in enumerate(people):
            say(f"right {scanner.kind} {body.name}")
            for label, p in bad_readings(scanner, body, seed):
                fault, facts = check_geometry(p)
                cell = rows.setdefault(label, [[0, 0, 0.0] for _ in scanners])[column]
                cell[0] += fault is not None
                cell[1] += 1
                cell[2] = max(cell[2], facts["opposite_rays_differ"] or 0.0)
                if fault is not None:
                    say(f"FALSE ALARM {scanner.kind} {body.name} {label}: {fault.sentence}")
    return Table(
        "False alarms on right geometries, and how far opposite rays differ at most",
        ("readings", *(scanner.kind for scanner in scanners)),
        tuple(
            (label, *(f"{a} of {b}; {100 * most:.1f} %" if b else NONE for a, b, most in cells))
            for label, cells in rows.items()
        ),
    )


def main() -> None:
    """Print both kinds of tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    root = Path(__file__).resolve().parents[2]
    parser.add_argument("--data", type=Path, default=root / "shared" / "data" / "ct")
    parser.add_argument("--views", type=int, default=1152)
    parser.add_argument("--columns", type=int, default=736)
    parser.add_argument("--patients", type=int, default=len(PATIENTS))
    parser.add_argument("--order", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    people = bodies(given.data)[: given.patients]
    scanners = [Scanner(kind, given.views, given.columns) for kind in KINDS]

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    start = time.process_time()
    slices = "three slices"
    if given.order:
        stacks, slices = bodies(given.data, 12, 2)[: given.patients], "twelve slices (of right ones: three)"
        tables = [found_table(scanners, stacks, "the product", say, displaced)]
    else:
        tables = [found_table(scanners, people, "the product", say)]
    if astra is not None and not given.order:
        tables.append(
            found_table([s for s in scanners if s.kind != "fan-equiangular"], people[:3], "ASTRA", say)
        )
    tables.append(alarm_table(scanners, people, say))
    text = "\n\n".join(
        [
            "# The check of the geometry\n\n"
            f"{len(people)} scans, {slices} of each, {given.views} views x {given.columns} columns, "
            f"{QUANTA:g} quanta a ray in air at full dose, electronic variance {ELECTRONIC:g}, the detector "
            f"off by {OFFSET:g} of a column. {time.process_time() - start:.0f} s of one core in all.",
            *(table.markdown() for table in tables),
        ]
    )
    if given.out is None:
        print(text)
    else:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
