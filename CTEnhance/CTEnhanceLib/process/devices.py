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

#: Between a device and the engine that shall run networks on it.
_BY = " by "
_QUERY = ["--query-gpu=index,name,memory.free,memory.total", "--format=csv,noheader,nounits"]


@dataclass(frozen=True)
class Device:
    """A device by the name that the command line takes, with a text for people."""

    spec: str
    text: str

    @property
    def isCPU(self) -> bool:
        """Whether it is the slow one."""
        return onProcessor(self.spec)


def onProcessor(spec: str) -> bool:
    """Say whether an entry of the list is the processor, by whatever engine."""
    return spec.partition(_BY)[0] == "cpu"


def deviceOptions(spec: str) -> dict[str, str]:
    """Return the options `device` and `engine` that an entry of the list stands for."""
    device, _by, engine = spec.partition(_BY)
    return {"device": device, "engine": engine or "auto"}


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


def computer(engines: bool = False) -> list[Device]:
    """Return the devices that need not be asked: Apple's graphics processor and the CPU.

    engines - whether networks run on them: the CPU then stands once for each engine that it can have, the
    faster one (which is what Apply installs) first
    """
    found = []
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        found.append(Device("mps", _("Apple graphics processor")))
    memory = ""
    with contextlib.suppress(ImportError):  # psutil comes with what Apply installs
        memory = _(", {free:.1f} GB free").format(free=free_main_memory() / 2**30)
    if not engines:
        return [*found, Device("cpu", _("Processor (CPU){memory}").format(memory=memory))]
    names = [("cpu", "OpenVINO")]  # by itself; weights that are not exported run in PyTorch
    if torchInstalled():
        names.append((f"cpu{_BY}torch", "PyTorch"))
    text = _("Processor (CPU) with {engine}{memory}")
    return [*found, *(Device(spec, text.format(engine=name, memory=memory)) for spec, name in names)]


class DeviceQuery:
    """Asks for the devices and calls `onFound(devices)`, graphics cards first; `engines` as in `computer`."""

    def __init__(self, onFound: Callable[[list[Device]], None], engines: bool = False) -> None:
        self._onFound, self._engines = onFound, engines
        self._question = Question(lambda text: onFound([*parseCards(text), *computer(engines)]))

    def start(self) -> None:
        """Ask; a question that is under way is left to finish."""
        # a card can be used by PyTorch only
        program = shutil.which("nvidia-smi") if torchInstalled() else None
        if program is None:
            self._onFound(computer(self._engines))
        else:
            self._question.ask(program, _QUERY)

    def stop(self) -> None:
        """Forget the question."""
        self._question.stop()
