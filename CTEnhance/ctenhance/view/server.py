"""The server of the page: it answers few addresses, asks each request who it is, and hands on to sessions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from ctenhance.runtime.errors import InputError
from ctenhance.view.guard import Doors, Limit, Places, headers, is_foreign
from ctenhance.view.pictures import message
from ctenhance.view.sessions import Session

PAGE = Path(__file__).parent / "page"
_KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_MOST_UPLOADED = 4096  # bytes of a request: a page sends nothing longer than a token
_LONGEST_MESSAGE = 1 << 16
_MESSAGES = (240, 720)  # a second, and at once
_REQUESTS = (20, 120)
_ENTRANCES = (0.5, 10)
_MOST_CALLERS = 1000
_TAB = re.compile(r"[0-9a-f]{32}")
_JANITOR_SECONDS = 2.0

Make = Callable[[str], Awaitable[Session]]


class Server:
    """Serves a page of `page/`, and one session for each key that `key_of` gives a request.

    make      makes the session of a key, its process started or starting
    start     the page's file: view.html or study.html
    doors     tokens and sessions; `open_to_all`: whoever reaches this machine's own address may come in
    by_tab    each window of a browser has a session of its own; else each person has one
    linger_seconds, idle_seconds   how long a session is kept that nobody looks at, in which nothing is done
    """

    def __init__(
        self,
        make: Make,
        start: str,
        places: Places,
        doors: Doors,
        *,
        open_to_all: bool = False,
        by_tab: bool = True,
        most: int = 8,
        linger_seconds: float = 60.0,
        idle_seconds: float | None = None,
    ) -> None:
        self._make, self._places, self.doors = make, places, doors
        self._open_to_all, self._by_tab, self._most = open_to_all, by_tab, most
        self._linger, self._idle = linger_seconds, idle_seconds
        self.sessions: dict[str, Session] = {}
        self._making = asyncio.Lock()
        self._files = {path.name: (path.read_bytes(), _KINDS[path.suffix]) for path in PAGE.iterdir()
                       if path.suffix in _KINDS}  # fmt: skip
        self._start = start
        # By session, and of those who have none by address: nobody's requests use up those of others.
        self._limits: dict[str, Limit] = {}
        self._entrances = Limit(*_ENTRANCES)
        self._cookie = "__Host-ctenhance" if places.secure else f"ctenhance-{places.port}"

    def application(self) -> web.Application:
        """Return the web application."""
        app = web.Application(middlewares=[self._guard], client_max_size=_MOST_UPLOADED)
        app.router.add_get("/", self._page)
        app.router.add_get("/page/{name}", self._file)
        app.router.add_post("/enter", self._enter)
        app.router.add_get("/socket", self._socket)
        app.router.add_get("/download/{id}/{name}", self._download)
        app.cleanup_ctx.append(self._janitor)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            self._require_ours(request)
            who = self._who(request)
            # Guests are many if they like, so that they are counted by where they come from.
            known = who if who is not None and not self.doors.is_guest(who) else None
            if not self._limit(known or _caller(request, self._places.proxied)).take():
                raise web.HTTPTooManyRequests(text="Too many requests; wait some seconds.")
            if (request.content_length or 0) > _MOST_UPLOADED:
                raise web.HTTPRequestEntityTooLarge(_MOST_UPLOADED, request.content_length or 0)
            response: web.StreamResponse = await handler(request)
        except web.HTTPException as error:
            response = web.Response(status=error.status, text=error.text or error.reason)
        if not response.prepared:
            for name, value in headers(self._places.secure):
                response.headers[name] = value
        return response

    def _require_ours(self, request: web.Request) -> None:
        """Refuse what other pages of the browser send, before it counts as a request of this one."""
        sent = request.headers
        if not self._places.is_for_us(sent.get("Host")):
            raise web.HTTPForbidden(text="This address is not one of this server.")
        foreign = is_foreign(sent.get("Sec-Fetch-Site"), sent.get("Sec-Fetch-Mode"), request.path)
        if foreign or ("Origin" in sent and not self._places.is_from_us(sent["Origin"])):
            raise web.HTTPForbidden(text="This request is from a page of another server.")

    def _limit(self, caller: str) -> Limit:
        if len(self._limits) > _MOST_CALLERS:
            self._limits.clear()
        return self._limits.setdefault(caller, Limit(*_REQUESTS))

    async def _page(self, request: web.Request) -> web.StreamResponse:
        content, kind = self._files[self._start]
        response = web.Response(body=content, content_type=kind, charset="utf-8")
        if self._open_to_all and self._who(request) is None:
            self._let_in(response, self.doors.guest())
        return response

    async def _file(self, request: web.Request) -> web.StreamResponse:
        found = self._files.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        return web.Response(body=found[0], content_type=found[1], charset="utf-8")

    async def _enter(self, request: web.Request) -> web.StreamResponse:
        """Take a token, which comes in the request's body: addresses end in logs and histories."""
        if not self._places.is_from_us(request.headers.get("Origin")):
            raise web.HTTPForbidden(text="This request is from no page of this server.")
        # A right token is never kept waiting by others' wrong ones.
        secret = self.doors.enter((await request.text()).strip())
        if secret is None:
            if not self._entrances.take():
                raise web.HTTPTooManyRequests(text="Too many tries; wait some seconds.")
            raise web.HTTPForbidden(text="This link was used already, or is none; ask for a new one.")
        response = web.Response(text="")
        self._let_in(response, secret)
        return response

    def _let_in(self, response: web.Response, secret: str) -> None:
        secure = self._places.secure
        response.set_cookie(self._cookie, secret, httponly=True, samesite="Strict", secure=secure, path="/")

    def _who(self, request: web.Request) -> str | None:
        return self.doors.who(request.cookies.get(self._cookie))

    def _key(self, request: web.Request, tab: str) -> str:
        who = self._who(request)
        if who is None:
            raise web.HTTPUnauthorized(text="The session has ended; ask for a new link.")
        if not _TAB.fullmatch(tab):
            raise web.HTTPBadRequest(text="The page is an old one; reload it.")
        return f"{who}\n{tab}" if self._by_tab else who

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        # Browsers let any page open a websocket to anywhere, and send the cookies along.
        if not self._places.is_from_us(request.headers.get("Origin")):
            raise web.HTTPForbidden(text="This request is from no page of this server.")
        socket = web.WebSocketResponse(heartbeat=20, max_msg_size=_LONGEST_MESSAGE, compress=False)
        key = self._key(request, request.query.get("tab", ""))
        await socket.prepare(request)
        try:
            session = await self._session(key)
        except InputError as error:
            await socket.send_bytes(message({"type": "ended", "text": str(error)}))
            await socket.close()
            return socket
        sending = asyncio.get_running_loop().create_task(session.attach(socket))
        limit = Limit(*_MESSAGES)
        try:
            async for received in socket:
                if received.type is not WSMsgType.TEXT or not limit.take():
                    await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"too many messages")
                    break
                if self._who(request) is None:
                    await session.close("The session has ended; ask for a new link.")
                    break
                session.take(received.data)
        finally:
            session.detach(socket)
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError, RuntimeError):
                await sending
        return socket

    async def _session(self, key: str) -> Session:
        async with self._making:
            session = self.sessions.get(key)
            if session is not None and not session.ended:
                return session
            if session is not None:
                await session.close()
            self.sessions.pop(key, None)
            await self._make_room(key)
            session = self.sessions[key] = await self._make(key)
            return session

    async def _make_room(self, key: str) -> None:
        """End the session that nobody looks at for longest where there are too many; raises InputError."""
        if len(self.sessions) < self._most:
            return
        left = [
            (one.left, other) for other, one in self.sessions.items()
            if one.left is not None and not _is_working(one)
        ]  # fmt: skip
        if not left:
            raise InputError(f"{self._most} viewers are open, which is the most; close one of them.")
        await self.sessions.pop(min(left)[1]).close()

    async def _download(self, request: web.Request) -> web.StreamResponse:
        """Give a file that the session's own work made, by the name that the session was told."""
        who = self._who(request)
        key_of_file = "{id}/{name}".format(**request.match_info)
        for key, session in self.sessions.items():
            path = getattr(session, "work", None) and session.work.downloads.get(key_of_file)  # type: ignore[attr-defined]
            if path and who is not None and key.partition("\n")[0] == who:
                name = key_of_file.rpartition("/")[2]
                return web.FileResponse(
                    path, headers={"Content-Disposition": f'attachment; filename="{name}"'}
                )
        raise web.HTTPNotFound

    async def _janitor(self, _app: web.Application) -> Any:
        """End sessions that nobody looks at any more, or in which nothing is done; at the end, all."""

        async def watch() -> None:
            while True:
                await asyncio.sleep(min(_JANITOR_SECONDS, self._linger / 2))
                await self._tidy()

        task = asyncio.get_running_loop().create_task(watch())
        yield
        task.cancel()
        await asyncio.gather(*(session.close("The server has ended.") for session in self.sessions.values()))
        self.sessions.clear()

    async def _tidy(self) -> None:
        now = time.monotonic()
        for key, session in list(self.sessions.items()):
            if session.left is not None and now - session.left > self._linger and not _is_working(session):
                del self.sessions[key]
                await session.close()
            elif self._idle is not None and now - session.acted > self._idle:
                del self.sessions[key]
                await session.close("Nothing was done for a while, so you were signed out; reload to go on.")


