"""Readers of a study in real browsers: at once, by keyboard, through reloads and a killed server."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, Page, Served

from ctenhance.study.records import verify
from ctenhance.study.study_file import Study

sys.path.append(str(REPOSITORY / "Testing" / "panels"))
from study_maker import make

SAVED = "JSON.parse(document.body.dataset.saved || '[]')"
PLACE = "document.getElementById('place').textContent"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of three pairs for two readers; its key lies beside it."""
    make(tmp_path, preset="preference", cases=3, readers=("ann", "bob"))
    return tmp_path / "study"


def links(served: Served) -> dict[str, str]:
    return {one["reader"]: one["address"] for one in served.told}


def answers(study: Path, reader: str) -> dict[int, Any]:
    """The last preference of each trial in the records, which must be sound."""
    found = Study.read(study)
    rows, problems = verify(found.record_path(reader), found.sha256, reader)
    assert problems == []
    return {
        row.data["trial"]: row.data["value"]
        for row in rows
        if row.kind == "answer" and row.data["question"] == "preference"
    }


def grade(page: Page, case: int, key: str) -> None:
    """Answer a case by keyboard, wait until it is saved, and go on."""
    page.until(f"{PLACE}.startsWith('Case {case} of 3')")
    page.at_rest()
    page.press(key)
    page.until(f"{SAVED}.some(([id, , value]) => id === 'preference' && value === {int(key) - 3})")
    page.press("PageDown")


def test_two_readers_at_once(serve: Callable[..., Served], look: Callable[..., Page], study: Path) -> None:
    served = serve("study", "serve", study, count=2)
    pages = {reader: look(link) for reader, link in links(served).items()}
    keys = {"ann": "135", "bob": "542"}
    for case in range(1, 4):
        for reader, page in pages.items():
            grade(page, case, keys[reader][case - 1])
        if case == 1:  # in the middle of it one of them loads the page again
            pages["ann"].page.reload()
    for page in pages.values():
        page.until("!document.getElementById('goOn').hidden")

    # A page knows nothing that the study keeps from its reader.
    shown = pages["ann"].page.content() + pages["ann"].page.evaluate(
        "JSON.stringify([performance.getEntries(), document.title, location.href, sessionStorage])"
    )
    found = Study.read(study)
    for secret in (
        "bob",
        "smooth-arm",
        "noisy-arm",
        "Miller",
        ".mha",
        str(study),
        *found.images,
        found.key_sha256,
    ):
        assert secret not in shown

    pages["ann"].press("Control+Enter")
    pages["ann"].until("!document.getElementById('cover').hidden")
    assert served.stop() == 0
    for reader in pages:
        expected = {number + 1: int(key) - 3 for number, key in enumerate(keys[reader])}
        assert answers(study, reader) == expected


def test_a_link_is_good_once_and_the_session_goes_on(
    serve: Callable[..., Served], look: Callable[..., Page], study: Path
) -> None:
    served = serve("study", "serve", study, "--reader", "ann", "--idle-minutes", 0.1)
    link = links(served)["ann"]
    page = look(link)
    grade(page, 1, "4")
    page.until(f"{PLACE}.startsWith('Case 2')")
    again = look(link)
    again.until("document.getElementById('status').textContent.includes('used already')")
    # Nothing is done for six seconds: signed out, and back at the same case when loaded again.
    page.until("document.getElementById('status').textContent.includes('signed out')")
    page.page.reload()
    page.until(f"{PLACE}.startsWith('Case 2')")
    # The same session in another window takes over, the first one says so.
    other = look(link.partition("#")[0], page.page.context)
    other.until(f"{PLACE}.startsWith('Case 2')")
    page.until("document.getElementById('status').textContent.includes('another window')")


