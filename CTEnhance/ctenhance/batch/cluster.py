"""Cases over Dask: a cluster in this machine, or one whose scheduler is named.

What Dask does, and what is minded here:
- A task that only waited at a worker that died ends, after some such deaths, as if it had killed it. So no
  more cases are out than there are workers, and those that end so are tried again alone, one after the
  other, before one is called guilty.
- Equal arguments are not run again: `pure=False`.
- Nothing tells a running task that nobody waits for it any more; its state at its worker does. So cases stop
  when the command ends, however it ends.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import platform
import queue
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from ctenhance.batch.case import FAILED, Case, Outcome
from ctenhance.batch.work import run_case
from ctenhance.batch.worker import CARDS, TOPIC, Job, on_worker
from ctenhance.runtime.engines.choice import torch_is_better
from ctenhance.runtime.errors import Cancelled, CTEnhanceError, InputError
from ctenhance.runtime.memory import free_main_memory
from ctenhance.runtime.progress import Cancellable, Progress, check

#: Memory that a case of usual size takes at most, for the number of workers.
BYTES_A_WORKER = 4 << 30
#: How long a scheduler that was lost, or has no workers, is waited for, in seconds.
PATIENCE = 60.0
#: How often a case may end its worker alone before it is given up.
ALONE = 2
_STARTS = 3
_POLL = 0.2
#: Dask's settings in this machine: no memory limit a worker, as one that is alone may take all; a case whose
#: worker died twice is set aside.
_SETTINGS = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.scheduler.allowed-failures": 1,
    "distributed.scheduler.worker-saturation": 1.0,
}
#: Without --dashboard nothing of the batch is to be had over HTTP.
_CLOSED: dict[str, Any] = {
    "distributed.scheduler.http.routes": ["distributed.http.health"],
    "distributed.worker.http.routes": ["distributed.http.health"],
}
_THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)  # fmt: skip


def here(
    job: Job, cases: Iterable[Case], progress: Progress, cancel: Cancellable
) -> Iterator[tuple[Case, Outcome]]:
    """The cases one after the other in this process, without Dask."""
    for case in cases:
        check(cancel)
        outcome = run_case(job.verb, case, job.target, job.overwrite, job.run, progress, cancel)
        outcome.worker = platform.node()
        yield case, outcome


def dask_is_there() -> bool:
    """Whether Dask's distributed scheduler, and what protects it from other users, is installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("distributed", "cryptography"))


def require_dask(dashboard: bool = False) -> None:
    """Raise InputError where Dask is not installed."""
    if not dask_is_there() or (dashboard and importlib.util.find_spec("bokeh") is None):
        raise InputError(
            "Dask is not installed: install it (pip install 'ctenhance[batch]'), or leave out --workers, "
            "--scheduler and --dashboard."
        )


