"""Which devices there are and how much of their memory is free, asked without torch and without waiting."""

from __future__ import annotations

import contextlib
import importlib
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

_QUERY = ["--query-gpu=index,name,memory.free,memory.total", "--format=csv,noheader,nounits"]


@dataclass(frozen=True)
class Device:
    """A device by the name that the command line takes, with a text for people."""

    spec: str
    text: str

    @property
    def isCPU(self) -> bool:
        """Whether it is the slow one."""
        return self.spec == "cpu"


def parseCards(text: str) -> list[Device]:
    """Return the graphics cards in nvidia-smi's answer; lines that are none are left out."""
    cards = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 4 or not fields[0].isdecimal():
            continue
        index, name, free, total = fields
        memory = ""
        if free.isdecimal() and total.isdecimal():
            memory = _(", {free:.1f} of {total:.1f} GB free").format(
                free=int(free) / 1024, total=int(total) / 1024
            )
        cards.append(Device(f"cuda:{index}", f"{name}{memory}"))
    return cards


def computer() -> list[Device]:
    """Return the devices that need not be asked: Apple's graphics processor and the CPU."""
    found = []
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        found.append(Device("mps", _("Apple graphics processor")))
    memory = ""
    with contextlib.suppress(ImportError):
        psutil = importlib.import_module("psutil")
        memory = _(", {free:.1f} GB free").format(free=psutil.virtual_memory().available / 2**30)
    return [*found, Device("cpu", _("Processor (CPU){memory}").format(memory=memory))]


class DeviceQuery:
    """Asks for the devices and calls `onFound(devices)`, graphics cards first."""

    def __init__(self, onFound: Callable[[list[Device]], None]) -> None:
        self._onFound = onFound
        self._process: Any = None

    def start(self) -> None:
        """Ask; a question that is under way is left to finish."""
        if self._process is not None:
            return
        program = shutil.which("nvidia-smi")
        if program is None:
            self._onFound(computer())
            return
        self._process = qt.QProcess(slicer.app)
        self._process.connect("finished(int,QProcess::ExitStatus)", self._finished)
        self._process.connect("errorOccurred(QProcess::ProcessError)", self._broke)
        self._process.start(program, _QUERY)

    def stop(self) -> None:
        """Forget the question."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.waitForFinished(500)
            process.deleteLater()

    def _finished(self, exitCode: int, _exitStatus: Any) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        answer = process.readAllStandardOutput().data()
        text = answer.decode("utf-8", errors="replace") if isinstance(answer, bytes) else ""
        process.deleteLater()
        self._onFound([*(parseCards(text) if exitCode == 0 else []), *computer()])

    def _broke(self, error: Any) -> None:
        if self._process is not None and error == qt.QProcess.FailedToStart:
            process, self._process = self._process, None
            process.deleteLater()
            self._onFound(computer())
