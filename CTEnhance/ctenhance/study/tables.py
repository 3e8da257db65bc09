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


@dataclass(frozen=True)
class Missing:
    """What the data cannot tell, and why in half a sentence."""

    why: str


#: None is what does not apply to its row.
Cell = str | int | float | bool | None | Estimate | Of | Missing


@dataclass(frozen=True)
class Table:
    """A titled table; `note` says how its figures were found and how to read them, `basis` on how many cases
    and readers they rest, of how many. `reasons` say why cells have no figure, or no limits; the cells
    bear their numbers."""

    id: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    basis: str = ""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why figures are missing, each once, in the order of the rows."""
        return tuple(dict.fromkeys(why for row in self.rows for why in map(_why, row) if why))

    def to_json(self) -> dict[str, Any]:
        """Return the table in JSON types; an estimate becomes an object with value, low, high and p, `Of` one
        with count and of. `missing` says of rows, counted from 0, and columns why a figure is not there."""
        rows = [dict(zip(self.columns, map(_plain, row), strict=True)) for row in self.rows]
        missing = [
            {"row": number, "column": column, "why": why}
            for number, row in enumerate(self.rows)
            for column, why in zip(self.columns, map(_why, row), strict=True)
            if why
        ]
        said = {"id": self.id, "title": self.title, "basis": self.basis, "note": self.note}
        return {**said, "rows": rows, "missing": missing}

    def texts(self) -> list[list[str]]:
        """Return the cells as they are printed, with the number of the reason where a figure is missing."""
        numbers = {why: f" [{number}]" for number, why in enumerate(self.reasons, start=1)}
        return [[cell_text(cell) + numbers.get(_why(cell), "") for cell in row] for row in self.rows]

    def notes(self) -> str:
        """Return what stands below the table: its basis, how to read it, and the reasons by their numbers."""
        reasons = (f"[{number}] {why}." for number, why in enumerate(self.reasons, start=1))
        return " ".join(filter(None, (self.basis, self.note, *reasons)))


def of_text(of: Of, one: str) -> str:
    """Return so many of all with their noun: '3 of 12 cases', '1 of 1 case'."""
    return f"{of.count} of {counted(of.total, one)}"


def cell_text(cell: Cell) -> str:
    """Return a cell as it is printed: three digits, an interval in brackets, '–' where nothing is known,
    nothing where nothing applies."""
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
        return ""
    if isinstance(cell, Missing):
        return "–"
    return number_text(cell) if isinstance(cell, float) else str(cell)


def p_text(p: float | None) -> str:
    """Return a p value as journals print it."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_cell(estimate: Estimate) -> Cell:
    """Return the cell of an estimate's p value, with its reason where there is none."""
    return Missing(estimate.why) if estimate.p is None else p_text(estimate.p)


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


def _why(cell: Cell) -> str:
    return cell.why if isinstance(cell, Estimate | Missing) else ""


def _plain(cell: Cell) -> Any:
    if isinstance(cell, Missing):
        return None
    if isinstance(cell, Estimate):
        return {"value": cell.value, "low": cell.low, "high": cell.high, "p": cell.p}
    if isinstance(cell, Of):
        return {"count": cell.count, "of": cell.total}
    return cell
