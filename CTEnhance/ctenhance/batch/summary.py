"""What a batch says of itself in the folder of its results: a table, pages with pictures, a dataset card.

These are what people send on, so no name of a file or folder stands in them: cases have the numbers that the
manifest gives them, which stays with the data.
"""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import re
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import ctenhance
from ctenhance.batch.case import BEFORE, DONE, FAILED, LEFT_OUT, MANIFEST, WAITING
from ctenhance.batch.manifest import Manifest
from ctenhance.batch.verbs import Verb
from ctenhance.core.report import plain
from ctenhance.quality.display import NOTICE
from ctenhance.runtime import weights
from ctenhance.runtime.files import stem_of, write_text
from ctenhance.runtime.words import counted, noun

TABLE, PAGE, CARD = "summary.csv", "summary.html", "README.md"
#: Cases on one page.
CASES_A_PAGE = 200
#: So short a name is part of any sentence.
_SHORT = 2
_CARD_MARK = "<!-- written by ctenhance batch; it is replaced by the next one -->"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 68em; color: #1c2733 }
table { border-collapse: collapse } th, td { padding: .3em .8em; text-align: right; vertical-align: middle }
th { border-bottom: 2px solid #9aa7b4; font-weight: 600 } tr + tr td { border-top: 1px solid #dde3e8 }
td.text, th.text { text-align: left } td.change { white-space: nowrap }
td.failed { color: #b3261e } img { display: block; width: 256px }
.note { color: #5a6773 }
"""


def write(manifest: Manifest, target: Path, verb: Verb, stale: int = 0) -> dict[str, Path]:
    """Write table, pages and, where the results are images, the card of the set; return their paths.

    So many results are `stale`: earlier runs made them, and they belong to no case of this one.
    A README.md that somebody else wrote stays.
    """
    folder = manifest.folder
    write_text(folder / TABLE, _table(manifest))
    for page_before in folder.glob("summary-*.html"):
        page_before.unlink()
    pages = max(1, -(-manifest.count() // CASES_A_PAGE))
    rows = manifest.rows("number, name, state, why, seconds, figures, thumbnail")
    for page in range(1, pages + 1):
        write_text(folder / _page_name(page), _page(manifest, verb, rows, page, pages, stale))
    found = {"manifest": folder / MANIFEST, "table": folder / TABLE, "page": folder / PAGE}
    card = target / CARD
    if manifest.finished() and (not card.exists() or _is_ours(card)):
        write_text(card, _card(manifest, verb, stale))
        found["card"] = card
    return found


def without_names(sentence: str, name: str = "") -> str:
    """A sentence without what it names in quotation marks, paths, which may name a patient, and without the
    parts of its case's `name` elsewhere."""
    left = re.sub(r"(?<!\w)'.+?'(?=[\s.,;:)]|$)", "'…'", sentence)
    for part in sorted({name, *name.split("/"), *map(stem_of, name.split("/"))}, key=len, reverse=True):
        if len(part) > _SHORT:  # as a word: 'cut' is a part of many sentences, and 'Ann' of 'cannot'
            left = re.sub(rf"(?<![^\W\d_]){re.escape(part)}(?![^\W\d_])", "…", left)
    return left


def _figures(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _flat(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The measures as columns; of a comparison those of its table."""
    metrics = figures.get("metrics")
    if not isinstance(metrics, dict):
        return {name: value for name, value in figures.items() if not isinstance(value, dict | list)}
    from ctenhance.quality.compare import rows

    found = {name: value for name, value in figures.items() if name != "metrics"}
    for row in rows(metrics):
        for name, value in row.values.items():
            if value is not None:
                unit = f" ({row.unit})" if row.unit else ""
                found[f"{row.section}, {row.label}, {name}{unit}"] = round(value, row.digits + 2)
    return found


def _table(manifest: Manifest) -> str:
    columns: dict[str, None] = {}
    for row in manifest.rows("number, figures"):
        columns.update(dict.fromkeys(_flat(_figures(row["figures"]))))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["case", "state", "ended", "seconds", *columns, "why_not"])
    for row in manifest.rows("number, name, state, why, ended, seconds, figures"):
        flat = _flat(_figures(row["figures"]))
        seconds = "" if row["seconds"] is None else round(row["seconds"], 2)
        why = without_names(row["why"] or "", row["name"])
        values = [flat.get(name, "") for name in columns]
        writer.writerow([row["number"], row["state"], row["ended"] or "", seconds, *values, why])
    return stream.getvalue()


def _counts(manifest: Manifest) -> dict[str, int]:
    counts = {state: manifest.count(state) for state in (DONE, BEFORE, FAILED, LEFT_OUT, WAITING)}
    counts[LEFT_OUT] += len(manifest.left_out())
    return {state: number for state, number in counts.items() if number}


def _page_name(number: int) -> str:
    return PAGE if number == 1 else f"summary-{number}.html"


def _page(manifest: Manifest, verb: Verb, rows: Iterator[Any], page: int, pages: int, stale: int) -> str:
    counts = ", ".join(f"{number} {state}" for state, number in _counts(manifest).items())
    lines = []
    for row in rows:
        lines.append(_line(row))
        if len(lines) == CASES_A_PAGE:
            break
    links = " ".join(
        f"<b>{number}</b>" if number == page else f'<a href="{_page_name(number)}">{number}</a>'
        for number in range(1, pages + 1)
    )
    measures = (
        "<th>Noise in soft tissue (HU)</th><th>… in lung (HU)</th><th>Change of soft tissue's mean (HU)</th>"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Batch</title>'
        f"<style>{_STYLE}</style></head><body><h1>Batch: {html.escape(verb.name)}</h1>"
        f"<p>{counts or 'no case'}. {_made_by(verb)}</p>"
        f"{f'<p>{_more_there(stale)}</p>' if stale else ''}"
        f'<p class="note">{NOTICE} Cases have the numbers of <code>{MANIFEST}</code>, which names their '
        "files. Pictures are one slice before and after; noise and mean are of three slices.</p>"
        f"{f'<p>Page {links}</p>' if pages > 1 else ''}"
        f'<table><tr><th>Case</th><th class="text">Before | after</th><th class="text">State</th>{measures}'
        f"<th>Seconds</th></tr>\n{''.join(lines)}</table></body></html>\n"
    )


def _line(row: Any) -> str:
    figures = _figures(row["figures"])

    def change(tissue: str) -> str:
        before, after = (figures.get(f"noise_{tissue}_{name}_HU") for name in ("before", "after"))
        return "" if before is None or after is None else f"{before:.1f} → {after:.1f}"

    mean = figures.get("mean_soft_change_HU")
    picture = ""
    if row["thumbnail"]:
        data = base64.b64encode(row["thumbnail"]).decode("ascii")
        picture = f'<img alt="before and after" src="data:image/png;base64,{data}">'
    why = f"<br>{html.escape(without_names(row['why'], row['name']))}" if row["why"] else ""
    seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
    state = "text failed" if row["state"] == FAILED else "text"
    return (
        f'<tr><td>{row["number"]}</td><td class="text">{picture}</td><td class="{state}">'
        f"{html.escape(row['state'])}{why}</td>"
        f'<td class="change">{change("soft")}</td>'
        f'<td class="change">{change("lung")}</td>'
        f"<td>{'' if mean is None else f'{round(mean, 1) + 0.0:+.1f}'}</td><td>{seconds}</td></tr>\n"
    )


def _made_by(verb: Verb) -> str:
    model, sha = verb.recorded.get("model"), verb.recorded.get("weights")
    by = f" Model {html.escape(str(model))} (SHA-256 {str(sha)[:12]}…)." if model else ""
    return f"ctenhance {ctenhance.__version__}, {date.today().isoformat()}.{by}"


def _more_there(stale: int) -> str:
    return (
        f"{counted(stale, 'result')} of earlier runs {noun(stale, 'is', 'are')} in the folder, too, and "
        f"{noun(stale, 'belongs', 'belong')} to no case of this run (the end of the batch names them)."
    )


def _is_ours(card: Path) -> bool:
    try:
        return card.read_text(encoding="utf-8").startswith(_CARD_MARK)
    except (OSError, UnicodeDecodeError):
        return False


def _card(manifest: Manifest, verb: Verb, stale: int) -> str:
    """The dataset card: what the set holds, how it came about, and under which terms it may be used."""
    number, labelled = manifest.finished(), 0
    for case in manifest.cases(DONE, BEFORE):
        labelled += "labels" in case.beside
    recorded = plain({name: value for name, value in verb.recorded.items() if name != "weights"})
    settings = "\n".join(f"| {name} | `{json.dumps(value)}` |" for name, value in recorded.items())
    counts = "\n".join(f"| {state} | {count} |" for state, count in _counts(manifest).items())
    sha = verb.recorded.get("weights")
    licence = ""
    if sha:
        entry = next((one for one in weights.entries() if one.sha256 == sha), None)
        licence = f" Licence of the weights: {entry.licence}." if entry and entry.licence else ""
    model = (
        f"Model `{verb.recorded['model']}`, weights with SHA-256 `{sha}`.{licence}"
        if sha
        else "No trained model was used."
    )
    if verb.gives_ct:
        carried = (
            f"{labelled} of {counted(number, 'case')} {noun(labelled, 'has', 'have')} a label map in "
            "`labels/`, the unchanged file of the "
            "source set, or its labels in the order of the image's voxels where it had them in another; its "
            "grid was checked against its image. They were drawn on the source images. "
            "Structures near the limits of noise and resolution may look different in the results: check "
            "labels of such structures before training on them."
            if labelled
            else "No label maps were carried along."
        )
    else:
        carried = "Label maps do not apply."
    return f"""{_CARD_MARK}
# Results of `ctenhance {verb.name}`

{NOTICE} Made by ctenhance {ctenhance.__version__} on {date.today().isoformat()}; {number} finished cases.

| state | cases |
|---|---|
{counts}{f"{chr(10)}{chr(10)}{_more_there(stale)}" if stale else ""}

## How it was made

{model} Beside each result, `NAME.report.json` has its settings, seed, versions and the hashes of input and
result. `ctenhance-batch/{MANIFEST}` says for each case what, when, where, and why not.

| setting | value |
|---|---|
{settings}

## Annotations

{carried}

## Use

The results are derived from the source images: their licence, data use agreement and ethics approval hold for
these results, too. Name the source set, and name this method and its version. Values that a network changed
are no measurement: do not use them for diagnosis or dosimetry.
"""
