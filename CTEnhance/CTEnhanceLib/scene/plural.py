"""One slice, but two slices."""

from __future__ import annotations

from typing import Any


def plural(count: int, one: str, several: str, **more: Any) -> str:
    """Return the sentence for one thing or for several, its places {count} and those of `more` filled."""
    return (one if count == 1 else several).format(count=count, **more)