def test_no_answer_is_lost_when_the_server_is_killed(
    serve: Callable[..., Served], look: Callable[..., Page], study: Path
) -> None:
    served = serve("study", "serve", study, "--reader", "ann")
    page = look(links(served)["ann"])
    grade(page, 1, "2")
    page.until(f"{PLACE}.startsWith('Case 2')")
    page.at_rest()
    page.press("5")
    page.until(f"{SAVED}.some(([id, , value]) => value === 2)")
    page.press("1")  # on its way when the power goes
    served.kill()
    page.until("document.body.dataset.connected", "no")

    served = serve("study", "serve", study, "--reader", "ann")
    page = look(links(served)["ann"])
    page.until(f"{PLACE}.startsWith('Case 2')")
    page.at_rest()
    assert page.until(SAVED)[0][2] in (2, -2)
    assert served.stop() == 0
    found = answers(study, "ann")
    assert found[1] == -1 and found[2] in (2, -2)


def test_rules_hold_in_the_page(
    serve: Callable[..., Served], look: Callable[..., Page], tmp_path: Path
) -> None:
    windows = [{"name": "Lung", "level": -600, "width": 1500}, {"name": "Bone", "level": 400, "width": 1800}]
    questions = [
        {"id": "noise", "kind": "likert", "text": "Noise?", "anchors": ["Bad", "Fair", "Good"]},
        {"id": "size", "kind": "number", "text": "Size?", "low": 0, "high": 50, "required": False},
        {"id": "lesion", "kind": "marks", "text": "Lesions?"},
    ]
    make(
        tmp_path,
        questions=questions,
        cases=2,
        windows=windows,
        window_locked=True,
        lock="case",
    )
    page = look(links(serve("study", "serve", tmp_path / "study"))["ann"])
    page.at_rest()
    window = "document.querySelector('.cell .windowed').textContent"
    assert page.page.evaluate(window) == "L -600 W 1500".replace(" W", "  W")
    page.page.mouse.move(250, 300)
    page.page.mouse.down()
    page.page.mouse.move(300, 320, steps=3)
    page.page.mouse.up()
    page.until("document.getElementById('status').textContent.includes('allows only the windows Lung, Bone')")
    page.press("w")
    page.until(f"{window}.startsWith('L 400')")
    page.press("PageDown")
    page.until("document.getElementById('status').textContent.includes('before going on')")
    page.press("3", "1")
    page.until(f"{SAVED}.length === 2")
    assert page.page.evaluate(SAVED) == [["noise", "left", 3], ["noise", "right", 1]]
    page.press("Tab", "1", "2", "Enter")
    page.until(f"{SAVED}.some(([id, side, value]) => id === 'size' && side === 'left' && value === 12)")
    page.page.mouse.move(250, 400)
    page.press("m")
    page.until(f"{SAVED}.some(([id]) => id === 'lesion')")
    page.press("8")
    page.until(f"{SAVED}.some(([id, , value]) => id === 'lesion' && value[0].confidence === 80)")
    mark = next(one for one in page.page.evaluate(SAVED) if one[0] == "lesion")
    assert mark[1] == "left" and len(mark[2][0]["point"]) == 3
    # Grid of the study's images: x from -10 to 11.7, y from 5 to 21.1 mm, slices of 2.5 mm.
    x, y, z = mark[2][0]["point"]
    assert -10 < x < 12 and 5 < y < 22 and -1 < z < 15
    page.until("document.querySelectorAll('.mark').length === 1")
    page.press("PageDown")
    page.until(f"{PLACE}.startsWith('Case 2')")
    page.press("PageUp")
    page.until("document.getElementById('status').textContent.includes('locked')")


