"""The end of a child whose parent is gone: Slicer was killed, and nobody waits for the result any more."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from ctenhance.runtime.files import remove_unfinished
from ctenhance.runtime.progress import CancelToken

if TYPE_CHECKING:
    import psutil

#: The environment variable with the process identifier of the program that waits for this one. The direct
#: parent is another one: PythonSlicer is a launcher, which outlives Slicer.
VARIABLE = "CTENHANCE_PARENT"
POLL_SECONDS = 1.0
#: How long the work may take to stop in order, before the process is ended.
GRACE_SECONDS = 10.0
_EXIT = 130


def end_with_parent(cancel: CancelToken) -> None:
    """Ask the work to stop once the process in `VARIABLE` is gone, and end this process if it does not.

    Looked at in a thread of its own; without the variable nothing happens. No file is left half-written.
    """
    number = os.environ.get(VARIABLE, "")
    if not number.isdecimal():
        return
    import psutil

    parent: psutil.Process | None
    try:
        parent = psutil.Process(int(number))
    except psutil.NoSuchProcess:
        parent = None
    threading.Thread(target=_watch, args=(parent, cancel), name="parent", daemon=True).start()


def _watch(parent: psutil.Process | None, cancel: CancelToken) -> None:
    while parent is not None and _alive(parent):
        time.sleep(POLL_SECONDS)
    cancel.cancel()
    time.sleep(GRACE_SECONDS)
    remove_unfinished()
    os._exit(_EXIT)


def _alive(process: psutil.Process) -> bool:
    import psutil

    try:
        # Also where another process has got the same identifier meanwhile.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # it is there, and may not be looked at
        return True
