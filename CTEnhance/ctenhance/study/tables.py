"""Results as tables: what the report prints, and what JSON and CSV carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ctenhance.runtime.words import counted
from ctenhance.study.statistics.estimate import Estimate


@dataclass(frozen=True)
class Of:
    """So many of all, as '3 of 12'."""

    count: int
    total: int


Cell = str | int | float | bool | None | Estimate | Of


@dataclass(frozen=True)
class Table:
    """A titled table; `note` says how its figures were found and how to read them, `basis` on how many cases
    and readers they rest, of how many."""

    id: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    basis: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the table in JSON types; an estimate becomes an object with value, low, high and p, `Of` one
        with count and of."""
        rows = [dict(zip(self.columns, map(_plain, row), strict=True)) for row in self.rows]
        return {"id": self.id, "title": self.title, "basis": self.basis, "note": self.note, "rows": rows}

    def texts(self) -> list[list[str]]:
        """Return the cells as they are printed."""
        return [[cell_text(cell) for cell in row] for row in self.rows]


def of_text(of: Of, one: str) -> str:
    """Return so many of all with their noun: '3 of 12 cases', '1 of 1 case'."""
    return f"{of.count} of {counted(of.total, one)}"


def cell_text(cell: Cell) -> str:
    """Return a cell as it is printed: three digits, an interval in brackets, '–' where nothing is known."""
    if isinstance(cell, Estimate):
        if cell.value is None:
            return "–"
        text = number_text(cell.value)
        if cell.low is not None and cell.high is not None:
            text += f" ({number_text(cell.low)} to {number_text(cell.high)})"
        return text
    if isinstance(cell, Of):
        return f"{cell.count} of {cell.total}"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if cell is None:
        return "–"
    return number_text(cell) if isinstance(cell, float) else str(cell)


def p_text(p: float | None) -> str:
    """Return a p value as journals print it."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def number_text(value: float) -> str:
    """Return a number with the digits that matter."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 1:
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{value:.6f}" if 0 < abs(value) < 0.001 else f"{value:.3f}"


def table(
    name: str,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    note: str = "",
    basis: str = "",
) -> list[Table]:
    """Return the table in a list, or an empty list when it has no rows."""
    found = tuple(tuple(row) for row in rows)
    return [Table(name, title, tuple(columns), found, note, basis)] if found else []


def _plain(cell: Cell) -> Any:
    if isinstance(cell, Estimate):
        return {"value": cell.value, "low": cell.low, "high": cell.high, "p": cell.p}
    if isinstance(cell, Of):
        return {"count": cell.count, "of": cell.total}
    return cell
