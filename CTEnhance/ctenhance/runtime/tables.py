"""Tables as text (CSV), as spreadsheet programs of several languages write them."""

from __future__ import annotations

import csv
import io
import re

_NUMBER = re.compile(r"\s*[-+]?\d*,\d+([eE][-+]?\d+)?\s*")


def rows_of(text: str) -> list[list[str]]:
    """Return the fields of each line that is not empty: parted by commas, or by the tabs or semicolons that
    the first line has; numbers may have a decimal comma then. Raises csv.Error."""
    mark = next((mark for mark in ";\t" if mark in text.partition("\n")[0]), ",")
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=mark) if any(map(str.strip, row))]
    if mark == ",":
        return rows
    return [[one.replace(",", ".") if _NUMBER.fullmatch(one) else one for one in row] for row in rows]
