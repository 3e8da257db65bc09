"""`ctenhance serve-dicom` when the disk is full or gone, the clock is set, or a run fails unforeseen."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from synthetic_dicom import write_series

pytest.importorskip("pynetdicom", reason="pynetdicom is not installed")

from ctenhance.service import pipeline as work
from ctenhance.service import serving, store
from ctenhance.service.serving import Service
from ctenhance.service.settings import Pipeline, Settings, read_settings
from ctenhance.service.store import Store, key_of

_MB = 1 << 20
_TO = {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": 104}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "service.json"
    path.write_text(
        json.dumps(
            {
                "queue": "queue", "callers": ["SCANNER"], "quiet_s": 0.01, "retry_s": 0.01, "attempts": 3,
                "least_free_mb": 0, "port": 0, "http_port": 0,
                "pipelines": [
                    {"name": "all", "to": _TO},
                    {"name": "sharp", "where": {"ConvolutionKernel": "Br60"}, "to": _TO},
                ],
            }
        )
    )  # fmt: skip
    return read_settings(path)


def fill(queue: Store, folder: Path, count: int = 3) -> str:
    write_series(folder, depths=[float(index) for index in range(count)])
    key = key_of("study", "series")
    for path in sorted(folder.iterdir()):
        assert queue.add(key, path.stem, path.read_bytes())
    return key


def test_a_clock_that_is_set_ends_no_series_and_lets_none_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, real = Store(tmp_path / "q", 10 * _MB, 0), time.time
    queue.add("a", "1", b"x")
    monkeypatch.setattr(store.time, "time", lambda: real() + 86400)
    assert queue.complete(60) == []
    monkeypatch.setattr(store.time, "time", lambda: real() - 86400)
    queue.add("a", "2", b"x")
    assert queue.complete(0) == ["a"] and queue.close_series("a", ["p"])
    job = queue.next_job("waiting")
    assert job is not None
    queue.put_job(job, "waiting", due=queue.now() + 10, attempts=1)
    queue.close()
    # Set back by a year while the service was away: the job is not due in a year.
    monkeypatch.setattr(store.time, "time", lambda: real() - 365 * 86400)
    queue = Store(tmp_path / "q", 10 * _MB, 0)
    monkeypatch.setattr(queue, "_started", queue._started + store.LONGEST_WAIT_S + 1)
    assert queue.next_job("waiting") is not None
    queue.put_job(job, "sent")
    queue.clear(store.LONGEST_WAIT_S)
    assert queue.counters()["now_images"] == 0
    queue.close()


def test_a_full_disk_under_the_list_loses_nothing(tmp_path: Path) -> None:
    """What is answered for is there after a restart, and what is refused counts as not received."""
    queue = Store(tmp_path / "q", 10 * _MB, 0)
    pages = queue._one("PRAGMA page_count")
    queue._data.execute(f"PRAGMA max_page_count = {pages + 1}")
    kept: list[str] = []
    with pytest.raises(sqlite3.Error, match="full"):
        for index in range(1000):
            queue.add("s", str(index), b"x" * 10)
            kept.append(str(index))
    assert kept and queue.counters()["received"] == len(kept) == queue.counters()["now_images"]
    assert len(queue.files_of("s")) == len(kept)
    queue._data.execute("PRAGMA max_page_count = 100000")
    assert queue.add("s", str(len(kept)), b"x" * 10)  # the sender tries again
    queue.close()
    queue = Store(tmp_path / "q", 10 * _MB, 0)
    assert queue.counters()["now_images"] == len(kept) + 1 == queue.counters()["received"]
    queue.close()


def test_a_sender_may_try_again_when_the_list_cannot_be_written(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(settings)

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(service._receiver, "_kept", full)
    monkeypatch.setattr(service.store, "count", full)
    assert service._receiver._keep(None) == 0xA700
    assert caplog.messages == [
        "an image could not be kept (the queue's list cannot be used: database or disk is full)"
    ]
    service.store.close()


def test_a_queue_that_goes_away_closes_no_series(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its images are not there for a while: said once, and made when they are there again."""
    caplog.set_level(logging.INFO)
    service = Service(settings)
    key = fill(service.store, tmp_path / "ct")
    received, away = settings.queue / "received", settings.queue / "away"
    received.rename(away)
    time.sleep(0.05)
    for _ in range(3):
        assert not service._work()
    health = service.health()
    assert not health["ok"] and health["now_open_series"] == 1
    assert health["failed"] == ["3 of 3 images are gone from the queue's folder"]
    assert len(caplog.messages) == 1 and "3 of 3 images are gone" in caplog.messages[0]
    with pytest.raises(OSError):  # a further image is refused
        service.store.add(key, "new", b"x")
    away.rename(received)
    made: list[int] = []
    monkeypatch.setattr(work, "make", lambda queue, job, *_: made.append(len(queue.files_of(job.series))))
    assert service._work() and made == [3]
    assert service.health()["failed"] == []
    service.store.close()


