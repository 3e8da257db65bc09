"""Attacks on a server that looks at harmless files: all are refused, and it goes on serving."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from conftest import Page, Served

from ctenhance.view.pictures import unpacked

TAB = "0123456789abcdef" * 2


def get(
    served: Served, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Send a request as it stands, without a client's tidying of its path."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    if body is not None and "Content-Length" not in headers:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def cookie(served: Served) -> str:
    """Come in as a browser does."""
    return get(served, "/")[1]["Set-Cookie"].split(";")[0]


async def talk(
    served: Served, messages: list[Any], own_cookie: str, origin: str | None = None, **more: Any
) -> list[Any]:
    """Send messages by a websocket; return the heads of what comes back until there is an answer to the
    last."""
    headers = {"Origin": origin or f"http://127.0.0.1:{served.port}", "Cookie": own_cookie}
    got: list[Any] = []
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{served.port}/socket?tab={more.get('tab', TAB)}"
        async with session.ws_connect(url, headers=headers, max_msg_size=0) as socket:
            for message in messages:
                await socket.send_str(message if isinstance(message, str) else json.dumps(message))
            end = time.monotonic() + more.get("seconds", 120)
            while time.monotonic() < end:
                try:
                    told = await socket.receive(timeout=1)
                except asyncio.TimeoutError:
                    continue
                if told.type is not aiohttp.WSMsgType.BINARY:
                    got.append({"type": "closed", "code": socket.close_code})
                    return got
                got.append(unpacked(told.data)[0])
                if got[-1]["type"] == more.get("until", "answer"):
                    return got
    return got


def spoken(talking: Any) -> Any:
    """Run it in a thread of its own: Playwright, of another test's browser, has a loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, talking).result()


@pytest.fixture
def folder(pair: Path, tmp_path: Path) -> Path:
    """A folder to choose from, beside a file that is not to be seen."""
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "ct.nii.gz").write_bytes((pair / "before.nii.gz").read_bytes())
    (tmp_path / "outside.nii.gz").write_bytes((pair / "after.nii.gz").read_bytes())
    (inside / "link.nii.gz").symlink_to(tmp_path / "outside.nii.gz")
    return inside


