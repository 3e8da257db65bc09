"""Cases on their way from the search into the manifest and on to the workers, while the search goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from ctenhance.batch.case import Case
from ctenhance.commands.batch_search import LeftOut
from ctenhance.runtime.progress import Cancellable, CancelToken, check

if TYPE_CHECKING:
    from ctenhance.batch.manifest import Manifest
    from ctenhance.commands.batch_cases import CaseSearch, Withdrawn

#: So long is looked for cases, in seconds, when there is none to be done; most folders are known whole then.
AHEAD = 10.0
#: So many are written into the manifest at once, or as many as were found in half a second.
_AT_ONCE, _SECONDS = 100, 0.5


class Feed:
    """What a search finds (`found`, as far as it is not yet taken), put into a manifest; `waiting` gives the
    cases in the order in which they were found.

    `check_case` raises InputError for a case with which the batch may not go on. Use it in a `with` block:
    its thread, if one was started, ends with the block.
    """

    def __init__(
        self,
        search: CaseSearch,
        found: Iterable[Case | LeftOut | Withdrawn],
        manifest: Manifest,
        check_case: Callable[[Case], None],
        cancel: Cancellable,
    ) -> None:
        self.search = search
        self.manifest, self.check_case, self.cancel = manifest, check_case, cancel
        #: Cases found so far, whether there are no more, and how many ended; the first that was left out; the
        #: withdrawn ones.
        self.number, self.over, self.ended = 0, False, 0
        self.left_out: dict[str, str] = {}
        self.left_out_number = 0
        self.withdrawn: dict[str, str] = {}
        self._found = iter(found)
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._stop = CancelToken()

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.cancel()
        if self._thread is not None:
            self._thread.join()

    @property
    def total(self) -> int:
        """How many cases there are, as far as is known; one more than ended at least, while it is not."""
        return max(self.number - len(self.withdrawn), self.ended + (not self.over))

    def look(self, seconds: float) -> None:
        """Take from the search for so long, and once at least, or until it is over."""
        until = time.monotonic() + seconds
        while not self.over:
            self._take(time.monotonic() + _SECONDS)
            if time.monotonic() > until:
                break

    def raise_error(self) -> None:
        """Raise what ended the search in its thread."""
        if self._error is not None:
            raise self._error

    def start(self) -> None:
        """Take the rest in a thread of its own."""
        if not self.over:
            self._thread = threading.Thread(target=self._take_all, name="search", daemon=True)
            self._thread.start()

    def waiting(self) -> Iterator[Case | None]:
        """The cases to be done; None where the search has none yet, which with no thread does not happen."""
        last = 0
        while True:
            over = self.over
            page = self.manifest.found_after(last)
            for number, case in page:
                last = number
                if case.name not in self.withdrawn:
                    yield case
            self.raise_error()
            if page:
                continue
            if over:
                return
            if self._thread is None:
                self.look(AHEAD)
            else:
                yield None

    def _take_all(self) -> None:
        try:
            while not self.over:
                self._take(time.monotonic() + _SECONDS)
        except BaseException as error:  # told where the cases are taken
            self._error = error
        finally:
            self.over = True

    def _take(self, until: float) -> None:
        cases: list[Case] = []
        left_out: dict[str, str] = {}
        withdrawn: dict[str, str] = {}
        one: Case | LeftOut | Withdrawn | None = None
        while len(cases) < _AT_ONCE and not withdrawn and (not cases or time.monotonic() < until):
            check(self._stop)
            check(self.cancel)
            one = next(self._found, None)
            if one is None:
                break
            if isinstance(one, Case):
                self.check_case(one)
                cases.append(one)
            elif isinstance(one, LeftOut):
                left_out[one.name] = one.reason
            else:
                withdrawn[one.name] = one.reason
        self.left_out = self.left_out or dict(list(left_out.items())[:1])
        self.left_out_number += len(left_out)
        self.manifest.add(cases, left_out)
        self.number += len(cases)
        for name, reason in withdrawn.items():
            self.withdrawn[name] = reason
            self.manifest.withdraw(name, reason)
        self.over = one is None  # at last, so that who sees it finds all cases in the manifest
