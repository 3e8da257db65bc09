"""What a page asks for: a message that may be anything, each field of which is checked when it is taken."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ctenhance.runtime.errors import InputError


class Asked:
    """One message of the page."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def number(self, name: str | None, given: Any, low: float, high: float) -> float:
        """Return a finite number from `low` to `high`: the field `name`, or `given` where that is None."""
        value = self.values.get(name) if name is not None else given
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError("The page sent something that is no number; reload it.")
        if not low <= value <= high:
            raise InputError(f"{value:g} is not possible here; choose {low:g} to {high:g}.")
        return float(value)

    def one_of(self, name: str, allowed: tuple[str, ...]) -> str:
        """Return the field, one of the allowed words."""
        value = self.values.get(name)
        if value not in allowed or not isinstance(value, str):
            raise InputError(f"The page sent a '{name}' that there is not; choose {', '.join(allowed)}.")
        return value

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Return the field, an object."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            raise InputError(f"The page sent no '{name}'; reload it.")
        return value

    def pair(self, value: Any) -> tuple[Any, Any]:
        """Return a list of two as it came."""
        if not isinstance(value, list) or len(value) != 2:
            raise InputError("The page sent a size that is none; reload it.")
        return value[0], value[1]
