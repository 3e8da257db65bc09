"""Sessions: one browser window, the process that serves it, and what lies between them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from ctenhance.runtime.errors import CTEnhanceError, InputError
from ctenhance.view.folder import Folder
from ctenhance.view.opening import Opened, Subject, opened
from ctenhance.view.pictures import message
from ctenhance.view.processes import Link
from ctenhance.view.work import Work, found

_MOST_QUEUED = 128
TAKEN_OVER = "This page was opened in another window; go on there, or reload this one."


class Window(Protocol):
    """The browser's end: what a websocket offers."""

    async def send_bytes(self, data: bytes) -> None: ...
    async def close(self) -> Any: ...


class Session:
    """What belongs to one window. It outlives the connection, so that a page that is reloaded goes on.

    `begin()` makes the link to the process; `on_link(bytes -> None, end)` are given to it.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.used = time.monotonic()
        self.acted = self.used
        self.left: float | None = self.used  # since when nobody looks
        self.ended = False
        self._link: Link | None = None
        self._window: Window | None = None
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(_MOST_QUEUED)

    @property
    def pid(self) -> int | None:
        """The process that serves it."""
        return None if self._link is None else self._link.pid

    async def begin(self, target: Callable[[Any, str], None], argument: str) -> None:
        """Start the process, in place of the one that there is."""
        old, self._link = self._link, None
        if old is not None:
            await old.close()
        link = Link(target, argument, lambda data: self._from(link, data), lambda: self._over(link))
        self._link = link
        await link.start()
        if self._window is not None:
            link.send(b'{"op": "hello"}')

    async def attach(self, window: Window) -> None:
        """Show it in this window, and no longer in the one before; returns when that connection ends."""
        before, self._window = self._window, window
        if before is not None:
            with contextlib.suppress(Exception):
                await before.send_bytes(message({"type": "ended", "text": TAKEN_OVER}))
                await before.close()
        self._queue = asyncio.Queue(_MOST_QUEUED)
        self.left = None
        self.greet()
        if self._link is not None:
            self._link.send(b'{"op": "hello"}')
        queue = self._queue
        try:
            while self._window is window:
                await window.send_bytes(await queue.get())
        finally:
            self.detach(window)

    def detach(self, window: Window) -> None:
        """The window's connection has ended."""
        if self._window is window:
            self._window, self.left = None, time.monotonic()

    def greet(self) -> None:
        """Tell a page that came (again) how things stand."""

    def tell(self, head: dict[str, Any]) -> None:
        """Send the page something."""
        self._put(message(head))

    def take(self, text: str) -> None:
        """Take a message of the page."""
        self.used = time.monotonic()
        try:
            asked = json.loads(text)
            operation = asked["op"]
        except (ValueError, TypeError, KeyError):
            return
        if operation not in ("shown", "hello"):
            self.acted = self.used
        if operation in ("end", "hello") or self.handled(operation, asked):
            return
        if self._link is not None and not self._link.send(text.encode()):
            self.tell({"type": "answer", "to": operation, "problem": "The viewer is busy; try again."})

    def handled(self, operation: str, asked: dict[str, Any]) -> bool:
        """Do what is not for the process; return whether it was that."""
        return False

    async def close(self, text: str = "") -> None:
        """End it, with a sentence for the page."""
        self.ended = True
        if text:
            self.tell({"type": "ended", "text": text})
        if self._link is not None:
            link, self._link = self._link, None
            await link.close()

    def _from(self, link: Link, data: bytes) -> None:
        if link is self._link:
            self._put(data)

    def _over(self, link: Link) -> None:
        if link is self._link:
            self._link = None
            self.ended = True
            self.tell({"type": "ended", "text": "The viewer has ended; reload the page to go on."})

    def _put(self, data: bytes) -> None:
        if self._window is not None:
            try:
                self._queue.put_nowait(data)
            except asyncio.QueueFull:  # a page that takes nothing any more
                self._window = None


class ViewSession(Session):
    """A viewer of volumes, which can also run commands on what may be chosen.

    `first` gives what was opened at the start, once it is there; `choice` what that was.
    """

    def __init__(
        self,
        key: str,
        first: Awaitable[Opened],
        choice: Subject,
        folder: Folder | None,
        turn: asyncio.Semaphore,
        serve: Callable[[Any, str], None],
    ) -> None:
        super().__init__(key)
        self._first, self._choice, self._folder, self._serve = first, choice, folder, serve
        self._place = Path(tempfile.mkdtemp(prefix="ctenhance-"))
        (self._place / "work").mkdir()
        self.work = Work(self._place / "work", turn, self.tell)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._count = 0
        self._notes: list[str] = []

    def open_soon(self) -> None:
        """Show what was opened at the start, as soon as it is there."""

        async def show() -> None:
            await self._show(await self._first)

        self._later(show())

    def greet(self) -> None:
        """Tell what can be worked on, and what is running."""
        can = self._folder is not None or self._choice.before is not None
        self.tell({"type": "can", "work": can, "folder": self._folder is not None, "notes": self._notes})
        self.tell(self.work.state())

    def handled(self, operation: str, asked: dict[str, Any]) -> bool:
        """List the folder, open something of it, run and cancel commands."""
        try:
            if operation == "list":
                name = asked.get("folder", "")
                entries = (
                    []
                    if self._folder is None
                    else self._folder.entries(name if isinstance(name, str) else "/")
                )
                self.tell({"type": "entries", "folder": name, "entries": entries})
            elif operation == "open":
                self._later(self._open(Subject(self._chosen(asked))))
            elif operation == "run":
                options = asked.get("options")
                self.work.start(
                    str(asked.get("verb")),
                    self._chosen(asked),
                    options if isinstance(options, dict) else {},
                    lambda look: self._open(found(look)),
                )
            elif operation == "cancel":
                self.work.cancel()
            else:
                return False
        except CTEnhanceError as error:
            self.tell({"type": "answer", "to": operation, "problem": str(error)})
        return True

    async def close(self, text: str = "") -> None:
        """End viewer and work, and remove the files."""
        await super().close(text)
        await self.work.close()
        shutil.rmtree(self._place, ignore_errors=True)

    def _chosen(self, asked: dict[str, Any]) -> Path:
        """Return what the page chose: something in the folder, or what was opened at the start."""
        if asked.get("name") is None and self._choice.before is not None:
            return self._choice.before
        if self._folder is None:
            raise InputError("There is no folder to choose from; start the viewer with --folder.")
        return self._folder.path(asked.get("name"))

    async def _open(self, choice: Subject) -> None:
        self._count += 1
        place = self._place / f"open-{self._count}"
        place.mkdir()
        try:
            await self._show(await opened(choice, place))
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        # The viewer has what it needs mapped; what was open before is of no use any more.
        for old in self._place.glob("open-*"):
            if old != place:
                shutil.rmtree(old, ignore_errors=True)

    async def _show(self, what: Opened) -> None:
        self._notes = list(what.notes)
        self.tell({"type": "notes", "notes": self._notes})
        await self.begin(self._serve, json.dumps(what.to_json()))

    def _later(self, coroutine: Any) -> None:
        async def run() -> None:
            try:
                await coroutine
            except CTEnhanceError as error:
                self.tell({"type": "answer", "to": "open", "problem": str(error)})

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
