"""How the benchmarks' commands end where they cannot go on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ctenhance.runtime.errors import CTEnhanceError


@contextmanager
def one_sentence() -> Iterator[None]:
    """Tell a problem that the user can mend in one sentence, and end with exit code 2."""
    try:
        yield
    except CTEnhanceError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
