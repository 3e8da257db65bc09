"""From answers to tables, plots, report and exports; and the whole way on the command line."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_arms import write_arms
from typer.testing import CliRunner

from ctenhance.cli import app
from ctenhance.runtime.errors import InputError
from ctenhance.study import ReadingSession, Study
from ctenhance.study.analysis import Results, tables_of
from ctenhance.study.design import Lesion
from ctenhance.study.exports import write_imrmc, write_rjafroc, write_tidy
from ctenhance.study.gathered import Gathered
from ctenhance.study.key import Key, KeyCase
from ctenhance.study.plots import plots
from ctenhance.study.questions import PAIR, Question, preset
from ctenhance.study.report import write_html, write_pdf
from ctenhance.study.statistics.estimate import Estimate
from ctenhance.study.tables import Missing, Table, cell_text, p_text
from ctenhance.study.unblinding import Answer

ARMS = ("before", "after")
READERS = ("ann", "bob", "cat")
LESION = Lesion((10.0, 20.0, 30.0), 8.0)


def answer(question: Question, reader: str, case: str, value: Any, **more: Any) -> Answer:
    """One answer with what matters little filled in."""
    given = {
        "session": 1, "trial": int(case[1:]), "repeat": False, "side": "left", "arm": "after", "versus": "",
        "value": value, "first_value": value, "changes": 0, "correct": None, "active_s": 12.0, "time": 1.75e9,
    }  # fmt: skip
    return Answer(reader=reader, case=case, question=question.id, kind=question.kind, **{**given, **more})


def cases(count: int, diseased: bool = False) -> tuple[KeyCase, ...]:
    return tuple(
        KeyCase(
            f"c{number}",
            {},
            {},
            (number % 2 == 0) if diseased else None,
            (LESION,) if diseased and number % 2 == 0 else (),
        )
        for number in range(1, count + 1)
    )


def graded(seed: int = 0, count: int = 24) -> Gathered:
    """Grades of 3 readers, the arm 'after' one grade better in half of the cases; the first 6 read again."""
    rng = np.random.default_rng(seed)
    questions = preset("image quality").questions
    found = []
    for question in questions:
        truth = rng.integers(2, 5, count)
        for reader in READERS:
            for arm in ARMS:
                for number in range(count):
                    value = int(
                        np.clip(truth[number] + (arm == "after") * (number % 2) + rng.integers(-1, 2), 1, 5)
                    )
                    found.append(answer(question, reader, f"c{number + 1}", value, arm=arm))
                    if number < 6:
                        found.append(answer(question, reader, f"c{number + 1}", value, arm=arm, repeat=True))
    return Gathered("Grades & <scales>", ARMS, questions, cases(count), tuple(found))


def preferred(seed: int = 1, count: int = 30, arms: tuple[str, ...] = ARMS) -> Gathered:
    rng = np.random.default_rng(seed)
    question = preset("preference").questions[0]
    found = [
        answer(
            question,
            reader,
            f"c{number + 1}",
            int(np.clip(round(rng.normal(0.7, 1.0)), -2, 2)),
            arm=later,
            versus=earlier,
            side=PAIR,
        )
        for reader in READERS
        for number in range(count)
        for place, earlier in enumerate(arms)
        for later in arms[place + 1 :]
    ]
    return Gathered("Preference", arms, (question,), cases(count), tuple(found))


def chosen(seed: int = 2, count: int = 40) -> Gathered:
    rng = np.random.default_rng(seed)
    question = preset("realism").questions[0]
    found = []
    for reader in READERS:
        for number in range(count):
            right = bool(rng.random() < 0.5)
            found.append(
                answer(
                    question, reader, f"c{number + 1}", not right, versus="before", side=PAIR, correct=right
                )
            )
    return Gathered("Realism", ARMS, (question,), cases(count), tuple(found))


def detected(seed: int = 3, count: int = 40) -> Gathered:
    rng = np.random.default_rng(seed)
    marks, rating = preset("lesion detection").questions
    found = []
    for reader in READERS:
        for arm, skill in zip(ARMS, (1.0, 2.0), strict=True):
            for case in cases(count, diseased=True):
                suspicion = float(np.clip(50 + 20 * (rng.normal() + (skill if case.diseased else 0)), 0, 100))
                found.append(answer(rating, reader, case.name, suspicion, arm=arm, side="image"))
                given = [{"point": [100.0, 0.0, 0.0], "confidence": 20.0}] * int(rng.random() < 0.3)
                if case.diseased and rng.random() < 0.4 * skill:
                    given = [*given, {"point": [12.0, 20.0, 30.0], "confidence": suspicion}]
                found.append(answer(marks, reader, case.name, given, arm=arm, side="image"))
    return Gathered("Detection", ARMS, (marks, rating), cases(count, diseased=True), tuple(found))


def results_of(gathered: Gathered) -> Results:
    facts = {
        "title": gathered.title, "id": "0" * 16, "sha256": "ab" * 32, "arms": list(gathered.arms),
        "readers": list(gathered.readers), "cases": len(gathered.cases), "answers": len(gathered.answers),
        "margin": 0.1, "seed": 0,
    }  # fmt: skip
    return Results(gathered, facts, tuple(tables_of(gathered)))


def column(table: Table, name: str) -> list[Any]:
    return [row[table.columns.index(name)] for row in table.rows]


def test_grades_are_summarised_compared_and_agreed_on() -> None:
    results = results_of(graded())
    names = [table.id for table in results.tables]
    assert names == ["readings", "summary", "comparison", "vgc", "agreement", "repeats"]
    assert column(results.table("readings"), "readings") == [24, 24, 24]
    assert len(results.table("summary").rows) == 12
    shifts = column(results.table("comparison"), "shift (95 % CI)")
    assert all(isinstance(one, Estimate) and one.value is not None and one.value > 0 for one in shifts)
    areas = column(results.table("vgc"), "area (these readers)")
    assert all(one.value > 0.5 and one.low < one.value < one.high for one in areas)
    assert column(results.table("repeats"), "same answer") == [1.0] * 18
    json.dumps(results.to_json(), allow_nan=False)
    with pytest.raises(KeyError):
        results.table("mrmc.lesions")


def test_preferences_are_tested_and_ranked() -> None:
    results = results_of(preferred())
    table = results.table("preference.preference")
    assert column(table, "reader") == ["all", *READERS]
    everyone = table.rows[0]
    assert everyone[table.columns.index("share (these readers)")].low > 0.5
    assert sum(everyone[table.columns.index(name)] for name in ("-2", "-1", "0", "+1", "+2")) == 90
    shares = column(table, "share (these readers)")
    assert shares[0].value == pytest.approx(np.mean([one.value for one in shares[1:]]))
    zeros = column(table, "0")
    assert any(zeros[1:]), "no ties in it"
    three = results_of(preferred(arms=("a", "b", "c")))
    strengths = column(three.table("bradley-terry.preference"), "log strength (95 % CI)")
    assert strengths[0].value < strengths[1].value < strengths[2].value
    assert sum(one.value for one in strengths) == pytest.approx(0, abs=1e-9)


def test_guessing_is_called_equivalent_and_knowing_is_not() -> None:
    table = results_of(chosen(count=120)).table("choice")
    assert table.rows[0][table.columns.index("equivalent")] is True
    gathered = chosen()
    sure = [
        answer(gathered.questions[0], one.reader, one.case, False, versus="before", side=PAIR, correct=True)
        for one in gathered.answers
    ]
    table = results_of(Gathered("Sure", ARMS, gathered.questions, gathered.cases, tuple(sure))).table(
        "choice"
    )
    assert table.rows[0][table.columns.index("equivalent")] is False
    assert table.rows[0][table.columns.index("p (these readers)")] == "< 0.001"


def test_detection_gives_figures_of_merit_and_their_comparison() -> None:
    results = results_of(detected())
    for question in ("lesions", "suspicion"):
        figures = results.table(f"figures.{question}")
        assert len(figures.rows) == 6
        mrmc = results.table(f"mrmc.{question}")
        difference = next(row for row in mrmc.rows if row[1] == "after - before")
        assert (
            isinstance(difference[2], Estimate)
            and difference[2].value is not None
            and difference[2].value > 0
        )
        (scatter,) = results.table(f"scatter.{question}").rows
        assert scatter[0] > 0 and scatter[-1] == len(results.gathered.cases)
    marks = results.table("marks.lesions")
    assert column(marks, "of") == [20] * 6


def test_cells_are_printed_as_journals_do() -> None:
    assert cell_text(Estimate(0.51234, 0.4, 0.6)) == "0.512 (0.400 to 0.600)"
    assert [cell_text(one) for one in (None, Missing("few"), True, 3, 12.345, -1.234, 250.0)] == [
        "",  # does not apply
        "–",
        "yes",
        "3",
        "12.3",
        "-1.23",
        "250",
    ]
    assert [cell_text(one) for one in (0.0, 0.000345, 0.0346)] == ["0.000", "0.000345", "0.035"]
    assert [p_text(one) for one in (None, 0.0001, 0.0456)] == ["–", "< 0.001", "0.046"]


MAKERS = {"grades": graded, "preference": preferred, "choice": chosen, "detection": detected}


@pytest.mark.parametrize("name", MAKERS)
def test_reports_hold_every_table_and_plot(tmp_path: Path, name: str) -> None:
    results = results_of(MAKERS[name]())
    write_html(results, tmp_path / "report.html")
    write_pdf(results, tmp_path / "report.pdf")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    shown = list(plots(results))
    assert page.count("<table>") == len(results.tables) and page.count("<img ") == len(shown) > 0
    assert "For research use only" in page and "<scales>" not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page), "the page must load nothing"
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(InputError, match="must end in"):
        write_pdf(results, tmp_path / "report.doc")


def test_tidy_answers(tmp_path: Path) -> None:
    gathered = preferred(count=3)
    remark = answer(Question("note", "text", "?", PAIR), "ann", "c1", "=1+1")
    write_tidy(
        Gathered("t", ARMS, gathered.questions, gathered.cases, (*gathered.answers, remark)),
        tmp_path / "a.csv",
    )
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert (
        rows[0]["arm"] == "after"
        and rows[0]["time"] == "2025-06-15T15:06:40+00:00"
        and rows[0]["repeat"] == "0"
    )
    assert rows[-1]["value"] == "'=1+1", "a remark must not become a spreadsheet's formula"


def test_imrmc_input(tmp_path: Path) -> None:
    write_imrmc(detected(count=6), tmp_path / "r.imrmc")
    lines = (tmp_path / "r.imrmc").read_text(encoding="utf-8").splitlines()
    assert lines[2:6] == ["NR: 3", "N0: 3", "N1: 3", "NM: 2"]
    data = [line.split(",") for line in lines[lines.index("BEGIN DATA:") + 1 :]]
    assert [row[3] for row in data[:6]] == ["0", "1", "0", "1", "0", "1"] and {
        row[0] for row in data[:6]
    } == {"-1"}
    assert len(data) == 6 + 3 * 2 * 6 and all(len(row) == 4 for row in data)
    with pytest.raises(InputError, match="nothing to export"):
        write_imrmc(preferred(), tmp_path / "n.imrmc")


def test_rjafroc_workbook(tmp_path: Path) -> None:
    from openpyxl import load_workbook

    gathered = detected(count=8)
    write_rjafroc(gathered, tmp_path / "m.xlsx")
    book = load_workbook(tmp_path / "m.xlsx")
    sheets = {sheet.title: list(sheet.iter_rows(values_only=True)) for sheet in book}
    assert sheets["TP"][0] == ("ReaderID", "ModalityID", "CaseID", "LesionID", "TP_Rating")
    assert sheets["FP"][0] == ("ReaderID", "ModalityID", "CaseID", "FP_Rating")
    assert sheets["Truth"][0] == ("CaseID", "LesionID", "Weight", "ReaderID", "ModalityID", "Paradigm")
    assert sheets["Truth"][1] == (1, 0, 0, "1,2,3", "1,2", "FROC")
    assert sheets["Truth"][2] == (2, 1, 1, "1,2,3", "1,2", "FCTRL")
    given = [mark for one in gathered.answers if one.kind == "marks" for mark in one.value]
    assert len(sheets["TP"]) - 1 + len(sheets["FP"]) - 1 == len(given)
    assert ("reader", 2, "bob") in sheets["Names"]
    with pytest.raises(InputError, match="lesion marks"):
        write_rjafroc(graded(), tmp_path / "n.xlsx")


def run(*arguments: object, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == code, done.output
    return done


def read_through(folder: Path, key: Path) -> None:
    """Every reader prefers 'after', as only this test can know."""
    study = Study.read(folder)
    where = Key.read(key, study.key_sha256).where()
    for reader in study.readers:
        with ReadingSession.open(folder, reader) as session:
            while not session.can_finish:
                case = session.case
                assert case is not None
                session.answer("preference", 1 if where[case.images[1].name][1] == "after" else -1)
                session.next()
            session.finish()


def test_one_of_a_kind_is_told_in_the_singular(tmp_path: Path) -> None:
    write_arms(tmp_path, cases=1)
    folder, key, out = tmp_path / "study", tmp_path / "study-key.json", tmp_path / "out"
    said = run(
        "study", "from-folders", tmp_path / "before", tmp_path / "after", folder, "--reader", "ann"
    ).output  # fmt: skip
    assert "2 images, 1 reader with 1 reading each." in said and Study.read(folder).title.endswith(", 1 case")
    said += run("study", "status", folder).output
    read_through(folder, key)
    said += run("study", "unblind", folder).output + run("study", "analyse", folder, out).output
    said += (out / "report.html").read_text(encoding="utf-8")
    assert "1 of 1 reader (ann), 1 case, arms" in said and "1 answer." in said and "ann 1 of 1 case." in said
    assert not re.search(r"\b1 (readers|readings|cases|images|answers|records|active minutes|arms)\b", said)
    assert re.search(r"of 1 (case|reader)\b", said)


def test_a_study_on_the_command_line(tmp_path: Path) -> None:
    write_arms(tmp_path, cases=4)
    (tmp_path / "before" / "Miller 3.nii.gz").unlink()
    folder, key, out = tmp_path / "study", tmp_path / "study-key.json", tmp_path / "out"
    made = run(
        "study",
        "from-folders",
        tmp_path / "before",
        tmp_path / "after",
        folder,
        "--reader",
        "ann",
        "--reader",
        "bob",
    )
    assert "Miller 3" in made.output and "6 images, 2 readers with 3 readings each" in made.output
    assert "ann: 0 of 3 read" in run("study", "status", folder).output
    assert "still blinded" in run("study", "analyse", folder, out, code=2).output
    assert "Not all readers" in run("study", "unblind", folder, code=2).output
    read_through(folder, key)
    assert "bob: 3 of 3 read" in run("study", "status", folder).output
    run("study", "unblind", folder)
    run("study", "analyse", folder, out, "--progress", "none")
    assert {path.name for path in out.iterdir()} == {
        "report.html",
        "report.pdf",
        "results.json",
        "answers.csv",
    }
    found = json.loads((out / "results.json").read_text(encoding="utf-8"))
    table = next(one for one in found["tables"] if one["id"] == "preference.preference")
    assert table["rows"][0]["+1"] == 6 and table["rows"][0]["share (these readers)"]["value"] == 1
    run("study", "export", folder, tmp_path / "csv")
    assert (tmp_path / "csv" / "answers.csv").read_bytes() == (out / "answers.csv").read_bytes()
    assert "margin" in run("study", "analyse", folder, out, "--margin", "0.7", code=2).output


def test_create_and_plan_on_the_command_line(tmp_path: Path) -> None:
    write_arms(tmp_path, cases=1)
    design = {
        "format": "ctenhance-study-design", "version": 1, "title": "T", "preset": "realism",
        "arms": list(ARMS), "readers": ["ann"],
        "cases": [{"name": "p", "images": {arm: f"{arm}/Miller 0.nii.gz" for arm in ARMS}}],
        "truth": {"real": "before"},
    }  # fmt: skip
    (tmp_path / "design.json").write_text(json.dumps(design))
    run("study", "create", tmp_path / "design.json", tmp_path / "s", "--key", tmp_path / "k.json")
    assert Key.read(tmp_path / "k.json", Study.read(tmp_path / "s").key_sha256).truth == {"real": "before"}
    assert "cases" in run("study", "plan", "preference", "--share", "0.7").output
    assert "choose preference" in run("study", "plan", "nothing", code=2).output
    equivalence = run("study", "plan", "equivalence", "--readers", "2").output
    assert "(margin 0.1, readers 2, agreement 0.3, power 0.8; alpha 0.05, two one-sided tests)" in equivalence
    refused = run("study", "plan", "grades", "--readers", "4", code=2).output
    assert "--readers has no effect on a plan for grades" in refused


def test_a_multi_reader_comparison_is_planned_from_a_pilot(tmp_path: Path) -> None:
    """The published plan for the Van Dyke data (see test_study_paired.py), and a pilot of one's own."""
    published = "0.00080229,0.00034661,0.00034407,0.00023903,0.00020039,114"
    asked = ("study", "plan", "mrmc", "--readers", "6", "--difference", "0.0438")
    assert "251 cases" in run(*asked, "--components", published).output
    assert "six numbers" in run(*asked, "--components", "1,2,3", code=2).output
    assert "six numbers" in run(*asked, "--components", published + ",1", code=2).output
    assert "either --pilot" in run(*asked, code=2).output

    results = results_of(detected())
    pilot = tmp_path / "results.json"
    pilot.write_text(json.dumps(results.to_json()), encoding="utf-8")
    assert "lesions, suspicion" in run(*asked, "--pilot", pilot, code=2).output
    planned = run(*asked, "--pilot", pilot, "--question", "suspicion").output
    (row,) = results.table("scatter.suspicion").rows
    components = ",".join(map(str, row))
    assert " cases" in planned and planned == run(*asked, "--components", components).output
    pilot.write_text('{"tables": 3}')
    assert "no results.json" in run(*asked, "--pilot", pilot, code=2).output


def test_a_pilot_of_one_reader_cannot_be_planned_from(tmp_path: Path) -> None:
    pilot = tmp_path / "results.json"
    pilot.write_text(json.dumps({"study": {"readers": ["ann"]}, "tables": []}), encoding="utf-8")
    output = run("study", "plan", "mrmc", "--pilot", str(pilot), code=2).output
    assert "cannot be estimated" in output and "it has one reader, and that takes 2 arms, 2 readers" in output
    assert "--components" in output