def test_what_cannot_be_served_is_said(study: Path, tmp_path: Path) -> None:
    import subprocess

    def fails(*arguments: Any) -> str:
        command = [sys.executable, "-m", "ctenhance", "study", "serve", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 2, done.stderr
        return done.stderr

    assert "study" in fails(tmp_path)
    assert "no reader of the study" in fails(study, "--reader", "eve")
    assert "no address" in fails(study, "--address", "reads.example.org")
    assert "--address" in fails(study, "--host", "0.0.0.0")


def test_a_damaged_image_is_told_without_its_name(
    serve: Callable[..., Served], look: Callable[..., Page], study: Path
) -> None:
    for path in (study / "images").iterdir():
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    page = look(links(serve("study", "serve", study, "--reader", "ann"))["ann"])
    page.until("document.getElementById('status').textContent.includes('missing or damaged')")
    assert ".mha" not in page.page.content()
    assert page.page.evaluate(f"{SAVED}.length") == 0
    assert (
        json.loads(page.page.evaluate("JSON.stringify([...document.querySelectorAll('.cell')].length)")) == 0
    )


def test_practice_planes_and_a_pause(
    serve: Callable[..., Served], look: Callable[..., Page], tmp_path: Path
) -> None:
    questions = [
        {
            "id": "noise",
            "kind": "likert",
            "text": "Noise?",
            "anchors": ["Bad", "Fair", "Good"],
            "plane": "coronal",
        },
        {"id": "edges", "kind": "likert", "text": "Edges?", "anchors": ["Bad", "Fair", "Good"]},
    ]
    windows = [{"name": "Soft", "level": 40, "width": 400}, {"name": "Bone", "level": 400, "width": 1800}]
    made = [
        tmp_path / arm / f"Miller {number}.nii.gz" for number in (0, 1) for arm in ("smooth-arm", "noisy-arm")
    ]
    practice = [{"name": "first-try", "images": {path.parent.name: str(path) for path in made[:2]}}]
    make(tmp_path, questions=questions, cases=2, windows=windows, practice=practice, present="single")
    served = serve("study", "serve", tmp_path / "study")
    page = look(links(served)["ann"])
    page.until(f"{PLACE}.startsWith('Practice case 1 of ')")
    page.at_rest()
    # The first question turns the views to its plane; the second leaves them there.
    plane = "document.querySelector('.cell').dataset.cell.split('/')[0]"
    page.until(plane, "coronal")
    page.at_rest()
    page.press("a")
    page.until(plane, "axial")
    page.press("2")
    page.until(f"{SAVED}.length === 1")
    page.press("s")
    page.until(plane, "sagittal")
    page.press("Shift+Digit2")
    page.until("document.querySelector('.cell .windowed').textContent.startsWith('L 400')")

    # A pause hides the images, takes no answers and keeps no way around.
    page.press("p")
    page.until("document.querySelectorAll('.cell').length === 0")
    assert "Paused" in page.text("#cover") and page.text("#pause") == "Go on (P)"
    page.press("3")
    page.page.evaluate("document.getElementById('questions').inert = false")
    page.press("3")
    page.until("document.getElementById('status').textContent.includes('paused')")
    page.page.reload()
    page.until("document.getElementById('cover').textContent.includes('Paused')")
    assert page.page.evaluate(SAVED) == [["noise", "image", 2]]
    page.press("p")
    page.until("document.querySelectorAll('.cell').length === 1")
    page.at_rest()
    page.press("3")
    page.until(f"{SAVED}.length === 2")

    # After the practice the answers count.
    total = int(page.page.evaluate(PLACE).split(" of ")[1].split(":")[0])
    for number in range(2, total + 1):
        page.press("PageDown")
        page.until(f"{PLACE}.startsWith('Practice case {number} of')")
        page.at_rest()
        page.press("1", "1")
        page.until(f"{SAVED}.length === 2")
    page.press("PageDown")
    page.until("!document.getElementById('goOn').hidden")
    page.press("Control+Enter")
    page.until("document.getElementById('cover').textContent.includes('practice is over')")
    page.press("Control+Enter")
    page.until(f"{PLACE}.startsWith('Case 1 of')")
    page.at_rest()
    page.press("2", "3")
    page.until(f"{SAVED}.length === 2")
    assert served.stop() == 0
    found = Study.read(tmp_path / "study")
    counts = {trial.number for trial in found.trials("ann") if trial.counts}
    rows, problems = verify(found.record_path("ann"), found.sha256, "ann")
    assert problems == []
    assert {row.data["trial"] for row in rows if row.kind == "answer"} & counts
    assert {"pause", "resume"} <= {row.kind for row in rows}
