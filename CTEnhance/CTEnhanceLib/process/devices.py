"""Which devices there are and how much of their memory is free, asked without torch and without waiting."""

from __future__ import annotations

import contextlib
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from slicer.i18n import tr as _

from ctenhance.runtime.memory import free_main_memory
from CTEnhanceLib.process.dependencies import torchInstalled
from CTEnhanceLib.process.question import Question

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
    with contextlib.suppress(ImportError):  # psutil comes with what Apply installs
        memory = _(", {free:.1f} GB free").format(free=free_main_memory() / 2**30)
    return [*found, Device("cpu", _("Processor (CPU){memory}").format(memory=memory))]


class DeviceQuery:
    """Asks for the devices and calls `onFound(devices)`, graphics cards first."""

    def __init__(self, onFound: Callable[[list[Device]], None]) -> None:
        self._onFound = onFound
        self._question = Question(lambda text: onFound([*parseCards(text), *computer()]))

    def start(self) -> None:
        """Ask; a question that is under way is left to finish."""
        # a card can be used by PyTorch only
        program = shutil.which("nvidia-smi") if torchInstalled() else None
        if program is None:
            self._onFound(computer())
        else:
            self._question.ask(program, _QUERY)

    def stop(self) -> None:
        """Forget the question."""
        self._question.stop()
