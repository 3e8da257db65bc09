"""Slices worked on side by side: on a CPU each thread takes one of its own, and none waits for another within
a layer of a network or a sum over views."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import TracebackType
from typing import TypeVar

import torch

A = TypeVar("A")
B = TypeVar("B")


class Abreast:
    """So many threads, which share those that torch has; to be used in a `with` statement.

    One is no further thread: all is done where it is asked for.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Abreast:
        if self.threads > 1:
            before, begun = torch.get_num_threads(), Barrier(self.threads + 1)

            def begin() -> None:
                torch.get_num_threads()  # a thread takes the common setting at its first question
                torch.set_num_threads(max(1, before // self.threads))
                begun.wait()

            self._pool = ThreadPoolExecutor(self.threads, initializer=begin)
            for _ in range(self.threads):  # each begins now, as none is idle before all have begun
                self._pool.submit(int)
            begun.wait()
            # torch's setting holds for the thread that makes it, and for all that begin later.
            torch.set_num_threads(before)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        """The results of `work` on each item, in order, as soon as they are there; its errors are raised."""
        if self._pool is None:
            return map(work, items)
        inference = torch.is_inference_mode_enabled()  # which is each thread's own

        def one(item: A) -> B:
            with torch.inference_mode(inference):
                return work(item)

        return self._pool.map(one, items)
