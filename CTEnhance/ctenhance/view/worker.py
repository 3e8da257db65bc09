"""A viewer's process: takes what the page asks, one message after the other, and sends pictures back.

Messages to it are JSON objects, those from it `pictures.message`. While something moves the pictures are
small ones, and no more are made than the page has room for; when it rests, each is sent once more, lossless.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, Protocol

from ctenhance.runtime.errors import CTEnhanceError
from ctenhance.view.pictures import LOSSLESS, MOVING, encoded, message
from ctenhance.view.shared import SharedVolume
from ctenhance.view.viewer import Viewer

REST_SECONDS = 0.15
#: So many pictures may be on their way that the page has not shown yet.
MOST_AWAY = 2


class Desk(Protocol):
    """What a page works with: a viewer, and what else it can ask."""

    @property
    def viewer(self) -> Viewer | None:
        """The images; None while there are none."""

    def ask(self, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """Do what the page asked; return an answer, if there is one. Raises CTEnhanceError when it cannot."""

    def state(self) -> dict[str, Any]:
        """Return what the page shows beside the pictures."""

    @property
    def pause(self) -> float:
        """Seconds after which `tick` is called when nothing else happens."""

    def tick(self) -> bool:
        """Return whether the state is another one than it was."""

    def close(self) -> None:
        """The page is gone for good, or the server ends."""


class PairDesk:
    """A viewer of volumes that the server opened."""

    def __init__(self, opened: Mapping[str, Any]) -> None:
        volumes = {name: SharedVolume.of_json(one) for name, one in opened["volumes"].items()}
        level, width = opened.get("window") or (None, None)
        window = None if level is None or width is None else (float(level), float(width))
        self.viewer: Viewer | None = (
            Viewer(volumes, opened["table"], opened["names"], window) if volumes else None
        )

    def ask(self, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """See `Viewer.apply`."""
        return None if self.viewer is None else self.viewer.apply(asked)

    def state(self) -> dict[str, Any]:
        """Return the viewer's state."""
        return {} if self.viewer is None else self.viewer.state()

    pause = 5.0

    def tick(self) -> bool:
        """Nothing changes by itself."""
        return False

    def close(self) -> None:
        """Free the views."""
        if self.viewer is not None:
            self.viewer.close()


class Worker:
    """Connects a desk with the page at the other end of a connection."""

    def __init__(self, connection: Connection, desk: Desk) -> None:
        self._connection, self.desk = connection, desk
        self._away, self._sent = 0, 0
        self._lossy: set[str] = set()
        self._viewer: Viewer | None = None  # of whom pictures were sent last
        self._changed = True  # whether the state is to be told
        self._moved = 0.0

    def run(self) -> None:
        """Work until the other end is closed."""
        try:
            while True:
                self._wait()
                self._draw()
        except (EOFError, OSError):  # the server, or the whole program, is gone
            pass
        finally:
            self.desk.close()

    def _wait(self) -> None:
        """Take all messages that are there; wait for one where there is nothing to draw."""
        if not self._connection.poll(self._pause()) and self.desk.tick():
            self._changed = True
        while self._connection.poll():
            self._take(self._connection.recv_bytes())

    def _pause(self) -> float:
        if self._away >= MOST_AWAY:
            return self.desk.pause
        viewer = self.desk.viewer
        if self._changed or (viewer is not None and viewer.ready()):
            return 0.0
        if self._lossy and viewer is not None:
            return max(0.0, self._moved + REST_SECONDS - time.monotonic())
        return self.desk.pause

    def _take(self, data: bytes) -> None:
        try:
            asked = json.loads(data)
        except (ValueError, RecursionError):
            return
        operation = asked.get("op") if isinstance(asked, dict) else None
        if not isinstance(operation, str):
            return
        if operation == "end":
            raise EOFError
        if operation == "shown":
            self._away = max(0, self._away - 1)
            return
        if operation == "hello":  # a page that is new, or was loaded again: it knows nothing yet
            self._away, self._changed = 0, True
            if self.desk.viewer is not None:
                self.desk.viewer.apply({"op": "refresh"})
            return
        try:
            answer = self.desk.ask(asked)
        except CTEnhanceError as error:
            answer = {"problem": str(error)}
        except (TypeError, ValueError, ArithmeticError, LookupError, RecursionError):
            # Of one message; the viewer stands as it stood.
            answer = {"problem": "The page sent something that cannot be used; reload it."}
        if answer is not None:
            self._send({"type": "answer", "to": operation, **answer})
        if operation != "probe":
            self._changed, self._moved = True, time.monotonic()

    def _draw(self) -> None:
        if self._away >= MOST_AWAY:
            return
        viewer = self.desk.viewer
        if viewer is not self._viewer:  # hidden, or to be seen (again): the page has no pictures of it
            self._viewer = viewer
            self._lossy.clear()
            if viewer is not None:
                viewer.apply({"op": "refresh"})
        cells = [] if viewer is None else viewer.ready()
        kind = MOVING
        if not cells and viewer is not None and self._lossy and not self._connection.poll():
            if time.monotonic() - self._moved < REST_SECONDS:
                return
            kind, cells = LOSSLESS, [cell for cell in viewer.cells() if cell in self._lossy]
            self._lossy.clear()
        if not cells and not self._changed:
            return
        parts, drawn = [], []
        for cell in cells:
            assert viewer is not None
            picture = viewer.picture(cell)
            viewer.dirty.discard(cell)
            parts.append(encoded(picture, kind))
            height, width = picture.shape[:2]
            drawn.append({"cell": cell, "width": width, "height": height, "bytes": len(parts[-1])})
        if kind == MOVING:
            self._lossy |= set(cells)
        self._changed = False
        self._sent += 1
        self._away += 1
        self._send(
            {"type": "frame", "number": self._sent, "kind": kind, "cells": drawn, "state": self.desk.state()},
            parts,
        )

    def _send(self, head: Mapping[str, Any], parts: Any = ()) -> None:
        self._connection.send_bytes(message(head, parts))


def serve_desk(connection: Connection, make: Callable[[], Desk]) -> None:
    """Run a desk at the end of a connection: the whole life of a viewer's process.

    What cannot begin is told to the page in a sentence.
    """
    _keep_quiet()
    try:
        desk = make()
    except CTEnhanceError as error:
        connection.send_bytes(message({"type": "ended", "text": str(error)}))
        return
    Worker(connection, desk).run()


def _keep_quiet() -> None:
    """Let libraries print nothing: what they say may name files, which may name a patient."""
    if not os.environ.get("CTENHANCE_DEBUG"):
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