def test_attacks_are_refused(serve: Callable[..., Served], folder: Path, tmp_path: Path) -> None:
    served = serve("view", "--folder", folder)
    ours = f"127.0.0.1:{served.port}"
    status, headers, body = get(served, "/")
    assert status == 200 and b"CTEnhance" in body
    own = headers["Set-Cookie"]
    assert "HttpOnly" in own and "SameSite=Strict" in own
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]

    # Paths out of the page's folder, in many spellings, and files of this program.
    for path in (
        "/page/../server.py",
        "/page/..%2fserver.py",
        "/page/%2e%2e/server.py",
        "/page/..%252fserver.py",
        "/page/....//server.py",
        "/page//etc/hostname",
        "/etc/hostname",
        "//etc/hostname",
        "/page/%00",
        "/page/server.py",
        "/../../etc/hostname",
        "/page/..\\server.py",
        "/download/a/ct.nii.gz",
        "/download/../inside/ct.nii.gz",
        f"/download/x/{tmp_path}/outside.nii.gz",
        "/page/",
        "/socket",
    ):
        status, _headers, body = get(served, path, Cookie=own.split(";")[0])
        assert status in (400, 403, 404), path
        assert b"def " not in body and b"root" not in body.lower(), path

    # Other names, other pages, other methods, too much.
    assert get(served, "/", Host="evil.example")[0] == 403
    assert get(served, "/", Host=f"evil.example:{served.port}")[0] == 403
    assert get(served, "/", Origin="http://evil.example")[0] == 403
    assert get(served, "/enter", "POST", b"token", Host=ours)[0] == 403
    assert get(served, "/enter", "POST", b"token", Origin="http://evil.example")[0] == 403
    assert get(served, "/enter", "POST", b"wrong", Origin=f"http://{ours}")[0] == 403
    assert get(served, "/enter", "POST", b"a" * 5000, Origin=f"http://{ours}")[0] == 413
    assert get(served, "/", "PUT", b"x")[0] == 405 and get(served, "/page/view.js", "DELETE")[0] == 405

    # A websocket of another page, without a cookie, with a wrong tab.
    for origin, sent, tab in (
        ("http://evil.example", own, TAB),
        ("null", own, TAB),
        (f"http://{ours}", "", TAB),
        (f"http://{ours}", own, "../x"),
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            spoken(talk(served, [], sent.split(";")[0], origin, tab=tab))
        assert refused.value.status in (400, 401, 403)

    # Names that are not in the folder, by messages; and one that is.
    sent = cookie(served)
    for name in (
        "../outside.nii.gz",
        "/etc/hostname",
        "link.nii.gz",
        "%2e%2e/outside.nii.gz",
        str(tmp_path / "outside.nii.gz"),
        "ct.nii.gz/../../outside.nii.gz",
        None,
        5,
        {"a": 1},
    ):
        for asked in ({"op": "open", "name": name}, {"op": "run", "verb": "enhance", "name": name}):
            told = spoken(talk(served, [asked], sent))[-1]
            assert told["problem"] and "outside" not in told["problem"], name
        time.sleep(0.1)
    told = spoken(talk(served, [{"op": "list", "folder": ""}], sent, until="entries"))
    listed = [one for one in told if one["type"] == "entries"][-1]["entries"]
    assert listed == [{"name": "ct.nii.gz", "kind": "volume"}]
    told = spoken(talk(served, [{"op": "list", "folder": ".."}], sent))[-1]
    assert "no such file" in told["problem"]
    told = spoken(talk(served, [{"op": "run", "verb": "train; rm", "name": "ct.nii.gz"}], sent))[-1]
    assert "cannot run this" in told["problem"]

    # Messages that are none, that are too long, and too many.
    told = spoken(talk(served, ["no json", "[1]", '{"op": 7}', "{}", {"op": "open", "name": "x"}], sent))[-1]
    assert told["type"] == "answer"
    told = spoken(talk(served, ["a" * 70000], sent, until="never", seconds=20))[-1]
    assert told == {"type": "closed", "code": 1009}
    told = spoken(talk(served, [{"op": "probe"}] * 5000, sent, until="never", seconds=30))[-1]
    assert told["type"] == "closed"

    # It is still there for everybody else.
    assert get(served, "/")[0] == 200
    assert served.process.poll() is None
    assert served.stop() == 0


def test_uploads_end_at_their_limit(serve: Callable[..., Served], folder: Path) -> None:
    served = serve("view", "--folder", folder)
    origin = {"Origin": f"http://127.0.0.1:{served.port}"}
    # In chunks, whose sum nobody announces.
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    chunks = (b"a" * 1000 for _ in range(20))
    connection.request("POST", "/enter", body=chunks, headers=origin, encode_chunked=True)
    assert connection.getresponse().status == 413
    # More than was announced, and to where nothing is taken at all.
    assert get(served, "/enter", "POST", b"a" * 100, **origin, **{"Content-Length": "100000000"})[0] == 413
    for path in ("/", "/page/view.js", "/download/a/b", "/socket", "/upload"):
        assert get(served, path, "POST", b"a" * 3000, **origin)[0] in (404, 405), path
    # A request that is never finished is nobody's burden.
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            half = stack.enter_context(socket.create_connection(("127.0.0.1", served.port), 60))
            half.sendall(b"GET / HTTP/1.1\r\nHost: 127")
        assert get(served, "/")[0] == 200
    assert served.stop() == 0


def test_many_requests_are_slowed(serve: Callable[..., Served], folder: Path) -> None:
    served = serve("view", "--folder", folder)
    guests = [cookie(served) for _ in range(5)]
    # 120 at once, then 20 a second; of a machine too busy to ask so fast as many are answered as it asks.
    for askers in ([""], guests):  # a new guest at each request is no way around
        begun, answered = time.monotonic(), 0
        for number in range(300):
            own = askers[number % len(askers)]
            status = get(served, "/page/page.css", **({"Cookie": own} if own else {}))[0]
            assert status in (200, 429)
            answered += status == 200
            assert answered <= 122 + 20 * (time.monotonic() - begun)
        assert answered > 0
        time.sleep(1)
    assert get(served, "/")[0] == 200


def test_a_token_is_asked_for_where_others_reach_it(
    serve: Callable[..., Served], look: Callable[..., Page], pair: Path
) -> None:
    served = serve("view", pair / "before.nii.gz", "--token")
    address, _sign, token = served.address.partition("#")
    assert len(token) >= 32
    assert "Set-Cookie" not in get(served, "/")[1]
    stranger = look(address)
    stranger.until("document.getElementById('status').classList.contains('problem')")
    assert stranger.page.evaluate("document.querySelectorAll('.cell').length") == 0
    page = look(served.address)
    page.at_rest()
    assert page.page.evaluate("location.href") == address  # no token in the history
    again = look(served.address)
    again.until("document.getElementById('status').textContent.includes('used already')")


def test_logs_name_no_files(
    pair: Path, tmp_path: Path, serve: Callable[..., Served], look: Callable[..., Page]
) -> None:
    named = tmp_path / "Miller_John_1950.nii.gz"
    named.write_bytes((pair / "before.nii.gz").read_bytes())
    served = serve("view", named)
    page = look(served.address)
    page.at_rest()
    requests = page.page.evaluate("performance.getEntries().map((one) => one.name).join(' ')")
    assert "Miller" not in requests + page.page.title() + page.page.content()
    served.process.send_signal(2)
    out, errors = served.process.communicate(timeout=120)
    assert "Miller" not in out + errors + json.dumps(served.told)


def test_logs_name_no_files_when_things_go_wrong(serve: Callable[..., Served], folder: Path) -> None:
    (folder / "Miller_John_1950.nii.gz").write_bytes(b"no volume")
    (folder / "Miller_John_1950.mha").write_bytes(b"NDims = 3\nElementDataFile = /etc/hostname\n")
    (folder / "Miller").mkdir()
    (folder / "Miller" / "John.dcm").write_bytes(b"no image")
    served = serve("view", "--folder", folder)
    sent = cookie(served)
    for name in (
        "Miller_John_1950.nii.gz",
        "Miller_John_1950.mha",
        "Miller",
        "Miller/John.dcm",
        "Miller/\ud800",
    ):
        assert spoken(talk(served, [{"op": "open", "name": name}], sent))[-1]["problem"], name
        asked = {"op": "run", "verb": "enhance", "name": name}
        heads = spoken(talk(served, [asked], sent, until="work" if "/" not in name else "answer"))
        assert heads, name
    get(served, "/Miller_John?name=Miller")
    get(served, "/download/Miller/John")
    time.sleep(1)
    served.process.send_signal(2)
    out, errors = served.process.communicate(timeout=120)
    assert "Miller" not in out + errors and "Traceback" not in errors and "hostname" not in out + errors


def test_a_server_that_is_killed_leaves_no_viewer(
    serve: Callable[..., Served], look: Callable[..., Page], pair: Path
) -> None:
    import psutil

    served = serve("view", pair / "before.nii.gz")
    page = look(served.address)
    page.at_rest()
    children = psutil.Process(served.process.pid).children(recursive=True)
    assert children
    served.kill()
    _gone, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []


def test_a_port_that_is_taken_is_said(serve: Callable[..., Served], pair: Path) -> None:
    import sys

    served = serve("view", pair / "before.nii.gz")
    command = [
        sys.executable,
        "-m",
        "ctenhance",
        "view",
        str(pair / "after.nii.gz"),
        "--port",
        str(served.port),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2 and "choose another one with --port" in done.stderr
