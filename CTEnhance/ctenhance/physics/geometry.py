"""Scan geometries: parallel rays, and fan beams on a flat or an equiangular (curved) detector.

Convention (DESIGN, 'Projection file'; docs/geometry.md shows it), in LPS: an image shows x to the right and
y down. At view angle b the column coordinate grows along e = (cos b, sin b). A fan's source stands at
source_to_isocenter_mm * (sin b, -cos b) and looks along d = (-sin b, cos b); parallel rays run along d. The
centre of the image matrix lies at `center_mm` from the isocentre."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from ctenhance.runtime.errors import InputError

FLAT, EQUIANGULAR = "flat", "equiangular"
_G = TypeVar("_G", bound="_Image")


def even_angles(n_views: int, arc_rad: float = 2 * math.pi, start_rad: float = 0.0) -> tuple[float, ...]:
    """`n_views` evenly spaced view angles from `start_rad` over `arc_rad`, its end excluded (rad)."""
    return tuple(start_rad + arc_rad * view / n_views for view in range(n_views))


def _check_scan(geometry: Geometry, name: str, **positive: float) -> None:
    """Refuse empty counts, sizes that are not positive, and positions or angles that are no numbers."""
    g = geometry
    if min(g.n_views, g.n_columns, g.rows, g.columns) < 1:
        raise InputError(
            f"The {name} geometry needs at least one view, column and pixel: enlarge its counts."
        )
    for what, value in positive.items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"The {name} geometry's {what} must be positive and finite, not {value}.")
    places = (g.central_column, *g.center_mm, *(g.view_angles or ()))
    if not all(math.isfinite(place) for place in places):
        raise InputError(
            f"The {name} geometry's view angles, central column and image centre must be finite numbers."
        )


class _Image:
    """The image matrix of a geometry: where its pixels lie."""

    rows: int
    columns: int
    pixel_mm: float
    center_mm: tuple[float, float]

    def x_mm(self) -> torch.Tensor:
        """x of the pixel centres from the isocentre, float64 `[columns]`."""
        return _middled(self.columns) * self.pixel_mm + self.center_mm[0]

    def y_mm(self) -> torch.Tensor:
        """y of the pixel centres from the isocentre, float64 `[rows]`."""
        return _middled(self.rows) * self.pixel_mm + self.center_mm[1]

    @property
    def image_radius_mm(self) -> float:
        """Distance from the isocentre to the farthest corner of the image."""
        half_x, half_y = self.columns * self.pixel_mm / 2, self.rows * self.pixel_mm / 2
        return math.hypot(abs(self.center_mm[0]) + half_x, abs(self.center_mm[1]) + half_y)

    def with_image(
        self: _G, rows: int, columns: int, pixel_mm: float, center_mm: tuple[float, float] = (0.0, 0.0)
    ) -> _G:
        """The same scan with another image, whose centre lies at `center_mm` (x, y) from the isocentre."""
        image = {"rows": rows, "columns": columns, "pixel_mm": pixel_mm, "center_mm": center_mm}
        return replace(self, **image)  # type: ignore[type-var]


def _middled(n: int) -> torch.Tensor:
    return torch.arange(n, dtype=torch.float64) - (n - 1) / 2


def _axes(angles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors `[view, 2]` along which columns grow and (central) rays run."""
    cos, sin = torch.cos(angles), torch.sin(angles)
    return torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)


