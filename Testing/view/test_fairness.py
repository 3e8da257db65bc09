"""No session starves the others: many windows, many messages, wrong tokens, slow pages, long jobs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from conftest import PATIENCE, REPOSITORY, Page, Served
from test_safety import cookie, get, spoken, talk

from ctenhance.view.pictures import unpacked

sys.path.append(str(REPOSITORY / "Testing" / "panels"))
from study_maker import make

SAVED = "JSON.parse(document.body.dataset.saved || '[]')"


@pytest.fixture
def folder(pair: Path, tmp_path: Path) -> Path:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "ct.nii.gz").write_bytes((pair / "before.nii.gz").read_bytes())
    return inside


@contextlib.contextmanager
def at_work(coroutine: Any) -> Iterator[None]:
    """Let something be done at the same time, in a thread of its own, and wait for its end."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(coroutine)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join(PATIENCE)
    assert not failed and not thread.is_alive()


def readers_of_volumes(served: Served) -> int:
    """How many processes of the server read volumes now."""
    found = 0
    for one in psutil.Process(served.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found += "ctenhance.view.opening" in one.cmdline()
    return found


def test_a_flood_of_opening_reads_one_at_a_time(serve: Callable[..., Served], folder: Path) -> None:
    served = serve("view", "--folder", folder)
    most = [0]
    asked = [{"op": op, "name": "ct.nii.gz", "folder": ""} for _ in range(100) for op in ("open", "list")]

    async def watch() -> None:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            most[0] = max(most[0], readers_of_volumes(served))
            await asyncio.sleep(0.02)

    with at_work(watch()):
        heads = spoken(talk(served, asked, cookie(served), until="frame"))
    assert heads[-1]["type"] == "frame"
    assert most[0] == 1
    # Of the lists that were asked for while one was made only the last one was made.
    assert sum(head["type"] == "entries" for head in heads) < 100
    assert served.stop() == 0


def test_windows_that_nobody_looks_at_make_room(serve: Callable[..., Served], folder: Path) -> None:
    served = serve("view", "--folder", folder)
    own = cookie(served)
    tabs = [f"{number:032x}" for number in range(12)]
    for tab in tabs:  # each is opened and left
        heads = spoken(talk(served, [{"op": "list", "folder": ""}], own, tab=tab, until="entries"))
        assert heads[-1]["type"] == "entries", tab

    async def held_open() -> str:
        headers = {"Origin": f"http://127.0.0.1:{served.port}", "Cookie": own}
        async with contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(aiohttp.ClientSession())
            for tab in tabs[:9]:
                url = f"http://127.0.0.1:{served.port}/socket?tab={tab}"
                socket = await stack.enter_async_context(client.ws_connect(url, headers=headers))
                head = unpacked((await socket.receive(timeout=60)).data)[0]
                if head["type"] == "ended":
                    return str(head["text"])
        return ""

    assert "8 viewers are open" in spoken(held_open())


def test_strangers_take_no_session_and_no_turn_of_a_reader(
    serve: Callable[..., Served], look: Callable[..., Page], tmp_path: Path
) -> None:
    make(tmp_path, preset="preference", cases=2, readers=("ann",))
    served = serve("study", "serve", tmp_path / "study", "--reader", "ann")
    ours = f"http://127.0.0.1:{served.port}"
    statuses = [get(served, "/enter", "POST", b"wrong", Origin=ours)[0] for _ in range(40)]
    assert statuses[0] == 403 and 429 in statuses
    # Whoever asks so often is kept waiting: 120 at once, then 20 a second. A busy machine may not get there.
    begun, answered = time.monotonic(), 0
    while get(served, "/")[0] == 200 and time.monotonic() - begun < 10:
        answered += 1
        assert answered <= 122 + 20 * (time.monotonic() - begun)
    time.sleep(1)
    page = look(served.told[0]["address"])  # and comes in by the right link all the same
    page.at_rest()
    for _ in range(150):
        get(served, "/", **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"})
    with contextlib.suppress(ConnectionError):
        for _ in range(150):
            get(served, "/page/page.css")
    # The reader's own requests are counted for themselves.
    own = page.page.context.cookies()[0]
    assert get(served, "/", Cookie=f"{own['name']}={own['value']}")[0] == 200
    page.press("4")
    page.until(f"{SAVED}.some(([id, , value]) => id === 'preference' && value === 1)")


def test_nonsense_ends_neither_the_reader_s_session_nor_the_server(
    serve: Callable[..., Served], look: Callable[..., Page], tmp_path: Path
) -> None:
    make(tmp_path, preset="preference", cases=2, readers=("ann",))
    served = serve("study", "serve", tmp_path / "study", "--reader", "ann")
    page = look(served.told[0]["address"])
    page.at_rest()
    own = page.page.context.cookies()[0]
    page.page.close()
    given: list[Any] = [None, True, [], {}, [[]], "x", -1, 9e99, 10**40, float("nan"), "left", {"op": 1}]
    messages: list[Any] = [
        "[" * 60_000,
        '{"op":' * 9000,
        "\u0000",
        '"next"',
        '{"op": []}',
        '{"op": {}}',
        '{"op": null}',
    ]
    for value in given:
        messages += [
            {"op": "answer", "question": value, "side": value, "value": value},
            {"op": "answer", "question": "preference", "side": value, "value": value},
            {"op": "mark", "question": "preference", "side": "left", "cell": value, "x": value, "y": value},
            {"op": "window", "number": value, "level": value, "width": value},
            {"op": "scroll", "plane": "axial", "by": value},
            {"op": "sizes", "cells": value},
            {"op": value},
        ]
    messages.append({"op": "nothing of the kind"})
    told = spoken(talk(served, messages[:1], f"{own['name']}={own['value']}", seconds=5, until="never"))
    told += spoken(talk(served, messages[1:], f"{own['name']}={own['value']}", seconds=20, until="never"))
    assert not [head for head in told if head["type"] == "ended"]
    problems = {head["problem"] for head in told if head["type"] == "answer"}
    assert any("does not offer" in problem for problem in problems)
    assert not [problem for problem in problems if str(tmp_path) in problem]
    # What was no answer was not saved; the same page goes on.
    states = [head["state"]["study"] for head in told if head["type"] == "frame"]
    assert states and states[-1]["answers"] == [] and states[-1]["state"] == "reading"
    served.process.send_signal(2)
    _out, errors = served.process.communicate(timeout=120)
    assert "Traceback" not in errors and str(tmp_path) not in errors


def test_a_page_that_takes_nothing_is_no_burden_to_others(serve: Callable[..., Served], folder: Path) -> None:
    served = serve("view", folder / "ct.nii.gz")
    own = cookie(served)
    heads = spoken(talk(served, [], own, until="frame"))
    sizes = {cell: [900, 700] for cell in heads[-1]["state"]["cells"]}

    async def lazy() -> None:
        """Ask for pictures all the time, and read none of them."""
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
        writer.write(
            f"GET /socket?tab={'f' * 32} HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nCookie: {own}\r\n"
            f"Origin: http://127.0.0.1:{served.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        messages = (
            [{"op": "sizes", "cells": sizes}]
            + [{"op": "scroll", "plane": "axial", "by": way} for way in (1, -1)] * 300
            + [{"op": "shown"}] * 60
        )
        for one in messages:
            data = json.dumps(one).encode()
            mask = bytes(4)
            writer.write(bytes([0x81, 0x80 | 126]) + len(data).to_bytes(2, "big") + mask + data)
            await writer.drain()
            await asyncio.sleep(0.006)
        await asyncio.sleep(1)
        writer.close()

    with at_work(lazy()):
        time.sleep(1)
        begun = time.monotonic()
        heads = spoken(talk(served, [], own, tab="e" * 32, until="frame"))
        waited = time.monotonic() - begun
    assert heads[-1]["type"] == "frame"
    print(f"the other one's first picture after {waited:.2f} s")
    memory = psutil.Process(served.process.pid).memory_info().rss
    assert memory < 400e6
    assert served.stop() == 0


def test_a_job_that_takes_too_long_makes_way(serve: Callable[..., Served], folder: Path) -> None:
    served = serve("view", "--folder", folder, "--job-minutes", 0.01)
    run = {"op": "run", "verb": "enhance", "name": "ct.nii.gz"}

    async def states(tab: str) -> list[dict[str, Any]]:
        headers = {"Origin": f"http://127.0.0.1:{served.port}", "Cookie": own}
        found = []
        async with aiohttp.ClientSession() as client:
            url = f"http://127.0.0.1:{served.port}/socket?tab={tab}"
            async with client.ws_connect(url, headers=headers, max_msg_size=0) as socket:
                await socket.send_json(run)
                while not found or found[-1]["state"] not in ("failed", "done", "cancelled"):
                    head = unpacked((await socket.receive(timeout=PATIENCE)).data)[0]
                    if head["type"] == "work" and (found or head["state"] == "waiting"):
                        found.append(head)
        return found

    async def both() -> list[list[dict[str, Any]]]:
        return await asyncio.gather(*(states(tab) for tab in ("a" * 32, "b" * 32)))

    own = cookie(served)
    for told in spoken(both()):
        assert told[-1]["state"] == "failed" and "--job-minutes" in told[-1]["text"]
    left = [
        one
        for one in psutil.Process(served.process.pid).children(recursive=True)
        if "enhance" in one.cmdline()
    ]
    assert left == []
    assert served.stop() == 0
