"""A figure that cannot be found has its reason: in the report's notes and in the JSON, cell by cell."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_study_report import ARMS, READERS, answer, cases, chosen, detected, graded, preferred, results_of

from ctenhance.study.analysis import tables_of
from ctenhance.study.gathered import Gathered
from ctenhance.study.questions import EACH, Question
from ctenhance.study.report import write_html, write_pdf
from ctenhance.study.statistics.agreement import icc
from ctenhance.study.statistics.bradley_terry import by_arm
from ctenhance.study.statistics.estimate import Estimate
from ctenhance.study.statistics.mrmc import compare
from ctenhance.study.statistics.roc import auc_kernel
from ctenhance.study.tables import Missing

THREE = ("before", "between", "after")


def grades(values: np.ndarray, kind: str = "likert") -> Gathered:
    """Grades [reader, arm, case] of one question; NaN where there is none."""
    question = Question("q", kind, "How sharp?", EACH)
    found = [
        answer(question, READERS[reader], f"c{case + 1}", value, arm=ARMS[arm], repeat=repeat)
        for (reader, arm, case), value in np.ndenumerate(values)
        if math.isfinite(value)
        for repeat in ((False, True) if case < 3 else (False,))
    ]
    return Gathered("Grades", ARMS, (question,), cases(values.shape[2]), tuple(found))


def only(gathered: Gathered, keep: object) -> Gathered:
    return replace(gathered, answers=tuple(one for one in gathered.answers if keep(one)))  # type: ignore[operator]


def alike_detections() -> Gathered:
    """Three readers who are one: no scatter between readers."""
    given = detected()
    of_ann = [one for one in given.answers if one.reader == "ann"]
    return replace(given, answers=tuple(replace(one, reader=who) for who in READERS for one in of_ann))


def kinds() -> dict[str, Gathered]:
    rng = np.random.default_rng(0)
    case_levels = rng.integers(1, 5, 9).astype(float)
    some = rng.integers(1, 6, (3, 2, 9)).astype(float)
    gaps = some.copy()
    gaps[0, :, 3:], gaps[1, :, :3], gaps[1, :, 6:], gaps[2, :, :6] = (math.nan,) * 4
    wins = preferred(arms=THREE)
    return {
        "all one grade": grades(np.full((3, 2, 9), 4.0)),
        "readers identical": grades(np.tile(case_levels, (3, 2, 1))),
        "readers apart by one": grades(np.tile(case_levels, (3, 2, 1)) + np.arange(3)[:, None, None] % 2),
        "cases alike": grades(np.tile([[[4.0], [3.0]], [[3.0], [4.0]], [[2.0], [2.0]]], 9)),
        "arms wholly apart": grades(np.tile([[[1.0], [5.0]]], (3, 1, 9))),
        "all one better": grades(np.stack([case_levels, case_levels + 1])[None].repeat(3, axis=0)),
        "one case": grades(some[:, :, :1]),
        "two cases": grades(some[:, :, :2]),
        "one reader": grades(some[:1]),
        "no case in common": grades(gaps),
        "numbers": grades(some * 1.5, "number"),
        "grades": graded(),
        "preference": preferred(),
        "nobody prefers the first": replace(
            wins, answers=tuple(replace(one, value=2) for one in wins.answers)
        ),
        "one preference": only(preferred(), lambda one: one.case == "c1"),
        "one reader's preferences": only(preferred(), lambda one: one.reader == "ann"),
        "choices": chosen(),
        "one choice": only(chosen(), lambda one: one.case == "c1"),
        "detection": detected(),
        "readers alike": alike_detections(),
        "one diseased case": only(detected(), lambda one: one.case in ("c1", "c2", "c3", "c5")),
        "normal cases of one reader": only(
            detected(), lambda one: one.reader != "ann" or int(one.case[1:]) % 2 or one.case == "c2"
        ),
    }


@pytest.mark.parametrize("kind", kinds())
def test_no_figure_is_missing_without_a_reason(kind: str) -> None:
    for table in tables_of(kinds()[kind]):
        said = {(one["row"], one["column"]): one["why"] for one in table.to_json()["missing"]}
        for number, (row, texts) in enumerate(zip(table.rows, table.texts(), strict=True)):
            for column, cell, text in zip(table.columns, row, texts, strict=True):
                where = f"{table.id}, {column}: {text}"
                assert not (isinstance(cell, str) and cell in ("–", "nan", "inf")), where
                why = cell.why if isinstance(cell, Missing | Estimate) else ""
                if isinstance(cell, Estimate) and cell.value is not None:
                    sure = cell.low is not None and cell.high is not None and cell.low < cell.high
                    assert sure or why, where
                elif isinstance(cell, Missing | Estimate):
                    assert why and text.startswith("–"), where
                if why:
                    mark = f"[{table.reasons.index(why) + 1}]"
                    assert text.endswith(f" {mark}") and f"{mark} {why}." in table.notes(), where
                    assert said.pop((number, column)) == why and not why.endswith("."), where
        assert not said


def test_an_icc_without_variance_has_no_limits_but_a_reason() -> None:
    levels = np.array([1.0, 4, 2, 5, 3, 3, 1])
    # In thirds, whose sums are rounded.
    for scale in (1, 1 / 3, 1e6):
        same = icc(np.tile(levels * scale, (3, 1)))
        assert all(one.value == pytest.approx(1) and one.low is None for one in same.values())
        assert all("identical in every case" in one.why for one in same.values())
        apart = icc(np.tile(levels * scale, (3, 1)) + scale * np.arange(3)[:, None])
        assert apart["ICC(3,1)"].value == pytest.approx(1)
        # By hand: variance of the cases over itself and that of the readers, whose steps have variance 1.
        spread = levels.var(ddof=1)
        assert apart["ICC(2,1)"].value == pytest.approx(spread / (spread + 1))
        assert all(one.low is None and "by a constant only" in one.why for one in apart.values())
        flat = icc(np.array([levels, 6 - levels]) * scale)
        assert flat["ICC(3,1)"].value == pytest.approx(-1)
        assert all(one.low is None and "between cases" in one.why for one in flat.values())
        none = icc(np.full((3, 7), scale / 3))
        assert all(one.value is None and "one and the same" in one.why for one in none.values())
    some = icc(np.array([levels, levels[::-1], [1, 4, 2, 5, 3, 3, 2]]))
    assert all(
        one.low is not None and one.low < one.value < one.high and not one.why for one in some.values()
    )


def test_a_difference_without_any_scatter_is_not_called_certain() -> None:
    """Readers who all find the same difference: over these cases its error variance is 0, and p was 0."""
    rng = np.random.default_rng(1)
    one = [auc_kernel(rng.normal(0, 1, 12), rng.normal(1, 1, 12)) for _arm in range(2)]
    found = compare(np.stack([np.stack([kernel] * 3) for kernel in one]))
    fixed = found.tests["cases fixed"]
    difference = fixed.differences[0, 1]
    assert fixed.p is None and difference.value != 0
    assert (difference.low, difference.high, difference.p) == (None, None, None)
    assert "error variance of this analysis is 0" in difference.why
    assert all(figure.low is None and figure.why for figure in fixed.modalities)
    # The cases scatter all the same.
    assert (
        found.tests["readers fixed"].p is not None and not found.tests["readers fixed"].differences[0, 1].why
    )


def test_the_model_of_grades_says_what_it_lacks() -> None:
    def why(kind: str) -> str:
        table = next(one for one in tables_of(kinds()[kind]) if one.id == "comparison")
        return table.rows[0][table.columns.index("odds ratio (95 % CI)")].why  # type: ignore[union-attr]

    assert "one and the same" in why("all one grade")
    assert "too few cases (2) for the model's" in why("two cases")
    assert "cannot be fitted" in why("arms wholly apart")
    assert "these are numbers" in why("numbers")
    assert why("grades") == ""


@pytest.mark.parametrize("cases", range(2, 8))
def test_so_few_cases_that_no_interval_has_95_percent_have_none(cases: int) -> None:
    """All n cases on one side of the truth: a chance of 2 / 2^n, above 5 % for fewer than 6."""
    shifted = np.stack([np.full(cases, 3.0), np.full(cases, 4.0)])[None].repeat(3, axis=0)
    shifted[:, 1, 0] = 5.0
    tables = {one.id: one for one in tables_of(grades(shifted))}
    (row,) = tables["comparison"].to_json()["rows"]
    shift = row["shift (95 % CI)"]
    assert shift["value"] == pytest.approx(1.0, abs=0.5) and shift["p"] is not None
    assert (shift["low"] is None) is (cases < 6)
    (row,) = tables["vgc"].to_json()["rows"]
    # Wholly apart: at any number of cases the bootstrap shows no scatter.
    assert row["area (these readers)"]["value"] == 1 and row["area (these readers)"]["low"] is None
    strengths = by_arm(np.array([[[0.0, 1.0], [2.0, 0.0]], [[0.0, 2.0], [1.0, 0.0]]])[np.arange(cases) % 2])
    assert all((one.low is None) is (cases < 6) for one in strengths)
    said = " ".join(tables["comparison"].reasons)
    assert ("it takes 6 cases" in said) is (cases < 6)
    assert (f"{cases} cases can give has {100 - 200 / 2**cases:.3g} %, not 95 %" in said) is (
        cases in (2, 3, 4)
    )


@pytest.mark.parametrize("name", ["report.html", "report.pdf"])
def test_the_report_has_the_reasons(tmp_path: Path, name: str) -> None:
    results = results_of(kinds()["all one grade"])
    (write_html if name.endswith("html") else write_pdf)(results, tmp_path / name)
    if name.endswith("html"):
        page = (tmp_path / name).read_text(encoding="utf-8")
        assert "<td>– [1]</td>" in page and "[1] no interval: no case was graded differently" in page
    else:
        assert (tmp_path / name).stat().st_size > 5000
