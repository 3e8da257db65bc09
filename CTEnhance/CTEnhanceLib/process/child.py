"""A child process: started, and listened to by the event loop until its end.

Qt starts one by a fork, which copies the tables of all memory that Slicer has: with some gigabytes of images
that alone takes the main thread a tenth of a second. Python's way copies nothing on Linux. On Windows nothing
is forked, and pipes cannot be asked whether they have something; there it is Qt's.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import qt
import slicer

_LOOK_MILLISECONDS = 20
_READ_BYTES = 1 << 16


@dataclass(frozen=True)
class Listeners:
    """Who is told: of what it writes, `output(bytes)` and `errors(bytes)`; then of its end,
    `ended(exit code, whether a signal or a crash ended it)`; or, instead, that it could not be started."""

    output: Callable[[bytes], None]
    errors: Callable[[bytes], None]
    ended: Callable[[int, bool], None]
    broke: Callable[[], None]


class Child(ABC):
    """A child process on its way; `pid` is 0 where it could not be started."""

    pid = 0

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether it has not ended."""

    @abstractmethod
    def terminate(self) -> None:
        """Ask it to end."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once."""

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Wait for its end, so long at most."""

    @abstractmethod
    def close(self) -> None:
        """Listen no longer; nobody is told of anything any more."""


class PipedChild(Child):
    """One that Python has started, and a timer looks after."""

    def __init__(
        self,
        program: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        listeners: Listeners,
    ) -> None:
        self._listeners = listeners
        self._process: subprocess.Popen[bytes] | None = None
        # With a parent: without one PythonQt deletes it when we let go of it.
        self._timer = qt.QTimer(slicer.app)
        self._timer.setInterval(_LOOK_MILLISECONDS)
        self._timer.connect("timeout()", self._look)
        self._closed = False
        with contextlib.suppress(OSError):  # told of by the timer: nobody expects it before `start` returns
            self._process = subprocess.Popen(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(environment),
            )
            self.pid = self._process.pid
            for stream in (self._process.stdout, self._process.stderr):
                assert stream is not None
                os.set_blocking(stream.fileno(), False)
        self._timer.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def terminate(self) -> None:
        """Ask it to end."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()

    def wait(self, seconds: float) -> None:
        """Wait for its end, so long at most."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)

    def close(self) -> None:
        """Listen no longer."""
        if not self._closed:
            self._closed = True
            self._timer.stop()
            self._timer.deleteLater()
            for stream in () if self._process is None else (self._process.stdout, self._process.stderr):
                if stream is not None:
                    stream.close()

    def _look(self) -> None:
        if self._process is None:
            self._timer.stop()
            self._listeners.broke()
            return
        code = self._process.poll()  # first: what it wrote before its end is read below
        self._read(self._process.stdout, self._listeners.output)
        if not self._closed:
            self._read(self._process.stderr, self._listeners.errors)
        if code is not None and not self._closed:
            self._timer.stop()
            self._listeners.ended(abs(code), code < 0)

    def _read(self, stream: Any, listener: Callable[[bytes], None]) -> None:
        parts = []
        with contextlib.suppress(BlockingIOError):  # no more for now
            while part := os.read(stream.fileno(), _READ_BYTES):
                parts.append(part)
        if parts:
            listener(b"".join(parts))


class QtChild(Child):
    """One that Qt has started, and tells of."""

    def __init__(
        self,
        program: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        listeners: Listeners,
    ) -> None:
        self._listeners, self._closed = listeners, False
        variables = qt.QProcessEnvironment()
        for name, value in environment.items():
            variables.insert(name, value)
        # With a parent: without one PythonQt deletes an object when we let go of it, perhaps in the middle
        # of its own signal.
        self._process = qt.QProcess(slicer.app)
        self._process.setProcessEnvironment(variables)
        self._process.connect("readyReadStandardOutput()", self._read)
        self._process.connect("readyReadStandardError()", self._read)
        self._process.connect("finished(int,QProcess::ExitStatus)", self._ended)
        self._process.connect("errorOccurred(QProcess::ProcessError)", self._broke)
        self._process.start(program, list(arguments))
        self.pid = int(self._process.processId())

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return bool(self._process.state() != qt.QProcess.NotRunning)

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def wait(self, seconds: float) -> None:
        """Wait for its end, so long at most."""
        self._process.waitForFinished(int(1e3 * seconds))

    def close(self) -> None:
        """Listen no longer."""
        if not self._closed:
            self._closed = True
            self._process.deleteLater()

    def _read(self) -> None:
        for read, listener in (
            (self._process.readAllStandardOutput, self._listeners.output),
            (self._process.readAllStandardError, self._listeners.errors),
        ):
            data = b"" if self._closed else read().data()
            if data and isinstance(data, bytes):  # PythonQt gives an empty one as text
                listener(data)

    def _ended(self, exitCode: int, exitStatus: Any) -> None:
        self._read()
        if not self._closed:
            self._listeners.ended(exitCode, exitStatus != qt.QProcess.NormalExit)

    def _broke(self, error: Any) -> None:
        # All other errors end in `finished`.
        if not self._closed and error == qt.QProcess.FailedToStart:
            self._listeners.broke()


def systemEnvironment() -> dict[str, str]:
    """Return the variables that a child gets by itself: Slicer's, also those that are not Python's."""
    entries = qt.QProcessEnvironment.systemEnvironment().toStringList()
    return dict(entry.split("=", 1) for entry in entries if "=" in entry[1:])


def start(
    program: str, arguments: Sequence[str], environment: Mapping[str, str], listeners: Listeners
) -> Child:
    """Start a program with these variables besides those it gets by itself; returns at once."""
    kind = QtChild if os.name == "nt" else PipedChild
    return kind(program, arguments, {**systemEnvironment(), **environment}, listeners)