def _caller(request: web.Request, proxied: bool) -> str:
    """Return whose request it is by address: behind a reverse proxy the one that the proxy tells."""
    forwarded = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip() if proxied else ""
    return f"at {forwarded or request.remote}"


def _is_working(session: Session) -> bool:
    work = getattr(session, "work", None)
    return work is not None and work.busy


def _note(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if error is not None and not isinstance(error, ConnectionError):
        sys.stderr.write(f"The page's server met something unexpected ({type(error).__name__}).\n")


async def listen(server: Server, host: str, port: int) -> web.AppRunner:
    """Begin to answer; raises InputError when the port is taken."""
    # A trace of what went wrong may name files, which may name a patient.
    asyncio.get_running_loop().set_exception_handler(_note)
    for name in ("aiohttp.server", "aiohttp.web", "asyncio"):
        logging.getLogger(name).disabled = True
    runner = web.AppRunner(server.application(), access_log=None, handle_signals=False, shutdown_timeout=2)
    await runner.setup()
    try:
        await web.TCPSite(runner, host.strip("[]"), port).start()
    except OSError as error:
        await runner.cleanup()
        raise InputError(
            f"Port {port} of {host} cannot be used ({error.strerror or error}); "
            "choose another one with --port."
        ) from error
    return runner
