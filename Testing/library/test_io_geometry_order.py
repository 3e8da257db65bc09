"""Elements that are not where they belong are named: single rows, panels, views, axes; odd gains are not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import ellipse_scan
import numpy as np
import pytest
from ellipse_scan import BODY, COLUMNS, DISC, MU, SDD, SID, VIEWS, scan

from ctenhance.scan.column_check import column_warning
from ctenhance.scan.element_order import come_as, other_order
from ctenhance.scan.geometry_check import check_geometry
from ctenhance.scan.projections import Projections
from ctenhance.scan.some_rows import read_rows

KINDS = ("fan_flat", "fan_equiangular", "parallel")
FULL, LOW = 2.5e5, 6250.0  # quanta in air: full dose, and 2.5 % of it
ROWS, HALF = 12, COLUMNS // 2


def stack(kind: str, quanta: float | None = FULL, rows: int = ROWS, apart: float = 3.0) -> Projections:
    """Slices of a body whose parts move and grow along the patient; `apart` in mm."""
    parts = []
    for row in range(rows):
        z = apart * row
        body = [
            (
                x + 0.1 * z * (k > 0),
                y + 0.07 * z * (k > 1),
                a * (1 + 0.003 * z),
                b * (1 - 0.0025 * z),
                turned,
                mu,
            )
            for k, (x, y, a, b, turned, mu) in enumerate(BODY)
        ]
        parts.append(scan(kind, body, quanta, rows=1, seed=row))
    name = "line_integrals" if quanta is None else "counts"
    return replace(parts[0], **{name: np.concatenate([p.readings for p in parts], 1)})


def changed(p: Projections, change: Any, **fields: Any) -> Projections:
    """The same scan with other readings."""
    name = "line_integrals" if p.counts is None else "counts"
    return replace(p, **{name: np.ascontiguousarray(change(p.readings.copy())), **fields})


def in_place(p: Projections, where: Any, change: Any) -> Projections:
    def put(readings: np.ndarray) -> np.ndarray:
        readings[where] = change(readings[where])
        return readings

    return changed(p, put)


def likely(p: Projections) -> dict[str, Any]:
    fault, told = check_geometry(p)
    assert fault is not None
    assert told["likely_geometry"] == fault.likely and told["geometry_warning"] == fault.sentence
    return fault.likely


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quanta", [None, FULL, LOW, 800.0])
def test_a_right_stack_is_not_accused(kind: str, quanta: float | None) -> None:
    assert check_geometry(stack(kind, quanta))[0] is None
    assert check_geometry(stack(kind, quanta, rows=5, apart=15.0))[0] is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quanta", [None, LOW])
@pytest.mark.parametrize("rows", [[5], [0], [3, 4, 5, 6], [1, 8]])
def test_rows_that_run_the_other_way(kind: str, quanta: float | None, rows: list[int]) -> None:
    wrong = in_place(stack(kind, quanta), np.s_[:, rows], lambda r: r[:, :, ::-1])
    assert likely(wrong) == {"rows": rows, "reversed": "views or columns"}
    sentence = check_geometry(wrong)[0].sentence
    named = (
        f"row {rows[0]} of 12" if len(rows) == 1 else f"{len(rows)} of 12 rows ({', '.join(map(str, rows))},"
    )
    assert named in sentence and "reverse order" in sentence
    # the same of views that run the other way
    if rows == [5]:
        backwards = in_place(stack(kind, quanta), np.s_[:, 5], lambda r: r[::-1])
        assert likely(backwards) == {"rows": [5], "reversed": "views or columns"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("quanta", "off"), [(FULL, 1), (LOW, -3), (FULL, 6)])
def test_a_row_with_another_centre(kind: str, quanta: float, off: int) -> None:
    wrong = in_place(stack(kind, quanta), np.s_[:, 7], lambda r: np.roll(r, off, 1))
    found = likely(wrong)
    assert found == {"rows": [7], "central_columns": [pytest.approx(HALF - 0.5 + off, abs=0.3)]}


@pytest.mark.parametrize("kind", ["fan_flat", "fan_equiangular"])
def test_one_of_two_rows(kind: str) -> None:
    wrong = in_place(stack(kind, rows=2), np.s_[:, 1], lambda r: r[:, ::-1])
    assert likely(wrong) == {"rows": [1], "reversed": "views or columns"}


def test_a_mirrored_row_of_parallel_rays_off_centre_is_no_shifted_one() -> None:
    parts = [scan("parallel", quanta=FULL, rows=1, seed=row, offset=0.25) for row in range(4)]
    p = replace(parts[0], counts=np.concatenate([one.counts for one in parts], 1))
    wrong = in_place(p, np.s_[:, 2], lambda r: r[:, ::-1])
    assert likely(wrong) == {"rows": [2], "reversed": "views or columns"}


def test_what_is_wrong_with_all_rows_is_no_fault_of_some() -> None:
    p = stack("fan_flat", LOW)
    assert likely(changed(p, lambda r: r[:, :, ::-1])) == {"reversed": "view_angles or columns"}
    assert set(likely(replace(p, central_column=p.central_column + 2))) == {"central_column"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quanta", [None, LOW])
def test_the_order_of_the_rows(kind: str, quanta: float | None) -> None:
    p = stack(kind, quanta)
    order = np.arange(ROWS)
    order[[2, 9]] = 9, 2
    assert likely(changed(p, lambda r: r[:, order])) == {"rows_come_as": "0, 1, 9, 3 to 8, 2, 10, 11"}
    halves = changed(p, lambda r: np.roll(r, 6, 1))
    assert likely(halves) == {"rows_come_as": "6 to 11, 0 to 5"}
    interleaved = changed(p, lambda r: np.concatenate([r[:, ::2], r[:, 1::2]], 1))
    assert likely(interleaved) == {"rows_come_as": "0, 2, 4, 6, 8, …"}
    # this no readings can tell
    assert check_geometry(changed(p, lambda r: r[:, ::-1]))[0] is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quanta", [None, LOW])
def test_readings_that_lie_in_another_order(kind: str, quanta: float | None) -> None:
    p = stack(kind, quanta)
    mixed = changed(p, lambda r: np.ascontiguousarray(r.swapaxes(1, 2)).reshape(r.shape))
    assert likely(mixed) == {"axes_lie_as": ["views", "columns", "rows"]}
    mend = f"readings.reshape({VIEWS}, {COLUMNS}, {ROWS}).transpose(0, 2, 1)"
    assert mend in check_geometry(mixed)[0].sentence
    mended = changed(mixed, lambda r: r.reshape(VIEWS, COLUMNS, ROWS).transpose(0, 2, 1))
    assert np.array_equal(mended.readings, p.readings)
    fortran = changed(p, lambda r: np.reshape(r.ravel(order="F"), r.shape))
    assert likely(fortran) == {"axes_lie_as": ["columns", "rows", "views"]}
    single = scan(kind, quanta=quanta, rows=1)
    fortran = changed(single, lambda r: np.reshape(r.ravel(order="F"), r.shape))
    assert likely(fortran) == {"axes_lie_as": ["rows", "columns", "views"]}
    turned = changed(p, lambda r: r.swapaxes(1, 2), central_column=(ROWS - 1) / 2)
    assert likely(turned) == {"exchanged_axes": ["rows", "columns"], "central_column": HALF - 0.5}


PANELS = {
    "90 to 179, 0 to 89": lambda r: np.roll(r, HALF, 2),
    "0 to 44, 90 to 134, 45 to 89, 135 to 179": lambda r: np.concatenate(
        [r[:, :, :45], r[:, :, 90:135], r[:, :, 45:90], r[:, :, 135:]], 2
    ),
    "0 to 29, 59 to 30, 60 to 179": lambda r: np.concatenate(
        [r[:, :, :30], r[:, :, 59:29:-1], r[:, :, 60:]], 2
    ),
    "0, 2, 4, 6, 8, …": lambda r: np.concatenate([r[:, :, ::2], r[:, :, 1::2]], 2),
    "0, 90, 1, 91, 2, …": lambda r: np.stack([r[:, :, :HALF], r[:, :, HALF:]], 3).reshape(r.shape),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quanta", [None, LOW])
@pytest.mark.parametrize("panels", PANELS)
def test_panels_of_the_detector(kind: str, quanta: float | None, panels: str) -> None:
    wrong = changed(scan(kind, quanta=quanta), PANELS[panels])
    assert likely(wrong) == {"columns_come_as": panels}
    assert f"they come as {panels}." in check_geometry(wrong)[0].sentence


def test_modules_that_each_run_backwards() -> None:
    wrong = changed(scan(quanta=FULL), lambda r: r.reshape(*r.shape[:2], -1, 30)[..., ::-1].reshape(r.shape))
    assert likely(wrong) == {
        "columns_come_as": "29 to 0, 59 to 30, 89 to 60, 119 to 90, 149 to 120, 179 to 150"
    }


@pytest.mark.parametrize("kind", KINDS)
def test_columns_in_no_order(kind: str) -> None:
    order = np.random.default_rng(5).permutation(COLUMNS)
    assert likely(changed(scan(kind, quanta=LOW), lambda r: r[:, :, order])) == {"columns_out_of_order": 1.0}


@pytest.mark.parametrize("kind", KINDS)
def test_a_centred_disc_in_exchanged_halves(kind: str) -> None:
    """A water phantom tells little more than that air is where it should be dense."""
    p = scan(kind, DISC, FULL)
    assert likely(changed(p, lambda r: np.roll(r, HALF, 2))) == {"columns_come_as": "90 to 179, 0 to 89"}
    faint = in_place(p, np.s_[:, :, 160:162], lambda r: 0.3 * r)
    assert check_geometry(faint)[0] is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quanta", [None, LOW])
def test_the_order_of_the_views(kind: str, quanta: float | None) -> None:
    p = stack(kind, quanta)
    interleaved = changed(p, lambda r: np.concatenate([r[::2], r[1::2]]))
    assert likely(interleaved) == {"views_come_as": "0, 2, 4, 6, 8, …"}
    backwards = changed(p, lambda r: np.concatenate([r[:100], r[149:99:-1], r[150:]]))
    assert likely(backwards) == {"views_come_as": "0 to 99, 149 to 100, 150 to 299"}
    pairs = changed(p, lambda r: r.reshape(-1, 2, *r.shape[1:])[:, ::-1].reshape(r.shape))
    assert likely(pairs)["views_come_as"].startswith("1, 0, 3, 2, 5, 4, 7, 6, 9, 8, …")
    from_another = changed(p, lambda r: np.roll(r, 80, 0))
    if kind == "parallel":
        assert likely(from_another) == {"views_come_as": "220 to 299, 0 to 219"}
    else:  # a turn that begins elsewhere: a turned image, which no readings tell
        assert check_geometry(from_another)[0] is None
    if kind != "parallel":  # of the same readings: a turn that begins with what comes behind the gap
        lost = changed(p, lambda r: np.delete(r, slice(100, 112), 0), view_angles=p.view_angles[:-12])
        assert likely(lost) == {"views_come_as": "188 to 287, 0 to 187"}
        assert "(or some are missing between views 99 and 100)" in check_geometry(lost)[0].sentence
    kept = [v for v in range(VIEWS) if not 200 <= v < 206]
    assert check_geometry(changed(p, lambda r: r[kept], view_angles=p.view_angles[kept]))[0] is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quanta", [None, LOW])
def test_views_that_were_written_twice(kind: str, quanta: float | None) -> None:
    p = scan(kind, quanta=quanta)
    assert likely(changed(p, lambda r: np.repeat(r[::2], 2, 0))) == {"repeated_views": VIEWS // 2}
    first = changed(p, lambda r: np.concatenate([r[:1], r[:-1]]))
    assert likely(first) == {"repeated_views": 1}
    assert check_geometry(first)[0].sentence.startswith("View 1 repeats")
    assert check_geometry(scan(kind, DISC, quanta))[0] is None


def modules(readings: np.ndarray) -> np.ndarray:
    return readings * np.where((np.arange(readings.shape[2]) // 20) % 3 == 1, 1.05, 1).astype(np.float32)


def every_second_column(readings: np.ndarray) -> np.ndarray:
    return readings * np.where(np.arange(readings.shape[2]) % 2, 1.03, 1).astype(np.float32)


def every_second_view(readings: np.ndarray) -> np.ndarray:
    return readings * np.where(np.arange(len(readings)) % 2, 1.03, 1).astype(np.float32)[:, None, None]


def a_faint_row(readings: np.ndarray) -> np.ndarray:
    return readings * np.where(np.arange(readings.shape[1]) == 4, 0.5, 1).astype(np.float32)[:, None]


def a_faint_panel(readings: np.ndarray) -> np.ndarray:
    readings[:, :, 150:165] *= 0.3
    return readings


def an_empty_row(readings: np.ndarray) -> np.ndarray:
    readings[:, 4] = 0
    return readings


def wobbling(readings: np.ndarray) -> np.ndarray:
    """Every second view from half a column beside."""
    readings[1::2, :, 1:] = (readings[1::2, :, 1:] + readings[1::2, :, :-1]) / 2
    return readings


def tube_arcs(readings: np.ndarray) -> np.ndarray:
    readings[[3, 70, 71, 180, -2]] *= 0.5
    return readings


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "bad",
    [
        modules,
        every_second_column,
        every_second_view,
        a_faint_row,
        a_faint_panel,
        an_empty_row,
        tube_arcs,
    ],
)
def test_odd_elements_that_are_where_they_belong(kind: str, bad: Any) -> None:
    assert check_geometry(changed(stack(kind), bad))[0] is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [[100], [61, 100, 101, 102]])
def test_dead_columns_that_read_air_are_named_and_in_order(kind: str, columns: list[int]) -> None:
    p = in_place(scan(kind, quanta=None, rows=1), np.s_[..., columns], np.zeros_like)
    assert check_geometry(p)[0] is None
    said = column_warning(read_rows(p, [0]))
    assert said is not None and f"{columns[0]}" in said and "read nothing, or the same, in all views" in said


@pytest.mark.parametrize("kind", KINDS)
def test_views_aside_in_turn_are_no_other_order(kind: str) -> None:
    found = likely(changed(stack(kind), wobbling))
    assert found == {"views_aside_in_turn": pytest.approx(0.5, abs=0.1)}


@pytest.mark.parametrize("kind", ["fan_flat", "fan_equiangular"])
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_but_the_centre_is_told_where_much_is_noise(kind: str, seed: int) -> None:
    p = scan(kind, quanta=800.0, seed=seed)
    assert set(likely(replace(p, central_column=p.central_column + 1.5))) == {"central_column"}


def test_which_distances_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a flat detector the columns' pitch by the source's distance from it does; nothing else."""
    p = scan("fan_flat", quanta=FULL)
    for factor in (0.9, 1.1):
        wrong = replace(p, source_to_detector_mm=factor * SDD)
        assert likely(wrong) == {"column_pitch_mm": pytest.approx(factor * p.column_pitch_mm, rel=0.01)}
        assert f"'source_to_detector_mm' from {factor * SDD:.4g} to 1" in check_geometry(wrong)[0].sentence
        both = replace(wrong, column_pitch_mm=factor * p.column_pitch_mm)
        assert check_geometry(both)[0] is None
    # a larger, thinner body before a source farther away reads the same
    for kind in ("fan_flat", "fan_equiangular"):
        p = scan(kind)
        monkeypatch.setattr(ellipse_scan, "SID", 1.1 * SID)
        monkeypatch.setattr(ellipse_scan, "MU", MU / 1.1)
        larger = [(*(1.1 * length for length in one[:4]), *one[4:]) for one in BODY]
        other = scan(kind, larger, field=1.1 * ellipse_scan.FIELD)
        monkeypatch.undo()
        np.testing.assert_allclose(other.readings, p.readings, atol=1e-5)
        assert check_geometry(replace(p, source_to_isocenter_mm=1.1 * SID))[0] is None


