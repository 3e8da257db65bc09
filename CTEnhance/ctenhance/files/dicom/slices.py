"""One plane of a DICOM series: where it lies, and what its stored values mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ctenhance.files.dicom.header import DicomFile

HOUNSFIELD = "HU"
_RUN = re.compile(r"\d+|\D+")


@dataclass(frozen=True)
class Measure:
    """What an image's values are.

    `unit`: HU, another unit or quantity, or empty where nothing is said; `place`: the attribute that says so,
    and `word`: what stands there. `slope` and `intercept` lead from stored values to those of a unit that
    the Real World Value Mapping gives; None: the image's own rescaling does. `mapping`: the slope and
    intercept that it gives for HU, used or not; `named`: a quantity that the texts mention, not for sure.
    """

    unit: str = ""
    place: str = ""
    word: str = ""
    slope: float | None = None
    intercept: float = 0.0
    mapping: tuple[float, float] | None = None
    named: str = ""

    @property
    def is_other(self) -> bool:
        """Whether the values are said to be something else than HU."""
        return self.unit not in ("", HOUNSFIELD)

    def __str__(self) -> str:
        short = re.search(r"[/%^]", self.unit) or len(self.unit) <= len("min")
        said = f"{self.place} {self.word}".strip()
        return f"values {'in' if short else 'of'} {self.unit}, not Hounsfield units ({said})"

    @property
    def is_doubtful(self) -> bool:
        """Whether Rescale Type is neither a unit nor a spelling of Hounsfield."""
        return not self.unit and bool(self.word)


@dataclass(frozen=True, eq=False)
class Slice:
    """One plane: where it lies (mm, LPS) and how its stored values become HU, or those of a map."""

    file: DicomFile
    frame: int
    shape: tuple[int, int]
    position: np.ndarray
    axes: np.ndarray  # rows: unit vectors along which column and row index grow, and their normal
    pixel_spacing: tuple[float, float]  # between columns (x), between rows (y)
    measure: Measure
    slope: float
    intercept: float
    padding: tuple[float, float] | None  # lowest and highest HU that the header declares as outside

    @property
    def name(self) -> str:
        return self.file.path.name

    @property
    def depth(self) -> float:
        """Position along the normal, mm (for an axial slice its z)."""
        return float(self.position @ self.axes[2])


def parted_by_names(slices: Sequence[Slice]) -> str:
    """Return which files are of which scan of the same places, if the order of their names tells; or ''."""
    paths = {one.file.path for one in slices}
    places = [tuple(np.round(one.position, 2)) for one in slices]
    size = len(set(places))
    if len(paths) < len(slices) or len(slices) % size or not 1 < size < len(slices):
        return ""

    def order(index: int) -> tuple[str, list[tuple[int, str]]]:
        path = slices[index].file.path
        return str(path.parent), [
            (int(one), "") if one.isdigit() else (0, one) for one in _RUN.findall(path.name)
        ]

    ordered = sorted(range(len(slices)), key=order)
    blocks = [ordered[first : first + size] for first in range(0, len(ordered), size)]
    if any(len({places[index] for index in block}) < size for block in blocks):
        return ""
    folders = len({path.parent for path in paths}) > 1

    def name(index: int) -> str:
        path = slices[index].file.path
        return f"'{path.parent.name}/{path.name}'" if folders else f"'{path.name}'"

    return " and ".join(f"{name(block[0])} to {name(block[-1])}" for block in blocks)
