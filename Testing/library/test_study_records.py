"""Records: durable when acknowledged, append-only, single-writer, and telling of every change from
outside.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.study import records as records_module
from ctenhance.study.records import Records, verify

STUDY = "ab" * 32
KILLS = 500


def written(path: Path, count: int = 6) -> Path:
    with Records(path, STUDY, "ann", now=lambda: 1000.0) as records:
        for number in range(count):
            records.append("answer", trial=number, value=number)
    return path


def test_rows_come_back_and_go_on(tmp_path: Path) -> None:
    path = written(tmp_path / "records" / "ann.sqlite")
    rows, problems = verify(path, STUDY, "ann")
    assert problems == []
    assert [row.kind for row in rows] == ["begin"] + ["answer"] * 6
    assert rows[3].data == {"trial": 2, "value": 2} and rows[3].time == 1000.0
    with Records(path, STUDY, "ann") as records:
        assert [row.hash for row in records.rows] == [row.hash for row in rows]
        records.append("answer", value="ä\n")
    rows, problems = verify(path, STUDY, "ann")
    assert problems == [] and rows[-1].data == {"value": "ä\n"}
    # Closed records are one file to copy, with the receipt.
    assert sorted(one.name for one in path.parent.iterdir()) == ["ann.head", "ann.sqlite"]


def test_the_database_itself_refuses_changes(tmp_path: Path) -> None:
    path = written(tmp_path / "ann.sqlite")
    base = sqlite3.connect(path)
    for statement in ("UPDATE record SET body = ''", "DELETE FROM record"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            base.execute(statement)
    base.close()


def tamper(path: Path, *statements: str) -> None:
    base = sqlite3.connect(path)
    base.execute("DROP TRIGGER no_update")
    base.execute("DROP TRIGGER no_delete")
    for statement in statements:
        base.execute(statement)
    base.commit()
    base.close()


REPLACED = "replace(body, '\"value\":3', '\"value\":4')"


@pytest.mark.parametrize(
    ("statements", "sentence"),
    [
        ((f"UPDATE record SET body = {REPLACED}",), "row 5 was changed"),
        (("UPDATE record SET hash = '00' WHERE n = 3",), "row 3 was changed"),
        (("DELETE FROM record WHERE n = 4",), "row 4 was changed, removed"),
        (("DELETE FROM record WHERE n = 1",), "row 1 was changed"),
        (("UPDATE record SET n = -n", "UPDATE record SET n = 8 + n"), "row 1 was changed"),
        (("INSERT INTO record (body, hash) SELECT body, hash FROM record WHERE n = 7",), "row 8"),
        (("DELETE FROM record WHERE n > 5",), "7 rows were written, but 5 are there"),
        (("DELETE FROM record WHERE n > 5", "UPDATE sqlite_sequence SET seq = 5"), "the end was removed"),
        (("DELETE FROM record", "DELETE FROM sqlite_sequence"), "the end was removed"),
        ((), "triggers"),
    ],
)
def test_changes_from_outside_are_found(tmp_path: Path, statements: tuple[str, ...], sentence: str) -> None:
    path = written(tmp_path / "ann.sqlite")
    tamper(path, *statements)
    _rows, problems = verify(path, STUDY, "ann")
    assert any(sentence in problem for problem in problems), problems
    with pytest.raises(InputError, match="cannot be gone on with"):
        Records(path, STUDY, "ann")


def test_an_older_copy_put_back_is_found_by_the_receipt(tmp_path: Path) -> None:
    path = written(tmp_path / "ann.sqlite")
    shutil.copy(path, tmp_path / "old")
    with Records(path, STUDY, "ann") as records:
        records.append("answer", value=9)
    shutil.copy(tmp_path / "old", path)
    assert "the end was removed" in verify(path, STUDY, "ann")[1][0]
    (tmp_path / "ann.head").unlink()
    assert verify(path, STUDY, "ann")[1] == ["the receipt beside the records is missing"]
    (tmp_path / "ann.head").write_text("{}")  # too short and empty
    assert "cannot be read" in verify(path, STUDY, "ann")[1][0]


class Stopped(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", ["_open_receipt", "write_text", "_write_receipt"])
def test_records_stopped_before_their_first_receipt_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def stop(*_: object) -> None:
        raise Stopped

    path = tmp_path / "ann.sqlite"
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(records_module, step, stop)
        Records(path, STUDY, "ann")
    with contextlib.closing(sqlite3.connect(path)) as base:
        assert base.execute("SELECT count(*) FROM record").fetchone() == (1,)
    # The second row is vouched for before it is written, so that a stop after it does no harm either.
    records = Records(path, STUDY, "ann")
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(records_module, "_write_receipt", stop)
        records.append("answer", value=1)
    records.close()
    with Records(path, STUDY, "ann") as records:
        records.append("answer", value=2)
    rows, problems = verify(path, STUDY, "ann")
    assert problems == [] and [row.data.get("value") for row in rows] == [None, 1, 2]


def test_an_empty_receipt_of_one_row_is_made_up_for(tmp_path: Path) -> None:
    # Earlier versions could be stopped between making the receipt and writing it.
    path = written(tmp_path / "ann.sqlite", count=0)
    (tmp_path / "ann.head").write_text("")
    with Records(path, STUDY, "ann") as records:
        records.append("answer", value=1)
    assert verify(path, STUDY, "ann")[1] == []
    (tmp_path / "ann.head").write_text("")
    assert verify(path, STUDY, "ann")[1] == ["the receipt beside the records is missing"]


@pytest.mark.parametrize(("study", "reader"), [("cd" * 32, "ann"), (STUDY, "bob")])
def test_records_belong_to_one_study_and_reader(tmp_path: Path, study: str, reader: str) -> None:
    path = written(tmp_path / "ann.sqlite")
    assert "row 1" in verify(path, study, reader)[1][0]


def test_a_second_window_is_refused_and_a_closed_one_is_not_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "ann.sqlite"
    first = Records(path, STUDY, "ann")
    for _attempt in range(2):
        with pytest.raises(InputError, match="another window"):
            Records(path, STUDY, "ann")
        with pytest.raises(InputError, match="another window"):
            verify(path, STUDY, "ann")
    first.append("answer", value=1)
    first.close()
    first.close()
    with Records(path, STUDY, "ann") as second:
        assert len(second.rows) == 2


def test_another_process_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ann.sqlite"
    code = (
        "import sys\nfrom pathlib import Path\nfrom ctenhance.study.records import Records\n"
        "try:\n    Records(Path(sys.argv[1]), sys.argv[2], 'ann')\n"
        "except Exception as error:\n    print(error)\n"
    )
    with Records(path, STUDY, "ann"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), STUDY],
            env=light_environment(),
            capture_output=True,
            text=True,
        )
    assert "another window" in done.stdout, done.stderr


@pytest.mark.parametrize("content", [b"", b"no database at all, but long enough to be one" * 40])
def test_damaged_files_are_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ann.sqlite"
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        verify(path, STUDY, "ann")
    with pytest.raises(InputError, match="There are no records"):
        verify(tmp_path / "none.sqlite", STUDY, "ann")


def test_full_disk_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ann.sqlite"
    with Records(path, STUDY, "ann") as records:
        records.append("answer", value=1)
        (pages,) = records._base.execute("PRAGMA page_count").fetchone()
        records._base.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(CTEnhanceError, match="All earlier answers are safe"):
            for number in range(100):
                records.append("answer", value="x" * 1000, number=number)
        kept = len(records.rows)
        records._base.execute("PRAGMA max_page_count = 1000000")
        records.append("answer", value=2)
    rows, problems = verify(path, STUDY, "ann")
    assert problems == [] and len(rows) == kept + 1 and rows[-1].data == {"value": 2}


def light_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "CTEnhance")}


# A process of its own, with the standard library only, so that a fork costs a millisecond: it makes children
# that append and tell each acknowledged row through a pipe, and kills them at random moments. After every 50
# kills it begins another file, since both opening and verifying read a file from its start.
CRASHES = """
import os, random, signal, sys, time
from pathlib import Path
from ctenhance.study.records import Records, verify

