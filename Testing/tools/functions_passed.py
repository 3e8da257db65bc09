"""List the functions of `ctenhance` that a CT or a scan passes on its way through one command.

    python Testing/tools/functions_passed.py enhance ct.nii.gz out.nii.gz --samples 1

A function is passed when it gets or returns the volume, the projections, the result, or an array of them as
large as a slice; they come in the order in which that first happens. After the list: how many there
are, and the calls that go back up, from a lower part to a higher one (docs/architecture.md); what is handed
down to be called back is none of them. Run it at two commits to see whether a change made the way shorter.
"""

from __future__ import annotations

import inspect
import json
import sys
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np

import ctenhance

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from layers import ORDER

PACKAGE = Path(ctenhance.__file__).resolve().parent
#: The least elements of an array that counts as an image or a sinogram.
SLICE = 4096


def level(name: str) -> int:
    """How high a function such as 'core/volume.py: CTVolume.read' stands."""
    part = name.split(": ")[0].split("/")[0].removesuffix(".py")
    if part == "__init__":  # the package's public names, beside the commands
        return len(ORDER) - 1
    return next(number for number, parts in enumerate(ORDER) if part in parts)


class Watch:
    """What `sys.setprofile` calls; `functions` in order, `upward` calls `(caller, callee)`."""

    def __init__(self) -> None:
        self.functions: dict[str, None] = {}
        self.upward: dict[tuple[str, str], None] = {}
        self._names: dict[CodeType, str] = {}

    def _name(self, code: CodeType) -> str:
        """'file: function', or nothing for what is no function of the package (class bodies, modules)."""
        if code not in self._names:
            path = Path(code.co_filename)
            inside = path.is_relative_to(PACKAGE) and code.co_flags & inspect.CO_OPTIMIZED
            named = f"{path.relative_to(PACKAGE).as_posix()}: {code.co_qualname}" if inside else ""
            self._names[code] = named if "<listcomp>" not in named and "<genexpr>" not in named else ""
        return self._names[code]

    def __call__(self, frame: FrameType, event: str, returned: Any) -> None:
        name = self._name(frame.f_code) if event in ("call", "return") else ""
        if not name:
            return
        if any(map(is_data, [returned] if event == "return" else arguments(frame))):
            self.functions.setdefault(name)
        if event == "return":
            return
        back = frame.f_back
        while back is not None and not self._name(back.f_code):
            back = back.f_back
        if back is None or level(name) <= level(self._name(back.f_code)):
            return
        handed_down = {getattr(value, "__code__", None) for value in arguments(back)}
        own = frame.f_locals.get("self")
        of_an_argument = own is not None and any(own is value for value in arguments(back))
        if frame.f_code not in handed_down and not of_an_argument:
            self.upward.setdefault((self._name(back.f_code), name))


def arguments(frame: FrameType) -> list[Any]:
    """The values of a call's arguments."""
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return [frame.f_locals[name] for name in names if name in frame.f_locals]


def is_data(value: Any) -> bool:
    """Whether it is a volume, a scan, a result, or an array of a slice's size."""
    if type(value).__name__ in ("CTVolume", "Projections", "Result"):
        return True
    return hasattr(value, "ndim") and value.ndim >= 2 and int(np.prod(value.shape)) >= SLICE


def main() -> None:
    from ctenhance import cli

    watch = Watch()
    sys.argv = ["ctenhance", *sys.argv[1:]]
    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise
    finally:
        sys.setprofile(None)
    print("\n".join(watch.functions))
    print(json.dumps({"functions": len(watch.functions), "back up": list(watch.upward)}, indent=1))


if __name__ == "__main__":
    main()
