"""A run's report to read: a table in rich text, with names for people; as JSON where that is asked for."""

from __future__ import annotations

import functools
import html
import json
from collections.abc import Iterator, Mapping
from typing import Any

from slicer.i18n import tr as _

from CTEnhanceLib.process.texts import durationText

_MOST_NUMBERS = 16
# What stands first, in this order; the rest follows as the report has it.
_FIRST = (
    "verb",
    "started",
    "input",
    "model",
    "settings",
    "seed",
    "device",
    "seconds",
    "warnings",
    "notes",
    "details",
)


def reportTable(report: Mapping[str, Any]) -> str:
    """Return a report as a table in rich text; long rows of numbers are only counted."""
    ordered = {key: report[key] for key in _FIRST if key in report}
    rows = "".join(_rows({**ordered, **{key: report[key] for key in report if key not in ordered}}, 0))
    return f"<table cellpadding='2'>{rows}</table>"


def reportJson(report: Any) -> str:
    """Return a report as JSON; long rows of numbers are only counted."""
    return json.dumps(_shortened(report), indent=2, ensure_ascii=False)


def _rows(part: Mapping[str, Any], depth: int) -> Iterator[str]:
    """Yield the table's rows; what is nested stands below its name, further to the right."""
    space = "&nbsp;" * 4 * depth
    for key, value in part.items():
        name = html.escape(_name(key))
        if value is None or value == {} or value == []:
            continue
        nested = _nested(value)
        if nested is None:
            text = _duration(value) if key == "seconds" else _text(value)
            yield f"<tr><td>{space}{name}</td><td>{html.escape(text)}</td></tr>"
        else:
            yield f"<tr><td colspan='2'>{space}<b>{name}</b></td></tr>"
            if key == "seconds":
                nested = {stage: _duration(seconds) for stage, seconds in nested.items()}
            yield from _rows(nested, depth + 1)


def _nested(value: Any) -> Mapping[str, Any] | None:
    """Return what stands below a name of its own, or None: it is one value."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list) and any(isinstance(one, Mapping | list) for one in value):
        return {str(number): one for number, one in enumerate(value, start=1)}
    return None


def _name(key: str) -> str:
    text = _names().get(key) or key.replace("_", " ")
    return text[:1].upper() + text[1:]


@functools.cache
def _names() -> Mapping[str, str]:
    """Return the names for people, translated once: reports have a hundred rows."""
    return {
        "verb": _("Made by"),
        "started": _("Started (UTC)"),
        "input": _("Input"),
        "settings": _("Settings"),
        "seed": _("Seed"),
        "device": _("Device"),
        "model": _("Model"),
        "sha256": _("SHA-256"),
        "warnings": _("Warnings"),
        "notes": _("Notes"),
        "seconds": _("Time"),
        "total": _("All together"),
        "peak_memory_mb": _("Most memory (MB)"),
        "versions": _("Versions"),
        "ctenhance": _("Version of CTEnhance"),
        "research_use_only": _("For research use only"),
        "details": _("Details"),
        "preceding": _("Before that"),
        "shape": _("Slices, rows, columns"),
        "spacing": _("Spacing (mm)"),
        "origin": _("Origin (mm)"),
        "licence": _("Licence"),
        "dose_estimate": _("Dose"),
        "data_consistency": _("Check against the data"),
    }


def _text(value: Any) -> str:
    """Return one value for people."""
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, list):
        short = _shortened(value)
        return short if isinstance(short, str) else "; ".join(_text(one) for one in short)
    return str(value)


def _duration(seconds: Any) -> str:
    return durationText(seconds) if isinstance(seconds, int | float) and seconds >= 10 else f"{seconds:.3g} s"


def _shortened(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _shortened(one) for key, one in value.items()}
    if not isinstance(value, list):
        return value
    numbers = all(isinstance(one, int | float) for one in value)
    if numbers and len(value) > _MOST_NUMBERS:
        return _("{count} numbers, {least:.4g} to {most:.4g}").format(
            count=len(value), least=min(value), most=max(value)
        )
    return [_shortened(one) for one in value]