@dataclass(frozen=True)
class ParallelGeometry(_Image):
    """Parallel rays: `n_views` angles over `arc_rad` (end excluded), `n_columns` of `column_pitch_mm` at
    the isocentre.

    Column c lies at t = (c - central_column) * column_pitch_mm and sees the ray x cos b + y sin b = t; the
    default is a centred detector. `view_angles` (rad) gives every view's angle and then stands instead of
    `arc_rad`, which is otherwise a whole multiple of pi, for FBP to be complete. The image has `rows` x
    `columns` square pixels of `pixel_mm`, centred at `center_mm` (x, y) from the isocentre. Raises
    InputError for counts or sizes that make no scan."""

    n_views: int
    n_columns: int
    column_pitch_mm: float
    rows: int
    columns: int
    pixel_mm: float
    arc_rad: float = math.pi
    view_angles: tuple[float, ...] | None = None
    central_column: float = None  # type: ignore[assignment]  # the middle, unless given
    center_mm: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if self.central_column is None:
            object.__setattr__(self, "central_column", (self.n_columns - 1) / 2)
        _check_scan(
            self, "parallel", pitch=self.column_pitch_mm, **{"pixel size": self.pixel_mm, "arc": self.arc_rad}
        )
        if self.view_angles is not None and len(self.view_angles) != self.n_views:
            raise InputError(
                f"The parallel geometry has {self.n_views} views but {len(self.view_angles)} view angles: "
                "give one angle a view."
            )

    @classmethod
    def covering(
        cls,
        rows: int,
        columns: int,
        pixel_mm: float,
        n_views: int | None = None,
        pitch_mm: float | None = None,
    ) -> ParallelGeometry:
        """A geometry whose detector sees the whole image.

        By default one column a pixel, and half as many views again as the longer side has pixels: by
        Crowther's rule (views >= pi/2 * columns across the object) the aliasing then stays outside a body
        that fills the field."""
        pitch = pixel_mm if pitch_mm is None else pitch_mm
        n_columns = math.ceil(math.hypot(rows, columns) * pixel_mm / pitch) + 2
        views = n_views or math.ceil(1.5 * max(rows, columns))
        return cls(views, n_columns, pitch, rows, columns, pixel_mm)

    def angles(self) -> torch.Tensor:
        """View angles in rad, float64 `[view]`, on the CPU."""
        if self.view_angles is not None:
            return torch.tensor(self.view_angles, dtype=torch.float64)
        return torch.arange(self.n_views, dtype=torch.float64) * (self.arc_rad / self.n_views)

    def ray_offsets_mm(self) -> torch.Tensor:
        """Signed distance of each column's ray from the isocentre, float64 `[column]`."""
        return (
            torch.arange(self.n_columns, dtype=torch.float64) - self.central_column
        ) * self.column_pitch_mm

    def column_angles(self) -> torch.Tensor:
        """Angle of each column's ray from the central ray, float64 `[column]` in rad: all parallel, 0."""
        return torch.zeros(self.n_columns, dtype=torch.float64)

    def rays(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A point on each ray and its unit direction, float64 (x, y), broadcasting to `[view, column, 2]`."""
        along_columns, along_rays = _axes(self.angles())
        return along_columns[:, None] * self.ray_offsets_mm()[:, None], along_rays[:, None]

    @property
    def isocenter_pitch_mm(self) -> float:
        """Distance of neighbouring rays at the isocentre."""
        return self.column_pitch_mm

    @property
    def field_of_view_mm(self) -> float:
        """Diameter of the circle about the isocentre that every view sees whole."""
        sides = self.central_column + 0.5, self.n_columns - 0.5 - self.central_column
        return 2 * max(0.0, min(sides)) * self.column_pitch_mm


@dataclass(frozen=True)
class FanGeometry(_Image):
    """A fan beam of one row of `n_columns`, at any `view_angles` (rad, one a view).

    `shape` is "flat" (`column_pitch` in mm at the detector, `source_to_detector_mm` from the source along
    the central ray) or "equiangular" (`column_pitch` in rad). The ray through the isocentre meets the
    0-based, fractional column `central_column`. The image has `rows` x `columns` square pixels of
    `pixel_mm`, centred at `center_mm` (x, y) from the isocentre. Raises InputError for counts or sizes that
    make no scan, and for an image that reaches the source's circle."""

    shape: str
    source_to_isocenter_mm: float
    source_to_detector_mm: float
    column_pitch: float
    n_columns: int
    central_column: float
    view_angles: tuple[float, ...]
    rows: int
    columns: int
    pixel_mm: float
    center_mm: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if self.shape not in (FLAT, EQUIANGULAR):
            raise InputError(f"There is no fan detector shape '{self.shape}': choose flat or equiangular.")
        _check_scan(
            self,
            "fan",
            **{
                "source-to-isocentre distance": self.source_to_isocenter_mm,
                "source-to-detector distance": self.source_to_detector_mm,
                "column pitch": self.column_pitch,
                "pixel size": self.pixel_mm,
            },
        )
        if self.source_to_detector_mm < self.source_to_isocenter_mm:
            raise InputError(
                f"The fan geometry's detector ({self.source_to_detector_mm} mm from the source) must not lie "
                f"before the isocentre ({self.source_to_isocenter_mm} mm): check the two distances."
            )
        if max(abs(angle) for angle in self.fan_angles_rad) >= math.pi / 2:
            raise InputError(
                "The fan geometry's columns reach 90 degrees from the central ray: check the column pitch "
                "(rad if equiangular, mm if flat) and the central column."
            )
        if self.image_radius_mm >= self.source_to_isocenter_mm:
            raise InputError(
                f"The image reaches {self.image_radius_mm:.0f} mm from the isocentre, beyond the source at "
                f"{self.source_to_isocenter_mm:.0f} mm: choose smaller pixels or a smaller matrix."
            )

    @property
    def n_views(self) -> int:
        """Number of views."""
        return len(self.view_angles)

    def angles(self) -> torch.Tensor:
        """View angles in rad, float64 `[view]`, on the CPU."""
        return torch.tensor(self.view_angles, dtype=torch.float64)

    def column_angles(self) -> torch.Tensor:
        """Angle of each column's ray from the central ray, float64 `[column]` in rad."""
        at = (torch.arange(self.n_columns, dtype=torch.float64) - self.central_column) * self.column_pitch
        return torch.atan(at / self.source_to_detector_mm) if self.shape == FLAT else at

    def ray_offsets_mm(self) -> torch.Tensor:
        """Signed distance of each column's ray from the isocentre, float64 `[column]`."""
        return self.source_to_isocenter_mm * torch.sin(self.column_angles())

    def rays(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A point on each ray and its unit direction, float64 (x, y), broadcasting to `[view, column, 2]`."""
        along_columns, central = _axes(self.angles())
        angle = self.column_angles()[:, None]
        direction = torch.cos(angle) * central[:, None] + torch.sin(angle) * along_columns[:, None]
        return -self.source_to_isocenter_mm * central[:, None], direction

    @property
    def fan_angles_rad(self) -> tuple[float, float]:
        """Angles of the detector's two ends (outer edges of the outermost columns) from the central ray."""
        ends = [(c - self.central_column) * self.column_pitch for c in (-0.5, self.n_columns - 0.5)]
        if self.shape == FLAT:
            ends = [math.atan(end / self.source_to_detector_mm) for end in ends]
        return ends[0], ends[1]

    @property
    def isocenter_pitch_mm(self) -> float:
        """Distance of neighbouring rays at the isocentre."""
        sid = self.source_to_isocenter_mm
        magnified = self.source_to_detector_mm if self.shape == FLAT else 1.0
        return self.column_pitch * sid / magnified

    @property
    def field_of_view_mm(self) -> float:
        """Diameter of the circle about the isocentre that every view sees whole."""
        first, last = self.fan_angles_rad
        return 2 * self.source_to_isocenter_mm * math.sin(max(0.0, min(-first, last)))


#: Either kind, for signatures.
Geometry = ParallelGeometry | FanGeometry
