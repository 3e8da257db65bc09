"""One self-contained HTML page: before and after under a divider, slice by slice, with the measures.

The page loads nothing from anywhere and needs no server. It holds HU, not pictures, so that window, the
difference and values under the pointer are computed where it is read: each slice is coded as differences of
neighbouring pixels, in two planes of bytes, compressed with zlib, which every current browser can undo.
"""

from __future__ import annotations

import base64
import html
import itertools
import json
import os
import re
import zlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np

from ctenhance.core.volume import CTVolume
from ctenhance.core.windows import PRESET_NAMES, PRESETS, chosen_window, difference_limit
from ctenhance.quality.compare import compare, rows, same_grid
from ctenhance.quality.display import NOTICE, Upright, best_slice, body_box
from ctenhance.quality.likeness import doubts_of_pair
from ctenhance.quality.making import list_of, making
from ctenhance.runtime.files import check_output, write_text

Array = np.ndarray

MOST_BYTES = 13_000_000  # of slices, as they stand in the file
MOST_SLICES = 40
HU_STEPS = (1, 2, 4)  # HU are stored to the finest of these that fits
HU_LIMITS = (-1024, 3071)
MARGIN_MM = 8.0
COLOURS = {"before": "#e0762f", "after": "#53b1ff", "reference": "#9aa7b4"}


