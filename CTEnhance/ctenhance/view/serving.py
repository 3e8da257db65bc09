"""Serving until it is stopped: a viewer of volumes, or a study to its readers."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ctenhance.runtime.errors import InputError
from ctenhance.runtime.progress import Cancellable
from ctenhance.view.entries import serve_pair, serve_reader
from ctenhance.view.folder import Folder, allow_open_files
from ctenhance.view.guard import Doors, Places, bracketed, is_loopback
from ctenhance.view.opening import Opened, Subject, opened
from ctenhance.view.processes import warm_up
from ctenhance.view.sessions import Session, Turns, ViewSession

if TYPE_CHECKING:
    from ctenhance.view.server import Server

_POLL_SECONDS = 0.1
_LINGER_SECONDS = 120.0

Announce = Callable[[str], None]
"""Is given the address to open."""


def serve_view(
    what: Subject,
    folder: Path | None,
    host: str,
    port: int,
    address: str | None,
    token: bool,
    tell: Announce,
    cancel: Cancellable | None = None,
    *,
    job_minutes: float = 60.0,
) -> None:
    """Serve a viewer until `cancel`; `tell` is called with its address as soon as it can be opened.

    Raises InputError for volumes that cannot be read, and for a port that is taken.
    """
    if folder is not None and not folder.is_dir():
        raise InputError(f"There is no folder '{folder}' to choose from; check the path.")
    check_address(address, host)
    root = None if folder is None else Folder(folder.resolve())
    place = Path(tempfile.mkdtemp(prefix="ctenhance-"))

    async def serve() -> None:
        allow_open_files()
        turns = Turns(60 * job_minutes)
        reading = asyncio.get_running_loop().create_task(opened(what, place))
        # What takes long runs before the web server is loaded.
        await asyncio.to_thread(importlib.import_module, "ctenhance.view.server")
        # What the first window is found with, while the volumes are read.
        asyncio.get_running_loop().run_in_executor(None, importlib.import_module, "scipy.ndimage")
        from ctenhance.view.server import Server

        async def make(key: str) -> Session:
            session = ViewSession(key, asyncio.shield(reading), what, root, turns, serve_pair)
            if what != Subject():
                session.open_soon()
            return session

        places, doors = Places(host, port or free_port(host), address), Doors()
        free = is_loopback(host) and address is None and not token
        server = Server(make, "view.html", places, doors, open_to_all=free)
        who = None if free else "owner"
        await run(
            server, host, places.port, lambda: tell(link(places, host, address, doors, who)), cancel, reading
        )

    try:
        asyncio.run(serve())
    finally:
        shutil.rmtree(place, ignore_errors=True)


def serve_study(
    study: Path,
    readers: Sequence[str],
    host: str,
    port: int,
    address: str | None,
    tell: Callable[[str, str], None],
    cancel: Cancellable | None = None,
    *,
    idle_minutes: float = 30.0,
    hours: float = 12.0,
    again: Callable[[], bool] = lambda: False,
) -> None:
    """Serve a study to its readers until `cancel`; `tell` is given each reader with a link that is good once.

    A reader who does nothing for `idle_minutes` is signed out, and goes on with the page loaded again; after
    `hours` a new link is needed. `again` says whether new links are asked for. Raises InputError for a folder
    without a study, somebody who is no reader, and a port that is taken.
    """
    from ctenhance.study.study_file import Study
    from ctenhance.view.server import Server

    found = Study.read(study)
    chosen = list(readers) or list(found.readers)
    for reader in chosen:
        found.trials(reader)
    if found.closed:
        raise InputError(f"The study '{found.title}' was unblinded and is closed: no more answers are taken.")
    check_address(address, host)

    async def make(reader: str) -> Session:
        session = Session(reader)
        await session.begin(serve_reader, json.dumps({"folder": str(found.folder), "reader": reader}))
        return session

    async def serve() -> None:
        warm_up("ctenhance.view.reading", "scipy.ndimage")
        places, doors = Places(host, port or free_port(host), address), Doors(hours)
        server = Server(
            make, "study.html", places, doors,
            by_tab=False, most=len(chosen), linger_seconds=_LINGER_SECONDS, idle_seconds=idle_minutes * 60,
        )  # fmt: skip

        def links() -> None:
            for reader in chosen:
                tell(reader, link(places, host, address, doors, reader))

        await run(server, host, places.port, links, cancel, again=again)

    asyncio.run(serve())


async def run(
    server: Server,
    host: str,
    port: int,
    begun: Callable[[], None],
    cancel: Cancellable | None,
    *needed: asyncio.Task[Opened],
    again: Callable[[], bool] = lambda: False,
) -> None:
    """Answer until `cancel`, or until a task that is needed fails: then its error is raised.

    `begun` is called when the server answers, and whenever `again` returns True.
    """
    from ctenhance.view.server import listen

    runner = await listen(server, host, port)
    try:
        begun()
        while cancel is None or not cancel.cancelled:
            for task in needed:
                if task.done() and task.exception() is not None:
                    await task
            if again():
                begun()
            await asyncio.sleep(_POLL_SECONDS)
    finally:
        for task in needed:
            task.cancel()
            with contextlib.suppress(BaseException):
                await task
        await runner.cleanup()


def link(places: Places, host: str, address: str | None, doors: Doors, who: str | None) -> str:
    """Return the address to open, for somebody who needs a token (None: nobody does).

    The token stands behind the #, so that no server or proxy notes it.
    """
    base = address.rstrip("/") if address else f"http://{bracketed(host)}:{places.port}"
    return f"{base}/" if who is None else f"{base}/#{doors.token(who)}"


def check_address(address: str | None, host: str) -> None:
    """Raise InputError for what is no address of a reverse proxy, and where one is needed."""
    if address is None and host.strip("[]") in ("0.0.0.0", "::"):
        raise InputError(
            f"At --host {host} this machine is reached by several names; say which one is used with "
            "--address, such as --port 8080 --address http://reads.example.org:8080."
        )
    scheme, _slashes, name = (address or "https://a").rstrip("/").partition("://")
    if scheme not in ("http", "https") or not name or "/" in name:
        raise InputError(f"'{address}' is no address; give one such as https://reads.example.org.")


def free_port(host: str) -> int:
    """Return a port that nothing listens on."""
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.bind((host.strip("[]"), 0))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise InputError(f"'{host}' is no address of this machine ({error.strerror or error}).") from error
