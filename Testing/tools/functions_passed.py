"""List the functions of `ctenhance` that one command passes, in the order in which they are first entered.

    python Testing/tools/functions_passed.py enhance ct.nii.gz out.nii.gz --samples 1

After the list: how many there are, and the calls that go back up, from a lower part to a higher one
(docs/architecture.md). Run it at two commits to see whether a change made the way shorter.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import ctenhance

PACKAGE = Path(ctenhance.__file__).resolve().parent
#: The parts from below to above; those of one line stand beside each other.
ORDER = (
    {"choices"},
    {"runtime"},
    {"options"},
    {"core"},
    {"physics"},
    {"scan"},
    {"files", "training"},
    {"degradation", "quality"},
    {"enhancement", "reconstruction", "decomposition", "study"},
    {"commands", "cli", "__main__", "__init__"},
)


def level(name: str) -> int:
    """How high a file such as 'core/volume.py' stands."""
    part = name.split("/")[0].removesuffix(".py")
    return next(number for number, parts in enumerate(ORDER) if part in parts)


class Watch:
    """What `sys.setprofile` calls; `functions` in order, `upward` calls `(caller, callee)`."""

    def __init__(self) -> None:
        self.functions: dict[tuple[str, str], None] = {}
        self.upward: dict[tuple[str, str], None] = {}
        self._names: dict[CodeType, tuple[str, str] | None] = {}

    def _name(self, code: CodeType) -> tuple[str, str] | None:
        if code not in self._names:
            path = Path(code.co_filename)
            inside = path.is_relative_to(PACKAGE) and not code.co_name.startswith("<")
            function = getattr(code, "co_qualname", code.co_name)
            self._names[code] = (path.relative_to(PACKAGE).as_posix(), function) if inside else None
        return self._names[code]

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        name = self._name(frame.f_code)
        if name is None or name[1].startswith("_root"):
            return
        self.functions.setdefault(name)
        back = frame.f_back
        while back is not None and self._name(back.f_code) is None:
            back = back.f_back
        caller = None if back is None else self._name(back.f_code)
        # what is handed down to be called back (progress, cancel) is no step up
        if caller is not None and level(name[0]) > level(caller[0]) and "progress" not in name[1]:
            self.upward.setdefault((": ".join(caller), ": ".join(name)))


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
    for file, function in watch.functions:
        print(f"{file}: {function}")
    print(json.dumps({"functions": len(watch.functions), "back up": list(watch.upward)}, indent=1))


if __name__ == "__main__":
    main()
