"""How a volume was made, as the page tells it: from the report of the run, without paths."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ctenhance.core.report import plain

_VERBS = {
    "enhance": "Enhanced",
    "reconstruct": "Reconstructed from projections",
    "degrade": "Degraded",
    "decompose": "Decomposed into materials",
}
_HASH_DIGITS = 12


def making(report: Mapping[str, Any]) -> str:
    """Return a section of HTML that says what a report tells of a run: verb, model, settings, device, times,
    warnings, and the same of the runs before it (`preceding`)."""
    stated = plain(report)
    runs = [*(one for one in stated.get("preceding") or [] if isinstance(one, Mapping)), stated]
    tables = "".join(_table(run) for run in runs)
    warnings = [str(text) for run in runs for text in run.get("warnings") or []]
    listed = list_of(warnings) or "<p class='facts'>No warnings.</p>"
    notes = list_of([str(text) for run in runs for text in run.get("notes") or []])
    noted = f"<h2>Notes</h2>{notes}" if notes else ""
    return f"<h2>How it was made</h2>{tables}<h2>Warnings</h2>{listed}{noted}"


def list_of(warnings: Sequence[str]) -> str:
    """Return the warnings as a list in HTML, '' for none."""
    said = "".join(f"<li>{html.escape(text)}</li>" for text in warnings)
    return f"<ul class='warnings'>{said}</ul>" if said else ""


def _table(run: Mapping[str, Any]) -> str:
    verb = str(run.get("verb") or "unknown")
    head = (
        f'<tr><th colspan="2" scope="rowgroup">{html.escape(_VERBS.get(verb, verb.capitalize()))}</th></tr>'
    )
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(text)}</td></tr>'
        for name, text in _rows(run)
    )
    return f"<table class='making'><tbody>{head}{rows}</tbody></table>"


def _rows(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    details = run.get("details") or {}
    for title, model in (("Model", run.get("model")), *((f"Model, {k}", v) for k, v in _models(details))):
        if isinstance(model, Mapping) and model.get("name"):
            version = f" {model['version']}" if model.get("version") else ""
            digest = f" ({str(model['sha256'])[:_HASH_DIGITS]})" if model.get("sha256") else ""
            yield title, f"{model['name']}{version}{digest}"
    for name, value in (run.get("settings") or {}).items():
        text = _value(value)
        if text:
            yield name.replace("_", " ").capitalize(), text
    if run.get("seed") is not None:
        yield "Seed", str(run["seed"])
    if run.get("device"):
        engine = run.get("engine") or {}
        with_what = ", ".join(str(engine[key]) for key in ("name", "precision") if engine.get(key))
        yield "Device", f"{run['device']}" + (f" ({with_what})" if with_what else "")
    total = (run.get("seconds") or {}).get("total")
    if isinstance(total, int | float):
        yield "Time", f"{total:.3g} s"
    if run.get("started"):
        yield "Started (UTC)", str(run["started"])[:16].replace("T", " ")
    if run.get("ctenhance"):
        yield "CTEnhance", str(run["ctenhance"])
    dose = (details.get("dose_estimate") or {}).get("dose")
    if isinstance(dose, int | float):
        yield "Dose", f"{100 * dose:.3g} % of normal"
    check = details.get("data_consistency")
    if isinstance(check, Mapping) and "consistent" in check:
        warned = any(name.endswith("_warning") for name in check)
        why_not = "no: see the warnings" if warned else "no: look at the residual"
        fits = "yes" if check.get("spacing_checked", True) else "yes (not told: the columns' spacing)"
        yield "Fits the measured data", fits if check["consistent"] else why_not


def _models(details: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found = details.get("models")
    return list(found.items()) if isinstance(found, Mapping) else []


def _value(value: Any) -> str:
    """Return a setting as text; none for what was not set, and for what may be a path."""
    if value is None or isinstance(value, Mapping):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(filter(None, map(_value, value)))
    text = str(value)
    return "" if "/" in text or "\\" in text else text
