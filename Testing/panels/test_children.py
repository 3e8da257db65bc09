"""Child processes: heard to their end, let go, and behind Slicer where both want the processors."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import pytest


@pytest.mark.skipif(not hasattr(os, "getpriority"), reason="no priorities of processes here")
def test_slicer_has_the_processors_first(app: Any, user: Any) -> None:
    """The child takes all of them, while the user scrolls."""
    from CTEnhanceLib.process.worker import Worker

    ended: list[str] = []
    worker = Worker(*[lambda *_: ended.append("")] * 4, {})
    worker.start(["devices"])
    pid = worker._process.pid
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    worker.kill()


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="no such class of processes here")
def test_slicer_has_the_processors_first_even_where_it_is_the_last_itself(app: Any) -> None:
    """3D Slicer on Linux lowers its own main thread as far as can be, and children begin there."""
    from CTEnhanceLib.process import worker

    with subprocess.Popen(["nice", "-n", "19", "sleep", "60"]) as child:
        try:
            while os.getpriority(os.PRIO_PROCESS, child.pid) < 19:
                time.sleep(0.01)
            worker._stepBack(child.pid)
            assert os.sched_getscheduler(child.pid) == os.SCHED_IDLE
        finally:
            child.kill()


@pytest.mark.parametrize("kind", ["PipedChild", "QtChild"])
def test_a_child_is_heard_to_its_end(app: Any, user: Any, kind: str) -> None:
    """By either way to start one, that of Windows and the others', it is the same."""
    from CTEnhanceLib.process import child

    def told(code: str, program: str = sys.executable, wait: Any = None) -> list[Any]:
        log: list[Any] = []

        def take(name: str) -> Any:
            return lambda written: log.append((name, written))

        def ended(*how: Any) -> None:
            log.append(how)

        listeners = child.Listeners(take("out"), take("err"), ended, lambda: log.append("broke"))
        environment = {**child.systemEnvironment(), "CTENHANCE_TOLD": "ü"}
        started = getattr(child, kind)(program, ["-c", code], environment, listeners)
        if program == sys.executable:
            assert started.running and started.pid > 0
        if wait is not None:
            wait(started)
        user.waits(lambda: log and (log[-1] == "broke" or isinstance(log[-1][0], int)), 60)
        assert not started.running
        started.close()
        started.close()
        return log

    def joined(log: list[Any], name: str) -> bytes:
        return b"".join(each[1] for each in log if each[0] == name)

    text = "import os, sys; print('x' * 300_000, os.environ['CTENHANCE_TOLD']); print('bad', file=sys.stderr)"
    log = told(f"{text}; sys.exit(3)")
    assert log[-1] == (3, False) and joined(log, "err").strip() == b"bad"
    assert joined(log, "out").strip() == b"x" * 300_000 + " ü".encode()
    assert told("import time; time.sleep(100)", wait=lambda started: started.kill())[-1][1]
    assert told("", program="/no/such/program") == ["broke"]


def test_a_child_that_is_let_go_tells_nothing_more(app: Any, user: Any) -> None:
    from CTEnhanceLib.process import child

    log: list[Any] = []
    listeners = child.Listeners(log.append, log.append, lambda *how: log.append(how), lambda: log.append(""))
    started = child.start(sys.executable, ["-c", "print('late')"], {}, listeners)
    started.wait(60)
    started.close()
    user.rests(0.2)
    assert not log