def test_words_for_an_order() -> None:
    assert come_as(np.array([3, 4, 5, 2, 1, 0])) == "3 to 5, 2 to 0"
    assert come_as(np.array([0, 1, 3, 2, 4, 5])) == "0, 1, 3, 2, 4, 5"
    assert other_order(np.zeros((4, 8))) is None
    assert other_order(np.ones((50, 8)), between_air=True) is None
    assert other_order(np.random.default_rng(0).random((300, 64)).astype(np.float32)) is None
    assert math.isfinite(other_order(np.roll(np.linspace(0, 1, 60)[:, None] * np.ones(8), 20, 0)).after)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("one, other", [(2, 5), (3, 4), (2, 4)])
def test_exchanged_rows_in_the_middle(kind: str, one: int, other: int) -> None:
    def exchange(readings: np.ndarray) -> np.ndarray:
        readings[:, [one, other]] = readings[:, [other, one]]
        return readings

    come = list(range(8))
    come[one], come[other] = other, one
    assert likely(changed(stack(kind, rows=8), exchange))["rows_come_as"] == come_as(np.array(come))


@pytest.mark.parametrize("kind", ["fan_flat", "fan_equiangular"])
@pytest.mark.parametrize("row, by", [(3, 20), (0, -7), (5, VIEWS // 2)])
def test_a_row_that_is_turned_about_the_axis(kind: str, row: int, by: int) -> None:
    p = stack(kind, rows=8)
    found = likely(in_place(p, np.s_[:, row], lambda one: np.roll(one, by, axis=0)))
    turn = math.degrees(p.view_angles[1] - p.view_angles[0])
    assert found["rows"] == [row]
    (told,) = found["turned_by_deg"]
    assert math.remainder(abs(told) - abs(by * turn), 360) == pytest.approx(0, abs=1.5 * abs(turn))