def _cards() -> str:
    """The graphics cards of this machine, as CUDA_VISIBLE_DEVICES names them; '' if there is none."""
    if not torch_is_better("auto") or sys.platform == "darwin":
        return ""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible if visible else ",".join(map(str, range(torch.cuda.device_count())))


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(device: str) -> int:
    """One a graphics card; else one a core, as long as each has the memory of a usual case."""
    if torch_is_better(device):
        return max(1, len(_cards().split(","))) if device in ("auto", "cuda") else 1
    return max(1, min(cores(), free_main_memory() // BYTES_A_WORKER))


@contextlib.contextmanager
def connected(
    workers: int, scheduler: str | None, dashboard: bool, log: Callable[[str, str], None]
) -> Iterator[Connection]:
    """A connection to the named scheduler, or to a cluster that is started in this machine and ends with the
    block. Raises InputError for a scheduler that does not answer."""
    import dask
    import distributed  # noqa: F401 (its defaults have to be there before they are changed for a while)

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            stack.enter_context(dask.config.set({**_SETTINGS, **({} if dashboard else _CLOSED)}))
            cluster = stack.enter_context(_local_cluster(workers, dashboard))
            connection = Connection(cluster, cluster.security, workers)
        else:
            connection = Connection(scheduler, None)
        stack.callback(connection.close)
        connection.open()
        if dashboard:
            log(f"Dask's dashboard: {connection.client.dashboard_link}", "note")
        yield connection


def _local_cluster(workers: int, dashboard: bool) -> Any:
    """A cluster in this machine; a worker that dies while it starts is no reason to give up."""
    for trial in range(_STARTS):
        try:
            return _started_cluster(workers, dashboard)
        except RuntimeError as error:
            if trial == _STARTS - 1:
                raise CTEnhanceError(
                    f"The {workers} worker processes do not start ({error}): take fewer, or --workers 0."
                ) from error
    raise AssertionError


def _started_cluster(workers: int, dashboard: bool) -> Any:
    from distributed import LocalCluster
    from distributed.security import Security

    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    each = int(asked) if asked.isdecimal() and int(asked) > 0 else max(1, cores() // workers)
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        # Whoever reaches a scheduler can run anything: certificates that live as long as the cluster keep
        # other users of this machine out.
        security=Security.temporary(),
        dashboard_address="127.0.0.1:0",  # its usual port may be another's
        scheduler_kwargs={"dashboard": dashboard},
        memory_limit=0,
        silence_logs=logging.CRITICAL,
        env={**dict.fromkeys(_THREADS, str(each)), CARDS: _cards()},
    )


class Connection:
    """A client that is opened anew when its scheduler was lost and is there again."""

    def __init__(self, address: Any, security: Any, number: int = 0) -> None:
        self.address, self.security, self.number = address, security, number
        self.client: Any = None

    def open(self) -> None:
        """Connect; raises InputError for a scheduler that does not answer."""
        from distributed import Client

        try:
            # A machine that is busy is no reason to give up a cluster that was started here.
            timeout = PATIENCE if self.number else PATIENCE / 4
            self.client = Client(self.address, security=self.security, timeout=timeout)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"The scheduler '{self.address}' does not answer ({type(error).__name__}): start it, or "
                "check its address (tcp://machine:8786)."
            ) from error

    def reopen(self, cancel: Cancellable) -> None:
        """Wait for a lost scheduler. Raises CTEnhanceError when it does not come back."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            check(cancel)
            if self.client.status == "running":
                return
            if self.client.status == "closed":
                with contextlib.suppress(InputError):
                    self.open()
                    return
            time.sleep(_POLL)
        raise CTEnhanceError(
            f"The scheduler '{self.address}' is gone: start it again and run the same command, which goes "
            "on from here."
        )

    def workers(self) -> int:
        """How many workers there are now. In this machine those that are missing are started again."""
        try:
            there = len(self.client.nthreads())
            if there < self.number:
                self.address.scale(self.number)
            return there
        except (OSError, RuntimeError, AttributeError):
            return 0

    def close(self) -> None:
        """Leave the scheduler, which then lets go of what is out."""
        with contextlib.suppress(Exception):
            self.client.close(timeout=2)


def over_dask(
    connection: Connection, job: Job, cases: Iterable[Case | None], progress: Progress, cancel: Cancellable
) -> Generator[tuple[Case, Outcome], None, None]:
    """The cases over the workers of a scheduler, in the order in which they end.

    `cases` may give None where the next one is not known yet. Raises Cancelled when asked to stop, and
    CTEnhanceError when the scheduler is gone for good or has no worker.
    """
    stream = _Stream(connection, job, progress, cancel)
    try:
        yield from stream.outcomes(iter(cases))
    finally:
        stream.let_go()


class _Stream:
    def __init__(self, connection: Connection, job: Job, progress: Progress, cancel: Cancellable) -> None:
        self.connection, self.job = connection, job
        self.progress, self.cancel = progress, cancel
        self.out: dict[str, tuple[Case, Any]] = {}
        self.again: deque[Case] = deque()
        self.suspects: deque[tuple[Case, int]] = deque()
        self.events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.at_once, self.counted = 0, 0.0
        self.idle_since: float | None = None
        self._listen()

    def _listen(self) -> None:
        self.listened = self.connection.client
        self.listened.subscribe_topic(TOPIC, lambda event: self.events.put(("told", event[1])))

    def outcomes(self, waiting: Iterator[Case | None]) -> Iterator[tuple[Case, Outcome]]:
        """Yield them as they end; the suspects at last, each alone."""
        alone: tuple[Case, int] | None = None
        all_known = False
        while True:
            check(self.cancel)
            self._count_workers()
            while len(self.out) < self.at_once and not alone:
                case: Case | None = None
                if self.again:
                    case = self.again.popleft()
                elif not all_known:
                    try:
                        case = next(waiting)
                    except StopIteration:
                        all_known = True
                if case is None:
                    break
                self._submit(case)
            if not self.out:
                if self.again:
                    self._submit(self.again.popleft())  # a suspect whose scheduler was lost
                elif not all_known:
                    pass
                elif self.suspects:
                    alone = self.suspects.popleft()
                    self._submit(alone[0])
                elif self.at_once:
                    return
            ended = self._next_ended()
            if ended is None:
                continue
            case, outcome = ended
            if outcome is not None:
                alone = None
                yield case, outcome
            elif alone is None:
                self.suspects.append((case, 0))
            elif alone[1] + 1 < ALONE:
                self.suspects.append((case, alone[1] + 1))
                alone = None
            else:
                alone = None
                yield case, Outcome(FAILED, _GUILTY)

    def _count_workers(self) -> None:
        """As many cases are out as there are workers; asked again now and then, as workers come and go."""
        if time.monotonic() < self.counted:
            return
        self.at_once = self.connection.workers()
        self.counted = time.monotonic() + (5.0 if self.at_once else _POLL)
        if self.at_once:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = time.monotonic()
        elif time.monotonic() - self.idle_since > PATIENCE and not self.out:
            raise CTEnhanceError(
                f"The scheduler '{self.connection.address}' has had no worker for {PATIENCE:.0f} s: start "
                "some, and run the same command, which goes on from here."
            )

    def _submit(self, case: Case) -> None:
        if self.connection.client.status != "running":
            self.connection.reopen(self.cancel)
        if self.listened is not self.connection.client:
            self._listen()
        future = self.connection.client.submit(on_worker, self.job, case.absolute(), pure=False)
        self.out[future.key] = (case, future)
        future.add_done_callback(lambda done: self.events.put(("ended", done.key)))

    def _next_ended(self) -> tuple[Case, Outcome | None] | None:
        """The next case that ended, with None where its workers died; None where none did in a while."""
        import distributed

        try:
            kind, what = self.events.get(timeout=_POLL)
        except queue.Empty:
            if self.connection.client.status not in ("running", "connecting", "newly-created"):
                self._take_back()
            return None
        if kind == "told":
            self.progress(what["stage"], what["done"], what["total"])
            return None
        if what not in self.out:
            return None
        case, future = self.out[what]
        try:
            outcome = future.result(timeout=PATIENCE if future.done() else _POLL)
        except distributed.KilledWorker:
            del self.out[what]
            return case, None
        except distributed.TimeoutError:  # until Python 3.11 another one than the built-in
            # Its worker died with the result, and it is being made again; the end of that nothing tells.
            self.events.put((kind, what))
            return None
        except Exception as error:
            del self.out[what]
            if future.status in ("cancelled", "lost") or isinstance(error, Cancelled | OSError):
                self.again.append(case)  # the scheduler was lost, or the worker was told to close
                self.connection.reopen(self.cancel)
                return None
            raise
        del self.out[what]
        future.release()
        return case, outcome

    def _take_back(self) -> None:
        """The scheduler is gone, and with it what was out."""
        self.again.extend(case for case, _ in self.out.values())
        self.out.clear()
        self.connection.reopen(self.cancel)

    def let_go(self) -> None:
        """Cancel what is out; running cases stop at their next look."""
        futures = [future for _, future in self.out.values()]
        self.out.clear()
        if futures:
            with contextlib.suppress(Exception):
                self.connection.client.cancel(futures)


_GUILTY = (
    "It ended the process that worked on it each time, also when nothing else ran: it needs more memory than "
    "there is, or a library broke down on it; try it alone with 'ctenhance batch --workers 0'."
)
