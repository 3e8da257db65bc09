"""A study with gaps: who stops takes nobody else's cases away, and every table says what it rests on."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from study_arms import write_arms
from test_study_report import (
    ARMS,
    MAKERS,
    READERS,
    answer,
    chosen,
    column,
    detected,
    graded,
    preferred,
    results_of,
    run,
)

from ctenhance.study import ReadingSession, Study, report
from ctenhance.study.analysis import Results
from ctenhance.study.exports import questions_of_kind, write_imrmc, write_rjafroc
from ctenhance.study.gathered import Gathered
from ctenhance.study.key import Key, KeyCase
from ctenhance.study.questions import Question
from ctenhance.study.remarks import remarks, without_areas
from ctenhance.study.statistics.agreement import fleiss_kappa, icc, pairs_with_kappa, weighted_kappa
from ctenhance.study.statistics.estimate import complete_block
from ctenhance.study.statistics.ordinal import odds_ratio
from ctenhance.study.statistics.paired import share
from ctenhance.study.statistics.vgc import vgc_auc
from ctenhance.study.tables import Of
from ctenhance.study.unblinding import Answer


def stopped(gathered: Gathered, after: int, reader: str = "cat") -> Gathered:
    """The same study, in which a reader has read the first cases only."""
    kept = {case.name for case in gathered.cases[:after]}
    answers = tuple(one for one in gathered.answers if one.reader != reader or one.case in kept)
    return Gathered(gathered.title, gathered.arms, gathered.questions, gathered.cases, answers)


def grades(seed: int = 0, readers: int = 3, count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(3, 1, count)
    first, second = (truth + better + rng.normal(0, 0.7, (readers, count)) for better in (0.0, 0.8))
    return np.clip(np.rint(first), 1, 5), np.clip(np.rint(second), 1, 5)


@pytest.mark.parametrize("kept", [0, 1, 3])
@pytest.mark.parametrize("random_readers", [False, True])
def test_the_grading_curve_keeps_the_others_cases(kept: int, random_readers: bool) -> None:
    first, second = grades()
    alone = vgc_auc(first[:2], second[:2], random_readers)
    second[2, kept:] = np.nan
    found = vgc_auc(first, second, random_readers)
    assert alone.value and found.value and found.low and alone.low
    if kept == 0:
        assert found == alone
    assert found.value == pytest.approx(alone.value, abs=0.05)
    assert found.low == pytest.approx(alone.low, abs=0.1)


def test_a_readers_area_is_that_of_the_cases_read() -> None:
    first, second = grades(1)
    second[1, 8:] = np.nan
    by_reader = []
    for one, other in zip(first, second, strict=True):
        own = np.isfinite(other)
        pairs = np.sign(other[own][:, None] - one[own]) / 2 + 0.5
        by_reader.append((own.sum(), pairs.mean()))
    expected = sum(n * area for n, area in by_reader) / sum(n for n, _area in by_reader)
    assert vgc_auc(first, second).value == pytest.approx(expected)


def test_the_p_value_is_as_without_the_reader_who_stopped_when_all_are_better() -> None:
    first, second = np.full((3, 12), 3.0), np.full((3, 12), 4.0)
    whole = vgc_auc(first, second, random_readers=False)
    second[2, 1:] = np.nan
    assert vgc_auc(first, second, random_readers=False).p == whole.p < 0.002  # type: ignore[operator]


def test_the_largest_table_without_gaps_is_found() -> None:
    present = np.ones((3, 12), bool)
    present[2, 3:] = False
    readers, kept = complete_block(present)
    assert readers.tolist() == [True, True, False] and kept.all()
    present = np.ones((3, 12), bool)
    present[1, 4] = False  # one case lost costs less than one reader
    readers, kept = complete_block(present)
    assert readers.all() and kept.sum() == 11 and not kept[4]
    present = np.array([[True] * 4, [False] * 4])
    assert not complete_block(present)[1].any() and complete_block(present, least=1)[1].all()


def test_a_share_rests_on_every_answer() -> None:
    rng = np.random.default_rng(3)
    answers = (rng.random((3, 30)) < 0.7).astype(float)
    two = share(answers[:2], margin=0.1)
    answers[2, 4:] = np.nan
    found = share(answers, margin=0.1)
    means = [np.nanmean(answers[:, k]) for k in range(30)]
    assert found.these_readers.value == pytest.approx(np.mean(means))
    assert found.other_readers == two.other_readers
    assert found.by_reader[2].value == pytest.approx(answers[2, :4].mean())
    answers[2] = np.nan
    assert share(answers, margin=0.1).these_readers == two.these_readers


def test_agreement_keeps_the_others_cases() -> None:
    first, second = grades(4)
    ratings = np.concatenate([first, second[:1]])
    three = ratings[:3].copy()
    ratings[3, 2:] = np.nan
    ratings[:, :2] = 4.0  # of the pairs with the last reader nothing can be said
    three[:, :2] = 4.0
    assert weighted_kappa(ratings).value == pytest.approx(weighted_kappa(three).value)
    assert pairs_with_kappa(ratings) == 3
    assert fleiss_kappa(ratings) == fleiss_kappa(three) and icc(ratings) == icc(three)


def test_the_odds_rest_on_readers_that_can_be_fitted() -> None:
    first, second = grades(5)
    two, _ = odds_ratio(first[:2], second[:2])
    second[2, 1:] = np.nan
    first[2, 0], second[2, 0] = 5.0, 5.0  # of this reader's own level nothing can be known
    found, used = odds_ratio(first, second)
    assert two.value and found.value
    assert found == two if not used[2] else found.value == pytest.approx(two.value, rel=0.2)


BASIS = re.compile(r"Rests on (\d+) of (\d+) cases and (\d+) of (\d+) readers\.")
STUDIES: dict[str, Callable[[], Gathered]] = {
    **MAKERS,
    "three arms": lambda: preferred(arms=("a", "b", "c")),
}


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("after", [0, 1, 5])
def test_every_table_says_what_it_rests_on(
    tmp_path: Path, name: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = STUDIES[name]()
    gathered = stopped(whole, after)
    gathered = Gathered(whole.title, whole.arms, whole.questions, whole.cases, gathered.answers, READERS)
    results = results_of(gathered)
    total = len(gathered.cases)
    for table in results.tables:
        found = BASIS.fullmatch(table.basis)
        assert found, table.id
        assert found[2] == str(total) and found[4] == "3", table.id
        others = table.id.startswith(("mrmc", "scatter")) or after == 0
        if table.id != "repeats":
            assert found[1] == str(total), (table.id, table.basis)
            assert found[3] == ("2" if others else "3"), (table.id, table.basis)
    # The others' own figures are those of a study without this reader.
    two = results_of(stopped(whole, 0))
    for table in two.tables:
        if "reader" in table.columns:
            own = [row for row in results.table(table.id).rows if "cat" not in row and "all" not in row]
            assert [row[:-3] for row in own] == [row[:-3] for row in table.rows if "all" not in row]
    lines: list[str] = []
    monkeypatch.setattr(report, "_text_page", lambda _pdf, page: lines.extend(page))
    report.write_pdf(results, tmp_path / "r.pdf")
    report.write_html(results, tmp_path / "r.html")
    texts = ["".join(lines), (tmp_path / "r.html").read_text(encoding="utf-8")]
    texts.append(json.dumps(results.to_json()))
    for text in texts:
        assert len(BASIS.findall(text)) == len(results.tables)


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_gaps_anywhere_leave_a_report(name: str, share: float, tmp_path: Path) -> None:
    whole, rng = STUDIES[name](), np.random.default_rng(7)
    for unit in ("reading", "case"):
        lost = {
            (one.reader, one.case, one.arm if unit == "reading" else "")
            for one in whole.answers
            if rng.random() < share
        }
        answers = tuple(
            one
            for one in whole.answers
            if (one.reader, one.case, one.arm if unit == "reading" else "") not in lost
        )
        if not answers:
            continue
        gathered = Gathered(whole.title, whole.arms, whole.questions, whole.cases, answers, READERS)
        results = results_of(gathered)
        json.dumps(results.to_json(), allow_nan=False)
        assert all(BASIS.fullmatch(table.basis) and table.texts() for table in results.tables)
        for question in questions_of_kind(gathered, "marks"):
            write_rjafroc(gathered, tmp_path / "m.xlsx", question)
        for question in questions_of_kind(gathered, "number"):
            write_imrmc(gathered, tmp_path / "r.imrmc", question)


def test_rows_say_on_how_many_cases_and_readers_they_rest() -> None:
    results = results_of(stopped(graded(), 3))
    assert column(results.table("readings"), "cases") == [Of(24, 24), Of(24, 24), Of(3, 24)]
    for table, readers in (("summary", 3), ("comparison", 3), ("vgc", 3), ("agreement", 3)):
        found = results.table(table)
        assert set(column(found, "cases")) == {Of(24, 24)}
        assert set(column(found, "readers")) == {Of(readers, 3)}
    agreement = results.table("agreement")
    assert set(column(agreement, "readers (Fleiss, ICC)")) == {Of(2, 3)}
    assert set(column(agreement, "cases (Fleiss, ICC)")) == {Of(24, 24)}
    choice = results_of(stopped(chosen(), 4)).table("choice")
    assert choice.rows[0][choice.columns.index("readers random: rests on")] == (
        "40 of 40 cases, 2 of 3 readers"
    )
    assert column(choice, "cases")[1:] == [Of(40, 40), Of(40, 40), Of(4, 40)]


def test_the_readers_who_went_on_are_compared() -> None:
    whole = detected()
    found, two = results_of(stopped(whole, 6)), results_of(stopped(whole, 0))
    for question in ("lesions", "suspicion"):
        for name in ("mrmc", "scatter"):
            assert found.table(f"{name}.{question}").rows == two.table(f"{name}.{question}").rows
        figures = found.table(f"figures.{question}")
        assert [row[-1] for row in figures.rows if row[1] == "cat"] == [Of(6, 40)] * 2
    marks = found.table("marks.lesions")
    assert [row[3] for row in marks.rows if row[1] == "cat"] == [3, 3]


def test_one_case_lost_costs_no_reader() -> None:
    whole = detected()
    answers = tuple(one for one in whole.answers if (one.reader, one.case) != ("bob", "c7"))
    gathered = Gathered(whole.title, whole.arms, whole.questions, whole.cases, answers)
    table = results_of(gathered).table("mrmc.suspicion")
    assert table.basis == "Rests on 39 of 40 cases and 3 of 3 readers."


@pytest.mark.parametrize(
    ("diseased", "said"),
    [(None, "Of no case is it known"), (True, "All 40 cases .* are diseased"), (False, "free of lesions")],
)
def test_a_study_without_areas_says_why(diseased: bool | None, said: str) -> None:
    whole = detected()
    cases = tuple(KeyCase(case.name, {}, {}, diseased, ()) for case in whole.cases)
    gathered = Gathered(whole.title, whole.arms, whole.questions, cases, whole.answers)
    assert not any(table.id.startswith("figures") for table in results_of(gathered).tables)
    assert re.search(said, " ".join(remarks(gathered)))
    assert without_areas(whole.cases, whole.questions) == []


def test_a_case_of_unknown_truth_is_left_out_alone() -> None:
    whole = detected()
    unknown = KeyCase("c1", {}, {}, None, ())
    gathered = Gathered(whole.title, whole.arms, whole.questions, (unknown, *whole.cases[1:]), whole.answers)
    results = results_of(gathered)
    for table in ("figures.suspicion", "mrmc.suspicion", "marks.lesions"):
        assert results.table(table).basis == "Rests on 39 of 40 cases and 3 of 3 readers."
    assert any(line.startswith("Of 1 of 40 cases nobody says") for line in remarks(gathered))


def test_who_stopped_and_who_never_began_is_said() -> None:
    whole = stopped(graded(), 3)
    gathered = Gathered(whole.title, ARMS, whole.questions, whole.cases, whole.answers, (*READERS, "dan"))
    said = remarks(gathered)
    assert said[0].startswith("dan is not in the analysis")
    assert "cat has not read everything: 6 of 48 readings, 3 of 24 cases" in said[1]
    assert len(said) == 2 and remarks(graded()) == []


def test_readers_with_the_same_answers_are_pointed_out() -> None:
    whole = detected()
    copies = tuple(
        answer(question, "dan", one.case, one.value, arm=one.arm, side=one.side)
        for question in whole.questions
        for one in whole.answers
        if one.reader == "ann" and one.question == question.id
    )
    gathered = Gathered(whole.title, ARMS, whole.questions, whole.cases, (*whole.answers, *copies))
    (said,) = remarks(gathered)
    assert said.startswith("ann and dan gave the same answers to ")
    assert all(question.text in said for question in whole.questions) and "80 answers" in said
    facts = results_of(gathered).study
    results = Results(gathered, facts, results_of(gathered).tables, (said,))
    assert results.to_json()["warnings"] == [said]


def test_a_reader_with_one_answer_to_everything_is_pointed_out() -> None:
    whole = graded()
    question = whole.questions[0]
    same = tuple(replace(one, value=3) if one.reader == "cat" else one for one in whole.answers)
    said = remarks(replace(whole, answers=same))
    (remark,) = [one for one in said if "gave the same answer every time" in one]
    assert remark.startswith("cat gave") and f"'{question.text}' (48 times 3)" in remark
    # where others do not tell cases apart either, there is nothing to see
    all_same = tuple(replace(one, value=3) for one in whole.answers)
    assert not any("every time" in one for one in remarks(replace(whole, answers=all_same)))


def copied(whole: Gathered, question: Question, changed: int) -> tuple[Answer, ...]:
    """What dan would answer who copied ann, but for the first answers."""
    own = [
        one for one in whole.answers if one.reader == "ann" and one.question == question.id and not one.repeat
    ]
    return tuple(
        answer(
            question,
            "dan",
            one.case,
            1 + (one.value + 1) % 5 if index < changed else one.value,
            arm=one.arm,
            side=one.side,
        )
        for index, one in enumerate(own)
    )


@pytest.mark.parametrize("changed", [1, 2, 12])
def test_readers_with_nearly_the_same_answers_are_pointed_out(changed: int) -> None:
    whole = graded()
    question = whole.questions[0]
    copies = copied(whole, question, changed)
    gathered = Gathered(whole.title, ARMS, (question,), whole.cases, (*whole.answers, *copies))
    said = [line for line in remarks(gathered) if "gave the same answers" in line]
    count = len(copies)
    if changed > 2:
        assert not said
    else:
        assert said[0].startswith("ann and dan") and f"({count - changed} of {count} answers)" in said[0]


@pytest.mark.parametrize("changed", [1, 40])
def test_a_copy_changed_once_in_each_question_is_pointed_out(changed: int) -> None:
    whole = graded()
    copies = [copied(whole, question, changed) for question in whole.questions]
    assert all(len(one) > 1 for one in copies)
    answers = (*whole.answers, *itertools.chain.from_iterable(copies))
    gathered = Gathered(whole.title, ARMS, whole.questions, whole.cases, answers)
    said = [line for line in remarks(gathered) if "gave the same answers" in line]
    assert bool(said) == (changed == 1)
    assert not said or said[0].startswith("ann and dan gave the same answers to ")


def test_copied_readers_multiply_the_degrees_of_freedom() -> None:
    """What the remark warns of: the same readers twice look like many more."""
    from ctenhance.study.statistics.mrmc import RANDOM, compare
    from ctenhance.study.statistics.roc import auc_kernel

    rng = np.random.default_rng(0)
    case, reader = rng.normal(0, 1, (2, 1, 80)), rng.normal(0, 0.3, (2, 5, 1))
    ratings = np.where(np.arange(80) < 40, 0.0, 1.2) + case + reader + rng.normal(0, 0.6, (2, 5, 80))
    kernels = np.array([[auc_kernel(one[:40], one[40:]) for one in arm] for arm in ratings])
    once = compare(kernels).tests[RANDOM].denominator_df
    twice = compare(np.repeat(kernels, 2, axis=1)).tests[RANDOM].denominator_df
    assert twice > 4 * once


def test_exports_do_not_make_unread_cases_unmarked(tmp_path: Path) -> None:
    from openpyxl import load_workbook

    gathered = stopped(detected(count=8), 3)
    said = write_rjafroc(gathered, tmp_path / "m.xlsx")
    assert "without reader cat" in said
    sheets = {
        sheet.title: list(sheet.iter_rows(values_only=True)) for sheet in load_workbook(tmp_path / "m.xlsx")
    }
    assert sheets["Truth"][1][3] == "1,2" and not any("cat" in row for row in sheets["Names"])
    write_imrmc(gathered, tmp_path / "r.imrmc")
    text = (tmp_path / "r.imrmc").read_text(encoding="utf-8")
    assert text.count("\ncat,") == 2 * 3 and text.count("\nann,") == 2 * 8


def test_the_terminal_says_how_far_each_reader_came(tmp_path: Path) -> None:
    write_arms(tmp_path, cases=4)
    folder, key = tmp_path / "study", tmp_path / "study-key.json"
    arms = (tmp_path / "before", tmp_path / "after")
    run("study", "from-folders", *arms, folder, "--reader", "ann", "--reader", "bob", "--reader", "cat")
    study = Study.read(folder)
    where = Key.read(key, study.key_sha256).where()
    for reader, most in (("ann", 4), ("bob", 1)):
        with ReadingSession.open(folder, reader) as session:
            for _ in range(most):
                case = session.case
                assert case is not None
                session.answer("preference", 1 if where[case.images[1].name][1] == "after" else -1)
                session.next()
    run("study", "unblind", folder, "--unfinished")
    done = run("study", "analyse", folder, tmp_path / "out", "--progress", "none")
    assert "2 of 3 readers (ann, bob)" in done.output and "bob 1 of 4 cases" in done.output
    assert "cat is not in the analysis" in done.output
    table = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["tables"][1]
    assert table["rows"][0]["cases"] == {"count": 4, "of": 4}
    assert table["rows"][0]["readers"] == {"count": 2, "of": 3}
