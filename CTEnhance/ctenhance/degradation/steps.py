"""What every degradation step is: a few drawn numbers, and one way of applying them to a volume.

A step is a frozen dataclass whose fields are plain numbers, names or tuples of numbers, so that a report
holds all that a replay needs.  There are three kinds, by what they look at: `SliceStep` (one axial image),
`ProjectionStep` (the projections of one axial image) and `VolumeStep` (several slices).

Randomness other than the parameters (the noise itself) comes from `stream(seed, slice index)`: a slice's
random numbers depend on nothing but the step's own seed and its index, whichever order, slab or tile it is
computed in."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, get_type_hints

import numpy as np
from scipy import sparse

from ctenhance.runtime.errors import InputError

if TYPE_CHECKING:
    from ctenhance.degradation.reconstruction import Reconstruction
    from ctenhance.degradation.slice_scan import SliceScan
    from ctenhance.degradation.source_noise import OwnNoise

#: Called with how many of how many parts of a step are done; raises Cancelled when the user asked to stop.
Tick = Callable[[int, int], None]

# Noise that is averaged along z is also drawn for slices before the first one; no index may be negative.
_FIRST_INDEX = 1 << 16
# Rows that are averaged along z together: 16 rows of 600 slices of 512 columns are 20 MB.
_ROWS_AT_ONCE = 16


def stream(seed: int, index: int) -> np.random.Generator:
    """The random numbers of slice `index` under a step's own `seed`."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index + _FIRST_INDEX,)))


@dataclass(frozen=True)
class VolumeInfo:
    """What a draw may depend on.

    `array` HU [z, y, x]; `spacing_mm` (x, y, z); `thickness_mm` of the slices; `axial_weights`: how the
    noise of a slice is mixed from independent noise of the slices around it (sum of squares 1 before any
    thickening); `own_noise` of the volume; `reconstruction` of the errors of projections.
    """

    array: np.ndarray
    spacing_mm: tuple[float, float, float]
    thickness_mm: float
    own_noise: OwnNoise
    reconstruction: Reconstruction
    axial_weights: tuple[float, ...] = (1.0,)

    @property
    def pixel_mm(self) -> float:
        """Side of the square pixels.  Raises InputError where they are not square."""
        return square_pixel_mm(self.spacing_mm)


def square_pixel_mm(spacing_mm: tuple[float, float, float]) -> float:
    """Side of the pixels, for simulating projections.  Raises InputError where they are not square."""
    x, y, _ = spacing_mm
    if abs(x - y) > 0.01 * min(x, y):
        raise InputError(
            f"The pixels measure {x:.3f} x {y:.3f} mm in plane, but projections need square ones: "
            "resample the volume to square pixels first."
        )
    return (x + y) / 2


class Step(ABC):
    """A drawn degradation.  `name` identifies the kind in reports."""

    name: ClassVar[str]

    @classmethod
    def fit(cls, info: VolumeInfo, **drawn: Any) -> Step:
        """The step for a given volume from its drawn numbers; steps that depend on the volume override
        this.
        """
        return cls(**drawn)

    def after(self, info: VolumeInfo) -> VolumeInfo:
        """What the next step of a chain has to know of the volume that this one leaves."""
        return info

    @property
    def note(self) -> str:
        """A remark for the report, such as that the step has no effect on this volume."""
        return ""


class SliceStep(Step):
    """Works on one axial image."""

    @abstractmethod
    def apply(self, image: np.ndarray, pixel_mm: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
        """The degraded image: float32 HU `[rows, columns]` in and out; `pixel_mm` is (x, y)."""


class ProjectionStep(Step):
    """Works on the projections of one axial image: adds its error to `scan.error`."""

    #: Whether the step needs projections at full resolution; noise does not.
    needs_detail: ClassVar[bool] = False

    @abstractmethod
    def apply(self, scan: SliceScan, seed: int, index: int) -> None:
        """Change `scan.error` (line integrals) of slice `index`."""


class VolumeStep(Step):
    """Works across slices."""

    @abstractmethod
    def apply(self, array: np.ndarray, tick: Tick) -> None:
        """Degrade float32 HU `array` `[z, y, x]` in place."""


def apply_along_z(array: np.ndarray, operator: sparse.csr_array, tick: Tick) -> None:
    """Multiply every column along z by `operator` `[z, z]`, in place, a few rows at a time to bound the
    memory.
    """
    n_slices, rows, _ = array.shape
    for start in range(0, rows, _ROWS_AT_ONCE):
        block = array[:, start : start + _ROWS_AT_ONCE]
        block[...] = (operator @ block.reshape(n_slices, -1)).reshape(block.shape)
        tick(min(start + _ROWS_AT_ONCE, rows), rows)


class Range(Protocol):
    """Where a parameter is drawn from."""

    def draw(self, rng: np.random.Generator) -> Any: ...


@dataclass(frozen=True)
class Uniform:
    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class LogUniform:
    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        return float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))


@dataclass(frozen=True)
class Integers:
    """Whole numbers from `low` to `high`, `high` excluded."""

    low: int
    high: int

    def draw(self, rng: np.random.Generator) -> int:
        return int(rng.integers(self.low, self.high))


@dataclass(frozen=True)
class Fixed:
    value: Any

    def draw(self, rng: np.random.Generator) -> Any:
        return self.value


@dataclass(frozen=True)
class Choice:
    """One of `values`, as often as `weights` (which sum to 1) say."""

    values: tuple[Any, ...]
    weights: tuple[float, ...]

    def draw(self, rng: np.random.Generator) -> Any:
        return self.values[int(rng.choice(len(self.values), p=self.weights))]


@dataclass(frozen=True)
class Distribution:
    """How often a step occurs (`probability`) and where its numbers are drawn from."""

    step: type[Step]
    ranges: Mapping[str, Range] = field(default_factory=dict)
    probability: float = 1.0

    def draw(self, rng: np.random.Generator, info: VolumeInfo) -> Step | None:
        """The step for a volume, or None where the draw says that it does not occur."""
        occurs = rng.random() < self.probability
        drawn = {name: values.draw(rng) for name, values in self.ranges.items()}
        return self.step.fit(info, **drawn) if occurs else None


def parameters(step: Step) -> dict[str, Any]:
    """The step's numbers in JSON types."""
    values = {f.name: getattr(step, f.name) for f in fields(step)}  # type: ignore[arg-type]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def from_parameters(kind: type[Step], values: Mapping[str, Any]) -> Step:
    """The step with the numbers that `parameters` wrote.  Raises InputError where they do not fit."""
    hints = get_type_hints(kind)
    expected = {f.name: hints[f.name] for f in fields(kind)}  # type: ignore[arg-type]
    if set(values) != set(expected):
        raise InputError(
            f"The recorded step '{kind.name}' has parameters {sorted(values)}, not {sorted(expected)}: "
            "replay with the version that wrote the report."
        )
    fitting = {name: _fitting(value, expected[name]) for name, value in values.items()}
    for name, value in fitting.items():
        if value is None:
            raise InputError(
                f"The parameter '{name}' of the recorded step '{kind.name}' cannot be {values[name]!r}: "
                "replay an unchanged report."
            )
    return kind(**fitting)


def _fitting(value: Any, kind: Any) -> Any:
    """The value as the type that a field has (a name, a count, a number, some numbers), or None."""
    if kind is str:
        return value if isinstance(value, str) else None
    if kind is int:
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(value) if number and math.isfinite(value) else None
    if not isinstance(value, (list, tuple)):
        return None
    numbers = tuple(_fitting(item, float) for item in value)
    return numbers if numbers and None not in numbers else None
