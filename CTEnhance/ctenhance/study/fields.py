"""Reading JSON that people write: each field checked, each fault one sentence that names it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ctenhance.runtime.errors import InputError, quoted
from ctenhance.runtime.json_object import described

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_LARGEST = 10**300  # JSON has whole numbers of any length, a float ends a little above
_KINDS = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def canonical(value: Any) -> str:
    """Return the one JSON text of a value: keys sorted, no blanks, ASCII. What is hashed is this text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256_of(text: str | bytes) -> str:
    """Return the SHA-256 of the bytes, or of the text in UTF-8, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8") if isinstance(text, str) else text).hexdigest()


class Fields:
    """The fields of one JSON object, taken one by one; `where` says in the sentences which object it is."""

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, dict):
            raise InputError(f"{where} must be an object, but it is {described(values)}.")
        self._values = values
        self._taken: set[str] = set()
        self.where = where

    def take(self, name: str, kind: type, default: Any = ...) -> Any:
        """Return the field's value if it is of the kind (int passes as float); the default when it is absent.

        Raises InputError when it is absent without a default, of another kind, or no finite number.
        """
        self._taken.add(name)
        if name not in self._values:
            if default is ...:
                raise InputError(f"{self.where} lacks '{name}' ({_KINDS[kind]}); add it.")
            return default
        value = self._values[name]
        if value is None and default is None:
            return None
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value) if abs(value) < _LARGEST else math.inf
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise InputError(
                f"'{name}' in {self.where} must be {_KINDS[kind]}, but it is {described(value)}."
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"'{name}' in {self.where} must be a finite number, but it is {value}.")
        return value

    def number(self, name: str, low: float, high: float, default: Any = ..., kind: type = float) -> Any:
        """Return a number between the limits (both allowed); raises InputError for others."""
        value = self.take(name, kind, default)
        if value is not None and not low <= value <= high:
            raise InputError(
                f"'{name}' in {self.where} must lie between {low:g} and {high:g}, but it is {value:g}."
            )
        return value

    def one_of(self, name: str, allowed: Iterable[str], default: Any = ...) -> str:
        """Return a text that is one of those allowed; raises InputError for others."""
        value = self.take(name, str, default)
        choices = tuple(allowed)
        if value not in choices:
            raise InputError(
                f"'{name}' in {self.where} must be one of {', '.join(choices)}, but it is {quoted(value)}."
            )
        return value

    def names(self, name: str, default: Any = ...) -> tuple[str, ...]:
        """Return a list of different `checked_name`s as a tuple; raises InputError for anything else."""
        values = self.take(name, list, default)
        return different(
            tuple(checked_name(one, f"'{name}' in {self.where}") for one in values), name, self.where
        )

    def done(self) -> None:
        """Raise InputError for a field that nobody took: a misspelt one would be ignored silently."""
        unknown = sorted(set(self._values) - self._taken)
        if unknown:
            raise InputError(
                f"{self.where} has a field '{unknown[0]}' that is not known; check its spelling."
            )


def checked_name(value: Any, where: str) -> str:
    """Return the value if it may name a reader, a case, an arm or a question, also in file names.

    Raises InputError otherwise: 1 to 40 letters (A-Z, a-z), digits, dots, hyphens and underscores.
    """
    if not isinstance(value, str) or not _NAME.fullmatch(value) or value.endswith("."):
        raise InputError(
            f"{where}: {described(value)} cannot be a name; use up to 40 letters (A to Z), digits, '.', '-' "
            "and '_', the first a letter or a digit."
        )
    return value


def different(values: tuple[str, ...], name: str, where: str) -> tuple[str, ...]:
    """Return the values if no two are the same (in any case of letters); raises InputError otherwise."""
    taken: set[str] = set()
    for value in values:
        if value.casefold() in taken:
            raise InputError(f"'{name}' in {where} names '{value}' twice; give each its own name.")
        taken.add(value.casefold())
    return values


def numbers(value: Any, count: int, where: str) -> tuple[float, ...]:
    """Return a list of so many finite numbers as a tuple; raises InputError for anything else."""
    good = (
        isinstance(value, (list, tuple))
        and len(value) == count
        and all(
            isinstance(one, (int, float)) and not isinstance(one, bool) and math.isfinite(one)
            for one in value
        )
    )
    if not good:
        raise InputError(f"{where} must be {count} finite numbers, but it is {described(value)}.")
    return tuple(float(one) for one in value)


def require_format(values: Mapping[str, Any], name: str, version: int, path: str | os.PathLike[str]) -> None:
    """Raise InputError unless the object says that it is of this format, in a version not newer than ours."""
    if values.get("format") != name:
        raise InputError(
            f"'{path}' is no {name} file: its field 'format' says {described(values.get('format'))}."
        )
    if values.get("version") != version:
        raise InputError(
            f"'{path}' has version {described(values.get('version'))} of the format {name}, but this "
            f"program reads version {version}; use the version of CTEnhance that made it."
        )
