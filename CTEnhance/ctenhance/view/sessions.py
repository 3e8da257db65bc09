"""Sessions: one browser window, the process that serves it, and what lies between them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from ctenhance.runtime.errors import CTEnhanceError, InputError, SeveralSeriesError
from ctenhance.view.folder import Folder
from ctenhance.view.opening import Opened, Subject, opened, subject_of
from ctenhance.view.pictures import message
from ctenhance.view.processes import Link
from ctenhance.view.work import Work, found

_MOST_QUEUED = 128
_HIGHEST_SERIES = 1 << 31
TAKEN_OVER = "This page was opened in another window; go on there, or reload this one."


class Window(Protocol):
    """The browser's end: what a websocket offers."""

    async def send_bytes(self, data: bytes) -> None: ...
    async def close(self) -> Any: ...


class Session:
    """What belongs to one window. It outlives the connection, so that a page that is reloaded goes on.

    `begin()` makes the link to the process.
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
        except (ValueError, TypeError, KeyError, RecursionError):
            return
        if not isinstance(operation, str):
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


class Turns:
    """What sessions share, so that none of them has the machine to itself: so many read volumes at a time,
    and one job runs, each at most `longest_seconds`."""

    def __init__(self, longest_seconds: float) -> None:
        self.work, self.opening = asyncio.Semaphore(1), asyncio.Semaphore(2)
        self.longest_seconds = longest_seconds


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
        turns: Turns,
        serve: Callable[[Any, str], None],
    ) -> None:
        super().__init__(key)
        self._first, self._choice, self._folder, self._serve = first, choice, folder, serve
        self._place = Path(tempfile.mkdtemp(prefix="ctenhance-"))
        (self._place / "work").mkdir()
        self.work = Work(self._place / "work", turns.work, self.tell, turns.longest_seconds)
        self._opening = turns.opening
        self._asked: dict[str, dict[str, Any]] = {}
        self._doing: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._count = 0
        self._notes: list[str] = []
        self._checking = False  # whether there may be more of them

    def open_soon(self) -> None:
        """Show what was opened at the start, as soon as it is there."""

        async def show() -> None:
            await self._show(await self._first, of_all=True)

        self._later(show())

    def greet(self) -> None:
        """Tell what can be worked on, and what is running."""
        can = self._folder is not None or self._choice.before is not None
        self.tell({"type": "can", "work": can, "folder": self._folder is not None})
        self._tell_notes()
        self.tell(self.work.state())

    def handled(self, operation: str, asked: dict[str, Any]) -> bool:
        """List the folder, open something of it, run and cancel commands."""
        actions = {"list": self._list, "open": self._open_chosen, "run": self._run}
        if operation == "cancel":
            self.work.cancel()
        elif operation in actions:
            # One at a time, of those that came meanwhile the last: any number of them takes no more than one.
            self._asked[operation] = asked
            if operation not in self._doing:
                self._doing.add(operation)
                self._later(self._do(operation, actions[operation]))
        else:
            return False
        return True

    async def _do(self, operation: str, action: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        try:
            while (asked := self._asked.pop(operation, None)) is not None:
                try:
                    await action(asked)
                except CTEnhanceError as error:
                    # By the names that were chosen, not by those that they are pinned under.
                    text = re.sub(rf"{re.escape(str(self._place))}/chosen-\d+/", "", str(error))
                    self.tell({"type": "answer", "to": operation, "problem": text})
        finally:
            self._doing.discard(operation)

    async def _list(self, asked: dict[str, Any]) -> None:
        name, folder = asked.get("folder", ""), self._folder
        given = name if isinstance(name, str) else "/"
        entries = [] if folder is None else await asyncio.to_thread(folder.entries, given)
        self.tell({"type": "entries", "folder": name, "entries": entries})

    async def _open_chosen(self, asked: dict[str, Any]) -> None:
        choice, let_go = await self._chosen(asked)
        try:
            async with self._opening:
                await self._open(choice, asked.get("name"))
        finally:
            let_go()

    async def _run(self, asked: dict[str, Any]) -> None:
        options = asked.get("options")
        choice, let_go = await self._chosen(asked)
        try:
            self.work.start(
                str(asked.get("verb")),
                choice,
                options if isinstance(options, dict) else {},
                lambda look: self._open(found(look)),
                let_go,
            )
        except BaseException:
            let_go()
            raise

    async def close(self, text: str = "") -> None:
        """End viewer and work, and remove the files."""
        for task in list(self._tasks):
            task.cancel()
        await super().close(text)
        await self.work.close()
        shutil.rmtree(self._place, ignore_errors=True)

    async def _chosen(self, asked: dict[str, Any]) -> tuple[Subject, Callable[[], None]]:
        """Return what the page chose, something in the folder or what was opened at the start, and what lets
        go of it."""
        if asked.get("name") is None and self._choice.before is not None:
            first = self._choice
            return Subject(first.before, series=first.series, where=first.where), lambda: None
        if self._folder is None:
            raise InputError("There is no folder to choose from; start the viewer with --folder.")
        series = asked.get("series")
        if series is not None and not (isinstance(series, int) and 0 <= series < _HIGHEST_SERIES):
            raise InputError("There is no series of this number; choose one that is listed.")
        self._count += 1
        place = self._place / f"chosen-{self._count}"
        pinned = await asyncio.to_thread(self._folder.pinned, asked.get("name"), place)

        def let_go() -> None:
            pinned.close()
            shutil.rmtree(place, ignore_errors=True)

        try:
            choice = await asyncio.to_thread(subject_of, pinned.path)
        except BaseException:
            let_go()
            raise
        number = None if series is None else str(series)
        return replace(choice, series=number, descriptors=tuple(pinned.descriptors)), let_go

    async def _open(self, choice: Subject, name: Any = None) -> None:
        self._count += 1
        place = self._place / f"open-{self._count}"
        place.mkdir()
        try:
            await self._show(await opened(choice, place))
        except SeveralSeriesError as error:
            shutil.rmtree(place, ignore_errors=True)
            if not isinstance(name, str):
                raise
            listed = [
                {"name": name, "kind": "series", "series": one, "label": what} for one, what in error.series
            ]
            self.tell({"type": "entries", "folder": name, "entries": listed})
            return
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        # The viewer has what it needs mapped; what was open before is of no use any more.
        for old in self._place.glob("open-*"):
            if old != place:
                shutil.rmtree(old, ignore_errors=True)

    async def _show(self, what: Opened, of_all: bool = False) -> None:
        """Show what was opened, and return when its values are checked; `of_all`: others look at it, too."""
        notes = self._notes = list(what.notes)
        self._checking = what.doubts is not None
        self._tell_notes()
        try:
            await self.begin(self._serve, json.dumps(what.to_json()))
            if what.doubts is not None:
                doubts = await (asyncio.shield(what.doubts) if of_all else what.doubts)
                if self._notes is notes:  # and nothing else was opened meanwhile
                    notes += doubts
                    self._checking = False
                    self._tell_notes()
        finally:
            if what.doubts is not None and not of_all:
                what.doubts.cancel()

    def _tell_notes(self) -> None:
        self.tell({"type": "notes", "notes": self._notes, "checking": self._checking})

    def _later(self, coroutine: Any) -> None:
        async def run() -> None:
            try:
                await coroutine
            except CTEnhanceError as error:
                self.tell({"type": "answer", "to": "open", "problem": str(error)})
            except Exception as error:  # the page must not wait for what will not come, nor a log name files
                what = f"Something unexpected happened ({type(error).__name__})."
                self.tell({"type": "answer", "to": "open", "problem": what})

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