folder, study, kills = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
rng = random.Random(11)
cut_off = 0
for kill in range(kills):
    if kill % 50 == 0:
        path, told = folder / f"{kill}.sqlite", 0
    source, sink = os.pipe()
    pause = rng.choice([0, 0.0005])  # between answers: else a busy machine lets all ten pass in one turn
    child = os.fork()
    if child == 0:
        os.close(source)
        records = Records(path, study, "ann")
        os.write(sink, b"o")
        for _ in range(10):
            row = records.append("answer", value=len(records.rows))
            os.write(sink, b"%d\\n" % row.n)
            if pause:
                time.sleep(pause)
        signal.pause()
    os.close(sink)
    heard = b""
    if rng.random() < 0.8:
        heard += os.read(source, 1)  # it is open; otherwise it may be killed while it opens
        answers = rng.randrange(9) if pause else 0  # told by the pipe, and not by the clock
        while heard.count(b"\\n") < answers:
            part = os.read(source, 65536)
            assert part, f"after kill {kill} the records could not be gone on with"
            heard += part
    time.sleep(rng.random() * (0.0005 if heard.count(b"\\n") else 0.004))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while part := os.read(source, 65536):
        heard += part
    os.close(source)
    acknowledged = heard.replace(b"o", b"").split(b"\\n")[:-1]
    if acknowledged:
        told = int(acknowledged[-1])
        cut_off += len(acknowledged) < 10
    if told:
        rows, problems = verify(path, study, "ann")
        assert not problems, (kill, problems)
        assert len(rows) >= told, (kill, len(rows), told)
        # Every answer is there, once, in its order.
        assert [row.data.get("value") for row in rows][1:] == list(range(1, len(rows)))
        with_rows = len(rows)
print(cut_off, with_rows)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_nothing_acknowledged_is_lost_in_500_kills(tmp_path: Path) -> None:
    # In memory where that can be had: what a kill loses is the same there, and 500 are over in seconds.
    with tempfile.TemporaryDirectory(
        dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path
    ) as folder:
        survive_kills(Path(folder))


def survive_kills(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASHES, str(folder), STUDY, str(KILLS)],
        env=light_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    cut_off, rows = map(int, done.stdout.split())
    assert cut_off > KILLS / 20, "too few kills fell between two answers to prove anything"
    assert rows > 50
    files = sorted(folder.glob("*.sqlite"))
    assert len(files) == KILLS / 50
    for path in files:
        with Records(path, STUDY, "ann") as records:
            records.append("answer", value=len(records.rows))


def test_reading_needs_the_standard_library_only(tmp_path: Path) -> None:
    code = (
        "import sys, ctenhance.study.session\n"
        "heavy = {'torch', 'numpy', 'scipy', 'SimpleITK', 'pandas', 'statsmodels'} & set(sys.modules)\n"
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=light_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_bodies_are_canonical_json(tmp_path: Path) -> None:
    path = written(tmp_path / "ann.sqlite", count=1)
    base = sqlite3.connect(path)
    parse: Callable[[str], object] = json.loads
    for (body,) in base.execute("SELECT body FROM record"):
        assert json.dumps(parse(body), sort_keys=True, separators=(",", ":")) == body
    base.close()
