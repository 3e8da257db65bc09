"""JSON files that people write or choose: the object in one, or a sentence on what is wrong with it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from ctenhance.runtime.errors import InputError


def read_object(path: str | os.PathLike[str], what: str) -> dict[str, Any]:
    """Return the JSON object in the file; `what` is the name of such a file in the sentences ('study').

    Raises InputError when it is not there, cannot be read or is no JSON object.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"There is no {what} at '{file}'; check the path.")
    try:
        text = file.read_text(encoding="utf-8-sig")
        value = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"The {what} '{file}' cannot be read as JSON ({_first_line(error)}).") from error
    if not isinstance(value, dict):
        raise InputError(f"The {what} '{file}' holds no JSON object, but {described(value)}.")
    return value


def read_report(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the report of a run, as `--report` writes it; raises InputError for anything else."""
    value = read_object(path, "report")
    parts = (value.get(name, {}) for name in ("settings", "details", "model", "engine"))
    if not isinstance(value.get("verb"), str) or not all(isinstance(x, (dict, type(None))) for x in parts):
        raise InputError(f"'{Path(path).name}' is no report of a run: give the file that --report wrote.")
    return value


def described(value: Any) -> str:
    """Return a value of JSON as sentences name it: short, and without what is inside."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else f"a list of {len(value)}"
    text = json.dumps(value) if isinstance(value, (str, bool, int, float, type(None))) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _finite(number: str) -> float:
    """Return a number of JSON, which has no infinite ones (Python would read 1e999 and NaN)."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:20]} is no number")
    return value


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
