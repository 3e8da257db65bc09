"""The report of a study: one HTML page that needs nothing else, and the same as a PDF."""

from __future__ import annotations

import base64
import html
import io
import os
import textwrap
from typing import TYPE_CHECKING

from ctenhance.runtime.files import check_output, replace_when_done, write_text
from ctenhance.study.analysis import Results
from ctenhance.study.plots import plots
from ctenhance.study.tables import Table

if TYPE_CHECKING:
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

NOTICE = "For research use only. Not for diagnosis."
PAGE = (8.27, 11.69)  # A4 upright, inches
LINES, LINE_LENGTH = 78, 136  # of a page of the PDF

STYLE = """
body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, Arial, sans-serif; color: #1d252c; background: #fff;
  max-width: 76rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
.notice { color: #9a5b00; font-weight: 600; } .note, figcaption, .facts { color: #5b6770; font-size: .86rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .86rem; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #e1e6ea; white-space: nowrap; }
th { border-bottom: 2px solid #aab4bc; } td:first-child, th:first-child { text-align: left; white-space:
normal; } figure { margin: 1.2rem 0; } img { max-width: 100%; }
"""


def write_html(results: Results, path: str | os.PathLike[str]) -> None:
    """Write a self-contained page (.html); raises InputError for a path that cannot be written."""
    target = check_output(path, (".html", ".htm"))
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; img-src data:\">",
        f"<title>{html.escape(results.study['title'])}</title><style>{STYLE}</style></head><body>",
        f"<h1>{html.escape(results.study['title'])}</h1>",
        f'<p class="notice">{html.escape(NOTICE)}</p>',
        *(f'<p class="notice">{html.escape(line)}</p>' for line in results.warnings),
        *(f'<p class="facts">{html.escape(line)}</p>' for line in results.facts),
    ]
    parts += [_html_table(one) for one in results.tables]
    parts.append("<h2>Plots</h2>")
    for caption, figure in plots(results):
        image = base64.b64encode(_png(figure)).decode("ascii")
        source, text = f"data:image/png;base64,{image}", html.escape(caption)
        parts.append(f'<figure><img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>')
    parts.append("</body></html>")
    write_text(target, "\n".join(parts) + "\n")


def write_pdf(results: Results, path: str | os.PathLike[str]) -> None:
    """Write the report as a PDF; raises InputError for a path that cannot be written."""
    from matplotlib.backends.backend_pdf import PdfPages

    target = check_output(path, (".pdf",))
    lines = [
        results.study["title"],
        "",
        NOTICE,
        *(part for line in results.warnings for part in _wrapped(f"Note: {line}")),
        *(part for line in results.facts for part in _wrapped(line)),
        "",
    ]
    for one in results.tables:
        lines += _text_table(one)
    with (
        replace_when_done(target) as temporary,
        PdfPages(temporary, metadata={"Title": results.study["title"], "CreationDate": None}) as pdf,
    ):
        for start in range(0, len(lines), LINES):
            _text_page(pdf, lines[start : start + LINES])
        for caption, figure in plots(results):
            figure.suptitle("\n".join(textwrap.wrap(caption, 90)), fontsize=9)
            pdf.savefig(figure)


def _html_table(table: Table) -> str:
    heads = "".join(f'<th scope="col">{html.escape(column.strip())}</th>' for column in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.texts()
    )
    return (
        f'<h2>{html.escape(table.title)}</h2><div class="wide"><table><thead><tr>{heads}</tr></thead>'
        f'<tbody>{rows}</tbody></table></div><p class="note">{html.escape(table.notes())}</p>'
    )


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, LINE_LENGTH) or [""]


def _text_table(table: Table) -> list[str]:
    """Return a table as lines of text; one too wide is cut into parts that repeat its first two columns."""
    cells = [[column.strip() for column in table.columns], *table.texts()]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.columns))]
    lines = [table.title.upper()]
    start = kept = min(2, len(widths))
    while True:
        stop, used = start, sum(widths[:kept]) + 2 * (kept - 1)
        while stop < len(widths) and (stop == start or used + 2 + widths[stop] <= LINE_LENGTH):
            used += 2 + widths[stop]
            stop += 1
        for row in cells:
            shown = [row[k].ljust(widths[k]) for k in range(kept)]
            shown += [row[k].rjust(widths[k]) for k in range(start, stop)]
            lines.append("  ".join(shown)[:LINE_LENGTH])
        lines.append("")
        start = stop
        if start >= len(widths):
            break
    return [*lines[:-1], *_wrapped(table.notes()), "", ""]


def _text_page(pdf: PdfPages, lines: list[str]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=PAGE)
    # A text of its own font, in which every letter is as wide; "$" is no sign of a formula.
    figure.text(
        0.06,
        0.95,
        "\n".join(lines),
        family="monospace",
        fontsize=7.4,
        va="top",
        parse_math=False,
        linespacing=1.25,
    )
    pdf.savefig(figure)