def test_a_refusal_of_a_disk_that_is_gone_is_tried_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(settings)
    key = fill(service.store, tmp_path / "ct")
    service._close(key)

    def refuse(*_: object) -> bool:
        (settings.queue / "received").rename(settings.queue / "away")
        raise work.RefusedError("'1.dcm' cannot be opened")

    monkeypatch.setattr(work, "_run", refuse)
    assert service._work()
    assert service.store.counters()["now_jobs_waiting"] == 1
    service.store.close()


def test_what_nobody_foresaw_is_tried_as_often_as_the_settings_say(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, tried = Service(settings), []
    service._close(fill(service.store, tmp_path / "ct"))

    def fail(*_: object) -> bool:
        tried.append(True)
        raise ValueError("a report that is cut off")

    monkeypatch.setattr(work, "make", fail)
    end = time.monotonic() + 20
    while "now_jobs_failed" not in service.store.counters() and time.monotonic() < end:
        service._work()
    assert len(tried) == 3 and service.store.failures() == ["all: ValueError"]
    service.store.close()


def test_the_same_interruption_is_said_once(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    service = Service(settings)
    rounds = 0

    def one_round() -> bool:
        nonlocal rounds
        rounds += 1
        if rounds == 5:
            service._stopped.set()
        raise sqlite3.OperationalError("disk I/O error")

    service._again_and_again(one_round)()
    assert rounds == 5 and len(caplog.messages) == 1 and "disk I/O error" in caplog.messages[0]
    service.store.close()


def test_the_administrators_page_tells_that_the_list_cannot_be_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(settings)
    port = service.start()["http"]

    def broken() -> dict[str, int]:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(service.store, "counters", broken)
    try:
        for page in ("health", "metrics"):
            with pytest.raises(urllib.error.HTTPError) as told:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=20)
            assert told.value.code == 503 and b"disk I/O error" in told.value.read()
    finally:
        service.stop()


def test_a_damaged_image_does_not_hide_a_series(settings: Settings, tmp_path: Path) -> None:
    """The command is to say what is wrong with it."""
    write_series(tmp_path / "ct", depths=[0.0, 1.0], ConvolutionKernel="Br60")
    files = sorted((tmp_path / "ct").iterdir())
    files[0].write_bytes(files[0].read_bytes()[:200])
    pipelines: tuple[Pipeline, ...] = tuple(settings.pipelines)
    assert work.matching(pipelines, files) == ["all", "sharp"]
    files[1].write_bytes(b"")
    assert work.matching(pipelines, files) == ["all"]


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Store(tmp_path / "q", 10 * _MB, 0)
    queue.add("s", "1", b"x")
    queue.close_series("s", ["p"])
    job = queue.next_job("waiting")
    assert job is not None

    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(store.os, "link", refuse)
    folder = queue.input_of(job)
    assert folder is not None and [path.read_bytes() for path in folder.iterdir()] == [b"x"]
    queue.close()


def test_an_image_that_comes_while_its_series_is_cleared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Store(tmp_path / "q", 10 * _MB, 0)
    sync = store._sync_folder

    def cleared(folder: Path) -> None:
        sync(folder)
        for path in folder.glob("*.dcm"):
            path.unlink()

    monkeypatch.setattr(store, "_sync_folder", cleared)
    with pytest.raises(OSError, match="cleared"):
        queue.add("s", "1", b"x")
    assert queue.counters()["now_images"] == 0
    assert serving.failure(OSError("the series was cleared at this moment")).startswith("the series")
    queue.close()
