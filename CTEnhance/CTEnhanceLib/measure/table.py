"""What regions hold, as rows: for people, as text, as CSV, and in one of Slicer's tables."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import slicer
import vtk
from slicer.i18n import tr as _

from CTEnhanceLib.measure import roi, shapes

if TYPE_CHECKING:
    from ctenhance.quality.region import Difference

#: The table in the scene that takes the rows.
TABLE_ATTRIBUTE = "CTEnhance.RegionTable"


@dataclass(frozen=True)
class Row:
    """One region: its name, shape, and its statistics in the first and the second volume; paired, where the
    voxels are the same."""

    name: str
    shape: str
    first: roi.Statistics
    second: roi.Statistics
    difference: Difference
    paired: bool

    @property
    def change(self) -> float | None:
        """By how many per cent the standard deviation has changed."""
        return 100 * (self.second.deviation / self.first.deviation - 1) if self.first.deviation > 0 else None

    @property
    def uniform(self) -> bool:
        """Whether nothing but noise is in the region, in both."""
        return self.first.uniform and self.second.uniform


def measure(region: Any, first: Any, second: Any, paired: bool) -> Row:
    """Measure a region in two volume nodes; raises InputError as `roi.values` does."""
    # SciPy is slow to load; nothing at Slicer's start needs it
    from ctenhance.quality.region import paired_difference, unpaired_difference

    parts = [roi.voxels(region, node) for node in (first, second)]
    if paired:
        difference = paired_difference(parts[0][0], parts[1][0], parts[0][1])
    else:
        difference = unpaired_difference(*parts)
    shape = shapes.shapeOf(region)
    before, after = (roi.statistics(region, node) for node in (first, second))
    return Row(region.GetName(), shape.text() if shape else "", before, after, difference, paired)


def columns(names: tuple[str, str]) -> list[str]:
    """Return the head of the table; `names` are those of first and second."""
    first, second = names
    return [
        _("Region"),
        _("Shape"),
        _("Area mm2"),
        _("Voxels"),
        _("Slices"),
        _("{name}: mean HU").format(name=first),
        _("{name}: SD HU").format(name=first),
        _("{name}: mean HU").format(name=second),
        _("{name}: SD HU").format(name=second),
        _("Difference HU"),
        _("95 % from HU"),
        _("95 % to HU"),
        _("SD change %"),
        _("Noise alone"),
    ]


def values(row: Row) -> list[str | float | None]:
    """Return what stands in a row below `columns`."""
    difference = row.difference
    return [
        row.name,
        row.shape,
        round(row.first.area, 1),
        row.first.count,
        row.first.slices,
        *(round(each, 3) for each in (row.first.mean, row.first.deviation)),
        *(round(each, 3) for each in (row.second.mean, row.second.deviation)),
        round(difference.mean, 3),
        *(None if each is None else round(each, 3) for each in (difference.low, difference.high)),
        None if row.change is None else round(row.change, 2),
        _("yes") if row.uniform else _("no"),
    ]


def written(rows: Sequence[Row], names: tuple[str, str], separator: str) -> str:
    """Return the rows as text: separated by tabs, or as CSV by commas."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator="\n")
    writer.writerow(columns(names))
    for row in rows:
        writer.writerow(["" if each is None else each for each in values(row)])
    return out.getvalue()


def richText(rows: Sequence[Row | tuple[str, str]], names: tuple[str, str]) -> str:
    """Return the rows as a table in rich text; a pair is a region's name and why it cannot be measured."""
    first, second = (html.escape(name) for name in names)
    head = "".join(f"<th align='right'>&nbsp;{text}</th>" for text in (_("Mean HU"), _("SD HU")))
    lines = [f"<tr><th></th>{head}</tr>"]
    for row in rows:
        if isinstance(row, tuple):
            lines.append(f"<tr><td colspan='3'><b>{html.escape(row[0])}</b>: {html.escape(row[1])}</td></tr>")
            continue
        size = roi.sizeText(row.first.count, row.first.slices)
        about = _("{shape}, {area:.0f} mm², {size}").format(shape=row.shape, area=row.first.area, size=size)
        lines.append(f"<tr><td colspan='3'><b>{html.escape(row.name)}</b> {html.escape(about)}</td></tr>")
        for name, found in ((first, row.first), (second, row.second)):
            lines.append(
                f"<tr><td>{name}</td><td align='right'>{found.mean:.1f}</td>"
                f"<td align='right'>{found.deviation:.1f}</td></tr>"
            )
        lines.append(f"<tr><td colspan='3'>{html.escape(_changed(row))}</td></tr>")
    return f"<table cellpadding='2'>{''.join(lines)}</table>"


def _changed(row: Row) -> str:
    difference, mean = row.difference, _signed(row.difference.mean)
    if difference.low is None or difference.high is None:
        text = _("Difference {mean} HU; too small for an interval").format(mean=mean)
    else:
        text = _("Difference {mean} HU (95 %: {low} to {high})").format(
            mean=mean, low=_signed(difference.low), high=_signed(difference.high)
        )
    if row.change is not None:
        change = _("noise (SD) {change} %") if row.uniform else _("SD {change} %, not noise alone")
        text += "; " + change.format(change=_signed(row.change, 0))
    return text


def _signed(value: float, digits: int = 1) -> str:
    """Return a number with its sign; what rounds to nothing has none."""
    text = f"{value:+.{digits}f}"
    return text if any(digit in text for digit in "123456789") else text[1:]


def toNode(rows: Sequence[Row], names: tuple[str, str]) -> Any:
    """Put the rows into the scene's table of regions, a new one where there is none; return its node."""
    tables = slicer.util.getNodesByClass("vtkMRMLTableNode")
    node = next((each for each in tables if each.GetAttribute(TABLE_ATTRIBUTE)), None)
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", _("CT regions"))
        node.SetAttribute(TABLE_ATTRIBUTE, "1")
    table = vtk.vtkTable()
    for index, name in enumerate(columns(names)):
        cells = [values(row)[index] for row in rows]
        numbers = all(isinstance(each, int | float) for each in cells)
        column = vtk.vtkDoubleArray() if numbers else vtk.vtkStringArray()
        column.SetName(name)
        for cell in cells:
            column.InsertNextValue(cell if numbers else "" if cell is None else str(cell))
        table.AddColumn(column)
    node.SetUseColumnTitleAsColumnHeader(False)
    node.SetAndObserveTable(table)
    return node
