"""The processes of viewers: started from one that has the libraries loaded already, and talked to by
bytes."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import queue
import sys
import threading
from collections.abc import Callable
from multiprocessing.context import BaseContext
from typing import Any

END = b'{"op": "end"}'  # the server asks a process to end
_END_SECONDS = 3.0
_WORKER = "ctenhance.view.worker"
_MOST_WAITING = 64  # messages for a process that does not take them


def _context() -> BaseContext:
    """Where there is a fork server, processes begin in no time and share the libraries' memory."""
    if sys.platform.startswith("linux"):
        return multiprocessing.get_context("forkserver")
    return multiprocessing.get_context("spawn")


_CONTEXT = _context()


def warm_up(*further: str) -> None:
    """Load the libraries in the background, and `further` modules, so that the first viewer begins sooner.

    To be called as early as can be: nothing else takes as long before the first picture.
    """
    if sys.platform.startswith("linux"):
        from multiprocessing import forkserver

        forkserver.set_forkserver_preload([_WORKER, *further])
        forkserver.ensure_running()


class Link:
    """A process of its own that runs `target(connection, argument)`.

    `on_message(bytes)` and, when it has ended, `on_end()` are called in the event loop that made the link.
    """

    def __init__(
        self,
        target: Callable[[Any, str], None],
        argument: str,
        on_message: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_message, self._on_end = on_message, on_end
        self._ours, self._theirs = _CONTEXT.Pipe()
        make = _CONTEXT.Process  # type: ignore[attr-defined]
        self._process = make(target=target, args=(self._theirs, argument), daemon=True)
        self._out: queue.Queue[bytes | None] = queue.Queue(_MOST_WAITING)

    async def start(self) -> None:
        """Start the process."""
        await self._loop.run_in_executor(None, self._process.start)
        self._theirs.close()
        for work in (self._listen, self._write):
            threading.Thread(target=work, daemon=True).start()

    @property
    def pid(self) -> int | None:
        """The process's identifier."""
        return self._process.pid

    def send(self, data: bytes) -> bool:
        """Send a message; return whether there was room for it."""
        try:
            self._out.put_nowait(data)
        except queue.Full:
            return False
        return True

    async def close(self) -> None:
        """End the process: it is asked to, and made to after some seconds."""
        await self._loop.run_in_executor(None, self._end)

    def _write(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while (data := self._out.get()) is not None:
                self._ours.send_bytes(data)

    def _listen(self) -> None:
        with contextlib.suppress(EOFError, OSError, RuntimeError):
            while True:
                data = self._ours.recv_bytes()
                self._loop.call_soon_threadsafe(self._on_message, data)
        self.send(b"")  # wakes the writer, whose other end is gone
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._on_end)

    def _end(self) -> None:
        if self._process.pid is None:
            return
        with contextlib.suppress(queue.Full):
            self._out.put(END, timeout=_END_SECONDS)
        self._process.join(_END_SECONDS)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(_END_SECONDS)
        if self._process.is_alive():
            self._process.kill()
        with contextlib.suppress(queue.Full):
            self._out.put_nowait(None)