def page(
    before: CTVolume,
    after: CTVolume,
    path: str | os.PathLike[str],
    reference: CTVolume | None = None,
    title: str = "CT before and after",
    metrics: dict[str, Any] | None = None,
    made_by: Mapping[str, Any] | None = None,
) -> None:
    """Write a page (.html) with a divider to drag between the volumes, at most about 15 MB.

    At most 40 slices, evenly through the volume, are shown, cropped to the body, in HU rounded to 1, 2 or 4
    as the size allows. `metrics` is the result of `compare`, computed when None. `title` is the only text
    that comes from outside; nothing of the volumes' meta data is shown. `made_by` is the report of the run
    that made the second volume: model, settings and warnings are told then. Above the table stands what
    `doubts_of_pair` says.
    Raises InputError for different grids and for a path that cannot be written.
    """
    target = check_output(path, (".html", ".htm"))
    volumes = same_grid(before, after, reference)
    grid = volumes["before"]
    if metrics is None:
        metrics = compare(before, after, reference)
    upright = Upright.of(grid)
    shown = {name: upright.turn(volume.array) for name, volume in volumes.items()}
    guide = shown["reference" if reference is not None else "after"]
    name, window = chosen_window(None, guide[len(guide) // 2])
    start = best_slice(guide, window)
    box = _common_box(guide, round(MARGIN_MM / grid.spacing[0]))
    step, every, coded = _coded(shown, box)
    depth = len(guide)
    data = {
        "rows": box[0].stop - box[0].start,
        "columns": box[1].stop - box[1].start,
        "pixel": [grid.spacing[0], grid.spacing[1]],
        "step": step,
        "low": HU_LIMITS[0],
        # Counted from the feet as in the file, whichever way up the file is.
        "numbers": [int(k) + 1 for k in every],
        "depth": depth,
        "start": int(np.argmin(np.abs(every - start))),
        "letters": upright.letters,
        "presets": [[PRESET_NAMES[key], *PRESETS[key]] for key in PRESETS],
        "preset": [PRESET_NAMES[key] for key in PRESETS].index(name),
        "limit": difference_limit((shown["after"][start] - shown["before"][start])[box]),
        "volumes": {name.capitalize(): values for name, values in coded.items()},
    }
    spacing = " × ".join(f"{length:.2f}" for length in grid.spacing)
    size = " × ".join(str(length) for length in reversed(grid.array.shape))
    facts = (
        f"{size} voxels of {spacing} mm. The page shows {len(every)} of {depth} slices; its values are "
        f"rounded to {step} HU, those of the table are not."
    )
    parts = {
        "TITLE": html.escape(title),
        "NOTICE": html.escape(NOTICE),
        "FACTS": html.escape(facts),
        "DOUBTS": list_of(doubts_of_pair(before, after, reference)),
        "TABLE": _table(metrics),
        "SPECTRUM": _spectrum(metrics),
        "MAKING": "" if made_by is None else making(made_by),
        "DATA": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        "STYLE": _resource("page.css"),
        "SCRIPT": _resource("page.js"),
    }
    # In one pass, so that a title cannot bring in a mark of its own.
    text = re.sub("@([A-Z]+)@", lambda found: parts[found[1]], _resource("page.html"))
    write_text(target, text)


def _resource(name: str) -> str:
    """Return a file of the page; `page.html` has marks such as @DATA@, to be filled in."""
    return files("ctenhance.quality").joinpath(name).read_text(encoding="utf-8")


def _common_box(volume: Array, margin: int) -> tuple[slice, slice]:
    """Rows and columns that hold the body in all of the slices."""
    tried = volume[np.unique(np.linspace(0, len(volume) - 1, min(len(volume), 9)).astype(int))]
    return body_box(tried.max(0), margin)


def _coded(shown: dict[str, Array], box: tuple[slice, slice]) -> tuple[int, Array, dict[str, list[str]]]:
    """Choose the rounding and the slices that fit the size, and code them: step, indices, codes by name."""
    depth = len(next(iter(shown.values())))
    middle = {name: array[depth // 2][box] for name, array in shown.items()}
    count, step = min(depth, MOST_SLICES), HU_STEPS[-1]
    for finer in HU_STEPS:
        size = sum(len(encode(plane, finer)) for plane in middle.values())
        if size * count <= MOST_BYTES:
            step = finer
            break
    else:
        count = max(1, min(count, MOST_BYTES // size))
    every = np.unique(np.linspace(0, depth - 1, count).round().astype(int))
    if count == 1:
        every = np.array([depth // 2])
    return step, every, {name: [encode(array[k][box], step) for k in every] for name, array in shown.items()}


def encode(plane: Array, step: int) -> str:
    """Code a slice [y, x] of HU in units of `step`: base64 of zlib of the low, then the high bytes.

    Each value is predicted by the mean (rounded down) of its left and upper neighbour (0 outside); the
    difference d is written as 2d for d ≥ 0 and as -2d - 1 below, so that high bytes are nearly all zero.
    """
    values = np.rint((np.clip(plane, *HU_LIMITS) - HU_LIMITS[0]) / step).astype(np.int32)
    left, above = np.zeros_like(values), np.zeros_like(values)
    left[:, 1:], above[1:] = values[:, :-1], values[:-1]
    difference = values - ((left + above) >> 1)
    folded = np.where(difference >= 0, 2 * difference, -2 * difference - 1).astype(np.uint16)
    planes = np.stack([folded & 255, folded >> 8]).astype(np.uint8)
    # Noise holds no repetitions worth a search; runs do occur, in air and in the high bytes.
    packer = zlib.compressobj(6, strategy=zlib.Z_RLE)
    return base64.b64encode(packer.compress(planes.tobytes()) + packer.flush()).decode("ascii")


def _table(metrics: dict[str, Any]) -> str:
    """The measures as the inside of an HTML table."""
    chosen = rows(metrics)
    names = [name for name in ("before", "after", "reference") if any(row.text(name) for row in chosen)]
    heads = "".join(f'<th scope="col">{name.capitalize()}</th>' for name in names)
    lines = [f'<thead><tr><td></td>{heads}<th scope="col">Change</th></tr></thead>']
    for section, members in itertools.groupby(chosen, key=lambda row: row.section):
        lines.append(f'<tbody><tr><th colspan="{len(names) + 2}" scope="rowgroup">{section}</th></tr>')
        for row in members:
            values = "".join(f"<td>{value}</td>" for value in (*map(row.text, names), row.change))
            unit = f" <small>{row.unit}</small>" if row.unit else ""
            lines.append(f'<tr><th scope="row">{row.label}{unit}</th>{values.replace("-", "−")}</tr>')
        lines.append("</tbody>")
    return "\n".join(lines)


def _spectrum(metrics: dict[str, Any]) -> str:
    """The noise power spectra as a small drawing; empty when there are none."""
    found = metrics["noise"]["nps"]
    if not found:
        return ""
    frequency = np.array(found["frequency_per_mm"])
    curves = {name: np.array(found[name]["nps_HU2mm2"]) for name in COLOURS if name in found}
    top = max(1.0, *(float(values.max()) for values in curves.values()))
    left, right, low, high = 42, 332, 122, 14  # of the axes in the drawing
    parts = [f'<path d="M{left} {high}V{low}H{right}" fill="none" stroke="#4a5663"/>']
    for number, (name, values) in enumerate(curves.items()):
        x = left + frequency / frequency[-1] * (right - left)
        y = low - values / top * (low - high)
        points = " ".join(f"{one:.1f},{other:.1f}" for one, other in zip(x, y, strict=True))
        colour = COLOURS[name]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        place = f'x="{right}" y="{high + 10 + 16 * number}" text-anchor="end"'
        parts.append(f'<text {place} fill="{colour}">{name.capitalize()}</text>')
    for across, down, anchor, text in (
        (left - 4, high + 4, "end", f"{top:.0f}"),
        (left - 4, low, "end", "0"),
        (left, low + 16, "start", "0"),
        (right, low + 16, "end", f"{frequency[-1]:.2f} / mm"),
    ):
        parts.append(f'<text x="{across}" y="{down}" text-anchor="{anchor}">{text}</text>')
    caption = "Noise power spectrum in uniform soft tissue (HU² mm²)"
    return (
        f'<figure><svg viewBox="0 0 345 150" role="img" aria-label="{caption}">{"".join(parts)}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
