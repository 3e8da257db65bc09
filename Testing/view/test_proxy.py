"""A study behind a reverse proxy with TLS, as docs/view.md has it: through the proxy, and past it."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from conftest import REPOSITORY, Page, Served

sys.path.append(str(REPOSITORY / "Testing" / "panels"))
from study_maker import make

SAVED = "JSON.parse(document.body.dataset.saved || '[]')"
TAB = "0123456789abcdef" * 2
HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "content-encoding",
}
OF_THE_HANDSHAKE = {"sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"}


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Proxy:
    """A reverse proxy with TLS, in a thread of its own: it hands on headers, `Host` too, and websockets."""

    def __init__(self, folder: Path, port: int, behind: int) -> None:
        self._target = f"127.0.0.1:{behind}"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate(folder))
        self._loop = asyncio.new_event_loop()
        self.sockets = 0
        started = threading.Event()

        async def start() -> None:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", self._hand_on)
            self._client = aiohttp.ClientSession()
            self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
            await self._runner.setup()
            await web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=context).start()
            started.set()

        def run() -> None:
            self._loop.run_until_complete(start())
            self._loop.run_forever()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        assert started.wait(60)

    def stop(self) -> None:
        """End it."""

        async def end() -> None:
            await self._client.close()
            await self._runner.cleanup()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)

    async def _hand_on(self, request: web.Request) -> web.StreamResponse:
        left_out = HOP_BY_HOP | OF_THE_HANDSHAKE
        headers = {name: value for name, value in request.headers.items() if name.lower() not in left_out}
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._hand_on_socket(request, headers)
        async with self._client.request(
            request.method,
            f"http://{self._target}{request.raw_path}",
            headers=headers,
            data=await request.read(),
            allow_redirects=False,
        ) as answer:
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP]
            response = web.Response(status=answer.status, body=await answer.read())
            response.headers.clear()
            for name, value in kept:
                response.headers.add(name, value)
            return response

    async def _hand_on_socket(self, request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
        try:
            behind = await self._client.ws_connect(
                f"http://{self._target}{request.raw_path}", headers=headers, max_msg_size=0
            )
        except aiohttp.WSServerHandshakeError as error:
            return web.Response(status=error.status)
        before = web.WebSocketResponse(max_msg_size=0)
        await before.prepare(request)
        self.sockets += 1

        async def pump(source: Any, target: Any) -> None:
            async for message in source:
                if message.type is aiohttp.WSMsgType.TEXT:
                    await target.send_str(message.data)
                elif message.type is aiohttp.WSMsgType.BINARY:
                    await target.send_bytes(message.data)

        pumps = [asyncio.ensure_future(pump(*pair)) for pair in ((before, behind), (behind, before))]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for one in pumps:
            one.cancel()
        await behind.close()
        await before.close()
        return before


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for localhost, signed by itself."""
    names = (folder / "proxy.pem", folder / "proxy.key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-out", str(names[0]), "-keyout", str(names[1])],
        check=True, capture_output=True,
    )  # fmt: skip
    return names


@pytest.fixture
def behind(tmp_path: Path, serve: Callable[..., Served]) -> Iterator[tuple[Served, Proxy, str]]:
    """A study served behind a proxy, and the proxy's address."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl is installed, which makes the certificate")
    make(tmp_path, preset="preference", cases=2, readers=("ann",))
    outside, inside = a_free_port(), a_free_port()
    address = f"https://localhost:{outside}"
    served = serve("study", "serve", tmp_path / "study", "--port", inside, "--address", address)
    proxy = Proxy(tmp_path, outside, inside)
    yield served, proxy, address
    proxy.stop()


def test_a_reader_reads_through_a_proxy_with_tls(
    behind: tuple[Served, Proxy, str], chromium: Any, look: Callable[..., Page]
) -> None:
    served, proxy, address = behind
    link = served.told[0]["address"]
    assert link.startswith(f"{address}/#")
    context = chromium.new_context(ignore_https_errors=True)
    page = look(link, context)
    page.until("document.getElementById('place').textContent.startsWith('Case 1 of 2')")
    page.at_rest()
    assert proxy.sockets == 1
    (cookie,) = context.cookies()
    assert cookie["name"] == "__Host-ctenhance"
    assert cookie["secure"] and cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    page.press("4")
    page.until(f"{SAVED}.some(([id, , value]) => id === 'preference' && value === 1)")
    page.page.reload()
    page.until(f"{SAVED}.some(([id, , value]) => id === 'preference' && value === 1)")
    context.close()


def test_other_origins_are_refused_through_the_proxy_too(
    behind: tuple[Served, Proxy, str], chromium: Any, look: Callable[..., Page]
) -> None:
    served, _proxy, address = behind
    context = chromium.new_context(ignore_https_errors=True)
    page = look(served.told[0]["address"], context)
    page.at_rest()
    secret = context.cookies()[0]["value"]
    context.close()
    inside = served.process.args[served.process.args.index("--port") + 1]  # type: ignore[union-attr]
    ours = address.partition("//")[2]

    async def statuses() -> dict[str, int]:
        found = {}
        async with aiohttp.ClientSession() as client:
            for name, base, sent in (
                ("through it", address, {"Origin": address}),
                ("a foreign page", address, {"Origin": "https://evil.example"}),
                ("the same name, another port", address, {"Origin": "https://localhost"}),
                ("without TLS", address, {"Origin": f"http://{ours}"}),
                ("no page", address, {}),
                ("nothing", address, {"Origin": "null"}),
                (
                    "past it, a foreign name",
                    f"http://127.0.0.1:{inside}",
                    {"Origin": address, "Host": "evil.example"},
                ),
                ("past it, a foreign page", f"http://127.0.0.1:{inside}", {"Origin": "http://evil.example"}),
            ):
                headers = {"Cookie": f"__Host-ctenhance={secret}", **sent}
                try:
                    url = f"{base}/socket?tab={TAB}"
                    async with client.ws_connect(url, headers=headers, ssl=False, max_msg_size=0):
                        found[name] = 101
                except aiohttp.WSServerHandshakeError as error:
                    found[name] = error.status
            headers = {"Origin": "https://evil.example"}
            async with client.post(f"{address}/enter", data="x", headers=headers, ssl=False) as answer:
                found["to come in, from a foreign page"] = answer.status
        return found

    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(asyncio.run, statuses()).result()
    assert found.pop("through it") == 101
    assert set(found.values()) == {403}, found
